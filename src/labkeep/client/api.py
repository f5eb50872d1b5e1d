"""``labkeep.Api``: finding runs and artifacts again, reading them, and putting them away."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, overload

from labkeep.client._sync.client import TIMEOUT_S, Labkeep
from labkeep.client.api_run import ApiRun
from labkeep.client.artifact import Artifact
from labkeep.core.commands import Outcome
from labkeep.core.entities import Project, Run
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.filters import Query
from labkeep.core.ids import is_id
from labkeep.core.mongo import NATIVE, parse_mongo, parse_order
from labkeep.core.query import print_query

Filters = Mapping[str, Any] | str | None


class Api:
    """Everything a server (or the folder ``dir``) has, for scripts and notebooks.

    Where a path is asked for it is ``project/run``, ``project/artifact:alias``, or with a workspace before it.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        dir: str | os.PathLike[str] | None = None,
        *,
        workspace: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        if dir is not None:
            self.client = Labkeep.local(dir, workspace=workspace, timeout=timeout)
        else:
            self.client = Labkeep(api_key, url, workspace=workspace, timeout=timeout)

    def projects(self, per_page: int = 200) -> list[ApiProject]:
        """All projects of the workspace."""
        return [ApiProject(self.client, project) for project in self.client.projects.list(limit=per_page)]

    def project(self, name: str) -> ApiProject:
        """A project by name or id. NotFound when there is none."""
        return ApiProject(self.client, self.client.projects.get(name))

    def runs(
        self, path: str | None = None, filters: Filters = None, order: str | None = None, per_page: int = 100
    ) -> Runs:
        """Runs of a project, or of the workspace; see `ApiProject.runs`."""
        return Runs(self.client, path, filters, order, per_page)

    def run(self, path: str) -> ApiRun:
        """A run by ``project/ID``: its id, or its handle. A bare id will do."""
        project, _, id = path.strip("/").rpartition("/")
        return ApiRun(self.client, _find(self.client, project, id))

    def artifact(self, path: str, type: str | None = None) -> Artifact:
        """An artifact version by ``project/name:alias`` or ``project/name:v3``; the latest when only the name is given."""
        project, _, name = path.strip("/").rpartition("/")
        if not project:
            raise Invalid(f"{path!r} names no project; write it like my-project/my-model:latest", path="path")
        version = self.client.artifacts.resolve(project, name, type=type)
        return Artifact.found(self.client, name.partition(":")[0], version)

    def close(self) -> None:
        """Give back connections, or the folder."""
        self.client.close()


class ApiProject:
    """A project and what is in it."""

    def __init__(self, client: Labkeep, project: Project) -> None:
        self._client = client
        self._project = project

    @property
    def id(self) -> str:
        """The immutable id."""
        return self._project.id

    @property
    def name(self) -> str:
        """The name."""
        return self._project.name

    @property
    def url(self) -> str:
        """Where to look at it."""
        return f"{self._client.base_url}/projects/{self.id}"

    @property
    def lifecycle_state(self) -> str:
        """active, archived or trashed."""
        return str(self._project.state)

    def runs(self, filters: Filters = None, order: str | None = None, per_page: int = 100) -> Runs:
        """Runs of the project, newest first unless ordered: iterate, index, or ``len``.

        ``filters`` is JSON in the manner of MongoDB, where ``state`` is how the run went:
        ``{"state": "finished", "config.lr": {"$lt": 0.1}, "$or": […]}``; or the query language as text:
        ``'status = finished and config.lr < 0.1'``. ``order`` is ``"-summary.accuracy"`` or ``"summary.accuracy desc"``.
        Archived runs are left out unless asked for (``{"lifecycle": "archived"}``).
        """
        return Runs(self._client, self.id, filters, order, per_page)

    def run(self, id: str) -> ApiRun:
        """A run of this project by its id or handle. NotFound when there is none."""
        return ApiRun(self._client, _find(self._client, self.id, id))

    def artifacts(self, type: str | None = None) -> list[Artifact]:
        """The latest version of every artifact."""
        found = self._client.artifacts.list(self.id, type=type)
        return [Artifact.found(self._client, a.name, self._client.artifacts.resolve(self.id, a.name)) for a in found]

    def archive(self) -> Outcome:
        """Take it out of the default lists."""
        return self._client.projects.archive(self.id)

    def unarchive(self) -> Outcome:
        """Back from the archive."""
        return self._client.projects.unarchive(self.id)

    def trash(self, reason: str = "") -> Outcome:
        """Move it with all that is in it to the trash."""
        return self._client.projects.trash(self.id, reason=reason)

    delete = trash

    def restore(self) -> Outcome:
        """Out of the trash."""
        return self._client.projects.restore(self.id)

    def __repr__(self) -> str:
        return f"<Project {self.name} ({self.id})>"


class Runs:
    """The runs that match, fetched a page at a time while they are looked at."""

    def __init__(
        self, client: Labkeep, project: str | None, filters: Filters, order: str | None, per_page: int
    ) -> None:
        self._client = client
        pages = client.runs.list(project or None, limit=per_page, **query_of(filters, order))
        self._pages = iter(pages)
        self._found: list[ApiRun] = []

    def __iter__(self) -> Iterator[ApiRun]:
        index = 0
        while self._fetch(index + 1):
            yield self._found[index]
            index += 1

    def __len__(self) -> int:
        while self._fetch(len(self._found) + 1):
            pass
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> ApiRun: ...

    @overload
    def __getitem__(self, index: slice) -> list[ApiRun]: ...

    def __getitem__(self, index: int | slice) -> ApiRun | list[ApiRun]:
        if isinstance(index, slice) or index < 0:
            len(self)
        else:
            self._fetch(index + 1)
        return self._found[index]

    def _fetch(self, count: int) -> bool:
        """Whether there are ``count`` runs."""
        while len(self._found) < count:
            run = next(self._pages, None)
            if run is None:
                return False
            self._found.append(ApiRun(self._client, run))
        return True


def query_of(filters: Filters, order: str | None) -> dict[str, str]:
    """The ``q`` and ``order`` of a list. Raises Invalid, naming the place, for what cannot be read."""
    found: dict[str, str] = {}
    if isinstance(filters, str):
        found["q"] = filters
    elif filters:
        found["q"] = print_query(Query(parse_mongo(filters, datetime.now(UTC), NATIVE)))
    if order:
        found["order"] = _order(order)
    return found


def _order(order: str) -> str:
    if order.rstrip().lower().endswith((" asc", " desc")):
        return order
    return print_query(Query(None, parse_order(order, NATIVE))).removeprefix("order by ")


def _find(client: Labkeep, project: str, id: str) -> Run:
    """A run by id, or by its handle in a project; also one that is archived."""
    if is_id(id):
        run = client.runs.get(id)
        if not project or project in (run.project_id, client.projects.get(project).name):
            return run
    elif project:
        found = next(iter(client.runs.list(project, handle=id, q="state in (active, archived)", limit=1)), None)
        if found is not None:
            return found
    raise NotFound(f"run {id} not found" + (f" in project {project}" if project else ""), id=id)
