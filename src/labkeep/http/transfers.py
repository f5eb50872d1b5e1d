"""Bytes in and out, for every edge: uploads into the blob store, and files or ranges of them out of it.

An upload of any size passes through about a mebibyte of memory, and is there as a whole or not at all.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from labkeep.core.commands import Digest, GetFile
from labkeep.core.entities import File
from labkeep.core.errors import Corrupt, Invalid, NotFound, TooLarge
from labkeep.http.wire import actor_of, run, store_of, stream_body
from labkeep.operations import files
from labkeep.operations.files import Located, UploadTo

T = TypeVar("T")

PIECE_BYTES = 2**20
"""An upload is handed on in pieces of about this size; a smaller file is answered in one."""


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run blocking work in a thread, and wait for it even when the request is cancelled: two threads must never
    work on one upload."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


# --- uploads ----------------------------------------------------------------------------------------------------------


async def receive(request: Request, to: UploadTo) -> files.Stored:
    """Stream the body into the blob store, encrypted where its place asks for that. Nothing is kept when it breaks off,
    is too large or has another digest."""
    expected = _expected_digest(request)
    length = _expected_length(request)
    limit = store_of(request).settings.max_upload_bytes
    key = await run(request, files.plan, to, writes=False)
    upload = await in_thread(files.begin, store_of(request), actor_of(request), key)
    try:
        pending = bytearray()
        async for piece in stream_body(request):
            pending += piece
            if upload.size + len(pending) > limit:
                raise _too_large(limit)
            if len(pending) >= PIECE_BYTES:
                await in_thread(upload.write, bytes(pending))
                pending.clear()
        await in_thread(upload.write, bytes(pending))
        if length is not None and upload.size != length:
            raise Invalid(f"the body broke off after {upload.size} of {length} bytes; nothing was stored", path="$")
        return await in_thread(upload.finish, expected)
    finally:
        await in_thread(upload.abort)  # nothing to do once it is finished


def _expected_digest(request: Request) -> str | None:
    text = request.headers.get("labkeep-digest")
    if text is None:
        return None
    try:
        return msgspec.convert(text, Digest)
    except msgspec.ValidationError:
        raise Invalid(
            f"{text[:80]!r} is not a digest: use sha256: and 64 lower-case hex digits", path="labkeep-digest"
        ) from None


def _expected_length(request: Request) -> int | None:
    """The length that was announced. TooLarge, before anything is read, when that is too much already."""
    if request.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise Invalid("uploads are taken as they are: send them without content-encoding", path="content-encoding")
    text = request.headers.get("content-length", "")
    limit = store_of(request).settings.max_upload_bytes
    if not (text.isascii() and text.isdigit()):
        return None
    if int(text) > limit:
        raise _too_large(limit)
    return int(text)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"an upload may have {limit} bytes; this one has more", limit=limit)


# --- downloads --------------------------------------------------------------------------------------------------------

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def send_file(request: Request, command: GetFile) -> Response:
    """The content of a file, or the range of it that is asked for. Served so that no browser runs it in our origin."""
    located = await run(request, files.locate, command, writes=False)
    file = located.file
    headers = _headers(file)
    if _matches(request.headers.get("if-none-match", ""), headers["etag"]):
        return Response(status_code=304, headers=headers)
    asked = request.headers.get("range", "")
    if request.headers.get("if-range", headers["etag"]) != headers["etag"]:
        asked = ""  # another content than the one that the client has a part of
    start, end, status = _range(asked, file.size)
    if status == 416:
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{file.size}"})
    if status == 206:
        headers["content-range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    return await _content(request, command, located, (start, end), status, headers)


def send_bytes(request: Request, data: bytes, etag: str, media_type: str) -> Response:
    """``data``, or the range of it that is asked for."""
    start, end, status = _range(request.headers.get("range", ""), len(data))
    headers = {"accept-ranges": "bytes", "etag": f'"{etag}"', "cache-control": "private, no-cache"}
    if status == 416:
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{len(data)}"})
    if status == 206:
        headers["content-range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Response(data[start:end], status, headers, media_type)


async def _content(
    request: Request, command: GetFile, located: Located, span: tuple[int, int], status: int, headers: dict[str, str]
) -> Response:
    file = located.file
    space = actor_of(request).organization_id
    try:
        pieces = await in_thread(store_of(request).blobs.read, space, located.blob, *span)
    except NotFound:
        await run(request, files.find, command, writes=False)  # it may just have been purged: this says so
        raise Corrupt(f"the bytes of file {file.path!r} are not in the blob store; run `labkeep check`") from None
    if span[1] - span[0] <= PIECE_BYTES:
        return Response(await in_thread(b"".join, pieces), status, headers, file.media_type)
    return StreamingResponse(pieces, status, headers, file.media_type)


def _headers(file: File) -> dict[str, str]:
    name = file.path.rpartition("/")[2]
    plain = "".join(c if c.isascii() and (c.isalnum() or c in " ._-()") else "_" for c in name)
    return {
        "etag": f'"{file.digest}"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }


def _matches(condition: str, etag: str) -> bool:
    return any(one.strip().removeprefix("W/") in (etag, "*") for one in condition.split(","))


def _range(text: str, size: int) -> tuple[int, int, int]:
    """(start, end, status) of the bytes to send. What is not one range of bytes is ignored, as HTTP has it."""
    found = _RANGE.fullmatch(text.strip().replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return 0, size, 200
    first, last = found[1], found[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return 0, size, 200
    return (start, end, 206) if start < end else (0, 0, 416)
