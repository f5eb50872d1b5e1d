"""Deep merge: edits and row merges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.core.merge import distinct, identity, merge, remove_values

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=3)


def test_objects_merge_and_everything_else_is_replaced() -> None:
    assert merge({"a": {"x": 1, "y": [1, 2]}, "b": 1}, {"a": {"y": [3]}, "b": {"z": 0}}) == {
        "a": {"x": 1, "y": [3]},
        "b": {"z": 0},
    }


def test_none_removes_a_key_in_an_edit() -> None:
    assert merge({"a": {"x": 1, "y": 2}}, {"a": {"x": None}, "gone": None}) == {"a": {"y": 2}}


def test_none_in_an_object_that_is_new_is_not_stored_by_an_edit() -> None:
    assert merge({}, {"a": {"x": None, "y": {"z": None}}}) == {"a": {"y": {}}}


def test_none_is_a_value_when_asked() -> None:
    assert merge({"a": 1}, {"a": None, "b": {"c": None}}, remove_none=False) == {"a": None, "b": {"c": None}}


def test_none_inside_an_array_stays() -> None:
    assert merge({}, {"a": [None, {"b": None}]}) == {"a": [None, {"b": None}]}


def test_kept_keys_win_over_the_patch_and_may_be_set_when_missing() -> None:
    assert merge({"id": 1}, {"id": 2, "new": 3}, keep=("id", "new")) == {"id": 1, "new": 3}


def test_arrays_of_a_union_merge_as_sets_in_order() -> None:
    merged = merge({"tags": ["a", "b"]}, {"tags": ["b", "c", "a"]}, union=("tags",))
    assert merged == {"tags": ["a", "b", "c"]}


def test_a_union_with_what_is_no_array_replaces() -> None:
    assert merge({"tags": "a"}, {"tags": ["b"]}, union=("tags",)) == {"tags": ["b"]}
    assert merge({"tags": ["a"]}, {"tags": None}, union=("tags",), remove_none=False) == {"tags": None}


def test_a_path_stops_the_descent_and_the_union() -> None:
    current = {"a": {"b": {"x": 1}, "c": {"x": 1}}, "tags": ["a"]}
    patch = {"a": {"b": {"y": 2}, "c": {"y": 2}}, "tags": ["b"]}
    merged = merge(current, patch, union=("tags",), paths=(("a", "b"), ("tags",)))
    assert merged == {"a": {"b": {"y": 2}, "c": {"x": 1, "y": 2}}, "tags": ["b"]}


def test_the_empty_path_replaces_all_but_what_is_kept() -> None:
    assert merge({"a": 1, "id": 1}, {"b": 2, "id": 2}, keep=("id",), paths=((),)) == {"b": 2, "id": 1}


def test_values_are_removed_from_an_array_by_json_equality() -> None:
    data = {"m": {"l": [1, True, "1", {"a": 1, "b": 2}]}}
    assert remove_values(data, ("m", "l"), [1, {"b": 2, "a": 1}]) == {"m": {"l": [True, "1"]}}


@pytest.mark.parametrize("path", [(), ("x",), ("m",), ("m", "l", "deep"), ("x", "y")])
def test_removing_where_there_is_no_array_changes_nothing(path: tuple[str, ...]) -> None:
    data = {"m": {"l": [1]}}
    assert remove_values(data, path, [1]) == data


def test_equal_as_json_is_not_equal_as_python() -> None:
    assert distinct([1, True, 1.0, 1, "1", None, None]) == [1, True, 1.0, "1", None]
    assert identity({"a": 1, "b": [2]}) == identity({"b": [2], "a": 1})


@given(current=OBJECTS, patch=OBJECTS)
def test_a_merge_changes_neither_side(current: dict[str, Any], patch: dict[str, Any]) -> None:
    before = identity(current), identity(patch)
    merge(current, patch, union=("a",))
    assert (identity(current), identity(patch)) == before


@given(current=OBJECTS, patch=OBJECTS, drop=st.booleans())
def test_merging_twice_is_merging_once(current: dict[str, Any], patch: dict[str, Any], drop: bool) -> None:
    once = merge(current, patch, union=("a",), remove_none=drop)
    assert identity(merge(once, patch, union=("a",), remove_none=drop)) == identity(once)


@given(current=OBJECTS, patch=OBJECTS)
def test_what_the_patch_does_not_name_stays(current: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge(current, patch)
    assert {key: merged[key] for key in current.keys() - patch.keys()} == {
        key: current[key] for key in current.keys() - patch.keys()
    }
