"""Jobs as rows: enqueued in the transaction that causes them, claimed under a lease, taken over when it runs out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import and_, or_, select, update

from labkeep.core.access import Actor
from labkeep.core.entities import Job, Json
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

LEASE = timedelta(seconds=60)
"""How long a worker may be silent before another takes its job."""

MAX_ATTEMPTS = 10
"""Starts after which a job counts as failed."""


def enqueue(
    tx: Tx,
    actor: Actor,
    task: str,
    payload: Json,
    *,
    dedupe: str | None = None,
    run_at: datetime | None = None,
    total: int = 0,
) -> str:
    """Enqueue a job and answer its id; the unfinished job with the same ``dedupe`` when there is one."""
    if dedupe is not None:
        found = tx.one(select(t.jobs.c.id).where(t.jobs.c.dedupe == dedupe, t.jobs.c.state.in_(("queued", "running"))))
        if found is not None:
            return str(found["id"])
    job_id = tx.new_id()
    row = {
        "organization_id": actor.organization_id,
        "id": job_id,
        "workspace_id": actor.workspace_id,
        "task": task,
        "dedupe": dedupe,
        "payload": payload,
        "actor": actor.name,
        "state": "queued",
        "attempts": 0,
        "done": 0,
        "total": total,
        "error": "",
        "result": {},
        "created_at": tx.now,
        "run_at": run_at or tx.now,
        "lease_until": None,
        "worker": "",
        "finished_at": None,
    }
    tx.insert(t.jobs, [row])
    tx.enqueued = True
    return job_id


_COLUMNS = [t.jobs.c[name] for name in Job.__struct_fields__]


def claim(tx: Tx, worker: str) -> Job | None:
    """Take the next job that is due, or one whose lease ran out. One that was started too often has failed."""
    c = t.jobs.c
    due = or_(
        and_(c.state == "queued", c.run_at <= tx.now),
        and_(c.state == "running", c.lease_until < tx.now),
    )
    query = select(*_COLUMNS).where(due).order_by(c.run_at, c.id).limit(1).with_for_update(skip_locked=True)
    while (found := tx.one(query)) is not None:
        job = Job(**found)
        if job.attempts < MAX_ATTEMPTS:
            taken = {"state": "running", "attempts": job.attempts + 1, "worker": worker, "lease_until": tx.now + LEASE}
            set_job(tx, job.organization_id, job.id, **taken)
            return msgspec.structs.replace(job, **taken)
        # Nobody lived to note why: whatever took the workers down would take the next one too.
        error = job.error or f"started {job.attempts} times and never ended"
        set_job(tx, job.organization_id, job.id, state="failed", error=error, finished_at=tx.now, lease_until=None)
    return None


def set_job(tx: Tx, organization_id: str, job_id: str, **values: Any) -> None:
    """Change columns of one job."""
    c = t.jobs.c
    tx.execute(update(t.jobs).where(c.organization_id == organization_id, c.id == job_id).values(**values))


def _held(tx: Tx, job: Job, **values: Any) -> bool:
    """Change a job that its worker still holds; False when it belongs to another worker by now."""
    c = t.jobs.c
    mine = (c.organization_id == job.organization_id, c.id == job.id, c.worker == job.worker, c.state == "running")
    return tx.execute(update(t.jobs).where(*mine).values(**values)).rowcount == 1


def renew(tx: Tx, job: Job, **values: Any) -> bool:
    """Extend the lease and note progress; False when the job belongs to another worker by now."""
    return _held(tx, job, lease_until=tx.now + LEASE, **values)


def finish(tx: Tx, job: Job, result: Json) -> bool:
    """Note that a job is done; False when it belongs to another worker by now."""
    return _held(tx, job, state="done", result=result, error="", finished_at=tx.now, lease_until=None)


def fail(tx: Tx, job: Job, error: str) -> bool:
    """Note a failure: try again later, longer each time, until the attempts are used up."""
    if job.attempts >= MAX_ATTEMPTS:
        return _held(tx, job, state="failed", error=error, finished_at=tx.now, lease_until=None)
    later = tx.now + timedelta(seconds=min(600, 2**job.attempts))
    return _held(tx, job, state="queued", error=error, run_at=later, lease_until=None, worker="")
