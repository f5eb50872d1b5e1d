"""Sealed history: what the Parquet file holds and how little of it a read needs."""

import io
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labkeep.core import columns
from labkeep.core.errors import Corrupt, Invalid, Stale
from labkeep.storage import segments, series
from labkeep.storage.series import Part, Series, Table


def table_of(*values: dict[str, Any], first_step: int = 0) -> Table:
    return Table.from_batch(columns.from_rows([(first_step + i, 0.5 + i, row) for i, row in enumerate(values)]))


def counting(n: int, first: int = 0) -> Table:
    steps = np.arange(first, first + n)
    return Table(n, {"_step": Series("i8", None, steps), "a": Series("f8", None, steps / 2)})


def written(*parts: Part, group_rows: int = 65_536) -> bytes:
    sink = io.BytesIO()
    info = segments.write(sink, lambda: parts, group_rows)
    assert info.bytes == len(sink.getvalue())
    return sink.getvalue()


def rows(parts: list[Part]) -> dict[int, dict[str, Any]]:
    return {offset + i: row for offset, table in parts for i, row in enumerate(table.rows())}


MIXED = table_of({"f": 1.5, "i": 3}, {"f": math.inf, "j": {"x": [1, math.nan]}}, {"i": -(2**63), "j": None, "a.b": 2.5})


def test_a_segment_gives_back_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "segment.parquet"
    info = segments.write(path, lambda: [(7, MIXED)])
    assert info == segments.SegmentInfo(3, path.stat().st_size, 7, 10, 0, 2, ("f", "i", "j", "a.b"))
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        (part,) = segments.read(source)
        assert part[0] == 7
        assert repr(list(part[1].rows())) == repr(list(MIXED.select(part[1].columns).rows()))


def test_any_parquet_reader_sees_plain_columns() -> None:
    arrow = pq.read_table(io.BytesIO(written((7, MIXED))))
    assert {field.name: str(field.type) for field in arrow.schema} == {
        "_offset": "int64",
        "_step": "int64",
        "_timestamp": "double",
        "f": "double",
        "i": "int64",
        "j": "string",
        "a.b": "double",
    }
    assert arrow.schema.field("j").metadata == {b"labkeep": b"json"}
    assert arrow.to_pydict() == {
        "_offset": [7, 8, 9],
        "_step": [0, 1, 2],
        "_timestamp": [0.5, 1.5, 2.5],
        "f": [1.5, math.inf, None],
        "i": [3, None, -(2**63)],
        "j": [None, '{"x":[1,"NaN"]}', "null"],
        "a.b": [None, None, 2.5],
    }


def test_a_key_of_several_types_gets_the_one_that_holds_them_all() -> None:
    ints, floats, text = table_of({"n": 1, "m": 1}), table_of({"n": 0.5, "m": 0.5}), table_of({"m": "x"})
    data = written((0, ints), (1, floats), (2, text), group_rows=1)
    schema = pq.read_schema(io.BytesIO(data))
    assert (str(schema.field("n").type), str(schema.field("m").type)) == ("double", "string")
    found = series.concat([table for _, table in segments.read(data)])
    assert found.column("n")[1].tolist() == [1.0, 0.5]
    assert found.column("m")[1].tolist() == [1, 0.5, "x"]


def test_row_groups_are_bounded() -> None:
    parts = [(0, counting(100)), (100, counting(5, 100)), (105, counting(30, 105))]
    metadata = pq.read_metadata(io.BytesIO(written(*parts, group_rows=40)))
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sum(sizes) == 135
    assert max(sizes) == 40


def test_many_columns_make_row_groups_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "GROUP_CELLS", 30)
    assert pq.read_metadata(io.BytesIO(written((0, counting(100))))).num_row_groups == 10


def test_much_json_makes_row_groups_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "GROUP_JSON_BYTES", 1000)
    parts = [(i, table_of({"j": "x" * 400})) for i in range(10)]
    assert pq.read_metadata(io.BytesIO(written(*parts))).num_row_groups == 5


def test_writing_holds_no_more_parts_than_a_row_group() -> None:
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def parts() -> Iterator[Part]:
        for i in range(50):
            alive.append(sum(ref() is not None for ref in made))
            table = counting(10, i * 10)
            made.append(weakref.ref(table.columns["a"].values))
            yield i * 10, table

    segments.write(io.BytesIO(), parts, 30)
    assert len(made) == 100
    assert max(alive) <= 8


