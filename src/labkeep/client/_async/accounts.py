"""Workspaces, keys and members."""

from __future__ import annotations

from datetime import datetime

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.core.commands import NewKey
from labkeep.core.entities import ApiKey, Member, Workspace


class AsyncWorkspaces:
    """``client.workspaces``: rooms of the organization."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[Workspace]:
        """Workspaces of the organization."""
        return self._connection.pages(Workspace, requests.path("/workspaces"), limit=limit, cursor=cursor)

    async def create(self, name: str, *, organization: str | None = None) -> Workspace:
        """A new workspace; another organization than one's own needs the server scope and is made when missing."""
        return await self._connection.write(Workspace, "POST", requests.path("/workspaces"), requests.given(locals()))


class AsyncKeys:
    """``client.keys``: API keys of the workspace."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[ApiKey]:
        """Keys without their secrets."""
        return self._connection.pages(ApiKey, requests.path("/keys"), limit=limit, cursor=cursor)

    async def create(
        self,
        user: str,
        *,
        role: str | None = None,
        workspace: str | None = None,
        organization: str | None = None,
        name: str | None = None,
        agent: bool | None = None,
        expires_at: datetime | None = None,
        daily_trash: int | None = None,
    ) -> NewKey:
        """A new key for ``user``, who becomes a member with at least ``role`` (viewer, editor, maintainer, owner).

        ``secret`` of the answer is shown this once. An ``agent`` key may trash, ``daily_trash`` objects in 24
        hours at the most, but never purge.
        """
        return await self._connection.write(NewKey, "POST", requests.path("/keys"), requests.given(locals()))

    async def resume(self, id: str, *, reason: str | None = None) -> ApiKey:
        """Let an agent's key remove things again that was suspended for trashing too much at once."""
        path = requests.path("/keys/{id}/resume", id=id)
        return await self._connection.write(ApiKey, "POST", path, requests.given({"reason": reason}))

    async def revoke(self, id: str) -> ApiKey:
        """Make a key unusable at once."""
        return await self._connection.write(ApiKey, "DELETE", requests.path("/keys/{id}", id=id))


class AsyncMembers:
    """``client.members``: who may do what in the workspace."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[Member]:
        """Members of the workspace."""
        return self._connection.pages(Member, requests.path("/members"), limit=limit, cursor=cursor)

    async def set(self, user: str, role: str) -> Member:
        """Give ``user`` a role in the workspace."""
        return await self._connection.write(Member, "PUT", requests.path("/members/{user}", user=user), {"role": role})
