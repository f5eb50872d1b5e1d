"""Whether the server lives, whether it can work, and what it measures."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from labkeep.core.errors import LabkeepError
from labkeep.http.wire import store_of
from labkeep.operations.purges import system
from labkeep.operations.upkeep import ping

READY_S = 5.0
"""How long the database may take before the server counts as not ready."""


async def healthz(_request: Request) -> Response:
    """Requests are served."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """The database answers."""
    nobody = system("00000000-0000-7000-8000-000000000000", "")
    try:
        query = asyncio.wrap_future(store_of(request).database.query(ping, nobody, None))
        await asyncio.wait_for(query, READY_S)
    except (LabkeepError, TimeoutError) as error:
        return JSONResponse({"status": "not ready", "reason": str(error) or "the database does not answer"}, 503)
    return JSONResponse({"status": "ready"})


async def metrics(_request: Request) -> Response:
    """Prometheus metrics."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


ROUTES = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
