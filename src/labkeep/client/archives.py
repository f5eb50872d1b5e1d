"""Archives of exported objects: one tar file that says itself whether all of it is there and as it was.

The members come in the order in which an import needs them; the last is ``manifest.jsonl`` with the SHA-256 of every
other one. The SHA-256 of the manifest is the archive's digest. See docs/format.md.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from labkeep.core.errors import Corrupt, Invalid

FORMAT = 1
HEADER = "archive.json"
MANIFEST = "manifest.jsonl"
BLOB = re.compile(r"blobs/sha256-([0-9a-f]{64})")
PIECE = 2**20
_BLOCK = tarfile.BLOCKSIZE

_encoder = msgspec.json.Encoder(order="deterministic")


class Member(msgspec.Struct, frozen=True):
    """One member: its name, bytes, and their SHA-256 (``sha256:…``)."""

    name: str
    size: int
    digest: str


def lines(objects: Iterator[Any] | list[Any]) -> bytes:
    """Objects as JSON, one on each line."""
    return b"".join(_encoder.encode(one) + b"\n" for one in objects)


class ArchiveWriter:
    """Writes an archive beside its place, and moves it there when it is whole.

    What an earlier try has written is kept: its complete members are in ``members`` and need not be written again.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self.members: dict[str, Member] = {}
        self._places: dict[str, int] = {}
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        # For its owner alone: what the server encrypts is plain in here.
        self._file: BinaryIO = os.fdopen(os.open(self._part, flags, 0o600), "r+b")
        try:
            self._end = self._take_up()
            self._begin(header)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, header: dict[str, Any]) -> None:
        if HEADER not in self.members:
            self.add(HEADER, _encoder.encode(header))
        found = msgspec.json.decode(self.read(HEADER))
        if found.get("selection") != header.get("selection") or found.get("source") != header.get("source"):
            raise Invalid(
                f"{self._part} is an export of something else that was not finished: remove it, or choose another file",
                path=str(self._part),
            )

    def _take_up(self) -> int:
        """Read what is there; answers where the last complete member ends, and cuts off what comes after it."""
        end = 0
        size = self._file.seek(0, os.SEEK_END)
        while (found := _header_at(self._file, end)) is not None:
            start = end + found[2]
            after = start + _padded(found[1])
            if after > size:
                break
            self._file.seek(start)
            digest = _digest_of(self._file, found[1])
            self.members[found[0]] = Member(found[0], found[1], digest)
            self._places[found[0]] = start
            end = after
        self._file.truncate(end)
        return end

    def read(self, name: str) -> bytes:
        """The content of a member that was written."""
        self._file.seek(self._places[name])
        return self._file.read(self.members[name].size)

    def add(self, name: str, data: bytes) -> None:
        """Write a member."""
        sink = self.sink(name, len(data))
        sink.write(data)
        sink.close()

    def sink(self, name: str, size: int) -> MemberSink:
        """A member of ``size`` bytes that comes in pieces; close it when they are there."""
        head = _tar_header(name, size)
        self._file.seek(self._end)
        self._file.truncate()
        self._file.write(head)
        return MemberSink(self, self._file, name, size, self._end + len(head))

    def _done(self, member: Member, start: int) -> None:
        self._file.seek(start + member.size)
        self._file.write(b"\0" * (_padded(member.size) - member.size))
        self._end = self._file.tell()
        self.members[member.name] = member
        self._places[member.name] = start

    def sync(self) -> None:
        """Have what is written so far outlive a crash."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> str:
        """Write the manifest and move the archive to its place; answers its digest."""
        self.add(MANIFEST, lines([self.members[name] for name in self.members if name != MANIFEST]))
        digest = self.members[MANIFEST].digest
        self._file.write(b"\0" * (2 * _BLOCK))
        self.sync()
        self._file.close()
        self._part.replace(self._path)
        return digest

    def close(self) -> None:
        """Leave what is written so far for another try."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemberSink:
    """Takes the bytes of one member."""

    def __init__(self, archive: ArchiveWriter, file: BinaryIO, name: str, size: int, start: int) -> None:
        self._archive, self._file = archive, file
        self._name, self._size, self._start = name, size, start
        self._hash = hashlib.sha256()
        self._written = 0

    def restart(self) -> None:
        """Forget what came so far: the request is tried again."""
        self._file.seek(self._start)
        self._file.truncate()
        self._hash, self._written = hashlib.sha256(), 0

    def write(self, piece: bytes) -> None:
        """Take the next piece."""
        self._hash.update(piece)
        self._written += len(piece)
        self._file.write(piece)

    def close(self, digest: str | None = None) -> None:
        """All of it came. Corrupt when it is of another size, or has another digest than it should have."""
        found = f"sha256:{self._hash.hexdigest()}"
        if self._written != self._size or digest not in (None, found):
            raise Corrupt(
                f"{self._name} came with {self._written} bytes and {found}, instead of {self._size} and {digest}",
                path=self._name,
            )
        self._archive._done(Member(self._name, self._size, found), self._start)


