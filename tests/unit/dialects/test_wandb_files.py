"""Links to files: what they are good for, for how long, and for whom. And artifacts, which are made of them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateArtifactVersion, CreateWorkspace, ManifestEntry, RevokeKey
from labkeep.dialects.wandb import DIALECT
from labkeep.dialects.wandb.stored import parse
from labkeep.operations import Store, accounts, artifacts, files
from labkeep.testing.factories import FixedClock

UPSERT = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
CREATE = """mutation M($files: [String!]!) { createRunFiles(input: {entityName: "default", projectName: "p", runName: "r1",
  files: $files}) { runID uploadHeaders files { name uploadUrl } } }"""
FILES = """query Q($names: [String], $pattern: String) { project(name: "p") { run(name: "r1") { fileCount
  files(names: $names, pattern: $pattern) { edges { node { id name url directUrl sizeBytes mimetype } } } } } }"""


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    client = client_of(DIALECT)
    ask(client, UPSERT, input={"name": "r1", "modelName": "p", "host": "h"})
    return client


@pytest.fixture
def stranger(client_of: Callable[..., TestClient]) -> TestClient:
    """A client without a key."""
    client = client_of(DIALECT)
    del client.headers["authorization"]
    return client


def ask(api: TestClient, query: str, **variables: Any) -> dict[str, Any]:
    response = api.post("/graphql", json={"query": query, "variables": variables})
    assert response.status_code == 200, response.text
    return dict(response.json()["data"])


def upload_links(api: TestClient, *names: str) -> list[str]:
    found = ask(api, CREATE, files=list(names))["createRunFiles"]["files"]
    assert [file["name"] for file in found] == list(names)
    return [file["uploadUrl"] for file in found]


def listed(api: TestClient, **asked: Any) -> list[dict[str, Any]]:
    return [edge["node"] for edge in ask(api, FILES, **asked)["project"]["run"]["files"]["edges"]]


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_file_goes_up_and_comes_down_without_a_key(api: TestClient, stranger: TestClient) -> None:
    [url] = upload_links(api, "media/a b.txt")
    assert url.startswith("http://labkeep.test/wandb/storage/")
    assert stranger.put(url, content=b"hello").status_code == 200
    [file] = listed(api)
    assert (file["name"], file["sizeBytes"]) == ("media/a b.txt", 5)
    response = stranger.get(file["directUrl"])
    assert (response.content, response.headers["access-control-allow-origin"]) == (b"hello", "*")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert stranger.get(file["directUrl"], headers={"range": "bytes=1-2"}).content == b"el"
    assert stranger.options(file["directUrl"]).headers["access-control-allow-origin"] == "*"


def test_the_same_upload_again_changes_nothing(api: TestClient, stranger: TestClient) -> None:
    [url] = upload_links(api, "a.txt")
    for _ in range(2):
        assert stranger.put(url, content=b"hello").status_code == 200
    assert len(listed(api)) == 1


def test_links_carry_the_address_that_a_proxy_is_reached_under(client_of: Callable[..., TestClient]) -> None:
    client = client_of(DIALECT, public_url="https://lab.example/keep")
    ask(client, UPSERT, input={"name": "r1", "modelName": "p", "host": "h"})
    [url] = upload_links(client, "a.txt")
    assert url.startswith("https://lab.example/keep/wandb/storage/")


def test_a_link_is_good_for_one_thing(api: TestClient, stranger: TestClient) -> None:
    [url] = upload_links(api, "a.txt")
    stranger.put(url, content=b"hello")
    assert stranger.get(url).status_code == 404
    assert stranger.put(listed(api)[0]["directUrl"], content=b"other").status_code == 404


@pytest.mark.parametrize("at", [0, 30, -1])
def test_a_forged_link_is_refused(api: TestClient, stranger: TestClient, at: int) -> None:
    [url] = upload_links(api, "a.txt")
    head, token, name = url.rsplit("/", 2)
    forged = token[:at] + ("A" if token[at] != "A" else "B") + (token[at + 1 :] if at != -1 else "")
    assert stranger.put(f"{head}/{forged}/{name}", content=b"x").status_code == 401
    assert stranger.put(f"{head}/{token[: len(token) // 2]}/{name}", content=b"x").status_code == 401


def test_the_path_in_a_link_is_only_for_show(api: TestClient, stranger: TestClient) -> None:
    [url] = upload_links(api, "a.txt")
    stranger.put(url.removesuffix("a.txt") + "other.txt", content=b"hello")
    assert [file["name"] for file in listed(api)] == ["a.txt"]


def test_a_link_ends_after_a_day(api: TestClient, stranger: TestClient, clock: FixedClock) -> None:
    [url] = upload_links(api, "a.txt")
    clock.advance(days=1, seconds=1)
    assert stranger.put(url, content=b"hello").status_code == 401


def test_a_link_ends_with_its_key(
    client_of: Callable[..., TestClient], stranger: TestClient, store: Store, admin: Actor, new_key: Callable[..., str]
) -> None:
    client = client_of(DIALECT, key=new_key("editor"))
    ask(client, UPSERT, input={"name": "r1", "modelName": "p", "host": "h"})
    [url] = upload_links(client, "a.txt")
    [key] = [
        key for key in store.database.read(accounts.list_keys, admin, accounts.ListKeys()).items if key.user == "ada"
    ]
    store.database.write(accounts.revoke_key, admin, RevokeKey(id=key.id))
    assert stranger.put(url, content=b"hello").status_code == 401


def test_files_are_found_by_name_and_pattern_and_taken_away(api: TestClient, stranger: TestClient) -> None:
    for url in upload_links(api, "a.txt", "media/b.png", "media/c.png"):
        stranger.put(url, content=b"x")
    assert [file["name"] for file in listed(api, names=["./a.txt", "none"])] == ["a.txt"]
    found = listed(api, pattern="media/%")
    assert [file["name"] for file in found] == ["media/b.png", "media/c.png"]
    query = "mutation M($files: [ID]!) { deleteFiles(input: {files: $files}) { success } }"
    for _ in range(2):
        ask(api, query, files=[file["id"] for file in found])
    assert [file["name"] for file in listed(api)] == ["a.txt"]


def test_a_path_that_leads_upwards_is_refused(api: TestClient) -> None:
    response = api.post("/graphql", json={"query": CREATE, "variables": {"files": ["../../etc/passwd"]}})
    assert response.status_code == 422


# --- artifacts --------------------------------------------------------------------------------------------------------

NEW = """mutation M($input: CreateArtifactInput!) { createArtifact(input: $input) { artifact { id state versionIndex } } }"""
FILL = """mutation M($input: CreateArtifactFilesInput!) { createArtifactFiles(input: $input) {
  files { edges { node { name uploadUrl artifact { id } } } } } }"""
MANIFEST = """mutation M($id: ID!) { createArtifactManifest(input: {artifactID: $id, name: "m", digest: "d", runName: "r1",
  entityName: "default", projectName: "p"}) { artifactManifest { id file { uploadUrl uploadHeaders } } } }"""
COMMIT = "mutation M($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id state versionIndex } } }"
BY_NAME = """query Q($name: String!) { project(name: "p") { artifactCollectionMembership(name: $name) { versionIndex
  artifact { id state size fileCount digest createdBy { name } aliases { alias } currentManifest { file { directUrl } }
  files { totalCount edges { node { name directUrl sizeBytes } } } } } } }"""


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def start(api: TestClient, digest: str = "d0", **more: Any) -> dict[str, Any]:
    asked = {
        "entityName": "default",
        "projectName": "p",
        "runName": "r1",
        "artifactTypeName": "dataset",
        "artifactCollectionName": "ds",
        "digest": digest,
        "digestAlgorithm": "MANIFEST_MD5",
        "aliases": [{"alias": "latest", "artifactCollectionName": "ds"}],
        **more,
    }
    return dict(ask(api, NEW, input=asked)["createArtifact"]["artifact"])


def fill(api: TestClient, stranger: TestClient, id: str, contents: dict[str, bytes], **references: Any) -> None:
    specs = [{"artifactID": id, "name": name, "md5": md5(data)} for name, data in contents.items()]
    edges = ask(api, FILL, input={"artifactFiles": specs, "storageLayout": "V2"})["createArtifactFiles"]["files"][
        "edges"
    ]
    for edge, data in zip(edges, contents.values(), strict=True):
        assert edge["node"]["artifact"]["id"] == id
        assert stranger.put(edge["node"]["uploadUrl"], content=data).status_code == 200
    entries = {name: {"digest": md5(data), "size": len(data), "birthArtifactID": id} for name, data in contents.items()}
    manifest = {"version": 1, "storagePolicy": "wandb-storage-policy-v1", "contents": {**entries, **references}}
    url = ask(api, MANIFEST, id=id)["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    assert stranger.put(url, content=json.dumps(manifest).encode()).status_code == 200


def member(api: TestClient, name: str) -> dict[str, Any] | None:
    found = ask(api, BY_NAME, name=name)["project"]["artifactCollectionMembership"]
    return None if found is None else dict(found)


def test_a_version_is_there_as_a_whole_once_it_is_committed(api: TestClient, stranger: TestClient) -> None:
    draft = start(api)
    assert (draft["state"], draft["versionIndex"]) == ("PENDING", None)
    fill(
        api,
        stranger,
        draft["id"],
        {"a.txt": b"hello", "b/c.txt": b""},
        there={"digest": "e", "ref": "s3://b/k", "size": 3},
    )
    assert member(api, "ds:latest") is None
    for _ in range(2):
        done = ask(api, COMMIT, id=draft["id"])["commitArtifact"]["artifact"]
        assert done == {"id": draft["id"], "state": "COMMITTED", "versionIndex": 0}
    found = member(api, "ds")
    assert found is not None
    artifact = found["artifact"]
    assert (artifact["size"], artifact["fileCount"], artifact["digest"]) == (8, 3, "d0")
    assert artifact["createdBy"] == {"name": "r1"}
    urls = {edge["node"]["name"]: edge["node"]["directUrl"] for edge in artifact["files"]["edges"]}
    assert urls["there"] == "s3://b/k"
    assert stranger.get(urls["a.txt"]).content == b"hello"
    manifest = stranger.get(artifact["currentManifest"]["file"]["directUrl"]).json()
    assert manifest["contents"]["a.txt"]["digest"] == md5(b"hello")


def test_an_artifact_of_a_run_in_the_trash_was_made_by_nobody(api: TestClient, stranger: TestClient) -> None:
    draft = start(api)
    fill(api, stranger, draft["id"], {"a.txt": b"hello"})
    ask(api, COMMIT, id=draft["id"])
    run = ask(api, 'query { project(name: "p") { run(name: "r1") { id } } }')["project"]["run"]
    ask(api, "mutation M($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=run["id"])
    found = member(api, "ds:latest")
    assert found is not None
    assert found["artifact"]["createdBy"] is None


def test_equal_content_is_the_version_that_is_there(api: TestClient, stranger: TestClient) -> None:
    draft = start(api)
    fill(api, stranger, draft["id"], {"a.txt": b"hello"})
    ask(api, COMMIT, id=draft["id"])
    again = start(api, aliases=[{"alias": "best", "artifactCollectionName": "ds"}])
    assert again == {"id": draft["id"], "state": "COMMITTED", "versionIndex": 0}
    assert member(api, "ds:best") is not None


LISTS = """query Q($filters: JSONString, $order: String, $versions: JSONString, $by: String) { project(name: "p") {
  artifactType(name: "dataset") {
    artifactCollections(first: 1, filters: $filters, order: $order) { totalCount edges { node { name } } }
    artifactCollection(name: "ds") { artifacts(first: 2, filters: $versions, order: $by) {
      totalCount edges { version node { digest } } } } } } }"""


def lists(api: TestClient, **asked: Any) -> tuple[int, list[str], int, list[str]]:
    """(collections in all, names on the first page, versions in all, numbers on the first page)."""
    found = ask(api, LISTS, **asked)["project"]["artifactType"]
    collections, versions = found["artifactCollections"], found["artifactCollection"]["artifacts"]
    return (
        collections["totalCount"],
        [edge["node"]["name"] for edge in collections["edges"]],
        versions["totalCount"],
        [edge["version"] for edge in versions["edges"]],
    )


def test_lists_of_artifacts_have_filters_orders_and_a_count_of_all_pages(api: TestClient, stranger: TestClient) -> None:
    for digest, name in (("d0", "ds"), ("d1", "ds"), ("d2", "ds"), ("d3", "other")):
        aliases = [{"alias": f"is-{digest}", "artifactCollectionName": name}]
        draft = start(api, digest, artifactCollectionName=name, aliases=aliases, metadata=json.dumps({"of": digest}))
        fill(api, stranger, draft["id"], {"a.txt": digest.encode()})
        ask(api, COMMIT, id=draft["id"])
    assert lists(api) == (2, ["other"], 3, ["v2", "v1"])
    assert lists(api, versions=json.dumps({"state": "COMMITTED"})) == (2, ["other"], 3, ["v2", "v1"])
    assert lists(api, order="+name", by="+versionIndex") == (2, ["ds"], 3, ["v0", "v1"])
    one = json.dumps({"metadata.of": "d1"})
    assert lists(api, filters=json.dumps({"name": {"$regex": "^o"}}), versions=one) == (1, ["other"], 1, ["v1"])
    response = api.post("/graphql", json={"query": LISTS, "variables": {"filters": json.dumps({"nothing": 1})}})
    assert response.status_code == 422
    assert "not a field" in response.text


def test_a_version_is_found_by_the_digest_of_its_client(api: TestClient, stranger: TestClient) -> None:
    digest = hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    draft = start(api, digest)
    assert member(api, f"ds:{digest}") is None, "not committed yet"
    fill(api, stranger, draft["id"], {"a.txt": b"hello"})
    ask(api, COMMIT, id=draft["id"])
    found = member(api, f"ds:{digest}")
    assert found is not None
    assert found["versionIndex"] == 0
    assert member(api, f"other:{digest}") is None


def test_what_a_client_calls_by_an_id_of_its_own_is_found_in_every_workspace(
    api: TestClient, store: Store, admin: Actor
) -> None:
    store.database.write(accounts.create_workspace, admin, CreateWorkspace(name="second"))
    ask(api, UPSERT, input={"name": "r1", "modelName": "p", "entityName": "second", "host": "h"})
    draft = start(api, clientID="c" * 128, entityName="second")
    query = "query Q($id: ID!) { clientIDMapping(clientID: $id) { serverID } }"
    assert ask(api, query, id="c" * 128) == {"clientIDMapping": {"serverID": draft["id"]}}
    assert ask(api, query, id="d" * 128) == {"clientIDMapping": None}
    assert (
        ask(api, "query Q($id: ID!) { artifact(id: $id) { state } }", id=draft["id"])["artifact"]["state"] == "PENDING"
    )


def test_creating_twice_makes_one_draft(api: TestClient) -> None:
    assert start(api, clientID="c" * 128)["id"] == start(api, clientID="c" * 128)["id"]


def test_a_manifest_that_names_a_file_that_never_came_is_refused(api: TestClient, stranger: TestClient) -> None:
    draft = start(api)
    fill(api, stranger, draft["id"], {}, **{"a.txt": {"digest": md5(b"x"), "size": 1, "birthArtifactID": draft["id"]}})
    response = api.post("/graphql", json={"query": COMMIT, "variables": {"id": draft["id"]}})
    assert response.status_code == 422
    assert "was not uploaded" in response.json()["error"]


def test_a_committed_version_cannot_be_filled_any_more(api: TestClient, stranger: TestClient) -> None:
    draft = start(api)
    fill(api, stranger, draft["id"], {"a.txt": b"hello"})
    specs = {"artifactFiles": [{"artifactID": draft["id"], "name": "a.txt", "md5": md5(b"other")}]}
    [edge] = ask(api, FILL, input=specs)["createArtifactFiles"]["files"]["edges"]
    ask(api, COMMIT, id=draft["id"])
    assert stranger.put(edge["node"]["uploadUrl"], content=b"other").status_code == 400


def test_a_version_of_another_api_has_a_manifest_too(
    api: TestClient, stranger: TestClient, store: Store, admin: Actor
) -> None:
    stored = store.blobs.put(admin.organization_id, b"hello")
    files.keep(store, admin, stored)
    entries = [
        ManifestEntry(path="a.txt", digest=stored.digest),
        ManifestEntry(path="there", digest="s3://bucket/key", size=3),
    ]
    store.database.write(
        artifacts.create_version, admin, CreateArtifactVersion(project="p", name="ds", type="dataset", files=entries)
    )
    found = member(api, "ds:v0")
    assert found is not None
    manifest = stranger.get(found["artifact"]["currentManifest"]["file"]["directUrl"]).json()
    assert manifest["contents"]["there"]["ref"] == "s3://bucket/key"
    assert manifest["contents"]["a.txt"]["size"] == 5


def test_a_file_is_served_by_its_place(api: TestClient, stranger: TestClient) -> None:
    draft = start(api)
    fill(api, stranger, draft["id"], {"b/c.txt": b"hello"})
    ask(api, COMMIT, id=draft["id"])
    place = f"/artifactsV2/default/default/p/ds/{draft['id']}/{base64.b64decode(md5(b'hello')).hex()}"
    assert api.get(f"{place}/b/c.txt").content == b"hello"
    assert api.get(f"{place}/other.txt").content == b"hello"
    assert stranger.get(f"{place}/b/c.txt").status_code == 401


def test_a_place_names_version_digest_and_path() -> None:
    id = "01a1ffd7-c15e-7001-9a39-cf1d28e8d892"
    text = base64.b64encode(f"Artifact:{id}".encode()).decode()
    assert parse(f"{text}/{text}/00ff/a/b.txt") == (id, "AP8=", "a/b.txt")
    assert parse(f"{text}/00ff/a.txt") == (id, "AP8=", "a.txt")


def test_links_are_absolute_and_below_the_prefix(api: TestClient) -> None:
    [url] = upload_links(api, "a.txt")
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("http", "labkeep.test")
    assert parts.path.startswith("/wandb/storage/")
