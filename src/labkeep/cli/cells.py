"""Values as text: for people (sizes in KiB, times as ages), or plain (bytes, ISO 8601) for the next program."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


class Size(int):
    """Bytes, for people in units of 1024."""


class Seconds(float):
    """A duration."""


UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
AGES = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
FAR_S = 30 * 86_400
"""What is further away than this is shown as a date."""

# Whatever could move the cursor, change colours, or make text read in another order than it is stored.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """``text`` with control characters spelled out, so that nothing that was logged can steer a terminal."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def plain(value: Any) -> str:
    """A value for the next program: exact, on one line, without tabs."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, Seconds):
        return f"{value:.3f}"
    if isinstance(value, float):
        return repr(value)
    return _text(value, "true", "false", plain)


def human(value: Any, now: datetime) -> str:
    """A value for people; ages count from ``now``."""
    if isinstance(value, datetime):
        return age(value, now)
    if isinstance(value, Size):
        return size(value)
    if isinstance(value, Seconds):
        return duration(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return _text(value, "yes", "no", lambda inner: human(inner, now))


def _text(value: Any, true: str, false: str, inner: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return true if value else false
    if isinstance(value, int) and not isinstance(value, str):
        return int.__repr__(value)
    if isinstance(value, Mapping):
        return clean(json.dumps(value, ensure_ascii=False, default=str, separators=(", ", ": ")))
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(inner, value))
    return clean(str(value))


def size(count: int) -> str:
    """``43254890`` -> ``41.3 MiB``."""
    if abs(count) < 1024:
        return f"{count} B"
    amount, units = count / 1024, iter(UNITS)
    unit = next(units)
    while abs(amount) >= 1023.95 and (larger := next(units, None)):  # 1023.95 is printed as 1024.0
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """The two largest units: ``3725`` -> ``1h 2m``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (left, "s")) if count]
    return " ".join(parts[:2])


def age(moment: datetime, now: datetime) -> str:
    """``4h ago``, ``in 3d``; the date when it is more than a month away."""
    seconds = (now - moment).total_seconds()
    distance = abs(seconds)
    if distance >= FAR_S:
        return moment.astimezone().strftime("%Y-%m-%d")
    for unit_s, unit in AGES:
        if distance >= unit_s:
            # What lies ahead is rounded up: a limit of 30 days that was set a moment ago is "in 30d".
            count = int(distance // unit_s) if seconds > 0 else int(-(-distance // unit_s))
            return f"{count}{unit} ago" if seconds > 0 else f"in {count}{unit}"
    return "now"


def count_of(counts: Mapping[str, int]) -> str:
    """``{"run": 3, "artifact_version": 1}`` -> ``3 runs, 1 artifact version``."""
    named = [
        f"{count} {_noun(kind, count)}" for kind, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    return ", ".join(named) or "nothing"


def _noun(kind: str, count: int) -> str:
    word = kind.replace("_", " ")
    return word if count == 1 else f"{word}s"
