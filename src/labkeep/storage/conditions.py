"""The filter tree as SQL conditions. `labkeep.core.filters.evaluate` says what they must mean; a test compares both.

A filter is taken apart into its ``shape``, which decides the text of the SQL, and its ``arguments``, the values in it
from left to right: filters of one shape share one statement (`labkeep.storage.prepared`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    LargeBinary,
    String,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeEngine

from labkeep.core.entities import Document, Item, Run
from labkeep.core.fields import FIELDS, REFERENCES, Value, field_info, kind_of
from labkeep.core.filters import INDEXED_TEXT, And, Compare, Contains, Exists, Filter, In, Leaf, Matches, Not, Or
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import Kind
from labkeep.core.patterns import SPAN
from labkeep.storage import column_types as types
from labkeep.storage import tables as t
from labkeep.storage.patterns_postgres import translate
from labkeep.storage.prepared import raw_id, raw_time

Condition = ColumnElement[bool]
Take = Callable[[TypeEngine[Any]], ColumnElement[Any]]
"""Gives the next argument, as an expression of that type."""

TEXT = t.items.c.name.type
_ID, _TIME, _FLAG = types.Id(), types.Moment(), Boolean()
_NUMBER: TypeEngine[Any] = Double()


class contains_text(GenericFunction[bool]):  # noqa: N801 - SQL functions are named in lower case
    """Whether a text holds another, whatever the case. SQLite calls Python; PostgreSQL folds by itself."""

    inherit_cache = True


class matches_text(GenericFunction[bool]):  # noqa: N801 - SQL functions are named in lower case
    """Whether a regular expression is found in the first characters of a text."""

    inherit_cache = True


class is_listed(GenericFunction[bool]):  # noqa: N801 - SQL functions are named in lower case
    """Whether an object (organization, project, kind, id, states …) stands in one of some states.

    The index has all of that: there is no need to look at rows, which lie as far apart as the objects do. SQLite
    prefers the unique index of ids when it is not told.
    """

    inherit_cache = True


@compiles(is_listed)
def _is_listed(element: Any, compiler: Any, **options: Any) -> str:
    hint = " INDEXED BY items_project" if compiler.dialect.name == "sqlite" else ""
    organization, project, kind, id, *states = (compiler.process(clause, **options) for clause in element.clauses)
    return (
        f"EXISTS (SELECT 1 FROM items AS listed{hint} WHERE listed.organization_id = {organization} AND "  # noqa: S608
        f"listed.project_id = {project} AND listed.kind = {kind} AND listed.state IN ({', '.join(states)}) "
        f"AND listed.id = {id})"
    )


@compiles(contains_text, "postgresql")
def _contains_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    text, part = (compiler.process(clause, **options) for clause in element.clauses)
    fold = 'casefold(({}) COLLATE "pg_unicode_fast")'
    return f"position({fold.format(part)} in {fold.format(text)}) > 0"


@compiles(matches_text, "postgresql")
def _matches_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    text, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(substr({text}, 1, {SPAN}) ~ ({pattern}))"


# --- shapes and arguments ---------------------------------------------------------------------------------------------


def shape_of(node: Filter) -> Any:
    """What of ``node`` decides the text of its SQL, hashable: all but the values."""
    if isinstance(node, And | Or):
        return type(node).__name__, tuple(shape_of(item) for item in node.items)
    if isinstance(node, Not):
        return "Not", shape_of(node.item)
    place = node.field if node.field in FIELDS else ""
    return type(node).__name__, place, getattr(node, "op", ""), _kinds(node)


def _kinds(leaf: Leaf) -> tuple[str, ...]:
    return tuple(_kind(leaf, value) for value in _values(leaf))


def _values(leaf: Leaf) -> tuple[Value, ...]:
    if isinstance(leaf, In):
        return leaf.values
    return (leaf.value,) if isinstance(leaf, Compare) else ()


def _kind(leaf: Leaf, value: Value) -> str:
    """What kind of value SQL compares with; ``never`` for one that nothing stored can equal."""
    if isinstance(value, float) and math.isnan(value):
        return "never" if leaf.field in FIELDS else "nan"
    if _is_identity(leaf) and not is_id(str(value)):
        return "never"
    return str(kind_of(value))


def _is_taken(leaf: Leaf, value: Value) -> bool:
    return _kind(leaf, value) not in ("nan", "never")


def _is_identity(leaf: Leaf) -> bool:
    """Whether ids are compared as a whole: by their bytes. By all else they are compared as people write them."""
    return leaf.field in REFERENCES and (isinstance(leaf, In) or getattr(leaf, "op", "") in ("=", "!="))


def arguments(node: Filter, database: str) -> Iterator[Any]:
    """The values of ``node`` in the order in which its conditions take them, as the driver takes them."""
    if isinstance(node, And | Or):
        for item in node.items:
            yield from arguments(item, database)
    elif isinstance(node, Not):
        yield from arguments(node.item, database)
    else:
        if node.field not in FIELDS:
            yield node.field
        if isinstance(node, Contains):
            yield node.text
        elif isinstance(node, Matches):
            yield translate(node.pattern) if database == "postgresql" else node.pattern
        else:
            yield from (_argument(node, value, database) for value in _values(node) if _is_taken(node, value))


def _argument(leaf: Leaf, value: Value, database: str) -> Any:
    if leaf.field == "tag":
        return f"{TAG}{value}"
    if _is_identity(leaf):
        return raw_id(str(value), database)
    if isinstance(value, datetime):
        return raw_time(value, database)
    attribute = leaf.field in FIELDS
    if isinstance(value, str):
        return value if attribute else value[:INDEXED_TEXT]
    return value if attribute and isinstance(value, bool) else float(value)


def taker(prefix: str) -> Take:
    """Gives bind parameters ``<prefix>0``, ``<prefix>1`` …, whose values `named` finds."""
    numbers = count()
    return lambda kind: bindparam(f"{prefix}{next(numbers)}", type_=kind)


def named(prefix: str, node: Filter | None, database: str) -> dict[str, Any]:
    """The arguments of ``node`` by the names that `taker` gives them."""
    if node is None:
        return {}
    return {f"{prefix}{number}": value for number, value in enumerate(arguments(node, database))}


def literals(node: Filter, database: str) -> Take:
    """Gives the arguments of ``node`` themselves, for a statement that is run once."""
    values = arguments(node, database)
    return lambda kind: literal(next(values), _plain(kind, database))


def _plain(type: TypeEngine[Any], database: str) -> TypeEngine[Any]:
    """The type of arguments that are as the driver takes them already."""
    if isinstance(type, types.Id):
        return Uuid() if database == "postgresql" else LargeBinary(16)
    return BigInteger() if isinstance(type, types.Moment) else type


# --- conditions -------------------------------------------------------------------------------------------------------


class Conditions:
    """Compiles filters over one entity. ``take`` gives the arguments, in their order.

    ``owner`` is the column of the object's id, when that is not the one of `items`. With ``project``, the project in
    which all of them are, exact values are looked up where the values are: the entries of one value lie together,
    while those of one object lie as far apart as the objects do.
    """

    def __init__(
        self,
        entity: type[Item],
        database: str,
        take: Take,
        *,
        owner: tuple[ColumnElement[Any], ColumnElement[Any]] = (t.items.c.organization_id, t.items.c.id),
        project: ColumnElement[Any] | None = None,
    ) -> None:
        self.entity = entity
        self.database = database
        self.take = take
        self.owner = owner
        self.project = project

    def compile(self, node: Filter) -> Condition:
        """``node`` as a condition on rows of `items` and the entity's own table. Two-valued: never NULL."""
        if isinstance(node, And):
            return and_(*[self.compile(item) for item in node.items])
        if isinstance(node, Or):
            return or_(*[self.compile(item) for item in node.items])
        if isinstance(node, Not):
            return not_(self.compile(node.item))
        if isinstance(node, Compare) and node.op == "!=":
            return not_(self.compile(Compare(node.field, "=", node.value)))
        if node.field in FIELDS and node.field != "tag":
            return self._attribute(node)
        f = t.fields.alias()
        if self.project is not None and isinstance(node, Compare) and node.op == "=" and "nan" not in _kinds(node):
            mine = and_(f.c.project_id == self.project, f.c.item_id == self.owner[1])
            return exists(select(1).where(mine, entries(node, f.c, self.take)))
        mine = and_(f.c.organization_id == self.owner[0], f.c.item_id == self.owner[1])
        return exists(select(1).where(mine, field_condition(node, f.c, self.take)))

    def _attribute(self, leaf: Leaf) -> Condition:
        if leaf.field == "project":
            p = t.items.alias()
            mine = (p.c.organization_id == t.items.c.organization_id, p.c.id == t.items.c.project_id)
            return exists(select(1).where(*mine, p.c.kind == Kind.project, self._value(leaf, p.c.name)))
        column = column_of(self.entity, leaf.field)
        if column is None:
            for _ in arguments(leaf, self.database):
                self.take(TEXT)  # so that the next condition gets its own
            return false()
        present = presence(leaf.field, column)
        if isinstance(leaf, Exists):
            return present
        if leaf.field in REFERENCES and not _is_identity(leaf):
            column = id_text(column, self.database)
        return and_(present, func.coalesce(self._value(leaf, column), false()))

    def _value(self, leaf: Leaf, column: ColumnElement[Any]) -> Condition:
        if isinstance(leaf, Exists):
            return column.is_not(None)
        if isinstance(leaf, Contains):
            return contains_text(type_coerce(column, TEXT), self.take(TEXT))
        if isinstance(leaf, Matches):
            return matches_text(type_coerce(column, TEXT), self.take(TEXT))
        type_ = argument_type(leaf)
        left: Any = cast(column, Double) if type_ is _NUMBER else type_coerce(column, type_)
        taken = [self.take(type_) for value in _values(leaf) if _is_taken(leaf, value)]
        if isinstance(leaf, In):
            return left.in_(taken) if taken else false()
        return _relation(leaf.op, left, taken[0]) if taken else false()


