"""Runs jobs: claims one, keeps its lease while the task works, notes how it ended."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from labkeep.core.entities import Job, Json
from labkeep.core.errors import LabkeepError
from labkeep.core.faults import reach
from labkeep.operations import Store
from labkeep.operations.jobs import claim_next, fail_job, finish_job, renew_job
from labkeep.operations.purges import system

log = logging.getLogger("labkeep.worker")

POLL_S = 1.0
"""How long an idle worker waits when nothing wakes it."""

RENEW_S = 15.0
"""How often a lease is extended while its task works."""


class Lost(Exception):
    """The lease went to another worker: stop, without noting anything."""


class Progress:
    """What a task reports through: extends the lease, stores the counts, and says when to stop."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store, self._job = store, job
        self._renewed = time.monotonic()
        self.done = job.done

    def advance(self, count: int, **values: Any) -> None:
        """``count`` more items are done."""
        self.done += count
        self.keep(force=count > 0, done=self.done, **values)

    def keep(self, *, force: bool = False, **values: Any) -> None:
        """Extend the lease when it is time to. Lost when another worker has it."""
        if not force and time.monotonic() - self._renewed < RENEW_S:
            return
        self._renewed = time.monotonic()
        actor = system(self._job.organization_id, self._job.workspace_id)
        if not self._store.database.write(renew_job, actor, (self._job, values)):
            raise Lost


Task = Callable[[Store, Job, Progress], Json]


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
            self._run_schedule()
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
        nobody = system("00000000-0000-7000-8000-000000000000", "")
        try:
            job = self._store.database.write(claim_next, nobody, self.name)
        except LabkeepError as error:
            log.warning("cannot look for jobs: %s", error)
            return False
        if job is None:
            return False
        reach("job.claimed")
        self._perform(job)
        return True

    def _perform(self, job: Job) -> None:
        actor = system(job.organization_id, job.workspace_id)
        try:
            result = self._tasks[job.task](self._store, job, Progress(self._store, job))
        except Lost:
            log.warning("job %s (%s) was taken over by another worker", job.id, job.task)
            return
        except Exception as error:  # whatever a task does, the worker lives on and notes it
            log.exception("job %s (%s) failed at attempt %d", job.id, job.task, job.attempts)
            self._store.database.write(fail_job, actor, (job, f"{type(error).__name__}: {error}"[:2000]))
            return
        reach("job.finished")
        self._store.database.write(finish_job, actor, (job, msgspec.to_builtins(result)))

    def _run_schedule(self) -> None:
        now = time.monotonic()
        for name, (every_s, function) in self._schedule.items():
            if now < self._due[name]:
                continue
            self._due[name] = now + every_s
            try:
                function(self._store)
            except LabkeepError:
                log.exception("scheduled %s failed; next try in %.0f s", name, every_s)
