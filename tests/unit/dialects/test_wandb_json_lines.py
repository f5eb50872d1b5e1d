"""Rows of numbers, written by column."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from labkeep.dialects.wandb.json_lines import encode_rows

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["%s", "100%", '"', "\\", "a\nb"]
)


@given(
    st.integers(0, 5).flatmap(lambda n: st.dictionaries(keys, st.lists(numbers, min_size=n, max_size=n), min_size=1))
)
def test_rows_by_column_are_the_rows(columns: dict[str, list[int | float]]) -> None:
    expected = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert [json.loads(text) for text in json.loads(encode_rows(columns))] == expected


def test_no_columns_are_no_rows() -> None:
    assert encode_rows({}) == b"[]"
