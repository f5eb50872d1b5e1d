"""The safe subset of regular expressions."""

from __future__ import annotations

import re

import pytest

from labkeep.core.errors import Invalid
from labkeep.core.patterns import MAX_PATTERN, SPAN, compile_pattern, matches

SAFE = [
    "n[45]",
    "^exp-[12]$",
    r"^\w+-\d+$",
    r"\w+-\w+-\d+",
    "^exp-.*-v[0-9]+.*$",
    ".*resnet.*large.*",
    "(foo|bar)-(baz|qux)",
    "(?:abc)+",
    "(abc){2,5}",
    "(?i)RESNET",
    r"v\d+(\.\d+)?",
    r"a\.b\*c\{1\}",
    "[]a]",
    "[^]a]",
    r"[\]\[a-z-]",
    "x{3}",
    "x{2,}y",
    "a|b|c",
    "",
    "lazy.*?x",
    "größe|naïve",
]

UNSAFE = [
    "(a+)+",
    "(a*)*b",
    "(a|a)*b",
    "(a|b|ab)+c",
    "(.*x){12}",
    "a?" * 40 + "a" * 40,
    "(a|a)" * 30 + "b",
    ".*a.*a.*a.*b",
    "^.*a.*a.*a.*b",
    "[a-z]+[a-z]+[a-z]+!",
    "(a{0,50}){0,50}b",
    r"(a)\1",
    "(?=a)b",
    "(?!a)b",
    "(?<=a)b",
    "(?P<n>a)",
    "(?P=n)",
    "(?>a)",
    "(?#x)a",
    "(a)(?(1)b|c)",
    "a(?i)b",
    "a*+b",
    "a++",
    "a**",
    "a{2}{3}",
    "a{1000}",
    "(){200}",
    "(a?){2}",
    "(" * 11 + "a" + ")" * 11,
    "[[a]b]",
    "[a--b]",
    "[a&&b]",
    r"\x41",
    r"\p{L}",
    "x" * (MAX_PATTERN + 1),
]

MALFORMED = [
    "(",
    ")",
    "a)",
    "(a",
    "[",
    "[a",
    "[]",
    "*a",
    "+",
    "?",
    "{2}",
    "a{",
    "a{,3}",
    "\\",
    "[b-a]",
    "a{3,2}",
    "^*",
    "a|*",
]


@pytest.mark.parametrize("pattern", SAFE)
def test_a_safe_pattern_is_compiled(pattern: str) -> None:
    assert isinstance(compile_pattern(pattern), re.Pattern)


@pytest.mark.parametrize("pattern", [*UNSAFE, *MALFORMED])
def test_an_unsafe_or_malformed_pattern_is_refused_with_what_would_do(pattern: str) -> None:
    with pytest.raises(Invalid) as caught:
        compile_pattern(pattern)
    assert caught.value.details["expected"]
    assert caught.value.message.startswith("the pattern ")


def test_a_pattern_is_found_anywhere_in_the_text_and_minds_the_case() -> None:
    assert matches("n[45]", "run-n4-x")
    assert not matches("^n[45]$", "run-n4-x")
    assert not matches("RUN", "run")
    assert matches("(?i)RUN", "run")


def test_a_leading_wildcard_changes_nothing_of_what_is_found() -> None:
    for text in ("", "x", "ax", "a\nx", "xx\n", "b"):
        assert matches(".*x", text) == bool(re.search(".*x", text))
        assert matches(".*.*x.*", text) == bool(re.search("x", text))
        assert matches(".*?x", text) == bool(re.search("x", text))


def test_a_pattern_looks_at_the_first_characters_only() -> None:
    assert matches("z", "a" * (SPAN - 1) + "z")
    assert not matches("z", "a" * SPAN + "z")


def test_the_costliest_accepted_patterns_stay_within_a_bounded_number_of_tries() -> None:
    # Each of these is at the limit of what is accepted; unbounded backtracking would never come back from them.
    for pattern in (
        "^.*.*.*x",
        "[a-z]*[a-z]*x",
        "^(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)x",
        "a{0,15}a{0,15}a{0,15}x",
    ):
        assert not matches(pattern, "a" * SPAN)
