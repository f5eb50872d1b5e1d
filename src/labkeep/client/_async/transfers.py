"""Moving objects between servers: exports and imports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.client._async.exporting import export
from labkeep.client._async.importing import Brought, bring
from labkeep.core.commands import Outcome
from labkeep.core.commands_transfer import Import, Imported, RowState, Stream


class AsyncTransfers:
    """``client.transfers``: everything that objects are into one file, and objects from such a file."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def export(
        self,
        path: str | Path,
        *,
        ids: Sequence[str] = (),
        project: str | None = None,
        q: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> str:
        """Write objects by id (a project with everything in it), a project, or the runs that ``q`` finds, to ``path``;
        everything in the workspace when nothing is named. Answers the archive's digest.

        Configs, summaries, histories as Parquet, rows with all their states, versions, files, environments and links.
        What was written by a try that broke off, in ``path`` with ``.part`` behind it, is not fetched again.
        ``progress`` gets the number of objects and of bytes so far.
        """
        return await export(self._connection, Path(path), ids=ids, project=project, q=q, progress=progress)

    async def bring(
        self,
        path: str | Path,
        *,
        remap: bool = False,
        into: str | None = None,
        name: str | None = None,
        names: Mapping[str, str] | None = None,
        resume: str | None = None,
        began: Callable[[str], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Brought:
        """Import the archive at ``path``, after reading all of it to see that it is whole and unchanged.

        Objects keep their ids, unless ``remap`` gives them new ones. ``into`` puts what was in a project into one that
        is there; ``name`` gives the project a new name; ``names`` does so for other objects, by their id in the archive.
        Nothing is seen before all of it is there. One that broke off goes on with ``resume``, the id that ``began`` was
        called with. AlreadyExists where ids or names are taken. ``progress`` gets members and bytes done so far.
        """
        return await bring(
            self._connection,
            Path(path),
            remap=remap,
            into=into,
            name=name,
            names=dict(names or {}),
            resume=resume,
            began=began,
            progress=progress,
        )

    async def start(
        self,
        archive: str,
        *,
        remap: bool | None = None,
        into: str | None = None,
        name: str | None = None,
        reason: str | None = None,
    ) -> Import:
        """Begin an import of the archive with this digest, for who sends the parts without a file. See `bring`."""
        return await self._connection.write(Import, "POST", requests.path("/imports"), requests.given(locals()))

    async def add_part(
        self,
        id: str,
        number: int,
        *,
        objects: Sequence[Mapping[str, Any]] = (),
        document_versions: Sequence[Mapping[str, Any]] = (),
        file_entries: Sequence[Mapping[str, Any]] = (),
        row_states: Sequence[Mapping[str, Any]] = (),
    ) -> Import:
        """Send the next part of an import; parts count from 0, and one that was taken before is left out."""
        path = requests.path("/imports/{id}/parts", id=id)
        body = {
            "number": number,
            "objects": objects,
            "document_versions": document_versions,
            "file_entries": file_entries,
            "row_states": row_states,
        }
        return await self._connection.write(Import, "POST", path, body)

    async def finish(self, id: str, *, names: Mapping[str, str] | None = None) -> Imported:
        """Have everything shown that an import brought. ``names``: id in the archive → name, where one is taken."""
        path = requests.path("/imports/{id}/finish", id=id)
        return await self._connection.write(Imported, "POST", path, {"names": dict(names or {})})

    async def get(self, id: str) -> Import:
        """How far an import is that is under way."""
        return await self._connection.read(Import, requests.path("/imports/{id}", id=id))

    async def give_up(self, id: str) -> Outcome:
        """Remove what an import brought so far, for good."""
        return await self._connection.write(Outcome, "DELETE", requests.path("/imports/{id}", id=id), {})

    def streams(self, id: str, *, include: str | None = None) -> AsyncPages[Stream]:
        """The streams of a run and the number of rows of each."""
        return self._connection.pages(Stream, requests.path("/runs/{id}/streams", id=id), include=include)

    def states(
        self, id: str, *, include: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> AsyncPages[RowState]:
        """Every state that the rows of a run or document ever had."""
        path = requests.path("/rows/{id}/states", id=id)
        return self._connection.pages(RowState, path, include=include, limit=limit, cursor=cursor)
