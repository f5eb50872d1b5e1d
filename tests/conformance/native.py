"""The second half of a scenario: what its vendor's SDK did, seen through our own API.

Each check runs right after the scenario of its name, on the same server, and fails by AssertionError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from labkeep import Labkeep
from labkeep.core.entities import Document, Project, Run
from labkeep.core.errors import AlreadyExists
from labkeep.core.lifecycle import Status
from tests.conformance.native_wandb import WANDB
from tests.conformance.native_wandb_history import WANDB_HISTORY
from tests.conformance.server import LiveServer

Check = Callable[[Labkeep, LiveServer], None]


def _project(client: Labkeep, prefix: str, *, state: str | None = None) -> Project:
    """The newest project whose name begins so."""
    return next(project for project in client.projects.list(state=state) if project.name.startswith(prefix))


def _runs(client: Labkeep, project: Project) -> dict[str, Run]:
    return {run.name: run for run in client.runs.list(project.id)}


def an_eval_is_two_finished_runs_with_the_same_averages(client: Labkeep, server: LiveServer) -> None:
    """Braintrust s01."""
    runs = _runs(client, _project(client, "s01-proj-"))
    first, second = sorted(runs.values(), key=lambda run: run.created_at)
    assert second.name.startswith(first.name)
    assert first.status is second.status is Status.finished
    assert [*first.tags] == ["nightly"]
    assert first.metadata == {"model": "fake"}
    stats = client.rows.stats(first.id)
    assert stats.rows == 80
    assert stats.scores == {"closeness": 0.8125, "exact": 0.75}
    listed = json.loads(server.cli("runs", "ls", "--project", str(first.project_id), "--json"))
    assert {item["id"] for item in listed["items"]} == {first.id, second.id}


def every_row_of_the_log_is_there(client: Labkeep, _server: LiveServer) -> None:
    """Braintrust s02."""
    (run,) = _runs(client, _project(client, "s02-")).values()
    rows = {row.id: row.data for row in client.rows.read(run.id)}
    assert set(rows) == {f"row-{number:04d}" for number in range(500)}
    assert rows["row-0007"]["scores"] == {"acc": 0.7, "flag": 1}
    assert rows["row-0007"]["input"]["q"].startswith("question 7 — ünïcødé 漢字 \u2028")


def deletes_are_in_the_trash_and_come_back_for_both(client: Labkeep, server: LiveServer) -> None:
    """Braintrust s03: one experiment was deleted, then its name taken by another, then the whole project deleted."""
    trashed = _project(client, "s03-", state="trashed")
    whole, *_ = client.deletions.list(item_id=trashed.id)
    gone = {member.item_id for member in client.deletions.members(whole.id)}
    assert trashed.id in gone
    server.cli("restore", "--deletion", whole.id, "--name", f"{trashed.id}={trashed.name}-again")
    back = _runs(client, client.projects.get(trashed.id))
    assert {"other", "renamed"} <= set(back)
    assert {run.id for run in back.values()} == gone - {trashed.id}

    # What had been trashed before, on its own, is still in the trash; its name is taken now.
    (alone,) = client.runs.list(trashed.id, state="trashed")
    assert alone.name == "renamed"
    assert alone.deletion_id is not None
    try:
        client.deletions.restore(alone.deletion_id)
    except AlreadyExists:
        client.deletions.restore(alone.deletion_id, names={alone.id: "renamed-2"})
    else:
        raise AssertionError("a restore took a name that is in use")
    assert [row.id for row in client.rows.read(alone.id)] == ["r1"]
    assert alone.id in {experiment["id"] for experiment in _braintrust_experiments(server, trashed.id)}


def _braintrust_experiments(server: LiveServer, project_id: str) -> list[Mapping[str, str]]:
    answer = server.get(f"/braintrust/v1/experiment?project_id={project_id}")
    experiments: list[Mapping[str, str]] = json.loads(answer)["objects"]
    return experiments


def a_dataset_is_a_document_that_can_be_read_as_it_was(client: Labkeep, _server: LiveServer) -> None:
    """Braintrust s05."""
    project = _project(client, "s05-")
    (dataset,) = client.documents.list(project.id)
    assert isinstance(dataset, Document)
    assert dataset.type == "dataset"
    rows = {row.id: row for row in client.rows.read(dataset.id)}
    assert set(rows) == {f"d{number}" for number in range(11)} - {"d9"}
    before = min(row.xact for row in rows.values())
    assert {row.id for row in client.rows.read(dataset.id, as_of=before)} == {f"d{number}" for number in range(10)}


NATIVE: dict[str, Check] = {
    "braintrust-s01_eval_end_to_end": an_eval_is_two_finished_runs_with_the_same_averages,
    "braintrust-s02_init_log_fetch": every_row_of_the_log_is_there,
    "braintrust-s03_rest_experiment_crud_delete": deletes_are_in_the_trash_and_come_back_for_both,
    "braintrust-s05_dataset_versions": a_dataset_is_a_document_that_can_be_read_as_it_was,
    **WANDB,
    **WANDB_HISTORY,
}
