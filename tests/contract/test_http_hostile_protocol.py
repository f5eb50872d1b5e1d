"""Bytes on a socket that are no proper request, against a real server: it refuses them and serves everybody else."""

from __future__ import annotations

import gzip
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conformance.server import LiveServer, live_server

MIB = 2**20
LIMITS = {
    "LABKEEP_MAX_BODY_BYTES": str(MIB),
    "LABKEEP_MAX_INFLATED_BYTES": str(2 * MIB),
    "LABKEEP_MAX_UPLOAD_BYTES": str(MIB),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("protocol"), LIMITS) as started:
        yield started


class Wire:
    """One connection, byte by byte."""

    def __init__(self, server: LiveServer) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self.key = f"Authorization: Bearer {server.admin_key}\r\n".encode()

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # the server has answered and hung up before it had everything

    def end(self) -> None:
        """Say that no more will come."""
        self._socket.shutdown(socket.SHUT_WR)

    def read(self) -> bytes:
        """Everything until the server hangs up."""
        pieces: list[bytes] = []
        try:
            while piece := self._socket.recv(65_536):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def wire(server: LiveServer) -> Iterator[Wire]:
    opened = Wire(server)
    try:
        yield opened
    finally:
        opened.close()


def exchange(server: LiveServer, head: str, body: bytes = b"", *, end: bool = False) -> tuple[int, Any]:
    """Send a request (with our key, closing afterwards); status and JSON of the answer, 0 when there was none."""
    with wire(server) as line:
        line.send(head.encode("latin-1") + b"\r\nHost: x\r\nConnection: close\r\n" + line.key + b"\r\n" + body)
        if end:
            line.end()
        answer = line.read()
    if not answer:
        return 0, None
    start, _, content = answer.partition(b"\r\n\r\n")
    return int(start.split(b" ")[1]), json.loads(content)


def runs(server: LiveServer) -> int:
    return len(json.loads(server.get("/api/v1/runs"))["items"])


def assert_refused(answer: tuple[int, Any], *statuses: int) -> None:
    status, body = answer
    assert status in statuses
    assert set(body) == {"code", "message", "details", "retry", "incident"}
    assert body["message"]


POST = "POST /api/v1/runs HTTP/1.1\r\nContent-Type: application/json"
RUN = b'{"project": "p", "name": "never"}'


@pytest.mark.parametrize(
    "head",
    [
        f"{POST}\r\nContent-Length: -1",
        f"{POST}\r\nContent-Length: 1e3",
        f"{POST}\r\nContent-Length: \xb2",
        f"{POST}\r\nContent-Length: 99999999999999999999999",
        f"{POST}\r\nContent-Length: 33\r\nContent-Length: 34",
        f"{POST}\r\nContent-Length: 33\r\nTransfer-Encoding: chunked",
        f"{POST}\r\nTransfer-Encoding: chunked",  # what follows is not in chunks
        f"{POST}\r\nTransfer-Encoding: gzip, chunked\r\nX-Null: a\x00b",
        "POST /api/v1/runs\xff HTTP/1.1",
        "POST /api/v1/runs?q=\xff HTTP/1.1",
        "POST /api/v1/runs HTTP/9.9",
        "POST  HTTP/1.1",
        "FETCH /api/v1/runs HTTP/1.1",
        "GET /api/v1/runs?q=" + "a" * 100_000 + " HTTP/1.1",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /api/v1/me HTTP/1.1\r\nno colon here",
        "GET /api/v1/me HTTP/1.1\r\n: no name",
    ],
    ids=lambda head: ascii(head[:60]),
)
def test_what_is_no_request_is_refused_in_our_envelope(server: LiveServer, head: str) -> None:
    before = runs(server)
    assert_refused(exchange(server, head, RUN), 400)
    assert runs(server) == before


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/../../etc/passwd", 404),
        ("/api/v1/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/api/v1/runs/%00", 422),
        ("/api/v1/runs/%ff%fe", 404),
        ("/api/v1/runs/%zz", 404),
        ("/api/v1//runs", 404),
        ("/api/v1/runs/" + "a" * 60_000, 422),
        ("/" + "a/" * 30_000, 404),
        ("/api/v1/runs/a%0d%0aX-Injected:%20yes", 404),
    ],
    ids=lambda value: ascii(str(value)[:40]),
)
def test_a_path_that_leads_nowhere_is_not_found(server: LiveServer, path: str, status: int) -> None:
    with wire(server) as line:
        line.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode() + line.key + b"\r\n")
        answer = line.read()
    assert int(answer.split(b" ", 2)[1]) == status
    assert b"\r\nX-Injected" not in answer
    assert b"root:" not in answer


