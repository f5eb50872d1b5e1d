"""Every transport carries a call and its answer the same way."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labkeep.client.downloads import Memory
from labkeep.client.http import HttpTransport
from labkeep.client.http_async import AsyncHttpTransport
from labkeep.client.local import AsyncLocalTransport, Folder, LocalTransport
from labkeep.client.transport import Answer, Call, Lost, file_upload
from tests.unit.client.fake_server import FakeServer, Fault
from tests.unit.client.raw_server import HEARD, OK, RawServer, answers, read_head, silence


class Carrier(NamedTuple):
    """One transport, as plain functions."""

    send: Callable[[Call], Answer]
    close: Callable[[], None]


class Opened(NamedTuple):
    """What the composition root would hand in."""

    app: Any
    key: str
    close: Callable[[], None]


def _threads(transport: Any) -> Carrier:
    return Carrier(transport.send, transport.close)


def _tasks(make: Callable[[], Any], runner: asyncio.Runner) -> Carrier:
    transport = make()
    return Carrier(lambda call: runner.run(transport.send(call)), lambda: runner.run(transport.close()))


@pytest.fixture(params=["http", "http_async", "local", "local_async"])
def carrier(request: pytest.FixtureRequest, server: FakeServer, tmp_path: Path) -> Iterator[Carrier]:
    if request.param.startswith("local"):
        folder = Folder(tmp_path, Opened(server.app, server.key, lambda: None))
        folder.users = 1
    with asyncio.Runner() as runner:
        made = {
            "http": lambda: _threads(HttpTransport(server.url)),
            "http_async": lambda: _tasks(lambda: AsyncHttpTransport(server.url), runner),
            "local": lambda: _threads(LocalTransport(folder)),
            "local_async": lambda: _tasks(lambda: AsyncLocalTransport(folder), runner),
        }[request.param]()
        yield made
        made.close()
        if request.param.startswith("local"):
            folder.close()


def call(method: str = "GET", path: str = "/api/v1/echo", **fields: Any) -> Call:
    headers = {"Authorization": "Bearer lk-test", **fields.pop("headers", {})}
    return Call(method=method, path=path, headers=headers, **fields)


def test_a_call_arrives_as_it_is(carrier: Carrier, server: FakeServer) -> None:
    answer = carrier.send(
        call("POST", "/api/v1/echo/a%20b?x=1&x=%C3%BC", body=b"content", headers={"Idempotency-Key": "k"})
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.query, seen.body) == (
        "POST",
        "/api/v1/echo/a b",
        {"x": ["1", "ü"]},
        b"content",
    )
    assert seen.headers["idempotency-key"] == "k"
    assert seen.headers["content-length"] == "7"


def test_a_file_is_streamed_up(carrier: Carrier, server: FakeServer, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "f").write_bytes(content)
    assert carrier.send(call("PUT", body=file_upload(tmp_path / "f"))).status == 200
    assert server.seen[0].body == content
    assert server.seen[0].headers["content-length"] == "3000001"


def test_a_body_is_streamed_down_into_a_sink(carrier: Carrier) -> None:
    sink = Memory()
    sink.write(b"from an attempt before")
    answer = carrier.send(call("GET", "/api/v1/bytes/3000001", sink=sink))
    assert answer.body == b""
    assert sink.content() == b"x" * 3_000_001


def test_an_error_goes_into_the_answer_and_not_into_the_sink(carrier: Carrier) -> None:
    sink = Memory()
    answer = carrier.send(call("GET", "/api/v1/nowhere", sink=sink))
    assert answer.status == 404
    assert b"no such path" in answer.body
    assert sink.content() == b""


def test_a_head_has_no_body(carrier: Carrier) -> None:
    answer = carrier.send(call("HEAD", "/api/v1/blobs/sha256:00"))
    assert (answer.status, answer.body) == (404, b"")


def test_a_fault_of_the_server_is_an_answer(carrier: Carrier, server: FakeServer) -> None:
    server.faults.append(Fault(503, {"retry-after": "7"}))
    answer = carrier.send(call())
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")


def test_a_closed_transport_says_so(carrier: Carrier) -> None:
    carrier.close()
    with pytest.raises(Lost, match="closed") as lost:
        carrier.send(call())
    assert not lost.value.sent


def test_threads_share_a_transport(server: FakeServer) -> None:
    transport = HttpTransport(server.url)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: transport.send(call("POST", f"/api/v1/echo?n={n}", body=b"x" * n)), range(200))
        )
    assert [answer.status for answer in answers] == [200] * 200
    transport.close()


def test_an_async_transport_outlives_its_event_loop(server: FakeServer) -> None:
    transport = AsyncHttpTransport(server.url)
    for _ in range(3):
        assert asyncio.run(transport.send(call())).status == 200


# --- HTTP for threads


def test_connections_are_kept() -> None:
    raw = RawServer(answers(OK, OK, OK))
    transport = HttpTransport(raw.url)
    for _ in range(3):
        assert transport.send(call()).body == b"ok"
    assert raw.connections == 1
    transport.close()
    raw.close()


def test_a_kept_connection_that_the_server_has_closed_is_replaced() -> None:
    with RawServer(lambda c: one(c, OK), lambda c: one(c, OK)) as raw:
        transport = HttpTransport(raw.url)
        assert transport.send(call()).body == b"ok"
        wait_for(lambda: raw.closed == 1)
        assert transport.send(call("POST", repeatable=False)).body == b"ok"
        transport.close()
        assert raw.connections == 2


def one(connection: socket.socket, answer: bytes) -> None:
    read_head(connection)
    connection.sendall(answer)


def close_when_asked_again(connection: socket.socket) -> None:
    one(connection, OK)
    read_head(connection)


def test_a_request_that_met_a_closing_connection_is_sent_again_if_that_is_safe() -> None:
    with RawServer(close_when_asked_again, lambda c: one(c, OK)) as raw:
        transport = HttpTransport(raw.url)
        transport.send(call())
        assert transport.send(call()).body == b"ok"
        transport.close()


def test_a_request_that_must_not_be_repeated_is_not() -> None:
    with RawServer(close_when_asked_again, lambda c: one(c, OK)) as raw:
        transport = HttpTransport(raw.url)
        transport.send(call())
        with pytest.raises(Lost) as lost:
            transport.send(call("POST", repeatable=False))
        assert lost.value.sent
        transport.close()
        assert raw.connections == 1


def test_a_server_that_is_not_there_was_not_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Lost, match="refused") as lost:
        HttpTransport(f"http://127.0.0.1:{port}").send(call())
    assert not lost.value.sent


def test_a_server_that_never_answers_takes_too_long() -> None:
    with RawServer(silence) as raw, pytest.raises(Lost, match="took too long") as lost:
        HttpTransport(raw.url).send(call(timeout_s=0.1))
    assert lost.value.sent


def test_an_answer_that_breaks_off_is_lost() -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"
    with RawServer(lambda c: one(c, short), lambda c: one(c, short)) as raw:
        transport = HttpTransport(raw.url)
        with pytest.raises(Lost):
            transport.send(call())
        with pytest.raises(Lost, match="broke off 91 bytes"):
            transport.send(call(sink=Memory()))


def test_what_is_no_http_is_lost() -> None:
    with RawServer(lambda c: one(c, b"SSH-2.0-OpenSSH\r\n")) as raw, pytest.raises(Lost):
        HttpTransport(raw.url).send(call())


def test_an_answer_in_the_middle_of_an_upload_is_heard(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 30_000_000)

    def refuse(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlong")
        connection.shutdown(socket.SHUT_WR)
        threading.Event().wait(0.3)  # the rest of the upload meets a closed door

    with RawServer(refuse) as raw:
        answer = HttpTransport(raw.url).send(call("PUT", body=file_upload(tmp_path / "large")))
    assert (answer.status, answer.body) == (413, b"long")


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = RawServer(answers(OK))
    monkeypatch.setenv("http_proxy", f"http://user:p%40ss@127.0.0.1:{raw.port}")
    monkeypatch.setenv("no_proxy", "")
    transport = HttpTransport("http://lab.example:8080/base")
    assert transport.send(call()).body == b"ok"
    head = HEARD[-1]
    assert head.startswith(b"GET http://lab.example:8080/base/api/v1/echo HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in head
    transport.close()
    raw.close()


def test_no_proxy_is_respected(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    transport = HttpTransport(server.url)
    assert transport.send(call()).status == 200
    transport.close()


def test_an_application_that_raises_is_lost(tmp_path: Path) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    for app, words in ((broken, "RuntimeError: broken"), (silent, "did not answer")):
        folder = Folder(tmp_path, Opened(app, "lk-test", lambda: None))
        with pytest.raises(Lost, match=words):
            LocalTransport(folder).send(call())
        folder.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = threading.Event()
    for _ in range(200):
        if condition():
            return
        until.wait(0.01)
    raise AssertionError("it did not happen")
