"""Reading, checking and exporting the audit chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import or_, select

from labkeep.core import audit
from labkeep.core.access import SERVER_SCOPE, Actor, require
from labkeep.core.audit_files import AuditPage, Entry, Subject
from labkeep.core.commands import AuditReport, ListAudit, Nothing, Page
from labkeep.core.commands_proof import ExportAudit
from labkeep.core.entities import AuditEvent
from labkeep.storage import chain, signing, trails
from labkeep.storage import tables as t
from labkeep.storage.chain import Head
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


# --- checking ---------------------------------------------------------------------------------------------------------


def verify(tx: Tx, actor: Actor, _command: Nothing) -> AuditReport:
    """Whether every event of the organization follows from the one before it up to the chain's end, and whether every
    signed checkpoint says the same."""
    require(actor, "audit.read")
    return trails.examine(tx.connection, actor.organization_id, signing.keys_by_id(tx.connection))


# --- exporting --------------------------------------------------------------------------------------------------------


def export(tx: Tx, actor: Actor, command: ExportAudit) -> AuditPage:
    """The next events of the organization's chain, with what there is to say of their subjects, and checkpoints.

    Of events of other workspaces only the hash is shown, so that the chain can still be followed; with the
    administrator's key all of them are.
    """
    require(actor, "audit.read")
    head = chain.head(tx.connection, actor.organization_id)
    bounds = _bounds(tx, actor, command, head)
    columns = chain.read(tx.connection, tx.database, actor.organization_id, bounds.after, command.limit)
    events = [event for event in _events(columns) if event.seq <= bounds.until]
    mine = [event for event in events if event.workspace_id == actor.workspace_id or SERVER_SCOPE in actor.scopes]
    subjects = _subjects(tx, actor, [event.subject_id for event in mine if event.subject_id])
    shown = {event.seq for event in mine}
    last = events[-1].seq if events else bounds.after
    points = trails.checkpoints(tx.connection, actor.organization_id, bounds.after, last)
    return AuditPage(
        entries=[
            Entry(event=event, subject=subjects.get(event.subject_id))
            if event.seq in shown
            else Entry(seq=event.seq, previous=event.previous, hash=event.hash)
            for event in events
        ],
        checkpoints=points,
        organization_id=actor.organization_id,
        after=bounds.after,
        next=last if last < bounds.until else None,
        pruned=head.pruned.seq,
        end=bounds.until,
    )


class _Bounds(NamedTuple):
    after: int
    until: int


def _bounds(tx: Tx, actor: Actor, command: ExportAudit, head: Head) -> _Bounds:
    after = max(head.pruned.seq, command.after)
    if command.since is not None:
        after = max(after, chain.seq_before(tx.connection, actor.organization_id, head, command.since))
    until = head.end.seq
    if command.until is not None:
        until = chain.seq_before(tx.connection, actor.organization_id, head, command.until)
    return _Bounds(after, max(after, until))


def _events(columns: Sequence[Sequence[Any]]) -> Iterator[AuditEvent]:
    names = (*audit.CONTENT, "hash")
    for row in zip(*columns, strict=True):
        yield AuditEvent(**dict(zip(names, row, strict=True)))


def _subjects(tx: Tx, actor: Actor, ids: Sequence[str]) -> dict[str, Subject]:
    """What is known of objects by id: after a purge, only what its record kept."""
    i, m, r = t.items.c, t.deletion_members.c, t.runs.c
    same_run = (r.organization_id == i.organization_id) & (r.id == i.id)
    same_member = (m.organization_id == i.organization_id) & (m.deletion_id == i.deletion_id) & (m.item_id == i.id)
    joined = t.items.outerjoin(t.runs, same_run).outerjoin(t.deletion_members, same_member)
    query = select(
        i.id,
        i.kind,
        i.state,
        i.name,
        i.name_digest,
        i.created_by,
        r.status,
        m.status.label("last"),
        m.created_by.label("by"),
    ).select_from(joined)
    found: dict[str, Subject] = {}
    wanted = sorted({id for id in ids if len(id) == 36})
    for start in range(0, len(wanted), 500):
        part = query.where(i.organization_id == actor.organization_id, i.id.in_(wanted[start : start + 500]))
        for row in tx.execute(part):
            found[row.id] = Subject(
                kind=str(row.kind),
                state=str(row.state),
                name=row.name,
                name_digest=row.name_digest,
                status=str(row.status or row.last or ""),
                created_by=row.created_by or row.by or "",
            )
    return found
