"""Files of artifacts by where the client believes them to be stored, when it has no link."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.commands import GetFile
from labkeep.core.errors import NotFound
from labkeep.dialects.wandb import manifests
from labkeep.dialects.wandb.context import own_id
from labkeep.dialects.wandb.engine import actor_in
from labkeep.http.transfers import in_thread, send_file
from labkeep.http.wire import run, store_of
from labkeep.operations import drafts, files
from labkeep.operations.drafts import GetUpload


async def download(request: Request) -> Response:
    """GET /artifactsV2/{region}/{entity}/{project}/{collection}/[{artifact}/]{born with}/{hex MD5}/{name}."""
    request.state.actor = await actor_in(request, request.path_params["entity"])
    id, md5, name = parse(request.path_params["place"])
    upload = await run(request, drafts.get, GetUpload(id=id), writes=False)
    path = name
    if path not in upload.files and manifests.PATH in upload.files:
        asked = GetFile(id=id, path=manifests.PATH)
        data = await in_thread(files.read, store_of(request), request.state.actor, asked)
        path = _by_digest(manifests.parse(data), md5, name)
    return await send_file(request, GetFile(id=id, path=path))


def parse(place: str) -> tuple[str, str, str]:
    """(our id of the version, base64 MD5, name) in the end of a path. NotFound when it is none."""
    parts = place.split("/")
    ids = [part for part in parts[:2] if _is_version(part)]
    rest = parts[len(ids) :]
    if not ids or len(rest) < 2:
        raise NotFound(f"no such file: {place[:200]}")
    try:
        md5 = base64.b64encode(binascii.unhexlify(rest[0])).decode()
    except ValueError as error:
        raise NotFound(f"no such file: {place[:200]}") from error
    return own_id("Artifact", ids[-1]), md5, "/".join(rest[1:])


def _is_version(part: str) -> bool:
    try:
        own_id("Artifact", part)
    except NotFound:
        return False
    return True


def _by_digest(manifest: manifests.Manifest, md5: str, name: str) -> str:
    return next((path for path, entry in manifest.contents.items() if entry.digest == md5), name)
