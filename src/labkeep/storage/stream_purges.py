"""Rewriting what is stored of a stream without what a removal hides: one chunk or one segment at a time.

As with sealing, the work is done before the transaction, which only exchanges the old for the new and only if the old
is still there. So it may be killed anywhere and run again: what is clean already is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, select, update

from labkeep.core.access import Actor
from labkeep.storage import blob_refs, chunks, histories, purge
from labkeep.storage import tables as t
from labkeep.storage.histories import Chunk, Packed, Segment
from labkeep.storage.masks import Mask, hide, touch
from labkeep.storage.metrics import Place
from labkeep.storage.series import Part
from labkeep.storage.transaction import Tx


class Rewrite(NamedTuple):
    """A chunk and what takes its place: pieces with the rows at which they start."""

    place: Place
    old: Chunk
    new: Sequence[tuple[int, Packed]]


class Replacement(NamedTuple):
    """A segment and what takes its place; None when nothing is left of it."""

    purge_id: str
    place: Place
    old: Segment
    new: Segment | None


def keys_of(masks: Sequence[Mask]) -> list[str] | None:
    """The keys that are hidden; None when whole rows are."""
    return None if any(mask.key is None for mask in masks) else [mask.key for mask in masks if mask.key is not None]


def differs(before: Sequence[Part], after: Sequence[Part]) -> bool:
    """Whether a mask hid anything."""
    return [(first, id(table)) for first, table in before] != [(first, id(table)) for first, table in after]


def rewritten(place: Place, chunk: Chunk, masks: Sequence[Mask]) -> Rewrite | None:
    """The chunk without what the masks hide; None when they hide nothing of it."""
    if not touch(chunk.first_row, chunk.end, masks):
        return None
    before = [(chunk.first_row, chunks.unpack(chunk.data))]
    after = hide(before, masks)
    if not differs(before, after):
        return None
    return Rewrite(place, chunk, pieces(after))


def pieces(parts: Sequence[Part]) -> list[tuple[int, Packed]]:
    """Parts of a stream, packed, each with the row at which it starts."""
    found: list[tuple[int, Packed]] = []
    for first, table in parts:
        for packed in histories.pack(table):
            found.append((first, packed))
            first += packed.rows
    return found


def next_chunks(tx: Tx, place: Place, after: int, most: int) -> list[Chunk]:
    """Chunks that begin at ``after`` or later, in order."""
    c = t.chunks.c
    here = (c.organization_id == place.organization_id, c.run_id == place.run_id, c.stream == place.stream)
    query = select(c.first_row, c.rows, c.data).where(*here, c.first_row >= after).order_by(c.first_row).limit(most)
    return [histories.opened(tx, place, *row) for row in tx.execute(query)]


def swap_chunks(tx: Tx, rewrites: Sequence[Rewrite]) -> bool:
    """Put rewritten chunks in the place of the old; False, and nothing happens, when one of those has changed."""
    place = rewrites[0].place
    project_id = _lock(tx, place)
    for rewrite in rewrites:
        if histories.read_chunks(tx, place, rewrite.old.first_row, rewrite.old.end) != [rewrite.old]:
            return False
    c = t.chunks.c
    here = (c.organization_id == place.organization_id, c.run_id == place.run_id, c.stream == place.stream)
    tx.execute(delete(t.chunks).where(*here, c.first_row.in_([rewrite.old.first_row for rewrite in rewrites])))
    new = [piece for rewrite in rewrites for piece in rewrite.new]
    values = [histories.closed(tx, place, project_id, at, piece) for at, piece in new]
    tx.insert(t.chunks, values)
    rows = sum(p.rows for _, p in new) - sum(rewrite.old.rows for rewrite in rewrites)
    size = sum(len(value["data"]) for value in values) - sum(rewrite.old.bytes for rewrite in rewrites)
    s = t.streams.c
    same = (s.organization_id == place.organization_id, s.run_id == place.run_id, s.stream == place.stream)
    tx.execute(update(t.streams).where(*same).values(unsealed=s.unsealed + rows))
    _account(tx, place, size)
    return True


def swap_segment(tx: Tx, actor: Actor, replacement: Replacement) -> bool:
    """Put a rewritten segment in the place of the old; False, and nothing happens, when that has changed."""
    purge_id, place, old, new = replacement
    _lock(tx, place)
    if old not in histories.segments_of(tx, place):
        return False
    c = t.segments.c
    here = (c.organization_id == place.organization_id, c.run_id == place.run_id, c.stream == place.stream)
    if new is not None:
        blob_refs.refer(tx, actor, new.digest)
    tx.execute(delete(t.segments).where(*here, c.first_row == old.first_row))
    blob_refs.release(tx, place.organization_id, {old.digest: 1})
    purge.hold_blob(tx, place.organization_id, purge_id, old.digest, old.size)
    if new is not None:
        tx.insert(t.segments, [{**place._asdict(), **new._asdict()}])
    _account(tx, place, (new.size if new else 0) - old.size)
    return True


def _lock(tx: Tx, place: Place) -> str | None:
    """Keep appends and sealing off the run until the transaction ends; answers its project."""
    c = t.items.c
    mine = (c.organization_id == place.organization_id, c.id == place.run_id)
    found = tx.execute(select(c.project_id).where(*mine).with_for_update()).first()
    return None if found is None else found[0]


def _account(tx: Tx, place: Place, size: int) -> None:
    c = t.items.c
    mine = (c.organization_id == place.organization_id, c.id == place.run_id)
    tx.execute(update(t.items).where(*mine).values(bytes=c.bytes + size))
