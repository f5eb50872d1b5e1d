"""The verbs of the lifecycle, the same for every kind of object."""

from __future__ import annotations

from typing import Any

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection
from labkeep.core.commands import Outcome
from labkeep.core.entities import Item


class AsyncItems:
    """Any object with a lifecycle, by id.

    Every verb raises NotFound for what this key cannot see, Gone for what was purged, Forbidden without the permission,
    and a Conflict (Illegal, Held, InUse, Stale) with what can be done about it. Doing it twice is no error: the answer
    counts in ``already`` what was in the wanted state before.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def archive(
        self,
        id: str,
        *,
        reason: str = "",
        ticket: str = "",
        plan_hash: str | None = None,
        background: bool | None = None,
        rate: float | None = None,
    ) -> Outcome:
        """Take it out of the default lists and refuse changes, until it is unarchived."""
        return await self._verb(
            "archive", id, reason=reason, ticket=ticket, plan_hash=plan_hash, background=background, rate=rate
        )

    async def unarchive(
        self,
        id: str,
        *,
        reason: str = "",
        ticket: str = "",
        plan_hash: str | None = None,
        background: bool | None = None,
        rate: float | None = None,
    ) -> Outcome:
        """Back from the archive."""
        return await self._verb(
            "unarchive", id, reason=reason, ticket=ticket, plan_hash=plan_hash, background=background, rate=rate
        )

    async def trash(
        self,
        id: str,
        *,
        reason: str = "",
        ticket: str = "",
        on_running: str = "refuse",
        force: bool = False,
        plan_hash: str | None = None,
        background: bool | None = None,
        rate: float | None = None,
    ) -> Outcome:
        """Move it to the trash, from where ``restore`` brings it back until ``restorable_until``.

        ``on_running="stop"`` stops a running run first; ``force`` unbinds and unlinks what depends on it. With the
        ``plan_hash`` of a plan it happens only if the world is still as the plan saw it (Stale otherwise). What holds
        very much goes in the background (``job_id`` of the answer), ``rate`` objects a second, unless ``background`` is
        False.
        """
        return await self._verb(
            "trash",
            id,
            reason=reason,
            ticket=ticket,
            on_running=on_running,
            force=force,
            plan_hash=plan_hash,
            background=background,
            rate=rate,
        )

    async def restore(
        self,
        id: str,
        *,
        reason: str = "",
        ticket: str = "",
        background: bool | None = None,
        rate: float | None = None,
    ) -> Outcome:
        """Out of the trash, to the state that it had before, with its bindings. AlreadyExists when its name is taken."""
        return await self._verb("restore", id, reason=reason, ticket=ticket, background=background, rate=rate)

    async def purge(
        self, id: str, *, reason: str = "", ticket: str = "", force: bool = False, plan_hash: str | None = None
    ) -> Outcome:
        """Remove for good what is in the trash. ``job_id`` of the answer says which job does it; see ``jobs.wait``."""
        return await self._verb("purge", id, reason=reason, ticket=ticket, force=force, plan_hash=plan_hash)

    async def lock(self, id: str, *, reason: str = "") -> Item:
        """Refuse to trash it until the lock is lifted."""
        return await self._lock(id, locked=True, reason=reason)

    async def unlock(self, id: str, *, reason: str = "") -> Item:
        """Lift the lock."""
        return await self._lock(id, locked=False, reason=reason)

    async def _verb(self, verb: str, id: str, **fields: Any) -> Outcome:
        path = requests.path("/items/{id}/" + verb, id=await self._item_id(id))
        return await self._connection.write(Outcome, "POST", path, requests.given(fields))

    async def _lock(self, id: str, **fields: Any) -> Item:
        path = requests.path("/items/{id}/lock", id=await self._item_id(id))
        return await self._connection.write(Item, "PUT", path, fields)

    async def _item_id(self, id: str) -> str:
        """The id of what the caller means; resources that can be named override it."""
        return id


class AsyncAnyItems(AsyncItems):
    """``client.items``: when the kind does not matter."""

    async def get(self, id: str, *, include: str = "") -> Item:
        """What all kinds have in common. ``include="trashed"`` also finds it in the trash."""
        return await self._connection.read(Item, requests.path("/items/{id}", id=id), include=include or None)
