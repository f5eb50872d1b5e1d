"""HTTP for threads, over the standard library: connections are kept and shared.

A general HTTP client costs several times as much a request, which a training loop that logs durably would feel.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import ssl
import urllib.request
from collections import deque
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from labkeep.client.transport import CHUNK, Answer, Call, Lost, Upload, fetch

CONNECT_TIMEOUT_S = 5.0
IDLE_CONNECTIONS = 8


class _Gathering(HTTPConnection):
    """Sends what `request` writes in one piece: two make two packets, and wake the server twice."""

    _gathered: bytearray | None = None

    def request_at_once(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        """`request` for a body that is in memory."""
        self._gathered = bytearray()
        try:
            self.request(method, path, body=body or None, headers=headers)
        finally:
            gathered, self._gathered = self._gathered, None
        self.sock.sendall(gathered)

    def send(self, data: Any) -> None:
        """Write, or gather."""
        if self._gathered is None:
            super().send(data)
        else:
            self._gathered += data


class _SecureGathering(_Gathering, HTTPSConnection):
    pass


class HttpTransport:
    """Calls to one server. Connections are taken from and given back to a pool, so threads may share it."""

    def __init__(self, url: str, *, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._idle: deque[_Gathering] = deque()
        self._pid = os.getpid()
        self._closed = False
        self._parts = urlsplit(url)
        self._connect_timeout_s = connect_timeout_s
        self._tls: ssl.SSLContext | None = None
        self._proxy = _proxy(self._parts)
        self._prefix = self._parts.path
        self._proxy_headers: dict[str, str] = {}
        if self._proxy is not None and self._parts.scheme == "http":
            self._prefix = url
            self._proxy_headers = _credentials(self._proxy)

    def send(self, call: Call) -> Answer:
        """The answer, over a kept connection where there is one."""
        if self._closed:
            raise Lost("the client is closed", sent=False)
        connection = self._kept()
        if connection is not None:
            try:
                return self._exchange(connection, call)
            except (BadStatusLine, ConnectionError) as error:
                # The server may close a kept connection at any moment: that alone says nothing about the server.
                if not call.repeatable:
                    raise Lost(_reason(error), sent=True) from error
            except (OSError, HTTPException) as error:
                raise Lost(_reason(error), sent=True) from error
        return self._first_exchange(call)

    def _first_exchange(self, call: Call) -> Answer:
        connection = self._connect()
        try:
            return self._exchange(connection, call)
        except (OSError, HTTPException) as error:
            raise Lost(_reason(error), sent=True) from error

    def close(self) -> None:
        """Close what is idle."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        if self._pid == os.getpid():
            self.close()

    # --- connections

    def _kept(self) -> _Gathering | None:
        if self._pid != os.getpid():  # forked: the parent's connections are not ours to talk on
            self._idle, self._pid = deque(), os.getpid()
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if connection.sock is not None and not _is_readable(connection.sock):
                return connection
            connection.close()  # readable while nothing was asked: the server has closed it
        return None

    def _connect(self) -> _Gathering:
        connection = self._new_connection()
        try:
            connection.connect()
        except (OSError, HTTPException) as error:
            connection.close()
            raise Lost(_reason(error), sent=False) from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _new_connection(self) -> _Gathering:
        secure, near = self._parts.scheme == "https", self._proxy or self._parts
        host, port, timeout = near.hostname or "", near.port, self._connect_timeout_s
        connection: _Gathering
        if secure:
            self._tls = self._tls or ssl.create_default_context()
            connection = _SecureGathering(host, port, timeout=timeout, context=self._tls)
        else:
            connection = _Gathering(host, port, timeout=timeout)
        if secure and self._proxy is not None:
            connection.set_tunnel(self._parts.hostname or "", self._parts.port, _credentials(self._proxy))
        return connection

    def _exchange(self, connection: _Gathering, call: Call) -> Answer:
        whole = False
        try:
            connection.sock.settimeout(call.timeout_s)
            response = self._ask(connection, call)
            answer = _read(response, call)
            whole = not response.will_close and response.isclosed() and not self._closed
            return answer
        finally:
            if whole and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
            else:
                connection.close()

    def _ask(self, connection: _Gathering, call: Call) -> HTTPResponse:
        headers, path = {**call.headers, **self._proxy_headers}, self._prefix + call.path
        try:
            if isinstance(call.body, Upload):
                headers["Content-Length"] = str(call.body.size)
                connection.request(call.method, path, body=call.body.pieces(), headers=headers)
            else:
                connection.request_at_once(call.method, path, call.body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # The server may have answered before it had the whole body, and what it says is better than "broken pipe".
            response = connection.getresponse()
            response.will_close = True
            return response
        return connection.getresponse()


def _read(response: HTTPResponse, call: Call) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    body = fetch(call, response.status, _pieces(response) if call.sink else iter((response.read(),)))
    return Answer(response.status, headers, body)


def _pieces(response: HTTPResponse) -> Iterator[bytes]:
    while piece := response.read(CHUNK):
        yield piece
    if response.length:
        raise ConnectionResetError(f"the answer broke off {response.length} bytes before its end")


def _is_readable(sock: socket.socket) -> bool:
    if not hasattr(select, "poll"):  # pragma: no cover  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return str(error) or type(error).__name__


def _proxy(parts: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for this server."""
    found = urllib.request.getproxies().get(parts.scheme)
    if not found or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urlsplit(found if "://" in found else f"http://{found}")


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
