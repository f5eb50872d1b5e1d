"""Runs jobs: claims one, keeps its lease while the task works, notes how it ended."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any

import msgspec

from labkeep.core.access import Actor
from labkeep.core.entities import Job, Json
from labkeep.core.errors import LabkeepError
from labkeep.core.faults import reach
from labkeep.operations import Store, jobs
from labkeep.operations.purges import system

log = logging.getLogger("labkeep.worker")

POLL_S = 1.0
"""How long an idle worker waits when nothing wakes it."""

TURN_S = 5.0
"""How long a job that can be interrupted keeps the worker while others may wait."""

RENEWALS = 4
"""Times that a lease is extended before it would run out."""


class Lost(Exception):
    """The lease went to another worker: stop, without noting anything."""


class Lease:
    """Keeps a job while its task works, from a thread of its own: no step of a task is too long for it."""

    def __init__(self, store: Store, job: Job) -> None:
        self.job, self.lost = job, False
        self._store = store
        self._lease = timedelta(seconds=store.settings.job_lease_s)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="labkeep-lease", daemon=True)

    def renew(self, **values: Any) -> None:
        """Extend the lease now, and note ``values``. Unavailable when the database refuses."""
        renewal = jobs.Renewal(self.job, self._lease, values)
        if not self._store.database.write(jobs.renew, actor_of(self.job), renewal):
            self.lost = True

    def _keep(self) -> None:
        while not self._ended.wait(self._lease.total_seconds() / RENEWALS) and not self.lost:
            try:
                self.renew()
            except LabkeepError as error:
                log.warning("the lease of job %s cannot be extended: %s", self.job.id, error)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()


class Progress:
    """What a task reports through. ``done`` counts items, those of earlier attempts included."""

    def __init__(self, lease: Lease, stopping: threading.Event | None = None) -> None:
        self._lease = lease
        self._stopping = stopping or threading.Event()
        self._started = time.monotonic()
        self._count = 0
        self.done = lease.job.done

    @property
    def job(self) -> Job:
        """The job, as it was when the worker took it."""
        return self._lease.job

    @property
    def speed(self) -> float:
        """Items a second since this turn began."""
        return self._count / max(time.monotonic() - self._started, 1e-6)

    def pace(self, count: int, rate: float | None) -> jobs.Turn | None:
        """To be called after each step, with the items it did and how many a second are allowed.

        Waits as long as the rate asks for. A `Turn` when somebody else is to have the worker: a long job does not keep
        others waiting, and a worker that is asked to stop stops.
        """
        self._count += count
        spent = time.monotonic() - self._started
        ahead_s = 0.0 if rate is None else self._count / rate - spent
        if spent + ahead_s >= TURN_S or self._stopping.is_set():
            return jobs.Turn("queued", after_s=max(ahead_s, 0.0))
        if ahead_s > 0 and self._stopping.wait(ahead_s):
            return jobs.Turn("queued")
        return None

    def advance(self, count: int) -> None:
        """``count`` more items are done. Lost when another worker has the job."""
        self.done += count
        self._lease.renew(done=self.done)
        self.keep()

    def keep(self) -> None:
        """To be called between two steps. Lost when another worker has the job."""
        if self._lease.lost:
            raise Lost


Task = Callable[[Store, Job, Progress], Json | jobs.Turn | None]
"""Answers what the job came to; how it is to be left when it is not done; None when it has noted its end itself."""


class Worker:
    """A thread that runs due jobs and the schedule. ``tasks`` is a table: name -> function."""

    def __init__(
        self, store: Store, tasks: dict[str, Task], schedule: dict[str, tuple[float, Callable[[Store], Any]]]
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._store, self._tasks, self._schedule = store, tasks, schedule
        self._due = dict.fromkeys(schedule, 0.0)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="labkeep-worker", daemon=True)

    def start(self) -> None:
        """Run in the background until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the job at hand, then end."""
        self._stopping.set()
        self._store.database.job_waiting.set()
        if self._thread.is_alive():
            self._thread.join()

    def run(self) -> None:
        """Run until `stop`; for ``labkeep worker`` this is the whole process."""
        waiting = self._store.database.job_waiting
        while not self._stopping.is_set():
            waiting.clear()
            self.run_schedule()
            if not self.run_one():
                waiting.wait(POLL_S)

    def run_all(self) -> int:
        """Run what is due now and answer how many jobs that were: for tests and local stores."""
        count = 0
        while self.run_one():
            count += 1
        return count

    def run_one(self) -> bool:
        """Run the next job that is due; False when there is none."""
        claim = jobs.Claim(self.name, timedelta(seconds=self._store.settings.job_lease_s))
        try:
            job = self._store.database.write(jobs.claim_next, NOBODY, claim)
        except LabkeepError as error:
            log.warning("cannot look for jobs: %s", error)
            return False
        if job is None:
            return False
        reach("job.claimed")
        self._perform(job)
        return True

    def _perform(self, job: Job) -> None:
        try:
            with Lease(self._store, job) as lease:
                result = self._tasks[job.task](self._store, job, Progress(lease, self._stopping))
        except Lost:
            log.warning("job %s (%s) was taken over by another worker", job.id, job.task)
            return
        except Exception as error:  # whatever a task does, the worker lives on and notes it
            log.exception("job %s (%s) failed at attempt %d", job.id, job.task, job.attempts)
            self._note(jobs.fail, jobs.Ended(job, error=_in_words(error)))
            return
        if result is None:
            return
        if isinstance(result, jobs.Turn):
            self._note(jobs.leave, jobs.Turned(job, result))
            return
        reach("job.finished")
        self._note(jobs.finish, jobs.Ended(job, result=msgspec.to_builtins(result)))

    def _note(self, operation: Callable[[Any, Actor, Any], bool], ended: jobs.Ended | jobs.Turned) -> None:
        try:
            if not self._store.database.write(operation, actor_of(ended.job), ended):
                log.warning("job %s (%s) was taken over by another worker", ended.job.id, ended.job.task)
        except LabkeepError as error:
            # It is done once more when its lease runs out, which every task must stand.
            log.warning("how job %s (%s) ended cannot be noted: %s", ended.job.id, ended.job.task, error)

    def run_schedule(self) -> None:
        """Do what is due by the clock."""
        now = time.monotonic()
        for name, (every_s, function) in self._schedule.items():
            if now < self._due[name]:
                continue
            self._due[name] = now + every_s
            try:
                function(self._store)
            except Exception:  # a fault in one of these must not end all work in the background
                log.exception("scheduled %s failed; next try in %.0f s", name, every_s)


def _in_words(error: Exception) -> str:
    """What everybody who sees the job may read: of a fault of ours, that is only where to look."""
    name = type(error).__name__
    return f"{name}: {error}"[:2000] if isinstance(error, LabkeepError) else f"{name}: see the worker's log"


NOBODY = system("00000000-0000-7000-8000-000000000000", "")
"""The actor of who looks for jobs of all organizations."""


def actor_of(job: Job) -> Actor:
    """The actor that works on a job."""
    return system(job.organization_id, job.workspace_id)
