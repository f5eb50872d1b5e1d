"""The purge of a removal: rows, a metric, a file or console output are taken out of every store, and that is checked.

Each step is one transaction or one effect on the blob store, and may be done again: after a crash the job begins anew,
finds what is clean already and goes on. The worker calls `clear`, sweeps, and ends with `verify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from tempfile import TemporaryFile
from typing import NamedTuple

import msgspec

from labkeep.core.access import Actor
from labkeep.core.entities import Item, Json
from labkeep.core.errors import Corrupt, NotFound, Stale
from labkeep.core.faults import reach
from labkeep.core.lifecycle import State
from labkeep.core.removals import Part, Removal
from labkeep.operations import Store, files
from labkeep.operations.history import copy, segment_reader
from labkeep.operations.removals import EVENTS
from labkeep.storage import (
    blob_refs,
    chunks,
    histories,
    masks,
    purge,
    records,
    row_removals,
    rows,
    stream_purges,
    subjects,
)
from labkeep.storage import removals as store
from labkeep.storage.histories import Chunk, Segment
from labkeep.storage.masks import Mask
from labkeep.storage.metrics import Place
from labkeep.storage.series import Part as Rows
from labkeep.storage.stream_purges import Replacement, Rewrite
from labkeep.storage.transaction import Tx

CHUNKS = 16
"""Chunks that are read, and at most exchanged, at once."""

TRIES = 5
"""How often a chunk or segment is rewritten anew when it changes under the work."""


class Step(msgspec.Struct, frozen=True):
    """Which removal."""

    removal_id: str


class Work(NamedTuple):
    """A removal that is being purged: its record, and of a stream the rows that go and the segments to look at."""

    removal: Removal
    place: Place
    masks: tuple[Mask, ...]
    segments: tuple[Segment, ...]


def begin(tx: Tx, actor: Actor, step: Step) -> Work | None:
    """What there is to do; None when it was done, or the whole object was purged meanwhile."""
    try:
        removal = store.get(tx, actor, step.removal_id)
    except NotFound:
        return None
    if removal.state == "purged":
        return None
    if removal.state != "purging":
        raise Corrupt(f"removal {removal.id} is {removal.state}: nobody asked to purge it")
    held = store.held(tx, removal)
    place = Place(removal.organization_id, removal.item_id, removal.stream)
    if held.first_row is None or held.end_row is None:
        return Work(removal, place, (), ())
    owner = _owner(tx, actor, removal)
    ref = removal.ref if removal.part == Part.metric else ""
    others = [span for span in store.spans(tx, owner, removal.stream, str(removal.part), ref) if span[0] != removal.id]
    # What another removal hides as well stays until that one is purged: it can still be restored.
    ranges = store.subtract(held.first_row, held.end_row, [(first, end) for _, first, end in others])
    key = removal.ref if removal.part == Part.metric else None
    hidden = tuple(Mask(key, first, end) for first, end in ranges)
    found = tuple(s for s in histories.segments_of(tx, place) if masks.touch(s.first_row, s.end, hidden))
    return Work(removal, place, hidden, found)


def _owner(tx: Tx, actor: Actor, removal: Removal, *, lock: bool = False) -> Item:
    return records.get(tx, Item, actor, removal.item_id, states=tuple(State), lock=lock)


def clear(store_: Store, actor: Actor, step: Step) -> bool:
    """Take what the removal holds out of the tables and segments; False when that was done before.

    Blobs that nothing refers to any more are left for the sweep.
    """
    work = store_.database.read(begin, actor, step)
    if work is None:
        return False
    if work.removal.part == Part.row:
        while store_.database.write(drop_rows, actor, step):
            reach("removal.rows_dropped")
    elif work.removal.part == Part.file:
        store_.database.write(drop_file, actor, step)
        reach("removal.file_dropped")
    else:
        _clear_stream(store_, actor, work, step)
    return True


def _clear_stream(store_: Store, actor: Actor, work: Work, step: Step) -> None:
    """Chunks first, then segments; anew when chunks were sealed meanwhile."""
    for _ in range(TRIES):
        _clear_chunks(store_, actor, work)
        sealed = store_.database.read(begin, actor, step)
        for segment in sealed.segments if sealed else ():
            _clear_segment(store_, actor, work, segment)
        if not leftovers(store_, actor, step):
            return
    raise _unsteady(work)


# --- rows and files ---------------------------------------------------------------------------------------------------


def drop_rows(tx: Tx, actor: Actor, step: Step) -> int:
    """Drop the next rows with all of their states; answers how many."""
    removal = store.get(tx, actor, step.removal_id, lock=True)
    owner = _owner(tx, actor, removal, lock=True)
    held = store.held(tx, removal)
    if held.xact is None or owner.state == State.purged:
        return 0
    ids = row_removals.members(tx, owner, held.xact)
    if ids:
        size = row_removals.drop(tx, owner, held.xact, ids)
        records.add_bytes(tx, owner.id, owner.organization_id, -size)
        alive = rows.current(tx, owner, ids)
        subjects.forget(tx, owner, [id for id in ids if id not in alive])
    return len(ids)


def drop_file(tx: Tx, actor: Actor, step: Step) -> None:
    """Give up the reference to the blob."""
    removal = store.get(tx, actor, step.removal_id, lock=True)
    held = store.held(tx, removal)
    if held.digest:
        blob_refs.release(tx, removal.organization_id, {held.digest: 1})
        purge.hold_blob(tx, removal.organization_id, removal.id, held.digest, removal.bytes)
        records.add_bytes(tx, removal.item_id, removal.organization_id, -removal.bytes)
        store.change(tx, removal, digest="")


# --- streams ----------------------------------------------------------------------------------------------------------


class Ahead(NamedTuple):
    """Where to go on among the chunks of a stream."""

    place: Place
    first_row: int


def read_chunks(tx: Tx, _actor: Actor, ahead: Ahead) -> list[Chunk]:
    """The next chunks."""
    return stream_purges.next_chunks(tx, ahead.place, ahead.first_row, CHUNKS)


def swap_chunks(tx: Tx, _actor: Actor, rewrites: list[Rewrite]) -> bool:
    """Exchange chunks; False when they have changed."""
    return stream_purges.swap_chunks(tx, rewrites)


def swap_segment(tx: Tx, actor: Actor, replacement: Replacement) -> bool:
    """Exchange a segment; False when it has changed."""
    return stream_purges.swap_segment(tx, actor, replacement)


def _clear_chunks(store_: Store, actor: Actor, work: Work) -> None:
    at, failures = 0, 0
    while found := store_.database.read(read_chunks, actor, Ahead(work.place, at)):
        made = [stream_purges.rewritten(work.place, chunk, work.masks) for chunk in found]
        rewrites = [rewrite for rewrite in made if rewrite is not None]
        if rewrites and not store_.database.write(swap_chunks, actor, rewrites):
            failures += 1
            if failures == TRIES:
                raise _unsteady(work)
            continue
        if rewrites:
            reach("removal.chunks_swapped")
        at = found[-1].end


def _unsteady(work: Work) -> Stale:
    return Stale(f"stream {work.place.stream!r} of run {work.place.run_id} changes while a part of it is purged: later")


def _clear_segment(store_: Store, actor: Actor, work: Work, segment: Segment) -> None:
    before = _read(store_, actor, segment, None)
    after = masks.hide(before, work.masks)
    if not stream_purges.differs(before, after):
        return
    new = _write(store_, actor, work.removal.item_id, after) if after else None
    reach("removal.segment_written")
    if not store_.database.write(swap_segment, actor, Replacement(work.removal.id, work.place, segment, new)):
        raise _unsteady(work)
    reach("removal.segment_swapped")


def _read(store_: Store, actor: Actor, segment: Segment, keys: list[str] | None) -> list[Rows]:
    return segment_reader(store_.blobs, actor.organization_id)(segment, keys, None, None)


def _write(store_: Store, actor: Actor, run_id: str, parts: list[Rows]) -> Segment:
    # Here, because it brings in pyarrow (40 MB).
    from labkeep.storage import segments

    key = store_.database.read(files.plan, actor, files.UploadTo(id=run_id))
    with TemporaryFile() if key is None else BytesIO() as file:
        info = segments.write(file, lambda: iter(parts))
        with files.begin(store_, actor, key) as upload:
            copy(file, upload.write)
            stored = upload.finish()
    name = files.keep(store_, actor, stored)
    return Segment(info.first_offset, info.end_offset - info.first_offset, name, stored.size)


# --- verification -----------------------------------------------------------------------------------------------------


def leftovers(store_: Store, actor: Actor, step: Step) -> int:
    """Rows, points or lines of the removal that are still stored, found by reading every store again."""
    work = store_.database.read(begin, actor, step)
    if work is None:
        return 0
    if work.removal.part == Part.row:
        return store_.database.read(count_rows, actor, step)
    return sum(_hidden(parts, work.masks) for parts in _stored(store_, actor, work))


def count_rows(tx: Tx, actor: Actor, step: Step) -> int:
    """Tombstones of the removal."""
    removal = store.get(tx, actor, step.removal_id)
    held = store.held(tx, removal)
    return 0 if held.xact is None else row_removals.count_left(tx, _owner(tx, actor, removal), held.xact)


def _stored(store_: Store, actor: Actor, work: Work) -> Iterator[list[Rows]]:
    keys, at = stream_purges.keys_of(work.masks), 0
    while found := store_.database.read(read_chunks, actor, Ahead(work.place, at)):
        yield [(chunk.first_row, chunks.unpack(chunk.data, keys)) for chunk in found]
        at = found[-1].end
    for segment in work.segments:
        yield _read(store_, actor, segment, keys)


def _hidden(parts: list[Rows], hidden: tuple[Mask, ...]) -> int:
    return sum(stream_purges.differs([part], masks.hide([part], hidden)) for part in parts)


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What reading every store again found."""

    removal_id: str
    left: int
    blobs_removed: int
    blobs_left: int
    blobs_shared: int
    freed_bytes: int
    method: Json


