"""The contract of blob stores over the encrypting layer, on memory, files and the object store code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from labkeep.core.errors import Corrupt
from labkeep.storage.blobs import (
    Blobs,
    MemoryBlobs,
    blob_key,
)
from labkeep.storage.blobs_encrypted import EncryptedBlobs
from labkeep.storage.blobs_object import ObjectBlobs
from labkeep.storage.cipher import FRAME_BYTES, Cipher
from labkeep.storage.opening import open_blobs
from labkeep.testing.blobs import OTHER_SPACE, SPACE, BlobsTests
from tests.contract.encrypted_blobs import NamedByContent


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
