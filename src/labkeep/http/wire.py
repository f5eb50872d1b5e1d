"""Requests in, operations run, answers out: the one path that every edge shares. Knows no dialect.

`Endpoint` is a row of a route table. Its handler builds the command from path, query and body, runs the operation and
encodes what comes back; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from labkeep.core.access import Actor
from labkeep.core.errors import Invalid, TooLarge
from labkeep.operations import Operation, Store
from labkeep.operations.accounts import once

T = TypeVar("T")

JSON = "application/json"

MAX_VALUES = 5_000_000
"""Values in one JSON body: some 500 MiB once they are decoded."""

INLINE_BYTES = 64 * 1024
"""Bodies up to this size are decoded where they are; larger ones in a thread."""

_encoder = msgspec.json.Encoder()


Prepare = Callable[[Store, Actor, Any], Any]
"""What an operation does before its transaction: reads and packs, and answers what the operation takes."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a route table."""

    method: str
    path: str
    command: type[Any]
    operation: Operation
    output: Any
    writes: bool
    summary: str
    tag: str
    status: int = 200
    variant: str = ""
    """Tells apart endpoints of one operation."""
    prepare: Prepare | None = None
    """Called with the command, in a thread."""

    @property
    def changes_access(self) -> bool:
        """Whether it may change who a key is, or what it may do."""
        return self.writes and self.tag in ("keys", "members")

    @property
    def name(self) -> str:
        """Unique name in the OpenAPI document: module and function of the operation, and the variant."""
        module = self.operation.__module__.rpartition(".")[2]
        return "_".join(filter(None, (module, self.operation.__name__, self.variant)))


def store_of(request: Request) -> Store:
    """The store behind this server."""
    store: Store = request.app.state.store
    return store


def actor_of(request: Request) -> Actor:
    """Who asks, as authentication found."""
    actor: Actor = request.state.actor
    return actor


async def run(request: Request, operation: Callable[..., T], command: Any, *, writes: bool) -> T:
    """Run one operation for the request's actor. A write is on disk when this returns."""
    database = store_of(request).database
    submit = database.submit if writes else database.query
    return await asyncio.wrap_future(submit(operation, actor_of(request), command))


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``value`` as JSON."""
    return Response(_encoder.encode(value), status, headers, JSON)


def routes(endpoints: list[Endpoint]) -> list[Route]:
    """Starlette routes for a table of endpoints."""
    return [Route(e.path, _handler(e), methods=[e.method], name=e.name) for e in endpoints]


def _handler(endpoint: Endpoint) -> Callable[[Request], Any]:
    in_body = endpoint.method not in ("GET", "DELETE")
    types = _field_types(endpoint.command)

    async def handle(request: Request) -> Response:
        if in_body:
            check_json(request)
        body = await read_json(request) if in_body else None
        command = build(endpoint.command, request, body, types)
        key = request.headers.get("idempotency-key", "")
        operation = endpoint.operation
        if endpoint.writes and key:
            operation = once(operation, key, fingerprint(command))
        if endpoint.prepare is not None:
            command = await asyncio.to_thread(endpoint.prepare, store_of(request), actor_of(request), command)
        result = await run(request, operation, command, writes=endpoint.writes)
        if endpoint.changes_access:
            request.app.state.keyring.forget()
        encoded = result if operation is not endpoint.operation else _encoder.encode(result)
        return Response(encoded, endpoint.status, media_type=JSON)

    return handle


def fingerprint(command: Any) -> str:
    """Digest of a command: the same idempotency key with another command is refused."""
    return hashlib.sha256(type(command).__name__.encode() + _encoder.encode(command)).hexdigest()


def _read_types(command: Any) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(command)}


_field_types: Callable[[Any], dict[str, Any]] = cache(_read_types)


def _is_list(kind: Any) -> bool:
    origin = get_origin(kind)
    return _is_list(get_args(kind)[0]) if origin is Annotated else origin in (list, tuple)


def build(command: type[T], request: Request, body: Any, types: Mapping[str, Any] | None = None) -> T:
    """The command from a request. Path parameters win over the body, and the body over the query.

    What comes as text is converted to its field's type; a body must have the right types already.
    """
    types = _field_types(command) if types is None else types
    values: dict[str, Any] = {}
    query = request.query_params
    for name in query:
        kind = types.get(name)
        text = query.getlist(name) if _is_list(kind) else query[name]
        if any("\x00" in each for each in query.getlist(name)):  # PostgreSQL has no such text: there is nothing to find
            raise Invalid("text must not contain the character NUL", path=name)
        values[name] = _from_text(text, kind, name)
    if body is not None:
        if not isinstance(body, dict):
            raise Invalid("the body must be a JSON object", path="$")
        values.update(body)
    for name, text in request.path_params.items():
        values[name] = _from_text(text, types.get(name), name)
        if values[name] is None:  # the text "null": there is nothing to be left out of a path
            raise Invalid(f"{name} cannot be null", path=name)
    try:
        return msgspec.convert(values, command)
    except msgspec.ValidationError as error:
        raise invalid(error) from error


@cache
def _holds_time(kind: Any) -> bool:
    return kind is datetime or any(
        _holds_time(inner) for inner in get_args(kind) if not isinstance(inner, msgspec.Meta)
    )


def _from_text(text: Any, kind: Any, name: str) -> Any:
    if kind is None:
        return text
    try:
        # Not lenient with times: a number would be taken for seconds since 1970.
        return msgspec.convert(text, kind, strict=_holds_time(kind))
    except msgspec.ValidationError as error:
        raise Invalid(str(error), path=name) from error


def invalid(error: msgspec.ValidationError | msgspec.DecodeError) -> Invalid:
    """A decoding error in our words, with the path of the offending field."""
    message = str(error)
    text, _, path = message.rpartition(" - at ")
    if not path.startswith("`"):
        text, path = message, "$"
    return Invalid(_PATTERN.sub(_in_words, text or message), path=path.strip("`"))


_PATTERN = re.compile(r"Expected `str` (?:matching regex '(.*)'|of length [<>]= 36$)")
_ID = "an id, which is a UUID in lower case"
_WORDS = {"[0-9a-f]{8}-": _ID, "sha256:": "`sha256:` and 64 hex digits in lower case"}


def _in_words(found: re.Match[str]) -> str:
    words = (text for part, text in _WORDS.items() if part in (found[1] or "[0-9a-f]{8}-"))
    return f"Expected {next(words, 'text without control characters')}"


def check_json(request: Request) -> None:
    """Invalid for a body that says it is something else than JSON in UTF-8."""
    text = request.headers.get("content-type", "").lower()
    kind, _, parameters = text.partition(";")
    # What curl says of every body that it is not told about is taken for nothing said.
    known = kind.strip() in ("", JSON, "application/x-www-form-urlencoded") or kind.strip().endswith("+json")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    if not known or charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise Invalid(f"content-type {text[:80]!r} is not taken here; use {JSON}", path="content-type", status=415)


# --- bodies -----------------------------------------------------------------------------------------------------------


async def read_json(request: Request) -> Any:
    """The body as JSON; None when it is empty. Depth, size, number of values and content are all limited."""
    data = await read_body(request)
    if not data.strip():
        return None
    depth = store_of(request).settings.max_json_depth
    if len(data) <= INLINE_BYTES:
        return decode_json(data, depth)
    return await asyncio.to_thread(decode_json, data, depth)


def decode_json(data: bytes, max_depth: int, kind: Any = Any) -> Any:
    """``data`` as JSON of type ``kind``. Invalid for anything else, and for nesting deeper than ``max_depth``; TooLarge
    for more than `MAX_VALUES` values."""
    _check_structure(data, max_depth)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise invalid(error) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Invalid(f"the body is not valid JSON: {error}", path="$") from error


def _check_structure(data: bytes, max_depth: int) -> None:
    # What is inside strings only makes these counts higher, so the exact ones are needed rarely.
    opening = data.count(b"[") + data.count(b"{")
    if opening <= max_depth and opening + data.count(b",") <= MAX_VALUES:
        return
    steps = _STEPS[_marks(data)]
    if np.count_nonzero(steps >= 0) > MAX_VALUES:
        raise TooLarge(f"a request may have {MAX_VALUES:,} values; send these in several requests", limit=MAX_VALUES)
    if np.cumsum(steps, dtype=np.int32).max(initial=0) > max_depth:
        raise Invalid(f"the JSON is nested deeper than {max_depth} levels", path="$")


def _marks(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Brackets and commas that are not inside strings."""
    if b"\\" in data:  # what is escaped is inside a string; of a run of backslashes each second one is escaped
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    marks = np.frombuffer(data.translate(None, delete=_NOT_STRUCTURE), np.uint8)
    quotes = marks == ord('"')
    inside = np.cumsum(quotes, dtype=np.uint8) & 1  # it may wrap around: only whether it is odd matters
    outside: np.ndarray[Any, np.dtype[np.uint8]] = marks[(inside == 0) & ~quotes]
    return outside


