"""Keeps the table ``fields``: one row for each thing that a run, document or artifact can be found by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import delete

from labkeep.core.entities import Item, Run
from labkeep.core.filters import INDEXED_TEXT, MAX_FIELD
from labkeep.core.paths import leaves_of
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

MAX_FIELDS = 5_000
"""Fields of one object that are indexed; what comes later can be read but not filtered by."""

Value = tuple[str, float | None, str | None]
"""type (n number, b flag, t text, o other), num, text."""


class Owner(Protocol):
    """As much of an `Item` as its rows in the index need, for writers that do not read the whole object."""

    @property
    def organization_id(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def project_id(self) -> str | None: ...


def value_of(value: Any) -> Value:
    """How one value stands in the index. NaN is a number without a num: it equals itself and has no order."""
    if isinstance(value, bool):
        return "b", float(value), None
    if isinstance(value, int | float):
        number = _float(value)
        return "n", None if math.isnan(number) else number, None
    if isinstance(value, str):
        # PostgreSQL stores no NUL; what cannot be stored cannot be asked for either.
        return "t", None, value[:INDEXED_TEXT].replace("\x00", "")
    return "o", None, None


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def fields_of(item: Item) -> dict[str, Value]:
    """Everything that ``item`` is found by, by path."""
    found: dict[str, Value] = {f"tag.{tag}": ("b", 1.0, None) for tag in item.tags}
    for space, values in _spaces(item):
        for path, value in leaves_of(values):
            full = f"{space}.{path}"
            if value is not None and len(full) <= MAX_FIELD and "\x00" not in full:
                found[full] = value_of(value)
            if len(found) >= MAX_FIELDS:
                return found
    return found


def _spaces(item: Item) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(item, Run):
        yield "config", item.config
        yield "summary", item.summary
    yield "metadata", item.metadata


def _row(item: Owner, path: str, value: Value) -> dict[str, Any]:
    return {
        "organization_id": item.organization_id,
        "item_id": item.id,
        "path": path,
        "project_id": item.project_id or item.id,
        "type": value[0],
        "num": value[1],
        "text": value[2],
    }


def add(tx: Tx, items: Sequence[Item]) -> None:
    """Index new objects."""
    tx.insert(t.fields, [_row(item, path, value) for item in items for path, value in fields_of(item).items()])


def change(tx: Tx, before: Item, after: Item) -> None:
    """Index what differs between two states of one object."""
    if before is after:
        return
    old, new = fields_of(before), fields_of(after)
    drop(tx, after, old.keys() - new.keys())
    tx.upsert(t.fields, [_row(after, path, value) for path, value in new.items() if old.get(path) != value])


def put(tx: Tx, item: Owner, values: Mapping[str, Any]) -> None:
    """Index values that live in a table of their own: ``scores.…`` and ``metrics.…``."""
    tx.upsert(t.fields, [_row(item, path, value_of(value)) for path, value in values.items() if len(path) <= MAX_FIELD])


def drop(tx: Tx, item: Owner, paths: Iterable[str]) -> None:
    """Take paths of one object out of the index."""
    gone = list(paths)
    c = t.fields.c
    for start in range(0, len(gone), 500):
        part = gone[start : start + 500]
        same = (c.organization_id == item.organization_id, c.item_id == item.id, c.path.in_(part))
        tx.execute(delete(t.fields).where(*same))
