"""Statements that are compiled once: whatever goes in comes out, as if SQLAlchemy's types had converted it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select

from labkeep.core.access import Actor
from labkeep.core.errors import Invalid
from labkeep.core.lifecycle import Kind, OnDelete, Role, State, Status
from labkeep.storage import column_types as types
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.opening import open_database
from labkeep.storage.prepared import Prepared, Shelf, bulk, decode_rows, decoder, raw_id
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor

ID = "0195f3a1-7b2c-7def-8123-456789abcdef"
SAMPLES: dict[type[Any], list[Any]] = {
    types.Id: [ID, "00000000-0000-0000-0000-000000000000"],
    types.Moment: [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)],
    types.Json: [{}, {"a": [1, None, "é\u0000"]}],
    types.Words: [(), ("a", 'b"', "")],
}
WORDS = {"kind": Kind, "state": State, "previous_state": State, "status": Status, "role": Role, "on_delete": OnDelete}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = open_database(url, data=tmp_path)
    yield database
    database.close()


def samples(column: Any, number: int) -> Any:
    """A value for a column; keys differ from row to row."""
    kind = column.type
    if isinstance(kind, types.Choice):
        return list(kind.words)[number % 2]
    if isinstance(kind, types.Id):
        return f"00000000-0000-7000-8000-{number:012}" if column.primary_key else SAMPLES[types.Id][number % 2]
    for known, values in SAMPLES.items():
        if isinstance(kind, known):
            return values[number % 2]
    python = kind.python_type
    makers: dict[type[Any], Callable[[], Any]] = {
        str: lambda: f"text {number} é",
        int: lambda: number,
        float: lambda: number + 0.5,
        bool: lambda: number % 2 == 1,
        bytes: lambda: bytes([number]) * 32,
    }
    return makers[python]()


@pytest.mark.parametrize("table", t.metadata.sorted_tables, ids=lambda table: table.name)
def test_rows_of_every_table_come_back_as_they_were_written(database: Database, table: Table) -> None:
    actor = make_actor(database)
    rows = [{column.name: samples(column, number) for column in table.columns} for number in (5, 6)]
    for row in rows[1:]:
        row.update({column.name: None for column in table.columns if column.nullable})

    def write(tx: Tx, _actor: Actor, _command: None) -> None:
        tx.insert(table, rows)
        tx.upsert(table, rows)

    def typed(tx: Tx, _actor: Actor, _command: None) -> list[dict[str, Any]]:
        return [dict(row) for row in tx.all(select(table)) if dict(row) in rows]

    def raw(tx: Tx, _actor: Actor, _command: None) -> list[dict[str, Any]]:
        found = tx.connection.exec_driver_sql(str(select(table))).all()
        decoders = [decoder(column.type, tx.database) for column in table.columns]
        made = [dict(zip(table.columns.keys(), row, strict=True)) for row in decode_rows(found, decoders)]
        return [row for row in made if row in rows]

    database.write(write, actor, None)
    assert len(database.read(typed, actor, None)) == 2
    assert len(database.read(raw, actor, None)) == 2


def test_an_upsert_replaces_what_has_the_same_key(database: Database) -> None:
    actor = make_actor(database)
    row = {"organization_id": actor.organization_id, "owner_id": ID, "name": "s", "total": 1.0, "count": 1}

    def write(tx: Tx, _actor: Actor, _command: None) -> list[Any]:
        tx.upsert(t.row_scores, [row, {**row, "name": "other"}])
        tx.upsert(t.row_scores, [{**row, "total": 7.5}])
        tx.upsert(t.row_scores, [])
        tx.insert(t.row_scores, iter([]))
        return sorted(tuple(found) for found in tx.execute(select(t.row_scores.c.name, t.row_scores.c.total)))

    assert database.write(write, actor, None) == [("other", 1.0), ("s", 7.5)]


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_what_is_no_id_never_gets_to_the_driver(name: str) -> None:
    for wrong in ("", "x", ID.upper(), "0" * 32):
        with pytest.raises(Invalid):
            raw_id(wrong, name)


def test_nothing_comes_of_no_rows() -> None:
    assert list(decode_rows([], [None, decoder(types.Json(), "sqlite")])) == []


def test_a_statement_is_made_once_for_its_columns_in_whatever_order() -> None:
    names = tuple(t.row_scores.columns.keys())
    first = bulk(t.row_scores, names, "sqlite")
    assert bulk(t.row_scores, names, "sqlite") is first
    assert bulk(t.row_scores, names[::-1], "sqlite").text == first.text
    assert bulk(t.row_scores, names, "sqlite", True).text != first.text


def test_a_shelf_makes_a_statement_once_and_never_overflows() -> None:
    made: list[int] = []

    def make(number: int) -> Prepared:
        made.append(number)
        return Prepared(select(t.organizations.c.id), "sqlite")

    shelf = Shelf(room=3)
    first = [shelf.get(number, lambda number=number: make(number)) for number in (1, 2, 3, 1, 2, 3)]  # type: ignore[misc]
    assert first[:3] == first[3:]
    for number in range(100):
        shelf.get(number, lambda number=number: make(number))  # type: ignore[misc]
    assert len(made) <= 103
    assert len(shelf._kept) <= 3
