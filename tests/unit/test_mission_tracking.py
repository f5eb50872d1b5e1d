"""What people do with a run and its API when they come from W&B, call by call, with only the import changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import labkeep as wandb
from labkeep import Api, errors
from tests.unit.client.live_server import Live, serving


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(autouse=True)
def in_its_own_folder(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABKEEP_URL", live.url)
    monkeypatch.setenv("LABKEEP_API_KEY", live.key)
    monkeypatch.setenv("LABKEEP_QUIET", "1")


def train(accuracy: float) -> str:
    """One training as it is written down everywhere; returns the id of its run."""
    run = wandb.init(project="my-project", job_type="training")
    assert run.url.endswith(run.id)
    for i in range(100):
        run.log({"accuracy": i / 100, "loss": 1 - (i / 100)})
    with open("model.pth", "w") as f:  # noqa: PTH123 - as people write it
        f.write("dummy model weights")
    artifact = wandb.Artifact("model-weights", type="model")
    artifact.add_file("model.pth")
    run.log_artifact(artifact)
    run.name = "experiment-v1"
    run.summary["final_accuracy"] = accuracy
    run.finish()
    return run.id


def test_a_training_is_logged_and_looked_up(tmp_path: Path) -> None:
    good, bad = train(0.95), train(0.5)
    api = Api()
    project = api.project("my-project")
    all_runs = project.runs()
    assert {r.id for r in all_runs} >= {good, bad}
    assert {(r.name, r.state) for r in all_runs} == {("experiment-v1", "finished")}
    finished_runs = project.runs(filters={"state": "finished"})
    assert {r.id for r in finished_runs} >= {good, bad}
    assert len(project.runs(filters={"state": "crashed"})) == 0
    recent_high_acc_runs = [
        r for r in project.runs(filters={"state": "finished"}) if r.summary.get("final_accuracy", 0) > 0.9
    ]
    assert [r.id for r in recent_high_acc_runs] == [good]
    assert recent_high_acc_runs[0].summary["final_accuracy"] == 0.95
    specific_run = api.run(f"my-project/{good}")
    assert specific_run.name == "experiment-v1"
    assert dict(specific_run.summary) == {"accuracy": 0.99, "loss": 1 - 0.99, "final_accuracy": 0.95}
    assert specific_run.history(keys=["accuracy"])[-1]["accuracy"] == 0.99
    assert len(specific_run.history()) == 100
    (model,) = specific_run.logged_artifacts()
    assert (Path(model.download(tmp_path / "out")) / "model.pth").read_text() == "dummy model weights"
    assert api.artifact("my-project/model-weights:latest").digest == model.digest


def test_a_run_is_archived_and_comes_back() -> None:
    id = train(0.7)
    api = Api()
    project = api.project("my-project")
    run_to_archive = project.run(id)
    run_to_archive.archive()
    assert run_to_archive.lifecycle_state == "archived"
    assert id not in [r.id for r in project.runs()]
    assert id in [r.id for r in project.runs(filters={"lifecycle": "archived"})]
    assert api.run(f"my-project/{id}").name == "experiment-v1"
    run_to_archive.unarchive()
    assert id in [r.id for r in project.runs()]


def test_a_run_is_deleted_restored_and_purged() -> None:
    id = train(0.6)
    api = Api()
    run = api.run(f"my-project/{id}")
    outcome = run.delete(reason="made by mistake")
    assert outcome.counts["run"] == 1
    assert outcome.restorable_until is not None
    assert run.lifecycle_state == "trashed"
    with pytest.raises(errors.Gone, match="trashed by"):
        api.run(f"my-project/{id}")
    run.restore()
    assert api.run(f"my-project/{id}").summary["final_accuracy"] == 0.6
    run.trash()
    job = run.purge(reason="really").job_id
    assert job is not None
    assert api.client.jobs.wait(job).state == "done"
    with pytest.raises(errors.Gone, match="purged"):
        api.client.runs.get(id, include="trashed")


def test_an_id_that_does_not_exist_is_not_found() -> None:
    train(0.1)
    api = Api()
    for ask in (
        lambda: api.run("my-project/run_id_to_fetch"),
        lambda: api.project("my-project").run("run_id_to_archive"),
    ):
        with pytest.raises(errors.NotFound, match="not found"):
            ask()
    with pytest.raises(errors.NotFound):
        api.project("no-such-project")
