"""The next point of a sweep that learns: a tree-structured Parzen estimator over what its runs have found so far.

The library is imported when the first such sweep asks for it. docs/decisions says why it is this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from labkeep.core.distributions import Parameter, share_of, value_at
from labkeep.core.entities import Json
from labkeep.core.sweeps import Plan, nested, value_in

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

MOST_TRIALS = 1_000
"""Runs that are learned from: the newest."""


class Trial(NamedTuple):
    """One run: its config, its loss if it has one, and whether it still runs."""

    config: Mapping[str, Any]
    loss: float | None
    busy: bool


def bayes_point(plan: Plan, seed: str, number: int, trials: Sequence[Trial]) -> Json:
    """The point of that number. The same arguments always give the same point. Takes up to 0.2 s of CPU."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    searched = {str(at): parameter for at, parameter in enumerate(plan.parameters) if _is_open(parameter)}
    space = {key: _axis(parameter) for key, parameter in searched.items()}
    start = int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4])
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=start))
    known = (_known(trial, searched, space) for trial in trials[-MOST_TRIALS:])
    study.add_trials([trial for trial in known if trial is not None])
    found = study.ask(space).params
    values = [
        _value(parameter, found[str(at)]) if str(at) in found else value_at(parameter, 0)
        for at, parameter in enumerate(plan.parameters)
    ]
    return nested(plan.parameters, values)


def _is_open(parameter: Parameter) -> bool:
    return parameter.distribution != "constant" and len(parameter.values) != 1


def _axis(parameter: Parameter) -> BaseDistribution:
    """What the library searches: the number of a choice, or the share of all values that are below one."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if parameter.values:
        return CategoricalDistribution(range(len(parameter.values)))
    return FloatDistribution(0, 1)


def _value(parameter: Parameter, found: Any) -> Any:
    return parameter.values[found] if parameter.values else value_at(parameter, found)


def _known(
    trial: Trial, searched: Mapping[str, Parameter], space: Mapping[str, BaseDistribution]
) -> FrozenTrial | None:
    """The run in the library's terms; None for one that teaches nothing."""
    from optuna.trial import TrialState, create_trial

    if trial.loss is None and not trial.busy:
        return None
    places = {key: _place(parameter, value_in(trial.config, parameter.path)) for key, parameter in searched.items()}
    if any(place is None for place in places.values()):
        return None
    state = TrialState.RUNNING if trial.busy else TrialState.COMPLETE
    return create_trial(params=places, distributions=dict(space), value=None if trial.busy else trial.loss, state=state)


def _place(parameter: Parameter, value: Any) -> float | None:
    if parameter.values:
        return parameter.values.index(value) if value in parameter.values else None
    return share_of(parameter, value)
