"""Filters written as nested JSON objects, the way the W&B client and ``labkeep.Api`` write them, into the same tree.

``{"config.lr": {"$lt": 0.1}, "$or": [{"tags": "prod"}, {"state": "finished"}]}``: several keys, or several operators
of one key, all hold; a bare value means equality; null means absent. Which key stands for which field is a Spelling.
Every error is Invalid and names the place by a path: ``$or[0].tags.$size``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from labkeep.core.errors import Invalid
from labkeep.core.fields import FIELDS, NAMESPACES, CompareOp, Value, field_info, unknown_field
from labkeep.core.filters import (
    INTEGERS,
    MAX_DEPTH,
    MAX_IN,
    MAX_NODES,
    NOTHING,
    Compare,
    Contains,
    Exists,
    Filter,
    Leaf,
    Matches,
    Not,
    Or,
    Order,
    Query,
    conjunction,
    differs,
    equals,
    find_fault,
    one_of,
    validate,
)
from labkeep.core.times import parse_time


class Spelling(msgspec.Struct, frozen=True):
    """How a caller names things: key -> attribute, prefix of a key -> namespace, word for a status -> our status.

    Paths of the namespaces in ``wrapped`` may carry the word ``value`` behind the first key or at the end.
    A key that the tables do not have is taken as a field's own name.
    """

    attributes: Mapping[str, str]
    namespaces: Mapping[str, str]
    wrapped: frozenset[str] = frozenset()
    statuses: Mapping[str, str] = {}


_KEYS = {
    # In these filters "state" has always been how the run went; ours is reached by its own word.
    "state": "status",
    "lifecycle": "state",
    "tags": "tag",
    "displayName": "name",
    "display_name": "name",
    "jobType": "job_type",
    "description": "notes",
    "username": "created_by",
    "duration": "duration_s",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "heartbeatAt": "heartbeat_at",
    "startedAt": "started_at",
    "finishedAt": "finished_at",
}
_PREFIXES = {"summary_metrics": "summary", "summaryMetrics": "summary", "keys_info.keys": "metrics"}

NATIVE = Spelling(_KEYS, _PREFIXES)
"""``labkeep.Api``: ``name`` is the display name."""
WANDB = Spelling(
    {**_KEYS, "name": "handle"},
    _PREFIXES,
    frozenset({"config"}),
    {"killed": "stopped", "pending": "queued"},
)
"""The W&B client: ``name`` is the short id of a run, configs are wrapped in ``value``."""


def parse_mongo(filters: Mapping[str, Any], now: datetime, spelling: Spelling = WANDB) -> Filter | None:
    """The filter that ``filters`` means, None when it holds for everything. Invalid names the path of what is wrong.

    ``now`` (aware) is what ages such as "-30d" count from.
    """
    found = _Reader(now, spelling).object("", filters, 1)
    validate(Query(found))
    return found


def parse_order(text: str | None, spelling: Spelling = WANDB) -> tuple[Order, ...]:
    """Sort keys from ``-created_at`` or ``+summary_metrics.loss,-created_at``; no sign is +, no text is no order."""
    keys = []
    for part in (text or "").split(","):
        key = part.strip()
        if key:
            field = field_of(key[1:] if key[0] in "+-" else key, spelling, "order")
            keys.append(Order(field, descending=key.startswith("-")))
    order = tuple(keys)
    validate(Query(None, order))
    return order


def field_of(key: str, spelling: Spelling, path: str) -> str:
    """The field that a caller's ``key`` stands for; Invalid at ``path`` when there is none."""
    if key in spelling.attributes:
        return spelling.attributes[key]
    prefix = next((prefix for prefix in spelling.namespaces if key.startswith(prefix + ".")), None)
    field = key if prefix is None else spelling.namespaces[prefix] + key[len(prefix) :]
    space, _, rest = field.partition(".")
    if space in spelling.wrapped:
        field = f"{space}.{_unwrapped(rest)}"
    if field_info(field) is None:
        known = sorted({*spelling.attributes, *FIELDS, *(f"{space}.*" for space in NAMESPACES)})
        raise Invalid(f"{path}: {unknown_field(field)}", path=path, expected=known)
    return field


