"""The filter tree as SQL conditions. `labkeep.core.filters.evaluate` says what they must mean; a test compares both."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    String,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from labkeep.core.entities import Document, Item, Run
from labkeep.core.errors import Invalid
from labkeep.core.fields import FIELDS, Value
from labkeep.core.filters import INDEXED_TEXT, And, Compare, Contains, Exists, Filter, In, Leaf, Matches, Not, Or
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import Kind
from labkeep.storage import tables as t

Condition = ColumnElement[bool]


class contains_text(GenericFunction[bool]):  # noqa: N801 - SQL functions are named in lower case
    """Whether a text holds another, whatever the case. SQLite calls Python; PostgreSQL folds by itself."""

    inherit_cache = True


class matches_text(GenericFunction[bool]):  # noqa: N801 - SQL functions are named in lower case
    """Whether a regular expression is found in a text."""

    inherit_cache = True


@compiles(contains_text, "postgresql")
def _contains_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    text, part = (compiler.process(clause, **options) for clause in element.clauses)
    fold = 'casefold(({}) COLLATE "pg_unicode_fast")'
    return f"position({fold.format(part)} in {fold.format(text)}) > 0"


@compiles(matches_text, "postgresql")
def _matches_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    text, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({text}) ~ ({pattern})"


class Conditions:
    """Compiles filters over one entity."""

    def __init__(self, entity: type[Item], database: str) -> None:
        self.entity = entity
        self.database = database

    def compile(self, node: Filter) -> Condition:
        """``node`` as a condition on the rows of the entity's SELECT. Two-valued: never NULL."""
        if isinstance(node, And):
            return and_(*(self.compile(item) for item in node.items))
        if isinstance(node, Or):
            return or_(*(self.compile(item) for item in node.items))
        if isinstance(node, Not):
            return not_(self.compile(node.item))
        if isinstance(node, Compare) and node.op == "!=":
            return not_(self.compile(Compare(node.field, "=", node.value)))
        if node.field == "tag":
            return self._tag(node)
        if node.field in FIELDS:
            return self._attribute(node)
        f = t.fields.alias()
        return exists(
            select(1).where(
                f.c.organization_id == t.items.c.organization_id,
                f.c.item_id == t.items.c.id,
                f.c.path == node.field,
                field_condition(node, f.c),
            )
        )

    def _tag(self, leaf: Leaf) -> Condition:
        f = t.fields.alias()
        mine = (f.c.organization_id == t.items.c.organization_id, f.c.item_id == t.items.c.id)
        return exists(select(1).where(*mine, tag_condition(leaf, f.c)))

    def _attribute(self, leaf: Leaf) -> Condition:
        if leaf.field == "project":
            p = t.items.alias()
            mine = (p.c.organization_id == t.items.c.organization_id, p.c.id == t.items.c.project_id)
            return exists(select(1).where(*mine, p.c.kind == Kind.project, _value_condition(leaf, p.c.name, str)))
        column = self.column(leaf.field)
        if column is None:
            return false()
        if leaf.field in ("id", "parent"):
            return self._id_condition(leaf, column)
        present = self.present(leaf.field, column)
        if isinstance(leaf, Exists):
            return present
        return and_(present, func.coalesce(_value_condition(leaf, column, _plain), false()))

    def _id_condition(self, leaf: Leaf, column: ColumnElement[Any]) -> Condition:
        if isinstance(leaf, Exists):
            return column.is_not(None)
        if isinstance(leaf, Compare | In):
            asked = leaf.values if isinstance(leaf, In) else (leaf.value,)
            if isinstance(leaf, Compare) and leaf.op != "=":
                return and_(
                    column.is_not(None), func.coalesce(_relation(leaf.op, self._id_text(column), leaf.value), false())
                )
            known = [str(value) for value in asked if is_id(str(value))]
            return and_(column.is_not(None), column.in_(known)) if known else false()
        return and_(column.is_not(None), _value_condition(leaf, self._id_text(column), str))

    def _id_text(self, column: ColumnElement[Any]) -> ColumnElement[str]:
        if self.database == "postgresql":
            return cast(column, Text)
        text = func.lower(func.hex(column))
        parts = [func.substr(text, start, length) for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))]
        joined: ColumnElement[Any] = parts[0]
        for part in parts[1:]:
            joined = joined.op("||")("-").op("||")(part)
        return type_coerce(joined, String)

    def column(self, field: str) -> ColumnElement[Any] | None:
        """The column behind an attribute, as a plain value; None when this entity has no such attribute."""
        if field == "duration_s":
            if self.entity is not Run:
                return None
            took = type_coerce(t.runs.c.finished_at, BigInteger) - type_coerce(t.runs.c.started_at, BigInteger)
            return cast(took, Double) / 1_000_000.0
        name = {"parent": "base_run_id"}.get(field, field)
        own = {Run: t.runs, Document: t.documents}.get(self.entity)
        if own is not None and name in own.c and name not in ("id", "project_id"):
            return own.c[name]
        return t.items.c.get(name)

    def present(self, field: str, column: ColumnElement[Any]) -> Condition:
        """Whether the attribute has a value; empty text has none."""
        if FIELDS[field].type in ("text", "choice") and field not in ("id", "parent"):
            return func.coalesce(type_coerce(column, Text) != "", false())
        return column.is_not(None)


