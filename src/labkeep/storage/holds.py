"""Legal holds in SQL: which are active, and what they cover among objects that somebody is about to remove."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, true

from labkeep.core.access import Actor
from labkeep.core.commands import ListItems
from labkeep.core.entities import KIND_ENTITY, Hold, Item
from labkeep.core.errors import Held
from labkeep.core.lifecycle import Kind, Role, State
from labkeep.storage import records, search
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

COLUMNS = [t.holds.c[name] for name in Hold.__struct_fields__]

KEPT = (State.active, State.archived, State.trashed)
"""States in which there is still something to hold."""

BATCH = 2_000
"""Ids in one statement."""


def _parts(ids: Collection[str]) -> Iterator[Sequence[str]]:
    wanted = sorted(ids)
    for start in range(0, len(wanted), BATCH):
        yield wanted[start : start + BATCH]


def active(tx: Tx, actor: Actor) -> list[Hold]:
    """The active holds of the workspace, oldest first."""
    c = t.holds.c
    mine = (c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id, c.state == "active")
    return [Hold(**row) for row in tx.all(select(*COLUMNS).where(*mine).order_by(c.id))]


def settle(tx: Tx, actor: Actor, *, setting: bool = False) -> None:
    """Let holds and removals follow one another: a hold is set before a removal looks, or after it has committed."""
    w = t.workspaces.c
    row = select(w.id).where(w.organization_id == actor.organization_id, w.id == actor.workspace_id)
    tx.execute(row.with_for_update(read=not setting)).all()


@contextmanager
def lasting(tx: Tx, item: Item) -> Iterator[None]:
    """An edit of ``item`` within: Held when it takes it out of a standing query that covered it before."""
    actor = Actor(item.organization_id, item.workspace_id, "", Role.viewer, "")
    standing = [hold for hold in active(tx, actor) if hold.kind]
    before = covering(tx, actor, standing, [item.id]).get(item.id, []) if standing else []
    yield
    after = covering(tx, actor, before, [item.id]).get(item.id, []) if before else []
    for hold in before:
        if hold not in after:
            raise Held(
                f"{item.type or item.kind} {item.name} is under a legal hold for {hold.matter!r} (hold {hold.id}): "
                "this change would take it out of what the hold looks for",
                holds=[{"id": hold.id, "matter": hold.matter}],
                override="",
            )


def covering(tx: Tx, actor: Actor, holds: Sequence[Hold], ids: Collection[str]) -> dict[str, list[Hold]]:
    """Which of ``holds`` cover which of ``ids``: the object itself, what it lies in, or something that lies in it."""
    found: dict[str, list[Hold]] = defaultdict(list)
    for part in _parts(ids):
        around, containers = _around(tx, actor, part)
        universe = set().union(*around.values())
        for hold in holds:
            caught = _caught(tx, actor, hold, universe)
            full = _containing(tx, actor, hold, containers)
            for id, homes in around.items():
                if id in full or not caught.isdisjoint(homes):
                    found[id].append(hold)
    return dict(found)


def _around(tx: Tx, actor: Actor, ids: Sequence[str]) -> tuple[dict[str, set[str]], list[str]]:
    """Each object with all that it lies in; and those that others may lie in."""
    c, r = t.items.c, t.runs.c
    joined = t.items.outerjoin(t.runs, and_(r.organization_id == c.organization_id, r.id == c.id))
    query = select(c.id, c.kind, c.project_id, c.parent_id, r.document_id).select_from(joined)
    rows = tx.execute(query.where(*records.scope(actor), c.id.in_(ids))).all()
    around = {row[0]: {home for home in (row[0], *row[2:]) if home is not None} for row in rows}
    return around, [row[0] for row in rows if row[1] in (Kind.project, Kind.artifact)]


def _caught(tx: Tx, actor: Actor, hold: Hold, ids: Collection[str]) -> set[str]:
    """Those of ``ids`` that a hold names or finds."""
    return {row[0] for part in _parts(ids) for row in tx.execute(named(tx, actor, hold).where(t.items.c.id.in_(part)))}


def _containing(tx: Tx, actor: Actor, hold: Hold, containers: Sequence[str]) -> set[str]:
    """Those projects and artifacts in which lies something that a hold names or finds."""
    found: set[str] = set()
    for column, there in ((t.items.c.project_id, true()), (t.items.c.parent_id, t.in_artifact)):
        for part in _parts(containers):
            inside = named(tx, actor, hold).with_only_columns(column).where(column.in_(part), there).distinct()
            found.update(row[0] for row in tx.execute(inside))
    return found


def named(tx: Tx, actor: Actor, hold: Hold, ids: Sequence[str] | None = None) -> Select[Any]:
    """Ids of what a hold names or finds itself; of what it would name, with ``ids``."""
    c = t.items.c
    if not hold.kind:
        h = t.hold_items.c
        mine = select(h.item_id).where(h.organization_id == actor.organization_id, h.hold_id == hold.id)
        which = c.id.in_(mine) if ids is None else c.id.in_(ids)
        return select(c.id).where(*records.scope(actor), c.state.in_(KEPT), which)
    entity = KIND_ENTITY[Kind(hold.kind)]
    return select(c.id).select_from(records.source_of(entity)).where(*_standing(tx, actor, hold, entity))


def _standing(tx: Tx, actor: Actor, hold: Hold, entity: type[Item]) -> list[ColumnElement[bool]]:
    # A standing query over projects that is limited to a project finds that one.
    column = "id" if entity is KIND_ENTITY[Kind.project] else "project_id"
    equal = {} if hold.project_id is None else {column: hold.project_id}
    plan = search.resolve(tx, entity, ListItems(q=hold.q, state="any"), equal)
    return [*search.conditions(tx, actor, plan), t.items.c.state.in_(KEPT)]


def covered(tx: Tx, actor: Actor, hold: Hold, ids: Sequence[str] | None = None) -> list[ColumnElement[bool]]:
    """Conditions on items that together say what a hold covers: what it names or finds, and what lies in that."""
    c, r = t.items.c, t.runs.c
    found = named(tx, actor, hold, ids).correlate(None)
    ways: list[ColumnElement[bool]] = [c.id.in_(found)]
    if hold.kind != Kind.run:
        ways += [c.project_id.in_(found), and_(c.parent_id.in_(found), t.in_artifact)]
        of_document = (r.organization_id == c.organization_id, r.id == c.id, r.document_id.in_(found))
        ways.append(exists().where(*of_document).correlate(t.items))
    return [*records.scope(actor), c.state.in_(KEPT), or_(*ways)]


def totals(tx: Tx, conditions: Sequence[ColumnElement[bool]]) -> tuple[dict[str, int], int]:
    """Objects by kind, and the bytes that they hold."""
    c = t.items.c
    query = select(c.kind, func.count(), func.sum(c.bytes)).where(*conditions).group_by(c.kind).order_by(c.kind)
    rows = tx.execute(query).all()
    return {str(kind): count for kind, count, _ in rows}, int(sum(row[2] for row in rows))
