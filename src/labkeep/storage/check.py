"""Does everything fit together? Database ↔ history ↔ blobs, in both directions, as a report with a repair plan.

Reads only, in bounded memory, and may run beside a server: what is younger than `IN_FLIGHT` may be half-way and is not
held against anybody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, and_, exists, func, select, type_coerce, union_all

from labkeep.core.errors import Corrupt, NotFound
from labkeep.core.ids import IdSource, is_id
from labkeep.core.lifecycle import Kind, State
from labkeep.storage import check_keys, destroyed_keys, signing, trails, usage
from labkeep.storage import column_types as types
from labkeep.storage import tables as t
from labkeep.storage.blobs import Blobs
from labkeep.storage.check_problem import Check, Problem, Subject
from labkeep.storage.executions import WAITING
from labkeep.storage.histories import opened
from labkeep.storage.metrics import Place
from labkeep.storage.purge import OWNED, REFERRING
from labkeep.storage.transaction import Tx

IN_FLIGHT = timedelta(hours=1)
"""Age below which a blob without a record is somebody's upload."""

SHOWN = 1_000
"""Problems listed; all are counted."""


class Report(msgspec.Struct, frozen=True):
    """What was looked at, and what does not fit."""

    checked: dict[str, int]
    problems: list[Problem]
    found: int
    deep: bool

    @property
    def clean(self) -> bool:
        """Whether everything fits."""
        return self.found == 0


def run(
    connection: Connection,
    blobs: Blobs,
    now: datetime,
    reader: Tx | None = None,
    *,
    deep: bool = False,
    only: Collection[str] = (),
) -> Report:
    """Run every check. ``deep`` also reads and hashes every blob and decodes every chunk and segment.

    ``reader`` opens what is encrypted; without it there are no master keys. ``only`` names the checks to run.
    """
    reader = reader or Tx(connection, now, IdSource(), connection.dialect.name)
    checked: dict[str, int] = {}
    problems: list[Problem] = []
    found = 0
    for name, check in CHECKS.items():
        if only and name not in only:
            continue
        checked[name] = 0
        for result in check(Subject(connection, blobs, now, deep, reader)):
            if isinstance(result, int):
                checked[name] += result
                continue
            found += 1
            if len(problems) < SHOWN:
                problems.append(result)
    return Report(checked, problems, found, deep)


def _pages(s: Subject) -> Iterator[Problem | int]:
    """SQLite's own look at its pages."""
    if s.connection.dialect.name != "sqlite":
        return
    for (message,) in s.connection.exec_driver_sql("PRAGMA quick_check(100)"):
        if message != "ok":
            yield Problem("pages", "labkeep.db", str(message), "restore the database file from a backup")
    yield 1


def _extensions(s: Subject) -> Iterator[Problem | int]:
    """Every object has the row of its kind, and no row of a kind is without its object."""
    kinds: dict[Kind, Any] = {
        Kind.project: t.projects,
        Kind.run: t.runs,
        Kind.document: t.documents,
        Kind.artifact: t.artifacts,
        Kind.artifact_version: t.artifact_versions,
    }
    i = t.items.c
    for kind, table in kinds.items():
        same = and_(table.c.organization_id == i.organization_id, table.c.id == i.id)
        alive = (i.kind == kind, i.state != State.purged)
        yield s.connection.execute(select(func.count()).select_from(t.items).where(*alive)).scalar_one()
        for (id,) in s.connection.execute(
            select(i.id).where(*alive, ~exists(select(1).select_from(table).where(same)))
        ):
            yield Problem("objects", f"{kind} {id}", f"has no row in {table.name}", "restore it from a backup")


def _owners(s: Subject) -> Iterator[Problem | int]:
    """Whatever belongs to an object belongs to one that is there."""
    i = t.items.c
    for table, column in OWNED:
        owner = table.c[column]
        there = exists(
            select(1).where(i.organization_id == table.c.organization_id, i.id == owner, i.state != State.purged)
        )
        yield s.connection.execute(select(func.count()).select_from(table)).scalar_one()
        lost = select(owner, func.count()).where(owner.is_not(None), ~there)  # a policy may belong to no project
        for id, count in s.connection.execute(lost.group_by(owner)):
            yield Problem(
                "owners", f"{table.name} {id}", f"{count} rows without their object", f"delete them from {table.name}"
            )


def _references() -> Any:
    tables = [table.c for table, *_ in REFERRING]
    return union_all(*(select(c.organization_id, c.digest).where(c.digest != "") for c in tables)).subquery("held")


