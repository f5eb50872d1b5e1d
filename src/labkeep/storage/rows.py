"""Rows of runs and documents: every state they had, the current one found without reading the others.

A state begins with the transaction ``xact`` and ends with ``next_xact``; the current one has no end. All statements
name the owner, so whoever calls must have checked that the actor may see it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from math import fsum
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import zstandard
from sqlalchemy import ColumnElement, bindparam, delete, func, literal, or_, select, tuple_, update

from labkeep.core.entities import Item, Json, Row
from labkeep.core.errors import Corrupt
from labkeep.core.summary import numbers
from labkeep.storage import tables as t
from labkeep.storage.cipher import MARK
from labkeep.storage.data_keys import Box, place_of_row
from labkeep.storage.transaction import Tx

XACT_SHIFT = 16
"""A transaction id is the second it began in, and below that a counter."""

POSITION_SHIFT = 15
"""A position is the transaction of the trace's first row, and below that its place in the write; in 64 bits until 2106."""

CHUNK = 500
"""Ids in one statement."""

BATCH = 200
"""Rows in memory at once when all are read one after the other."""

PAGE_BYTES = 32 * 1024 * 1024
"""A page of rows ends early, at a trace, once it holds this much."""


ALL_ROWS = ""
"""The name beside those of scores under which all rows are counted."""

SCORE_NAME = 512
"""Longest name of a score that is averaged, in characters: it is part of database keys."""

c = t.rows.c


class Revision(msgspec.Struct, frozen=True):
    """One state of one row. ``json`` is the row as JSON text."""

    id: str
    root_id: str
    position: int
    created_at: datetime
    deleted: bool
    json: bytes

    @property
    def data(self) -> Json:
        """The row as an object."""
        found: Json = msgspec.json.decode(self.json)
        return found

    @property
    def scores(self) -> dict[str, float]:
        """What the row adds to the running means; nothing when it is deleted."""
        return {} if self.deleted else scores_of(_scored.decode(self.json).scores)


class _Scored(msgspec.Struct):
    """What of a row is needed for its scores: all else is skipped without making objects of it."""

    scores: Any = None


_scored = msgspec.json.Decoder(_Scored)


# --- bytes ------------------------------------------------------------------------------------------------------------

COMPRESS_FROM = 512
_PLAIN, _ZSTD = b"j", b"z"


class _Codecs(threading.local):
    """Compression contexts: making one takes longer than to compress a row, and no two threads may share one."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=3).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_codecs = _Codecs()


def pack(json: bytes) -> bytes:
    """JSON text as it is stored: a byte that says how, then the text, compressed where that pays."""
    if len(json) > COMPRESS_FROM:
        small = _codecs.compress(json)
        if len(small) < len(json):
            return _ZSTD + small
    return _PLAIN + json


def unpack(stored: bytes) -> bytes:
    """JSON text from what `pack` made of it. Corrupt when it is anything else."""
    how, body = stored[:1], stored[1:]
    if how == _PLAIN:
        return body
    try:
        if how == _ZSTD:
            return _codecs.decompress(body)
    except zstandard.ZstdError as error:
        raise Corrupt(f"the data of a row cannot be decompressed: {error}") from error
    raise Corrupt("the data of a row is in an unknown form")


# --- where an owner stands --------------------------------------------------------------------------------------------


def _same(owner: Item) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return c.organization_id == owner.organization_id, c.owner_id == owner.id


def last_xact(tx: Tx, owner: Item) -> int:
    """The newest transaction id of the owner's rows; 0 before the first."""
    items = t.items.c
    found = tx.one(select(items.last_xact).where(items.organization_id == owner.organization_id, items.id == owner.id))
    return 0 if found is None else int(found["last_xact"])


def next_xact(tx: Tx, newest: int) -> int:
    """The transaction id that follows ``newest``: above it, and telling the time."""
    return max(newest + 1, int(tx.now.timestamp()) << XACT_SHIFT)


def advance(tx: Tx, owner: Item, xact: int, added_bytes: int) -> None:
    """Note the newest transaction id, and the bytes that it added."""
    items = t.items.c
    same = (items.organization_id == owner.organization_id, items.id == owner.id)
    tx.execute(update(t.items).where(*same).values(last_xact=xact, bytes=items.bytes + added_bytes))


# --- writing ----------------------------------------------------------------------------------------------------------

