"""Purges that need two persons: the first asks, a second with another name agrees by asking for the same.

A person is a user with a key of their own: neither an agent nor the clock. What is asked for lapses after a week.
"""

from __future__ import annotations

from datetime import timedelta

from labkeep.core.access import Actor
from labkeep.core.entities import Deletion
from labkeep.operations import rules
from labkeep.storage import deletions
from labkeep.storage.transaction import Tx

LAPSE = timedelta(days=7)


def needed(tx: Tx, actor: Actor, deletion: Deletion) -> bool:
    """Whether a rule asks for two persons for what ``deletion`` holds."""
    homes = deletions.homes(tx, actor, deletion.id)
    return any(rule.two_person_purge for rule in rules.of_projects(tx, actor, homes).values())


def ask(tx: Tx, actor: Actor, deletion: Deletion, counts: dict[str, int], reason: str, ticket: str) -> str:
    """What the purge of ``deletion`` still waits for; empty when a second person agrees with this."""
    if not needed(tx, actor, deletion):
        return ""
    name = actor.user if is_person(actor) else f"({actor.name})"
    asked = deletion.purge_requested_at
    first = deletion.purge_requested_by if asked is not None and asked > tx.now - LAPSE else ""
    if is_person(actor) and first and not first.startswith("(") and first != name:
        return ""
    if first != name and (is_person(actor) or not first):
        deletions.change(tx, deletion, purge_requested_by=name, purge_requested_at=tx.now)
        for kind, count in sorted(counts.items()):
            tx.audit(
                actor, f"{kind}.purge_proposed", count=count, deletion_id=deletion.id, reason=reason, ticket=ticket
            )
        asked = tx.now
    until = (asked or tx.now) + LAPSE
    return (
        f"the consent of a second person: somebody other than {first or name} has to purge deletion {deletion.id} "
        f"before {until.isoformat()}"
    )


def is_person(actor: Actor) -> bool:
    """Whether this is somebody who can agree."""
    return not actor.agent and actor.client != "worker"
