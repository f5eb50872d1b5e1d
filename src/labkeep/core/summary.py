"""What the rows of an eval come to: the mean of each score and metric over its traces, compared input by input.

A trace counts once, however many spans it has. Rows follow the convention of spans: ``scores`` and ``metrics`` are
objects of numbers, ``span_attributes.type`` says what a span is, ``span_parents`` is empty for the root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from labkeep.core.entities import Json, Row
from labkeep.core.merge import identity

COUNTS = ("llm_calls", "tool_calls", "errors", "llm_errors", "tool_errors")
"""Counted in every trace, zero included."""

TOKENS = {
    "prompt_tokens": "prompt_tokens",
    "prompt_cached_tokens": "prompt_cached_tokens",
    "prompt_cache_creation_tokens": "prompt_cache_creation_tokens",
    "completion_tokens": "completion_tokens",
    "tokens": "total_tokens",
}
"""Metric of a span -> metric of the summary; summed over the trace, zero included."""

DURATION = "duration"

ALWAYS = (*COUNTS, *TOKENS.values())

_NOT_SUMMED = frozenset({"start", "end", "caller_lineno", DURATION})

LIMIT = 1e100
"""Larger numbers are left out of means: their sum could leave the range of a double."""


class Sample(msgspec.Struct, frozen=True):
    """What one trace adds. ``key`` is the same for equal inputs; None when the trace has no input."""

    key: bytes | None
    scores: dict[str, float]
    metrics: dict[str, float]


class Stat(msgspec.Struct, frozen=True):
    """The mean of one score or metric, and how it moved against the base over the inputs that both have."""

    mean: float
    diff: float | None = None
    up: int = 0
    """Inputs whose value rose."""
    down: int = 0


def numbers(value: Any) -> dict[str, float]:
    """The numbers of an object by name; flags, texts and what cannot be averaged left out."""
    if not isinstance(value, dict):
        return {}
    return {
        name: float(number)
        for name, number in value.items()
        if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) <= LIMIT
    }


def sample(rows: Sequence[Row]) -> Sample:
    """What the trace that consists of ``rows`` comes to."""
    root = next((row.data for row in rows if not row.data.get("span_parents")), rows[0].data)
    given = root.get("input")
    key = None if given is None else hashlib.blake2b(_bytes(identity(given)), digest_size=16).digest()
    scores: dict[str, list[float]] = {}
    for row in rows:
        for name, value in numbers(row.data.get("scores")).items():
            scores.setdefault(name, []).append(value)
    return Sample(key, {name: _mean(values) for name, values in scores.items()}, _metrics([r.data for r in rows], root))


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _metrics(spans: Sequence[Json], root: Json) -> dict[str, float]:
    found = dict.fromkeys(ALWAYS, 0.0)
    durations: list[float] = []
    for span in spans:
        kind, measured = _kind(span), numbers(span.get("metrics"))
        failed = span.get("error") is not None
        found["errors"] += failed
        if kind in ("llm", "tool"):
            found[f"{kind}_calls"] += 1
            found[f"{kind}_errors"] += failed
        for name, value in measured.items():
            if name not in _NOT_SUMMED:
                name = TOKENS.get(name, name)
                found[name] = found.get(name, 0.0) + value
        if kind == "task":
            durations.extend(_duration(measured))
    found["total_tokens"] = found["total_tokens"] or found["prompt_tokens"] + found["completion_tokens"]
    durations = durations or _duration(numbers(root.get("metrics")))
    return found | {DURATION: _mean(durations)} if durations else found


def _kind(span: Json) -> Any:
    attributes = span.get("span_attributes")
    return attributes.get("type") if isinstance(attributes, dict) else None


def _duration(measured: Mapping[str, float]) -> list[float]:
    if "start" in measured and "end" in measured:
        return [measured["end"] - measured["start"]]
    return []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class _Mean:
    """A running mean."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count


class Tally:
    """The means of one set of named numbers, over all traces and for each input. ``zeros`` are 0 where they are absent."""

    def __init__(self, zeros: Collection[str] = ()) -> None:
        self._zeros = frozenset(zeros)
        self._all: dict[str, _Mean] = {}
        self._by_key: dict[bytes, dict[str, _Mean]] = {}

    def add(self, key: bytes | None, values: Mapping[str, float]) -> None:
        """One trace more."""
        _add(self._all, values)
        if key is not None:
            # What is 0 for most inputs is not worth its memory.
            kept = {name: value for name, value in values.items() if value or name not in self._zeros}
            _add(self._by_key.setdefault(key, {}), kept)

    def stats(self, base: Tally | None = None) -> dict[str, Stat]:
        """Each mean; with ``base`` also the difference of the means over those inputs that both have."""
        return {
            name: Stat(mean.value) if base is None else self._compared(name, mean.value, base)
            for name, mean in sorted(self._all.items())
        }

    def _compared(self, name: str, mean: float, base: Tally) -> Stat:
        pairs = []
        for key in self._by_key.keys() & base._by_key.keys():
            now, before = self._value(key, name), base._value(key, name)
            if now is not None and before is not None:
                pairs.append((now, before))
        if not pairs:
            return Stat(mean)
        diff = _mean([now for now, _ in pairs]) - _mean([before for _, before in pairs])
        return Stat(mean, diff, sum(now > before for now, before in pairs), sum(now < before for now, before in pairs))

    def _value(self, key: bytes, name: str) -> float | None:
        found = self._by_key[key].get(name)
        if found is None:
            return 0.0 if name in self._zeros else None
        return found.value


def _add(means: dict[str, _Mean], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if name not in means:
            means[name] = _Mean()
        means[name].add(value)


class Totals:
    """Scores and metrics of one run."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.scores, self.metrics = Tally(), Tally(ALWAYS)
        for each in samples:
            self.scores.add(each.key, each.scores)
            self.metrics.add(each.key, each.metrics)
