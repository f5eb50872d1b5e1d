"""The contract over SQLite, and what only an embedded file has: its lock, its log, its freed pages."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, select, update
from sqlalchemy.pool import Pool

from labkeep.core.access import Actor
from labkeep.core.errors import Invalid, Unavailable
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.database_sqlite import Sqlite
from labkeep.storage.opening import open_database, open_reader
from labkeep.storage.transaction import Tx
from labkeep.testing.databases import WAIT_S, DatabaseTests, chain_of, count_of, empty, fill, note
from labkeep.testing.factories import make_actor, make_project

CANARY = b"canary-7f3a9c51e2"


class TestSqlite(DatabaseTests):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], Database]:
        return lambda: open_database("", data=tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def database(folder: Path) -> Iterator[Sqlite]:
    database = Sqlite(folder / "labkeep.db")
    yield database
    database.close()


@pytest.fixture
def actor(database: Sqlite) -> Actor:
    return make_actor(database)


# The file


def test_the_file_is_set_up_for_durability_and_for_forgetting(database: Sqlite) -> None:
    with database.engine.connect() as connection:

        def pragma(name: str) -> Any:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2  # FULL
        assert pragma("auto_vacuum") == 2  # INCREMENTAL
        assert pragma("secure_delete") == 1
        assert pragma("temp_store") == 2  # MEMORY


@pytest.fixture
def _careless_sqlite() -> Iterator[None]:
    """SQLite as most builds have it: what is deleted stays in the file unless somebody asks for better."""

    def forget_to_forget(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA secure_delete=OFF")

    event.listen(Pool, "connect", forget_to_forget)
    yield
    event.remove(Pool, "connect", forget_to_forget)


def write_canaries(tx: Tx, actor: Actor, count: int) -> None:
    rows = [
        {
            "organization_id": actor.organization_id,
            "run_id": tx.new_id(),
            "stream": "s",
            "first_row": 0,
            "rows": 1,
            # Short rows that share pages, and long ones with pages of their own.
            "data": CANARY * (400 if number % 7 == 0 else 3),
        }
        for number in range(count)
    ]
    tx.insert(t.chunks, rows)


def delete_most(tx: Tx, _actor: Actor, _command: None) -> None:
    """Leave some rows, without canaries, so that pages are half empty and not simply given back."""
    ids = [row[0] for row in tx.execute(select(t.chunks.c.run_id))]
    kept = ids[::10]
    tx.execute(update(t.chunks).where(t.chunks.c.run_id.in_(kept)).values(data=b"kept"))
    tx.execute(t.chunks.delete().where(t.chunks.c.run_id.not_in(kept)))


def canaries_in(folder: Path) -> int:
    return sum(file.read_bytes().count(CANARY) for file in folder.iterdir())


@pytest.mark.usefixtures("_careless_sqlite")
def test_nothing_of_what_was_deleted_is_left_in_any_file_whatever_the_build_does_unasked(folder: Path) -> None:
    database = Sqlite(folder / "labkeep.db")
    actor = make_actor(database)
    database.write(write_canaries, actor, 2_000)
    assert canaries_in(folder) > 2_000
    database.write(delete_most, actor, None)
    database.reclaim().result(WAIT_S)
    assert canaries_in(folder) == 0
    database.close()
    assert canaries_in(folder) == 0


def test_a_careless_build_does_leave_it_so_the_test_above_can_see(tmp_path: Path) -> None:
    path = tmp_path / "careless.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)")
        connection.executemany("INSERT INTO t (data) VALUES (?)", [(CANARY * 3,)] * 2_000)
        connection.commit()
        connection.execute("DELETE FROM t WHERE id % 10")
        connection.commit()
        connection.execute("UPDATE t SET data = x'00'")
    connection.close()
    assert canaries_in(tmp_path) > 0


def test_a_reader_that_stays_puts_reclaiming_off_and_holds_up_no_writer(database: Sqlite, actor: Actor) -> None:
    database.write(fill, actor, (20, 64 << 10))
    database.write(empty, actor, None)
    reading, done = threading.Event(), threading.Event()

    def stay(tx: Tx, _actor: Actor, _command: None) -> None:
        tx.one(select(t.organizations.c.id))
        reading.set()
        assert done.wait(WAIT_S)

    staying = database.query(stay, actor, None)
    assert reading.wait(WAIT_S)
    reclaiming = database.reclaim()
    for number in range(50):
        database.write(note, actor, str(number))
    assert not reclaiming.done()
    done.set()
    staying.result(WAIT_S)
    assert reclaiming.result(WAIT_S) >= 0
    assert len(chain_of(database, actor)) == 50


def test_the_log_is_written_back_when_nobody_writes(database: Sqlite, actor: Actor, folder: Path) -> None:
    log = folder / "labkeep.db-wal"
    database.write(fill, actor, (20, 64 << 10))
    assert log.stat().st_size > 1 << 20
    deadline = time.monotonic() + WAIT_S
    while log.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    database.write(note, actor, "and goes on")
    assert len(chain_of(database, actor)) == 1


def test_closing_ends_a_reclaim_that_waits(folder: Path) -> None:
    database = Sqlite(folder / "labkeep.db")
    actor = make_actor(database)
    database.write(fill, actor, (5, 64 << 10))
    reader = open_reader("", data=folder).connect()
    reader.exec_driver_sql("BEGIN")
    reader.execute(select(t.organizations.c.id)).all()
    database.write(note, actor, "")
    reclaiming = database.reclaim()
    database.close()
    with pytest.raises(Unavailable, match="closed"):
        reclaiming.result(0)
    reader.close()
    reader.engine.dispose()


def test_a_full_disk_fails_those_who_wrote_and_the_next_write_goes_on(database: Sqlite, actor: Actor) -> None:
    with database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 20}").scalar_one()
        with pytest.raises(Unavailable, match="full"):
            database.write(fill, actor, (100, 64 << 10))
        connection.exec_driver_sql("PRAGMA max_page_count=1073741823").scalar_one()
    database.write(fill, actor, (100, 64 << 10))
    database.write(note, actor, "fine")
    assert len(chain_of(database, actor)) == 1


def test_a_statement_that_the_database_refuses_harms_nobody_else_in_the_group(database: Sqlite, actor: Actor) -> None:
    gate, release = threading.Event(), threading.Event()

    def hold(_tx: Tx, _actor: Actor, _command: None) -> None:
        gate.set()
        assert release.wait(WAIT_S)

    def refused(tx: Tx, _actor: Actor, _command: None) -> None:
        tx.connection.exec_driver_sql("SELECT no_such_function()")

    held = database.submit(hold, actor, None)
    assert gate.wait(WAIT_S)
    futures = [
        database.submit(note, actor, "a"),
        database.submit(refused, actor, None),
        database.submit(note, actor, "b"),
    ]
    release.set()
    held.result(WAIT_S)
    assert isinstance(futures[1].exception(WAIT_S), Unavailable)
    assert [future.exception(WAIT_S) for future in (futures[0], futures[2])] == [None, None]
    assert [event.subject_id for event in chain_of(database, actor)] == ["a", "b"]


def test_many_operations_share_one_fsync(database: Sqlite, actor: Actor) -> None:
    seen: list[str] = []
    gate, release = threading.Event(), threading.Event()

    def hold(tx: Tx, _actor: Actor, _command: None) -> None:
        driver: Any = tx.connection.connection.driver_connection
        driver.set_trace_callback(seen.append)
        gate.set()
        assert release.wait(WAIT_S)

    held = database.submit(hold, actor, None)
    assert gate.wait(WAIT_S)
    futures = [database.submit(note, actor, str(number)) for number in range(250)]
    release.set()
    for future in [held, *futures]:
        future.result(WAIT_S)
    assert seen.count("COMMIT") == 2


# Opening


HOLD_THE_FOLDER = """
import sys
from pathlib import Path
from labkeep.storage.database_sqlite import Sqlite

