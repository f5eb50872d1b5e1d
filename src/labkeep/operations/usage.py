"""Who holds how many bytes, read from counters: as fast with a million objects as with ten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, case, func, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import GetUsage, Page, Usage
from labkeep.core.errors import Invalid
from labkeep.core.lifecycle import Kind, State
from labkeep.operations.projects import resolve
from labkeep.storage import tables as t
from labkeep.storage.records import scope
from labkeep.storage.transaction import Tx

_C = t.usage_counters.c
GROUPS: dict[str, ColumnElement[Any]] = {
    "organization": _C.organization_id,
    "workspace": _C.workspace_id,
    "project": _C.project_id,
    "kind": _C.kind,
    "user": _C.user,
    "tag": _C.tag,
}
"""What usage can be grouped by, beside single runs."""

WIDE = ("organization", "workspace")
"""Groups that look beyond the workspace of the key."""


def by(tx: Tx, actor: Actor, command: GetUsage) -> Page[Usage]:
    """Objects and bytes by group, largest first, and how much of it sits in the trash; what is purged holds nothing.

    Bytes are those that each object holds by itself: content that several share counts for each of them.
    """
    require(actor, "usage.read_all" if command.by in WIDE else "usage.read")
    project_id = resolve(tx, actor, command.project).id if command.project else None
    if command.by == "run":
        return Page(_runs(tx, actor, project_id, command.limit))
    if command.by not in GROUPS:
        named = ", ".join((*GROUPS, "run"))
        raise Invalid(f"usage is grouped by one of {named}, not {command.by[:40]!r}", path="by")
    lines = [_line(row, command.by) for row in tx.execute(_sums(actor, command.by, project_id))]
    names = _names(tx, actor, command.by, [line.id for line in lines])
    lines = [msgspec.structs.replace(line, name=names.get(line.id, line.name)) for line in lines]
    return Page(sorted(lines, key=lambda line: (-line.bytes, line.name))[: command.limit])


def _sums(actor: Actor, group: str, project_id: str | None) -> Any:
    trashed = _C.state == "trashed"
    key = GROUPS[group]
    where = [_C.organization_id == actor.organization_id, _C.tag != "" if group == "tag" else _C.tag == ""]
    if group not in WIDE:
        where.append(_C.workspace_id == actor.workspace_id)
    if project_id is not None:
        where.append(_C.project_id == project_id)
    sums = (_C["items"], _C.bytes, case((trashed, _C["items"]), else_=0), case((trashed, _C.bytes), else_=0))
    query = select(key, *(func.sum(column) for column in sums)).where(*where).group_by(key)
    return query.having(func.sum(_C["items"]) > 0)


def _line(row: Any, group: str) -> Usage:
    key, items, size, trashed_items, trashed_bytes = row
    return Usage(
        id=str(key),
        name=str(key),
        kind=group,
        items=int(items),
        bytes=int(size),
        trashed_items=int(trashed_items),
        trashed_bytes=int(trashed_bytes),
    )


def _names(tx: Tx, actor: Actor, group: str, ids: Iterable[str]) -> dict[str, str]:
    """Names for groups that are counted by id."""
    tables: dict[str, Any] = {"organization": t.organizations.c, "workspace": t.workspaces.c, "project": t.items.c}
    if group not in tables:
        return {}
    c = tables[group]
    mine = [] if group == "organization" else [c.organization_id == actor.organization_id]
    return {row[0]: row[1] for row in tx.execute(select(c.id, c.name).where(*mine, c.id.in_(list(ids))))}


def _runs(tx: Tx, actor: Actor, project_id: str | None, limit: int) -> list[Usage]:
    """The largest runs. This one looks at every run of the project, or of the workspace."""
    c = t.items.c
    where = [*scope(actor), c.kind == Kind.run, c.state != State.purged]
    if project_id is not None:
        where.append(c.project_id == project_id)
    query = select(c.id, c.name, c.bytes, c.state).where(*where).order_by(c.bytes.desc(), c.id).limit(limit)
    return [
        Usage(
            id=id,
            name=name,
            kind="run",
            items=1,
            bytes=size,
            trashed_items=int(state == State.trashed),
            trashed_bytes=size if state == State.trashed else 0,
        )
        for id, name, size, state in tx.execute(query)
    ]
