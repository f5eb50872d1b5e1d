"""The real application over a folder, on a real port of the loopback, in this process."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from labkeep import Labkeep


class Live(NamedTuple):
    """A server that answers; ``key`` belongs to the owner of the workspace ``default``."""

    url: str
    key: str

    def client(self, **options: Any) -> Labkeep:
        return Labkeep(self.key, self.url, **options)

    def key_of(self, role: str, user: str = "bob") -> str:
        """A key of a user who has ``role``."""
        with self.client() as client:
            return client.keys.create(user, role=role, workspace="default").secret


@contextmanager
def serving(folder: Path) -> Iterator[Live]:
    """Serve the folder until the end of the block."""
    opened = importlib.import_module("labkeep.server").open_local(folder)
    config = uvicorn.Config(
        opened.app,
        host="127.0.0.1",
        port=0,
        http=importlib.import_module("labkeep.http.protocol").Http,
        log_level="critical",
        lifespan="off",
    )
    socket = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < until, "the server does not start"
        time.sleep(0.01)
    try:
        yield Live(f"http://127.0.0.1:{socket.getsockname()[1]}", opened.key)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(15)
        socket.close()
        opened.close()
