"""What the product does: plain functions ``(tx, actor, command) -> result``.

Permission is checked here and nowhere else. An operation touches only its transaction; effects on the world are jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from labkeep.settings import Settings
from labkeep.storage.blobs import Blobs
from labkeep.storage.database import Database
from labkeep.storage.transaction import Tx

Operation = Callable[..., Any]
"""``(tx, actor, command) -> result``."""


class Store(NamedTuple):
    """The three things behind a server: where rows go, where bytes go, and how it is set up."""

    database: Database
    blobs: Blobs
    settings: Settings


__all__ = ["Operation", "Store", "Tx"]