_REVISION = (c.id, c.root_id, c.position, c.created_at, c.deleted, c.data)


def _revision(box: Box, found: Any) -> Revision:
    id, root_id, position, created_at, deleted, data = found
    return Revision(id, root_id, position, created_at, deleted, json_of(box, id, data))


def box_of(tx: Tx, owner: Item) -> Box:
    """What closes and opens the data of an owner's rows."""
    return Box(tx, owner.organization_id, owner.id, owner.project_id)


def json_of(box: Box, id: str, stored: bytes) -> bytes:
    """The JSON text of a row from its column."""
    return unpack(box.open(stored, place_of_row(id)) if stored[:1] == MARK else stored)


def _parts(values: Collection[str]) -> Iterator[list[str]]:
    ordered = list(values)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


# Prepared once: to build and compile a statement takes longer than to run it.
_OF_OWNER = (c.organization_id == bindparam("organization"), c.owner_id == bindparam("owner"))
_CURRENT = select(*_REVISION).where(*_OF_OWNER, c.id.in_(bindparam("ids", expanding=True)), c.next_xact.is_(None))
_POSITIONS = (
    select(c.root_id, func.max(c.position))
    .where(*_OF_OWNER, c.root_id.in_(bindparam("ids", expanding=True)))
    .group_by(c.root_id)
)
_END = (
    update(t.rows)
    .where(*_OF_OWNER, c.id.in_(bindparam("ids", expanding=True)), c.next_xact.is_(None))
    .values(next_xact=bindparam("ended"))
)


def current(tx: Tx, owner: Item, ids: Collection[str]) -> dict[str, Revision]:
    """The current states of these rows, tombstones included."""
    found: dict[str, Revision] = {}
    box = box_of(tx, owner)
    for part in _parts(ids):
        found.update((row[0], _revision(box, row)) for row in tx.execute(_CURRENT, _parameters(owner, part)))
    return found


_STATES = select(*_REVISION).where(*_OF_OWNER, c.id.in_(bindparam("ids", expanding=True)))


def every_state(tx: Tx, owner: Item, ids: Collection[str]) -> Iterator[Revision]:
    """Every state that these rows had, tombstones included."""
    box = box_of(tx, owner)
    for part in _parts(ids):
        yield from (_revision(box, row) for row in tx.execute(_STATES, _parameters(owner, part)))


def _parameters(owner: Item, ids: list[str]) -> dict[str, Any]:
    return {"organization": owner.organization_id, "owner": owner.id, "ids": ids}


def positions(tx: Tx, owner: Item, roots: Collection[str]) -> dict[str, int]:
    """Positions of the traces that have rows already, current or not."""
    found: dict[str, int] = {}
    for part in _parts(roots):
        found.update((root, position) for root, position in tx.execute(_POSITIONS, _parameters(owner, part)))
    return found


def store(tx: Tx, owner: Item, xact: int, revisions: Sequence[Revision], replaced: Collection[str]) -> int:
    """Store new states, and end those of the rows in ``replaced``. Answers the bytes that were added."""
    for part in _parts(replaced):
        tx.execute(_END, {**_parameters(owner, part), "ended": xact})
    same: dict[str, Any] = {
        "organization_id": owner.organization_id,
        "owner_id": owner.id,
        "xact": xact,
        "next_xact": None,
    }
    box = box_of(tx, owner)
    values = [same | _columns(box, revision) for revision in revisions]
    tx.insert(t.rows, values)
    return sum(value["size"] for value in values)


def put_back(tx: Tx, owner: Item, states: Sequence[tuple[Revision, int, int | None]]) -> int:
    """Store states as they once were: each with the transactions that it began and ended with. Answers their bytes."""
    same = {"organization_id": owner.organization_id, "owner_id": owner.id}
    box = box_of(tx, owner)
    values = [same | {"xact": xact, "next_xact": ended} | _columns(box, revision) for revision, xact, ended in states]
    tx.insert(t.rows, values)
    return sum(value["size"] for value in values)


def states(tx: Tx, owner: Item, after: tuple[str, int] | None, limit: int) -> list[tuple[Revision, int, int | None]]:
    """All states of all rows, in order of row and transaction."""
    query = select(*_REVISION, c.xact, c.next_xact).where(*_same(owner))
    if after is not None:
        query = query.where(tuple_(c.id, c.xact) > tuple_(literal(after[0]), literal(after[1])))
    found = tx.execute(query.order_by(c.id, c.xact).limit(limit)).all()
    box = box_of(tx, owner)
    return [(_revision(box, row[:6]), row[6], row[7]) for row in found]


