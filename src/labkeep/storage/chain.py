"""The audit chain in SQL: events that transactions noted go to the end of their organizations' chains, and are read back."""

from __future__ import annotations

import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import count
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, cast, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from labkeep.core import audit
from labkeep.core.entities import AuditEvent
from labkeep.core.errors import Corrupt
from labkeep.storage.column_types import EPOCH, TEXT
from labkeep.storage.prepared import Prepared, bulk, raw_id
from labkeep.storage.tables import audit_events, audit_heads

Noted = tuple[str, AuditEvent]
"""An organization, and an event of its chain without number and hashes."""


def extend(connection: Connection, database: str, noted: Iterable[Noted]) -> None:
    """Write ``noted``, in this order within each organization."""
    by_organization: dict[str, list[AuditEvent]] = defaultdict(list)
    for organization_id, event in noted:
        by_organization[organization_id].append(event)
    # In one order everywhere, so that two transactions never wait for each other's chains.
    for organization_id in sorted(by_organization):
        _extend_one(connection, database, organization_id, by_organization[organization_id])


def _extend_one(connection: Connection, database: str, organization_id: str, events: list[AuditEvent]) -> None:
    statements = _statements(database)
    organization = {"organization": raw_id(organization_id, database)}
    head = statements.head.run(connection, organization)
    if not head:
        # Waits for whoever begins the chain at the same moment.
        statements.begin.execute(connection, organization)
        head = statements.head.run(connection, organization)
    seq, previous = head[0]
    rows = []
    for event in events:
        seq += 1
        sealed = audit.seal(msgspec.structs.replace(event, seq=seq, previous=previous))
        rows.append({"organization_id": organization_id, **msgspec.structs.asdict(sealed)})
        previous = sealed.hash
    bulk(audit_events, tuple(rows[0]), database).write(connection, rows)
    statements.move.execute(connection, {**organization, "new_seq": seq, "new_hash": previous})


# --- reading ----------------------------------------------------------------------------------------------------------


class Head(NamedTuple):
    """The end of a chain, and how far its own retention took its beginning."""

    end: audit.Link
    pruned: audit.Link
    """What the oldest event that is kept follows from: `audit.START` when nothing was pruned."""


def head(connection: Connection, organization_id: str) -> Head:
    """Where a chain begins and ends."""
    h = audit_heads.c
    query = select(h.seq, h.hash, h.pruned_seq, h.pruned_hash).where(h.organization_id == organization_id)
    found = connection.execute(query).first()
    if found is None:
        return Head(audit.START, audit.START)
    seq, hash, pruned_seq, pruned_hash = found
    return Head(audit.Link(seq, hash), audit.Link(pruned_seq, pruned_hash) if pruned_seq else audit.START)


def read(connection: Connection, database: str, organization_id: str, after: int, limit: int) -> list[Sequence[Any]]:
    """The next events of a chain by columns, those that `audit.follow` takes; empty after the last one.

    Corrupt where something stands that no event can have.
    """
    asked = (connection, database, organization_id, after, limit)
    columns = _unpacked(_packed(*asked), after, limit)
    if columns is None:
        columns = _plain(*asked)
        if any(value is audit.UNREADABLE for column in columns for value in column):
            raise Corrupt("an event of the audit trail cannot be read: `labkeep audit verify` says which")
    return columns


