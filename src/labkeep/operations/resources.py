"""Objects as the REST resources of other systems: made unless they are there, removed with an answer.

Each is one of our own operations and what that operation does not say: whether the object was there before, when it
was removed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    Command,
    CreateDocument,
    CreateProject,
    CreateRun,
    ItemVerb,
    ListItems,
    ListRuns,
    Name,
    Page,
    UpdateDocument,
    UpdateRun,
)
from labkeep.core.entities import KIND_ENTITY, Document, Item, Project, Run
from labkeep.core.errors import AlreadyExists, NotFound
from labkeep.core.ids import Id, is_id
from labkeep.core.lifecycle import Kind
from labkeep.operations import deletions, documents, projects, runs
from labkeep.storage import records, search
from labkeep.storage.transaction import Tx

E = TypeVar("E", bound=Item)


class Ensured(msgspec.Struct, Generic[E], frozen=True):
    """An object, the project that it is in, and whether it was there before."""

    item: E
    project: Project
    found: bool


def ensure_project(tx: Tx, actor: Actor, command: CreateProject) -> Ensured[Project]:
    """The project of this name, made when there is none and unchanged when there is."""
    project, found = _ensure(tx, actor, command, projects.create)
    return Ensured(project, project, found)


class EnsureRun(Command, frozen=True, kw_only=True):
    """A run to make. ``stem`` begins the handle when ``run`` has none: stem, a dash, the time in Unix seconds.

    ``base_name``: its base is the newest run of this name in the project, when there is one.
    """

    run: CreateRun
    stem: Name = "run"
    base_name: str = ""


def ensure_run(tx: Tx, actor: Actor, command: EnsureRun) -> Ensured[Run]:
    """The run of this handle, made when there is none; always a new one when ``suffix`` asks for it."""
    asked = command.run
    if asked.handle is None:
        asked = msgspec.structs.replace(asked, handle=f"{command.stem}-{int(tx.now.timestamp())}", suffix=True)
    if command.base_name and asked.base_run_id is None:
        asked = msgspec.structs.replace(asked, base_run_id=_newest(tx, actor, asked.project, command.base_name))
    run, found = _ensure(tx, actor, asked, runs.create)
    return Ensured(run, records.get(tx, Project, actor, run.parent_id), found)


def _newest(tx: Tx, actor: Actor, project: str, name: str) -> str | None:
    try:
        items = runs.list_(tx, actor, ListRuns(project=project, name=name, limit=1)).items
    except NotFound:  # the project is made together with its first run
        return None
    return items[0].id if items else None


class EnsureDocument(Command, frozen=True, kw_only=True):
    """A document to make. ``make_project``: its project is made too when no project has that name."""

    document: CreateDocument
    make_project: bool = False


def ensure_document(tx: Tx, actor: Actor, command: EnsureDocument) -> Ensured[Document]:
    """The document of this handle, made when there is none and unchanged when there is."""
    project = projects.resolve(tx, actor, command.document.project, create=command.make_project)
    asked = msgspec.structs.replace(command.document, project=project.id)
    document, found = _ensure(tx, actor, asked, documents.create)
    return Ensured(document, project, found)


def _ensure(tx: Tx, actor: Actor, command: Any, create: Callable[[Tx, Actor, Any], E]) -> tuple[E, bool]:
    try:
        return create(tx, actor, msgspec.structs.replace(command, exist_ok=False)), False
    except AlreadyExists:  # raised before anything is written
        return create(tx, actor, msgspec.structs.replace(command, exist_ok=True)), True


class FindProjects(ListItems, frozen=True, kw_only=True):
    """Projects by name or ids; ``before`` and ``after`` are ids, for dialects with two-way paging."""

    name: str = ""
    ids: list[Id] = []
    before: str | None = None
    after: str | None = None


def find_projects(tx: Tx, actor: Actor, command: FindProjects) -> Page[Project]:
    """Projects of the workspace, newest first."""
    require(actor, "project.read")
    equal: dict[str, Any] = {"name": command.name} if command.name else {}
    if command.ids:
        equal["id"] = command.ids
    return search.page(tx, actor, Project, command, equal=equal, before=command.before, after=command.after)


class Edit(Command, frozen=True, kw_only=True):
    """An edit of a live run or document; NotFound when it is not of one of ``types``, or is one of ``other_than``."""

    edit: UpdateRun | UpdateDocument
    types: tuple[str, ...] = ()
    other_than: tuple[str, ...] = ()


def edit(tx: Tx, actor: Actor, command: Edit) -> Run | Document:
    """Edit a run or document of a type: its id alone does not say what it is."""
    asked = command.edit
    if isinstance(asked, UpdateRun):
        get_live(tx, actor, asked.id, Kind.run, command.types, command.other_than)
        return runs.update(tx, actor, asked)
    get_live(tx, actor, asked.id, Kind.document, command.types, command.other_than)
    return documents.update(tx, actor, asked)


class Remove(Command, frozen=True, kw_only=True):
    """Trash one live object of a kind; of a type, too, when ``types`` names some, and never one of ``other_than``."""

    id: Id
    kind: Kind
    types: tuple[str, ...] = ()
    other_than: tuple[str, ...] = ()
    reason: str = ""


class Removed(msgspec.Struct, frozen=True):
    """What was trashed, as it was, and when."""

    item: Item
    at: datetime
    deletion_id: str


def remove(tx: Tx, actor: Actor, command: Remove) -> Removed:
    """Trash an object although it runs or others depend on it: the caller's API knows no such refusal.

    Gone when it is in the trash already; NotFound when it is of another kind. Locks and holds still refuse.
    """
    item = get_live(tx, actor, command.id, command.kind, command.types, command.other_than)
    verb = ItemVerb(id=item.id, reason=command.reason, on_running="stop", force=True)
    outcome = deletions.trash_item(tx, actor, verb)
    return Removed(item, tx.now, outcome.deletion_id or "")


def get_live(
    tx: Tx, actor: Actor, id: str, kind: Kind, types: tuple[str, ...] = (), other_than: tuple[str, ...] = ()
) -> Item:
    """A live object of a kind, and of one of ``types`` when there are any. NotFound for any other."""
    if not is_id(id):
        raise NotFound(f"{kind} {id[:80]!r} not found")
    item = records.get(tx, KIND_ENTITY[kind], actor, id)
    if (types and item.type not in types) or item.type in other_than:
        raise NotFound(f"{kind} {id} not found")
    return item
