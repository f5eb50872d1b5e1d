"""Configurations of sweeps, their points, and early termination."""

from __future__ import annotations

import itertools
import math
import random
from statistics import NormalDist
from typing import Any

import pytest

from labkeep.core.distributions import DISTRIBUTIONS, Parameter, parse_parameter, share_of, value_at
from labkeep.core.errors import Illegal, Invalid, Unsupported
from labkeep.core.sweeps import (
    Curve,
    Hyperband,
    SweepState,
    check_change,
    curve_of,
    free_point,
    grid_index,
    grid_point,
    is_hopeless,
    parse_plan,
    random_point,
)

GIVEN: dict[str, dict[str, Any]] = {
    "constant": {"value": "a"},
    "categorical": {"values": ["a", "b", "c"]},
    "int_uniform": {"min": -2, "max": 3},
    "uniform": {"min": 0.5, "max": 2},
    "q_uniform": {"min": 0, "max": 1, "q": 0.25},
    "log_uniform": {"min": -3, "max": 2},
    "q_log_uniform": {"min": 0, "max": 5, "q": 2},
    "log_uniform_values": {"min": 1e-5, "max": 0.1},
    "q_log_uniform_values": {"min": 1, "max": 100, "q": 1},
    "inv_log_uniform": {"min": 1, "max": 3},
    "inv_log_uniform_values": {"min": 0.01, "max": 3},
    "normal": {"mu": 5, "sigma": 2},
    "q_normal": {"mu": 5, "sigma": 2, "q": 0.5},
    "log_normal": {"mu": 0, "sigma": 1},
    "q_log_normal": {"mu": 2, "sigma": 1, "q": 1},
    "beta": {"a": 2, "b": 5},
    "q_beta": {"a": 0.5, "b": 0.5, "q": 0.1},
}
SHARES = [number / 200 for number in range(1, 200)]


def parameter(name: str, **given: Any) -> Parameter:
    return parse_parameter(("p",), {"distribution": name, **(given or GIVEN[name])})


def test_the_examples_cover_every_distribution() -> None:
    assert GIVEN.keys() == DISTRIBUTIONS.keys()


@pytest.mark.parametrize("name", [name for name in GIVEN if name not in ("constant", "categorical")])
def test_quantiles_rise_and_shares_lead_back_to_their_values(name: str) -> None:
    found = parameter(name)
    values = [value_at(found, share) for share in SHARES]
    assert values == sorted(values)
    assert all(math.isfinite(value) for value in values)
    for value in values:
        share = share_of(found, value)
        assert share is not None
        assert value_at(found, share) == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_quantiles_are_those_of_the_distribution() -> None:
    assert value_at(parameter("uniform"), 0.5) == 1.25
    assert [value_at(parameter("int_uniform"), share) for share in (0, 0.17, 0.99, 1)] == [-2, -1, 3, 3]
    assert value_at(parameter("log_uniform"), 0.2) == pytest.approx(math.exp(-2))
    assert value_at(parameter("log_uniform_values"), 0.5) == pytest.approx(1e-3)
    assert value_at(parameter("inv_log_uniform"), 0) == pytest.approx(math.exp(-3))
    assert value_at(parameter("normal"), 0.9) == NormalDist(5, 2).inv_cdf(0.9)
    assert value_at(parameter("log_normal"), 0.5) == pytest.approx(1)
    assert {value_at(parameter("q_uniform"), share) for share in SHARES} == {0, 0.25, 0.5, 0.75, 1}
    assert {type(value_at(parameter("q_log_uniform"), share)) for share in SHARES} == {int}


def test_quantiles_of_beta_agree_with_closed_forms_and_with_samples() -> None:
    for b in (0.3, 1, 4):
        for share in SHARES:
            assert value_at(parameter("beta", a=1, b=b), share) == pytest.approx(1 - (1 - share) ** (1 / b), abs=1e-9)
    chance = random.Random(1)
    drawn = sorted(chance.betavariate(2, 5) for _ in range(20_000))
    for share in (0.05, 0.3, 0.5, 0.8, 0.95):
        assert value_at(parameter("beta"), share) == pytest.approx(drawn[int(share * len(drawn))], abs=0.01)


def test_probabilities_weigh_the_values() -> None:
    found = parse_parameter(("p",), {"values": ["a", "b", "c"], "probabilities": [0.1, 0, 0.9]})
    assert [value_at(found, share) for share in (0, 0.05, 0.1, 0.5, 1)] == ["a", "a", "c", "c", "c"]


@pytest.mark.parametrize(
    "given",
    [
        7,
        {},
        {"min": 1},
        {"distribution": "zipf", "min": 1, "max": 2},
        {"distribution": "constant"},
        {"values": []},
        {"values": [1, 2], "probabilities": [0.5, 0.6]},
        {"min": 2, "max": 1},
        {"min": float("nan"), "max": 1},
        {"distribution": "log_uniform_values", "min": 0, "max": 1},
        {"distribution": "log_uniform", "min": 0, "max": 1000},
        {"distribution": "int_uniform", "min": 0.5, "max": 2},
        {"distribution": "normal", "mu": 0, "sigma": 0},
        {"distribution": "normal", "mu": True},
        {"distribution": "q_uniform", "min": 0, "max": 1, "q": -1},
    ],
)
def test_what_is_no_parameter_is_refused_by_its_name(given: Any) -> None:
    with pytest.raises(Invalid, match=r"parameters\.a\.b"):
        parse_parameter(("a", "b"), given)


# --- configurations ---------------------------------------------------------------------------------------------------

