"""Logging in, where the API is said to be, and the protocol of the SDK up to 0.7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.dialects.braintrust import DIALECT


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


def organization(client: TestClient, **headers: str) -> dict[str, Any]:
    [found] = client.post("/api/apikey/login", headers={k.replace("_", "-"): v for k, v in headers.items()}).json()[
        "org_info"
    ]
    return dict(found)


# --- login ------------------------------------------------------------------------------------------------------------


def test_a_client_learns_its_organization_and_where_the_api_is(api: TestClient, admin: Actor) -> None:
    found = organization(api)
    assert (found["id"], found["name"]) == (admin.organization_id, "default")
    assert found["api_url"] == found["proxy_url"] == "http://labkeep.test/braintrust"


def test_git_metadata_is_asked_for_without_the_diff(api: TestClient) -> None:
    assert organization(api)["git_metadata"]["collect"] == "some"
    assert "git_diff" not in organization(api)["git_metadata"]["fields"]


def test_the_public_url_wins(client_of: Callable[..., TestClient]) -> None:
    client = client_of(DIALECT, public_url="https://lab.example/keep/")
    assert organization(client)["api_url"] == "https://lab.example/keep/braintrust"


def test_a_proxy_is_believed_only_when_it_is_trusted(client_of: Callable[..., TestClient]) -> None:
    said = {"x_forwarded_proto": "https", "x_forwarded_host": "lab.example, inner", "x_forwarded_prefix": "/keep"}
    assert organization(client_of(DIALECT), **said)["api_url"] == "http://labkeep.test/braintrust"
    trusting = client_of(DIALECT, trust_forwarded=True)
    assert organization(trusting, **said)["api_url"] == "https://lab.example/keep/braintrust"


def test_ping_says_who_the_key_is_by_the_id_that_objects_carry(api: TestClient) -> None:
    me = api.get("/ping").json()
    made = api.post("/v1/project", json={"name": "p"}).json()
    assert me["name"] == "admin"
    assert made["user_id"] == me["id"]


def test_the_version_advertises_no_limit(api: TestClient) -> None:
    assert "logs3_payload_max_bytes" not in api.get("/version").json()
    assert api.get("/v1").text == "Hello, World!"


def test_the_environment_points_both_clients_at_the_prefix() -> None:
    environment = DIALECT.environment("http://127.0.0.1:8080/", "lk-key")
    assert environment == {
        "BRAINTRUST_APP_URL": "http://127.0.0.1:8080/braintrust",
        "BRAINTRUST_API_URL": "http://127.0.0.1:8080/braintrust",
        "BRAINTRUST_BASE_URL": "http://127.0.0.1:8080/braintrust",
        "BRAINTRUST_API_KEY": "lk-key",
    }


# --- up to 0.7 --------------------------------------------------------------------------------------------------------


def test_an_older_client_registers_by_name(api: TestClient) -> None:
    asked = {"project_name": "p", "org_id": "o", "experiment_name": "e", "metadata": {"a": 1}, "public": False}
    first = api.post("/api/experiment/register", json=asked).json()
    assert (first["project"]["name"], first["experiment"]["name"]) == ("p", "e")
    assert first["experiment"]["metadata"] == {"a": 1}
    assert not {"org_id", "project_name", "experiment_name"} & first["experiment"].keys()
    again = api.post("/api/experiment/register", json=asked).json()["experiment"]
    assert again["name"].startswith("e-")
    updated = api.post("/api/experiment/register", json={**asked, "update": True}).json()["experiment"]
    assert updated == first["experiment"]
    assert api.post("/api/project/register", json={"project_name": "p"}).json()["project"] == first["project"]
    assert api.get("/api/project", params={"id": first["project"]["id"]}).json() == first["project"]


def test_an_older_client_names_its_base(api: TestClient) -> None:
    base = api.post("/api/experiment/register", json={"project_name": "p", "experiment_name": "b"}).json()
    asked = {"project_name": "p", "base_experiment": "b"}
    assert (
        api.post("/api/experiment/register", json=asked).json()["experiment"]["base_exp_id"] == base["experiment"]["id"]
    )
    asked = {"project_name": "new", "base_experiment": "b"}
    assert api.post("/api/experiment/register", json=asked).json()["experiment"]["base_exp_id"] is None


def test_an_older_client_opens_an_experiment_by_name(api: TestClient) -> None:
    made = api.post("/api/experiment/register", json={"project_name": "p", "experiment_name": "e"}).json()["experiment"]
    assert api.post("/api/experiment/get", json={"project_name": "p", "experiment_name": "e"}).json() == [made]
    missing = api.post("/api/experiment/get", json={"project_name": "p", "experiment_name": "nope"})
    assert (missing.status_code, missing.text) == (400, "experiment nope not found")


def test_an_older_client_summarizes(api: TestClient) -> None:
    experiments = []
    for score in (0, 1):
        made = api.post("/api/experiment/register", json={"project_name": "p", "experiment_name": f"e{score}"}).json()
        experiments.append(made["experiment"]["id"])
        row = {"experiment_id": made["experiment"]["id"], "input": "x", "scores": {"s": score}}
        api.post("/logs3", json={"rows": [row]})
    query = {"experiment_id": experiments[1], "base_experiment_id": experiments[0]}
    found = api.get("/experiment-comparison2", params=query).json()
    assert found["scores"]["s"] == {"name": "s", "score": 1, "diff": 1, "improvements": 1, "regressions": 0}
    assert found["baseExperimentName"] == "e0"


def test_an_older_client_registers_a_dataset(api: TestClient) -> None:
    made = api.post("/api/dataset/register", json={"project_name": "p", "dataset_name": "d"}).json()
    assert (made["project"]["name"], made["dataset"]["name"]) == ("p", "d")
    api.post("/logs3", json={"rows": [{"dataset_id": made["dataset"]["id"], "input": 1}]})
    answered = api.get("/dataset-summary", params={"dataset_id": made["dataset"]["id"]})
    assert answered.json() == {"total_records": 1}


@pytest.mark.parametrize("path", ["/api/project/register", "/api/experiment/register", "/api/dataset/register"])
def test_a_registration_without_a_project_is_refused(api: TestClient, path: str) -> None:
    assert api.post(path, json={}).status_code == 400
    assert api.post(path, json=[]).status_code == 400
