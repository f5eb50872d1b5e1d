"""What could not be sent yet, in append-only files: one for each lane of each run.

A record is ``<length: u32><crc32: u32><MessagePack>``, little-endian; the first says which run it is. A tail that was torn
off by a crash ends the file where the last whole record ends. Every record may be sent twice: runs and rows carry their
own ids and offsets, so that nothing doubles.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from labkeep.core.errors import Corrupt, Unavailable

SUFFIX = ".spool"
_FRAME = struct.Struct("<II")
_LARGEST = 1 << 30


class Begin(msgspec.Struct, frozen=True, tag_field="op", tag="begin", kw_only=True):
    """Which run it is: the fields it is created with, its id among them, and the server it belongs to ("" is any)."""

    run: dict[str, Any]
    url: str = ""


class Change(msgspec.Struct, frozen=True, tag_field="op", tag="change"):
    """Fields of the run that were set afterwards."""

    fields: dict[str, Any]


class Rows(msgspec.Struct, frozen=True, tag_field="op", tag="rows"):
    """An encoded batch of ``count`` rows of a stream, and the number of the first."""

    stream: str
    offset: int
    count: int
    data: bytes


class Entry(msgspec.Struct, frozen=True):
    """One file of an artifact: a staged blob, or a reference when ``reference`` is not empty."""

    path: str
    digest: str
    size: int
    media_type: str = "application/octet-stream"
    reference: bool = False


class PutFile(msgspec.Struct, frozen=True, tag_field="op", tag="file"):
    """A file of the run, staged under its digest."""

    entry: Entry


class PutArtifact(msgspec.Struct, frozen=True, tag_field="op", tag="artifact", kw_only=True):
    """A new artifact version."""

    name: str
    type: str
    entries: list[Entry]
    description: str = ""
    metadata: dict[str, Any] = {}
    aliases: list[str] = []


class End(msgspec.Struct, frozen=True, tag_field="op", tag="end", kw_only=True):
    """How the run ended."""

    status: str
    at: str
    exit_code: int | None = None
    summary: dict[str, Any] = {}


Op: TypeAlias = Begin | Change | Rows | PutFile | PutArtifact | End


def size_of(op: Op) -> int:
    """Roughly how many bytes an op keeps in memory."""
    return len(op.data) if isinstance(op, Rows) else 1000


def staged(op: Op) -> list[Entry]:
    """The files that an op needs a local copy of."""
    if isinstance(op, PutArtifact):
        return [entry for entry in op.entries if not entry.reference]
    return [op.entry] if isinstance(op, PutFile) else []


class Spool:
    """One lane's file, written by one process. It exists once something was put into it."""

    def __init__(self, path: Path, begin: Begin) -> None:
        self.path = path
        self._begin = begin
        self._file: FileIO | None = None
        self._end = 0

    @property
    def end(self) -> int:
        """Where the next record goes; 0 when there is none yet."""
        return self._end

    def append(self, op: Op) -> None:
        """Put an op behind the others. It survives this process once this returns."""
        self.open()
        self._write(op)

    def open(self) -> None:
        """Make the file, so that the run is known even when nothing more is put into it."""
        if self._file is None:
            self._create()

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open(self.path, "a+")
        if not lock(self._file):
            self._file.close()
            self._file = None
            raise Unavailable(f"{self.path} is in use by another process", path=str(self.path))
        self._end = sum(size for _, size in _records(self.path))
        self._file.truncate(self._end)
        if self._end == 0:
            self._write(self._begin)

    def _write(self, op: Op) -> None:
        assert self._file is not None
        record = _framed(op)
        self._file.write(record)
        self._end += len(record)

    def sync(self) -> None:
        """Have the disk keep it too."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def read(self, start: int) -> Iterator[tuple[int, Op]]:
        """Each op from ``start`` on, with the position behind it. Whole records only, those appended meanwhile too."""
        return read(self.path, start) if self._file is not None else iter(())

    def remove(self) -> None:
        """Everything was sent: nothing is kept."""
        if self._file is not None:
            discard(self.path, self._file)
            self._file, self._end = None, 0

    def close(self) -> None:
        """Leave the file for `labkeep sync`."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None


def read(path: Path, start: int = 0) -> Iterator[tuple[int, Op]]:
    """Each op of a file, with the position behind it, up to the first record that is not whole."""
    position = start
    for payload, size in _records(path, start):
        position += size
        try:
            yield position, _DECODER.decode(payload)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"{path} has a record that is no record of a run ({error})", path=str(path)) from None


def _records(path: Path, start: int = 0) -> Iterator[tuple[bytes, int]]:
    with path.open("rb") as file:
        file.seek(start)
        while len(head := file.read(_FRAME.size)) == _FRAME.size:
            length, crc = _FRAME.unpack(head)
            payload = file.read(length) if length <= _LARGEST else b""
            # No record is empty, but a disk that lost its power leaves zeros, and those would check out.
            if length == 0 or len(payload) != length or zlib.crc32(payload) != crc:
                return
            yield payload, _FRAME.size + length


def _framed(op: Op) -> bytes:
    payload = _ENCODER.encode(op)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _open(path: Path, mode: str) -> FileIO:
    """Unbuffered, readable by its owner only: what is in it was meant for a server with keys."""
    return FileIO(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def claim(path: Path) -> FileIO | None:
    """Lock an existing file against other processes; None when one has it, or when it is gone by now."""
    try:
        file = _open(path, "r+")
    except FileNotFoundError:
        return None
    if lock(file) and path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
        return file
    file.close()
    return None


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    _LOCKED_BYTE = 1 << 62

    def lock(file: FileIO) -> bool:
        """Take the file for this process; False when another has it."""
        place = file.tell()
        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(place)
        return True

    def discard(path: Path, file: FileIO) -> None:
        """Close and remove."""
        file.close()
        path.unlink(missing_ok=True)

else:
    import fcntl

    def lock(file: FileIO) -> bool:
        """Take the file for this process; False when another has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def discard(path: Path, file: FileIO) -> None:
        """Remove, then let go: whoever waits for the lock finds nothing."""
        path.unlink(missing_ok=True)
        file.close()


def folder(named: str | os.PathLike[str] | None = None) -> Path:
    """Where spools are: ``LABKEEP_SPOOL``, or ``labkeep/spool`` in the user's data folder."""
    chosen = named or os.environ.get("LABKEEP_SPOOL")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "labkeep" / "spool"


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Op] = msgspec.msgpack.Decoder(Op)
