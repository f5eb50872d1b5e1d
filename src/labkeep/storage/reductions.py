"""Much history in few values: the summary of each key, and a sample of rows for a chart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from labkeep.core.columns import STEP, TIMESTAMP, Batch
from labkeep.storage.series import Indices, Series, Table

FEW = 16
"""Numbers of a key up to which plain Python is faster."""


class Summary(msgspec.Struct, frozen=True):
    """What is known of one key over some rows.

    ``first``, ``min`` and ``max`` are over the numbers (NaN is a number for ``first``, but not for ``min`` and ``max``) and None when
    there are none; ``last`` is the last value of any type, and ``last_step`` the step of its row.
    """

    count: int
    last: Any
    last_step: int
    first: float | None = None
    min: float | None = None
    max: float | None = None
    nan_count: int = 0


def summarise(rows: Batch | Table) -> dict[str, Summary]:
    """The summary of each metric: every key but ``_step`` and ``_timestamp``."""
    table = Table.from_batch(rows) if isinstance(rows, Batch) else rows
    return {key: _summary(s, table) for key, s in table.columns.items() if key not in (STEP, TIMESTAMP)}


def merge(summaries: Iterable[Summary]) -> Summary:
    """The summary of the rows of all summaries, which are in row order and at least one.

    What a rewrite replaced cannot be taken out again: after a splice, summarise what is left.
    """
    found = list(summaries)
    last = found[-1]
    return Summary(
        count=sum(one.count for one in found),
        last=last.last,
        last_step=last.last_step,
        first=next((one.first for one in found if one.first is not None), None),
        min=min((one.min for one in found if one.min is not None), default=None),
        max=max((one.max for one in found if one.max is not None), default=None),
        nan_count=sum(one.nan_count for one in found),
    )


def sample(table: Table, keys: Iterable[str], buckets: int) -> Table:
    """At most ``2 * buckets + 2`` rows for each key that show the shape of its curve, with all columns of the table.

    The range of steps is cut into equal buckets; of each bucket the rows with the smallest and the largest number stay
    (the first of equals; where all are NaN, the first), and of each key the first and the last row.
    """
    kept = [sample_rows(table, key, buckets) for key in keys]
    rows = np.unique(np.concatenate(kept)) if kept else np.empty(0, np.int64)
    return table.take(rows)


def sample_rows(table: Table, key: str, buckets: int) -> Indices:
    """The numbers of the rows that :func:`sample` keeps for one key, ascending."""
    series = table.columns.get(key)
    if series is None:
        return np.empty(0, np.int64)
    rows, values = series.numbers(len(table))
    if len(rows) <= 2 * buckets:
        return rows
    bucket = _buckets(table.steps[rows], buckets)
    order = None if np.all(bucket[1:] >= bucket[:-1]) else np.argsort(bucket, kind="stable")
    if order is not None:  # steps that go back: a resumed run
        rows, values, bucket = rows[order], values[order], bucket[order]
    starts = np.flatnonzero(np.concatenate(([True], bucket[1:] != bucket[:-1])))
    lengths = np.diff(starts, append=len(bucket))
    lows = _first_equal(values, np.fmin.reduceat(values, starts), starts, lengths)
    highs = _first_equal(values, np.fmax.reduceat(values, starts), starts, lengths)
    return np.unique(np.concatenate((rows[lows], rows[highs], [rows.min(), rows.max()])))


def _summary(series: Series, table: Table) -> Summary:
    rows, numbers = series.numbers(len(table))
    last_row = len(table) - 1 if series.at is None else int(series.at[-1])
    known = Summary(len(series.values), _item(series.values[-1]), int(table.steps[last_row]))
    if not len(rows):
        return known
    if len(rows) <= FEW:
        return _of_few(known, numbers.tolist())
    nan = np.isnan(numbers) if numbers.dtype.kind == "f" else np.zeros(0, bool)
    nan_count = int(np.count_nonzero(nan))
    ordered = numbers[~nan] if nan_count else numbers
    return msgspec.structs.replace(
        known,
        first=numbers[0].item(),
        min=ordered.min().item() if len(ordered) else None,
        max=ordered.max().item() if len(ordered) else None,
        nan_count=nan_count,
    )


def _of_few(known: Summary, numbers: list[float]) -> Summary:
    """The same without numpy, which takes longer to call than a few numbers take to look at."""
    ordered = [number for number in numbers if number == number]
    return Summary(
        known.count,
        known.last,
        known.last_step,
        numbers[0],
        min(ordered, default=None),
        max(ordered, default=None),
        len(numbers) - len(ordered),
    )


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _buckets(steps: Indices, buckets: int) -> npt.NDArray[np.int64]:
    """The bucket of each step, 0 to ``buckets - 1``. In doubles: the range of 64-bit steps is no 64-bit integer."""
    place = steps.astype(np.float64)
    low, high = place.min(), place.max()
    place -= low
    place *= buckets / max(high - low, 1.0)
    return np.minimum(place.astype(np.int64), buckets - 1)


def _first_equal(values: npt.NDArray[Any], wanted: npt.NDArray[Any], starts: Indices, lengths: Indices) -> Indices:
    """For each bucket, the place of the first value that equals the wanted one; of a bucket of NaN, its first."""
    places = np.flatnonzero(values == np.repeat(wanted, lengths))
    ends = starts + lengths
    candidates = np.append(places, ends[-1])[np.searchsorted(places, starts)]
    return np.where(candidates < ends, candidates, starts)
