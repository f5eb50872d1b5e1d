"""Parts that are removed from an object: rows, a metric, a file, console output. Pure.

A part has the lifecycle of an object, in small: it is hidden at once, can come back exactly, and is purged later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from labkeep.core.commands import Command, FilePath, Key, Moment, Paged, Ref, RowId, Text
from labkeep.core.entities import Entity, Json
from labkeep.core.ids import Id

Which = Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00]*$", description="A metric's key, or a path.")]

MOST_ROWS = 100_000
"""Rows of one removal at the most."""


class Part(StrEnum):
    """What can be removed from an object."""

    row = "row"
    metric = "metric"
    file = "file"
    console = "console"


OWNERS: dict[Part, tuple[str, ...]] = {
    Part.row: ("run", "document"),
    Part.metric: ("run",),
    Part.file: ("run", "document"),
    Part.console: ("run",),
}
"""Part -> kinds that have it. The files of an artifact version are what it is: make a new version instead."""

NOUNS: dict[Part, tuple[str, str]] = {
    Part.row: ("row", "rows"),
    Part.metric: ("point of a metric", "points of a metric"),
    Part.file: ("file", "files"),
    Part.console: ("console line", "console lines"),
}
"""Part -> how one and how several are called."""


class Removal(Entity, frozen=True, kw_only=True):
    """The record of one removal: what went, who, why, and until when it can come back."""

    workspace_id: str
    item_id: str
    part: Part
    ref: str = ""
    """Row id, metric key or path. Empty for several rows, for console output, and once purged."""
    stream: str = ""
    count: int = 0
    """Rows, points or lines."""
    bytes: int = 0
    state: str = "trashed"
    """trashed, restored, purging or purged."""
    reason: str = ""
    ticket: str = ""
    actor: str
    key_id: str
    restorable_until: datetime
    restored_at: datetime | None = None
    purged_at: datetime | None = None
    purged_by: str = ""
    verification: Json = {}
    """What the purge found when it read every store again."""

    @property
    def sentence(self) -> str:
        """``1 row removed by ada at 2026-11-21T10:00:00+00:00: wrong label``."""
        noun = NOUNS[self.part][self.count != 1]
        which = f" ({self.ref})" if self.ref else ""
        gone = {"restored": ", restored since", "purged": ", purged since", "purging": ", being purged"}
        why = f": {self.reason}" if self.reason else ""
        when = self.created_at.isoformat(timespec="seconds")
        return f"{self.count} {noun}{which} removed by {self.actor} at {when}{gone.get(self.state, '')}{why}"


class RequestedPurge(msgspec.Struct, frozen=True, kw_only=True):
    """A purge that was asked for, and the job that does it; None when it was done before."""

    removal: Removal
    job_id: str | None = None


class RemovalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a removal would take, and what stands in its way. Nothing has happened."""

    item_id: str
    kind: str
    part: Part
    ref: str
    count: int
    bytes: int
    ids: list[str] = []
    """Of rows: the first hundred."""
    blockers: list[str] = []
    restorable_until: datetime
    hash: str
    """Changes when anything moves; a removal that names it takes exactly this or is Stale."""


class PlanRemoval(Command, frozen=True, kw_only=True):
    """Say what to remove from one run or document, to see what that would take.

    ``part`` row: the rows ``ids``, or those that meet ``where`` (dotted path in the row's data → value it must equal)
    and the query ``q`` (over id, created_at, tag, metadata.…, scores.…). ``part`` metric: the key ``ref`` of ``stream``.
    ``part`` file: the path ``ref``. ``part`` console: all lines, or those printed ``before`` a moment, or the first ``upto``.
    """

    id: Ref
    part: Part
    ids: Annotated[list[RowId], Meta(max_length=MOST_ROWS)] = []
    where: dict[str, Any] = {}
    q: Text = ""
    ref: Which = ""
    stream: Key = ""
    before: Moment | None = None
    upto: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Remove(PlanRemoval, frozen=True, kw_only=True):
    """Remove a part: hidden from every read at once, restorable until its grace period ends.

    ``versions`` of rows: reads as of an earlier transaction still show them until they are purged.
    """

    versions: bool = False
    plan_hash: Key | None = None
    reason: Text = ""
    ticket: Key = ""


