"""Every object of every deletion, one by one: what an auditor asks of a bulk deletion that is one event in the trail."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, select, tuple_

from labkeep.core.access import Actor, require
from labkeep.core.commands import Page
from labkeep.core.commands_proof import DeletedObject, ListDeletedObjects
from labkeep.operations.deletions import decode_id
from labkeep.storage import tables as t
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.transaction import Tx


def list_(tx: Tx, actor: Actor, command: ListDeletedObjects) -> Page[DeletedObject]:
    """Objects of the workspace's deletions, by deletion and id. Names of what was purged are digests."""
    require(actor, "audit.read")
    d, m, i, r = t.deletions.c, t.deletion_members.c, t.items.c, t.runs.c
    joined = (
        t.deletion_members.join(t.deletions, and_(d.organization_id == m.organization_id, d.id == m.deletion_id))
        .join(t.items, and_(i.organization_id == m.organization_id, i.id == m.item_id))
        .outerjoin(t.runs, and_(r.organization_id == m.organization_id, r.id == m.item_id))
    )
    query = (
        select(
            m.deletion_id, m.item_id, m.kind, m.outcome, m.previous_state, m.status.label("last"),
            m.created_by.label("by"), i.name, i.name_digest, i.created_by, i.created_at, r.status,
            d.actor, d.created_at.label("trashed_at"), d.reason, d.ticket, d.purged_by, d.purged_at, d.counts,
        )
        .select_from(joined)
        .where(m.organization_id == actor.organization_id, d.workspace_id == actor.workspace_id, d.state != "importing")
    )  # fmt: skip
    if command.since is not None:
        query = query.where(d.created_at >= command.since)
    if command.until is not None:
        query = query.where(d.created_at < command.until)
    place = tuple_(m.deletion_id, m.item_id)
    if command.cursor is not None:
        (last,) = decode_cursor(command.cursor, tuple[tuple[str, str]])
        query = query.where(place > tuple(map(decode_id, last)))
    rows = tx.all(query.order_by(m.deletion_id, m.item_id).limit(command.limit + 1))
    return cut([_object(row) for row in rows], command.limit, lambda one: (one.deletion_id, one.id))


def _object(row: Any) -> DeletedObject:
    purged = row["outcome"] == "purged"
    return DeletedObject(
        deletion_id=row["deletion_id"],
        id=row["item_id"],
        kind=str(row["kind"]),
        outcome=row["outcome"],
        name=row["name"],
        name_digest=row["name_digest"],
        status=str(row["status"] or row["last"] or ""),
        state_before=str(row["previous_state"]),
        created_by=row["created_by"] or row["by"] or "",
        created_at=row["created_at"],
        trashed_by=row["actor"],
        trashed_at=row["trashed_at"],
        reason=row["reason"],
        ticket=row["ticket"],
        purged_by=row["purged_by"] if purged else "",
        purged_at=row["purged_at"] if purged else None,
        objects=sum(row["counts"].values()),
    )
