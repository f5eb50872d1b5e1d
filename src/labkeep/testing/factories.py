"""Stores, actors and objects for tests, each in one call. Every factory takes what matters to the test and fills in the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.entities import Document, Item, Project, Run
from labkeep.core.lifecycle import Role
from labkeep.operations import Store
from labkeep.settings import Settings
from labkeep.storage import index, records
from labkeep.storage import tables as t
from labkeep.storage.blobs import MemoryBlobs
from labkeep.storage.database import Database
from labkeep.storage.database_sqlite import Sqlite
from labkeep.storage.transaction import Tx

E = TypeVar("E", bound=Item)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""When a `FixedClock` starts."""

_numbers = count(1)


class FixedClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        """Move on by ``timedelta(**duration)``."""
        self.now += timedelta(**duration)


@cache
def _empty_store() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labkeep.db"
        Sqlite(path).close()
        return path.read_bytes()


def make_sqlite(folder: Path, clock: FixedClock | None = None, readers: int = 2) -> Sqlite:
    """The database of ``folder``; an empty one where there is none. A copy: migrating takes five times as long."""
    path = folder / "labkeep.db"
    if not path.exists():
        path.write_bytes(_empty_store())
    return Sqlite(path, readers=readers, clock=clock or FixedClock())


@contextmanager
def make_store(folder: Path, clock: FixedClock | None = None, **settings: Any) -> Iterator[Store]:
    """An empty store: SQLite in ``folder``, blobs in memory. ``settings`` override the defaults."""
    database = make_sqlite(folder, clock)
    blobs = MemoryBlobs()
    try:
        yield Store(database, blobs, Settings(data=str(folder), **settings))
    finally:
        database.close()
        blobs.close()


def make_actor(
    database: Database,
    role: str = "owner",
    *,
    organization: str = "organization",
    workspace: str = "workspace",
    agent: bool = False,
) -> Actor:
    """A new user with ``role``. Organization and workspace are made when no earlier call made them."""
    number = next(_numbers)
    stranger = Actor("", "", f"user-{number}", Role(role), "", agent=agent, client="tests", request_id=f"r-{number}")
    return database.write(_add_member, stranger, (organization, workspace))


def _add_member(tx: Tx, stranger: Actor, names: tuple[str, str]) -> Actor:
    organization, workspace = names
    organization_id = _known(tx, t.organizations, name=organization) or tx.new_id()
    if _known(tx, t.organizations, name=organization) is None:
        tx.insert(t.organizations, [{"id": organization_id, "name": organization, "created_at": tx.now}])
    same = {"organization_id": organization_id}
    workspace_id = _known(tx, t.workspaces, name=workspace, **same) or tx.new_id()
    if _known(tx, t.workspaces, name=workspace, **same) is None:
        tx.insert(t.workspaces, [same | {"id": workspace_id, "name": workspace, "created_at": tx.now}])
    member = {"id": tx.new_id(), "workspace_id": workspace_id, "user": stranger.user, "role": stranger.role}
    tx.insert(t.members, [same | member | {"created_at": tx.now}])
    return Actor(
        organization_id,
        workspace_id,
        stranger.user,
        stranger.role,
        tx.new_id(),
        stranger.agent,
        (),
        stranger.client,
        stranger.request_id,
    )


def _known(tx: Tx, table: Any, **values: Any) -> str | None:
    found = tx.one(select(table.c.id).where(*(table.c[name] == value for name, value in values.items())))
    return None if found is None else str(found["id"])


def make_project(database: Database, actor: Actor, name: str = "", **fields: Any) -> Project:
    """A project; named when its name matters."""
    name = name or f"project-{next(_numbers)}"
    return _add_item(database, actor, Project, {"parent_id": actor.workspace_id, "name": name, "handle": name} | fields)


def make_run(database: Database, actor: Actor, project: Project | None = None, **fields: Any) -> Run:
    """A run, in a project of its own unless one is given."""
    return _add_item(database, actor, Run, _inside(project or make_project(database, actor), "run") | fields)


def make_document(database: Database, actor: Actor, project: Project | None = None, **fields: Any) -> Document:
    """A document without versions, in a project of its own unless one is given."""
    inside = _inside(project or make_project(database, actor), "document")
    return _add_item(database, actor, Document, {"type": "dataset"} | inside | fields)


def _inside(project: Project, word: str) -> dict[str, Any]:
    return {"parent_id": project.id, "project_id": project.id, "name": f"{word}-{next(_numbers)}"}


def _add_item(database: Database, actor: Actor, entity: type[E], fields: dict[str, Any]) -> E:
    def add(tx: Tx, actor: Actor, fields: dict[str, Any]) -> E:
        own = {"id": tx.new_id(), "kind": records.kind_of(entity), "created_by": actor.name}
        home = {"organization_id": actor.organization_id, "workspace_id": actor.workspace_id}
        item = entity(**(own | home | {"created_at": tx.now, "updated_at": tx.now} | fields))
        records.insert_items(tx, [item])
        index.add(tx, [item])
        return item

    return database.write(add, actor, fields)
