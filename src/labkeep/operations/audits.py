"""Reading and checking the audit chain."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import or_, select

from labkeep.core.access import Actor, require
from labkeep.core.audit import GENESIS, first_break
from labkeep.core.commands import AuditReport, ListAudit, Nothing, Page
from labkeep.core.entities import AuditEvent
from labkeep.storage import tables as t
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.transaction import Tx

_COLUMNS = [t.audit_events.c[name] for name in AuditEvent.__struct_fields__]


def list_(tx: Tx, actor: Actor, command: ListAudit) -> Page[AuditEvent]:
    """Events of the workspace. With ``id``, those about an object or about a deletion that held it."""
    require(actor, "audit.read")
    c, m = t.audit_events.c, t.deletion_members.c
    query = select(*_COLUMNS).where(c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id)
    if command.id is not None:
        held = select(m.deletion_id).where(m.organization_id == actor.organization_id, m.item_id == command.id)
        deletions = [row[0] for row in tx.execute(held)]
        query = query.where(or_(c.subject_id == command.id, c.deletion_id.in_([*deletions, command.id])))
    if command.event:
        query = query.where(c.event == command.event)
    if command.actor:
        query = query.where(c.actor == command.actor)
    if command.since is not None:
        query = query.where(c.at >= command.since)
    if command.cursor is not None:
        (last,) = decode_cursor(command.cursor, tuple[int])
        query = query.where(c.seq > last if command.ascending else c.seq < last)
    query = query.order_by(c.seq if command.ascending else c.seq.desc()).limit(command.limit + 1)
    return cut([AuditEvent(**row) for row in tx.all(query)], command.limit, lambda event: event.seq)


def verify(tx: Tx, actor: Actor, _command: Nothing) -> AuditReport:
    """Whether every event of the organization follows from the one before it, and the last one is the chain's end."""
    require(actor, "audit.read")
    h = t.audit_heads.c
    head = tx.one(select(h.seq, h.hash).where(h.organization_id == actor.organization_id))
    seq, end = (head["seq"], head["hash"]) if head else (0, GENESIS)
    last: AuditEvent | None = None

    def walk() -> Iterator[AuditEvent]:
        nonlocal last
        for event in _stream(tx, actor):
            last = event
            yield event

    broken = first_break(walk())
    if broken is None and (last.seq if last else 0, last.hash if last else GENESIS) != (seq, end):
        broken = (last.seq if last else 0) + 1
    return AuditReport(events=seq, intact=broken is None, first_break=broken, head=end)


def _stream(tx: Tx, actor: Actor, batch: int = 5_000) -> Iterator[AuditEvent]:
    c = t.audit_events.c
    seq = 0
    while True:
        query = (
            select(*_COLUMNS)
            .where(c.organization_id == actor.organization_id, c.seq > seq)
            .order_by(c.seq)
            .limit(batch)
        )
        rows = tx.all(query)
        for row in rows:
            yield AuditEvent(**row)
        if len(rows) < batch:
            return
        seq = rows[-1]["seq"]
