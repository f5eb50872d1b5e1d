"""A folder in this process: the server's own application, driven without a socket.

The application comes from the composition root, ``labkeep.server.open_local``, which is looked up by name at call time:
the client does not depend on the server. Each folder has one application and one thread with an event loop, shared by
all clients in this process that opened it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

from labkeep.client.exits import at_exit
from labkeep.client.transport import Answer, Call, Lost, Upload
from labkeep.core.errors import Unavailable

T = TypeVar("T")

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class LocalApp(Protocol):
    """What the composition root hands in."""

    app: App
    key: str

    def close(self) -> None:
        """Finish what was accepted and give the folder back."""


class Folder:
    """An open folder: its application, and the thread that runs it. ``url`` and ``key`` are what a client needs."""

    def __init__(self, path: Path, opened: LocalApp) -> None:
        self.path = path
        self.url = path.as_uri()
        self.key = opened.key
        self.users = 0
        self._opened = opened
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="labkeep-local", daemon=True)
        self._thread.start()

    def send(self, call: Call) -> Future[Answer]:
        """Have the application answer, on its own loop."""
        if self._pid != os.getpid():
            raise Lost(f"{self.path} was opened by the parent of this process; open it here", sent=False)
        return self._submit(exchange(self._opened.app, call))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Stop the thread and give the folder back."""
        if self._pid != os.getpid() or self._loop.is_closed():
            return
        self._submit(self._loop.shutdown_default_executor()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._opened.close()


_folders: dict[Path, Folder] = {}
_lock = threading.Lock()


def open_folder(dir: str | os.PathLike[str]) -> Folder:
    """The application of a folder, shared within this process. Close it with `release`.

    Raises Unavailable when the server's packages are missing, or when another process has the folder open.
    """
    path = Path(dir).expanduser().resolve()
    with _lock:
        folder = _folders.get(path)
        if folder is None:
            folder = _folders[path] = Folder(path, _open_local(path))
        folder.users += 1
        at_exit(last=_close_all)
        return folder


def release(folder: Folder) -> None:
    """Say that one user of the folder is done; the last one closes it."""
    with _lock:
        folder.users -= 1
        if folder.users == 0 and _folders.get(folder.path) is folder:
            del _folders[folder.path]
            folder.close()


def _close_all() -> None:
    """At the end of the process: whoever did not close a folder."""
    while _folders:
        _folders.popitem()[1].close()


def _open_local(path: Path) -> LocalApp:
    try:
        server = importlib.import_module("labkeep.server")
    except ImportError as error:
        raise Unavailable(
            f"a local folder needs the server's packages ({error}): pip install 'labkeep[server]'", missing=error.name
        ) from error
    opened: LocalApp = server.open_local(path)
    return opened


class LocalTransport:
    """Calls to an open folder, for threads."""

    def __init__(self, folder: Folder) -> None:
        self._folder: Folder | None = folder

    def send(self, call: Call) -> Answer:
        """The application's answer."""
        return _open(self._folder).send(call).result()

    def close(self) -> None:
        """Give the folder back."""
        folder, self._folder = self._folder, None
        if folder is not None:
            release(folder)


class AsyncLocalTransport:
    """Calls to an open folder, for any event loop."""

    def __init__(self, folder: Folder) -> None:
        self._folder: Folder | None = folder

    async def send(self, call: Call) -> Answer:
        """The application's answer."""
        return await asyncio.wrap_future(_open(self._folder).send(call))

    async def close(self) -> None:
        """Give the folder back."""
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.to_thread(release, folder)


def _open(folder: Folder | None) -> Folder:
    if folder is None:
        raise Lost("the client is closed", sent=False)
    return folder


# --- one request through an ASGI application


async def exchange(app: App, call: Call) -> Answer:
    """What ``app`` answers to ``call``."""
    conversation = _Conversation(call)
    try:
        await app(_scope(call), conversation.receive, conversation.send)
    except Exception as error:  # whatever the application did not catch is a bug of it, not of its caller
        raise Lost(f"the application failed with {type(error).__name__}: {error}", sent=True) from error
    return conversation.answer()


def _scope(call: Call) -> Message:
    path, _, query = call.path.partition("?")
    length = call.body.size if isinstance(call.body, Upload) else len(call.body)
    headers = {**call.headers, "Host": "local", "Content-Length": str(length)}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 0),
        "server": ("local", 80),
        "state": {},
    }


class _Conversation:
    """The two ends of one ASGI request."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._pieces = call.body.pieces() if isinstance(call.body, Upload) else iter((call.body,))
        self._asked = False
        self._answered = asyncio.Event()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    async def receive(self) -> Message:
        if self._asked:
            await self._answered.wait()
            return {"type": "http.disconnect"}
        piece = next(self._pieces, None)
        self._asked = piece is None
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]
            }
            if self._sinking:
                self._call.sink.restart()  # type: ignore[union-attr]  # as _sinking says
        elif message["type"] == "http.response.body":
            self._take(message.get("body", b""))
            if not message.get("more_body", False):
                self._answered.set()

    @property
    def _sinking(self) -> bool:
        return self._call.sink is not None and self._status < 300

    def _take(self, piece: bytes) -> None:
        if self._sinking:
            self._call.sink.write(piece)  # type: ignore[union-attr]  # as _sinking says
        elif self._call.method != "HEAD":
            self._body.append(bytes(piece))

    def answer(self) -> Answer:
        if not self._answered.is_set():
            raise Lost("the application did not answer", sent=True)
        return Answer(self._status, self._headers, b"".join(self._body))
