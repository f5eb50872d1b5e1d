"""Bodies: what is decoded, what is refused and in which words."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.core.commands import CreateRun, Name
from labkeep.core.errors import Invalid, TooLarge
from labkeep.core.ids import Id
from labkeep.http import wire
from labkeep.http.wire import decode_json, inflate

DEPTH = 10

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text('[]{}",\\a\u00e9 ', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}",\\b', max_size=4), inner, max_size=4),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def count_of(value: Any) -> int:
    """Values as the limit counts them: openings and commas."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    own = isinstance(value, dict | list)
    return own + max(0, len(inner) - 1) + sum(map(count_of, inner))


# --- depth and number -------------------------------------------------------------------------------------------------


@given(json_values, st.integers(0, 6), st.booleans())
def test_depth_is_counted_exactly_whatever_strings_hold(value: Any, limit: int, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode()
    if depth_of(value) <= limit:
        assert decode_json(body, limit) == value
    else:
        with pytest.raises(Invalid, match="nested deeper"):
            decode_json(body, limit)


@given(json_values, st.integers(0, 12))
def test_values_are_counted_exactly_whatever_strings_hold(value: Any, limit: int) -> None:
    body = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "MAX_VALUES", limit)
        if count_of(value) <= limit:
            assert decode_json(body, 100) == value
        else:
            with pytest.raises(TooLarge, match="several requests"):
                decode_json(body, 100)


@pytest.mark.parametrize("depth", [DEPTH + 1, 10_000, 1_000_000])
def test_what_is_nested_too_deep_is_refused_however_deep_it_is(depth: int) -> None:
    with pytest.raises(Invalid, match=f"deeper than {DEPTH} levels"):
        decode_json(b"[" * depth + b"]" * depth, DEPTH)


def test_brackets_in_strings_are_not_depth() -> None:
    text = '["' + "[{" * 5_000 + '\\\\\\"' + "[{" * 5_000 + '"]'
    assert decode_json(text.encode(), 1) == json.loads(text)


def test_a_body_of_millions_of_lists_is_refused_in_moments() -> None:
    body = b"[" + b"[]," * (4 * 2**20) + b"[]]"
    started = time.process_time()
    with pytest.raises(TooLarge):
        decode_json(body, DEPTH)
    assert time.process_time() - started < 5, "a loop over its bytes would take far longer"


# --- what is not JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": "\\ud800"}',
        b'{"a": "\\udc00\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": "\xff\xfe"}',
        b'{"a": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": 1',
        b'{"a": 1} more',
        b"{'a': 1}",
        b'{"a": 01}',
        b'{"a": "\x00"}',
        b"<a/>",
    ],
)
def test_what_is_not_json_is_invalid(body: bytes) -> None:
    with pytest.raises(Invalid):
        decode_json(body, DEPTH)


def test_of_keys_that_stand_twice_the_last_one_counts() -> None:
    assert decode_json(b'{"a": 1, "a": 2}', DEPTH) == {"a": 2}


# --- compression ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_both_kinds_of_compression_are_taken(compress: Any) -> None:
    assert inflate(compress(b"x" * 1_000), 1_000) == b"x" * 1_000


def test_a_bomb_is_refused_without_being_inflated() -> None:
    bomb = gzip.compress(bytes(64 * 2**20))
    with pytest.raises(TooLarge, match="after decompression"):
        inflate(bomb, 1_000)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (gzip.compress(b"x" * 99, mtime=0)[:-9], "breaks off"),
        (gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0), "more follows"),
        (gzip.compress(b"a", mtime=0) + b"garbage", "more follows"),
        (b"garbage", "damaged"),
        (b"", "breaks off"),
        (gzip.compress(b"a" * 99, mtime=0)[:-4] + b"\xff\xff\xff\xff", "damaged"),
    ],
)
def test_a_damaged_body_is_refused_with_a_reason(body: bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        inflate(body, 1_000)


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (Id, "z" * 36, "a UUID in lower case"),
        (Id, "0190a000-0000-7000-8000-000000000001\n", "Expected an id, which is a UUID in lower case"),
        (Id, "x", "Expected an id, which is a UUID in lower case"),
        (Name, "a\n", "text without control characters"),
        (Name, "a\x00b", "text without control characters"),
        (Name, "", "length >= 1"),
    ],
)
def test_a_refused_text_is_refused_in_words(kind: Any, value: str, says: str) -> None:
    with pytest.raises(msgspec.ValidationError) as found:
        msgspec.convert(value, kind)
    assert says in wire.invalid(found.value).message


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(msgspec.ValidationError) as found:
        msgspec.convert({"project": "p", "tags": ["a", 1]}, CreateRun)
    error = wire.invalid(found.value)
    assert (error.message, error.details) == ("Expected `str`, got `int`", {"path": "$.tags[1]"})
