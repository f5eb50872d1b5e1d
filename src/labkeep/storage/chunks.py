"""The stored form of a few rows of history: one column can be read without decoding the others.

A chunk is::

    format      1 byte, FORMAT
    length      4 bytes, little-endian: of the header
    checksum    4 bytes, little-endian: CRC-32 of the header
    header      MessagePack: {"rows": n, "columns": [[key, type, layout, raw, mask, data], …]}
    payload     for each column in order: its mask (absent when every row has a value), then its values

``mask`` and ``data`` in the header are the lengths of these; each is a Zstandard frame with a content checksum. ``raw`` is the
length of the values once decompressed. The layout says how the values were arranged before compression: of those
that suit the type, the one that compresses best.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from labkeep.core import json_values
from labkeep.core.columns import STEP, Batch, ColumnType
from labkeep.core.errors import Corrupt
from labkeep.storage.series import DTYPES, Series, Table, at_of, mask_of, objects

FORMAT: Final = 1
LEVEL: Final = 3
SMALL: Final = 256
"""Columns of fewer values are stored as they are: arranging them costs more than it saves."""

Layout = Literal["plain", "planes", "delta"]
Bytes = bytes | memoryview


class Extent(msgspec.Struct, frozen=True, array_like=True):
    """Where a column lies in the payload and how to read it."""

    key: str
    type: ColumnType
    layout: Layout
    raw: int
    mask: int
    data: int


class Header(msgspec.Struct, frozen=True):
    """What a chunk holds, in the order it is stored."""

    rows: int
    columns: tuple[Extent, ...]


def pack(rows: Batch | Table) -> bytes:
    """The stored form of a batch or a table."""
    table = Table.from_batch(rows) if isinstance(rows, Batch) else rows
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    extents: list[Extent] = []
    payload: list[bytes] = []
    for key, series in table.columns.items():
        raw = mask_of(series.at, len(table))
        mask = b"" if raw is None else compressor.compress(raw)
        layout, size, data = _smallest(series, compressor)
        extents.append(Extent(key, series.type, layout, size, len(mask), len(data)))
        payload += (mask, data)
    header = _ENCODER.encode(Header(len(table), tuple(extents)))
    return b"".join((_PREFIX.pack(FORMAT, len(header), zlib.crc32(header)), header, *payload))


def describe(chunk: Bytes) -> dict[str, ColumnType]:
    """The columns of a chunk and their types, without reading them. Raises Corrupt."""
    header, _ = _header(memoryview(chunk))
    return {extent.key: extent.type for extent in header.columns}


def unpack(chunk: Bytes, keys: Collection[str] | None = None) -> Table:
    """The rows of a chunk: all columns, or ``_step`` and those of ``keys`` that it has.

    Raises Corrupt when a checksum or a length is wrong.
    """
    view = memoryview(chunk)
    header, start = _header(view)
    columns: dict[str, Series] = {}
    for extent in header.columns:
        middle, end = start + extent.mask, start + extent.mask + extent.data
        if keys is None or extent.key == STEP or extent.key in keys:
            columns[extent.key] = _read(extent, header.rows, view[start:middle], view[middle:end])
        start = end
    if STEP not in columns:
        raise Corrupt("a chunk of history has no steps; run `labkeep check`")
    return Table(header.rows, columns)


def is_smaller_plain(values: npt.NDArray[Any]) -> bool:
    """True when doubles compress better as they are than as planes of bytes: when few of them differ."""
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    return len(compressor.compress(_plain(values))) < len(compressor.compress(_planes(values)))


def _header(view: memoryview) -> tuple[Header, int]:
    try:
        version, length, checksum = _PREFIX.unpack_from(view)
        if version != FORMAT:
            raise Corrupt(f"a chunk of history has format {version}; this version reads {FORMAT}")
        end = _PREFIX.size + length
        encoded = view[_PREFIX.size : end]
        if zlib.crc32(encoded) != checksum:
            raise Corrupt("the header of a chunk of history failed its checksum; run `labkeep check`")
        header = _DECODER.decode(encoded)
    except (struct.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corrupt(f"the header of a chunk of history cannot be read: {error}; run `labkeep check`") from None
    if end + sum(extent.mask + extent.data for extent in header.columns) != len(view):
        raise Corrupt("a chunk of history has the wrong length; run `labkeep check`")
    return header, end


def _read(extent: Extent, rows: int, mask: memoryview, data: memoryview) -> Series:
    at = at_of(_decompress(extent, mask, (rows + 7) // 8), rows) if extent.mask else None
    raw = _decompress(extent, data, extent.raw)
    if extent.type == "json":
        values = objects(json_values.unpack(raw))
    else:
        values = _DECODE[extent.layout](raw).view(DTYPES[extent.type])
    if len(values) != (rows if at is None else len(at)):
        raise Corrupt(f"column {extent.key!r} of a chunk of history has {len(values)} values too many or too few")
    return Series(extent.type, at, values)


def _decompress(extent: Extent, frame: memoryview, size: int) -> bytes:
    try:
        # The size is checked first, so that a damaged frame cannot ask for more memory than the header grants.
        if zstandard.frame_content_size(frame) == size:
            return zstandard.ZstdDecompressor().decompress(frame)
        reason = "its size is wrong"
    except zstandard.ZstdError as error:
        reason = str(error)
    raise Corrupt(f"column {extent.key!r} of a chunk of history failed its checksum: {reason}; run `labkeep check`")


def _smallest(series: Series, compressor: zstandard.ZstdCompressor) -> tuple[Layout, int, bytes]:
    """(layout, length before compression, compressed values) of the layout that compresses best."""
    if series.type == "json":
        raw = json_values.pack(series.values.tolist())
        return "plain", len(raw), compressor.compress(raw)
    tried = ((name, compressor.compress(_ENCODE[name](series.values))) for name in _candidates(series))
    layout, data = min(tried, key=lambda found: len(found[1]))
    return layout, 8 * len(series.values), data


def _candidates(series: Series) -> Iterator[Layout]:
    if len(series.values) < SMALL or series.type == "f8":
        yield "plain"
    if len(series.values) >= SMALL:
        yield "delta"
        if series.type == "f8":
            yield "planes"


# --- layouts: 64-bit values to bytes and back. Integers and doubles alike are taken as their bits.


def _plain(values: npt.NDArray[Any]) -> bytes:
    return values.tobytes()


def _from_plain(raw: bytes) -> npt.NDArray[Any]:
    return np.frombuffer(raw, DTYPES["i8"])


def _planes(values: npt.NDArray[Any]) -> bytes:
    """All first bytes, then all second bytes, …: exponents lie beside exponents."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8).T.tobytes()


def _from_planes(raw: bytes) -> npt.NDArray[Any]:
    return np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(8, -1).T).view(DTYPES["i8"]).reshape(-1)


def _delta(values: npt.NDArray[Any]) -> bytes:
    """Differences to the value before, folded so that small negative ones are small too, in planes."""
    bits = values.view(DTYPES["i8"])
    steps = np.diff(bits, prepend=bits[:1] * 0)
    return _planes((steps << 1) ^ (steps >> 63))


def _from_delta(raw: bytes) -> npt.NDArray[Any]:
    folded = _from_planes(raw).view("<u8")
    return np.cumsum((folded >> 1).view(DTYPES["i8"]) ^ -(folded & 1).view(DTYPES["i8"]), dtype=DTYPES["i8"])


_ENCODE: Final[Mapping[Layout, Callable[[npt.NDArray[Any]], bytes]]] = {
    "plain": _plain,
    "planes": _planes,
    "delta": _delta,
}
_DECODE: Final[Mapping[Layout, Callable[[bytes], npt.NDArray[Any]]]] = {
    "plain": _from_plain,
    "planes": _from_planes,
    "delta": _from_delta,
}
_PREFIX: Final = struct.Struct("<BII")
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Header)
