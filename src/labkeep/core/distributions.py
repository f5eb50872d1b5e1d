"""Distributions of hyperparameters: which there are, what each needs, and its quantile function. Pure.

The names are those that people write into sweep configurations. ``log_uniform`` takes exponents of e as its bounds,
``log_uniform_values`` the bounds themselves; a ``q_`` before a name rounds to multiples of ``q``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import msgspec

from labkeep.core.errors import Invalid

Path: TypeAlias = tuple[str, ...]
"""Keys that lead to a parameter's value in a config."""

EDGE = 1e-9
"""How near a quantile may come to 0 and 1, where some distributions have no end."""


class Parameter(msgspec.Struct, frozen=True):
    """One hyperparameter: where it goes, how it is distributed, and with which numbers."""

    path: Path
    distribution: str
    numbers: dict[str, float] = {}
    values: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The path as people write it."""
        return ".".join(self.path)


Quantile: TypeAlias = Callable[[Parameter, float], Any]
"""(parameter, share) -> the value below which that share of all values is."""


class Distribution(NamedTuple):
    """One row of the table: the numbers that it needs, with defaults where it has some."""

    needs: dict[str, float | None]
    quantile: Quantile


# --- quantile functions -----------------------------------------------------------------------------------------------


def _categorical(parameter: Parameter, share: float) -> Any:
    total = 0.0
    if not parameter.weights:
        return parameter.values[min(int(share * len(parameter.values)), len(parameter.values) - 1)]
    for value, weight in zip(parameter.values, parameter.weights, strict=True):
        total += weight
        if share < total:
            return value
    return parameter.values[-1]


def _between(parameter: Parameter, share: float) -> float:
    low, high = parameter.numbers["min"], parameter.numbers["max"]
    return low + share * (high - low)


def _int_uniform(parameter: Parameter, share: float) -> int:
    low, high = int(parameter.numbers["min"]), int(parameter.numbers["max"])
    return min(low + int(share * (high - low + 1)), high)


def _exponents(parameter: Parameter, share: float) -> float:
    return math.exp(_between(parameter, share))


def _log_between(parameter: Parameter, share: float) -> float:
    low, high = parameter.numbers["min"], parameter.numbers["max"]
    return min(high, max(low, math.exp(math.log(low) + share * (math.log(high) - math.log(low)))))


def _inverse_exponents(parameter: Parameter, share: float) -> float:
    return math.exp(-_between(parameter, 1 - share))


def _normal(parameter: Parameter, share: float) -> float:
    mu, sigma = parameter.numbers["mu"], parameter.numbers["sigma"]
    return NormalDist(mu, sigma).inv_cdf(min(max(share, EDGE), 1 - EDGE))


def _log_normal(parameter: Parameter, share: float) -> float:
    return math.exp(_normal(parameter, share))


def _beta(parameter: Parameter, share: float) -> float:
    a, b = parameter.numbers["a"], parameter.numbers["b"]
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta_share(a, b, middle) < share else (low, middle)
    return (low + high) / 2


def _beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function: the share of a beta distribution below ``x``."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(b, a, 1 - x)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / a
    return front * _beta_fraction(a, b, x)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Its continued fraction, evaluated from the front by Lentz's method."""
    tiny, found, c, d = 1e-300, 1.0, 1.0, 0.0
    for step in range(300):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        d = 1 / ((1 + term * d) or tiny)
        c = (1 + term / c) or tiny
        found *= c * d
        if step and abs(c * d - 1) < 1e-12:
            break
    return found - 1


def _rounded(quantile: Quantile) -> Quantile:
    def rounded(parameter: Parameter, share: float) -> float | int:
        q = parameter.numbers["q"]
        value = round(quantile(parameter, share) / q) * q
        return int(value) if float(q).is_integer() else float(f"{value:.12g}")

    return rounded


# --- the table --------------------------------------------------------------------------------------------------------

_BOUNDS: dict[str, float | None] = {"min": None, "max": None}
_BELL: dict[str, float | None] = {"mu": 0.0, "sigma": 1.0}
_SHAPE: dict[str, float | None] = {"a": 1.0, "b": 1.0}

_SMOOTH = {
    "uniform": Distribution(_BOUNDS, _between),
    "log_uniform": Distribution(_BOUNDS, _exponents),
    "log_uniform_values": Distribution(_BOUNDS, _log_between),
    "normal": Distribution(_BELL, _normal),
    "log_normal": Distribution(_BELL, _log_normal),
    "beta": Distribution(_SHAPE, _beta),
}

DISTRIBUTIONS: dict[str, Distribution] = {
    "constant": Distribution({}, lambda parameter, _share: parameter.values[0]),
    "categorical": Distribution({}, _categorical),
    "int_uniform": Distribution(_BOUNDS, _int_uniform),
    "inv_log_uniform": Distribution(_BOUNDS, _inverse_exponents),
    "inv_log_uniform_values": Distribution(_BOUNDS, _log_between),
    **_SMOOTH,
    **{f"q_{name}": Distribution({**row.needs, "q": 1.0}, _rounded(row.quantile)) for name, row in _SMOOTH.items()},
}
"""Every distribution by its name."""

