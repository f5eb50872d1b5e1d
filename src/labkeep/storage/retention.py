"""The inventory of a retention policy: what its conditions select, in batches and always in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Select, Text, and_, literal, null, select, type_coerce
from sqlalchemy.types import NullType

from labkeep.core.access import Actor
from labkeep.core.entities import KIND_ENTITY, ArtifactVersion, Document, Item, Run
from labkeep.core.lifecycle import BUSY, Kind, State
from labkeep.core.retention import Subject, selecting
from labkeep.core.terms import Action, Terms
from labkeep.storage import deletions, records, search
from labkeep.storage import tables as t
from labkeep.storage.inventory import needed_by
from labkeep.storage.prepared import Converter, decode_rows, decoder
from labkeep.storage.transaction import Tx

BATCH = 2_000
"""Objects looked at in one statement."""

WRITABLE = (State.active,)
"""The states in which rows can be taken out of something."""


class Reach(NamedTuple):
    """What a policy can get hold of: by its terms, in one project or in the whole workspace, at one moment."""

    terms: Terms
    project_id: str | None
    now: datetime

    @property
    def places(self) -> list[tuple[Kind, State]]:
        """Where to look, in order."""
        return [(Kind(kind), state) for kind in self.terms.kinds for state in self.terms.looks_at]


class Position(NamedTuple):
    """How far an inventory was read: the place, and the last object there."""

    place: int = 0
    last: str | None = None


def batches(
    tx: Tx, actor: Actor, reach: Reach, start: Position | None = None
) -> Iterator[tuple[list[Subject], Position]]:
    """All that the conditions select, from ``start`` on; each batch with the position after it."""
    at = start or Position()
    for number in range(at.place, len(reach.places)):
        last = at.last if number == at.place else None
        while True:
            found = _fetch(tx, actor, reach, number, after=last)
            if found:
                last = found[-1].id
                yield found, Position(number, last)
            if len(found) < BATCH:
                break


def by_ids(tx: Tx, actor: Actor, reach: Reach, ids: Sequence[str]) -> list[Subject]:
    """Those of ``ids`` that the conditions select now."""
    found: list[Subject] = []
    for number in range(len(reach.places)):
        for part in deletions.parts(ids):
            found.extend(_fetch(tx, actor, reach, number, ids=part))
    return found


def lock(tx: Tx, actor: Actor, ids: Sequence[str]) -> None:
    """Keep others from changing ``ids`` until the transaction ends."""
    if tx.database != "postgresql":  # SQLite has one writer
        return
    for part in deletions.parts(sorted(ids)):
        query = select(t.items.c.id).where(*records.scope(actor), t.items.c.id.in_(part)).order_by(t.items.c.id)
        tx.execute(query.with_for_update())


def _fetch(
    tx: Tx, actor: Actor, reach: Reach, place: int, *, after: str | None = None, ids: Sequence[str] | None = None
) -> list[Subject]:
    kind, state = reach.places[place]
    query = _query(tx, actor, reach, kind, state)
    if ids is not None:
        query = query.where(t.items.c.id.in_(ids))
    else:
        query = query.limit(BATCH)
    if after is not None:
        query = query.where(t.items.c.id > after)
    rows = decode_rows(tx.execute(query.order_by(t.items.c.id)).all(), _decoders(tx.database))
    found = [_subject(row) for row in rows]
    return _with_bonds(tx, actor, found) if reach.terms.action != Action.purge else found


# --- one row ----------------------------------------------------------------------------------------------------------

_ITEM = ("id", "kind", "type", "name", "state", "project_id", "tags", "bytes", "created_at", "updated_at", "locked")
_REST = ("family", "status", "group", "finished_at", "metric", "trashed_at", "restorable_until")
_ITEM_COLUMNS: list[Column[Any]] = [t.items.c[name] for name in _ITEM]
_TIMES = ("finished_at", "trashed_at", "restorable_until")


def _subject(row: tuple[Any, ...]) -> Subject:
    values = dict(zip((*_ITEM, *_REST), row, strict=True))
    kind, status = values["kind"], values["status"]
    busy = status in BUSY if kind == Kind.run else kind == Kind.document and status == "running"
    if values["family"]:
        values["name"] = f"{values['family']}:{values['name']}"
    return Subject(**values, running=busy)


@cache
def _decoders(database: str) -> list[Converter | None]:
    moment = decoder(t.items.c.created_at.type, database)
    optional = [moment if name in _TIMES else None for name in _REST]
    return [*(decoder(column.type, database) for column in _ITEM_COLUMNS), *optional]


def _query(tx: Tx, actor: Actor, reach: Reach, kind: Kind, state: State) -> Select[Any]:
    entity, terms = KIND_ENTITY[kind], reach.terms
    source: Any = records.source_of(entity)
    c = t.items.c
    metric: Any = null()
    if terms.keep_best is not None:
        f = t.fields.c
        mine = (f.organization_id == c.organization_id, f.item_id == c.id, f.path == terms.keep_best.metric)
        source = source.outerjoin(t.fields, and_(*mine, f.type == "n"))
        metric = f.num
    trashed: list[Any] = [null(), null()]
    if state == State.trashed:
        d = t.deletions.c
        source = source.outerjoin(t.deletions, and_(d.organization_id == c.organization_id, d.id == c.deletion_id))
        trashed = [_raw(d.created_at), _raw(d.restorable_until)]
    family: Any = literal("")
    if entity is ArtifactVersion:
        home = t.items.alias()
        source = source.outerjoin(home, and_(home.c.organization_id == c.organization_id, home.c.id == c.parent_id))
        family = home.c.name
    columns = [*map(_raw, _ITEM_COLUMNS), family, *_own(entity), metric, *trashed]
    return select(*columns).select_from(source).where(*_conditions(tx, actor, reach, entity, state))


def _own(entity: type[Item]) -> list[Any]:
    """Status, group and end, of the kinds that have them."""
    if entity is Run:
        return [type_coerce(t.runs.c.status, Text), t.runs.c.group, _raw(t.runs.c.finished_at)]
    status: Any = t.documents.c.status if entity is Document else literal("")
    return [status, literal(""), null()]


def _raw(column: Any) -> Any:
    return type_coerce(column, NullType())


def _conditions(tx: Tx, actor: Actor, reach: Reach, entity: type[Item], state: State) -> list[ColumnElement[bool]]:
    equal = {} if reach.project_id is None else {"project_id": reach.project_id}
    plan = search.Plan(entity, reach.project_id, (state,), selecting(reach.terms, reach.now), (), equal)
    found = search.conditions(tx, actor, plan)
    if reach.terms.trashed_for is not None:
        d = t.deletions.c
        since = reach.now - (reach.terms.duration("trashed_for") or reach.now - reach.now)
        found += [d.created_at < since, d.restorable_until <= reach.now]
    return found


def _with_bonds(tx: Tx, actor: Actor, found: list[Subject]) -> list[Subject]:
    needed = needed_by(tx, actor, found)
    if not needed:
        return found
    return [
        msgspec.structs.replace(one, bound=tuple(f"{d.type} {d.name}" for d in needed[one.id]))
        if one.id in needed
        else one
        for one in found
    ]


# --- rows -------------------------------------------------------------------------------------------------------------


def old_rows(tx: Tx, actor: Actor, owner_id: str, before: datetime, after: str) -> Iterator[tuple[str, datetime, int]]:
    """Id, time and bytes of the current rows of an owner that appeared before a moment, by id from ``after`` on."""
    r = t.rows.c
    mine = (r.organization_id == actor.organization_id, r.owner_id == owner_id, r.next_xact.is_(None))
    query = select(r.id, r.created_at, r.size).where(*mine, r.deleted.is_(False), r.created_at < before)
    while True:
        found = tx.execute(query.where(r.id > after).order_by(r.id).limit(BATCH)).all()
        yield from ((row[0], row[1], row[2]) for row in found)
        if len(found) < BATCH:
            return
        after = found[-1][0]