@pytest.mark.parametrize("header", ["X: " + "a" * 400_000, "\r\n".join(f"X-{n}: a" for n in range(60_000))])
def test_headers_without_end_are_refused(server: LiveServer, header: str) -> None:
    assert_refused(exchange(server, f"GET /api/v1/me HTTP/1.1\r\n{header}"), 431)


def test_a_header_that_never_ends_does_not_fill_the_memory(server: LiveServer) -> None:
    with wire(server) as line:
        line.send(b"GET /api/v1/me HTTP/1.1\r\nX: " + b"a" * (8 * MIB))
        assert line.read().startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (f"{POST}\r\nContent-Length: 100", RUN),
        (f"{POST}\r\nTransfer-Encoding: chunked", b"21\r\n" + RUN),
        (f"{POST}\r\nTransfer-Encoding: chunked", b"21\r\n" + RUN + b"\r\n"),
        (f"{POST}\r\nContent-Encoding: gzip\r\nContent-Length: 100", gzip.compress(RUN, mtime=0)),
        ("PUT /api/v1/blobs HTTP/1.1\r\nContent-Length: 100", b"half"),
    ],
    ids=["length", "chunk", "last chunk", "gzip", "upload"],
)
def test_a_body_that_breaks_off_is_as_if_it_had_never_come(server: LiveServer, head: str, body: bytes) -> None:
    before = runs(server)
    exchange(server, head, body, end=True)
    assert runs(server) == before
    until = time.monotonic() + 20
    while list((server.data / "blobs" / "_tmp").iterdir()):  # the server may need a moment to see that we are gone
        assert time.monotonic() < until, "half an upload stays"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("head", "body", "limit"),
    [
        (f"{POST}\r\nContent-Length: {2 * MIB}", b" " * (2 * MIB), MIB),
        (f"{POST}\r\nTransfer-Encoding: chunked", (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 40 + b"0\r\n\r\n", MIB),
        (f"{POST}\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked", b"", 2 * MIB),
        (f"PUT /api/v1/blobs HTTP/1.1\r\nContent-Length: {2 * MIB}", b"x" * (2 * MIB), MIB),
        (
            "PUT /api/v1/blobs HTTP/1.1\r\nTransfer-Encoding: chunked",
            (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 40,
            MIB,
        ),
    ],
    ids=["length", "chunks", "bomb", "upload", "upload in chunks"],
)
def test_what_is_larger_than_a_setting_allows_is_refused_with_the_limit(
    server: LiveServer, head: str, body: bytes, limit: int
) -> None:
    if "gzip" in head:
        packed = gzip.compress(b" " * (3 * MIB))
        body = f"{len(packed):x}\r\n".encode() + packed + b"\r\n0\r\n\r\n"
    status, said = exchange(server, head, body)
    assert (status, said["code"], said["details"]) == (413, "too_large", {"limit": limit})


def test_a_request_behind_another_one_on_the_same_line_is_answered_too(server: LiveServer) -> None:
    with wire(server) as line:
        one = b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\n" + line.key
        line.send((one + b"\r\n") * 3 + one + b"Connection: close\r\n\r\n")
        assert line.read().count(b"HTTP/1.1 200 OK") == 4


def test_clients_that_never_finish_keep_nobody_else_waiting(server: LiveServer) -> None:
    lines = [Wire(server) for _ in range(50)]
    try:
        for number, line in enumerate(lines):
            line.send(b"POST /api/v1/runs HTTP/1.1\r\nHost: x\r\n" + line.key)
            if number % 2:
                line.send(b"Content-Length: 1000\r\n\r\n{")
        assert json.loads(server.get("/api/v1/me"))["user"] == "admin"
    finally:
        for line in lines:
            line.close()
    assert json.loads(server.get("/api/v1/me"))["user"] == "admin"


def test_an_upgrade_to_another_protocol_is_not_made(server: LiveServer) -> None:
    head = "GET /api/v1/me HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA=="
    with wire(server) as line:
        line.send(f"{head}\r\nHost: x\r\nConnection: Upgrade, close\r\n".encode() + line.key + b"\r\n")
        assert line.read().startswith((b"HTTP/1.1 200", b"HTTP/1.1 4"))


def test_the_server_says_nothing_of_what_it_is_made_of(server: LiveServer) -> None:
    request = urllib.request.Request(server.url + "/api/v1/nowhere")
    with pytest.raises(urllib.error.HTTPError) as found:
        urllib.request.urlopen(request, timeout=30)
    with found.value as answer:
        assert "server" not in {name.lower() for name in answer.headers}


def test_after_all_that_no_line_of_the_log_is_a_traceback(server: LiveServer) -> None:
    assert "Traceback" not in server.log.read_text()
