"""docs/query.md says what the tables say, and its examples are read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labkeep.core.errors import Invalid
from labkeep.core.fields import FIELDS, NAMESPACES, TYPES
from labkeep.core.filters import INDEXED_TEXT, MAX_DEPTH, MAX_FIELD, MAX_IN, MAX_NODES, MAX_ORDER
from labkeep.core.mongo import OPERATORS
from labkeep.core.patterns import MAX_PATTERN, SPAN
from labkeep.core.query import MAX_TEXT, parse

PAGE = (Path(__file__).parents[3] / "docs" / "query.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
EXAMPLES = [line for block in re.findall(r"```query\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_read(text: str) -> None:
    assert parse(text, NOW).filter is not None


def test_the_table_of_fields_is_the_table_of_the_code() -> None:
    rows = [f"| `{name}` | {info.type} | {info.doc} |" for name, info in FIELDS.items()]
    rows += [f"| `{name}.<path>` | {info.type} | {info.doc} |" for name, info in NAMESPACES.items()]
    documented = PAGE.partition("<!-- fields -->\n")[2].partition("\n<!-- end of fields -->")[0]
    assert documented.splitlines() == rows


def test_every_type_is_explained() -> None:
    for name in TYPES:
        assert f"**{name}**" in PAGE


def test_every_limit_is_stated() -> None:
    for limit in (MAX_TEXT, MAX_NODES, MAX_DEPTH, MAX_IN, MAX_ORDER, MAX_FIELD, MAX_PATTERN):
        assert f"| {limit:,} |" in PAGE
    assert f"first {INDEXED_TEXT} characters are kept" in PAGE
    assert f"first {SPAN} characters; `(?i)`" in PAGE


def test_every_json_operator_is_listed() -> None:
    for operator in [*OPERATORS, "$and", "$or", "$nor", "$not"]:
        assert f"`{operator}`" in PAGE


def test_the_labels_that_need_no_quotes_are_listed() -> None:
    named = PAGE.partition("Labels need no quotes:")[2].partition(".")[0]
    assert set(re.findall(r"`(\w+)`", named)) == {name for name, info in FIELDS.items() if info.bare}


def test_the_error_that_is_shown_is_the_error_that_is_raised() -> None:
    with pytest.raises(Invalid) as caught:
        parse("config.lr < 1 and status = finshed", NOW)
    assert caught.value.message in PAGE
