"""The contract over PostgreSQL 18, and what only a server has: other processes, serialization, versions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from labkeep.core.access import Actor
from labkeep.core.errors import Invalid, Unavailable
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.database_postgres import RETRIES, check_version
from labkeep.storage.opening import open_database, open_reader
from labkeep.storage.transaction import Tx
from labkeep.testing.databases import WAIT_S, DatabaseTests, chain_of, count_of, note
from labkeep.testing.factories import make_actor, make_project


class TestPostgres(DatabaseTests):
    @pytest.fixture
    def opened(self, postgres_url: str, tmp_path: Path) -> Callable[[], Database]:
        return lambda: open_database(postgres_url, data=tmp_path)


@pytest.fixture
def database(postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    database = open_database(postgres_url, data=tmp_path)
    yield database
    database.close()


@pytest.fixture
def actor(database: Database) -> Actor:
    return make_actor(database)


def test_two_processes_share_one_database(database: Database, postgres_url: str, tmp_path: Path) -> None:
    actor = make_actor(database)
    other = open_database(postgres_url, data=tmp_path)
    futures = [(database, other)[number % 2].submit(note, actor, str(number)) for number in range(100)]
    for future in futures:
        future.result(WAIT_S)
    assert len(chain_of(other, actor)) == 100
    other.close()


def test_processes_that_start_together_make_one_schema(empty_postgres_url: str, tmp_path: Path) -> None:
    opened: list[Database] = []
    threads = [
        threading.Thread(target=lambda: opened.append(open_database(empty_postgres_url, data=tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(opened) == 4
    actor = make_actor(opened[0])
    assert [count_of(database, actor) for database in opened] == [0] * 4
    for database in opened:
        database.close()


def test_operations_that_lock_each_other_out_are_tried_again(database: Database, actor: Actor) -> None:
    ids = [make_project(database, actor).id for _ in range(2)]
    meeting = threading.Barrier(2, timeout=WAIT_S)
    attempts: list[int] = []

    def lock_both(tx: Tx, _actor: Actor, order: tuple[int, int]) -> None:
        attempts.append(order[0])
        first_time = len(attempts) <= 2
        for place, number in enumerate(order):
            if place == 1 and first_time:
                meeting.wait()
            tx.execute(update(t.items).where(t.items.c.id == ids[number]).values(bytes=t.items.c.bytes + 1))

    futures = [database.submit(lock_both, actor, order) for order in ((0, 1), (1, 0))]
    for future in futures:
        future.result(WAIT_S)
    assert len(attempts) > 2
    with database.engine.connect() as connection:
        assert connection.execute(select(t.items.c.bytes)).scalars().all() == [2, 2]


def test_a_serialization_failure_is_tried_again_and_not_for_ever(database: Database, actor: Actor) -> None:
    make_project(database, actor)
    tries: list[int] = []

    def read_then_write(tx: Tx, _actor: Actor, losing: int) -> None:
        tx.connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tx.one(select(t.items.c.bytes))
        tries.append(losing)
        if len(tries) <= losing:
            with database.engine.begin() as other:
                other.execute(update(t.items).values(bytes=t.items.c.bytes + 1))
        tx.execute(update(t.items).values(name="mine"))

    database.write(read_then_write, actor, 3)
    assert len(tries) == 4
    tries.clear()
    with pytest.raises(Unavailable, match="serialize"):
        database.write(read_then_write, actor, 100)
    assert len(tries) == RETRIES


def test_a_text_that_is_too_long_for_an_index_is_invalid(database: Database, actor: Actor) -> None:
    # High entropy in four bytes each, so that it cannot be compressed.
    long = "".join(chr(0x20000 + (number * 7919) % 40_000) for number in range(1_000))

    def store(tx: Tx, _actor: Actor, name: str) -> None:
        tx.execute(insert(t.organizations), [{"id": tx.new_id(), "name": name, "created_at": tx.now}])

    with pytest.raises(Invalid, match="too long"):
        database.write(store, actor, long)
    with pytest.raises(Invalid, match="cannot be stored"):
        database.write(store, actor, "NUL: \0")
    database.write(store, actor, long[:500])


@pytest.mark.parametrize("version", [(17, 5), (9, 6, 24), (0,)])
def test_an_older_server_is_refused(version: tuple[int, ...]) -> None:
    with pytest.raises(Unavailable, match=rf"18 or newer.*{'.'.join(map(str, version))}"):
        check_version(version)


@pytest.mark.parametrize("version", [(18,), (18, 0), (18, 1, 2), (19, 0)])
def test_a_newer_server_is_fine(version: tuple[int, ...]) -> None:
    check_version(version)


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="refused"):
        open_database(f"postgresql+psycopg://nobody@/nothing?host={tmp_path}", data=tmp_path)


def test_a_database_in_another_encoding_is_refused(database: Database, postgres_url: str, tmp_path: Path) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        )
        name = postgres_url.partition("?")[0].rpartition("/")[2]
        try:
            with pytest.raises(Unavailable, match="LATIN1"):
                open_database(postgres_url.replace(f"/{name}?", "/latin?"), data=tmp_path)
        finally:
            connection.execute(text("DROP DATABASE latin WITH (FORCE)"))


def test_a_reader_beside_the_server_reads_and_cannot_write(database: Database, actor: Actor, postgres_url: str) -> None:
    engine = open_reader(postgres_url, data=Path())
    with engine.connect() as connection:
        assert connection.execute(select(t.organizations.c.name)).scalar_one() == "organization"
        with pytest.raises(Exception, match="read-only"):
            connection.execute(update(t.organizations).values(name="x"))
    engine.dispose()


def test_every_text_column_is_ordered_by_code_point(database: Database) -> None:
    query = """
        SELECT table_name || '.' || column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name <> 'alembic_version'
          AND data_type IN ('text', 'character varying') AND collation_name IS DISTINCT FROM 'C'
    """
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql(query).scalars().all() == []
