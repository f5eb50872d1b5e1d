"""Background jobs: looking at them, waiting for them, and telling them what to do."""

from __future__ import annotations

from collections.abc import Callable

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.client.pause import async_pause
from labkeep.core.commands_jobs import JobItem
from labkeep.core.entities import Job
from labkeep.core.errors import Unavailable

ENDED = ("done", "failed", "cancelled")
"""States in which nothing more happens by itself."""


class AsyncJobs:
    """``client.jobs``: what goes on in the background."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(self, *, state: str | None = None, limit: int | None = None, cursor: str | None = None) -> AsyncPages[Job]:
        """Background jobs, newest first."""
        return self._connection.pages(Job, requests.path("/jobs"), **requests.given(locals()))

    async def get(self, id: str, *, include: str | None = None) -> Job:
        """One job: ``state`` (queued, running, paused, done, failed, cancelled), how much of ``total`` is ``done``, and
        what it came to so far in ``result``."""
        return await self._connection.read(Job, requests.path("/jobs/{id}", id=id), include=include)

    def items(
        self, id: str, *, outcome: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> AsyncPages[JobItem]:
        """Objects that a job left as they were, and why; ``outcome`` is already, blocked or stale."""
        path = requests.path("/jobs/{id}/items", id=id)
        return self._connection.pages(JobItem, path, outcome=outcome, limit=limit, cursor=cursor)

    async def pause(self, id: str) -> Job:
        """Have a job wait until it is resumed. What it has done stays done."""
        return await self._connection.write(Job, "POST", requests.path("/jobs/{id}/pause", id=id), {})

    async def resume(self, id: str, *, rate: float | None = None) -> Job:
        """Let a job go on; ``rate`` limits it to so many objects a second from now on."""
        path = requests.path("/jobs/{id}/resume", id=id)
        return await self._connection.write(Job, "POST", path, requests.given({"rate": rate}))

    async def cancel(self, id: str) -> Job:
        """End a job before it is done. What it has done stays done; a deletion can be restored as any other."""
        return await self._connection.write(Job, "POST", requests.path("/jobs/{id}/cancel", id=id), {})

    async def set_rate(self, id: str, rate: float | None) -> Job:
        """Limit a job to ``rate`` objects a second; None lets it go as fast as it can."""
        return await self._connection.write(Job, "PUT", requests.path("/jobs/{id}/rate", id=id), {"rate": rate})

    async def wait(
        self,
        id: str,
        *,
        timeout_s: float = 300.0,
        every_s: float = 0.2,
        on_progress: Callable[[Job], None] | None = None,
    ) -> Job:
        """The job once it is ``done``, ``failed`` or ``cancelled``; ``on_progress`` is called each time it was looked at.

        Unavailable when that takes longer than ``timeout_s``.
        """
        waited = 0.0
        while True:
            job = await self.get(id)
            if on_progress is not None:
                on_progress(job)
            if job.state in ENDED:
                return job
            if waited >= timeout_s:
                raise Unavailable(f"job {id} ({job.task}) is still {job.state} after {timeout_s:g} s", id=id)
            await async_pause(every_s)
            waited += every_s
