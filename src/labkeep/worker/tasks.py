"""What jobs do, by name, and what happens by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from labkeep.core.access import Actor
from labkeep.core.entities import Job, Json
from labkeep.core.errors import NotFound
from labkeep.core.faults import reach
from labkeep.operations import Store, history, purges, upkeep
from labkeep.worker.jobs import Progress, Task

IDLE_BLOB_AGE = timedelta(hours=24)
"""How long an uploaded blob may wait for something to refer to it."""


def purge(store: Store, job: Job, progress: Progress) -> Json:
    """Remove, sweep, give space back, verify: each step again after a crash, none of them twice in effect."""
    actor = purges.system(job.organization_id, job.workspace_id)
    step = purges.Step(job.payload["deletion_id"])
    while removed := store.database.write(purges.remove_some, actor, step):
        reach("purge.removed")
        progress.advance(removed)
    reach("purge.forgotten")
    # Only blobs from before this purge was asked for: an upload that is going on is not ours to sweep.
    swept, left, freed = sweep_blobs(store, actor, purges.Sweep(job.created_at), progress)
    freed += store.database.reclaim().result()
    reach("purge.reclaimed")
    verified = purges.Verified(
        deletion_id=step.deletion_id, blobs_removed=swept, blobs_left=left, freed_bytes=freed, method=method(store)
    )
    store.database.write(purges.verify, actor, verified)
    reach("purge.verified")
    return {"deletion_id": step.deletion_id, "items": progress.done, "blobs": swept, "freed_bytes": freed}


def method(store: Store) -> Json:
    """How things were removed, in exact words."""
    sqlite = store.database.name == "sqlite"
    return {
        "database": "logical deletion with page overwrite (secure_delete), older copies within pages zeroed, free pages returned, "
        "write-ahead log truncated"
        if sqlite
        else "logical deletion, VACUUM",
        "blobs": store.blobs.removal,
    }


def sweep_blobs(store: Store, actor: Actor, sweep: purges.Sweep, progress: Progress) -> tuple[int, int, int]:
    """Remove blobs that nothing refers to; answers how many went, how many were still there when read again, and bytes."""
    swept = left = freed = 0
    while sizes := store.database.write(purges.begin_sweep, actor, sweep):
        digests = [*sizes]
        reach("purge.marked")
        store.blobs.delete(actor.organization_id, digests)
        left += sum(_is_there(store, actor, digest) for digest in digests)
        reach("purge.swept")
        store.database.write(purges.end_sweep, actor, purges.Swept(digests))
        swept, freed = swept + len(digests), freed + sum(sizes.values())
        progress.keep()
    return swept, left, freed


def _is_there(store: Store, actor: Actor, digest: str) -> bool:
    try:
        store.blobs.size(actor.organization_id, digest)
    except NotFound:
        return False
    return True


def seal(store: Store, job: Job, _progress: Progress) -> Json:
    """Turn the chunks of one stream into a Parquet segment."""
    actor = purges.system(job.organization_id, job.workspace_id)
    rows = history.seal(store, actor, job.payload["run_id"], job.payload["stream"])
    return {"run_id": job.payload["run_id"], "stream": job.payload["stream"], "rows": rows}


TASKS: dict[str, Task] = {"purge": purge, "seal": seal}


# --- by the clock -----------------------------------------------------------------------------------------------------


def purge_overdue(store: Store) -> None:
    """Ask for the purge of what has been in the trash for longer than its grace period."""
    if store.settings.auto_purge:
        while store.database.write(purges.schedule_overdue, purges.system(*_NOWHERE), 100):
            time.sleep(0)


def mark_crashed(store: Store) -> None:
    """Runs that were not heard of for too long count as crashed."""
    store.database.write(
        upkeep.mark_crashed, purges.system(*_NOWHERE), timedelta(seconds=store.settings.crashed_after_s)
    )


def tidy(store: Store) -> None:
    """Drop old plans, old answers to repeated requests, old finished jobs, and uploads that nobody ever used."""
    nobody = purges.system(*_NOWHERE)
    store.database.write(upkeep.drop_expired, nobody, timedelta(days=7))
    store.blobs.sweep_uploads(IDLE_BLOB_AGE.total_seconds())
    sweep = purges.Sweep(store.database.clock() - IDLE_BLOB_AGE)
    for organization_id in store.database.read(purges.idle_organizations, nobody, sweep):
        actor = purges.system(organization_id, "")
        while digests := [*store.database.write(purges.begin_sweep, actor, sweep)]:
            store.blobs.delete(organization_id, digests)
            store.database.write(purges.end_sweep, actor, purges.Swept(digests))


_NOWHERE = ("00000000-0000-7000-8000-000000000000", "00000000-0000-7000-8000-000000000000")
"""Organization and workspace of the actor of schedules that look at all of them."""

SCHEDULE: dict[str, tuple[float, Callable[[Store], Any]]] = {
    "mark_crashed": (30.0, mark_crashed),
    "purge_overdue": (60.0, purge_overdue),
    "tidy": (3600.0, tidy),
}
"""name -> (seconds between two times, function)."""
