"""The contract over the stores that need no server: memory, files, and the object store code over obstore's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from labkeep.storage.blobs import Blobs, MemoryBlobs
from labkeep.storage.blobs_object import ObjectBlobs
from labkeep.storage.opening import open_blobs
from labkeep.testing.blobs import BlobsTests

DIE_IN_AN_UPLOAD = """
import os, signal, sys
from labkeep.storage.blobs_local import LocalBlobs

upload = LocalBlobs(sys.argv[1]).begin("crashed")
upload.write(bytes(100_000))
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestMemoryBlobs(BlobsTests):
    @pytest.fixture
    def blobs(self) -> Iterator[Blobs]:
        store = MemoryBlobs()
        yield store
        store.close()


class TestLocalBlobs(BlobsTests):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return tmp_path / "blobs"

    @pytest.fixture
    def blobs(self, root: Path) -> Iterator[Blobs]:
        store = open_blobs(root)
        self.root = root
        yield store
        store.close()

    def leave_behind(self, blobs: Blobs) -> int:
        for _ in range(2):
            died = subprocess.run([sys.executable, "-c", DIE_IN_AN_UPLOAD, str(self.root)], check=False)
            assert died.returncode < 0
        return 2

    def test_an_upload_that_goes_on_is_not_abandoned(self, blobs: Blobs) -> None:
        with blobs.begin("space") as upload:
            upload.write(b"slow ")
            (temporary,) = (self.root / "_tmp").iterdir()
            os.utime(temporary, (1, 1))
            upload.write(b"but alive")
            assert blobs.sweep_uploads(60) == 0
            stored = upload.finish()
        assert blobs.read_all("space", stored.digest) == b"slow but alive"


class TestObjectBlobs(BlobsTests):
    """With sizes so small that the suite's data goes through every path: parts, and copies by reading."""

    @pytest.fixture
    def blobs(self) -> Iterator[Blobs]:
        self.store = MemoryStore()
        store = ObjectBlobs(self.store, "some/prefix", small_bytes=1000, part_bytes=5 << 20, copy_bytes=10 << 20)
        yield store
        store.close()

    def leave_behind(self, blobs: Blobs) -> int:
        obstore.put(self.store, "some/prefix/_tmp/0123", b"complete and never copied")
        obstore.put(self.store, "some/other/_tmp/0123", b"not ours")
        return 1


class TestObjectBlobsWhereDeletingTheMissingIsAnError(BlobsTests):
    """As it is on Google Cloud Storage and Azure; of the stores at hand obstore's own for files is like that."""

    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Iterator[Blobs]:
        store = ObjectBlobs(LocalStore(tmp_path))
        yield store
        store.close()
