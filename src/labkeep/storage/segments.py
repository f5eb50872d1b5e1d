"""Sealed history as Parquet: what DuckDB, Spark, polars and pandas read without us.

Columns: ``_offset`` (row number in the stream), ``_step``, ``_timestamp`` (seconds since the epoch), then the metrics, as
``double`` or ``int64`` with nulls where a row has no value; any other value is a string of JSON, and its field carries
``{"labkeep": "json"}``. Importing this module imports pyarrow (40 MB): only what seals and reads segments should.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import SEEK_END, BytesIO, RawIOBase
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labkeep.core import json_values
from labkeep.core.columns import STEP, TIMESTAMP, ColumnType
from labkeep.core.errors import Corrupt, Invalid, Stale
from labkeep.storage.chunks import is_smaller_plain
from labkeep.storage.series import (
    Indices,
    Part,
    Series,
    Table,
    cast,
    common_type,
    concat,
    is_exact,
    objects,
    rows_between,
)

OFFSET: Final = "_offset"
LEVEL: Final = 3
GROUP_ROWS: Final = 65_536
GROUP_CELLS: Final = 8_000_000
"""Rows times columns of a row group: a gap costs memory in Arrow, though hardly any in the file."""
GROUP_JSON_BYTES: Final = 64 * 2**20

MARK: Final = b"LKFC"
TAIL: Final = 8
"""Parquet ends with the length of its footer and ``PAR1``, 4 bytes each; before the footer are MARK and its CRC-32."""

ARROW: Final[Mapping[ColumnType, pa.DataType]] = {"f8": pa.float64(), "i8": pa.int64(), "json": pa.string()}
JSON_FIELD: Final = {b"labkeep": b"json"}

Source = str | Path | bytes | BinaryIO


class SegmentInfo(msgspec.Struct, frozen=True):
    """What was written. ``end_offset`` is one past the last row; ``keys`` are the metrics."""

    rows: int
    bytes: int
    first_offset: int
    end_offset: int
    first_step: int
    last_step: int
    keys: tuple[str, ...]


def write(
    target: str | Path | BinaryIO, parts: Callable[[], Iterable[Part]], group_rows: int = GROUP_ROWS
) -> SegmentInfo:
    """Writes a stream's parts, in order and not overlapping, as one Parquet file; memory is bounded by a row group.

    ``parts`` is called twice and must give the same both times: first for the type of each column, then for the rows.
    Raises Invalid when there are no rows or they are out of order, Stale when the second reading has a new column.
    """
    if isinstance(target, str | Path):
        with Path(target).open("wb") as file:
            return write(file, parts, group_rows)
    types = _survey(parts())
    sink = _Sink(target)
    info: SegmentInfo | None = None
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for group in _groups(parts(), len(types), group_rows):
            table = concat([table for _, table in group])
            offsets = np.concatenate([np.arange(start, start + len(part)) for start, part in group])
            info = _extended(info, offsets, table, types)
            writer = writer or stack.enter_context(_writer(sink, types, table))
            writer.write_table(_to_arrow(offsets, table, types), row_group_size=group_rows)
        sink.hold()
    if info is None:
        raise Invalid("a segment needs at least one row")
    sink.write_held()
    return msgspec.structs.replace(info, bytes=sink.written)


def read(
    source: Source, keys: Collection[str] | None = None, first_step: int | None = None, last_step: int | None = None
) -> list[Part]:
    """The rows of a segment as parts: those with a step in the range, both ends included, in stretches without gap.

    ``keys`` None is every column, otherwise ``_step`` and those of the keys that it has. Reads the columns and the row
    groups that it needs and no others. Raises Corrupt for what is not a segment or fails its checksums.
    """
    with _reading(), _opened(source) as file:
        group = _from_arrow(_columns(file, keys, _layout(file).groups(first_step, last_step)))
    return between([group], first_step, last_step)


class Layout(NamedTuple):
    """The row groups of a segment: the range of steps of each, None where it is not known."""

    steps: tuple[tuple[int, int] | None, ...]

    def groups(self, first_step: int | None, last_step: int | None) -> list[int]:
        """Numbers of those that may have a step in the range, both ends included."""
        return [number for number, span in enumerate(self.steps) if _overlaps(span, first_step, last_step)]


def _overlaps(span: tuple[int, int] | None, first_step: int | None, last_step: int | None) -> bool:
    return span is None or (
        (first_step is None or span[1] >= first_step) and (last_step is None or span[0] <= last_step)
    )


def layout(source: Source) -> Layout:
    """The row groups of a segment. Raises Corrupt."""
    with _reading(), _opened(source) as file:
        return _layout(file)


def read_group(source: Source, keys: Collection[str] | None, number: int) -> tuple[Indices, Table]:
    """(row numbers, rows) of one row group. Raises Corrupt."""
    with _reading(), _opened(source) as file:
        return _from_arrow(_columns(file, keys, [number]))


def between(groups: Iterable[tuple[Indices, Table]], first_step: int | None, last_step: int | None) -> list[Part]:
    """The rows of row groups with a step in the range, in stretches without gap."""
    parts: list[Part] = []
    for offsets, table in groups:
        kept = rows_between(table.steps, first_step, last_step)
        if len(kept) == len(table):
            parts += _stretches(offsets, table)
        elif len(kept):
            parts += _stretches(offsets[kept], table.take(kept))
    return parts


# --- writing


def _extended(info: SegmentInfo | None, offsets: Indices, table: Table, types: Mapping[str, ColumnType]) -> SegmentInfo:
    """The info with one more row group."""
    if np.any(np.diff(offsets) <= 0) or (info is not None and offsets[0] < info.end_offset):
        raise Invalid("the parts of a segment must be in order and must not overlap")
    low, high = int(table.steps.min()), int(table.steps.max())
    return SegmentInfo(
        rows=len(table) + (info.rows if info else 0),
        bytes=0,
        first_offset=info.first_offset if info else int(offsets[0]),
        end_offset=int(offsets[-1]) + 1,
        first_step=min(low, info.first_step) if info else low,
        last_step=max(high, info.last_step) if info else high,
        keys=tuple(key for key in types if key not in (STEP, TIMESTAMP)),
    )


def _survey(parts: Iterable[Part]) -> dict[str, ColumnType]:
    """The type of each column over all parts, in order of appearance, ``_step`` and ``_timestamp`` first."""
    types: dict[str, set[ColumnType]] = {STEP: set(), TIMESTAMP: set()}
    inexact: set[str] = set()
    for _, table in parts:
        for key, series in table.columns.items():
            types.setdefault(key, set()).add(series.type)
            if not is_exact(series):
                inexact.add(key)
    types[STEP].add("i8")
    types[TIMESTAMP].add("f8")
    return {key: common_type(found, key not in inexact) for key, found in types.items()}


def _groups(parts: Iterable[Part], columns: int, group_rows: int) -> Iterator[list[Part]]:
    """The parts, cut and gathered into row groups of bounded rows, cells and JSON."""
    limit = max(1, min(group_rows, GROUP_CELLS // columns))
    group: list[Part] = []
    rows = size = 0
    for offset, table in parts:
        for start in range(0, len(table), limit):
            piece = table.slice(start, start + limit)
            weight = _json_bytes(piece)
            if group and (rows + len(piece) > limit or size + weight > GROUP_JSON_BYTES):
                yield group
                group, rows, size = [], 0, 0
            group.append((offset + start, piece))
            rows, size = rows + len(piece), size + weight
    if group:
        yield group


def _json_bytes(table: Table) -> int:
    return sum(len(json_values.pack(s.values.tolist())) for s in table.columns.values() if s.type == "json")


def _writer(sink: _Sink, types: Mapping[str, ColumnType], first: Table) -> pq.ParquetWriter:
    """A writer whose encodings suit the first row group."""
    json_keys = [key for key, type_ in types.items() if type_ == "json"]
    return pq.ParquetWriter(
        sink,
        _schema(types),
        compression="zstd",
        compression_level=LEVEL,
        use_dictionary=json_keys,
        column_encoding={key: _encoding(key, type_, first) for key, type_ in _with_offset(types) if type_ != "json"},
        write_statistics=[key for key, type_ in _with_offset(types) if type_ != "json"],
        write_page_checksum=True,
    )


def _with_offset(types: Mapping[str, ColumnType]) -> Iterator[tuple[str, ColumnType]]:
    yield OFFSET, "i8"
    yield from types.items()


def _encoding(key: str, type_: ColumnType, first: Table) -> str:
    if type_ == "i8":
        return "DELTA_BINARY_PACKED"
    values = first.column(key)[1]
    return "PLAIN" if len(values) and is_smaller_plain(values) else "BYTE_STREAM_SPLIT"


def _schema(types: Mapping[str, ColumnType]) -> pa.Schema:
    fields = [
        pa.field(key, ARROW[type_], key not in (OFFSET, STEP), JSON_FIELD if type_ == "json" else None)
        for key, type_ in _with_offset(types)
    ]
    return pa.schema(fields)


def _to_arrow(offsets: Indices, table: Table, types: Mapping[str, ColumnType]) -> pa.Table:
    unknown = table.columns.keys() - types.keys()
    if unknown:
        raise Stale(f"the history gained the key {min(unknown)!r} while it was sealed; seal it again")
    columns = [pa.array(offsets)]
    for key, type_ in types.items():
        series = table.columns.get(key)
        columns.append(pa.nulls(len(table), ARROW[type_]) if series is None else _to_array(series, type_, len(table)))
    return pa.Table.from_arrays(columns, schema=_schema(types))


def _to_array(series: Series, type_: ColumnType, rows: int) -> pa.Array:
    if common_type({series.type, type_}, is_exact(series)) != type_:
        raise Stale("the type of a key changed while its history was sealed; seal it again")
    values = cast(series, type_).values
    if type_ == "json":
        values = objects([json_values.to_text(value) for value in values])
    if series.at is None:
        return pa.array(values, ARROW[type_])
    full = np.zeros(rows, values.dtype)
    absent = np.ones(rows, bool)
    full[series.at] = values
    absent[series.at] = False
    return pa.array(full, ARROW[type_], mask=absent)


# --- reading


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file system's or the network's trouble: says nothing about the data
        raise Corrupt(f"a segment of history cannot be read: {error}; run `labkeep check`") from None


@contextmanager
def _opened(source: Source) -> Iterator[pq.ParquetFile]:
    _check_footer(source)
    opened: Any = pa.BufferReader(source) if isinstance(source, bytes) else source
    with pq.ParquetFile(opened, page_checksum_verification=True) as file:
        if not {OFFSET, STEP} <= set(file.schema_arrow.names):
            raise Corrupt(f"a segment of history must have the columns {OFFSET} and {STEP}; run `labkeep check`")
        yield file


def _layout(file: pq.ParquetFile) -> Layout:
    step = file.schema_arrow.get_field_index(STEP)
    found = (file.metadata.row_group(number).column(step).statistics for number in range(file.metadata.num_row_groups))
    return Layout(tuple((one.min, one.max) if one is not None and one.has_min_max else None for one in found))


def _columns(file: pq.ParquetFile, keys: Collection[str] | None, groups: list[int]) -> pa.Table:
    names = file.schema_arrow.names
    wanted = [name for name in names if keys is None or name in (OFFSET, STEP) or name in keys]
    # pyarrow takes `a` for the prefix of `a.b` too, hence the select.
    return file.read_row_groups(groups, columns=wanted, use_threads=False).select(wanted)


def _from_arrow(arrow: pa.Table) -> tuple[Indices, Table]:
    columns: dict[str, Series] = {}
    for field in arrow.schema:
        series = _from_array(arrow.column(field.name), field)
        if series is not None:
            columns[field.name] = series
    offsets = columns.pop(OFFSET).values
    return offsets, Table(len(offsets), columns)


def _from_array(column: pa.ChunkedArray, field: pa.Field) -> Series | None:
    """The values that are not null; None when there are none, unless the column cannot have nulls."""
    array = column.combine_chunks()
    if field.nullable and array.null_count == len(array):
        return None
    at = None
    if array.null_count:
        at = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
        array = array.drop_null()
    if pa.types.is_string(field.type):
        return Series("json", at, objects([json_values.from_text(text) for text in array.to_pylist()]))
    return Series("i8" if pa.types.is_int64(field.type) else "f8", at, array.to_numpy(zero_copy_only=False))


def _stretches(offsets: Indices, table: Table) -> Iterator[Part]:
    breaks = np.flatnonzero(np.diff(offsets) != 1) + 1
    for start, stop in pairwise([0, *breaks.tolist(), len(offsets)]):
        if start < stop:
            yield int(offsets[start]), table if stop - start == len(table) else table.slice(start, stop)


# --- the footer's checksum: a damaged footer can end the process inside Arrow, so it is checked before Arrow sees it.


class _Sink(RawIOBase):
    """Passes what is written on and counts it; once told to hold, keeps the rest: the footer."""

    def __init__(self, target: BinaryIO) -> None:
        self.target = target
        self.written = 0
        self.held: bytearray | None = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.written

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if self.held is None:
            self.target.write(view)
        else:
            self.held += view
        self.written += view.nbytes
        return view.nbytes

    def hold(self) -> None:
        self.held = bytearray()

    def write_held(self) -> None:
        held, self.held = bytes(self.held or b""), None
        start = len(held) - TAIL - int.from_bytes(held[-TAIL:-4], "little")
        footer = held[start:]
        self.written -= len(held)
        self.write(held[:start] + MARK + zlib.crc32(footer).to_bytes(4, "little") + footer)


def _check_footer(source: Source) -> None:
    if isinstance(source, str | Path):
        with Path(source).open("rb") as opened:
            _check_footer(opened)
        return
    file = BytesIO(source) if isinstance(source, bytes) else source
    end = file.seek(0, SEEK_END)
    file.seek(max(0, end - TAIL))
    start = end - TAIL - int.from_bytes(file.read(4), "little")
    if start < TAIL:
        raise Corrupt("a segment of history is shorter than its footer; run `labkeep check`")
    file.seek(start - TAIL)
    mark, footer = file.read(TAIL), file.read(end - start)
    file.seek(0)
    if mark != MARK + zlib.crc32(footer).to_bytes(4, "little"):
        raise Corrupt("the footer of a segment of history failed its checksum; run `labkeep check`")
