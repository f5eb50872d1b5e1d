"""Retention of rows: which rows of runs and documents a policy takes away. Their owners stay.

The conditions but age are about the owner, age and ranks about its rows: ``keep_last`` counts in each owner by itself.
That a run still runs is no reason to keep its rows: logs that never end are what these policies are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from labkeep.core.access import Actor
from labkeep.core.errors import NotFound
from labkeep.core.retention import Decision, Judge, Subject, shielded
from labkeep.core.terms import ROW, Action, Terms
from labkeep.operations import holds
from labkeep.operations.retention import Look
from labkeep.storage import policies as store
from labkeep.storage import retention as inventory
from labkeep.storage.retention import Position, Reach
from labkeep.storage.transaction import Tx

BATCH = 5_000
"""Rows of one owner that go in one transaction."""

LOOKED_AT = 100_000
"""Rows looked at in one transaction that only reads."""


class RowPosition(NamedTuple):
    """How far was read: the place, the owner (or object), and the row of it; no row when that does not matter."""

    place: int
    owner_id: str
    row_id: str


def owner_kinds(terms: Terms) -> tuple[str, ...]:
    """The kinds of objects that a policy looks at: of rows, what they belong to."""
    return (terms.rows_of or ("run", "document")) if terms.about_rows else terms.kinds


def owners(terms: Terms) -> Terms:
    """What a policy about rows says about their owners."""
    return Terms(
        kinds=owner_kinds(terms), states=inventory.WRITABLE, status=terms.status, types=terms.types,
        tags=terms.tags, q=terms.q, keep_bound=terms.keep_bound,
    )  # fmt: skip


class _View(NamedTuple):
    """A policy about rows: by what name, in which reach of owners, and what it says about rows."""

    name: str
    reach: Reach
    terms: Terms


def decided(
    tx: Tx, actor: Actor, look: Look, start: RowPosition | None
) -> Iterator[tuple[Subject, Decision, RowPosition]]:
    """Every row that the conditions select, from ``start`` on, with what becomes of it."""
    mine, others = _views(tx, actor, look)
    for owner, at in _owners(tx, actor, mine.reach, start):
        after = start.row_id if start is not None and owner.id == start.owner_id else ""
        for row, decision in _decide(tx, actor, mine, others, owner, after, looking=True):
            yield row, decision, RowPosition(at.place, owner.id, row.id)


def _views(tx: Tx, actor: Actor, look: Look) -> tuple[_View, list[_View]]:
    def view(name: str, terms: Terms, project_id: str | None) -> _View:
        return _View(name, Reach(owners(terms), project_id, look.at), terms)

    found = [
        view(other.name, terms, other.project_id)
        for other in store.in_force(tx, actor, look.project_id)
        if other.id != look.policy_id and (terms := store.terms_of(other.body, tx.now)).about_rows and terms.rules
    ]
    return view(look.name, look.terms, look.project_id), found


def _owners(tx: Tx, actor: Actor, reach: Reach, start: RowPosition | None) -> Iterator[tuple[Subject, Position]]:
    begin = None
    if start is not None:
        begin = Position(start.place, start.owner_id)
        for owner in inventory.by_ids(tx, actor, reach, [start.owner_id]):
            yield owner, begin
    for batch, end in inventory.batches(tx, actor, reach, begin):
        for owner in batch:
            yield owner, end


def _decide(
    tx: Tx, actor: Actor, mine: _View, others: Sequence[_View], owner: Subject, after: str, *, looking: bool
) -> Iterator[tuple[Subject, Decision]]:
    held = bool(holds.holding(tx, actor, [owner.id], looking=looking))
    judge = _judge(tx, actor, mine, owner)
    around = [
        (other.name, _judge(tx, actor, other, owner))
        for other in others
        if other.reach.project_id in (None, owner.project_id) and inventory.by_ids(tx, actor, other.reach, [owner.id])
    ]
    for row in _rows(tx, actor, mine, owner, held=held, after=after):
        decision = judge.decide(row)
        for name, other in around:
            decision = shielded(decision, name, other.decide(row))
        yield msgspec.structs.replace(row, project_id=owner.project_id), decision


def _judge(tx: Tx, actor: Actor, view: _View, owner: Subject) -> Judge:
    judge = Judge(view.terms, view.reach.now)
    if view.terms.keep_last is not None:
        for row in _rows(tx, actor, view, owner):
            judge.ranks.add(row)
    return judge


def _rows(
    tx: Tx, actor: Actor, view: _View, owner: Subject, *, held: bool = False, after: str = ""
) -> Iterator[Subject]:
    """Rows of ``owner`` that are old enough, as the rules see them: their group is their owner."""
    least = view.terms.duration("older_than")
    assert least is not None
    for id, created_at, size in inventory.old_rows(tx, actor, owner.id, view.reach.now - least, after):
        yield msgspec.structs.replace(
            owner,
            id=id,
            kind=ROW,
            project_id=owner.id,
            bytes=size,
            created_at=created_at,
            running=False,
            held=("a legal hold covers what it belongs to",) if held else (),
        )


# --- doing it ---------------------------------------------------------------------------------------------------------


class RowSearch(NamedTuple):
    """Where to look for the next rows that go."""

    look: Look
    start: RowPosition | None


class RowsFound(NamedTuple):
    """Rows of one owner that go, where to go on (None at the end), and what was looked at."""

    owner_id: str
    ids: list[str]
    next: RowPosition | None
    considered: int
    kept: int


def next_rows(tx: Tx, actor: Actor, search: RowSearch) -> RowsFound:
    """The next rows that go, all of one owner."""
    ids: list[str] = []
    owner_id, looked, kept = "", 0, 0
    last = search.start
    for row, decision, at in decided(tx, actor, search.look, search.start):
        if ids and (at.owner_id != owner_id or len(ids) >= BATCH):
            return RowsFound(owner_id, ids, last, looked, kept)
        if looked >= LOOKED_AT:
            return RowsFound(owner_id, ids, last, looked, kept)
        looked, last = looked + 1, at
        if decision.action == Action.keep:
            kept += 1
        else:
            owner_id = at.owner_id
            ids.append(row.id)
    return RowsFound(owner_id, ids, None, looked, kept)


def still_going(tx: Tx, actor: Actor, look: Look, owner_id: str, ids: Sequence[str]) -> dict[str, int]:
    """Those of ``ids``, rows of one owner, that go by what holds now: id → bytes. NotFound when the owner has left."""
    mine, others = _views(tx, actor, look)
    found = inventory.by_ids(tx, actor, mine.reach, [owner_id])
    if not found:
        raise NotFound(f"object {owner_id} is not what the policy is about any more")
    wanted = set(ids)
    first = min(ids)
    going: dict[str, int] = {}
    for row, decision in _decide(tx, actor, mine, others, found[0], _before(first), looking=False):
        if row.id > max(ids):
            break
        if row.id in wanted and decision.action != Action.keep:
            going[row.id] = row.bytes
    return going


def _before(id: str) -> str:
    """A text that sorts before ``id``, with nothing of consequence between them."""
    return id[:-1]
