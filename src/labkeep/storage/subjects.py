"""Which rows speak of whom, by the fields that the rules declare: an index by digest, so that finding is instant.

It only grows while rows are written over: an old state speaks of whom it spoke. What erases or purges rows cleans it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import and_, delete, select

from labkeep.core import rules
from labkeep.core.access import Actor
from labkeep.core.entities import Item, Json
from labkeep.core.erasures import digest_of
from labkeep.core.paths import leaves_of
from labkeep.storage import jobs
from labkeep.storage import tables as t
from labkeep.storage.rows import Revision
from labkeep.storage.transaction import Tx

_s = t.subjects.c

BATCH = 500


def declared(tx: Tx, owner: Item) -> tuple[str, ...]:
    """The fields that name a person, where ``owner`` is. One look for each write."""
    i, p, w, o = t.items.c, t.projects.c, t.workspaces.c, t.organizations.c
    joined = (
        t.projects.join(t.items, and_(i.organization_id == p.organization_id, i.id == p.id))
        .join(t.workspaces, and_(w.organization_id == i.organization_id, w.id == i.workspace_id))
        .join(t.organizations, o.id == p.organization_id)
    )
    query = select(o.settings, w.settings, p.settings).select_from(joined)
    found = tx.execute(query.where(p.organization_id == owner.organization_id, p.id == owner.project_id)).first()
    if found is None or not any("subject_fields" in level for level in found):
        return ()
    return rules.combine(rules.read(level) for level in found).subject_fields


def declared_in(tx: Tx, actor: Actor) -> set[str]:
    """The fields that are declared anywhere in the actor's workspace."""
    i, p, w, o = t.items.c, t.projects.c, t.workspaces.c, t.organizations.c
    inside = t.projects.join(t.items, and_(i.organization_id == p.organization_id, i.id == p.id))
    levels = [
        select(o.settings).where(o.id == actor.organization_id),
        select(w.settings).where(w.organization_id == actor.organization_id, w.id == actor.workspace_id),
        select(p.settings)
        .select_from(inside)
        .where(i.organization_id == actor.organization_id, i.workspace_id == actor.workspace_id),
    ]
    return {
        field for query in levels for (settings,) in tx.execute(query) for field in rules.read(settings).subject_fields
    }


def turn(tx: Tx, actor: Actor, before: Json, after: Json) -> None:
    """Settings change: where they declare another field, rows that are there already are indexed by a job."""
    if set(rules.read(after).subject_fields) - set(rules.read(before).subject_fields):
        jobs.enqueue(tx, actor, "erasure.index", {"workspace_id": actor.workspace_id})


def note(tx: Tx, owner: Item, fields: Sequence[str], revisions: Iterable[Revision]) -> None:
    """Index rows by the values of declared fields."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for revision in revisions:
        if fields and not revision.deleted:
            for digest in digests(fields, revision.data):
                key = {"organization_id": owner.organization_id, "owner_id": owner.id, "row_id": revision.id}
                rows[revision.id, digest] = key | {"digest": digest}
    tx.upsert(t.subjects, rows.values())


def digests(fields: Sequence[str], data: dict[str, Any]) -> set[str]:
    """What a row is found by."""
    values = dict(leaves_of(data))
    found = ((field, values.get(field)) for field in fields)
    return {digest_of(field, value) for field, value in found if isinstance(value, str | int | float) and value != ""}


def owners(tx: Tx, organization_id: str, digest: str, after: str, limit: int) -> list[str]:
    """Runs and documents with rows of this person, in order of ids."""
    mine = (_s.organization_id == organization_id, _s.digest == digest)
    query = select(_s.owner_id).where(*mine, *([_s.owner_id > after] if after else [])).distinct()
    return [row[0] for row in tx.execute(query.order_by(_s.owner_id).limit(limit))]


def rows_of(tx: Tx, organization_id: str, digest: str, owner_id: str) -> list[str]:
    """Rows of one owner that speak, or spoke, of this person."""
    mine = (_s.organization_id == organization_id, _s.digest == digest, _s.owner_id == owner_id)
    return [row[0] for row in tx.execute(select(_s.row_id).where(*mine).order_by(_s.row_id))]


def forget(tx: Tx, owner: Item, ids: Sequence[str]) -> None:
    """Drop rows from the index."""
    for start in range(0, len(ids), BATCH):
        mine = (_s.organization_id == owner.organization_id, _s.owner_id == owner.id)
        tx.execute(delete(t.subjects).where(*mine, _s.row_id.in_(ids[start : start + BATCH])))
