"""The filter tree: what every query becomes, whichever language it was written in.

    Query ── filter: And | Or | Not | Compare | In | Contains | Matches | Exists     order: Order, …

A tree holds only what was asked, in the fewest forms: "is null" is ``Not(Exists)``, "not in" is ``Not(In)``, a
relative age is already a moment. Fields are named by one string: an attribute (``status``) or a namespace and a
path (``config.model.depth``; a nested key and a key with dots in it are the same path).

``evaluate`` says what a filter means. The compiler to SQL must agree with it, and a test holds it to that.
To store or send a query use its text (``labkeep.core.query``): JSON has no NaN and no moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

import msgspec

from labkeep.core.errors import Invalid
from labkeep.core.fields import FIELDS, CompareOp, FieldInfo, Value, ValueKind, field_info, kind_of, unknown_field
from labkeep.core.lifecycle import State
from labkeep.core.patterns import compile_pattern, matches
from labkeep.core.times import EXAMPLES

MAX_NODES = 500
"""Nodes of a filter: each And, Or, Not and each condition counts one."""
MAX_DEPTH = 50
"""Levels of a filter; a single condition has one."""
MAX_IN = 1_000
"""Values of one ``in``."""
MAX_ORDER = 10
"""Fields of one ``order by``."""
MAX_FIELD = 500
"""Characters of a field's name, its path included."""
MAX_VALUE_TEXT = 10_000
"""Characters of one text value."""
INDEXED_TEXT = 256
"""Of a text in an open namespace only this many leading characters are kept for queries."""
INTEGERS = 2**63
"""Integers lie between -INTEGERS and INTEGERS, exclusive; compared, every number is a 64-bit float."""

Stored: TypeAlias = object
"""What a lookup answers: a Value, None for "absent", an iterable of str for ``tag``, anything else for "there, but
not comparable" (a list in a config)."""


class And(msgspec.Struct, frozen=True, tag="and"):
    """Every one of two or more items holds."""

    items: tuple[Filter, ...]


class Or(msgspec.Struct, frozen=True, tag="or"):
    """At least one of two or more items holds."""

    items: tuple[Filter, ...]


class Not(msgspec.Struct, frozen=True, tag="not"):
    """The item does not hold. There are two truth values, never a third."""

    item: Filter


class Compare(msgspec.Struct, frozen=True, tag="compare"):
    """The field's value stands in the relation ``op`` to ``value``; ``!=`` is exactly the negation of ``=``."""

    field: str
    op: CompareOp
    value: Value


class In(msgspec.Struct, frozen=True, tag="in"):
    """The field equals one of the values; of no values, never."""

    field: str
    values: tuple[Value, ...]


class Contains(msgspec.Struct, frozen=True, tag="contains"):
    """The field is text and holds ``text`` somewhere, whatever the case (Unicode case folding)."""

    field: str
    text: str


class Matches(msgspec.Struct, frozen=True, tag="matches"):
    """The field is text and ``pattern`` is found in it: Python's ``re``, in the safe subset of ``core.patterns``."""

    field: str
    pattern: str


class Exists(msgspec.Struct, frozen=True, tag="exists"):
    """The field has a value. ``Exists("state")`` always holds: it is how a query says "in any state"."""

    field: str


Leaf: TypeAlias = Compare | In | Contains | Matches | Exists
Filter: TypeAlias = And | Or | Not | Leaf

NOTHING = In("id", ())
"""The filter that never holds."""


class Order(msgspec.Struct, frozen=True):
    """One sort key. What lacks the field comes last in either direction; ties go by id, newest first."""

    field: str
    descending: bool = False


class Query(msgspec.Struct, frozen=True):
    """What to list and in which order; ``filter=None`` is everything."""

    filter: Filter | None = None
    order: tuple[Order, ...] = ()


class Fault(msgspec.Struct, frozen=True):
    """Why a condition or a sort key cannot be asked: which part of it, and what would do instead."""

    part: Literal["field", "op", "value"]
    message: str
    expected: tuple[str, ...]
    index: int = 0


