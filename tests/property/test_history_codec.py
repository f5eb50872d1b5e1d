"""Laws of the history codecs, over anything that can be logged."""

import io
import math
from typing import Any

import msgspec
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from labkeep.core import columns
from labkeep.core.errors import Invalid
from labkeep.storage import chunks, reductions, segments, series
from labkeep.storage.series import Part, Table

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["NaN", "Infinity", '"NaN"'])
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6).filter(
    lambda key: key not in columns.RESERVED
)
NUMBERS = st.floats() | INT64 | st.integers() | st.integers(2**53 - 2, 2**53 + 2)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXT
STRUCTURES = st.recursive(
    st.lists(LEAVES, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(TEXT, inner | LEAVES, max_size=2).map(lambda d: {**d, "_type": "t"})
    ),
    max_leaves=4,
)
FEW_KEYS = st.sampled_from(["loss", "acc", "é", "a.b"]) | KEYS
VALUES = st.floats() | st.integers(-5, 5) | LEAVES | STRUCTURES
ROWS = st.lists(st.tuples(INT64, st.none() | st.floats(), st.dictionaries(FEW_KEYS, VALUES, max_size=4)), max_size=12)
NUMERIC_ROWS = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.just(1.0),
        st.dictionaries(st.sampled_from(["a", "b"]), st.floats() | st.integers(-9, 9), max_size=2),
    ),
    max_size=40,
)


def plain(rows: list[columns.Row]) -> list[dict[str, Any]]:
    """What reading the rows should give, order of keys aside."""
    found = []
    for step, timestamp, values in rows:
        row = {"_step": step, **values}
        if timestamp is not None:
            row["_timestamp"] = timestamp
        found.append(row)
    return found


