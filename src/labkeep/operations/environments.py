"""Environments, each bound to one version of a document, and links: what depends on what."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, or_, select, update

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    BindEnvironment,
    CreateLink,
    GetEnvironment,
    ListEnvironments,
    ListLinks,
    Page,
    RemoveLink,
)
from labkeep.core.entities import Document, Environment, Item, Link, Project
from labkeep.core.errors import AlreadyExists, Invalid, NotFound
from labkeep.core.ids import is_id
from labkeep.operations.projects import READABLE, resolve
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.pages import page
from labkeep.storage.transaction import Tx

_ENVIRONMENT = select(*(t.environments.c[name] for name in Environment.__struct_fields__))
_LINK = select(*(t.links.c[name] for name in Link.__struct_fields__))

# --- environments -----------------------------------------------------------------------------------------------------


def bind(tx: Tx, actor: Actor, command: BindEnvironment) -> Environment:
    """Bind an environment, made when missing, to a version of a document; with no document, to nothing."""
    require(actor, "environment.write")
    project = resolve(tx, actor, command.project)
    records.check_writable(project)
    number = _number(tx, actor, project, command)
    before = _find(tx, project, command.name, lock=True)
    bound = {"document_id": command.document_id, "number": number, "bound_by": actor.name, "updated_at": tx.now}
    if before is None:
        before = _make(tx, actor, project, command.name)
        after = msgspec.structs.replace(before, **bound)
        tx.insert(t.environments, [msgspec.structs.asdict(after)])
    elif (before.document_id, before.number) == (command.document_id, number):
        return before
    else:
        c = t.environments.c
        same = (c.organization_id == before.organization_id, c.id == before.id)
        tx.execute(update(t.environments).where(*same).values(bound))
        after = msgspec.structs.replace(before, **bound)
    event = "environment.unbound" if after.document_id is None else "environment.bound"
    before_that = {"document_id": before.document_id, "number": before.number}
    tx.audit(actor, event, after.id, document_id=after.document_id, number=after.number, before=before_that)
    return after


def _number(tx: Tx, actor: Actor, project: Project, command: BindEnvironment) -> int | None:
    """The version to bind; Invalid when the document has none, lacks that one, or lies in another project."""
    if command.document_id is None:
        if command.number is not None:
            raise Invalid("a version number needs a document", path="number")
        return None
    # Locked, so that nobody trashes it while it is being bound.
    document = records.get(tx, Document, actor, command.document_id, lock=True)
    if document.project_id != project.id:
        raise Invalid(
            f"document {document.name} belongs to another project than the environment: bind it in its own",
            path="document_id",
        )
    if not document.latest:
        raise Invalid(f"document {document.name} has no version yet: commit one first", path="document_id")
    number = document.latest if command.number is None else command.number
    if not 1 <= number <= document.latest:
        raise Invalid(
            f"document {document.name} has no version {number}; the newest is {document.latest}", path="number"
        )
    return number


def _make(tx: Tx, actor: Actor, project: Project, name: str) -> Environment:
    return Environment(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        created_at=tx.now,
        workspace_id=actor.workspace_id,
        project_id=project.id,
        name=name,
        updated_at=tx.now,
    )


def _find(tx: Tx, project: Project, name: str, *, lock: bool = False) -> Environment | None:
    c = t.environments.c
    query = _ENVIRONMENT.where(c.organization_id == project.organization_id, c.project_id == project.id, c.name == name)
    found = tx.one(query.with_for_update() if lock else query)
    return None if found is None else Environment(**found)


def get(tx: Tx, actor: Actor, command: GetEnvironment) -> Environment:
    """One environment of a project by name."""
    require(actor, "project.read")
    project = resolve(tx, actor, command.project)
    found = _find(tx, project, command.name)
    if found is None:
        raise NotFound(f"environment {command.name[:80]!r} not found in project {project.name}")
    return found


def list_(tx: Tx, actor: Actor, command: ListEnvironments) -> Page[Environment]:
    """Environments of a project, newest first."""
    require(actor, "project.read")
    project = resolve(tx, actor, command.project)
    c = t.environments.c
    query = _ENVIRONMENT.where(c.organization_id == project.organization_id, c.project_id == project.id)
    return page(tx, query, c.id, command, Environment)


# --- links ------------------------------------------------------------------------------------------------------------


def link(tx: Tx, actor: Actor, command: CreateLink) -> Link:
    """Note that ``source`` depends on ``target``. Who may write the source may say what it depends on."""
    if command.source_id == command.target_id:
        raise Invalid("an object cannot depend on itself", path="target_id")
    # Locked in one order, so that two links between the same objects never wait for each other.
    found = {id: records.get(tx, Item, actor, id, lock=True) for id in sorted((command.source_id, command.target_id))}
    source, target = found[command.source_id], found[command.target_id]
    require(actor, f"{source.kind}.write")
    require(actor, f"{target.kind}.read")
    records.check_writable(source)
    _check_edge(tx, source, target, command.type)
    made = Link(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        created_at=tx.now,
        source_id=source.id,
        target_id=target.id,
        type=command.type,
        on_delete=command.on_delete,
    )
    tx.insert(t.links, [msgspec.structs.asdict(made)])
    tx.audit(
        actor, f"{source.kind}.linked", source.id, link_id=made.id, target_id=target.id, on_delete=str(made.on_delete)
    )
    return made


def _check_edge(tx: Tx, source: Item, target: Item, type: str) -> None:
    c = t.links.c
    same = (c.organization_id == source.organization_id, c.source_id == source.id, c.target_id == target.id)
    found = tx.one(select(c.id).where(*same, c.type == type))
    if found is not None:
        raise AlreadyExists(f"{source.kind} {source.name} is linked to that object as {type!r} already", id=found["id"])


def unlink(tx: Tx, actor: Actor, command: RemoveLink) -> Link:
    """Take a link away; also one whose source is in the trash."""
    c = t.links.c
    found = (
        tx.one(_LINK.where(c.organization_id == actor.organization_id, c.id == command.id))
        if is_id(command.id)
        else None
    )
    removed = None if found is None else Link(**found)
    source = None if removed is None else records.find_ids(tx, Item, actor, [removed.source_id]).get(removed.source_id)
    if removed is None or source is None:
        raise NotFound(f"link {command.id[:80]} not found")
    require(actor, f"{source.kind}.write")
    records.check_writable(source)
    tx.execute(delete(t.links).where(c.organization_id == actor.organization_id, c.id == removed.id))
    tx.audit(actor, f"{source.kind}.unlinked", source.id, link_id=removed.id, target_id=removed.target_id)
    return removed


def list_links(tx: Tx, actor: Actor, command: ListLinks) -> Page[Link]:
    """Links from and to an object, which may be in the trash; newest first."""
    item = records.get(tx, Item, actor, command.id, states=READABLE)
    require(actor, f"{item.kind}.read")
    c = t.links.c
    query = _LINK.where(c.organization_id == item.organization_id, or_(c.source_id == item.id, c.target_id == item.id))
    return page(tx, query, c.id, command, Link)
