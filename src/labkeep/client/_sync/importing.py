# Generated from labkeep/client/_async/importing.py by scripts/unasync.py: change that file instead.
"""Imports: making the objects of an archive again, equal, and all of them at once or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from labkeep.client import requests
from labkeep.client._sync.connection import Connection
from labkeep.client.archives import Archive, Member
from labkeep.client.transport import Upload
from labkeep.core.commands_transfer import Import, Imported, imported_id
from labkeep.core.entities import Environment, Link
from labkeep.core.errors import LabkeepError

FIELDS = {"objects": "objects", "versions": "document_versions", "files": "file_entries", "rows": "row_states"}
"""Folder of the archive → field of a part."""

PARQUET = "application/vnd.apache.parquet"

Progress = Callable[[int, int], None]
"""Called with the number of members and of bytes that are done."""


class Brought(NamedTuple):
    """What an import brought: counts by kind, ids as they are here by those in the archive (nothing when they are the
    same), and what could not be done again.
    """

    counts: dict[str, int]
    ids: dict[str, str]
    left_out: list[str]


class Importer:
    """One import under way."""

    def __init__(
        self, connection: Connection, archive: Archive, began: Import, progress: Progress | None, into: str | None
    ) -> None:
        self._connection = connection
        self._archive = archive
        self._began = began
        self._progress = progress or (lambda _members, _bytes: None)
        self._into = into
        self._parts = 0

    def send(self) -> None:
        """Send everything that an import is made of; what was taken before is left out."""
        done = size = 0
        for member in self._archive.members:
            self._send(member)
            done, size = done + 1, size + member.size
            self._progress(done, size)

    def _send(self, member: Member) -> None:
        folder, _, rest = member.name.partition("/")
        if folder == "history":
            self._history(member, *rest.split("/"))
        elif folder in FIELDS:
            self._part(folder, member)

    def _part(self, folder: str, member: Member) -> None:
        number, self._parts = self._parts, self._parts + 1
        if number < self._began.parts:
            return
        objects = self._archive.objects(member.name)
        if folder == "rows":
            owner = member.name.partition("/")[2].rsplit("-", 1)[0]
            objects = [{"owner_id": owner, "states": objects}]
        if folder == "files":
            for file in objects:
                self._blob(file)
        body = {"number": number, FIELDS[folder]: objects}
        self._connection.write(Import, "POST", requests.path("/imports/{id}/parts", id=self._began.id), body)

    def _blob(self, file: dict[str, Any]) -> None:
        """Bytes go where they will belong, so that they are encrypted from the first one where that is asked for."""
        digest = file["digest"]
        where = requests.path("/blobs") + requests.query({"id": self.id_here(file["owner_id"])})
        content = Upload(file["size"], partial(self._archive.pieces, f"blobs/{digest.replace(':', '-')}"))
        headers = {"Content-Type": "application/octet-stream", "Labkeep-Digest": digest}
        self._connection.send(self._connection.call("PUT", where, headers=headers, body=content))

    def _history(self, member: Member, run_id: str, stream: str, _offset: str) -> None:
        query = requests.query({"run_id": run_id, "stream": unquote(stream)})
        path = requests.path("/imports/{id}/history", id=self._began.id) + query
        headers = {"Content-Type": PARQUET}
        content = self._archive.read(member.name)
        self._connection.send(self._connection.call("PUT", path, headers=headers, body=content))

    def finish(self, names: dict[str, str]) -> Imported:
        """Have everything shown."""
        path = requests.path("/imports/{id}/finish", id=self._began.id)
        return self._connection.write(Imported, "POST", path, {"names": names})

    def id_here(self, id: str) -> str:
        """The id of an object of the archive here."""
        return imported_id(self._began.id, id) if self._began.remap else id

    def ids(self) -> dict[str, str]:
        """All ids that changed."""
        names = [member.name for member in self._archive.members if member.name.startswith("objects/")]
        old = [one["id"] for name in names for one in self._archive.objects(name)] if self._began.remap else []
        return {id: self.id_here(id) for id in old}

    def bind(self) -> list[str]:
        """Bind environments and make links again; answers what could not be, and why."""
        left_out = []
        for folder, again in (("environments", self._bind_environment), ("links", self._link)):
            for one in self._lines(folder):
                try:
                    again(one)
                except LabkeepError as error:
                    left_out.append(f"{folder.rstrip('s')} {one.get('name') or one['id']}: {error}")
        return left_out

    def _lines(self, folder: str) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        for member in self._archive.members:
            if member.name.startswith(f"{folder}/"):
                for one in self._archive.objects(member.name):
                    if one["id"] not in seen:  # a link is told by both of its ends
                        seen.add(one["id"])
                        yield one

    def _bind_environment(self, one: dict[str, Any]) -> None:
        body = {
            "project": self._into or self.id_here(one["project_id"]),
            "name": one["name"],
            "document_id": one["document_id"] and self.id_here(one["document_id"]),
            "number": one["number"],
        }
        self._connection.write(Environment, "PUT", requests.path("/environments"), body)

    def _link(self, one: dict[str, Any]) -> None:
        body = {
            "source_id": self.id_here(one["source_id"]),
            "target_id": self.id_here(one["target_id"]),
            "type": one["type"],
            "on_delete": one["on_delete"],
        }
        self._connection.write(Link, "POST", requests.path("/links"), body)


def bring(
    connection: Connection,
    path: Path,
    *,
    remap: bool,
    into: str | None,
    name: str | None,
    names: dict[str, str],
    resume: str | None,
    began: Callable[[str], None] | None,
    progress: Progress | None,
) -> Brought:
    """Import an archive. See `Transfers.bring`."""
    with Archive(path) as archive:
        for _ in archive.verify():
            pass
        start = {"archive": archive.digest, "remap": remap, "into": into, "name": name}
        given = {field: value for field, value in start.items() if value is not None}
        if resume is None:
            under_way = connection.write(Import, "POST", requests.path("/imports"), given)
        else:
            under_way = connection.read(Import, requests.path("/imports/{id}", id=resume))
        if began is not None:
            began(under_way.id)
        job = Importer(connection, archive, under_way, progress, into)
        job.send()
        done = job.finish(names)
        return Brought(done.counts, job.ids(), job.bind())
