"""Durations and sizes as people write them in a policy: ``30d``, ``12h``, ``10GB``. Pure."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache

from labkeep.core.errors import Invalid

_DURATION = re.compile(r"([0-9]{1,6})(s|m|h|d|w|y)")
_DURATION_UNITS = {
    "s": (timedelta(seconds=1), "second"),
    "m": (timedelta(minutes=1), "minute"),
    "h": (timedelta(hours=1), "hour"),
    "d": (timedelta(days=1), "day"),
    "w": (timedelta(weeks=1), "week"),
    "y": (timedelta(days=365), "year"),
}
LONGEST = timedelta(days=365 * 200)
"""Longer durations lead out of every calendar that matters."""

_SIZE = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,3}))? ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
LARGEST = 2**60
"""Sizes are stored as 64-bit integers."""


@lru_cache(maxsize=512)
def parse_duration(text: str, path: str = "") -> timedelta:
    """A duration: a whole number and one of s, m (minutes), h, d, w, y (365 days). Invalid, naming ``path``, otherwise."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise Invalid(
            f"{_at(path)}{text[:40]!r} is not a duration: write a whole number and a unit, like 12h, 30d, 2w or 1y "
            "(s, m for minutes, h, d, w, y for 365 days)",
            path=path,
        )
    duration = int(found[1]) * _DURATION_UNITS[found[2]][0]
    if not timedelta(0) < duration <= LONGEST:
        raise Invalid(f"{_at(path)}{text} is out of range: more than nothing, and at most 200 years", path=path)
    return duration


def spell_duration(text: str) -> str:
    """A valid duration in words: ``30 days``."""
    number, unit = int(text[:-1]), _DURATION_UNITS[text[-1]][1]
    return f"{number} {unit}{'' if number == 1 else 's'}"


def spell_timedelta(duration: timedelta) -> str:
    """How long something is, in its largest unit, rounded down: ``3 days``."""
    for letter in ("d", "h", "m"):
        number = duration // _DURATION_UNITS[letter][0]
        if number >= 1:
            return spell_duration(f"{number}{letter}")
    return spell_duration(f"{max(0, int(duration.total_seconds()))}s")


@lru_cache(maxsize=512)
def parse_size(text: str, path: str = "") -> int:
    """A size in bytes: a number and B, kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB. Invalid otherwise."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Invalid(
            f"{_at(path)}{text[:40]!r} is not a size: write a number and a unit, like 500MB, 10GB or 1.5TiB", path=path
        )
    unit = _SIZE_UNITS[found[3]]
    size = int(found[1]) * unit
    if found[2]:
        size += int(found[2]) * unit // 10 ** len(found[2])
    if size > LARGEST:
        raise Invalid(f"{_at(path)}{text} is larger than anything that can be stored", path=path)
    return size


def spell_size(size: int) -> str:
    """Bytes for people: ``1.2 GB``."""
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _at(path: str) -> str:
    return f"{path}: " if path else ""
