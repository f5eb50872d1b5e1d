"""JSON filters: what each operator and key becomes, and which place an error names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labkeep.core.errors import Invalid
from labkeep.core.filters import (
    MAX_DEPTH,
    MAX_IN,
    MAX_NODES,
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
    evaluate,
)
from labkeep.core.mongo import NATIVE, WANDB, Spelling, parse_mongo, parse_order

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)


def filter_of(filters: dict[str, Any], spelling: Spelling = WANDB) -> Filter | None:
    return parse_mongo(filters, NOW, spelling)


def refusal(filters: Any, spelling: Spelling = WANDB) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse_mongo(filters, NOW, spelling)
    return caught.value


def test_no_condition_is_everything() -> None:
    for filters in (
        {},
        {"$and": []},
        {"$and": [{}]},
        {"$or": [{"$and": []}]},
        {"$or": [{}, {"tags": "a"}]},
    ):
        assert filter_of(filters) is None


def test_an_empty_or_selects_nothing() -> None:
    assert filter_of({"$or": []}) == NOTHING
    assert filter_of({"$nor": []}) == Not(NOTHING)
    assert filter_of({"$nor": [{}]}) == NOTHING
    assert filter_of({"$not": {}}) == NOTHING


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (1, Compare("config.a", "=", 1)),
        ("x", Compare("config.a", "=", "x")),
        (True, Compare("config.a", "=", True)),
        (None, Not(Exists("config.a"))),
        ({"$eq": 1}, Compare("config.a", "=", 1)),
        ({"$eq": None}, Not(Exists("config.a"))),
        ({"$ne": 1}, Compare("config.a", "!=", 1)),
        ({"$ne": None}, Exists("config.a")),
        ({"$gt": 1}, Compare("config.a", ">", 1)),
        ({"$gte": 1}, Compare("config.a", ">=", 1)),
        ({"$lt": 1}, Compare("config.a", "<", 1)),
        ({"$lte": 1.5}, Compare("config.a", "<=", 1.5)),
        ({"$in": [1, "x"]}, In("config.a", (1, "x"))),
        ({"$in": []}, In("config.a", ())),
        ({"$in": [1, None]}, Or((Not(Exists("config.a")), In("config.a", (1,))))),
        ({"$nin": [1]}, Not(In("config.a", (1,)))),
        ({"$exists": True}, Exists("config.a")),
        ({"$exists": False}, Not(Exists("config.a"))),
        ({"$exists": 1}, Exists("config.a")),
        ({"$regex": "^a"}, Matches("config.a", "^a")),
        ({"$contains": "a"}, Contains("config.a", "a")),
        ({"$not": {"$gte": 32}}, Not(Compare("config.a", ">=", 32))),
        ({"$gt": 1, "$lt": 2}, And((Compare("config.a", ">", 1), Compare("config.a", "<", 2)))),
        ({"$not": {"$gt": 1, "$lt": 2}}, Not(And((Compare("config.a", ">", 1), Compare("config.a", "<", 2))))),
        (2**70, Compare("config.a", "=", float(2**70))),
    ],
)
def test_each_operator_becomes_its_condition(condition: Any, expected: Filter) -> None:
    assert filter_of({"config.a": condition}) == expected


def test_every_tag_of_all_is_asked_for() -> None:
    assert filter_of({"tags": {"$all": ["a", "b"]}}) == And((Compare("tag", "=", "a"), Compare("tag", "=", "b")))
    assert filter_of({"tags": {"$all": []}}) == NOTHING


def test_lists_of_objects_are_joined() -> None:
    a, b = {"tags": "a"}, {"group": "b"}
    x, y = Compare("tag", "=", "a"), Compare("group", "=", "b")
    assert filter_of({"$and": [a, b]}) == And((x, y))
    assert filter_of({"$or": [a, b]}) == Or((x, y))
    assert filter_of({"$nor": [a, b]}) == Not(Or((x, y)))
    assert filter_of({"$not": a}) == Not(x)
    assert filter_of({**a, "$or": [b, {"$and": [a, b]}]}) == And((x, Or((y, And((x, y))))))


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("config.lr", "config.lr"),
        ("config.lr.value", "config.lr"),
        ("config.model.value.depth", "config.model.depth"),
        ("config.model.depth", "config.model.depth"),
        ("config.dotted.key", "config.dotted.key"),
        ("config.dotted.key.value", "config.dotted.key"),
        ("config.value", "config.value"),
        ("config.value.value", "config.value"),
        ("summary_metrics.acc", "summary.acc"),
        ("summaryMetrics.acc.max", "summary.acc.max"),
        ("summary.acc", "summary.acc"),
        ("keys_info.keys.loss", "metrics.loss"),
        ("scores.accuracy", "scores.accuracy"),
        ("tags", "tag"),
        ("tag", "tag"),
        ("state", "status"),
        ("status", "status"),
        ("lifecycle", "state"),
        ("display_name", "name"),
        ("displayName", "name"),
        ("name", "handle"),
        ("jobType", "job_type"),
        ("job_type", "job_type"),
        ("group", "group"),
        ("username", "created_by"),
        ("created_at", "created_at"),
        ("createdAt", "created_at"),
        ("heartbeatAt", "heartbeat_at"),
        ("heartbeat_at", "heartbeat_at"),
        ("duration", "duration_s"),
        ("project", "project"),
    ],
)
def test_each_key_names_its_field(key: str, field: str) -> None:
    assert filter_of({key: {"$exists": True}}) == Exists(field)


def test_natively_a_name_is_the_display_name_and_a_state_is_still_the_status() -> None:
    assert filter_of({"name": "x"}, NATIVE) == Compare("name", "=", "x")
    assert filter_of({"state": "finished"}, NATIVE) == Compare("status", "=", "finished")
    assert filter_of({"config.a.value": 1}, NATIVE) == Compare("config.a.value", "=", 1)


def test_lifecycle_states_are_reached_by_their_own_key() -> None:
    assert filter_of({"lifecycle": "trashed"}) == Compare("state", "=", "trashed")
    assert filter_of({"lifecycle": "any"}) == Exists("state")


def test_statuses_are_translated_and_unknown_ones_find_nothing() -> None:
    assert filter_of({"state": "killed"}) == Compare("status", "=", "stopped")
    assert filter_of({"state": {"$in": ["pending", "running"]}}) == In("status", ("queued", "running"))
    assert filter_of({"state": "nope"}) == Compare("status", "=", "nope")
    assert filter_of({"state": "killed"}, NATIVE) == Compare("status", "=", "killed")


def test_a_caller_can_bring_a_spelling_of_its_own() -> None:
    spelling = Spelling({"sweep": "metadata.sweep"}, {"params": "config"})
    assert filter_of({"sweep": "s1", "params.lr": 1}, spelling) == And(
        (Compare("metadata.sweep", "=", "s1"), Compare("config.lr", "=", 1))
    )


@pytest.mark.parametrize(
    "text", ["2026-11-01", "2026-11-01T00:00:00", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00.000"]
)
def test_times_are_read_with_and_without_zone_fraction_and_clock(text: str) -> None:
    assert filter_of({"createdAt": {"$gt": text}}) == Compare("created_at", ">", datetime(2026, 11, 1, tzinfo=UTC))


def test_ages_count_from_now() -> None:
    assert filter_of({"created_at": {"$lt": "-1d"}}) == Compare("created_at", "<", NOW - timedelta(days=1))


def nested(levels: int) -> dict[str, Any]:
    filters: dict[str, Any] = {"tags": "a"}
    for _ in range(levels):
        filters = {"$and": [filters, {"tags": "b"}]}
    return filters


@pytest.mark.parametrize(
    ("filters", "path"),
    [
        ([], "filters"),
        ({"$and": {}}, "$and"),
        ({"$and": [1]}, "$and[0]"),
        ({"$and": [{}, {"$or": ["x"]}]}, "$and[1].$or[0]"),
        ({"$where": "1"}, "$where"),
        ({"tags": {"$size": 1}}, "tags.$size"),
        ({"$and": [{"config.lr": {"$foo": 1}}]}, "$and[0].config.lr.$foo"),
        ({"config.lr": {}}, "config.lr"),
        ({"config.lr": {"$not": {}}}, "config.lr.$not"),
        ({"config.lr": {"lt": 1}}, "config.lr.lt"),
        ({"config.lr": {"$not": 1}}, "config.lr.$not"),
        ({"config.lr": {"$not": {"$foo": 1}}}, "config.lr.$not.$foo"),
        ({"$not": 1}, "$not"),
        ({"nope": 1}, "nope"),
        ({"config": 1}, "config"),
        ({"tags.prod": True}, "tags.prod"),
        ({"$or": [{"nope": 1}]}, "$or[0].nope"),
        ({"tags": ["a"]}, "tags"),
        ({"config.a": {"$eq": {"b": 1}}}, "config.a.$eq"),
        ({"config.a": {"$in": 1}}, "config.a.$in"),
        ({"config.a": {"$in": [1, [2]]}}, "config.a.$in[1]"),
        ({"config.a": {"$in": [1] * (MAX_IN + 1)}}, "config.a.$in"),
        ({"config.a": {"$gt": None}}, "config.a.$gt"),
        ({"config.a": {"$gt": True}}, "config.a.$gt"),
        ({"config.a": {"$exists": "yes"}}, "config.a.$exists"),
        ({"config.a": {"$regex": 1}}, "config.a.$regex"),
        ({"config.a": {"$regex": "(a+)+"}}, "config.a.$regex"),
        ({"created_at": {"$gt": "yesterday"}}, "created_at.$gt"),
        ({"created_at": 5}, "created_at"),
        ({"group": 1}, "group"),
        ({"duration": {"$in": ["x", None]}}, "duration.$in"),
        ({"lifecycle": "nope"}, "lifecycle"),
        ({1: 2}, "1"),
        ({"config.a": {1: 2}}, "config.a.1"),
        ({"config.a": 2**2000}, "config.a"),
        ({"config.a": object()}, "config.a"),
    ],
)
def test_an_error_names_the_path_of_what_is_wrong(filters: Any, path: str) -> None:
    error = refusal(filters)
    assert error.details["path"] == path
    assert error.message.startswith(path)
    assert error.details["expected"]


def test_an_unknown_operator_is_named() -> None:
    assert "$size" in refusal({"tags": {"$size": 1}}).message
    assert "$where" in refusal({"$where": "1"}).message


def test_depth_and_size_are_limited_and_never_exhaust_the_stack() -> None:
    assert filter_of(nested(MAX_DEPTH - 1)) is not None
    hostile: list[Mapping[str, Any]] = [
        nested(MAX_DEPTH),
        nested(300),
        {"$and": [{"tags": "a"}] * MAX_NODES},
        {"$and": [{}] * 100_000},
    ]
    chain: dict[str, Any] = {"$gt": 1}
    for _ in range(300):
        chain = {"$not": chain}
    for filters in (*hostile, {"config.a": chain}):
        assert "too large" in refusal(filters).message


# Order


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("+created_at", (Order("created_at"),)),
        ("-created_at", (Order("created_at", descending=True),)),
        ("created_at", (Order("created_at"),)),
        ("-summary_metrics.acc", (Order("summary.acc", descending=True),)),
        ("+config.lr.value", (Order("config.lr"),)),
        ("-heartbeat_at", (Order("heartbeat_at", descending=True),)),
        ("+display_name", (Order("name"),)),
        ("-summary_metrics.loss, +created_at", (Order("summary.loss", descending=True), Order("created_at"))),
        ("", ()),
        (None, ()),
    ],
)
def test_an_order_is_a_sign_and_a_key(text: str | None, order: tuple[Order, ...]) -> None:
    assert parse_order(text) == order


@pytest.mark.parametrize("text", ["+nope", "-tags", "+", "--name", ",".join(["+name"] * 11)])
def test_an_order_that_cannot_be_followed_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_order(text)


# Against runs

RUNS: list[dict[str, object]] = [
    {
        "id": f"{i}",
        "handle": f"h{i}",
        "name": f"exp-{i}",
        "status": "failed" if i == 4 else "finished",
        "tag": (f"t{i}", "common") if i else (),
        "group": "odd" if i % 2 else "even",
        "job_type": "t",
        "created_at": NOW + timedelta(seconds=i),
        "config.batch": i * 16,
        "config.model.kind": "cnn" if i < 3 else "vit",
        "config.model.depth": i,
        "config.dotted.key": i,
        "config.flag": i % 2 == 0,
        "summary.acc": i / 10,
        **({"summary.extra": "only5"} if i == 5 else {}),
    }
    for i in range(6)
]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"state": {"$ne": "finished"}}, [4]),
        ({"config.batch.value": 32}, [2]),
        ({"config.model.value.depth": {"$lte": 1}}, [0, 1]),
        ({"config.dotted.key": 3}, [3]),
        ({"config.flag": True}, [0, 2, 4]),
        ({"summary_metrics.acc": {"$gt": 0.25, "$lt": 0.45}}, [3, 4]),
        ({"summary_metrics.extra": {"$exists": False}}, [0, 1, 2, 3, 4]),
        ({"summary_metrics.extra": None}, [0, 1, 2, 3, 4]),
        ({"tags": {"$nin": ["common"]}}, [0]),
        ({"tags": {"$ne": "t1"}}, [0, 2, 3, 4, 5]),
        ({"$and": [{"tags": "common"}, {"tags": "t2"}]}, [2]),
        ({"display_name": {"$regex": "^exp-[12]$"}}, [1, 2]),
        ({"name": {"$in": ["h4", "h5"]}}, [4, 5]),
        ({"$or": [{"config.batch": 0}, {"$and": [{"group": "odd"}, {"state": "finished"}]}]}, [0, 1, 3, 5]),
        ({"$nor": [{"group": "odd"}, {"config.batch": 0}]}, [2, 4]),
        ({"config.batch": {"$not": {"$gte": 32}}}, [0, 1]),
        ({"createdAt": {"$lt": "2001-01-01"}}, []),
        ({"state": "nope"}, []),
    ],
)
def test_filters_find_the_runs_that_their_users_expect(filters: dict[str, Any], expected: list[int]) -> None:
    found = filter_of(filters)
    assert [at for at, run in enumerate(RUNS) if evaluate(found, run.get)] == expected
