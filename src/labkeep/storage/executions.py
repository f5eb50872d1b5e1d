"""What a large job has before it: one row in ``job_items`` for each object, taken away as it is dealt with.

What stays in the end are the objects that the job left as they were, each with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, delete, func, insert, literal, select, true, type_coerce, update
from sqlalchemy.types import NullType

from labkeep.core.access import Actor
from labkeep.core.commands import Page
from labkeep.core.commands_jobs import JobItem, ListJobItems
from labkeep.core.deletion import Candidate
from labkeep.core.entities import Deletion, Job
from labkeep.core.lifecycle import LIVE, Kind, State, Verb
from labkeep.storage import column_types as types
from labkeep.storage import tables as t
from labkeep.storage.packed import packed, unpacked
from labkeep.storage.pages import cut, decode_id_cursor
from labkeep.storage.transaction import Tx

WAITING = ("waiting:1", "waiting:2", "waiting:3")
"""Outcomes of what is still to be dealt with, in the order in which that is done."""

_CONTAINERS = {Kind.artifact: 1, Kind.project: 2}


def turn_of(verb: Verb, kind: Kind) -> str:
    """When an object's turn comes: containers come back before what is in them, and go after it."""
    depth = _CONTAINERS.get(kind, 0)
    if verb == Verb.restore:
        return WAITING[2 - depth]
    return WAITING[depth if verb in (Verb.trash, Verb.purge) else 0]


class Waiting(NamedTuple):
    """One object that waits: when its turn comes, and a digest of what was looked at when it was chosen."""

    item_id: str
    turn: str
    seen: str


class Batch(NamedTuple):
    """Objects of one turn whose ids lie between two."""

    organization_id: str
    job_id: str
    turn: str
    seen: dict[str, str]

    def query(self) -> Select[Any]:
        """The ids of those that still wait, as a query."""
        c = t.job_items.c
        mine = (c.organization_id == self.organization_id, c.job_id == self.job_id, c.outcome == self.turn)
        return select(c.item_id).where(*mine, c.item_id.between(min(self.seen), max(self.seen)))


def stage(tx: Tx, job: Job, waiting: Sequence[Waiting]) -> None:
    """Note what a job has before it, once: what an earlier attempt had noted is forgotten by now."""
    names = ("organization_id", "job_id", "item_id", "outcome", "reason")
    for turn in dict.fromkeys(one.turn for one in waiting):
        here = [one for one in waiting if one.turn == turn]
        rows = packed([one.item_id for one in here], tx.database, [one.seen for one in here]).subquery()
        id, seen = rows.c
        key = (literal(job.organization_id, types.Id()), literal(job.id, types.Id()))
        noted = select(*key, id, literal(turn, types.TEXT), seen)
        tx.execute(insert(t.job_items).from_select(names, noted, include_defaults=False))


def _put(tx: Tx, organization_id: str, job_id: str, rows: Sequence[tuple[str, str, str]]) -> None:
    names = ("item_id", "outcome", "reason")
    key = {"organization_id": organization_id, "job_id": job_id}
    tx.upsert(t.job_items, [{**key, **dict(zip(names, row, strict=True))} for row in rows])


def unstage(tx: Tx, job: Job, limit: int) -> int:
    """Forget some of what a job still has before it; answers how many that was."""
    c = t.job_items.c
    mine = (c.organization_id == job.organization_id, c.job_id == job.id, c.outcome.in_(WAITING))
    some = [row[0] for row in tx.execute(select(c.item_id).where(*mine).order_by(c.item_id).limit(limit))]
    if some:
        tx.execute(delete(t.job_items).where(*mine, c.item_id.between(some[0], some[-1])))
    return len(some)


def next_batch(tx: Tx, job: Job, limit: int) -> Batch | None:
    """The next objects whose turn it is; None when nothing waits any more."""
    c = t.job_items.c
    for turn in WAITING:
        mine = (c.organization_id == job.organization_id, c.job_id == job.id, c.outcome == turn)
        query = select(type_coerce(c.item_id, NullType()), c.reason).where(*mine).order_by(c.item_id).limit(limit)
        rows = tx.execute(query).all()
        seen = dict(zip(unpacked([row[0] for row in rows], tx.database), [row[1] for row in rows], strict=True))
        if seen:
            return Batch(job.organization_id, job.id, turn, seen)
    return None


