"""The guard that keeps every test on this machine. 192.0.2.1 is reserved for documentation: nobody answers there."""

from __future__ import annotations

import asyncio
import socket

import pytest


def test_a_test_cannot_reach_another_machine() -> None:
    with pytest.raises(pytest.fail.Exception, match="only the loopback"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_an_asyncio_test_cannot_reach_another_machine_either() -> None:
    with pytest.raises(pytest.fail.Exception, match="only the loopback"):
        asyncio.run(asyncio.open_connection("192.0.2.1", 80))


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_test_may_talk_to_itself(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2], timeout=5) as client:
            assert client.getpeername()[0] == host
