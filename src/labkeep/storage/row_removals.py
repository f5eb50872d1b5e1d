"""Removed rows in SQL: tombstones that hide them, and what takes the tombstones, or everything below them, away.

A removal is one transaction id: its members are the tombstones with that id. To a tombstone belong the states of its
row since the tombstone before it. Where earlier versions shall not show the row either, those states end where they
began, so that they exist at no moment; their true ends follow from what came after them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, select, update

from labkeep.core.entities import Item
from labkeep.storage import tables as t
from labkeep.storage.rows import CHUNK, Revision, current
from labkeep.storage.transaction import Tx

c = t.rows.c

_OF_OWNER = (c.organization_id == bindparam("organization"), c.owner_id == bindparam("owner"))
_IDS = c.id.in_(bindparam("ids", expanding=True))
_STATES = select(c.id, c.xact, c.next_xact, c.deleted, c.size).where(*_OF_OWNER, _IDS).order_by(c.id, c.xact)
_TOMBSTONES = (
    select(c.id)
    .where(*_OF_OWNER, c.xact == bindparam("xact"), c.deleted, c.id > bindparam("after"))
    .order_by(c.id)
    .limit(bindparam("most"))
)
_END = (
    update(t.rows)
    .where(*_OF_OWNER, c.id == bindparam("which"), c.xact == bindparam("begun"))
    .values(next_xact=bindparam("ended"))
)
_DROP = delete(t.rows).where(*_OF_OWNER, c.id == bindparam("which"), c.xact == bindparam("begun"))


class State(NamedTuple):
    """One state of a row, without its data."""

    id: str
    xact: int
    next_xact: int | None
    deleted: bool
    size: int


def _owner(owner: Item) -> dict[str, Any]:
    return {"organization": owner.organization_id, "owner": owner.id}


def parts(ids: Collection[str]) -> Iterator[list[str]]:
    """``ids`` in pieces that fit into one statement."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def members(tx: Tx, owner: Item, xact: int, after: str = "", most: int = CHUNK) -> list[str]:
    """Ids of rows that the removal with this transaction id holds, in order."""
    found = tx.execute(_TOMBSTONES, _owner(owner) | {"xact": xact, "after": after, "most": most})
    return [row[0] for row in found]


def _states(tx: Tx, owner: Item, ids: Sequence[str]) -> dict[str, list[State]]:
    """Every state of these rows, oldest first."""
    found: dict[str, list[State]] = {}
    for row in tx.execute(_STATES, _owner(owner) | {"ids": ids}):
        found.setdefault(row[0], []).append(State(*row))
    return found


def _below(states: Sequence[State], xact: int) -> tuple[int, int]:
    """Where the states that belong to the tombstone ``xact`` begin, and where it stands itself."""
    stands = next(n for n, state in enumerate(states) if state.xact == xact)
    earlier = (n for n in range(stands - 1, -1, -1) if states[n].deleted)
    return next(earlier, -1) + 1, stands


def size_of(tx: Tx, owner: Item, ids: Collection[str]) -> int:
    """Bytes of every state that belongs to these rows now."""
    total = 0
    for part in parts(ids):
        for states in _states(tx, owner, part).values():
            total += sum(state.size for state in states[_newest(states) :])
    return total


def _newest(states: Sequence[State]) -> int:
    """Where the states since the last tombstone begin."""
    return next((n + 1 for n in range(len(states) - 1, -1, -1) if states[n].deleted), 0)


def hide_versions(tx: Tx, owner: Item, xact: int, ids: Collection[str]) -> None:
    """Take the states below the tombstones of ``xact`` out of every earlier version."""
    for part in parts(ids):
        ends = []
        for states in _states(tx, owner, part).values():
            first, stands = _below(states, xact)
            ends += [(state, state.xact) for state in states[first:stands] if state.next_xact != state.xact]
        _end(tx, owner, ends)


def _end(tx: Tx, owner: Item, ends: Sequence[tuple[State, int | None]]) -> None:
    if ends:
        same = _owner(owner)
        tx.execute(_END, [same | {"which": s.id, "begun": s.xact, "ended": ended} for s, ended in ends])


def lift(tx: Tx, owner: Item, xact: int, ids: Sequence[str]) -> tuple[int, dict[str, Revision]]:
    """Take tombstones away, at most `CHUNK` of them; answers their bytes, and the rows that are current again.

    A row that was written since stays as it is; what comes back lies below that, as its earlier versions.
    """
    ends: list[tuple[State, int | None]] = []
    dropped: list[State] = []
    back: list[str] = []
    for id, states in _states(tx, owner, ids).items():
        first, stands = _below(states, xact)
        dropped.append(states[stands])
        above = states[stands + 1].xact if stands + 1 < len(states) else None
        following = [state.xact for state in states[first + 1 : stands]] + [above]
        ends += [pair for pair in zip(states[first:stands], following, strict=True) if pair[0].next_xact != pair[1]]
        if above is None and stands > first:
            back.append(id)
    _drop(tx, owner, dropped)
    _end(tx, owner, ends)
    return sum(state.size for state in dropped), current(tx, owner, back)


def drop(tx: Tx, owner: Item, xact: int, ids: Sequence[str]) -> int:
    """Remove tombstones for good, with every state that belongs to them; answers the bytes."""
    dropped: list[State] = []
    ends: list[tuple[State, int | None]] = []
    for states in _states(tx, owner, ids).values():
        first, stands = _below(states, xact)
        dropped += states[first : stands + 1]
        if first:  # the tombstone of an earlier removal is what comes before
            above = states[stands + 1].xact if stands + 1 < len(states) else None
            ends.append((states[first - 1], above))
    _drop(tx, owner, dropped)
    _end(tx, owner, ends)
    return sum(state.size for state in dropped)


def drop_all(tx: Tx, owner: Item, ids: Collection[str]) -> int:
    """Remove every state of these rows for good, tombstones too; answers the bytes."""
    total = 0
    for part in parts(ids):
        states = [state for found in _states(tx, owner, part).values() for state in found]
        _drop(tx, owner, states)
        total += sum(state.size for state in states)
    return total


def _drop(tx: Tx, owner: Item, states: Sequence[State]) -> None:
    if states:
        same = _owner(owner)
        tx.execute(_DROP, [same | {"which": state.id, "begun": state.xact} for state in states])


def count_left(tx: Tx, owner: Item, xact: int) -> int:
    """Tombstones with this transaction id."""
    same = (c.organization_id == owner.organization_id, c.owner_id == owner.id)
    query = select(func.count()).select_from(t.rows).where(*same, c.xact == xact, c.deleted)
    return int(tx.execute(query).scalar_one())


__all__ = ["State", "count_left", "drop", "drop_all", "hide_versions", "lift", "members", "parts", "size_of"]
