"""Zeroing what SQLite leaves between the cells of its pages.

``secure_delete`` overwrites a row where it stands. Where SQLite had moved the row from page to page before, to keep
its trees in balance, older copies stay in the unused middle of the pages: nothing refers to them, and anybody who
reads the file finds them. This overwrites that unused middle, and nothing else, in the file itself, of the pages that
were written since it was done last. The layout is that of "Database File Format" (sqlite.org/fileformat2.html, sections
1.3, 1.6, 1.8 and 4).

Whoever calls sees to it that the write-ahead log is empty, that no connection writes, and that the writer's cache is:
a page from the cache would bring the old copies back.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from labkeep.core.errors import Corrupt

STRETCH = 32
"""Pages that are remembered, and read, together."""

STEP = 128
"""Stretches looked at in one step: a few milliseconds during which nobody writes."""

_LOG_HEADER, _FRAME_HEADER = 32, 24
"""Bytes of the log's header, and of the header of each page in it."""

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


class Written:
    """Stretches of a database that were written, by what its write-ahead log says of them.

    What was written before this was made is not known: that may be everything.
    """

    def __init__(self, log: Path) -> None:
        self._path = log
        self._file: FileIO | None = None
        self.everything = True
        """Whether every stretch may have been written."""
        self.stretches: set[int] = set()
        self._number = 0
        self._salts = b""
        """Of the log as it was read last: both change when it is written from its start again."""
        self._read = 0

    def close(self) -> None:
        """Let go of the log."""
        if self._file is not None:
            self._file.close()

    def note(self) -> None:
        """Take in what was committed since the last time. After every commit: the log is written over now and then."""
        if self._file is None:
            if not self._path.exists():
                return
            self._file = self._path.open("rb", buffering=0)
        file = self._file.fileno()
        header = os.pread(file, _LOG_HEADER, 0)
        if len(header) < _LOG_HEADER:  # cut to nothing, after it was read
            return
        page_bytes, number, salts = struct.unpack_from(">II8s", header, 8)
        if salts != self._salts:
            # One that was never read, in between, may have held anything.
            self.everything = self.everything or (self._salts != b"" and number != self._number + 1)
            self._number, self._salts, self._read = number, salts, _LOG_HEADER
        at = self._read
        while True:
            frame = os.pread(file, _FRAME_HEADER, at)
            if len(frame) < _FRAME_HEADER or frame[8:16] != salts:
                return
            page, commits = struct.unpack_from(">II", frame)
            self.stretches.add(page // STRETCH)
            at += _FRAME_HEADER + page_bytes
            if commits:  # what stands behind the last commit was taken back, and is written over
                self._read = at

    def cut(self) -> None:
        """The log was cut to nothing, after it was read: the next one begins anew, with any number."""
        self._salts = b""


class Scrubber:
    """One database file.

    Its own descriptor stays open until `close`: to close any descriptor of a file drops the locks that this process has
    on it, and with them those of SQLite. So close it after all connections.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self.written = Written(path.with_name(path.name + "-wal"))

    def close(self) -> None:
        """Let go of the file, after all connections to it are closed."""
        self._file.close()
        self.written.close()

    def due(self) -> set[int]:
        """The stretches that were written so far, for `step`."""
        if self.written.everything:
            self.written.stretches.update(range(self._layout().pages // STRETCH + 1))
            self.written.everything = False
        return set(self.written.stretches)

    def step(self, due: set[int]) -> None:
        """Zero the unused middle of the pages of the next `STEP` stretches, and take them off ``due``. Durable on return."""
        layout, some = self._layout(), sorted(islice(due, STEP))
        changed = [self._clean(layout, stretch) for stretch in some]
        if any(changed):
            os.fsync(self._file.fileno())
        due.difference_update(some)
        self.written.stretches.difference_update(some)

    def _clean(self, layout: _Layout, stretch: int) -> bool:
        """Whether something had to be zeroed."""
        first, last = max(1, stretch * STRETCH), min(stretch * STRETCH + STRETCH - 1, layout.pages)
        if first > last:  # cut off since
            return False
        data = self._read(layout, first, last)
        kinds = self._kinds(layout, first, last)
        changed = False
        for number, kind in zip(range(first, last + 1), kinds, strict=True):
            start, end = _unused(data, (number - first) * layout.page_bytes, number, kind)
            if data[start:end].strip(b"\0"):
                os.pwrite(self._file.fileno(), bytes(end - start), (first - 1) * layout.page_bytes + start)
                changed = True
        return changed

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