database = Sqlite(Path(sys.argv[1]) / "labkeep.db")
print("open", flush=True)
sys.stdin.read()
database.close()
"""


def test_a_second_process_is_refused_and_told_who_has_the_folder(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_FOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(Unavailable, match=rf"in use by another Labkeep process \(pid {holder.pid}\)"):
            Sqlite(folder / "labkeep.db")
        holder.kill()
        holder.wait(WAIT_S)
    Sqlite(folder / "labkeep.db").close()


def test_the_same_process_is_refused_as_well(database: Sqlite, folder: Path) -> None:
    with pytest.raises(Unavailable, match="in use"):
        Sqlite(folder / "labkeep.db")
    make_project(database, make_actor(database))


@pytest.mark.parametrize("content", [b"this is no database at all, but some text" * 100, b"\0" * 8192])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "labkeep.db").write_bytes(content)
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be opened"):
            Sqlite(folder / "labkeep.db")
    assert (folder / "labkeep.db").read_bytes() == content


def test_a_process_that_died_while_it_made_the_schema_left_an_empty_database(folder: Path) -> None:
    folder.mkdir()
    with sqlite3.connect(folder / "labkeep.db") as connection:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    database = Sqlite(folder / "labkeep.db")
    assert count_of(database, make_actor(database)) == 0
    database.close()


def test_a_reader_beside_the_server_reads_and_cannot_write(database: Sqlite, actor: Actor, folder: Path) -> None:
    engine = open_reader("", data=folder)
    with engine.connect() as connection:
        assert connection.execute(select(t.organizations.c.name)).scalar_one() == "organization"
        with pytest.raises(Exception, match="readonly"):
            connection.execute(
                insert(t.organizations).values(id=actor.organization_id, name="x", created_at=database.clock())
            )
    engine.dispose()


def test_there_is_nothing_to_read_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no Labkeep store"):
        open_reader("", data=tmp_path)


def test_a_value_that_cannot_be_stored_is_said_to_be_so_also_when_reading(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "labkeep.db")
    actor = make_actor(database)

    def look(tx: Tx, _actor: Actor, _command: None) -> None:
        tx.one(select(t.items.c.id).where(t.items.c.id == "not an id"))

    for _ in range(2):  # the connection is as good as before
        with pytest.raises(Invalid, match="is not an id"):
            database.read(look, actor, None)
    database.close()
