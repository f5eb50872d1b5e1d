"""Times as people write them: ISO 8601, or an age before now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?",
    re.IGNORECASE,
)
_AGE = re.compile(r"-([0-9]{1,9})([smhdw])")
_AGE_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

EXAMPLES = '"2026-11-01", "2026-11-01T09:30:00Z" or -30d'


def parse_time(text: str, now: datetime) -> datetime:
    """A moment in UTC from ISO 8601 (a date, or a date and a time; UTC unless it says otherwise) or an age like -30d.

    ``now`` is aware. ValueError when the text is neither, or lies outside the years 1 to 9999. A fraction of a
    second is cut to microseconds.
    """
    age = _AGE.fullmatch(text)
    moment = _MOMENT.fullmatch(text)
    try:
        if age:
            return now.astimezone(UTC) - timedelta(**{_AGE_UNITS[age[2]]: int(age[1])})
        if moment:
            day, clock, zone = moment[1], moment[2] or "00:00", (moment[3] or "Z").upper()
            return datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text} is not a time: {error}") from None
    raise ValueError(f"{text[:80]!r} is not a time; write {EXAMPLES}")


def print_time(moment: datetime) -> str:
    """An aware moment as ISO 8601 in UTC, so that ``parse_time`` gives it back."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
