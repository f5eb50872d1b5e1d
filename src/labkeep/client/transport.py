"""How one request gets to a server and its answer back. No retries, no meaning: see `labkeep.client.retries`.

A transport is anything with ``send`` and ``close``. There are four: HTTP and in process, each for threads and for asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

CHUNK = 1 << 20
"""Bytes that are read or written at a time when a body is streamed."""


class Upload(msgspec.Struct, frozen=True):
    """A request body that is read while it is sent. ``pieces`` starts from the beginning each time it is called."""

    size: int
    pieces: Callable[[], Iterator[bytes]]


class Sink(Protocol):
    """Where the body of an answer goes piece by piece."""

    def restart(self) -> None:
        """Forget what came before: the body begins, perhaps again."""

    def write(self, piece: bytes) -> object:
        """Take the next piece."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``path`` starts below the server's address and includes the query.

    ``sink`` takes the body of a successful answer piece by piece; without it the body is in the answer.
    ``repeatable`` says that sending it twice does the same as once.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | Upload = b""
    sink: Sink | None = None
    timeout_s: float = 60.0
    repeatable: bool = True


class Answer(msgspec.Struct, frozen=True):
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Lost(Exception):
    """The request or its answer did not get through. ``sent`` says that the server may have seen the request."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class Transport(Protocol):
    """What carries calls, from any thread."""

    def send(self, call: Call) -> Answer:
        """The answer, whatever its status. Raises Lost when there is none."""

    def close(self) -> None:
        """Give back connections and threads. Later calls raise Lost."""


class AsyncTransport(Protocol):
    """What carries calls, on any event loop."""

    async def send(self, call: Call) -> Answer:
        """The answer, whatever its status. Raises Lost when there is none."""

    async def close(self) -> None:
        """Give back connections. Later calls raise Lost."""


def file_upload(path: Path) -> Upload:
    """A file as a body."""
    return Upload(path.stat().st_size, lambda: file_pieces(path))


def file_pieces(path: Path) -> Iterator[bytes]:
    """The content of a file, a chunk at a time."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def fetch(call: Call, status: int, pieces: Iterator[bytes]) -> bytes:
    """The body in one piece, or nothing when the call's sink took it."""
    if call.sink is None or status >= 300:
        return b"".join(pieces)
    call.sink.restart()
    for piece in pieces:
        call.sink.write(piece)
    return b""
