"""Artifacts, files and blobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.client._async.items import AsyncItems
from labkeep.client.downloads import Download, Memory
from labkeep.client.transport import Sink
from labkeep.client.uploads import Content, media_type_of, upload_of
from labkeep.core.commands import ManifestEntry
from labkeep.core.entities import Artifact, ArtifactVersion, File
from labkeep.core.errors import NotFound


class AsyncArtifacts(AsyncItems):
    """``client.artifacts``: collections of versions, each an immutable set of files. `labkeep.Artifact` makes them."""

    async def create(
        self,
        project: str,
        name: str,
        *,
        type: str | None = None,
        files: Iterable[ManifestEntry | Mapping[str, Any]] | None = None,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        aliases: Sequence[str] | None = None,
        run_id: str | None = None,
    ) -> ArtifactVersion:
        """A new version of the collection ``name``, which is made when missing. Equal content answers the newest version.

        ``files`` are `labkeep.core.commands.ManifestEntry` values or dicts: the path and the digest of an uploaded blob
        (see ``client.blobs``), or of a reference to somewhere else.
        """
        fields = requests.given(locals())
        if files is not None:
            fields["files"] = [*files]
        return await self._connection.write(ArtifactVersion, "POST", requests.path("/artifacts"), fields)

    def list(
        self,
        project: str | None = None,
        *,
        type: str | None = None,
        name: str | None = None,
        q: str | None = None,
        order: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[Artifact]:
        """Collections of a project, or of the workspace."""
        return self._connection.pages(Artifact, requests.path("/artifacts"), **requests.given(locals()))

    async def get(self, id: str, *, include: str | None = None) -> Artifact:
        """A collection by id."""
        return await self._connection.read(Artifact, requests.path("/artifacts/{id}", id=id), include=include)

    def versions(
        self,
        id: str | None = None,
        *,
        run_id: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[ArtifactVersion]:
        """Versions of a collection, newest first; or those that the run ``run_id`` made."""
        return self._connection.pages(ArtifactVersion, requests.path("/artifacts/versions"), **requests.given(locals()))

    async def get_version(self, id: str, *, include: str | None = None) -> ArtifactVersion:
        """A version by its own id."""
        path = requests.path("/artifacts/versions/{id}", id=id)
        return await self._connection.read(ArtifactVersion, path, include=include)

    async def resolve(self, project: str, name: str, *, type: str | None = None) -> ArtifactVersion:
        """A version by ``name:alias`` or ``name:v3``; the latest when nothing follows the name."""
        path = requests.path("/artifacts/resolve")
        return await self._connection.read(ArtifactVersion, path, project=project, name=name, type=type)

    async def set_aliases(
        self, id: str, *, add: Sequence[str] | None = None, remove: Sequence[str] | None = None
    ) -> ArtifactVersion:
        """Move aliases to a version, or take them from it. An alias points at one version of a collection at a time."""
        path = requests.path("/artifacts/versions/{id}/aliases", id=id)
        return await self._connection.write(
            ArtifactVersion, "POST", path, requests.given({"add": add, "remove": remove})
        )


class AsyncFiles:
    """``client.files``: files of a run, document or artifact version, by path."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(
        self,
        id: str,
        *,
        prefix: str | None = None,
        include: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[File]:
        """Files of ``id``, by path."""
        fields = requests.given(locals(), "id")
        return self._connection.pages(File, requests.path("/files/{id}", id=id), **fields)

    async def upload(self, id: str, path: str, content: Content, *, media_type: str | None = None) -> File:
        """Put ``content`` (bytes, or the path of a local file) under ``path``, replacing what is there."""
        where = requests.path("/files/{id}", id=id) + requests.query({"path": path})
        headers = {"Content-Type": media_type or media_type_of(path)}
        call = self._connection.call("PUT", where, headers=headers, body=upload_of(content))
        return requests.parse(File, (await self._connection.send(call)).body, "the upload")

    async def read(self, id: str, path: str, *, include: str | None = None) -> bytes:
        """The content of a file, in memory."""
        memory = Memory()
        await self.fetch(id, path, memory, include=include)
        return memory.content()

    async def download(self, id: str, path: str, to: str | Path, *, include: str | None = None) -> Path:
        """Write a file to the local path ``to``: whole and with the right digest (Corrupt otherwise), or not at all."""
        with Download(Path(to), (await self._find(id, path, include)).digest) as download:
            await self.fetch(id, path, download, include=include)
        return Path(to)

    async def _find(self, id: str, path: str, include: str | None) -> File:
        async for file in self.list(id, prefix=path, include=include):
            if file.path == path:
                return file
        raise NotFound(f"file {path} not found in {id}", id=id, path=path)

    async def fetch(self, id: str, path: str, sink: Sink, *, include: str | None = None) -> None:
        """Write the content of a file to ``sink`` as it comes."""
        where = requests.path("/files/{id}/content", id=id) + requests.query({"path": path, "include": include})
        await self._connection.send(self._connection.call("GET", where, sink=sink))


class AsyncBlobs:
    """``client.blobs``: bytes by their digest. A blob stays once a file or an artifact refers to it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def exists(self, digest: str, *, project: str | None = None) -> bool:
        """Whether the server has these bytes already, so that they need not be sent. A ``project`` that encrypts its
        contents has blobs of its own, and must be named."""
        where = requests.path("/blobs/{digest}", digest=digest) + requests.query({"project": project})
        call = self._connection.call("HEAD", where)
        try:
            await self._connection.send(call)
        except NotFound:
            return False
        return True

    async def upload(self, content: Content, *, digest: str | None = None, project: str | None = None) -> str:
        """Send bytes, or a local file; returns their digest. With ``digest`` the server refuses other bytes.

        ``project`` says what they are for, by id or name: it must where contents are encrypted.
        """
        headers = {"Content-Type": "application/octet-stream"}
        if digest is not None:
            headers["Labkeep-Digest"] = digest
        where = requests.path("/blobs") + requests.query({"project": project})
        call = self._connection.call("PUT", where, headers=headers, body=upload_of(content))
        stored: dict[str, Any] = requests.parse(dict[str, Any], (await self._connection.send(call)).body, "the upload")
        return str(stored["digest"])
