"""Who holds how much, as counters. Triggers on ``items`` keep them, so no statement that changes an object can forget
them, and reading them costs the same however much is stored.

One line counts the objects of one project, kind, user and state; further lines count those with one tag. An object is
``live`` or ``trashed``; a project counts in itself. What is purged counts nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import Template
from typing import Any

from sqlalchemy import Connection, delete
from sqlalchemy.dialects import postgresql, sqlite

from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

_KEY = 'organization_id, workspace_id, project_id, kind, "user", tag, state, shard'


def _sql(template: str, **parts: str) -> str:
    """SQL from our own words. Values of users never come here."""
    return Template(template).substitute(parts, key=_KEY)


def _state(row: str) -> str:
    return _sql("CASE $row.state WHEN 'trashed' THEN 'trashed' ELSE 'live' END", row=row)


def _cell(row: str) -> str:
    """Where an object counts, but for its tags: six columns without the tag between the last two."""
    cell = "$row.organization_id, $row.workspace_id, coalesce($row.project_id, $row.id), $row.kind, $row.created_by"
    return _sql(cell, row=row)


def _lines(rows: str, tags: str) -> str:
    """Every object with every line that it counts in: once for itself, and once for each tag."""
    template = (
        "SELECT DISTINCT i.id, $cell, words.value, $state, i.bytes FROM $rows AS i, $tags WHERE i.state <> 'purged'"
    )
    return _sql(template, cell=_cell("i"), state=_state("i"), rows=rows, tags=tags)


# --- SQLite: by row, which is cheap where the trigger runs in the process that writes -----------------------------------

_TAGS_SQLITE = "json_each(json_insert(i.tags, '$[#]', '')) AS words"


def _tags_of(row: str) -> str:
    return _sql("SELECT DISTINCT value FROM json_each($row.tags)", row=row)


def _gain(items: str, size: str, *, tags: bool) -> str:
    """Add to the line of an object, or to the lines of its tags."""
    template = (
        "INSERT INTO usage_counters ($key, items, bytes) "
        "SELECT $words, $state, 0, $items, $size $source WHERE NEW.state <> 'purged' "
        "ON CONFLICT ($key) DO UPDATE SET items = items + excluded.items, bytes = bytes + excluded.bytes; "
    )
    source = _sql("FROM ($tags) AS words", tags=_tags_of("NEW")) if tags else ""
    words = _cell("NEW") + (", words.value" if tags else ", ''")
    return _sql(template, words=words, state=_state("NEW"), items=items, size=size, source=source)


def _lines_of_old(*, tags: bool) -> str:
    template = (
        "organization_id = OLD.organization_id AND workspace_id = OLD.workspace_id AND "
        'project_id = coalesce(OLD.project_id, OLD.id) AND kind = OLD.kind AND "user" = OLD.created_by AND tag $which '
        "AND state = $state AND shard = 0"
    )
    return _sql(template, state=_state("OLD"), which=_sql("IN ($tags)", tags=_tags_of("OLD")) if tags else "= ''")


def _lose(*, tags: bool) -> str:
    """Take an object off its line, or off the lines of its tags, and drop those that count nothing any more."""
    lines = _lines_of_old(tags=tags)
    return (
        f"UPDATE usage_counters SET items = items - 1, bytes = bytes - OLD.bytes WHERE OLD.state <> 'purged' AND {lines}; "  # noqa: S608 - our own words
        f"DELETE FROM usage_counters WHERE {lines} AND items = 0 AND bytes = 0; "
    )


def _stays(*, tags: bool) -> str:
    """Whether an object counts in the same lines as before. What changes most often comes first."""
    columns = (
        _state("$row"),
        "$row.project_id",
        "$row.workspace_id",
        "$row.created_by",
        *(["$row.tags"] if tags else []),
    )
    same = " AND ".join(f"{_sql(column, row='OLD')} IS {_sql(column, row='NEW')}" for column in columns)
    return f"{same} AND OLD.state <> 'purged' AND NEW.state <> 'purged'"


_MADE = "AFTER INSERT ON items"
_GROWN = "AFTER UPDATE OF bytes ON items"
_MOVED = "AFTER UPDATE OF state, tags, project_id, workspace_id, created_by ON items"
_DROPPED = "AFTER DELETE ON items"


def _triggers(suffix: str, *, tags: bool) -> dict[str, str]:
    """Most objects have no tags, and do not pay for them."""
    gained, lost, stays = _gain("1", "NEW.bytes", tags=tags), _lose(tags=tags), _stays(tags=tags)
    grown = _gain("0", "NEW.bytes - OLD.bytes", tags=tags)
    new, old = ("NEW.tags <> '[]'", "OLD.tags <> '[]'") if tags else ("true", "true")
    return {
        f"usage_made{suffix}": f"{_MADE} WHEN {new} BEGIN {gained}END",
        f"usage_grown{suffix}": f"{_GROWN} WHEN {new} AND OLD.bytes <> NEW.bytes AND {stays} BEGIN {grown}END",
        f"usage_moved{suffix}": f"{_MOVED} WHEN ({new} OR {old}) AND NOT ({stays}) BEGIN {lost}{gained}END",
        f"usage_dropped{suffix}": f"{_DROPPED} WHEN {old} BEGIN {lost}END",
    }


_SQLITE = {**_triggers("", tags=False), **_triggers("_tags", tags=True)}


def _install_sqlite(connection: Connection) -> bool:
    wanted = {name: f"CREATE TRIGGER {name} {body}" for name, body in _SQLITE.items()}
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'items'"
    found = {row[0]: row[1] for row in connection.exec_driver_sql(query)}
    if found == wanted:
        return False
    for name in found:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    for statement in wanted.values():
        connection.exec_driver_sql(statement)
    return True


# --- PostgreSQL: by statement, over all rows that it changed ------------------------------------------------------------

SHARDS = 16
"""Lines that a counter is spread over, so that writers at the same moment seldom wait for each other."""

_TAGS_POSTGRES = "LATERAL (SELECT '' UNION ALL SELECT json_array_elements_text(i.tags::json)) AS words (value)"
_FUNCTION = """
BEGIN
    INSERT INTO usage_counters AS u ($key, items, bytes)
    SELECT o, w, p, k, c, tag, s, mod(pg_backend_pid(), $shards), sum(n), sum(n * size)
    FROM ($changes) AS changes (n, id, o, w, p, k, c, tag, s, size)
    GROUP BY o, w, p, k, c, tag, s
    HAVING sum(n) <> 0 OR sum(n * size) <> 0
    ORDER BY o, w, p, k, c, tag, s
    ON CONFLICT ($key) DO UPDATE SET items = u.items + excluded.items, bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END
