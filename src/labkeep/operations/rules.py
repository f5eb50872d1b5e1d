"""Which rules of the lifecycle hold where: those of the organization, the workspace and the project, combined."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.rules import Rules, combine, read
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
