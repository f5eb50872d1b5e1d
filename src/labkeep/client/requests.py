"""Arguments into requests: paths, queries, bodies and headers."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import lru_cache
from os import PathLike, fspath
from typing import Any, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

import msgspec
from msgspec import UNSET

from labkeep import __version__
from labkeep.client.target import Target
from labkeep.core import json_values
from labkeep.core.errors import Invalid, Unsupported

T = TypeVar("T")

PREFIX = "/api/v1"
JSON = "application/json"
CLIENT = f"labkeep-python/{__version__} (Python {platform.python_version()})"


def headers_for(target: Target) -> dict[str, str]:
    """What every request to ``target`` carries."""
    headers = {"Authorization": f"Bearer {target.key}", "Labkeep-Client": CLIENT, "User-Agent": CLIENT}
    if target.workspace:
        headers["Labkeep-Workspace"] = target.workspace.encode().decode("latin-1")
    return headers


def idempotency_key() -> str:
    """A key for one write, the same for all of its tries."""
    return secrets.token_hex(16)


def path(template: str, **names: str | int) -> str:
    """``template`` with each name as one segment. Invalid for what would be another path: nothing, or dots."""
    segments = {name: _segment(name, str(value)) for name, value in names.items()}
    return PREFIX + template.format(**segments)


def _segment(name: str, text: str) -> str:
    if text in ("", ".", ".."):
        raise Invalid(f"{name} {text!r} names nothing", path=name)
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise Invalid(f"{name} {text!r} is not valid Unicode", path=name) from None


def query(fields: Mapping[str, Any]) -> str:
    """``?a=1&b=2`` of what is given; lists repeat their name."""
    pairs = [(name, item) for name, value in given(fields).items() for item in _texts(value)]
    return "?" + urlencode(pairs, errors="backslashreplace") if pairs else ""


def _texts(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [value.isoformat() if isinstance(value, datetime) else str(value)]


def given(fields: Mapping[str, Any], *without: str) -> dict[str, Any]:
    """The arguments that the caller gave: neither None nor UNSET. Takes ``locals()`` of a method; ``self`` is left out."""
    return {name: value for name, value in changed(fields, *without).items() if value is not None}


def changed(fields: Mapping[str, Any], *without: str) -> dict[str, Any]:
    """The arguments that the caller wants changed: None clears, UNSET leaves alone."""
    return {n: value for n, value in fields.items() if value is not UNSET and n != "self" and n not in without}


def body(value: Any) -> bytes:
    """``value`` as JSON. NaN and the infinities become the strings that `labkeep.core.json_values` names."""
    try:
        return _ENCODER.encode(jsonable(value))
    except (UnicodeEncodeError, OverflowError, RecursionError) as error:
        raise Invalid(f"the request cannot be written as JSON: {error}") from None


def jsonable(value: Any) -> Any:
    """``value`` in JSON's own types. Times, paths, UUIDs and enumerations become text; Invalid for what is no value."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return json_values.to_json(value)
    if isinstance(value, msgspec.Struct):
        return jsonable(msgspec.to_builtins(value))
    if isinstance(value, Mapping):
        return {_key(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(inner) for inner in value]
    text = _as_text(value)
    return text if text is not None else json_values.to_json(json_values.plain(value))


def _as_text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, PathLike):
        return str(fspath(value))
    return str(value) if isinstance(value, UUID) else None


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int | float):
        return str(key)
    raise Invalid(f"a key must be text, not {type(key).__name__}")


def parse(output: type[T], data: bytes, what: str) -> T:
    """The answer ``data`` as ``output``. Unsupported when it is something else."""
    try:
        return _decoder(output).decode(data)  # type: ignore[no-any-return, arg-type]  # types are hashable
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unsupported(
            f"{what} was answered with something else than this client knows ({error}): is this a Labkeep server, "
            "and is the client as new as the server?"
        ) from None


@lru_cache(maxsize=256)
def _decoder(output: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(output)


_ENCODER = msgspec.json.Encoder()
