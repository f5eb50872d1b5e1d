"""Regular expressions from strangers: a subset of Python's ``re`` whose worst case is bounded.

A backtracking matcher can take exponential time. ``compile_pattern`` counts an upper bound on the number of ways in
which the pattern can be tried against a text of ``SPAN`` characters and refuses what is over ``MAX_WAYS``: nested
repetition, repeated alternatives and long chains of wildcards all fall out of that one rule.
"""

from __future__ import annotations

import re
from functools import lru_cache

from labkeep.core.errors import Invalid

MAX_PATTERN = 200
"""Characters of a pattern."""
SPAN = 256
"""A pattern is searched in this many leading characters of a text, and no repetition counts further."""
MAX_WAYS = SPAN**3
"""Ways to try a pattern: three wildcards when it starts with ``^``, two when it does not."""
MAX_GROUPS_DEEP = 10

_LEADING_WILDCARDS = re.compile(r"\A(?:\.\*(?![?+*{]))+")
_COUNT = re.compile(r"\{([0-9]{1,9})(,([0-9]{1,9})?)?\}")
_QUANTIFIERS = {"*": (0, SPAN), "+": (1, SPAN), "?": (0, 1)}
_ESCAPED_LETTERS = frozenset("dDwWsSbBAZntrfv")
_SET_OPERATIONS = ("--", "&&", "||", "~~")
_IGNORE_CASE = "(?i)"


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
    if _Scan(body).total_ways() > MAX_WAYS:
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


class _Scan:
    """One pass over a pattern: refuses what is outside the subset and counts (ways to try, least width)."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.at = 0
        self.depth = 0
        self.anchored = body.startswith(("^", "\\A"))

    def total_ways(self) -> int:
        """An upper bound on the ways in which a search for the pattern can go, saturating above MAX_WAYS."""
        ways, _ = self._choice()
        if self.at < len(self.body):
            raise _refused("has a ) without its (", "balanced parentheses")
        return ways if self.anchored else _capped(ways * SPAN)

    def _choice(self) -> tuple[int, int]:
        ways, width = self._sequence()
        while self._take("|"):
            self.anchored &= self.depth > 0
            more, other = self._sequence()
            ways, width = _capped(ways + more), min(width, other)
        return ways, width

    def _sequence(self) -> tuple[int, int]:
        ways, width = 1, 0
        while self.at < len(self.body) and self.body[self.at] not in "|)":
            inner, wide = self._atom()
            least, most = self._quantifier()
            if most > 1 and wide == 0:
                raise _refused("repeats something that can be empty", "a repeated part of at least one character")
            # What ends the pattern and has no choice inside is never tried a second time.
            if inner > 1 or self.at < len(self.body):
                ways = _capped(ways * _repeated(inner, least, most))
            width += wide * least
        return ways, width

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

    def _atom(self) -> tuple[int, int]:
        sign = self.body[self.at]
        self.at += 1
        if sign == "(":
            return self._group()
        if sign == "[":
            self._set()
        elif sign == "\\":
            return 1, self._escape()
        elif sign in "*+?{":
            raise _refused(f"has a {sign} with nothing to repeat", f"\\{sign} for the character itself")
        return 1, 0 if sign in "^$" else 1

    def _group(self) -> tuple[int, int]:
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


def _capped(ways: int) -> int:
    """Saturates far above the limit, so that hostile patterns do not make huge integers."""
    return min(ways, MAX_WAYS**2)


def _repeated(ways: int, least: int, most: int) -> int:
    """Ways to try ``least`` to ``most`` repetitions of something that can be tried in ``ways`` ways."""
    if ways == 1:
        return max(most - least, 0) + 1
    total, power = 0, 1
    for count in range(most + 1):
        if count >= least:
            total = _capped(total + power)
        power = _capped(power * ways)
    return max(total, 1)
