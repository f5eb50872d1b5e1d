"""The words and signs of the query language, how its texts and field names are quoted, and how its errors point."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from labkeep.core.errors import Invalid

_SEGMENT = r"\w+(?:[/-]\w+)*"
_LEXER = re.compile(
    rf"""(?P<space>\s+)
    |(?P<date>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:T[0-9:.]+(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?)?)
    |(?P<age>-[0-9]+[smhdw]\b)
    |(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-](?i:infinity)\b)
    |(?P<name>[^\W\d]\w*(?:[/-]\w+)*(?:\.(?:{_SEGMENT}|`(?:[^`]|``)*`))*)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<sign>==|!=|<>|<=|>=|=~|!~|[=<>~:(),])""",
    re.VERBOSE | re.DOTALL,
)
_RUNS_ON = re.compile(r"[\w.]")
_HINTS = {
    "&": ("and",),
    "|": ("or",),
    "!": ("not", "!=", "!~"),
    "`": ("a field",),
    ".": ("a path, as in config.lr",),
}

_PATH = re.compile(rf"\.(?:`((?:[^`]|``)*)`|({_SEGMENT}))")
_PLAIN_PATH = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})

Kind = Literal["date", "age", "number", "name", "string", "sign", "end"]


class Token(NamedTuple):
    """A piece of the text as it was written, and where it starts (from 0)."""

    kind: Kind
    text: str
    start: int

    @property
    def word(self) -> str:
        """The token as a keyword or sign; empty for the rest, so that "and" in quotes is no keyword."""
        return self.text.lower() if self.kind in ("name", "sign") else ""

    @property
    def shown(self) -> str:
        """The token in a message."""
        return "the end of the text" if self.kind == "end" else visible(self.text[:40])


def tokenize(text: str) -> list[Token]:
    """The tokens of ``text`` with an ``end`` behind them; Invalid at the first character that starts none."""
    tokens, at = [], 0
    while at < len(text):
        found = _LEXER.match(text, at)
        if found is None:
            raise _unreadable(text, at)
        kind: Kind = found.lastgroup  # type: ignore[assignment]
        at = found.end()
        if found.lastgroup == "space":
            continue
        if kind in ("number", "date") and _RUNS_ON.match(text, at):
            wanted = ("a number", "an age such as -30d", "text in quotes")
            raise misread(text, found.start(), at + 1, "a number cannot run into a word", wanted)
        tokens.append(Token(kind, found[0], found.start()))
    return [*tokens, Token("end", "", len(text))]


def _unreadable(text: str, at: int) -> Invalid:
    sign = text[at]
    if sign in "\"'":
        return misread(text, at, len(text), f"the text that starts with {sign} does not end", (f"a closing {sign}",))
    if text.startswith(".`", at):
        return misread(text, at + 1, len(text), "the name in backticks does not end", ("a closing `",))
    expected = _HINTS.get(sign, ("a field", "an operator", "a value"))
    return misread(text, at, at + 1, f"{visible(sign)} has no meaning here", expected)


def misread(text: str, start: int, end: int, message: str, expected: Iterable[str]) -> Invalid:
    """The error that shows ``text`` with a caret under the characters from ``start`` to ``end``."""
    length = max(end - start, 1)
    wanted = [str(item) for item in expected]
    return Invalid(f"{message}\n{_excerpt(text, start, length)}", column=start + 1, length=length, expected=wanted)


def _excerpt(text: str, start: int, length: int, width: int = 100) -> str:
    first = max(0, min(start - width // 2, len(text) - width))
    shown = visible(text[first : first + width])
    before, after = "… " if first else "", " …" if first + width < len(text) else ""
    indent = len(before) + start - first
    carets = max(1, min(length, len(shown) - (start - first)))
    return f"  {before}{shown}{after}\n  {' ' * indent}{'^' * carets}"


def visible(text: str) -> str:
    """``text`` on one line, each unprintable character as one space, so that carets stay below what they mean."""
    return "".join(char if char.isprintable() else " " for char in text)


def field_name(written: str) -> str:
    """The field that a name token spells: backticks taken away."""
    head = written.partition(".")[0]
    parts = [plain or quoted.replace("``", "`") for quoted, plain in _PATH.findall(written, len(head))]
    return ".".join([head, *parts])


def print_field(field: str) -> str:
    """``field`` as the parser reads it: a path of unusual characters in backticks."""
    head, dot, path = field.partition(".")
    if not dot or _PLAIN_PATH.fullmatch(path):
        return field
    return f"{head}.`{path.replace('`', '``')}`"


def string_value(text: str, token: Token) -> str:
    """What a string token says; Invalid at an escape that is not one of ``\\\\ \\" \\' \\n \\t \\r \\uXXXX``."""

    def unescape(found: re.Match[str]) -> str:
        code = found[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            start = token.start + 1 + found.start()
            raise misread(text, start, start + 2, f"unknown escape \\{visible(code)}", (r"\\ \" \' \n \t \r \uXXXX",))
        return _ESCAPES[code]

    return _ESCAPE.sub(unescape, token.text[1:-1])


def print_string(text: str) -> str:
    """``text`` in double quotes, unprintable characters escaped where an escape exists for them."""
    quoted = text.translate(_QUOTED)
    return (
        '"'
        + "".join(char if char.isprintable() or ord(char) > 0xFFFF else f"\\u{ord(char):04x}" for char in quoted)
        + '"'
    )
