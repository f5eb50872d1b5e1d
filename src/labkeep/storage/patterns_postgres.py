"""Patterns of `labkeep.core.patterns` as regular expressions of PostgreSQL that match the same texts.

Both languages agree on structure and differ on characters: what a word, a digit or a space is, what ``(?i)`` folds,
where ``$`` matches. So each class of characters is spelled out as the characters that Python finds in it.
"""

from __future__ import annotations

import re
import sys
from functools import cache, lru_cache

from labkeep.core.patterns import SPAN

_TOKEN = re.compile(
    r"""(?P<anchor>\\[AZbB]|[$^])
    |(?P<any>\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\.)
    |(?P<group>\((?:\?:)?)
    |(?P<join>[|)])
    |(?P<repeat>(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??)
    |(?P<plain>.)""",
    re.VERBOSE | re.DOTALL,
)

_DUPLICATES = 255
"""The largest count in a PostgreSQL pattern."""


@lru_cache(maxsize=256)
def translate(pattern: str) -> str:
    """``pattern``, which `compile_pattern` accepts, for PostgreSQL's ``~``."""
    ignore_case = pattern.startswith("(?i)")
    body = pattern.removeprefix("(?i)")
    # "***:" says that the advanced syntax follows, whatever the server's default is.
    return "***:" + "".join(_pieces(body, re.IGNORECASE if ignore_case else re.NOFLAG))


def _pieces(body: str, flags: re.RegexFlag) -> list[str]:
    pieces: list[str] = []
    groups: list[int] = []
    atom = 0
    """Where the pieces of the last atom begin: what a repetition repeats."""
    for found in _TOKEN.finditer(body):
        kind, text = found.lastgroup, found[0]
        if kind == "repeat":
            pieces[atom:] = [_repeated("".join(pieces[atom:]), text)]
        elif kind == "group":
            groups.append(len(pieces))
            pieces.append("(?:")
        elif text == ")":
            atom = groups.pop()
            pieces.append(")")
        elif text == "|":
            pieces.append("|")
        else:
            atom = len(pieces)
            pieces.append(_anchor(text) if kind == "anchor" else _one(text, kind == "any", flags))
    return pieces


def _repeated(atom: str, count: str) -> str:
    # Greedy or not makes no difference to whether there is a match.
    count = count.removesuffix("?") or "?"
    least, comma, most = count.strip("{}").partition(",")
    if not count.startswith("{") or int(most or least) <= _DUPLICATES:
        return atom + count
    assert int(most or least) == SPAN == _DUPLICATES + 1
    if not comma or int(least) == SPAN:
        return f"{atom}{{{_DUPLICATES}}}{atom}" + ("+" if comma and not most else "")
    return f"{atom}{{{least},{_DUPLICATES}}}{atom}?"


def _anchor(text: str) -> str:
    word = _class_of(r"\w", re.NOFLAG)
    inside, outside = f"(?<=[{word}])(?=[{word}])", f"(?<![{word}])(?![{word}])"
    edge = f"(?<=[{word}])(?![{word}])|(?<![{word}])(?=[{word}])"
    return {
        "^": r"(?:\A)",
        "$": r"(?:(?=\n?\Z))",
        r"\A": r"(?:\A)",
        r"\Z": r"(?:\Z)",
        r"\b": f"(?:{edge})",
        # In a text without characters there is nothing that an edge could be missing from.
        r"\B": rf"(?:(?!\A\Z)(?:{inside}|{outside}))",
    }[text]


def _one(text: str, is_class: bool, flags: re.RegexFlag) -> str:
    """Something that matches one character."""
    if not is_class and not flags:
        return _escaped(ord(text))
    members = _class_of(text if is_class else re.escape(text), flags)
    return f"[{members}]" if members else r"[^\U00000001-\U0010ffff]"


@cache
def _every_character() -> str:
    return "".join(chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)


@lru_cache(maxsize=64)
def _class_of(text: str, flags: re.RegexFlag) -> str:
    """All characters that ``text`` matches, as the inside of a bracket expression."""
    ranges: list[tuple[int, int]] = []
    for run in re.finditer(f"(?:{text})+", _every_character(), flags):
        ranges.append((ord(run[0][0]), ord(run[0][-1])))
    return "".join(
        _escaped(first) if first == last else f"{_escaped(first)}-{_escaped(last)}" for first, last in ranges
    )


def _escaped(code: int) -> str:
    return chr(code) if chr(code).isalnum() and code < 128 else f"\\U{code:08x}"