class Archive:
    """A finished archive, open for reading. Corrupt when it is none, or was cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise Invalid(f"{path} cannot be read: {error}", path=str(path)) from error
        try:
            self._places = dict(_places(self._file))
            self.members = self._manifest()
            self.header: dict[str, Any] = self._decode(HEADER)
            if self.header.get("format") != FORMAT:
                raise Corrupt(
                    f"{path} has format {self.header.get('format')!r}, which this release does not know", path=str(path)
                )
        except BaseException:
            self._file.close()
            raise

    def _manifest(self) -> list[Member]:
        if MANIFEST not in self._places or HEADER not in self._places:
            raise Corrupt(f"{self.path} is no archive of an export, or was cut off", path=str(self.path))
        data = self.read(MANIFEST)
        self.digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        try:
            members = [msgspec.json.decode(line, type=Member) for line in data.splitlines()]
        except msgspec.DecodeError as error:
            raise Corrupt(f"the manifest of {self.path} is damaged: {error}", path=str(self.path)) from None
        listed = {member.name: member.size for member in members}
        found = {name: size for name, (_, size) in self._places.items() if name != MANIFEST}
        if listed != found or len(listed) != len(members):
            raise Corrupt(f"{self.path} does not hold what its manifest says", path=str(self.path))
        return members

    def verify(self) -> Iterator[Member]:
        """Read every member, and give it when it is as it was. Corrupt at the first one that is not."""
        for member in self.members:
            start, size = self._places[member.name]
            self._file.seek(start)
            named = BLOB.fullmatch(member.name)
            if _digest_of(self._file, size) != member.digest or (named and f"sha256:{named[1]}" != member.digest):
                raise Corrupt(f"{member.name} in {self.path} is not as it was exported", path=member.name)
            yield member

    def read(self, name: str) -> bytes:
        """The content of a member."""
        start, size = self._places[name]
        self._file.seek(start)
        return self._file.read(size)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a member, a mebibyte at a time."""
        start, size = self._places[name]
        for offset in range(0, size, PIECE):
            self._file.seek(start + offset)
            yield self._file.read(min(PIECE, size - offset))

    def objects(self, name: str) -> list[dict[str, Any]]:
        """The lines of a member. Corrupt when they are no JSON objects."""
        try:
            return [msgspec.json.decode(line, type=dict[str, Any]) for line in self.read(name).splitlines()]
        except msgspec.DecodeError as error:
            raise Corrupt(f"{name} in {self.path} is damaged: {error}", path=name) from None

    def _decode(self, name: str) -> dict[str, Any]:
        try:
            return msgspec.json.decode(self.read(name), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Corrupt(f"{name} in {self.path} is damaged: {error}", path=name) from None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- tar ----------------------------------------------------------------------------------------------------------------


def _tar_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _places(file: BinaryIO) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name → where the content begins and its size; Corrupt where a name comes twice."""
    end, seen = 0, set()
    size = file.seek(0, os.SEEK_END)
    while (found := _header_at(file, end)) is not None:
        name, length, head = found
        if name in seen or end + head + length > size:
            raise Corrupt(f"the archive is damaged at {name[:200]!r}", path=name[:200])
        seen.add(name)
        yield name, (end + head, length)
        end += head + _padded(length)


def _header_at(file: BinaryIO, offset: int, *, named: bool = False) -> tuple[str, int, int] | None:
    """Name, size and length of the header at ``offset``; None where the archive ends, is cut off or is no archive.

    ``named``: the name came before it.
    """
    file.seek(offset)
    head = file.read(_BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
        if info.type != tarfile.GNUTYPE_LONGNAME:
            return (info.name, info.size, _BLOCK) if info.isreg() and info.size >= 0 else None
        if named or not 0 < info.size <= 16 * _BLOCK:
            return None
        name = file.read(_padded(info.size))[: info.size].rstrip(b"\0").decode()
        after = _header_at(file, offset + _BLOCK + _padded(info.size), named=True)
        return None if after is None else (name, after[1], _BLOCK + _padded(info.size) + after[2])
    except (tarfile.HeaderError, UnicodeDecodeError):
        return None


def _digest_of(file: BinaryIO, size: int) -> str:
    """SHA-256 of the next ``size`` bytes."""
    found = hashlib.sha256()
    while size > 0:
        piece = file.read(min(size, PIECE))
        if not piece:
            break
        found.update(piece)
        size -= len(piece)
    return f"sha256:{found.hexdigest()}"
