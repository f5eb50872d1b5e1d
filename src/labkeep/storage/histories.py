"""Histories in SQL: rows of streams as chunks while they grow, and as segments in the blob store once they are sealed.

The chunks of a stream never overlap: a write over earlier rows splices the chunks it touches. Chunks do lie over
segments, which are immutable: where both have a row, the chunk's is the newer one. Sealing again merges them
(`labkeep.storage.sealing`).

Small chunks are merged as they gather, so that a client which logs row by row costs neither space nor slow reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import and_, bindparam, delete, func, select, update

from labkeep.core import json_values
from labkeep.core.access import Actor
from labkeep.core.columns import Batch
from labkeep.core.entities import Run
from labkeep.core.lifecycle import ENDED, Role, State, Status
from labkeep.storage import chunks, jobs, masks, metrics
from labkeep.storage import tables as t
from labkeep.storage.data_keys import Box
from labkeep.storage.masks import Mask
from labkeep.storage.metrics import UNSUMMARISED, Place, Summaries
from labkeep.storage.prepared import Ready
from labkeep.storage.reductions import Summary, summarise
from labkeep.storage.series import Part, Series, Table, concat, splice
from labkeep.storage.transaction import Tx

CHUNK_ROWS = 65_536
"""Rows of a chunk at the most: what a write over one of them has to read and pack again."""

CHUNK_CELLS = 4_000_000
"""Rows times columns of a chunk at the most, so that wide chunks have fewer rows."""

TINY_ROWS, TINY_CHUNKS = 64, 64
SMALL_ROWS, SMALL_CHUNKS = 1_000, 128
"""At the end of a stream, so many chunks of fewer rows than that are merged into one."""

SEAL_BYTES = 64 * 2**20
"""Unsealed bytes at which a stream is sealed, however few rows that are."""

RESEAL_AFTER = timedelta(minutes=5)
"""How long a write over sealed rows waits for more of its kind before the segments are made again."""


class Owner(NamedTuple):
    """As much of a run as an append needs."""

    organization_id: str
    workspace_id: str
    id: str
    project_id: str | None
    status: Status
    heartbeat_at: datetime | None = None


class Standing(NamedTuple):
    """Where a stream stands: the next offset, rows that are not sealed yet, and the highest step."""

    rows: int = 0
    unsealed: int = 0
    last_step: int | None = None


class Packed(NamedTuple):
    """Rows in the form in which they are stored."""

    rows: int
    data: bytes


class Prepared(NamedTuple):
    """A batch, ready to be stored: all that can be done before the transaction is done."""

    id: str
    stream: str
    offset: int | None
    table: Table
    packed: Sequence[Packed]
    summaries: Summaries

    @property
    def bytes(self) -> int:
        """Size of the rows as they are stored."""
        return sum(len(piece.data) for piece in self.packed)


def prepare(run_id: str, stream: str, offset: int | None, batch: Batch) -> Prepared:
    """Pack and summarise a batch. Pure, and most of the work of an append."""
    table = Table.from_batch(batch)
    summaries = {} if stream in UNSUMMARISED else summarise(table)
    return Prepared(run_id, stream, offset, table, list(pack(table)), summaries)


def portion(batch: Prepared, start: int, stop: int) -> Prepared:
    """Rows ``start`` to ``stop`` of a batch, as a batch that begins where they do. Pure."""
    table = batch.table.slice(start, stop)
    offset = None if batch.offset is None else batch.offset + start
    fresh = {} if batch.stream in UNSUMMARISED or not len(table) else summarise(table)
    return batch._replace(offset=offset, table=table, packed=list(pack(table)), summaries=fresh)


def pack(table: Table) -> Iterator[Packed]:
    """The rows of a table as chunks of bounded size."""
    limit = max(1, min(CHUNK_ROWS, CHUNK_CELLS // len(table.columns)))
    for start in range(0, len(table), limit):
        piece = table if len(table) <= limit else table.slice(start, start + limit)
        yield Packed(len(piece), chunks.pack(piece))


# --- appending --------------------------------------------------------------------------------------------------------

_HERE_STREAM = tuple(t.streams.c[name] == bindparam(name) for name in Place._fields)
_HERE_CHUNK = tuple(t.chunks.c[name] == bindparam(name) for name in Place._fields)
_HERE_SEGMENT = tuple(t.segments.c[name] == bindparam(name) for name in Place._fields)
_CHUNK_END = t.chunks.c.first_row + t.chunks.c.rows
_SEGMENT_END = t.segments.c.first_row + t.segments.c.rows

_STANDING = Ready(select(t.streams.c.rows, t.streams.c.unsealed, t.streams.c.last_step).where(*_HERE_STREAM))
_SAME_ITEM = (t.items.c.organization_id == bindparam("organization"), t.items.c.id == bindparam("run"))
_MORE_BYTES = update(t.items).where(*_SAME_ITEM).values(bytes=t.items.c.bytes + bindparam("more"))
_ADD_BYTES = Ready(_MORE_BYTES)
_TAKE = Ready(
    _MORE_BYTES.where(t.items.c.workspace_id == bindparam("workspace"), t.items.c.state == State.active).returning(
        t.items.c.project_id
    )
)
_STATUS = Ready(
    select(t.runs.c.status, t.runs.c.heartbeat_at, *(t.streams.c[name] for name in ("rows", "unsealed", "last_step")))
    .select_from(
        t.runs.outerjoin(
            t.streams,
            and_(
                t.streams.c.organization_id == t.runs.c.organization_id,
                t.streams.c.run_id == t.runs.c.id,
                t.streams.c.stream == bindparam("stream"),
            ),
        )
    )
    .where(t.runs.c.organization_id == bindparam("organization"), t.runs.c.id == bindparam("run"))
)
_BEAT = Ready(
    update(t.runs)
    .where(t.runs.c.organization_id == bindparam("organization"), t.runs.c.id == bindparam("run"))
    .values(heartbeat_at=bindparam("now"))
)


class Taken(NamedTuple):
    """A run that is locked for an append, and where the stream stands. The bytes of the batch are accounted for."""

    owner: Owner
    before: Standing


def take(tx: Tx, actor: Actor, batch: Prepared) -> Taken | None:
    """Lock the run of a batch; None unless it is active. Two statements, because every append pays for them."""
    keys = {"organization": actor.organization_id, "run": batch.id}
    item = _TAKE.first(tx, keys | {"workspace": actor.workspace_id, "more": batch.bytes})
    # Only now: the lock has waited for others, and this statement sees what they wrote.
    run = _STATUS.first(tx, keys | {"stream": batch.stream}) if item else None
    if item is None or run is None:
        return None
    owner = Owner(actor.organization_id, actor.workspace_id, batch.id, item[0], run[0], run[1])
    return Taken(owner, Standing() if run[2] is None else Standing(*run[2:]))


def beat(tx: Tx, owner: Owner) -> None:
    """Note that the run was heard of."""
    _BEAT.do(tx, {"organization": owner.organization_id, "run": owner.id, "now": tx.now})


class Change(NamedTuple):
    """What a step did to the chunks of a stream: how many more rows and bytes they have."""

    rows: int = 0
    bytes: int = 0

    def plus(self, other: Change) -> Change:
        return Change(self.rows + other.rows, self.bytes + other.bytes)


def standing(tx: Tx, place: Place) -> Standing:
    """Where the stream stands; all zero before its first row."""
    found = _STANDING.first(tx, place._asdict())
    return Standing() if found is None else Standing(*found)


def append(tx: Tx, taken: Taken, batch: Prepared) -> Standing:
    """Store a batch for a run that `take` locked. Rows that are there already are replaced."""
    owner, before = taken
    place = Place(owner.organization_id, owner.id, batch.stream)
    offset = before.rows if batch.offset is None else batch.offset
    end = offset + len(batch.table)
    if not len(batch.table):
        return before
    if offset >= before.rows:
        change = _extend(tx, owner, place, offset, batch)
    else:
        change = _overwrite(tx, owner, place, offset, batch, before)
    if len(batch.table) < SMALL_ROWS and offset // TINY_ROWS != end // TINY_ROWS:
        change = change.plus(_merge_small(tx, owner, place))
    highest = int(batch.table.steps.max())
    last_step = highest if before.last_step is None else max(highest, before.last_step)
    after = Standing(max(before.rows, end), before.unsealed + change.rows, last_step)
    if after != before:
        tx.upsert(t.streams, [{**place._asdict(), **after._asdict()}])
    _account(tx, owner, change.bytes - batch.bytes)
    _seal_when_long(tx, owner, place, before, after, batch)
    return after


def _extend(tx: Tx, owner: Owner, place: Place, offset: int, batch: Prepared) -> Change:
    if batch.summaries:
        metrics.add(tx, owner, place, batch.summaries)
    return insert_chunks(tx, owner, place, offset, batch.packed)


def insert_chunks(tx: Tx, owner: Owner, place: Place, offset: int, packed: Iterable[Packed]) -> Change:
    """Store rows from ``offset`` on, where no chunk lies."""
    rows, size, values = 0, 0, []
    for piece in packed:
        row = closed(tx, place, owner.project_id, offset + rows, piece)
        values.append(row)
        rows, size = rows + piece.rows, size + len(row["data"])
    tx.insert(t.chunks, values)
    return Change(rows, size)


def closed(tx: Tx, place: Place, project_id: str | None, first_row: int, piece: Packed) -> dict[str, Any]:
    """A chunk as a row of the table: encrypted where the project wants that."""
    box = Box(tx, place.organization_id, place.run_id, project_id)
    data = box.close(piece.data, _place_of(place, first_row))
    return {**place._asdict(), "first_row": first_row, "rows": piece.rows, "data": data}


def opened(tx: Tx, place: Place, first_row: int, rows: int, stored: bytes) -> Chunk:
    """A chunk from a row of the table. Errors as `Box.open`."""
    data = Box(tx, place.organization_id, place.run_id, None).open(stored, _place_of(place, first_row))
    return Chunk(first_row, rows, data, len(stored) - len(data))


def _place_of(place: Place, first_row: int) -> str:
    return f"chunk {first_row} {place.stream}"


def _account(tx: Tx, owner: Owner, count: int) -> None:
    if count:
        _ADD_BYTES.do(tx, {"organization": owner.organization_id, "run": owner.id, "more": count})


# --- writing over earlier rows ----------------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """One chunk. ``overhead`` is how many bytes more than its data are stored, where it is encrypted."""

    first_row: int
    rows: int
    data: bytes
    overhead: int = 0

    @property
    def bytes(self) -> int:
        """Size as it is stored."""
        return len(self.data) + self.overhead

    @property
    def end(self) -> int:
        """One past its last row."""
        return self.first_row + self.rows


_CHUNKS = select(t.chunks.c.first_row, t.chunks.c.rows, t.chunks.c.data).where(*_HERE_CHUNK)
_OVERLAPPING = Ready(
    _CHUNKS.where(t.chunks.c.first_row < bindparam("end"), bindparam("offset") < _CHUNK_END).order_by(
        t.chunks.c.first_row
    )
)
_SEALED_END = Ready(select(func.max(_SEGMENT_END)).where(*_HERE_SEGMENT))


def _overwrite(tx: Tx, owner: Owner, place: Place, offset: int, batch: Prepared, before: Standing) -> Change:
    """Replace rows, or fill a gap between rows. Rows that are the same as before cost nothing more."""
    end = offset + len(batch.table)
    old = read_chunks(tx, place, offset, end)
    parts = [(chunk.first_row, chunks.unpack(chunk.data)) for chunk in old]
    if _holds(parts, offset, batch.table.slice(0, before.rows - offset)):
        return _append_rest(tx, owner, place, batch, before.rows - offset, before.rows)
    change = _splice(tx, owner, place, old, parts, offset, batch)
    over_sealed = offset < sealed_end(tx, place)
    if over_sealed:
        _request(tx, owner, place, " again", later=RESEAL_AFTER)
    if place.stream in UNSUMMARISED:
        return change
    if over_sealed:
        metrics.mark_stale(tx, owner, place, _visible(tx, place, offset, batch), at_end=end >= before.rows)
    else:
        keys = set().union(batch.table.keys(), *(table.keys() for _, table in parts))
        metrics.rebuild(tx, owner, place, keys, summarise_chunks(tx, place, keys))
    return change


def _visible(tx: Tx, place: Place, offset: int, batch: Prepared) -> Summaries:
    """The summaries of a batch that is written over rows of which something may have been removed."""
    hidden = masks.of_stream(tx, place)
    if not hidden:
        return batch.summaries
    return summarise_parts(table for _, table in masks.hide([(offset, batch.table)], hidden))


def _append_rest(tx: Tx, owner: Owner, place: Place, batch: Prepared, known: int, end: int) -> Change:
    """What comes after the first ``known`` rows of a batch that was sent before, in part or as a whole."""
    rest = portion(batch, known, len(batch.table))
    return _extend(tx, owner, place, end, rest) if len(rest.table) else Change()


def _splice(
    tx: Tx, owner: Owner, place: Place, old: Sequence[Chunk], parts: Sequence[Part], offset: int, batch: Prepared
) -> Change:
    if not old:
        return insert_chunks(tx, owner, place, offset, batch.packed)
    # Each of the old parts touches the new rows, so together they have no gap.
    spliced = splice(parts, offset, batch.table)
    removed = replace_chunks(tx, place, old)
    return removed.plus(insert_chunks(tx, owner, place, spliced[0][0], pack(concat([table for _, table in spliced]))))


def replace_chunks(tx: Tx, place: Place, old: Sequence[Chunk]) -> Change:
    """Remove these chunks, which lie side by side."""
    first, last = old[0].first_row, old[-1].first_row
    c = t.chunks.c
    here = (c.organization_id == place.organization_id, c.run_id == place.run_id, c.stream == place.stream)
    tx.execute(delete(t.chunks).where(*here, c.first_row >= first, c.first_row <= last))
    return Change(-sum(chunk.rows for chunk in old), -sum(chunk.bytes for chunk in old))


def read_chunks(tx: Tx, place: Place, offset: int, end: int) -> list[Chunk]:
    """The chunks with rows in ``[offset, end)``, in order."""
    return [opened(tx, place, *row) for row in _OVERLAPPING.rows(tx, {**place._asdict(), "offset": offset, "end": end})]


def sealed_end(tx: Tx, place: Place) -> int:
    """One past the last row that is in a segment; 0 when nothing is sealed."""
    found = _SEALED_END.first(tx, place._asdict())
    return (found[0] if found else None) or 0


def summarise_chunks(tx: Tx, place: Place, keys: Iterable[str] | None = None) -> dict[str, Summary]:
    """Summaries of ``keys`` (None: all) over all rows that are not sealed, without what removals hide."""
    wanted = None if keys is None else frozenset(keys)
    hidden = masks.of_stream(tx, place)
    query = _CHUNKS.order_by(t.chunks.c.first_row)
    parts = (
        (row[0], chunks.unpack(opened(tx, place, *row).data, wanted)) for row in tx.execute(query, place._asdict())
    )
    return summarise_parts(table for part in parts for _, table in masks.hide([part], hidden))


def summarise_parts(tables: Iterable[Table]) -> dict[str, Summary]:
    """Summaries over tables in row order, one of them in memory at a time."""
    found: dict[str, Summary] = {}
    for table in tables:
        for key, summary in summarise(table).items():
            found[key] = metrics.followed(found[key], summary) if key in found else summary
    return found


def _holds(parts: Sequence[Part], offset: int, table: Table) -> bool:
    """Whether the stream has exactly these rows there already."""
    end = offset + len(table)
    if not parts or parts[0][0] > offset or parts[-1][0] + len(parts[-1][1]) < end:
        return False
    if sum(len(part) for _, part in parts) != parts[-1][0] + len(parts[-1][1]) - parts[0][0]:
        return False  # a gap
    whole = concat([part for _, part in parts])
    there = whole.slice(offset - parts[0][0], end - parts[0][0])
    return there.columns.keys() == table.columns.keys() and all(
        _same(series, table.columns[key]) for key, series in there.columns.items()
    )


def _same(a: Series, b: Series) -> bool:
    if a.type != b.type or len(a.values) != len(b.values):
        return False
    if (a.at is None) != (b.at is None) or (a.at is not None and b.at is not None and not np.array_equal(a.at, b.at)):
        return False
    if a.type == "json":
        return json_values.pack(a.values) == json_values.pack(b.values)
    return a.values.tobytes() == b.values.tobytes()  # as bits: NaN is the same as itself


# --- merging small chunks ---------------------------------------------------------------------------------------------

_ENDS = Ready(
    select(t.chunks.c.first_row, t.chunks.c.rows)
    .where(*_HERE_CHUNK)
    .order_by(t.chunks.c.first_row.desc())
    .limit(SMALL_CHUNKS)
)


def _merge_small(tx: Tx, owner: Owner, place: Place) -> Change:
    """Merge the chunks at the end of a stream when there are many and they are small."""
    newest_first = [(first, rows) for first, rows in _ENDS.rows(tx, place._asdict())]
    for limit, enough in ((TINY_ROWS, TINY_CHUNKS), (SMALL_ROWS, SMALL_CHUNKS)):
        run = _tail(newest_first, limit)
        if len(run) >= enough:
            old = read_chunks(tx, place, run[-1][0], run[0][0] + run[0][1])
            merged = concat([chunks.unpack(chunk.data) for chunk in old])
            return replace_chunks(tx, place, old).plus(insert_chunks(tx, owner, place, old[0].first_row, pack(merged)))
    return Change()


def _tail(newest_first: Sequence[tuple[int, int]], limit: int) -> Sequence[tuple[int, int]]:
    """The chunks at the end that have fewer than ``limit`` rows each and no gap between them."""
    for n, (first, rows) in enumerate(newest_first):
        if rows >= limit or (n and first + rows != newest_first[n - 1][0]):
            return newest_first[:n]
    return newest_first


# --- reading ----------------------------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """One segment as it is known to the database; ``rows`` is the span from its first to its last row."""

    first_row: int
    rows: int
    digest: str
    size: int

    @property
    def end(self) -> int:
        """One past its last row."""
        return self.first_row + self.rows


class Located(NamedTuple):
    """What a read needs: the stream's end, segments to read from the blob store, and chunks as they are stored."""

    organization_id: str
    rows: int
    segments: list[Segment]
    chunks: list[Chunk]
    masks: tuple[Mask, ...] = ()
    """What must not be shown of them."""


