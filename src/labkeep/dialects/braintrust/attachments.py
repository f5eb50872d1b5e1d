"""Handlers of attachments: links to upload and download them, and the endpoints behind the links, which need no key."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.commands import GetFile
from labkeep.core.errors import Invalid, NotFound, Unsupported
from labkeep.dialects.braintrust.translate import command
from labkeep.http.auth import NOBODY
from labkeep.http.transfers import in_thread, send_file
from labkeep.http.transfers import receive as receive_bytes
from labkeep.http.urls import base_url
from labkeep.http.wire import answer, read_json, run, store_of
from labkeep.operations import attachments, capabilities, files
from labkeep.operations.attachments import Invite, Invited, Receive
from labkeep.operations.capabilities import Capability, Redeemed

DOOR = "/attachment/blob"
"""Path below which links lead."""


async def create(request: Request) -> Response:
    """POST /attachment: a link to upload to."""
    body = await read_json(request)
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object", path="$")
    asked = command(Invite, key=body.get("key"), action="put", filename=body.get("filename"))
    invited: Invited = await run(request, attachments.invite, asked, writes=False)
    media_type = body.get("content_type")
    headers = {"content-type": media_type} if isinstance(media_type, str) else {}
    return answer({"signedUrl": _link(request, invited), "headers": headers})


def _link(request: Request, invited: Invited) -> str:
    return f"{base_url(request)}{DOOR}/{invited.token}"


async def find(request: Request) -> Response:
    """GET /attachment: a link to download from, and whether the bytes are here."""
    query = request.query_params
    if "url" in query:
        raise Unsupported("attachments that lie in another store are read from there, not through this server")
    asked = command(Invite, key=query.get("key"), action="get")
    invited: Invited = await run(request, attachments.invite, asked, writes=False)
    status = "uploading" if invited.file is None else "done"
    return answer({"downloadUrl": _link(request, invited), "status": {"upload_status": status}})


async def note(request: Request) -> Response:
    """POST /attachment/status: what the client says of its upload. What we answer later is what we have."""
    await read_json(request)
    return answer({"status": "success"})


async def _redeem(request: Request, action: str) -> Capability:
    """What the link is good for; from here on its maker is who asks."""
    token = request.path_params["token"]
    redeemed: Redeemed = await in_thread(store_of(request).database.read, capabilities.redeem, NOBODY, token)
    if redeemed.capability.action != action:
        raise NotFound("this link is for the other direction")
    request.state.actor = redeemed.actor
    return redeemed.capability


async def upload(request: Request) -> Response:
    """PUT behind a link. The same upload again changes nothing."""
    given = await _redeem(request, "put")
    stored = await receive_bytes(request, files.UploadTo(id=given.owner))
    await in_thread(files.keep, store_of(request), request.state.actor, stored)
    received = Receive(
        key=given.purpose,
        path=given.path,
        digest=stored.digest,
        size=stored.size,
        media_type=request.headers.get("content-type", "application/octet-stream")[:255],
    )
    await run(request, attachments.receive, received, writes=True)
    return Response(headers={"etag": f'"{stored.digest}"'})


async def download(request: Request) -> Response:
    """GET behind a link."""
    given = await _redeem(request, "get")
    return await send_file(request, GetFile(id=given.owner, path=given.path))
