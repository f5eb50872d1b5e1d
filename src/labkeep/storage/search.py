"""Lists and searches: pages of objects whose cost grows with the page, not with the store, wherever an index allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, bindparam, select

from labkeep.core.access import Actor
from labkeep.core.commands import ListItems, Page
from labkeep.core.entities import Item
from labkeep.core.errors import Invalid
from labkeep.core.filters import Query, state_filter
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import State, parse_state
from labkeep.core.query import parse
from labkeep.storage import column_types as types
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.conditions import Conditions, entries, literals
from labkeep.storage.finding import find, write_cursor
from labkeep.storage.prepared import Prepared, raw_id
from labkeep.storage.transaction import Tx
from labkeep.storage.ways import Plan, choose, few_entries

E = TypeVar("E", bound=Item)

LOADED = (1, 10, 100, 500)
"""How many objects one statement loads: a page is filled up to one of these, so that there are few statements."""


def resolve(tx: Tx, entity: type[Item], command: ListItems, equal: Mapping[str, Any]) -> Plan:
    """What ``command`` asks for. Invalid for a query that cannot be understood."""
    query = parse(command.q, tx.now) if command.q.strip() else Query()
    order = query.order
    if command.order.strip():
        order = parse(f"order by {command.order}", tx.now).order
    mentioned = state_filter(query.filter)
    if command.state == "any":
        states = tuple(State)
    elif command.state:
        states = (parse_state(command.state),)
    elif mentioned is not None:
        states = tuple(sorted(mentioned))
    else:
        states = (State.active,)
    return Plan(entity, equal.get("project_id"), states, query.filter, order, equal)


def page(
    tx: Tx,
    actor: Actor,
    entity: type[E],
    command: ListItems,
    *,
    equal: Mapping[str, Any] | None = None,
    before: str | None = None,
    after: str | None = None,
) -> Page[E]:
    """One page of what ``command`` asks for. ``equal`` adds exact conditions on columns; a list means any of it.

    ``before`` and ``after`` are ids: the page just before or after that place, newest first; the object itself may
    be gone by now.
    """
    plan = resolve(tx, entity, command, equal or {})
    if before is not None or after is not None:
        return _beside(tx, actor, entity, plan, command.limit, before, after)
    return page_of(tx, actor, entity, plan, command.limit, command.cursor)


def page_of(tx: Tx, actor: Actor, entity: type[E], plan: Plan, limit: int, cursor: str | None) -> Page[E]:
    """One page of a plan that is made already: for filters that do not come as text."""
    if not plan.states:
        return Page([])
    rows = find(tx, actor, plan, choose(tx, plan, limit), cursor, limit + 1)
    shown = rows[:limit]
    items = load(tx, actor, entity, [row.id for row in shown])
    return Page(items, write_cursor(shown[-1], tx.database) if len(rows) > limit else None)


def matching(tx: Tx, actor: Actor, plan: Plan) -> Select[Any]:
    """Ids of all that ``plan`` selects, ordered by id."""
    source = records.source_of(plan.entity)
    return select(t.items.c.id).select_from(source).where(*conditions(tx, actor, plan)).order_by(t.items.c.id)


def conditions(tx: Tx, actor: Actor, plan: Plan) -> list[ColumnElement[bool]]:
    """What ``plan`` asks of rows of items joined with what only its kind has: for those who want all of them."""
    c = t.items.c
    found: list[ColumnElement[bool]] = [*records.scope(actor), c.state.in_(plan.states)]
    if plan.entity is not Item:
        found.append(c.kind == records.kind_of(plan.entity))
    for name, value in plan.equal.items():
        column = c[name] if name in c else records.extension_of(plan.entity).c[name]
        found.append(column.in_(value) if isinstance(value, list | tuple) else column == value)
    if plan.filter is not None:
        found.append(Conditions(plan.entity, tx.database, literals(plan.filter, tx.database)).compile(plan.filter))
    few = few_entries(tx, plan)
    if few is not None:
        f = t.fields.c
        of_few = select(f.item_id).where(f.project_id == plan.project_id, entries(few, f, literals(few, tx.database)))
        found.append(c.id.in_(of_few))
    return found


# --- loading ----------------------------------------------------------------------------------------------------------


def load(tx: Tx, actor: Actor, entity: type[E], ids: Sequence[Any]) -> list[E]:
    """Objects by ids as the driver has them, in their order; those that the actor's workspace has."""
    scope = {
        "organization": raw_id(actor.organization_id, tx.database),
        "workspace": raw_id(actor.workspace_id, tx.database),
    }
    found: dict[Any, E] = {}
    for start in range(0, len(ids), LOADED[-1]):
        part = list(ids[start : start + LOADED[-1]])
        size = next(size for size in LOADED if size >= len(part))
        part += part[-1:] * (size - len(part))
        rows = _loader(entity, tx.database, size).run(
            tx.connection, scope | {f"id{number}": id for number, id in enumerate(part)}
        )
        at = entity.__struct_fields__.index("id")
        found.update(zip((row[at] for row in rows), records.make(entity, rows, tx.database), strict=True))
    return [found[id] for id in ids if id in found]


@cache
def _loader(entity: type[Item], database: str, size: int) -> Prepared:
    c = t.items.c
    ids = [bindparam(f"id{number}", type_=types.Id()) for number in range(size)]
    query = select(*records.columns_of(entity)).select_from(records.source_of(entity))
    query = query.where(
        c.organization_id == bindparam("organization", type_=types.Id()),
        c.workspace_id == bindparam("workspace", type_=types.Id()),
        c.id.in_(ids),
    )
    return Prepared(query, database)


# --- two-way paging ---------------------------------------------------------------------------------------------------


def _beside(
    tx: Tx, actor: Actor, entity: type[E], plan: Plan, limit: int, before: str | None, after: str | None
) -> Page[E]:
    """The page before or after an id, newest first."""
    if before is not None and after is not None:
        raise Invalid("before and after cannot both be given", path="before")
    if plan.order:
        raise Invalid("before and after go with the default order only", path="order")
    column = t.items.c.id
    query = matching(tx, actor, plan).order_by(None)
    if after is not None:
        query = query.where(column < _checked(after)).order_by(column.desc())
    else:
        query = query.where(column > _checked(before or "")).order_by(column.asc())
    ids = [raw_id(row[0], tx.database) for row in tx.execute(query.limit(limit))]
    return Page(load(tx, actor, entity, ids if after is not None else ids[::-1]))


def _checked(id: str) -> str:
    if not is_id(id):
        raise Invalid("before and after take the id of an object", path="cursor")
    return id


__all__ = ["Plan", "conditions", "load", "matching", "page", "page_of", "resolve"]
