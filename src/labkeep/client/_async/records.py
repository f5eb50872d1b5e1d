"""Deletions, the trash and usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.core.commands import Outcome, TrashedItem, Usage
from labkeep.core.entities import Deletion, DeletionMember


class AsyncDeletions:
    """``client.deletions``: the record of each trash, with what is needed to take it back."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        state: str | None = None,
        item_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[Deletion]:
        """Deletions, newest first; with ``item_id`` those that held this object."""
        return self._connection.pages(Deletion, requests.path("/deletions"), **requests.given(locals()))

    async def get(self, id: str, *, include: str | None = None) -> Deletion:
        """One deletion."""
        return await self._connection.read(Deletion, requests.path("/deletions/{id}", id=id), include=include)

    def members(self, id: str, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[DeletionMember]:
        """What belonged to a deletion, and what each was before."""
        path = requests.path("/deletions/{id}/members", id=id)
        return self._connection.pages(DeletionMember, path, limit=limit, cursor=cursor)

    async def restore(
        self,
        id: str,
        *,
        ids: Sequence[str] | None = None,
        names: Mapping[str, str] | None = None,
        reason: str | None = None,
        background: bool | None = None,
        rate: float | None = None,
    ) -> Outcome:
        """Put back exactly what the deletion holds, or only ``ids`` of it. A large one comes back in the background.

        ``names`` (id → name) gives new names where the old one is taken; ``not_rebound`` of the answer lists bindings
        that could not be put back.
        """
        path = requests.path("/deletions/{id}/restore", id=id)
        fields = requests.given({"ids": ids, "names": names, "reason": reason, "background": background, "rate": rate})
        return await self._connection.write(Outcome, "POST", path, fields)

    async def purge(self, id: str, *, reason: str | None = None, ticket: str | None = None) -> Outcome:
        """Remove for good what the deletion holds. A job, ``job_id`` of the answer, does it and verifies itself."""
        path = requests.path("/deletions/{id}/purge", id=id)
        fields = requests.given({"reason": reason, "ticket": ticket})
        return await self._connection.write(Outcome, "POST", path, fields)


class AsyncTrash:
    """``client.trash``: what is in it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        kind: str | None = None,
        project: str | None = None,
        order: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[TrashedItem]:
        """What is in the trash: who, when, why, how large and how long it stays.

        ``order``: newest (deletion first), oldest, largest, or due (what is purged next).
        """
        return self._connection.pages(TrashedItem, requests.path("/trash"), **requests.given(locals()))


class AsyncUsages:
    """``client.usage``: who holds how much."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(self, *, by: str | None = None, project: str | None = None, limit: int | None = None) -> AsyncPages[Usage]:
        """Objects and bytes by ``organization``, ``workspace``, ``project``, ``run``, ``user``, ``tag`` or ``kind``, the
        ``limit`` largest first, and how much of them sits in the trash. Owners only for the first two.
        """
        return self._connection.pages(Usage, requests.path("/usage"), by=by, project=project, limit=limit)
