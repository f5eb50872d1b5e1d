"""What a job that looks or erases notes on its way, and how it ends: the report, the verification, the receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.entities import Item, Json
from labkeep.core.erasures import Erasure
from labkeep.core.lifecycle import Kind
from labkeep.operations import erasures as requests
from labkeep.operations import receipts
from labkeep.operations.erasure_objects import Result, remove_whole
from labkeep.storage import deletions, purge, rows, subjects, usage
from labkeep.storage import erasures as store
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

SHOWN = 1_000
"""Objects that a report names; all are counted."""

ITEMS = 100
"""Objects that are asked for at once."""


class Ahead(msgspec.Struct, frozen=True):
    """Which request, and after which object to go on."""

    erasure_id: str
    after: str


def begin(tx: Tx, actor: Actor, erasure_id: str) -> Erasure:
    """The request."""
    return requests.find(tx, actor, erasure_id)


def next_items(tx: Tx, actor: Actor, ahead: Ahead) -> list[str]:
    """The next objects to look at: by the index of a declared field, else all of the workspace."""
    erasure = requests.find(tx, actor, ahead.erasure_id)
    if not erasure.field:
        return store.next_items(tx, actor, ahead.after, ITEMS)
    ids = subjects.owners(tx, actor.organization_id, erasure.subject_digest, ahead.after, ITEMS)
    c = t.items.c
    mine = (c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id, c.id.in_(ids))
    return [row[0] for row in tx.execute(select(c.id).where(*mine, c.state.in_(store.READABLE)).order_by(c.id))]


class Noted(msgspec.Struct, frozen=True):
    """What was found in objects, to be added to a report, and the last object that was looked at."""

    erasure_id: str
    part: str
    after: str
    results: dict[str, Result]


def note(tx: Tx, actor: Actor, noted: Noted) -> None:
    """Add to the report of a request; the job goes on from here after a crash."""
    erasure = requests.find(tx, actor, noted.erasure_id, lock=True)
    known: Json = erasure.report.get(noted.part) or {"found": {}, "items": [], "objects": 0, "held": [], "blocked": []}
    counts: Counter[str] = Counter(known["found"])
    for id, result in noted.results.items():
        counts.update(result.counts)
        entry: Json = {"id": id, "kind": result.kind, "counts": dict(result.counts)}
        if result.deletion_id:
            entry["deletion_id"] = result.deletion_id
            gone = {"id": id, "kind": result.kind, "deletion_id": result.deletion_id}
            known["whole"] = [*known.get("whole", ()), gone]
        for name, why in (("held", result.held), ("blocked", result.blocked)):
            if why:
                known[name] = [*known[name], {"id": id, "kind": result.kind, "why": why}]
        known["items"] = [*known["items"], entry][:SHOWN]
    known |= {"found": dict(counts), "objects": known["objects"] + len(noted.results), "after": noted.after}
    requests.change(tx, erasure, report=erasure.report | {noted.part: known})


def remove(tx: Tx, actor: Actor, noted: Noted) -> None:
    """Have objects purged as a whole, and add that to the report, both or neither."""
    erasure = requests.find(tx, actor, noted.erasure_id)
    went = {
        id: result._replace(deletion_id=remove_whole(tx, actor, erasure, id)) for id, result in noted.results.items()
    }
    note(tx, actor, msgspec.structs.replace(noted, results=went))


class Look(msgspec.Struct, frozen=True):
    """A preview that starts anew."""

    erasure_id: str


def restart(tx: Tx, actor: Actor, look: Look) -> None:
    """Forget what an earlier preview found."""
    erasure = requests.find(tx, actor, look.erasure_id, lock=True)
    report = {name: value for name, value in erasure.report.items() if name != "preview"}
    requests.change(tx, erasure, report=report)


def going(tx: Tx, actor: Actor, erasure_id: str) -> int:
    """How many objects that go as a whole are not gone yet; a purge that gave up starts again."""
    done = requests.find(tx, actor, erasure_id).report.get("done") or {}
    found = [deletions.get(tx, actor, entry["deletion_id"]) for entry in done.get("whole", ())]
    waiting = [deletion for deletion in found if deletion.state == "purging"]
    for deletion in waiting:
        deletions.enqueue_purge(tx, actor, deletion, 0)
    return len(waiting)


def _stayed(tx: Tx, actor: Actor, done: Json) -> list[Json]:
    """What was to go as a whole, and stayed."""
    went = done.get("whole", ())
    kept = [entry for entry in went if deletions.get(tx, actor, entry["deletion_id"]).state != "purged"]
    return [
        {"id": entry["id"], "kind": entry["kind"], "why": "a hold came, or its purge was cancelled"} for entry in kept
    ]


class Ended(msgspec.Struct, frozen=True):
    """Everything was looked at again, and is clean but for what must stay."""

    erasure_id: str
    blobs_removed: int
    blobs_left: int
    blobs_shared: int
    method: Json


def finish(tx: Tx, actor: Actor, ended: Ended) -> str:
    """Close the request: what protects keeps it open, else the person is forgotten and a receipt issued."""
    erasure = requests.find(tx, actor, ended.erasure_id, lock=True)
    if erasure.state != "running":
        return erasure.state
    done: Json = dict(erasure.report.get("done") or {})
    done.pop("after", None)
    if stayed := _stayed(tx, actor, done):
        done["held"] = [*done.get("held", ()), *stayed]
    report = {**erasure.report, "done": done, "verified_at": tx.now.isoformat(), "method": ended.method}
    report["blobs"] = {"removed": ended.blobs_removed, "shared": ended.blobs_shared}
    purge.forget_answers(tx, actor.organization_id)
    usage.add_up(tx, actor.organization_id)
    purge.forget_blobs(tx, actor.organization_id, erasure.id)
    if done.get("held") or done.get("blocked"):
        requests.change(tx, erasure, state="partly_held", report=report)
        tx.audit(actor, "erasure.partly_held", erasure.id, held=len(done["held"]), blocked=len(done["blocked"]))
        return "partly_held"
    body = {
        "action": erasure.action,
        "subject_digest": erasure.subject_digest,
        "everywhere": not erasure.field,
        "objects": done.get("objects", 0),
        "found": done.get("found", {}),
        "items": [entry["id"] for entry in done.get("items", [])],
        "deletions": [entry["deletion_id"] for entry in done.get("whole", ())],
        "left": 0,
        "blobs_removed": ended.blobs_removed,
        "blobs_shared": ended.blobs_shared,
        "method": {name: str(value) for name, value in ended.method.items()},
        "ticket": erasure.ticket,
        "requested_at": erasure.created_at.isoformat(),
        "verified_at": tx.now.isoformat(),
    }
    receipt = receipts.issue(tx, actor, "erasure", erasure.id, body)
    requests.change(
        tx, erasure, state="done", subject="", reason="", finished_at=tx.now, report=report, receipt_id=receipt.id
    )
    tx.audit(actor, "erasure.done", erasure.id, count=done.get("objects", 0), ticket=erasure.ticket)
    return "done"


# --- the index of declared fields -------------------------------------------------------------------------------------


class Backfill(msgspec.Struct, frozen=True):
    """Where to go on with indexing rows that were written before a field was declared."""

    owner_id: str
    after: str


def owners(tx: Tx, actor: Actor, backfill: Backfill) -> Sequence[str]:
    """The next runs and documents of the organization."""
    c = t.items.c
    mine = (c.organization_id == actor.organization_id, c.kind.in_((Kind.run, Kind.document)))
    more = [c.id > backfill.owner_id] if backfill.owner_id else []
    query = select(c.id).where(*mine, c.state.in_(store.READABLE), *more).order_by(c.id).limit(ITEMS)
    return [row[0] for row in tx.execute(query)]


def index_rows(tx: Tx, actor: Actor, backfill: Backfill) -> str | None:
    """Index the next rows of one owner, as they are now; answers the last of them, None at the end."""
    c = t.rows.c
    i = t.items.c
    row = tx.one(
        select(*(i[name] for name in Item.__struct_fields__)).where(
            i.organization_id == actor.organization_id, i.id == backfill.owner_id
        )
    )
    fields = () if row is None else subjects.declared(tx, Item(**row))
    if row is None or not fields:
        return None
    owner = Item(**row)
    mine = (c.organization_id == owner.organization_id, c.owner_id == owner.id, c.id > backfill.after)
    query = select(c.id).where(*mine).distinct().order_by(c.id).limit(rows.BATCH)
    ids = [found[0] for found in tx.execute(query)]
    subjects.note(tx, owner, fields, rows.every_state(tx, owner, ids))
    return ids[-1] if len(ids) == rows.BATCH else None