def _columns(box: Box, revision: Revision) -> dict[str, Any]:
    data = box.close(pack(revision.json), place_of_row(revision.id))
    return {
        "id": revision.id,
        "root_id": revision.root_id,
        "position": revision.position,
        "created_at": revision.created_at,
        "deleted": revision.deleted,
        "size": len(data),
        "data": data,
    }


# --- reading ----------------------------------------------------------------------------------------------------------


def _at(as_of: int | None) -> tuple[ColumnElement[bool], ...]:
    """Rows that exist at a transaction; now when None."""
    if as_of is None:
        return c.next_xact.is_(None), c.deleted.is_(False)
    return c.xact <= as_of, or_(c.next_xact.is_(None), c.next_xact > as_of), c.deleted.is_(False)


_ROW = (c.position, c.id, c.xact, c.root_id, c.created_at, c.data)


def _row(found: Any, json: bytes) -> Row:
    position, id, xact, root_id, created_at, _ = found
    data = msgspec.json.decode(json)
    return Row(id=id, xact=xact, root_id=root_id, data=data, created_at=created_at, position=position)


def page(
    tx: Tx, owner: Item, *, limit: int, before: int | None = None, as_of: int | None = None
) -> tuple[list[Row], bool]:
    """The rows of up to ``limit`` traces below position ``before``, newest trace first, and whether there are more."""
    here = (*_same(owner), *_at(as_of), *(() if before is None else (c.position < before,)))
    sizes = select(c.position, func.sum(c.size)).where(*here).group_by(c.position)
    traces = tx.execute(sizes.order_by(c.position.desc()).limit(limit + 1)).all()
    if not traces:
        return [], False
    wanted = _within_bytes(traces[:limit])
    query = select(*_ROW).where(*here, c.position >= wanted[-1])
    rows, complete = _decode(box_of(tx, owner), tx.execute(query.order_by(c.position.desc(), c.id.desc())))
    return rows, len(wanted) < len(traces) or not complete


def _within_bytes(traces: Sequence[Any]) -> list[int]:
    """Positions of the first traces that are stored in `PAGE_BYTES`; at least one."""
    wanted: list[int] = []
    held = 0
    for position, size in traces:
        held += int(size)
        if wanted and held > PAGE_BYTES:
            break
        wanted.append(position)
    return wanted


def _decode(box: Box, found: Iterable[Any]) -> tuple[list[Row], bool]:
    """Rows of whole traces until they hold `PAGE_BYTES` of JSON, and whether that was all of them."""
    rows: list[Row] = []
    held = 0
    for _, trace in groupby(found, key=lambda row: row[0]):
        if held > PAGE_BYTES:
            return rows, False
        made = []
        for row in trace:
            json = json_of(box, row[1], row[5])
            held += len(json)
            made.append(_row(row, json))
        rows.extend(sorted(made, key=attrgetter("created_at", "id")))
    return rows, True


def page_of_ids(
    tx: Tx, owner: Item, ids: Collection[str], *, limit: int, before: int | None = None, as_of: int | None = None
) -> tuple[list[Row], bool]:
    """As `page`, of those rows whose id is one of ``ids``."""
    here = (*_same(owner), *_at(as_of), *(() if before is None else (c.position < before,)))
    found = [row for part in _parts(set(ids)) for row in tx.execute(select(*_ROW).where(*here, c.id.in_(part)))]
    found.sort(key=lambda row: row[0], reverse=True)
    positions = sorted({row[0] for row in found}, reverse=True)
    last = positions[limit - 1] if len(positions) > limit else None
    rows, complete = _decode(box_of(tx, owner), (row for row in found if last is None or row[0] >= last))
    return rows, last is not None or not complete


def iter_current(tx: Tx, owner: Item, *, as_of: int | None = None) -> Iterator[Row]:
    """All rows, newest trace first, a few in memory at a time. The rows of a trace follow each other."""
    place = tuple_(c.position, c.id)
    query = select(*_ROW).where(*_same(owner), *_at(as_of)).order_by(c.position.desc(), c.id.desc()).limit(BATCH)
    found = tx.execute(query).all()
    box = box_of(tx, owner)
    while found:
        yield from (_row(row, json_of(box, row[1], row[5])) for row in found)
        after = tuple_(literal(found[-1][0]), literal(found[-1][1]))
        found = tx.execute(query.where(place < after)).all() if len(found) == BATCH else []


