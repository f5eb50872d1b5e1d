"""HTTP/1.1 as uvicorn speaks it, with a limit on what comes before a body, and with its refusals in our envelope."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from labkeep.core.errors import Refused
from labkeep.http.errors import encode

MAX_HEAD_BYTES = 256 * 1024
"""Request line and headers of one request."""


class Http(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head, self._received, self._parsed = True, 0, 0

    def data_received(self, data: bytes) -> None:
        """The parser keeps an unfinished header in memory, however long it gets: so what was received is counted."""
        self._received += len(data)
        super().data_received(data)
        if self._in_head and self._received > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, _TOO_LONG)

    def on_message_begin(self) -> None:
        self._in_head, self._received, self._parsed = True, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parsed += len(name) + len(value) + 4
        if self._parsed > MAX_HEAD_BYTES:
            raise ValueError(_TOO_LONG)  # ends the parser, which ends in `send_400_response`
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if self._parsed > MAX_HEAD_BYTES:
            self._refuse(431, _TOO_LONG)
        else:
            self._refuse(400, "this is not a valid HTTP request")

    def _refuse(self, status: int, message: str) -> None:
        body = bytes(encode(Refused(message)).body)
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


_TOO_LONG = f"the request line and headers have more than {MAX_HEAD_BYTES} bytes"
