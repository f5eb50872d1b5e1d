"""Waiting for background jobs, with a bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from labkeep.cli.cells import clean
from labkeep.cli.session import Session
from labkeep.core.errors import LabkeepError, Unavailable

if TYPE_CHECKING:
    from labkeep.core.entities import Job

EVERY_S = 0.1
SLOWEST_S = 2.0

Show = Callable[["Job"], None]


def wait_for(session: Session, id: str, *, timeout_s: float | None = None) -> Job:
    """The job once it is done. LabkeepError when it failed for good, Unavailable when time ran out."""
    started, pause, failures = time.monotonic(), EVERY_S, 0
    with _bar(session) as show:
        while True:
            job = session.client.jobs.get(id)
            show(job)
            if job.state == "done":
                return job
            if job.state == "failed":
                raise LabkeepError(f"job {id} ({job.task}) failed: {job.error}", job_id=id)
            if job.error and job.attempts > failures:
                failures = job.attempts
                session.output.note(f"attempt {job.attempts} went wrong and is made again: {clean(job.error)}")
            if timeout_s is not None and time.monotonic() - started >= timeout_s:
                raise Unavailable(f"job {id} ({job.task}) is still {job.state} after {timeout_s:g} s", job_id=id)
            time.sleep(pause)
            pause = min(pause * 1.3, SLOWEST_S)


@contextmanager
def _bar(session: Session) -> Iterator[Show]:
    """A bar on standard error, so that it never mixes with the answer."""
    if not session.human or session.json:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    looks = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*looks, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda job: progress.update(bar, description=job.task, completed=job.done, total=job.total or None)
