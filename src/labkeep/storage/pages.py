"""Keyset pagination: a page costs what it returns, however long the list is."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select

from labkeep.core.commands import Page, Paged
from labkeep.core.errors import Invalid
from labkeep.core.ids import is_id
from labkeep.storage.transaction import Tx

S = TypeVar("S", bound=msgspec.Struct)


def encode_cursor(*keys: Any) -> str:
    """An opaque cursor that holds the sort keys of the last object of a page."""
    return base64.urlsafe_b64encode(msgspec.json.encode(keys)).decode().rstrip("=")


def decode_cursor(cursor: str, types: Any) -> Any:
    """The sort keys in a cursor, as the tuple type ``types``; Invalid for anything that `encode_cursor` did not make."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(raw, type=types)
    except (ValueError, binascii.Error, msgspec.DecodeError, RecursionError) as error:
        raise Invalid("the cursor is not one that this list gave", path="cursor") from error


def decode_id_cursor(cursor: str) -> str:
    """The id in a cursor of a list that is ordered by id."""
    (last,) = decode_cursor(cursor, tuple[str])
    if not is_id(last):
        raise Invalid("the cursor is not one that this list gave", path="cursor")
    return str(last)


def page(
    tx: Tx,
    query: Select[Any],
    id_column: ColumnElement[str],
    command: Paged,
    entity: type[S],
    *,
    ascending: bool = False,
) -> Page[S]:
    """One page of ``query``, newest first, as Structs whose fields are the selected columns."""
    if command.cursor is not None:
        last = decode_id_cursor(command.cursor)
        query = query.where(id_column > last if ascending else id_column < last)
    query = query.order_by(id_column if ascending else id_column.desc()).limit(command.limit + 1)
    found = [entity(**row) for row in tx.all(query)]
    return cut(found, command.limit, lambda item: item.id)


def cut(found: list[S], limit: int, key: Any) -> Page[S]:
    """A page of ``limit`` from a list that was asked for one more."""
    if len(found) <= limit:
        return Page(found)
    return Page(found[:limit], encode_cursor(key(found[limit - 1])))
