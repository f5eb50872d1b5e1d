"""Documents: what is checked before they run, what is refused, and in which envelope."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.errors import Invalid, TooLarge, Unsupported, all_errors
from labkeep.dialects.wandb import DIALECT
from labkeep.dialects.wandb.engine import ENGINE
from labkeep.dialects.wandb.errors import STATUS
from labkeep.dialects.wandb.graphql import MAX_DOCUMENTS, MAX_TEXT, Engine


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


def ask(api: TestClient, query: str, **variables: Any) -> tuple[int, dict[str, Any]]:
    response = api.post("/graphql", json={"query": query, "variables": variables})
    return response.status_code, response.json()


def test_the_viewer_is_the_user_of_the_key(api: TestClient) -> None:
    query = "query Viewer { viewer { id entity username email flags teams { edges { node { name } } } } }"
    status, answer = ask(api, query)
    viewer = answer["data"]["viewer"]
    assert (status, viewer["entity"], viewer["username"]) == (200, "default", "admin")
    assert viewer["teams"] == {"edges": [{"node": {"name": "default"}}]}


def test_a_viewer_is_told_who_it_is_and_shown_no_keys(
    client_of: Callable[..., TestClient], new_key: Callable[..., str]
) -> None:
    viewer = client_of(DIALECT, key=new_key("viewer"))
    query = "{ viewer { username teams { edges { node { name } } } apiKeys { edges { node { id } } } } users { edges { node { username } } } }"
    status, answer = ask(viewer, query)
    assert status == 200, answer
    assert answer["data"]["viewer"] == {
        "username": "ada",
        "teams": {"edges": [{"node": {"name": "default"}}]},
        "apiKeys": {"edges": []},
    }


def test_a_key_may_come_as_the_password_of_basic_authentication(api: TestClient) -> None:
    del api.headers["authorization"]
    response = api.post("/graphql", json={"query": "{ viewer { id } }"}, auth=("api", "lk-" + "a" * 43))
    assert response.json()["data"]["viewer"]["id"]


def test_an_unknown_key_is_401(api: TestClient) -> None:
    api.headers["authorization"] = "Bearer lk-" + "x" * 43
    status, answer = ask(api, "{ viewer { id } }")
    assert status == 401
    assert answer["error"] == answer["errors"][0]["message"]


def test_a_mutation_that_is_not_offered_is_named(api: TestClient) -> None:
    status, answer = ask(api, "mutation CreateTeam($input: CreateTeamInput!) { createTeam(input: $input) { entity } }")
    assert (status, answer["error"]) == (501, "mutation createTeam is not supported by this server")


def test_a_mutation_of_the_schema_without_a_resolver_is_refused_too(tmp_path: Path) -> None:
    sdl = tmp_path / "schema.graphql"
    sdl.write_text("type Query { a: Int } type Mutation { paint: Int }")
    engine = Engine(sdl, {}, {})
    with pytest.raises(Unsupported, match="paint is not supported by this server"):
        engine.run(engine.document("mutation { paint }"), {}, None, None)


def test_a_field_that_is_not_offered_is_said_to_be_unsupported() -> None:
    with pytest.raises(Unsupported, match="Cannot query field 'shoeSize' on type 'User'"):
        ENGINE.document("{ viewer { shoeSize } }")


def test_what_is_no_document_is_invalid() -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        ENGINE.document("{ viewer {")


def test_a_document_may_not_be_nested_without_end() -> None:
    deep = "".join("project { entity { " for _ in range(15))
    with pytest.raises(TooLarge, match="nested deeper"):
        ENGINE.document("{ entity {" + deep + "name" + " } }" * 15 + "} }")


def test_a_document_may_not_ask_for_everything_many_times() -> None:
    fields = " ".join(f"a{n}: viewer {{ id }}" for n in range(1_500))
    with pytest.raises(TooLarge, match="more than 2000 fields"):
        ENGINE.document("{" + fields + "}")


def test_fragments_count_wherever_they_are_used() -> None:
    bomb = "fragment A on User { id name username email flags entity admin photoUrl }"
    spreads = " ".join(f"a{n}: viewer {{ ...A }}" for n in range(300))
    with pytest.raises(TooLarge):
        ENGINE.document("{" + spreads + "} " + bomb)


def test_a_fragment_that_contains_itself_is_refused() -> None:
    with pytest.raises(Invalid, match="contains itself"):
        ENGINE.document("{ viewer { ...A } } fragment A on User { ...B } fragment B on User { ...A }")


def test_a_document_may_not_be_long() -> None:
    with pytest.raises(TooLarge):
        ENGINE.document("#" + " " * MAX_TEXT + "\n{ viewer { id } }")


def test_a_document_is_checked_once_and_few_are_remembered() -> None:
    first = ENGINE.document("{ viewer { id } }")
    assert ENGINE.document("{ viewer { id } }") is first
    for n in range(MAX_DOCUMENTS):
        ENGINE.document(f"query Q{n} {{ viewer {{ id }} }}")
    assert len(ENGINE._documents) == MAX_DOCUMENTS
    assert ENGINE.document("{ viewer { id } }") is not first


def test_variables_that_the_document_does_not_declare_are_ignored(api: TestClient) -> None:
    status, _ = ask(api, "query Viewer { viewer { id } }", deleteArtifacts=False)
    assert status == 200


def test_a_variable_of_the_wrong_type_is_invalid(api: TestClient) -> None:
    status, answer = ask(api, "query Q($name: String!) { project(name: $name) { id } }", name=3)
    assert status == 422
    assert "$name" in answer["error"]


def test_reading_from_an_entity_that_is_not_there_finds_nothing(api: TestClient) -> None:
    query = 'query Q($entity: String!) { project(name: "p", entityName: $entity) { id } entity(name: $entity) { id } }'
    assert ask(api, query, entity="elsewhere") == (200, {"data": {"project": None, "entity": None}})


def test_writing_to_an_entity_that_is_not_there_is_told(api: TestClient) -> None:
    query = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }"
    status, answer = ask(api, query, input={"name": "r", "modelName": "p", "entityName": "elsewhere", "host": "h"})
    assert (status, answer["error"]) == (404, "workspace 'elsewhere' not found")


DELETE = 'mutation M({0}) {{ deleteRuns(input: {{entityName: {1}, projectName: "p", filters: "{{}}"}}) {{ errors }} }}'
DELETE_BY_INPUT = "mutation M($i: DeleteRunsInput!) { deleteRuns(input: $i) { errors } }"
MOVE = """mutation M($e: String!) { moveRuns(input: {filters: "{}", sourceEntityName: $e, sourceProjectName: "p",
  destinationEntityName: $e, destinationProjectName: "q"}) { task { id state } } }"""


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (DELETE.format("$x: String!", "$x"), {"x": "elsewhere"}),
        (DELETE.format('$x: String = "elsewhere"', "$x"), {}),
        (DELETE.format("$x: Int", '"elsewhere"'), {"entity": "default"}),
        (DELETE_BY_INPUT, {"i": {"entityName": "elsewhere", "projectName": "p", "filters": "{}"}}),
        (MOVE, {"e": "elsewhere"}),
    ],
    ids=["variable", "default", "text", "input", "source"],
)
def test_what_is_asked_of_one_entity_happens_in_no_other(
    api: TestClient, query: str, variables: dict[str, Any]
) -> None:
    """Whatever the document calls its variables: or else the runs of the key's own workspace would go."""
    upsert = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }"
    ask(api, upsert, input={"name": "r", "modelName": "p", "entityName": "default", "host": "h"})
    status, answer = ask(api, query, **variables)
    assert (status, answer["error"]) == (404, "workspace 'elsewhere' not found")
    assert ask(api, '{ project(name: "p") { runCount } }')[1]["data"]["project"] == {"runCount": 1}


def test_one_document_is_for_one_entity(api: TestClient) -> None:
    query = '{ project(name: "p", entityName: "default") { id } entity(name: "elsewhere") { id } }'
    status, answer = ask(api, query)
    assert status == 422
    assert "default, elsewhere" in answer["error"]


def test_what_is_json_here_may_be_asked_for_with_the_fields_that_it_has_there() -> None:
    for fields in ("task", "task { id state }"):
        ENGINE.document(f"mutation M($i: MoveRunsInput!) {{ moveRuns(input: $i) {{ {fields} }} }}")


def test_every_error_has_a_status_and_none_is_409() -> None:
    # The client retries a 409 on announcing a run until its user gives up.
    assert set(STATUS) == set(all_errors())
    assert 409 not in STATUS.values()


def test_the_telemetry_of_the_client_is_switched_off_without_a_key(api: TestClient) -> None:
    del api.headers["authorization"]
    assert api.post("/sdk/otel/v1/metrics").status_code == 404
