"""The ways to find a page of objects: which index to follow. What following it looks like in SQL is in `finding`.

* *walk*: ordered by one value of config, summary, …: follow that value's index in order, one kind of value after the
  other, and stop when the page is full;
* *leaf*: newest first, and some condition asks for one exact value: follow that value's index, which is in this order;
* *candidates*: some condition that must hold is met by few objects: fetch those, check the rest of the query on them;
* *scan*: newest first by the index of ids; for other orders, sort what matches.

All of them give the same rows in the same order with the same cursors: which one is taken is a matter of cost alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Integer, bindparam, func, literal, select

from labkeep.core.entities import Item
from labkeep.core.fields import FIELDS
from labkeep.core.filters import And, Compare, Contains, Filter, In, Leaf, Matches, Order
from labkeep.core.lifecycle import State
from labkeep.storage import column_types as types
from labkeep.storage import tables as t
from labkeep.storage.conditions import TEXT, entries, named, shape_of, taker
from labkeep.storage.prepared import Prepared, Shelf, raw_id
from labkeep.storage.transaction import Tx

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


class Start(StrEnum):
    """What a way starts from."""

    walk = "walk"
    leaf = "leaf"
    candidates = "candidates"
    scan = "scan"


class Way(NamedTuple):
    """A way, and the condition that it starts from when there is one."""

    start: Start
    leaf: Leaf | None = None


def must(node: Filter | None) -> Iterator[Leaf]:
    """The conditions that everything found must meet."""
    if isinstance(node, And):
        for item in node.items:
            yield from must(item)
    elif isinstance(node, Compare | In | Contains | Matches):
        yield node


def choose(tx: Tx, plan: Plan, limit: int) -> Way:
    """The cheapest way to a page of ``limit``. Counts entries of indexes where that tells."""
    if plan.project_id is None or "id" in plan.equal:
        return Way(Start.scan)
    indexed = [leaf for leaf in must(plan.filter) if is_indexed(leaf)]
    if not plan.order:
        return _newest_first(tx, plan, indexed)
    field = walked_field(plan)
    few = _fewest(tx, plan, [leaf for leaf in indexed if leaf.field != field])
    if few is None:
        return Way(Start.scan if field is None else Start.walk)
    if field is None:
        return Way(Start.candidates, few[1])
    # A walk finds one hit among as many entries as there are for each candidate; fetching looks at all candidates.
    worth = 2 * few[0] * few[0] // limit + 1
    narrow = [leaf for leaf in indexed if leaf.field == field]
    return Way(Start.walk) if _count(tx, plan, narrow, field, worth) < worth else Way(Start.candidates, few[1])


def few_entries(tx: Tx, plan: Plan) -> Leaf | None:
    """The condition that the fewest objects meet, when those are few: what to start from when all are wanted."""
    if plan.project_id is None or "id" in plan.equal:
        return None
    few = _fewest(tx, plan, [leaf for leaf in must(plan.filter) if is_indexed(leaf)])
    return None if few is None else few[1]


def walked_field(plan: Plan) -> str | None:
    """The field whose index gives the order, when there is one."""
    if len(plan.order) == 1 and plan.order[0].field not in FIELDS:
        return plan.order[0].field
    return None


def _newest_first(tx: Tx, plan: Plan, indexed: Sequence[Leaf]) -> Way:
    exact = [leaf for leaf in indexed if is_exact(leaf)]
    if len(indexed) == 1 and exact:
        return Way(Start.leaf, exact[0])
    few = _fewest(tx, plan, indexed)
    if few is not None:
        return Way(Start.leaf if is_exact(few[1]) else Start.candidates, few[1])
    few = _fewest(tx, plan, exact, 10 * FEW) if len(exact) > 1 else None
    if few is not None:
        return Way(Start.leaf, few[1])
    return Way(Start.leaf, exact[0]) if exact else Way(Start.scan)


def is_indexed(leaf: Leaf) -> bool:
    """Whether an index finds what meets ``leaf``."""
    if leaf.field in FIELDS and leaf.field != "tag":
        return False
    if isinstance(leaf, In):
        return leaf.field == "tag"
    if not isinstance(leaf, Compare) or leaf.op == "!=":
        return False
    return leaf.value == leaf.value  # NaN has no place in the index


def is_exact(leaf: Leaf) -> bool:
    """Whether ``leaf`` asks for one value, whose entries in the index are ordered by id."""
    return isinstance(leaf, Compare) and leaf.op == "="


# --- counting ---------------------------------------------------------------------------------------------------------


def _fewest(tx: Tx, plan: Plan, indexed: Sequence[Leaf], few: int = FEW) -> tuple[int, Leaf] | None:
    """The condition that the fewest objects meet, and how many, when those are few."""
    best: tuple[int, Leaf] | None = None
    most = few + 1
    for leaf in indexed:
        counted = _count(tx, plan, [leaf], None, most)
        if counted < most:
            best, most = (counted, leaf), counted
    return best


def _count(tx: Tx, plan: Plan, narrow: Sequence[Leaf], field: str | None, most: int) -> int:
    """How many entries of the index meet all of ``narrow``, counted up to ``most``. ``field`` is that of the entries."""
    assert plan.project_id is not None
    values: dict[str, Any] = {"project": raw_id(plan.project_id, tx.database), "most": most, "path": field}
    for number, leaf in enumerate(narrow):
        values |= named(f"n{number}_", leaf, tx.database)
    shape = (tx.database, field is not None, *map(shape_of, narrow))
    counter = _counters.get(shape, lambda: _counter(tx.database, narrow, field is not None))
    return int(counter.run(tx.connection, values)[0][0])


_counters = Shelf()


def _counter(database: str, narrow: Sequence[Leaf], has_path: bool) -> Prepared:
    f = t.fields.c
    found = select(literal(1)).where(f.project_id == bindparam("project", type_=types.Id()))
    if has_path:
        found = found.where(f.path == bindparam("path", type_=TEXT), f.num.is_not(None))
    for number, leaf in enumerate(narrow):
        found = found.where(entries(leaf, f, taker(f"n{number}_")))
    limited = found.limit(bindparam("most", type_=Integer)).subquery()
    return Prepared(select(func.count()).select_from(limited), database)
