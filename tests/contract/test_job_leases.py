"""Jobs as rows, on both databases: due, leased, taken over, tried again, given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from labkeep.core.access import Actor
from labkeep.core.entities import Job
from labkeep.core.errors import NotFound
from labkeep.operations import jobs
from labkeep.storage import jobs as rows
from labkeep.storage.database import Database
from labkeep.storage.database_postgres import Postgres
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_sqlite

T = TypeVar("T")

LEASE = timedelta(seconds=30)


class Desk:
    """A database with one actor, and jobs in a line each."""

    def __init__(self, database: Database, clock: FixedClock) -> None:
        self.database, self.clock = database, clock
        self.actor = make_actor(database)

    def do(self, operation: Callable[[Tx, Actor, Any], T], command: Any = None) -> T:
        return self.database.write(operation, self.actor, command)

    def enqueue(self, task: str = "count", **options: Any) -> str:
        return self.do(lambda tx, actor, _: rows.enqueue(tx, actor, task, {"what": task}, **options))

    def claim(self, worker: str = "a") -> Job | None:
        return self.do(jobs.claim_next, jobs.Claim(worker, LEASE))

    def claimed(self, worker: str = "a") -> Job:
        job = self.claim(worker)
        assert job is not None
        return job

    def get(self, id: str) -> Job:
        from labkeep.core.commands import Get

        return self.database.read(jobs.get, self.actor, Get(id=id))


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    clock = FixedClock()
    database: Database
    if request.param == "sqlite":
        database = make_sqlite(tmp_path, clock)
    else:
        database = Postgres(request.getfixturevalue("postgres_url"), readers=4, clock=clock)
    yield Desk(database, clock)
    database.close()


def test_jobs_are_claimed_oldest_first_and_each_once(desk: Desk) -> None:
    ids = [desk.enqueue(f"t{number}") for number in range(3)]
    claimed = [desk.claimed(worker) for worker in "abc"]
    assert [job.id for job in claimed] == ids
    assert [(job.state, job.worker, job.attempts) for job in claimed] == [("running", w, 1) for w in "abc"]
    assert desk.claim("d") is None


def test_a_job_is_not_claimed_before_its_time(desk: Desk) -> None:
    desk.enqueue(run_at=desk.clock.now + timedelta(seconds=10))
    assert desk.claim() is None
    desk.clock.advance(seconds=10)
    assert desk.claim() is not None


def test_of_equal_unfinished_jobs_there_is_one(desk: Desk) -> None:
    first = desk.enqueue(dedupe="seal x")
    assert desk.enqueue(dedupe="seal x") == first
    job = desk.claimed()
    assert desk.enqueue(dedupe="seal x") == first
    desk.do(jobs.finish, jobs.Ended(job))
    assert desk.enqueue(dedupe="seal x") != first


def test_a_job_is_taken_over_when_its_lease_has_run_out_and_not_before(desk: Desk) -> None:
    desk.enqueue()
    job = desk.claimed("a")
    desk.clock.advance(seconds=30)
    assert desk.claim("b") is None
    desk.clock.advance(seconds=1)
    taken = desk.claimed("b")
    assert (taken.id, taken.worker, taken.attempts) == (job.id, "b", 2)


def test_a_renewed_lease_runs_from_then_on(desk: Desk) -> None:
    desk.enqueue()
    job = desk.claimed("a")
    desk.clock.advance(seconds=29)
    assert desk.do(jobs.renew, jobs.Renewal(job, LEASE, {"done": 5}))
    desk.clock.advance(seconds=29)
    assert desk.claim("b") is None
    assert desk.get(job.id).done == 5


@pytest.mark.parametrize(
    ("operation", "command"),
    [
        (jobs.renew, lambda job: jobs.Renewal(job, LEASE, {"done": 99})),
        (jobs.finish, lambda job: jobs.Ended(job, {"rows": 99})),
        (jobs.fail, lambda job: jobs.Ended(job, error="late")),
    ],
    ids=["renew", "finish", "fail"],
)
def test_a_worker_that_lost_its_job_changes_nothing_any_more(desk: Desk, operation: Any, command: Any) -> None:
    desk.enqueue()
    lost = desk.claimed("a")
    desk.clock.advance(seconds=31)
    held = desk.claimed("b")
    before = desk.get(held.id)
    assert desk.do(operation, command(lost)) is False
    assert desk.get(held.id) == before
    assert desk.do(jobs.finish, jobs.Ended(held, {"rows": 1}))
    assert desk.do(operation, command(lost)) is False
    assert desk.get(held.id).result == {"rows": 1}


def test_a_finished_job_keeps_its_result_and_not_what_it_was_told(desk: Desk) -> None:
    desk.enqueue()
    job = desk.claimed()
    desk.do(jobs.finish, jobs.Ended(job, {"rows": 3}))
    done = desk.get(job.id)
    assert (done.state, done.result, done.payload, done.error) == ("done", {"rows": 3}, {}, "")
    assert (done.finished_at, done.lease_until) == (desk.clock.now, None)
    assert desk.claim() is None


def test_a_failed_job_is_tried_again_after_ever_longer_pauses(desk: Desk) -> None:
    id = desk.enqueue()
    pauses: list[float] = []
    for attempt in range(1, rows.MAX_ATTEMPTS):
        job = desk.claimed()
        desk.do(jobs.fail, jobs.Ended(job, error=f"no {attempt}"))
        waiting = desk.get(id)
        assert (waiting.state, waiting.error, waiting.attempts) == ("queued", f"no {attempt}", attempt)
        pauses.append((waiting.run_at - desk.clock.now).total_seconds())
        desk.clock.now = waiting.run_at
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_after_its_last_attempt_a_job_has_failed_for_good(desk: Desk) -> None:
    id = desk.enqueue(dedupe="x")
    for _ in range(rows.MAX_ATTEMPTS):
        desk.do(jobs.fail, jobs.Ended(desk.claimed(), error="no"))
        desk.clock.advance(hours=1)
    failed = desk.get(id)
    assert (failed.state, failed.attempts, failed.error) == ("failed", rows.MAX_ATTEMPTS, "no")
    assert failed.finished_at is not None
    assert desk.claim() is None
    assert desk.enqueue(dedupe="x") != id, "it may be asked for anew"


def test_a_job_that_no_worker_outlives_is_given_up(desk: Desk) -> None:
    id, other = desk.enqueue("deadly"), desk.enqueue("harmless", run_at=desk.clock.now + timedelta(days=1))
    for number in range(rows.MAX_ATTEMPTS):
        assert desk.claimed(f"w{number}").id == id
        desk.clock.advance(seconds=31)
    assert desk.claim() is None
    failed = desk.get(id)
    assert failed.state == "failed"
    assert failed.error == "10 workers ended while they worked on it; the last one was w9"
    desk.clock.advance(days=1)
    assert desk.claimed().id == other


def test_whoever_is_alone_takes_all_running_jobs_over_at_once(desk: Desk) -> None:
    ids = [desk.enqueue(), desk.enqueue()]
    desk.claimed("gone")
    assert desk.do(jobs.release_all) == 1
    assert {desk.claimed("b").id, desk.claimed("b").id} == set(ids)


def test_many_workers_at_once_share_the_jobs_and_never_one_job(desk: Desk) -> None:
    ids = {desk.enqueue() for _ in range(40)}
    taken: list[str] = []

    def work(name: str) -> None:
        while (job := desk.claim(name)) is not None:
            taken.append(job.id)
            desk.do(jobs.finish, jobs.Ended(job))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A worker that finds every due job locked by others may end early: what is left is there for the next.
    while (job := desk.claim()) is not None:
        taken.append(job.id)
    assert len(taken) == len(ids)
    assert set(taken) == ids


def test_jobs_of_another_tenant_are_not_seen(desk: Desk) -> None:
    id = desk.enqueue()
    stranger = make_actor(desk.database, organization="other")
    from labkeep.core.commands import Get, ListJobs

    with pytest.raises(NotFound):
        desk.database.read(jobs.get, stranger, Get(id=id))
    assert desk.database.read(jobs.list_, stranger, ListJobs()).items == []
