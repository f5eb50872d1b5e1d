"""Content-addressed blobs: bytes that are named by their SHA-256, kept apart by tenant.

    root/<space>/<first two hex digits>/<64 hex digits>     a blob, in a folder or under an object store's prefix
    root/<space>/<first two hex digits>/<32 hex digits>     an encrypted one, named by its key
    root/_tmp/<uuid>                                        an upload in progress, or what a crash left of one

A space is a tenant's namespace. The same bytes are stored once in a space and never shared between spaces, so
that deleting a tenant's blob can neither be refused nor noticed because of another tenant.

What is encrypted (`labkeep.storage.blobs_encrypted`) is not named by its content: its name is ``key:`` and the id of
its data key in hex, and stands wherever a digest stands here.

Spaces and digests are checked by ``blob_key``, the only way to a place in a store: nothing that a caller sends can
name a place outside of its space. ``_tmp`` is outside of the alphabet of spaces.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from labkeep.core.errors import Invalid, NotFound

PIECE_BYTES = 1 << 20
"""The most that ``Blobs.read`` yields at once."""

UPLOADS = "_tmp"

_SPACE = re.compile(r"[0-9a-z-]{1,64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|key:[0-9a-f]{32}")
_SCHEMES = {64: "sha256", 32: "key"}
_NAME = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}")


class KeyMade(msgspec.Struct, frozen=True):
    """The new data key of one encrypted upload, as the database will keep it, and the project that it is for."""

    id: str
    project_id: str
    wrapped: bytes
    master: str


class Stored(msgspec.Struct, frozen=True):
    """What an upload became: ``digest`` is ``"sha256:"`` and 64 hex digits, ``size`` is in bytes.

    ``key`` is set where the bytes were encrypted on their way; then the blob is named by it.
    """

    digest: str
    size: int
    key: KeyMade | None = None

    @property
    def name(self) -> str:
        """What the blob is called in the store."""
        return self.digest if self.key is None else name_of_key(self.key.id)


class Listed(msgspec.Struct, frozen=True):
    """One blob of a listing. ``modified_at`` is when its bytes were last uploaded (aware UTC)."""

    space: str
    digest: str
    size: int
    modified_at: datetime


def check_space(space: str) -> str:
    """``space`` itself; Invalid unless it is 1 to 64 of 0-9, a-z and ``-``."""
    if not _SPACE.fullmatch(space):
        raise Invalid(f"{space[:80]!r} is not a blob space: use 1 to 64 of 0-9, a-z and -", path="space")
    return space


def check_digest(digest: str) -> str:
    """``digest`` itself; Invalid unless it is ``sha256:`` and 64 lower-case hex digits, or the name of an encrypted blob."""
    if not _DIGEST.fullmatch(digest):
        raise Invalid(f"{digest[:80]!r} is not a digest: use sha256: and 64 lower-case hex digits", path="digest")
    return digest


def blob_key(space: str, digest: str) -> str:
    """``"<space>/<aa>/<hex>"``: where a store keeps this blob, relative to its root. Invalid as the two checks say."""
    name = check_digest(digest).partition(":")[2]
    return f"{check_space(space)}/{name[:2]}/{name}"


def parse_key(key: str) -> tuple[str, str] | None:
    """``(space, digest)`` of a key that ``blob_key`` made, None for anything else that lies in a store."""
    parts = key.split("/")
    if len(parts) != 3 or not (_SPACE.fullmatch(parts[0]) and _NAME.fullmatch(parts[2]) and parts[2][:2] == parts[1]):
        return None
    return parts[0], _digest_of(parts[2])


def _digest_of(name: str) -> str:
    return f"{_SCHEMES[len(name)]}:{name}"


def name_of_key(key_id: str) -> str:
    """The name of the blob that is encrypted with this data key."""
    return f"key:{key_id.replace('-', '')}"


def key_of_name(name: str) -> str | None:
    """The id of the data key that a blob of this name is encrypted with; None for one that is not."""
    if not name.startswith("key:"):
        return None
    t = name[4:]
    return f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}"


def missing_blob(key: str) -> NotFound:
    """The error for a well-formed key that the store has not got."""
    digest = _digest_of(key.rpartition("/")[2])
    return NotFound(f"blob {digest} is not in the store", digest=digest)


def sweep_limit(older_than_s: float) -> float:
    """The Unix time up to which a temporary upload counts as abandoned; stores round, and have clocks of their own."""
    return time.time() - older_than_s if older_than_s > 0 else math.inf


class Upload(ABC):
    """One upload in progress: a context manager, for one thread at a time.

    Leaving it without ``finish``, or any error on the way, aborts it and leaves nothing behind. An implementation
    says how to ``_append`` bytes, ``_keep`` them under a key and ``_discard`` them.
    """

    def __init__(self, space: str) -> None:
        self.space = check_space(space)
        self.size = 0
        self._hash = hashlib.sha256()
        self._hashed = True
        self._open = True

    def write(self, data: bytes | memoryview) -> None:
        """Append. Unavailable when the store cannot take it; the upload is aborted then."""
        self._require_open()
        view = memoryview(data).cast("B")
        try:
            self._append(view)
        except BaseException:
            self.abort()
            raise
        if self._hashed:
            self._hash.update(view)
        self.size += view.nbytes

    def finish(self, expected: str | None = None) -> Stored:
        """Keep what was written: durable, and present whatever was deleted meanwhile, when this returns.

        Invalid when ``expected`` is given and is not the digest of the bytes; Unavailable when the store fails.
        Either way nothing is kept.
        """
        self._require_open()
        assert self._hashed, "this upload is to be named"
        stored = Stored(f"sha256:{self._hash.hexdigest()}", self.size)
        try:
            _require_same(stored, expected)
            self._keep(blob_key(self.space, stored.digest))
        except BaseException:
            self.abort()
            raise
        self._open = False
        return stored

    def will_be_named(self) -> None:
        """Say before the first write that `finish_as` will end it: then nothing needs the digest."""
        self._hashed = False

    def finish_as(self, name: str) -> None:
        """As `finish`, under the name of an encrypted blob instead of the digest. It must not be in use."""
        self._require_open()
        try:
            self._keep(blob_key(self.space, name))
        except BaseException:
            self.abort()
            raise
        self._open = False

    def abort(self) -> None:
        """Give the upload up; nothing happens when it is finished or aborted already."""
        if self._open:
            self._open = False
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError("this upload is finished or aborted")

    @abstractmethod
    def _append(self, view: memoryview) -> None: ...

    @abstractmethod
    def _keep(self, key: str) -> None:
        """Put what was appended at ``key``, over whatever is there: an earlier copy may vanish at any moment."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove what was appended; must not raise for a store that fails, which would hide why we got here."""


