"""JSON values that a metric may have: what counts as one, and its MessagePack and JSON forms.

Two things that JSON cannot say survive here: NaN and the infinities (the strings ``"NaN"``, ``"Infinity"`` and
``"-Infinity"`` in JSON), and integers of more than 64 bits (extension type ``BIG_INT`` in MessagePack).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from labkeep.core.errors import Invalid

BIG_INT: Final = 1
"""MessagePack extension type: an integer as little-endian two's complement."""
BIG_INT_BYTES: Final = 512

SCALARS: Final = frozenset({float, int, str, bool, type(None)})
MEDIA: Final = "_type"
"""A dict with this key describes a file or a chart and is kept whole."""

NON_FINITE: Final[Mapping[str, float]] = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def flatten(mapping: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The mapping with each nested dict of scalars as dotted keys, and everything else as plain JSON values."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise Invalid(f"key {key!r} must be a text")
        try:
            value = plain(value, depth)
        except Invalid as error:
            raise Invalid(f"key {key!r}: {error.message}", key=shown(key)) from None
        if type(value) is dict and _is_document(value):
            flat.update(_leaves(f"{key}.", value))
        else:
            flat[key] = value
    return flat


def plain(value: Any, depth: int = 64) -> Any:
    """The value in Python's own JSON types. Arrays and their scalars become lists and numbers. Raises Invalid."""
    if type(value) in SCALARS:
        return value
    if depth <= 0:
        raise Invalid("the value is nested too deeply")
    if isinstance(value, Mapping):
        return {_plain_key(key): plain(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, depth - 1) for inner in value]
    for kind in (str, int, float):  # subclasses: enumerations, numpy.float64
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    if hasattr(value, "tolist"):  # numpy and torch: scalars and arrays alike
        return plain(value.tolist(), depth - 1)
    raise Invalid(f"a {type(value).__name__} is not a JSON value; log a number, a text, a list or a dict")


def pack(values: Iterable[Any]) -> bytes:
    """Plain JSON values as a MessagePack list. Raises Invalid for text that is not Unicode."""
    values = list(values)
    try:
        try:
            return _ENCODER.encode(values)
        except OverflowError:
            return _ENCODER.encode(_boxed(values))
    except UnicodeEncodeError:
        raise Invalid("the text is not valid Unicode") from None


def unpack(data: bytes) -> list[Any]:
    """The values of a list that :func:`check` has accepted."""
    found: list[Any] = _DECODER.decode(data)
    return found


def check(data: bytes, depth: int) -> int:
    """How many JSON values a MessagePack list holds. Raises Invalid when it is anything else."""
    try:
        values = _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise Invalid(f"the data is not a MessagePack list: {error}") from None
    if not SCALARS.issuperset(map(type, values)):
        _check_nested(values, depth)
    return len(values)


def to_json(value: Any) -> Any:
    """The value with NaN and the infinities as strings."""
    if type(value) is float:
        return value if math.isfinite(value) else name_of(value)
    if type(value) is dict:
        return {key: to_json(inner) for key, inner in value.items()}
    if type(value) is list:
        return [to_json(inner) for inner in value]
    return value


def from_json(value: Any, depth: int) -> Any:
    """The value with the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` as numbers. Raises Invalid when too deep."""
    if type(value) is str:
        return NON_FINITE.get(value, value)
    if type(value) not in (dict, list):
        return value
    if depth <= 0:
        raise Invalid("the value is nested too deeply")
    if type(value) is dict:
        return {key: from_json(inner, depth - 1) for key, inner in value.items()}
    return [from_json(inner, depth - 1) for inner in value]


def to_text(value: Any) -> str:
    """JSON text of a value, NaN and the infinities as strings.

    A string that reads like one of those has its first letter escaped: the same string to any JSON parser, and still a
    string to :func:`from_text`.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _TOKENS.sub(_token, text) if "NaN" in text or "Infinity" in text else text


def from_text(text: str) -> Any:
    """The value that :func:`to_text` wrote."""
    if "NaN" in text or "Infinity" in text:
        text = _QUOTED.sub(r"\1", text)
    return json.loads(text)


def name_of(value: float) -> str:
    """``"NaN"``, ``"Infinity"`` or ``"-Infinity"``: how JSON writes a number that is not finite."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def is_unicode(text: str) -> bool:
    """False when the text has a lone surrogate, which no encoding can store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(key: object) -> str:
    """The key as text that can always be sent, for error details."""
    return str(key)[:512].encode(errors="backslashreplace").decode()


def _is_document(value: dict[str, Any]) -> bool:
    """True when every leaf is a scalar, there is one, and nothing inside is media."""
    if not value or MEDIA in value:
        return False
    return all(type(inner) in SCALARS or (type(inner) is dict and _is_document(inner)) for inner in value.values())


def _leaves(prefix: str, value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if type(inner) is dict:
            yield from _leaves(f"{prefix}{key}.", inner)
        else:
            yield f"{prefix}{key}", inner


def _plain_key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, int) and not isinstance(key, bool):  # {0: 0.9} per class, as json.dumps writes it
        return str(int(key))
    raise Invalid(f"a key inside the value must be text, not {type(key).__name__}")


def _boxed(value: Any) -> Any:
    """The value with each integer that MessagePack has no type for as an extension."""
    if type(value) is int and not -(2**63) <= value < 2**64:
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        if len(data) > BIG_INT_BYTES:
            raise Invalid(f"an integer of {len(data)} bytes is too large; {BIG_INT_BYTES} are allowed")
        return msgspec.msgpack.Ext(BIG_INT, data)
    if type(value) is dict:
        return {key: _boxed(inner) for key, inner in value.items()}
    if type(value) is list:
        return [_boxed(inner) for inner in value]
    return value


def _unboxed(code: int, data: memoryview) -> int:
    if code != BIG_INT or len(data) > BIG_INT_BYTES:
        raise ValueError(f"extension type {code} of {len(data)} bytes is not a JSON value")
    return int.from_bytes(data, "little", signed=True)


def _check_nested(value: Any, depth: int) -> None:
    if type(value) in SCALARS:
        return
    if depth < 0:
        raise Invalid("a value is nested too deeply")
    if type(value) is list:
        inner: Iterable[Any] = value
    elif type(value) is dict and all(type(key) is str for key in value):
        inner = value.values()
    else:
        raise Invalid("a value is not JSON")
    for item in inner:
        _check_nested(item, depth - 1)


def _token(match: re.Match[str]) -> str:
    token = match[0]
    if token[0] != '"':
        return f'"{token}"'
    if _QUOTED.fullmatch(token):
        return f'"\\u{ord(token[1]):04x}{token[2:]}'
    return token


_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')
_QUOTED: Final = re.compile(r'(?<!\\)"(NaN|-?Infinity)"')
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[Any], ext_hook=_unboxed)
