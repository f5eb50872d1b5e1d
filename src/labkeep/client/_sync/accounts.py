# Generated from labkeep/client/_async/accounts.py by scripts/unasync.py: change that file instead.
"""Workspaces, keys and members."""

from __future__ import annotations

from datetime import datetime

from labkeep.client import requests
from labkeep.client._sync.connection import Connection, Pages
from labkeep.core.commands import NewKey
from labkeep.core.entities import ApiKey, Member, Workspace


class Workspaces:
    """``client.workspaces``: rooms of the organization."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Pages[Workspace]:
        """Workspaces of the organization."""
        return self._connection.pages(Workspace, requests.path("/workspaces"), limit=limit, cursor=cursor)

    def create(self, name: str, *, organization: str | None = None) -> Workspace:
        """A new workspace; another organization than one's own needs the server scope and is made when missing."""
        return self._connection.write(Workspace, "POST", requests.path("/workspaces"), requests.given(locals()))


class Keys:
    """``client.keys``: API keys of the workspace."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Pages[ApiKey]:
        """Keys without their secrets."""
        return self._connection.pages(ApiKey, requests.path("/keys"), limit=limit, cursor=cursor)

    def create(
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
        return self._connection.write(NewKey, "POST", requests.path("/keys"), requests.given(locals()))

    def resume(self, id: str, *, reason: str | None = None) -> ApiKey:
        """Let an agent's key remove things again that was suspended for trashing too much at once."""
        path = requests.path("/keys/{id}/resume", id=id)
        return self._connection.write(ApiKey, "POST", path, requests.given({"reason": reason}))

    def revoke(self, id: str) -> ApiKey:
        """Make a key unusable at once."""
        return self._connection.write(ApiKey, "DELETE", requests.path("/keys/{id}", id=id))


class Members:
    """``client.members``: who may do what in the workspace."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Pages[Member]:
        """Members of the workspace."""
        return self._connection.pages(Member, requests.path("/members"), limit=limit, cursor=cursor)

    def set(self, user: str, role: str) -> Member:
        """Give ``user`` a role in the workspace."""
        return self._connection.write(Member, "PUT", requests.path("/members/{user}", user=user), {"role": role})
