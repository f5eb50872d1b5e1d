"""The steps of a purge, each one transaction. The worker runs them in order; any of them may be run again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.deletion import event_of
from labkeep.core.entities import Deletion
from labkeep.core.errors import Corrupt
from labkeep.core.lifecycle import Role, Verb
from labkeep.operations import consents, protection, purge_statement, receipts
from labkeep.operations.purge_statement import Verified
from labkeep.storage import deletions as records
from labkeep.storage import purge, usage
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

BATCH = 250
"""Objects purged in one transaction: small enough that other writers hardly wait."""

LEFT = 50_000
"""Objects that a cancelled purge leaves in one transaction, in a deletion of their own."""

LOOKED_AT = 1_000
"""Objects, or blobs, that are looked for in one transaction after a purge."""

SWEEP = 500
"""Blobs swept in one transaction."""


class Step(msgspec.Struct, frozen=True):
    """Which deletion."""

    deletion_id: str


class Sweep(msgspec.Struct, frozen=True):
    """Blobs without references that were last uploaded before this moment."""

    before: datetime


class Swept(msgspec.Struct, frozen=True):
    """Blobs whose bytes are gone."""

    digests: list[str]


class Look(msgspec.Struct, frozen=True):
    """Where to go on reading what a purge left. ``since`` is when the purge was asked for."""

    deletion_id: str
    after: str | None
    since: datetime


def system(organization_id: str, workspace_id: str, on_behalf_of: str = "system") -> Actor:
    """The actor of background work."""
    return Actor(
        organization_id=organization_id,
        workspace_id=workspace_id,
        user=on_behalf_of,
        role=Role.owner,
        key_id="00000000-0000-7000-8000-000000000000",
        client="worker",
    )


def digest(tx: Tx, actor: Actor, step: Step) -> str | None:
    """The commitment to all that a purge will remove; None when there is one, or nothing is to be purged any more.

    What waits for its purge does not change, so it is read while others write: a large one takes seconds.
    """
    deletion = records.get(tx, actor, step.deletion_id)
    if deletion.state != "purging" or deletion.commitment:
        return None
    return records.commit_to(tx, actor, deletion.id)


class Committed(msgspec.Struct, frozen=True):
    """What a purge is held to."""

    deletion_id: str
    commitment: str


def commit(tx: Tx, actor: Actor, command: Committed) -> None:
    """Store what will go, before anything of it does."""
    deletion = records.get(tx, actor, command.deletion_id, lock=True)
    if deletion.state != "purging" or deletion.commitment:
        return
    records.change(tx, deletion, commitment=command.commitment)
    by = msgspec.structs.replace(actor, user=deletion.purged_by or actor.user)
    for kind, count in records.held_counts(tx, actor, deletion.id).items():
        event, why = f"{kind}.purge_committed", deletion.reason
        tx.audit(by, event, count=count, deletion_id=deletion.id, reason=why, commitment=command.commitment)


def remove_some(tx: Tx, actor: Actor, step: Step) -> int:
    """Purge the next members of a deletion; answers how many. 0 when none is left."""
    deletion = records.get(tx, actor, step.deletion_id, lock=True)
    if deletion.state == "trashed":  # all of it is kept: a hold came in between, or it was cancelled
        return 0
    if deletion.state not in ("purging", "purged"):
        raise Corrupt(f"deletion {deletion.id} is {deletion.state}: nobody asked to purge it")
    if not deletion.commitment:
        raise Corrupt(f"deletion {deletion.id} has no commitment: nothing says what its purge was to remove")
    ids = purge.members_left(tx, actor.organization_id, deletion.id, BATCH)
    if not ids:
        purge.forget_answers(tx, actor.organization_id)
        usage.add_up(tx, actor.organization_id)
        return 0
    staying = protection.kept(tx, actor, ids)
    if staying:
        protection.set_aside(tx, actor, deletion, staying)
    purge.remove(tx, actor.organization_id, deletion.id, [id for id in ids if id not in staying])
    return len(ids)


def leave_some(tx: Tx, actor: Actor, step: Step) -> int:
    """Leave the next members of a purge that was cancelled in the trash; answers how many. 0 when none is left."""
    deletion = records.get(tx, actor, step.deletion_id, lock=True)
    ids = purge.members_left(tx, actor.organization_id, deletion.id, LEFT) if deletion.state == "purging" else []
    if ids:
        protection.leave_rest(tx, actor, deletion, ids)
    return len(ids)


def left_any(tx: Tx, actor: Actor, step: Step) -> bool:
    """Whether a purge that is over left something in the trash."""
    if records.get(tx, actor, step.deletion_id).state == "trashed":
        return True
    return bool(records.held_counts(tx, actor, step.deletion_id, "kept"))


def begin_sweep(tx: Tx, actor: Actor, command: Sweep) -> dict[str, int]:
    """Mark the next unreferenced blobs; answers digest → bytes."""
    return purge.begin_sweep(tx, actor.organization_id, command.before, SWEEP)


class Strays(msgspec.Struct, frozen=True):
    """Blobs (digest → bytes) that lie in the store."""

    sizes: dict[str, int]


def adopt(tx: Tx, actor: Actor, command: Strays) -> list[str]:
    """Mark those blobs that nothing records, as `begin_sweep` does; answers their digests."""
    return purge.adopt(tx, actor.organization_id, command.sizes)


def discard(tx: Tx, actor: Actor, digest: str) -> bool:
    """Mark one blob, as `begin_sweep` does; False when something refers to it."""
    return purge.discard(tx, actor.organization_id, digest)


def end_sweep(tx: Tx, actor: Actor, command: Swept) -> None:
    """Forget blobs whose bytes are gone."""
    purge.end_sweep(tx, actor.organization_id, command.digests)


def look(tx: Tx, actor: Actor, command: Look) -> purge.Members:
    """Read every table again for the next objects of a purge."""
    return purge.look(tx, actor.organization_id, command.deletion_id, command.after, LOOKED_AT)


def held_blobs(tx: Tx, actor: Actor, command: Look) -> list[purge.HeldBlob]:
    """The next blobs that a purge has to find gone."""
    after = command.after or ""
    return purge.held_blobs(tx, actor.organization_id, command.deletion_id, after, command.since, LOOKED_AT)


def verify(tx: Tx, actor: Actor, command: Verified) -> Deletion:
    """Only when nothing was found any more does the deletion count as purged; its receipt is issued with that."""
    deletion = records.get(tx, actor, command.deletion_id, lock=True)
    if deletion.state in ("purged", "trashed"):
        return deletion
    if command.rows_left or command.blobs_left:
        raise Corrupt(f"purge of {deletion.id} left something behind: {command.rows_left}, {command.blobs_left} blobs")
    verification = purge_statement.found(command, tx.now)
    records.change(tx, deletion, state="purged", purged_at=tx.now, verification=verification)
    purge.forget_blobs(tx, actor.organization_id, deletion.id)
    receipts.issue(tx, actor, "purge", deletion.id, purge_statement.of(tx, deletion, command, verification))
    for kind, count in sorted(command.counts.items()):
        tx.audit(
            msgspec.structs.replace(actor, user=deletion.purged_by or actor.user),
            event_of(kind, Verb.purge),
            count=count,
            deletion_id=deletion.id,
            reason=deletion.reason,
            ticket=deletion.ticket,
            commitment=deletion.commitment,
        )
    return records.get(tx, actor, deletion.id)


def schedule_overdue(tx: Tx, _actor: Actor, limit: int) -> int:
    """Enqueue the purge of deletions whose grace period is over, in every organization; answers how many."""
    c = t.deletions.c
    query = select(*records.COLUMNS).where(c.state == "trashed", c.restorable_until <= tx.now)
    query = query.order_by(c.restorable_until).limit(limit).with_for_update(skip_locked=True)
    found = [Deletion(**row) for row in tx.all(query)]
    for deletion in found:
        actor = system(deletion.organization_id, deletion.workspace_id)
        counts = _due(tx, actor, deletion)
        if not counts:
            continue
        records.change(tx, deletion, state="purging", purged_by="grace period")
        records.enqueue_purge(tx, actor, deletion, sum(counts.values()))
        for kind, count in counts.items():
            tx.audit(actor, f"{kind}.purge_requested", count=count, deletion_id=deletion.id)
    return len(found)


def _due(tx: Tx, actor: Actor, deletion: Deletion) -> dict[str, int]:
    """What goes now, by kind. What may not go yet stays, and is looked at again later."""
    promised = records.latest_promise(tx, actor, records.inside(tx, actor, deletion.id))
    if promised is not None and promised > tx.now:
        # What was trashed earlier out of it can still be restored, and would have nowhere to go.
        records.change(tx, deletion, restorable_until=promised)
        return {}
    if consents.needed(tx, actor, deletion):
        # Nobody is two persons, the clock least of all: it waits, and is listed as waiting.
        waits: dict[str, Any] = {"restorable_until": tx.now + protection.RECHECK}
        if deletion.purge_requested_at is None:
            waits |= {"purge_requested_by": "(grace period)", "purge_requested_at": tx.now}
        records.change(tx, deletion, **waits)
        return {}
    staying, going = protection.parted(tx, actor, deletion)
    if staying:
        protection.set_aside(tx, actor, deletion, staying)
    return {} if going == [] else records.held_counts(tx, actor, deletion.id)


def idle_organizations(tx: Tx, _actor: Actor, command: Sweep) -> list[str]:
    """Organizations that have blobs to sweep."""
    return purge.organizations_with_idle_blobs(tx, command.before)