def _reference_counts(s: Subject) -> Iterator[Problem | int]:
    """Every blob is referred to as often as its count says, and every reference has its blob."""
    held = _references()
    counted = select(held.c.organization_id, held.c.digest, func.count().label("refs")).group_by(
        held.c.organization_id, held.c.digest
    )
    used, b = counted.subquery("used"), t.blobs.c
    same = and_(b.organization_id == used.c.organization_id, b.digest == used.c.digest)
    yield s.connection.execute(select(func.count()).select_from(t.blobs)).scalar_one()
    query = select(b.digest, b.refs, func.coalesce(used.c.refs, 0)).select_from(t.blobs.outerjoin(used, same))
    for digest, refs, actual in s.connection.execute(query.where(b.refs != func.coalesce(used.c.refs, 0))):
        yield Problem("references", digest, f"counts {refs} references but has {actual}", f"set blobs.refs to {actual}")
    missing = select(used.c.digest).select_from(used.outerjoin(t.blobs, same)).where(b.digest.is_(None))
    for (digest,) in s.connection.execute(missing):
        yield Problem(
            "references", digest, "is referred to but not recorded", "upload the content again, or remove the file"
        )


def _blobs_there(s: Subject) -> Iterator[Problem | int]:
    """Every recorded blob is in the store, whole."""
    b = t.blobs.c
    query = select(type_coerce(b.organization_id, types.Id), b.digest, b.size, b.refs).where(b.swept_at.is_(None))
    for organization_id, digest, size, refs in s.connection.execute(query.execution_options(yield_per=1000)):
        yield 1
        if refs <= 0:
            continue  # nothing needs it; a sweep may be taking it away at this moment
        try:
            actual = s.blobs.size(organization_id, digest)
        except NotFound:
            yield Problem("blobs", digest, "is missing from the blob store", "restore it from a backup")
            continue
        except Corrupt as error:
            yield Problem("blobs", digest, str(error), "restore it from a backup")
            continue
        if actual != size:
            yield Problem("blobs", digest, f"has {actual} bytes instead of {size}", "restore it from a backup")
        elif s.deep:
            yield from _content(s, organization_id, digest)


def _content(s: Subject, organization_id: str, digest: str) -> Iterator[Problem | int]:
    try:
        if s.blobs.verify(organization_id, digest):
            return
        message = "does not have the content that its name says"
    except check_keys.UNREADABLE as error:
        message = str(error)
    yield Problem("blobs", digest, message, "restore it from a backup")


def _blobs_known(s: Subject) -> Iterator[Problem | int]:
    """Every object in the blob store is recorded."""
    b = t.blobs.c
    for listed in s.blobs.list():
        yield 1
        if listed.space == destroyed_keys.SPACE:
            continue
        if not is_id(listed.space):
            yield Problem(
                "orphans",
                f"{listed.space}/{listed.digest}",
                "belongs to no organization",
                "delete it from the blob store",
            )
            continue
        known = select(b.refs).where(b.organization_id == listed.space, b.digest == listed.digest)
        if s.now - listed.modified_at > IN_FLIGHT and s.connection.execute(known).first() is None:
            yield Problem(
                "orphans", listed.digest, f"{listed.size} bytes that nothing records", "delete it from the blob store"
            )


def _histories(s: Subject) -> Iterator[Problem | int]:
    """Streams end where their chunks and segments end; with ``deep``, each of them can be read."""
    c, g, r = t.chunks.c, t.segments.c, t.streams.c
    ends = union_all(
        select(c.organization_id, c.run_id, c.stream, (c.first_row + c.rows).label("until")),
        select(g.organization_id, g.run_id, g.stream, (g.first_row + g.rows).label("until")),
    ).subquery("ends")
    furthest = (
        select(ends.c.run_id, ends.c.stream, func.max(ends.c.until).label("until")).group_by(
            ends.c.run_id, ends.c.stream
        )
    ).subquery("furthest")
    same = and_(furthest.c.run_id == r.run_id, furthest.c.stream == r.stream)
    query = select(furthest.c.run_id, furthest.c.stream, furthest.c.until, r.rows).select_from(
        furthest.outerjoin(t.streams, same)
    )
    for run_id, stream, until, rows in s.connection.execute(query):
        yield 1
        if rows is None or rows < until:
            yield Problem(
                "history",
                f"{run_id} {stream}",
                f"has rows up to {until} but counts {rows}",
                f"set streams.rows to {until}",
            )
    if s.deep:
        yield from _readable(s)


