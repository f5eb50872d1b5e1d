"""The composition root: the only module that knows every edge. Opens the store, builds the application, serves it."""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from labkeep.api import routes as native
from labkeep.api import stream
from labkeep.core.access import Actor
from labkeep.core.errors import Invalid
from labkeep.core.ids import IdSource
from labkeep.dialects import Dialect
from labkeep.http import errors, health, listeners, openapi, wire
from labkeep.http.app import edge
from labkeep.http.auth import KeyRing, bearer
from labkeep.http.doors import Doors
from labkeep.http.protocol import Http
from labkeep.operations import Store, encryption
from labkeep.operations.accounts import Setup, new_secret, set_up
from labkeep.operations.jobs import release_all
from labkeep.operations.receipts import ensure_key
from labkeep.settings import Settings, load
from labkeep.storage import check, data_keys, master_key
from labkeep.storage.blobs_encrypted import EncryptedBlobs
from labkeep.storage.database import utc_now
from labkeep.storage.opening import open_blobs, open_database, open_reader
from labkeep.storage.transaction import Tx
from labkeep.worker.jobs import NOBODY, Worker
from labkeep.worker.tasks import SCHEDULE, TASKS, drop_strays, tidy

DIALECTS = ("braintrust", "wandb")
"""Every foreign API that is served: the name of its package, and its prefix."""


def load_dialect(name: str) -> Dialect:
    """The dialect of that name. Its package is imported here: a server pays only for those that are used."""
    dialect: Dialect = importlib.import_module(f"labkeep.dialects.{name}").DIALECT
    return dialect


class _OnDemand:
    """A dialect as an application that is made with its first request."""

    def __init__(self, name: str, store: Store, keyring: KeyRing) -> None:
        self._make = lambda: load_dialect(name).application(store, keyring)
        self._made: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        await self._made(scope, receive, send)


def open_store(settings: Settings) -> Store:
    """The database, the blobs and the settings that belong together. Unavailable when the folder is in use."""
    data = Path(settings.data)
    master = master_key.load(settings.master_key, settings.master_key_file)
    if not settings.database_url or not settings.blobs_url:
        data.mkdir(parents=True, exist_ok=True)
    database = open_database(settings.database_url, data=data, readers=settings.readers)
    database.grace_days = settings.grace_days
    database.seal_min_rows = settings.seal_min_rows
    database.apply_at_once = settings.apply_at_once
    database.agent_daily_trash, database.agent_burst = settings.agent_daily_trash, settings.agent_burst
    database.seal_every_rows = settings.seal_every_rows
    database.master, database.site = master, settings.public_url
    try:
        database.vault.admit(master, master_key.load("", settings.old_master_key_file))
        below = open_blobs(settings.blobs_url or str(data / "blobs"), **settings.blobs_options)
    except BaseException:
        database.close()
        raise
    return Store(database, EncryptedBlobs(below, partial(encryption.cipher_of_blob, database)), settings)


def close_store(store: Store) -> None:
    """Finish what was accepted and let go of the folder."""
    store.database.close()
    store.blobs.close()


def check_store(settings: Settings, *, deep: bool = False, only: Collection[str] = ()) -> check.Report:
    """Whether everything in a store fits together, or some checks of it. Only reads, and may run beside the server."""
    data = Path(settings.data)
    master = master_key.load(settings.master_key, settings.master_key_file)
    engine = open_reader(settings.database_url, data=data)
    below = open_blobs(settings.blobs_url or str(data / "blobs"), **settings.blobs_options)
    try:
        with engine.connect() as connection, engine.connect() as looking:
            reader = Tx(looking, utc_now(), IdSource(), engine.dialect.name, master=master)
            reader.vault.admit(master, master_key.load("", settings.old_master_key_file))
            blobs = EncryptedBlobs(below, partial(data_keys.get, reader))
            return check.run(connection, blobs, utc_now(), reader, deep=deep, only=only)
    finally:
        below.close()
        engine.dispose()


SWEPT = ("references", "blobs", "orphans")
"""The checks that compare the database with the blob store, in both directions."""


def sweep_store(settings: Settings) -> check.Report:
    """Remove what nothing refers to and what nothing records, from a store that no server has open; answers what is
    still wrong then. Unavailable while a server has the folder: it sweeps by itself."""
    store = open_store(settings)
    try:
        tidy(store)
        drop_strays(store)
    finally:
        close_store(store)
    return check_store(settings, only=SWEPT)


def rotate_master_key(settings: Settings, new_file: Path | None = None) -> encryption.Rewrapped:
    """Wrap everything under the key in ``new_file``; without it, from the old key of the settings to the present one."""
    present = master_key.load(settings.master_key, settings.master_key_file)
    if new_file is None:
        old, new = master_key.load("", settings.old_master_key_file), present
    else:
        old, new = present, master_key.load("", str(new_file))
    if old is None or new is None:
        raise Invalid(
            "changing the master key needs both: --new-file beside the present one, or master_key_file and "
            "old_master_key_file",
            path="old_master_key_file" if new_file is None else "master_key_file",
        )
    if old.id == new.id:
        raise Invalid(f"the new master key is the old one ({old.id})", path="new_file")
    store = open_store(settings)
    try:
        return encryption.rewrap(store, old, new)
    finally:
        close_store(store)