def walk(
    connection: Connection, database: str, organization_id: str, after: int
) -> Generator[list[Sequence[Any]], None, None]:
    """The events after a number, batch by batch, up to a batch in which one is missing.

    While one batch is looked at, the database packs the next ones: a thread of its own asks for them, and nobody else
    may use the connection until this is closed. On one core that costs next to nothing.
    """
    asked = (connection, database, organization_id)
    coming: deque[Future[str | None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="labkeep-chain") as ahead:
        for start in count(after, audit.BATCH):
            while len(coming) < _AHEAD:
                coming.append(ahead.submit(_packed, *asked, start + len(coming) * audit.BATCH, audit.BATCH))
            columns = _unpacked(coming.popleft().result(), start, audit.BATCH)
            columns = columns or ahead.submit(_plain, *asked, start, audit.BATCH).result()
            if not columns:
                return
            yield columns


def _packed(connection: Connection, database: str, organization_id: str, after: int, limit: int) -> str | None:
    """The next ``limit`` numbers as one JSON text: drivers need half the time for it that they need for rows."""
    values = {"organization": raw_id(organization_id, database), "after": after, "until": after + limit}
    try:
        packed: str | None = _readers(database).packed.run(connection, values)[0][0]
    except (DBAPIError, sqlite3.Error):
        if database != "sqlite":
            raise
        return None  # SQLite keeps anything in any column, also what is no JSON
    return packed


def _unpacked(packed: str | None, after: int, limit: int) -> list[Sequence[Any]] | None:
    """None unless these are all numbers that were asked for, in order, and each value is one of its column.

    So it does not matter in which order a database packs, nor which of the ways to write a JSON value it takes.
    """
    try:
        columns: list[Sequence[Any]] = list(zip(*_rows.decode(packed or "[]"), strict=True))
        if not columns or columns[_SEQ] != tuple(range(after + 1, after + limit + 1)):
            return None
        moments = {at: _moment(at) for at in set(columns[_AT])}
        columns[_AT] = [moments[at] for at in columns[_AT]]
        columns[_DETAILS] = [{} if text == "{}" else _decode(text) for text in columns[_DETAILS]]
    except (msgspec.MsgspecError, OverflowError, RecursionError):
        return None
    return columns


def _plain(connection: Connection, database: str, organization_id: str, after: int, limit: int) -> list[Sequence[Any]]:
    """The next events row by row, whatever stands there: `UNREADABLE` for what is no value of its column."""
    values = {"organization": raw_id(organization_id, database), "after": after, "most": limit}
    driver: Any = connection.connection.driver_connection
    if database == "sqlite":
        driver.text_factory = _lenient
    try:
        rows = _readers(database).plain.run(connection, values)
    finally:
        if database == "sqlite":
            driver.text_factory = str
    columns = zip(*rows, strict=True)
    return [[_readable(make, value) for value in column] for make, column in zip(_MAKERS, columns, strict=False)]


def _readable(make: Callable[[Any], Any], value: Any) -> Any:
    try:
        return make(value)
    except (msgspec.MsgspecError, TypeError, OverflowError, RecursionError):
        return audit.UNREADABLE


def _lenient(text: bytes) -> str:
    """What is no UTF-8 becomes what cannot be written as UTF-8 either."""
    return text.decode("utf-8", "surrogateescape")


def _moment(at: int) -> datetime:
    return EPOCH + timedelta(microseconds=at)


def seq_before(connection: Connection, organization_id: str, kept: Head, moment: datetime) -> int:
    """The number of the last event before ``moment``. Times rise along a chain, so this looks at some twenty events."""
    e = audit_events.c
    low, high = kept.pruned.seq, kept.end.seq
    while low < high:
        middle = (low + high + 1) // 2
        query = select(e.at).where(e.organization_id == organization_id, e.seq == middle)
        at = connection.execute(query).scalar()
        low, high = (middle, high) if at is not None and at < moment else (low, middle - 1)
    return low


_AHEAD = 2
"""Batches that are asked for. With one more waiting, the thread goes on to it before it hands over what it has."""

_AT, _DETAILS, _SEQ = (audit.CONTENT.index(name) for name in ("at", "details", "seq"))
_decode = msgspec.json.decode

_STORED = {name: int if name in ("at", "count", "seq") else str for name in (*audit.CONTENT, "hash")}
_rows = msgspec.json.Decoder(list[tuple[*_STORED.values()]])  # type: ignore[misc]  # a type for each column
_MAKERS: list[Callable[[Any], Any]] = [partial(msgspec.convert, type=type) for type in _STORED.values()]
_MAKERS[_AT], _MAKERS[_DETAILS] = _moment, _decode


class _Readers(NamedTuple):
    packed: Prepared
    plain: Prepared


@cache
def _readers(database: str) -> _Readers:
    e = audit_events.c
    columns = [e[name] for name in _STORED]
    mine = e.organization_id == bindparam("organization", type_=e.organization_id.type)
    mine &= e.seq > bindparam("after", type_=e.seq.type)
    if database == "postgresql":
        each: Any = func.json_build_array(*columns)
        packed: Any = cast(func.json_agg(postgresql.aggregate_order_by(each, e.seq)), TEXT)
    else:
        packed = func.json_group_array(func.json_array(*columns))
    until = e.seq <= bindparam("until", type_=e.seq.type)
    most = bindparam("most", type_=e.seq.type)
    return _Readers(
        Prepared(select(packed).where(mine, until), database),
        Prepared(select(*columns).where(mine).order_by(e.seq).limit(most), database),
    )


# --- writing ----------------------------------------------------------------------------------------------------------


class _Statements(NamedTuple):
    """What is run for each organization. ``head`` is the end of its chain, locked until the transaction ends."""

    head: Prepared
    begin: Prepared
    move: Prepared


@cache
def _statements(database: str) -> _Statements:
    h = audit_heads.c
    mine = h.organization_id == bindparam("organization", type_=h.organization_id.type)
    make: Any = (postgresql.insert if database == "postgresql" else sqlite.insert)(audit_heads)
    first = {
        "organization_id": bindparam("organization", type_=h.organization_id.type),
        "seq": 0,
        "hash": audit.GENESIS,
    }
    moved = {"seq": bindparam("new_seq", type_=h.seq.type), "hash": bindparam("new_hash", type_=h.hash.type)}
    return _Statements(
        Prepared(select(h.seq, h.hash).where(mine).with_for_update(), database),
        Prepared(make.values(first).on_conflict_do_nothing(), database),
        Prepared(update(audit_heads).where(mine).values(moved), database),
    )
