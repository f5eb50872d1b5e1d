"""A regular expression finds the same texts on PostgreSQL as in Python, which is what SQLite asks."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from labkeep.core.errors import Invalid
from labkeep.core.patterns import SPAN, compile_pattern, matches
from labkeep.storage.patterns_postgres import translate

TEXTS = [
    *(
        "",
        "a",
        "A",
        "b",
        "ab",
        "ba",
        "aab",
        "abc",
        "a b",
        "a-b",
        "a_b",
        "a1",
        "1",
        "12",
        "v12",
        "\n",
        "a\n",
        "\na",
        "a\nb",
    ),
    *("a\n\n", "é", "É", "e\u0301", "ß", "SS", "\u1e9e", "\u017f", "s", "k", "\u212a", "\u0130", "i", "\u0131", "I"),
    *(
        "\u0663",
        "\u00b2",
        "\u2167",
        "日本",
        "\U0001f600",
        "\u00a0",
        "\u2028",
        "\x1c",
        "\x85",
        "\t",
        " ",
        "_",
        "-",
        "[",
        "]",
    ),
    *(
        "^",
        "$",
        ".",
        "\\",
        "{",
        "}",
        "(",
        ")",
        "|",
        "*",
        "+",
        "?",
        "/",
        "#",
        ":",
        "a{2}",
        "x" * 255,
        "x" * 256,
        "x" * 300,
    ),
    *("y" + "x" * 256, "x" * 256 + "y", "\ue000", "\uffff", "\U0010ffff", "\x7f", "\x01", "\u03c3\u03c2\u03a3", "aaab"),
]

PATTERNS = [
    *(
        "a",
        "^a",
        "a$",
        "^a$",
        "^$",
        "$",
        "^",
        r"\Aa",
        r"a\Z",
        ".",
        "^.$",
        "^..$",
        "a.b",
        "a|b",
        "^(a|b)$",
        "(ab)+",
        "(?:a|b)c",
    ),
    *(
        "a?b",
        "a*b",
        "a+b",
        "a+?b",
        "a??b",
        "^a{2}b",
        "^a{1,2}b",
        "^a{0,3}?b",
        "^x{255}$",
        "^x{256}$",
        "^x{256}",
        "^x{3,}$",
    ),
    *(
        "^(?:x){256}",
        "^x{0,256}y",
        "^x{255,256}y",
        "^x{256,}",
        "[ab]",
        "[^ab]",
        "^[^a]$",
        "[a-c]",
        "[]a]",
        "[^]a]",
        "[a-]",
        r"[\]]",
    ),
    *(
        r"\d",
        r"\D",
        r"\w",
        r"\W",
        r"\s",
        r"\S",
        r"^\d+$",
        r"^\w+$",
        r"^\W$",
        r"[\d\s]",
        r"[^\w]",
        r"[\W\d]",
        r"[\s\S]",
        r"[^\s\S]",
    ),
    *(
        r"\bb",
        r"b\b",
        r"\Bb",
        r"b\B",
        r"^\b",
        r"\B",
        r"\b\b",
        r"^\B$",
        r"a\bb",
        r"\.",
        r"\\",
        r"\[",
        r"\{",
        r"\(",
        r"\|",
        r"\^",
        r"\$",
    ),
    *(
        r"\n",
        r"\t",
        r"\x",
        "(?i)a",
        "(?i)^ss$",
        "(?i)k",
        "(?i)[a-c]",
        "(?i)\u03c3",
        "(?i)É",
        "(?i)i",
        "(?i)\u0130",
        r"(?i)\W",
        "(?i)s",
    ),
    *(
        "(?i)[^k]",
        "é",
        "日",
        "\U0001f600",
        "/",
        "-",
        "_",
        "#",
        ":",
        "a b",
        "()",
        "(a|)b",
        "^?a",
        "(^a|b$)",
        "[.]",
        "[\n]",
        "[[]",
    ),
]


@pytest.fixture(scope="module")
def connection(postgres_server: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_server.admin, autocommit=True) as connection:
        connection.execute('CREATE TEMPORARY TABLE texts (text text COLLATE "C")')
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO texts VALUES (%s)", [(text,) for text in TEXTS])
        yield connection


def found_by_postgres(connection: psycopg.Connection[Any], pattern: str) -> set[str]:
    query = f"SELECT text FROM texts WHERE substr(text, 1, {SPAN}) ~ %s"
    return {row[0] for row in connection.execute(query, (translate(pattern),))}  # type: ignore[arg-type]


def test_patterns_find_the_same_texts(connection: psycopg.Connection[Any]) -> None:
    differences = {}
    for pattern in PATTERNS:
        try:
            compile_pattern(pattern)
        except Invalid:
            continue
        expected = {text for text in TEXTS if matches(pattern, text)}
        actual = found_by_postgres(connection, pattern)
        if actual != expected:
            differences[pattern] = (sorted(actual - expected), sorted(expected - actual))
    assert differences == {}


pieces = st.sampled_from(
    [
        *"abx1é.^$|*+?()-",
        "(?:",
        "{2}",
        "{1,3}",
        "[ab]",
        "[^a]",
        r"\d",
        r"\w",
        r"\s",
        r"\b",
        r"\B",
        r"\.",
        "\n",
        "ß",
        "k",
    ]
)


@given(pattern=st.lists(pieces, max_size=8).map("".join), ignore_case=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
def test_every_accepted_pattern_finds_the_same_texts(
    connection: psycopg.Connection[Any], pattern: str, ignore_case: bool
) -> None:
    pattern = f"(?i){pattern}" if ignore_case else pattern
    try:
        compile_pattern(pattern)
    except Invalid:
        assume(False)
    assert found_by_postgres(connection, pattern) == {text for text in TEXTS if matches(pattern, text)}


@pytest.mark.parametrize("pattern", [r"\d", r"\w", r"\s", r"\W", ".", "(?i)k", "(?i)[a-z]"])
def test_classes_hold_for_every_character_there_is(connection: psycopg.Connection[Any], pattern: str) -> None:
    query = "SELECT n FROM generate_series(1, 1114111) n WHERE n NOT BETWEEN 55296 AND 57343 AND chr(n) ~ %s"
    actual = {row[0] for row in connection.execute(query, (translate(pattern),))}
    compiled = re.compile(pattern)
    characters = itertools.chain(range(1, 0xD800), range(0xE000, sys.maxunicode + 1))
    assert actual == {code for code in characters if compiled.search(chr(code))}
