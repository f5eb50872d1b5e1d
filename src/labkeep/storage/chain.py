"""The audit chain in SQL: puts the events that transactions noted at the end of their organizations' chains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, RowMapping, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from labkeep.core import audit
from labkeep.core.entities import AuditEvent
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
    head = _head(connection, organization_id)
    if head is None:
        _begin(connection, database, organization_id)
        head = _head(connection, organization_id)
        assert head is not None
    seq, previous = head["seq"], head["hash"]
    rows = []
    for event in events:
        seq += 1
        sealed = audit.seal(msgspec.structs.replace(event, seq=seq, previous=previous))
        rows.append({"organization_id": organization_id, **msgspec.structs.asdict(sealed)})
        previous = sealed.hash
    connection.execute(insert(audit_events), rows)
    moved = update(audit_heads).where(audit_heads.c.organization_id == organization_id)
    connection.execute(moved.values(seq=seq, hash=previous))


def _head(connection: Connection, organization_id: str) -> RowMapping | None:
    """The end of the chain, locked until the transaction ends."""
    h = audit_heads.c
    query = select(h.seq, h.hash).where(h.organization_id == organization_id).with_for_update()
    return connection.execute(query).mappings().first()


def _begin(connection: Connection, database: str, organization_id: str) -> None:
    """A chain without events; waits for whoever begins it at the same moment."""
    make = postgresql.insert if database == "postgresql" else sqlite.insert
    head = {"organization_id": organization_id, "seq": 0, "hash": audit.GENESIS}
    connection.execute(make(audit_heads).values(head).on_conflict_do_nothing())
