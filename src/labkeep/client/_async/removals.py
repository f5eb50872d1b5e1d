"""Parts removed from runs and documents: rows, a metric, a file, console output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.core.removals import Removal, RemovalPlan, RequestedPurge


class AsyncRemovals:
    """``client.removals``: parts of a run or document that were removed, hidden at once and restorable for a while."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def plan(
        self,
        id: str,
        part: str,
        *,
        ids: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        q: str | None = None,
        ref: str | None = None,
        stream: str | None = None,
        before: datetime | None = None,
        upto: int | None = None,
    ) -> RemovalPlan:
        """What a removal would take, and what stands in its way. Nothing happens. Parameters as in `remove`."""
        return await self._connection.write(
            RemovalPlan, "POST", requests.path("/removals/plan"), requests.given(locals())
        )

    async def remove(
        self,
        id: str,
        part: str,
        *,
        ids: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        q: str | None = None,
        ref: str | None = None,
        stream: str | None = None,
        before: datetime | None = None,
        upto: int | None = None,
        versions: bool | None = None,
        plan_hash: str | None = None,
        reason: str | None = None,
        ticket: str | None = None,
    ) -> Removal:
        """Remove a part of the run or document ``id``; it is hidden from every read at once.

        ``part`` row: ``ids``, or what meets ``where`` (dotted path → value) and ``q``; metric: the key ``ref`` of
        ``stream`` (history unless said otherwise); file: the path ``ref``; console: all lines, those printed ``before``
        a moment, or the first ``upto``. ``versions=True`` lets reads as of an earlier transaction still show the rows.
        With ``plan_hash`` it takes just what the plan showed, or raises Stale.
        """
        return await self._connection.write(Removal, "POST", requests.path("/removals"), requests.given(locals()))

    def list(
        self,
        *,
        id: str | None = None,
        project: str | None = None,
        part: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[Removal]:
        """Removals, newest first: of one object, of a project, or of the workspace."""
        return self._connection.pages(Removal, requests.path("/removals"), **requests.given(locals()))

    def of_run(
        self,
        id: str,
        *,
        project: str | None = None,
        part: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[Removal]:
        """What was removed of one run, newest first; ``sentence`` of each says it in words."""
        path = requests.path("/runs/{id}/removals", id=id)
        return self._connection.pages(Removal, path, **requests.given(locals(), "id", "path"))

    async def get(self, id: str, *, include: str | None = None) -> Removal:
        """One removal."""
        return await self._connection.read(Removal, requests.path("/removals/{id}", id=id), include=include)

    async def restore(self, id: str, *, path: str | None = None, reason: str | None = None) -> Removal:
        """Put back exactly what a removal took; ``path`` is where a file goes whose own path is taken now."""
        fields = requests.given({"path": path, "reason": reason})
        return await self._connection.write(Removal, "POST", requests.path("/removals/{id}/restore", id=id), fields)

    async def purge(self, id: str, *, reason: str | None = None, ticket: str | None = None) -> RequestedPurge:
        """Remove for good what a removal holds. A job, ``job_id`` of the answer, does it and verifies itself."""
        fields = requests.given({"reason": reason, "ticket": ticket})
        return await self._connection.write(
            RequestedPurge, "POST", requests.path("/removals/{id}/purge", id=id), fields
        )