_SEGMENTS = Ready(
    select(t.segments.c.first_row, t.segments.c.rows, t.segments.c.digest, t.segments.c.size)
    .where(*_HERE_SEGMENT)
    .order_by(t.segments.c.first_row)
)
_SPANS = Ready(select(t.chunks.c.first_row, t.chunks.c.rows).where(*_HERE_CHUNK).order_by(t.chunks.c.first_row))


def segments_of(tx: Tx, place: Place) -> list[Segment]:
    """All segments of a stream, in order. They do not overlap."""
    return [Segment(*row) for row in _SEGMENTS.rows(tx, place._asdict())]


def stretches(tx: Tx, place: Place) -> list[tuple[int, int]]:
    """(first row, end) of what is stored of a stream, in order; nothing in between was ever logged, or it is gone."""
    found = [(first, first + rows) for first, rows in _SPANS.rows(tx, place._asdict())]
    found += [(segment.first_row, segment.end) for segment in segments_of(tx, place)]
    joined: list[tuple[int, int]] = []
    for first, end in sorted(found):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return joined


def locate(tx: Tx, place: Place, offset: int, rows: int | None) -> Located:
    """Where the rows from ``offset`` on lie. With ``rows``: at least where the first so many of them lie."""
    hidden = masks.of_stream(tx, place)
    # Where whole rows are hidden nobody can tell without reading how many are enough.
    end = None if rows is None or masks.hides_rows(hidden) else _enough(tx, place, offset, rows)
    found = [
        segment
        for segment in segments_of(tx, place)
        if segment.end > offset and (end is None or segment.first_row < end)
    ]
    last = 2**63 - 1 if end is None else end
    chunks_ = read_chunks(tx, place, offset, last)
    return Located(place.organization_id, standing(tx, place).rows, found, chunks_, hidden)


