"""The contract of blob stores over the encrypting layer, on memory, files and the object store code.

The suite names blobs by their content. So does this store: it keeps which key belongs to which content, as the database
does for the server.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from obstore.store import MemoryStore

from labkeep.core.errors import Corrupt, NotFound
from labkeep.storage.blobs import (
    Blobs,
    KeyMade,
    Listed,
    MemoryBlobs,
    Stored,
    Upload,
    blob_key,
    missing_blob,
)
from labkeep.storage.blobs_encrypted import EncryptedBlobs, EncryptedUpload
from labkeep.storage.blobs_object import ObjectBlobs
from labkeep.storage.cipher import FRAME_BYTES, Cipher, new_key
from labkeep.storage.opening import open_blobs
from labkeep.testing.blobs import OTHER_SPACE, SPACE, BlobsTests


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


class TestEncryptedMemory(BlobsTests):
    @pytest.fixture
    def blobs(self) -> Iterator[Blobs]:
        store = NamedByContent(MemoryBlobs())
        yield store
        store.close()


class TestEncryptedFiles(BlobsTests):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Iterator[Blobs]:
        store = NamedByContent(open_blobs(tmp_path / "blobs"))
        self.root = tmp_path / "blobs"
        yield store
        store.close()

    def test_no_byte_of_an_upload_reaches_the_disk_in_the_clear(self, blobs: Blobs) -> None:
        canary = b"canary-7f3a"
        with blobs.begin(SPACE) as upload:
            upload.write(canary * 100_000)
            assert any(path.stat().st_size for path in (self.root / "_tmp").iterdir())
            self._assert_nowhere(canary)
            upload.finish()
        self._assert_nowhere(canary)

    def test_equal_bytes_have_unrelated_names_and_unrelated_ciphertext(self, blobs: Blobs) -> None:
        for space in (SPACE, OTHER_SPACE):
            blobs.put(space, bytes(10_000))
        one, other = (path for path in self.root.rglob("*") if path.is_file())
        assert one.name != other.name
        assert one.read_bytes()[8:] != other.read_bytes()[8:]

    def test_a_file_that_is_cut_off_is_corrupt(self, blobs: Blobs) -> None:
        digest = blobs.put(SPACE, bytes(3 * FRAME_BYTES)).digest
        (path,) = (path for path in self.root.rglob("*") if path.is_file())
        path.write_bytes(path.read_bytes()[: -FRAME_BYTES - 16])
        with pytest.raises(Corrupt, match="cut off or changed"):
            blobs.read_all(SPACE, digest)

    def test_a_file_in_the_place_of_another_is_corrupt(self, blobs: Blobs) -> None:
        first = blobs.put(SPACE, b"a" * 1000).digest
        second = blobs.put(SPACE, b"b" * 1000).digest
        assert isinstance(blobs, NamedByContent)
        one, other = (self.root / blob_key(SPACE, blobs.name(SPACE, digest)) for digest in (first, second))
        one.write_bytes(other.read_bytes())
        with pytest.raises(Corrupt):
            blobs.read_all(SPACE, first)

    def _assert_nowhere(self, canary: bytes) -> None:
        assert all(canary not in path.read_bytes() for path in self.root.rglob("*") if path.is_file())


class TestEncryptedObjects(BlobsTests):
    @pytest.fixture
    def blobs(self) -> Iterator[Blobs]:
        below = ObjectBlobs(MemoryStore(), "some/prefix", small_bytes=1000, part_bytes=5 << 20, copy_bytes=10 << 20)
        store = NamedByContent(below)
        yield store
        store.close()


def test_blobs_in_the_clear_pass_through_untouched(tmp_path: Path) -> None:
    def never(space: str, key: str) -> Cipher:
        raise AssertionError(f"asked for {space} {key}")

    below = open_blobs(tmp_path)
    store = EncryptedBlobs(below, never)
    stored = store.put(SPACE, b"as it is")
    assert store.path(SPACE, stored.digest) == below.path(SPACE, stored.digest)
    assert store.read_all(SPACE, stored.digest) == b"as it is"
    assert store.size(SPACE, stored.digest) == 8
    assert store.verify(SPACE, stored.digest)
    store.close()
