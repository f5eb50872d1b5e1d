"""What a selection holds, for planning and for applying: streamed in batches, with everything that depends on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Select, Text, and_, func, select, type_coerce

from labkeep.core.access import Actor
from labkeep.core.commands import ListItems, Selection
from labkeep.core.deletion import Candidate, Dependent
from labkeep.core.entities import KIND_ENTITY
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.lifecycle import LIVE, Kind, OnDelete, State
from labkeep.storage import records, search
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

BATCH = 500
"""Objects looked at in one statement."""

_SOURCE = t.items.outerjoin(
    t.runs, and_(t.items.c.organization_id == t.runs.c.organization_id, t.items.c.id == t.runs.c.id)
).outerjoin(
    t.documents, and_(t.items.c.organization_id == t.documents.c.organization_id, t.items.c.id == t.documents.c.id)
)
_NAMES = ("id", "kind", "type", "name", "handle", "state", "version", "bytes", "locked", "deletion_id")
_SELECT = select(
    *(t.items.c[name] for name in _NAMES), func.coalesce(type_coerce(t.runs.c.status, Text), t.documents.c.status, "")
).select_from(_SOURCE)


def candidates(
    tx: Tx,
    actor: Actor,
    selection: Selection,
    project_id: str | None,
    states: Collection[State],
    *,
    contained: bool = True,
) -> Iterator[list[Candidate]]:
    """All that ``selection`` means, with what is ``contained`` in it, in batches and always in the same order.

    ``states`` are those that a query may select and that contained objects must have; objects named by id come in
    any state. NotFound when an id names nothing.
    """
    if selection.deletion_id is not None:
        mine = (t.items.c.deletion_id == selection.deletion_id, t.items.c.state == State.trashed)
        yield from _stream(tx, actor, select(t.items.c.id).where(*records.scope(actor), *mine))
        return
    if bool(selection.ids) == bool(selection.q or selection.project):
        raise Invalid("a selection is either ids, or a query, or a project with a query", path="selection")
    seen = set(selection.ids)
    for batch in _roots(tx, actor, selection, project_id, states):
        yield batch
        if contained:
            yield from _contained(tx, actor, batch, seen, states)


def _roots(
    tx: Tx, actor: Actor, selection: Selection, project_id: str | None, states: Collection[State]
) -> Iterator[list[Candidate]]:
    if not selection.ids:
        yield from _stream(tx, actor, _query(tx, actor, selection, project_id, states))
        return
    wanted = sorted(set(selection.ids))
    for start in range(0, len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        found = _fetch(tx, actor, _SELECT.where(*records.scope(actor), t.items.c.id.in_(part)).order_by(t.items.c.id))
        missing = sorted(set(part) - {candidate.id for candidate in found})
        if missing:
            raise NotFound(f"object {missing[0]} not found", ids=missing[:100])
        yield found


def _query(
    tx: Tx, actor: Actor, selection: Selection, project_id: str | None, states: Collection[State]
) -> Select[Any]:
    try:
        entity = KIND_ENTITY[Kind(selection.kind)]
    except ValueError:
        raise Invalid(
            f"{selection.kind[:40]!r} is not a kind; use one of {', '.join(Kind)}", path="selection.kind"
        ) from None
    equal = {} if project_id is None else {"project_id": project_id}
    hidden = "" if State.active in states else next(iter(states))  # lists show what is active unless told otherwise
    plan = search.resolve(tx, entity, ListItems(q=selection.q, state=hidden), equal)
    query = search.matching(tx, actor, plan)
    return query if "state" in selection.q else query.where(t.items.c.state.in_(states))


def _stream(
    tx: Tx, actor: Actor, ids: Select[Any], containers: frozenset[str] = frozenset()
) -> Iterator[list[Candidate]]:
    """Batches by keyset over ids, so that memory stays bounded however many there are."""
    last = None
    while True:
        part = ids.order_by(None).order_by(t.items.c.id).limit(BATCH)
        if last is not None:
            part = part.where(t.items.c.id > last)
        wanted = [row[0] for row in tx.execute(part)]
        if wanted:
            query = _SELECT.where(t.items.c.organization_id == actor.organization_id, t.items.c.id.in_(wanted))
            yield _fetch(tx, actor, query.order_by(t.items.c.id), containers)
        if len(wanted) < BATCH:
            return
        last = wanted[-1]


def _contained(
    tx: Tx, actor: Actor, batch: Sequence[Candidate], seen: set[str], states: Collection[State]
) -> Iterator[list[Candidate]]:
    """What lies in the projects and artifacts of ``batch``, or goes with it by a link, and is not selected by itself."""
    going = [c for c in batch if c.state in states]
    yield from _linked(tx, actor, [c.id for c in going], seen, states)
    for column, kind in ((t.items.c.project_id, Kind.project), (t.items.c.parent_id, Kind.artifact)):
        containers = [c.id for c in going if c.kind == kind]
        if not containers:
            continue
        inside = select(t.items.c.id).where(*records.scope(actor), column.in_(containers), t.items.c.state.in_(states))
        for found in _stream(tx, actor, inside, frozenset(containers)):
            fresh = [candidate for candidate in found if candidate.id not in seen]
            if fresh:
                yield fresh


def _linked(
    tx: Tx, actor: Actor, ids: Sequence[str], seen: set[str], states: Collection[State]
) -> Iterator[list[Candidate]]:
    c = t.links.c
    sources = select(c.source_id).where(
        c.organization_id == actor.organization_id, c.target_id.in_(ids), c.on_delete == OnDelete.cascade
    )
    query = select(t.items.c.id).where(*records.scope(actor), t.items.c.id.in_(sources), t.items.c.state.in_(states))
    for found in _stream(tx, actor, query, frozenset(ids)):
        fresh = [candidate for candidate in found if candidate.id not in seen]
        seen.update(candidate.id for candidate in fresh)
        if fresh:
            yield fresh
            yield from _contained(tx, actor, fresh, seen, states)


def _fetch(tx: Tx, actor: Actor, query: Select[Any], containers: frozenset[str] = frozenset()) -> list[Candidate]:
    """Candidates with what needs them from outside: neither selected itself, nor inside one of ``containers``."""
    rows = tx.execute(query).all()
    selected = containers | {row[0] for row in rows}
    needed: dict[str, list[Dependent]] = defaultdict(list)
    for target, dependent, homes in _dependents(tx, actor, [(row[0], row[1]) for row in rows]):
        if selected.isdisjoint(homes):
            needed[target].append(dependent)
    return [
        Candidate(**dict(zip(_NAMES, row, strict=False)), status=str(row[-1]), dependents=tuple(needed.get(row[0], ())))
        for row in rows
    ]


_Need = tuple[str, Dependent, tuple[str | None, ...]]
"""What is needed, what needs it, and the objects with which that would go itself."""


def _dependents(tx: Tx, actor: Actor, found: Sequence[tuple[str, Kind]]) -> Iterator[_Need]:
    """What is live and needs one of ``found``."""
    yield from _environments(tx, actor, [id for id, kind in found if kind == Kind.document])
    yield from _links(tx, actor, [id for id, _ in found])
    yield from _bases(tx, actor, [id for id, kind in found if kind == Kind.run])
    yield from _aliases(tx, actor, [id for id, kind in found if kind == Kind.artifact_version])


def _environments(tx: Tx, actor: Actor, ids: Sequence[str]) -> Iterator[_Need]:
    c = t.environments.c
    if ids:
        query = select(c.document_id, c.id, c.name, c.project_id).where(
            c.organization_id == actor.organization_id, c.document_id.in_(ids)
        )
        for document_id, id, name, project_id in tx.execute(query):
            yield document_id, Dependent("environment", id, name), (project_id,)


def _links(tx: Tx, actor: Actor, ids: Sequence[str]) -> Iterator[_Need]:
    c, source = t.links.c, t.items.alias()
    joined = t.links.join(source, and_(source.c.organization_id == c.organization_id, source.c.id == c.source_id))
    query = (
        select(
            c.target_id, c.id, c.type, c.on_delete, source.c.name, source.c.id, source.c.project_id, source.c.parent_id
        )
        .select_from(joined)
        .where(
            c.organization_id == actor.organization_id,
            c.target_id.in_(ids),
            c.on_delete.in_((OnDelete.restrict, OnDelete.unbind)),
            source.c.state.in_(LIVE),
        )
    )
    for target_id, link_id, type, on_delete, name, *homes in tx.execute(query):
        restricts = on_delete == OnDelete.restrict
        yield target_id, Dependent("link", link_id, f"{type} of {name}", restricts), tuple(homes)


def _bases(tx: Tx, actor: Actor, ids: Sequence[str]) -> Iterator[_Need]:
    if not ids:
        return
    c = t.runs.c
    joined = t.runs.join(t.items, and_(t.items.c.organization_id == c.organization_id, t.items.c.id == c.id))
    query = (
        select(c.base_run_id, c.id, t.items.c.name, c.project_id)
        .select_from(joined)
        .where(c.organization_id == actor.organization_id, c.base_run_id.in_(ids), t.items.c.state.in_(LIVE))
    )
    for base, id, name, project_id in tx.execute(query):
        yield base, Dependent("base of run", id, name), (id, project_id)


def _aliases(tx: Tx, actor: Actor, ids: Sequence[str]) -> Iterator[_Need]:
    """Aliases protect a version. ``latest`` moves by itself and protects nothing."""
    if not ids:
        return
    c = t.artifact_versions.c
    joined = t.artifact_versions.join(
        t.items, and_(t.items.c.organization_id == c.organization_id, t.items.c.id == c.id)
    )
    query = (
        select(c.id, c.aliases, t.items.c.parent_id, t.items.c.project_id)
        .select_from(joined)
        .where(c.organization_id == actor.organization_id, c.id.in_(ids))
    )
    for id, aliases, *homes in tx.execute(query):
        for alias in aliases:
            if alias != "latest":
                yield id, Dependent("alias", f"{id}:{alias}", alias), tuple(homes)


def freed_bytes(tx: Tx, actor: Actor, ids: Sequence[str]) -> int:
    """Bytes of blobs that only ``ids`` refer to: what really comes back, beside rows and chunks."""
    freed = 0
    for start in range(0, len(ids), BATCH):
        f, b = t.files.c, t.blobs.c
        part = ids[start : start + BATCH]
        mine = (f.organization_id == actor.organization_id, f.owner_id.in_(part))
        counted = select(f.digest, func.count().label("refs")).where(*mine).group_by(f.digest).subquery()
        joined = counted.join(t.blobs, and_(b.organization_id == actor.organization_id, b.digest == counted.c.digest))
        total = select(func.coalesce(func.sum(b.size), 0)).select_from(joined).where(counted.c.refs >= b.refs)
        freed += int(tx.execute(total).scalar_one())
    return freed