def make_worker(store: Store) -> Worker:
    """A worker over all tasks."""
    return Worker(store, TASKS, SCHEDULE)


async def _identify(keyring: KeyRing, request: Request) -> Actor:
    # Headers are read as latin-1; clients send names in UTF-8.
    workspace = request.headers.get("labkeep-workspace", "").encode("latin-1").decode("utf-8", "replace")
    return await keyring.identify(request, bearer(request), workspace)


def build_app(store: Store, ports: Mapping[int, str] | None = None) -> ASGIApp:
    """The application: health, the native API, and every dialect under its prefix.

    ``ports`` are those that belong to one dialect each, by its name; `settings.hosts` says the same of host names.
    """
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
    dialects = {name: _OnDemand(name, store, keyring) for name in DIALECTS}
    mounts = [Mount(native.PREFIX, api), *(Mount(f"/{name}", dialect) for name, dialect in dialects.items())]
    app = Starlette(
        routes=[*health.ROUTES, *document.pages(), *mounts],
        exception_handlers=dict(errors.handlers(errors.encode)),
    )
    app.state.store = store
    hosts = {name: dialects[dialect] for name, dialect in store.settings.hosts.items()}
    own = {port: dialects[name] for port, name in (ports or {}).items()}
    prefixes: dict[str, ASGIApp] = {native.PREFIX: api, **{f"/{name}": dialect for name, dialect in dialects.items()}}
    return Doors(app, own, hosts, prefixes, trust_forwarded=store.settings.trust_forwarded)


def prepare(store: Store) -> str | None:
    """Set an empty store up; answers the administrator's key when it was made or added just now."""
    encryption.replay(store)
    if store.database.name == "sqlite":
        store.database.write(release_all, NOBODY, None)  # the folder is ours: whoever worked on them is gone
    key = store.database.write(set_up, NOBODY, Setup(store.settings.admin_key))
    store.database.write(ensure_key, NOBODY, None)
    return key


class Announce(Protocol):
    """Gets the URL of the server, on an empty store the key to show, and the URL of each dialect's own port."""

    def __call__(self, url: str, key: str | None, /, dialects: Mapping[str, str]) -> None: ...


def serve(settings: Settings, announce: Announce) -> None:
    """Serve until told to stop."""
    check_settings(settings)
    with ExitStack() as opened:  # first of all: the key of a new store is shown once, by a server that runs
        site = opened.enter_context(
            listeners.bind(settings.host, settings.port, "--port chooses another port, 0 a free one")
        )
        own = {name: opened.enter_context(_own_listener(settings, name)) for name in settings.listen}
        _serve_on(site, own, settings, announce)


def _own_listener(settings: Settings, name: str) -> socket.socket:
    host, port = _own_address(settings, name)
    return listeners.bind(host, port, f"--listen {name}=PORT chooses another port")


def _own_address(settings: Settings, name: str) -> tuple[str, int]:
    return listeners.parse_address(str(settings.listen[name]), settings.host, f"listen.{name}")


def _serve_on(site: socket.socket, own: Mapping[str, socket.socket], settings: Settings, announce: Announce) -> None:
    store = open_store(settings)
    worker = make_worker(store)
    try:
        key = prepare(store)
        config = uvicorn.Config(
            build_app(store, {listener.getsockname()[1]: name for name, listener in own.items()}),
            host=settings.host,
            port=settings.port,
            loop="uvloop",  # also sets TCP_NODELAY, which asyncio's loop leaves off on inherited sockets
            http=Http,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=10,
        )
        server = uvicorn.Server(config)
        dialects = {name: listeners.url_of(listener) for name, listener in own.items()}
        announce(listeners.url_of(site), key if not settings.admin_key else None, dialects)
        if settings.embedded_worker:
            worker.start()
        server.run(sockets=[site, *own.values()])
    finally:
        worker.stop()
        close_store(store)


class LocalApp:
    """A folder opened in this process: ``app`` is the ASGI application, ``key`` an owner's key for it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.key = _local_key(folder)
        self._store = open_store(load(data=str(folder), environ=_keys(), admin_key=self.key))
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


def _keys() -> dict[str, str]:
    """Master keys are the one thing that a folder cannot hold itself."""
    names = ("LABKEEP_MASTER_KEY", "LABKEEP_MASTER_KEY_FILE", "LABKEEP_OLD_MASTER_KEY_FILE")
    return {name: os.environ[name] for name in names if name in os.environ}


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
    names = DIALECTS
    for path, asked in ("listen", [*settings.listen]), ("hosts", [*settings.hosts.values()]):
        for name in asked:
            if name not in names:
                raise Invalid(f"{path}: there is no dialect {name[:80]!r}; there are {', '.join(names)}", path=path)
    ports = [settings.port, *(_own_address(settings, name)[1] for name in settings.listen)]
    for port in ports:  # a request is told apart by the port alone, whatever address it came to
        if port and ports.count(port) > 1:
            raise Invalid(f"listen: port {port} is named twice; each dialect needs a port of its own", path="listen")
