"""What the rows of an eval come to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from labkeep.core.entities import Row
from labkeep.core.summary import ALWAYS, Sample, Stat, Tally, Totals, sample

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def rows(*data: dict[str, Any]) -> list[Row]:
    return [Row(id=str(n), xact=1, root_id="0", data=each, created_at=NOW, position=1) for n, each in enumerate(data)]


def span(type: str, parents: list[str] | None = None, **data: Any) -> dict[str, Any]:
    return {"span_attributes": {"type": type}, "span_parents": parents, **data}


def test_scores_are_taken_from_all_spans_of_a_trace() -> None:
    found = sample(
        rows(span("eval", input=1), span("score", ["0"], scores={"a": 1}), span("score", ["0"], scores={"b": 0}))
    )
    assert found.scores == {"a": 1.0, "b": 0.0}


def test_a_score_that_several_spans_have_counts_once_as_their_mean() -> None:
    assert sample(rows({"scores": {"a": 1}}, {"scores": {"a": 0}, "span_parents": ["0"]})).scores == {"a": 0.5}


def test_what_is_no_number_is_no_score() -> None:
    given = {"none": None, "text": "1", "flag": True, "list": [1], "huge": 1e200, "fine": 0}
    assert sample(rows({"scores": given})).scores == {"fine": 0.0}
    assert sample(rows({"scores": [1, 2]})).scores == {}


def test_the_duration_is_that_of_the_tasks() -> None:
    found = sample(
        rows(
            span("eval", metrics={"start": 0, "end": 100}),
            span("task", ["0"], metrics={"start": 10, "end": 13}),
            span("score", ["0"], metrics={"start": 13, "end": 99}),
        )
    )
    assert found.metrics["duration"] == 3


def test_without_a_task_the_duration_is_that_of_the_root() -> None:
    assert sample(rows(span("eval", metrics={"start": 1, "end": 3}))).metrics["duration"] == 2
    assert "duration" not in sample(rows(span("eval"))).metrics


def test_calls_errors_and_tokens_are_counted_over_the_trace() -> None:
    found = sample(
        rows(
            span("eval"),
            span("llm", ["0"], metrics={"prompt_tokens": 10, "completion_tokens": 5}),
            span("llm", ["0"], metrics={"prompt_tokens": 1}, error="boom"),
            span("tool", ["0"], error={"message": "no"}),
            span("score", ["0"], error="bad"),
        )
    ).metrics
    assert {name: found[name] for name in ALWAYS} == {
        "llm_calls": 2,
        "llm_errors": 1,
        "tool_calls": 1,
        "tool_errors": 1,
        "errors": 3,
        "prompt_tokens": 11,
        "prompt_cached_tokens": 0,
        "prompt_cache_creation_tokens": 0,
        "completion_tokens": 5,
        "total_tokens": 16,
    }


def test_a_total_that_was_logged_is_believed() -> None:
    assert sample(rows({"metrics": {"tokens": 7, "prompt_tokens": 1}})).metrics["total_tokens"] == 7


def test_a_metric_of_ones_own_is_summed_over_the_trace() -> None:
    assert (
        sample(rows({"metrics": {"cost": 0.5}}, {"metrics": {"cost": 0.25, "caller_lineno": 3}})).metrics["cost"]
        == 0.75
    )


def test_equal_inputs_have_one_key_whatever_the_order_of_their_fields() -> None:
    keys = [sample(rows({"input": given})).key for given in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1}, "x", None)]
    assert keys[0] == keys[1]
    assert len({*keys}) == 4
    assert keys[4] is None


def tally(*values: tuple[str | None, float]) -> Tally:
    found = Tally()
    for key, value in values:
        found.add(None if key is None else key.encode(), {"s": value})
    return found


def test_a_mean_is_over_all_traces() -> None:
    assert tally(("a", 1), ("a", 0), (None, 0)).stats() == {"s": Stat(pytest.approx(1 / 3))}


def test_a_comparison_is_over_the_inputs_that_both_have() -> None:
    now, base = (
        tally(("a", 1), ("b", 0.5), ("c", 0.2), ("new", 0)),
        tally(("a", 0), ("b", 0.75), ("c", 0.2), ("old", 1)),
    )
    assert now.stats(base) == {"s": Stat(pytest.approx(1.7 / 4), pytest.approx(1.7 / 3 - 0.95 / 3), up=1, down=1)}


def test_trials_of_one_input_are_compared_by_their_mean() -> None:
    assert tally(("a", 1), ("a", 0)).stats(tally(("a", 0.5))) == {"s": Stat(0.5, 0.0)}


def test_without_a_common_input_there_is_no_difference() -> None:
    assert tally(("a", 1)).stats(tally(("b", 0))) == {"s": Stat(1.0)}


def test_what_is_counted_is_compared_where_it_is_zero_too() -> None:
    now, base = Tally(["n"]), Tally(["n"])
    now.add(b"a", {"n": 0})
    base.add(b"a", {"n": 2})
    assert now.stats(base) == {"n": Stat(0.0, -2.0, down=1)}


def test_totals_are_empty_without_traces() -> None:
    assert Totals([]).scores.stats() == {}
    assert Totals([Sample(None, {"a": 1}, {})]).scores.stats() == {"a": Stat(1.0)}
