"""Filters over values in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from labkeep.core.errors import Invalid
from labkeep.core.mongo_match import matches

VALUES: dict[str, Sequence[Any]] = {"name": ["Best net"], "tag": ["gold", "new"], "version": ["v3", 3], "size": [10]}


def found(filters: dict[str, Any]) -> bool:
    return matches(filters, lambda key: VALUES.get(key, ()))


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"name": "Best net"},
        {"tag": "gold"},
        {"tag": {"$in": ["old", "new"]}},
        {"tag": {"$nin": ["old"]}},
        {"version": 3},
        {"version": {"$ne": "v4"}},
        {"size": {"$gt": 9, "$lte": 10}},
        {"size": {"$not": {"$lt": 10}}},
        {"name": {"$regex": "^Best"}},
        {"name": {"$contains": "net"}},
        {"missing": None},
        {"missing": {"$exists": False}},
        {"$or": [{"name": "other"}, {"$and": [{"tag": "new"}, {"size": 10}]}]},
        {"$nor": [{"name": "other"}]},
        {"$not": {"name": "other"}},
    ],
)
def test_it_holds(filters: dict[str, Any]) -> None:
    assert found(filters)
    assert not found({"$not": filters})


@pytest.mark.parametrize(
    "filters",
    [
        {"name": "best net"},
        {"tag": None},
        {"size": {"$gt": "9"}},
        {"size": {"$gte": 11}},
        {"missing": {"$regex": "."}},
        {"missing": {"$lt": 1}},
    ],
)
def test_it_does_not_hold(filters: dict[str, Any]) -> None:
    assert not found(filters)


def _nested(depth: int) -> dict[str, Any]:
    return {"$and": [_nested(depth - 1)]} if depth else {}


@pytest.mark.parametrize(
    "filters",
    [
        {"$xor": [{}]},
        {"$or": {"name": "x"}},
        {"$and": ["name"]},
        {"name": {"$almost": "x"}},
        {"name": {"$regex": 1}},
        {"name": {"$regex": "(a+)+$"}},
        {"tag": {"$in": "gold"}},
        _nested(30),
    ],
    ids=str,
)
def test_what_is_no_filter_is_refused(filters: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        found(filters)
