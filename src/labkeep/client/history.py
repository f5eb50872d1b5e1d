"""Metric history on the client: rows from dicts, points from batches. Nothing here needs numpy."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from labkeep.client.transport import Answer
from labkeep.core.columns import LIMITS, STEP, TIMESTAMP, Batch, Limits, Numbers, Row, decode
from labkeep.core.errors import Invalid

Points: TypeAlias = "tuple[Numbers, Numbers | list[Any]]"
"""(steps, values), equally long."""

ANSWER_LIMITS = Limits(
    rows=1_000_000_000, columns=1_000_000, key_length=LIMITS.key_length, json_bytes=2**31, json_depth=LIMITS.json_depth
)
"""What is accepted of our own server, which answers a whole stream in one batch."""


def rows(dicts: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows of `labkeep.core.columns` from dicts with a ``_step``. Invalid for one without."""
    return [_row(index, row) for index, row in enumerate(dicts)]


def _row(index: int, row: Mapping[str, Any]) -> Row:
    step = row.get(STEP)
    if not isinstance(step, int) or isinstance(step, bool):
        raise Invalid(f"row {index} needs a {STEP!r} that is a whole number", path=f"rows[{index}].{STEP}")
    return step, row.get(TIMESTAMP), {key: value for key, value in row.items() if key not in (STEP, TIMESTAMP)}


def batch(data: bytes) -> Batch:
    """The batch in an answer."""
    return decode(data, ANSWER_LIMITS)


class Part(NamedTuple):
    """Part of a stream. ``total`` is where the stream ends, ``next_offset`` where the next part begins, None after the last."""

    batch: Batch
    total: int
    next_offset: int | None


def part(answer: Answer) -> Part:
    """The part of a stream in an answer."""
    following = answer.headers.get("labkeep-next-offset")
    total = int(answer.headers.get("labkeep-total", "0"))
    return Part(batch(answer.body), total, None if following is None else int(following))


def points(found: Batch, key: str) -> Points:
    """The steps at which ``key`` has a value, and the values. Both empty when it has none."""
    all_steps = found.column(STEP)[1]
    assert isinstance(all_steps, array)
    present, values = found.column(key)
    steps = all_steps if len(present) == found.n else array("q", map(all_steps.__getitem__, present))
    return steps, values if len(values) else array("d")
