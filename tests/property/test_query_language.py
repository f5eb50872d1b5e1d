"""Laws of the query language: what is printed is read back, logic holds, and no text does harm."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from labkeep.core.errors import Invalid
from labkeep.core.fields import FIELDS, NAMESPACES, TYPES, CompareOp, field_info
from labkeep.core.filters import (
    And,
    Compare,
    Contains,
    Exists,
    Filter,
    In,
    Leaf,
    Matches,
    Not,
    Or,
    Order,
    Query,
    conjunction,
    evaluate,
    fields_used,
    find_fault,
    ordered,
    state_filter,
    validate,
)
from labkeep.core.lifecycle import State
from labkeep.core.mongo import parse_mongo, parse_order
from labkeep.core.patterns import SPAN, compile_pattern
from labkeep.core.query import MAX_TEXT, parse, print_query
from labkeep.core.times import parse_time, print_time

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)

# Characters that a database can store: everything but NUL and surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
paths = st.one_of(
    st.from_regex(r"[a-z_]{1,4}(\.[a-z0-9]{1,3}([/-][a-z]{1,2})?){0,2}", fullmatch=True),
    texts.filter(bool),
)
open_fields = st.builds(lambda space, path: f"{space}.{path}", st.sampled_from(sorted(NAMESPACES)), paths)
fields = st.one_of(st.sampled_from(sorted(FIELDS)), open_fields)
numbers = st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), st.floats())
moments = st.datetimes(
    datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5.5))])
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "tags": texts,
    "choice": st.sampled_from([str(state) for state in State]),
    "number": numbers,
    "flag": st.booleans(),
    "time": moments,
    "open": st.one_of(texts, numbers, st.booleans()),
}

# A small world, so that conditions and runs meet often.
few_fields = st.sampled_from(
    ["config.a", "config.b", "summary.c", "tag", "name", "state", "bytes", "created_at", "locked"]
)


@st.composite
def comparisons(draw: st.DrawFn, op: CompareOp) -> Compare:
    """A comparison by ``op`` in the small world."""
    name = draw(few_fields)
    info = field_info(name)
    assert info is not None
    leaf = Compare(name, op, draw(VALUES[info.type]))
    assume(find_fault(leaf) is None)
    return leaf


@st.composite
def leaves(draw: st.DrawFn, field: st.SearchStrategy[str] = fields) -> Leaf:
    name = draw(field)
    info = field_info(name)
    assert info is not None
    value = VALUES[info.type]
    kinds: list[st.SearchStrategy[Leaf]] = [
        st.builds(Compare, st.just(name), st.sampled_from(info.rules.ops), value),
        st.builds(In, st.just(name), st.lists(value, max_size=4).map(tuple)),
        st.builds(Exists, st.just(name)),
    ]
    if info.rules.searched:
        kinds.append(st.builds(Contains, st.just(name), texts))
        kinds.append(st.builds(Matches, st.just(name), st.sampled_from(["^a", r"v\d+", "[ab]c?", 'q"\\\\'])))
    leaf = draw(st.one_of(kinds))
    assume(find_fault(leaf) is None)
    return leaf


def joins(items: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(items, min_size=2, max_size=4).map(tuple)
    return st.one_of(st.builds(And, several), st.builds(Or, several), st.builds(Not, items))


filters = st.recursive(leaves(), joins, max_leaves=12)
orders = st.lists(st.builds(Order, fields.filter(lambda name: name != "tag"), st.booleans()), max_size=3).map(tuple)
queries = st.builds(Query, st.none() | filters, orders)

stored = st.one_of(st.none(), st.sampled_from([0, 1, 1.0, True, False, math.nan, math.inf, "", "a", "A", "1", [1]]))
runs = st.fixed_dictionaries(
    {
        "config.a": stored,
        "config.b": stored,
        "summary.c": stored,
        "tag": st.lists(st.sampled_from(["a", "b", "1"]), max_size=2, unique=True).map(tuple),
        "name": st.sampled_from(["", "a", "ab"]),
        "state": st.sampled_from(list(State)),
        "bytes": st.none() | st.integers(0, 3),
        "created_at": st.just(NOW),
        "locked": st.booleans(),
    }
)
worldly = st.recursive(leaves(few_fields), joins, max_leaves=8)


@given(queries)
def test_a_printed_query_is_read_back_as_it_was(query: Query) -> None:
    text = print_query(query)
    assume(len(text) <= MAX_TEXT)
    # repr, because NaN differs from itself and True equals 1.
    assert repr(parse(text, NOW)) == repr(_in_utc(query))
    assert print_query(parse(text, NOW)) == text


def _in_utc(query: Query) -> Query:
    def moved(node: Filter) -> Filter:
        if isinstance(node, And | Or):
            return type(node)(tuple(moved(item) for item in node.items))
        if isinstance(node, Not):
            return Not(moved(node.item))
        if isinstance(node, In):
            return In(node.field, tuple(_utc(value) for value in node.values))
        return Compare(node.field, node.op, _utc(node.value)) if isinstance(node, Compare) else node

    return Query(None if query.filter is None else moved(query.filter), query.order)


def _utc(value: Any) -> Any:
    return value.astimezone(UTC).replace(fold=0) if isinstance(value, datetime) else value


@given(queries)
def test_every_tree_that_is_made_of_checked_conditions_is_valid(query: Query) -> None:
    validate(query)
    assert set(fields_used(query)) >= {key.field for key in query.order}


@given(moments)
def test_a_printed_time_is_read_back_as_it_was(moment: datetime) -> None:
    assert parse_time(print_time(moment), NOW) == moment


# Logic


@given(worldly, worldly, runs)
def test_de_morgan_holds_with_two_truth_values(a: Filter, b: Filter, run: dict[str, object]) -> None:
    assert evaluate(Not(And((a, b))), run.get) == evaluate(Or((Not(a), Not(b))), run.get)
    assert evaluate(Not(Or((a, b))), run.get) == evaluate(And((Not(a), Not(b))), run.get)
    assert evaluate(Not(Not(a)), run.get) == evaluate(a, run.get)
    assert evaluate(Or((a, Not(a))), run.get)
    assert not evaluate(And((a, Not(a))), run.get)


@given(comparisons("="), runs)
def test_unequal_is_exactly_not_equal(leaf: Compare, run: dict[str, object]) -> None:
    assert evaluate(Compare(leaf.field, "!=", leaf.value), run.get) != evaluate(leaf, run.get)


@given(st.lists(comparisons("="), max_size=4), runs)
def test_membership_is_equality_with_one_of_the_values(asked: list[Compare], run: dict[str, object]) -> None:
    for field in {leaf.field for leaf in asked}:
        each = [leaf for leaf in asked if leaf.field == field]
        assert evaluate(In(field, tuple(leaf.value for leaf in each)), run.get) == any(
            evaluate(leaf, run.get) for leaf in each
        )


@given(st.sampled_from(["config.a", "config.b", "bytes", "created_at"]), numbers, runs)
def test_at_most_is_less_or_equal(field: str, number: float, run: dict[str, object]) -> None:
    leaf = Compare(field, "<=", NOW if field == "created_at" else number)
    assume(find_fault(leaf) is None)
    less, equal = Compare(leaf.field, "<", leaf.value), Compare(leaf.field, "=", leaf.value)
    assert evaluate(leaf, run.get) == evaluate(Or((less, equal)), run.get)


@given(leaves(few_fields), runs)
def test_whatever_meets_a_positive_condition_has_the_field(leaf: Leaf, run: dict[str, object]) -> None:
    assume(not (isinstance(leaf, Compare) and leaf.op == "!="))
    assert not evaluate(leaf, run.get) or evaluate(Exists(leaf.field), run.get)


@given(st.lists(worldly | st.none(), max_size=4), runs)
def test_a_conjunction_holds_when_all_do(parts: list[Filter | None], run: dict[str, object]) -> None:
    assert evaluate(conjunction(*parts), run.get) == all(evaluate(part, run.get) for part in parts)


@given(worldly, runs)
def test_no_run_outside_the_states_that_were_found_is_let_through(filter: Filter, run: dict[str, object]) -> None:
    states = state_filter(filter)
    mentions = "state" in fields_used(Query(filter))
    assert (states is not None) == mentions
    if states is not None and evaluate(filter, run.get):
        assert run["state"] in states


@given(st.lists(runs, max_size=6), few_fields.filter(lambda name: TYPES[field_info(name).type].ordered), st.booleans())  # type: ignore[union-attr]
def test_an_order_keeps_every_item_and_turning_it_round_turns_what_has_the_field(
    items: list[dict[str, Any]], field: str, descending: bool
) -> None:
    named = [{**item, "id": f"{at}"} for at, item in enumerate(items)]
    found = ordered(named, (Order(field, descending),), lambda item, name: item.get(name))
    assert sorted(item["id"] for item in found) == sorted(item["id"] for item in named)
    last = [Exists(field) for _ in found]
    missing = [not evaluate(leaf, item.get) for leaf, item in zip(last, found, strict=True)]
    unordered = [
        gone or isinstance(item[field], list) or item[field] != item[field]
        for gone, item in zip(missing, found, strict=True)
    ]
    assert unordered == sorted(unordered)


# Hostile input

PIECES = st.sampled_from(
    [
        *(
            "(",
            ")",
            "not ",
            "and ",
            "or ",
            "in ",
            "(1,",
            "exists ",
            "is ",
            "null ",
            "order by ",
            ",",
            "desc ",
            "~",
            "!~",
            "=~",
        ),
        *("=", "!=", "<", ":", "config.a", "config.`", "`", "tag", "status", "state", "created_at", "any ", "trashed "),
        *(
            "1",
            "-1",
            "1e999",
            "9" * 400,
            "NaN ",
            "-Infinity ",
            "-30d ",
            "-999999999w ",
            "2026-11-01",
            "0001-01-01T00:00+23:59",
        ),
        *(
            '"a"',
            "'",
            '"',
            "\\",
            '"\\ud800"',
            '"\\u0000"',
            "'(a+)+'",
            "'['",
            "\x00",
            "\ud800",
            "é",
            "²",
            "٣",
            "\u2028",
            ".",
        ),
    ]
)


@given(
    st.one_of(
        st.text(max_size=80), st.lists(PIECES, max_size=30).map("".join), st.lists(PIECES, max_size=30).map(" ".join)
    )
)
@settings(max_examples=400, deadline=None)
@example("(" * MAX_TEXT)
@example("not " * (MAX_TEXT // 4))
@example("tag=a or " * (MAX_TEXT // 9))
@example('"' + "\\" * (MAX_TEXT - 1))
@example("config." + "`" * (MAX_TEXT - 8))
@example("1" * MAX_TEXT)
@example("config.a = " + "1" * 9_000 + "x")
@example("a-" * (MAX_TEXT // 2))
@example("created_at > -" + "9" * 5_000 + "d")
def test_no_text_raises_anything_but_invalid(text: str) -> None:
    try:
        query = parse(text, NOW)
    except Invalid as error:
        assert error.details["expected"]  # noqa: PT017
        column = error.details.get("column", 1)
        assert 1 <= column <= len(text) + 1
        json.dumps(dict(error.details))
    else:
        validate(query)
        assert parse(print_query(query), NOW) == query or "NaN" in print_query(query)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["$and", "$or", "$nor", "$not", "$in", "$nin", "$gt", "$eq", "$ne", "$regex", "$exists", "$all"]
            )
            | st.sampled_from(["config.a", "tags", "state", "created_at", "config.", "lifecycle"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=15,
)


@given(json_values)
@settings(max_examples=400, deadline=None)
def test_no_json_filter_raises_anything_but_invalid(value: Any) -> None:
    try:
        found = parse_mongo(value, NOW)
    except Invalid as error:
        json.dumps(dict(error.details))
        assert error.details["path"] is not None  # noqa: PT017
    else:
        validate(Query(found))


@given(st.text(max_size=30))
def test_no_order_text_raises_anything_but_invalid(text: str) -> None:
    try:
        parse_order(text)
    except Invalid as error:
        assert error.details  # noqa: PT017


@given(
    st.lists(st.sampled_from([*"ab.*+?|()[]{}^$\\-,123", "(?:", "(?i)", "{2,}", "[^a", r"\d"]), max_size=12).map(
        "".join
    )
)
@settings(max_examples=300, deadline=None)
def test_every_accepted_pattern_comes_back_in_bounded_time(pattern: str) -> None:
    try:
        compiled = compile_pattern(pattern)
    except Invalid:
        return
    # An unbounded pattern would run for years here.
    for text in ("a" * SPAN, "ab" * (SPAN // 2)):
        compiled.search(text)


@given(leaves(few_fields), runs)
def test_every_checked_condition_can_be_asked_of_every_run(leaf: Leaf, run: dict[str, object]) -> None:
    assert evaluate(leaf, run.get) in (True, False)
