"""A large verb as a job: look at the whole, then do it batch by batch, as its owner wants."""

from __future__ import annotations

import math

from labkeep.core.entities import Job
from labkeep.core.errors import Conflict, LabkeepError, Refused
from labkeep.core.faults import reach
from labkeep.operations import Store, executions
from labkeep.operations.handovers import Asked
from labkeep.operations.jobs import Turn
from labkeep.storage.executions import Waiting
from labkeep.storage.jobs import MAX_ATTEMPTS
from labkeep.worker.jobs import Lost, Progress, actor_of


class Interrupted(Exception):
    """The job's owner wants something else than to go on."""

    def __init__(self, wanted: str) -> None:
        super().__init__(wanted)
        self.wanted = wanted


def execute(store: Store, job: Job, progress: Progress) -> Turn | None:
    """Do what a large job was asked for. Killed at any point, it goes on: nothing is done twice, nothing is left out."""
    try:
        if not Asked.of(job).checked:
            _check(store, job, progress)
        return _move(store, job, progress)
    except Interrupted as interrupted:
        if interrupted.wanted == "pause":
            return Turn("paused")
        _close(store, job, progress, "cancelled")
    except _Impossible as impossible:
        _close(store, job, progress, "failed", str(impossible))
    except LabkeepError as error:
        if job.attempts < MAX_ATTEMPTS:
            raise
        _close(store, job, progress, "failed", _in_words(error))
    return None


class _Impossible(Exception):
    """What was asked for cannot be done, however often it is tried."""


def _check(store: Store, job: Job, progress: Progress) -> None:
    database, actor = store.database, actor_of(job)
    _unstage(store, job, progress)

    def sink(waiting: list[Waiting]) -> None:
        progress.keep()
        wanted = database.write(executions.stage, actor, executions.Staged(job, waiting))
        reach("apply.staged")
        _heed(wanted)

    try:
        checked = database.read(executions.check, actor, executions.Check(Asked.of(job), sink))
    except (Refused, Conflict) as error:
        raise _Impossible(_in_words(error)) from error
    if not database.write(executions.accept, actor, executions.Accepted(job, checked)):
        raise Lost
    reach("apply.accepted")


def _heed(wanted: str | None) -> None:
    if wanted is None:
        raise Lost
    if wanted != "run":
        raise Interrupted(wanted)


def _move(store: Store, job: Job, progress: Progress) -> Turn | None:
    batch, rate = store.settings.apply_batch, Asked.of(job).rate
    while True:
        # Of a slow job only what a second allows, so that it can be told to stop.
        limit = batch if rate is None else max(1, min(batch, math.ceil(rate)))
        step = executions.Move(job, limit, progress.speed)
        moved = store.database.write(executions.move, actor_of(job), step)
        if moved is None:
            raise Lost
        _heed(moved.wanted)
        if not moved.done:
            _close(store, job, progress, "done")
            return None
        reach("apply.moved")
        progress.keep()
        rate = moved.rate
        turn = progress.pace(moved.done, rate)
        if turn is not None:
            return turn


def _unstage(store: Store, job: Job, progress: Progress) -> None:
    while store.database.write(executions.unstage, actor_of(job), job):
        reach("apply.unstaged")
        progress.keep()


def _close(store: Store, job: Job, progress: Progress, state: str, error: str = "") -> None:
    _unstage(store, job, progress)
    reach("apply.closing")
    if not store.database.write(executions.close, actor_of(job), executions.Closed(job, state, error)):
        raise Lost
    reach("apply.closed")


def _in_words(error: LabkeepError) -> str:
    return f"{type(error).__name__}: {error}"[:2000]
