"""Statements that are compiled once and run with plain values: for what is read or written by the hundred.

Building a statement and taking each value through SQLAlchemy's types costs more than SQLite needs to run it. Here
both are done once for each shape: what is left are a text, the names of its parameters in order, and one function
for each column that has to be converted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple, Protocol

import msgspec
from sqlalchemy import Boolean, ClauseElement, Connection, Dialect, Select, Table, UpdateBase, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from labkeep.storage import column_types as types

Converter = Callable[[Any], Any]

_REMEMBERED = 4_096
"""Values whose conversion is remembered: ids and times repeat from row to row."""


@cache
def dialect_of(database: str) -> Dialect:
    """The dialect of ``sqlite`` or ``postgresql``, with parameters by position."""
    if database == "postgresql":
        return PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
    return SQLiteDialect_pysqlite()


# --- values -----------------------------------------------------------------------------------------------------------


def encoder(type: TypeEngine[Any], database: str) -> Converter | None:
    """What makes of a value what the driver takes; None when that is the value itself."""
    return _encoder(_kind(type), database)


def decoder(type: TypeEngine[Any], database: str) -> Converter | None:
    """What makes of a driver's value what an entity has; None when that is the value itself."""
    return _decoder(_kind(type), database)


def _kind(type: TypeEngine[Any]) -> TypeEngine[Any]:
    """One type for all columns that convert alike, so that they share what is remembered."""
    words = type.words if isinstance(type, types.Choice) else None
    return _kinds.setdefault((type.__class__, words), type)


_kinds: dict[Any, TypeEngine[Any]] = {}


@cache
def _encoder(type: TypeEngine[Any], database: str) -> Converter | None:
    if isinstance(type, types.Json):
        return lambda value: msgspec.json.encode(value).decode()
    if isinstance(type, types.Id | types.Moment | types.Choice):
        return lru_cache(_REMEMBERED)(partial(type.process_bind_param, dialect=dialect_of(database)))
    if isinstance(type, types.Words):
        return partial(type.process_bind_param, dialect=dialect_of(database))
    return None


@cache
def _decoder(type: TypeEngine[Any], database: str) -> Converter | None:
    if isinstance(type, types.Json):
        return msgspec.json.decode
    if isinstance(type, types.Id | types.Moment | types.Choice):
        return lru_cache(_REMEMBERED)(partial(type.process_result_value, dialect=dialect_of(database)))
    if isinstance(type, types.Words):  # somebody's words, which may be purged: they are not remembered
        return partial(type.process_result_value, dialect=dialect_of(database))
    if isinstance(type, Boolean) and database == "sqlite":
        return bool
    return None


def raw_id(id: str, database: str) -> Any:
    """An id as the driver takes it: 16 bytes, or a UUID."""
    return _raw(_ID, id, database)


def raw_time(moment: datetime, database: str) -> Any:
    """A moment as the driver takes it: microseconds since the epoch."""
    return _raw(_TIME, moment, database)


def _raw(type: TypeEngine[Any], value: Any, database: str) -> Any:
    encode = encoder(type, database)
    assert encode is not None
    return encode(value)


_ID, _TIME = types.Id(), types.Moment()


def decode_rows(rows: Sequence[Sequence[Any]], decoders: Sequence[Converter | None]) -> Iterable[tuple[Any, ...]]:
    """``rows`` with each column converted: column by column, which is several times faster than row by row."""
    columns = zip(*rows, strict=True)
    converted = (
        column if decode is None else map(decode, column) for column, decode in zip(columns, decoders, strict=False)
    )
    return zip(*converted, strict=True)


# --- to the driver ----------------------------------------------------------------------------------------------------


def send(connection: Connection, text: str, values: Sequence[Any] = (), *, many: bool = False) -> Any:
    """Run a text with values as the driver takes them, once or for each of ``many``; the cursor.

    SQLite needs less time for a small statement than SQLAlchemy for handing it over, so there it goes straight to the
    driver, whose errors are raised as SQLAlchemy would raise them.
    """
    if connection.dialect.name != "sqlite":
        return connection.exec_driver_sql(text, values)
    driver: Any = connection.connection.driver_connection
    try:
        return driver.executemany(text, values) if many else driver.execute(text, values)
    except sqlite3.Error as error:
        raise DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True) from error


# --- reading ----------------------------------------------------------------------------------------------------------


