"""Wire batches: what encodes to what, and what is refused."""

import enum
import math
import tracemalloc
from array import array
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from labkeep.core import columns
from labkeep.core.columns import Batch, Column, Limits
from labkeep.core.errors import Invalid

STEPS = Column("_step", "i8", None, array("q", [0, 1, 2]).tobytes())


def rows_of(*values: Mapping[str, Any]) -> list[columns.Row]:
    return [(step, 100.0 + step, mapping) for step, mapping in enumerate(values)]


def batch_of(*values: Mapping[str, Any]) -> Batch:
    return columns.decode(columns.encode_rows(rows_of(*values)))


def column(batch: Batch, key: str) -> Column:
    return next(found for found in batch.columns if found.key == key)


def body(*found: Column, n: int = 3) -> bytes:
    return msgspec.msgpack.encode({"rows": n, "columns": found})


# --- types


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, math.nan], "f8"),
        ([1, -(2**63)], "i8"),
        ([1, 0.5], "f8"),
        ([2**53, 0.5], "f8"),
        ([2**53 + 1, 0.5], "json"),
        ([2**64, 1], "f8"),
        ([2**64 + 1, 1], "json"),
        ([2**63, 2**53 + 1], "json"),
        ([10**400, 1], "json"),
        ([True, False], "json"),
        ([1, True], "json"),
        (["a", 1.5], "json"),
        ([None, 1.5], "json"),
    ],
)
def test_a_column_has_the_narrowest_type_that_is_exact(values: list[Any], expected: str) -> None:
    batch = batch_of(*({"x": value} for value in values))
    assert column(batch, "x").type == expected
    found = list(batch.column("x")[1])
    assert found == pytest.approx(values, nan_ok=True) if expected == "f8" else found == values
    assert [type(value) is bool for value in found] == [type(value) is bool for value in values]


def test_huge_integers_survive_anywhere_in_json() -> None:
    value = {"list": [2**70 + 1, -(2**90), {"deep": 2**64 - 1}], "_type": "odd"}
    assert list(batch_of({"x": value}, {"x": -(2**65) - 1}).column("x")[1]) == [value, -(2**65) - 1]


def test_nan_and_the_infinities_survive_in_both_kinds_of_column() -> None:
    batch = batch_of({"f": math.nan, "j": [math.inf]}, {"f": -math.inf, "j": [-math.inf, math.nan]})
    assert str(next(batch.rows())) == "{'_step': 0, '_timestamp': 100.0, 'f': nan, 'j': [inf]}"
    assert list(batch.json_rows())[1] == {"_step": 1, "_timestamp": 101.0, "f": "-Infinity", "j": ["-Infinity", "NaN"]}


def test_a_key_is_absent_where_it_was_not_logged() -> None:
    batch = batch_of({"a": 1.0}, {"b": 2.0}, {"a": None})
    assert [sorted(row) for row in batch.rows()] == [
        ["_step", "_timestamp", "a"],
        ["_step", "_timestamp", "b"],
        ["_step", "_timestamp", "a"],
    ]
    assert batch.column("a") == ([0, 2], [1.0, None])
    assert batch.column("never") == ([], [])
    assert batch.keys() == ["_step", "_timestamp", "a", "b"]


def test_a_row_may_lack_a_timestamp() -> None:
    batch = columns.decode(columns.encode_rows([(5, None, {}), (6, 1.5, {})]))
    assert list(batch.rows()) == [{"_step": 5}, {"_step": 6, "_timestamp": 1.5}]
    assert columns.from_rows([(5, None, {})]).keys() == ["_step"]


def test_no_rows_is_a_batch() -> None:
    batch = columns.decode(columns.encode_rows([]))
    assert len(batch) == 0
    assert list(batch.rows()) == []


# --- nested values