def find_fault(leaf: Leaf | Order) -> Fault | None:
    """The first thing wrong with a condition or a sort key, None when it can be asked."""
    info = field_info(leaf.field)
    if info is None:
        return Fault("field", unknown_field(leaf.field), tuple(FIELDS))
    if len(leaf.field) > MAX_FIELD or _unstorable(leaf.field):
        return Fault("field", f"a field has at most {MAX_FIELD} characters, all of them storable", ("a shorter path",))
    if isinstance(leaf, Order):
        if not info.rules.ordered:
            return Fault("field", f"{leaf.field} has many values and gives no order", ("a field with one value",))
        return None
    if isinstance(leaf, Exists):
        return None
    if isinstance(leaf, Contains | Matches):
        return _search_fault(leaf, info)
    values = leaf.values if isinstance(leaf, In) else (leaf.value,)
    op = "=" if isinstance(leaf, In) else leaf.op
    if op not in info.rules.ops:
        return Fault("op", f"{leaf.field} has no order: {op} does not apply", info.rules.ops)
    if len(values) > MAX_IN:
        return Fault("op", f"in takes at most {MAX_IN} values, not {len(values)}", ("fewer values",))
    for index, value in enumerate(values):
        found = _value_fault(leaf.field, info, op, value)
        if found:
            return Fault("value", *found, index)
    return None


def _search_fault(leaf: Contains | Matches, info: FieldInfo) -> Fault | None:
    if not info.rules.searched:
        return Fault("op", f"{leaf.field} is not searched as text: it is {info.rules.doc}", info.rules.ops)
    text = leaf.text if isinstance(leaf, Contains) else leaf.pattern
    problem = _text_fault(text)
    if problem:
        return Fault("value", *problem)
    if isinstance(leaf, Matches):
        try:
            compile_pattern(leaf.pattern)
        except Invalid as error:
            return Fault("value", error.message, tuple(error.details["expected"]))
    return None


_NEEDED: dict[str, tuple[str, ...]] = {
    "text": ('text in quotes, such as "a"',),
    "tags": ('text in quotes, such as "a"',),
    "number": ("a number",),
    "flag": ("true or false",),
    "time": (f"a time, such as {EXAMPLES}",),
    "open": ("text in quotes", "a number", "true or false"),
}


def _value_fault(field: str, info: FieldInfo, op: str, value: Value) -> tuple[str, tuple[str, ...]] | None:
    needed = info.words if info.type == "choice" else _NEEDED[info.type]
    kind = kind_of(value)
    if kind not in info.rules.kinds or (info.type == "choice" and value not in info.words):
        shown = repr(value) if kind == "text" else str(value)
        given = f"the {kind} {shown[:80]}" if kind else f"a {type(value).__name__}"
        return f"{field} cannot be compared with {given}; it needs {' or '.join(needed)}", needed
    if _is_blank(field, value):
        return f"empty text in {field} counts as absent", (f"{field} is null",)
    if kind == "text":
        return _text_fault(str(value))
    if kind == "flag" and op not in ("=", "!="):
        return "true and false have no order", ("= or !=",)
    if isinstance(value, float) and math.isnan(value) and op not in ("=", "!="):
        return "nothing is less or greater than NaN", ("= or !=",)
    if isinstance(value, int) and abs(value) >= INTEGERS:
        return "the number is too large for an integer", ("fewer digits, or a fraction or exponent",)
    if isinstance(value, datetime) and value.tzinfo is None:
        return f"{field} needs a time with a time zone", ("an aware datetime",)
    return None


def _text_fault(text: str) -> tuple[str, tuple[str, ...]] | None:
    if not isinstance(text, str) or len(text) > MAX_VALUE_TEXT:
        return f"a text has at most {MAX_VALUE_TEXT} characters", ("a shorter text",)
    if _unstorable(text):
        return "no stored text has a NUL character or half a surrogate pair in it", ("other characters",)
    return None


def _unstorable(text: str) -> bool:
    return "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text)


def equals(field: str, value: Value | None) -> Filter:
    """ "field = value" as parsers build it: the absence of a value is Not(Exists), and any state is Exists."""
    if is_absence(field, value):
        return Not(Exists(field))
    return Exists(field) if field == "state" and value == "any" else Compare(field, "=", _given(value))


