"""The native API's endpoints that move bytes instead of JSON: history, blobs and files.

Bodies are streamed: an upload of any size passes through about a mebibyte of memory, and is there as a whole or not
at all. What takes long runs in threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from labkeep.core.columns import MEDIA_TYPE, from_json_rows
from labkeep.core.commands import (
    Appended,
    AppendHistory,
    AttachFile,
    Command,
    Count,
    FilePath,
    GetFile,
    Key,
    Page,
    ReadHistory,
    Ref,
)
from labkeep.core.commands_transfer import Import, ImportHistory, ReadSegment
from labkeep.core.entities import File, Series
from labkeep.core.errors import Invalid
from labkeep.core.ids import Id
from labkeep.core.json_values import to_json
from labkeep.http.openapi import ByteEndpoint
from labkeep.http.transfers import in_thread, receive, send_file
from labkeep.http.wire import JSON, actor_of, answer, build, decode_json, read_body, run, store_of
from labkeep.operations import exports, files, history, imports
from labkeep.operations.accounts import once
from labkeep.operations.files import UploadTo

Handler = Callable[[Request], Awaitable[Response]]

BINARY = "application/octet-stream"
PARQUET = "application/vnd.apache.parquet"

INLINE_BYTES = 64 * 1024
"""Bodies up to this size are decoded where they are; larger ones in a thread."""

JSON_ROWS, JSON_ROWS_MOST = 10_000, 100_000
"""Rows of a page of history in JSON, unless asked otherwise and at the most."""


# --- history ----------------------------------------------------------------------------------------------------------


class AppendTo(Command, frozen=True, kw_only=True):
    """Where rows go. Without ``offset`` to the end; with it, the same request again changes nothing."""

    id: Ref
    stream: Key = "history"
    offset: Count | None = None


class JsonRows(Command, frozen=True, kw_only=True):
    """Rows in JSON: ``{"_step": 0, "_timestamp": 1760000000.5, "loss": 0.5}`` each."""

    rows: list[Any]
    offset: Count | None = None


class HistoryPage(msgspec.Struct, frozen=True):
    """Rows in JSON. ``total`` is where the stream ends, ``next_offset`` where the next page begins, None after the last."""

    rows: list[Any]
    total: int
    next_offset: int | None


async def append_history(request: Request) -> Response:
    """Append rows, or write over rows."""
    where = build(AppendTo, request, None)
    form = _form(request, (MEDIA_TYPE, JSON))
    body = await read_body(request)
    prepare = partial(_from_columns if form == MEDIA_TYPE else _from_json, where, body)
    depth = store_of(request).settings.max_json_depth
    batch = prepare(depth) if len(body) <= INLINE_BYTES else await in_thread(prepare, depth)
    key = request.headers.get("idempotency-key", "")
    if key and batch.offset is None:
        fingerprint = hashlib.sha256(f"{where.id} {where.stream} {form} ".encode() + body).hexdigest()
        encoded = await run(request, once(history.append, key, fingerprint), batch, writes=True)
        return Response(encoded, media_type=JSON)
    return answer(await run(request, history.append, batch, writes=True))


def _from_columns(where: AppendTo, body: bytes, _depth: int) -> history.Prepared:
    return history.prepare(AppendHistory(id=where.id, stream=where.stream, offset=where.offset, batch=body))


def _from_json(where: AppendTo, body: bytes, depth: int) -> history.Prepared:
    found: JsonRows = decode_json(body, depth, JsonRows)
    if None not in (where.offset, found.offset) and where.offset != found.offset:
        raise Invalid(f"offset is {where.offset} in the query and {found.offset} in the body", path="offset")
    offset = where.offset if found.offset is None else found.offset
    return history.prepare_batch(where.id, where.stream, offset, from_json_rows(found.rows))


async def read_history(request: Request) -> Response:
    """Rows as one binary batch or as a page of JSON, as ``Accept`` says."""
    command = build(ReadHistory, request, None)
    binary = MEDIA_TYPE in request.headers.get("accept", "")
    if not binary:
        limit = min(command.limit or JSON_ROWS, JSON_ROWS_MOST)
        command = msgspec.structs.replace(command, limit=limit)
    encode = _as_columns if binary else _as_json
    return await in_thread(lambda: encode(history.read(store_of(request), actor_of(request), command)))


def _as_columns(found: history.Found) -> Response:
    headers = {"labkeep-total": str(found.total)}
    if found.next_offset is not None:
        headers["labkeep-next-offset"] = str(found.next_offset)
    return Response(found.table.to_wire(), headers=headers, media_type=MEDIA_TYPE)


def _as_json(found: history.Found) -> Response:
    return answer(HistoryPage(list(found.table.json_rows()), found.total, found.next_offset))


async def list_series(request: Request) -> Response:
    """Summaries of the keys of a stream. NaN and the infinities are strings, as everywhere in JSON."""
    page = await run(request, history.list_series, build(history.ListSeries, request, None), writes=False)
    return answer(to_json(msgspec.to_builtins(page)))


async def read_segment(request: Request) -> Response:
    """Rows of a stream as a Parquet file."""
    command = build(ReadSegment, request, None)
    found = await in_thread(exports.read_segment, store_of(request), actor_of(request), command)
    headers = {"labkeep-total": str(found.total)}
    if found.next_offset is not None:
        headers["labkeep-next-offset"] = str(found.next_offset)
    return Response(found.data, headers=headers, media_type=PARQUET)


async def import_history(request: Request) -> Response:
    """Take rows of an imported run."""
    where = build(ImportHistory, request, None)
    body = await read_body(request)
    part = await in_thread(imports.read_history, where, body)
    return answer(await run(request, imports.add_history, part, writes=True))


# --- uploads ----------------------------------------------------------------------------------------------------------


class Uploaded(msgspec.Struct, frozen=True):
    """What an upload became."""

    digest: str
    size: int


class PutFile(Command, frozen=True, kw_only=True):
    """Where an uploaded file goes."""

    id: Ref
    path: FilePath


class PutBlob(Command, frozen=True, kw_only=True):
    """For which project bytes are, by id or name, or for which object: needed where contents are encrypted."""

    project: Ref = ""
    id: Id | None = None


async def put_blob(request: Request) -> Response:
    """Store bytes under their digest. They stay when a file or an artifact refers to them within a day."""
    asked = build(PutBlob, request, None)
    stored = await receive(request, UploadTo(project=asked.project, id=asked.id or ""))
    await in_thread(files.keep, store_of(request), actor_of(request), stored)
    return answer(Uploaded(stored.digest, stored.size))


async def put_file(request: Request) -> Response:
    """Store a file of a run or document: upload and attach in one."""
    where = build(PutFile, request, None)
    await run(request, files.check_attach, GetFile(id=where.id, path=where.path), writes=False)
    stored = await receive(request, UploadTo(id=where.id))
    await in_thread(files.keep, store_of(request), actor_of(request), stored)
    command = AttachFile(
        id=where.id,
        path=where.path,
        digest=stored.digest,
        size=stored.size,
        media_type=request.headers.get("content-type", BINARY)[:255],
    )
    return answer(await run(request, files.attach, command, writes=True))


async def head_blob(request: Request) -> Response:
    """Whether bytes are there already."""
    size = await run(request, files.find_blob, build(files.FindBlob, request, None), writes=False)
    return Response(headers={"labkeep-size": str(size), "etag": f'"{request.path_params["digest"]}"'})


def _form(request: Request, accepted: tuple[str, ...]) -> str:
    """The media type of the body, without parameters; the last of ``accepted`` when none is named."""
    text = request.headers.get("content-type", "").partition(";")[0].strip().lower() or accepted[-1]
    if text not in accepted:
        raise Invalid(
            f"content-type {text[:80]!r} is not taken here; use {' or '.join(accepted)}",
            path="content-type",
            status=415,
        )
    return text


# --- downloads --------------------------------------------------------------------------------------------------------


async def get_file(request: Request) -> Response:
    """The content of a file, or a range of it."""
    return await send_file(request, build(GetFile, request, None))


# --- the table --------------------------------------------------------------------------------------------------------

_TABLE: list[tuple[ByteEndpoint, Handler]] = [
    (
        ByteEndpoint(
            method="POST",
            path="/runs/{id}/history",
            name="history_append",
            summary="Append rows to a stream of a run",
            tag="runs",
            query=AppendTo,
            request=(MEDIA_TYPE, JSON),
            output=Appended,
        ),
        append_history,
    ),
    (
        ByteEndpoint(
            method="GET",
            path="/runs/{id}/history",
            name="history_read",
            summary="Read rows of a stream, all or sampled",
            tag="runs",
            query=ReadHistory,
            response=(MEDIA_TYPE,),
            output=HistoryPage,
        ),
        read_history,
    ),
    (
        ByteEndpoint(
            method="GET",
            path="/runs/{id}/series",
            name="history_list_series",
            summary="What is known of each key of a stream",
            tag="runs",
            query=history.ListSeries,
            output=Page[Series],
        ),
        list_series,
    ),
    (
        ByteEndpoint(
            method="GET",
            path="/runs/{id}/segments",
            name="exports_read_segment",
            summary="Read rows of a stream as a Parquet file",
            tag="runs",
            query=ReadSegment,
            response=(PARQUET,),
        ),
        read_segment,
    ),
    (
        ByteEndpoint(
            method="PUT",
            path="/imports/{id}/history",
            name="imports_add_history",
            summary="Take rows of an imported run, as a Parquet file",
            tag="imports",
            query=ImportHistory,
            request=(PARQUET,),
            output=Import,
        ),
        import_history,
    ),
    (
        ByteEndpoint(
            method="PUT",
            path="/blobs",
            name="blobs_put",
            summary="Upload bytes; a header Labkeep-Digest is checked",
            tag="blobs",
            request=(BINARY,),
            query=PutBlob,
            needs_body=False,
            output=Uploaded,
        ),
        put_blob,
    ),
    (
        ByteEndpoint(
            method="HEAD",
            path="/blobs/{digest}",
            name="blobs_head",
            summary="Whether bytes are there already",
            tag="blobs",
            query=files.FindBlob,
        ),
        head_blob,
    ),
    (
        ByteEndpoint(
            method="PUT",
            path="/files/{id}",
            name="files_put",
            summary="Upload a file of a run or document",
            tag="files",
            query=PutFile,
            request=(BINARY,),
            needs_body=False,
            output=File,
        ),
        put_file,
    ),
    (
        ByteEndpoint(
            method="GET",
            path="/files/{id}/content",
            name="files_content",
            summary="Download a file, or a range of it",
            tag="files",
            query=GetFile,
            response=(BINARY,),
        ),
        get_file,
    ),
]

DESCRIBED: list[ByteEndpoint] = [endpoint for endpoint, _ in _TABLE]
"""For the OpenAPI document."""

ROUTES: list[Route] = [Route(one.path, handler, methods=[one.method], name=one.name) for one, handler in _TABLE]
"""Mounted under the prefix of the native API."""