def argument_type(leaf: Leaf) -> TypeEngine[Any]:
    """The SQL type of what an attribute is compared with."""
    if _is_identity(leaf):
        return _ID
    info = field_info(leaf.field)
    assert info is not None
    return {"number": _NUMBER, "flag": _FLAG, "time": _TIME}.get(info.type, TEXT)


def column_of(entity: type[Item], field: str) -> ColumnElement[Any] | None:
    """The column behind an attribute; None when this entity has no such attribute."""
    if field == "duration_s":
        if entity is not Run:
            return None
        took = type_coerce(t.runs.c.finished_at, BigInteger) - type_coerce(t.runs.c.started_at, BigInteger)
        return cast(took, Double) / literal(1_000_000.0, Double)
    name = REFERENCES.get(field, field)
    own = {Run: t.runs, Document: t.documents}.get(entity)
    if own is not None and name in own.c and name not in ("id", "project_id"):
        return own.c[name]
    return t.items.c.get(name)


def presence(field: str, column: ColumnElement[Any]) -> Condition:
    """Whether the attribute has a value; empty text has none."""
    if FIELDS[field].type in ("text", "choice") and field not in REFERENCES:
        return func.coalesce(type_coerce(column, TEXT) != "", false())
    return column.is_not(None)


def id_text(column: ColumnElement[Any], database: str) -> ColumnElement[str]:
    """An id as people write it."""
    if database == "postgresql":
        return cast(column, Text(collation="C"))
    text = func.lower(func.hex(column))
    parts = [func.substr(text, start, length) for start, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))]
    joined: ColumnElement[Any] = parts[0]
    for part in parts[1:]:
        joined = joined.op("||")("-").op("||")(part)
    return type_coerce(joined, String)