GRID = {
    "method": "grid",
    "parameters": {
        "b": {"values": [1, 2, 3]},
        "a": {"parameters": {"y": {"min": 0, "max": 1}, "x": {"value": "c"}}},
        "q": {"distribution": "q_uniform", "min": 0, "max": 0.5, "q": 0.25},
    },
}


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"parameters": {"a": {"value": 1}}}, "method"),
        ({"method": "grid"}, "parameters"),
        ({"method": "grid", "parameters": {}}, "parameters"),
        ({"method": "grid", "parameters": {"a": {"min": 0.0, "max": 1.0}}}, "parameters.a"),
        ({"method": "bayes", "parameters": {"a": {"value": 1}}}, "metric"),
        ({"method": "random", "metric": {"name": "x", "goal": "up"}, "parameters": {"a": {"value": 1}}}, "metric.goal"),
        ({"method": "random", "parameters": {"a": {"value": 1}}, "run_cap": 0}, "run_cap"),
        ({**GRID, "early_terminate": {"type": "median"}}, "early_terminate.type"),
        ({**GRID, "early_terminate": {"type": "hyperband", "min_iter": 3}}, "metric"),
        ({**GRID, "metric": {"name": "x"}, "early_terminate": {"type": "hyperband"}}, "early_terminate"),
    ],
)
def test_what_is_no_configuration_is_refused_by_its_place(config: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_plan(config)
    assert refused.value.details["path"] == path


def test_a_local_controller_is_not_supported() -> None:
    with pytest.raises(Unsupported):
        parse_plan({**GRID, "controller": {"type": "local"}})


def test_a_grid_has_every_combination_once_and_knows_each_by_its_config() -> None:
    plan = parse_plan(GRID)
    points = [grid_point(plan, index) for index in range(plan.expected or 0)]
    assert len(points) == 18
    wanted = [
        {"a": {"x": "c", "y": y}, "b": b, "q": q} for y, b, q in itertools.product((0, 1), (1, 2, 3), (0, 0.25, 0.5))
    ]
    assert points == wanted
    assert [grid_index(plan, point) for point in points] == list(range(18))
    assert grid_index(plan, {**points[0], "b": 4}) is None
    assert grid_index(plan, {}) is None


def test_the_first_point_that_is_free_comes_next() -> None:
    plan = parse_plan(GRID)
    assert free_point(plan, {0, 1, 3}, "seed") == 2
    assert free_point(plan, set(range(18)), "seed") is None
    shuffled = parse_plan({**GRID, "randomize_order": True})
    taken: set[int] = set()
    order = []
    while (index := free_point(shuffled, taken, "seed")) is not None:
        order.append(index)
        taken.add(index)
    assert sorted(order) == list(range(18)) != order


def test_a_cap_and_a_grid_say_how_many_runs_are_expected() -> None:
    assert parse_plan({**GRID, "run_cap": 5}).expected == 5
    assert parse_plan({**GRID, "run_cap": 50}).expected == 18
    assert parse_plan({"method": "random", "parameters": {"a": {"value": 1}}}).expected is None


def test_a_random_point_depends_on_seed_and_number_only() -> None:
    plan = parse_plan({"method": "random", "parameters": {"a": {"min": 0.0, "max": 1.0}, "b": {"values": [1, 2]}}})
    assert random_point(plan, "s", 1) == random_point(plan, "s", 1)
    points = [random_point(plan, seed, number)["a"] for seed in "st" for number in range(500)]
    assert len(set(points)) == 1000
    assert sum(points) / 1000 == pytest.approx(0.5, abs=0.03)


# --- states and early termination -------------------------------------------------------------------------------------


def test_a_finished_sweep_may_go_on_and_cannot_be_paused() -> None:
    check_change(SweepState.finished, SweepState.running)
    check_change(SweepState.paused, SweepState.stopped)
    for before in (SweepState.finished, SweepState.stopped):
        with pytest.raises(Illegal):
            check_change(before, SweepState.paused)
    with pytest.raises(Illegal):
        check_change(SweepState.running, SweepState.pending)


def test_bands_follow_from_the_least_or_the_most_iterations() -> None:
    metric = {"metric": {"name": "loss"}}
    least = parse_plan({**GRID, **metric, "early_terminate": {"type": "hyperband", "min_iter": 3}})
    assert least.hyperband is not None
    assert least.hyperband.bands[:4] == (3, 9, 27, 81)
    most = parse_plan({**GRID, **metric, "early_terminate": {"type": "hyperband", "max_iter": 27, "s": 2}})
    assert most.hyperband is not None
    assert most.hyperband.bands == (3, 9)


def test_a_run_that_is_not_among_the_best_share_of_its_band_has_no_hope() -> None:
    hyperband = Hyperband((1, 3), 2)
    losses = {"a": [10, 9], "b": [10, 10], "c": [10, 8, 8], "d": [10, 7, 7], "e": [10, 6, 6]}
    curves = {name: curve_of(list(map(float, found)), hyperband) for name, found in losses.items()}
    known = [curve for curve in curves.values() if curve is not None]
    assert [name for name, curve in curves.items() if curve and is_hopeless(curve, known, hyperband)] == ["c"]
    assert curve_of([], hyperband) is None
    assert not is_hopeless(Curve({}, 99.0), known, hyperband)


def test_a_strict_comparison_looks_at_the_value_at_the_band() -> None:
    mine, others = Curve({2: 5.0}, 1.0), [Curve({2: 2.0}, 2.0), Curve({2: 3.0}, 3.0)]
    assert not is_hopeless(mine, [mine, *others], Hyperband((2,), 3))
    assert is_hopeless(mine, [mine, *others], Hyperband((2,), 3, strict=True))