def test_a_nested_dict_of_scalars_becomes_dotted_keys() -> None:
    (row,) = batch_of({"a": {"b": 1, "c": {"d": "x", "e": None}}, "f": 2}).rows()
    assert row == {"_step": 0, "_timestamp": 100.0, "a.b": 1, "a.c.d": "x", "a.c.e": None, "f": 2}


@pytest.mark.parametrize(
    "value", [{"_type": "image-file", "path": "x.png"}, {"b": [1]}, {"b": {"_type": "x"}}, {}, {"b": {}}, [1, {"a": 2}]]
)
def test_other_structures_are_kept_whole(value: Any) -> None:
    (row,) = batch_of({"a": value}).rows()
    assert row["a"] == value


def test_whole_numbers_as_inner_keys_become_text() -> None:
    (row,) = batch_of({"accuracy": {0: 0.5, 1: 0.75}}).rows()
    assert (row["accuracy.0"], row["accuracy.1"]) == (0.5, 0.75)


def test_where_flattening_names_a_key_twice_the_later_wins() -> None:
    (row,) = batch_of({"a": {"b": 1}, "a.b": 2}).rows()
    assert row["a.b"] == 2


def test_array_scalars_arrays_tuples_and_enumerations_are_plain_values() -> None:
    class Phase(enum.StrEnum):
        train = "train"

    (row,) = batch_of(
        {
            "f": np.float32(0.5),
            "d": np.float64(0.25),
            "i": np.int16(3),
            "b": np.bool_(True),
            "v": np.arange(2),
            "t": (1,),
            "p": Phase.train,
        }
    ).rows()
    del row["_step"], row["_timestamp"]
    assert row == {"f": 0.5, "d": 0.25, "i": 3, "b": True, "v": [0, 1], "t": [1], "p": "train"}
    assert {type(value) for value in row.values()} == {float, int, bool, list, str}


# --- refusals while encoding


@pytest.mark.parametrize(
    "values", [{"x": object()}, {"x": {"y": b""}}, {"x": {1.5: 1}}, {"x": {True: 1}}, {"x": "\ud800"}, {"x": 2**9000}]
)
def test_a_value_that_is_not_json_is_refused_by_row_and_key(values: Mapping[str, Any]) -> None:
    with pytest.raises(Invalid, match="row 1, key 'x'") as caught:
        columns.encode_rows(rows_of({"ok": 1}, values))
    assert caught.value.details == {"row": 1, "key": "x"}


def test_nesting_is_limited_when_encoding() -> None:
    value: Any = []
    for _ in range(100):
        value = [value]
    with pytest.raises(Invalid, match="row 0, key 'x': the value is nested too deeply"):
        columns.encode_rows(rows_of({"x": value}))


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", "k" * 513, "_step", "_timestamp", "_offset", 5])
def test_a_bad_key_is_refused(key: Any) -> None:
    with pytest.raises(Invalid, match="key"):
        columns.encode_rows(rows_of({key: 1.0}))
    with pytest.raises(Invalid, match="key"):
        columns.encode_columns([0], {key: [1.0]})


def test_a_flattened_key_is_checked_too() -> None:
    with pytest.raises(Invalid, match="512 are allowed"):
        columns.encode_rows(rows_of({"a" * 300: {"b" * 300: 1}}))


@pytest.mark.parametrize("step", [2**63, 1.5, True, "1", None])
def test_a_step_must_be_a_whole_number_of_64_bits(step: Any) -> None:
    with pytest.raises(Invalid, match="step"):
        columns.encode_rows([(step, None, {})])


def test_a_timestamp_must_be_a_number() -> None:
    with pytest.raises(Invalid, match="'_timestamp'"):
        columns.encode_rows([(0, "now", {})])  # type: ignore[list-item]


