"""Runs as the client announces, reads, filters and changes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateRun, CreateWorkspace, SetLock
from labkeep.core.entities import Run
from labkeep.core.lifecycle import Status
from labkeep.dialects.wandb import DIALECT
from labkeep.operations import Store, accounts, deletions, run_searches, runs
from labkeep.operations.run_searches import FindRun

UPSERT = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted bucket { id name state } } }"
RUN = """query Run($name: String!) { project(name: "p") { internalId run(name: $name) {
  id name projectId displayName state config wandbConfig(keys: ["t"]) summaryMetrics tags notes group jobType host commit
  user { name username } historyLineCount historyKeys historyTail systemMetrics createdAt heartbeatAt fileCount } } }"""


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


def ask(api: TestClient, query: str, **variables: Any) -> dict[str, Any]:
    response = api.post("/graphql", json={"query": query, "variables": variables})
    assert response.status_code == 200, response.text
    return dict(response.json()["data"])


def upsert(api: TestClient, **input: Any) -> dict[str, Any]:
    return dict(ask(api, UPSERT, input={"modelName": "p", "host": "h", **input})["upsertBucket"])


def run_of(api: TestClient, name: str = "r1") -> dict[str, Any]:
    return dict(ask(api, RUN, name=name)["project"]["run"])


def found(store: Store, admin: Actor, name: str = "r1") -> Run:
    return store.database.read(run_searches.find, admin, FindRun(project="p", handle=name)).run


def names(api: TestClient, order: str = "+display_name", **filters: Any) -> list[str]:
    query = 'query Q($f: JSONString, $o: String) { project(name: "p") { runs(filters: $f, order: $o, first: 100) { edges { node { name } } } } }'
    page = ask(api, query, f=json.dumps(filters), o=order)["project"]["runs"]
    return [edge["node"]["name"] for edge in page["edges"]]


# --- announcing -------------------------------------------------------------------------------------------------------


def test_a_process_makes_its_run_and_its_project(api: TestClient) -> None:
    made = upsert(api, name="r1", displayName="first", config='{"lr": {"value": 0.1}}', tags=["a"], groupName="g")
    assert (made["inserted"], made["bucket"]["state"]) == (True, "running")
    run = run_of(api)
    assert (run["displayName"], run["group"], run["tags"], run["host"]) == ("first", "g", ["a"], "h")
    assert run["user"] == {"name": "admin", "username": "admin"}
    assert int(run["projectId"]) == int(ask(api, RUN, name="r1")["project"]["internalId"])


def test_announcing_twice_makes_one_run(api: TestClient) -> None:
    first, second = upsert(api, name="r1"), upsert(api, name="r1")
    assert (first["inserted"], second["inserted"]) == (True, False)
    assert first["bucket"]["id"] == second["bucket"]["id"]


def test_null_leaves_things_as_they_are(api: TestClient) -> None:
    upsert(api, name="r1", displayName="first", notes="n", tags=["a"])
    upsert(api, name="r1", displayName=None, notes=None, tags=None)
    run = run_of(api)
    assert (run["displayName"], run["notes"], run["tags"]) == ("first", "n", ["a"])


def test_a_config_replaces_the_one_before_and_the_clients_own_facts_come_back(
    api: TestClient, store: Store, admin: Actor
) -> None:
    upsert(api, name="r1", config='{"a": {"value": 1}, "_wandb": {"value": {"t": {"4": "3.11"}}}}')
    upsert(
        api, name="r1", config='{"b": {"value": {"c": 2}, "desc": "why"}, "_wandb": {"value": {"t": {"4": "3.11"}}}}'
    )
    assert found(store, admin).config == {"b": {"c": 2}}
    run = run_of(api)
    assert json.loads(run["wandbConfig"]) == {"t": {"4": "3.11"}}
    config = json.loads(run["config"])
    assert config["b"] == {"value": {"c": 2}, "desc": "why"}
    assert config["_wandb"]["value"]["t"] == {"4": "3.11"}


def test_half_a_character_in_a_config_is_replaced(api: TestClient) -> None:
    upsert(api, name="r1", config='{"a\\ud800": {"value": ["\\udfff", 1]}}')
    assert json.loads(run_of(api)["config"])["a?"]["value"] == ["?", 1]


def test_a_config_may_have_not_a_number(api: TestClient) -> None:
    upsert(api, name="r1", config='{"a": {"value": NaN}}')
    assert json.loads(run_of(api)["config"])["a"]["value"] == "NaN"


def test_an_edit_by_id_does_not_change_the_state(api: TestClient) -> None:
    id = upsert(api, name="r1")["bucket"]["id"]
    api.post("/files/default/p/r1/file_stream", json={"complete": True, "exitcode": 1})
    edit = {"id": id, "notes": "later", "config": '{"x": {"value": 1}}'}
    assert ask(api, UPSERT, input=edit)["upsertBucket"]["bucket"]["state"] == "failed"
    assert run_of(api)["notes"] == "later"


REWIND = """mutation RewindRun($i: RewindRunInput!) { rewindRun(input: $i) {
  rewoundRun { id name displayName config sweepName historyLineCount project { name entity { name } } } } }"""


def log(api: TestClient, name: str, steps: range, offset: int = 0) -> None:
    lines = [json.dumps({"_step": step, "loss": step}) for step in steps]
    body = {"files": {"wandb-history.jsonl": {"offset": offset, "content": lines}}}
    assert api.post(f"/files/default/p/{name}/file_stream", json=body).status_code == 200


def branch(api: TestClient, name: str, base: str, step: Any) -> Any:
    config = json.dumps({"_wandb": {"value": {"t": {}, "branch_point": {"run_id": base, "step": step}}}})
    asked = {"name": name, "modelName": "p", "host": "h", "config": config}
    query = UPSERT.replace("state", "historyLineCount")
    return api.post("/graphql", json={"query": query, "variables": {"input": asked}})


def test_a_fork_goes_on_behind_the_rows_of_its_base(api: TestClient, store: Store, admin: Actor) -> None:
    upsert(api, name="r1")
    log(api, "r1", range(10))
    made = branch(api, "r2", "r1", 5).json()["data"]["upsertBucket"]
    assert (made["inserted"], made["bucket"]["historyLineCount"]) == (True, 6)
    assert found(store, admin, "r2").base_run_id == found(store, admin).id
    log(api, "r2", range(6, 8), offset=6)
    again = branch(api, "r2", "r1", 5).json()["data"]["upsertBucket"]  # the client did not hear the answer
    assert (again["inserted"], again["bucket"]["historyLineCount"]) == (False, 8)
    assert run_of(api)["historyLineCount"] == 10


@pytest.mark.parametrize(
    ("base", "step", "status", "said"),
    [
        ("none", 1, 404, "'none' not found"),
        ("r1", 99, 422, "has no step 99"),
        ("r1", 1.5, 422, "is not a step"),
        ("r1", -1, 422, "is not a step"),
        ("r1", "x", 422, "is not a step"),
    ],
)
def test_a_fork_of_what_is_not_there_is_refused_and_makes_no_run(
    api: TestClient, base: str, step: Any, status: int, said: str
) -> None:
    upsert(api, name="r1")
    log(api, "r1", range(3))
    response = branch(api, "r2", base, step)
    assert (response.status_code, said in response.json()["error"]) == (status, True), response.text
    assert ask(api, RUN, name="r2")["project"]["run"] is None


def test_a_rewound_run_goes_on_from_its_step(api: TestClient) -> None:
    id = upsert(api, name="r1", config='{"lr": {"value": 1}}')["bucket"]["id"]
    log(api, "r1", range(10))
    asked = {"runName": "r1", "entityName": "default", "projectName": "p", "metricName": "_step", "metricValue": 3.0}
    for _ in range(2):  # the client did not hear the first answer
        run = ask(api, REWIND, i=asked)["rewindRun"]["rewoundRun"]
        assert (run["id"], run["historyLineCount"], run["project"]["name"]) == (id, 4, "p")
    assert names(api) == ["r1"]
    assert ask(api, RUN, name="r1-before-rewind-1")["project"]["run"]["historyLineCount"] == 10
    assert ask(api, RUN, name="r1-before-rewind-2")["project"]["run"] is None


def test_a_summary_that_a_forks_process_sends_does_not_hide_what_it_began_with(api: TestClient) -> None:
    upsert(api, name="r1")
    api.post("/files/default/p/r1/file_stream", json=history('{"_step": 0, "old": 1, "loss": 1}'))
    branch(api, "r2", "r1", 0)
    body = {"files": {"wandb-summary.json": {"offset": 0, "content": ['{"loss": 2}']}}}
    api.post("/files/default/p/r2/file_stream", json=body)
    assert json.loads(run_of(api, "r2")["summaryMetrics"]) == {"loss": 2, "old": 1}


def history(*lines: str) -> dict[str, Any]:
    return {"files": {"wandb-history.jsonl": {"offset": 0, "content": list(lines)}}}


def test_runs_are_taken_back_to_steps_only(api: TestClient) -> None:
    asked = {"runName": "r1", "projectName": "p", "metricName": "loss", "metricValue": 3.0}
    response = api.post("/graphql", json={"query": REWIND, "variables": {"i": asked}})
    assert (response.status_code, "only be taken back to a _step" in response.json()["error"]) == (501, True)


def test_a_run_without_a_name_or_an_id_is_refused(api: TestClient) -> None:
    response = api.post("/graphql", json={"query": UPSERT, "variables": {"input": {"modelName": "p"}}})
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("pending", Status.queued),
        ("killed", Status.stopped),
        ("preempted", Status.crashed),
        ("finished", Status.finished),
    ],
)
def test_states_have_statuses(api: TestClient, store: Store, admin: Actor, state: str, status: Status) -> None:
    id = upsert(api, name="r1")["bucket"]["id"]
    ask(
        api,
        "mutation M($i: UpdateRunStateInput!) { updateRunState(input: $i) { success } }",
        i={"id": id, "state": state},
    )
    assert found(store, admin).status == status


def test_a_run_that_is_asked_for_before_it_starts_may_be_missing(api: TestClient) -> None:
    upsert(api, name="r1")
    query = 'query Q($n: String!) { model(name: "p") { bucket(name: $n, missingOk: true) { id } } }'
    assert ask(api, query, n="other")["model"]["bucket"] is None


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_run_of_another_api_is_seen_with_sensible_fields(api: TestClient, store: Store, admin: Actor) -> None:
    made = store.database.write(
        runs.create, admin, CreateRun(project="p", name="native", config={"lr": 1}, summary={"acc": 0.5})
    )
    run = run_of(api, made.id)
    assert (run["name"], run["displayName"], run["historyLineCount"]) == (made.id, "native", 0)
    assert json.loads(run["config"])["lr"]["value"] == 1
    assert json.loads(run["wandbConfig"]) == {"t": {}}
    assert (run["historyKeys"], run["historyTail"], run["systemMetrics"]) == (None, "[]", "{}")


def test_filters_and_orders_are_the_clients_own(api: TestClient) -> None:
    for n in range(4):
        upsert(
            api,
            name=f"r{n}",
            displayName=f"exp-{n}",
            config=f'{{"n": {{"value": {n}}}}}',
            tags=["odd"] if n % 2 else [],
        )
    assert names(api, **{"config.n": {"$gte": 2}}) == ["r2", "r3"]
    assert names(api, "-config.n.value", tags="odd") == ["r3", "r1"]
    assert names(api, **{"$or": [{"name": "r0"}, {"display_name": {"$regex": "3$"}}]}) == ["r0", "r3"]
    assert names(api, state="killed") == []


def test_a_list_goes_on_where_the_page_ended(api: TestClient) -> None:
    for n in range(5):
        upsert(api, name=f"r{n}")
    query = """query Q($c: String) { project(name: "p") { runCount runs(first: 2, after: $c, order: "+display_name") {
      totalCount edges { node { name } cursor } pageInfo { endCursor hasNextPage } } } }"""
    seen, cursor = [], None
    for _ in range(3):
        project = ask(api, query, c=cursor)["project"]
        seen += [edge["node"]["name"] for edge in project["runs"]["edges"]]
        cursor = project["runs"]["pageInfo"]["endCursor"]
    assert (seen, cursor, project["runCount"]) == ([f"r{n}" for n in range(5)], None, 5)
    assert project["runs"]["totalCount"] == 5


def test_a_filter_that_cannot_be_understood_says_where(api: TestClient) -> None:
    upsert(api, name="r1")
    query = 'query Q($f: JSONString) { project(name: "p") { runCount(filters: $f) } }'
    response = api.post("/graphql", json={"query": query, "variables": {"f": '{"config.a": {"$near": 1}}'}})
    assert response.status_code == 422
    assert "config.a.$near" in response.json()["error"]


def test_history_is_read_in_pages_of_steps_and_in_samples(api: TestClient) -> None:
    upsert(api, name="r1")
    rows = [json.dumps({"_step": n, "loss": n / 2, **({"acc": n} if n % 10 == 0 else {})}) for n in range(100)]
    body = {"files": {"wandb-history.jsonl": {"offset": 0, "content": rows}}}
    assert api.post("/files/default/p/r1/file_stream", json=body).status_code == 200
    query = """query Q($specs: [JSONString!]!) { project(name: "p") { run(name: "r1") { historyKeys historyTail
      page: history(minStep: 10, maxStep: 12, samples: 2) some: history(samples: 7) sampledHistory(specs: $specs) } } }"""
    specs = [
        {"keys": ["_step", "acc"], "samples": 500},
        {"keys": ["loss"], "minStep": 98, "maxStep": 99},
        {"keys": ["none"]},
    ]
    run = ask(api, query, specs=[json.dumps(spec) for spec in specs])["project"]["run"]
    assert [json.loads(line)["_step"] for line in run["page"]] == [10, 11]
    some = [json.loads(line)["_step"] for line in run["some"]]
    assert (len(some), some[0], some[-1]) == (7, 0, 99)
    assert [row["_step"] for row in run["sampledHistory"][0]] == list(range(0, 100, 10))
    assert [row["loss"] for row in run["sampledHistory"][1]] == [49.0, 49.5]
    assert run["sampledHistory"][2] == []
    assert (run["historyKeys"]["lastStep"], run["historyKeys"]["keys"]["acc"]["typeCounts"]) == (
        99,
        [{"type": "number", "count": 10}],
    )
    assert json.loads(json.loads(run["historyTail"])[0])["_step"] == 99


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_deleted_run_says_until_when_it_can_be_restored(api: TestClient) -> None:
    id = upsert(api, name="r1")["bucket"]["id"]
    ask(api, "mutation M($i: DeleteRunInput!) { deleteRun(input: $i) { clientMutationId } }", i={"id": id})
    response = api.post("/graphql", json={"query": RUN, "variables": {"name": "r1"}})
    assert response.status_code == 410
    assert "restorable until" in response.json()["errors"][0]["message"]
    assert names(api) == []


def test_a_locked_run_stays_and_the_client_is_told_why(api: TestClient, store: Store, admin: Actor) -> None:
    id = upsert(api, name="r1")["bucket"]["id"]
    store.database.write(deletions.set_lock, admin, SetLock(id=found(store, admin).id, locked=True))
    query = "mutation M($i: DeleteRunInput!) { deleteRun(input: $i) { clientMutationId } }"
    response = api.post("/graphql", json={"query": query, "variables": {"i": {"id": id}}})
    assert response.status_code == 400
    assert "locked" in response.json()["error"]
    assert names(api) == ["r1"]


def test_moving_runs_onto_a_taken_id_moves_none(api: TestClient) -> None:
    upsert(api, name="r1")
    upsert(api, name="r2")
    upsert(api, name="r2", modelName="q")
    query = "mutation M($i: MoveRunsInput!) { moveRuns(input: $i) { task } }"
    where = {"sourceEntityName": "default", "sourceProjectName": "p", "destinationEntityName": "default"}
    variables = {"i": {**where, "destinationProjectName": "q", "filters": "{}"}}
    assert api.post("/graphql", json={"query": query, "variables": variables}).status_code == 400
    assert names(api) == ["r1", "r2"]


def test_a_run_in_another_workspace_of_the_user_is_written_and_changed_there(
    api: TestClient, client_of: Callable[..., TestClient], new_key: Callable[..., str], store: Store, admin: Actor
) -> None:
    """The client names the entity where it begins, and afterwards only the ids of what it found there."""
    store.database.write(accounts.create_workspace, admin, CreateWorkspace(name="second"))
    upsert(api, name="r1")
    made = upsert(api, name="r1", entityName="second")
    rows = {"files": {"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0, "loss": 1}']}}}
    assert api.post("/files/second/p/r1/file_stream", json=rows).status_code == 200
    id = made["bucket"]["id"]
    ask(api, UPSERT, input={"id": id, "notes": "changed"})
    query = (
        """query Q($e: String) { project(name: "p", entityName: $e) { run(name: "r1") { notes historyLineCount } } }"""
    )
    assert ask(api, query, e="second")["project"]["run"] == {"notes": "changed", "historyLineCount": 1}
    assert ask(api, query)["project"]["run"] == {"notes": None, "historyLineCount": 0}
    stranger = client_of(DIALECT, key=new_key("maintainer"))
    delete = {"query": "mutation M($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"}
    assert stranger.post("/graphql", json={**delete, "variables": {"id": id}}).status_code == 404
    assert stranger.post("/files/second/p/r1/file_stream", json=rows).status_code == 404
    assert api.post("/graphql", json={**delete, "variables": {"id": id}}).status_code == 200
    assert ask(api, 'query Q { p: project(name: "p", entityName: "second") { runCount } }')["p"] == {"runCount": 0}
    assert names(api) == ["r1"]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_link_of_a_run_leads_to_its_facts_and_nothing_in_them_runs(api: TestClient) -> None:
    upsert(api, name="r1", displayName="<script>alert(1)</script>", config='{"a": {"value": "<b>"}}')
    response = api.get("/default/p/runs/r1")
    assert response.status_code == 200
    assert "<script>" not in response.text
    assert "&lt;b&gt;" in response.text
    assert response.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_link_of_a_project_leads_to_its_runs_and_from_there_to_each(api: TestClient) -> None:
    upsert(api, name="a/b ?", displayName="<b>first", modelName="q&a")
    upsert(api, name="r2", modelName="q&a")
    response = api.get("/default/q%26a")
    assert response.status_code == 200
    assert response.text.index("r2") < response.text.index("&lt;b&gt;first"), "the newest first"
    link = "./q%26a/runs/a%2Fb%20%3F"
    assert f'href="{link}"' in response.text
    assert api.get("/default/q%26a/runs/r2").status_code == 200
    assert api.get("/default/nothing").status_code == 404


def test_a_browser_is_asked_for_the_key(api: TestClient) -> None:
    del api.headers["authorization"]
    response = api.get("/default/p/runs/r1")
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Basic ")