def set_aside(tx: Tx, batch: Batch, left: Sequence[JobItem]) -> None:
    """Note what a batch leaves as it is, and why."""
    _put(tx, batch.organization_id, batch.job_id, [(one.item_id, one.outcome, one.reason) for one in left])


def settle(tx: Tx, batch: Batch) -> None:
    """Take away what a batch has dealt with."""
    c = t.job_items.c
    mine = (c.organization_id == batch.organization_id, c.job_id == batch.job_id, c.outcome == batch.turn)
    tx.execute(delete(t.job_items).where(*mine, c.item_id.between(min(batch.seen), max(batch.seen))))


def still_waiting(tx: Tx, batch: Batch, ids: Sequence[str]) -> set[str]:
    """Which of ``ids`` the job has before it."""
    c = t.job_items.c
    mine = (c.organization_id == batch.organization_id, c.job_id == batch.job_id, c.outcome.in_(WAITING))
    found: set[str] = set()
    for start in range(0, len(ids), 500):
        query = select(c.item_id).where(*mine, c.item_id.in_(ids[start : start + 500]))
        found.update(row[0] for row in tx.execute(query))
    return found


def living_in(tx: Tx, actor: Actor, containers: Sequence[Candidate]) -> dict[str, int]:
    """How many live objects are in each of ``containers`` that has any."""
    c = t.items.c
    found: dict[str, int] = {}
    for column, kind, there in ((c.project_id, Kind.project, true()), (c.parent_id, Kind.artifact, t.in_artifact)):
        ids = [one.id for one in containers if one.kind == kind]
        if ids:
            mine = (c.organization_id == actor.organization_id, column.in_(ids), there, c.state.in_(LIVE))
            query = select(column, func.count()).where(*mine).group_by(column)
            found.update((id, count) for id, count in tx.execute(query))
    return found


def move_to_trash(tx: Tx, actor: Actor, deletion: Deletion, batch: Batch) -> None:
    """Put what is left of a batch into the trash, as members of ``deletion``."""
    c = t.items.c
    mine = (c.organization_id == actor.organization_id, c.id.in_(batch.query()), c.state.in_(LIVE))
    moved = {"state": State.trashed, "deletion_id": deletion.id, "version": c.version + 1, "updated_at": tx.now}
    tx.execute(update(t.items).where(*mine).values(moved))


def set_state(tx: Tx, actor: Actor, state: State, batch: Batch) -> None:
    """Archive or unarchive what is left of a batch."""
    c = t.items.c
    moved = {"state": state, "version": c.version + 1, "updated_at": tx.now}
    mine = (c.organization_id == actor.organization_id, c.id.in_(batch.query()))
    tx.execute(update(t.items).where(*mine).values(moved))


def waiting_of(tx: Tx, batch: Batch, deletion_id: str) -> int:
    """How much of what a deletion holds the job has before it."""
    c, i = t.job_items.c, t.items.c
    mine = (c.organization_id == batch.organization_id, c.job_id == batch.job_id, c.outcome.in_(WAITING))
    joined = t.job_items.join(t.items, and_(i.organization_id == c.organization_id, i.id == c.item_id))
    query = select(func.count()).select_from(joined).where(*mine, i.deletion_id == deletion_id)
    return int(tx.execute(query).scalar_one())


def list_items(tx: Tx, job: Job, command: ListJobItems) -> Page[JobItem]:
    """What a job left as it was, by id."""
    c = t.job_items.c
    query = select(c.item_id, c.outcome, c.reason).where(
        c.organization_id == job.organization_id, c.job_id == job.id, c.outcome.not_in(WAITING)
    )
    if command.outcome:
        query = query.where(c.outcome == command.outcome)
    if command.cursor is not None:
        query = query.where(c.item_id > decode_id_cursor(command.cursor))
    rows = tx.all(query.order_by(c.item_id).limit(command.limit + 1))
    return cut([JobItem(**row) for row in rows], command.limit, lambda one: one.item_id)
