"""The write path and the read path, over SQLite and PostgreSQL.

An operation is a plain function ``(tx, actor, command) -> result``. `Database.write` runs it in one transaction and
answers only when that transaction is on disk; `Database.read` runs it on a connection of its own beside the writer.
Handlers cannot tell which database they talk to.

* SQLite: one writer thread drains its queue into one transaction, a savepoint for each operation, one fsync for the
  group. Readers have connections of their own (WAL), so they never wait for the writer.
* PostgreSQL: a pooled connection in a thread; serialization failures and deadlocks are tried again.

An operation touches nothing but its ``tx``, so it may be run more than once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import random
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import QueuePool, StaticPool

from labkeep.core.access import Actor
from labkeep.core.errors import AlreadyExists, LabkeepError, Unavailable
from labkeep.core.ids import IdSource
from labkeep.core.patterns import matches
from labkeep.storage.schema import prepare
from labkeep.storage.transaction import Tx

log = logging.getLogger("labkeep.database")

T = TypeVar("T")
C = TypeVar("C")
Operation = Callable[[Tx, Actor, C], T]
Clock = Callable[[], datetime]

GROUP = 256
"""Operations in one SQLite transaction at the most."""

RETRIES = 8
"""Times a PostgreSQL transaction is tried when others got in its way."""


def utc_now() -> datetime:
    """The clock of a real server."""
    return datetime.now(UTC)


class Database(ABC):
    """Runs operations. ``clock`` is what `Tx.now` reads."""

    engine: Engine
    name: str
    """``sqlite`` or ``postgresql``."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self.clock = clock
        self.ids = IdSource()
        self.grace_days = 30
        self.seal_min_rows = 5_000
        self.seal_every_rows = 200_000
        self.job_waiting = threading.Event()
        """Set after a commit that enqueued a job, so that a worker in this process need not poll to see it."""

    @abstractmethod
    def submit(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        """Run ``operation`` in a write transaction; the future resolves once it is durable."""

    @abstractmethod
    def query(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        """Run ``operation`` in a read-only transaction that sees all acknowledged writes."""

    @abstractmethod
    def reclaim(self) -> Future[int]:
        """Give freed space back to the file system; resolves to the bytes given back."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes that the database occupies on disk."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was accepted, then disconnect."""

    def write(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        """`submit` and wait: for workers, commands and tests."""
        return self.submit(operation, actor, command).result()

    def read(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        """`query` and wait: for workers, commands and tests."""
        return self.query(operation, actor, command).result()

    def _tx(self, connection: Connection) -> Tx:
        return Tx(
            connection,
            self.clock(),
            self.ids,
            self.name,
            self.grace_days,
            self.seal_min_rows,
            self.seal_every_rows,
        )


def open_database(url: str, *, data: Path, readers: int = 4, clock: Clock = utc_now) -> Database:
    """The database at ``url`` (PostgreSQL), or the embedded one in ``data`` when ``url`` is empty."""
    if url:
        return Postgres(url, readers=readers, clock=clock)
    return Sqlite(data / "labkeep.db", readers=readers, clock=clock)


def open_reader(url: str, *, data: Path) -> Engine:
    """An engine for reading only, beside whatever process has the database open. Unavailable when there is none."""
    if url:
        return create_engine(url, execution_options={"postgresql_readonly": True})
    path = data / "labkeep.db"
    if not path.exists():
        raise Unavailable(f"there is no Labkeep store in {data}")
    return _sqlite_engine(path, QueuePool)


# --- SQLite -----------------------------------------------------------------------------------------------------------


class _Write(NamedTuple):
    """One operation that waits for the writer."""

    work: Callable[[Tx], Any]
    future: Future[Any]


class _Maintain(NamedTuple):
    """Work for the writer's connection that cannot run inside a transaction."""

    work: Callable[[Connection], Any]
    future: Future[Any]


class Sqlite(Database):
    """One file, one writer thread, readers beside it. One process: the folder is locked."""

    name = "sqlite"

    def __init__(self, path: Path, readers: int = 4, clock: Clock = utc_now) -> None:
        super().__init__(clock)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = _FolderLock(path.parent)
        self.engine = _sqlite_engine(path, StaticPool)
        self._reading = _sqlite_engine(path, QueuePool, pool_size=readers, max_overflow=0)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="labkeep-read")
        self._queue: queue.SimpleQueue[_Write | _Maintain | None] = queue.SimpleQueue()
        try:
            with self.engine.connect() as connection:
                prepare(connection)
        except BaseException:
            self._lock.release()
            raise
        self._writer = threading.Thread(target=self._drain, name="labkeep-write", daemon=True)
        self._writer.start()

    def submit(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        future: Future[T] = Future()
        self._queue.put(_Write(lambda tx: operation(tx, actor, command), future))
        return future

    def query(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        return self._readers.submit(self._read, operation, actor, command)

    def reclaim(self) -> Future[int]:
        future: Future[int] = Future()
        self._queue.put(_Maintain(_reclaim_sqlite, future))
        return future

    def size_bytes(self) -> int:
        return sum(p.stat().st_size for p in self.path.parent.glob(self.path.name + "*"))

    def close(self) -> None:
        self._queue.put(None)
        self._writer.join()
        self._readers.shutdown(wait=True)
        self._reading.dispose()
        with self.engine.connect() as connection, suppress(DBAPIError):
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.engine.dispose()
        self._lock.release()

    def _read(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        with self._reading.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                return operation(self._tx(connection), actor, command)
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def _drain(self) -> None:
        with self.engine.connect() as connection:
            while True:
                waiting = self._gather()
                writes = [entry for entry in waiting if isinstance(entry, _Write)]
                self._commit(connection, writes)
                for entry in waiting:
                    if isinstance(entry, _Maintain):
                        _maintain(connection, entry)
                if None in waiting:
                    return

    def _gather(self) -> list[_Write | _Maintain | None]:
        """Wait for work, then take what else is there, up to one group."""
        waiting = [self._queue.get()]
        while len(waiting) < GROUP:
            try:
                waiting.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return waiting

    def _commit(self, connection: Connection, group: list[_Write]) -> None:
        """Run ``group`` in one transaction; answer nobody before it is on disk."""
        if not group:
            return
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            outcomes = [self._attempt(connection, entry.work) for entry in group]
            connection.exec_driver_sql("COMMIT")
            if any(enqueued for _, _, enqueued in outcomes):
                self.job_waiting.set()
        except DBAPIError as error:  # the whole group failed, and each caller is told
            with suppress(DBAPIError):
                connection.exec_driver_sql("ROLLBACK")
            failure = _translate(error)
            for entry in group:
                entry.future.set_exception(failure)
            return
        for entry, (result, refusal, _) in zip(group, outcomes, strict=True):
            if refusal is None:
                entry.future.set_result(result)
            else:
                entry.future.set_exception(refusal)

    def _attempt(self, connection: Connection, work: Callable[[Tx], Any]) -> tuple[Any, BaseException | None, bool]:
        connection.exec_driver_sql("SAVEPOINT operation")
        tx = self._tx(connection)
        try:
            result = work(tx)
            tx.finish()
        except Exception as error:  # belongs to this one caller; the rest of the group goes on
            if isinstance(error, OperationalError):
                raise  # disk full and the like end the transaction itself
            connection.exec_driver_sql("ROLLBACK TO operation")
            connection.exec_driver_sql("RELEASE operation")
            return None, _translate(error), False
        connection.exec_driver_sql("RELEASE operation")
        return result, None, tx.enqueued


def _maintain(connection: Connection, entry: _Maintain) -> None:
    try:
        entry.future.set_result(entry.work(connection))
    except Exception as error:  # noqa: BLE001 - handed to whoever waits for the future
        entry.future.set_exception(_translate(error))


def _sqlite_engine(path: Path, pool: Any, **options: Any) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=pool,
        connect_args={"check_same_thread": False},
        isolation_level="AUTOCOMMIT",
        **options,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        # Transactions are begun by us: BEGIN IMMEDIATE for the writer, BEGIN for readers.
        connection.isolation_level = None
        for pragma in SQLITE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("contains_text", 2, _contains, deterministic=True)
        connection.create_function("matches_text", 2, _matches, deterministic=True)

    return engine


def _contains(text: str | None, part: str) -> bool:
    return text is not None and part.casefold() in text.casefold()


def _matches(text: str | None, pattern: str) -> bool:
    return text is not None and matches(pattern, text)


SQLITE_PRAGMAS = (
    "auto_vacuum=INCREMENTAL",  # before the first table: lets purge give pages back without rewriting the file
    "journal_mode=WAL",
    "synchronous=FULL",  # an acknowledged write survives a power cut
    "secure_delete=ON",  # freed pages are overwritten; only some builds do it unasked
    "temp_store=MEMORY",  # nothing that is deleted may linger in a temporary file
    "busy_timeout=10000",
    "cache_size=-16384",
    "mmap_size=0",
)


def _reclaim_sqlite(connection: Connection) -> int:
    def pages() -> int:
        return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())

    page_size = int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    before = pages()
    # Each step frees one page, so the driver's cursor must be drained; SQLAlchemy sees a statement without rows.
    connection.connection.cursor().execute("PRAGMA incremental_vacuum").fetchall()
    # The old content of the pages is still in the log until it is truncated, which needs a moment without readers.
    for attempt in range(200):
        busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
        if not busy:
            return max(0, before - pages()) * page_size
        time.sleep(min(0.1, 0.005 * (attempt + 1)))
    raise Unavailable("the write-ahead log could not be truncated: a reader holds it; try again")


class _FolderLock:
    """Keeps a second process away from the folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "labkeep.lock"
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise Unavailable(
                f"{folder} is in use by another Labkeep process (pid {holder}). Talk to that server over HTTP, stop it, "
                "or use another folder; several processes need PostgreSQL."
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.close()


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


class Postgres(Database):
    """A pool of connections; any number of processes."""

    name = "postgresql"

    def __init__(self, url: str, readers: int = 4, clock: Clock = utc_now) -> None:
        super().__init__(clock)
        self.engine = create_engine(url, pool_size=2 * readers, max_overflow=0, pool_pre_ping=True)
        self._writers = ThreadPoolExecutor(readers, thread_name_prefix="labkeep-write")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="labkeep-read")
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SELECT pg_advisory_lock(7061)")
            try:
                prepare(connection)
            finally:
                connection.exec_driver_sql("SELECT pg_advisory_unlock(7061)")

    def submit(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        return self._writers.submit(self._write, operation, actor, command)

    def query(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        return self._readers.submit(self._read, operation, actor, command)

    def reclaim(self) -> Future[int]:
        return self._writers.submit(self._vacuum)

    def size_bytes(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def close(self) -> None:
        self._writers.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self.engine.dispose()

    def _write(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        for attempt in range(RETRIES):
            try:
                with self.engine.begin() as connection:
                    tx = self._tx(connection)
                    result = operation(tx, actor, command)
                    tx.finish()
                if tx.enqueued:
                    self.job_waiting.set()
                return result
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", "") not in _RETRIABLE or attempt == RETRIES - 1:
                    raise _translate(error) from error
                # Spread the losers, or they meet again.
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
        raise Unavailable("the database was too busy; try again")

    def _read(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        try:
            with self.engine.connect().execution_options(**options) as connection:
                return operation(self._tx(connection), actor, command)
        except DBAPIError as error:
            raise _translate(error) from error

    def _vacuum(self) -> int:
        before = self.size_bytes()
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM")
        return max(0, before - self.size_bytes())


_RETRIABLE = frozenset({"40001", "40P01", "55P03"})
"""serialization_failure, deadlock_detected, lock_not_available."""


def _translate(error: BaseException) -> BaseException:
    """Database errors as ours; anything else as it is."""
    if isinstance(error, LabkeepError) or not isinstance(error, DBAPIError):
        return error
    if isinstance(error, IntegrityError):
        return AlreadyExists("the name or id is taken by another object made at the same moment; try again")
    if isinstance(error, OperationalError):
        log.error("database refused: %s", error.orig)
        return Unavailable(f"the database refused: {error.orig}; nothing of this request was stored")
    return error


__all__ = ["Clock", "Database", "Operation", "Postgres", "Sqlite", "open_database", "utc_now"]
