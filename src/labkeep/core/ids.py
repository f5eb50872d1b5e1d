"""Identifiers: UUIDs of version 7 (RFC 9562), so that ids sort by time of creation.

An id is made once and never reused, whatever happens to the object. Names are for people and may be.
"""

from __future__ import annotations

import re
import secrets
import threading
from typing import Annotated

from msgspec import Meta

from labkeep.core.errors import Invalid

_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

Id = Annotated[
    str,
    Meta(
        min_length=36,
        max_length=36,
        # The end is said twice: in Python, `$` also matches before a newline at the end.
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$(?!\n)",
        description="A UUID in lower case; version 7 when Labkeep made it.",
    ),
]


class IdSource:
    """Makes ids that rise strictly within one process. The caller brings the clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new(self, ms: int) -> str:
        """A new id for the moment ``ms`` (milliseconds since the epoch); later calls sort after earlier ones."""
        with self._lock:
            # 48 bits of time and 12 of sequence: the sequence carries into the time when a millisecond is full.
            self._last = max(ms << 12, self._last + 1)
            stamp = self._last
        return _form(
            ((stamp >> 12) << 80) | (0x7 << 76) | ((stamp & 0xFFF) << 64) | (0b10 << 62) | secrets.randbits(62)
        )


def _form(value: int) -> str:
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of an id (any UUID in lower case)."""
    return _FORM.fullmatch(text) is not None


def check_id(text: str, what: str = "id") -> str:
    """``text`` in lower case when it is a UUID; Invalid otherwise."""
    lowered = text.lower()
    if not is_id(lowered):
        raise Invalid(f"{what} {text[:80]!r} is not a UUID", path=what)
    return lowered
