"""Histories: appending rows to the streams of a run, reading them back, and sealing them to Parquet.

What needs no transaction is kept out of it: a batch is decoded, packed and summarised by `prepare` before, and what
`locate` found is put together by `assemble` after, both in any thread.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from io import BytesIO, RawIOBase
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np

from labkeep.core.access import Actor, require
from labkeep.core.columns import Batch, decode
from labkeep.core.commands import Appended, AppendHistory, Heartbeat, Key, Page, Paged, ReadHistory, Ref
from labkeep.core.entities import Run, Series
from labkeep.core.errors import Corrupt, Invalid, NotFound, Stale, Unavailable
from labkeep.core.faults import reach
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import Status
from labkeep.operations import Store, encryption, files, purges, runs
from labkeep.operations.projects import states_for
from labkeep.storage import histories, masks, metrics, records, sealing
from labkeep.storage.blobs import Blobs
from labkeep.storage.chunks import unpack
from labkeep.storage.histories import Chunk, Located, Owner, Prepared, Segment, Standing
from labkeep.storage.metrics import UNSUMMARISED, Place
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.recent import RECENT
from labkeep.storage.reductions import sample
from labkeep.storage.sealing import Group, Sealed, Settled, Unsettled
from labkeep.storage.series import Indices, Part, Table, concat, resolve, rows_between, table_bytes
from labkeep.storage.transaction import Tx

HEARTBEAT_EVERY = timedelta(seconds=5)
"""An append counts as a heartbeat; so often it is written down."""

WHOLE_BYTES = 8 * 2**20
"""Segments up to this size are fetched whole; of larger ones only the columns that are asked for."""

LONG_ROWS = 4096
"""Rows of a chunk from which on it is worthwhile to remember it decoded."""

RECLAIM_BYTES = 2**20
"""Bytes that sealing must free in the database file before they are given back to the file system."""

TRIES = 3
"""How often a step starts anew when the stream changes under it, before the job is left for later."""

_STREAM = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


# --- appending --------------------------------------------------------------------------------------------------------

Watch: TypeAlias = Callable[[Standing, Prepared], None]
"""Sees where a stream stands, and what is to be appended to it."""


def prepare(command: AppendHistory) -> Prepared:
    """Decode, check, pack and summarise a batch. Pure: the part of an append that takes time. Invalid."""
    return prepare_batch(command.id, command.stream, command.offset, decode(command.batch))


def prepare_batch(run_id: str, stream: str, offset: int | None, batch: Batch) -> Prepared:
    """`prepare` for a batch that is decoded already."""
    if not _STREAM.fullmatch(stream):
        raise Invalid("the name of a stream has 1 to 64 characters, none of them a control character", path="stream")
    return histories.prepare(run_id, stream, offset, batch)


def append(tx: Tx, actor: Actor, command: AppendHistory | Prepared, watch: Watch | None = None) -> Appended:
    """Store rows. The same (run, stream, offset) again replaces those rows; past the end it leaves a gap.

    Whatever takes time is done before when ``command`` is `Prepared`. ``watch`` may refuse by raising, while nothing
    is written. Gone for a run in the trash.
    """
    require(actor, "run.write")
    batch = command if isinstance(command, Prepared) else prepare(command)
    taken = histories.take(tx, actor, batch) if is_id(batch.id) else None
    if taken is None:
        records.get_writable(tx, Run, actor, batch.id)  # says why not
        raise NotFound(f"run {batch.id[:80]!r} not found")
    if watch is not None:
        watch(taken.before, batch)
    status = _alive(tx, actor, taken.owner)
    after = histories.append(tx, taken, batch)
    return Appended(after.rows, status == Status.stopped)


def _alive(tx: Tx, actor: Actor, owner: Owner) -> Status:
    """The run was heard of. One that counted as crashed is running again."""
    if owner.status == Status.crashed:
        return runs.heartbeat(tx, actor, Heartbeat(id=owner.id)).status
    known = owner.heartbeat_at
    if owner.status == Status.running and (known is None or tx.now - known > HEARTBEAT_EVERY):
        histories.beat(tx, owner)
    return owner.status


# --- reading ----------------------------------------------------------------------------------------------------------

ReadSegment: TypeAlias = Callable[[Segment, Collection[str] | None, int | None, int | None], list[Part]]
"""(segment, keys or None for all, first step, last step) -> its rows."""


class Found(NamedTuple):
    """Rows that were asked for. ``total`` is the offset after the stream's last row, ``next_offset`` where the next page begins."""

    table: Table
    total: int
    next_offset: int | None


