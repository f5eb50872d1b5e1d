"""Many ids as one parameter: to bind two thousand of them one by one takes longer than to look them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ARRAY, LargeBinary, Select, Text, Uuid, func, literal, select, type_coerce

from labkeep.storage.column_types import Id


def packed(ids: Sequence[str], database: str, words: Sequence[str] = ()) -> Select[Any]:
    """``ids``, which have the form of ids, as a query of one column; of two, with a word for each of them."""
    if database == "postgresql":
        unnested = type_coerce(func.unnest(literal([*ids], ARRAY(Uuid(as_uuid=False)))), Id)
        return select(unnested, func.unnest(literal([*words], ARRAY(Text)))) if words else select(unnested)
    # SQLite has no arrays: the ids behind each other, and a list that is as long to count them.
    listed = msgspec.json.encode(words or [0] * len(ids)).decode()
    numbers = func.json_each(literal(listed, Text)).table_valued("key", "value")
    every = literal(bytes.fromhex("".join(ids).replace("-", "")), LargeBinary)
    id = type_coerce(func.substr(every, numbers.c.key * 16 + 1, 16), Id)
    return select(id, numbers.c.value) if words else select(id)


def unpacked(ids: Sequence[Any], database: str) -> list[str]:
    """Ids as the driver gives them, as text: many at once."""
    if database == "postgresql":
        return list(map(str, ids))
    text = b"".join(ids).hex()
    return [
        f"{text[at : at + 8]}-{text[at + 8 : at + 12]}-{text[at + 12 : at + 16]}-{text[at + 16 : at + 20]}-{text[at + 20 : at + 32]}"
        for at in range(0, len(text), 32)
    ]
