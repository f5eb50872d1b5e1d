"""Tables of history in memory: numpy columns with gaps, and how tables are cut, joined and laid over each other.

A table is n consecutive rows of a stream; a *part* is a table with the row number at which it starts. A list of parts
in order of row number, none overlapping another, is what a stream looks like at any moment: ``splice`` keeps it so.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from labkeep.core import json_values
from labkeep.core.columns import EXACT_INT, STEP, TIMESTAMP, Batch, Column, ColumnType, encode

Indices = npt.NDArray[np.int64]
DTYPES: Mapping[ColumnType, np.dtype[Any]] = {"f8": np.dtype("<f8"), "i8": np.dtype("<i8"), "json": np.dtype(object)}


@dataclass(frozen=True, slots=True)
class Series:
    """One column: ``values[i]`` belongs to row ``at[i]``, ascending; ``at`` is None when every row has a value."""

    type: ColumnType
    at: Indices | None
    values: npt.NDArray[Any]

    def present(self, rows: int) -> Indices:
        """The numbers of the rows that have a value."""
        return np.arange(rows) if self.at is None else self.at

    def numbers(self, rows: int) -> tuple[Indices, npt.NDArray[Any]]:
        """(row numbers, values) of the values that are numbers, as float64 or int64; of a JSON column some may be."""
        if self.type != "json":
            return self.present(rows), self.values
        where = [i for i, value in enumerate(self.values) if type(value) in (int, float)]
        return self.present(rows)[where], np.array([_as_float(self.values[i]) for i in where], dtype="<f8")

    def slice(self, start: int, stop: int) -> Series | None:
        """The values of rows start to stop, renumbered from 0; None when there are none."""
        if self.at is None:
            return Series(self.type, None, self.values[start:stop])
        low, high = np.searchsorted(self.at, (start, stop)).tolist()
        if low == high:
            return None
        at = None if high - low == stop - start else self.at[low:high] - start
        return Series(self.type, at, self.values[low:high])

    def take(self, rows: Indices, n: int) -> Series | None:
        """The values of some of the ``n`` rows, ascending, renumbered in that order; None when there are none."""
        if self.at is None:
            return Series(self.type, None, self.values[rows])
        new_number = np.full(n, -1, dtype=np.int64)
        new_number[rows] = np.arange(len(rows))
        at = new_number[self.at]
        kept = at >= 0
        if not kept.any():
            return None
        return Series(self.type, None if kept.sum() == len(rows) else at[kept], self.values[kept])


class Table:
    """``len(table)`` consecutive rows, by column. ``_step`` is always there and full. Treat as immutable."""

    __slots__ = ("columns", "length")

    def __init__(self, length: int, columns: Mapping[str, Series]) -> None:
        self.length = length
        self.columns = dict(columns)

    def __len__(self) -> int:
        return self.length

    @classmethod
    def from_batch(cls, batch: Batch) -> Table:
        """The table of a decoded batch."""
        return cls(
            batch.n, {c.key: _series(c, batch.n) for c in batch.columns if c.key == STEP or not _is_empty(c, batch.n)}
        )

    @property
    def steps(self) -> Indices:
        """The step of each row, int64."""
        return self.columns[STEP].values

    def keys(self) -> list[str]:
        """The keys of the metrics: all columns but ``_step`` and ``_timestamp``."""
        return [key for key in self.columns if key not in (STEP, TIMESTAMP)]

    def column(self, key: str) -> tuple[Indices, npt.NDArray[Any]]:
        """(present row numbers, their values) of a key; both empty when no row has it."""
        series = self.columns.get(key)
        if series is None:
            return np.empty(0, np.int64), np.empty(0, DTYPES["f8"])
        return series.present(self.length), series.values

    def select(self, keys: Iterable[str]) -> Table:
        """The table with ``_step`` and those of the columns that it has."""
        return Table(
            self.length, {key: self.columns[key] for key in dict.fromkeys((STEP, *keys)) if key in self.columns}
        )

    def slice(self, start: int, stop: int) -> Table:
        """Rows start to stop, without the columns that have no value there."""
        start, stop = min(start, self.length), min(stop, self.length)
        if start >= stop:
            return empty()
        pieces = {key: series.slice(start, stop) for key, series in self.columns.items()}
        return Table(stop - start, {key: piece for key, piece in pieces.items() if piece is not None})

    def take(self, rows: Indices) -> Table:
        """The rows with these ascending numbers, without the columns that have no value there."""
        if not len(rows):
            return empty()
        pieces = {key: series.take(rows, self.length) for key, series in self.columns.items()}
        return Table(len(rows), {key: piece for key, piece in pieces.items() if piece is not None})

    def between(self, first_step: int | None = None, last_step: int | None = None) -> Table:
        """The rows whose step is in the range, both ends included."""
        rows = rows_between(self.steps, first_step, last_step)
        return self if len(rows) == self.length else self.take(rows)

    def to_batch(self) -> Batch:
        """The table as a wire batch."""
        return Batch(n=self.length, columns=tuple(_column(k, s, self.length) for k, s in self.columns.items()))

    def to_wire(self) -> bytes:
        """The binary form of the table."""
        return encode(self.to_batch())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict of Python values; NaN and the infinities are floats."""
        rows: list[dict[str, Any]] = [{} for _ in range(self.length)]
        for key, series in self.columns.items():
            for index, value in zip(series.present(self.length).tolist(), series.values.tolist(), strict=True):
                rows[index][key] = value
        return iter(rows)

    def json_rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict that any JSON parser reads back: NaN and the infinities are strings."""
        return (json_values.to_json(row) for row in self.rows())


Part = tuple[int, Table]
"""(number of the first row in the stream, the rows)"""


def empty() -> Table:
    """A table without rows."""
    return Table(0, {STEP: Series("i8", None, np.empty(0, DTYPES["i8"]))})


def table_bytes(table: Table) -> int:
    """About how much memory a table takes."""
    return sum(_series_bytes(series) for series in table.columns.values())


def _series_bytes(series: Series) -> int:
    own = len(json_values.pack(series.values.tolist())) * 4 if series.type == "json" else series.values.nbytes
    return own + (0 if series.at is None else series.at.nbytes)


def concat(tables: Sequence[Table]) -> Table:
    """The rows of all tables, in order. A key that differs in type gets the narrowest type that holds it exactly."""
    if len(tables) == 1:
        return tables[0]
    if not tables:
        return empty()
    pieces: dict[str, list[tuple[int, int, Series]]] = {}
    start = 0
    for table in tables:
        for key, series in table.columns.items():
            pieces.setdefault(key, []).append((start, table.length, series))
        start += table.length
    return Table(start, {key: _join(found, start) for key, found in pieces.items()})


def splice(existing: Sequence[Part], offset: int, new: Table) -> list[Part]:
    """The stream with rows ``offset`` to ``offset + len(new)`` replaced by ``new``.

    ``existing`` is in order and does not overlap; so is the answer. Parts that are not touched are the same objects;
    one that is cut leaves its rows before and after as parts of their own. Writing past the end leaves a gap.
    """
    end = offset + len(new)
    if not len(new):
        return list(existing)
    if not existing or _end(existing[-1]) <= offset:
        return [*existing, (offset, new)]
    first = bisect_right(existing, offset, key=_end)
    last = bisect_left(existing, end, key=itemgetter(0))
    middle: list[Part] = [(offset, new)]
    if first < last:
        (left_at, left), (right_at, right) = existing[first], existing[last - 1]
        if left_at < offset:
            middle.insert(0, (left_at, left.slice(0, offset - left_at)))
        if end < right_at + len(right):
            middle.append((end, right.slice(end - right_at, len(right))))
    return [*existing[:first], *middle, *existing[last:]]


def resolve(parts: Iterable[Part]) -> list[Part]:
    """Parts in ascending priority laid over each other: where two have the same row, the later one's stays.

    For a read: the parts of the sealed segments first, then the chunks in the order they were written. Narrow to a range
    of steps *after* this (``Table.between``), or a rewritten row's old version would show through.
    """
    found: list[Part] = []
    for offset, table in parts:
        if not found or _end(found[-1]) <= offset:
            if len(table):
                found.append((offset, table))
        else:
            found = splice(found, offset, table)
    return found


def common_type(types: set[ColumnType], exact: bool) -> ColumnType:
    """The narrowest type for values of these types; ``exact``: every integer among them is exactly a double."""
    if len(types) == 1:
        return next(iter(types))
    return "f8" if types == {"f8", "i8"} and exact else "json"


def is_exact(series: Series) -> bool:
    """True when no value changes as a double: always, but for integers beyond 2**53."""
    if series.type != "i8" or not len(series.values):
        return True
    return int(series.values.min()) >= -EXACT_INT and int(series.values.max()) <= EXACT_INT


def cast(series: Series, to: ColumnType) -> Series:
    """The same values as another type: one that :func:`common_type` gave."""
    if series.type == to:
        return series
    if to == "json":
        return Series(to, series.at, objects(series.values.tolist()))
    return Series(to, series.at, series.values.astype(DTYPES[to]))


def objects(values: list[Any]) -> npt.NDArray[Any]:
    """A list of anything as an array of objects, lists among them left whole."""
    return np.fromiter(values, dtype=object, count=len(values))


def rows_between(steps: Indices, first_step: int | None, last_step: int | None) -> Indices:
    """The numbers of the rows whose step is in the range, both ends included; None is no end."""
    inside = np.ones(len(steps), dtype=bool)
    if first_step is not None:
        inside &= steps >= first_step
    if last_step is not None:
        inside &= steps <= last_step
    return np.flatnonzero(inside)


def mask_of(at: Indices | None, rows: int) -> bytes | None:
    """The wire's bitmap of present rows."""
    if at is None:
        return None
    flags = np.zeros(rows, dtype=bool)
    flags[at] = True
    return np.packbits(flags, bitorder="little").tobytes()