_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}",'))
_STEPS = np.zeros(256, np.int8)
"""What a mark does to the depth."""
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


async def read_body(request: Request) -> bytes:
    """The whole body, decompressed. TooLarge over the limits; Invalid when it breaks off or is not what it claims."""
    settings = store_of(request).settings
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > settings.max_body_bytes:
        raise TooLarge(
            f"the body has {length} bytes; at most {settings.max_body_bytes} are taken", limit=settings.max_body_bytes
        )
    pieces: list[bytes] = []
    size = 0
    async for piece in stream_body(request):
        size += len(piece)
        if size > settings.max_body_bytes:
            raise TooLarge(f"the body is larger than {settings.max_body_bytes} bytes", limit=settings.max_body_bytes)
        pieces.append(piece)
    data = b"".join(pieces)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding in ("identity", ""):
        return data
    if encoding not in ("gzip", "deflate"):
        raise Invalid(f"content-encoding {encoding[:40]!r} is not taken; use gzip or none", path="content-encoding")
    return await asyncio.to_thread(inflate, data, settings.max_inflated_bytes)


async def stream_body(request: Request) -> AsyncIterator[bytes]:
    """The pieces of the body as they come; Invalid when the client goes away in the middle."""
    try:
        async for piece in request.stream():
            if piece:
                yield piece
    except ClientDisconnect as error:
        raise Invalid("the body broke off before its end; nothing was stored", path="$") from error


def inflate(data: bytes, limit: int) -> bytes:
    """Decompress gzip or zlib; TooLarge when it would grow over ``limit``, without having held more than that."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        inflated = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise Invalid(f"the compressed body is damaged: {error}", path="$") from error
    if len(inflated) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes after decompression", limit=limit)
    if not inflater.eof:
        raise Invalid("the compressed body breaks off", path="$")
    if inflater.unused_data:
        raise Invalid("more follows after the end of the compressed body: compress all of it as one", path="$")
    return inflated
