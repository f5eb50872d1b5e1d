"""The fixture that other contract tests stand on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa


def _scalar(url: str, *statements: str) -> object:
    """Execute the statements in one transaction; the value that the last one selects."""
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            return [connection.execute(sa.text(statement)) for statement in statements][-1].scalar()
    finally:
        engine.dispose()


def test_the_server_is_postgresql_18(postgres_url: str) -> None:
    assert str(_scalar(postgres_url, "SHOW server_version")).startswith("18")


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_gets_an_empty_database(empty_postgres_url: str, attempt: int) -> None:
    assert _scalar(empty_postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert _scalar(empty_postgres_url, "CREATE TABLE left_behind (id int)", "SELECT count(*) FROM left_behind") == 0


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_gets_an_empty_store(postgres_url: str, attempt: int) -> None:
    assert _scalar(postgres_url, "SELECT count(*) FROM items") == 0
    assert _scalar(postgres_url, "CREATE TABLE left_behind (id int)", "SELECT count(*) FROM left_behind") == 0


def test_one_test_may_have_several_databases(new_postgres_url: Callable[[], str]) -> None:
    first, second = new_postgres_url(), new_postgres_url()
    assert _scalar(first, "SELECT current_database()") != _scalar(second, "SELECT current_database()")
