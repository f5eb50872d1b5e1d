"""PostgreSQL: a pool of connections, any number of processes, each transaction in a thread of its own."""

from __future__ import annotations

import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, StatementError

from labkeep.core.access import Actor
from labkeep.core.errors import Unavailable
from labkeep.core.faults import reach
from labkeep.storage.chain import extend
from labkeep.storage.database import C, Clock, Database, Operation, T, closed, translate, utc_now
from labkeep.storage.schema import prepare

RETRIES = 8
"""Times a transaction is tried when others got in its way."""

OLDEST = 18
"""The first major version that can fold case and order text the way queries mean it."""

_TRIES = {"40001": RETRIES, "40P01": RETRIES, "55P03": RETRIES, "23505": 2}
"""Attempts after serialization_failure, deadlock_detected, lock_not_available and unique_violation: the name that was
taken at the same moment is there for the second attempt to see, which may be just what the operation wants."""

_SCHEMA_LOCK = 7061
"""Advisory lock under which one process at a time creates or migrates the schema."""


class Postgres(Database):
    """A database on a server. Unavailable when it cannot be reached, or is older than PostgreSQL 18."""

    name = "postgresql"

    def __init__(self, url: str, readers: int = 4, clock: Clock = utc_now) -> None:
        super().__init__(clock)
        self.engine = postgres_engine(url, pool_size=2 * readers, max_overflow=0)
        self._open = True
        try:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                _check_server(connection)
                _prepare(connection)
        except DBAPIError as error:
            self.engine.dispose()
            raise translate(error) from error
        except BaseException:
            self.engine.dispose()
            raise
        self._writers = ThreadPoolExecutor(readers, thread_name_prefix="labkeep-write")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="labkeep-read")

    def submit(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        if not self._open:
            raise closed()
        return self._writers.submit(self._write, operation, actor, command)

    def query(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        if not self._open:
            raise closed()
        return self._readers.submit(self._read, operation, actor, command)

    def reclaim(self) -> Future[int]:
        if not self._open:
            raise closed()
        return self._writers.submit(self._vacuum)

    def size_bytes(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._writers.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self.engine.dispose()

    def _write(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        for attempt in range(1, RETRIES + 1):
            try:
                return self._attempt(operation, actor, command)
            except (StatementError, OverflowError) as error:
                if attempt >= _TRIES.get(getattr(getattr(error, "orig", None), "sqlstate", ""), 1):
                    raise translate(error) from error
                # Spread the losers, or they meet again.
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        with self.engine.begin() as connection:
            tx = self._tx(connection)
            result = operation(tx, actor, command)
            # Last of all, so that the end of the organization's chain is locked for as short as can be.
            extend(connection, self.name, tx.finish())
            reach("write.begun")
        reach("write.committed")
        if tx.enqueued:
            self.job_waiting.set()
        return result

    def _read(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        try:
            with self.engine.connect().execution_options(**options) as connection:
                return operation(self._tx(connection), actor, command)
        except (StatementError, OverflowError) as error:
            raise translate(error) from error

    def _vacuum(self) -> int:
        before = self.size_bytes()
        try:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM")
        except DBAPIError as error:
            raise translate(error) from error
        return max(0, before - self.size_bytes())


def postgres_engine(url: str, **options: Any) -> Engine:
    """An engine for ``url``; a connection that died while it was idle is replaced."""
    return create_engine(url, pool_pre_ping=True, **options)


def _check_server(connection: Connection) -> None:
    check_version(connection.dialect.server_version_info or (0,))
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise Unavailable(f"the database has the encoding {encoding}; create it with ENCODING 'UTF8'")


def check_version(version: tuple[Any, ...]) -> None:
    """Unavailable for a server that is older than `OLDEST`."""
    if version < (OLDEST,):
        found = ".".join(str(part) for part in version)
        raise Unavailable(f"PostgreSQL {OLDEST} or newer is needed; this server is {found}: upgrade it")


def _prepare(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({_SCHEMA_LOCK})")
    try:
        prepare(connection)
    finally:
        connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_SCHEMA_LOCK})")
