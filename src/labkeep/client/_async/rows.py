"""Rows: eval rows, spans, results and dataset items of a run or document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.core.commands import RowIn, RowPage, RowStats, Written
from labkeep.core.entities import Row


class AsyncRows:
    """``client.rows``: what an eval or a dataset consists of."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def write(self, id: str, rows: Iterable[RowIn | Mapping[str, Any]]) -> Written:
        """Insert, replace, merge or delete rows of the run or document ``id``: one transaction, one transaction id.

        A row is ``{"id": …, "data": {…}}`` with the fields of `labkeep.core.commands.RowIn`: ``merge=True`` merges
        deeply into the current row, ``delete=True`` writes a tombstone. Without an id it gets one; see the answer.
        """
        path = requests.path("/rows/{id}", id=id)
        return await self._connection.write(Written, "POST", path, {"rows": [*map(_row, rows)]})

    def read(
        self,
        id: str,
        *,
        as_of: int | None = None,
        ids: Sequence[str] | None = None,
        include: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[Row]:
        """Current rows, newest trace first; ``limit`` counts traces. ``as_of`` reads the state at a transaction.

        A page has, beside ``items`` and ``next``, the transaction ``xact`` that it reflects.
        """
        fields = requests.given(locals(), "id")
        return AsyncPages(self._connection, RowPage, requests.path("/rows/{id}", id=id), fields)

    async def stats(self, id: str, *, include: str | None = None) -> RowStats:
        """How many rows there are, and the mean of each score over them."""
        return await self._connection.read(RowStats, requests.path("/rows/{id}/stats", id=id), include=include)


def _row(row: RowIn | Mapping[str, Any]) -> Any:
    return row if isinstance(row, RowIn) else dict(row)
