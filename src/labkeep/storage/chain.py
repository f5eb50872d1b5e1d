"""The audit chain in SQL: puts the events that transactions noted at the end of their organizations' chains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from labkeep.core import audit
from labkeep.core.entities import AuditEvent
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
