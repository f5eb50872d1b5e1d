"""The write path and the read path: one interface over SQLite and PostgreSQL.

An operation is a plain function ``(tx, actor, command) -> result``. `Database.write` runs it in one transaction and
answers only when that transaction is on disk; `Database.read` runs it on a connection of its own beside the writers.
Handlers cannot tell which database they talk to. An operation touches nothing but its ``tx``, so it may be run more
than once; what it raises undoes all that it did, and nothing of what others do at the same time.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, IntegrityError, OperationalError, StatementError

from labkeep.core.access import Actor
from labkeep.core.errors import AlreadyExists, Corrupt, Invalid, LabkeepError, Unavailable
from labkeep.core.ids import IdSource
from labkeep.storage.master_key import MasterKey
from labkeep.storage.transaction import Tx
from labkeep.storage.vault import Vault

log = logging.getLogger("labkeep.database")

T = TypeVar("T")
C = TypeVar("C")
Operation = Callable[[Tx, Actor, C], T]
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of a real server."""
    return datetime.now(UTC)


class Database(ABC):
    """Runs operations. ``clock`` is what `Tx.now` reads.

    Every method may be called from any thread. Futures carry errors of `labkeep.core.errors`: AlreadyExists for a
    name or id that somebody took at the same moment, Unavailable when the database refuses, Invalid for a value that
    it cannot hold. After `close`, everything is Unavailable.
    """

    engine: Engine
    name: str
    """``sqlite`` or ``postgresql``."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self.clock = clock
        self.ids = IdSource()
        self.grace_days = 30
        self.seal_min_rows = 5_000
        self.seal_every_rows = 200_000
        self.apply_at_once = 2_000
        self.agent_daily_trash = 1_000
        self.agent_burst = 200
        self.master: MasterKey | None = None
        self.site = ""
        self.vault = Vault()
        self._opened = time.monotonic()
        self.job_waiting = threading.Event()
        """Set after a commit that enqueued a job, so that a worker in this process need not poll to see it."""

    @property
    def open_s(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._opened

    @abstractmethod
    def submit(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        """Run ``operation`` in a write transaction; the future resolves once it is durable."""

    @abstractmethod
    def query(self, operation: Operation[C, T], actor: Actor, command: C) -> Future[T]:
        """Run ``operation`` in a read-only transaction that sees all acknowledged writes."""

    @abstractmethod
    def reclaim(self) -> Future[int]:
        """Give freed space back to the file system; resolves to the bytes given back. Others hardly wait for it."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes that the database occupies on disk."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was accepted, then disconnect. Again is fine."""

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
            self.master,
            self.site,
            self.vault,
            self.apply_at_once,
            self.agent_daily_trash,
            self.agent_burst,
        )


def translate(error: BaseException) -> BaseException:
    """Database errors as ours; anything else as it is."""
    if isinstance(error, LabkeepError):
        return error
    if isinstance(error, StatementError) and isinstance(error.orig, LabkeepError):
        return error.orig  # a value that its column does not take
    if isinstance(error, OverflowError) and "SQLite INTEGER" in str(error):
        return Invalid("a number is too large to be stored")
    if not isinstance(error, DBAPIError):
        return error
    if isinstance(error, IntegrityError):
        return _broken_constraint(error)
    if isinstance(error, DataError):
        return Invalid(f"a value cannot be stored: {_first_line(error)}")
    if isinstance(error, OperationalError):
        return _refused(error)
    if type(error) is DatabaseError:  # SQLite's class for a file that makes no sense
        log.error("database damaged: %s", error.orig)
        return Corrupt(f"the database is damaged: {_first_line(error)}; run `labkeep check`")
    return error


def _broken_constraint(error: IntegrityError) -> BaseException:
    # Any other constraint, such as NOT NULL, is a bug of ours and no one's bad luck.
    taken = getattr(error.orig, "sqlstate", "") == "23505" or "UNIQUE constraint" in str(error.orig)
    if not taken:
        return error
    return AlreadyExists("the name or id is taken by another object made at the same moment; try again")


def _refused(error: OperationalError) -> LabkeepError:
    if getattr(error.orig, "sqlstate", "") == "54000":
        # Only PostgreSQL bounds the bytes of an indexed text.
        return Invalid("a name, path or key is too long to be indexed: use a shorter one")
    log.error("database refused: %s", error.orig)
    return Unavailable(f"the database refused: {_first_line(error)}; nothing of this request was stored")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0][:300]


def closed() -> Unavailable:
    """What to answer once the database is closed."""
    return Unavailable("the server is shutting down: the database is closed")


__all__ = ["Clock", "Database", "Operation", "closed", "translate", "utc_now"]
