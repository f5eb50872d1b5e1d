"""What a server tells everybody: whether it lives and can work, what it measures, and which keys verify its receipts."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from labkeep.core.commands import Nothing
from labkeep.core.errors import LabkeepError
from labkeep.http.lateness import policy_metrics
from labkeep.http.wire import answer, store_of
from labkeep.operations import receipts
from labkeep.operations.purges import system
from labkeep.operations.upkeep import ping

READY_S = 5.0
"""How long the database may take before the server counts as not ready."""

_NOBODY = system("00000000-0000-7000-8000-000000000000", "")


async def healthz(_request: Request) -> Response:
    """Requests are served."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """The database answers."""
    try:
        query = asyncio.wrap_future(store_of(request).database.query(ping, _NOBODY, None))
        await asyncio.wait_for(query, READY_S)
    except (LabkeepError, TimeoutError) as error:
        return JSONResponse({"status": "not ready", "reason": str(error) or "the database does not answer"}, 503)
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Prometheus metrics, those of retention policies included."""
    policies = await policy_metrics(store_of(request), _NOBODY)
    return Response(generate_latest(REGISTRY) + policies, media_type=CONTENT_TYPE_LATEST)


async def signing_keys(request: Request) -> Response:
    """The public keys that verify receipts and checkpoints. No key is needed to read them."""
    query = store_of(request).database.query(receipts.keys, _NOBODY, Nothing())
    return answer(await asyncio.wrap_future(query), headers={"Cache-Control": "public, max-age=300"})


ROUTES = [
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
    Route("/.well-known/labkeep-keys.json", signing_keys),
]
