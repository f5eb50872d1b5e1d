"""From chunks to segments, in SQL: which rows are sealed next, and the exchange of chunks for a segment.

Only the exchange writes, in one transaction, and only if nothing that went into the segment has changed since. Up to
there a failure leaves an unreferenced blob at most; after it the work is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select, update

from labkeep.core.access import Actor
from labkeep.core.lifecycle import ENDED, LIVE
from labkeep.storage import blob_refs, chunks, masks, metrics
from labkeep.storage import tables as t
from labkeep.storage.histories import (
    SEAL_BYTES,
    SMALL_ROWS,
    Chunk,
    Owner,
    Segment,
    read_chunks,
    replace_chunks,
    sealed_end,
    segments_of,
    summarise_chunks,
)
from labkeep.storage.masks import Mask
from labkeep.storage.metrics import Place
from labkeep.storage.reductions import Summary
from labkeep.storage.series import Part
from labkeep.storage.transaction import Tx

GROUP_BYTES = SEAL_BYTES // 2
"""Chunks that go into one segment, in bytes: they are compared with what is stored while others wait to write."""


REWRITTEN = "rewritten"
"""Key in a run's ``extra``: whether sealed history was replaced, so that copies of it elsewhere are out of date."""


class Group(NamedTuple):
    """What becomes one segment: chunks, and the segments that they lie over, which it replaces."""

    place: Place
    chunks: list[Chunk]
    segments: list[Segment]
    masks: tuple[Mask, ...] = ()
    """What removals hide of the stream: it is sealed like all else, but not summarised."""

    def chunk_parts(self) -> Iterator[Part]:
        """The rows of the chunks, one chunk in memory at a time."""
        return ((chunk.first_row, chunks.unpack(chunk.data)) for chunk in self.chunks)

    def visible_parts(self) -> Iterator[Part]:
        """As `chunk_parts`, without what removals hide."""
        return (shown for part in self.chunk_parts() for shown in masks.hide([part], self.masks))


class Sealed(NamedTuple):
    """A segment whose bytes are in the blob store. ``summaries`` are of its rows, when they follow all sealed ones."""

    group: Group
    segment: Segment
    summaries: Mapping[str, Summary]


class _Span(NamedTuple):
    """A chunk without its rows."""

    first_row: int
    rows: int
    bytes: int

    @property
    def end(self) -> int:
        return self.first_row + self.rows


def owner_of(tx: Tx, actor: Actor, run_id: str, *, lock: bool = False) -> Owner | None:
    """The run, unless it is in the trash or gone."""
    c, r = t.items.c, t.runs.c
    joined = t.items.join(t.runs, (c.organization_id == r.organization_id) & (c.id == r.id))
    query = (
        select(c.organization_id, c.workspace_id, c.id, c.project_id, r.status)
        .select_from(joined)
        .where(c.organization_id == actor.organization_id, c.id == run_id, c.state.in_(LIVE))
    )
    found = tx.execute(query.with_for_update(of=t.items) if lock else query).first()
    return None if found is None else Owner(*found)


# --- what to seal -----------------------------------------------------------------------------------------------------


def next_group(tx: Tx, owner: Owner, place: Place) -> Group | None:
    """What should be sealed next; None when nothing is left that is worth it."""
    c = t.chunks.c
    here = (c.organization_id == place.organization_id, c.run_id == place.run_id, c.stream == place.stream)
    query = select(c.first_row, c.rows, func.length(c.data)).where(*here).order_by(c.first_row)
    spans = [_Span(*row) for row in tx.execute(query)]
    segments = segments_of(tx, place)
    over = _over_segments(spans, segments)
    if over is not None:
        return _group(tx, place, *over)
    if spans and segments and spans[0].first_row < segments[-1].end:  # a gap was filled
        return _group(tx, place, _first_spans(spans, segments, tx.seal_every_rows), [])
    if owner.status not in ENDED:
        spans = _without_tail(spans)
    if sum(span.rows for span in spans) < tx.seal_min_rows and sum(span.bytes for span in spans) < SEAL_BYTES:
        return None
    return _group(tx, place, _first_spans(spans, segments, tx.seal_every_rows), [])


def _group(tx: Tx, place: Place, spans: Sequence[_Span], segments: list[Segment]) -> Group:
    return Group(place, read_chunks(tx, place, spans[0].first_row, spans[-1].end), segments, masks.of_stream(tx, place))


def _over_segments(spans: Sequence[_Span], segments: Sequence[Segment]) -> tuple[list[_Span], list[Segment]] | None:
    """The first chunks and segments that hang together because they overlap."""
    ends, above, below = 0, list[_Span](), list[Segment]()
    both: list[_Span | Segment] = [*segments, *spans]
    for one in sorted(both, key=lambda one: one.first_row):
        if one.first_row >= ends:
            if above and below:
                break
            above, below = [], []
        ends = max(ends, one.end)
        if isinstance(one, _Span):
            above.append(one)
        else:
            below.append(one)
    return (above, below) if above and below else None