def _unwrapped(path: str) -> str:
    """``model.value.depth`` and ``model.depth.value`` are ``model.depth``; a lone ``value`` is a key like any other."""
    keys = path.split(".")
    if len(keys) > 1 and keys[1] == "value":
        del keys[1]
    elif len(keys) > 1 and keys[-1] == "value":
        keys.pop()
    return ".".join(keys)


class _Reader:
    """Walks the JSON; None stands for "everything", so that empty objects and lists need no node of the tree."""

    def __init__(self, now: datetime, spelling: Spelling) -> None:
        self.now = now
        self.spelling = spelling
        self.seen = 0

    def object(self, path: str, filters: Any, depth: int) -> Filter | None:
        """All keys of one object at once."""
        self._enter(path, depth)
        if not isinstance(filters, Mapping):
            raise _wrong(path or "filters", f"needs an object, not {_shown(filters)}", "an object")
        return conjunction(*(self._entry(_joined(path, key), key, value, depth) for key, value in filters.items()))

    def _enter(self, path: str, depth: int) -> None:
        self.seen += 1
        if self.seen > MAX_NODES or depth > MAX_DEPTH:
            limits = f"at most {MAX_NODES} conditions and {MAX_DEPTH} levels"
            raise _wrong(path or "filters", f"is too large: {limits}", limits)

    def _entry(self, path: str, key: Any, value: Any, depth: int) -> Filter | None:
        if not isinstance(key, str):
            raise _wrong(path, "is no key: keys are text", "text")
        if key in ("$and", "$or", "$nor"):
            return self._list(path, key, value, depth)
        if key == "$not":
            return _negated(self.object(path, value, depth + 1))
        if key.startswith("$"):
            raise _wrong(path, f"the operator {key} does not exist here", "$and", "$or", "$nor", "$not", "a field")
        return self._field(path, field_of(key, self.spelling, path), value, depth)

    def _list(self, path: str, key: str, value: Any, depth: int) -> Filter | None:
        if not isinstance(value, list | tuple):
            raise _wrong(path, f"needs a list, not {_shown(value)}", "a list of objects")
        items = [self.object(f"{path}[{at}]", item, depth + 1) for at, item in enumerate(value)]
        if key == "$and":
            return conjunction(*items)
        return _negated(_disjunction(items)) if key == "$nor" else _disjunction(items)

    def _field(self, path: str, field: str, value: Any, depth: int) -> Filter | None:
        if not isinstance(value, Mapping):
            return self._checked(path, equals(field, self._value(path, field, value)))
        self._enter(path, depth)
        if not value:
            raise _wrong(path, "has no operators", *OPERATORS)
        return conjunction(*(self._operator(_joined(path, key), field, key, arg, depth) for key, arg in value.items()))

    def _operator(self, path: str, field: str, key: Any, arg: Any, depth: int) -> Filter | None:
        self._enter(path, depth)
        if key == "$not":
            if not isinstance(arg, Mapping):
                raise _wrong(path, f"needs an object of operators, not {_shown(arg)}", '{"$gt": 1}')
            return _negated(self._field(path, field, arg, depth + 1))
        read = OPERATORS.get(key)
        if read is None:
            raise _wrong(path, f"the operator {_shown(key)} does not exist here", *OPERATORS, "$not")
        return read(self, path, field, arg)

    def _equal(self, path: str, field: str, arg: Any) -> Filter:
        return self._checked(path, equals(field, self._value(path, field, arg)))

    def _different(self, path: str, field: str, arg: Any) -> Filter:
        return self._checked(path, differs(field, self._value(path, field, arg)))

    def _relation(self, path: str, field: str, arg: Any, op: CompareOp) -> Filter:
        value = self._value(path, field, arg)
        if value is None:
            raise _wrong(path, "null has no order", "a value")
        return self._checked(path, Compare(field, op, value))

    def _member(self, path: str, field: str, arg: Any) -> Filter:
        return self._checked(path, one_of(field, self._values(path, field, arg)))

    def _every(self, path: str, field: str, arg: Any) -> Filter:
        each = [self._checked(path, equals(field, value)) for value in self._values(path, field, arg)]
        return conjunction(*each) or NOTHING

    def _exists(self, path: str, field: str, arg: Any) -> Filter:
        if arg not in (True, False):
            raise _wrong(path, f"needs true or false, not {_shown(arg)}", "true", "false")
        return Exists(field) if arg else Not(Exists(field))

    def _searched(self, path: str, field: str, arg: Any, kind: type[Contains] | type[Matches]) -> Filter:
        if not isinstance(arg, str):
            raise _wrong(path, f"needs text, not {_shown(arg)}", "text")
        return self._checked(path, kind(field, arg))

    def _values(self, path: str, field: str, arg: Any) -> list[Value | None]:
        if not isinstance(arg, list | tuple) or len(arg) > MAX_IN:
            raise _wrong(path, f"needs a list of at most {MAX_IN} values, not {_shown(arg)}", "a list")
        return [self._value(f"{path}[{at}]", field, item) for at, item in enumerate(arg)]

    def _value(self, path: str, field: str, value: Any) -> Value | None:
        if value is not None and not isinstance(value, str | int | float | datetime):
            raise _wrong(path, f"needs one value, not {_shown(value)}", "text", "a number", "true", "false", "null")
        if isinstance(value, str):
            return self._text(path, field, value)
        if isinstance(value, int) and not isinstance(value, bool) and INTEGERS <= abs(value) < 2**1023:
            return float(value)
        return value

    def _text(self, path: str, field: str, text: str) -> Value:
        info = field_info(field)
        if info is None or info.type != "time":
            return self.spelling.statuses.get(text, text) if field == "status" else text
        try:
            return parse_time(text, self.now)
        except ValueError as error:
            raise _wrong(path, str(error), "an ISO 8601 time") from None

    def _checked(self, path: str, found: Filter) -> Filter:
        """``found`` with its conditions checked here, where the caller's own path is known."""
        if isinstance(found, Leaf):
            fault = find_fault(found)
            if fault:
                raise _wrong(path, fault.message, *fault.expected)
        elif isinstance(found, Or):
            for item in found.items:
                self._checked(path, item)
        return found


