"""What is answered under which path."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from labkeep.dialects.wandb import files, filestream, pages, stored
from labkeep.dialects.wandb.engine import graphql

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


async def _unknown(request: Request) -> Response:
    return PlainTextResponse(f"no such path: {request.method} {request.url.path}", 404)


ROUTES = [
    Route("/graphql", graphql, methods=["POST"]),
    Route("/files/{entity}/{project}/{run}/file_stream", filestream.receive, methods=["POST"]),
    Route(files.DOOR + "/{token}/{path:path}", files.upload, methods=["PUT"]),
    Route(files.DOOR + "/{token}/{path:path}", files.download, methods=["GET"]),
    Route(files.DOOR + "/{token}/{path:path}", files.preflight, methods=["OPTIONS"]),
    Route("/artifactsV2/{region}/{entity}/{project}/{collection}/{place:path}", stored.download, methods=["GET"]),
    Route("/{entity}/{project}", pages.show_project, methods=["GET"]),
    Route("/{entity}/{project}/runs/{run}", pages.show, methods=["GET"]),
    Route("/{path:path}", _unknown, methods=_METHODS),
]