def verify(tx: Tx, actor: Actor, command: Verified) -> Removal | None:
    """Only when nothing is left does the removal count as purged; then its record loses what it said of content."""
    try:
        removal = store.get(tx, actor, command.removal_id, lock=True)
    except NotFound:
        return None
    if removal.state == "purged":
        return removal
    if command.left or command.blobs_left:
        raise Corrupt(
            f"purge of removal {removal.id} left something behind: {command.left} parts, {command.blobs_left} blobs"
        )
    purge.forget_answers(tx, actor.organization_id)
    purge.forget_blobs(tx, actor.organization_id, removal.id)
    verification: Json = {
        "method": command.method,
        "left": 0,
        "blobs_removed": command.blobs_removed,
        "blobs_shared": command.blobs_shared,
        "freed_bytes": command.freed_bytes,
        "verified_at": tx.now.isoformat(),
    }
    after = store.change(tx, removal, state="purged", purged_at=tx.now, verification=verification, **store.BLANK)
    owner = _owner(tx, actor, removal)
    who = msgspec.structs.replace(actor, user=removal.purged_by or actor.user)
    event = f"{owner.kind}.{EVENTS[removal.part]}_purged"
    tx.audit(who, event, owner.id, count=removal.count, reason=removal.reason, removal_id=removal.id)
    return after


__all__ = ["Step", "Verified", "Work", "clear", "leftovers", "verify"]
