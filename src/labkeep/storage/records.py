"""Entities in and out of tables. The only place that knows which columns make which Struct.

Every read names the organization and the workspace of the actor, so another tenant's object is simply not found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    select,
    type_coerce,
    update,
)
from sqlalchemy.types import NullType

from labkeep.core.access import Actor
from labkeep.core.entities import Artifact, ArtifactVersion, Document, Item, Project, Run
from labkeep.core.errors import AlreadyExists, Gone, Illegal, NotFound, Stale
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import LIVE, Kind, State
from labkeep.storage import column_types as types
from labkeep.storage import tables as t
from labkeep.storage.prepared import Converter, Prepared, decode_rows, decoder, raw_id
from labkeep.storage.transaction import Tx

E = TypeVar("E", bound=Item)

_EXTENSION: dict[type[Item], tuple[Kind, Table[Any]]] = {
    Project: (Kind.project, t.projects),
    Run: (Kind.run, t.runs),
    Document: (Kind.document, t.documents),
    Artifact: (Kind.artifact, t.artifacts),
    ArtifactVersion: (Kind.artifact_version, t.artifact_versions),
}
"""Entity -> its kind, and the table of what only that kind has."""

_ITEM_FIELDS = frozenset(Item.__struct_fields__)


def kind_of(entity: type[Item]) -> Kind:
    """The kind of an entity's class."""
    return _EXTENSION[entity][0]


def extension_of(entity: type[Item]) -> Table[Any]:
    """The table of what only this kind has."""
    return _EXTENSION[entity][1]


def columns_of(entity: type[Item]) -> list[Column[Any]]:
    """The column behind each field of an entity, in the order of its fields."""
    if entity is Item:
        return [t.items.c[name] for name in Item.__struct_fields__]
    table = extension_of(entity)
    return [(t.items if name in _ITEM_FIELDS else table).c[name] for name in entity.__struct_fields__]


def source_of(entity: type[Item]) -> FromClause:
    """The tables of an entity, joined."""
    if entity is Item:
        return t.items
    table = extension_of(entity)
    return t.items.join(table, and_(t.items.c.organization_id == table.c.organization_id, t.items.c.id == table.c.id))


def _select(entity: type[Item]) -> Select[Any]:
    # Without the columns' types: whole columns are converted at once, by `make`.
    columns: list[Any] = [type_coerce(column, NullType()) for column in columns_of(entity)]
    return select(*columns).select_from(source_of(entity))


_ENTITIES: tuple[type[Item], ...] = (Item, *_EXTENSION)
_SELECT: dict[type[Item], Select[Any]] = {entity: _select(entity) for entity in _ENTITIES}


def statement(entity: type[Item], actor: Actor) -> Select[Any]:
    """SELECT of ``entity`` within the actor's workspace, ready for further conditions."""
    return _SELECT[entity].where(*scope(actor))


def scope(actor: Actor) -> tuple[ColumnElement[bool], ...]:
    """The conditions that keep a statement within the actor's workspace."""
    return t.items.c.organization_id == actor.organization_id, t.items.c.workspace_id == actor.workspace_id


def fetch(tx: Tx, entity: type[E], found: Select[Any]) -> list[E]:
    """The entities that ``found`` (made by `statement`) selects."""
    return make(entity, tx.execute(found).all(), tx.database)


def make(entity: type[E], rows: Sequence[Any], database: str) -> list[E]:
    """Entities from rows as the driver gives them: the columns of `columns_of`, which may be followed by others."""
    names = entity.__struct_fields__
    return [entity(**dict(zip(names, row, strict=True))) for row in decode_rows(rows, _decoders(entity, database))]


@cache
def _decoders(entity: type[Item], database: str) -> list[Converter | None]:
    return [decoder(column.type, database) for column in columns_of(entity)]


def get(tx: Tx, entity: type[E], actor: Actor, id: str, *, states: Collection[State] = LIVE, lock: bool = False) -> E:
    """One object by id. NotFound for what never was or is another tenant's; Gone for what is in another state.

    ``lock`` keeps others from changing it until the transaction ends.
    """
    kind = "object" if entity is Item else str(kind_of(entity))
    if not is_id(id):
        raise NotFound(f"{kind} {id[:80]!r} not found")
    rows = _getter(entity, tx.database, lock).run(
        tx.connection, _raw_scope(tx, actor) | {"id": raw_id(id, tx.database)}
    )
    found = make(entity, rows, tx.database)
    if not found:
        # What was purged has lost its row in the kind's own table; its tombstone says so.
        purged = (t.items.c.id == id, t.items.c.kind == kind, t.items.c.state == State.purged)
        tombstone = fetch(tx, Item, statement(Item, actor).where(*purged))
        raise gone(tx, tombstone[0]) if tombstone else NotFound(f"{kind} {id} not found")
    if found[0].state not in states:
        raise gone(tx, found[0])
    return found[0]