# --- rows of the table fields -----------------------------------------------------------------------------------------

TAG = "tag."


def entries(leaf: Leaf, c: Any, take: Take) -> Condition:
    """``leaf`` on rows of ``fields`` so that an index of values finds them, in the order of ids for one exact value."""
    if leaf.field == "tag":
        return and_(c.type == "b", c.num == literal(1.0, Double), field_condition(leaf, c, take))
    kept: ColumnElement[Any] = c.text if isinstance(leaf, Compare) and isinstance(leaf.value, str) else c.num
    return and_(kept.is_not(None), field_condition(leaf, c, take))


def field_condition(leaf: Leaf, c: Any, take: Take) -> Condition:
    """What ``leaf`` asks of one row of ``fields``: of a tag, which is in the path, or of a value under its path."""
    if leaf.field == "tag":
        return _tag_condition(leaf, c.path, take)
    path: Condition = c.path == take(TEXT)
    if isinstance(leaf, Exists):
        return path
    if isinstance(leaf, Contains):
        return and_(path, c.text.is_not(None), contains_text(c.text, take(TEXT)))
    if isinstance(leaf, Matches):
        return and_(path, c.text.is_not(None), matches_text(c.text, take(TEXT)))
    if isinstance(leaf, In):
        return and_(path, or_(false(), *[_field_relation("=", value, c, take) for value in leaf.values]))
    return and_(path, _field_relation(leaf.op, leaf.value, c, take))


