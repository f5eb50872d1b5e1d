"""Sweeps: what a configuration asks for, the points of a grid or of chance, and which runs have no hope. Pure.

Nothing here is remembered: a point follows from the configuration, a seed and a number, and what is left of a grid
from the points that have been taken.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from labkeep.core.distributions import Parameter, Path, choices, is_number, parse_parameter, value_at
from labkeep.core.entities import Json
from labkeep.core.errors import Illegal, Invalid, Unsupported

MAX_PARAMETERS = 1_000
MAX_DEPTH = 20


class SweepState(StrEnum):
    """How a sweep stands. ``stopped`` also stops its runs; ``finished`` lets them end."""

    pending = "pending"
    running = "running"
    paused = "paused"
    finished = "finished"
    stopped = "stopped"


OPEN = (SweepState.pending, SweepState.running)
"""States in which new runs are handed out."""

CHANGES: dict[SweepState, tuple[SweepState, ...]] = {
    SweepState.running: tuple(SweepState),
    SweepState.paused: (*OPEN, SweepState.paused),
    SweepState.finished: (*OPEN, SweepState.paused, SweepState.finished),
    SweepState.stopped: (*OPEN, SweepState.paused, SweepState.stopped),
}
"""What somebody may ask for -> the states in which they may."""


def check_change(before: SweepState, after: SweepState) -> None:
    """Illegal when a sweep cannot go from one state to the other."""
    legal = CHANGES.get(after, ())
    if before not in legal:
        raise Illegal(f"a sweep that is {before} cannot become {after}", state=str(before), legal=list(legal))


# --- configurations ---------------------------------------------------------------------------------------------------


class Metric(msgspec.Struct, frozen=True):
    """What is to be made small, or large."""

    name: str
    maximize: bool = False

    def loss(self, value: object) -> float | None:
        """The value as something to be made small; None for what is no number."""
        return (-value if self.maximize else value) if is_number(value) else None


class Hyperband(msgspec.Struct, frozen=True):
    """When to compare runs, by how many values of the metric they have, and which share of them goes on."""

    bands: tuple[int, ...]
    eta: float
    strict: bool = False


class Plan(msgspec.Struct, frozen=True, dict=True):
    """A configuration that was read. Parameters are ordered by their paths."""

    method: str
    parameters: tuple[Parameter, ...]
    metric: Metric | None = None
    hyperband: Hyperband | None = None
    run_cap: int | None = None
    shuffled: bool = False

    @cached_property
    def grid(self) -> tuple[Sequence[Any], ...]:
        """The values of each parameter."""
        return tuple(choices(parameter) for parameter in self.parameters)

    @property
    def expected(self) -> int | None:
        """How many runs there will be; None when there is no end."""
        size = math.prod(map(len, self.grid)) if self.method == "grid" else None
        known = [count for count in (size, self.run_cap) if count is not None]
        return min(known) if known else None


METHODS = ("grid", "random", "bayes")


def parse_plan(config: Json) -> Plan:
    """What a configuration asks for. Invalid names the place that is wrong, Unsupported what is not done here."""
    method = config.get("method")
    if method not in METHODS:
        raise Invalid(f"method: {str(method)[:40]!r} is none; use one of {', '.join(METHODS)}", path="method")
    controller = config.get("controller")
    if isinstance(controller, dict) and controller.get("type") == "local":
        raise Unsupported("sweeps with a controller of their own are not supported; leave out controller")
    metric = _parse_metric(config.get("metric"))
    if method == "bayes" and metric is None:
        raise Invalid("metric: a bayes sweep needs the name of the metric to optimise", path="metric")
    parameters = tuple(sorted(_parameters(config.get("parameters"), ()), key=lambda parameter: parameter.path))
    if not parameters or len(parameters) > MAX_PARAMETERS:
        raise Invalid(f"parameters: needs 1 to {MAX_PARAMETERS} of them", path="parameters")
    cap = config.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise Invalid("run_cap needs a whole number above 0", path="run_cap")
    found = Plan(
        method=str(method),
        parameters=parameters,
        metric=metric,
        hyperband=_parse_hyperband(config.get("early_terminate"), metric),
        run_cap=cap,
        shuffled=config.get("randomize_order") is True,
    )
    if method == "grid":
        _ = found.grid  # refuses what no grid can be made of
    return found


def _parameters(given: Any, above: Path) -> Iterator[Parameter]:
    where = ".".join(("parameters", *above))
    if not isinstance(given, dict) or len(above) >= MAX_DEPTH:
        raise Invalid(f"{where} needs an object, nested at most {MAX_DEPTH} levels deep", path=where)
    for key, entry in given.items():
        nested = isinstance(entry, dict) and "parameters" in entry and not {"value", "values"} & entry.keys()
        if nested:
            yield from _parameters(entry["parameters"], (*above, key))
        else:
            yield parse_parameter((*above, key), entry)


def _parse_metric(given: Any) -> Metric | None:
    if given is None:
        return None
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str) or not name:
        raise Invalid("metric.name needs the name of a metric", path="metric.name")
    goal = given.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise Invalid("metric.goal needs to be minimize or maximize", path="metric.goal")
    return Metric(name, goal == "maximize")


def _parse_hyperband(given: Any, metric: Metric | None) -> Hyperband | None:
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("type") != "hyperband":
        raise Invalid("early_terminate.type needs to be hyperband", path="early_terminate.type")
    if metric is None:
        raise Invalid("metric: early termination needs the name of the metric to compare", path="metric")
    eta, s = given.get("eta", 3), given.get("s", 2)
    if not is_number(eta) or eta <= 1 or not is_number(s) or s < 1:
        raise Invalid("early_terminate needs an eta above 1 and an s of at least 1", path="early_terminate")
    return Hyperband(_bands(given, float(eta), int(s)), float(eta), given.get("strict") is True)


def _bands(given: Json, eta: float, s: int) -> tuple[int, ...]:
    least, most = given.get("min_iter"), given.get("max_iter")
    found: set[int] = set()
    if is_number(most) and most >= 1:
        found = {int(most / eta**power) for power in range(1, min(s, 100) + 1)}
    elif is_number(least) and least >= 1:
        found = {int(band) for power in range(100) if (band := least * eta**power) < MAX_ITERATIONS}
    bands = tuple(sorted(band for band in found if band >= 1))
    if not bands:
        raise Invalid(
            "early_terminate needs a min_iter, or a max_iter that is divisible by eta", path="early_terminate"
        )
    return bands


MAX_ITERATIONS = 2**40


# --- points -----------------------------------------------------------------------------------------------------------


def nested(parameters: Iterable[Parameter], values: Iterable[Any]) -> Json:
    """The config of a point: each value at its parameter's path."""
    config: Json = {}
    for parameter, value in zip(parameters, values, strict=True):
        place = config
        for key in parameter.path[:-1]:
            place = place.setdefault(key, {})
        place[parameter.path[-1]] = value
    return config


