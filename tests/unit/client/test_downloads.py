"""Files from a server: complete and right, in the folder that was named, or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from labkeep import Labkeep, errors
from labkeep.client.artifact import Artifact
from labkeep.client.downloads import Download, safe_path
from labkeep.core.entities import ArtifactVersion
from tests.unit.client.fake_server import NOW, ORGANIZATION, FakeServer

OWNER = "00000000-0000-7000-8000-000000000009"
DIGEST = f"sha256:{hashlib.sha256(b'content').hexdigest()}"


def test_a_download_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "f.bin"
    with Download(target, DIGEST) as download:
        download.write(b"from a try before")
        download.restart()
        download.write(b"cont")
        assert not target.exists()
        download.write(b"ent")
    assert target.read_bytes() == b"content"
    assert list(target.parent.iterdir()) == [target]


def test_wrong_bytes_leave_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "there" / "f.bin"
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(errors.Corrupt, match="nothing was written"), Download(target, DIGEST) as download:
        download.write(b"other")
    with pytest.raises(TypeError), Download(target) as download:
        download.write(b"half" if download.write(b"half") else None)  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    "path", ["", ".", "/etc/passwd", "../out", "a/../../out", "a\\..\\b", "C:/x", "c:x", "a\0b", "link/out"]
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.Invalid, match="leads out"):
        safe_path(tmp_path / "root", path)


def test_a_path_below_the_folder_is_taken(tmp_path: Path) -> None:
    assert safe_path(tmp_path, "a/b c/..d") == tmp_path / "a" / "b c" / "..d"
    assert safe_path(tmp_path, "run:history/x") == tmp_path / "run:history" / "x"


def found(client: Labkeep) -> Artifact:
    version = ArtifactVersion(
        id=OWNER,
        organization_id=ORGANIZATION,
        created_at=NOW,  # type: ignore[arg-type]
        updated_at=NOW,  # type: ignore[arg-type]
        kind="artifact_version",  # type: ignore[arg-type]
        workspace_id="w",
        parent_id="a",
        name="v3",
        number=3,
        digest="sha256:00",
    )
    return Artifact.found(client, "model", version)


def test_an_artifact_is_downloaded_whole(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server.files = {(OWNER, "a.txt"): b"a", (OWNER, "sub/b.txt"): b"b"}
    with Labkeep() as client:
        assert found(client).download() == "artifacts/model-v3"
        assert (tmp_path / "artifacts/model-v3/sub/b.txt").read_bytes() == b"b"
        fetched = len(server.asked("GET", "/content"))
        (tmp_path / "artifacts/model-v3/a.txt").write_bytes(b"damaged")
        found(client).download()
        assert len(server.asked("GET", "/content")) == fetched + 1
    assert (tmp_path / "artifacts/model-v3/a.txt").read_bytes() == b"a"


def test_an_artifact_with_a_hostile_path_writes_nothing(server: FakeServer, tmp_path: Path) -> None:
    server.files = {(OWNER, "a.txt"): b"a", (OWNER, "../../evil"): b"b"}
    with Labkeep() as client, pytest.raises(errors.Invalid, match="leads out"):
        found(client).download(tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_file_is_read_and_downloaded_by_path(server: FakeServer, tmp_path: Path) -> None:
    server.files = {(OWNER, "a.txt"): b"a", (OWNER, "a.txt.old"): b"old"}
    with Labkeep() as client:
        assert client.files.read(OWNER, "a.txt") == b"a"
        assert client.files.download(OWNER, "a.txt", tmp_path / "x" / "y").read_bytes() == b"a"
        with pytest.raises(errors.NotFound, match="file b not found"):
            client.files.download(OWNER, "b", tmp_path / "z")
