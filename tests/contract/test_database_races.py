"""Verbs at the same moment on PostgreSQL, where writes run side by side: whoever comes second finds what the first left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    CreateProject,
    CreateRun,
    ItemVerb,
    MakePlan,
    Nothing,
    Outcome,
    PurgeDeletion,
    RestoreDeletion,
    Selection,
)
from labkeep.core.errors import Gone, LabkeepError
from labkeep.core.lifecycle import LIVE, State, Status
from labkeep.operations import Store, audits, deletions, projects, runs
from labkeep.server import make_worker
from labkeep.settings import Settings
from labkeep.storage import tables as t
from labkeep.storage.blobs import MemoryBlobs
from labkeep.storage.database import Database
from labkeep.storage.opening import open_database
from labkeep.storage.transaction import Tx
from labkeep.testing.databases import WAIT_S
from labkeep.testing.factories import make_actor, make_project, make_run


@pytest.fixture
def database(postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    database = open_database(postgres_url, data=tmp_path, readers=8)
    yield database
    database.close()


@pytest.fixture
def actor(database: Database) -> Actor:
    return make_actor(database)


def together(database: Database, actor: Actor, *asked: tuple[Any, Any]) -> list[Any]:
    """Run operations at the same moment; answers results and errors in the order asked."""
    futures = [database.submit(operation, actor, command) for operation, command in asked]
    return [future.exception(WAIT_S) or future.result() for future in futures]


def states(database: Database, actor: Actor) -> dict[str, tuple[State, str | None]]:
    def read(tx: Tx, actor: Actor, _command: None) -> dict[str, tuple[State, str | None]]:
        c = t.items.c
        mine = c.organization_id == actor.organization_id
        return {row[0]: (row[1], row[2]) for row in tx.execute(select(c.id, c.state, c.deletion_id).where(mine))}

    return database.read(read, actor, None)


def members(database: Database, actor: Actor) -> list[str]:
    def read(tx: Tx, actor: Actor, _command: None) -> list[str]:
        c = t.deletion_members.c
        return [row[0] for row in tx.execute(select(c.item_id).where(c.organization_id == actor.organization_id))]

    return database.read(read, actor, None)


def test_what_many_trash_at_once_goes_into_one_deletion(database: Database, actor: Actor) -> None:
    project = make_project(database, actor)
    made = [make_run(database, actor, project, status=Status.finished).id for _ in range(30)]
    asked = [(deletions.apply, Apply(selection=Selection(ids=made[n : n + 15]))) for n in range(0, 16, 5)]
    outcomes = together(database, actor, *asked)
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    assert sum(outcome.counts.get("run", 0) for outcome in outcomes) == 30
    assert sorted(members(database, actor)) == sorted(made)
    assert {states(database, actor)[id][0] for id in made} == {State.trashed}
    assert database.read(audits.verify, actor, Nothing()).intact


def test_a_plan_that_two_apply_at_once_makes_one_deletion(database: Database, actor: Actor) -> None:
    made = [make_run(database, actor, status=Status.finished).id for _ in range(5)]
    selection = Selection(ids=made)
    plan = database.write(deletions.make_plan, actor, MakePlan(selection=selection))
    asked = (deletions.apply, Apply(selection=selection, plan_hash=plan.hash))
    outcomes = together(database, actor, *[asked] * 6)
    assert sorted(sum(outcome.counts.values()) for outcome in outcomes) == [0] * 5 + [5]
    assert len({outcome.deletion_id for outcome in outcomes}) == 1


def test_nothing_is_left_live_in_a_project_that_goes_while_runs_are_made(database: Database, actor: Actor) -> None:
    for _ in range(5):
        project = make_project(database, actor)
        creating = [(runs.create, CreateRun(project=project.id, status=Status.finished)) for _ in range(6)]
        trashing = (deletions.trash_item, ItemVerb(id=project.id))
        *made, outcome = together(database, actor, *creating[:3], *creating[3:], trashing)
        assert isinstance(outcome, Outcome)
        assert all(not isinstance(one, LabkeepError) or isinstance(one, Gone) for one in made)
        inside = {one.id for one in made if not isinstance(one, LabkeepError)}
        found = states(database, actor)
        assert {found[id] for id in inside} <= {(State.trashed, outcome.deletion_id)}
        assert outcome.counts.get("run", 0) == len(inside)


def test_a_run_that_comes_back_while_its_project_goes_is_not_left_behind(database: Database, actor: Actor) -> None:
    for _ in range(5):
        project = make_project(database, actor)
        run = make_run(database, actor, project, status=Status.finished)
        alone = database.write(deletions.trash_item, actor, ItemVerb(id=run.id))
        together(
            database,
            actor,
            (deletions.restore, RestoreDeletion(id=alone.deletion_id or "")),
            (deletions.trash_item, ItemVerb(id=project.id)),
        )
        found = states(database, actor)
        assert not (found[run.id][0] in LIVE and found[project.id][0] not in LIVE)


def test_a_deletion_is_either_restored_or_purged(database: Database, actor: Actor, tmp_path: Path) -> None:
    store = Store(database, MemoryBlobs(), Settings(data=str(tmp_path)))
    for _ in range(5):
        run = make_run(database, actor, status=Status.finished)
        trashed = database.write(deletions.trash_item, actor, ItemVerb(id=run.id))
        id = trashed.deletion_id or ""
        restored, purged = together(
            database, actor, (deletions.restore, RestoreDeletion(id=id)), (deletions.purge, PurgeDeletion(id=id))
        )
        make_worker(store).run_all()
        assert isinstance(restored, LabkeepError) != isinstance(purged, LabkeepError)
        assert states(database, actor)[run.id][0] == (
            State.purged if isinstance(restored, LabkeepError) else State.active
        )


def test_a_freed_name_goes_to_one_of_those_who_want_it(database: Database, actor: Actor) -> None:
    project = make_project(database, actor, "wanted")
    trashed = database.write(deletions.trash_item, actor, ItemVerb(id=project.id))
    outcomes = together(
        database,
        actor,
        (deletions.restore, RestoreDeletion(id=trashed.deletion_id or "")),
        *[(projects.create, CreateProject(name="wanted"))] * 3,
    )
    assert sum(not isinstance(outcome, LabkeepError) for outcome in outcomes) == 1


def test_workers_on_one_database_share_its_jobs(database: Database, actor: Actor, tmp_path: Path) -> None:
    store = Store(database, MemoryBlobs(), Settings(data=str(tmp_path)))
    for _ in range(6):
        run = make_run(database, actor, status=Status.finished)
        trashed = database.write(deletions.trash_item, actor, ItemVerb(id=run.id))
        database.write(deletions.purge, actor, PurgeDeletion(id=trashed.deletion_id or ""))
    done: list[int] = []
    workers = [threading.Thread(target=lambda: done.append(make_worker(store).run_all())) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(WAIT_S)
    assert sum(done) == 6
    assert [state for state, _ in states(database, actor).values()].count(State.purged) == 6
    assert database.read(audits.verify, actor, Nothing()).intact
