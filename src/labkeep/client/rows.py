"""Rows on their way from ``run.log`` to batches: steps, merging, numbering."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from labkeep.client import repairs
from labkeep.client.spool import Rows
from labkeep.core.columns import Row, encode_columns

BATCH_ROWS = 10_000


class Stream:
    """One stream of a run. Any thread may `add`; one at a time may `take`.

    ``step`` is the step of the next row that names none, ``offset`` the number of the next row.
    """

    def __init__(self, name: str, *, step: int = 0, offset: int = 0) -> None:
        self.name = name
        self.step = step
        self.offset = offset
        self.pending: deque[Row] = deque()
        self._last: Row | None = None

    def add(self, data: Mapping[str, Any], step: int | None) -> None:
        """A row at ``step``; without one at the next step. The same step as the row before adds to that row."""
        if step is None:
            step = self.step
        elif step < self.step - 1:
            repairs.warn_once(
                f"step:{self.name}", "labkeep: step %s is behind step %s; it is kept as it is", step, self.step - 1
            )
        if step >= self.step:
            self.step = step + 1
        self.pending.append((step, time(), data))

    def take(self) -> list[Rows]:
        """The rows that were added since, up to a batch, or a few if they are large; empty when there are none.

        When the first of them adds to the row that was taken last, that row comes once more, under its old number.
        """
        rows: list[Row] = [self._last] if self._last is not None else []
        repeated = len(rows)
        for _ in range(min(len(self.pending), BATCH_ROWS)):
            step, at, data = self.pending.popleft()
            if rows and rows[-1][0] == step:
                rows[-1] = (step, rows[-1][1], {**rows[-1][2], **data})
            else:
                rows.append((step, at, data))
        if repeated and rows[0] is self._last:
            rows, repeated = rows[1:], 0
        if not rows:
            return []
        self.offset -= repeated
        self._last = rows[-1]
        return [self._batch(count, data) for count, data in repairs.encode(rows)]

    def _batch(self, count: int, data: bytes) -> Rows:
        batch = Rows(self.name, self.offset, count, data)
        self.offset += count
        return batch

    def columns(
        self, steps: Sequence[int], columns: Mapping[str, Sequence[Any]], timestamps: Sequence[float] | None
    ) -> Rows:
        """Whole columns as one batch. Raises Invalid when they are not equally long, or not numbers or JSON."""
        batch = self._batch(len(steps), encode_columns(steps, columns, timestamps))
        self._last = None
        self.step = max(self.step, int(steps[-1]) + 1)
        return batch
