"""Console lines found by the time at which they were printed."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec

from labkeep.core.access import Actor
from labkeep.core.columns import TIMESTAMP
from labkeep.core.commands import ReadHistory
from labkeep.core.removals import PlanRemoval
from labkeep.operations import Store, history

C = TypeVar("C", bound=PlanRemoval)

PAGE = 50_000
"""Lines looked at at once."""

TIME = "time"
"""Where clients that send no timestamps write when a line was printed."""


def locate(store: Store, actor: Actor, command: C) -> C:
    """The command with the number of the first line that was not printed ``before``. Blocks: for threads.

    A line without a time counts to the one before it.
    """
    if command.before is None or command.part != "console" or command.upto is not None:
        return command
    offset: int | None = 0
    while offset is not None:
        asked = ReadHistory(id=command.id, stream="console", offset=offset, limit=PAGE, include="trashed")
        found = history.read(store, actor, asked)
        for row in found.table.rows():
            printed = _moment(row.get(TIMESTAMP), row.get(TIME))
            if printed is not None and printed >= command.before.timestamp():
                return msgspec.structs.replace(command, upto=_number(row))
        offset = found.next_offset
        total = found.total
    return msgspec.structs.replace(command, upto=total)


def _number(row: dict[str, object]) -> int:
    number = row["_step"]
    assert isinstance(number, int)
    return number


def _moment(timestamp: object, text: object) -> float | None:
    """Seconds since the epoch."""
    if isinstance(timestamp, int | float):
        return float(timestamp)
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        return None
