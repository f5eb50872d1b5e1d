"""The composition root: the only module that knows every edge. Opens the store, builds the application, serves it."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import ASGIApp

from labkeep.api import routes as native
from labkeep.api import stream
from labkeep.core.access import Actor
from labkeep.core.errors import Invalid, Unavailable
from labkeep.dialects import Dialect
from labkeep.dialects.braintrust import DIALECT as BRAINTRUST
from labkeep.dialects.wandb import DIALECT as WANDB
from labkeep.http import errors, health, openapi, wire
from labkeep.http.app import edge
from labkeep.http.auth import KeyRing, bearer
from labkeep.operations import Store
from labkeep.operations.accounts import Setup, new_secret, set_up
from labkeep.operations.purges import system
from labkeep.settings import Settings
from labkeep.storage import check
from labkeep.storage.database import utc_now
from labkeep.storage.opening import open_blobs, open_database, open_reader
from labkeep.worker.jobs import Worker
from labkeep.worker.tasks import SCHEDULE, TASKS

DIALECTS: tuple[Dialect, ...] = (BRAINTRUST, WANDB)
"""Every foreign API that is served."""


def open_store(settings: Settings) -> Store:
    """The database, the blobs and the settings that belong together. Unavailable when the folder is in use."""
    data = Path(settings.data)
    if not settings.database_url or not settings.blobs_url:
        data.mkdir(parents=True, exist_ok=True)
    database = open_database(settings.database_url, data=data, readers=settings.readers)
    database.grace_days = settings.grace_days
    database.seal_min_rows = settings.seal_min_rows
    database.seal_every_rows = settings.seal_every_rows
    blobs = open_blobs(settings.blobs_url or str(data / "blobs"), **settings.blobs_options)
    return Store(database, blobs, settings)


def close_store(store: Store) -> None:
    """Finish what was accepted and let go of the folder."""
    store.database.close()
    store.blobs.close()


def check_store(settings: Settings, *, deep: bool = False) -> check.Report:
    """Whether everything in a store fits together. Only reads, and may run beside the server."""
    data = Path(settings.data)
    engine = open_reader(settings.database_url, data=data)
    blobs = open_blobs(settings.blobs_url or str(data / "blobs"), **settings.blobs_options)
    try:
        with engine.connect() as connection:
            return check.run(connection, blobs, utc_now(), deep=deep)
    finally:
        blobs.close()
        engine.dispose()


def make_worker(store: Store) -> Worker:
    """A worker over all tasks."""
    return Worker(store, TASKS, SCHEDULE)


async def _identify(keyring: KeyRing, request: Request) -> Actor:
    return await keyring.identify(request, bearer(request), request.headers.get("labkeep-workspace", ""))


def build_app(store: Store) -> ASGIApp:
    """The application: health, the native API, and every dialect under its prefix."""
    keyring = KeyRing()
    document = openapi.Document(native.ENDPOINTS, stream.DESCRIBED, prefix=native.PREFIX)
    api = edge(
        "api",
        [*stream.ROUTES, *wire.routes(native.ENDPOINTS), *document.routes()],
        store,
        keyring,
        _identify,
        errors.encode,
        public=("/openapi.json",),
    )
    mounts = [Mount(native.PREFIX, api)]
    for dialect in DIALECTS:
        mounts.append(Mount(dialect.prefix, dialect.application(store, keyring)))
    app = Starlette(
        routes=[*health.ROUTES, *document.pages(), *mounts],
        exception_handlers=dict(errors.handlers(errors.encode)),
    )
    app.state.store = store
    return app


def prepare(store: Store) -> str | None:
    """Set an empty store up; answers the administrator's key when it was made or added just now."""
    nobody = system("00000000-0000-7000-8000-000000000000", "")
    return store.database.write(set_up, nobody, Setup(store.settings.admin_key))


def serve(settings: Settings, announce: Callable[[str, str | None], None]) -> None:
    """Serve until told to stop. ``announce`` gets the URL and, on an empty store, the key to show."""
    check_settings(settings)
    with _listen(settings) as listener:  # first of all: the key of a new store is shown once, by a server that runs
        _serve_on(listener, settings, announce)


def _serve_on(listener: socket.socket, settings: Settings, announce: Callable[[str, str | None], None]) -> None:
    store = open_store(settings)
    worker = make_worker(store)
    try:
        key = prepare(store)
        config = uvicorn.Config(
            build_app(store),
            host=settings.host,
            port=settings.port,
            loop="uvloop",  # also sets TCP_NODELAY, which asyncio's loop leaves off on inherited sockets
            http="httptools",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=10,
        )
        server = uvicorn.Server(config)
        host, port = listener.getsockname()[:2]
        announce(f"http://{f'[{host}]' if ':' in host else host}:{port}", key if not settings.admin_key else None)
        if settings.embedded_worker:
            worker.start()
        server.run(sockets=[listener])
    finally:
        worker.stop()
        close_store(store)


def _listen(settings: Settings) -> socket.socket:
    """A bound socket. Unavailable when the port is taken, or the address is none of this machine."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. Is another server running there? "
            "--port chooses another port, 0 a free one",
            host=settings.host,
            port=settings.port,
        ) from error
    listener.set_inheritable(True)
    return listener


class LocalApp:
    """A folder opened in this process: ``app`` is the ASGI application, ``key`` an owner's key for it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.key = _local_key(folder)
        self._store = open_store(Settings(data=str(folder), admin_key=self.key))
        try:
            prepare(self._store)
        except BaseException:
            close_store(self._store)
            raise
        self.app = build_app(self._store)
        self._worker = make_worker(self._store)
        self._worker.start()

    def close(self) -> None:
        """Finish what was accepted and let go of the folder."""
        self._worker.stop()
        close_store(self._store)

    def __enter__(self) -> LocalApp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_local(folder: str | os.PathLike[str]) -> LocalApp:
    """Open a folder in this process. Unavailable when another process has it open."""
    return LocalApp(Path(folder))


def _local_key(folder: Path) -> str:
    """The folder's own key: whoever can read the folder has everything in it anyway."""
    path = folder / "local.key"
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    secret = new_secret()
    partial = folder / f"local.key.{secrets.token_hex(4)}"
    partial.touch(mode=0o600)
    partial.write_text(secret, encoding="ascii")
    partial.rename(path)
    return secret


def check_settings(settings: Settings) -> None:
    """Invalid for combinations that cannot work."""
    if not settings.embedded_worker and not settings.database_url:
        raise Invalid(
            "embedded_worker=false needs PostgreSQL: nobody else can work on a SQLite folder", path="embedded_worker"
        )
