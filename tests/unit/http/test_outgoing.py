"""Requests that the server makes: never into the network that it stands in, unless that is allowed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labkeep.http.outgoing import Outgoing

PRIVATE = [
    "http://127.0.0.1/",
    "http://localhost/",
    "http://2130706433/",
    "http://0/",
    "http://10.1.2.3/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://192.168.1.1:8080/",
    "http://224.0.0.1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[fe80::1]/",
    "http://[fd00::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
]


class Receiver(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status = int(self.path.strip("/"))
        self.send_response(status)
        self.send_header("location", "/200")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def receiver() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("url", PRIVATE)
def test_what_is_not_public_is_not_reached(url: str) -> None:
    client = Outgoing(timeout_s=1)
    answer = client.post(url, {}, b"{}")
    client.close()
    assert answer.status == 0
    assert "not a public address" in answer.error


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "localhost"])
def test_what_is_allowed_is_reached(receiver: str, allowed: str) -> None:
    client = Outgoing([allowed])
    url = receiver.replace("127.0.0.1", "localhost") if allowed == "localhost" else receiver
    assert client.post(f"{url}/204", {"x": "y"}, b"{}").status == 204
    client.close()


def test_allowing_one_host_allows_no_other() -> None:
    client = Outgoing(["inside.example", "10.0.0.0/8"], timeout_s=1)
    assert "not a public address" in client.post("http://127.0.0.1/", {}, b"{}").error
    client.close()


def test_a_redirect_is_an_answer_and_not_followed(receiver: str) -> None:
    client = Outgoing(["127.0.0.1"])
    assert client.post(f"{receiver}/302", {}, b"{}").status == 302
    client.close()


def test_who_does_not_answer_is_an_answer_too() -> None:
    client = Outgoing(["127.0.0.1"], timeout_s=0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        answer = client.post(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, b"{}")
        port = silent.getsockname()[1]
    assert (answer.status, answer.error.partition(":")[0]) == (0, "ReadTimeout")
    assert client.post(f"http://127.0.0.1:{port}/", {}, b"{}").status == 0
    assert "cannot be resolved" in client.post("http://nobody.invalid/", {}, b"{}").error
    assert "protocol" in client.post("ftp://127.0.0.1/", {}, b"{}").error
    client.close()