def differs(field: str, value: Value | None) -> Filter:
    """ "field != value", the exact negation of ``equals``."""
    found = equals(field, value)
    if isinstance(found, Compare):
        return Compare(field, "!=", found.value)
    return found.item if isinstance(found, Not) else Not(found)


def one_of(field: str, values: Iterable[Value | None]) -> Filter:
    """ "field in (values)", with what ``equals`` says of each."""
    asked = tuple(values)
    if field == "state" and "any" in asked:
        return Exists(field)
    present = tuple(_given(value) for value in asked if not is_absence(field, value))
    if len(present) == len(asked):
        return In(field, present)
    return Or((Not(Exists(field)), In(field, present))) if present else Not(Exists(field))


def _given(value: Value | None) -> Value:
    assert value is not None
    return value


def is_absence(field: str, value: Value | None) -> bool:
    """Whether comparing ``field`` with ``value`` asks for what lacks it."""
    return value is None or _is_blank(field, value)


def _is_blank(field: str, value: object) -> bool:
    """Whether ``value`` is empty text in an attribute, which counts as absent."""
    return value == "" and field in FIELDS and FIELDS[field].type in ("text", "tags")


def validate(query: Query) -> None:
    """Invalid when a tree from elsewhere could not have come from a text: its size, shape, fields and types.

    ``path`` of the error names the place: ``filter.items[1].value``.
    """
    nodes = 0
    pending: list[tuple[str, int, Filter]] = [] if query.filter is None else [("filter", 1, query.filter)]
    while pending:
        path, depth, node = pending.pop()
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise Invalid(f"the filter is too large: at most {MAX_NODES} conditions and {MAX_DEPTH} levels", path=path)
        if isinstance(node, And | Or):
            if len(node.items) < 2:
                raise Invalid(f"{path} joins fewer than two filters", path=path, expected=["two or more items"])
            pending.extend((f"{path}.items[{at}]", depth + 1, item) for at, item in enumerate(node.items))
        elif isinstance(node, Not):
            pending.append((f"{path}.item", depth + 1, node.item))
        else:
            _require_faultless(path, node)
    if len(query.order) > MAX_ORDER:
        raise Invalid(f"a query sorts by at most {MAX_ORDER} fields", path="order", expected=["fewer fields"])
    for at, key in enumerate(query.order):
        _require_faultless(f"order[{at}]", key)


def _require_faultless(path: str, node: Leaf | Order) -> None:
    fault = find_fault(node)
    if fault:
        place = f"{path}.{fault.part}" if not isinstance(node, In) else f"{path}.values[{fault.index}]"
        raise Invalid(f"{place}: {fault.message}", path=place, expected=list(fault.expected))


def evaluate(filter: Filter | None, lookup: Callable[[str], Stored]) -> bool:
    """Whether the object that ``lookup`` reads meets ``filter``. This function is the meaning of the language."""
    if filter is None:
        return True
    if isinstance(filter, And):
        return all(evaluate(item, lookup) for item in filter.items)
    if isinstance(filter, Or):
        return any(evaluate(item, lookup) for item in filter.items)
    if isinstance(filter, Not):
        return not evaluate(filter.item, lookup)
    values = _stored_values(filter.field, lookup(filter.field))
    if isinstance(filter, Exists):
        return bool(values)
    if isinstance(filter, Compare) and filter.op == "!=":
        return not any(_holds(Compare(filter.field, "=", filter.value), value) for value in values)
    return any(_holds(filter, value) for value in values)


def _stored_values(field: str, stored: Stored) -> list[object]:
    info = field_info(field)
    if stored is None or info is None or _is_blank(field, stored):
        return []
    if info.type == "tags" and isinstance(stored, Iterable):
        return list(stored)
    return [_as_indexed(field, stored)]


def _as_indexed(field: str, value: object) -> object:
    """A value as the index holds it: text in an open namespace is cut to INDEXED_TEXT characters."""
    return value[:INDEXED_TEXT] if isinstance(value, str) and field not in FIELDS else value