def _readable(s: Subject) -> Iterator[Problem | int]:
    from labkeep.storage import segments  # pyarrow is large, and only a deep check needs it
    from labkeep.storage.chunks import unpack

    c, g = t.chunks.c, t.segments.c
    columns = (c.organization_id, c.run_id, c.stream, c.first_row, c.rows, c.data)
    for row in s.connection.execute(select(*columns).execution_options(yield_per=100)):
        (run_id, stream, first, rows), place = row[1:5], Place(*row[:3])
        try:
            actual = len(unpack(opened(s.reader, place, first, rows, row[5]).data))
        except check_keys.UNREADABLE as error:
            yield Problem("history", f"{run_id} {stream} {first}", str(error), "restore the database from a backup")
            continue
        if actual != rows:
            yield Problem(
                "history", f"{run_id} {stream} {first}", f"holds {actual} rows, not {rows}", "restore from a backup"
            )
    for organization_id, run_id, stream, digest in s.connection.execute(
        select(g.organization_id, g.run_id, g.stream, g.digest)
    ):
        try:
            segments.read(s.blobs.read_all(organization_id, digest), keys=[])
        except check_keys.UNREADABLE as error:
            yield Problem("history", f"{run_id} {stream} {digest}", str(error), "restore the blob from a backup")


def _rows(s: Subject) -> Iterator[Problem | int]:
    """A row has one current state at the most."""
    r = t.rows.c
    current = select(r.owner_id, r.id, func.count()).where(r.next_xact.is_(None)).group_by(r.owner_id, r.id)
    yield s.connection.execute(select(func.count()).select_from(t.rows).where(r.next_xact.is_(None))).scalar_one()
    for owner_id, id, count in s.connection.execute(current.having(func.count() > 1)):
        yield Problem("rows", f"{owner_id} {id}", f"has {count} current states", "close all but the newest")


def _deletions(s: Subject) -> Iterator[Problem | int]:
    """What is in the trash belongs to a deletion, and deletions hold what they say."""
    i, d, m = t.items.c, t.deletions.c, t.deletion_members.c
    gone = i.state.in_((State.trashed, State.purged))
    held = exists(
        select(1).where(
            m.organization_id == i.organization_id,
            m.deletion_id == i.deletion_id,
            m.item_id == i.id,
            m.outcome == i.state,
        )
    )
    yield s.connection.execute(select(func.count()).select_from(t.items).where(gone)).scalar_one()
    for id, state in s.connection.execute(select(i.id, i.state).where(gone, ~held)):
        yield Problem("trash", str(id), f"is {state} but belongs to no deletion that says so", "restore it by hand")
    stray = exists(
        select(1).where(i.organization_id == m.organization_id, i.id == m.item_id, i.deletion_id == m.deletion_id)
    )
    for deletion_id, item_id in s.connection.execute(
        select(m.deletion_id, m.item_id).where(m.outcome.in_(("trashed", "purged")), ~stray)
    ):
        yield Problem(
            "trash",
            f"{deletion_id} {item_id}",
            "the deletion says it holds this object, which is elsewhere",
            "close it",
        )
    yield s.connection.execute(select(func.count(d.id))).scalar_one()
    yield from _unfinished(s)


def _unfinished(s: Subject) -> Iterator[Problem | int]:
    """Whatever is still being applied has a job that can go on, and only such jobs have work noted down."""
    d, j, i = t.deletions.c, t.jobs.c, t.job_items.c
    open_ = and_(j.state != "done", j.state != "cancelled")
    applying = select(d.organization_id, d.id).where(d.state == "applying")
    at_work = {
        (organization_id, payload.get("deletion_id"))
        for organization_id, payload in s.connection.execute(
            select(j.organization_id, j.payload).where(j.task == "apply", open_)
        )
    }
    for organization_id, id in s.connection.execute(applying):
        if (organization_id, id) not in at_work:
            yield Problem("trash", str(id), "is being applied, but no job is at it", "set its state to trashed")
    working = exists(select(1).where(j.organization_id == i.organization_id, j.id == i.job_id, open_))
    waiting = select(i.job_id, func.count()).where(i.outcome.in_(WAITING), ~working).group_by(i.job_id)
    for job_id, count in s.connection.execute(waiting):
        yield Problem(
            "trash", str(job_id), f"{count} objects wait for a job that is over", "delete them from job_items"
        )