def at_of(mask: bytes | None, rows: int) -> Indices | None:
    """The numbers of the rows that the wire's bitmap marks."""
    if mask is None:
        return None
    return np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), count=rows, bitorder="little"))


def _end(part: Part) -> int:
    return part[0] + len(part[1])


def _join(pieces: list[tuple[int, int, Series]], rows: int) -> Series:
    types = {series.type for _, _, series in pieces}
    to = common_type(types, len(types) == 1 or all(is_exact(series) for _, _, series in pieces))
    values = np.concatenate([cast(series, to).values for _, _, series in pieces])
    if len(values) == rows:
        return Series(to, None, values)
    return Series(to, np.concatenate([series.present(length) + start for start, length, series in pieces]), values)


def _series(column: Column, rows: int) -> Series:
    at = at_of(column.mask, rows)
    if column.type == "json":
        return Series("json", at, objects(json_values.unpack(column.data)))
    return Series(column.type, at, np.frombuffer(column.data, DTYPES[column.type]))


def _column(key: str, series: Series, rows: int) -> Column:
    is_json = series.type == "json"
    data = json_values.pack(series.values.tolist()) if is_json else series.values.tobytes()
    return Column(key, series.type, mask_of(series.at, rows), data)


def _is_empty(column: Column, rows: int) -> bool:
    return not rows or (column.mask is not None and not any(column.mask))


def _as_float(number: float) -> float:
    """The double nearest to a number of any size."""
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
