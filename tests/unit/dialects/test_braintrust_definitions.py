"""Prompts and functions on Braintrust's wire, and the queries that the SDK sends as trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateDocument, Get, ListVersions
from labkeep.dialects.braintrust import DIALECT
from labkeep.dialects.braintrust.events import xact_in
from labkeep.operations import Store, documents
from labkeep.testing.factories import FixedClock


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


@pytest.fixture
def project(api: TestClient) -> str:
    return str(api.post("/v1/project", json={"name": "p"}).json()["id"])


@pytest.fixture
def greet(project: str) -> Callable[[str], dict[str, Any]]:
    def body(text: str) -> dict[str, Any]:
        prompt = {"prompt": {"type": "chat", "messages": [text]}, "options": {"model": "m"}}
        return {"project_id": project, "name": "Greet", "slug": "greet", "description": text, "prompt_data": prompt}

    return body


Greet = Callable[[str], dict[str, Any]]

# --- prompts and functions --------------------------------------------------------------------------------------------


def test_post_answers_the_prompt_of_the_slug_and_put_replaces_it(api: TestClient, greet: Greet) -> None:
    first = api.post("/v1/prompt", json=greet("one")).json()
    assert first["prompt_data"]["prompt"]["messages"] == ["one"]
    assert (first["log_id"], first["slug"], len(first["_xact_id"])) == ("p", "greet", 19)
    assert api.post("/v1/prompt", json=greet("ignored")).json() == first
    second = api.put("/v1/prompt", json=greet("two")).json()
    assert second["id"] == first["id"]
    assert second["_xact_id"] > first["_xact_id"]
    assert second["description"] == "two"


def test_a_version_answers_the_prompt_as_it_was(api: TestClient, greet: Greet, clock: FixedClock) -> None:
    first = api.post("/v1/prompt", json=greet("one")).json()
    clock.advance(seconds=3)
    second = api.put("/v1/prompt", json=greet("two")).json()
    path = f"/v1/prompt/{first['id']}"
    assert api.get(path, params={"version": first["_xact_id"]}).json() == first
    assert api.get(path).json() == second
    found = api.get("/v1/prompt", params={"slug": "greet", "project_name": "p", "version": first["_xact_id"]}).json()
    assert found["objects"] == [first]
    assert api.get(path, params={"version": "1000000000000000000"}).status_code == 403
    # Clients print versions in a shorter form, and people paste that.
    pretty = f"{int(first['_xact_id']) * 205891132094649 % 2**64:016x}"
    assert api.get(path, params={"version": pretty}).json() == first


def test_a_patch_makes_a_new_version(api: TestClient, greet: Greet) -> None:
    first = api.post("/v1/prompt", json=greet("one")).json()
    patch = {"prompt_data": {"options": {"temperature": 0}, "prompt": None}, "name": "Hello"}
    second = api.patch(f"/v1/prompt/{first['id']}", json=patch).json()
    assert second["prompt_data"] == {**first["prompt_data"], "options": {"model": "m", "temperature": 0}}
    assert (second["name"], second["slug"], second["description"]) == ("Hello", "greet", "one")
    assert second["_xact_id"] > first["_xact_id"]
    assert api.patch(f"/v1/prompt/{first['id']}", json={"slug": "other"}).status_code == 501


def test_a_prompt_is_a_document_with_versions_natively(
    api: TestClient, greet: Greet, store: Store, admin: Actor
) -> None:
    made = api.post("/v1/prompt", json=greet("one")).json()
    api.put("/v1/prompt", json=greet("two"))
    found = store.database.read(documents.get, admin, Get(id=made["id"]))
    assert (found.type, found.handle, found.latest, found.description) == ("prompt", "greet", 2, "two")
    versions = store.database.read(documents.list_versions, admin, ListVersions(id=made["id"])).items
    assert [version.body["description"] for version in versions] == ["two", "one"]


def test_a_prompt_that_was_made_natively_is_shown(api: TestClient, project: str, store: Store, admin: Actor) -> None:
    command = CreateDocument(project="p", type="prompt", name="My Prompt", handle=None)
    made = store.database.write(documents.create, admin, command)
    shown = api.get(f"/v1/prompt/{made.id}").json()
    assert (shown["name"], shown["slug"], shown["prompt_data"]) == ("My Prompt", "my-prompt", None)


def test_a_deleted_prompt_is_gone_and_its_slug_is_free(api: TestClient, greet: Greet) -> None:
    made = api.post("/v1/prompt", json=greet("one")).json()
    assert api.delete(f"/v1/prompt/{made['id']}").json() == {**made, "deleted_at": "2026-03-01T12:00:00Z"}
    assert api.get(f"/v1/prompt/{made['id']}").status_code == 403
    assert api.delete(f"/v1/prompt/{made['id']}").status_code == 400
    assert api.get("/v1/prompt", params={"slug": "greet"}).json() == {"objects": []}
    assert api.post("/v1/prompt", json=greet("new")).json()["id"] != made["id"]


def test_prompts_and_functions_of_one_slug_are_two_things(api: TestClient, greet: Greet) -> None:
    prompt = api.post("/v1/prompt", json=greet("one")).json()
    data = {"type": "parameters", "data": {"k": 1}, "__schema": {"type": "object"}}
    function = api.post("/v1/function", json={**greet("f"), "function_data": data}).json()
    assert function["function_data"] == data
    assert api.get(f"/v1/function/{prompt['id']}").status_code == 403
    assert [found["id"] for found in api.get("/v1/function?slug=greet").json()["objects"]] == [function["id"]]


def test_an_environment_is_refused_rather_than_ignored(api: TestClient, greet: Greet) -> None:
    api.post("/v1/prompt", json=greet("one"))
    assert api.get("/v1/prompt", params={"slug": "greet", "environment": "production"}).status_code == 501


# --- queries ----------------------------------------------------------------------------------------------------------


def ident(*path: str) -> dict[str, Any]:
    return {"op": "ident", "name": list(path)}


def literal(value: Any) -> dict[str, Any]:
    return {"op": "literal", "value": value}


def compare(op: str, path: str, value: Any) -> dict[str, Any]:
    return {"op": op, "left": ident(*path.split(".")), "right": literal(value)}


def query(source: str, id: str, **clauses: Any) -> dict[str, Any]:
    origin = {"op": "function", "name": ident(source), "args": [literal(id)]}
    return {"query": {"select": [{"op": "star"}], "from": origin, **clauses}}


@pytest.fixture
def experiment(api: TestClient, project: str) -> str:
    id = str(api.post("/v1/experiment", json={"project_id": project, "name": "e"}).json()["id"])
    events = [
        {
            "id": f"{trace}-{kind}",
            "span_id": f"{trace}-{kind}",
            "root_span_id": trace,
            "span_attributes": {"type": kind} | ({"purpose": "scorer"} if kind == "score" else {}),
            "metrics": {"start": 1, "end": 1 + number},
            "metadata": {"n": number, "deep": {"flag": True}},
        }
        for number, trace in enumerate("abc")
        for kind in ("eval", "llm", "score")
    ]
    api.post(f"/v1/experiment/{id}/insert", json={"events": events})
    return id


def ids(api: TestClient, body: dict[str, Any]) -> list[str]:
    response = api.post("/btql", json=body)
    assert response.status_code == 200, response.text
    return [event["id"] for event in response.json()["data"]]


def test_a_trace_is_queried_without_its_scorers_as_the_sdk_does(api: TestClient, experiment: str) -> None:
    purpose = ident("span_attributes", "purpose")
    no_scorer = [{"op": "isnull", "expr": purpose}, {"op": "ne", "left": purpose, "right": literal("scorer")}]
    condition = {"op": "and", "children": [compare("eq", "root_span_id", "b"), {"op": "or", "children": no_scorer}]}
    assert ids(api, query("experiment", experiment, filter=condition, limit=1000, cursor=None)) == ["b-eval", "b-llm"]
    assert ids(api, query("experiment", experiment, filter=compare("eq", "root_span_id", "nowhere"))) == []


@pytest.mark.parametrize(
    ("condition", "traces"),
    [
        (compare("eq", "metadata.n", 1), "b"),
        (compare("eq", "metadata.n", 1.0), "b"),
        (compare("eq", "metadata.n", "1"), ""),
        (compare("eq", "metadata.n", True), ""),
        (compare("eq", "metadata.deep", {"flag": True}), "abc"),
        (compare("ne", "metadata.n", 1), "ac"),
        (compare("ne", "metadata.missing", 1), ""),
        (compare("in", "metadata.n", [0, 2]), "ac"),
        (compare("ge", "metadata.n", 1), "bc"),
        (compare("lt", "metadata.n", "x"), ""),
        ({"op": "le", "left": {"op": "sub", "left": ident("metrics", "end"), "right": ident("metrics", "start")}, "right": literal(1)}, "ab"),
        ({"op": "not", "expr": compare("eq", "metadata.n", 1)}, "ac"),
        ({"op": "isnotnull", "expr": ident("metadata", "deep", "flag")}, "abc"),
        ({"op": "isnull", "expr": ident("error")}, "abc"),
        (literal(False), ""),
        ({"op": "or", "left": compare("eq", "metadata.n", 0), "right": literal(None)}, "a"),
    ],
)  # fmt: skip
def test_conditions_mean_what_they_say(api: TestClient, experiment: str, condition: Any, traces: str) -> None:
    found = ids(api, query("experiment", experiment, filter=condition))
    assert "".join(sorted({id[0] for id in found})) == traces


def test_pages_of_a_query_go_on_to_the_end(api: TestClient, experiment: str) -> None:
    found: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        body = query("experiment", experiment, limit=2, cursor=cursor)
        answered = api.post("/btql", json=body).json()
        found += [event["id"] for event in answered["data"]]
        cursor = answered["cursor"]
        if cursor is None:
            break
    assert len(found) == len(set(found)) == 9


def test_a_query_at_a_version_sees_that_state(api: TestClient, experiment: str, clock: FixedClock) -> None:
    version = api.post("/btql", json=query("experiment", experiment)).json()["data"][0]["_xact_id"]
    clock.advance(seconds=2)
    api.post(f"/v1/experiment/{experiment}/insert", json={"events": [{"id": "late"}]})
    assert "late" in ids(api, query("experiment", experiment))
    assert "late" not in ids(api, query("experiment", experiment) | {"version": version})


def test_the_history_of_a_prompt_is_queried_as_its_audit_log(api: TestClient, project: str, greet: Greet) -> None:
    made = api.post("/v1/prompt", json=greet("one")).json()
    api.put("/v1/prompt", json=greet("two"))
    api.post("/v1/prompt", json={**greet("x"), "slug": "other"})
    body = query("project_prompts", project, filter=compare("eq", "id", made["id"])) | {"audit_log": True}
    data = api.post("/btql", json=body).json()["data"]
    assert [entry["audit_data"] for entry in data] == [{"action": "upsert"}] * 2
    assert [entry["description"] for entry in data] == ["two", "one"]
    assert xact_in(data[0]["_xact_id"]) > xact_in(data[1]["_xact_id"])
    assert len(ids(api, query("project_prompts", project))) == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"query": "select: * | from: experiment('x')"}, 501),
        ({}, 400),
        ([], 400),
        ({"query": {"select": [{"op": "star"}]}}, 400),
        (query("experiment", "not-an-id"), 400),
        (query("playground_logs", "x"), 501),
        (query("experiment", "x", dimensions=[1]), 501),
        (query("experiment", "x") | {"audit_log": True}, 501),
        (query("experiment", "x", filter={"op": "match"}), 501),
        (query("experiment", "x", filter="id = 1"), 400),
        (query("experiment", "x", filter={"op": "and", "children": 5}), 400),
        (query("experiment", "x", select=[ident("id")]), 501),
        (query("experiment", "x", limit="many"), 400),
    ],
)
def test_a_query_beyond_what_clients_send_is_refused(api: TestClient, body: Any, status: int) -> None:
    assert api.post("/btql", json=body).status_code == status
