"""The tables are what all migrations make, on both databases; and an older database is brought there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from labkeep.core.errors import Unavailable
from labkeep.storage.database_sqlite import Sqlite
from labkeep.storage.schema import HEAD, MIGRATIONS, migrate, prepare
from labkeep.storage.statistics import ROWS_PER_PREFIX
from labkeep.storage.tables import metadata
from labkeep.testing.databases import count_of
from labkeep.testing.factories import make_actor, make_project

NewEngine = Callable[[], Engine]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewEngine]:
    """A function that makes an engine over one more empty database."""
    made: list[Engine] = []

    def create() -> Engine:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / f'{len(made)}.db'}"
        else:
            url = request.getfixturevalue("new_postgres_url")()
        made.append(create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT"))
        return made[-1]

    yield create
    for engine in made:
        engine.dispose()


def test_the_migrations_make_what_the_tables_say(new_engine: NewEngine) -> None:
    at_once, step_by_step = new_engine(), new_engine()
    with at_once.connect() as connection:
        prepare(connection)
        wanted = structure(connection)
    with step_by_step.connect() as connection:
        migrate(connection)
        assert structure(connection) == wanted
    assert {name for kind, name, *_ in wanted if kind == "table"} == set(metadata.tables)


def test_alembic_finds_no_difference_either(new_engine: NewEngine) -> None:
    engine = new_engine()
    with engine.connect() as connection:
        migrate(connection)
        options = {"compare_type": True, "compare_server_default": True, "include_object": _is_ours}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def _is_ours(_object: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
    return not (kind == "table" and name in ("sqlite_stat1", "alembic_version"))


def test_the_newest_migration_is_the_one_that_a_new_database_is_stamped_with() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


def test_preparing_a_database_that_is_ready_changes_nothing(new_engine: NewEngine) -> None:
    engine = new_engine()
    with engine.connect() as connection:
        prepare(connection)
        before = structure(connection)
    with engine.connect() as connection:
        prepare(connection)
        assert structure(connection) == before


NUMBER = f"{int(HEAD) + 1:04}"
NEXT = f'''"""A next release."""

import sqlalchemy as sa
from alembic import op

revision = "{NUMBER}"
down_revision = "{HEAD}"


def upgrade():
    op.create_table("novelties", sa.Column("id", sa.Integer(), primary_key=True))
    op.add_column("plans", sa.Column("novelty", sa.Text(), nullable=True))
'''


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """The migrations of a release after this one."""
    folder = tmp_path / "migrations with a % in the name"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / f"{NUMBER}_next.py").write_text(NEXT)
    return folder


def test_an_older_database_is_brought_up_and_keeps_what_it_has(new_engine: NewEngine, next_release: Path) -> None:
    engine = new_engine()
    with engine.connect() as connection:
        prepare(connection)
        connection.execute(text("INSERT INTO plans SELECT id, id, id, 'h', 'a', '{}', 1 FROM organizations"))
        migrate(connection, folder=next_release)
        names = {name for kind, name, *_ in structure(connection) if kind == "table"}
        assert "novelties" in names
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == NUMBER
    with engine.connect() as connection, pytest.raises(Unavailable, match=rf"schema {NUMBER}.*newer"):
        prepare(connection)


def test_a_migration_that_fails_leaves_the_database_as_it_was(new_engine: NewEngine, next_release: Path) -> None:
    (next_release / "versions" / f"{NUMBER}_next.py").write_text(NEXT + "    op.execute('SELECT no_such_thing()')\n")
    engine = new_engine()
    with engine.connect() as connection:
        prepare(connection)
        before = structure(connection)
        with pytest.raises(Exception, match="no_such_thing"):
            migrate(connection, folder=next_release)
        assert structure(connection) == before
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
        prepare(connection)


def test_a_database_made_by_migrations_is_fit_for_use(tmp_path: Path) -> None:
    path = tmp_path / "labkeep.db"
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        migrate(connection)
    database = Sqlite(path)
    actor = make_actor(database)
    make_project(database, actor)
    assert count_of(database, actor) == 1
    database.close()


def test_the_planner_of_sqlite_knows_the_indexes_that_exist(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "labkeep.db")
    with database.engine.connect() as connection:
        known = {
            (table, index): stat.split()
            for table, index, stat in connection.exec_driver_sql("SELECT tbl, idx, stat FROM sqlite_stat1")
        }
        assert set(known) == set(ROWS_PER_PREFIX)
        for (table, index), rows in known.items():
            columns = connection.exec_driver_sql(f"PRAGMA index_info('{index}')").all()
            if index == table:  # the tree of a table without row ids
                columns = [row for row in connection.exec_driver_sql(f"PRAGMA table_info('{table}')") if row[5]]
            assert len(rows) == len(columns) + 1, index
    database.close()


# --- what a database looks like from the inside -------------------------------------------------------------------------


def structure(connection: Connection) -> set[tuple[Any, ...]]:
    """Everything that tells two schemas apart, read from the database's own catalogue."""
    read = _sqlite_structure if connection.dialect.name == "sqlite" else _postgres_structure
    return {row for row in read(connection) if "alembic_version" not in str(row)}


def _sqlite_structure(connection: Connection) -> Iterator[tuple[Any, ...]]:
    def rows(sql: str) -> list[Any]:
        return list(connection.exec_driver_sql(sql).all())

    texts = dict(rows("SELECT name, sql FROM sqlite_master WHERE type = 'index'"))
    for _, table, kind, _, without_rowid, strict in rows("PRAGMA main.table_list"):
        if table.startswith("sqlite_") or kind != "table":
            continue
        yield "table", table, without_rowid, strict
        for column in rows(f"PRAGMA table_xinfo('{table}')"):
            yield "column", table, *column[1:]
        for _, index, unique, origin, partial in rows(f"PRAGMA index_list('{table}')"):
            columns = tuple(tuple(row) for row in rows(f"PRAGMA index_xinfo('{index}')"))
            where = re.sub(r"\s+", " ", (texts.get(index) or "").partition("WHERE")[2]).strip()
            yield "index", table, index, unique, origin, partial, columns, where


def _postgres_structure(connection: Connection) -> Iterator[tuple[Any, ...]]:
    queries = {
        "table": """
            SELECT c.relname, obj_description(c.oid) FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'r'
        """,
        "column": """
            SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname,
                   pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), a.attidentity
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_collation l ON l.oid = a.attcollation
            LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
            WHERE n.nspname = 'public' AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
        """,
        "index": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "constraint": """
            SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace
        """,
    }
    for kind, query in queries.items():
        for row in connection.exec_driver_sql(query):
            yield kind, *row
