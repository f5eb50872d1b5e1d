"""Reading what only a copy needs: the streams of a run, and its history as Parquet files.

All else that is exported is read as everybody reads it.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

from sqlalchemy import select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Page, ReadHistory
from labkeep.core.commands_transfer import ListStreams, ReadSegment, Stream
from labkeep.core.entities import Run
from labkeep.core.errors import Corrupt, NotFound
from labkeep.operations import Store, history
from labkeep.operations.projects import states_for
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.chunks import unpack
from labkeep.storage.series import Part, resolve
from labkeep.storage.transaction import Tx


def list_streams(tx: Tx, actor: Actor, command: ListStreams) -> Page[Stream]:
    """The streams of a run and where each of them ends."""
    require(actor, "run.read")
    run = records.get(tx, Run, actor, command.id, states=states_for(command.include))
    s = t.streams.c
    query = select(s.stream, s.rows).where(s.organization_id == run.organization_id, s.run_id == run.id)
    return Page([Stream(*row) for row in tx.execute(query.order_by(s.stream))])


class SegmentPage(NamedTuple):
    """A Parquet file, the end of the stream, and where the next file begins; None after the last."""

    data: bytes
    total: int
    next_offset: int | None


def read_segment(store: Store, actor: Actor, command: ReadSegment) -> SegmentPage:
    """Rows of a stream as a Parquet file, as they are now and with the numbers that they have. Blocks: for threads.

    An empty file, of no bytes at all, where the stream has a gap.
    """
    end = command.offset + command.limit
    located = ReadHistory(
        id=command.id, stream=command.stream, offset=command.offset, limit=command.limit, include=command.include
    )
    for _ in range(2):
        found = store.database.read(history.locate, actor, located)
        reader = history.segment_reader(store.blobs, actor.organization_id)
        try:
            below = [part for one in found.segments if one.first_row < end for part in reader(one, None, None, None)]
        except NotFound:  # a segment was replaced and swept between the two steps
            continue
        above = [(chunk.first_row, unpack(chunk.data)) for chunk in found.chunks if chunk.first_row < end]
        parts = _between(resolve([*below, *above]), command.offset, end)
        return SegmentPage(_write(parts), found.rows, end if end < found.rows else None)
    raise Corrupt(f"a segment of the history of run {command.id} is not in the blob store; run `labkeep check`")


def _between(parts: list[Part], start: int, end: int) -> list[Part]:
    kept = []
    for first, table in parts:
        low, high = max(0, start - first), min(len(table), end - first)
        if low < high:
            kept.append((first + low, table if high - low == len(table) else table.slice(low, high)))
    return kept


def _write(parts: list[Part]) -> bytes:
    if not parts:
        return b""
    # Here, because it brings in pyarrow (40 MB), which a server of short histories never needs.
    from labkeep.storage import segments

    file = BytesIO()
    segments.write(file, lambda: parts)
    return file.getvalue()