class Trace(NamedTuple):
    """The rows of one trace, oldest first."""

    root_id: str
    rows: list[Row]

    def sums(self, field: str) -> dict[str, float]:
        """Sum of each number in the object ``field`` over the rows of the trace."""
        return {name: fsum(values) for name, values in self._numbers(field).items()}

    def means(self, field: str) -> dict[str, float]:
        """Mean of each number in the object ``field`` over those rows of the trace that have it."""
        return {name: fsum(values) / len(values) for name, values in self._numbers(field).items()}

    def _numbers(self, field: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for row in self.rows:
            for name, value in numbers(row.data.get(field)).items():
                found.setdefault(name, []).append(value)
        return found


def traces(tx: Tx, owner: Item, *, as_of: int | None = None) -> Iterator[Trace]:
    """All traces, newest first, one in memory at a time: what summaries are made from."""
    for root_id, rows in groupby(iter_current(tx, owner, as_of=as_of), key=attrgetter("root_id")):
        yield Trace(root_id, sorted(rows, key=attrgetter("created_at", "id")))


# --- sums ------------------------------------------------------------------------------------------------------------


def scores_of(scores: Any) -> dict[str, float]:
    """What can be averaged and searched for in the object ``scores`` of a row."""
    return {
        name: value for name, value in numbers(scores).items() if 0 < len(name) <= SCORE_NAME and "\x00" not in name
    }


class Sums:
    """How the sums over an owner's rows change in one write: how many rows there are, and the total of each score."""

    def __init__(self) -> None:
        self._terms: dict[str, list[float]] = {}
        self._counts: dict[str, int] = {}

    def add(self, revision: Revision, sign: int = 1) -> None:
        """A row is in this state now; or, with sign -1, no longer."""
        if revision.deleted:
            return
        for name, value in ((ALL_ROWS, 1.0), *revision.scores.items()):
            self._terms.setdefault(name, []).append(sign * value)
            self._counts[name] = self._counts.get(name, 0) + sign

    def store(self, tx: Tx, owner: Item) -> dict[str, float | None]:
        """Bring the sums up to date. Answers the new means of scores; None where no row has the score any more."""
        known = _sums(tx, owner, self._terms)
        changed: dict[str, tuple[float, int]] = {}
        for name, terms in self._terms.items():
            total, number = known.get(name, (0.0, 0))
            changed[name] = (fsum([total, *terms]), number + self._counts[name])
        gone = [name for name, (_, number) in changed.items() if not number]
        for part in _parts(gone):
            s = t.row_scores.c
            same = (s.organization_id == owner.organization_id, s.owner_id == owner.id)
            tx.execute(delete(t.row_scores).where(*same, s.name.in_(part)))
        key = {"organization_id": owner.organization_id, "owner_id": owner.id}
        rows = [{**key, "name": name, "total": sums[0], "count": sums[1]} for name, sums in changed.items() if sums[1]]
        tx.upsert(t.row_scores, rows)
        return {name: total / number if number else None for name, (total, number) in changed.items() if name}


def _sums(tx: Tx, owner: Item, names: Collection[str]) -> dict[str, tuple[float, int]]:
    s = t.row_scores.c
    query = select(s.name, s.total, s.count).where(s.organization_id == owner.organization_id, s.owner_id == owner.id)
    found: dict[str, tuple[float, int]] = {}
    for part in _parts(names):
        found.update({name: (total, number) for name, total, number in tx.execute(query.where(s.name.in_(part)))})
    return found


def summary(tx: Tx, organization_id: str, owner_ids: Collection[str]) -> tuple[int, dict[str, float]]:
    """How many rows these owners have together, and the mean of each score over those rows that have it."""
    s = t.row_scores.c
    totals: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for part in _parts(owner_ids):
        query = select(s.name, s.total, s.count).where(s.organization_id == organization_id, s.owner_id.in_(part))
        for name, total, number in tx.execute(query):
            totals.setdefault(name, []).append(total)
            counts[name] = counts.get(name, 0) + number
    means = {name: fsum(totals[name]) / counts[name] for name in sorted(totals) if name}
    return counts.get(ALL_ROWS, 0), means
