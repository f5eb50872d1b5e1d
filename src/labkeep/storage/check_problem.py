"""What a check is given, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from labkeep.storage.blobs import Blobs
from labkeep.storage.transaction import Tx


class Problem(msgspec.Struct, frozen=True):
    """Something that does not fit, and what would mend it."""

    check: str
    subject: str
    message: str
    repair: str


class Subject(msgspec.Struct, frozen=True):
    """What is checked: a connection to read with, the blobs, the moment, and whether contents are read too."""

    connection: Connection
    blobs: Blobs
    now: datetime
    deep: bool
    reader: Tx
    """Opens what is encrypted, on a connection of its own."""


Check = Callable[[Subject], Iterator[Problem | int]]
"""Yields problems, and numbers of things looked at."""
