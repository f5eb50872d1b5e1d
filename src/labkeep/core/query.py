"""The query language as text: ``config.lr < 0.1 and tag = "prod" order by summary.acc desc``.

    query      = [ or ] [ "order by" key { "," key } ]            key  = field [ "asc" | "desc" ]
    or         = and { "or" and }                                 and  = unary { "and" unary }
    unary      = "not" unary | "(" or ")" | "exists" field | condition
    condition  = field ( "=" | "==" | ":" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) value
               | field ( "~" | "!~" | "=~" ) string
               | field [ "not" ] "in" "(" [ value { "," value } ] ")"
               | field "is" [ "not" ] "null"

Every error is Invalid and shows the place: ``column`` (from 1), ``length`` and ``expected`` are in its details.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from datetime import datetime

from labkeep.core.errors import Invalid
from labkeep.core.fields import CompareOp, FieldInfo, Value, field_info
from labkeep.core.filters import (
    INTEGERS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_ORDER,
    And,
    Compare,
    Contains,
    Exists,
    Filter,
    In,
    Leaf,
    Matches,
    Not,
    Or,
    Order,
    Query,
    differs,
    equals,
    find_fault,
    is_absence,
    one_of,
    validate,
)
from labkeep.core.times import EXAMPLES, parse_time, print_time
from labkeep.core.tokens import Token, field_name, misread, print_field, print_string, string_value, tokenize

MAX_TEXT = 10_000
"""Characters of a query."""

_COMPARISONS: dict[str, CompareOp] = {
    "=": "=",
    "==": "=",
    ":": "=",
    "!=": "!=",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_LITERALS: dict[str, Value | None] = {
    "true": True,
    "false": False,
    "null": None,
    "nan": math.nan,
    "infinity": math.inf,
}
_KEYWORDS = frozenset(("and", "or", "not", "in", "is", "exists", "order", *_LITERALS))
_OPERATORS = ("= != < <= > >=", "~ !~ =~", "in", "not in", "is null")
_SHORT_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def parse(text: str, now: datetime) -> Query:
    """The query that ``text`` spells. ``now`` (aware) is what relative ages count from. Invalid shows the place."""
    if len(text) > MAX_TEXT:
        raise Invalid(f"a query has at most {MAX_TEXT} characters, not {len(text)}", expected=["a shorter text"])
    query = _Parser(text, now).query()
    validate(query)
    return query


def print_query(query: Query) -> str:
    """The text of a valid query: ``parse`` gives the same query back, unless the text is longer than MAX_TEXT."""
    parts = [] if query.filter is None else [_print(query.filter)]
    if query.order:
        keys = (f"{print_field(key.field)} {'desc' if key.descending else 'asc'}" for key in query.order)
        parts.append(f"order by {', '.join(keys)}")
    return " ".join(parts)


def _print(node: Filter) -> str:
    if isinstance(node, And | Or):
        word = " and " if isinstance(node, And) else " or "
        return word.join(_print_inner(item) for item in node.items)
    if isinstance(node, Not):
        return _print_negation(node.item)
    return f"exists {print_field(node.field)}" if isinstance(node, Exists) else _print_condition(node, "")


def _print_inner(node: Filter) -> str:
    return f"({_print(node)})" if isinstance(node, And | Or) else _print(node)


def _print_negation(item: Filter) -> str:
    if isinstance(item, Exists):
        return f"{print_field(item.field)} is null"
    if isinstance(item, In):
        return _print_condition(item, "not ")
    if isinstance(item, Contains):
        return f"{print_field(item.field)} !~ {print_string(item.text)}"
    return f"not {_print_inner(item)}"


def _print_condition(leaf: Compare | In | Contains | Matches, negation: str) -> str:
    field = print_field(leaf.field)
    if isinstance(leaf, Compare):
        return f"{field} {leaf.op} {_print_value(leaf.value)}"
    if isinstance(leaf, In):
        return f"{field} {negation}in ({', '.join(_print_value(value) for value in leaf.values)})"
    if isinstance(leaf, Contains):
        return f"{field} ~ {print_string(leaf.text)}"
    return f"{field} =~ {print_string(leaf.pattern)}"


def _print_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return print_string(value)
    if isinstance(value, datetime):
        return print_string(print_time(value))
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return repr(value)


class _Parser:
    """Recursive descent over the tokens; ``depth`` bounds the recursion, ``nodes`` the size."""

    def __init__(self, text: str, now: datetime) -> None:
        self.text = text
        self.now = now
        self.tokens = tokenize(text)
        self.at = 0
        self.depth = 0
        self.nodes = 0

    def query(self) -> Query:
        found = None if self._is("order") or self._peek().kind == "end" else self._any_of()
        order = self._order() if self._take("order") else ()
        if self._peek().kind != "end":
            raise self._unexpected(("and", "or", "order by", "the end of the text"))
        return Query(found, order)

    def _peek(self, ahead: int = 0) -> Token:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def _next(self) -> Token:
        token = self._peek()
        self.at += 1
        return token

    def _is(self, word: str) -> bool:
        return self._peek().word == word

    def _take(self, word: str) -> bool:
        found = self._is(word)
        self.at += found
        return found

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise self._unexpected((word,))

    def _unexpected(self, expected: tuple[str, ...]) -> Invalid:
        token = self._peek()
        return self._error(token, f"expected {', '.join(expected)}; found {token.shown}", expected)

    def _error(self, token: Token, message: str, expected: Iterable[str]) -> Invalid:
        return misread(self.text, token.start, token.start + len(token.text), message, expected)

    # Joining conditions

    def _any_of(self) -> Filter:
        items = [self._all_of()]
        while self._take("or"):
            items.append(self._all_of())
        return self._joined(Or, items)

    def _all_of(self) -> Filter:
        items = [self._unary()]
        while self._take("and"):
            items.append(self._unary())
        return self._joined(And, items)

    def _joined(self, kind: type[And] | type[Or], items: list[Filter]) -> Filter:
        if len(items) == 1:
            return items[0]
        self._count()
        return kind(tuple(items))

    def _unary(self) -> Filter:
        token = self._peek()
        if token.word not in ("not", "("):
            return self._condition()
        self.depth += 1
        if self.depth >= MAX_DEPTH:
            raise self._error(token, f"nested deeper than {MAX_DEPTH} levels", ("fewer parentheses",))
        self.at += 1
        if token.word == "not":
            self._count()
            found: Filter = Not(self._unary())
        else:
            found = self._any_of()
            self._expect(")")
        self.depth -= 1
        return found

    def _count(self) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._error(self._peek(), f"a filter has at most {MAX_NODES} conditions", ("fewer conditions",))

    # Conditions

    def _condition(self) -> Filter:
        self._count()
        if self._take("exists"):
            return Exists(self._field()[1])
        if self._is("is") and self._peek(1).word == ":":
            token, field = self._next(), "state"
        else:
            token, field = self._field()
        op = self._next()
        negated = op.word == "not"
        if negated:
            op = self._next()
        if op.word == "in":
            found = self._membership(token, op, field)
            return Not(found) if negated else found
        if negated:
            raise self._error(op, f"expected in, found {op.shown}", ("in",))
        if op.word == "is":
            negated = self._take("not")
            self._expect("null")
            return Exists(field) if negated else Not(Exists(field))
        if op.word in _COMPARISONS:
            return self._comparison(token, op, field)
        if op.word in ("~", "!~", "=~"):
            return self._search(token, op, field)
        raise self._error(op, f"expected an operator, found {op.shown}", _OPERATORS)

    def _field(self) -> tuple[Token, str]:
        token = self._peek()
        if token.kind != "name" or token.word in _KEYWORDS:
            raise self._unexpected(("a field",))
        self.at += 1
        field = field_name(token.text)
        self._check(Exists(field), token, token, [token])
        return token, field

    def _comparison(self, token: Token, sign: Token, field: str) -> Filter:
        op = _COMPARISONS[sign.word]
        place = self._peek()
        value = self._value(field)
        found = equals(field, value) if op == "=" else differs(field, value)
        if op not in ("=", "!="):
            if value is None:
                raise self._error(sign, "null has no order", ("=", "!=", "is null"))
            found = Compare(field, op, value)
        if isinstance(found, Compare):
            self._check(found, token, sign, [place])
        return found

    def _membership(self, token: Token, sign: Token, field: str) -> Filter:
        places: list[Token] = []
        values: list[Value | None] = []
        self._expect("(")
        while not self._take(")"):
            if places:
                self._expect(",")
            places.append(self._peek())
            values.append(self._value(field))
        found = one_of(field, values)
        if isinstance(found, Exists):
            return found
        given = [pair for pair in zip(values, places, strict=True) if not is_absence(field, pair[0])]
        asked = In(field, tuple(value for value, _ in given if value is not None))
        self._check(asked, token, sign, [place for _, place in given])
        return found

    def _search(self, token: Token, sign: Token, field: str) -> Filter:
        place = self._peek()
        info = field_info(field)
        if place.kind == "string":
            text = string_value(self.text, place)
        elif place.kind == "name" and info and info.bare and place.word not in _KEYWORDS:
            text = place.text
        else:
            raise self._error(place, f"{sign.text} needs text in quotes, found {place.shown}", ("text in quotes",))
        self.at += 1
        found: Leaf = Matches(field, text) if sign.word == "=~" else Contains(field, text)
        self._check(found, token, sign, [place])
        return Not(found) if sign.word == "!~" else found

    def _check(self, asked: Leaf | Order, field: Token, sign: Token, places: list[Token]) -> None:
        fault = find_fault(asked)
        if fault is None:
            return
        place = {"field": field, "op": sign}.get(fault.part) or places[fault.index]
        raise self._error(place, fault.message, fault.expected)

    # Values

    def _value(self, field: str) -> Value | None:
        token = self._next()
        info = field_info(field)
        assert info is not None
        if token.kind == "string":
            text = string_value(self.text, token)
            return self._time(token, text) if info.type == "time" else text
        if token.kind in ("date", "age"):
            if info.type != "time":
                raise self._error(
                    token, f"{token.text} is a time and {field} is not; as text it needs quotes", (f'"{token.text}"',)
                )
            return self._time(token, token.text)
        if token.kind == "number":
            return self._number(token)
        if token.kind != "name" or (token.word in _KEYWORDS and token.word not in _LITERALS):
            raise self._error(token, f"expected a value, found {token.shown}", ("a value",))
        return _LITERALS[token.word] if token.word in _LITERALS else self._bare(token, field, info)

    def _bare(self, token: Token, field: str, info: FieldInfo) -> str:
        if not info.bare or "`" in token.text:
            raise self._error(
                token,
                f'{token.shown} without quotes is no value for {field}; text is written "{token.shown}"',
                ("text in quotes",),
            )
        known = (*info.words, "any") if field == "state" else info.words
        if known and token.text not in known:
            near = difflib.get_close_matches(token.text.lower()[:40], info.words, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(info.words)}"
            raise self._error(token, f"{field} is never {token.shown}: {hint}", info.words)
        return token.text

    def _time(self, token: Token, text: str) -> datetime:
        try:
            return parse_time(text, self.now)
        except ValueError as error:
            raise self._error(token, str(error), (EXAMPLES,)) from None

    def _number(self, token: Token) -> int | float:
        if _SHORT_INTEGER.fullmatch(token.text) and abs(int(token.text)) < INTEGERS:
            return int(token.text)
        value = float(token.text)
        if math.isinf(value) and "inf" not in token.text.lower():
            raise self._error(token, "the number is too large for a 64-bit float", ("a smaller number", "Infinity"))
        return value

    # Order

    def _order(self) -> tuple[Order, ...]:
        self._expect("by")
        keys = [self._key()]
        while self._take(","):
            keys.append(self._key())
            if len(keys) > MAX_ORDER:
                raise self._error(self._peek(), f"a query sorts by at most {MAX_ORDER} fields", ("fewer fields",))
        return tuple(keys)

    def _key(self) -> Order:
        token, field = self._field()
        descending = self._take("desc")
        if not descending:
            self._take("asc")
        key = Order(field, descending)
        self._check(key, token, token, [token])
        return key