def read(store: Store, actor: Actor, command: ReadHistory) -> Found:
    """Rows of a stream, in order. Blocks: for threads. See `ReadHistory`.

    With ``keys`` only rows that have one of them, and only those keys beside ``_step``. ``offset`` counts rows of the
    stream, ``limit`` rows of the answer.
    """
    reader = segment_reader(store.blobs, actor.organization_id)
    for _ in range(2):
        located = store.database.read(locate, actor, command)
        try:
            return assemble(located, reader, command)
        except NotFound:  # a segment was replaced and swept between the two steps
            continue
    raise Corrupt(f"a segment of the history of run {command.id} is not in the blob store; run `labkeep check`")


def locate(tx: Tx, actor: Actor, command: ReadHistory) -> Located:
    """What a read needs: chunks as they are stored, and the segments to fetch from the blob store."""
    require(actor, "run.read")
    run = records.get(tx, Run, actor, command.id, states=states_for(command.include))
    filtered = bool(command.keys) or command.first_step is not None or command.last_step is not None
    rows = None if filtered or command.limit is None else command.limit + 1
    return histories.locate(tx, Place(run.organization_id, run.id, command.stream), command.offset, rows)


def assemble(located: Located, read_segment: ReadSegment, command: ReadHistory, end: int | None = None) -> Found:
    """The rows that were asked for, before ``end``. Pure but for ``read_segment``; reads no more segments than it must."""
    keys = command.keys or None
    above = [(chunk.first_row, _unpacked(located, chunk, keys)) for chunk in located.chunks]
    below: list[Part] = []
    for segment in located.segments:
        if end is not None and segment.first_row >= end:
            break
        if _is_enough(_shown([*below, *above], located), command, segment.first_row):
            end = segment.first_row
            break
        # Where rows were written over, the step to look at may be the new one, which is not in the segment.
        steps = (None, None) if _is_overlaid(segment, located) else (command.first_step, command.last_step)
        below += read_segment(segment, keys, *steps)
    table, next_offset = _cut(_pick(_shown([*below, *above], located), command, end), command.limit)
    if command.buckets is not None:
        table = sample(table, command.keys or table.keys(), command.buckets)
    return Found(table, located.rows, next_offset)


def _shown(parts: Sequence[Part], located: Located) -> list[Part]:
    """The rows as the stream has them now, without what was removed."""
    return masks.hide(resolve(parts), located.masks)


def _is_overlaid(segment: Segment, located: Located) -> bool:
    return any(chunk.first_row < segment.end and segment.first_row < chunk.end for chunk in located.chunks)


def _is_enough(parts: Sequence[Part], command: ReadHistory, end: int) -> bool:
    """Whether the page is full, and its successor known, with what lies before ``end``."""
    if command.limit is None:
        return False
    return sum(len(rows) for _, _, rows in _pick(parts, command, end)) > command.limit


_Picked: TypeAlias = tuple[int, Table, Indices]
"""(row number of the part in the stream, its rows, numbers of those that were asked for)"""


def _pick(parts: Sequence[Part], command: ReadHistory, end: int | None) -> Iterator[_Picked]:
    """Of each part the rows that were asked for and lie before ``end``."""
    for first, table in parts:
        keep = np.zeros(len(table), bool)
        keep[max(0, command.offset - first) : None if end is None else max(0, end - first)] = True
        if command.first_step is not None or command.last_step is not None:
            inside = np.zeros(len(table), bool)
            inside[rows_between(table.steps, command.first_step, command.last_step)] = True
            keep &= inside
        if command.keys:
            keep &= _having(table, command.keys)
        yield first, table, np.flatnonzero(keep)


