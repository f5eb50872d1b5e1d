"""Summaries of experiments on Braintrust's wire, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateRun
from labkeep.core.entities import Run
from labkeep.dialects.braintrust import DIALECT
from labkeep.operations import Store, runs


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


@pytest.fixture
def project(api: TestClient) -> str:
    return str(api.post("/v1/project", json={"name": "p"}).json()["id"])


@pytest.fixture
def new(api: TestClient, project: str) -> Callable[..., str]:
    """``new(name, scores by input, …)``: an experiment with a trace for each input."""

    def make(name: str, scores: dict[str, float], **fields: Any) -> str:
        id = str(api.post("/v1/experiment", json={"project_id": project, "name": name, **fields}).json()["id"])
        events = [
            {"id": given, "input": given, "scores": {"acc": score}, "metrics": {"start": 1, "end": 2 + score}}
            for given, score in scores.items()
        ]
        assert api.post(f"/v1/experiment/{id}/insert", json={"events": events}).status_code == 200
        return id

    return make


def summary(api: TestClient, id: str, **query: Any) -> dict[str, Any]:
    response = api.get(f"/v1/experiment/{id}/summarize", params={"summarize_scores": "true", **query})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_the_first_experiment_is_compared_with_nothing(api: TestClient, new: Callable[..., str]) -> None:
    found = summary(api, new("e", {"a": 1, "b": 0}))
    assert found["comparison_experiment_name"] is None
    # The client makes objects of these: one key more or less and it fails.
    assert found["scores"] == {"acc": {"name": "acc", "score": 0.5, "improvements": 0, "regressions": 0}}
    assert found["metrics"]["duration"] == {
        "name": "duration",
        "metric": 1.5,
        "unit": "s",
        "improvements": 0,
        "regressions": 0,
    }
    assert found["metrics"]["total_tokens"]["unit"] == "tok"
    assert (found["project_name"], found["experiment_name"]) == ("p", "e")
    assert found["experiment_url"].startswith("http://labkeep.test/braintrust/app/")


def test_by_default_the_experiment_before_is_the_base(api: TestClient, new: Callable[..., str]) -> None:
    new("oldest", {"a": 1})
    new("before", {"a": 0.25, "b": 1, "c": 0.5})
    id = new("e", {"a": 1, "b": 0.5, "d": 0})
    new("after", {"a": 0})
    found = summary(api, id)
    assert found["comparison_experiment_name"] == "before"
    assert found["scores"]["acc"] == {
        "name": "acc",
        "score": 0.5,
        "diff": 0.125,
        "improvements": 1,
        "regressions": 1,
    }


def test_less_of_a_metric_is_an_improvement(api: TestClient, new: Callable[..., str]) -> None:
    new("before", {"a": 1, "b": 0})
    duration = summary(api, new("e", {"a": 0.5, "b": 0.25}))["metrics"]["duration"]
    assert (duration["improvements"], duration["regressions"]) == (1, 1)
    assert duration["diff"] == pytest.approx(-0.125)


def test_an_own_base_goes_before_the_last_and_the_one_asked_for_before_all(
    api: TestClient, new: Callable[..., str]
) -> None:
    base, asked = new("base", {"a": 0}), new("asked", {"a": 0})
    new("last", {"a": 0})
    id = new("e", {"a": 1}, base_exp_id=base)
    assert summary(api, id)["comparison_experiment_name"] == "base"
    assert summary(api, id, comparison_experiment_id=asked)["comparison_experiment_name"] == "asked"


def test_a_base_in_the_trash_is_passed_over(api: TestClient, new: Callable[..., str]) -> None:
    new("before", {"a": 0})
    base = new("base", {"a": 0})
    id = new("e", {"a": 1}, base_exp_id=base)
    api.delete(f"/v1/experiment/{base}")
    assert summary(api, id)["comparison_experiment_name"] == "before"


def test_scores_of_an_eval_are_on_the_spans_of_its_scorers(api: TestClient, project: str) -> None:
    id = api.post("/v1/experiment", json={"project_id": project, "name": "e"}).json()["id"]
    scorer = {"span_attributes": {"type": "score", "purpose": "scorer"}, "root_span_id": "t", "span_parents": ["s"]}
    root = {"span_id": "s", "root_span_id": "t", "span_parents": None, "input": 1}
    events = [root, {**scorer, "span_id": "x", "scores": {"a": 1}}, {**scorer, "span_id": "y", "scores": {"b": 0.5}}]
    api.post(f"/v1/experiment/{id}/insert", json={"events": events})
    assert {name: score["score"] for name, score in summary(api, id)["scores"].items()} == {"a": 1, "b": 0.5}


def test_without_scores_no_rows_are_summed_up(api: TestClient, new: Callable[..., str]) -> None:
    found = api.get(f"/v1/experiment/{new('e', {'a': 1})}/summarize").json()
    assert (found["scores"], found["metrics"]) == (None, None)


def test_what_a_run_without_rows_came_to_are_its_metrics(api: TestClient, store: Store, admin: Actor) -> None:
    for accuracy in (0.5, 0.75):
        command = CreateRun(project="p", summary={"acc": accuracy, "nested": {"loss": 1}, "text": "x"})
        run: Run = store.database.write(runs.create, admin, command)
    metrics = summary(api, run.id)["metrics"]
    assert metrics["acc"] == {
        "name": "acc",
        "metric": 0.75,
        "unit": "",
        "diff": 0.25,
        "improvements": 0,
        "regressions": 0,
    }
    assert set(metrics) == {"acc", "nested.loss"}


def test_the_base_of_an_experiment_can_be_asked_for(api: TestClient, new: Callable[..., str]) -> None:
    first = new("first", {"a": 1})
    second = new("second", {"a": 1})
    assert api.post("/api/base_experiment/get_id", json={"id": first}).status_code == 400
    found = api.post("/api/base_experiment/get_id", json={"id": second}).json()
    assert found == {"id": second, "base_exp_id": first, "base_exp_name": "first"}