def _holds(leaf: Leaf, value: object) -> bool:
    """Whether one stored value meets a condition, other than ``!=`` and Exists, which look at all of them."""
    if isinstance(leaf, Contains):
        return isinstance(value, str) and leaf.text.casefold() in value.casefold()
    if isinstance(leaf, Matches):
        return isinstance(value, str) and matches(leaf.pattern, value)
    if isinstance(leaf, In):
        return any(_compare("=", value, _as_indexed(leaf.field, asked)) for asked in leaf.values)
    return isinstance(leaf, Compare) and _compare(leaf.op, value, _as_indexed(leaf.field, leaf.value))


_RELATIONS: dict[str, Callable[[object, object], bool]] = {
    "=": lambda left, right: left == right or (left != left and right != right),  # NaN is NaN here
    "<": lambda left, right: left < right,  # type: ignore[operator]
    "<=": lambda left, right: left <= right,  # type: ignore[operator]
    ">": lambda left, right: left > right,  # type: ignore[operator]
    ">=": lambda left, right: left >= right,  # type: ignore[operator]
}


def _compare(op: str, left: object, right: object) -> bool:
    kind = kind_of(left)
    if kind is None or kind != kind_of(right):
        return False
    return _RELATIONS[op](_comparable(left), _comparable(right))


def _comparable(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


T = TypeVar("T")
_RANKS: dict[ValueKind, int] = {"flag": 0, "number": 1, "text": 2, "time": 3}


def ordered(items: Iterable[T], order: tuple[Order, ...], lookup: Callable[[T, str], Stored]) -> list[T]:
    """``items`` as a query lists them; ``lookup(item, "id")`` must answer.

    Ascending is false, true, numbers, texts; descending the reverse. Absent, NaN and incomparable values come last
    in both; ties go by id, descending.
    """
    found = sorted(items, key=lambda item: str(lookup(item, "id")), reverse=True)
    for key in reversed(order):
        ranked = [(_rank(key.field, lookup(item, key.field)), item) for item in found]
        present = [(rank, item) for rank, item in ranked if rank is not None]
        present.sort(key=lambda pair: pair[0], reverse=key.descending)
        found = [item for _, item in present] + [item for rank, item in ranked if rank is None]
    return found


def _rank(field: str, value: Stored) -> tuple[int, object] | None:
    kind = kind_of(value)
    if kind is None or value != value or _is_blank(field, value):
        return None
    return _RANKS[kind], _comparable(_as_indexed(field, value))


def leaves(filter: Filter | None) -> Iterator[Leaf]:
    """The conditions of a filter, from left to right."""
    pending: list[Filter] = [] if filter is None else [filter]
    while pending:
        node = pending.pop()
        if isinstance(node, And | Or):
            pending.extend(reversed(node.items))
        elif isinstance(node, Not):
            pending.append(node.item)
        else:
            yield node


def fields_used(query: Query) -> tuple[str, ...]:
    """Every field that a query reads, once, in the order of its first mention."""
    names = [leaf.field for leaf in leaves(query.filter)] + [key.field for key in query.order]
    return tuple(dict.fromkeys(names))


def conjunction(*filters: Filter | None) -> Filter | None:
    """All of ``filters`` at once; None stands for "everything", and so does the conjunction of nothing."""
    items: list[Filter] = []
    for item in filters:
        if isinstance(item, And):
            items.extend(item.items)
        elif item is not None:
            items.append(item)
    if len(items) < 2:
        return items[0] if items else None
    return And(tuple(items))


def state_filter(filter: Filter | None) -> frozenset[State] | None:
    """The lifecycle states that a filter lets through, or None when it does not mention ``state``.

    Only then does the default apply, which hides what is archived, trashed or purged.
    """
    if all(leaf.field != "state" for leaf in leaves(filter)):
        return None
    return frozenset(state for state in State if filter is None or _possible(filter, state) is not False)


def _possible(node: Filter, state: State) -> bool | None:
    """Whether ``node`` holds for an object of which only the state is known; None when that depends on the rest."""
    if isinstance(node, Not):
        inner = _possible(node.item, state)
        return None if inner is None else not inner
    if isinstance(node, And | Or):
        answers = [_possible(item, state) for item in node.items]
        deciding = isinstance(node, Or)
        return deciding if deciding in answers else None if None in answers else not deciding
    return evaluate(node, lambda _: state) if node.field == "state" else None
