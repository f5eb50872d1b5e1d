"""Background jobs, as their owners see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import Get, ItemVerb, ListJobs
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.lifecycle import Status
from labkeep.operations import Store, deletions, jobs
from labkeep.server import make_worker
from labkeep.storage.jobs import enqueue
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_run, make_store


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with make_store(tmp_path, clock) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def purge(store: Store, actor: Actor) -> str:
    """The id of a job that purges a run."""
    run = make_run(store.database, actor, status=Status.finished)
    store.database.write(deletions.trash_item, actor, ItemVerb(id=run.id))
    job_id = store.database.write(deletions.purge_item, actor, ItemVerb(id=run.id)).job_id
    assert job_id is not None
    return job_id


def listed(store: Store, reader: Actor, **asked: Any) -> list[str]:
    return [job.id for job in store.database.read(jobs.list_, reader, ListJobs(**asked)).items]


def test_a_job_is_seen_from_its_request_to_its_end(store: Store, actor: Actor, clock: FixedClock) -> None:
    id = purge(store, actor)
    waiting = store.database.read(jobs.get, actor, Get(id=id))
    assert (waiting.task, waiting.state, waiting.actor, waiting.attempts) == ("purge", "queued", actor.user, 0)
    assert (waiting.done, waiting.total, waiting.created_at) == (0, 1, clock.now)
    clock.advance(minutes=1)
    make_worker(store).run_all()
    ended = store.database.read(jobs.get, actor, Get(id=id))
    assert (ended.state, ended.attempts, ended.done, ended.error) == ("done", 1, 1, "")
    assert (ended.finished_at, ended.lease_until) == (clock.now, None)
    assert ended.result["items"] == 1


def test_jobs_are_listed_newest_first_by_state_and_in_pages(store: Store, actor: Actor) -> None:
    done = [purge(store, actor) for _ in range(3)]
    make_worker(store).run_all()
    waiting = purge(store, actor)
    assert listed(store, actor) == [waiting, *reversed(done)]
    assert listed(store, actor, state="queued") == [waiting]
    assert listed(store, actor, state="done") == [*reversed(done)]
    page = store.database.read(jobs.list_, actor, ListJobs(limit=3))
    assert listed(store, actor, limit=3, cursor=page.next) == [done[0]]
    with pytest.raises(Invalid, match="cursor"):
        listed(store, actor, cursor="nonsense")


def test_everybody_of_the_workspace_sees_its_jobs_and_nobody_else(store: Store, actor: Actor) -> None:
    id = purge(store, actor)
    viewer = make_actor(store.database, "viewer")
    assert store.database.read(jobs.get, viewer, Get(id=id)).id == id
    for place in ({"organization": "other"}, {"workspace": "next door"}):
        stranger = make_actor(store.database, **place)
        assert listed(store, stranger) == []
        with pytest.raises(NotFound):
            store.database.read(jobs.get, stranger, Get(id=id))
    for wrong in ("x", "00000000-0000-7000-8000-000000000000", "'"):
        with pytest.raises(NotFound):
            store.database.read(jobs.get, actor, Get(id=wrong))


def test_of_equal_jobs_only_one_waits(store: Store, actor: Actor) -> None:
    def ask(tx: Tx, actor: Actor, dedupe: str | None) -> str:
        return enqueue(tx, actor, "purge", {}, dedupe=dedupe)

    first = store.database.write(ask, actor, "same")
    assert store.database.write(ask, actor, "same") == first
    assert store.database.write(ask, actor, "other") != first
    assert store.database.write(ask, actor, None) != store.database.write(ask, actor, None)
