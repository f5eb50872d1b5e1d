"""Handing a large selection over to the background: the answer that is given at once, and the record behind it."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from labkeep.core.access import Actor
from labkeep.core.commands import Apply, Outcome
from labkeep.core.deletion import Origin
from labkeep.core.entities import Deletion, Job, Json
from labkeep.core.lifecycle import Verb
from labkeep.core.undo_token import BACK
from labkeep.storage import deletions, jobs
from labkeep.storage.transaction import Tx

TASK = "apply"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a large job was asked for, as its row keeps it until it is over."""

    command: Apply
    actor: Actor
    """Who asked, with the rights that were checked then: batches are theirs."""
    deletion_id: str | None = None
    """The deletion that a trash makes."""
    names: dict[str, str] = {}
    """New names for what comes back."""
    asker: Origin = Origin.user
    """On whose word."""
    checked: bool = False
    """Whether the whole was looked at, and all of it is noted down."""
    rate: float | None = None

    @property
    def verb(self) -> Verb:
        return Verb(self.command.verb)

    @classmethod
    def of(cls, job: Job) -> Asked:
        return msgspec.convert(job.payload, cls)

    def payload(self) -> Json:
        """As a job's row keeps it."""
        fields: Json = msgspec.to_builtins(self)
        return fields


def hand_over(
    tx: Tx, actor: Actor, command: Apply, names: dict[str, str] | None = None, asker: Origin = Origin.user
) -> Outcome:
    """Leave ``command`` to a job, and answer with its id. Nothing has moved yet."""
    verb = Verb(command.verb)
    deletion_id = _open(tx, actor, command) if verb == Verb.trash else command.selection.deletion_id
    asked = Asked(
        command=command, actor=actor, deletion_id=deletion_id, names=names or {}, asker=asker, rate=command.rate
    )
    dedupe = None if deletion_id is None else key_of(verb, deletion_id)
    known = {"verb": str(verb), "deletion_id": deletion_id}
    job_id = jobs.enqueue(tx, actor, TASK, asked.payload(), dedupe=dedupe, result=known)
    return Outcome(
        verb=str(verb),
        counts={},
        deletion_id=deletion_id,
        undo=deletion_id if verb == Verb.trash else job_id if verb in BACK else None,
        job_id=job_id,
        job_ids=[job_id],
    )


def key_of(verb: Verb, deletion_id: str) -> str:
    """What keeps a deletion from having two such jobs."""
    return f"{verb} {deletion_id}"


def _open(tx: Tx, actor: Actor, command: Apply) -> str:
    deletion = Deletion(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        state="applying",
        actor=actor.name,
        key_id=actor.key_id,
        client=actor.client,
        reason=command.reason,
        ticket=command.ticket,
        plan_hash=command.plan_hash or "",
        archive=command.archive,
        created_at=tx.now,
        restorable_until=tx.now + timedelta(days=tx.grace_days),
    )
    deletions.insert(tx, deletion, command.selection)
    return deletion.id