class Prepared:
    """A statement without values. `run` takes them by the names of its bind parameters, as the driver takes them."""

    def __init__(self, statement: ClauseElement, database: str) -> None:
        compiled: Any = statement.compile(dialect=dialect_of(database))
        self.text = str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self.types = {name: compiled.binds[name].type for name in self._names}
        self._constants = {
            name: _constant(compiled.binds[name], database) for name in self._names if not compiled.binds[name].required
        }

    def run(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """All rows, as the driver gives them."""
        found: Sequence[Any] = self.execute(connection, values).fetchall()
        return found

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """Run a statement; its cursor."""
        known = {**self._constants, **values} if self._constants else values
        return send(connection, self.text, tuple([known[name] for name in self._names]))


class Ready:
    """A statement that takes and gives values as entities have them, made once for each database."""

    def __init__(self, statement: Select[Any] | UpdateBase) -> None:
        self._statement = statement
        self._made: dict[str, _Made] = {}

    def rows(self, tx: Sender, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows that it gives."""
        made = self._made.get(tx.database) or self._make(tx.database)
        found = made.prepared.execute(tx.connection, made.raw(values)).fetchall()
        return list(decode_rows(found, made.decoders)) if found else []

    def first(self, tx: Sender, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first of them, or None."""
        found = self.rows(tx, values)
        return found[0] if found else None

    def do(self, tx: Sender, values: Mapping[str, Any]) -> None:
        """Run it for what it does."""
        made = self._made.get(tx.database) or self._make(tx.database)
        made.prepared.execute(tx.connection, made.raw(values))

    def _make(self, database: str) -> _Made:
        prepared = Prepared(self._statement, database)
        encoders = {name: encode for name, type in prepared.types.items() if (encode := encoder(type, database))}
        decoders = [decoder(type, database) for type in _given(self._statement)]
        made = self._made[database] = _Made(prepared, encoders, decoders)
        return made


class Sender(Protocol):
    """As much of a transaction as a statement needs."""

    connection: Connection
    database: str


class _Made(NamedTuple):
    prepared: Prepared
    encoders: Mapping[str, Converter]
    decoders: Sequence[Converter | None]

    def raw(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.encoders[name](value) if name in self.encoders else value for name, value in values.items()}


def _given(statement: Select[Any] | UpdateBase) -> list[TypeEngine[Any]]:
    if isinstance(statement, Select):
        return [column.type for column in statement.selected_columns]
    return [column["type"] for column in statement.returning_column_descriptions]


class Shelf:
    """Prepared statements by their shape. A shape has no values in it, so nothing that is asked for is kept."""

    def __init__(self, room: int = 500) -> None:
        self._room = room
        self._kept: dict[Any, Prepared] = {}

    def get(self, shape: Any, make: Callable[[], Prepared]) -> Prepared:
        """The statement of this shape, made when there is none yet."""
        found = self._kept.get(shape)
        if found is None:
            if len(self._kept) >= self._room:
                self._kept.clear()  # whoever makes up shapes pays for them; all others are soon back
            found = self._kept[shape] = make()
        return found


def _constant(bind: Any, database: str) -> Any:
    encode = encoder(bind.type, database)
    return bind.value if encode is None or bind.value is None else encode(bind.value)


# --- writing ----------------------------------------------------------------------------------------------------------


class Bulk:
    """Writes rows with the same columns into one table: an INSERT, or one that replaces what has the same key."""

    def __init__(self, table: Table[Any], names: tuple[str, ...], database: str, *, replace: bool = False) -> None:
        self._names = names
        self._encoders = [encoder(table.c[name].type, database) for name in names]
        statement = _upsert(table, names, database) if replace else insert(table)
        compiled: Any = statement.compile(dialect=dialect_of(database), column_keys=list(names))
        self.text = str(compiled)
        assert tuple(compiled.positiontup) == names, "parameters come in the order of the columns"

    def write(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``rows``, one or more, each with exactly the columns of this statement."""
        columns = [[row[name] for row in rows] for name in self._names]
        self.write_columns(connection, columns)

    def write_columns(self, connection: Connection, columns: Iterable[Iterable[Any]]) -> None:
        """The same from columns."""
        encoded = (
            column if encode is None else map(encode, column)
            for column, encode in zip(columns, self._encoders, strict=True)
        )
        send(connection, self.text, list(zip(*encoded, strict=True)), many=True)


def _upsert(table: Table[Any], names: tuple[str, ...], database: str) -> Any:
    statement: Any = (postgresql.insert if database == "postgresql" else sqlite.insert)(table)
    keys = [column.name for column in table.primary_key.columns]
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    if changed:
        return statement.on_conflict_do_update(index_elements=keys, set_=changed)
    return statement.on_conflict_do_nothing(index_elements=keys)


@cache
def bulk(table: Table[Any], names: tuple[str, ...], database: str, replace: bool = False) -> Bulk:
    """The `Bulk` of a table and its columns, made once."""
    ordered = tuple(column.name for column in table.columns if column.name in names)
    return Bulk(table, ordered, database, replace=replace)
