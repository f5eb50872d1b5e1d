"""What goes through Braintrust's wire comes back as it was, and what it cannot mean is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.core.entities import Row
from labkeep.core.errors import Invalid, LabkeepError, Unsupported
from labkeep.core.merge import identity, merge
from labkeep.dialects.braintrust import btql, events, translate
from labkeep.operations.traces import Home

NOW = datetime(2026, 3, 1, tzinfo=UTC)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
OBJECT = st.dictionaries(st.text(max_size=6), JSON, max_size=4)
FIELDS = st.sampled_from(["input", "output", "expected", "metadata", "scores", "tags", "metrics", "facets", "x"])


# --- numbers ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**48 - 1))
def test_a_transaction_id_comes_back_in_both_of_its_forms(xact: int) -> None:
    text = events.xact_out(xact)
    assert len(text) == 19
    assert events.xact_in(text) == events.xact_in(int(text)) == xact
    pretty = f"{int(text) * 205891132094649 % 2**64:016x}"  # as the clients shorten it
    assert events.xact_in(pretty) == xact


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
def test_transaction_ids_are_ordered_as_texts_are(a: int, b: int) -> None:
    assert (a < b) == (events.xact_out(a) < events.xact_out(b))


@given(st.text(max_size=25) | st.integers() | st.booleans() | st.none())
def test_anything_else_is_no_transaction_id_or_one_in_range(value: Any) -> None:
    try:
        found = events.xact_in(value)
    except Invalid:
        return
    assert 0 <= found < 2**48


@given(st.integers(0, 2**63 - 1))
def test_a_cursor_comes_back(position: int) -> None:
    assert events.cursor_in(events.cursor_out(position)) == position


@given(JSON)
def test_anything_else_is_no_cursor(value: Any) -> None:
    try:
        position = events.cursor_in(value)
    except Invalid:
        return
    assert events.cursor_in(events.cursor_out(position)) == position


# --- events -----------------------------------------------------------------------------------------------------------


@given(st.dictionaries(FIELDS, JSON, max_size=5), st.text(min_size=1, max_size=8))
def test_an_event_comes_back_as_it_was_sent(sent: dict[str, Any], id: str) -> None:
    row = events.row_in({"id": id, "experiment_id": "e", **sent}, "events[0]")
    stored = Row(id=id, xact=5, root_id=row.root_id or id, data=row.data, created_at=NOW, position=1)
    shown = events.event_out(stored, {"experiment_id": "e"}, Home.run)
    assert {name: identity(shown[name]) for name in sent} == {name: identity(value) for name, value in sent.items()}
    assert (shown["id"], shown["experiment_id"], shown["is_root"]) == (id, "e", True)


@given(st.dictionaries(FIELDS | st.sampled_from(["id", "_is_merge", "_merge_paths", "_array_delete", "origin", "comment", "span_id", "root_span_id", "_object_delete", "_audit_metadata"]), JSON))  # fmt: skip
def test_any_object_is_a_row_or_refused(event: dict[str, Any]) -> None:
    try:
        row = events.row_in(event, "events[0]")
    except Invalid:
        return
    assert not any(name.startswith("_") for name in row.data)
    msgspec.json.encode(row)


@given(JSON)
def test_any_batch_is_taken_or_refused(rows: Any) -> None:
    try:
        batch = events.batch_in(rows)
    except (Invalid, Unsupported):
        return
    assert len(batch.places) == sum(len(part.rows) for part in batch.sets)


@given(JSON)
def test_what_is_json_needs_no_mending(value: Any) -> None:
    mended = events.repaired(msgspec.json.encode(value))
    assert mended is not None
    assert identity(json.loads(mended)) == identity(json.loads(msgspec.json.encode(value)))


@given(st.text(st.characters(categories=["Cs", "L"]), max_size=8), st.sampled_from([float("nan"), float("inf"), -0.5]))
def test_what_python_writes_for_json_can_be_mended(text: str, number: float) -> None:
    mended = events.repaired(json.dumps({"text": text, "number": number}).encode())
    assert mended is not None
    found = msgspec.json.decode(mended)
    assert found["number"] in (None, -0.5)
    assert len(found["text"]) <= len(text)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_json_stay_none(data: bytes) -> None:
    mended = events.repaired(data)
    if mended is not None:
        msgspec.json.decode(mended)


# --- objects ----------------------------------------------------------------------------------------------------------

PROJECT = "01890a5d-ac96-774b-bcce-b302099a8057"


@given(OBJECT, OBJECT)
def test_what_only_the_vendor_knows_is_kept(extra: dict[str, Any], repo: dict[str, Any]) -> None:
    unknown = {f"x_{name}": value for name, value in extra.items() if value is not None}
    body = {"project_id": PROJECT, "name": "e", "repo_info": repo, **unknown}
    kept = translate.create_experiment(body).run.extra["braintrust"]
    assert identity(kept) == identity({"repo_info": repo, **unknown})


@given(OBJECT, OBJECT)
def test_null_in_a_patch_changes_nothing(before: dict[str, Any], patch: dict[str, Any]) -> None:
    after = merge(before, translate.without_nulls(patch))
    assert before.keys() <= after.keys()
    for name, value in before.items():
        if patch.get(name) is None:
            assert after[name] == value


@given(JSON)
def test_any_body_makes_a_command_or_is_refused(body: Any) -> None:
    for make in (
        translate.create_project,
        translate.create_experiment,
        translate.create_dataset,
        lambda each: translate.update_project(PROJECT, each),
        lambda each: translate.update_experiment(PROJECT, each),
        lambda each: translate.update_dataset(PROJECT, each),
    ):
        try:
            make(body)
        except Invalid:
            continue


@given(st.text(max_size=30))
def test_a_slug_can_stand_in_a_url(name: str) -> None:
    found = translate.slug(name)
    assert found
    assert all(character.isascii() and (character.isalnum() or character == "-") for character in found)


# --- queries ----------------------------------------------------------------------------------------------------------

VALUES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]) | st.sampled_from(["", "a", "1"])
EVENT = st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES})
LEAF = st.builds(lambda value: {"op": "literal", "value": value}, VALUES) | st.sampled_from(
    [{"op": "ident", "name": ["a"]}, {"op": "ident", "name": ["b"]}, {"op": "ident", "name": ["a", "deep"]}]
)
COMPARISON = st.builds(
    lambda op, left, right: {"op": op, "left": left, "right": right},
    st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]),
    LEAF,
    LEAF,
) | st.builds(lambda op, expr: {"op": op, "expr": expr}, st.sampled_from(["isnull", "isnotnull"]), LEAF)
CONDITION = st.recursive(
    COMPARISON,
    lambda inner: st.builds(
        lambda op, children: {"op": op, "children": children},
        st.sampled_from(["and", "or"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=5,
)


@given(CONDITION, EVENT)
def test_a_condition_and_its_opposite_never_both_hold(condition: dict[str, Any], event: dict[str, Any]) -> None:
    holds = btql.compile_condition(condition)(event)
    opposite = btql.compile_condition({"op": "not", "expr": condition})(event)
    assert holds in (True, False, None)
    assert not (holds is True and opposite is True)
    if condition["op"] in ("and", "or"):
        each = [btql.compile_condition(child)(event) is True for child in condition["children"]]
        assert holds is (all(each) if condition["op"] == "and" else any(each))


@given(VALUES, VALUES)
def test_comparisons_agree_with_python_where_both_are_numbers_or_both_texts(left: Any, right: Any) -> None:
    def check(op: str) -> Any:
        node = {"op": op, "left": {"op": "literal", "value": left}, "right": {"op": "literal", "value": right}}
        return btql.compile_condition(node)({})

    def kind(value: Any) -> str:
        return type(value).__name__.replace("int", "number").replace("float", "number")

    if left is None or right is None:
        assert {check(op) for op in ("eq", "ne", "lt", "le", "gt", "ge")} == {None}
    elif kind(left) != kind(right):
        assert (check("eq"), check("ne"), check("lt"), check("ge")) == (False, True, None, None)
    elif kind(left) != "bool":
        assert (check("eq"), check("lt"), check("ge")) == (left == right, left < right, left >= right)
    else:
        assert check("eq") is (left == right)


@given(JSON)
def test_any_query_is_understood_or_refused(query: Any) -> None:
    try:
        btql.parse(query)
    except LabkeepError:
        return


@pytest.mark.parametrize("depth", [10, 90])
def test_a_deep_condition_is_no_trouble(depth: int) -> None:
    condition: dict[str, Any] = {"op": "literal", "value": True}
    for _ in range(depth):
        condition = {"op": "and", "children": [condition]}
    assert btql.compile_condition(condition)({}) is True
