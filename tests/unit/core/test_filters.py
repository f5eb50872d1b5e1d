"""The filter tree: what it means, what is checked, and the questions that can be asked of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from labkeep.core.errors import Invalid
from labkeep.core.fields import FIELDS, NAMESPACES, TYPES, field_info, unknown_field
from labkeep.core.filters import (
    INDEXED_TEXT,
    MAX_DEPTH,
    MAX_IN,
    MAX_NODES,
    MAX_ORDER,
    NOTHING,
    And,
    Compare,
    Contains,
    Exists,
    Filter,
    In,
    Matches,
    Not,
    Or,
    Order,
    Query,
    conjunction,
    differs,
    equals,
    evaluate,
    fields_used,
    leaves,
    one_of,
    ordered,
    state_filter,
    validate,
)
from labkeep.core.lifecycle import State

MORNING = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)

RUN: dict[str, object] = {
    "id": "0192",
    "name": "Baseline",
    "state": "active",
    "status": "finished",
    "group": "",
    "tag": ("prod", "v2"),
    "created_at": MORNING,
    "bytes": 10,
    "locked": False,
    "config.lr": 0.1,
    "config.layers": 3,
    "config.optimizer": "Adam",
    "config.quoted": "0.1",
    "config.flag": True,
    "config.empty": "",
    "config.list": [1, 2],
    "config.long": "x" * 300,
    "summary.loss": math.nan,
    "summary.best": math.inf,
}


def holds(filter: Filter | None, run: dict[str, object] | None = None) -> bool:
    return evaluate(filter, (RUN if run is None else run).get)


# What conditions mean


def test_no_filter_holds_for_everything() -> None:
    assert holds(None)


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("=", 0.1, True),
        ("<", 0.2, True),
        ("<", 0.1, False),
        ("<=", 0.1, True),
        (">", 0.05, True),
        (">=", 0.2, False),
        ("!=", 0.1, False),
        ("!=", 1, True),
    ],
)
def test_numbers_compare_as_numbers(op: str, value: float, expected: bool) -> None:
    assert holds(Compare("config.lr", op, value)) is expected  # type: ignore[arg-type]


def test_an_integer_and_a_float_of_the_same_value_are_equal() -> None:
    assert holds(Compare("config.layers", "=", 3.0))
    assert holds(In("config.layers", (2, 3.0)))


def test_integers_compare_as_64_bit_floats() -> None:
    assert evaluate(Compare("config.seed", "=", 2**53), lambda _: 2**53 + 1)


def test_a_number_never_equals_the_text_that_spells_it() -> None:
    assert not holds(Compare("config.lr", "=", "0.1"))
    assert not holds(Compare("config.quoted", "=", 0.1))
    assert holds(Compare("config.quoted", "=", "0.1"))
    assert not holds(In("config.quoted", (0.1, 1)))


def test_values_of_two_kinds_are_neither_less_nor_greater() -> None:
    for op in ("<", "<=", ">", ">="):
        assert not holds(Compare("config.optimizer", op, 1))  # type: ignore[arg-type]


def test_a_flag_equals_only_a_flag() -> None:
    assert holds(Compare("config.flag", "=", True))
    assert not holds(Compare("config.flag", "=", 1))
    assert not holds(Compare("config.layers", "=", True))
    assert holds(Compare("config.flag", "!=", 1))
    assert not evaluate(Compare("config.one", "=", True), lambda _: 1)


def test_a_missing_field_fails_every_comparison_but_not_equal() -> None:
    for op in ("=", "<", "<=", ">", ">="):
        assert not holds(Compare("config.absent", op, 1))  # type: ignore[arg-type]
    assert holds(Compare("config.absent", "!=", 1))
    assert not holds(In("config.absent", (1, "a")))
    assert not holds(Contains("config.absent", ""))
    assert not holds(Matches("config.absent", ""))
    assert not holds(Exists("config.absent"))


def test_not_is_plain_negation_for_missing_fields_too() -> None:
    assert holds(Not(Compare("config.absent", "<", 1)))
    assert holds(Not(Compare("config.absent", ">=", 1)))
    assert holds(Not(In("config.absent", (1,))))


def test_nan_equals_nan_and_nothing_else() -> None:
    assert holds(Compare("summary.loss", "=", math.nan))
    assert holds(In("summary.loss", (1, math.nan)))
    assert not holds(Compare("summary.loss", "!=", math.nan))
    assert not holds(Compare("config.lr", "=", math.nan))
    assert holds(Compare("config.lr", "!=", math.nan))
    assert holds(Compare("summary.loss", "!=", 1))
    assert not holds(Compare("summary.loss", "<", 1))
    assert not holds(Compare("summary.loss", ">=", 1))
    assert holds(Exists("summary.loss"))


def test_infinity_is_greater_than_every_number() -> None:
    assert holds(Compare("summary.best", ">", 1e308))
    assert holds(Compare("summary.best", "=", math.inf))
    assert holds(Compare("config.lr", "<", math.inf))


def test_tags_hold_when_one_of_them_does() -> None:
    assert holds(Compare("tag", "=", "prod"))
    assert not holds(Compare("tag", "!=", "prod"))
    assert holds(Compare("tag", "!=", "test"))
    assert holds(In("tag", ("test", "v2")))
    assert not holds(In("tag", ("test",)))
    assert holds(Contains("tag", "PRO"))
    assert holds(Matches("tag", "^v[0-9]$"))
    assert holds(Exists("tag"))


def test_an_object_without_tags_has_no_tag() -> None:
    assert not holds(Exists("tag"), {"tag": ()})
    assert holds(Compare("tag", "!=", "prod"), {"tag": ()})
    assert holds(Compare("tag", "!=", "prod"), {})


def test_contains_ignores_case_by_unicode_folding() -> None:
    assert holds(Contains("config.optimizer", "ADA"))
    assert holds(Contains("name", "base"))
    assert evaluate(Contains("name", "STRASSE"), lambda _: "Lange Straße")
    assert not holds(Contains("config.layers", "3"))


def test_text_is_ordered_by_code_point() -> None:
    assert evaluate(Compare("name", "<", "a"), lambda _: "Z")
    assert evaluate(Compare("name", ">", "z"), lambda _: "é")


def test_times_compare_across_zones() -> None:
    berlin = timezone(timedelta(hours=1))
    assert holds(Compare("created_at", "=", datetime(2026, 11, 1, 10, 30, tzinfo=berlin)))
    assert holds(Compare("created_at", ">", MORNING - timedelta(days=1)))


def test_empty_text_in_an_attribute_is_absent_and_in_a_config_it_is_a_value() -> None:
    assert not holds(Exists("group"))
    assert holds(Exists("config.empty"))
    assert holds(Compare("config.empty", "=", ""))


def test_of_logged_text_only_the_indexed_part_is_compared() -> None:
    assert holds(Compare("config.long", "=", "x" * INDEXED_TEXT))
    assert holds(Compare("config.long", "=", "x" * INDEXED_TEXT + "other"))
    assert not holds(Compare("config.long", "=", "x" * (INDEXED_TEXT - 1)))
    assert not holds(Contains("config.long", "x" * (INDEXED_TEXT + 1)))
    assert not evaluate(Compare("name", "=", "x" * INDEXED_TEXT), lambda _: "x" * 300)


def test_a_list_is_there_but_compares_with_nothing() -> None:
    assert holds(Exists("config.list"))
    assert not holds(Compare("config.list", "=", 1))
    assert holds(Compare("config.list", "!=", 1))


def test_membership_in_no_values_never_holds() -> None:
    assert not holds(NOTHING)
    assert holds(Not(NOTHING))


def test_and_needs_all_and_or_needs_one() -> None:
    yes, no = Compare("config.lr", "=", 0.1), Compare("config.lr", "=", 0.2)
    assert holds(And((yes, yes)))
    assert not holds(And((yes, no)))
    assert holds(Or((no, yes)))
    assert not holds(Or((no, no)))


# What parsers build


def test_equality_with_nothing_asks_for_absence() -> None:
    assert equals("config.lr", None) == Not(Exists("config.lr"))
    assert differs("config.lr", None) == Exists("config.lr")
    assert equals("group", "") == Not(Exists("group"))
    assert equals("tag", "") == Not(Exists("tag"))
    assert equals("config.x", "") == Compare("config.x", "=", "")
    assert differs("config.x", 1) == Compare("config.x", "!=", 1)


def test_membership_with_null_among_the_values_also_takes_what_lacks_the_field() -> None:
    assert one_of("config.x", (1, None)) == Or((Not(Exists("config.x")), In("config.x", (1,))))
    assert one_of("config.x", (None,)) == Not(Exists("config.x"))
    assert one_of("config.x", ()) == In("config.x", ())


def test_any_state_is_a_condition_that_always_holds() -> None:
    assert equals("state", "any") == Exists("state")
    assert differs("state", "any") == Not(Exists("state"))
    assert one_of("state", ("trashed", "any")) == Exists("state")


def test_a_conjunction_drops_everything_and_flattens() -> None:
    a, b, c = Exists("name"), Exists("tag"), Exists("notes")
    assert conjunction() is None
    assert conjunction(None, None) is None
    assert conjunction(None, a) == a
    assert conjunction(And((a, b)), None, c) == And((a, b, c))


# Which states are asked for


@pytest.mark.parametrize(
    ("filter", "states"),
    [
        (None, None),
        (Compare("status", "=", "failed"), None),
        (Compare("state", "=", "trashed"), {"trashed"}),
        (Compare("state", "!=", "trashed"), {"active", "archived", "purged"}),
        (In("state", ("active", "archived")), {"active", "archived"}),
        (Not(In("state", ("active", "archived"))), {"trashed", "purged"}),
        (Exists("state"), set(State)),
        (Not(Exists("state")), set()),
        (And((Compare("state", "=", "archived"), Compare("status", "=", "failed"))), {"archived"}),
        (Or((Compare("state", "=", "trashed"), Compare("status", "=", "failed"))), set(State)),
        (
            Not(Or((Compare("state", "=", "trashed"), Compare("status", "=", "failed")))),
            {"active", "archived", "purged"},
        ),
        (And((Compare("state", "=", "active"), Compare("state", "=", "trashed"))), set()),
        (And((Compare("state", "=", "active"), Not(Compare("config.a", "=", 1)))), {"active"}),
    ],
)
def test_the_states_a_filter_lets_through_are_found_when_it_mentions_state(
    filter: Filter | None, states: set[str] | None
) -> None:
    assert state_filter(filter) == states


# Questions about a query


def test_fields_are_listed_once_in_the_order_of_their_first_mention() -> None:
    filter = And(
        (Compare("config.lr", "<", 1), Or((Exists("tag"), Not(Compare("config.lr", ">", 0)))), Contains("name", "x"))
    )
    assert fields_used(Query(filter, (Order("summary.acc"), Order("tag")))) == (
        "config.lr",
        "tag",
        "name",
        "summary.acc",
    )
    assert fields_used(Query()) == ()


def test_leaves_are_read_from_left_to_right() -> None:
    a, b, c = Exists("name"), Exists("tag"), Exists("notes")
    assert list(leaves(Or((And((a, Not(b))), c)))) == [a, b, c]


# Order


def listed(values: list[object], key: Order) -> list[object]:
    items = [{"id": f"{at:03}", key.field: value} for at, value in enumerate(values)]
    return [item[key.field] for item in ordered(items, (key,), lambda item, field: item.get(field))]


def test_what_lacks_the_ordered_field_comes_last_in_both_directions() -> None:
    assert listed([None, 2, 1, None, 3], Order("config.x")) == [1, 2, 3, None, None]
    assert listed([None, 2, 1, None, 3], Order("config.x", descending=True)) == [3, 2, 1, None, None]


def test_nan_and_lists_are_ordered_as_missing() -> None:
    assert str(listed([math.nan, 2, [5], 1], Order("config.x", descending=True))) == "[2, 1, [5], nan]"


def test_kinds_are_ordered_among_themselves() -> None:
    assert listed(["b", 1, True, "a", False, -math.inf], Order("config.x")) == [False, True, -math.inf, 1, "a", "b"]
    assert listed(["b", 1, True, "a"], Order("config.x", descending=True)) == ["b", "a", 1, True]


def test_ties_go_by_id_newest_first_whatever_the_direction() -> None:
    items = [{"id": "1", "config.x": 1}, {"id": "3", "config.x": 1}, {"id": "2", "config.x": 1}]
    for descending in (False, True):
        found = ordered(items, (Order("config.x", descending),), lambda item, field: item.get(field))
        assert [item["id"] for item in found] == ["3", "2", "1"]


def test_the_second_key_orders_what_the_first_leaves_equal() -> None:
    items = [
        {"id": "1", "name": "b", "bytes": 1},
        {"id": "2", "name": "a", "bytes": 1},
        {"id": "3", "name": "c", "bytes": 0},
    ]
    found = ordered(items, (Order("bytes", descending=True), Order("name")), lambda item, field: item.get(field))
    assert [item["id"] for item in found] == ["2", "1", "3"]


def test_an_empty_attribute_is_ordered_as_missing() -> None:
    assert listed(["", "b"], Order("group")) == ["b", ""]


# What is checked

NAIVE = datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("leaf", "path"),
    [
        (Compare("nope", "=", 1), "filter.field"),
        (Compare("config", "=", 1), "filter.field"),
        (Compare("config.", "=", 1), "filter.field"),
        (Compare("config.a\x00", "=", 1), "filter.field"),
        (Compare("config.\ud800", "=", 1), "filter.field"),
        (Exists("config." + "a" * 500), "filter.field"),
        (Compare("status", "<", 3), "filter.value"),
        (Compare("status", "=", None), "filter.value"),  # type: ignore[arg-type]
        (Compare("config.x", "=", [1]), "filter.value"),  # type: ignore[arg-type]
        (Compare("bytes", "=", "10"), "filter.value"),
        (Compare("bytes", "=", True), "filter.value"),
        (Compare("locked", "=", 1), "filter.value"),
        (Compare("locked", "<", True), "filter.op"),
        (Compare("scores.accuracy", "=", "high"), "filter.value"),
        (Compare("created_at", ">", "2026-01-01"), "filter.value"),
        (Compare("created_at", ">", NAIVE), "filter.value"),
        (Compare("config.when", ">", MORNING), "filter.value"),
        (Compare("state", "=", "nope"), "filter.value"),
        (Compare("state", "=", "any"), "filter.value"),
        (Compare("state", "<", "active"), "filter.op"),
        (Compare("tag", "<", "a"), "filter.op"),
        (Compare("group", "=", ""), "filter.value"),
        (Compare("config.flag", "<", True), "filter.value"),
        (Compare("config.x", "<", math.nan), "filter.value"),
        (Compare("config.x", "=", 2**63), "filter.value"),
        (Compare("config.x", "=", "a\x00"), "filter.value"),
        (Compare("config.x", "=", "\ud800"), "filter.value"),
        (Compare("config.x", "=", "a" * 10_001), "filter.value"),
        (In("config.x", tuple(range(MAX_IN + 1))), "filter.values[0]"),
        (In("bytes", (1, "2")), "filter.values[1]"),
        (Contains("bytes", "1"), "filter.op"),
        (Contains("created_at", "2026"), "filter.op"),
        (Contains("name", 3), "filter.value"),  # type: ignore[arg-type]
        (Contains("state", "act"), "filter.op"),
        (Matches("name", "(a+)+"), "filter.value"),
        (Matches("scores.x", "a"), "filter.op"),
    ],
)
def test_a_condition_that_cannot_be_asked_is_refused_with_its_path(leaf: Filter, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        validate(Query(leaf))
    assert caught.value.details["path"] == path
    assert caught.value.details["expected"]


def test_the_path_of_a_fault_leads_through_the_tree() -> None:
    filter = And((Exists("name"), Not(Or((Exists("tag"), Compare("bytes", "=", "x"))))))
    with pytest.raises(Invalid) as caught:
        validate(Query(filter))
    assert caught.value.details["path"] == "filter.items[1].item.items[1].value"


def test_a_join_of_fewer_than_two_filters_is_refused() -> None:
    for filter in (And(()), Or((Exists("name"),))):
        with pytest.raises(Invalid, match="fewer than two"):
            validate(Query(filter))


def test_size_and_depth_are_limited_without_recursion() -> None:
    deep: Filter = Exists("name")
    for _ in range(MAX_DEPTH - 1):
        deep = Not(deep)
    validate(Query(deep))
    for _ in range(10_000):
        deep = Not(deep)
    wide = And(tuple(Exists("name") for _ in range(MAX_NODES - 1)))
    validate(Query(wide))
    for filter in (deep, And((*wide.items, Exists("tag")))):
        with pytest.raises(Invalid, match="too large"):
            validate(Query(filter))


def test_an_order_is_checked_like_a_filter() -> None:
    validate(Query(None, tuple(Order("name") for _ in range(MAX_ORDER))))
    for order in ((Order("tag"),), (Order("name"), Order("nope")), tuple(Order("name") for _ in range(MAX_ORDER + 1))):
        with pytest.raises(Invalid) as caught:
            validate(Query(None, order))
        assert caught.value.details["path"].startswith("order")


# The tables


def test_every_field_has_a_known_type_and_a_line_of_documentation() -> None:
    for name, info in {**FIELDS, **NAMESPACES}.items():
        assert info.type in TYPES, name
        assert info.doc, name
        assert not info.doc.endswith(".")
        assert "\n" not in info.doc


def test_an_unknown_field_is_told_the_nearest_one() -> None:
    assert "did you mean status?" in unknown_field("staus")
    assert "did you mean summary.acc?" in unknown_field("sumary.acc")
    assert "did you mean tag?" in unknown_field("tags")
    assert "config.lr or summary.lr" in unknown_field("lr")
    assert "config.name" in unknown_field("config")


def test_a_namespace_needs_a_path() -> None:
    assert field_info("config") is None
    assert field_info("config.") is None
    assert field_info("config.a.b c") is NAMESPACES["config"]
    assert field_info("name.first") is None
