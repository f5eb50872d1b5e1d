"""HTTP for asyncio, over httpx2. One client may be used from several event loops, one after the other or side by side."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from labkeep.client.http import CONNECT_TIMEOUT_S, IDLE_CONNECTIONS
from labkeep.client.transport import CHUNK, Answer, Call, Lost, Upload

if TYPE_CHECKING:
    import httpx2


class AsyncHttpTransport:
    """Calls to one server. Each event loop has connections of its own, which close with the loop."""

    def __init__(self, url: str, *, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[httpx2.AsyncClient, Any]] = (
            WeakKeyDictionary()
        )
        self._closed = False

    async def send(self, call: Call) -> Answer:
        """The answer, over a kept connection where there is one."""
        import httpx2  # here, since it takes longer to import than all of labkeep

        if self._closed:
            raise Lost("the client is closed", sent=False)
        client = await self._client()
        request = client.build_request(
            call.method,
            self._url + call.path,
            content=_content(call),
            headers=_headers(call),
            timeout=self._timeout(call),
        )
        try:
            return await _receive(await client.send(request, stream=True), call)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            raise Lost(str(error) or type(error).__name__, sent=False) from error
        except httpx2.TimeoutException as error:
            raise Lost("it took too long", sent=True) from error
        except httpx2.TransportError as error:
            raise Lost(str(error) or type(error).__name__, sent=True) from error

    def _timeout(self, call: Call) -> Any:
        import httpx2

        return httpx2.Timeout(call.timeout_s, connect=self._connect_timeout_s)

    async def _client(self) -> httpx2.AsyncClient:
        import httpx2

        loop = asyncio.get_running_loop()
        known = self._clients.get(loop)
        if known is None:
            limits = httpx2.Limits(max_connections=100, max_keepalive_connections=IDLE_CONNECTIONS)
            client = httpx2.AsyncClient(limits=limits)
            guard = _closing(client)
            known = self._clients[loop] = (client, guard)
            _forget_ended_loops()
            _guards.setdefault(loop, set()).add(guard)
            weakref.finalize(self, _abandon, weakref.ref(loop), guard).atexit = False
            await anext(guard)
        return known[0]

    async def close(self) -> None:
        """Close the connections of this event loop. Those of a loop that has ended were closed with it."""
        self._closed = True
        known = self._clients.pop(asyncio.get_running_loop(), None)
        if known is not None:
            await known[1].aclose()
            _guards.get(asyncio.get_running_loop(), set()).discard(known[1])


async def _closing(client: httpx2.AsyncClient) -> AsyncGenerator[None]:
    """Closes the client when it is closed itself: by us, or by the event loop, which ends its generators as it ends."""
    try:
        yield
    finally:
        await client.aclose()


_guards: WeakKeyDictionary[asyncio.AbstractEventLoop, set[AsyncGenerator[None]]] = WeakKeyDictionary()
"""Keeps the generators until their loop ends, also when whoever made the transport has dropped it unclosed."""

ABANDONED_S = 1.0


def _forget_ended_loops() -> None:
    for loop in [loop for loop in _guards if loop.is_closed()]:
        del _guards[loop]


def _abandon(loop: weakref.ref[asyncio.AbstractEventLoop], guard: AsyncGenerator[None]) -> None:
    """Close what nobody closed, a little later: a loop that is just ending does it itself, and would break off a task."""
    living = loop()
    if living is not None and not living.is_closed():
        living.call_soon_threadsafe(living.call_later, ABANDONED_S, _close_abandoned, living, guard)


def _close_abandoned(loop: asyncio.AbstractEventLoop, guard: AsyncGenerator[None]) -> None:
    _closing_now.add(task := loop.create_task(_aclose(guard)))
    task.add_done_callback(_closing_now.discard)


async def _aclose(guard: AsyncGenerator[None]) -> None:
    await guard.aclose()
    _guards.get(asyncio.get_running_loop(), set()).discard(guard)


_closing_now: set[asyncio.Task[None]] = set()


def _headers(call: Call) -> dict[str, str]:
    return (
        {**call.headers, "Content-Length": str(call.body.size)} if isinstance(call.body, Upload) else {**call.headers}
    )


def _content(call: Call) -> bytes | AsyncIterator[bytes] | None:
    return _asynchronously(call.body) if isinstance(call.body, Upload) else (call.body or None)


async def _asynchronously(upload: Upload) -> AsyncIterator[bytes]:
    for piece in upload.pieces():
        yield piece


async def _receive(response: httpx2.Response, call: Call) -> Answer:
    try:
        body = b""
        if call.sink is None or response.status_code >= 300:
            body = await response.aread()
        else:
            call.sink.restart()
            async for piece in response.aiter_bytes(CHUNK):
                call.sink.write(piece)
        return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body)
    finally:
        await response.aclose()