def value_in(config: Mapping[str, Any], path: Path) -> Any:
    """The value at a path; None when there is none."""
    found: Any = config
    for key in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found


def grid_point(plan: Plan, index: int) -> Json:
    """One point of a grid; the last parameter's value changes with every index."""
    values = []
    for options in reversed(plan.grid):
        index, at = divmod(index, len(options))
        values.append(options[at])
    return nested(plan.parameters, reversed(values))


def grid_index(plan: Plan, config: Mapping[str, Any]) -> int | None:
    """Which point of the grid ``config`` is; None when it is none of them."""
    found = 0
    for parameter, options in zip(plan.parameters, plan.grid, strict=True):
        try:
            found = found * len(options) + options.index(value_in(config, parameter.path))
        except ValueError:
            return None
    return found


def free_point(plan: Plan, taken: Collection[int], seed: str) -> int | None:
    """The first point of a grid that is not taken, or any of them for a shuffled one; None when none is left."""
    size = math.prod(map(len, plan.grid))
    left = size - len(taken)
    if left <= 0:
        return None
    if plan.shuffled and size <= MAX_SHUFFLED:
        free = [index for index in range(size) if index not in taken]
        return _random(f"{seed}:{len(taken)}").choice(free)
    return next(index for index in range(size) if index not in taken)


MAX_SHUFFLED = 100_000
"""Points of a grid that is handed out in no order; a larger one goes in order."""


def random_point(plan: Plan, seed: str, number: int) -> Json:
    """The point of that number. The same seed and number always give the same point."""
    chance = _random(f"{seed}:{number}")
    return nested(plan.parameters, [value_at(parameter, chance.random()) for parameter in plan.parameters])


def _random(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311  # a search has to repeat itself; nothing depends on a secret


# --- early termination ------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """What is known of a run's losses: the one at each band that it reached, and the least."""

    at: Mapping[int, float]
    best: float


def curve_of(losses: Sequence[float], hyperband: Hyperband) -> Curve | None:
    """The curve of a run with these losses, in the order in which they were logged; None when there are none."""
    if not losses:
        return None
    return Curve({band: losses[band - 1] for band in hyperband.bands if band <= len(losses)}, min(losses))


def is_hopeless(mine: Curve, all_curves: Iterable[Curve], hyperband: Hyperband) -> bool:
    """Whether a run is not among the best share of those that came as far as it did: the last band that it reached."""
    if not mine.at:
        return False
    band = max(mine.at)
    there = sorted(curve.at[band] for curve in all_curves if band in curve.at)
    if not there:
        return False
    threshold = there[min(int(len(there) / hyperband.eta), len(there) - 1)]
    return (mine.at[band] if hyperband.strict else mine.best) > threshold
