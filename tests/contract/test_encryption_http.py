"""A project that encrypts, over HTTP and with the SDK: uploads say what they are for, and everything else is as ever."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

import labkeep
from labkeep import Api, Labkeep, errors
from tests.fault.processes import find, wait_for_jobs
from tests.unit.client.live_server import Live, serving

CONTENT = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(10_000))
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Lab(NamedTuple):
    """A server whose project ``secret`` encrypts: its owner's client, and requests that are not the client's."""

    live: Live
    owner: Labkeep
    http: httpx2.Client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LABKEEP_MASTER_KEY", "e5" * 32)
        with serving(folder) as live, live.client() as owner:
            owner.projects.create("secret", settings={"encrypt": True})
            own = {"Authorization": f"Bearer {live.key}"}
            with httpx2.Client(base_url=f"{live.url}/api/v1", headers=own) as http:
                yield Lab(live, owner, http)


@pytest.fixture(autouse=True)
def settings(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("URL", lab.live.url), ("API_KEY", lab.live.key), ("SPOOL", str(tmp_path)), ("QUIET", "1")):
        monkeypatch.setenv(f"LABKEEP_{name}", value)


def run_with_file(client: Labkeep) -> str:
    id = client.runs.create("secret", status="finished").id
    client.files.upload(id, "big.bin", CONTENT)
    return id


@pytest.mark.parametrize(
    "span", [(0, 1), (65_535, 65_537), (65_536, 131_072), (100_000, 319_999), (319_999, 320_000), (0, 320_000)]
)
def test_a_range_of_an_encrypted_file_is_that_of_its_content(lab: Lab, span: tuple[int, int]) -> None:
    id = run_with_file(lab.owner)
    start, end = span
    answer = lab.http.get(f"/files/{id}/content?path=big.bin", headers={"Range": f"bytes={start}-{end - 1}"})
    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["etag"] == f'"{DIGEST}"'


def test_clients_see_the_digest_of_the_content_and_check_downloads_by_it(lab: Lab, tmp_path: Path) -> None:
    id = run_with_file(lab.owner)
    (file,) = lab.owner.files.list(id)
    assert (file.digest, file.size) == (DIGEST, len(CONTENT))
    assert lab.owner.files.download(id, "big.bin", tmp_path / "copy").read_bytes() == CONTENT


def test_bytes_for_nobody_are_refused_and_those_for_a_project_are_not(lab: Lab) -> None:
    refused = lab.http.put("/blobs", content=b"for whom?")
    assert refused.status_code == 422
    assert "PUT /blobs?project=NAME" in refused.json()["message"]
    with pytest.raises(errors.Invalid, match="say for which project"):
        lab.owner.blobs.upload(b"for whom?")
    digest = lab.owner.blobs.upload(b"for the secret project", project="secret")
    assert lab.owner.blobs.exists(digest, project="secret")
    assert not lab.owner.blobs.exists(digest)
    assert not lab.owner.blobs.exists(digest, project="lab")


def test_a_wrong_digest_keeps_nothing(lab: Lab, folder: Path) -> None:
    before = {path for path in (folder / "blobs").rglob("*") if path.is_file()}
    with pytest.raises(errors.Invalid, match="nothing was kept"):
        lab.owner.blobs.upload(b"not these", digest=DIGEST, project="secret")
    assert {path for path in (folder / "blobs").rglob("*") if path.is_file()} == before


def test_a_tracked_run_leaves_no_word_in_the_clear_and_reads_as_ever(lab: Lab, folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"word-in-the-weights " * 5_000)
    with labkeep.init("secret", name="tracked") as run:
        for step in range(20):
            run.log({"loss": 1 / (step + 1), "said": f"word-in-the-history-{step}"})
        artifact = labkeep.Artifact("model", type="model")
        artifact.add_file(weights)
        run.log_artifact(artifact)
        id = run.id
    wait_for_jobs(lab.owner)
    words = ["word-in-the-weights", "word-in-the-history-7"]
    assert find(folder, words) == {}
    found = Api().run(f"secret/{id}") if "/" in id else Api().run(id)
    assert [row["said"] for row in found.history()][7] == "word-in-the-history-7"
    version = lab.owner.artifacts.resolve("secret", "model")
    assert lab.owner.files.read(version.id, "weights.bin") == weights.read_bytes()
    assert lab.owner.projects.encryption("secret").plain_bytes == 0


def test_a_request_that_is_sent_twice_gets_its_answer_twice(lab: Lab) -> None:
    body = b'{"project": "secret", "type": "prompt", "name": "twice", "body": {"text": "word-in-an-answer"}}'
    headers = {"Content-Type": "application/json", "Idempotency-Key": "twice"}
    first, second = (lab.http.post("/documents", content=body, headers=headers) for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.content == second.content


def test_a_purge_says_how_many_keys_it_destroyed(lab: Lab) -> None:
    client = lab.owner
    run = client.runs.create("secret", status="finished")
    client.files.upload(run.id, "only.txt", b"only here")
    client.rows.write(run.id, [{"id": "r", "data": {"input": "x"}}])
    client.runs.trash(run.id)
    client.runs.purge(run.id)
    wait_for_jobs(client)
    receipt = next(iter(client.receipts.list()))
    assert receipt.body["encryption"] == {"keys_destroyed": 2}