POSITIVE = ("log_uniform_values", "q_log_uniform_values", "inv_log_uniform_values")
"""Distributions whose bounds are values with a logarithm."""


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a finite number, which a flag is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def value_at(parameter: Parameter, share: float) -> Any:
    """The value below which ``share`` (0 to 1) of all values of the parameter is."""
    return DISTRIBUTIONS[parameter.distribution].quantile(parameter, share)


def share_of(parameter: Parameter, value: Any) -> float | None:
    """Where ``value`` lies, from 0 to 1: the middle where many shares have it. None for what is no number."""
    if not is_number(value):
        return None
    if parameter.distribution in ("beta", "q_beta"):
        return _beta_share(parameter.numbers["a"], parameter.numbers["b"], value)
    return (_first(lambda found: found >= value, parameter) + _first(lambda found: found > value, parameter)) / 2


def _first(reached: Callable[[Any], bool], parameter: Parameter) -> float:
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(value_at(parameter, middle)) else (middle, high)
    return (low + high) / 2


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_parameter(path: Path, given: Any) -> Parameter:
    """One entry of ``parameters``. Invalid names the parameter and what is wrong with it."""
    where = f"parameters.{'.'.join(path)}"
    if not isinstance(given, dict):
        raise Invalid(f"{where} needs an object such as {{'values': [1, 2]}} or {{'min': 0, 'max': 1}}", path=where)
    if "value" in given:
        return Parameter(path, "constant", values=(given["value"],))
    if "values" in given:
        return _parse_values(path, given, where)
    name = given.get("distribution") or _inferred(given, where)
    row = DISTRIBUTIONS.get(name) if isinstance(name, str) else None
    if row is None or not row.needs:
        raise Invalid(
            f"{where}: {str(name)[:40]!r} is not a distribution; use one of {', '.join(DISTRIBUTIONS)}", path=where
        )
    found = Parameter(path, str(name), {key: _number(given, key, default, where) for key, default in row.needs.items()})
    _check_numbers(found, where)
    return found


def _parse_values(path: Path, given: dict[str, Any], where: str) -> Parameter:
    values, weights = given["values"], given.get("probabilities")
    if not isinstance(values, list) or not values:
        raise Invalid(f"{where}.values needs a list with at least one value", path=where)
    if weights is None:
        return Parameter(path, "categorical", values=tuple(values))
    fits = isinstance(weights, list) and len(weights) == len(values)
    if not fits or not all(is_number(weight) and weight >= 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
        raise Invalid(f"{where}.probabilities needs one number for each value, which add up to 1", path=where)
    return Parameter(path, "categorical", values=tuple(values), weights=tuple(map(float, weights)))


def _inferred(given: dict[str, Any], where: str) -> str:
    if "min" not in given or "max" not in given:
        raise Invalid(f"{where} needs value, values, min and max, or a distribution", path=where)
    return "int_uniform" if type(given["min"]) is type(given["max"]) is int else "uniform"


def _number(given: dict[str, Any], key: str, default: float | None, where: str) -> float:
    value = given.get(key, default)
    if not is_number(value):
        raise Invalid(f"{where}.{key} needs a number", path=f"{where}.{key}")
    return value


def _check_numbers(parameter: Parameter, where: str) -> None:
    numbers = parameter.numbers
    if "min" in numbers and numbers["min"] > numbers["max"]:
        raise Invalid(f"{where}: min is greater than max", path=where)
    if parameter.distribution in POSITIVE and numbers["min"] <= 0:
        raise Invalid(f"{where}: {parameter.distribution} needs a min above 0", path=where)
    if parameter.distribution == "int_uniform" and not all(float(number).is_integer() for number in numbers.values()):
        raise Invalid(f"{where}: int_uniform needs whole numbers as min and max", path=where)
    if any(numbers[name] <= 0 for name in ("sigma", "a", "b", "q") if name in numbers):
        raise Invalid(f"{where}: sigma, a, b and q need to be above 0", path=where)
    try:
        ends = [value_at(parameter, share) for share in (0.0, 1.0)]
    except OverflowError:
        ends = [math.inf]
    if not all(map(math.isfinite, ends)):
        raise Invalid(f"{where}: its values are too large to be numbers", path=where)


# --- what a grid is made of -------------------------------------------------------------------------------------------


def choices(parameter: Parameter) -> Sequence[Any]:
    """All values of a parameter that has finitely many. Invalid for one that has not."""
    if parameter.distribution in ("constant", "categorical"):
        return parameter.values
    if parameter.distribution == "int_uniform":
        return range(int(parameter.numbers["min"]), int(parameter.numbers["max"]) + 1)
    if parameter.distribution == "q_uniform":
        q = parameter.numbers["q"]
        first, last = math.ceil(parameter.numbers["min"] / q - EDGE), math.floor(parameter.numbers["max"] / q + EDGE)
        if first <= last <= first + MOST_STEPS:
            return tuple(_multiples(range(first, last + 1), q))
    raise Invalid(
        f"parameters.{parameter.name}: a grid needs value, values, int_uniform or q_uniform, with at most {MOST_STEPS} "
        f"values, not {parameter.distribution}",
        path=f"parameters.{parameter.name}",
    )


MOST_STEPS = 100_000
"""Values of a rounded parameter in a grid."""


def _multiples(numbers: Iterable[int], q: float) -> Iterable[float | int]:
    for number in numbers:
        yield int(number * q) if float(q).is_integer() else float(f"{number * q:.12g}")
