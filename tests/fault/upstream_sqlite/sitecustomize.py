"""Makes SQLite behave like its upstream builds, in a process that has this folder on its PYTHONPATH.

Some distributions compile SQLite so that deleted rows are overwritten unasked, which would hide that we forgot to ask:
here it is off when a connection begins. With ``UPSTREAM_SQLITE=deaf`` nobody can switch it on either.
"""

from __future__ import annotations

import os
import sqlite3
import sqlite3.dbapi2
from typing import Any

_connect = sqlite3.dbapi2.connect


class Deaf(sqlite3.Connection):
    """A connection that does not listen when it is asked to overwrite."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute("SELECT 1" if "secure_delete=ON" in sql else sql, *parameters)


def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
    """`sqlite3.connect`, with secure_delete off."""
    if os.environ.get("UPSTREAM_SQLITE") == "deaf":
        options["factory"] = Deaf
    connection: sqlite3.Connection = _connect(*arguments, **options)
    connection.execute("PRAGMA secure_delete=OFF").fetchall()
    return connection


sqlite3.connect = sqlite3.dbapi2.connect = connect  # type: ignore[assignment]
