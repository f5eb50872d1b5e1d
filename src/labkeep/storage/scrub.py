"""Zeroing what SQLite leaves between the cells of its pages.

``secure_delete`` overwrites a row where it stands. Where SQLite had moved the row from page to page before, to keep
its trees in balance, older copies stay in the unused middle of the pages: nothing refers to them, and anybody who
reads the file finds them. This overwrites that unused middle, and nothing else, in the file itself. The layout is that
of "Database File Format" (sqlite.org/fileformat2.html, sections 1.3, 1.6 and 1.8).

Whoever calls sees to it that the write-ahead log is empty, that no connection writes, and that the writer's cache is:
a page from the cache would bring the old copies back.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from labkeep.core.errors import Corrupt

STEP_PAGES = 4_096
"""Pages looked at in one step: a few milliseconds during which nobody writes."""

_LOCK_BYTE = 1 << 30
"""The page with this byte is never used."""

_INTERIOR, _LEAF = (2, 5), (10, 13)
_ROOT, _TREE = 1, 5
"""Kinds of pages, in the pointer map, that hold cells."""


class _Layout(NamedTuple):
    page_bytes: int
    usable: int
    pages: int

    def map_of(self, page: int) -> int:
        """The page of the pointer map that has the entry of ``page``."""
        group = self.usable // 5 + 1
        found = (page - 2) // group * group + 2
        return found + 1 if found == _LOCK_BYTE // self.page_bytes + 1 else found


class Scrubber:
    """One database file.

    Its own descriptor stays open until `close`: to close any descriptor of a file drops the locks that this process has
    on it, and with them those of SQLite. So close it after all connections.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)

    def close(self) -> None:
        """Let go of the file, after all connections to it are closed."""
        self._file.close()

    def step(self, first: int) -> int | None:
        """Zero the unused middle of `STEP_PAGES` pages from page number ``first`` (1 is the first); answers the number
        to go on with, None at the end. Durable on return."""
        layout = self._layout()
        last = min(first + STEP_PAGES - 1, layout.pages)
        data = self._read(layout, first, last)
        kinds = self._kinds(layout, first, last)
        changed = False
        for number, kind in zip(range(first, last + 1), kinds, strict=True):
            start, end = _unused(data, (number - first) * layout.page_bytes, number, kind)
            if data[start:end].strip(b"\0"):
                os.pwrite(self._file.fileno(), bytes(end - start), (first - 1) * layout.page_bytes + start)
                changed = True
        if changed:
            os.fsync(self._file.fileno())
        return last + 1 if last < layout.pages else None

    def _layout(self) -> _Layout:
        header = os.pread(self._file.fileno(), 100, 0)
        if len(header) < 100 or header[:16] != b"SQLite format 3\0" or header[52:56] == b"\0\0\0\0":
            raise Corrupt("the database file has no pointer map: it was not made by Labkeep")
        page_bytes = struct.unpack_from(">H", header, 16)[0]
        page_bytes = 65_536 if page_bytes == 1 else page_bytes
        pages = os.fstat(self._file.fileno()).st_size // page_bytes
        return _Layout(page_bytes, page_bytes - header[20], pages)

    def _read(self, layout: _Layout, first: int, last: int) -> bytes:
        return os.pread(self._file.fileno(), (last - first + 1) * layout.page_bytes, (first - 1) * layout.page_bytes)

    def _kinds(self, layout: _Layout, first: int, last: int) -> Iterator[int]:
        """What each page is, from the pointer map; 0 for the map itself and for what has no entry."""
        mapped, entries = 0, b""
        for number in range(first, last + 1):
            if number == 1:
                yield _ROOT
                continue
            at = layout.map_of(number)
            if at != mapped:
                mapped, entries = at, self._read(layout, at, at)
            place = 5 * (number - at - 1)
            yield entries[place] if place >= 0 else 0


def _unused(data: bytes, page: int, number: int, kind: int) -> tuple[int, int]:
    """Start and end, in ``data``, of the bytes between the cell pointers and the cells of the page at ``page``."""
    header = page + (100 if number == 1 else 0)
    sort = data[header]
    if kind not in (_ROOT, _TREE) or sort not in (*_INTERIOR, *_LEAF):
        return 0, 0
    cells, content = struct.unpack_from(">HH", data, header + 3)
    start = header + (12 if sort in _INTERIOR else 8) + 2 * cells
    return start, page + (content or 65_536)
