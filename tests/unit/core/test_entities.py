"""Entities on their way through JSON."""

from __future__ import annotations

import math

import msgspec

from labkeep.core.entities import Series


def _decoded(**fields: object) -> Series:
    body = {"stream": "history", "key": "loss", "count": 3, **fields}
    return msgspec.json.decode(msgspec.json.encode(body), type=Series)


def test_a_series_that_is_not_finite_has_numbers_again() -> None:
    series = _decoded(first="NaN", last="-Infinity", min=0.5, max="Infinity")
    assert math.isnan(series.first)
    assert (series.last, series.min, series.max) == (-math.inf, 0.5, math.inf)


def test_the_last_text_of_a_series_without_numbers_stays_text() -> None:
    assert _decoded(last="NaN").last == "NaN"
