"""Lists and searches: a query becomes SQL whose cost grows with the page, not with the store, wherever an index allows.

Three ways, in this order:

* *candidates*: some condition that must hold is met by few objects (an index tells, counting at most `FEW`): fetch
  those and check the rest of the query on them;
* *walk*: ordered by one value of config, summary, … : walk that value's index in order, one kind of value after the
  other, and stop when the page is full;
* *scan*: newest first by the index of ids, or, for other orders, sort what matches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from labkeep.core.access import Actor
from labkeep.core.commands import ListItems, Page
from labkeep.core.entities import Item, Run
from labkeep.core.errors import Invalid
from labkeep.core.fields import FIELDS
from labkeep.core.filters import And, Compare, Filter, In, Leaf, Order, Query, state_filter
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import State, parse_state
from labkeep.core.query import parse
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.conditions import Conditions, field_condition, sort_keys, tag_condition
from labkeep.storage.pages import decode_cursor, encode_cursor
from labkeep.storage.transaction import Tx

E = TypeVar("E", bound=Item)

FEW = 2_000
"""A condition that at most this many objects meet is worth starting from."""


class Plan(msgspec.Struct, frozen=True):
    """A query over one kind, resolved: who may see it, where it looks, what it asks, in which order."""

    entity: type[Item]
    project_id: str | None
    states: tuple[State, ...]
    filter: Filter | None
    order: tuple[Order, ...]
    equal: Mapping[str, Any]


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
    project_id = equal.get("project_id")
    return Plan(entity, project_id, states, query.filter, order, equal)


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
    rows = list(_ordered(tx, actor, plan, cursor, limit + 1))
    found = rows[:limit]
    items = [_entity(entity, row) for row, _ in found]
    return Page(items, found[-1][1] if len(rows) > limit else None)


def matching(tx: Tx, actor: Actor, plan: Plan) -> Select[Any]:
    """Ids of all that ``plan`` selects, ordered by id: for selections of the lifecycle."""
    query = select(t.items.c.id).select_from(_source(plan.entity)).where(*_where(tx, actor, plan))
    candidates = _candidates(tx, plan)
    if candidates is not None:
        query = query.where(t.items.c.id.in_(candidates))
    return query.order_by(t.items.c.id)


def _entity(entity: type[E], row: Any) -> E:
    names = entity.__struct_fields__
    return entity(**dict(zip(names, row[: len(names)], strict=True)))


def _source(entity: type[Item]) -> Any:
    if entity is Item:
        return t.items
    table = records.extension_of(entity)
    return t.items.join(table, and_(t.items.c.organization_id == table.c.organization_id, t.items.c.id == table.c.id))


def _where(tx: Tx, actor: Actor, plan: Plan) -> list[ColumnElement[bool]]:
    c = t.items.c
    found: list[ColumnElement[bool]] = [*records.scope(actor), c.state.in_(plan.states)]
    if plan.entity is not Item:
        found.append(c.kind == records.kind_of(plan.entity))
    conditions = Conditions(plan.entity, tx.database)
    for name, value in plan.equal.items():
        column = c.get(name)
        if column is None:
            column = records.extension_of(plan.entity).c[name]
        found.append(column.in_(value) if isinstance(value, list | tuple) else column == value)
    if plan.filter is not None:
        found.append(conditions.compile(plan.filter))
    return found


# --- candidates -------------------------------------------------------------------------------------------------------


def _must(node: Filter | None) -> Iterator[Leaf]:
    """The conditions that everything found must meet."""
    if isinstance(node, And):
        for item in node.items:
            yield from _must(item)
    elif isinstance(node, Compare | In):
        yield node


def _candidates(tx: Tx, plan: Plan) -> Select[Any] | None:
    """The most selective condition of ``plan`` as a SELECT of ids, when an index finds few enough."""
    if plan.project_id is None or "id" in plan.equal:
        return None
    best: Select[Any] | None = None
    fewest = FEW + 1
    for leaf in _must(plan.filter):
        found = _indexed(leaf, plan.project_id)
        if found is None:
            continue
        counted = tx.execute(select(func.count()).select_from(found.limit(fewest).subquery())).scalar_one()
        if counted < fewest:
            best, fewest = found, counted
    return best


def _indexed(leaf: Leaf, project_id: str) -> Select[Any] | None:
    """``leaf`` as a SELECT of ids that an index answers; None when no index does."""
    f = t.fields.c
    if isinstance(leaf, Compare) and leaf.op == "!=":
        return None
    if leaf.field == "tag":
        return select(f.item_id).where(
            f.project_id == project_id, f.num.is_not(None), f.type == "b", tag_condition(leaf, f)
        )
    if leaf.field in FIELDS or isinstance(leaf, In):
        return None
    assert isinstance(leaf, Compare)
    if isinstance(leaf.value, float) and leaf.value != leaf.value:
        return None
    kept = f.text.is_not(None) if isinstance(leaf.value, str) else f.num.is_not(None)
    return select(f.item_id).where(f.project_id == project_id, f.path == leaf.field, kept, field_condition(leaf, f))


# --- order ------------------------------------------------------------------------------------------------------------

_Row = tuple[Any, str]
"""A row of the SELECT and the cursor that continues after it."""


def _ordered(tx: Tx, actor: Actor, plan: Plan, cursor: str | None, limit: int) -> Iterator[_Row]:
    candidates = _candidates(tx, plan)
    where = _where(tx, actor, plan)
    if candidates is not None:
        where.append(t.items.c.id.in_(candidates))
    order = plan.order
    if not order:
        return _by_id(tx, plan, where, cursor, limit)
    walkable = candidates is None and plan.project_id is not None and len(order) == 1 and order[0].field not in FIELDS
    if walkable and plan.entity is Run:
        return _walk(tx, plan, where, cursor, limit)
    return _sorted(tx, plan, where, cursor, limit)


def _select(plan: Plan, *more: Any) -> Select[Any]:
    entity = plan.entity
    columns = [
        t.items.c[name] if entity is Item or name in Item.__struct_fields__ else records.extension_of(entity).c[name]
        for name in entity.__struct_fields__
    ]
    return select(*columns, *more).select_from(_source(entity))


def _by_id(tx: Tx, plan: Plan, where: list[Any], cursor: str | None, limit: int) -> Iterator[_Row]:
    query = _select(plan).where(*where)
    if cursor is not None:
        (last,) = decode_cursor(cursor, tuple[str])
        query = query.where(t.items.c.id < _checked(last))
    at = plan.entity.__struct_fields__.index("id")
    for row in tx.execute(query.order_by(t.items.c.id.desc()).limit(limit)):
        yield row, encode_cursor(row[at])


def _checked(id: str) -> str:
    if not is_id(id):
        raise Invalid("the cursor is not one that this list gave", path="cursor")
    return id


_PHASES: dict[bool, tuple[str, ...]] = {False: ("b", "n", "t", ""), True: ("t", "n", "b", "")}
"""Types in the order in which a walk meets them; the last holds whatever has no order."""


def _walk(tx: Tx, plan: Plan, where: list[Any], cursor: str | None, limit: int) -> Iterator[_Row]:
    """Walk the index of the one field that orders the list, type by type."""
    key = plan.order[0]
    phases = _PHASES[key.descending]
    start, value, last = 0, None, None
    if cursor is not None:
        start, value, last = decode_cursor(cursor, tuple[int, str | None, str])
        if not 0 <= start < len(phases):
            raise Invalid("the cursor is not one that this list gave", path="cursor")
        _checked(last)
    only = _only_type(plan, key.field)
    at = plan.entity.__struct_fields__.index("id")
    for number in range(start, len(phases)):
        if only is not None and phases[number] != only:
            continue
        query, column = _phase(plan, where, key, phases[number])
        if number == start and last is not None:
            query = query.where(_beyond(column, _parse(phases[number], value), last, key.descending))
        ordering = [t.items.c.id.desc()]
        if column is not None:
            # The index ends in the id, so ties come in its order without a sort only when both run the same way.
            ordering.insert(0, column.desc() if key.descending else column.asc())
        for row in tx.execute(query.order_by(*ordering).limit(limit)):
            limit -= 1
            yield row, encode_cursor(number, None if column is None else _print(row[-1]), row[at])
        if limit <= 0:
            return


def _only_type(plan: Plan, field: str) -> str | None:
    """The one type that the ordering field can have, when the filter says so."""
    for leaf in _must(plan.filter):
        if leaf.field == field and isinstance(leaf, Compare) and leaf.op != "!=":
            if isinstance(leaf.value, bool):
                return "b"
            return "n" if isinstance(leaf.value, int | float) else "t"
    return None


def _phase(plan: Plan, where: list[Any], key: Order, type: str) -> tuple[Select[Any], Any]:
    f = t.fields.alias("ordering")
    mine = (f.c.organization_id == t.items.c.organization_id, f.c.item_id == t.items.c.id)
    if not type:
        sortable = select(1).where(*mine, f.c.path == key.field, or_(f.c.num.is_not(None), f.c.text.is_not(None)))
        return _select(plan).where(*where, ~sortable.exists()), None
    column = f.c.text if type == "t" else f.c.num
    query = _select(plan, column).join(f, and_(*mine))
    query = query.where(
        f.c.project_id == plan.project_id, f.c.path == key.field, f.c.type == type, column.is_not(None), *where
    )
    # What the filter says of the same field narrows the walk itself.
    narrow = [
        field_condition(leaf, f.c)
        for leaf in _must(plan.filter)
        if leaf.field == key.field and isinstance(leaf, Compare) and leaf.op != "!="
    ]
    return query.where(*narrow), column


def _beyond(column: Any, value: Any, last: str, descending: bool) -> Any:
    earlier = t.items.c.id < last
    if column is None:
        return earlier
    further = column < value if descending else column > value
    # Two conditions instead of one OR at the top: the first is what the index can use.
    bound = column <= value if descending else column >= value
    return and_(bound, or_(further, earlier))


def _print(value: Any) -> str:
    """A sort value as text that survives JSON: numbers in full, infinities included."""
    return value.hex() if isinstance(value, float) else str(value)


def _parse(type: str, text: str | None) -> Any:
    if not type:
        return None
    if text is None:
        raise Invalid("the cursor is not one that this list gave", path="cursor")
    try:
        return text if type == "t" else float.fromhex(text)
    except (ValueError, OverflowError) as error:
        raise Invalid("the cursor is not one that this list gave", path="cursor") from error


def _sorted(tx: Tx, plan: Plan, where: list[Any], cursor: str | None, limit: int) -> Iterator[_Row]:
    """Sort all that matches by any keys."""
    conditions = Conditions(plan.entity, tx.database)
    keys: list[tuple[Any, bool]] = []
    for order in plan.order:
        absent, *values = sort_keys(conditions, order.field)
        keys += [(absent, False), *((value, order.descending) for value in values)]
    keys.append((t.items.c.id, True))
    labelled = [(column.label(f"sort_{number}"), descending) for number, (column, descending) in enumerate(keys)]
    inner = _select(plan, *(column for column, _ in labelled)).where(*where).subquery("found")
    columns = [(inner.c[f"sort_{number}"], descending) for number, (_, descending) in enumerate(labelled)]
    query = select(inner)
    if cursor is not None:
        query = query.where(_after(columns, _decode_keys(cursor, len(columns))))
    query = query.order_by(*(column.desc() if descending else column.asc() for column, descending in columns)).limit(
        limit
    )
    width = len(columns)
    for row in tx.execute(query):
        yield row, encode_cursor(*(_tagged(value) for value in row[-width:]))


def _tagged(value: Any) -> list[Any]:
    if isinstance(value, float):
        return ["f", value.hex()]
    return ["i", value] if isinstance(value, int) else ["s", str(value)]


def _decode_keys(cursor: str, count: int) -> list[Any]:
    pairs = decode_cursor(cursor, list[tuple[str, str | int]])
    if len(pairs) != count:
        raise Invalid("the cursor belongs to a list with another order", path="cursor")
    values = [_parse("n", str(value)) if tag == "f" else value for tag, value in pairs]
    _checked(str(values[-1]))
    return values


def _after(columns: Sequence[tuple[Any, bool]], values: list[Any]) -> ColumnElement[bool]:
    """The rows that sort after ``values``."""
    alternatives: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for (column, descending), value in zip(columns, values, strict=True):
        alternatives.append(and_(*same, column < value if descending else column > value))
        same.append(column == value)
    return or_(*alternatives)


def _beside(
    tx: Tx, actor: Actor, entity: type[E], plan: Plan, limit: int, before: str | None, after: str | None
) -> Page[E]:
    """The page before or after an id, newest first."""
    if before is not None and after is not None:
        raise Invalid("before and after cannot both be given", path="before")
    if plan.order:
        raise Invalid("before and after go with the default order only", path="order")
    query = records.statement(entity, actor).where(*_where(tx, actor, plan))
    column = t.items.c.id
    if after is not None:
        found = records.fetch(tx, entity, query.where(column < _checked(after)).order_by(column.desc()).limit(limit))
        return Page(found)
    found = records.fetch(tx, entity, query.where(column > _checked(before or "")).order_by(column.asc()).limit(limit))
    return Page(found[::-1])
