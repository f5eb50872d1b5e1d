"""What jobs do, by name, and what happens by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from msgspec.structs import replace

from labkeep.core.access import Actor
from labkeep.core.entities import Job, Json
from labkeep.core.faults import reach
from labkeep.core.ids import is_id
from labkeep.operations import (
    Store,
    checkpoints,
    encryption,
    history,
    imports,
    jobs,
    purges,
    removal_purges,
    removals,
    upkeep,
)
from labkeep.operations.jobs import Turn
from labkeep.storage.recent import RECENT
from labkeep.worker import erasing, evidence, expiry, policies, telling
from labkeep.worker.executions import execute
from labkeep.worker.jobs import NOBODY, Progress, Task, actor_of

IDLE_BLOB_AGE = timedelta(hours=24)
"""How long an uploaded blob may wait for something to refer to it."""

LOOKED_UP = 500
"""Blobs of the store looked up in one transaction."""


DESTROYED = (
    "data keys (AES-256-GCM) overwritten in the database, no later than their contents were removed: without a copy of a wrapped "
    "key and of its master key, made earlier, copies of what they encrypted cannot be read"
)
"""What is said of the keys of encrypted contents."""


def purge(store: Store, job: Job, progress: Progress) -> Json | Turn:
    """Commit to it, remove, sweep, give space back, verify: each step again after a crash, none of them twice in effect."""
    actor = actor_of(job)
    step = purges.Step(job.payload["deletion_id"])
    commitment = store.database.read(purges.digest, actor, step)
    if commitment is not None:
        store.database.write(purges.commit, actor, purges.Committed(step.deletion_id, commitment))
        reach("purge.committed")
    turn = _remove_all(store, job, progress, step)
    if turn is not None and turn.state != "cancelled":
        return turn
    encryption.finish_for(store, actor, step.deletion_id)
    RECENT.forget(actor.organization_id)
    # Only blobs from before this purge was asked for: an upload that is going on is not ours to sweep.
    sweep_blobs(store, actor, purges.Sweep(job.created_at), progress)
    given_back = store.database.reclaim().result()
    reach("purge.reclaimed")
    verified = evidence.read_again(store, actor, purges.Look(step.deletion_id, None, job.created_at), progress)
    verified = replace(
        verified, method=method(store, verified.keys_destroyed), freed_bytes=verified.freed_bytes + given_back
    )
    reach("purge.read")
    store.database.write(purges.verify, actor, verified)
    reach("purge.verified")
    freed, blobs = verified.freed_bytes, verified.blobs_removed
    result = {"deletion_id": step.deletion_id, "items": progress.done, "blobs": blobs, "freed_bytes": freed}
    return result if turn is None else turn._replace(result=result)


def _remove_all(store: Store, job: Job, progress: Progress, step: purges.Step) -> Turn | None:
    """Remove batch by batch. None once all of it is gone; else how to leave the job, whose owner wants it to wait or
    to leave the rest in the trash, or which is to make room for others."""
    actor = actor_of(job)
    while True:
        now = store.database.read(jobs.look_at, actor, job)
        if now.wanted == "pause":
            return Turn("paused")
        while now.wanted == "cancel" and store.database.write(purges.leave_some, actor, step):
            reach("purge.left")
            progress.keep()
        removed = store.database.write(purges.remove_some, actor, step)
        if not removed:
            cancelled = now.wanted == "cancel" and store.database.read(purges.left_any, actor, step)
            return Turn("cancelled") if cancelled else None
        reach("purge.removed")
        progress.advance(removed)
        turn = progress.pace(removed, now.payload.get("rate"))
        if turn is not None:
            return turn


def purge_removal(store: Store, job: Job, progress: Progress) -> Json:
    """Take a part of an object out of every store, sweep, give space back, verify: as `purge`."""
    actor = actor_of(job)
    step = removal_purges.Step(job.payload["removal_id"])
    if not removal_purges.clear(store, actor, step):
        return {"removal_id": step.removal_id}
    RECENT.forget(actor.organization_id)
    progress.keep()
    sweep_blobs(store, actor, purges.Sweep(job.created_at), progress)
    given_back = store.database.reclaim().result()
    reach("purge.reclaimed")
    left = removal_purges.leftovers(store, actor, step)
    found = evidence.read_blobs(store, actor, purges.Look(step.removal_id, None, job.created_at), progress)
    verified = removal_purges.Verified(
        removal_id=step.removal_id,
        left=left,
        blobs_removed=found.blobs_removed,
        blobs_left=found.blobs_left,
        blobs_shared=found.blobs_kept,
        freed_bytes=found.freed_bytes + given_back,
        method=method(store),
    )
    store.database.write(removal_purges.verify, actor, verified)
    reach("removal.verified")
    return {"removal_id": step.removal_id, "blobs": verified.blobs_removed, "freed_bytes": verified.freed_bytes}


def method(store: Store, keys_destroyed: int = 0) -> Json:
    """How things were removed, in exact words."""
    sqlite = store.database.name == "sqlite"
    keys = {"keys": DESTROYED} if keys_destroyed else {}
    return keys | {
        "database": "logical deletion with page overwrite (secure_delete), older copies within pages zeroed, free pages returned, "
        "write-ahead log truncated"
        if sqlite
        else "logical deletion, VACUUM",
        "blobs": store.blobs.removal,
    }


def sweep_blobs(store: Store, actor: Actor, sweep: purges.Sweep, progress: Progress) -> None:
    """Remove blobs that nothing refers to."""
    while digests := [*store.database.write(purges.begin_sweep, actor, sweep)]:
        reach("purge.marked")
        encryption.destroy_of_blobs(store, actor, digests)
        store.blobs.delete(actor.organization_id, digests)
        reach("purge.swept")
        store.database.write(purges.end_sweep, actor, purges.Swept(digests))
        reach("purge.forgotten")
        progress.keep()


def seal(store: Store, job: Job, _progress: Progress) -> Json:
    """Turn the chunks of one stream into a Parquet segment."""
    rows = history.seal(store, actor_of(job), job.payload["run_id"], job.payload["stream"])
    return {"run_id": job.payload["run_id"], "rows": rows}


def erase(store: Store, job: Job, progress: Progress) -> Json | Turn:
    """Erase one person, as a request asks."""
    return erasing.erase(store, job, progress, sweep_blobs, method(store))


TASKS: dict[str, Task] = {
    "apply": execute,
    "purge": purge,
    "purge_removal": purge_removal,
    "seal": seal,
    "tell": telling.tell,
    "policy": policies.policy,
    "erasure.look": erasing.look,
    "erasure.erase": erase,
    "erasure.index": erasing.index,
}


# --- by the clock -----------------------------------------------------------------------------------------------------


def purge_overdue(store: Store) -> None:
    """Ask for the purge of what has been in the trash for longer than its grace period."""
    if store.settings.auto_purge:
        while store.database.write(purges.schedule_overdue, NOBODY, 100):
            time.sleep(0)
        while store.database.write(removals.schedule_due, NOBODY, 100):
            time.sleep(0)


def sign_trails(store: Store) -> None:
    """Sign the ends of the audit trails that grew, and drop what their own retention says, behind a signed point."""
    store.database.write(checkpoints.sign_due, NOBODY, None)
    for organization_id, days in store.database.read(checkpoints.keepers, NOBODY, None).items():
        actor = purges.system(organization_id, NOBODY.workspace_id)
        prune = checkpoints.Prune(organization_id, store.database.clock() - timedelta(days=days))
        while store.database.write(checkpoints.prune, actor, prune):
            time.sleep(0)


def mark_crashed(store: Store) -> None:
    """Runs that were not heard of for too long count as crashed."""
    store.database.write(upkeep.mark_crashed, NOBODY, timedelta(seconds=store.settings.crashed_after_s))


def tidy(store: Store) -> None:
    """Drop old plans, old answers to repeated requests, old finished jobs, and uploads that nobody ever used."""
    store.database.write(upkeep.drop_expired, NOBODY, timedelta(days=7))
    store.blobs.sweep_uploads(_abandoned_s(store))
    sweep = purges.Sweep(store.database.clock() - IDLE_BLOB_AGE)
    for organization_id in store.database.read(purges.idle_organizations, NOBODY, sweep):
        actor = purges.system(organization_id, "")
        while digests := [*store.database.write(purges.begin_sweep, actor, sweep)]:
            _remove(store, actor, digests)


def forget_imports(store: Store) -> None:
    """Imports that nobody goes on with."""
    store.database.write(imports.forget, NOBODY, imports.FORGOTTEN_AFTER)


def drop_strays(store: Store) -> None:
    """Remove blobs that nothing records: their upload ended between the store and the database."""
    before = datetime.now(UTC) - timedelta(seconds=_abandoned_s(store))
    strays = (one for one in store.blobs.list() if one.modified_at < before and is_id(one.space))
    while batch := list(islice(strays, LOOKED_UP)):
        by_space: dict[str, dict[str, int]] = {}
        for one in batch:
            by_space.setdefault(one.space, {})[one.digest] = one.size
        for space, sizes in by_space.items():
            actor = purges.system(space, "")
            if digests := store.database.write(purges.adopt, actor, purges.Strays(sizes)):
                _remove(store, actor, digests)


def _abandoned_s(store: Store) -> float:
    """The age in seconds from which on nobody is working on an upload."""
    alone = store.database.name == "sqlite" and not store.settings.blobs_url
    # What lay in our own folder when we opened it belongs to a process that is gone.
    return store.database.open_s if alone else IDLE_BLOB_AGE.total_seconds()


def _remove(store: Store, actor: Actor, digests: list[str]) -> None:
    encryption.destroy_of_blobs(store, actor, digests)
    store.blobs.delete(actor.organization_id, digests)
    store.database.write(purges.end_sweep, actor, purges.Swept(digests))


SCHEDULE: dict[str, tuple[float, Callable[[Store], Any]]] = {
    "mark_crashed": (30.0, mark_crashed),
    "sign_trails": (60.0, sign_trails),
    "purge_overdue": (60.0, purge_overdue),
    "tell_webhooks": (2.0, telling.look),
    "forget_deliveries": (86_400.0, telling.forget),
    "run_policies": (30.0, policies.run_due),
    "trash_expired": (300.0, expiry.trash_expired),
    "forget_imports": (3600.0, forget_imports),
    "tidy": (3600.0, tidy),
    "drop_drafts": (3600.0, expiry.drop_drafts),
    "drop_strays": (86_400.0, drop_strays),
}
"""name -> (seconds between two times, function); all of them once at the start."""