# --- whole columns


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        ([0.5, 1.5], "f8", [0.5, 1.5]),
        (array("d", [0.5, 1.5]), "f8", [0.5, 1.5]),
        (array("f", [0.5, 1.5]), "f8", [0.5, 1.5]),
        (np.array([0.5, 1.5]), "f8", [0.5, 1.5]),
        (np.array([0.5, 9.0, 1.5])[::2], "f8", [0.5, 1.5]),
        (np.array([0.5, 1.5], ">f8"), "f8", [0.5, 1.5]),
        (np.array([0.5, 1.5], "f2"), "f8", [0.5, 1.5]),
        (np.array([1, 2], "i1"), "i8", [1, 2]),
        (np.array([1, 2]), "i8", [1, 2]),
        (np.array([1, 2**64 - 1], "u8"), "json", [1, 2**64 - 1]),
        (np.array([True, False]), "json", [True, False]),
        (range(2), "i8", [0, 1]),
        ([np.float64(0.5), 1], "f8", [0.5, 1.0]),
        (["a", None], "json", ["a", None]),
    ],
)
def test_a_whole_column_may_be_a_list_an_array_or_a_buffer(values: Any, type_: str, expected: list[Any]) -> None:
    batch = columns.decode(columns.encode_columns([0, 1], {"x": values}))
    assert column(batch, "x").type == type_
    assert list(batch.column("x")[1]) == expected


def test_steps_and_timestamps_may_be_buffers_too() -> None:
    batch = columns.decode(columns.encode_columns(np.array([3, 4], "i4"), {}, np.array([1, 2])))  # type: ignore[arg-type]
    assert list(batch.rows()) == [{"_step": 3, "_timestamp": 1.0}, {"_step": 4, "_timestamp": 2.0}]
    assert len(columns.decode(columns.encode_columns([], {"x": []}))) == 0


