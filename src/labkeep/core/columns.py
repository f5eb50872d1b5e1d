"""Wire batches of metric history: consecutive rows of a stream, stored by column.

A row has a step, usually a timestamp, and a value for some of the keys. A batch holds n rows that follow each
other in the stream; a column holds the values of one key in the rows that have it. On the wire a batch is MessagePack
(media type ``MEDIA_TYPE``)::

    {"rows": n, "columns": [[key, type, mask, data], …]}

=========  ===============================================================================================
``type``   ``f8`` little-endian doubles, ``i8`` little-endian 64-bit integers, ``json`` a MessagePack list
``mask``   one bit a row, least significant bit first, set where the row has the key; nil when all rows do
``data``   bytes of the present values only: as many as the mask has bits
=========  ===============================================================================================

Everything here is a function of values: the client encodes with it, the server decodes with it, and
``decode`` answers anything that is not a batch with :class:`~labkeep.core.errors.Invalid`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Final, Literal, NoReturn, TypeAlias

import msgspec

from labkeep.core import json_values
from labkeep.core.errors import Invalid

MEDIA_TYPE: Final = "application/vnd.labkeep.columns"
STEP: Final = "_step"
TIMESTAMP: Final = "_timestamp"
RESERVED: Final = frozenset({STEP, TIMESTAMP, "_offset"})
"""Keys that name the row itself. ``_offset`` is the row's number in stored files and never a metric."""

EXACT_INT: Final = 2**53
"""Every integer up to this size is exactly a double."""

ColumnType = Literal["f8", "i8", "json"]
Numbers: TypeAlias = "array[float] | array[int]"
Row = tuple[int, float | None, Mapping[str, Any]]
"""(step, seconds since the epoch or None, key -> value)"""


class Limits(msgspec.Struct, frozen=True):
    """What ``decode`` and the row encoders accept of one batch."""

    rows: int = 1_000_000
    columns: int = 10_000
    key_length: int = 512
    json_bytes: int = 16 * 2**20
    json_depth: int = 64


LIMITS: Final = Limits()


