"""What SQLite's planner is told about a large store, whatever the store looks like at the moment.

Without statistics it takes every equality for about as selective as the next one, and looks through a whole
workspace for a few ids. Statistics of a store as it is would go stale, and plans would change under way; so this
table is the same for every store. PostgreSQL gathers its own.
"""

from __future__ import annotations

from sqlalchemy import Connection

ROWS_PER_PREFIX: dict[tuple[str, str], str] = {
    # table, index: rows of the table, then how many rows one value of the first column has, of the first two, …
    ("items", "sqlite_autoindex_items_1"): "1000000 1000000 1",
    ("items", "items_parent"): "1000000 1000000 100000 100000 50000 1",
    ("items", "items_project"): "1000000 1000000 100000 50000 25000 1",
    ("items", "items_created"): "1000000 1000000 100000 50000 25000 10 1",
    ("items", "items_workspace"): "1000000 1000000 500000 250000 125000 1",
    ("items", "items_deletion"): "1000000 1000000 1000 1",
    ("items", "items_handle"): "100000 100000 1000 1000 100 1",
    ("runs", "sqlite_autoindex_runs_1"): "1000000 1000000 1",
    ("runs", "runs_status"): "1000000 1000000 100000 50000 1",
    ("runs", "runs_base"): "10000 10000 10",
    ("runs", "runs_document"): "1000000 1000000 1000 1",
    ("runs", "runs_heartbeat"): "1000000 500000 2",
    ("fields", "fields"): "20000000 20000000 20 1",
    ("fields", "fields_num"): "10000000 1000000 100000 100000 100 1",
    ("fields", "fields_text"): "10000000 1000000 100000 1000 1",
}


def teach(connection: Connection) -> None:
    """Store the table where the planner reads it; nothing happens when it is there already."""
    known = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").first()
    wanted = sorted((*key, rows) for key, rows in ROWS_PER_PREFIX.items())
    if known is None:
        # Only ANALYZE can make the table. It is looked through: the smallest one there is.
        connection.exec_driver_sql("ANALYZE alembic_version")
    found = connection.exec_driver_sql("SELECT tbl, idx, stat FROM sqlite_stat1 WHERE tbl <> 'alembic_version'").all()
    if sorted(map(tuple, found)) == wanted:
        return
    connection.exec_driver_sql("BEGIN")
    connection.exec_driver_sql("DELETE FROM sqlite_stat1")
    connection.exec_driver_sql("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", wanted)
    connection.exec_driver_sql("COMMIT")
    connection.exec_driver_sql("ANALYZE sqlite_schema")