def _without_tail(spans: Sequence[_Span]) -> list[_Span]:
    """Without the small chunks at the end: they are still being merged."""
    kept = list(spans)
    while kept and kept[-1].rows < SMALL_ROWS:
        kept.pop()
    return kept


def _first_spans(spans: Sequence[_Span], segments: Sequence[Segment], rows: int) -> list[_Span]:
    """The first chunks with no segment among them, up to the size of one segment."""
    taken = [spans[0]]
    for span in spans[1:]:
        full = sum(one.rows for one in taken) >= rows or sum(one.bytes for one in taken) + span.bytes > GROUP_BYTES
        if full or any(taken[0].first_row < segment.first_row < span.first_row for segment in segments):
            break
        taken.append(span)
    return taken


# --- the exchange -----------------------------------------------------------------------------------------------------


def exchange(tx: Tx, actor: Actor, sealed: Sealed) -> bool:
    """Put a segment in the place of what went into it; False, and nothing happens, when any of that has changed."""
    group, segment = sealed.group, sealed.segment
    place = group.place
    owner = owner_of(tx, actor, place.run_id, lock=True)
    if owner is None or not _unchanged(tx, group):
        return False
    follows = group.chunks[0].first_row >= sealed_end(tx, place)
    removed = replace_chunks(tx, place, group.chunks)
    replaced = _remove_segments(tx, group)
    if group.segments:
        _note_rewritten(tx, owner)
    blob_refs.refer(tx, actor, segment.digest)
    tx.insert(t.segments, [{**place._asdict(), **segment._asdict()}])
    s, i = t.streams.c, t.items.c
    here = (s.organization_id == place.organization_id, s.run_id == place.run_id, s.stream == place.stream)
    tx.execute(update(t.streams).where(*here).values(unsealed=s.unsealed + removed.rows))
    run = (i.organization_id == place.organization_id, i.id == place.run_id)
    tx.execute(update(t.items).where(*run).values(bytes=i.bytes + removed.bytes - replaced + segment.size))
    if follows:
        metrics.seal(tx, owner, place, sealed.summaries)
    return True


def _note_rewritten(tx: Tx, owner: Owner) -> None:
    i = t.items.c
    run = (i.organization_id == owner.organization_id, i.id == owner.id)
    extra = tx.execute(select(i.extra).where(*run)).scalar_one()
    tx.execute(update(t.items).where(*run).values(extra={**extra, REWRITTEN: True}))


def _unchanged(tx: Tx, group: Group) -> bool:
    first, last = group.chunks[0], group.chunks[-1]
    if read_chunks(tx, group.place, first.first_row, last.first_row + last.rows) != group.chunks:
        return False
    if masks.of_stream(tx, group.place) != group.masks:
        return False
    now = {segment.first_row: segment for segment in segments_of(tx, group.place)}
    return all(now.get(segment.first_row) == segment for segment in group.segments)


def _remove_segments(tx: Tx, group: Group) -> int:
    """Drop the segments that are replaced, and their references; answers their bytes."""
    if not group.segments:
        return 0
    c, place = t.segments.c, group.place
    here = (c.organization_id == place.organization_id, c.run_id == place.run_id, c.stream == place.stream)
    tx.execute(delete(t.segments).where(*here, c.first_row.in_([segment.first_row for segment in group.segments])))
    counts: dict[str, int] = {}
    for segment in group.segments:
        counts[segment.digest] = counts.get(segment.digest, 0) + 1
    blob_refs.release(tx, place.organization_id, counts)
    return sum(segment.size for segment in group.segments)


# --- exact summaries after sealed rows were written over --------------------------------------------------------------


class Unsettled(NamedTuple):
    """Keys whose summaries are estimates, and the segments to read to know better."""

    place: Place
    keys: list[str]
    segments: list[Segment]
    masks: tuple[Mask, ...] = ()


class Settled(NamedTuple):
    """What reading the segments found: exact summaries of their rows."""

    unsettled: Unsettled
    sealed: Mapping[str, Summary]


def unsettled(tx: Tx, place: Place) -> Unsettled | None:
    """What must be read to make all summaries exact; None when they are."""
    keys = metrics.stale_keys(tx, place)
    return Unsettled(place, keys, segments_of(tx, place), masks.of_stream(tx, place)) if keys else None


def settle(tx: Tx, actor: Actor, settled: Settled) -> bool:
    """Make stale summaries exact; False when the segments have changed or are written over since."""
    place, _, segments, hidden = settled.unsettled
    owner = owner_of(tx, actor, place.run_id, lock=True)
    if owner is None or segments_of(tx, place) != segments or masks.of_stream(tx, place) != hidden:
        return False
    if read_chunks(tx, place, 0, sealed_end(tx, place)):
        return False
    keys = settled.unsettled.keys
    metrics.settle(tx, owner, place, settled.sealed, summarise_chunks(tx, place, keys))
    return True
