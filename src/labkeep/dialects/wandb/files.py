"""Files of runs: links to upload and download them, lists, and the endpoints behind the links.

The client sends no key with an upload, so a link carries what it is good for in a signed token.
"""

from __future__ import annotations

import mimetypes
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.columns import STEP
from labkeep.core.commands import AttachFile, GetFile
from labkeep.core.entities import File, Json
from labkeep.core.errors import NotFound
from labkeep.dialects.wandb import manifests
from labkeep.dialects.wandb.context import Context, global_id, own_id, parts_of
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.dialects.wandb.projects import connection, page_size
from labkeep.dialects.wandb.translate import moment
from labkeep.http.auth import NOBODY
from labkeep.http.transfers import in_thread, receive, send_bytes, send_file
from labkeep.http.wire import run, store_of
from labkeep.operations import capabilities, drafts, file_searches, files, history_files, run_searches
from labkeep.operations.capabilities import Action, Capability, Redeemed, Sign
from labkeep.operations.drafts import GetUpload, PutDraftFile
from labkeep.operations.file_searches import CountFiles, DetachFiles, FindFiles, RunFile
from labkeep.operations.history_files import GetHistoryFile, ListFiles
from labkeep.operations.run_searches import FindRun, Seen

DOOR = "/storage"
"""Path below which links lead."""

DRAFT = "draft"
"""Purpose of links that fill an artifact version which is not committed yet."""

HISTORY = "history"
"""Purpose of links to files of a run's history."""

MADE_UP = "manifest"
"""Purpose of links to the manifest of a version that has none."""


# --- links ------------------------------------------------------------------------------------------------------------


def links(context: Context, action: Action, wanted: list[tuple[str, str]], purpose: str = "") -> list[str]:
    """Absolute URLs that need no key, one for each (owner, path)."""
    asked = [Capability(action, owner, path, purpose) for owner, path in wanted]
    tokens = context.read(capabilities.sign, Sign(asked))
    return [f"{context.base}{DOOR}/{token}/{quote(path)}" for token, (_, path) in zip(tokens, wanted, strict=True)]


async def redeem(request: Request) -> Capability:
    """What the request's link is good for; from here on its maker is who asks."""
    database = store_of(request).database
    token = request.path_params["token"]
    redeemed: Redeemed = await in_thread(database.read, capabilities.redeem, NOBODY, token)
    request.state.actor = redeemed.actor
    return redeemed.capability


async def upload(request: Request) -> Response:
    """PUT behind a link."""
    given = await redeem(request)
    if given.action != "put":
        raise NotFound("this link is for downloads")
    return await store(request, given)


async def store(request: Request, given: Capability) -> Response:
    """Keep the body as the file that the link is for. The same upload again changes nothing."""
    stored = await receive(request, files.UploadTo(id=given.owner))
    await in_thread(files.keep, store_of(request), request.state.actor, stored)
    media_type = _media_type(request, given.path)
    if given.purpose == DRAFT:
        put = PutDraftFile(id=given.owner, path=given.path, digest=stored.digest, media_type=media_type)
        await run(request, drafts.put_file, put, writes=True)
    else:
        attach = AttachFile(
            id=given.owner, path=given.path, digest=stored.digest, size=stored.size, media_type=media_type
        )
        await run(request, files.attach, attach, writes=True)
    return Response(headers={"etag": f'"{stored.digest}"'})


_UNKNOWN = "application/octet-stream"
_TYPES = mimetypes.MimeTypes()  # what Python knows, and not what this machine does


def _media_type(request: Request, path: str) -> str:
    """What the client says it is; it says nothing of most files, and then the name does."""
    said = request.headers.get("content-type", _UNKNOWN)[:255]
    return said if said != _UNKNOWN else _TYPES.guess_type(path)[0] or _UNKNOWN


async def download(request: Request) -> Response:
    """GET behind a link."""
    given = await redeem(request)
    if given.action != "get":
        raise NotFound("this link is for uploads")
    if given.purpose == HISTORY:
        asked = GetHistoryFile(id=given.owner, digest=given.path.removesuffix(PARQUET))
        content = await in_thread(history_files.read, store_of(request), request.state.actor, asked)
        response = send_bytes(request, content, asked.digest, "application/vnd.apache.parquet")
    elif given.purpose == MADE_UP:
        found = await run(request, drafts.get, GetUpload(id=given.owner), writes=False)
        response = Response(
            manifests.made_up(found.version, found.files.values(), global_id("Artifact", given.owner)),
            media_type="application/json",
        )
    else:
        response = await send_file(request, GetFile(id=given.owner, path=given.path))
    response.headers["access-control-allow-origin"] = "*"
    return response


