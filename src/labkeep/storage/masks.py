"""What removals hide of a stream: a metric over a range of rows, or whole rows.

Nothing is rewritten to hide it: chunks and segments stay as they are, so that restoring is exact, and whoever reads
lays the masks over what was read. The purge of a removal uses the same function to make what it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select

from labkeep.storage import tables as t
from labkeep.storage.metrics import Place
from labkeep.storage.series import Part, Series, Table
from labkeep.storage.transaction import Tx

HIDING = ("trashed", "purging")
"""States in which a removal hides something that is still stored."""


class Mask(NamedTuple):
    """Hides ``key`` (None: everything) in the rows ``[first_row, end)`` of a stream."""

    key: str | None
    first_row: int
    end: int


_r = t.removals.c
_OF_STREAM = (
    select(_r.part, _r.ref, _r.first_row, _r.end_row)
    .where(
        _r.organization_id == bindparam("organization_id"),
        _r.item_id == bindparam("run_id"),
        _r.stream == bindparam("stream"),
        _r.part.in_(("metric", "console")),
        _r.state.in_(HIDING),
    )
    .order_by(_r.id)
)


def of_stream(tx: Tx, place: Place) -> tuple[Mask, ...]:
    """What is hidden of a stream."""
    found = tx.execute(_OF_STREAM, place._asdict())
    return tuple(Mask(ref if part == "metric" else None, first, end) for part, ref, first, end in found)


def ever_hid(tx: Tx, place: Place) -> bool:
    """Whether something of a stream is hidden, or was purged: it is not what it was."""
    here = (_r.organization_id == place.organization_id, _r.item_id == place.run_id, _r.stream == place.stream)
    return tx.execute(select(_r.id).where(*here, _r.state != "restored").limit(1)).first() is not None


def hides_rows(masks: Iterable[Mask]) -> bool:
    """Whether whole rows are hidden."""
    return any(mask.key is None for mask in masks)


def touch(first: int, end: int, masks: Iterable[Mask]) -> bool:
    """Whether one of the masks reaches into these rows."""
    return any(mask.first_row < end and first < mask.end for mask in masks)


def hide(parts: Iterable[Part], masks: Sequence[Mask]) -> list[Part]:
    """The parts without what the masks hide; what nothing hides stays the same object."""
    found = list(parts)
    for mask in masks:
        found = [kept for first, table in found for kept in _hide(first, table, mask)]
    return found


def _hide(first: int, table: Table, mask: Mask) -> list[Part]:
    start, stop = max(0, mask.first_row - first), min(len(table), mask.end - first)
    if start >= stop:
        return [(first, table)]
    if mask.key is not None:
        return [(first, without(table, mask.key, start, stop))]
    pieces = ((first, table.slice(0, start)), (first + stop, table.slice(stop, len(table))))
    return [(at, piece) for at, piece in pieces if len(piece)]


def without(table: Table, key: str, start: int, stop: int) -> Table:
    """The table without the values of ``key`` in its rows start to stop."""
    series = table.columns.get(key)
    if series is None:
        return table
    present = series.present(len(table))
    kept = (present < start) | (present >= stop)
    if kept.all():
        return table
    rest = {name: other for name, other in table.columns.items() if name != key}
    if not kept.any():
        return Table(len(table), rest)
    # In its old place among the columns: their order is what a reader sees.
    left = Series(series.type, present[kept], series.values[kept])
    return Table(len(table), {name: left if name == key else other for name, other in table.columns.items()})