def _sizes(s: Subject) -> Iterator[Problem | int]:
    """The bytes that each object is accounted are the bytes that it has."""
    parts: list[Select[Any]] = [
        select(t.chunks.c.run_id.label("id"), func.length(t.chunks.c.data).label("size")),
        select(t.segments.c.run_id.label("id"), t.segments.c.size),
        select(t.rows.c.owner_id.label("id"), t.rows.c.size),
        select(t.files.c.owner_id.label("id"), t.files.c.size),
        select(t.removals.c.item_id.label("id"), t.removals.c.bytes).where(t.removals.c.digest != ""),
    ]
    every = union_all(*parts).subquery("every")
    total = select(every.c.id, func.sum(every.c.size).label("size")).group_by(every.c.id).subquery("total")
    i = t.items.c
    counted = func.coalesce(total.c.size, 0)
    query = select(i.id, i.bytes, counted).select_from(t.items.outerjoin(total, total.c.id == i.id))
    yield s.connection.execute(select(func.count()).select_from(t.items)).scalar_one()
    for id, known, actual in s.connection.execute(query.where(i.bytes != counted, i.state != State.purged)):
        yield Problem("sizes", str(id), f"is accounted {known} bytes but has {actual}", f"set items.bytes to {actual}")


def _audit(s: Subject) -> Iterator[Problem | int]:
    """Every audit chain holds, and is what its signed checkpoints say."""
    h = t.audit_heads.c
    known = signing.keys_by_id(s.connection)
    for (organization_id,) in s.connection.execute(select(h.organization_id)).all():
        report = trails.examine(s.connection, organization_id, known)
        yield report.events - report.pruned
        who = f"organization {organization_id}"
        if report.first_break is not None:
            yield Problem("audit", who, f"the chain breaks at event {report.first_break}", NO_REPAIR)
        for problem in report.problems:
            yield Problem("audit", who, problem, NO_REPAIR)


def _receipts(s: Subject) -> Iterator[Problem | int]:
    """Every purge that was verified has one receipt, each receipt is signed by a key of ours, and none is without deed."""
    d, r = t.deletions.c, t.receipts.c
    known = signing.keys_by_id(s.connection)
    first = select(func.min(t.signing_keys.c.created_at)).scalar_subquery()
    mine = and_(r.organization_id == d.organization_id, r.subject_id == d.id, r.kind == "purge")
    counted = (
        select(d.id, func.count(r.id))
        .select_from(t.deletions.outerjoin(t.receipts, mine))
        .where(d.state == "purged", d.purged_at >= first)  # an older release issued none
        .group_by(d.organization_id, d.id)
        .having(func.count(r.id) != 1)
    )
    for id, count in s.connection.execute(counted):
        yield Problem("receipts", f"deletion {id}", f"is purged and has {count} receipts instead of one", NO_REPAIR)
    query = select(r.id, r.kind, r.subject_id, r.body, r.signing_key_id, r.signature)
    for row in s.connection.execute(query.execution_options(yield_per=500)):
        yield 1
        if problem := signing.problem_with(known, row.signing_key_id, row.signature, row.body):
            yield Problem("receipts", str(row.id), problem, NO_REPAIR)
    purged = exists(select(1).where(d.organization_id == r.organization_id, d.id == r.subject_id, d.state == "purged"))
    for id, subject in s.connection.execute(select(r.id, r.subject_id).where(r.kind == "purge", ~purged)):
        yield Problem("receipts", str(id), f"is about deletion {subject}, which is not purged", NO_REPAIR)


NO_REPAIR = "none: find out who did it"


def _usage(s: Subject) -> Iterator[Problem | int]:
    """The counters of who holds how much agree with the objects."""
    yield s.connection.execute(select(func.count()).select_from(t.usage_counters)).scalar_one()
    for line in usage.differences(s.connection):
        *_, kind, user, tag, state, items, size, should_items, should_bytes = line
        which = f"{state} {kind}s of {user}" + (f" with tag {tag}" if tag else "")
        counted = f"count {items} objects and {size} bytes, but there are {should_items} and {should_bytes}"
        yield Problem("usage", which, counted, "count again: drop the trigger usage_made and start the server")


CHECKS: dict[str, Check] = {
    "pages": _pages,
    "objects": _extensions,
    "owners": _owners,
    "references": _reference_counts,
    "blobs": _blobs_there,
    "orphans": _blobs_known,
    "keys": check_keys.keys,
    "history": _histories,
    "rows": _rows,
    "trash": _deletions,
    "sizes": _sizes,
    "usage": _usage,
    "audit": _audit,
    "receipts": _receipts,
}
"""Every check, in the order of the report."""
