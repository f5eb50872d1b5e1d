"""Projects, and the environments in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.client._async.items import AsyncItems
from labkeep.core.commands import TrashedItem
from labkeep.core.commands_encryption import Encryption
from labkeep.core.entities import Environment, Link, Project
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.ids import is_id


class AsyncProjects(AsyncItems):
    """``client.projects``. Where an id is asked for, a project's name will do."""

    async def create(
        self,
        name: str,
        *,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        exist_ok: bool | None = None,
    ) -> Project:
        """A new project. AlreadyExists when the name is taken, unless ``exist_ok``."""
        return await self._connection.write(Project, "POST", requests.path("/projects"), requests.given(locals()))

    def list(
        self,
        *,
        q: str | None = None,
        order: str | None = None,
        state: str | None = None,
        name: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[Project]:
        """Projects of the workspace."""
        return self._connection.pages(Project, requests.path("/projects"), **requests.given(locals()))

    async def get(self, id: str, *, include: str | None = None) -> Project:
        """A project by id or name."""
        return await self._connection.read(Project, requests.path("/projects/{id}", id=id), include=include)

    async def encryption(self, id: str) -> Encryption:
        """How much of a project's contents is stored encrypted, and how much in the clear; takes time in a large one."""
        return await self._connection.read(Encryption, requests.path("/projects/{id}/encryption", id=id))

    async def update(
        self,
        id: str,
        *,
        name: str | UnsetType = UNSET,
        description: str | UnsetType = UNSET,
        tags: Sequence[str] | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        settings: Mapping[str, Any] | UnsetType = UNSET,
        extra: Mapping[str, Any] | UnsetType = UNSET,
        if_version: int | UnsetType = UNSET,
    ) -> Project:
        """Edit a project. Objects merge deeply; None inside them removes a key."""
        body = requests.changed(locals(), "id")
        return await self._connection.write(Project, "PATCH", requests.path("/projects/{id}", id=id), body)

    async def _item_id(self, id: str) -> str:
        if is_id(id):
            return id
        try:
            return (await self.get(id)).id
        except NotFound:
            # What is in the trash has given its name up: another project may have it, and several may have had it.
            trashed = self._connection.pages(TrashedItem, requests.path("/trash"), kind="project")
            named = [item.id async for item in trashed if item.name == id]
            if len(named) > 1:
                raise Invalid(f"{len(named)} projects in the trash were called {id}; say which by its id") from None
            if not named:
                raise
            return str(named[0])


class AsyncEnvironments:
    """``client.environments``: names in a project that are bound to one version of a document."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(self, project: str, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[Environment]:
        """Environments of a project."""
        return self._connection.pages(Environment, requests.path("/environments"), **requests.given(locals()))

    async def get(self, project: str, name: str) -> Environment:
        """One environment by name."""
        path = requests.path("/environments/{name}", name=name)
        return await self._connection.read(Environment, path, project=project)

    async def bind(self, project: str, name: str, document_id: str | None, *, number: int | None = None) -> Environment:
        """Point ``name`` at a version of a document, the newest unless ``number`` says which; None unbinds it."""
        body = {"project": project, "name": name, "document_id": document_id, "number": number}
        return await self._connection.write(Environment, "PUT", requests.path("/environments"), body)


class AsyncLinks:
    """``client.links``: typed edges between any two objects."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(self, source_id: str, target_id: str, type: str, *, on_delete: str = "restrict") -> Link:
        """Say that the source depends on the target.

        ``on_delete`` is what trashing the target does: ``restrict`` refuses, ``unbind`` removes the link, ``cascade``
        trashes the source too, ``keep`` leaves the link.
        """
        return await self._connection.write(Link, "POST", requests.path("/links"), requests.given(locals()))

    async def remove(self, id: str) -> Link:
        """Take a link away; the answer is what it was."""
        return await self._connection.write(Link, "DELETE", requests.path("/links/{id}", id=id))

    def list(self, id: str, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[Link]:
        """Links from and to an object."""
        path = requests.path("/links/{id}", id=id)
        return self._connection.pages(Link, path, **requests.given(locals(), "id", "path"))
