"""Queries as the SDK sends them: a tree, never text, compiled to a function of one event. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from labkeep.core.entities import Json
from labkeep.core.errors import Invalid, Unsupported
from labkeep.core.merge import identity

Check = Callable[[Json], Any]
"""A compiled expression: event -> value; None is unknown, as in SQL."""


class Query(msgspec.Struct, frozen=True):
    """What a query asks for: ``source`` is experiment, dataset, project_logs, project_prompts …"""

    source: str
    id: str
    check: Check | None = None
    root: str | None = None
    """The only trace that can meet the condition."""
    only_id: str | None = None
    """The only object or row that can meet the condition."""
    cursor: str | None = None
    limit: Any = None


_IGNORED = frozenset({"select", "from", "filter", "cursor", "limit"})


def parse(query: Any) -> Query:
    """A query tree. Unsupported for text and for clauses beyond from, filter, limit and cursor."""
    if isinstance(query, str):
        raise Unsupported("queries as text are not offered: fetch the object, or send the query as a tree")
    if not isinstance(query, dict):
        raise Invalid("query must be a query tree", path="query")
    extra = sorted(name for name, value in query.items() if name not in _IGNORED and value not in (None, [], {}))
    if extra:
        raise Unsupported(f"the clause {extra[0]} of queries is not offered")
    _only_star(query.get("select"))
    source, id = _source(query.get("from"))
    condition = query.get("filter")
    cursor = query.get("cursor")
    return Query(
        source,
        id,
        None if condition is None else compile_condition(condition),
        _required(condition, "root_span_id"),
        _required(condition, "id"),
        cursor if isinstance(cursor, str) and cursor else None,
        query.get("limit"),
    )


def _only_star(select: Any) -> None:
    if select not in (None, [], [{"op": "star"}], ["*"]):
        raise Unsupported("only select * is offered")


def _source(source: Any) -> tuple[str, str]:
    try:
        name, arguments = source["name"]["name"][0], source["args"]
        id = arguments[0]["value"]
    except (TypeError, KeyError, IndexError) as error:
        raise Invalid("query.from must be a function of one id, such as experiment('…')", path="query.from") from error
    if source.get("shape") not in (None, "spans", "traces") or len(arguments) != 1:
        raise Unsupported("only the spans of one object can be queried")
    if not isinstance(id, str) or not isinstance(name, str):
        raise Invalid("query.from must be a function of one id, such as experiment('…')", path="query.from")
    return name, id


def _required(node: Any, field: str) -> str | None:
    """The text that ``field`` must equal for the condition to hold, if it says so at the top."""
    if not isinstance(node, dict):
        return None
    if node.get("op") == "and":
        for child in node.get("children") or []:
            if (found := _required(child, field)) is not None:
                return found
    if node.get("op") == "eq" and _name(node.get("left")) == (field,):
        value = node["right"].get("value") if isinstance(node.get("right"), dict) else None
        return value if isinstance(value, str) else None
    return None


def _name(node: Any) -> tuple[str, ...]:
    names = node.get("name") if isinstance(node, dict) and node.get("op") == "ident" else None
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


# --- conditions -------------------------------------------------------------------------------------------------------


def compile_condition(node: Any) -> Check:
    """A condition as a function of an event. Unsupported for operators that no client sends."""
    if not isinstance(node, dict):
        raise Invalid("a condition must be a tree of objects with op", path="query.filter")
    op = node.get("op")
    if op == "literal":
        return _constant(node.get("value"))
    if op == "ident":
        return _path(_name(node))
    if op in ("and", "or"):
        return _combined(str(op), [compile_condition(child) for child in _children(node)])
    if op in _UNARY:
        inner, apply_one = compile_condition(node.get("expr")), _UNARY[op]
        return lambda event: apply_one(inner(event))
    if op in _BINARY:
        left, right = compile_condition(node.get("left")), compile_condition(node.get("right"))
        apply_two = _BINARY[op]
        return lambda event: apply_two(left(event), right(event))
    raise Unsupported(f"the operator {str(op)[:40]!r} of queries is not offered")


def _constant(value: Any) -> Check:
    return lambda _event: value


def _path(names: tuple[str, ...]) -> Check:
    def look(event: Json) -> Any:
        value: Any = event
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    return look


def _children(node: Json) -> list[Any]:
    children = node.get("children")
    if children is None:
        children = [node.get("left"), node.get("right")]
    if not isinstance(children, list):
        raise Invalid("children must be a list of conditions", path="query.filter")
    return children


def _combined(op: str, checks: list[Check]) -> Check:
    combine = all if op == "and" else any
    return lambda event: combine(check(event) is True for check in checks)


def _equal(left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if _is_number(left) and _is_number(right):
        return bool(left == right)
    return bool(identity(left) == identity(right))


def _unequal(left: Any, right: Any) -> bool | None:
    found = _equal(left, right)
    return None if found is None else not found


def _among(left: Any, right: Any) -> bool | None:
    if left is None or not isinstance(right, list):
        return None
    return any(_equal(left, each) for each in right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool | None]:
    def apply(left: Any, right: Any) -> bool | None:
        if (_is_number(left) and _is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
            return compare(left, right)
        return None

    return apply


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: compute(left, right) if _is_number(left) and _is_number(right) else None


_UNARY: dict[Any, Callable[[Any], Any]] = {
    "isnull": lambda value: value is None,
    "isnotnull": lambda value: value is not None,
    "not": lambda value: None if value is None else value is not True,
}

_BINARY: dict[Any, Callable[[Any, Any], Any]] = {
    "eq": _equal,
    "ne": _unequal,
    "in": _among,
    "lt": _ordered(operator.lt),
    "le": _ordered(operator.le),
    "gt": _ordered(operator.gt),
    "ge": _ordered(operator.ge),
    "add": _arithmetic(operator.add),
    "sub": _arithmetic(operator.sub),
}
