"""Jobs as rows: enqueued in the transaction that causes them, claimed under a lease, taken over when it runs out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import and_, literal_column, or_, select, update

from labkeep.core.access import Actor
from labkeep.core.entities import Job, Json
from labkeep.core.errors import Conflict
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

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
    result: Json | None = None,
) -> str:
    """Enqueue a job and answer its id; the unfinished job with the same ``dedupe`` when there is one."""
    if dedupe is not None:
        found = find_open(tx, dedupe)
        if found is not None:
            return found
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
        "result": result or {},
        "created_at": tx.now,
        "run_at": run_at or tx.now,
        "lease_until": None,
        "worker": "",
        "finished_at": None,
        "wanted": "run",
    }
    tx.insert(t.jobs, [row])
    tx.enqueued = True
    return job_id


OPEN = ("queued", "running", "paused")
"""States of a job that is not over."""


def find_open(tx: Tx, dedupe: str) -> str | None:
    """The id of the job with this ``dedupe`` that is not over."""
    # Spelled out, or SQLite would not use the index of what is queued or running.
    c = t.jobs.c
    busy = c.state.in_([literal_column("'queued'"), literal_column("'running'")])
    for state in (busy, c.state == "paused"):
        found = tx.one(select(c.id).where(c.dedupe == dedupe, state).order_by(c.id).limit(1))
        if found is not None:
            return str(found["id"])
    return None


_COLUMNS = [t.jobs.c[name] for name in Job.__struct_fields__]


def claim(tx: Tx, worker: str, lease: timedelta) -> Job | None:
    """Take the next job that is due, or one whose lease ran out. What no worker outlived counts as failed."""
    while (found := _next(tx)) is not None:
        if found.attempts < MAX_ATTEMPTS:
            held = {"state": "running", "attempts": found.attempts + 1, "worker": worker}
            job = msgspec.structs.replace(found, **held)
            _set(tx, found, **held, lease_until=tx.now + lease)
            return job
        why = f"{MAX_ATTEMPTS} workers ended while they worked on it; the last one was {found.worker or 'unknown'}"
        _set(tx, found, state="failed", error=found.error or why, finished_at=tx.now, lease_until=None)
    return None


def _next(tx: Tx) -> Job | None:
    c = t.jobs.c
    due = or_(
        and_(c.state == "queued", c.run_at <= tx.now),
        and_(c.state == "running", c.lease_until < tx.now),
    )
    query = select(*_COLUMNS).where(due).order_by(c.run_at, c.id).limit(1).with_for_update(skip_locked=True)
    found = tx.one(query)
    return None if found is None else Job(**found)


def release_all(tx: Tx) -> int:
    """Make every running job due at once; answers how many. For who knows that all other workers have ended."""
    running = update(t.jobs).where(t.jobs.c.state == "running")
    return tx.execute(running.values(state="queued", run_at=tx.now, lease_until=None, worker="")).rowcount


def renew(tx: Tx, job: Job, lease: timedelta, **values: Any) -> bool:
    """Extend the lease and note progress; False when the job belongs to another worker by now."""
    return _set(tx, job, lease_until=tx.now + lease, **values)


def finish(tx: Tx, job: Job, result: Json) -> bool:
    """Note that a job is done. What it was told is not kept: the name of a stream is somebody's word, too."""
    ended = {"state": "done", "result": result, "payload": {}, "error": "", "dedupe": None}
    return _set(tx, job, **ended, finished_at=tx.now, lease_until=None)


def fail(tx: Tx, job: Job, error: str) -> bool:
    """Note a failure: try again later, longer each time, until the attempts are used up."""
    if job.attempts >= MAX_ATTEMPTS:
        return _set(tx, job, state="failed", error=error, finished_at=tx.now, lease_until=None)
    later = tx.now + timedelta(seconds=min(600, 2**job.attempts))
    return _set(tx, job, state="queued", error=error, run_at=later, lease_until=None, worker="")


def at_work(tx: Tx, job: Job) -> Job | None:
    """The job as it is now, locked; None when another worker has it."""
    c = t.jobs.c
    same = (c.organization_id == job.organization_id, c.id == job.id, c.worker == job.worker, c.state == "running")
    found = tx.one(select(*_COLUMNS).where(*same).with_for_update())
    return None if found is None else Job(**found)


def note(tx: Tx, job: Job, **values: Any) -> None:
    """Note progress within the transaction that made it. Whoever gets on has its attempts back."""
    if not _set(tx, job, attempts=1, **values):
        raise Conflict(f"job {job.id} belongs to another worker")


def put_back(tx: Tx, job: Job, state: str, after: timedelta, values: dict[str, Any]) -> bool:
    """Give a job back that is not over: ``queued`` to be taken up again ``after`` a while, or ``paused``."""
    back = {"attempts": 0, "run_at": tx.now + after, "lease_until": None, "worker": "", **values}
    tx.enqueued = tx.enqueued or state == "queued"
    return _set(tx, job, state=state, **back)


def end(tx: Tx, job: Job, state: str, error: str, result: Json) -> bool:
    """Note that a job is over without being done: ``cancelled``, or ``failed`` where trying again would not help."""
    ended = {"result": result, "payload": {}, "error": error, "dedupe": None, "lease_until": None}
    return _set(tx, job, state=state, finished_at=tx.now, **ended)


def control(tx: Tx, job: Job, **values: Any) -> None:
    """Change what the owner of a job asks of it."""
    c = t.jobs.c
    tx.execute(update(t.jobs).where(c.organization_id == job.organization_id, c.id == job.id).values(**values))
    tx.enqueued = True


def _set(tx: Tx, job: Job, **values: Any) -> bool:
    """Change a job that nobody else has taken since ``job`` was read; False otherwise, and nothing happens."""
    c = t.jobs.c
    same = (c.organization_id == job.organization_id, c.id == job.id, c.worker == job.worker, c.state == job.state)
    return tx.execute(update(t.jobs).where(*same).values(**values)).rowcount == 1