async def preflight(_request: Request) -> Response:
    """OPTIONS: a page of another origin may read what it has a link for."""
    return Response(
        headers={
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "GET, HEAD, PUT",
            "access-control-allow-headers": "*",
        }
    )


def parquet(seen: Seen, context: Context, **_live_keys: Any) -> Json:
    """Links to the history as Parquet files: to all of it, or none. What is in none is live, from its first step on."""
    found = history_files.listed(context.store, context.actor, ListFiles(id=seen.run.id))
    wanted = [(seen.run.id, segment.digest + PARQUET) for segment in found]
    live = [{STEP: 0}] if seen.rows("history") and not found else []
    return {"parquetUrls": links(context, "get", wanted, HISTORY), "liveData": live}


PARQUET = ".parquet"


# --- GraphQL ----------------------------------------------------------------------------------------------------------


def shown(file: File, url: str) -> Json:
    """A file as the source of its fields."""
    return {
        "id": global_id("File", file.owner_id, file.path),
        "name": file.path,
        "displayName": file.path,
        "directUrl": url,
        "url": url,
        "sizeBytes": file.size,
        "mimetype": file.media_type,
        "updatedAt": moment(file.created_at),
        "digest": file.digest,
        "uploadHeaders": [],
    }


def listed(
    seen: Seen,
    context: Context,
    names: list[str] | None = None,
    after: str | None = None,
    first: int | None = None,
    pattern: str | None = None,
) -> Json:
    """Files of a run by path; only those of ``names``, or like ``pattern`` (% and _ as in SQL)."""
    asked = FindFiles(
        id=seen.run.id,
        paths=[name.removeprefix("./") for name in names or [] if name],
        like=pattern or "",
        limit=page_size(first),
        cursor=after or None,
    )
    found = context.read(file_searches.find, asked)
    urls = links(context, "get", [(file.owner_id, file.path) for file in found.items])
    nodes = [shown(file, url) for file, url in zip(found.items, urls, strict=True)]
    return {**connection(nodes, found.next), "totalCount": len(nodes)}


def create(_root: None, context: Context, input: Json) -> Json:
    """Links to upload files of a run with."""
    seen = context.read(run_searches.find, FindRun(project=input["projectName"], handle=input["runName"]))
    names = list(input["files"])
    paths = [files.clean_path(name) for name in names]
    urls = links(context, "put", [(seen.run.id, path) for path in paths])
    nodes = [
        {
            "id": global_id("File", seen.run.id, path),
            "name": name,
            "uploadUrl": url,
            "directUrl": url,
            "sizeBytes": 0,
            "uploadHeaders": [],
        }
        for name, path, url in zip(names, paths, urls, strict=True)
    ]
    return {"runID": global_id("Run", seen.run.id), "uploadHeaders": [], "files": nodes}


def mark_uploaded(_root: None, _context: Context, input: Json) -> Json:
    """The client says that it has uploaded; we saw it."""
    return {"success": True, "clientMutationId": input.get("clientMutationId")}


def delete(_root: None, context: Context, input: Json) -> Json:
    """Take files of runs away."""
    wanted = [RunFile(*_file_parts(id)) for id in input["files"] if id]
    context.write(file_searches.detach, DetachFiles(files=wanted))
    return {"success": True}


def _file_parts(id: str) -> tuple[str, str]:
    parts = parts_of("File", id, 2)
    if len(parts) != 2:
        raise NotFound(f"file {id[:80]!r} not found")
    return own_id("File", parts[0]), parts[1]


def _count(seen: Seen, context: Context) -> int:
    return context.read(file_searches.count, CountFiles(id=seen.run.id))


RESOLVERS: Resolvers = {
    "Mutation": {"createRunFiles": create, "markRunFilesUploaded": mark_uploaded, "deleteFiles": delete},
    "Run": {"parquetHistory": parquet, "files": listed, "fileCount": _count},
}
