"""Rows of a history that a process sends once more, under other offsets: they are found, and left out.

A process that sends its whole log again begins behind the rows that are there, so its offsets do not tell. Its steps do:
they are not above the highest that is stored. Only then is the stream read, outside of the transaction, and what has the
step, the time and the values of a stored row is left out. Whatever differs is stored as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from labkeep.core.access import Actor, require
from labkeep.core.commands import ReadHistory
from labkeep.core.errors import NotFound, Unavailable
from labkeep.operations import Store, history
from labkeep.storage import histories
from labkeep.storage.histories import Located, Prepared, Standing
from labkeep.storage.metrics import Place
from labkeep.storage.repeats import known_rows
from labkeep.storage.series import Table
from labkeep.storage.transaction import Tx

STREAM = "history"
"""The stream whose rows carry steps of their own. Lines of the others are counted, so that an offset is all they have."""

PAGE_ROWS = 65_536
"""Stored rows that are compared at a time."""

MOST_PIECES = 32
"""Pieces of a batch between rows that are left out; of more, all from the first to the last is stored."""

Marks: TypeAlias = npt.NDArray[np.bool_]


class Resent(Exception):
    """Rows for a run's history may be there already; nothing was stored."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"rows for the history of run {run_id} may be there already")
        self.run_id = run_id


def watch(before: Standing, batch: Prepared) -> None:
    """Raises Resent for rows that may be there already: those whose steps do not grow."""
    if batch.stream != STREAM or before.last_step is None or not len(batch.table):
        return
    if int(batch.table.steps.min()) <= before.last_step:
        raise Resent(batch.id)


def without_known(
    store: Store, actor: Actor, run_id: str, batches: Sequence[Prepared]
) -> tuple[Standing, list[Prepared]]:
    """``batches`` without the rows that the history has at other offsets, and where it stood. Blocks: for threads."""
    place = Place(actor.organization_id, run_id, STREAM)
    for _ in range(2):
        try:
            before = store.database.read(stand, actor, place)
            return before, list(_fresh(store, actor, place, before, batches))
        except NotFound:  # a segment was replaced and swept between two steps
            continue
    raise Unavailable(f"the history of run {run_id} changes while it is read; send the rows again")


def stand(tx: Tx, actor: Actor, place: Place) -> Standing:
    """Where a stream stands, for who writes to it."""
    require(actor, "run.write")
    return histories.standing(tx, place)


def look(tx: Tx, actor: Actor, command: ReadHistory) -> Located:
    """What is stored from an offset on, for who writes to it: also what removals hide, which is there all the same."""
    require(actor, "run.write")
    place = Place(actor.organization_id, command.id, command.stream)
    return histories.locate(tx, place, command.offset, None)._replace(masks=())


def _fresh(
    store: Store, actor: Actor, place: Place, before: Standing, batches: Sequence[Prepared]
) -> Iterator[Prepared]:
    written = _span([batch for batch in batches if batch.stream == STREAM], before)
    for batch in batches:
        if batch.stream == STREAM:
            yield from pieces(batch, _known(store, actor, place, before, batch.table, written))
        else:
            yield batch


def _span(batches: Sequence[Prepared], before: Standing) -> tuple[int, int]:
    """(first, end) of the offsets that ``batches`` write to; at the end of the stream when they write nothing."""
    starts = [before.rows if batch.offset is None else batch.offset for batch in batches]
    ends = [start + len(batch.table) for start, batch in zip(starts, batches, strict=True)]
    return min(starts, default=before.rows), max(ends, default=before.rows)


def _known(store: Store, actor: Actor, place: Place, before: Standing, sent: Table, written: tuple[int, int]) -> Marks:
    """Marks the rows of ``sent`` that are stored outside of what is ``written``: what is inside replaces itself."""
    marks = np.zeros(len(sent), dtype=bool)
    if before.last_step is None:
        return marks
    doubtful = np.flatnonzero(sent.steps <= before.last_step)
    if not len(doubtful):
        return marks
    asked = sent.take(doubtful)
    for start, end in ((0, min(written[0], before.rows)), (written[1], before.rows)):
        for stored in _stored(store, actor, place, asked, start, end):
            marks[doubtful] |= known_rows(asked, stored)
    return marks


def _stored(store: Store, actor: Actor, place: Place, asked: Table, start: int, end: int) -> Iterator[Table]:
    """The rows with offsets from ``start`` to ``end`` whose steps are among those asked for, page by page."""
    reader = history.segment_reader(store.blobs, actor.organization_id)
    steps = int(asked.steps.min()), int(asked.steps.max())
    offset: int | None = start
    while offset is not None and offset < end:
        page = ReadHistory(
            id=place.run_id, stream=STREAM, first_step=steps[0], last_step=steps[1], offset=offset, limit=PAGE_ROWS
        )
        found = history.assemble(store.database.read(look, actor, page), reader, page, end)
        yield found.table
        offset = found.next_offset


def pieces(batch: Prepared, known: Marks) -> list[Prepared]:
    """The rows of a batch that are not ``known``, each at its own offset. Pure."""
    if not known.any():
        return [batch]
    edges = np.flatnonzero(np.diff(np.concatenate(([True], known, [True])).astype(np.int8))).tolist()
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    if len(spans) > MOST_PIECES:
        spans = [(spans[0][0], spans[-1][1])]
    return [histories.portion(batch, start, stop) for start, stop in spans]