def _field_relation(op: str, value: Value, c: Any, take: Take) -> Condition:
    if isinstance(value, bool):
        return and_(c.type == "b", c.num == take(_NUMBER))
    if isinstance(value, str):
        # Nothing but a text has one, so its index is all that has to be read.
        return and_(c.text.is_not(None), _relation(op, c.text, take(TEXT)))
    if isinstance(value, float) and math.isnan(value):
        return and_(c.type == "n", c.num.is_(None))
    return and_(c.type == "n", _relation(op, c.num, take(_NUMBER)))


def _tag_condition(leaf: Leaf, path: ColumnElement[str], take: Take) -> Condition:
    if isinstance(leaf, Compare):
        return path == take(TEXT)
    if isinstance(leaf, In):
        return path.in_([take(TEXT) for _ in leaf.values]) if leaf.values else false()
    # "/" follows "." in the order of code points: the range holds exactly the paths that begin with the prefix.
    any_tag = and_(path >= TAG, path < "tag/")
    tag = func.substr(path, len(TAG) + 1)
    if isinstance(leaf, Contains):
        return and_(any_tag, contains_text(tag, take(TEXT)))
    return and_(any_tag, matches_text(tag, take(TEXT))) if isinstance(leaf, Matches) else any_tag


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


# --- order ------------------------------------------------------------------------------------------------------------


def attribute_keys(entity: type[Item], field: str, database: str) -> list[ColumnElement[Any]]:
    """Sort keys of an attribute: 1 where it is absent, then its value; none is ever NULL.

    Of what is never absent only the column itself, so that an index can give the order.
    """
    column = _project_name() if field == "project" else column_of(entity, field)
    if column is None:
        return [literal(1, BigInteger), literal("", TEXT)]
    if field in ("created_at", "updated_at"):
        return [type_coerce(column, BigInteger)]
    kind = FIELDS[field].type
    value: ColumnElement[Any]
    if kind == "time":
        value = func.coalesce(type_coerce(column, BigInteger), 0)
    elif kind == "number":
        value = func.coalesce(cast(column, Double), literal(0.0, Double))
    elif kind == "flag":
        value = case((column.is_(true()), 1), else_=0)
    elif field in REFERENCES:
        value = func.coalesce(id_text(column, database), "")
    else:
        value = func.coalesce(type_coerce(column, TEXT), "")
    return [case((presence(field, column), 0), else_=1), value]


def key_types(entity: type[Item], field: str) -> str:
    """The types of a field's sort keys: i integer, f float, s text."""
    if field not in FIELDS:
        return "iifs"
    if field in ("created_at", "updated_at"):
        return "i"
    if field != "project" and column_of(entity, field) is None:
        return "is"
    return "i" + {"number": "f", "time": "i", "flag": "i"}.get(FIELDS[field].type, "s")


def _project_name() -> ColumnElement[Any]:
    p = t.items.alias()
    mine = (p.c.organization_id == t.items.c.organization_id, p.c.id == t.items.c.project_id)
    return type_coerce(select(p.c.name).where(*mine, p.c.kind == Kind.project).scalar_subquery(), TEXT)


def open_keys(c: Any) -> list[ColumnElement[Any]]:
    """Sort keys of the row of ``fields`` (all NULL where there is none): absent, rank of the type, number, text."""
    sortable = or_(c.num.is_not(None), c.text.is_not(None))
    return [
        case((sortable, 0), else_=1),
        case((sortable, case((c.type == "b", 0), (c.type == "n", 1), else_=2)), else_=0),
        func.coalesce(c.num, literal(0.0, Double)),
        func.coalesce(c.text, ""),
    ]
