"""Large verbs while others write, restore, purge, pause and cancel, on both databases: each object ends in one place, the
records say which, and everything that is in the trash can be taken back."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    CreateRun,
    Get,
    ItemVerb,
    ListDeletions,
    ListJobs,
    ListMembersOf,
    Nothing,
    RestoreDeletion,
    Selection,
    SetLock,
    UpdateRun,
)
from labkeep.core.commands_jobs import ControlJob, ResumeJob
from labkeep.core.errors import Illegal, LabkeepError
from labkeep.core.lifecycle import State, Status
from labkeep.operations import Store, audits, deletions, jobs, runs
from labkeep.server import make_worker
from labkeep.settings import Settings
from labkeep.storage import check
from labkeep.storage import tables as t
from labkeep.storage.blobs import MemoryBlobs
from labkeep.storage.database import Database
from labkeep.storage.opening import open_database
from labkeep.storage.transaction import Tx
from labkeep.testing.databases import WAIT_S
from labkeep.testing.factories import make_actor, make_project, make_run

COUNT = 40
STEPS = 25


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    database = open_database(url, data=tmp_path, readers=8)
    database.apply_at_once = 3
    yield database
    database.close()


class Crowd:
    """A project with runs, and everybody who does something to them."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.store = Store(database, MemoryBlobs(), Settings(data=str(folder), apply_batch=4))
        self.actor: Actor = make_actor(database)
        self.project = make_project(database, self.actor, "drafts")
        self.made = [make_run(database, self.actor, self.project, status=Status.finished).id for _ in range(COUNT)]

    def do(self, operation: Callable[..., Any], command: Any) -> Any:
        return self.database.write(operation, self.actor, command)

    def act(self, chance: random.Random) -> None:
        """Something that somebody might do now; what is refused is refused."""
        one = chance.choice(self.made)
        some = Selection(ids=chance.sample(self.made, 8))
        acts: list[Callable[[], Any]] = [
            lambda: self.do(runs.update, UpdateRun(id=one, notes="seen")),
            lambda: self.do(deletions.set_lock, SetLock(id=one, locked=chance.random() < 0.3)),
            lambda: self.do(deletions.trash_item, ItemVerb(id=one)),
            lambda: self.do(deletions.restore_item, ItemVerb(id=one)),
            lambda: self.do(deletions.apply, Apply(selection=some, background=True)),
            lambda: self.do(deletions.apply, Apply(verb="restore", selection=some)),
            lambda: self.do(deletions.apply, Apply(verb="archive", selection=some, background=True)),
            lambda: self.do(runs.create, CreateRun(project=self.project.id, status=Status.finished)),
            lambda: self.do(deletions.trash_item, ItemVerb(id=self.project.id)),
            lambda: self.do(deletions.restore_item, ItemVerb(id=self.project.id)),
            lambda: self.control(chance),
            lambda: self.control(chance),
        ]
        with suppress(LabkeepError):
            chance.choice(acts)()

    def control(self, chance: random.Random) -> None:
        open_ = [job for job in self.listed(jobs.list_, ListJobs(limit=20)) if job.state not in ("done", "failed")]
        if open_:
            id = chance.choice(open_).id
            asked = chance.choice([(jobs.pause, ControlJob(id=id)), (jobs.cancel, ControlJob(id=id))])
            self.do(*chance.choice([asked, (jobs.resume, ResumeJob(id=id))]))

    def listed(self, operation: Callable[..., Any], command: Any) -> list[Any]:
        found: list[Any] = self.database.read(operation, self.actor, command).items
        return found

    def settle(self) -> None:
        """Let every job go on to its end."""
        for job in self.listed(jobs.list_, ListJobs(limit=1_000, state="paused")):
            self.do(jobs.resume, ResumeJob(id=job.id))
        make_worker(self.store).run_all()

    def take_everything_back(self) -> None:
        """Restore every deletion, containers before what is in them."""
        waiting = self.listed(deletions.list_, ListDeletions(limit=1_000, state="trashed"))
        while waiting:
            before = len(waiting)
            for deletion in list(waiting):
                with suppress(Illegal):  # its project is in the trash still
                    self.do(deletions.restore, RestoreDeletion(id=deletion.id, background=False))
                    waiting.remove(deletion)
            assert len(waiting) < before, waiting

    def states(self) -> dict[str, tuple[State, str | None]]:
        def read(tx: Tx, actor: Actor, _command: None) -> dict[str, tuple[State, str | None]]:
            c = t.items.c
            mine = c.organization_id == actor.organization_id
            return {row[0]: (row[1], row[2]) for row in tx.execute(select(c.id, c.state, c.deletion_id).where(mine))}

        return self.database.read(read, self.actor, None)

    def problems(self) -> list[check.Problem]:
        engine = getattr(self.database, "reading", self.database.engine)
        with engine.connect() as connection:
            return check.run(connection, self.store.blobs, self.database.clock()).problems


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_meanwhile_each_object_is_in_one_place(database: Database, tmp_path: Path, seed: int) -> None:
    crowd = Crowd(database, tmp_path)
    stop = threading.Event()

    def work() -> None:
        worker = make_worker(crowd.store)
        while not stop.is_set():
            worker.run_one()

    def act(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        for _ in range(STEPS):
            crowd.act(chance)

    workers = [threading.Thread(target=work) for _ in range(2)]
    people = [threading.Thread(target=act, args=(number,)) for number in range(3)]
    for thread in workers + people:
        thread.start()
    for thread in people:
        thread.join(WAIT_S * 4)
    stop.set()
    for thread in workers:
        thread.join(WAIT_S)
    crowd.settle()

    assert {job.state for job in crowd.listed(jobs.list_, ListJobs(limit=1_000))} <= {"done", "cancelled", "failed"}
    found = crowd.states()
    for deletion in crowd.listed(deletions.list_, ListDeletions(limit=1_000)):
        assert deletion.state in ("trashed", "restored", "cancelled")
        members = crowd.listed(deletions.members, ListMembersOf(id=deletion.id, limit=1_000))
        assert sum(deletion.counts.values()) == len(members)
        held = {member.item_id for member in members if member.outcome == "trashed"}
        assert held == {id for id, (_, deletion_id) in found.items() if deletion_id == deletion.id}
    project_state = found[crowd.project.id][0]
    inside = {state for id, (state, _) in found.items() if id != crowd.project.id}
    assert project_state != State.trashed or inside <= {State.trashed}
    assert crowd.problems() == []
    assert database.read(audits.verify, crowd.actor, Nothing()).intact

    crowd.take_everything_back()
    assert all(state in (State.active, State.archived) for state, _ in crowd.states().values())
    assert crowd.problems() == []


def test_a_job_that_two_workers_fight_for_is_done_once(database: Database, tmp_path: Path) -> None:
    crowd = Crowd(database, tmp_path)
    outcome = crowd.do(deletions.apply, Apply(selection=Selection(project="drafts")))
    workers = [threading.Thread(target=lambda: make_worker(crowd.store).run_all()) for _ in range(3)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join(WAIT_S)
    crowd.settle()
    done = database.read(jobs.get, crowd.actor, Get(id=outcome.job_id))
    assert (done.state, done.result["outcomes"]) == ("done", {"trashed": COUNT})
    assert {state for id, (state, _) in crowd.states().items() if id in crowd.made} == {State.trashed}
