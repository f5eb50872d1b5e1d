"""What is particular to files: the layout, the order of syncs and renames, full and failing disks, foreign files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkeep.core.errors import NotFound, Unavailable
from labkeep.storage.blobs_local import LocalBlobs, _disk
from labkeep.testing.blobs import ABSENT, digest_of

# The kernel itself refuses to let a file grow past the limit, in the middle of an upload.
FILL_THE_DISK = """
import json, resource, sys
from labkeep.core.errors import Unavailable
from labkeep.storage.blobs_local import LocalBlobs

blobs = LocalBlobs(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
upload = blobs.begin("space")
upload.write(bytes(70_000))
try:
    upload.write(bytes(70_000))
except Unavailable as error:
    print(json.dumps([error.message, error.details["reason"]]))
print(blobs.put("space", b"small").size)
"""


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[LocalBlobs]:
    store = LocalBlobs(tmp_path / "blobs")
    yield store
    store.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of the disk, in order: ("fsync", "file" or the folder's name) and ("replace", target)."""
    seen: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        seen.append(("fsync", path.name if path.is_dir() else "file"))
        fsync(handle)

    def watched_replace(self: Path, target: Path) -> Path:
        seen.append(("replace", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    return seen


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_blob_lies_where_the_layout_says(blobs: LocalBlobs, tmp_path: Path) -> None:
    digest = blobs.put("space", b"found").digest
    name = digest.removeprefix("sha256:")
    assert _files(tmp_path / "blobs") == [f"space/{name[:2]}/{name}"]
    assert blobs.path("space", digest) == tmp_path / "blobs" / "space" / name[:2] / name


def test_only_the_owner_may_enter_the_folder(blobs: LocalBlobs, tmp_path: Path) -> None:
    assert (tmp_path / "blobs" / "_tmp").stat().st_mode & 0o077 == 0
    blobs.put("space", b"private")
    assert (tmp_path / "blobs" / "space").stat().st_mode & 0o077 == 0


def test_a_path_of_what_is_missing_is_not_found(blobs: LocalBlobs) -> None:
    with pytest.raises(NotFound):
        blobs.path("space", ABSENT)


def test_the_bytes_are_synced_before_they_are_renamed_and_the_folder_after(
    blobs: LocalBlobs, calls: list[tuple[str, str]]
) -> None:
    digest = blobs.put("space", b"in order").digest
    name = digest[7:]
    blobs.delete("space", [digest])
    calls.clear()
    blobs.put("space", b"in order")
    assert calls == [("fsync", "file"), ("replace", name), ("fsync", name[:2])]


def test_the_first_blob_of_a_space_syncs_the_folders_above_it(blobs: LocalBlobs, calls: list[tuple[str, str]]) -> None:
    name = blobs.put("space", b"first").digest[7:]
    assert calls == [
        *(("fsync", "file"), ("fsync", "blobs"), ("fsync", "space")),
        *(("replace", name), ("fsync", name[:2])),
    ]


def test_a_deletion_syncs_each_folder_once(blobs: LocalBlobs, calls: list[tuple[str, str]]) -> None:
    digests = [blobs.put("space", str(number).encode()).digest for number in range(400)]
    folders = {digest[7:9] for digest in digests}
    calls.clear()
    assert blobs.delete("space", digests) == 400
    assert sorted(calls) == sorted(("fsync", folder) for folder in folders)


def test_a_full_disk_is_unavailable_and_keeps_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL_THE_DISK, str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    message, reason = json.loads(printed[0])
    assert "disk of the blob store is full" in message
    assert str(tmp_path) not in message
    assert reason == "EFBIG"
    assert printed[1] == "5"
    assert [path.rpartition("/")[2] for path in _files(tmp_path)] == [digest_of(b"small")[7:]]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_way_to_have_no_room_says_that_the_disk_is_full(code: int) -> None:
    with pytest.raises(Unavailable, match="is full"), _disk():
        raise OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE])
def test_a_disk_that_fails_otherwise_says_how(code: int) -> None:
    with pytest.raises(Unavailable, match=os.strerror(code)) as caught, _disk():
        raise OSError(code, os.strerror(code), "/some/secret/path")
    assert caught.value.details["reason"] == errno.errorcode[code]
    assert "secret" not in caught.value.message


def test_a_failed_sync_is_unavailable_and_keeps_nothing(
    blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(Unavailable):
            blobs.put("space", b"lost")
    assert _files(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable, match=str(tmp_path / "file" / "blobs")):
        LocalBlobs(tmp_path / "file" / "blobs")


def test_a_folder_that_was_removed_by_hand_is_made_again(blobs: LocalBlobs, tmp_path: Path) -> None:
    digest = blobs.put("space", b"once more").digest
    shutil.rmtree(tmp_path / "blobs" / "space")
    with pytest.raises(NotFound):
        blobs.read("space", digest)
    blobs.put("space", b"once more")
    assert blobs.read_all("space", digest) == b"once more"


def test_a_root_that_is_gone_is_unavailable(blobs: LocalBlobs, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "blobs")
    with pytest.raises(Unavailable):
        blobs.put("space", b"nowhere")
    assert list(blobs.list()) == []


@pytest.mark.parametrize("damage", [b"", b"shorten", b"damaged!", b"longer than before"])
def test_a_damaged_blob_does_not_verify_and_a_new_upload_repairs_it(blobs: LocalBlobs, damage: bytes) -> None:
    digest = blobs.put("space", b"original").digest
    path = blobs.path("space", digest)
    assert path is not None
    path.write_bytes(damage)
    assert not blobs.verify("space", digest)
    blobs.put("space", b"original")
    assert blobs.verify("space", digest)


def test_foreign_files_are_neither_listed_nor_swept(blobs: LocalBlobs, tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    digest = blobs.put("space", b"ours").digest
    shard = root / "space" / digest[7:9]
    foreign = [
        *(root / "README", root / "space" / "notes.txt", shard / "notes.txt", shard / ("0" * 63), shard / ("f" * 64)),
        *(root / "lost+found" / "aa" / ("a" * 64), root / "Space" / "aa" / ("a" * 64), root / "space" / "aaa" / "x"),
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not ours")
    (root / "space" / "00" / ("0" * 64)).mkdir(parents=True)
    assert [listed.digest for listed in blobs.list()] == [digest]
    assert blobs.sweep_uploads(0) == 0
    assert all(path.exists() for path in foreign)


def test_two_stores_may_share_a_folder(blobs: LocalBlobs, tmp_path: Path) -> None:
    other = LocalBlobs(tmp_path / "blobs")
    digest = blobs.put("space", b"shared").digest
    assert other.put("space", b"shared").digest == digest
    assert other.delete("space", [digest]) == 1
    with pytest.raises(NotFound):
        blobs.size("space", digest)
    other.close()


def test_a_reader_gets_the_rest_of_what_is_deleted_under_it(blobs: LocalBlobs) -> None:
    data = os.urandom(3_000_000)
    digest = blobs.put("space", data).digest
    pieces = blobs.read("space", digest)
    first = next(pieces)
    blobs.delete("space", [digest])
    assert first + b"".join(pieces) == data


def test_no_handle_stays_open(blobs: LocalBlobs) -> None:
    handles = Path("/dev/fd")
    digest = blobs.put("space", bytes(3_000_000)).digest
    before = len(list(handles.iterdir()))
    readers: list[Any] = [blobs.read("space", digest) for _ in range(5)]
    next(readers[0])
    uploads = [blobs.begin("space") for _ in range(5)]
    for upload in uploads:
        upload.abort()
    listing = blobs.list()
    next(listing)
    del readers, listing
    assert len(list(handles.iterdir())) == before


def test_a_relative_root_outlives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blobs = LocalBlobs("blobs")
    monkeypatch.chdir("/")
    digest = blobs.put("space", b"here").digest
    assert (tmp_path / "blobs" / "space" / digest[7:9] / digest[7:]).is_file()
    blobs.close()