def _having(table: Table, keys: Collection[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Marks the rows that have a value for one of ``keys``."""
    having = np.zeros(len(table), bool)
    for key in keys:
        having[table.column(key)[0]] = True
    return having


def _cut(picked: Iterator[_Picked], limit: int | None) -> tuple[Table, int | None]:
    """The first ``limit`` rows as one table, and the offset of the one after them."""
    tables: list[Table] = []
    left = limit
    for first, table, rows in picked:
        if left is not None and len(rows) > left:
            return concat([*tables, table.take(rows[:left])]), first + int(rows[left])
        tables.append(table if len(rows) == len(table) else table.take(rows))
        left = None if left is None else left - len(rows)
    return concat(tables), None


# --- segments in the blob store ---------------------------------------------------------------------------------------


def segment_reader(blobs: Blobs, organization_id: str, whole_bytes: int = WHOLE_BYTES) -> ReadSegment:
    """Reads segments: from the file where the store has files, else whole when they are small, else in ranges."""

    def read_segment(segment: Segment, keys: Collection[str] | None, first: int | None, last: int | None) -> list[Part]:
        # Here, because it brings in pyarrow (40 MB), which a server of short histories never needs.
        from labkeep.storage import segments

        def source() -> Any:
            path = blobs.path(organization_id, segment.digest)
            if path is not None:
                return path
            if keys is None or segment.size <= whole_bytes:
                return blobs.read_all(organization_id, segment.digest)
            return _BlobFile(blobs, organization_id, segment)

        if first is None and last is None:
            return segments.read(source(), keys)
        return _read_page(organization_id, segment.digest, source, keys, (first, last))

    return read_segment


def _read_page(
    organization_id: str,
    digest: str,
    source: Callable[[], Any],
    keys: Collection[str] | None,
    steps: tuple[int | None, int | None],
) -> list[Part]:
    """The rows of a range of steps. The next range will want the same row groups: they are kept for a while."""
    from labkeep.storage import segments

    layout = RECENT.get(organization_id, ("layout", digest), lambda: segments.layout(source()), lambda _: 1024)
    names = None if keys is None else frozenset(keys)
    groups = [
        RECENT.get(
            organization_id,
            ("group", digest, number, names),
            partial(_read_group, source, keys, number),
            lambda found: table_bytes(found[1]),
        )
        for number in layout.groups(*steps)
    ]
    return segments.between(groups, *steps)


def _read_group(source: Callable[[], Any], keys: Collection[str] | None, number: int) -> tuple[Indices, Table]:
    from labkeep.storage import segments

    return segments.read_group(source(), keys, number)


def _unpacked(located: Located, chunk: Chunk, keys: Collection[str] | None) -> Table:
    """The rows of a chunk; of a long one they are kept for a while, because the next page will want them too."""
    if chunk.rows < LONG_ROWS:
        return unpack(chunk.data, keys)
    names = None if keys is None else frozenset(keys)
    key = ("chunk", hashlib.sha256(chunk.data).digest(), names)
    return RECENT.get(located.organization_id, key, lambda: unpack(chunk.data, keys), table_bytes)


class _BlobFile(RawIOBase):
    """A segment as a file that fetches only what is read."""

    def __init__(self, blobs: Blobs, space: str, segment: Segment) -> None:
        self._blobs, self._space, self._segment = blobs, space, segment
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._segment.size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._segment.size)
        if end <= self._at:
            return 0
        data = b"".join(self._blobs.read(self._space, self._segment.digest, self._at, end))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


# --- series -----------------------------------------------------------------------------------------------------------


class ListSeries(Paged, frozen=True, kw_only=True):
    """What is known of each key of a stream, in order of keys."""

    id: Ref
    stream: Key = "history"
    include: str = ""


def list_series(tx: Tx, actor: Actor, command: ListSeries) -> Page[Series]:
    """Count, first, last, min and max of each key. Values are as logged: NaN and the infinities are floats."""
    require(actor, "run.read")
    run = records.get(tx, Run, actor, command.id, states=states_for(command.include))
    after = "" if command.cursor is None else decode_cursor(command.cursor, tuple[str])[0]
    place = Place(run.organization_id, run.id, command.stream)
    return cut(metrics.page(tx, place, after, command.limit + 1), command.limit, lambda series: series.key)


# --- sealing ----------------------------------------------------------------------------------------------------------


def seal(store: Store, actor: Actor, run_id: str, stream: str) -> int:
    """Move the chunks of a stream into Parquet segments, as far as that is worthwhile; answers how many rows.

    May be killed anywhere and run again. Stale when the stream changes faster than it can be sealed.
    """
    place = Place(actor.organization_id, run_id, stream)
    rows = freed = failures = 0
    while (group := store.database.read(seal_plan, actor, place)) is not None:
        sealed = _write_segment(store, actor, group)
        if store.database.write(seal_commit, actor, sealed):
            reach("seal.committed")
            rows += sum(chunk.rows for chunk in group.chunks)
            freed += sum(chunk.bytes for chunk in group.chunks)
        else:
            _discard(store, actor, sealed.segment.digest)
            failures += 1
        if failures == TRIES:
            raise _unsteady(place)
    _settle(store, actor, place)
    if freed >= RECLAIM_BYTES and store.database.name == "sqlite":
        with suppress(Unavailable):  # somebody reads for long: the next one gives the space back
            store.database.reclaim().result()
    return rows


def _unsteady(place: Place) -> Stale:
    return Stale(f"stream {place.stream!r} of run {place.run_id} changes while it is sealed: sealed later")


def seal_plan(tx: Tx, actor: Actor, place: Place) -> Group | None:
    """What becomes the next segment; None when nothing does, and for a run that is in the trash or gone."""
    owner = sealing.owner_of(tx, actor, place.run_id)
    return None if owner is None else sealing.next_group(tx, owner, place)


def seal_commit(tx: Tx, actor: Actor, sealed: Sealed) -> bool:
    """Put a segment in the place of its chunks; False when they have changed."""
    return sealing.exchange(tx, actor, sealed)


def _write_segment(store: Store, actor: Actor, group: Group) -> Sealed:
    """Write and upload the segment of ``group``. Nothing refers to it yet."""
    # Here, because it brings in pyarrow (40 MB), which a process that seals nothing never needs.
    from labkeep.storage import segments

    key = store.database.read(files.plan, actor, files.UploadTo(id=group.place.run_id))
    # What is encrypted must not reach a disk before it is: a segment of that size fits into memory.
    with TemporaryFile() if key is None else BytesIO() as file:
        info = segments.write(file, _rows_of(store, actor, group))
        reach("seal.written")
        with files.begin(store, actor, key) as upload:
            copy(file, upload.write)
            stored = upload.finish()
    reach("seal.uploaded")
    name = files.keep(store, actor, stored)
    span = info.end_offset - info.first_offset
    return Sealed(group, Segment(info.first_offset, span, name, stored.size), _summaries(group))


def _discard(store: Store, actor: Actor, digest: str) -> None:
    """Remove a segment that came too late: by now its rows may be purged."""
    if store.database.write(purges.discard, actor, digest):
        encryption.destroy_of_blobs(store, actor, [digest])
        store.blobs.delete(actor.organization_id, [digest])
        store.database.write(purges.end_sweep, actor, purges.Swept([digest]))


def _rows_of(store: Store, actor: Actor, group: Group) -> Callable[[], Iterator[Part]]:
    if not group.segments:
        return group.chunk_parts
    reader = segment_reader(store.blobs, actor.organization_id)
    below = [part for segment in group.segments for part in reader(segment, None, None, None)]
    merged = resolve([*below, *group.chunk_parts()])
    return lambda: iter(merged)


def copy(file: IO[bytes], write: Callable[[bytes], None]) -> None:
    """Hand over what was written to ``file``, piece by piece."""
    file.seek(0)
    while piece := file.read(2**20):
        write(piece)


def _summaries(group: Group) -> metrics.Summaries:
    """Of rows that are sealed for the first time; of others `_settle` finds them."""
    if group.segments or group.place.stream in UNSUMMARISED:
        return {}
    return histories.summarise_parts(table for _, table in group.visible_parts())


def _settle(store: Store, actor: Actor, place: Place) -> None:
    """Make exact what was an estimate since sealed rows were written over."""
    for _ in range(TRIES):
        unsettled = store.database.read(settle_plan, actor, place)
        if unsettled is None:
            return
        reader = segment_reader(store.blobs, actor.organization_id)
        parts = (part for segment in unsettled.segments for part in reader(segment, unsettled.keys, None, None))
        visible = (table for part in parts for _, table in masks.hide([part], unsettled.masks))
        sealed = histories.summarise_parts(visible)
        if store.database.write(settle_commit, actor, Settled(unsettled, sealed)):
            return
    raise _unsteady(place)


def settle_plan(tx: Tx, actor: Actor, place: Place) -> Unsettled | None:
    """What must be read to make all summaries of a stream exact; None when they are."""
    return None if sealing.owner_of(tx, actor, place.run_id) is None else sealing.unsettled(tx, place)


def settle_commit(tx: Tx, actor: Actor, settled: Settled) -> bool:
    """Store exact summaries; False when the stream has changed."""
    return sealing.settle(tx, actor, settled)


__all__ = [
    "Found",
    "ListSeries",
    "Located",
    "Prepared",
    "append",
    "assemble",
    "copy",
    "list_series",
    "locate",
    "prepare",
    "prepare_batch",
    "read",
    "seal",
    "seal_commit",
    "seal_plan",
    "segment_reader",
]
