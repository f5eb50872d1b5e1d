"""Who holds how many bytes."""

from __future__ import annotations

from sqlalchemy import Select, case, func, literal, select
from sqlalchemy.sql.elements import ColumnElement

from labkeep.core.access import Actor, require
from labkeep.core.commands import GetUsage, Page, Usage
from labkeep.core.errors import Invalid
from labkeep.core.lifecycle import Kind, State
from labkeep.storage import tables as t
from labkeep.storage.records import scope
from labkeep.storage.transaction import Tx

GROUPS = ("project", "kind", "user")
"""What usage can be grouped by."""


def by(tx: Tx, actor: Actor, command: GetUsage) -> Page[Usage]:
    """Bytes and counts of the workspace by project, kind or user, largest first; purged objects hold nothing."""
    require(actor, "usage.read")
    if command.by not in GROUPS:
        raise Invalid(f"usage is grouped by one of {', '.join(GROUPS)}, not {command.by[:40]!r}", path="by")
    found = [Usage(**row) for row in tx.all(_query(actor, command.by))]
    names = _project_names(tx, actor) if command.by == "project" else {}
    lines = [
        Usage(
            id=u.id,
            name=names.get(u.id, u.name),
            kind=command.by,
            items=u.items,
            bytes=u.bytes,
            trashed_items=u.trashed_items,
            trashed_bytes=u.trashed_bytes,
        )
        for u in found
    ]
    return Page(sorted(lines, key=lambda line: (-line.bytes, line.name)))


def _query(actor: Actor, group: str) -> Select[*tuple[object, ...]]:
    c = t.items.c
    keys: dict[str, ColumnElement[str]] = {
        "project": func.coalesce(c.project_id, c.id),
        "kind": c.kind,
        "user": c.created_by,
    }
    key = keys[group]
    trashed = c.state == State.trashed
    return (
        select(
            key.label("id"),
            (literal("") if group == "project" else key).label("name"),
            literal(group).label("kind"),
            func.count().label("items"),
            func.coalesce(func.sum(c.bytes), 0).label("bytes"),
            func.coalesce(func.sum(case((trashed, 1), else_=0)), 0).label("trashed_items"),
            func.coalesce(func.sum(case((trashed, c.bytes), else_=0)), 0).label("trashed_bytes"),
        )
        .where(*scope(actor), c.state != State.purged)
        .group_by(key)
    )


def _project_names(tx: Tx, actor: Actor) -> dict[str, str]:
    query = select(t.items.c.id, t.items.c.name).where(*scope(actor), t.items.c.kind == Kind.project)
    return {row[0]: row[1] for row in tx.execute(query)}
