"""The schema that a new database gets at once is the schema that all migrations make."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, text

from labkeep.core.errors import Unavailable
from labkeep.storage.schema import HEAD, migrate, prepare
from labkeep.storage.tables import metadata

VERSIONS = Path(__file__).parents[2] / "src" / "labkeep" / "storage" / "migrations" / "versions"


@pytest.fixture(params=["sqlite", "postgresql"])
def engines(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> Iterator[Callable[[], Engine]]:
    """Makes engines on empty databases of one kind."""
    made: list[Engine] = []

    def make() -> Engine:
        url = f"sqlite:///{tmp_path}/{len(made)}.db" if request.param == "sqlite" else new_postgres_url()
        made.append(create_engine(url, isolation_level="AUTOCOMMIT"))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def _schema(connection: Connection) -> list[tuple[str, ...]]:
    """Everything that the database itself says of its tables, columns and indexes."""
    if connection.dialect.name == "sqlite":
        found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")).all()
        # The order of columns is free; alembic and create_all also quote and break lines in their own ways.
        return sorted((name, " ".join(sorted(re.findall(r"\w+|[<>=]+", sql)))) for name, sql in found)
    columns = connection.execute(
        text(
            "SELECT table_name, column_name, data_type, is_nullable, coalesce(collation_name, '')"
            " FROM information_schema.columns WHERE table_schema = 'public'"
        )
    )
    indexes = connection.execute(
        text("SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    )
    comments = connection.execute(
        text(
            "SELECT c.relname, d.objsubid::text, d.description FROM pg_description d JOIN pg_class c ON c.oid = d.objoid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'"
        )
    )
    return sorted(tuple(row) for rows in (columns, indexes, comments) for row in rows)


def test_tables_equal_all_migrations(engines: Callable[[], Engine]) -> None:
    with engines().connect() as at_once, engines().connect() as step_by_step:
        prepare(at_once)
        migrate(step_by_step, None)
        ours = [row for row in _schema(at_once) if row[0] != "alembic_version"]
        theirs = [row for row in _schema(step_by_step) if row[0] != "alembic_version"]
        assert ours == theirs
        assert compare_metadata(MigrationContext.configure(step_by_step), metadata) == []


def test_a_new_database_is_at_the_newest_migration(engines: Callable[[], Engine]) -> None:
    newest = max(path.name.split("_")[0] for path in VERSIONS.glob("[0-9]*.py"))
    assert newest == HEAD
    with engines().connect() as connection:
        prepare(connection)
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
        prepare(connection)  # a second start finds nothing to do


def test_a_database_of_a_newer_release_is_refused(engines: Callable[[], Engine]) -> None:
    with engines().connect() as connection:
        prepare(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(Unavailable, match="does not know"):
            prepare(connection)
