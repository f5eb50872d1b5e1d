"""Attachments on Braintrust's wire, and the files that they are natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import ItemVerb, ListFiles
from labkeep.dialects.braintrust import DIALECT
from labkeep.dialects.braintrust.events import attached_in
from labkeep.operations import Store, deletions, files
from labkeep.testing.factories import FixedClock

KEY = "5f0c8f0e-7c2c-4b52-9a1c-111111111111"


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


@pytest.fixture
def project(api: TestClient) -> str:
    return str(api.post("/v1/project", json={"name": "p"}).json()["id"])


@pytest.fixture
def experiment(api: TestClient, project: str) -> str:
    return str(api.post("/v1/experiment", json={"project_id": project, "name": "e"}).json()["id"])


def reference(key: str = KEY, filename: str = "a.txt") -> dict[str, Any]:
    return {"type": "braintrust_attachment", "key": key, "filename": filename, "content_type": "text/plain"}


def refer(api: TestClient, id: str, word: str = "experiment", **named: Any) -> None:
    events = [{"id": "r", "input": {"deep": [{"file": reference(**named)}]}}]
    assert api.post(f"/v1/{word}/{id}/insert", json={"events": events}).status_code == 200


def ask(api: TestClient, key: str = KEY, filename: str = "a.txt") -> Any:
    return api.post("/attachment", json={"key": key, "filename": filename, "content_type": "text/plain", "org_id": "o"})


def upload(api: TestClient, link: str, data: bytes) -> Any:
    """Without a key, as the client uploads to another store."""
    headers = {"content-type": "text/plain", "authorization": ""}
    return api.put(urlsplit(link).path.removeprefix(DIALECT.prefix), content=data, headers=headers)


def download(api: TestClient, key: str = KEY) -> bytes:
    answered = api.get("/attachment", params={"key": key, "filename": "a.txt", "content_type": "text/plain"}).json()
    assert answered["status"] == {"upload_status": "done"}, answered
    path = urlsplit(answered["downloadUrl"]).path.removeprefix(DIALECT.prefix)
    found = api.get(path, headers={"authorization": ""})
    assert found.status_code == 200, found.text
    assert found.headers["x-content-type-options"] == "nosniff"
    return found.content


def native(store: Store, admin: Actor, id: str) -> list[str]:
    return [file.path for file in store.database.read(files.list_, admin, ListFiles(id=id)).items]


def test_bytes_follow_the_row_and_are_a_file_of_its_run(
    api: TestClient, experiment: str, store: Store, admin: Actor
) -> None:
    refer(api, experiment)
    asked = ask(api).json()
    assert asked["signedUrl"].startswith("http://labkeep.test/braintrust/attachment/blob/")
    assert asked["headers"] == {"content-type": "text/plain"}
    waiting = api.get("/attachment", params={"key": KEY}).json()
    assert waiting["status"] == {"upload_status": "uploading"}
    assert upload(api, asked["signedUrl"], b"hello").status_code == 200
    assert api.post("/attachment/status", json={"key": KEY, "status": {"upload_status": "done"}}).status_code == 200
    assert download(api) == b"hello"
    assert native(store, admin, experiment) == [f"attachments/{KEY}/a.txt"]


def test_an_attachment_that_no_row_refers_to_is_refused(api: TestClient) -> None:
    refused = ask(api)
    assert refused.status_code == 400
    assert "write the row first" in refused.text


def test_whoever_refers_to_an_attachment_later_has_it_too(
    api: TestClient, project: str, experiment: str, store: Store, admin: Actor
) -> None:
    dataset = api.post("/v1/dataset", json={"project_id": project, "name": "d"}).json()["id"]
    refer(api, dataset, "dataset")
    upload(api, ask(api).json()["signedUrl"], b"shared")
    refer(api, experiment)
    refer(api, experiment)
    assert native(store, admin, experiment) == native(store, admin, dataset) == [f"attachments/{KEY}/a.txt"]
    api.delete(f"/v1/dataset/{dataset}")
    assert download(api) == b"shared"


def test_an_upload_reaches_all_that_were_waiting(
    api: TestClient, project: str, experiment: str, store: Store, admin: Actor
) -> None:
    refer(api, project, "project_logs")
    refer(api, experiment)
    upload(api, ask(api).json()["signedUrl"], b"both")
    assert native(store, admin, experiment) == [f"attachments/{KEY}/a.txt"]


def test_an_attachment_goes_and_comes_back_with_its_run(
    api: TestClient, experiment: str, store: Store, admin: Actor
) -> None:
    refer(api, experiment)
    link = ask(api).json()["signedUrl"]
    upload(api, link, b"x")
    api.delete(f"/v1/experiment/{experiment}")
    assert api.get("/attachment", params={"key": KEY}).status_code == 400
    assert ask(api).status_code == 400
    store.database.write(deletions.restore_item, admin, ItemVerb(id=experiment))
    assert download(api) == b"x"


@pytest.mark.parametrize(
    ("filename", "stored"),
    [("pict/ure 1.png", "pict_ure 1.png"), ("..", "file"), ("", "file"), ("é" * 200, "é" * 100), ("a\x00b", "a_b")],
)
def test_a_file_name_is_made_fit_for_a_path(
    api: TestClient, experiment: str, store: Store, admin: Actor, filename: str, stored: str
) -> None:
    refer(api, experiment)
    upload(api, ask(api, filename=filename).json()["signedUrl"], b"x")
    assert native(store, admin, experiment) == [f"attachments/{KEY}/{stored}"]


def test_a_key_may_be_any_text(api: TestClient, experiment: str) -> None:
    refer(api, experiment, key="../../x y%")
    upload(api, ask(api, key="../../x y%").json()["signedUrl"], b"odd")
    assert download(api, "../../x y%") == b"odd"


def test_a_link_is_good_for_one_direction_and_one_day(api: TestClient, experiment: str, clock: FixedClock) -> None:
    refer(api, experiment)
    link = urlsplit(ask(api).json()["signedUrl"]).path.removeprefix(DIALECT.prefix)
    assert api.get(link).status_code == 400
    assert api.put(link + "x", content=b"x").status_code == 401
    clock.advance(hours=25)
    assert api.put(link, content=b"x").status_code == 401


def test_a_viewer_may_download_and_not_upload(
    api: TestClient, experiment: str, client_of: Callable[..., TestClient], new_key: Callable[..., str]
) -> None:
    refer(api, experiment)
    upload(api, ask(api).json()["signedUrl"], b"seen")
    viewer = client_of(DIALECT, key=new_key("viewer"))
    assert ask(viewer).status_code == 403
    assert download(viewer) == b"seen"


@pytest.mark.parametrize("body", [[], {}, {"key": ""}, {"key": 5}, {"key": "k", "filename": 5}])
def test_a_bad_request_for_a_link_is_refused(api: TestClient, body: Any) -> None:
    assert api.post("/attachment", json=body).status_code == 400


def test_an_attachment_in_another_store_is_not_fetched_for_the_client(api: TestClient) -> None:
    assert api.get("/attachment", params={"url": "s3://bucket/key"}).status_code == 501


def test_references_are_found_wherever_they_stand() -> None:
    value = {"a": reference("1"), "b": [reference("2"), {"type": "other", "key": "3"}], "type": "braintrust_attachment"}
    assert list(attached_in(value)) == ["1", "2"]