class Column(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The values of one key, in row order, in the form they have on the wire."""

    key: str
    type: ColumnType
    mask: bytes | None
    data: bytes

    def present(self, n: int) -> Sequence[int]:
        """The numbers of the rows that have a value, ascending, out of ``n``."""
        if self.mask is None:
            return range(n)
        bits = format(int.from_bytes(self.mask, "little"), f"0{n}b")[::-1].encode()
        return list(compress(range(n), bits.translate(_BIT_OF_DIGIT)))

    def values(self) -> Numbers | list[Any]:
        """The present values: ``array('d')``, ``array('q')`` or a list of JSON values."""
        if self.type == "json":
            return json_values.unpack(self.data)
        found: Numbers = array("d") if self.type == "f8" else array("q")
        found.frombytes(self.data)
        return _little_endian(found)


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``n`` consecutive rows. The first column is ``_step``, full; then ``_timestamp`` if known; then the metrics."""

    n: int = msgspec.field(name="rows")
    columns: tuple[Column, ...]

    def __len__(self) -> int:
        return self.n

    def keys(self) -> list[str]:
        """Every key with at least one value, ``_step`` and ``_timestamp`` included."""
        return [column.key for column in self.columns]

    def column(self, key: str) -> tuple[Sequence[int], Numbers | list[Any]]:
        """(present row numbers, their values) of a key; both empty when the batch does not have it."""
        for column in self.columns:
            if column.key == key:
                return column.present(self.n), column.values()
        return [], []

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict; NaN and the infinities are floats."""
        rows: list[dict[str, Any]] = [{} for _ in range(self.n)]
        for column in self.columns:
            key = column.key
            for index, value in zip(column.present(self.n), column.values(), strict=True):
                rows[index][key] = value
        return iter(rows)

    def json_rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict that any JSON parser reads back: NaN and the infinities are strings."""
        return (json_values.to_json(row) for row in self.rows())


def encode(batch: Batch) -> bytes:
    """The binary form of a batch."""
    return _ENCODER.encode(batch)


def encode_rows(rows: Sequence[Row], limits: Limits = LIMITS) -> bytes:
    """The binary form of rows; see :func:`from_rows`."""
    return encode(from_rows(rows, limits))


def encode_columns(
    steps: Sequence[int], columns: Mapping[str, Sequence[Any]], timestamps: Sequence[float] | None = None
) -> bytes:
    """The binary form of whole columns, each as long as ``steps``: lists, ``array``s or anything with a buffer."""
    return encode(from_columns(steps, columns, timestamps))


def from_rows(rows: Sequence[Row], limits: Limits = LIMITS) -> Batch:
    """A batch of rows that were logged one by one.

    A nested dict whose leaves are all scalars becomes dotted keys (``{"a": {"b": 1}}`` is ``a.b``); where that
    names a key twice, the later value wins. Any other structure is kept whole as JSON. Raises Invalid, naming the row
    and the key, for a value that is not JSON.
    """
    found: dict[str, tuple[list[int], list[Any]]] = {}
    for index, (_, _, mapping) in enumerate(rows):
        for key, value in _flat(index, mapping, limits).items():
            column = found.get(key)
            if column is None:
                column = found[key] = ([], [])
                _check_metric_key(key, limits)
            column[0].append(index)
            column[1].append(value)
    n = len(rows)
    metrics = (_column(str.__str__(key), values, present, n) for key, (present, values) in found.items())
    batch = Batch(n=n, columns=(_step_column([row[0] for row in rows]), *_timestamp_column(rows), *metrics))
    _check_size(batch, limits)
    return batch


def from_columns(
    steps: Sequence[int],
    columns: Mapping[str, Sequence[Any]],
    timestamps: Sequence[float] | None = None,
    limits: Limits = LIMITS,
) -> Batch:
    """A batch of whole columns. Raises Invalid when a column is not as long as ``steps``."""
    found = [_step_column(steps)]
    if timestamps is not None:
        found.append(_whole_column(TIMESTAMP, timestamps, len(steps), floats=True))
    for key, values in columns.items():
        _check_metric_key(key, limits)
        found.append(_whole_column(key, values, len(steps)))
    batch = Batch(n=len(steps), columns=tuple(found))
    _check_size(batch, limits)
    return batch


def from_json_rows(rows: object, limits: Limits = LIMITS) -> Batch:
    """A batch from ``[{"_step": 0, "loss": 0.5}, …]``, where ``"NaN"`` and ``"±Infinity"`` are numbers."""
    if not isinstance(rows, list):
        raise Invalid("rows must be a list of objects", path="rows")
    return from_rows([_json_row(index, row, limits) for index, row in enumerate(rows)], limits)


def decode(data: bytes | bytearray | memoryview, limits: Limits = LIMITS) -> Batch:
    """The batch in a binary body, with every length, type and count checked.

    Needs memory in proportion to ``data``, whatever it claims. Raises Invalid and nothing else.
    """
    try:
        batch = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the body is not a column batch: {error}") from None
    if batch.n < 0:
        raise Invalid("rows must not be negative", path="rows")
    _check_size(batch, limits)
    for column in batch.columns:
        _check_key(column.key, limits)
        _check_column(column, batch.n, limits)
    _check_row_columns({column.key: column for column in batch.columns}, batch)
    return batch


# --- encoding


def _flat(index: int, mapping: Mapping[str, Any], limits: Limits) -> Mapping[str, Any]:
    if json_values.SCALARS.issuperset(map(type, mapping.values())):
        return mapping
    try:
        return json_values.flatten(mapping, limits.json_depth)
    except Invalid as error:
        raise Invalid(f"row {index}, {error.message}", row=index, **error.details) from None


def _step_column(steps: Sequence[int]) -> Column:
    column = _whole_column(STEP, steps, len(steps)) if len(steps) else Column(STEP, "i8", None, b"")
    if column.type != "i8":
        raise Invalid("every step must be a whole number of 64 bits", path=STEP)
    return column


def _timestamp_column(rows: Sequence[Row]) -> Iterator[Column]:
    present = [index for index, row in enumerate(rows) if row[1] is not None]
    if present:
        values = _floats(TIMESTAMP, [rows[index][1] for index in present])
        yield Column(TIMESTAMP, "f8", _mask(present, len(rows)), _bytes(values))


def _floats(key: str, values: Iterable[Any]) -> array[float]:
    try:
        return array("d", values)
    except (TypeError, OverflowError):
        raise Invalid(f"column {key!r}: every value must be a number", key=key) from None


def _whole_column(key: str, values: Sequence[Any], n: int, *, floats: bool = False) -> Column:
    """A column without gaps, from a list or straight from the memory of an array of doubles or 64-bit integers."""
    if len(values) != n:
        raise Invalid(f"column {key!r} has {len(values)} values for {n} steps", key=key)
    code = _buffer_code(key, values)
    if code == "d" or (code == "q" and not floats):
        copied: Numbers = array("d") if code == "d" else array("q")
        copied.frombytes(memoryview(values).tobytes())  # type: ignore[arg-type]  # a buffer, as its code says
        return Column(key, "f8" if code == "d" else "i8", None, _bytes(copied))
    plain = values.tolist() if hasattr(values, "tolist") else values
    if floats:
        return Column(key, "f8", None, _bytes(_floats(key, plain)))
    return _column(key, _plain_list(key, plain), range(n), n)


def _plain_list(key: str, values: Sequence[Any]) -> list[Any]:
    if json_values.SCALARS.issuperset(map(type, values)):
        return list(values)
    try:
        return [json_values.plain(value) for value in values]
    except Invalid as error:
        raise Invalid(f"key {key!r}: {error.message}", key=key) from None


def _buffer_code(key: str, values: Sequence[Any]) -> str | None:
    """``d`` or ``q`` when the memory can be copied as it is, else None."""
    try:
        view = memoryview(values)  # type: ignore[arg-type]  # what has no buffer raises
    except (TypeError, ValueError, BufferError):
        return None
    if view.ndim != 1:
        raise Invalid(f"column {key!r} has {view.ndim} dimensions; it must have 1", key=key)
    codes = {"d": "d", "q": "q", "l": "q"}
    return codes.get(view.format) if view.itemsize == 8 else None


def _column(key: str, values: list[Any], present: Sequence[int], n: int) -> Column:
    """The narrowest column that holds every value exactly."""
    mask = _mask(present, n)
    numbers = _numbers(values)
    if numbers is not None:
        return Column(key, "f8" if numbers.typecode == "d" else "i8", mask, _bytes(numbers))
    try:
        return Column(key, "json", mask, json_values.pack(values))
    except Invalid:
        _refuse_value(key, values, present)
        raise


def _refuse_value(key: str, values: list[Any], present: Sequence[int]) -> None:
    """Packs the values one by one to name the row that cannot be."""
    for index, value in zip(present, values, strict=True):
        try:
            json_values.pack([value])
        except Invalid as error:
            _refuse_row(index, error.message, key)


def _numbers(values: list[Any]) -> Numbers | None:
    types = set(map(type, values))
    if types == {float}:
        return array("d", values)
    if types == {int}:
        try:
            return array("q", values)
        except OverflowError:
            pass
    if types <= {int, float} and all(map(_is_exact, values)):
        return array("d", values)
    return None


def _is_exact(value: float) -> bool:
    """True when the number survives as a double: an integer that fits in 64 bits would otherwise stay one."""
    if type(value) is float or abs(value) <= EXACT_INT:
        return True
    try:
        return not -(2**63) <= value < 2**63 and float(value) == value
    except OverflowError:
        return False


def _mask(present: Sequence[int], n: int) -> bytes | None:
    if len(present) == n:
        return None
    digits = bytearray(b"0") * n
    for index in present:
        digits[index] = 49  # the digit 1
    return int(digits[::-1], 2).to_bytes((n + 7) // 8, "little")


def _bytes(values: Numbers) -> bytes:
    return _little_endian(values).tobytes()


def _little_endian(values: Numbers) -> Numbers:
    if sys.byteorder == "big":  # pragma: no cover
        values.byteswap()
    return values


# --- JSON rows


def _json_row(index: int, row: object, limits: Limits) -> Row:
    if not isinstance(row, dict):
        _refuse_row(index, "it must be an object")
    step, timestamp = row.get(STEP), row.get(TIMESTAMP)
    if type(step) is not int:
        _refuse_row(index, "it must be a whole number", STEP)
    if timestamp is not None and type(timestamp) not in (int, float):
        _refuse_row(index, "it must be a number of seconds since the epoch", TIMESTAMP)
    return step, timestamp, {k: _json_value(index, k, v, limits) for k, v in row.items() if k not in (STEP, TIMESTAMP)}


def _json_value(index: int, key: str, value: object, limits: Limits) -> object:
    try:
        return json_values.from_json(value, limits.json_depth)
    except Invalid as error:
        _refuse_row(index, error.message, key)


def _refuse_row(index: int, why: str, key: str | None = None) -> NoReturn:
    if key is None:
        raise Invalid(f"row {index}: {why}", row=index)
    raise Invalid(f"row {index}, key {key!r}: {why}", row=index, key=key)


# --- checking


def _check_size(batch: Batch, limits: Limits) -> None:
    if batch.n > limits.rows:
        raise Invalid(f"a batch may have {limits.rows} rows; this one has {batch.n}: split it", path="rows")
    if len(batch.columns) > limits.columns:
        raise Invalid(f"a batch may have {limits.columns} columns; this one has {len(batch.columns)}", path="columns")
    json_bytes = sum(len(column.data) for column in batch.columns if column.type == "json")
    if json_bytes > limits.json_bytes:
        raise Invalid(f"a batch may have {limits.json_bytes} bytes of JSON; this one has {json_bytes}: split it")


def _check_key(key: object, limits: Limits) -> None:
    if not isinstance(key, str) or not key:
        raise Invalid(f"key {key!r} must be a text that is not empty")
    if len(key) > limits.key_length:
        raise Invalid(f"key {key[:40]!r}… has {len(key)} characters; {limits.key_length} are allowed")
    if "\0" in key or not json_values.is_unicode(key):
        raise Invalid(f"key {key!r} has a character that cannot be stored", key=json_values.shown(key))


def _check_metric_key(key: object, limits: Limits) -> None:
    _check_key(key, limits)
    if key in RESERVED:
        raise Invalid(f"key {key!r} is reserved: it names the row itself", key=key)


def _check_column(column: Column, n: int, limits: Limits) -> None:
    count = n if column.mask is None else _count(column, column.mask, n)
    if column.type == "json":
        actual = _checked_json(column, limits)
    else:
        actual, rest = divmod(len(column.data), 8)
        if rest:
            raise Invalid(f"column {column.key!r}: {len(column.data)} bytes are not a whole number of values")
    if actual != count:
        raise Invalid(f"column {column.key!r} has {actual} values for {count} present rows", key=column.key)


def _count(column: Column, mask: bytes, n: int) -> int:
    if len(mask) != (n + 7) // 8:
        raise Invalid(f"column {column.key!r}: a mask of {len(mask)} bytes does not fit {n} rows", key=column.key)
    bits = int.from_bytes(mask, "little")
    if bits >> n:
        raise Invalid(f"column {column.key!r}: the mask has bits after the last row", key=column.key)
    return bits.bit_count()


def _checked_json(column: Column, limits: Limits) -> int:
    try:
        return json_values.check(column.data, limits.json_depth)
    except Invalid as error:
        raise Invalid(f"column {column.key!r}: {error.message}", key=column.key) from None


def _check_row_columns(by_key: Mapping[str, Column], batch: Batch) -> None:
    if len(by_key) != len(batch.columns):
        raise Invalid("a key has two columns", path="columns")
    step, timestamp = by_key.get(STEP), by_key.get(TIMESTAMP)
    if step is None or step.type != "i8" or step.mask is not None:
        raise Invalid(f"a batch must have a column {STEP!r} of type i8 without a mask", key=STEP)
    if timestamp is not None and timestamp.type != "f8":
        raise Invalid(f"column {TIMESTAMP!r} must have type f8", key=TIMESTAMP)
    for key in RESERVED - {STEP, TIMESTAMP}:
        if key in by_key:
            raise Invalid(f"key {key!r} is reserved: it names the row itself", key=key)


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Batch)
_BIT_OF_DIGIT: Final = bytes.maketrans(b"01", b"\0\1")
