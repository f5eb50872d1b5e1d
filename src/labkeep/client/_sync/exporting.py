# Generated from labkeep/client/_async/exporting.py by scripts/unasync.py: change that file instead.
"""Exports: everything that objects are, in one archive that an import makes them of again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from labkeep.client import requests
from labkeep.client._sync.connection import Connection
from labkeep.client.archives import FORMAT, ArchiveWriter, lines
from labkeep.client.downloads import Memory
from labkeep.core.commands import Page
from labkeep.core.entities import Json
from labkeep.core.errors import Invalid

KINDS = ("project", "document", "artifact", "artifact_version", "run")
"""Kinds in the order in which an import needs them."""

PLACES = {
    "project": "/projects",
    "document": "/documents",
    "artifact": "/artifacts",
    "artifact_version": "/artifacts/versions",
    "run": "/runs",
}
OBJECTS = 200
"""Objects of one member."""

DETAILS = 1_000
"""Versions, files or row states of one member."""

ROWS = 20_000
"""Rows of a history in one member."""

Progress = Callable[[int, int], None]
"""Called with the number of objects and of bytes written so far."""

LIVE = ("active", "archived")

_raw = Page[Json]


class Listed(NamedTuple):
    """A list of objects of one kind."""

    kind: str
    query: Json


class Export:
    """One export under way."""

    def __init__(self, connection: Connection, archive: ArchiveWriter, progress: Progress | None) -> None:
        self._connection = connection
        self._archive = archive
        self._progress = progress or (lambda _objects, _bytes: None)
        self._bytes = 0
        self._pages_written = 0
        self._previous: dict[str, dict[str, str]] = {}
        self._seen: set[str] = set()
        """Objects that are in the archive: a list that is read again may have moved."""

    def write(self, ids: Sequence[str], homes: Collection[str], lists: Sequence[Listed]) -> None:
        """Write objects by id with the projects that they lie in, projects alone, and all of some lists."""
        self._take_up()
        named = self._named(ids, homes)
        inside = [one for home in named["project"].values() if home["id"] in ids for one in _lists_of(home)]
        for kind in KINDS:
            objects = [named[kind][id] for id in sorted(named[kind])]
            for start in range(0, len(objects), OBJECTS):
                self._page(kind, objects[start : start + OBJECTS])
            for listed in (*lists, *inside):
                if listed.kind == kind:
                    self._list(listed)

    def _take_up(self) -> None:
        """Go on where an earlier try broke off: only what belongs to the last objects can be missing."""
        names = [name for name in self._archive.members if name.startswith("objects/")]
        for name in names:
            objects = [msgspec.json.decode(line, type=Json) for line in self._archive.read(name).splitlines()]
            self._seen.update(one["id"] for one in objects)
            if name == names[-1]:
                self._all_details(name.rsplit("-", 1)[1].removesuffix(".jsonl"), objects)
        self._pages_written = len(names)

    def _named(self, ids: Sequence[str], alone: Collection[str]) -> dict[str, dict[str, Json]]:
        """The objects themselves by kind, and what they lie in."""
        found: dict[str, dict[str, Json]] = {kind: {} for kind in KINDS}
        homes = set(alone)
        for id in ids:
            one = self._get("/items/{id}", id)
            full = self._get(PLACES[one["kind"]] + "/{id}", id)
            found[one["kind"]][id] = full | self._before(one)
            homes.add(one.get("project_id") or id)
            if one["kind"] == "artifact_version":
                found["artifact"].setdefault(one["parent_id"], self._get("/artifacts/{id}", one["parent_id"]))
        for home in sorted(homes - found["project"].keys()):
            found["project"][home] = self._get("/projects/{id}", home)
        return found

    def _get(self, template: str, id: str) -> Json:
        return self._connection.read(Json, requests.path(template, id=id), include="trashed")

    def _before(self, one: Json) -> Json:
        """Of what is in the trash, the state that restoring would put back."""
        deletion_id = one["deletion_id"] if one["state"] == "trashed" else None
        if deletion_id is None:
            return {}
        if deletion_id not in self._previous:
            states: dict[str, str] = {}
            for _, page in self._pages(f"/deletions/{deletion_id}/members", limit=DETAILS):
                states.update((member["item_id"], member["previous_state"]) for member in page)
            self._previous[deletion_id] = states
        return {"previous_state": self._previous[deletion_id][one["id"]]}

    def homes(self, lists: Sequence[Listed]) -> set[str]:
        """The projects that what is listed lies in: they come before it."""
        found: set[str] = set()
        for listed in lists:
            for _, page in self._pages(PLACES[listed.kind], **listed.query, limit=OBJECTS):
                found.update(one["project_id"] for one in page)
        return found

    def _list(self, listed: Listed) -> None:
        for _, page in self._pages(PLACES[listed.kind], **listed.query, limit=OBJECTS):
            self._page(listed.kind, page)
            for one in page if listed.kind == "artifact" else ():
                for state in LIVE:
                    self._list(Listed("artifact_version", {"id": one["id"], "state": state}))

    def _pages(self, path: str, **query: Any) -> Iterator[tuple[int, list[Json]]]:
        """The pages of a list with their numbers."""
        cursor, number = None, 0
        while True:
            page = self._connection.read(_raw, requests.path(path), **query, cursor=cursor)
            yield number, page.items
            cursor, number = page.next, number + 1
            if cursor is None:
                return

    def _page(self, kind: str, objects: list[Json]) -> None:
        """One member of objects, then what belongs to each of them."""
        fresh = [one for one in objects if one["id"] not in self._seen]
        if fresh:
            self._add(f"objects/{self._pages_written:06}-{kind}.jsonl", lines(fresh))
            self._pages_written += 1
            self._seen.update(one["id"] for one in fresh)
            self._all_details(kind, fresh)

    def _all_details(self, kind: str, objects: list[Json]) -> None:
        for one in objects:
            self._details(kind, one["id"], live=one["state"] in LIVE)
            self._progress(len(self._seen), self._bytes)
        self._archive.sync()

    def _details(self, kind: str, id: str, *, live: bool) -> None:
        if kind == "document":
            self._lines(f"versions/{id}", f"/documents/{id}/versions")
        if kind == "project" and live:
            self._lines(f"environments/{id}", "/environments", project=id, include=None)
        if kind in ("run", "document"):
            self._lines(f"rows/{id}", f"/rows/{id}/states")
        if kind == "run":
            self._histories(id)
        if kind in ("run", "document", "artifact_version"):
            self._files(id)
        self._lines(f"links/{id}", f"/links/{id}", include=None)

    def _lines(self, folder: str, path: str, **query: Any) -> None:
        for number, page in self._pages(path, **{"include": "trashed", **query}, limit=DETAILS):
            if page:
                self._add(f"{folder}-{number:06}.jsonl", lines(page))

    def _files(self, id: str) -> None:
        """The bytes first: an import needs them before it can take the files."""
        for number, page in self._pages(f"/files/{id}", include="trashed", limit=DETAILS):
            for file in page:
                self._blob(id, file)
            if page:
                self._add(f"files/{id}-{number:06}.jsonl", lines(page))

    def _blob(self, id: str, file: Json) -> None:
        name = f"blobs/{file['digest'].replace(':', '-')}"
        if name in self._archive.members:
            return
        sink = self._archive.sink(name, file["size"])
        query = requests.query({"path": file["path"], "include": "trashed"})
        call = self._connection.call("GET", requests.path("/files/{id}/content", id=id) + query, sink=sink)
        self._connection.send(call)
        sink.close(file["digest"])
        self._bytes += file["size"]
        self._progress(len(self._seen), self._bytes)

    def _histories(self, id: str) -> None:
        streams = self._connection.read(_raw, requests.path("/runs/{id}/streams", id=id), include="trashed")
        for stream in streams.items:
            for offset in range(0, stream["rows"], ROWS):
                self._segment(id, stream["stream"], offset)

    def _segment(self, id: str, stream: str, offset: int) -> None:
        name = f"history/{id}/{quote(stream, safe='')}/{offset:012}.parquet"
        if name in self._archive.members:
            return
        memory = Memory()
        query = requests.query({"stream": stream, "offset": offset, "limit": ROWS, "include": "trashed"})
        call = self._connection.call("GET", requests.path("/runs/{id}/segments", id=id) + query, sink=memory)
        self._connection.send(call)
        if data := memory.content():
            self._add(name, data)

    def _add(self, name: str, data: bytes) -> None:
        if name not in self._archive.members:
            self._archive.add(name, data)
            self._bytes += len(data)


def _lists_of(project: Json) -> list[Listed]:
    """Everything in a project. What lies in a project that is in the trash is named by itself."""
    if project["state"] not in LIVE:
        return []
    kinds = ("document", "artifact", "run")
    return [Listed(kind, {"project": project["id"], "state": state}) for kind in kinds for state in LIVE]


def export(
    connection: Connection,
    path: Path,
    *,
    ids: Sequence[str],
    project: str | None,
    q: str | None,
    progress: Progress | None,
) -> str:
    """Write an archive; answers its digest. See `Transfers.export`."""
    if ids and (project or q):
        raise Invalid("export either objects by id, or a project, or what a query finds", path="ids")
    if path.exists():
        raise Invalid(f"{path} exists already: remove it, or choose another file", path=str(path))
    selection = {"ids": sorted(ids), "project": project, "q": q}
    header = {"format": FORMAT, "source": {"url": connection.target.url}, "selection": selection}
    if project is not None:
        project = (connection.read(Json, requests.path("/projects/{id}", id=project)))["id"]
    named = [project] if project is not None and not q else list(ids)
    lists = [] if named else _lists(project, q)
    with ArchiveWriter(path, header) as archive:
        job = Export(connection, archive, progress)
        homes = job.homes(lists) if q else set()
        job.write(named, homes, lists)
        return archive.finish()


def _lists(project: str | None, q: str | None) -> list[Listed]:
    """The runs that a query finds, or everything in the workspace."""
    kinds = ("run",) if q else ("project", "document", "artifact", "run")
    return [
        Listed(kind, {"state": state, **({"project": project, "q": q} if q else {})})
        for kind in kinds
        for state in LIVE
    ]
