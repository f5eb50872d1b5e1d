"""Brings a database to the schema of this release: at once when it is empty, by migrations when it is older."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from labkeep.core.errors import Unavailable
from labkeep.storage import usage
from labkeep.storage.statistics import teach
from labkeep.storage.tables import metadata

HEAD = "0002"
"""The newest migration. A test holds that tables and migrations agree."""

MIGRATIONS = Path(__file__).parent / "migrations"


def prepare(connection: Connection) -> None:
    """Create or migrate the schema. Unavailable when the database was made by a newer release."""
    found = _revision(connection)
    if found is None:
        _create(connection)
    elif found != HEAD:
        migrate(connection)
    usage.install(connection)
    if connection.dialect.name == "sqlite":
        teach(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _create(connection: Connection) -> None:
    # One transaction: a process that dies here leaves an empty database, not half a schema.
    connection.exec_driver_sql("BEGIN")
    metadata.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})
    connection.exec_driver_sql("COMMIT")


def migrate(connection: Connection, target: str = "head", folder: Path = MIGRATIONS) -> None:
    """Run the migrations that are missing, all of them or none. Unavailable when the schema is of a newer release."""
    # Here, because a start without work needs no alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    found = _revision(connection)
    connection.exec_driver_sql("BEGIN")
    try:
        command.upgrade(config, target)
    except CommandError as error:
        connection.exec_driver_sql("ROLLBACK")
        raise Unavailable(
            f"the database is at schema {found}, which this release does not know: "
            "use the release that made it, or a newer one"
        ) from error
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")
