"""An encrypting store that names blobs by their content, as the suite of blob stores does.

It keeps which key belongs to which content, as the database does for the server.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec

from labkeep.core.errors import NotFound
from labkeep.storage.blobs import Blobs, KeyMade, Listed, Stored, Upload, blob_key, missing_blob
from labkeep.storage.blobs_encrypted import EncryptedBlobs, EncryptedUpload
from labkeep.storage.cipher import Cipher, new_key
from labkeep.testing.blobs import SPACE


class NamedByContent(Blobs):
    """Encrypts every upload, and finds it again by the digest of its content."""

    def __init__(self, below: Blobs) -> None:
        self._ciphers: dict[str, Cipher] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._lock = threading.RLock()
        self.inside = EncryptedBlobs(below, lambda _space, key_id: self._ciphers[key_id])
        self.removal = self.inside.removal

    def begin(self, space: str) -> Upload:
        cipher = Cipher(str(uuid4()), new_key())
        self._ciphers[cipher.id] = cipher
        return _Noting(self.inside.begin(space), cipher, self)

    def note(self, space: str, stored: Stored) -> None:
        with self._lock:
            before = self._names.get((space, stored.digest))
            self._names[space, stored.digest] = stored.name
        if before is not None:
            self.inside.delete(space, [before])

    def name(self, space: str, digest: str) -> str:
        key = blob_key(space, digest)
        with self._lock:
            found = self._names.get((space, digest))
        if found is None:
            raise missing_blob(key)
        return found

    def read(self, space: str, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        while True:
            name = self.name(space, digest)
            try:
                return self.inside.read(space, name, start, end)
            except NotFound:  # replaced or deleted at this moment: the next look tells which
                continue

    def _pieces(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        raise NotImplementedError("read does without")

    def path(self, space: str, digest: str) -> Path | None:
        return self.inside.path(space, self.name(space, digest))

    def size(self, space: str, digest: str) -> int:
        return self.inside.size(space, self.name(space, digest))

    def verify(self, space: str, digest: str) -> bool:
        return self.inside.verify(space, self.name(space, digest)) and super().verify(space, digest)

    def delete(self, space: str, digests: Iterable[str]) -> int:
        wanted = {digest for digest in digests if blob_key(space, digest)}
        with self._lock:
            names = [name for digest in wanted if (name := self._names.pop((space, digest), None)) is not None]
        self.inside.delete(space, names)
        return len(names)

    def list(self, space: str | None = None) -> Iterator[Listed]:
        return map(self._listed, self.inside.list(space))

    def _listed(self, one: Listed) -> Listed:
        with self._lock:
            found = (
                digest for (space, digest), name in self._names.items() if (space, name) == (one.space, one.digest)
            )
            return msgspec.structs.replace(one, digest=next(found), size=self.inside.size(one.space, one.digest))

    def sweep_uploads(self, older_than_s: float) -> int:
        return self.inside.sweep_uploads(older_than_s)

    def close(self) -> None:
        self.inside.close()


class _Noting(EncryptedUpload):
    def __init__(self, below: Upload, cipher: Cipher, blobs: NamedByContent) -> None:
        super().__init__(below, cipher, KeyMade(cipher.id, SPACE, b"", ""))
        self._blobs = blobs

    def finish(self, expected: str | None = None) -> Stored:
        stored = super().finish(expected)
        self._blobs.note(self.space, stored)
        return Stored(stored.digest, stored.size)
