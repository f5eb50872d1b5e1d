"""From what the settings say to a database and a blob store: the one place that knows which kinds there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sqlalchemy import Engine

from labkeep.core.errors import Invalid, Unavailable, Unsupported
from labkeep.storage.blobs import Blobs, MemoryBlobs
from labkeep.storage.blobs_local import LocalBlobs
from labkeep.storage.database import Clock, Database, utc_now
from labkeep.storage.database_sqlite import Sqlite, reading_engine

FILE_NAME = "labkeep.db"
"""The embedded database, in the data folder."""

_OBJECT_SCHEMES = {"s3", "gs", "az"}


def open_database(url: str, *, data: Path, readers: int = 4, clock: Clock = utc_now) -> Database:
    """The database at ``url`` (PostgreSQL), or the embedded one in ``data`` when ``url`` is empty."""
    if not url:
        return Sqlite(data / FILE_NAME, readers=readers, clock=clock)
    # Here, so that a server with SQLite needs no PostgreSQL driver.
    from labkeep.storage.database_postgres import Postgres

    return Postgres(url, readers=readers, clock=clock)


def open_reader(url: str, *, data: Path) -> Engine:
    """An engine for reading only, beside whatever process has the database open. Unavailable when there is none."""
    if url:
        from labkeep.storage.database_postgres import postgres_engine

        return postgres_engine(url).execution_options(postgresql_readonly=True)
    path = data / FILE_NAME
    if not path.exists():
        raise Unavailable(f"there is no Labkeep store in {data}")
    return reading_engine(path)


def open_blobs(location: str | Path, **options: Any) -> Blobs:
    """The store at a path or ``file://`` URL, ``memory://``, or ``s3://``, ``gs://`` or ``az://`` with a bucket.

    ``options`` are for object stores: ``endpoint``, ``region``, ``access_key_id`` … as ``open_object_blobs`` says.
    Invalid when the location or an option makes no sense.
    """
    scheme, separator, _ = str(location).partition("://")
    if separator and scheme in _OBJECT_SCHEMES:
        return _open_object_blobs(str(location), options)
    if options:
        raise Invalid(f"the blob store at {location} takes no options: {', '.join(sorted(options))}", path="blobs")
    if scheme == "memory" and separator:
        return MemoryBlobs()
    parts = urlsplit(str(location))
    if not separator:
        return LocalBlobs(location)
    if scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return LocalBlobs(url2pathname(parts.path))
    raise Invalid(f"{location} is no blob store: use a path, file:///, memory://, s3://, gs:// or az://", path="blobs")


def _open_object_blobs(url: str, options: dict[str, Any]) -> Blobs:
    try:
        # Here, so that a server with local files needs no obstore.
        from labkeep.storage.blobs_object import open_object_blobs
    except ModuleNotFoundError as error:
        raise Unsupported(f"{url} needs the object store client: pip install 'labkeep[s3]'") from error
    return open_object_blobs(url, options)
