"""The embedded database: one SQLite file, one writer thread, readers beside it.

The writer drains its queue into one transaction, with a savepoint for each operation and one fsync for the group;
nobody is answered before that. Readers have connections of their own (WAL), so they never wait for the writer.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError
from sqlalchemy.pool import QueuePool, StaticPool

from labkeep.core.access import Actor
from labkeep.core.errors import Unavailable
from labkeep.core.faults import reach
from labkeep.core.patterns import matches
from labkeep.storage.chain import Noted, extend
from labkeep.storage.database import C, Clock, Database, Operation, T, closed, translate, utc_now
from labkeep.storage.prepared import send
from labkeep.storage.schema import prepare
from labkeep.storage.scrub import Scrubber, Written
from labkeep.storage.transaction import Tx

GROUP = 256
"""Operations in one transaction at the most."""

VACUUM_PAGES = 2_000
"""Pages given back between two groups of writes."""

IDLE_S = 1.0
"""After so long without a write the log is written back into the file, and cut to nothing."""

TRUNCATE_S = 30.0
"""How long reclaiming waits for a moment without readers."""

_EVERYWHERE = (
    "busy_timeout=10000",
    "temp_store=MEMORY",  # nothing that is deleted may linger in a temporary file
    "cache_size=-16384",
    "mmap_size=0",
    "wal_autocheckpoint=4000",
)
_WRITER = (
    *_EVERYWHERE,
    "auto_vacuum=INCREMENTAL",  # before the first table: lets purge give pages back without rewriting the file
    "journal_mode=WAL",
    "synchronous=FULL",  # an acknowledged write survives a power cut
    "secure_delete=ON",  # freed pages are overwritten; only some builds do it unasked
)
# Nothing here needs a lock: a reader that connects must not wait for the writer.
_READER = (*_EVERYWHERE, "query_only=ON")


class _Write(NamedTuple):
    """One operation that waits for the writer."""

    work: Callable[[Tx], Any]
    future: Future[Any]


class _Chore:
    """Work that cannot run inside a transaction, in steps: between two of them writes go on."""

    def __init__(self, steps: Callable[[Connection], Generator[None, None, int]], connection: Connection) -> None:
        self.steps = steps(connection)
        self.future: Future[int] = Future()
        self.future.set_running_or_notify_cancel()

    def step(self) -> bool:
        """Do the next step; False once the future is resolved."""
        try:
            next(self.steps)
        except StopIteration as end:
            self.future.set_result(end.value)
            return False
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the future
            self.future.set_exception(translate(error))
            return False
        return True


class _Outcome(NamedTuple):
    """What became of one operation of a group."""

    result: Any = None
    refusal: BaseException | None = None
    noted: tuple[Noted, ...] = ()
    enqueued: bool = False


class Sqlite(Database):
    """One file. One process: the folder is locked. Unavailable when another process has it, or it is no database."""

    name = "sqlite"

    def __init__(self, path: Path, readers: int = 4, clock: Clock = utc_now) -> None:
        super().__init__(clock)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = _FolderLock(path.parent)
        self.engine = _engine(path, _WRITER, StaticPool)
        self.reading = reading_engine(path, pool_size=readers, max_overflow=0)
        self._scrubber: Scrubber | None = None
        self._open = True
        self._has_written = False
        self._gate = threading.Lock()
        self._queue: queue.SimpleQueue[_Write | _Chore | None] = queue.SimpleQueue()
        try:
            self._connection = self.engine.connect()
            prepare(self._connection)
            self._scrubber = Scrubber(path)
        except DBAPIError as error:
            self._release()
            raise Unavailable(f"{path} cannot be opened as a Labkeep database: {error.orig}") from error
        except BaseException:
            self._release()
            raise
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="labkeep-read")
        self._writer = threading.Thread(target=self._drain, name="labkeep-write", daemon=True)
        self._writer.start()

    def submit(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        future: Future[T] = Future()
        self._put(_Write(lambda tx: operation(tx, actor, command), future))
        return future

    def query(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        if not self._open:
            raise closed()
        return self._readers.submit(self._read, operation, actor, command)

    def reclaim(self) -> Future[int]:
        chore = _Chore(partial(_reclaim, self._scrubbing), self._connection)
        self._put(chore)
        return chore.future

    def size_bytes(self) -> int:
        return sum(p.stat().st_size for p in self.path.parent.glob(self.path.name + "*"))

    def close(self) -> None:
        with self._gate:
            if not self._open:
                return
            self._open = False
            self._queue.put(None)
        self._writer.join()
        self._readers.shutdown(wait=True)
        with suppress(DBAPIError):
            _truncate_log(self._connection, self._scrubbing.written)
        self._connection.close()
        self._release()

    @property
    def _scrubbing(self) -> Scrubber:
        assert self._scrubber is not None
        return self._scrubber

    def _release(self) -> None:
        self.reading.dispose()
        self.engine.dispose()
        if self._scrubber is not None:  # after all connections: see there
            self._scrubber.close()
        self._lock.release()

    def _put(self, entry: _Write | _Chore) -> None:
        with self._gate:  # nothing comes behind the None that ends the queue
            if not self._open:
                raise closed()
            self._queue.put(entry)

    def _read(self, operation: Operation[C, T], actor: Actor, command: C) -> T:
        try:
            with self.reading.connect() as connection:
                send(connection, "BEGIN")
                try:
                    return operation(self._tx(connection), actor, command)
                finally:
                    if _driver(connection).in_transaction:  # a statement that cannot be made ends it by itself
                        send(connection, "ROLLBACK")
        except (StatementError, OverflowError) as error:
            raise translate(error) from error

    # The writer's thread

    def _drain(self) -> None:
        while True:
            waiting = self._gather()
            # A caller that gave up while its operation was waiting gets none.
            writes = [e for e in waiting if isinstance(e, _Write) and e.future.set_running_or_notify_cancel()]
            if writes:
                self._has_written = True
                self._commit(writes)
                self._scrubbing.written.note()
            ending = None in waiting
            for chore in waiting:
                if isinstance(chore, _Chore) and chore.step():
                    self._later(chore, ending)
            if ending:
                return

    def _later(self, chore: _Chore, ending: bool) -> None:
        if ending:
            chore.future.set_exception(closed())
        else:
            self._queue.put(chore)

    def _gather(self) -> list[_Write | _Chore | None]:
        """Wait for work, then take what else is there, up to one group."""
        waiting = [self._first()]
        while len(waiting) < GROUP and waiting[-1] is not None:
            try:
                waiting.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return waiting

    def _first(self) -> _Write | _Chore | None:
        if self._has_written:
            with suppress(queue.Empty):
                return self._queue.get(timeout=IDLE_S)
            self._has_written = False
            with suppress(DBAPIError):
                _truncate_log(self._connection, self._scrubbing.written)
        return self._queue.get()

    def _commit(self, group: list[_Write]) -> None:
        """Run ``group`` in one transaction; answer nobody before it is on disk."""
        connection = self._connection
        try:
            send(connection, "BEGIN IMMEDIATE")
            outcomes = [self._attempt(entry.work) for entry in group]
            extend(connection, self.name, [noted for outcome in outcomes for noted in outcome.noted])
            reach("write.begun")
            send(connection, "COMMIT")
        except Exception as error:  # noqa: BLE001 - the whole group failed, and each caller is told
            with suppress(DBAPIError):
                connection.exec_driver_sql("ROLLBACK")
            self.vault.forget()  # keys that one of the group made and another found
            failure = translate(error)
            for entry in group:
                entry.future.set_exception(failure)
            return
        reach("write.committed")
        for entry, outcome in zip(group, outcomes, strict=True):
            if outcome.refusal is None:
                entry.future.set_result(outcome.result)
            else:
                entry.future.set_exception(outcome.refusal)
        if any(outcome.enqueued for outcome in outcomes):
            self.job_waiting.set()

    def _attempt(self, work: Callable[[Tx], Any]) -> _Outcome:
        connection = self._connection
        send(connection, "SAVEPOINT operation")
        tx = self._tx(connection)
        try:
            result = work(tx)
            noted = tx.finish()
        except Exception as error:  # belongs to this one caller; the rest of the group goes on
            if isinstance(error, OperationalError) and not _driver(connection).in_transaction:
                raise  # a full disk and the like end the transaction itself
            send(connection, "ROLLBACK TO operation")
            send(connection, "RELEASE operation")
            return _Outcome(refusal=translate(error))
        send(connection, "RELEASE operation")
        return _Outcome(result, None, noted, tx.enqueued)


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


# --- connections ------------------------------------------------------------------------------------------------------


def reading_engine(path: Path, **options: Any) -> Engine:
    """Connections that can only read."""
    return _engine(path, _READER, QueuePool, **options)


def _engine(path: Path, pragmas: tuple[str, ...], pool: Any, **options: Any) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=pool,
        connect_args={"check_same_thread": False, "cached_statements": 512},
        isolation_level="AUTOCOMMIT",
        **options,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        # Transactions are begun by us: BEGIN IMMEDIATE for the writer, BEGIN for readers.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("contains_text", 2, _contains, deterministic=True)
        connection.create_function("matches_text", 2, _matches, deterministic=True)

    return engine


def _contains(text: str | None, part: str) -> bool:
    return text is not None and part.casefold() in text.casefold()


def _matches(text: str | None, pattern: str) -> bool:
    return text is not None and matches(pattern, text)


# --- giving space back ------------------------------------------------------------------------------------------------


def _reclaim(scrubber: Scrubber, connection: Connection) -> Generator[None, None, int]:
    """Cut free pages off the file, then the write-ahead log, where the old content of the pages still is, then zero
    what is left of it between the cells of the pages that were written."""
    page_size = _number(connection, "page_size")
    before = _number(connection, "page_count")
    while _number(connection, "freelist_count"):
        # One page is freed at each step of the statement, and only a script is stepped to its end.
        _driver(connection).executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        scrubber.written.note()
        yield
    yield from _empty_log(connection, scrubber.written)
    due = scrubber.due()
    while due:
        yield from _empty_log(connection, scrubber.written)
        connection.exec_driver_sql("PRAGMA shrink_memory")  # or pages of the cache would bring it back
        scrubber.step(due)
        yield
    return max(0, before - _number(connection, "page_count")) * page_size


def _empty_log(connection: Connection, written: Written) -> Generator[None, None, None]:
    deadline = time.monotonic() + TRUNCATE_S
    while not _truncate_log(connection, written):
        if time.monotonic() > deadline:
            raise Unavailable("the write-ahead log could not be truncated: a reader holds it; try again")
        time.sleep(0.005)
        yield


def _truncate_log(connection: Connection, written: Written) -> bool:
    written.note()
    # Without a timeout: writers are not to wait for readers.
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
    connection.exec_driver_sql("PRAGMA busy_timeout=10000")
    if not busy:
        written.cut()
    return not busy


def _number(connection: Connection, pragma: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one())


# --- one process ------------------------------------------------------------------------------------------------------


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