@cache
def _getter(entity: type[Item], database: str, lock: bool) -> Prepared:
    query = _prepared_select(entity).where(t.items.c.id == bindparam("id", type_=types.Id()))
    return Prepared(query.with_for_update(of=t.items) if lock else query, database)


def get_writable(tx: Tx, entity: type[E], actor: Actor, id: str) -> E:
    """One object that may be written to, locked. Gone in the trash, Illegal in the archive."""
    item = get(tx, entity, actor, id, lock=True)
    check_writable(item)
    return item


def check_writable(item: Item) -> None:
    """Illegal when ``item`` is archived."""
    if item.state == State.archived:
        raise Illegal(
            f"{item.kind} {item.name} is archived: cannot be changed; unarchive it first",
            state=str(item.state),
            legal=["unarchive", "trash"],
        )


def gone(tx: Tx, item: Item) -> Gone | NotFound:
    """Why ``item`` cannot be had: who trashed or purged it, when, and until when it can be restored."""
    columns = t.deletions.c
    found = tx.one(
        select(columns.actor, columns.created_at, columns.restorable_until, columns.purged_at).where(
            columns.organization_id == item.organization_id, columns.id == item.deletion_id
        )
    )
    if found is None:
        return NotFound(f"{item.kind} {item.id} not found")
    details: dict[str, Any] = {"id": item.id, "deletion_id": item.deletion_id, "by": found["actor"]}
    if item.state == State.purged:
        at = found["purged_at"] or item.updated_at
        return Gone(
            f"{item.kind} {item.id} was purged at {at.isoformat()}; it cannot be restored", at=at.isoformat(), **details
        )
    at, until = found["created_at"].isoformat(), found["restorable_until"].isoformat()
    return Gone(
        f"{item.kind} {item.id} was trashed by {found['actor']} at {at}; "
        f"restorable until {until}: restore deletion {item.deletion_id}",
        at=at,
        restorable_until=until,
        **details,
    )


def find(tx: Tx, entity: type[E], actor: Actor, *, parent_id: str, handle: str, type: str | None = None) -> E | None:
    """The live object with this handle in its container, or None."""
    values = {"parent": raw_id(parent_id, tx.database), "handle": handle, "type": type}
    rows = _finder(entity, tx.database, type is not None).run(tx.connection, _raw_scope(tx, actor) | values)
    return make(entity, rows, tx.database)[0] if rows else None


@cache
def _finder(entity: type[Item], database: str, of_type: bool) -> Prepared:
    c = t.items.c
    query = _prepared_select(entity).where(
        c.parent_id == bindparam("parent", type_=types.Id()),
        c.kind == kind_of(entity),
        c.handle == bindparam("handle", type_=c.handle.type),
        t.holds_name(t.items),
    )
    if of_type:
        query = query.where(c.type == bindparam("type", type_=c.type.type))
    return Prepared(query.limit(1), database)


def _prepared_select(entity: type[Item]) -> Select[Any]:
    c = t.items.c
    scope = (("organization", c.organization_id), ("workspace", c.workspace_id))
    return _SELECT[entity].where(*[column == bindparam(name, type_=types.Id()) for name, column in scope])


def _raw_scope(tx: Tx, actor: Actor) -> dict[str, Any]:
    ids = {"organization": actor.organization_id, "workspace": actor.workspace_id}
    return {name: raw_id(id, tx.database) for name, id in ids.items()}


def find_ids(tx: Tx, entity: type[E], actor: Actor, ids: Sequence[str]) -> dict[str, E]:
    """Objects by id in any state, those that exist for this actor."""
    found: dict[str, E] = {}
    known = [id for id in ids if is_id(id)]
    for start in range(0, len(known), 500):
        query = statement(entity, actor).where(t.items.c.id.in_(known[start : start + 500]))
        found.update({item.id: item for item in fetch(tx, entity, query)})
    return found


