"""Regular expressions from strangers: a subset of Python's ``re`` whose worst case is bounded.

A backtracking matcher can take exponential time. ``compile_pattern`` bounds the number of ways in which the pattern can
be tried against a text of ``SPAN`` characters and refuses what is over ``MAX_WAYS``: nested repetition, repeated
alternatives and long chains of wildcards all fall out of that one rule.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

from labkeep.core.errors import Invalid

MAX_PATTERN = 200
"""Characters of a pattern."""
SPAN = 256
"""A pattern is searched in this many leading characters of a text, and no repetition counts further."""
MAX_WAYS = 2**23
"""Ways to try a pattern: three wildcards when it starts with ``^``, two when it does not. Some tenths of a second."""
MAX_GROUPS_DEEP = 10

_LEADING_WILDCARDS = re.compile(r"\A(?:\.\*(?![?+*{]))+")
_COUNT = re.compile(r"\{([0-9]{1,9})(,([0-9]{1,9})?)?\}")
_QUANTIFIERS = {"*": (0, SPAN), "+": (1, SPAN), "?": (0, 1)}
_ESCAPED_LETTERS = frozenset("dDwWsSbBAZntrfv")
_SET_OPERATIONS = ("--", "&&", "||", "~~")
_IGNORE_CASE = "(?i)"
_SHORT = 16
"""A repetition of up to so many lengths counts as that many choices, a longer one as a wildcard."""


def matches(pattern: str, text: str) -> bool:
    """Whether ``pattern`` is found anywhere in the first SPAN characters of ``text``. Invalid when it is not safe."""
    return compile_pattern(pattern).search(text[:SPAN]) is not None


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """``pattern`` compiled for ``search``; Invalid, with ``expected``, when it is malformed or outside the subset."""
    if len(pattern) > MAX_PATTERN:
        raise _refused(f"has {len(pattern)} characters", f"at most {MAX_PATTERN} characters")
    flags = re.IGNORECASE if pattern.startswith(_IGNORE_CASE) else re.NOFLAG
    body = pattern.removeprefix(_IGNORE_CASE) if flags else pattern
    if "|" not in body:
        # A search without a leading .* finds the same texts, and saves a factor of SPAN.
        body = _LEADING_WILDCARDS.sub("", body)
    if _Scan(body).ways() > MAX_WAYS:
        raise _refused(
            "could take too long: too many repetitions, or alternatives inside a repetition",
            "fewer of * + ? {m,n}, or a pattern that starts with ^",
        )
    try:
        return re.compile(body, flags)
    except re.error as error:
        raise _refused(f"is malformed: {error}", "a regular expression") from None


def _refused(problem: str, expected: str) -> Invalid:
    return Invalid(f"the pattern {problem}; expected {expected}", expected=[expected])


class _Cost(NamedTuple):
    """How a piece of a pattern can be tried: ``choices`` of alternatives, times ``wilds`` repetitions of open length.

    ``width`` is the least number of characters that it matches.
    """

    choices: int = 1
    wilds: int = 0
    width: int = 0

    def then(self, other: _Cost) -> _Cost:
        return _Cost(_capped(self.choices * other.choices), self.wilds + other.wilds, self.width + other.width)

    def either(self, other: _Cost) -> _Cost:
        return _Cost(self.choices + other.choices, max(self.wilds, other.wilds), min(self.width, other.width))

    def repeated(self, least: int, most: int) -> _Cost:
        width = self.width * least
        if self.choices > 1 or self.wilds:
            return _Cost(_powers(self.choices, least, most), self.wilds * most, width)
        spread = max(most - least, 0) + 1
        return _Cost(spread, 0, width) if spread <= _SHORT else _Cost(1, 1, width)


def _powers(choices: int, least: int, most: int) -> int:
    """The sum of ``choices ** count`` for each count from ``least`` to ``most``, capped."""
    total, power = 0, 1
    for count in range(most + 1):
        total = _capped(total + power) if count >= least else total
        power = _capped(power * choices)
    return max(total, 1)


def _capped(choices: int) -> int:
    """Stops far above the limit, so that hostile patterns do not make huge integers."""
    return min(choices, MAX_WAYS**2)


class _Scan:
    """One pass over a pattern: refuses what is outside the subset and adds up what the rest costs."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.at = 0
        self.depth = 0
        self.anchored = body.startswith(("^", "\\A"))

    def ways(self) -> int:
        """An upper bound on the ways in which a search for the pattern can go, capped far above MAX_WAYS."""
        cost = self._choice()
        if self.at < len(self.body):
            raise _refused("has a ) without its (", "balanced parentheses")
        # A search that may start anywhere is one more wildcard. All of them share the SPAN characters of the text.
        wilds = min(cost.wilds + (not self.anchored), 10)
        return cost.choices * math.comb(SPAN + wilds, wilds)

    def _choice(self) -> _Cost:
        cost = self._sequence()
        while self._take("|"):
            self.anchored &= self.depth > 0
            cost = cost.either(self._sequence())
        return cost

    def _sequence(self) -> _Cost:
        cost = _Cost()
        while self.at < len(self.body) and self.body[self.at] not in "|)":
            piece = self._atom()
            least, most = self._quantifier()
            if most > 1 and piece.width == 0:
                raise _refused("repeats something that can be empty", "a repeated part of at least one character")
            repeated = piece.repeated(least, most)
            # What ends the pattern and has no choice inside is never tried a second time.
            last = self.at == len(self.body) and piece.choices == 1 and piece.wilds == 0
            cost = cost.then(_Cost(width=repeated.width) if last else repeated)
        return cost

    def _quantifier(self) -> tuple[int, int]:
        least, most = 1, 1
        sign = self.body[self.at : self.at + 1]
        counted = _COUNT.match(self.body, self.at)
        if sign in _QUANTIFIERS:
            least, most = _QUANTIFIERS[sign]
            self.at += 1
        elif counted:
            least = int(counted[1])
            most = least if counted[2] is None else int(counted[3] or SPAN)
            self.at = counted.end()
        else:
            return 1, 1
        if max(least, most) > SPAN:
            raise _refused("repeats too often", f"counts of at most {SPAN}")
        self._take("?")
        if self.body[self.at : self.at + 1] in ("*", "+", "?", "{"):
            raise _refused("repeats a repetition", "one of * + ? {m,n} after each part")
        return least, most

    def _atom(self) -> _Cost:
        sign = self.body[self.at]
        self.at += 1
        if sign == "(":
            return self._group()
        if sign == "[":
            self._set()
        elif sign == "\\":
            return _Cost(width=self._escape())
        elif sign in "*+?{":
            raise _refused(f"has a {sign} with nothing to repeat", f"\\{sign} for the character itself")
        return _Cost(width=0 if sign in "^$" else 1)

    def _group(self) -> _Cost:
        if self.body.startswith("?", self.at) and not self.body.startswith("?:", self.at):
            raise _refused("has a group of a kind that is not offered", "(...) or (?:...), with (?i) only in front")
        self.at += 2 if self.body.startswith("?:", self.at) else 0
        self.depth += 1
        if self.depth > MAX_GROUPS_DEEP:
            raise _refused("is nested too deeply", f"at most {MAX_GROUPS_DEEP} groups inside each other")
        found = self._choice()
        if not self._take(")"):
            raise _refused("has a ( without its )", "balanced parentheses")
        self.depth -= 1
        return found

    def _escape(self) -> int:
        sign = self.body[self.at : self.at + 1]
        self.at += 1
        if sign.isdigit():
            raise _refused("has a backreference", "a pattern without \\1, \\2, ...")
        if not sign or (sign.isalpha() and sign not in _ESCAPED_LETTERS):
            raise _refused(f"has the unknown escape \\{sign}", "\\d \\w \\s \\b \\A \\Z or an escaped character")
        return 0 if sign in "bBAZ" else 1

    def _set(self) -> None:
        self._take("^")
        start = self.at
        while not self.body.startswith("]", self.at) or self.at == start:
            sign = self.body[self.at : self.at + 1]
            if not sign:
                raise _refused("has a [ without its ]", "balanced brackets")
            if sign == "[" or self.body.startswith(_SET_OPERATIONS, self.at):
                raise _refused("has a set inside a set", "\\[ \\- \\& \\| \\~ for the characters themselves")
            self.at += 1
            if sign == "\\":
                self._escape()
        self.at += 1

    def _take(self, sign: str) -> bool:
        found = self.body.startswith(sign, self.at)
        self.at += found
        return found
