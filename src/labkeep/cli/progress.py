"""Waiting for background jobs, with a bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from labkeep.cli.cells import clean
from labkeep.cli.session import Session
from labkeep.core.errors import LabkeepError, Unavailable

if TYPE_CHECKING:
    from labkeep.core.entities import Job

EVERY_S = 0.1
SLOWEST_S = 2.0

Show = Callable[["Job"], None]


ENDED = ("done", "failed", "cancelled")
"""States in which nothing more happens by itself."""


def wait_for(session: Session, id: str, *, timeout_s: float | None = None, ends: Collection[str] = ENDED) -> Job:
    """The job once it is done, or in another state of ``ends``. LabkeepError when it failed for good or was cancelled,
    Unavailable when time ran out."""
    started, pause, failures = time.monotonic(), EVERY_S, 0
    with _bar(session) as show:
        while True:
            job = session.client.jobs.get(id)
            show(job)
            if job.state in ends:
                return _ended(job)
            if job.error and job.attempts > failures:
                failures = job.attempts
                session.output.note(f"attempt {job.attempts} went wrong and is made again: {clean(job.error)}")
            if timeout_s is not None and time.monotonic() - started >= timeout_s:
                raise Unavailable(f"job {id} ({job.task}) is still {job.state} after {timeout_s:g} s", job_id=id)
            time.sleep(pause)
            pause = min(pause * 1.3, SLOWEST_S)


def _ended(job: Job) -> Job:
    if job.state == "failed":
        raise LabkeepError(f"job {job.id} ({job.task}) failed: {job.error}", job_id=job.id)
    if job.state == "cancelled":
        raise LabkeepError(f"job {job.id} ({job.task}) was cancelled after {job.done} of {job.total}", job_id=job.id)
    return job


def remaining(job: Job) -> str:
    """How long a job that goes on will take at the speed it has; empty when nobody knows."""
    speed = float(job.result.get("speed") or 0)
    if job.state != "running" or not job.total or speed <= 0:
        return ""
    return str(timedelta(seconds=round((job.total - job.done) / speed)))


@contextmanager
def _bar(session: Session) -> Iterator[Show]:
    """A bar on standard error, so that it never mixes with the answer."""
    if not session.human or session.json:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    more = TextColumn("{task.fields[more]}")
    looks = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), more)
    with Progress(*looks, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None, more="")
        yield lambda job: progress.update(
            bar, description=_doing(job), completed=job.done, total=job.total or None, more=_pace(job)
        )


def _doing(job: Job) -> str:
    verb = str(job.result.get("verb", job.task))
    return verb if job.state == "running" else f"{verb} ({job.state})"


def _pace(job: Job) -> str:
    speed, left = float(job.result.get("speed") or 0), remaining(job)
    return f"{speed:,.0f}/s" + (f", {left} left" if left else "") if speed and job.state == "running" else ""
