"""One ASGI application for each edge: authentication, request ids, and every error in that edge's own envelope."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from prometheus_client import Counter, Histogram
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labkeep.core.access import Actor
from labkeep.core.errors import LabkeepError
from labkeep.http.auth import KeyRing
from labkeep.http.errors import Encode, handlers, incident
from labkeep.operations import Store
from labkeep.operations.reasons import HEADERS

Identify = Callable[[KeyRing, Request], Awaitable[Actor]]
"""How an edge finds out who asks: reads its own header, asks the key ring."""

REQUESTS = Counter("labkeep_requests", "Requests answered.", ["edge", "method", "status"])
LATENCY = Histogram(
    "labkeep_request_seconds",
    "Time to answer a request.",
    ["edge"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)


def edge(
    name: str,
    routes: Sequence[BaseRoute],
    store: Store,
    keyring: KeyRing,
    identify: Identify,
    encode: Encode,
    public: Sequence[str] = (),
) -> ASGIApp:
    """An application that serves ``routes``. Paths that begin with one of ``public`` need no key."""
    app = Starlette(routes=list(routes), exception_handlers=dict(handlers(encode)))
    app.state.store = store
    app.state.keyring = keyring
    return _Guard(name, app, keyring, identify, encode, tuple(public))


class _Guard:
    """Authenticates, times and counts each request, and turns what nobody expected into an incident."""

    def __init__(
        self, name: str, app: Starlette, keyring: KeyRing, identify: Identify, encode: Encode, public: tuple[str, ...]
    ) -> None:
        self._name, self._app, self._keyring = name, app, keyring
        self._identify, self._encode, self._public = identify, encode, public
        self._latency = LATENCY.labels(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        request = Request(scope, receive)
        request_id = request.headers.get("x-request-id", "")[:64] or secrets.token_hex(8)
        start, status, started = time.perf_counter(), 500, False

        async def note(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode("latin-1", "replace"))]
            await send(message)

        try:
            if not _below(request, self._public):
                scope.setdefault("state", {})["actor"] = await self._actor(request, request_id)
            await self._app(scope, receive, note)
        except LabkeepError as error:
            await self._encode(error)(scope, receive, note)
        except Exception as error:  # noqa: BLE001 - the last line: a bug is logged and answered, never leaked
            if not started:  # else the application's own handler has answered
                await self._encode(incident(error, request))(scope, receive, note)
        finally:
            self._latency.observe(time.perf_counter() - start)
            REQUESTS.labels(self._name, request.method, status).inc()

    async def _actor(self, request: Request, request_id: str) -> Actor:
        actor = await self._identify(self._keyring, request)
        client = request.headers.get("labkeep-client") or request.headers.get("user-agent", "")
        said = {name: _said(request.headers.get(header, "")) for name, header in HEADERS.items()}
        return msgspec.structs.replace(actor, client=_plain(client), request_id=_plain(request_id), **said)


def _below(request: Request, prefixes: tuple[str, ...]) -> bool:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return bool(prefixes) and path.startswith(prefixes)


def _said(text: str) -> str:
    """A sentence in a header, which may be UTF-8."""
    text = text.encode("latin-1", "replace").decode("utf-8", "replace")
    return "".join(char for char in text[:2_000] if char.isprintable()).strip()


def _plain(text: str) -> str:
    """Header text that may be stored: printable, and not long."""
    return "".join(char for char in text[:120] if char.isprintable())