def insert_items(tx: Tx, items: Sequence[Item], *, into_trash: bool = False) -> None:
    """Store new objects of one kind. Gone when something trashes what contains them at this moment, unless they go
    ``into_trash`` themselves.
    """
    if not items:
        return
    if tx.database == "postgresql" and not into_trash:  # SQLite has one writer
        _hold_homes(tx, items)
    table = extension_of(type(items[0]))
    own = [name for name in type(items[0]).__struct_fields__ if name not in _ITEM_FIELDS]
    keys = [column.name for column in table.columns if column.name in _ITEM_FIELDS]
    bodies, extensions = [], []
    for item in items:
        values = {name: getattr(item, name) for name in type(item).__struct_fields__}
        extensions.append({name: values[name] for name in (*keys, *own)})
        body = {name: values[name] for name in _ITEM_FIELDS}
        body["last_xact"] = 0
        bodies.append(body)
    tx.insert(t.items, bodies)
    tx.insert(table, extensions)


def _hold_homes(tx: Tx, items: Sequence[Item]) -> None:
    """Keep what contains ``items`` out of the trash until the transaction ends."""
    c = t.items.c
    homes = {home for item in items for home in (item.parent_id, item.project_id) if home != item.workspace_id}
    query = select(c.id, c.state).where(
        c.organization_id == items[0].organization_id, c.id.in_(sorted(filter(None, homes)))
    )
    for id, state in tx.execute(query.order_by(c.id).with_for_update(read=True)):
        if state not in LIVE:
            home = fetch(tx, Item, _SELECT[Item].where(c.organization_id == items[0].organization_id, c.id == id))[0]
            raise gone(tx, home)


def save(tx: Tx, before: E, after: E) -> E:
    """Store what differs between ``before`` and ``after``; answers ``after`` with its new version and time.

    Nothing is written, and the version stays, when nothing differs.
    """
    changed = {name for name in type(before).__struct_fields__ if getattr(before, name) != getattr(after, name)}
    if not changed:
        return before
    after = msgspec.structs.replace(after, version=before.version + 1, updated_at=tx.now)
    values = {name: getattr(after, name) for name in (changed & _ITEM_FIELDS) | {"version", "updated_at"}}
    c = t.items.c
    same = (c.organization_id == before.organization_id, c.id == before.id)
    tx.execute(update(t.items).where(*same).values(values))
    own = {name: getattr(after, name) for name in changed - _ITEM_FIELDS}
    if own:
        table = extension_of(type(before))
        tx.execute(
            update(table).where(table.c.organization_id == before.organization_id, table.c.id == before.id).values(own)
        )
    return after


def check_version(item: Item, expected: int | None) -> None:
    """Stale when the caller read another version than the one that is stored."""
    if expected is not None and expected != item.version:
        raise Stale(
            f"{item.kind} {item.name} is at version {item.version}, not {expected}: read it again and repeat the edit",
            version=item.version,
        )


def check_handle(tx: Tx, entity: type[E], actor: Actor, *, parent_id: str, handle: str, type: str = "") -> None:
    """AlreadyExists when a live sibling holds ``handle``."""
    holder = find(tx, entity, actor, parent_id=parent_id, handle=handle, type=type)
    if holder is not None:
        raise AlreadyExists(
            f"{holder.kind} {handle!r} exists already ({holder.state}): choose another name, or trash it to free the name",
            id=holder.id,
            state=str(holder.state),
        )


def add_bytes(tx: Tx, item_id: str, organization_id: str, count: int) -> None:
    """Account ``count`` more bytes (or fewer) to an object."""
    if count:
        c = t.items.c
        same = (c.organization_id == organization_id, c.id == item_id)
        tx.execute(update(t.items).where(*same).values(bytes=c.bytes + count))


def remove(tx: Tx, table: Table[Any], column: str, organization_id: str, ids: Iterable[str]) -> int:
    """Delete rows of ``table`` whose ``column`` is one of ``ids``; answers how many."""
    wanted = list(ids)
    done = 0
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        condition = (table.c.organization_id == organization_id, table.c[column].in_(part))
        done += max(0, tx.execute(delete(table).where(*condition)).rowcount)
    return done


def touch_heartbeat(tx: Tx, run: Run) -> None:
    """Note that a run is alive."""
    c = t.runs.c
    tx.execute(
        update(t.runs).where(c.organization_id == run.organization_id, c.id == run.id).values(heartbeat_at=tx.now)
    )