def _plain(value: Value) -> Any:
    return value


def field_condition(leaf: Leaf, c: Any) -> Condition:
    """What ``leaf`` asks of one row of ``fields``."""
    if isinstance(leaf, Exists):
        return true()
    if isinstance(leaf, Contains):
        return and_(c.type == "t", contains_text(c.text, leaf.text))
    if isinstance(leaf, Matches):
        return and_(c.type == "t", matches_text(c.text, leaf.pattern))
    if isinstance(leaf, In):
        return or_(false(), *(_field_relation("=", value, c) for value in leaf.values))
    return _field_relation(leaf.op, leaf.value, c)


def _field_relation(op: str, value: Value, c: Any) -> Condition:
    if isinstance(value, bool):
        return and_(c.type == "b", c.num == float(value))
    if isinstance(value, int | float):
        if math.isnan(value):
            return and_(c.type == "n", c.num.is_(None))
        return and_(c.type == "n", _relation(op, c.num, float(value)))
    if isinstance(value, str):
        return and_(c.type == "t", _relation(op, c.text, value[:INDEXED_TEXT]))
    return false()


TAG = "tag."


def tag_condition(leaf: Leaf, c: Any) -> Condition:
    """What ``leaf`` asks of one row of ``fields`` that is a tag: the tag is in its path."""
    path: ColumnElement[str] = c.path
    if isinstance(leaf, Compare):
        return path == f"{TAG}{leaf.value}"
    if isinstance(leaf, In):
        return path.in_([f"{TAG}{value}" for value in leaf.values]) if leaf.values else false()
    # "/" follows "." in the order of code points: the range holds exactly the paths that begin with the prefix.
    any_tag = and_(path >= TAG, path < "tag/")
    tag = func.substr(path, len(TAG) + 1)
    if isinstance(leaf, Contains):
        return and_(any_tag, contains_text(tag, leaf.text))
    return and_(any_tag, matches_text(tag, leaf.pattern)) if isinstance(leaf, Matches) else any_tag


_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda left, right: left == right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _relation(op: str, column: Any, value: Any) -> Condition:
    relation: Condition = _RELATIONS[op](column, value)
    return relation


def _value_condition(leaf: Leaf, column: ColumnElement[Any], convert: Callable[[Value], Any]) -> Condition:
    if isinstance(leaf, Exists):
        return column.is_not(None)
    if isinstance(leaf, Contains):
        return contains_text(type_coerce(column, Text), leaf.text)
    if isinstance(leaf, Matches):
        return matches_text(type_coerce(column, Text), leaf.pattern)
    as_text = any(isinstance(value, str) for value in (leaf.values if isinstance(leaf, In) else (leaf.value,)))
    plain = type_coerce(column, Text) if as_text else column
    if isinstance(leaf, In):
        return plain.in_([convert(value) for value in leaf.values]) if leaf.values else false()
    return _relation(leaf.op, plain, convert(leaf.value))


def sort_keys(conditions: Conditions, field: str) -> list[ColumnElement[Any]]:
    """What to sort by so that ``field`` orders as the language says: absent last comes first in this list, then values.

    The first key is 1 where the field is absent and sorts ascending in both directions; none is ever NULL.
    """
    if field in FIELDS:
        column = t.items.c.id if field == "id" else conditions.column(field)
        if field in ("tag", "project") or column is None:
            raise Invalid(f"lists cannot be ordered by {field} here", path="order")
        kind = FIELDS[field].type
        value: ColumnElement[Any]
        if kind == "time":
            value = func.coalesce(type_coerce(column, BigInteger), 0)
        elif kind == "number":
            value = func.coalesce(cast(column, Double), 0.0)
        elif kind == "flag":
            value = case((column.is_(true()), 1), else_=0)
        elif field in ("id", "parent"):
            value = func.coalesce(conditions._id_text(column), "")
        else:
            value = func.coalesce(type_coerce(column, Text), "")
        return [case((conditions.present(field, column), 0), else_=1), value]
    f = t.fields.alias()
    mine = (f.c.organization_id == t.items.c.organization_id, f.c.item_id == t.items.c.id, f.c.path == field)

    def of(expression: Any) -> Any:
        return select(expression).where(*mine).scalar_subquery()

    ranked = case((f.c.type == "b", 0), (f.c.type == "n", 1), else_=2)
    sortable = or_(f.c.num.is_not(None), f.c.text.is_not(None))
    return [
        func.coalesce(of(case((sortable, 0), else_=1)), 1),
        func.coalesce(of(ranked), 0),
        func.coalesce(of(f.c.num), 0.0),
        func.coalesce(of(f.c.text), ""),
    ]