def test_repeating_numbers_are_stored_plain_and_noise_as_byte_streams() -> None:
    rng = np.random.default_rng(0)
    table = Table(
        5000,
        {
            "_step": Series("i8", None, np.arange(5000)),
            "noise": Series("f8", None, rng.normal(size=5000)),
            "few": Series("f8", None, rng.integers(0, 9, 5000) / 10),
        },
    )
    group = pq.read_metadata(io.BytesIO(written((0, table)))).row_group(0)
    encodings = {group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)}
    assert "BYTE_STREAM_SPLIT" in encodings["noise"]
    assert "PLAIN" in encodings["few"]
    assert "DELTA_BINARY_PACKED" in encodings["_step"]


# --- reading a part of it


def test_only_the_wanted_keys_are_read() -> None:
    ((_, table),) = segments.read(written((0, table_of({"a": 1, "a.b": 2, "c": 3}))), ["a", "unknown"])
    assert list(table.columns) == ["_step", "a"]


def test_a_range_of_steps_reads_only_its_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(written((0, counting(1000)), group_rows=100))
    group = pq.read_metadata(io.BytesIO(data)).row_group(9)
    data[group.column(0).data_page_offset + 20] ^= 0xFF
    ((offset, table),) = segments.read(bytes(data), ["a"], 150, 449)
    assert (offset, len(table), table.steps[0], table.steps[-1]) == (150, 300, 150, 449)
    with pytest.raises(Corrupt):
        segments.read(bytes(data), ["a"])
    assert segments.read(bytes(data), ["a"], 5000) == []


def test_gaps_of_row_numbers_and_steps_that_go_back_give_several_parts() -> None:
    data = written((0, counting(10)), (20, counting(5, 3)))
    assert [(offset, len(table)) for offset, table in segments.read(data)] == [(0, 10), (20, 5)]
    assert [(offset, len(table)) for offset, table in segments.read(data, None, 6)] == [(6, 4), (23, 2)]
    assert rows(segments.read(data, None, 6, 7)) == {
        6: {"_step": 6, "a": 3.0},
        7: {"_step": 7, "a": 3.5},
        23: {"_step": 6, "a": 3.0},
        24: {"_step": 7, "a": 3.5},
    }


# --- refusals


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "at least one row"),
        ([(0, series.empty())], "at least one row"),
        ([(5, counting(3)), (0, counting(3))], "in order"),
        ([(0, counting(3)), (2, counting(3))], "not overlap"),
    ],
)
@pytest.mark.parametrize("group_rows", [3, 100])
def test_parts_must_be_rows_in_order(parts: list[Part], message: str, group_rows: int, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=message):
        segments.write(tmp_path / "segment", lambda: parts, group_rows)


@pytest.mark.parametrize("second", [{"new": 1.0}, {"a": "text"}, {"a": 0.5}])
def test_history_that_changes_while_it_is_sealed_is_noticed(second: dict[str, Any]) -> None:
    readings = iter([[(0, table_of({"a": 1}))], [(0, table_of(second))]])
    with pytest.raises(Stale, match="seal it again"):
        segments.write(io.BytesIO(), lambda: next(readings))


def test_what_is_not_a_segment_is_corrupt(tmp_path: Path) -> None:
    other = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), other)
    for data in (b"", b"PAR1", b"x" * 100, written((0, MIXED))[:-9], other.getvalue()):
        with pytest.raises(Corrupt):
            segments.read(data)
    with pytest.raises(FileNotFoundError):
        segments.read(tmp_path / "missing")


def test_a_changed_byte_in_the_data_is_noticed() -> None:
    data = written((0, counting(300)))
    end = pq.read_metadata(io.BytesIO(data)).row_group(0).column(2).data_page_offset
    for place in range(4, end, 7):
        damaged = bytearray(data)
        damaged[place] ^= 0x04
        try:
            assert rows(segments.read(bytes(damaged))) == rows(segments.read(data))
        except Corrupt:
            continue


def test_any_changed_byte_of_the_footer_is_noticed() -> None:
    data = written((0, counting(30)))
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert data[start - 8 : start - 4] == b"LKFC"
    for place in range(start - 8, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x01
        with pytest.raises(Corrupt):
            segments.read(bytes(damaged))