"""


def _signed(number: int, rows: str) -> str:
    lines = _lines(rows, _TAGS_POSTGRES)
    return _sql("SELECT $number, lines.* FROM ($lines) AS lines", number=str(number), lines=lines)


def _body(*changes: str) -> str:
    return _sql(_FUNCTION, shards=str(SHARDS), changes=" UNION ALL ".join(changes))


_POSTGRES: dict[str, tuple[str, str]] = {
    "usage_made": ("INSERT ON items REFERENCING NEW TABLE AS made", _body(_signed(1, "made"))),
    "usage_moved": (
        "UPDATE ON items REFERENCING OLD TABLE AS before NEW TABLE AS after",
        _body(_signed(-1, "before"), _signed(1, "after")),
    ),
    "usage_dropped": ("DELETE ON items REFERENCING OLD TABLE AS dropped", _body(_signed(-1, "dropped"))),
}


def _install_postgres(connection: Connection) -> bool:
    query = (
        "SELECT p.proname, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
        "WHERE t.tgrelid = 'items'::regclass AND NOT t.tgisinternal"
    )
    found = {row[0]: row[1] for row in connection.exec_driver_sql(query)}
    if found == {name: body for name, (_, body) in _POSTGRES.items()}:
        return False
    for name, (timing, body) in _POSTGRES.items():
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON items")
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$"
        )
        connection.exec_driver_sql(f"CREATE TRIGGER {name} AFTER {timing} FOR EACH STATEMENT EXECUTE FUNCTION {name}()")
    return True


# --- keeping them right -------------------------------------------------------------------------------------------------


def install(connection: Connection) -> None:
    """Put the triggers in place and count what is there; nothing happens when they are there as they should be."""
    install_missing = _install_sqlite if connection.dialect.name == "sqlite" else _install_postgres
    connection.exec_driver_sql("BEGIN")
    try:
        if install_missing(connection):
            recount(connection)
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


def _every_line(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        return _lines("items", _TAGS_SQLITE)
    return _lines("items", _TAGS_POSTGRES)


def recount(connection: Connection) -> None:
    """Count everything again: for a database that had no triggers, and to mend wrong counters."""
    connection.exec_driver_sql("DELETE FROM usage_counters")
    template = (
        "WITH lines (id, o, w, p, k, c, tag, s, size) AS ($lines) "
        "INSERT INTO usage_counters ($key, items, bytes) "
        "SELECT o, w, p, k, c, tag, s, 0, count(*), sum(size) FROM lines GROUP BY o, w, p, k, c, tag, s"
    )
    connection.exec_driver_sql(_sql(template, lines=_every_line(connection)))


def differences(connection: Connection) -> Iterator[tuple[Any, ...]]:
    """Lines that do not agree with the objects: organization, workspace, project, kind, user, tag, state, then items
    and bytes as counted, then items and bytes as they should be.
    """
    template = (
        "WITH lines (id, o, w, p, k, c, tag, s, size) AS ($lines) "
        "SELECT o, w, p, k, c, tag, s, sum(n), sum(b), sum(m), sum(d) FROM ("
        "SELECT o, w, p, k, c, tag, s, 0 AS n, 0 AS b, 1 AS m, size AS d FROM lines UNION ALL "
        'SELECT organization_id, workspace_id, project_id, kind, "user", tag, state, items, bytes, 0, 0 '
        "FROM usage_counters) AS compared GROUP BY o, w, p, k, c, tag, s HAVING sum(n) <> sum(m) OR sum(b) <> sum(d)"
    )
    yield from map(tuple, connection.exec_driver_sql(_sql(template, lines=_every_line(connection))))


def add_up(tx: Tx, organization_id: str) -> None:
    """Bring the shards of an organization together, and drop lines that count nothing: they may quote what is purged."""
    table = t.usage_counters
    mine = table.c.organization_id == organization_id
    lines: dict[tuple[Any, ...], list[int]] = {}
    # In one statement: what others add meanwhile waits, and is added to what is put back.
    for *key, _shard, items, size in tx.execute(delete(table).where(mine).returning(*table.c)):
        line = lines.setdefault(tuple(key), [0, 0])
        line[0], line[1] = line[0] + items, line[1] + size
    names = [column.name for column in table.columns]
    kept = [
        dict(zip(names, (*key, 0, items, size), strict=True))
        for key, (items, size) in sorted(lines.items())
        if items or size
    ]
    if kept:
        insert: Any = (postgresql.insert if tx.database == "postgresql" else sqlite.insert)(table)
        added = {name: table.c[name] + insert.excluded[name] for name in ("items", "bytes")}
        tx.execute(insert.on_conflict_do_update(index_elements=[*table.primary_key.columns], set_=added), kept)
