"""Segments as Parquet files that know nothing of us: no row numbers, and texts as texts.

Only what such a file says exactly is made into one: every row has every key, each value is a number, or all values of a
column are texts or truth values, and steps only grow. Importing this module imports pyarrow (40 MB).
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labkeep.storage.series import Part, Series, Table

GROUP_ROWS = 65_536


class Plain(NamedTuple):
    """What a segment has that can be told plainly: its keys, in order, and its first and last step."""

    keys: tuple[str, ...]
    first_step: int
    last_step: int


def describe(parts: Sequence[Part]) -> Plain | None:
    """The facts of a segment's rows; None when a plain file would not say them exactly."""
    if len(parts) != 1 or not len(parts[0][1]):
        return None
    table = parts[0][1]
    if not all(_is_plain(series) for series in table.columns.values()) or np.any(np.diff(table.steps) <= 0):
        return None
    return Plain(tuple(sorted(table.columns)), int(table.steps[0]), int(table.steps[-1]))


def _is_plain(series: Series) -> bool:
    return series.at is None and (series.type != "json" or {*map(type, series.values)} in ({str}, {bool}))


def write(table: Table) -> bytes:
    """The file, the same bytes each time. For tables that `describe` has found to be plain."""
    columns = {key: pa.array(series.values) for key, series in table.columns.items()}
    target = BytesIO()
    pq.write_table(pa.table(columns), target, row_group_size=GROUP_ROWS, compression="zstd", use_dictionary=False)
    return target.getvalue()
