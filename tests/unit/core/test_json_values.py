"""JSON text of logged values: lossless for us, plain for everyone else."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.core import json_values


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "-Infinity",
        'say "NaN"',
        '"NaN"',
        'x"NaN',
        "\\",
        ["NaN", "Infinity", "NaN\\"],
        {"NaN": 1, "Infinity": "a NaN b"},
        2**80,
        -0.0,
        "é\0\u2028",
    ],
)
def test_json_text_gives_back_any_value_and_is_the_same_to_any_parser(value: Any) -> None:
    text = json_values.to_text(value)
    assert repr(json_values.from_text(text)) == repr(value)
    assert repr(json.loads(text, parse_constant=lambda token: pytest.fail(token))) == repr(value)


def test_numbers_that_are_not_finite_are_strings_in_json_text() -> None:
    value = [math.nan, {"a": math.inf}, -math.inf]
    assert json_values.to_text(value) == '["NaN",{"a":"Infinity"},"-Infinity"]'
    assert repr(json_values.from_text(json_values.to_text(value))) == repr(value)


@given(
    st.recursive(
        st.floats() | st.text('NaInfity-\\"', max_size=12),
        lambda inner: st.lists(inner) | st.dictionaries(st.just("NaN"), inner),
    )
)
def test_text_of_quotes_and_tokens_is_told_from_numbers(value: Any) -> None:
    text = json_values.to_text(value)
    assert repr(json_values.from_text(text)) == repr(value)
    json.loads(text, parse_constant=lambda token: pytest.fail(token))
