"""The worker: what it does with jobs that end well, badly, late, or not at all; and with the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkeep import server
from labkeep.core.access import Actor
from labkeep.core.commands import Get, ListJobs
from labkeep.core.entities import Job, Json
from labkeep.core.errors import Conflict, Unavailable
from labkeep.operations import Store, jobs
from labkeep.storage import jobs as rows
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_store
from labkeep.worker.jobs import Progress, Task, Worker
from labkeep.worker.tasks import SCHEDULE, TASKS


class Shop:
    """A store, one actor, and a table of tasks to fill."""

    def __init__(self, store: Store, clock: FixedClock) -> None:
        self.store, self.clock = store, clock
        self.actor: Actor = make_actor(store.database)
        self.tasks: dict[str, Task] = {}
        self.worker = Worker(store, self.tasks, {})

    def enqueue(self, task: str, **options: Any) -> str:
        def add(tx: Tx, actor: Actor, _command: None) -> str:
            return rows.enqueue(tx, actor, task, {"a": 1}, **options)

        return self.store.database.write(add, self.actor, None)

    def get(self, id: str) -> Job:
        return self.store.database.read(jobs.get, self.actor, Get(id=id))


@pytest.fixture
def shop(data_dir: Path) -> Iterator[Shop]:
    clock = FixedClock()
    with make_store(data_dir, clock, job_lease_s=1) as store:
        yield Shop(store, clock)


def wait_until(true: Any, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.01)


# --- how a job ends ---------------------------------------------------------------------------------------------------


def test_a_task_gets_its_job_and_its_result_is_kept(shop: Shop) -> None:
    seen: list[Job] = []

    def count(_store: Store, job: Job, _progress: Progress) -> Json:
        seen.append(job)
        return {"rows": 3}

    shop.tasks["count"] = count
    id = shop.enqueue("count")
    assert shop.worker.run_all() == 1
    assert (seen[0].id, seen[0].payload, seen[0].worker) == (id, {"a": 1}, shop.worker.name)
    assert (shop.get(id).state, shop.get(id).result) == ("done", {"rows": 3})
    assert shop.worker.run_one() is False


def test_what_we_raise_on_purpose_is_noted_in_words_and_a_fault_is_not_quoted(shop: Shop) -> None:
    def refuse(*_: Any) -> Json:
        raise Conflict("stream 'x' changes")

    def fault(*_: Any) -> Json:
        raise KeyError("somebody's secret")

    shop.tasks |= {"refuse": refuse, "fault": fault}
    first, second = shop.enqueue("refuse"), shop.enqueue("fault")
    shop.worker.run_all()
    assert (shop.get(first).state, shop.get(first).error) == ("queued", "Conflict: stream 'x' changes")
    assert shop.get(second).error == "KeyError: see the worker's log"


def test_a_failed_job_is_tried_again_later_and_may_then_succeed(shop: Shop) -> None:
    outcomes: list[Any] = [Unavailable("not now"), Unavailable("not now"), {"ok": True}]

    def moody(*_: Any) -> Json:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return dict(outcome)

    shop.tasks["moody"] = moody
    id = shop.enqueue("moody")
    assert shop.worker.run_all() == 1
    for pause_s in (2, 4):
        assert shop.worker.run_one() is False
        shop.clock.advance(seconds=pause_s)
        assert shop.worker.run_one() is True
    done = shop.get(id)
    assert (done.state, done.attempts, done.error, done.result) == ("done", 3, "", {"ok": True})


def test_a_task_of_a_newer_version_waits_for_a_worker_that_knows_it(shop: Shop) -> None:
    id = shop.enqueue("unheard of")
    shop.worker.run_all()
    assert (shop.get(id).state, shop.get(id).attempts) == ("queued", 1)


def test_the_worker_lives_on_when_the_database_does_not(shop: Shop) -> None:
    def pull_the_plug(store: Store, _job: Job, _progress: Progress) -> Json:
        store.database.close()
        return {}

    shop.tasks["plug"] = pull_the_plug
    shop.enqueue("plug")
    assert shop.worker.run_one() is True, "how it ended cannot be noted, and that is all"
    assert shop.worker.run_one() is False


# --- leases -----------------------------------------------------------------------------------------------------------


def test_the_lease_is_extended_while_one_long_step_goes_on(shop: Shop) -> None:
    leases: list[Any] = []

    def long(_store: Store, job: Job, _progress: Progress) -> Json:
        before = shop.get(job.id).lease_until
        shop.clock.advance(seconds=0.9)
        wait_until(lambda: shop.get(job.id).lease_until != before)
        leases.extend((before, shop.get(job.id).lease_until))
        return {}

    shop.tasks["long"] = long
    id = shop.enqueue("long")
    shop.worker.run_all()
    assert (leases[1] - leases[0]).total_seconds() == 0.9
    assert (shop.get(id).state, shop.get(id).attempts) == ("done", 1)


def test_progress_is_stored_and_goes_on_where_an_earlier_attempt_ended(shop: Shop) -> None:
    def half(_store: Store, _job: Job, progress: Progress) -> Json:
        progress.advance(5)
        if progress.done == 5:
            raise Unavailable("not now")
        return {"done": progress.done}

    shop.tasks["half"] = half
    id = shop.enqueue("half", total=10)
    shop.worker.run_all()
    assert (shop.get(id).done, shop.get(id).total) == (5, 10)
    shop.clock.advance(seconds=2)
    shop.worker.run_all()
    assert (shop.get(id).done, shop.get(id).result) == (10, {"done": 10})


@pytest.mark.parametrize("how", ["advance", "keep", "return", "raise"])
def test_a_job_that_was_taken_over_is_left_to_the_other_worker(shop: Shop, how: str) -> None:
    other = Worker(shop.store, shop.tasks, {})

    def slow(store: Store, job: Job, progress: Progress) -> Json:
        shop.clock.advance(seconds=2)
        taken = store.database.write(
            jobs.claim_next, shop.actor, jobs.Claim(other.name, shop.clock.now - shop.clock.now)
        )
        assert taken is not None
        if how == "advance":
            progress.advance(1)
        if how == "keep":
            wait_until(lambda: progress._lease.lost)
            progress.keep()
        if how == "raise":
            raise Unavailable("too late")
        assert how == "return", "a lost job goes on"
        return {"by": "the loser"}

    shop.tasks["slow"] = slow
    id = shop.enqueue("slow")
    shop.worker.run_one()
    job = shop.get(id)
    assert (job.state, job.worker, job.result, job.done, job.error) == ("running", other.name, {}, 0, "")


def test_a_job_of_a_process_that_is_gone_is_due_when_its_folder_is_opened(shop: Shop) -> None:
    id = shop.enqueue("count")
    shop.store.database.write(jobs.claim_next, shop.actor, jobs.Claim("gone", shop.clock.now - shop.clock.now))
    shop.tasks["count"] = lambda *_: {}
    server.prepare(shop.store)
    assert shop.worker.run_all() == 1
    assert shop.get(id).state == "done"


# --- the thread -------------------------------------------------------------------------------------------------------


def test_a_started_worker_is_woken_by_a_new_job_and_ends_when_told(shop: Shop) -> None:
    done = threading.Event()
    shop.tasks["ring"] = lambda *_: {"rung": done.set()}
    shop.worker.start()
    id = shop.enqueue("ring")
    assert done.wait(20)
    shop.worker.stop()
    assert shop.get(id).state == "done"
    assert not shop.worker._thread.is_alive()


def test_stopping_waits_for_the_job_at_hand_and_leaves_the_next(shop: Shop) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(*_: Any) -> Json:
        begun.set()
        assert go_on.wait(20)
        return {}

    shop.tasks["wait"] = wait
    first, second = shop.enqueue("wait"), shop.enqueue("wait")
    shop.worker.start()
    assert begun.wait(20)
    stopping = threading.Thread(target=shop.worker.stop)
    stopping.start()
    wait_until(shop.worker._stopping.is_set)
    go_on.set()
    stopping.join(20)
    assert (shop.get(first).state, shop.get(second).state) == ("done", "queued")


# --- the clock --------------------------------------------------------------------------------------------------------


def test_the_schedule_runs_at_the_start_and_then_not_before_its_time(shop: Shop) -> None:
    ran: list[str] = []
    often = (0.0, lambda _store: ran.append("often"))
    rarely = (3600.0, lambda _store: ran.append("rarely"))
    worker = Worker(shop.store, {}, {"often": often, "rarely": rarely})
    worker.run_schedule()
    worker.run_schedule()
    assert ran == ["often", "rarely", "often"]


@pytest.mark.parametrize("error", [Unavailable("not now"), KeyError("a fault of ours")])
def test_one_failing_schedule_keeps_no_other_from_running(shop: Shop, error: Exception) -> None:
    ran: list[str] = []

    def fail(_store: Store) -> None:
        raise error

    Worker(shop.store, {}, {"a": (1.0, fail), "b": (1.0, lambda _store: ran.append("b"))}).run_schedule()
    assert ran == ["b"]


def test_the_real_tables_run_on_an_empty_store(shop: Shop) -> None:
    worker = Worker(shop.store, TASKS, SCHEDULE)
    worker.run_schedule()
    assert worker.run_all() == 0
    assert shop.store.database.read(jobs.list_, shop.actor, ListJobs()).items == []
