"""A server of bytes: each connection gets its script, so that what no honest server does can be tested."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Script = Callable[[socket.socket], None]


class RawServer:
    """Runs one script for each connection, in order, and closes the connection after it."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = self.closed = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                script(connection)
            self.closed += 1

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listening.close()
        self._thread.join(5)

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answers(*texts: bytes) -> Script:
    """Read a request (its headers) and answer, once for each text."""

    def script(connection: socket.socket) -> None:
        for text in texts:
            HEARD.append(read_head(connection))
            connection.sendall(text)

    return script


HEARD: list[bytes] = []
"""What scripts have read."""


def read_head(connection: socket.socket) -> bytes:
    """A request up to the end of its headers, and what came with them."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    return data


def silence(connection: socket.socket) -> None:
    """Never answer."""
    read_head(connection)
    time.sleep(2)
