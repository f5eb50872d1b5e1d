"""Experiments: their statuses, their runs, their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    CreateDocument,
    CreateExperiment,
    CreateRun,
    Experiment,
    ExperimentVerb,
    FinishRun,
    Get,
    GetVersion,
    ItemVerb,
    ListExperiments,
    ListRuns,
    RowIn,
    UpdateExperiment,
    WriteRows,
)
from labkeep.core.entities import Json, Run
from labkeep.core.errors import Conflict, Forbidden, Gone, Illegal, NotFound
from labkeep.core.lifecycle import Status
from labkeep.operations import deletions, documents, experiments, rows, runs
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import START, FixedClock, make_actor, make_document, make_project, make_store

VARIANTS = [{"name": "formal", "prompt_id": "p1"}, {"name": "casual", "prompt_id": "p2"}]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with make_store(tmp_path) as store:
        yield store.database


@pytest.fixture
def actor(database: Database) -> Actor:
    return make_actor(database)


@pytest.fixture
def experiment(database: Database, actor: Actor) -> Experiment:
    return create(database, actor)


def create(database: Database, actor: Actor, name: str = "greeting", **fields: Any) -> Experiment:
    command = CreateExperiment(**({"name": name, "description": "d", "variants": VARIANTS} | fields))
    return database.write(experiments.create, actor, command)


def get(database: Database, actor: Actor, experiment: Experiment, **fields: Any) -> Experiment:
    return database.read(experiments.get, actor, Get(id=experiment.id, **fields))


def do(database: Database, actor: Actor, experiment: Experiment, *verbs: str) -> Experiment:
    for verb in verbs:
        experiment = database.write(getattr(experiments, verb), actor, ExperimentVerb(id=experiment.id))
    return experiment


def results(database: Database, actor: Actor, experiment: Experiment) -> Json:
    return database.read(experiments.results, actor, Get(id=experiment.id))


def runs_of(database: Database, actor: Actor, experiment: Experiment) -> list[Run]:
    """Newest first."""
    found = database.read(runs.list_, actor, ListRuns(project=experiment.project_id)).items
    return [run for run in found if run.document_id == experiment.id]


def log(database: Database, actor: Actor, run: Run, *data: Json) -> None:
    database.write(rows.write, actor, WriteRows(id=run.id, rows=[RowIn(data=one) for one in data]))


def listed(database: Database, actor: Actor, **fields: Any) -> list[str]:
    return [found.name for found in database.read(experiments.list_, actor, ListExperiments(**fields)).items]


def later(database: Database, **duration: float) -> None:
    assert isinstance(database.clock, FixedClock)
    database.clock.advance(**duration)


# --- definitions ------------------------------------------------------------------------------------------------------


def test_an_experiment_begins_as_a_draft_without_results(database: Database, actor: Actor) -> None:
    made = create(database, actor, metadata={"k": 1}, tags=("t",))
    assert (made.status, made.state, made.variants, made.description) == ("draft", "active", VARIANTS, "d")
    assert (made.started_at, made.stopped_at, made.created_at) == (None, None, START)
    assert made.current_results is UNSET
    assert "current_results" not in msgspec.to_builtins(made)
    assert get(database, actor, made) == made


def test_experiments_may_share_a_name(database: Database, actor: Actor) -> None:
    assert len({create(database, actor).id for _ in range(3)}) == 3
    assert listed(database, actor, name="greeting") == ["greeting"] * 3


def test_experiments_live_in_the_default_project_unless_another_is_named(database: Database, actor: Actor) -> None:
    project = make_project(database, actor, "alpha")
    first, second = create(database, actor, "a"), create(database, actor, "b")
    third = create(database, actor, "c", project="alpha")
    assert first.project_id == second.project_id != third.project_id == project.id
    assert listed(database, actor) == ["c", "b", "a"]
    assert listed(database, actor, project="default") == ["b", "a"]


def test_an_edit_merges_metadata_and_versions_the_definition(
    database: Database, actor: Actor, experiment: Experiment
) -> None:
    database.write(experiments.update, actor, UpdateExperiment(id=experiment.id, metadata={"a": {"b": 1}}))
    edit = UpdateExperiment(
        id=experiment.id, metadata={"a": {"c": 2}}, name="new", tags=("t",), variants=[{"name": "x"}]
    )
    edited = database.write(experiments.update, actor, edit)
    assert edited == get(database, actor, experiment)
    assert (edited.name, edited.metadata, edited.tags) == ("new", {"a": {"b": 1, "c": 2}}, ("t",))
    assert (edited.description, edited.variants) == ("d", [{"name": "x"}])
    numbers = [database.read(documents.get_version, actor, GetVersion(id=experiment.id, number=n)) for n in (1, 2)]
    assert [version.body["variants"] for version in numbers] == [VARIANTS, [{"name": "x"}]]
    described = database.write(experiments.update, actor, UpdateExperiment(id=experiment.id, description="more"))
    assert (described.description, described.variants) == ("more", [{"name": "x"}])


def test_an_edit_beside_the_definition_makes_no_version(
    database: Database, actor: Actor, experiment: Experiment
) -> None:
    database.write(experiments.update, actor, UpdateExperiment(id=experiment.id, name="new"))
    assert database.read(documents.get, actor, Get(id=experiment.id)).latest == 1


def test_a_document_of_another_type_is_no_experiment(database: Database, actor: Actor) -> None:
    document = make_document(database, actor)
    for attempt in (
        lambda: database.read(experiments.get, actor, Get(id=document.id)),
        lambda: database.read(experiments.results, actor, Get(id=document.id)),
        lambda: database.write(experiments.start, actor, ExperimentVerb(id=document.id)),
        lambda: database.write(experiments.update, actor, UpdateExperiment(id=document.id, name="x")),
    ):
        with pytest.raises(NotFound, match=r"experiment .* not found"):
            attempt()
    assert listed(database, actor) == []


def test_an_experiment_made_as_a_document_is_a_draft_whatever_its_body(database: Database, actor: Actor) -> None:
    command = CreateDocument(project=make_project(database, actor).id, type="experiment", name="e")
    bare = database.write(documents.create, actor, command)
    odd = database.write(
        documents.create, actor, msgspec.structs.replace(command, name="o", body={"variants": [1, {"name": "x"}]})
    )
    assert database.read(experiments.get, actor, Get(id=bare.id)).variants == []
    assert database.read(experiments.get, actor, Get(id=odd.id)).variants == [{"name": "x"}]
    assert listed(database, actor, status="draft") == ["o", "e"]
    assert database.write(experiments.start, actor, ExperimentVerb(id=bare.id)).status == "running"


def test_lists_filter_by_status_and_page(database: Database, actor: Actor) -> None:
    made = [create(database, actor, f"e{n}") for n in range(5)]
    do(database, actor, made[1], "start")
    do(database, actor, made[3], "start", "complete")
    assert listed(database, actor, status="draft") == ["e4", "e2", "e0"]
    assert listed(database, actor, status="running") == ["e1"]
    assert listed(database, actor, status="completed") == ["e3"]
    assert listed(database, actor, status="paused") == []
    first = database.read(experiments.list_, actor, ListExperiments(limit=3))
    rest = database.read(experiments.list_, actor, ListExperiments(limit=3, cursor=first.next))
    assert [found.name for found in first.items + rest.items] == ["e4", "e3", "e2", "e1", "e0"]
    assert rest.next is None


# --- starting and stopping --------------------------------------------------------------------------------------------


def test_starting_makes_a_run_and_stopping_stops_it(database: Database, actor: Actor, experiment: Experiment) -> None:
    started = do(database, actor, experiment, "start")
    assert (started.status, started.started_at, started.stopped_at) == ("running", START, None)
    (run,) = runs_of(database, actor, experiment)
    assert (run.status, run.name, run.type) == (Status.running, "greeting", experiments.RUN_TYPE)
    later(database, minutes=1)
    stopped = do(database, actor, experiment, "stop")
    assert (stopped.status, stopped.started_at) == ("stopped", START)
    assert stopped.stopped_at == START + timedelta(minutes=1)
    assert runs_of(database, actor, experiment)[0].status == Status.stopped


def test_completing_finishes_the_runs_that_are_open(database: Database, actor: Actor, experiment: Experiment) -> None:
    do(database, actor, experiment, "start")
    (run,) = runs_of(database, actor, experiment)
    queued = CreateRun(project=experiment.project_id, document_id=experiment.id, status=Status.queued)
    database.write(runs.create, actor, queued)
    failed = database.write(runs.create, actor, msgspec.structs.replace(queued, status=Status.failed))
    done = do(database, actor, experiment, "complete")
    assert done.status == "completed"
    statuses = {found.id: found.status for found in runs_of(database, actor, experiment)}
    assert statuses[run.id] == Status.finished
    assert sorted(statuses.values()) == [Status.failed, Status.finished, Status.finished]
    assert statuses[failed.id] == Status.failed


def test_an_experiment_can_be_started_again_once_it_is_not_running(
    database: Database, actor: Actor, experiment: Experiment
) -> None:
    do(database, actor, experiment, "start", "stop", "start", "complete", "start", "stop")
    assert [run.status for run in runs_of(database, actor, experiment)] == [
        Status.stopped,
        Status.finished,
        Status.stopped,
    ]


@pytest.mark.parametrize(
    ("verbs", "verb", "text"),
    [
        (["start"], "start", "experiment greeting is running: cannot start; stop or complete it first"),
        ([], "stop", "experiment greeting is draft: cannot stop; only a running experiment can be stopped"),
        ([], "complete", "is draft: cannot complete"),
        (["start", "stop"], "stop", "is stopped: cannot stop"),
        (["start", "complete"], "complete", "is completed: cannot complete"),
    ],
)
def test_what_is_not_legal_says_why_and_what_is(
    database: Database, actor: Actor, experiment: Experiment, verbs: list[str], verb: str, text: str
) -> None:
    do(database, actor, experiment, *verbs)
    with pytest.raises(Illegal, match=text) as caught:
        do(database, actor, experiment, verb)
    legal = caught.value.details["legal"][0]
    assert do(database, actor, experiment, legal).status == experiments.STEPS[legal].after


def test_a_running_experiment_cannot_be_trashed_and_a_stopped_one_can(
    database: Database, actor: Actor, experiment: Experiment
) -> None:
    do(database, actor, experiment, "start")
    with pytest.raises(Conflict, match="running"):
        database.write(deletions.trash_item, actor, ItemVerb(id=experiment.id))
    do(database, actor, experiment, "stop")
    database.write(deletions.trash_item, actor, ItemVerb(id=experiment.id))
    for attempt in (
        lambda: get(database, actor, experiment),
        lambda: results(database, actor, experiment),
        lambda: do(database, actor, experiment, "start"),
        lambda: database.write(experiments.update, actor, UpdateExperiment(id=experiment.id, name="x")),
    ):
        with pytest.raises(Gone):
            attempt()
    assert get(database, actor, experiment, include="trashed").state == "trashed"
    assert listed(database, actor) == []
    assert listed(database, actor, state="trashed") == ["greeting"]


# --- results ----------------------------------------------------------------------------------------------------------


def test_results_come_from_the_rows_of_its_runs(database: Database, actor: Actor, experiment: Experiment) -> None:
    do(database, actor, experiment, "start")
    assert get(database, actor, experiment).current_results is UNSET
    (first,) = runs_of(database, actor, experiment)
    log(database, actor, first, *[{"scores": {"exact": 1}} for _ in range(3)])
    later(database, minutes=1)
    do(database, actor, experiment, "complete", "start")
    second = runs_of(database, actor, experiment)[0]
    log(database, actor, second, {"scores": {"exact": 0, "f1": 0.5}})
    database.write(runs.finish, actor, FinishRun(id=second.id, summary={"accuracy": 0.9}))
    expected = {"total_requests": 4, "runs": 2, "scores": {"exact": 0.75, "f1": 0.5}, "summary": {"accuracy": 0.9}}
    assert get(database, actor, experiment).current_results == expected
    (found,) = database.read(experiments.list_, actor, ListExperiments()).items
    assert found == get(database, actor, experiment)


def test_an_experiment_that_came_to_its_end_has_results_even_without_rows(
    database: Database, actor: Actor, experiment: Experiment
) -> None:
    done = do(database, actor, experiment, "start", "complete")
    assert done.current_results == {"total_requests": 0, "runs": 1, "scores": {}, "summary": {}}
    idle = do(database, actor, create(database, actor), "start", "stop")
    assert idle.current_results is UNSET


def test_results_in_detail_are_by_run_and_by_variant(database: Database, actor: Actor, experiment: Experiment) -> None:
    do(database, actor, experiment, "start")
    (first,) = runs_of(database, actor, experiment)
    log(
        database,
        actor,
        first,
        {"variant": "formal", "scores": {"exact": 1}},
        {"variant": "casual", "scores": {"exact": 0}},
        {"variant": "casual", "scores": {"exact": 0.5}},
        {"variant": 7, "scores": {"exact": 1}},
        {"scores": {"exact": 1}},
    )
    later(database, minutes=1)
    do(database, actor, experiment, "stop", "start")
    (second, _) = runs_of(database, actor, experiment)
    log(database, actor, second, {"variant": "formal"})
    found = results(database, actor, experiment)
    assert found == {
        "id": experiment.id,
        "name": "greeting",
        "status": "running",
        "total_requests": 6,
        "runs": 2,
        "scores": {"exact": 0.7},
        "summary": {},
        "variants": {
            "casual": {"total_requests": 2, "scores": {"exact": 0.25}},
            "formal": {"total_requests": 2, "scores": {"exact": 1.0}},
        },
        "by_run": [
            {
                "id": second.id,
                "name": "greeting",
                "status": "running",
                "started_at": second.started_at,
                "finished_at": None,
                "rows": 1,
                "scores": {},
                "summary": {},
            },
            {
                "id": first.id,
                "name": "greeting",
                "status": "stopped",
                "started_at": START,
                "finished_at": START + timedelta(minutes=1),
                "rows": 5,
                "scores": {"exact": 0.7},
                "summary": {},
            },
        ],
    }


def test_results_of_an_experiment_that_never_ran_are_empty(
    database: Database, actor: Actor, experiment: Experiment
) -> None:
    found = results(database, actor, experiment)
    assert (found["status"], found["total_requests"], found["runs"], found["by_run"]) == ("draft", 0, 0, [])
    assert (found["scores"], found["summary"], found["variants"]) == ({}, {}, {})


def test_runs_in_the_trash_are_no_results(database: Database, actor: Actor, experiment: Experiment) -> None:
    do(database, actor, experiment, "start")
    (run,) = runs_of(database, actor, experiment)
    log(database, actor, run, {"scores": {"exact": 1}})
    do(database, actor, experiment, "complete")
    database.write(deletions.trash_item, actor, ItemVerb(id=run.id))
    assert get(database, actor, experiment).current_results is UNSET
    assert results(database, actor, experiment)["runs"] == 0
    database.write(deletions.restore_item, actor, ItemVerb(id=run.id))
    assert results(database, actor, experiment)["total_requests"] == 1


# --- who may ----------------------------------------------------------------------------------------------------------


def test_a_viewer_looks_and_does_not_touch(database: Database, actor: Actor, experiment: Experiment) -> None:
    viewer = make_actor(database, "viewer")
    assert get(database, viewer, experiment) == experiment
    attempts: list[Callable[[], object]] = [lambda: create(database, viewer)]
    attempts += [lambda verb=verb: do(database, viewer, experiment, verb) for verb in experiments.STEPS]  # type: ignore[misc]
    attempts.append(lambda: database.write(experiments.update, viewer, UpdateExperiment(id=experiment.id, name="x")))
    for attempt in attempts:
        with pytest.raises(Forbidden, match="no permission"):
            attempt()


def test_another_tenants_experiment_is_not_found(database: Database, actor: Actor, experiment: Experiment) -> None:
    stranger = make_actor(database, organization="other")
    for attempt in (
        lambda: get(database, stranger, experiment),
        lambda: results(database, stranger, experiment),
        lambda: do(database, stranger, experiment, "start"),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert listed(database, stranger) == []


def test_every_step_is_noted(database: Database, actor: Actor, experiment: Experiment) -> None:
    do(database, actor, experiment, "start", "stop", "start", "complete")

    def events(tx: Tx, _: Actor, __: None) -> list[str]:
        e = t.audit_events.c
        return [row[0] for row in tx.execute(select(e.event).where(e.subject_id == experiment.id).order_by(e.seq))]

    assert database.read(events, actor, None) == [
        "document.created",
        "document.committed",
        "document.started",
        "document.stopped",
        "document.started",
        "document.completed",
    ]
