"""What ends by the clock: artifact versions that were wanted for a time only, and drafts that nobody commits."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import msgspec
from sqlalchemy import delete, func, select

from labkeep.core.access import Actor
from labkeep.core.commands import ItemVerb
from labkeep.core.entities import ArtifactVersion
from labkeep.core.lifecycle import Kind, State
from labkeep.operations import deletions, drafts, holds
from labkeep.operations.drafts import EXPIRES, STARTED
from labkeep.storage import blob_refs, purge, records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

FIRST = "00000000-0000-0000-0000-000000000000"
"""Before the ids of all objects."""

BATCH = 500
"""Versions or drafts that are looked at in one transaction."""


class Due(msgspec.Struct, frozen=True):
    """A version or draft whose time has come, and where it is."""

    organization_id: str
    workspace_id: str
    id: str


class Until(msgspec.Struct, frozen=True):
    """What was due at a moment, beyond the last one that was looked at."""

    moment: datetime
    after: str = FIRST
    limit: int = BATCH


def expired(tx: Tx, _actor: Actor, command: Until) -> list[Due]:
    """The next versions, in every organization, that nobody wants any more."""
    return _due(tx, EXPIRES, command)


def abandoned(tx: Tx, _actor: Actor, command: Until) -> list[Due]:
    """The next drafts that were started before a moment."""
    return _due(tx, STARTED, command)


def _due(tx: Tx, path: str, command: Until) -> list[Due]:
    """Project by project, as the index has them: a workspace without such versions costs a look for each project."""
    f, c, p = t.fields.c, t.items.c, t.items.alias()
    query = (
        select(c.organization_id, c.workspace_id, c.id)
        .select_from(p)
        .join(t.fields, (f.organization_id == p.c.organization_id) & (f.project_id == p.c.id))
        .join(t.items, (c.organization_id == f.organization_id) & (c.id == f.item_id))
        .where(p.c.kind == Kind.project, p.c.state == State.active)
        .where(f.path == path, f.type == "n", f.num.is_not(None), f.num <= command.moment.timestamp())
        .where(c.kind == Kind.artifact_version, c.state == State.active, c.id > command.after)
    )
    return [Due(*row) for row in tx.execute(query.order_by(c.id).limit(command.limit))]


def trash_expired(tx: Tx, actor: Actor, id: str) -> bool:
    """Trash one version whose time is over; False when a hold keeps it.

    Raises what else keeps it: a lock, an alias, a rule of the project. It is tried again later.
    """
    if holds.holding(tx, actor, [id]):
        return False
    deletions.trash_item(tx, actor, ItemVerb(id=id, reason="its time to live is over"))
    return True


class Discard(msgspec.Struct, frozen=True):
    """A draft, unless a file came after this moment."""

    id: str
    before: datetime


def discard(tx: Tx, actor: Actor, command: Discard) -> bool:
    """Remove a draft with its files, for good: nobody ever saw it. False when it is in use or committed."""
    found = records.find_ids(tx, ArtifactVersion, actor, [command.id]).get(command.id)
    if found is None or not drafts.is_draft(found) or holds.holding(tx, actor, [found.id]):
        return False
    f = t.files.c
    mine = (f.organization_id == found.organization_id, f.owner_id == found.id)
    newest = tx.execute(select(func.max(f.created_at)).where(*mine)).scalar_one()
    if newest is not None and newest >= command.before:
        return False
    blob_refs.release(tx, found.organization_id, Counter(row[0] for row in tx.execute(select(f.digest).where(*mine))))
    for table, column in purge.OWNED:
        same = (table.c.organization_id == found.organization_id, table.c[column] == found.id)
        tx.execute(delete(table).where(*same))
    c = t.items.c
    tx.execute(delete(t.items).where(c.organization_id == found.organization_id, c.id == found.id))
    tx.audit(actor, "artifact_version.discarded", found.id, started_at=found.created_at.isoformat())
    return True
