"""Reading what was logged: whole pages, samples, keys, system metrics and console lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from labkeep.core import json_values
from labkeep.core.columns import STEP, TIMESTAMP
from labkeep.core.commands import ReadHistory
from labkeep.core.entities import Json, Series
from labkeep.core.errors import Invalid
from labkeep.dialects.wandb.context import Context
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.dialects.wandb.json_lines import encode_rows
from labkeep.dialects.wandb.translate import dumps, parse_json
from labkeep.operations import history
from labkeep.operations.history import ListSeries
from labkeep.operations.run_searches import Seen

SAMPLES = 500
"""Rows of a sample when nobody says how many."""

MOST_KEYS = 100_000
"""Keys of a stream that are listed."""

KEYS_PAGE = 10_000
"""Keys that are read at once."""

Table = Any
"""Rows by column, as `labkeep.operations.history.read` answers them."""


def read(context: Context, seen: Seen, **asked: Any) -> Table:
    """Rows of a stream."""
    return history.read(context.store, context.actor, ReadHistory(id=seen.run.id, **asked)).table


def lines(table: Table, without: str = "") -> msgspec.Raw:
    """Each row as a text of JSON, with the bare NaN and Infinity that the client reads back as numbers."""
    if without:
        table = _dropped(table, without)
    if all(_is_full_of_numbers(series) for series in table.columns.values()):
        return msgspec.Raw(encode_rows({key: series.values.tolist() for key, series in table.columns.items()}))
    rows = _rows(table)
    if all(_is_json(series) for series in table.columns.values()):
        return msgspec.Raw(_encoder.encode(_encoder.encode_lines(rows).decode().split("\n")[:-1]))
    return msgspec.Raw(_encoder.encode([json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]))


_encoder = msgspec.json.Encoder()


def _rows(table: Table) -> list[Json]:
    if any(series.at is not None for series in table.columns.values()):
        return list(table.rows())
    keys = list(table.columns)
    # Where every row has every key, rows are made without looking each value's row up.
    values = [series.values.tolist() for series in table.columns.values()]
    return [dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)]


def _dropped(table: Table, key: str) -> Table:
    return type(table)(len(table), {name: series for name, series in table.columns.items() if name != key})


def _is_json(series: Any) -> bool:
    """Whether the values of a column are JSON as they are: not so for NaN, and perhaps not so for what is nested."""
    if series.type == "i8":
        return True
    if series.type == "f8":
        return bool(np.isfinite(series.values).all())
    return all(type(value) in (str, bool, int) or value is None for value in series.values.tolist())


def _is_full_of_numbers(series: Any) -> bool:
    """Whether every row has a value, and each of them is a number in JSON."""
    return series.at is None and series.type in ("i8", "f8") and _is_json(series)


def sample(table: Table, most: int) -> Table:
    """At most so many rows, spread evenly, the first and the last among them."""
    count = len(table)
    if count <= most:
        return table
    return table.take(np.unique(np.linspace(0, count - 1, max(1, most)).round().astype(np.int64)))


def full(seen: Seen, context: Context, samples: int | None = None, **steps: int | None) -> msgspec.Raw:
    """A page of steps, the last one excluded; or without steps a sample of everything."""
    first, end = steps.get("minStep"), steps.get("maxStep")
    if first is None and end is None:
        return lines(sample(read(context, seen), SAMPLES if samples is None else samples))
    return lines(read(context, seen, first_step=first, last_step=None if end is None else end - 1))


def events(seen: Seen, context: Context, samples: int | None = None) -> msgspec.Raw:
    """A sample of the system metrics. Their step is only their number."""
    found = sample(read(context, seen, stream="system"), SAMPLES if samples is None else samples)
    return lines(found, without=STEP)


class Spec(msgspec.Struct, frozen=True, rename="camel"):
    """What is asked of a sampled history. Steps include both ends."""

    keys: list[str] = []
    samples: int | None = None
    min_step: int | None = None
    max_step: int | None = None


def sampled(seen: Seen, context: Context, specs: list[str]) -> list[list[Json]]:
    """For each spec the rows that have all of its keys, in that many samples at most."""
    return [_sampled(seen, context, _spec(text)) for text in specs]


def _spec(text: str) -> Spec:
    try:
        return msgspec.convert(parse_json(text, "specs"), Spec)
    except msgspec.ValidationError as error:
        raise Invalid(f"specs: {error}", path="specs") from None


def _sampled(seen: Seen, context: Context, spec: Spec) -> list[Json]:
    if not spec.keys:
        return []
    keys = [key for key in spec.keys if key != STEP]
    wanted = [key for key in keys if key != TIMESTAMP]
    table = read(context, seen, keys=keys if wanted else [], first_step=spec.min_step, last_step=spec.max_step)
    if wanted:
        table = table.take(_having_all(table, keys))
    else:
        table = table.select(keys)
    return list(sample(table, SAMPLES if spec.samples is None else spec.samples).json_rows())


def _having_all(table: Table, keys: Sequence[str]) -> Any:
    rows: Any = np.arange(len(table))
    for key in keys:
        rows = np.intersect1d(rows, table.column(key)[0], assume_unique=True)
    return rows


# --- what is known without reading ------------------------------------------------------------------------------------


def _series(seen: Seen, context: Context, stream: str) -> list[Series]:
    found: list[Series] = []
    cursor = None
    while len(found) < MOST_KEYS:
        asked = ListSeries(id=seen.run.id, stream=stream, limit=KEYS_PAGE, cursor=cursor)
        page = context.read(history.list_series, asked)
        found += page.items
        cursor = page.next
        if cursor is None:
            break
    return found


def keys(seen: Seen, context: Context) -> Json | None:
    """The keys of the history with the type and the last value of each, and the last step."""
    if not seen.rows("history"):
        return None
    found = _series(seen, context, "history")
    known = {each.key: _key(each.last, each.count) for each in found}
    last = seen.streams["history"].last_step
    last = -1 if last is None else last
    known[STEP] = _key(last, seen.rows("history"))
    return {"sets": [], "keys": known, "lastStep": last}


def _key(last: Any, count: int) -> Json:
    return {
        "typeCounts": [{"type": _type(last), "count": count}],
        "monotonic": False,
        "previousValue": json_values.to_json(last),
    }


def _type(value: Any) -> str:
    if isinstance(value, bool | str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, dict):
        return str(value.get("_type", "map"))
    return "list" if isinstance(value, list) else "nil"


def system_metrics(seen: Seen, context: Context) -> str:
    """The last value of each system metric."""
    if not seen.rows("system"):
        return "{}"
    found = _series(seen, context, "system")
    return dumps({each.key: json_values.to_json(each.last) for each in found if each.key != TIMESTAMP})


def tail(stream: str) -> Any:
    """The last row of a stream as a text of JSON that holds a list of one text of JSON."""

    def resolve(seen: Seen, context: Context) -> str:
        rows = seen.rows(stream)
        if not rows:
            return "[]"
        return bytes(lines(read(context, seen, stream=stream, offset=rows - 1))).decode()

    return resolve


# --- console ----------------------------------------------------------------------------------------------------------

MOST_LINES = 10_000


def log_lines(
    seen: Seen,
    context: Context,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    **_more: Any,
) -> Json:
    """Console lines: ``first`` of them after a cursor, or the ``last``."""
    total = seen.rows("console")
    if last is not None:
        start = max(0, total - min(last, MOST_LINES))
        count = total - start
    else:
        start = int(after) + 1 if after and after.isdecimal() else 0
        count = min(MOST_LINES if first is None else first, MOST_LINES)
    rows: list[Json] = []
    if count > 0 and start < total:
        rows = list(read(context, seen, stream="console", offset=start, limit=count).rows())
    # The step of a line is its number: where lines were removed they are not counted from the first.
    numbers = [row.get(STEP, start + at) for at, row in enumerate(rows)]
    edges = [{"node": _log_line(row, at), "cursor": str(at)} for at, row in zip(numbers, rows, strict=True)]
    more = last is None and bool(rows) and numbers[-1] + 1 < total
    return {"edges": edges, "pageInfo": {"endCursor": edges[-1]["cursor"] if edges else None, "hasNextPage": more}}


def _log_line(row: Json, number: int) -> Json:
    return {
        "number": number,
        "timestamp": row.get("time"),
        "level": row.get("level"),
        "label": row.get("label"),
        "line": row.get("line", ""),
    }


RESOLVERS: Resolvers = {
    "Run": {
        "history": full,
        "events": events,
        "sampledHistory": sampled,
        "historyKeys": keys,
        "systemMetrics": system_metrics,
        "historyTail": tail("history"),
        "eventsTail": tail("system"),
        "logLines": log_lines,
    },
}
