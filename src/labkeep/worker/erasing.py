"""The jobs of erasing: looking, erasing, and indexing rows by fields that were declared late."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from labkeep.core.access import Actor
from labkeep.core.entities import Job, Json
from labkeep.core.erasures import Erasure
from labkeep.core.errors import Conflict, Gone, NotFound, Refused
from labkeep.core.faults import reach
from labkeep.operations import Store, erasure_objects, erasure_progress
from labkeep.operations.erasure_objects import Result
from labkeep.operations.erasure_progress import Ahead, Backfill, Ended, Look, Noted
from labkeep.operations.jobs import Turn
from labkeep.operations.purges import Look as BlobLook
from labkeep.operations.purges import Sweep
from labkeep.storage.recent import RECENT
from labkeep.worker import evidence
from labkeep.worker.jobs import Progress, actor_of

Sweeper = Callable[[Store, Actor, Sweep, Progress], None]


def look(store: Store, job: Job, progress: Progress) -> Json:
    """Preview: what was found goes into the report of the request."""
    actor = actor_of(job)
    erasure = store.database.read(erasure_progress.begin, actor, job.payload["erasure_id"])
    store.database.write(erasure_progress.restart, actor, Look(erasure.id))
    return {"erasure_id": erasure.id, "objects": _through(store, actor, erasure, progress, "preview", "")}


WAIT_S = 0.5
"""How long to leave the worker to the purges of what goes as a whole, before looking whether they are done."""


def erase(store: Store, job: Job, progress: Progress, sweep: Sweeper, method: Json) -> Json | Turn:
    """Erase object by object, sweep, give space back, look again, and close the request."""
    actor = actor_of(job)
    erasure = store.database.read(erasure_progress.begin, actor, job.payload["erasure_id"])
    if erasure.state != "running":
        return {"erasure_id": erasure.id, "state": erasure.state}
    after = (erasure.report.get("done") or {}).get("after", "")
    objects = _through(store, actor, erasure, progress, "done", after)
    if store.database.write(erasure_progress.going, actor, erasure.id):
        return Turn("queued", after_s=WAIT_S)
    RECENT.forget(actor.organization_id)
    sweep(store, actor, Sweep(job.created_at), progress)
    found = evidence.read_blobs(store, actor, BlobLook(erasure.id, None, job.created_at), progress)
    ended = Ended(erasure.id, found.blobs_removed, found.blobs_left, found.blobs_kept, method)
    state = store.database.write(erasure_progress.finish, actor, ended)
    reach("erasure.done")
    # Last, so that what the request itself said of the person leaves the log and the free pages too.
    store.database.reclaim().result()
    return {"erasure_id": erasure.id, "state": state, "objects": objects}


def _through(store: Store, actor: Actor, erasure: Erasure, progress: Progress, part: str, after: str) -> int:
    objects = 0
    while ids := store.database.read(erasure_progress.next_items, actor, Ahead(erasure.id, after)):
        for id in ids:
            result = _one(store, actor, erasure, id, looking=part == "preview")
            if result is not None and result.counts:
                objects += 1
                _note(store, actor, Noted(erasure.id, part, id, {id: result}), whole=result.whole)
                reach("erasure.noted")
        after = ids[-1]
        store.database.write(erasure_progress.note, actor, Noted(erasure.id, part, after, {}))
        progress.advance(len(ids))
    return objects


def _note(store: Store, actor: Actor, noted: Noted, *, whole: bool) -> None:
    """Note what was found, and have gone what is to go as a whole; or note that something stands in its way."""
    if not whole:
        store.database.write(erasure_progress.note, actor, noted)
        return
    try:
        store.database.write(erasure_progress.remove, actor, noted)
    except (Refused, Conflict) as error:
        # By its code: the words of an error may quote a name.
        why = f"it cannot go as a whole ({error.code}): labkeep trash {noted.after} --dry-run says why"
        results = {id: result._replace(blocked=why) for id, result in noted.results.items()}
        store.database.write(erasure_progress.note, actor, replace(noted, results=results))


def _one(store: Store, actor: Actor, erasure: Erasure, id: str, *, looking: bool) -> Result | None:
    try:
        return erasure_objects.process(store, actor, erasure_objects.Job(erasure, id, looking))
    except (Gone, NotFound):  # purged meanwhile: nothing is left to look at
        return None


def index(store: Store, job: Job, progress: Progress) -> Json:
    """Index rows that were written before their fields were declared."""
    actor = actor_of(job)
    owner, count = "", 0
    while ids := store.database.read(erasure_progress.owners, actor, Backfill(owner, "")):
        for id in ids:
            after: str | None = ""
            while after is not None:
                after = store.database.write(erasure_progress.index_rows, actor, Backfill(id, after))
            count += 1
        owner = ids[-1]
        progress.advance(len(ids))
    return {"objects": count}
