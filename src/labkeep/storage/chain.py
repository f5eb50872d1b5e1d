"""The audit chain in SQL: events that transactions noted go to the end of their organizations' chains, and are read back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from labkeep.core import audit
from labkeep.core.entities import AuditEvent
from labkeep.storage.column_types import EPOCH
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


def read(connection: Connection, database: str, organization_id: str, after: int, limit: int) -> list[list[Any]]:
    """The next events of a chain by columns, those that `audit.follow` takes; empty after the last one.

    As the driver gives them but for the time and the details: a million of these are read in one go.
    """
    values = {"organization": raw_id(organization_id, database), "after": after, "most": limit}
    rows = _reader(database).run(connection, values)
    if not rows:
        return []
    columns: list[list[Any]] = list(map(list, zip(*rows, strict=True)))
    columns[_AT] = [EPOCH + timedelta(microseconds=at) for at in columns[_AT]]
    columns[_DETAILS] = [{} if text == "{}" else _decode(text) for text in columns[_DETAILS]]
    return columns


def walk(connection: Connection, database: str, organization_id: str, after: int) -> Iterator[list[list[Any]]]:
    """All events after a number, batch by batch."""
    while columns := read(connection, database, organization_id, after, audit.BATCH):
        yield columns
        after = columns[_SEQ][-1]


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


_AT, _DETAILS, _SEQ = (audit.CONTENT.index(name) for name in ("at", "details", "seq"))
_decode = msgspec.json.decode


@cache
def _reader(database: str) -> Prepared:
    e = audit_events.c
    organization = bindparam("organization", type_=e.organization_id.type)
    query = select(*(e[name] for name in (*audit.CONTENT, "hash")))
    query = query.where(e.organization_id == organization, e.seq > bindparam("after", type_=e.seq.type))
    return Prepared(query.order_by(e.seq).limit(bindparam("most", type_=e.seq.type)), database)


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