@pytest.mark.parametrize(
    ("steps", "values", "seconds", "message"),
    [
        ([0, 1], [0.5], None, "column 'x' has 1 values for 2 steps"),
        ([0.5], [0.5], None, "every step must be a whole number"),
        ([0], np.zeros((1, 2)), None, "2 dimensions"),
        ([0], [object()], None, "key 'x'"),
        ([0], np.array(["2026-01-01"], "M8[D]"), None, "key 'x'"),
        ([0], [0.5], ["now"], "'_timestamp'"),
        ([0], [0.5], [1.0, 2.0], "'_timestamp'"),
    ],
)
def test_a_whole_column_that_does_not_fit_is_refused(steps: Any, values: Any, seconds: Any, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        columns.encode_columns(steps, {"x": values}, seconds)


# --- JSON rows


def test_json_rows_take_the_names_of_numbers_that_json_lacks() -> None:
    batch = columns.from_json_rows(
        [
            {"_step": 0, "_timestamp": 5, "loss": 0.5, "note": "Infinity is big"},
            {"_step": 1, "loss": "NaN", "list": ["-Infinity", {"x": "Infinity"}]},
        ]
    )
    assert column(batch, "loss").type == "f8"
    assert list(batch.json_rows()) == [
        {"_step": 0, "_timestamp": 5.0, "loss": 0.5, "note": "Infinity is big"},
        {"_step": 1, "loss": "NaN", "list": ["-Infinity", {"x": "Infinity"}]},
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"_step": 0}, "rows must be a list"),
        ([5], "row 0: it must be an object"),
        ([{"loss": 1}], "row 0, key '_step'"),
        ([{"_step": 0}, {"_step": 1.0}], "row 1, key '_step'"),
        ([{"_step": True}], "row 0, key '_step'"),
        ([{"_step": 0, "_timestamp": "now"}], "row 0, key '_timestamp'"),
        ([{"_step": 0, "_offset": 3}], "'_offset' is reserved"),
    ],
)
def test_a_bad_json_row_is_refused_by_row_and_key(rows: Any, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        columns.from_json_rows(rows)


def test_nesting_is_limited_in_json_rows() -> None:
    value: Any = "x"
    for _ in range(300):
        value = {"a": value}
    with pytest.raises(Invalid, match="row 0, key 'x': the value is nested too deeply"):
        columns.from_json_rows([{"_step": 0, "x": value}])


# --- hostile bodies

F8 = array("d", [1.0, 2.0, 3.0]).tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"\xc1", "not a column batch"),
        (b"\xdd\xff\xff\xff\xff", "not a column batch"),
        (msgspec.msgpack.encode({"rows": 3}), "columns"),
        (msgspec.msgpack.encode({"rows": 3, "columns": [], "more": 1}), "more"),
        (msgspec.msgpack.encode({"rows": "3", "columns": []}), "rows"),
        (body(n=-1), "negative"),
        (body(n=10**9), "1000000 rows"),
        (body(n=10**6), "'_step'"),
        (body(STEPS, n=10**6), "3 values for 1000000 present rows"),
        (body(STEPS, STEPS), "two columns"),
        (body(Column("_step", "f8", None, F8)), "'_step' of type i8"),
        (body(Column("_step", "i8", b"\x07", F8)), "without a mask"),
        (body(STEPS, Column("_timestamp", "i8", None, F8)), "must have type f8"),
        (body(STEPS, Column("_offset", "i8", None, F8)), "reserved"),
        (body(STEPS, Column("", "f8", None, F8)), "not empty"),
        (body(STEPS, Column("k" * 513, "f8", None, F8)), "512 are allowed"),
        (body(STEPS, Column("x", "f8", None, F8[:-1])), "whole number of values"),
        (body(STEPS, Column("x", "f8", None, F8[:-8])), "2 values for 3 present rows"),
        (body(STEPS, Column("x", "f8", b"", F8)), "does not fit 3 rows"),
        (body(STEPS, Column("x", "f8", b"\x0f", F8)), "bits after the last row"),
        (body(STEPS, Column("x", "f8", b"\x03", F8)), "3 values for 2 present rows"),
        (body(STEPS, Column("x", "f4", None, F8)), "f4"),  # type: ignore[arg-type]
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02")), "truncated"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02\xc4\x01a")), "not JSON"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02\x81\x01\x02")), "not JSON"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02\xd6\xff\x00\x00\x00\x00")), "not JSON"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02\xd4\x05\x00")), "extension"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02\xa2\xff\xfe")), "utf-8"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02\x81\x90\x01")), "not JSON"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02\x81\x80\x01")), "not"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02" + b"\x91" * 70 + b"\x90")), "too deeply"),
        (body(STEPS, Column("x", "json", None, b"\x93\x01\x02" + b"\x91" * 99999 + b"\x90")), "recursion"),
        (b"\x82\xa4rows\x01\xa7columns\x91\x94\xa2\xff\xfe\xa2f8\xc0\xc4\x00", "utf-8"),
    ],
)
def test_a_body_that_is_not_a_batch_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        columns.decode(data)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(rows=1), "1 rows"),
        (Limits(columns=2), "2 columns"),
        (Limits(json_bytes=5), "5 bytes of JSON"),
    ],
)
def test_limits_hold_for_every_way_in(limits: Limits, message: str) -> None:
    rows = rows_of({"a": "text"}, {"a": "text"})
    with pytest.raises(Invalid, match=message):
        columns.decode(columns.encode_rows(rows), limits)
    with pytest.raises(Invalid, match=message):
        columns.from_rows(rows, limits)
    with pytest.raises(Invalid, match=message):
        columns.from_json_rows([{"_step": i, "b": 1, "a": "text"} for i in range(2)], limits)


def test_memory_for_a_body_is_bounded_by_its_size_and_not_by_what_it_claims() -> None:
    claims = [Column(f"k{i}", "json", None, b"\xdd\xff\xff\xff\xff") for i in range(100)]
    tracemalloc.start()
    try:
        for n in (10**6, 2**62):
            with pytest.raises(Invalid):
                columns.decode(body(STEPS, *claims, n=n))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
