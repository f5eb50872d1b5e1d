"""Projects: the containers of runs, documents and artifacts."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from labkeep.core import rules
from labkeep.core.access import Actor, require
from labkeep.core.commands import CreateProject, Get, ListProjects, Page, UpdateItem, UpdateProject
from labkeep.core.entities import Item, Json, Project
from labkeep.core.errors import AlreadyExists, NotFound
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import LIVE, Kind, State
from labkeep.core.merge import merge
from labkeep.storage import data_keys, holds, index, records, search, subjects
from labkeep.storage.transaction import Tx

READABLE = (State.active, State.archived, State.trashed)
"""States in which ``include=trashed`` still shows an object."""


def states_for(include: str) -> tuple[State, ...]:
    """The states that a read may find: the trash only when asked for."""
    return READABLE if include == "trashed" else LIVE


def resolve(tx: Tx, actor: Actor, ref: str, *, create: bool = False) -> Project:
    """A live project by id or name; with ``create`` it is made when no project has that name."""
    if is_id(ref):
        return records.get(tx, Project, actor, ref)
    found = records.find(tx, Project, actor, parent_id=actor.workspace_id, handle=ref)
    if found is not None:
        return found
    if not create:
        raise NotFound(f"project {ref[:80]!r} not found")
    return new_project(tx, actor, CreateProject(name=ref))


def new_project(tx: Tx, actor: Actor, command: CreateProject) -> Project:
    """Store a project whose name is known to be free."""
    require(actor, "project.write")
    check_rules(actor, {}, command.settings)
    project = Project(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        kind=Kind.project,
        workspace_id=actor.workspace_id,
        parent_id=actor.workspace_id,
        name=command.name,
        handle=command.name,
        description=command.description,
        tags=command.tags,
        metadata=command.metadata,
        extra=command.extra,
        settings=command.settings,
        dialect=command.dialect,
        created_by=actor.name,
        created_at=tx.now,
        updated_at=tx.now,
    )
    records.insert_items(tx, [project])
    data_keys.turn(tx, project.organization_id, project.id, {}, command.settings)
    index.add(tx, [project])
    tx.audit(actor, "project.created", project.id)
    return project


def check_rules(actor: Actor, before: Json, after: Json) -> None:
    """Who changes rules of the lifecycle needs permission for it; Invalid when they make no sense."""
    if any(before.get(name) != after.get(name) for name in rules.NAMES):
        require(actor, "rules.write")
        rules.check(after)


def create(tx: Tx, actor: Actor, command: CreateProject) -> Project:
    """A new project. AlreadyExists when the name is taken, unless ``exist_ok`` asks for the holder."""
    require(actor, "project.write")
    holder = records.find(tx, Project, actor, parent_id=actor.workspace_id, handle=command.name)
    if holder is None:
        return new_project(tx, actor, command)
    if command.exist_ok:
        return holder
    raise AlreadyExists(
        f"project {command.name!r} exists already ({holder.state}): choose another name, or trash it to free the name",
        id=holder.id,
        state=str(holder.state),
    )


def get(tx: Tx, actor: Actor, command: Get) -> Project:
    """A project by id or name."""
    require(actor, "project.read")
    if is_id(command.id):
        return records.get(tx, Project, actor, command.id, states=states_for(command.include))
    return resolve(tx, actor, command.id)


def list_(tx: Tx, actor: Actor, command: ListProjects) -> Page[Project]:
    """Projects of the workspace, newest first."""
    require(actor, "project.read")
    return search.page(tx, actor, Project, command, equal={"name": command.name} if command.name else {})


def update(tx: Tx, actor: Actor, command: UpdateProject) -> Project:
    """Edit a project. A new name must be free."""
    require(actor, "project.write")
    before = records.get_writable(tx, Project, actor, resolve(tx, actor, command.id).id)
    changes = edits(before, command)
    if command.settings is not UNSET:
        changes["settings"] = settings = merge(before.settings, command.settings)
        check_rules(actor, before.settings, settings)
        data_keys.turn(tx, before.organization_id, before.id, before.settings, settings)
        subjects.turn(tx, actor, before.settings, settings)
    if changes.get("name", before.name) != before.name:
        records.check_handle(tx, Project, actor, parent_id=before.parent_id, handle=str(changes["name"]))
        changes["handle"] = changes["name"]
    with holds.lasting(tx, before):
        after = records.save(tx, before, msgspec.structs.replace(before, **changes))
        index.change(tx, before, after)
    if after is not before:
        tx.audit(actor, "project.updated", after.id, fields=sorted(changes))
    return after


def edits(before: Item, command: UpdateItem) -> dict[str, object]:
    """The fields of ``command`` that are set, merged with what is there. Stale when the caller read another version."""
    records.check_version(before, command.if_version)
    changes: dict[str, object] = {
        name: value for name in ("name", "description", "tags") if (value := getattr(command, name)) is not UNSET
    }
    for name in ("metadata", "extra"):
        if (patch := getattr(command, name)) is not UNSET:
            changes[name] = merge(getattr(before, name), patch)
    return changes
