"""Rows that a stream has already, whatever their numbers: what a process sends twice under other offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from labkeep.core import json_values
from labkeep.core.columns import TIMESTAMP
from labkeep.storage.series import Table

_NO_TIME = -np.inf
_NAN = object()


def known_rows(sent: Table, stored: Table) -> npt.NDArray[np.bool_]:
    """Marks the rows of ``sent`` that ``stored`` has too: of the same step and time, with the same values."""
    marks = np.isin(_moments(sent), _moments(stored))
    if marks.any():
        there = np.flatnonzero(np.isin(_moments(stored), _moments(sent)))
        known = {_content(row) for row in stored.take(there).rows()}
        rows = np.flatnonzero(marks)
        marks[rows] = [_content(row) in known for row in sent.take(rows).rows()]
    return marks


def _moments(table: Table) -> npt.NDArray[np.complex128]:
    """Step and time of each row as one number: equal where both are, and cheap to look up."""
    found = np.full(len(table), complex(0, _NO_TIME))
    rows, times = table.column(TIMESTAMP)
    if len(rows) and times.dtype != object:
        found.imag[rows] = times
    found.real = table.steps
    return found


def _content(row: dict[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset((key, _comparable(value)) for key, value in row.items())


def _comparable(value: Any) -> Any:
    """A value as something hashable. Whole numbers equal their doubles: merging chunks may make one of the other."""
    if type(value) is float:
        return value if value == value else _NAN
    if type(value) is int or type(value) is str:
        return value
    return json_values.pack([value])  # True is not 1
