"""One page of ids by a way that was chosen (`labkeep.storage.ways`), each way a statement of a fixed shape.

What a row is sorted by goes into the cursor: a flat list of keys, the id last, the same whichever way was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    and_,
    bindparam,
    exists,
    false,
    literal,
    or_,
    select,
)
from sqlalchemy.types import TypeEngine

from labkeep.core.access import Actor
from labkeep.core.entities import Item
from labkeep.core.errors import Invalid
from labkeep.core.fields import FIELDS, REFERENCES
from labkeep.core.filters import And, Compare, Filter, conjunction, leaves
from labkeep.core.ids import is_id
from labkeep.storage import column_types as types
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.conditions import (
    TEXT,
    Conditions,
    attribute_keys,
    entries,
    is_listed,
    key_types,
    named,
    open_keys,
    shape_of,
    taker,
)
from labkeep.storage.pages import decode_cursor, encode_cursor
from labkeep.storage.prepared import Prepared, Shelf, decoder, encoder, raw_id
from labkeep.storage.transaction import Tx
from labkeep.storage.ways import Plan, Start, Way, walked_field

Key = int | float | str

_ID = types.Id()
_NUMBER: TypeEngine[Any] = Double()


class Row(NamedTuple):
    """One object of a page: its id as the driver has it, and what it is sorted by."""

    id: Any
    keys: tuple[Key, ...] = ()


def find(tx: Tx, actor: Actor, plan: Plan, way: Way, cursor: str | None, limit: int) -> list[Row]:
    """Up to ``limit`` rows behind ``cursor``. Invalid for a cursor that this list did not give."""
    last = None if cursor is None else read_cursor(cursor, plan)
    if way.start == Start.walk:
        return _walk(tx, actor, plan, last, limit)
    if plan.order or way.start != Start.scan or len(plan.states) == 1:
        return _run(tx, actor, Asked(plan, tx.database, way, behind=last is not None), last, limit)
    # Newest first by the index of ids, which has one order for each state.
    found: list[Row] = []
    for state in plan.states:
        one = msgspec.structs.replace(plan, states=(state,))
        found += _run(tx, actor, Asked(one, tx.database, way, behind=last is not None), last, limit)
    return sorted(found, key=lambda row: row.id, reverse=True)[:limit]


# --- cursors ----------------------------------------------------------------------------------------------------------


def write_cursor(row: Row, database: str) -> str:
    """The cursor that continues behind ``row``."""
    text = decoder(_ID, database)
    assert text is not None
    keys = (["f", key.hex()] if isinstance(key, float) else [type(key).__name__[0], key] for key in row.keys)
    return encode_cursor(*keys, ["s", text(row.id)])


def read_cursor(cursor: str, plan: Plan) -> list[Key]:
    """The sort keys of a cursor and the id behind them; Invalid unless a list with this order gave it."""
    pairs = decode_cursor(cursor, list[tuple[str, int | str]])
    wanted = "".join(key_types(plan.entity, order.field) for order in plan.order) + "s"
    if "".join(tag for tag, _ in pairs) != wanted:
        raise Invalid("the cursor belongs to a list with another order", path="cursor")
    keys = [_key(tag, value) for tag, value in pairs]
    if not is_id(str(keys[-1])):
        raise _foreign()
    return keys


def _key(tag: str, value: int | str) -> Key:
    try:
        if tag == "f" and isinstance(value, str):
            return float.fromhex(value)
    except (ValueError, OverflowError) as error:
        raise _foreign() from error
    if tag == "i" and isinstance(value, int) and abs(value) < 2**63:
        return value
    if tag == "s" and isinstance(value, str) and "\0" not in value:
        return value
    raise _foreign()


def _foreign() -> Invalid:
    return Invalid("the cursor is not one that this list gave", path="cursor")


# --- what is asked ----------------------------------------------------------------------------------------------------


class Asked:
    """What a statement is made for. All that have one ``shape`` have the same SQL and differ in values only.

    ``phase`` is, in a walk, the type of the values that are walked over; ``-`` for what has none to be walked by.
    """

    def __init__(self, plan: Plan, database: str, way: Way, *, behind: bool, phase: str = "") -> None:
        self.plan, self.database, self.way, self.behind, self.phase = plan, database, way, behind, phase
        conjuncts = list(_conjuncts(plan.filter))
        self.applied: list[Any] = [node for node in conjuncts if self._is_applied(node)]
        """Conditions that the index itself answers."""
        self.rest = conjunction(*[node for node in conjuncts if not self._is_applied(node)])
        self.shape = (
            *(plan.entity, plan.project_id is None, len(plan.states), database, way.start, behind, phase),
            tuple((order.field in FIELDS and order.field, order.descending) for order in plan.order),
            *(tuple(map(shape_of, self.applied)), None if self.rest is None else shape_of(self.rest)),
            tuple((name, len(v) if isinstance(v, list | tuple) else -1) for name, v in plan.equal.items()),
        )

    def _is_applied(self, node: Filter) -> bool:
        if self.way.start != Start.walk:
            return node is self.way.leaf
        if self.phase == "-" or not isinstance(node, Compare) or node.op == "!=" or node.value != node.value:
            return False
        return node.field == walked_field(self.plan)

    def values(self, actor: Actor, last: Sequence[Key] | None, limit: int) -> dict[str, Any]:
        """Everything that the statement takes, by name."""
        plan, database = self.plan, self.database
        found: dict[str, Any] = {"limit": limit, **named("f", self.rest, database)}
        ids = {"organization": actor.organization_id, "workspace": actor.workspace_id, "project": plan.project_id}
        found |= {name: raw_id(id, database) for name, id in ids.items() if id is not None}
        found |= {f"state{number}": str(state) for number, state in enumerate(plan.states)}
        found |= {f"path{number}": order.field for number, order in enumerate(plan.order)}
        for number, node in enumerate(self.applied):
            found |= named(f"a{number}_", node, database)
        for name, value in plan.equal.items():
            encode = encoder(_column(plan.entity, name).type, database) or _same
            found |= {f"{name}{number}": encode(one) for number, one in enumerate(_several(value))}
        if last is not None:
            found |= {f"last{number}": key for number, key in enumerate(last[:-1])}
            found["last_id"] = raw_id(str(last[-1]), database)
        return found


def _conjuncts(node: Filter | None) -> Iterator[Filter]:
    if isinstance(node, And):
        for item in node.items:
            yield from _conjuncts(item)
    elif node is not None:
        yield node


def _same(value: Any) -> Any:
    return value


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _column(entity: type[Item], name: str) -> Column[Any]:
    return t.items.c[name] if name in t.items.c else records.extension_of(entity).c[name]


def _run(tx: Tx, actor: Actor, asked: Asked, last: Sequence[Key] | None, limit: int) -> list[Row]:
    rows = _statement(asked).run(tx.connection, asked.values(actor, last, limit))
    return [Row(row[0], tuple(row[1:])) for row in rows]


_statements = Shelf()


def _statement(asked: Asked) -> Prepared:
    make: Callable[[Asked], Any] = {Start.leaf: _leaf, Start.walk: _phase}.get(asked.way.start, _scan)
    if asked.phase == "-":
        make = _scan
    return _statements.get(asked.shape, lambda: Prepared(make(asked), asked.database))


# --- conditions on an object ------------------------------------------------------------------------------------------


def _bind(name: str, type: TypeEngine[Any] = TEXT) -> Any:
    return bindparam(name, type_=type)


def _met(asked: Asked) -> list[ColumnElement[bool]]:
    """Everything that a row of items, joined with what only its kind has, must meet."""
    plan, c = asked.plan, t.items.c
    found: list[ColumnElement[bool]] = [c.organization_id == _bind("organization", _ID)]
    inside = plan.project_id is not None
    found.append(c.project_id == _bind("project", _ID) if inside else c.workspace_id == _bind("workspace", _ID))
    if plan.entity is not Item:
        found.append(c.kind == records.kind_of(plan.entity))
    states = [_bind(f"state{number}", c.state.type) for number in range(len(plan.states))]
    found.append(c.state == states[0] if len(states) == 1 else c.state.in_(states))
    for name, value in plan.equal.items():
        if name == "project_id":
            continue
        column = _column(plan.entity, name)
        binds = [_bind(f"{name}{number}", column.type) for number in range(len(_several(value)))]
        found.append(column == binds[0] if len(binds) == 1 else column.in_(binds) if binds else false())
    if asked.rest is not None:
        project = _bind("project", _ID) if inside else None
        found.append(Conditions(plan.entity, asked.database, taker("f"), project=project).compile(asked.rest))
    return found


def _source(asked: Asked) -> FromClause:
    names = {leaf.field for leaf in leaves(asked.rest)} | {order.field for order in asked.plan.order}
    names |= set(asked.plan.equal)
    needed = asked.plan.entity is not Item and any(_is_of_kind(asked.plan.entity, name) for name in names)
    return records.source_of(asked.plan.entity) if needed else t.items


def _is_of_kind(entity: type[Item], name: str) -> bool:
    """Whether an attribute lies in the table of what only this kind has."""
    behind = {**REFERENCES, "duration_s": "started_at"}.get(name, name)
    return behind not in t.items.c and behind in records.extension_of(entity).c


def _is_met(asked: Asked, entry: Any) -> ColumnElement[bool]:
    """The same of the object that an entry of ``fields`` belongs to."""
    attributes = {leaf.field for leaf in leaves(asked.rest) if leaf.field in FIELDS} | set(asked.plan.equal)
    if asked.plan.entity is Item or not attributes <= {"tag", "project_id"}:
        c = t.items.c
        mine = (c.organization_id == entry.organization_id, c.id == entry.item_id)
        return exists(select(literal(1)).select_from(_source(asked)).where(*mine, *_met(asked)))
    kind = literal(records.kind_of(asked.plan.entity), t.items.c.kind.type)
    states = [_bind(f"state{number}", t.items.c.state.type) for number in range(len(asked.plan.states))]
    organization, project = _bind("organization", _ID), _bind("project", _ID)
    listed = is_listed(organization, project, kind, entry.item_id, *states)
    if asked.rest is None:
        return listed
    owner = (entry.organization_id, entry.item_id)
    rest = Conditions(asked.plan.entity, asked.database, taker("f"), owner=owner, project=project)
    # What every entry's object meets comes last.
    return and_(rest.compile(asked.rest), listed)


# --- scan and candidates ----------------------------------------------------------------------------------------------


def _scan(asked: Asked) -> Any:
    """Rows of items, sorted by anything."""
    source, keys = _source(asked), []
    for number, order in enumerate(asked.plan.order if asked.phase != "-" else ()):
        if order.field in FIELDS:
            values = attribute_keys(asked.plan.entity, order.field, asked.database)
        else:
            f = t.fields.alias(f"order{number}")
            mine = (f.c.organization_id == t.items.c.organization_id, f.c.item_id == t.items.c.id)
            source = source.outerjoin(f, and_(*mine, f.c.path == _bind(f"path{number}")))
            values = open_keys(f.c)
        # Absent comes first among the keys of a field, and last in both directions.
        keys += [(value, order.descending and (at > 0 or len(values) == 1)) for at, value in enumerate(values)]
    query = select(t.items.c.id, *[key for key, _ in keys]).select_from(source).where(*_met(asked))
    if asked.way.start == Start.candidates:
        query = query.where(t.items.c.id.in_(_applied(asked)))
    if asked.phase == "-":
        query = query.where(~exists(_sortable()))
    ordering = [*keys, (t.items.c.id, True)]
    if asked.behind:
        query = query.where(_beyond(ordering))
    query = query.order_by(*[key.desc() if descending else key.asc() for key, descending in ordering])
    return query.limit(_bind("limit", Integer()))


def _applied(asked: Asked) -> Any:
    f = t.fields.alias("candidates").c
    found = select(f.item_id).where(f.project_id == _bind("project", _ID))
    return found.where(*[entries(node, f, taker(f"a{n}_")) for n, node in enumerate(asked.applied)])


def _beyond(ordering: Sequence[tuple[Any, bool]]) -> ColumnElement[bool]:
    """The rows that sort behind the last one."""
    alternatives: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for number, (key, descending) in enumerate(ordering):
        is_id_key = number == len(ordering) - 1
        last = _bind("last_id", _ID) if is_id_key else _bind(f"last{number}", key.type)
        alternatives.append(and_(*same, key < last if descending else key > last))
        same.append(key == last)
    return or_(*alternatives)


# --- along the entries of one value -----------------------------------------------------------------------------------


def _leaf(asked: Asked) -> Any:
    """Entries of the one value that a condition asks for, newest first."""
    f = t.fields.alias("entry").c
    query = select(f.item_id).where(f.project_id == _bind("project", _ID))
    query = query.where(*[entries(node, f, taker(f"a{n}_")) for n, node in enumerate(asked.applied)])
    if asked.behind:
        query = query.where(f.item_id < _bind("last_id", _ID))
    return query.where(_is_met(asked, f)).order_by(f.item_id.desc()).limit(_bind("limit", Integer()))


# --- along the values of one field ------------------------------------------------------------------------------------

_RANKS = {"b": 0, "n": 1, "t": 2}
_ABSENT: tuple[Key, ...] = (1, 0, 0.0, "")


def _walk(tx: Tx, actor: Actor, plan: Plan, last: Sequence[Key] | None, limit: int) -> list[Row]:
    """Walk over the values of the field that orders the list, type by type; then what has no place in its order."""
    descending = plan.order[0].descending
    phases = [*sorted(_RANKS, key=_RANKS.__getitem__, reverse=descending), "-"]
    started = (
        "" if last is None else "-" if last[0] else next((p for p, rank in _RANKS.items() if rank == last[1]), "-")
    )
    found: list[Row] = []
    for phase in phases[phases.index(started) if started else 0 :]:
        behind = phase == started
        asked = Asked(plan, tx.database, Way(Start.walk), behind=behind, phase=phase)
        if len(found) < limit and _may_hold(asked):
            keys = _phase_keys(phase, last) if behind and last is not None else None
            found += [_row(phase, row) for row in _run(tx, actor, asked, keys, limit - len(found))]
    return found


def _may_hold(asked: Asked) -> bool:
    """Whether what the filter says of the field itself leaves anything in this phase."""
    field = walked_field(asked.plan)
    for node in _conjuncts(asked.plan.filter):
        if isinstance(node, Compare) and node.field == field and node.op != "!=":
            kind = "b" if isinstance(node.value, bool) else "t" if isinstance(node.value, str) else "n"
            if asked.phase != ("-" if node.value != node.value else kind):
                return False
    return True


def _phase_keys(phase: str, last: Sequence[Key]) -> list[Key]:
    """Of the keys of a cursor those that matter within a phase: the value, and the id."""
    return [last[-1]] if phase == "-" else [last[3] if phase == "t" else last[2], last[-1]]


def _row(phase: str, row: Row) -> Row:
    if phase == "-":
        return Row(row.id, _ABSENT)
    value = row.keys[0]
    return Row(row.id, (0, _RANKS[phase], 0.0, value) if phase == "t" else (0, _RANKS[phase], float(value), ""))


def _phase(asked: Asked) -> Any:
    f = t.fields.alias("entry").c
    value: Any = f.text if asked.phase == "t" else f.num
    descending = asked.plan.order[0].descending
    query = select(f.item_id, value).where(f.project_id == _bind("project", _ID), f.path == _bind("path0"))
    query = query.where(f.type == asked.phase, value.is_not(None))
    query = query.where(*[entries(node, f, taker(f"a{n}_")) for n, node in enumerate(asked.applied)])
    if asked.behind:
        last = _bind("last0", TEXT if asked.phase == "t" else _NUMBER)
        # Two conditions instead of one OR at the top: the first is what the index can use.
        query = query.where(value <= last if descending else value >= last)
        further = value < last if descending else value > last
        query = query.where(or_(further, f.item_id < _bind("last_id", _ID)))
    query = query.where(_is_met(asked, f))
    ordering = (value.desc() if descending else value.asc(), f.item_id.desc())
    return query.order_by(*ordering).limit(_bind("limit", Integer()))


def _sortable() -> Any:
    """The value that gives an object its place in the order."""
    f = t.fields.alias("sortable").c
    mine = (f.organization_id == t.items.c.organization_id, f.item_id == t.items.c.id, f.path == _bind("path0"))
    return select(literal(1)).where(*mine, or_(f.num.is_not(None), f.text.is_not(None)))
