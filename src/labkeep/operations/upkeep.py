"""What time does: runs that went silent, and records that have served."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select, update

from labkeep.core.access import Actor
from labkeep.core.lifecycle import Status
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

BATCH = 1_000


def mark_crashed(tx: Tx, _actor: Actor, silence: timedelta) -> int:
    """Running runs whose last heartbeat is older than ``silence`` count as crashed; answers how many."""
    r = t.runs.c
    silent = (r.status == Status.running, r.heartbeat_at.is_not(None), r.heartbeat_at < tx.now - silence)
    found = [row[0] for row in tx.execute(select(r.id).where(*silent).limit(BATCH))]
    if found:
        tx.execute(
            update(t.runs).where(r.id.in_(found), *silent).values(status=Status.crashed, finished_at=r.heartbeat_at)
        )
    return len(found)


def drop_expired(tx: Tx, _actor: Actor, age: timedelta) -> None:
    """Plans, stored answers and finished jobs older than ``age``."""
    before = tx.now - age
    tx.execute(delete(t.plans).where(t.plans.c.created_at < before))
    tx.execute(delete(t.idempotency_keys).where(t.idempotency_keys.c.created_at < before))
    j, i = t.jobs.c, t.job_items.c
    over = (j.state.in_(("done", "cancelled")), j.finished_at < before)
    for organization_id, id in tx.execute(select(j.organization_id, j.id).where(*over).limit(BATCH)).all():
        tx.execute(delete(t.job_items).where(i.organization_id == organization_id, i.job_id == id))
        tx.execute(delete(t.jobs).where(j.organization_id == organization_id, j.id == id))


def ping(tx: Tx, _actor: Actor, _command: None) -> bool:
    """Whether the database answers."""
    return tx.one(select(t.organizations.c.id).limit(1)) is not None
