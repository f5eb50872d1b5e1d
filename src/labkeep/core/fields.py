"""What a query may ask about: the attributes of runs, documents and artifacts, and the namespaces of their own values.

Parsers, the check of a tree, the compiler to SQL and the docs read these tables.
"""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from labkeep.core.lifecycle import Kind, State, Status

Value: TypeAlias = str | int | float | bool | datetime
"""What a field is compared with. Datetimes are aware. "null" is not a value: see Exists."""

CompareOp: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]

ValueKind: TypeAlias = Literal["flag", "number", "text", "time"]


class FieldType(msgspec.Struct, frozen=True):
    """What may be asked of a field: with which kinds of value, by which comparisons, and whether ``~`` applies."""

    doc: str
    kinds: tuple[ValueKind, ...]
    ops: tuple[CompareOp, ...] = ("=", "!=", "<", "<=", ">", ">=")
    searched: bool = False
    ordered: bool = True


TYPES: dict[str, FieldType] = {
    "text": FieldType("text, ordered by Unicode code point", ("text",), searched=True),
    "choice": FieldType("one of a fixed set of words", ("text",), ops=("=", "!=")),
    "number": FieldType("a number (64-bit float)", ("number",)),
    "flag": FieldType("true or false", ("flag",), ops=("=", "!=")),
    "time": FieldType("a moment", ("time",)),
    "tags": FieldType(
        "any number of words; a condition holds if one of them meets it", ("text",), ("=", "!="), True, False
    ),
    "open": FieldType("text, number or flag, as it was logged", ("text", "number", "flag"), searched=True),
}


class FieldInfo(msgspec.Struct, frozen=True):
    """One row of the table of fields. ``words``: known values; ``bare``: values may be written without quotes."""

    type: str
    doc: str
    words: tuple[str, ...] = ()
    bare: bool = False

    @property
    def rules(self) -> FieldType:
        """What the field's type allows."""
        return TYPES[self.type]


FIELDS: dict[str, FieldInfo] = {
    "id": FieldInfo("text", "the immutable id"),
    "name": FieldInfo("text", "the display name"),
    "handle": FieldInfo("text", "its short name in addresses, unique among what is live beside it"),
    "state": FieldInfo("choice", "where it stands in the lifecycle, or any", tuple(State), bare=True),
    "status": FieldInfo("text", "how a run's execution stands", tuple(Status), bare=True),
    "kind": FieldInfo("text", "the noun that it is", tuple(Kind), bare=True),
    "type": FieldInfo("text", "its sort within the kind: experiment, dataset, model, …", bare=True),
    "project": FieldInfo("text", "the name of its project", bare=True),
    "group": FieldInfo("text", "the group that a run belongs to", bare=True),
    "job_type": FieldInfo("text", "a run's part in its group: train, eval, …", bare=True),
    "tag": FieldInfo("tags", "its tags", bare=True),
    "notes": FieldInfo("text", "free text from people"),
    "created_at": FieldInfo("time", "when it was created"),
    "updated_at": FieldInfo("time", "when it last changed"),
    "started_at": FieldInfo("time", "when a run began to execute"),
    "finished_at": FieldInfo("time", "when a run ended, however it ended"),
    "heartbeat_at": FieldInfo("time", "when a run was last heard of"),
    "created_by": FieldInfo("text", "the user who created it", bare=True),
    "version": FieldInfo("number", "how many times it was edited, and one"),
    "bytes": FieldInfo("number", "the size of its files, in bytes"),
    "duration_s": FieldInfo("number", "how long a run executed, in seconds"),
    "dialect": FieldInfo("text", "the API it was created through", bare=True),
    "parent": FieldInfo("text", "the id of the base run"),
    "document": FieldInfo("text", "the id of the experiment, eval or sweep that a run belongs to"),
    "locked": FieldInfo("flag", "whether somebody locked it"),
}
"""The attributes of a run, document or artifact. Empty text in one of them is absent: a run without a group has ``group is null``."""

REFERENCES = {"id": "id", "parent": "base_run_id", "document": "document_id"}
"""The attributes that are ids, and how an entity calls them."""

NAMESPACES: dict[str, FieldInfo] = {
    "config": FieldInfo("open", "parameters, by path"),
    "summary": FieldInfo("open", "final values, by path"),
    "metadata": FieldInfo("open", "what else was attached, by path"),
    "scores": FieldInfo("number", "the mean of a score over the rows of an eval, by name"),
    "metrics": FieldInfo("number", "the last value of a logged series, by name"),
}


def field_info(field: str) -> FieldInfo | None:
    """The row for ``field``: an attribute, or a namespace with a path behind it; None when there is no such field."""
    if field in FIELDS:
        return FIELDS[field]
    space, _, path = field.partition(".")
    return NAMESPACES.get(space) if path else None


def unknown_field(field: str) -> str:
    """What to tell someone who wrote ``field``: the nearest field, or how a value of their own is addressed."""
    space, _, path = field.partition(".")
    if space in NAMESPACES:
        return f"{space} needs a path behind it, as in {space}.name"
    near = difflib.get_close_matches(space.lower()[:40], NAMESPACES if path else FIELDS, n=1, cutoff=0.6)
    if near:
        return f"there is no field {field[:80]}; did you mean {near[0]}{'.' if path else ''}{path[:80]}?"
    return f"there is no field {field[:80]}; what a run logged itself is config.{field[:80]} or summary.{field[:80]}"


def kind_of(value: object) -> ValueKind | None:
    """Which kind of value it is; values of two kinds are never equal, less or greater."""
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "time" if isinstance(value, datetime) else None
