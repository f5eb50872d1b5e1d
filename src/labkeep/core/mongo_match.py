"""Filters written as nested JSON objects, applied to values in memory: for lists that are short and in no index.

``{"name": {"$regex": "^model"}, "$or": [{"tag": "prod"}, {"version": "v3"}]}``. A key may stand for several values, of
which one has to match. Every error is Invalid and names the place.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkeep.core.errors import Invalid
from labkeep.core.patterns import matches as matches_pattern

Lookup = Callable[[str], Sequence[Any]]
"""Key -> what the object has under it; empty when it has nothing."""

MAX_DEPTH = 20


def matches(filters: Mapping[str, Any], lookup: Lookup, _depth: int = 0) -> bool:
    """Whether all conditions hold. Invalid for an operator that there is not."""
    if _depth > MAX_DEPTH:
        raise Invalid(f"filters are nested deeper than {MAX_DEPTH} levels", path="filters")
    return all(_entry(key, value, lookup, _depth) for key, value in filters.items())


def _entry(key: str, value: Any, lookup: Lookup, depth: int) -> bool:
    if not key.startswith("$"):
        return _condition(key, value, lookup(key), depth)
    parts = [value] if key == "$not" else value
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Invalid(f"{key} needs a list of objects", path=key)
    results = [matches(part, lookup, depth + 1) for part in parts]
    match key:
        case "$and":
            return all(results)
        case "$or":
            return any(results)
        case "$nor" | "$not":
            return not any(results)
    raise Invalid(f"{key[:40]!r} is not an operator of filters", path=key[:40])


def _condition(key: str, wanted: Any, found: Sequence[Any], depth: int) -> bool:
    if not isinstance(wanted, dict):
        return _holds("$eq", wanted, found, key)
    if depth > MAX_DEPTH:
        raise Invalid(f"filters are nested deeper than {MAX_DEPTH} levels", path=key)
    for word, value in wanted.items():
        holds = (
            not _condition(key, value, found, depth + 1)
            if word == "$not"
            else _holds(word, value, found, f"{key}.{word}")
        )
        if not holds:
            return False
    return True


def _holds(word: str, wanted: Any, found: Sequence[Any], path: str) -> bool:
    match word:
        case "$eq":
            return wanted in found if wanted is not None else not found
        case "$ne":
            return not _holds("$eq", wanted, found, path)
        case "$in" | "$nin" if isinstance(wanted, list):
            return any(_holds("$eq", one, found, path) for one in wanted) == (word == "$in")
        case "$exists":
            return bool(found) == bool(wanted)
        case "$regex" if isinstance(wanted, str):
            return any(isinstance(one, str) and matches_pattern(wanted, one) for one in found)
        case "$contains" if isinstance(wanted, str):
            return any(isinstance(one, str) and wanted in one for one in found)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return any(_ordered(word, one, wanted) for one in found)
    raise Invalid(f"{word[:40]!r} with {type(wanted).__name__} is not a condition of filters", path=path[:80])


_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def _ordered(order: str, left: Any, right: Any) -> bool:
    """Numbers have an order, and texts; a number and a text have none."""
    alike = all(isinstance(one, int | float) for one in (left, right)) or (
        isinstance(left, str) and isinstance(right, str)
    )
    return alike and _ORDERS[order](left, right)
