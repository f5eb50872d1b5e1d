"""Histories that begin as another's, in SQL: segments are shared by reference, the rows after them are stored anew.

Segments never change, so two runs may refer to one; each counts it among its own bytes, and the blob goes when the
last of them has gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, update

from labkeep.core.access import Actor
from labkeep.core.entities import Run
from labkeep.storage import blob_refs, metrics, records
from labkeep.storage import tables as t
from labkeep.storage.cipher import MARK
from labkeep.storage.histories import Owner, Packed, Segment, closed, insert_chunks, opened
from labkeep.storage.metrics import Place, Summaries
from labkeep.storage.transaction import Tx


class Branch(NamedTuple):
    """The beginning of a stream, ready to be stored as another run's.

    ``start`` is the offset after the shared segments, where the packed rows follow. ``sealed`` are summaries of the
    shared rows alone; ``lasts`` the last value of each key, ``_step`` and ``_timestamp`` among them.
    """

    segments: Sequence[Segment] = ()
    start: int = 0
    packed: Sequence[Packed] = ()
    last_step: int | None = None
    total: Summaries = {}
    sealed: Summaries = {}
    lasts: Mapping[str, Any] = {}

    @property
    def rows(self) -> int:
        """The offset after the last row."""
        return self.start + sum(piece.rows for piece in self.packed)


def graft(tx: Tx, actor: Actor, owner: Owner, stream: str, branch: Branch) -> None:
    """Give a run whose stream is empty these rows. Unavailable when a shared segment is being removed just now."""
    if not branch.rows:
        return
    place = Place(owner.organization_id, owner.id, stream)
    if branch.segments:
        blob_refs.refer_all(tx, actor, Counter(segment.digest for segment in branch.segments))
        tx.insert(t.segments, [{**place._asdict(), **segment._asdict()} for segment in branch.segments])
    unsealed = insert_chunks(tx, owner, place, branch.start, branch.packed) if branch.packed else None
    row = {"rows": branch.rows, "unsealed": unsealed.rows if unsealed else 0, "last_step": branch.last_step}
    tx.insert(t.streams, [{**place._asdict(), **row}])
    metrics.begin(tx, owner, place, branch.total, branch.sealed)
    size = sum(segment.size for segment in branch.segments) + (unsealed.bytes if unsealed else 0)
    records.add_bytes(tx, owner.id, owner.organization_id, size)


def move_streams(tx: Tx, source: Run, target: Run) -> None:
    """All that ``source`` logged becomes ``target``'s, which has logged nothing."""
    size = _size(tx, source)
    _encrypt_anew(tx, source, target)
    for table in (t.streams, t.chunks, t.segments, t.series):
        mine = (table.c.organization_id == source.organization_id, table.c.run_id == source.id)
        tx.execute(update(table).where(*mine).values(run_id=target.id))
    r = t.removals.c
    hidden = (r.organization_id == source.organization_id, r.item_id == source.id, r.stream != "")
    tx.execute(update(t.removals).where(*hidden).values(item_id=target.id))
    f = t.fields.c
    found_by = (f.organization_id == source.organization_id, f.item_id == source.id, f.path.startswith("metrics."))
    tx.execute(update(t.fields).where(*found_by).values(item_id=target.id))
    records.add_bytes(tx, source.id, source.organization_id, -size)
    records.add_bytes(tx, target.id, target.organization_id, size)


def _encrypt_anew(tx: Tx, source: Run, target: Run) -> None:
    """Give ``target`` what of ``source`` is encrypted with its own key: a run's contents must go with its key."""
    c = t.chunks.c
    mine = (c.organization_id == source.organization_id, c.run_id == source.id, func.substr(c.data, 1, 1) == MARK)
    columns = (c.stream, c.first_row, c.rows, c.data)
    for stream, first_row, rows, stored in tx.execute(select(*columns).where(*mine)).all():
        chunk = opened(tx, Place(source.organization_id, source.id, stream), first_row, rows, stored)
        place = Place(target.organization_id, target.id, stream)
        tx.insert(t.chunks, [closed(tx, place, target.project_id, first_row, Packed(rows, chunk.data))])
    tx.execute(delete(t.chunks).where(*mine))


def _size(tx: Tx, run: Run) -> int:
    c, s = t.chunks.c, t.segments.c
    chunks = select(func.coalesce(func.sum(func.length(c.data)), 0)).where(
        c.organization_id == run.organization_id, c.run_id == run.id
    )
    segments = select(func.coalesce(func.sum(s.size), 0)).where(
        s.organization_id == run.organization_id, s.run_id == run.id
    )
    return int(tx.execute(chunks).scalar_one()) + int(tx.execute(segments).scalar_one())
