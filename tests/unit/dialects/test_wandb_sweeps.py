"""Sweeps on the wire: YAML, agents, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.errors import Invalid
from labkeep.dialects.wandb import DIALECT
from labkeep.dialects.wandb.sweeps import MAX_YAML, config_in, config_out

CONFIG = "method: grid\nname: mine\nprogram: train.py\nparameters:\n  lr: {values: [0.1, 0.01]}\n"
UPSERT = """mutation M($input: UpsertSweepInput!) { upsertSweep(input: $input) {
  sweep { id name displayName state project { name entity { name } } } configValidationWarnings } }"""
AGENT = (
    'mutation M($sweep: String!) { createAgent(input: {host: "h", projectName: "p", sweep: $sweep}) { agent { id } } }'
)
BEAT = "mutation M($input: AgentHeartbeatInput!) { agentHeartbeat(input: $input) { agent { id } commands } }"
BUCKET = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { name sweepName } inserted } }"
RUNS = 'query Q($filters: JSONString) { project(name: "p") { runCount(filters: $filters) } }'


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


def post(api: TestClient, query: str, **variables: Any) -> Any:
    return api.post("/graphql", json={"query": query, "variables": variables})


def ask(api: TestClient, query: str, **variables: Any) -> dict[str, Any]:
    response = post(api, query, **variables)
    assert response.status_code == 200, response.text
    return dict(response.json()["data"])


def create(api: TestClient, config: str = CONFIG, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = ask(api, UPSERT, input={"config": config, "projectName": "p", **fields})["upsertSweep"]
    return dict(found["sweep"])


def commands(api: TestClient, agent: str, *running: str) -> list[dict[str, Any]]:
    given = {"id": agent, "metrics": "{}", "runState": json.dumps(dict.fromkeys(running, True))}
    return list(json.loads(ask(api, BEAT, input=given)["agentHeartbeat"]["commands"]))


def agent_of(api: TestClient, sweep: dict[str, Any]) -> str:
    return str(ask(api, AGENT, sweep=sweep["name"])["createAgent"]["agent"]["id"])


def count(api: TestClient, filters: dict[str, Any]) -> int:
    return int(ask(api, RUNS, filters=json.dumps(filters))["project"]["runCount"])


# --- configurations ---------------------------------------------------------------------------------------------------


def test_a_configuration_comes_back_as_it_was() -> None:
    config = {"method": "random", "parameters": {"b": {"values": ["008", 1e-05, True, None]}, "a": {"value": {"x": 1}}}}
    assert config_in(config_out(config)) == config


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "a: [",
        "1: 2",
        "a: !!python/object:os.system {}",
        "a: &x [1]\nb: *x",
        "x" * (MAX_YAML + 1),
        "[" * 900_000,
    ],
)
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="config"):
        config_in(text)


def test_a_sweep_says_what_is_wrong_with_its_configuration(api: TestClient) -> None:
    response = post(api, UPSERT, input={"config": "method: grid\nparameters: {a: {min: 0.0, max: 1.0}}"})
    assert (response.status_code, "parameters.a" in response.text) == (422, True)


@pytest.mark.parametrize("field", ["launchScheduler", "scheduler", "controller"])
def test_schedulers_of_their_own_are_not_supported(api: TestClient, field: str) -> None:
    response = post(api, UPSERT, input={"config": CONFIG, "projectName": "p", field: '{"engine": "x"}'})
    assert response.status_code == 501


# --- agents -----------------------------------------------------------------------------------------------------------


def test_an_agent_gets_runs_that_belong_to_the_sweep(api: TestClient) -> None:
    sweep = create(api)
    assert (sweep["displayName"], sweep["state"], sweep["project"]["name"]) == ("mine", "PENDING", "p")
    agent = agent_of(api, sweep)
    [command] = commands(api, agent)
    assert (command["type"], command["args"], command["program"]) == ("run", {"lr": {"value": 0.1}}, "train.py")
    upsert = {"name": command["run_id"], "modelName": "p", "host": "h", "sweep": sweep["name"]}
    found = ask(api, BUCKET, input=upsert)["upsertBucket"]
    assert found == {"bucket": {"name": command["run_id"], "sweepName": sweep["name"]}, "inserted": False}
    assert commands(api, agent, command["run_id"]) == []


def test_a_run_may_join_a_sweep_and_outlive_it(api: TestClient) -> None:
    sweep = create(api)
    for name, wanted in (("joins", sweep["name"]), ("other", "unknown1")):
        upsert = {"name": name, "modelName": "p", "host": "h", "sweep": wanted}
        bucket = ask(api, BUCKET, input=upsert)["upsertBucket"]["bucket"]
        assert bucket["sweepName"] == (sweep["name"] if name == "joins" else None)
    assert [count(api, {"sweep": name}) for name in (sweep["name"], "unknown1")] == [1, 0]
    assert count(api, {"$and": [{"sweep": sweep["name"]}, {"state": "running"}]}) == 1
    assert count(api, {"$and": [{"sweep": sweep["name"]}, {"state": "failed"}]}) == 0
    assert count(api, {}) == 2


def test_agents_of_a_deleted_sweep_are_told_that_it_is_not_found(api: TestClient) -> None:
    sweep = create(api)
    agent = agent_of(api, sweep)
    [command] = commands(api, agent)
    ask(api, "mutation M($id: ID!) { deleteSweep(input: {id: $id, deleteRuns: false}) { success } }", id=sweep["id"])
    response = post(api, BEAT, input={"id": agent, "runState": "{}"})
    assert response.status_code == 404
    assert post(api, BEAT, input={"id": "nonsense"}).status_code == 404
    assert ask(api, BUCKET, input={"name": command["run_id"], "modelName": "p", "host": "h", "sweep": sweep["name"]})


def test_a_state_that_is_none_is_refused(api: TestClient) -> None:
    sweep = create(api)
    assert post(api, UPSERT, input={"id": sweep["id"], "state": "ASLEEP"}).status_code == 422
    assert ask(api, UPSERT, input={"id": sweep["id"], "state": "PAUSED"})["upsertSweep"]["sweep"]["state"] == "PAUSED"


def test_a_sweep_shows_its_agents_and_runs(api: TestClient) -> None:
    sweep = create(api)
    agent = agent_of(api, sweep)
    [command] = commands(api, agent)
    query = """query Q($sweep: String!) { project(name: "p") { totalSweeps sweep(sweepName: $sweep) {
      method config runCount runCountExpected bestLoss controllerRunName heartbeatAt
      runs { edges { node { name state exitcode running failed shouldStop stopped sampledHistory(specs: "{}") } } }
      agents { edges { node { id name host state totalRuns createdAt heartbeatAt runs { edges { node { name } } } } } } } } }"""
    project = ask(api, query, sweep=sweep["name"])["project"]
    found = project["sweep"]
    assert (project["totalSweeps"], found["method"], found["runCount"], found["runCountExpected"]) == (1, "grid", 1, 2)
    [run] = [edge["node"] for edge in found["runs"]["edges"]]
    assert (run["name"], run["state"], run["sampledHistory"]) == (command["run_id"], "pending", [[]])
    [shown] = [edge["node"] for edge in found["agents"]["edges"]]
    assert (shown["id"], shown["host"], shown["totalRuns"]) == (agent, "h", 1)
    assert [edge["node"]["name"] for edge in shown["runs"]["edges"]] == [command["run_id"]]
