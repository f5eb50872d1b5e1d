"""Cursors of lists that are ordered by id: opaque, strict, and pages that fit together."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from labkeep.core.commands import Page
from labkeep.core.errors import Invalid
from labkeep.storage.pages import cut, decode_cursor, decode_id_cursor, encode_cursor

ID = "0195f3a1-7b2c-7def-8123-456789abcdef"


class Thing(msgspec.Struct, frozen=True):
    id: str


@pytest.mark.parametrize("keys", [(ID,), (1, "a"), (None, True, 1.5), (["f", "0x1p0"], ["s", "é\n"]), ()])
def test_a_cursor_gives_back_the_keys_that_it_was_made_of(keys: tuple[Any, ...]) -> None:
    cursor = encode_cursor(*keys)
    assert cursor.isascii()
    assert not set(cursor) & set("+/= ")
    assert decode_cursor(cursor, list[Any]) == list(keys)


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "é", "\x00", "====", "a" * 100_001, "bnVsbA", "e30", encode_cursor(), encode_cursor(1)),
        *(encode_cursor("x"), encode_cursor(ID, ID), encode_cursor(ID)[:-2], encode_cursor(ID) + "AAAA"),
        *(encode_cursor(None), encode_cursor([ID]), encode_cursor(ID.upper()), encode_cursor(ID + "\n")),
    ],
)
def test_anything_else_is_invalid(cursor: str) -> None:
    with pytest.raises(Invalid, match="cursor") as refused:
        decode_id_cursor(cursor)
    assert refused.value.details["path"] == "cursor"


def test_deep_nesting_is_invalid_and_no_crash() -> None:
    with pytest.raises(Invalid):
        decode_cursor(base64.urlsafe_b64encode(b"[" * 200_000).decode(), list[Any])


@pytest.mark.parametrize(("count", "limit"), [(0, 1), (1, 1), (2, 1), (3, 3), (4, 3)])
def test_a_page_is_cut_where_one_more_was_found(count: int, limit: int) -> None:
    found = [Thing(f"{number:036}") for number in range(count)]
    page: Page[Thing] = cut(found, limit, lambda thing: thing.id)
    assert page.items == found[:limit]
    assert (page.next is None) == (count <= limit)
