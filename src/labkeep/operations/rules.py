"""Which rules of the lifecycle hold where: those of the organization, the workspace and the project, combined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Table, select, update

from labkeep.core.access import Actor, require
from labkeep.core.commands_rules import GetRules, RulesInForce, SetRules
from labkeep.core.entities import Json, Project
from labkeep.core.errors import Invalid
from labkeep.core.ids import is_id
from labkeep.core.merge import merge
from labkeep.core.rules import NAMES, Rules, check, combine, read
from labkeep.storage import data_keys, records, subjects
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx


def outer(tx: Tx, actor: Actor) -> list[Rules]:
    """What the actor's organization and workspace ask for, in this order."""
    o, w = t.organizations.c, t.workspaces.c
    mine = (w.organization_id == actor.organization_id, w.id == actor.workspace_id)
    found = [
        tx.one(select(o.settings).where(o.id == actor.organization_id)),
        tx.one(select(w.settings).where(*mine)),
    ]
    return [read(row["settings"]) for row in found if row is not None]


def of_workspace(tx: Tx, actor: Actor) -> Rules:
    """What holds in the actor's workspace, outside of any project."""
    return combine(outer(tx, actor))


def of_projects(tx: Tx, actor: Actor, project_ids: Sequence[str]) -> dict[str, Rules]:
    """What holds in each of the projects that exist, whatever their state."""
    p = t.projects.c
    around = outer(tx, actor)
    query = select(p.id, p.settings).where(p.organization_id == actor.organization_id, p.id.in_(project_ids))
    return {row["id"]: combine([*around, read(row["settings"])]) for row in tx.all(query)}


# --- reading and changing ---------------------------------------------------------------------------------------------


def get(tx: Tx, actor: Actor, command: GetRules) -> RulesInForce:
    """What the organization, the workspace and one project ask for, and what that comes to."""
    require(actor, "workspace.read")
    organization, workspace = outer(tx, actor)
    project = read(_project(tx, actor, command.project).settings) if command.project else None
    effective = combine([organization, workspace, *([] if project is None else [project])])
    if effective.grace_days is None:
        effective = msgspec.structs.replace(effective, grace_days=tx.grace_days)
    return RulesInForce(organization=organization, workspace=workspace, project=project, effective=effective)


def _project(tx: Tx, actor: Actor, ref: str) -> Project:
    if is_id(ref):
        return records.get(tx, Project, actor, ref)
    found = records.find(tx, Project, actor, parent_id=actor.workspace_id, handle=ref)
    if found is None:
        raise Invalid(f"project {ref[:80]!r} not found", path="project")
    return found


def set_workspace(tx: Tx, actor: Actor, command: SetRules) -> RulesInForce:
    """Change rules of the actor's workspace. What the organization asks for stays, whatever is said here."""
    require(actor, "rules.write")
    return _set(tx, actor, command, t.workspaces, actor.workspace_id)


def set_organization(tx: Tx, actor: Actor, command: SetRules) -> RulesInForce:
    """Change rules of the actor's organization, which hold in all of its workspaces."""
    require(actor, "rules.write_organization")
    return _set(tx, actor, command, t.organizations, actor.organization_id)


def _set(tx: Tx, actor: Actor, command: SetRules, table: Table[Any], id: str) -> RulesInForce:
    unknown = sorted(command.rules.keys() - NAMES)
    if unknown:
        raise Invalid(f"{unknown[0][:40]!r} is no rule; use one of {', '.join(sorted(NAMES))}", path="rules")
    query = select(table.c.settings).where(table.c.id == id).with_for_update()
    before: Json = tx.execute(query).scalar_one()
    after = merge(before, command.rules)
    check(after)
    data_keys.turn(tx, actor.organization_id, None, before, after)
    subjects.turn(tx, actor, before, after)
    if after != before:
        tx.execute(update(table).where(table.c.id == id).values(settings=after))
        changed = {name: after.get(name) for name in sorted(command.rules) if after.get(name) != before.get(name)}
        level = "workspace" if table is t.workspaces else "organization"
        tx.audit(actor, "rules.changed", id, level=level, rules=changed)
    return get(tx, actor, GetRules())
