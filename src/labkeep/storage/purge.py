"""Removing for good, in SQL: every table that may hold something of an object, in one list that the check reads too."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Table, and_, bindparam, delete, func, or_, select, text, type_coerce, update

from labkeep.core.lifecycle import State
from labkeep.storage import column_types as types
from labkeep.storage import data_keys
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

OWNED: tuple[tuple[Table[Any], str], ...] = (
    (t.fields, "item_id"),
    (t.chunks, "run_id"),
    (t.segments, "run_id"),
    (t.removals, "item_id"),
    (t.subjects, "owner_id"),
    (t.series, "run_id"),
    (t.streams, "run_id"),
    (t.files, "owner_id"),
    (t.rows, "owner_id"),
    (t.row_scores, "owner_id"),
    (t.versions, "document_id"),
    (t.environments, "project_id"),
    (t.links, "source_id"),
    (t.links, "target_id"),
    (t.deletion_bindings, "item_id"),
    (t.policies, "project_id"),
    (t.projects, "id"),
    (t.runs, "id"),
    (t.documents, "id"),
    (t.artifacts, "id"),
    (t.artifact_versions, "id"),
)
"""Table and the column that names the owner: everything that goes with an object."""

REFERRING: tuple[tuple[Table[Any], str, str], ...] = (
    (t.files, "owner_id", "size"),
    (t.segments, "run_id", "size"),
    (t.removals, "item_id", "bytes"),
)
"""Table whose rows may hold a reference to a blob (an empty digest is none), and its columns for the owner and the size."""

BLANK: dict[str, Any] = {
    "type": "",
    "name": "",
    "handle": None,
    "description": "",
    "tags": (),
    "metadata": {},
    "extra": {},
    "dialect": "",
    "bytes": 0,
    "locked": False,
    "created_by": "",
}
"""What a tombstone keeps of the columns that hold content: nothing."""


def members_left(tx: Tx, organization_id: str, deletion_id: str, limit: int) -> list[str]:
    """The next members that are not purged yet."""
    m = t.deletion_members.c
    mine = (m.organization_id == organization_id, m.deletion_id == deletion_id, m.outcome == "trashed")
    return [row[0] for row in tx.execute(select(m.item_id).where(*mine).order_by(m.item_id).limit(limit))]


def remove(tx: Tx, organization_id: str, deletion_id: str, ids: Sequence[str]) -> None:
    """Remove everything that belongs to ``ids``, drop their blob references, and leave tombstones."""
    data_keys.destroy_of(tx, organization_id, ids)
    _release(tx, organization_id, deletion_id, ids)
    _note(tx, organization_id, deletion_id, ids)
    e = t.environments.c
    bound = (e.organization_id == organization_id, e.document_id.in_(ids))
    tx.execute(update(t.environments).where(*bound).values(document_id=None, number=None, updated_at=tx.now))
    for table, column in OWNED:
        tx.execute(delete(table).where(table.c.organization_id == organization_id, table.c[column].in_(ids)))
    _blank(tx, organization_id, ids)


def _note(tx: Tx, organization_id: str, deletion_id: str, ids: Sequence[str]) -> None:
    """What the record of each object keeps for those who ask later: how its run had ended, and who had made it."""
    m, r, i = t.deletion_members.c, t.runs.c, t.items.c
    status = select(r.status).where(r.organization_id == m.organization_id, r.id == m.item_id).scalar_subquery()
    maker = select(i.created_by).where(i.organization_id == m.organization_id, i.id == m.item_id).scalar_subquery()
    mine = (m.organization_id == organization_id, m.deletion_id == deletion_id, m.item_id.in_(ids))
    kept = {"status": type_coerce(func.coalesce(status, ""), types.TEXT), "created_by": func.coalesce(maker, "")}
    tx.execute(update(t.deletion_members).where(*mine).values(outcome="purged", **kept))


def _blank(tx: Tx, organization_id: str, ids: Sequence[str]) -> None:
    """Make tombstones: of a name only its digest stays, which tells nobody a name that they do not know."""
    i = t.items.c
    named = tx.execute(select(i.id, i.name).where(i.organization_id == organization_id, i.id.in_(ids)))
    digests = [{"which": row[0], "digest": name_digest(row[1])} for row in named if row[1]]
    blank = {**BLANK, "state": State.purged, "version": i.version + 1, "updated_at": tx.now}
    tx.execute(update(t.items).where(i.organization_id == organization_id, i.id.in_(ids)).values(blank))
    if digests:
        same = (i.organization_id == organization_id, i.id == bindparam("which"))
        tx.execute(update(t.items).where(*same).values(name_digest=bindparam("digest")), digests)


def name_digest(name: str) -> str:
    """What stays of a name: SHA-256 in hex over its UTF-8."""
    return hashlib.sha256(name.encode()).hexdigest()


def _release(tx: Tx, organization_id: str, deletion_id: str, ids: Sequence[str]) -> None:
    dropped: Counter[str] = Counter()
    held: dict[str, int] = {}
    for table, column, size_column in REFERRING:
        mine = (table.c.organization_id == organization_id, table.c[column].in_(ids), table.c.digest != "")
        for digest, size in tx.execute(select(table.c.digest, table.c[size_column]).where(*mine)):
            dropped[digest] += 1
            held[digest] = size
    if dropped:
        who = {"organization_id": organization_id, "deletion_id": deletion_id}
        tx.upsert(t.purge_blobs, [{**who, "digest": digest, "size": size} for digest, size in held.items()])
        b = t.blobs.c
        same = (b.organization_id == organization_id, b.digest == bindparam("which"))
        statement = update(t.blobs).where(*same).values(refs=b.refs - bindparam("dropped"))
        tx.execute(statement, [{"which": digest, "dropped": count} for digest, count in dropped.items()])


def forget_answers(tx: Tx, organization_id: str) -> None:
    """Drop what may quote what was purged: plans, stored answers to repeated requests, and jobs that failed for good.

    That a request was answered is still known, so that sending it again does not do it again.
    """
    p, k, j = t.plans.c, t.idempotency_keys.c, t.jobs.c
    tx.execute(delete(t.plans).where(p.organization_id == organization_id))
    # In the words of the index `idempotency_quoting`, or SQLite would read every key there is.
    answered = update(t.idempotency_keys).where(k.organization_id == organization_id, text("length(response) > 0"))
    tx.execute(answered.values(response=b""))
    tx.execute(delete(t.jobs).where(j.organization_id == organization_id, j.task == "seal", j.state == "failed"))


# --- blobs ------------------------------------------------------------------------------------------------------------


def begin_sweep(tx: Tx, organization_id: str, before: datetime, limit: int) -> dict[str, int]:
    """Mark blobs that nothing refers to and that were last uploaded before a moment; answers digest → bytes.

    A marked blob cannot be referred to any more, so its bytes can go without a race.
    """
    b = t.blobs.c
    idle = (b.organization_id == organization_id, b.refs <= 0, or_(b.created_at < before, b.swept_at.is_not(None)))
    query = select(b.digest, b.size).where(*idle).order_by(b.digest).limit(limit)
    # Locked: on PostgreSQL somebody may refer to one of them between the two statements. That one is not idle.
    query = query.with_for_update(skip_locked=True)
    found = {row[0]: row[1] for row in tx.execute(query)}
    if found:
        marked = update(t.blobs).where(b.organization_id == organization_id, b.digest.in_([*found]), b.refs <= 0)
        tx.execute(marked.values(swept_at=tx.now))
    return found


def adopt(tx: Tx, organization_id: str, strays: Mapping[str, int]) -> list[str]:
    """Record blobs (digest → bytes) that nothing records, as marked for removal; answers their digests."""
    b = t.blobs.c
    query = select(b.digest).where(b.organization_id == organization_id, b.digest.in_([*strays]))
    known = {row[0] for row in tx.execute(query)}
    rows = [
        {
            "organization_id": organization_id,
            "digest": digest,
            "size": size,
            "refs": 0,
            "swept_at": tx.now,
            "created_at": types.EPOCH,
        }
        for digest, size in strays.items()
        if digest not in known
    ]
    tx.insert(t.blobs, rows)
    return [str(row["digest"]) for row in rows]


def discard(tx: Tx, organization_id: str, digest: str) -> bool:
    """Mark one blob for removal, whatever its age; False when something refers to it."""
    b = t.blobs.c
    idle = (b.organization_id == organization_id, b.digest == digest, b.refs <= 0)
    return tx.execute(update(t.blobs).where(*idle).values(swept_at=tx.now)).rowcount == 1


def end_sweep(tx: Tx, organization_id: str, digests: Sequence[str]) -> None:
    """Forget blobs whose bytes are gone."""
    b = t.blobs.c
    gone = (b.organization_id == organization_id, b.digest.in_(digests), b.swept_at.is_not(None))
    tx.execute(delete(t.blobs).where(*gone))


def organizations_with_idle_blobs(tx: Tx, before: datetime) -> list[str]:
    """Organizations that have blobs to sweep."""
    b = t.blobs.c
    idle = (b.refs <= 0, b.created_at < before)
    return [row[0] for row in tx.execute(select(b.organization_id).where(*idle).distinct())]


# --- verification -----------------------------------------------------------------------------------------------------


class Members(NamedTuple):
    """Some members of a deletion, in order of their ids, and the rows that are still there of them, by table."""

    found: list[tuple[str, str]]
    """Id and kind."""
    left: dict[str, int]


def look(tx: Tx, organization_id: str, deletion_id: str, after: str | None, limit: int) -> Members:
    """The next members that were to be purged, and what every table still has of them: nothing, after a purge."""
    m = t.deletion_members.c
    mine = [m.organization_id == organization_id, m.deletion_id == deletion_id, m.outcome.in_(("purged", "trashed"))]
    if after is not None:
        mine.append(m.item_id > after)
    query = select(m.item_id, m.kind, m.outcome).where(*mine).order_by(m.item_id).limit(limit)
    rows = tx.execute(query).all()
    members = Members([(row[0], str(row[1])) for row in rows], {})
    ids = [id for id, _ in members.found]
    if ids:
        members.left.update(leftovers(tx, organization_id, ids))
    if waiting := sum(row[2] == "trashed" for row in rows):
        members.left["deletion_members"] = waiting
    return members


def leftovers(tx: Tx, organization_id: str, ids: Sequence[str]) -> dict[str, int]:
    """Rows that are still there of ``ids``, by table; empty when all of it is gone."""
    found: dict[str, int] = {}
    for table, column in OWNED:
        query = select(func.count()).where(table.c.organization_id == organization_id, table.c[column].in_(ids))
        count = tx.execute(query.select_from(table)).scalar_one()
        if count:
            found[table.name] = found.get(table.name, 0) + count
    k = t.data_keys.c
    live = (k.organization_id == organization_id, k.owner_id.in_(ids), k.wrapped.is_not(None))
    if count := tx.execute(select(func.count()).where(*live)).scalar_one():
        found["data_keys"] = count
    i = t.items.c
    full = [i[name].is_not(None) if value is None else i[name] != value for name, value in BLANK.items()]
    unblanked = (i.organization_id == organization_id, i.id.in_(ids), or_(i.state != State.purged, *full))
    count = tx.execute(select(func.count()).select_from(t.items).where(*unblanked)).scalar_one()
    if count:
        found["items"] = count
    return found


class HeldBlob(NamedTuple):
    """A blob that a purged object referred to. It must be gone, unless it is ``kept`` for somebody else."""

    digest: str
    size: int
    kept: bool


def held_blobs(
    tx: Tx, organization_id: str, deletion_id: str, after: str, since: datetime, limit: int
) -> list[HeldBlob]:
    """The next blobs, in order of digests, that a purge has to find gone.

    Kept is what something refers to, and what was uploaded again after ``since``, when the purge was asked for.
    """
    b, h = t.blobs.c, t.purge_blobs.c
    same = and_(b.organization_id == h.organization_id, b.digest == h.digest)
    mine = (h.organization_id == organization_id, h.deletion_id == deletion_id, h.digest > after)
    query = select(h.digest, h.size, b.refs, b.created_at, b.swept_at).select_from(
        t.purge_blobs.outerjoin(t.blobs, same)
    )
    return [
        HeldBlob(digest, size, refs is not None and swept_at is None and (refs > 0 or created_at >= since))
        for digest, size, refs, created_at, swept_at in tx.execute(query.where(*mine).order_by(h.digest).limit(limit))
    ]


def hold_blob(tx: Tx, organization_id: str, purge_id: str, digest: str, size: int) -> None:
    """Note a blob to which a purge gave up a reference, so that it is looked for; unreferenced it is swept, however young."""
    tx.upsert(
        t.purge_blobs, [{"organization_id": organization_id, "deletion_id": purge_id, "digest": digest, "size": size}]
    )
    discard(tx, organization_id, digest)


def forget_blobs(tx: Tx, organization_id: str, deletion_id: str) -> None:
    """Drop the list of blobs that a purge had to find gone."""
    h = t.purge_blobs.c
    tx.execute(delete(t.purge_blobs).where(h.organization_id == organization_id, h.deletion_id == deletion_id))