def same(left: Any, right: Any) -> bool:
    """Equal, with NaN equal to itself, 1 equal to 1.0, and True equal only to True."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or isinstance(left, str):
        return type(left) is type(right) and left == right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or left == right
    return isinstance(left, int | float) and isinstance(right, int | float) and left == right


def model(parts: list[Part]) -> dict[int, dict[str, Any]]:
    return {offset + i: row for offset, table in parts for i, row in enumerate(table.rows())}


@given(ROWS)
def test_rows_survive_the_wire(rows: list[columns.Row]) -> None:
    batch = columns.decode(columns.encode_rows(rows))
    assert same(list(batch.rows()), plain(rows))


@given(ROWS)
def test_rows_survive_the_json_form_but_for_texts_that_name_numbers(rows: list[columns.Row]) -> None:
    rows = [(step, None, values) for step, _, values in rows]
    batch = columns.from_rows(rows)
    assert same(list(columns.from_json_rows(list(batch.json_rows())).json_rows()), list(batch.json_rows()))


@given(
    st.dictionaries(
        KEYS, st.recursive(LEAVES | STRUCTURES, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)
    )
)
def test_any_nested_dict_can_be_logged_and_nothing_in_it_is_lost(values: dict[str, Any]) -> None:
    (row,) = columns.from_rows([(0, None, values)]).rows()
    dotted = {key for key in row if key not in values}
    assert all(any(key.startswith(f"{top}.") for top in values) for key in dotted - {"_step"})
    assert all(key in row or any(other.startswith(f"{key}.") for other in row) for key in values)


@given(st.binary(max_size=60))
@example(b"\x82\xa4rows\x00\xa7columns\x91\x94\xa5_step\xa2i8\xc0\xc4\x00")
def test_any_bytes_are_a_batch_or_invalid(data: bytes) -> None:
    try:
        columns.decode(data)
    except Invalid:
        return


@given(ROWS, st.data())
def test_a_damaged_body_is_a_batch_or_invalid(rows: list[columns.Row], data: st.DataObject) -> None:
    body = bytearray(columns.encode_rows(rows))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch = columns.decode(body)
    except Invalid:
        return
    assert len(list(batch.rows())) == len(batch)
    assert len(Table.from_batch(batch)) == len(batch)
    assert same(list(columns.decode(columns.encode(batch)).rows()), list(batch.rows()))


@given(ROWS, st.integers(1, 30))
def test_rows_survive_a_chunk(rows: list[columns.Row], repeat: int) -> None:
    batch = columns.from_rows(rows * repeat)
    chunk = chunks.pack(batch)
    assert same(list(chunks.unpack(chunk).rows()), list(batch.rows()))
    for key in [column.key for column in batch.columns]:
        one = chunks.unpack(chunk, [key])
        assert same(list(one.rows()), [{k: v for k, v in row.items() if k in (key, "_step")} for row in batch.rows()])


@given(ROWS, st.integers(0, 12), st.integers(0, 12))
def test_a_table_is_the_sum_of_its_slices(rows: list[columns.Row], start: int, stop: int) -> None:
    table, expected = Table.from_batch(columns.from_rows(rows)), plain(rows)
    start, stop = sorted((start, stop))
    assert same(list(table.slice(start, stop).rows()), expected[start:stop])
    joined = series.concat([table.slice(0, start), table.slice(start, stop), table.slice(stop, len(rows))])
    assert same(list(joined.rows()), expected)
    chosen = np.arange(len(rows))[::2]
    assert same(list(table.take(chosen).rows()), expected[::2])
    assert same(list(columns.decode(table.to_wire()).rows()), expected)


@given(st.lists(st.tuples(st.integers(0, 25), ROWS), max_size=8))
def test_splices_agree_with_a_dict_of_rows(writes: list[tuple[int, list[columns.Row]]]) -> None:
    parts: list[Part] = []
    expected: dict[int, dict[str, Any]] = {}
    for offset, rows in writes:
        parts = series.splice(parts, offset, Table.from_batch(columns.from_rows(rows)))
        expected.update({offset + i: row for i, row in enumerate(plain(rows))})
        ends = [at + len(table) for at, table in parts]
        assert all(end <= at for end, (at, _) in zip(ends, parts[1:], strict=False))
    assert same(model(parts), expected)
    laid = series.resolve((offset, Table.from_batch(columns.from_rows(rows))) for offset, rows in writes)
    assert same(model(laid), expected)


@given(st.lists(st.tuples(st.integers(0, 25), ROWS), min_size=1, max_size=4), st.integers(1, 7))
def test_rows_survive_a_segment(writes: list[tuple[int, list[columns.Row]]], group_rows: int) -> None:
    parts = series.resolve((offset, Table.from_batch(columns.from_rows(rows))) for offset, rows in writes)
    if not parts:
        return
    sink = io.BytesIO()
    info = segments.write(sink, lambda: parts, group_rows)
    expected = model(parts)
    assert same(model(segments.read(sink.getvalue())), expected)
    assert info.rows == len(expected)
    assert (info.first_offset, info.end_offset) == (min(expected), max(expected) + 1)
    steps = sorted(row["_step"] for row in expected.values())
    assert (info.first_step, info.last_step) == (steps[0], steps[-1])
    low, high = steps[len(steps) // 3], steps[2 * len(steps) // 3]
    inside = {at: row for at, row in expected.items() if low <= row["_step"] <= high}
    assert same(model(segments.read(sink.getvalue(), None, low, high)), inside)


@given(NUMERIC_ROWS, st.integers(0, 40))
def test_a_summary_does_not_depend_on_where_rows_are_cut(rows: list[columns.Row], cut: int) -> None:
    table = Table.from_batch(columns.from_rows(rows))
    parts = [reductions.summarise(table.slice(0, cut)), reductions.summarise(table.slice(cut, len(rows)))]
    whole = reductions.summarise(table)
    for key, expected in whole.items():
        merged = reductions.merge(part[key] for part in parts if key in part)
        assert same(list(msgspec.structs.astuple(merged)), list(msgspec.structs.astuple(expected)))


@given(NUMERIC_ROWS, st.integers(1, 10))
def test_a_sample_holds_the_extremes_of_every_bucket(rows: list[columns.Row], buckets: int) -> None:
    table = Table.from_batch(columns.from_rows(rows))
    kept = reductions.sample_rows(table, "a", buckets)
    present, values = table.column("a")
    assert set(kept.tolist()) <= set(present.tolist())
    assert len(kept) <= 2 * buckets + 2
    if not len(present):
        return
    assert {present[0], present[-1]} <= set(kept.tolist())
    steps, span = table.steps[present], max(int(np.ptp(table.steps[present])), 1)
    for bucket in range(buckets):
        inside = np.minimum((steps - steps.min()) * (buckets / span), buckets - 1).astype(int) == bucket
        of_bucket, chosen = values[inside], values[inside & np.isin(present, kept)]
        numbers = of_bucket[~np.isnan(of_bucket)]
        assert len(chosen) > 0 or not len(of_bucket)
        if len(numbers):
            assert {numbers.min(), numbers.max()} <= set(chosen.tolist())