class RestoreRemoval(Command, frozen=True, kw_only=True):
    """Put back what a removal took. ``path``: another path for a file whose own is taken now."""

    id: Id
    path: FilePath | None = None
    reason: Text = ""


class PurgeRemoval(Command, frozen=True, kw_only=True):
    """Remove for good what a removal took. A job; it verifies itself."""

    id: Id
    reason: Text = ""
    ticket: Key = ""


class ListRemovals(Paged, frozen=True, kw_only=True):
    """Removals, newest first: of one object ``id``, of a project, or of the workspace."""

    id: Ref | None = None
    project: Ref | None = None
    part: Part | None = None
    state: str = ""


# --- summaries --------------------------------------------------------------------------------------------------------

Place = list[str]
"""Keys that lead from the top of an object to a value inside."""


def places_of(values: Mapping[str, Any], key: str) -> Iterator[Place]:
    """Where the value of the metric ``key`` stands in a summary: under the key itself, and along its dots."""
    for name, child in values.items():
        if name == key:
            yield [name]
        elif key.startswith(f"{name}.") and isinstance(child, Mapping):
            yield from ([name, *rest] for rest in places_of(child, key[len(name) + 1 :]))


def taken_out(values: Json, key: str) -> tuple[Json, list[tuple[Place, Any]]]:
    """``values`` without the metric ``key``, and what was there, by place."""
    found = [(place, _at(values, place)) for place in places_of(values, key)]
    for place, _ in found:
        values = _without(values, place)
    return values, found


def put_back(values: Json, taken: list[tuple[Place, Any]]) -> Json:
    """``values`` with what was taken out. What was written there since stays."""
    for place, value in taken:
        values = _with(values, place, value)
    return values


# --- what a client says of its metrics --------------------------------------------------------------------------------

DEFINITIONS = "m"
"""Below a dialect's own facts in ``extra``, the list of metrics that its client defined, each an object of texts."""


def defined_places(extra: Json, key: str) -> list[list[Any]]:
    """Where the definitions of a client name the metric ``key``: dialect, facts, list, number, field."""
    found: list[list[Any]] = []
    for dialect, facts in extra.items():
        for name, fact in facts.items() if isinstance(facts, dict) else ():
            listed = fact.get(DEFINITIONS) if isinstance(fact, dict) else None
            for number, entry in enumerate(listed if isinstance(listed, list) else ()):
                fields = entry.items() if isinstance(entry, dict) else ()
                found += [[dialect, name, DEFINITIONS, number, field] for field, value in fields if value == key]
    return found


def renamed(extra: Json, places: Iterable[list[Any]], name: str) -> Json:
    """``extra`` with ``name`` at these places: the definitions keep their numbers, by which they refer to each other."""
    for place in places:
        extra = _replaced(extra, place, name)
    return extra


def _replaced(value: Any, place: Sequence[Any], name: str) -> Any:
    if not place:
        return name
    first, *rest = place
    if isinstance(value, dict) and first in value:
        return value | {first: _replaced(value[first], rest, name)}
    if isinstance(value, list) and isinstance(first, int) and first < len(value):
        return [*value[:first], _replaced(value[first], rest, name), *value[first + 1 :]]
    return value


def _at(values: Any, place: Place) -> Any:
    for name in place:
        values = values[name]
    return values


def _without(values: Json, place: Place) -> Json:
    name, *rest = place
    if not rest:
        return {key: value for key, value in values.items() if key != name}
    inner = _without(values[name], rest)
    return {key: inner if key == name else value for key, value in values.items() if key != name or inner}


def _with(values: Json, place: Place, value: Any) -> Json:
    name, *rest = place
    if not rest:
        return values if name in values else values | {name: value}
    inner = values.get(name, {})
    return values | {name: _with(inner, rest, value)} if isinstance(inner, dict) else values