def _enough(tx: Tx, place: Place, offset: int, rows: int) -> int | None:
    """The end of the first chunks that have so many rows after ``offset``; None when not all of them do."""
    for first, count in _SPANS.rows(tx, place._asdict()):
        rows -= max(0, first + count - max(first, offset))
        if rows <= 0:
            return int(first + count)
    return None


# --- asking for segments ----------------------------------------------------------------------------------------------


def request_seal(tx: Tx, run: Run) -> None:
    """Have the streams of a run that ends sealed, those that are long."""
    s = t.streams.c
    mine = (s.organization_id == run.organization_id, s.run_id == run.id)
    owner = Owner(run.organization_id, run.workspace_id, run.id, run.project_id, run.status)
    for (stream,) in tx.execute(select(s.stream).where(*mine, s.unsealed >= tx.seal_min_rows)).all():
        _request(tx, owner, Place(run.organization_id, run.id, stream), " end")


def _seal_when_long(tx: Tx, owner: Owner, place: Place, before: Standing, after: Standing, batch: Prepared) -> None:
    """Ask once each time the unsealed rows grow by another portion."""
    portion = tx.seal_min_rows if owner.status in ENDED else tx.seal_every_rows
    row_bytes = batch.bytes / max(1, len(batch.table))
    portion = max(1, min(portion, int(SEAL_BYTES / max(1.0, row_bytes))))
    if after.unsealed // portion > before.unsealed // portion:
        _request(tx, owner, place)


def request_settling(tx: Tx, owner: Owner, place: Place) -> None:
    """Have estimated summaries of a stream made exact."""
    _request(tx, owner, place, " again")


def _request(tx: Tx, owner: Owner, place: Place, why: str = "", later: timedelta = timedelta()) -> None:
    """Enqueue the job. A stream that grows, ends or was written over asks for itself each time."""
    actor = Actor(
        organization_id=owner.organization_id,
        workspace_id=owner.workspace_id,
        user="system",
        role=Role.owner,
        key_id="00000000-0000-7000-8000-000000000000",
        client="worker",
    )
    payload = {"run_id": place.run_id, "stream": place.stream}
    jobs.enqueue(tx, actor, "seal", payload, dedupe=f"seal {place.run_id} {place.stream}{why}", run_at=tx.now + later)
