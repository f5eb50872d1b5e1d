"""Chunks, the algebra of parts, summaries and samples."""

import math
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from labkeep.core import columns
from labkeep.core.errors import Corrupt
from labkeep.storage import chunks, reductions, series
from labkeep.storage.reductions import Summary
from labkeep.storage.series import Series, Table


def table_of(*values: Mapping[str, Any], first_step: int = 0) -> Table:
    return Table.from_batch(columns.from_rows([(first_step + i, float(i), row) for i, row in enumerate(values)]))


def numbers(n: int, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    return Table(
        n,
        {
            "_step": Series("i8", None, np.arange(n)),
            "noise": Series("f8", None, rng.normal(size=n)),
            "rounded": Series("f8", None, rng.integers(0, 50, n) / 10),
            "smooth": Series("f8", None, np.cos(np.arange(n) / n)),
            "gaps": Series("i8", np.arange(1, n, 3), np.arange(1, n, 3) * -(10**12)),
            "text": Series("json", np.array([0, n - 1]), series.objects(["a", [1, {"b": None}]])),
        },
    )


def rows(table: Table) -> list[dict[str, Any]]:
    return list(table.rows())


def column_rows(*found: tuple[int, Table]) -> dict[int, dict[str, Any]]:
    return {offset + i: row for offset, table in found for i, row in enumerate(table.rows())}


# --- chunks


@pytest.mark.parametrize("n", [2, 255, 256, 1000])
def test_a_chunk_gives_back_its_rows(n: int) -> None:
    table = numbers(n)
    assert rows(chunks.unpack(chunks.pack(table))) == rows(table)
    assert rows(chunks.unpack(memoryview(chunks.pack(table.to_batch())))) == rows(table)


def test_extreme_values_survive_to_the_bit() -> None:
    floats = np.array([0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7e308] * 20)
    odd_nan = np.frombuffer(b"\x01\x02\x03\0\0\0\xf8\x7f" * 120)
    ints = np.array([2**63 - 1, -(2**63), 0, -1, 1, 2**62] * 20)
    table = Table(
        120, {"_step": Series("i8", None, ints), "f": Series("f8", None, floats), "n": Series("f8", None, odd_nan)}
    )
    back = chunks.unpack(chunks.pack(table))
    for key in ("_step", "f", "n"):
        assert back.columns[key].values.tobytes() == table.columns[key].values.tobytes()


def test_each_layout_is_chosen_where_it_is_the_smallest() -> None:
    header, _ = chunks._header(memoryview(chunks.pack(numbers(5000))))
    layouts = {extent.key: extent.layout for extent in header.columns}
    assert layouts["_step"] == layouts["smooth"] == layouts["gaps"] == "delta"
    assert layouts["rounded"] == "plain"
    assert layouts["noise"] in ("planes", "delta")


def test_one_column_is_read_without_the_others() -> None:
    table = numbers(100)
    chunk = bytearray(chunks.pack(table))
    chunk[-3] ^= 1  # in the last column
    part = chunks.unpack(chunk, ["gaps", "unknown"])
    assert list(part.columns) == ["_step", "gaps"]
    assert rows(part) == rows(table.select(["gaps"]))
    with pytest.raises(Corrupt):
        chunks.unpack(chunk, ["text"])


def test_a_chunk_describes_its_columns() -> None:
    described = chunks.describe(chunks.pack(numbers(5)))
    assert described == {"_step": "i8", "noise": "f8", "rounded": "f8", "smooth": "f8", "gaps": "i8", "text": "json"}


def test_any_changed_byte_is_noticed_or_harmless() -> None:
    table = numbers(70)
    chunk, expected = chunks.pack(table), rows(table)
    for place in range(len(chunk)):
        damaged = bytearray(chunk)
        damaged[place] ^= 0x10
        try:
            assert rows(chunks.unpack(damaged)) == expected
        except Corrupt:
            continue
    for cut in (0, 1, 8, 9, 20, len(chunk) - 1):
        with pytest.raises(Corrupt):
            chunks.unpack(chunk[:cut])
    with pytest.raises(Corrupt, match="wrong length"):
        chunks.unpack(chunk + b"x")


def test_a_column_that_is_larger_than_the_header_says_is_not_decompressed() -> None:
    chunk = chunks.pack(numbers(100))
    header, start = chunks._header(memoryview(chunk))
    lying = [msgspec.structs.replace(extent, raw=extent.raw // 2) for extent in header.columns]
    encoded = msgspec.msgpack.encode({"rows": 50, "columns": lying})
    prefix = struct.pack("<BII", chunks.FORMAT, len(encoded), zlib.crc32(encoded))
    with pytest.raises(Corrupt, match=r"'_step'.*its size is wrong"):
        chunks.unpack(prefix + encoded + chunk[start:])


def test_a_chunk_of_another_format_is_refused() -> None:
    with pytest.raises(Corrupt, match="has format 9"):
        chunks.unpack(b"\x09" + chunks.pack(numbers(5))[1:])


def test_an_empty_batch_is_a_chunk() -> None:
    assert rows(chunks.unpack(chunks.pack(columns.from_rows([])))) == []


def test_a_table_goes_back_to_the_wire() -> None:
    table = numbers(20)
    assert list(columns.decode(table.to_wire()).rows()) == rows(table)


def test_importing_the_codec_does_not_import_pyarrow() -> None:
    code = "import sys, labkeep.storage.chunks, labkeep.storage.reductions; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- tables


def test_a_slice_drops_the_columns_that_have_nothing_there() -> None:
    table = table_of({"a": 1}, {"a": 2, "b": 3}, {"b": "x"})
    assert table.slice(1, 3).keys() == ["a", "b"]
    assert rows(table.slice(0, 1)) == [{"_step": 0, "_timestamp": 0.0, "a": 1}]
    assert rows(table.slice(3, 9)) == []


def test_between_keeps_the_steps_of_the_range_with_both_ends() -> None:
    table = table_of(*({"a": i} if i % 2 else {"b": i} for i in range(6)), first_step=10)
    assert [row["_step"] for row in table.between(11, 13).rows()] == [11, 12, 13]
    assert table.between(12, 12).keys() == ["b"]
    assert table.between() is table
    assert rows(table.between(99)) == []


@pytest.mark.parametrize(
    ("first", "second", "type_"),
    [(1, 0.5, "f8"), (2**53 + 1, 0.5, "json"), (1, "x", "json"), (0.5, None, "json"), (True, False, "json")],
)
def test_joined_columns_of_two_types_get_one_that_is_exact(first: Any, second: Any, type_: str) -> None:
    joined = series.concat([table_of({"a": first}), series.empty(), table_of({}, {"a": second})])
    assert joined.columns["a"].type == type_
    rows_, values = joined.column("a")
    assert (rows_.tolist(), values.tolist()) == ([0, 2], [first, second])


def test_no_tables_join_to_an_empty_one() -> None:
    assert rows(series.concat([])) == []
    assert [array.tolist() for array in series.empty().column("a")] == [[], []]


# --- splice


def test_a_splice_replaces_exactly_its_rows() -> None:
    old, new = table_of(*({"a": i} for i in range(10))), table_of({"b": 1}, {"b": 2})
    parts = series.splice([(0, old)], 4, new)
    assert [(offset, len(table)) for offset, table in parts] == [(0, 4), (4, 2), (6, 4)]
    expected = {**column_rows((0, old)), **column_rows((4, new))}
    assert column_rows(*parts) == expected


def test_a_splice_leaves_untouched_parts_as_they_are() -> None:
    parts = [(at, table_of({"a": at}, {"a": at + 1})) for at in (0, 2, 4, 10)]
    new = table_of({"a": 99})
    spliced = series.splice(parts, 3, new)
    assert spliced[0] is parts[0]
    assert spliced[-2:] == parts[-2:]
    assert [(offset, len(table)) for offset, table in spliced] == [(0, 2), (2, 1), (3, 1), (4, 2), (10, 2)]
    assert series.splice(parts, 4, new)[1] is parts[1]
    assert series.splice(parts, 3, new)[3] is parts[2]
    assert series.splice(parts, 4, series.empty()) == parts
    assert [offset for offset, _ in series.splice(parts, 7, new)] == [0, 2, 4, 7, 10]
    assert [offset for offset, _ in series.splice(parts, 12, new)] == [0, 2, 4, 10, 12]
    assert [offset for offset, _ in series.splice(parts[1:], 0, new)] == [0, 2, 4, 10]


def test_later_parts_lie_over_earlier_ones() -> None:
    segment = table_of(*({"a": i} for i in range(6)))
    first, second = table_of({"a": 10}, {"a": 11}), table_of({"a": 20}, {"a": 21})
    found = series.resolve([(0, segment), (2, first), (3, second), (9, series.empty())])
    values = {offset: row["a"] for offset, row in column_rows(*found).items()}
    assert values == {0: 0, 1: 1, 2: 10, 3: 20, 4: 21, 5: 5}


# --- summaries


def test_a_summary_knows_the_numbers_and_the_last_value() -> None:
    table = table_of({"f": 3.0}, {"f": math.nan, "i": 5}, {"f": -1.0, "j": "x"}, {"i": -7, "j": [1]})
    assert reductions.summarise(table) == {
        "f": Summary(3, last=-1.0, last_step=2, first=3.0, min=-1.0, max=3.0, nan_count=1),
        "i": Summary(2, last=-7, last_step=3, first=5, min=-7, max=5),
        "j": Summary(2, last=[1], last_step=3),
    }
    assert reductions.summarise(table.to_batch())["i"] == reductions.summarise(table)["i"]


def test_a_summary_holds_python_numbers() -> None:
    found = reductions.summarise(table_of({"f": 3.0, "i": 5}))
    assert {type(value) for value in msgspec.structs.astuple(found["i"])} == {int}
    assert type(found["f"].min) is float


def test_numbers_count_also_where_a_column_is_mixed() -> None:
    table = table_of({"a": None}, {"a": 2}, {"a": True}, {"a": 10**400}, {"a": math.nan})
    found = reductions.summarise(table)["a"]
    assert (found.count, found.first, found.min, found.max, found.nan_count) == (5, 2.0, 2.0, math.inf, 1)


def test_only_nan_has_no_smallest() -> None:
    found = reductions.summarise(table_of({"a": math.nan}))["a"]
    assert math.isnan(found.first or 0)
    assert (found.min, found.max, found.nan_count) == (None, None, 1)


def test_summaries_merge_in_row_order() -> None:
    parts = [
        table_of({"a": None}),
        table_of({"a": 4.0}, {"a": 1.0}, first_step=1),
        table_of({"a": "end"}, first_step=3),
    ]
    merged = reductions.merge(reductions.summarise(part)["a"] for part in parts)
    assert merged == reductions.summarise(series.concat(parts))["a"]
    assert merged == Summary(4, last="end", last_step=3, first=4.0, min=1.0, max=4.0)


# --- samples


def test_a_sample_keeps_the_extremes_of_each_bucket_and_both_ends() -> None:
    n, buckets = 10_000, 50
    values = np.random.default_rng(1).normal(size=n)
    table = Table(n, {"_step": Series("i8", None, np.arange(n)), "a": Series("f8", None, values)})
    kept = reductions.sample_rows(table, "a", buckets)
    assert {0, n - 1} <= set(kept.tolist())
    assert len(kept) <= 2 * buckets + 2
    for chunk in np.split(np.arange(n), buckets):
        assert {chunk[values[chunk].argmin()], chunk[values[chunk].argmax()]} <= set(kept.tolist())


def test_a_sample_shows_a_stretch_of_nan() -> None:
    values = np.random.default_rng(2).normal(size=1000)
    values[300:400] = math.nan
    values[400:500] = 7.0
    values[550] = math.nan
    table = Table(1000, {"_step": Series("i8", None, np.arange(1000)), "a": Series("f8", None, values)})
    kept = reductions.sample(table, ["a"], 10)
    extremes = {500 + int(np.nanargmin(values[500:600])), 500 + int(np.nanargmax(values[500:600]))}
    assert {300, 400, *extremes} <= set(kept.steps.tolist())
    assert np.count_nonzero(np.isnan(kept.column("a")[1])) == 1


def test_few_rows_are_not_sampled() -> None:
    table = numbers(20)
    assert rows(reductions.sample(table, ["noise"], 10)) == rows(table)
    assert rows(reductions.sample(table, ["unknown"], 10)) == []
    assert rows(reductions.sample(table, [], 10)) == []


def test_a_sample_of_two_keys_has_the_rows_of_both() -> None:
    table = numbers(3000)
    both = reductions.sample(table, ["noise", "gaps"], 5)
    expected = {*reductions.sample_rows(table, "noise", 5).tolist(), *reductions.sample_rows(table, "gaps", 5).tolist()}
    assert both.steps.tolist() == sorted(expected)


def test_steps_that_go_back_fall_into_the_bucket_of_their_step() -> None:
    steps = np.concatenate([np.arange(500), np.arange(250, 500)])
    values = np.zeros(750)
    values[600] = 5.0  # step 350, after the restart
    table = Table(750, {"_step": Series("i8", None, steps), "a": Series("f8", None, values)})
    assert 600 in reductions.sample_rows(table, "a", 10)


def test_steps_over_the_whole_range_of_64_bits_can_be_sampled() -> None:
    steps = np.linspace(-(2**63), 2**63 - 1025, 1000).astype(np.int64)
    table = Table(1000, {"_step": Series("i8", None, steps), "a": Series("i8", None, np.arange(1000))})
    assert len(reductions.sample_rows(table, "a", 10)) == 20
