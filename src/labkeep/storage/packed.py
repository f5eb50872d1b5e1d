"""Many ids as one parameter: to bind two thousand of them one by one takes longer than to look them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, LargeBinary, Select, Text, Uuid, func, literal, select, type_coerce

from labkeep.storage.column_types import Id


def packed(ids: Sequence[str], database: str) -> Select[Any]:
    """``ids``, which have the form of ids, as a query of one column."""
    if database == "postgresql":
        return select(type_coerce(func.unnest(literal([*ids], ARRAY(Uuid(as_uuid=False)))), Id))
    # SQLite has no arrays: the ids behind each other, and a list that is as long to count them.
    numbers = func.json_each(literal(f"[{','.join('0' * len(ids))}]", Text)).table_valued("key")
    every = literal(bytes.fromhex("".join(ids).replace("-", "")), LargeBinary)
    return select(type_coerce(func.substr(every, numbers.c.key * 16 + 1, 16), Id))