def _require_same(stored: Stored, expected: str | None) -> None:
    if expected is not None and check_digest(expected) != stored.digest:
        raise Invalid(
            f"the uploaded bytes are {stored.digest}, not {expected}: nothing was kept, send them again",
            path="digest",
            expected=expected,
            digest=stored.digest,
            size=stored.size,
        )


class Blobs(ABC):
    """A store of blobs. Every method may be called from any thread.

    Every method that takes a space or a digest raises Invalid for a malformed one, before it does anything, and
    Unavailable when the store cannot be reached or has no room.
    """

    removal: str
    """What `delete` does to the bytes, in the exact words that a record of a purge may use."""

    @abstractmethod
    def begin(self, space: str) -> Upload:
        """Start an upload of any size into ``space``."""

    def put(self, space: str, data: bytes) -> Stored:
        """Store ``data``; durable on return."""
        with self.begin(space) as upload:
            upload.write(data)
            return upload.finish()

    def read(self, space: str, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes ``[start, end)`` in pieces of at most ``PIECE_BYTES``; past the end there are none.

        NotFound at once, not at the first piece; Invalid for a negative start or end. A reader that is under way
        when the blob is deleted gets the rest or Unavailable, never other bytes.
        """
        key = blob_key(space, digest)
        if start < 0 or (end is not None and end < 0):
            raise Invalid(f"the range {start} to {end} is negative: count from the first byte", path="range")
        pieces = self._pieces(key, start, end)
        next(pieces)
        return pieces

    @abstractmethod
    def _pieces(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        """A generator: NotFound, or one empty piece that ``read`` takes as proof, and then the range."""

    def read_all(self, space: str, digest: str) -> bytes:
        """The whole blob in memory. NotFound."""
        return b"".join(self.read(space, digest))

    @abstractmethod
    def path(self, space: str, digest: str) -> Path | None:
        """The blob's own file, to be read and never written; None when the store has no files. NotFound otherwise."""

    @abstractmethod
    def size(self, space: str, digest: str) -> int:
        """In bytes. NotFound."""

    @abstractmethod
    def delete(self, space: str, digests: Iterable[str]) -> int:
        """Delete for good and return how many there were; what is missing already is fine. Durable on return."""

    @abstractmethod
    def list(self, space: str | None = None) -> Iterator[Listed]:
        """Every blob of ``space``, or of all spaces, in no order, streamed; uploads in progress are not listed."""

    @abstractmethod
    def sweep_uploads(self, older_than_s: float) -> int:
        """Remove what crashed uploads left and nobody wrote to for that many seconds; returns how many.

        0 removes all, uploads in progress too, whatever the store's clock says.
        """

    def verify(self, space: str, digest: str) -> bool:
        """Read the blob again: do its bytes still have this digest? NotFound."""
        found = hashlib.sha256()
        for piece in self.read(space, digest):
            found.update(piece)
        return digest == f"sha256:{found.hexdigest()}"

    @abstractmethod
    def close(self) -> None:
        """Let go of threads and connections; the store must not be used afterwards."""


class MemoryBlobs(Blobs):
    """Blobs in this process's memory, for tests and demonstrations: gone with the process."""

    removal = "memory released"

    def __init__(self) -> None:
        self._kept: dict[str, tuple[bytes, datetime]] = {}

    def begin(self, space: str) -> Upload:
        return _MemoryUpload(space, self._kept)

    def _pieces(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        data = self._get(key)
        yield b""
        stop = len(data) if end is None else min(end, len(data))
        for at in range(start, stop, PIECE_BYTES):
            yield data[at : min(at + PIECE_BYTES, stop)]

    def path(self, space: str, digest: str) -> Path | None:
        blob_key(space, digest)
        return None

    def size(self, space: str, digest: str) -> int:
        return len(self._get(blob_key(space, digest)))

    def delete(self, space: str, digests: Iterable[str]) -> int:
        check_space(space)
        keys = {blob_key(space, digest) for digest in digests}
        return sum(self._kept.pop(key, None) is not None for key in keys)

    def list(self, space: str | None = None) -> Iterator[Listed]:
        prefix = "" if space is None else f"{check_space(space)}/"
        kept = tuple(self._kept.items())
        return (_listed(key, len(data), at) for key, (data, at) in kept if key.startswith(prefix))

    def sweep_uploads(self, older_than_s: float) -> int:
        return 0

    def close(self) -> None:
        self._kept.clear()

    def _get(self, key: str) -> bytes:
        if (found := self._kept.get(key)) is None:
            raise missing_blob(key)
        return found[0]


class _MemoryUpload(Upload):
    def __init__(self, space: str, kept: dict[str, tuple[bytes, datetime]]) -> None:
        super().__init__(space)
        self._kept = kept
        self._data = bytearray()

    def _append(self, view: memoryview) -> None:
        self._data += view

    def _keep(self, key: str) -> None:
        self._kept[key] = (bytes(self._data), datetime.now(UTC))

    def _discard(self) -> None:
        self._data.clear()


def _listed(key: str, size: int, modified_at: datetime) -> Listed:
    space, _, name = key.split("/")
    return Listed(space, _digest_of(name), size, modified_at)
