"""What a purge states of itself on its receipt: what went, how, on whose word, and what reading every store again found."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import datetime

import msgspec
from sqlalchemy import select

from labkeep.core.entities import Deletion, Json
from labkeep.storage import tables as t
from labkeep.storage.deletions import parts
from labkeep.storage.purge import OWNED
from labkeep.storage.transaction import Tx

SHOWN_IDS = 1_000
"""Ids that a receipt lists; beyond them its digest stands for all."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What reading every store again found."""

    deletion_id: str
    items: int
    counts: dict[str, int]
    """Objects by kind."""
    item_ids: list[str]
    """The first of them, `SHOWN_IDS` at the most, in order."""
    items_digest: str
    """SHA-256 over ``<kind> <id>`` and a newline for each of them, in order of the ids."""
    rows_left: dict[str, int] = {}
    """Rows that are still there, by table."""
    blobs_removed: int = 0
    blobs_kept: int = 0
    """Blobs that other objects need, so that they stay."""
    blobs_left: int = 0
    """Blobs that should be gone and are not."""
    freed_bytes: int = 0
    keys_destroyed: int = 0
    """Data keys of encrypted objects that were destroyed first."""
    method: Json


def found(verified: Verified, now: datetime) -> Json:
    """The verification, as the deletion's record keeps it."""
    return {
        "method": verified.method,
        "tables_read": len({table.name for table, _ in OWNED}) + 1,
        "rows_left": 0,
        "blobs_removed": verified.blobs_removed,
        "blobs_kept": verified.blobs_kept,
        "blobs_left": 0,
        "freed_bytes": verified.freed_bytes,
        "verified_at": now.isoformat(),
    }


def of(tx: Tx, deletion: Deletion, verified: Verified, verification: Json) -> Json:
    """The body of the receipt. Ids, counts, digests, people, reasons and tickets: no content and no names."""
    return {
        "what": {
            "items": verified.items,
            "counts": verified.counts,
            "bytes": deletion.bytes,
            "item_ids": verified.item_ids,
            "item_ids_complete": len(verified.item_ids) == verified.items,
            "items_digest": verified.items_digest,
            "commitment": deletion.commitment,
            "kept": _kept(tx, deletion),
            "archive": deletion.archive,
        },
        "why": _why(tx, deletion),
        "method": verified.method,
        "encryption": {"keys_destroyed": verified.keys_destroyed},
        "verification": {name: value for name, value in verification.items() if name != "method"},
    }


def _kept(tx: Tx, deletion: Deletion) -> Json:
    """What the commitment covers and the purge left in the trash: with ``items`` it is all that was committed to."""
    m = t.deletion_members.c
    mine = (m.organization_id == deletion.organization_id, m.deletion_id == deletion.id, m.outcome == "kept")
    counts: Counter[str] = Counter()
    ids: list[str] = []
    digest = hashlib.sha256()
    for id, kind in tx.execute(select(m.item_id, m.kind).where(*mine).order_by(m.item_id)):
        digest.update(f"{kind} {id}\n".encode())
        counts[str(kind)] += 1
        ids += [id] if len(ids) < SHOWN_IDS else []
    return {
        "items": counts.total(),
        "counts": dict(sorted(counts.items())),
        "item_ids": ids,
        "item_ids_complete": len(ids) == counts.total(),
        "items_digest": digest.hexdigest(),
        "because": _because(tx, deletion, ids),
    }


def _because(tx: Tx, deletion: Deletion, kept: list[str]) -> list[str]:
    """Ids of the holds (or what else it was) that kept those, as the audit trail has it."""
    m, e = t.deletion_members.c, t.audit_events.c
    asides: set[str] = set()
    for part in parts(kept):
        query = select(m.deletion_id).where(m.organization_id == deletion.organization_id, m.item_id.in_(part))
        asides.update(row[0] for row in tx.execute(query.distinct()))
    found: set[str] = set()
    for part in parts(sorted(asides)):
        mine = (e.organization_id == deletion.organization_id, e.deletion_id.in_(part))
        query = select(e.details).where(*mine, e.event.endswith(".kept", autoescape=True))
        said = [row[0] for row in tx.execute(query)]
        found.update(id for one in said if one.get("out_of") == deletion.id for id in one.get("because", ()))
    return sorted(found)[:SHOWN_IDS]


def _why(tx: Tx, deletion: Deletion) -> Json:
    asked = _asked(tx, deletion)
    d = t.deletions.c
    same = (d.organization_id == deletion.organization_id, d.id == deletion.id)
    first = tx.execute(select(d.purge_requested_by).where(*same)).scalar_one()
    return {
        "trashed_by": deletion.actor,
        "trashed_at": deletion.created_at.isoformat(),
        "reason": deletion.reason,
        "ticket": deletion.ticket,
        "purge_requested_by": first or deletion.purged_by,
        "purge_approved_by": deletion.purged_by if first else "",
        **asked,
    }


def _asked(tx: Tx, deletion: Deletion) -> Json:
    """When the purge was asked for, and the reason that was given then, as the audit trail has it."""
    e = t.audit_events.c
    mine = (e.organization_id == deletion.organization_id, e.deletion_id == deletion.id)
    query = select(e.at, e.reason).where(*mine, e.event.endswith(".purge_requested", autoescape=True))
    event = tx.one(query.order_by(e.seq).limit(1))
    if event is None:  # its retention took it
        return {"purge_requested_at": "", "purge_reason": ""}
    return {"purge_requested_at": event["at"].isoformat(), "purge_reason": event["reason"]}