OPERATORS: dict[str, Callable[[_Reader, str, str, Any], Filter]] = {
    "$eq": _Reader._equal,
    "$ne": _Reader._different,
    "$gt": lambda reader, path, field, arg: reader._relation(path, field, arg, ">"),
    "$gte": lambda reader, path, field, arg: reader._relation(path, field, arg, ">="),
    "$lt": lambda reader, path, field, arg: reader._relation(path, field, arg, "<"),
    "$lte": lambda reader, path, field, arg: reader._relation(path, field, arg, "<="),
    "$in": _Reader._member,
    "$nin": lambda reader, path, field, arg: Not(reader._member(path, field, arg)),
    "$all": _Reader._every,
    "$exists": _Reader._exists,
    "$regex": lambda reader, path, field, arg: reader._searched(path, field, arg, Matches),
    "$contains": lambda reader, path, field, arg: reader._searched(path, field, arg, Contains),
}
"""Operator of a key -> what it becomes; ``$not`` stands beside them because it takes operators itself."""


def _negated(found: Filter | None) -> Filter:
    return NOTHING if found is None else Not(found)


def _disjunction(items: list[Filter | None]) -> Filter | None:
    """At least one of ``items``; of none, never: an empty list must not select everything for a deletion."""
    known = tuple(item for item in items if item is not None)
    if len(known) < len(items):
        return None
    if not known:
        return NOTHING
    return known[0] if len(known) == 1 else Or(known)


def _joined(path: str, key: object) -> str:
    return f"{path}.{key}"[:500].lstrip(".")


def _shown(value: object) -> str:
    return repr(value)[:60]


def _wrong(path: str, message: str, *expected: str) -> Invalid:
    return Invalid(f"{path}: {message}", path=path, expected=[str(item) for item in expected])
