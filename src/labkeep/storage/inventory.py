"""What a selection holds, for planning and for applying: streamed in batches, with everything that depends on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import msgspec
from sqlalchemy import Column, ColumnElement, Text, and_, func, select, true, type_coerce
from sqlalchemy.types import NullType

from labkeep.core.access import Actor
from labkeep.core.commands import ListItems, Selection
from labkeep.core.deletion import RUNNING_RUN, Candidate, Dependent
from labkeep.core.entities import KIND_ENTITY
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.filters import state_filter
from labkeep.core.lifecycle import BUSY, LIVE, Kind, OnDelete, State, Verb
from labkeep.storage import deletions, executions, records, search
from labkeep.storage import tables as t
from labkeep.storage.executions import Batch
from labkeep.storage.packed import unpacked
from labkeep.storage.prepared import Converter, decode_rows, decoder
from labkeep.storage.purge import REFERRING
from labkeep.storage.transaction import Tx

BATCH = 2_000
"""Objects looked at in one statement."""

_SOURCE = t.items.outerjoin(
    t.runs, and_(t.items.c.organization_id == t.runs.c.organization_id, t.items.c.id == t.runs.c.id)
).outerjoin(
    t.documents, and_(t.items.c.organization_id == t.documents.c.organization_id, t.items.c.id == t.documents.c.id)
)
_STATUS = func.coalesce(type_coerce(t.runs.c.status, Text), t.documents.c.status, "")
_NAMES = Candidate.__struct_fields__[:13]
"""What comes from the tables themselves, in the order of the fields."""
_COLUMNS: list[Column[Any] | None] = [t.items.c.get(name) for name in _NAMES]
_RAW: list[Any] = [_STATUS if column is None else type_coerce(column, NullType()) for column in _COLUMNS]
_SELECT = select(*_RAW).select_from(_SOURCE)
assert [name for name, column in zip(_NAMES, _COLUMNS, strict=True) if column is None] == ["status"]


class Found(list[Candidate]):
    """A batch of what did not come by itself. ``via`` says how: contained in something that goes, or linked to it."""

    def __init__(self, found: Iterable[Candidate], via: str) -> None:
        super().__init__(found)
        self.via = via


class Scope(NamedTuple):
    """What is looked for: objects in these states, and what depends on them when ``verb`` asks for it."""

    verb: Verb
    states: Collection[State]
    applying: bool
    """Whether the objects are about to change: nobody else may change them until the transaction ends."""


def candidates(
    tx: Tx, actor: Actor, selection: Selection, project_id: str | None, scope: Scope
) -> Iterator[list[Candidate]]:
    """All that ``selection`` means, with what is contained in it, in batches and always in the same order.

    A query selects, and a container contains, what is in one of the scope's states; what is named by id comes in any
    state. NotFound when an id names nothing.
    """
    roots = _roots(tx, actor, selection, project_id, scope)
    # A project is archived by itself: what is in it stays as it is and comes back with it.
    # Restoring a deletion puts back what it holds; purging one takes along what it would leave without a home.
    exactly = selection.deletion_id is not None and scope.verb == Verb.restore
    contained = not exactly and scope.verb not in (Verb.archive, Verb.unarchive)
    for batch in roots.batches(tx, actor, scope):
        fresh = roots.unseen(batch)
        if fresh:
            yield fresh
        if contained:
            yield from _with_it(tx, actor, fresh, roots, scope)


def waiting(tx: Tx, actor: Actor, batch: Batch, scope: Scope) -> list[Candidate]:
    """The objects of a batch of a large job as they are now. What the job has before it still counts as going."""
    return _fetch(tx, actor, [*records.scope(actor), t.items.c.id.in_(batch.query())], _Job(batch), scope)


class _Job:
    """What a job has before it, as the roots of a selection."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def holds(self, tx: Tx, ids: Collection[str]) -> set[str]:
        """Which of ``ids`` the job has before it."""
        return executions.still_waiting(tx, self._batch, sorted(ids))


class Going(Protocol):
    """Whatever knows what goes along."""

    def holds(self, tx: Tx, ids: Collection[str]) -> set[str]:
        """Which of ``ids`` go as well."""


# --- roots ------------------------------------------------------------------------------------------------------------


class Roots:
    """What a selection names itself."""

    def __init__(
        self,
        conditions: list[ColumnElement[bool]],
        states: Collection[State] = (),
        ids: Iterable[str] = (),
        deletion_id: str | None = None,
    ) -> None:
        self.conditions = conditions
        self.deletion_id = deletion_id
        """The deletion that is selected: all that it holds comes by itself."""
        self.states = states
        self.ids = frozenset(ids)
        self.linked: set[str] = set()
        """What came by a link, and may be named or contained as well."""
        self.containers: set[str] = set()
        """Projects and artifacts that came: what they contain comes with them."""

    def batches(self, tx: Tx, actor: Actor, scope: Scope) -> Iterator[list[Candidate]]:
        if not self.ids:
            yield from _stream(tx, actor, [*self.conditions], self.states, self, scope)
            return
        wanted = sorted(self.ids)
        for start in range(0, len(wanted), BATCH):
            part = wanted[start : start + BATCH]
            found = _fetch(tx, actor, [*records.scope(actor), t.items.c.id.in_(part)], self, scope)
            missing = sorted(set(part) - {candidate.id for candidate in found})
            if missing:
                raise NotFound(f"object {missing[0]} not found", ids=missing[:100])
            yield found

    def unseen(self, batch: list[Candidate]) -> list[Candidate]:
        return [candidate for candidate in batch if candidate.id not in self.linked] if self.linked else batch

    def holds(self, tx: Tx, ids: Collection[str]) -> set[str]:
        """Which of ``ids`` the selection names, or took with it so far."""
        found = {id for id in ids if id in self.ids or id in self.linked or id in self.containers}
        if self.ids:
            return found
        for part in deletions.parts(sorted(set(ids) - found)):
            named = (*self.conditions, t.items.c.state.in_(self.states), t.items.c.id.in_(part))
            query = select(t.items.c.id).select_from(_SOURCE).where(*named)
            found.update(row[0] for row in tx.execute(query))
        return found


def _roots(tx: Tx, actor: Actor, selection: Selection, project_id: str | None, scope: Scope) -> Roots:
    ways = [bool(selection.ids), bool(selection.q or selection.project), selection.deletion_id is not None]
    if sum(ways) != 1:
        raise Invalid(
            "a selection is either ids, or a query, or a project with a query, or a deletion", path="selection"
        )
    if selection.ids:
        return Roots([], ids=selection.ids)
    if selection.deletion_id is not None:
        if scope.verb not in (Verb.restore, Verb.purge):
            raise Invalid(
                f"what a deletion holds can be restored or purged: {scope.verb} takes ids or a query", path="selection"
            )
        held = deletions.get(tx, actor, selection.deletion_id).id
        return Roots([*records.scope(actor), t.items.c.deletion_id == held], (State.trashed,), deletion_id=held)
    return _query(tx, actor, selection, project_id, scope.states)


def _query(tx: Tx, actor: Actor, selection: Selection, project_id: str | None, states: Collection[State]) -> Roots:
    try:
        entity = KIND_ENTITY[Kind(selection.kind)]
    except ValueError:
        raise Invalid(
            f"{selection.kind[:40]!r} is not a kind; use one of {', '.join(Kind)}", path="selection.kind"
        ) from None
    plan = search.resolve(
        tx, entity, ListItems(q=selection.q), {} if project_id is None else {"project_id": project_id}
    )
    if state_filter(plan.filter) is None:  # a list would show what is active
        plan = msgspec.structs.replace(plan, states=tuple(states))
    return Roots(search.conditions(tx, actor, plan), plan.states)


# --- what goes with it ------------------------------------------------------------------------------------------------


def _with_it(tx: Tx, actor: Actor, batch: Sequence[Candidate], roots: Roots, scope: Scope) -> Iterator[list[Candidate]]:
    """What lies in the projects and artifacts of ``batch``, or goes with something by a link, and comes not by itself."""
    going = [candidate for candidate in batch if candidate.state in scope.states]
    inside = {
        kind: {candidate.id: candidate.deletion_id for candidate in going if candidate.kind == kind}
        for kind in (Kind.project, Kind.artifact)
    }
    roots.containers.update(*inside.values())
    yield from _linked(tx, actor, going, roots, scope)
    ways = ((t.items.c.project_id, Kind.project, true()), (t.items.c.parent_id, Kind.artifact, t.in_artifact))
    for column, kind, there in ways:
        containers = inside[kind]
        if not containers:
            continue
        conditions = [*records.scope(actor), column.in_(containers), there]
        for found in _stream(tx, actor, conditions, scope.states, roots, scope):
            fresh = [one for one in roots.unseen(found) if _comes(one, containers, roots, scope)]
            if fresh:
                yield Found(fresh, "contained")
                yield from _linked(tx, actor, fresh, roots, scope)


def _comes(candidate: Candidate, containers: dict[str, str | None], roots: Roots, scope: Scope) -> bool:
    """Whether it comes with its container: not what comes by itself, nor back what was trashed before it on its own."""
    if candidate.id in roots.ids or (roots.deletion_id is not None and candidate.deletion_id == roots.deletion_id):
        return False
    artifact = candidate.parent_id
    if artifact not in containers and (artifact in roots.ids or artifact in roots.linked):
        return False  # its artifact comes as well, and brings it
    return scope.verb != Verb.restore or candidate.deletion_id in containers.values()


def _linked(tx: Tx, actor: Actor, going: Sequence[Candidate], roots: Roots, scope: Scope) -> Iterator[list[Candidate]]:
    """What goes when something of ``going`` goes. It comes back with its deletion, and is purged with it."""
    if scope.verb != Verb.trash:
        return
    if not going:
        return
    c = t.links.c
    ids = {candidate.id for candidate in going}
    cascading = (c.organization_id == actor.organization_id, c.on_delete == OnDelete.cascade)
    query = select(c.source_id, c.target_id).where(*cascading, c.target_id.between(min(ids), max(ids)))
    sources = {source for source, target in tx.execute(query) if target in ids}
    for part in deletions.parts(sorted(sources - roots.holds(tx, sources))):
        conditions = [*records.scope(actor), t.items.c.id.in_(part), t.items.c.state.in_(scope.states)]
        found = [
            one
            for one in _fetch(tx, actor, conditions, roots, scope, also=ids)
            if one.id not in roots.linked and roots.containers.isdisjoint((one.project_id, one.parent_id))
        ]
        roots.linked.update(candidate.id for candidate in found)
        if found:
            yield Found(found, "linked")
            yield from _with_it(tx, actor, found, roots, scope)


# --- fetching ---------------------------------------------------------------------------------------------------------


def _stream(
    tx: Tx,
    actor: Actor,
    conditions: list[ColumnElement[bool]],
    states: Collection[State],
    roots: Roots,
    scope: Scope,
) -> Iterator[list[Candidate]]:
    """Batches by keyset over ids, state by state as the indexes have them, so that memory stays bounded."""
    for state in sorted(states):
        last = None
        while True:
            here = [*conditions, t.items.c.state == state]
            if last is not None:
                here.append(t.items.c.id > last)
            found = _fetch(tx, actor, here, roots, scope, limit=BATCH)
            if found:
                last = found[-1].id
                yield found
            if len(found) < BATCH:
                break


def _fetch(
    tx: Tx,
    actor: Actor,
    conditions: list[ColumnElement[bool]],
    roots: Going,
    scope: Scope,
    *,
    limit: int | None = None,
    also: Collection[str] = (),
) -> list[Candidate]:
    """Candidates in the order of their ids, each with what needs it and stays itself. ``also`` goes as well."""
    query = _SELECT.where(*conditions).order_by(t.items.c.id).limit(limit)
    if scope.applying:
        query = query.with_for_update(of=t.items)
    rows = tx.execute(query).all()
    ids = unpacked([row[0] for row in rows], tx.database)
    decoded = decode_rows([row[1:] for row in rows], _decoders(tx.database))
    found = [Candidate(id, *rest) for id, rest in zip(ids, decoded, strict=True)]
    return _with_dependents(tx, actor, found, roots, also) if scope.verb == Verb.trash else found


@cache
def _decoders(database: str) -> list[Converter | None]:
    """Of all columns but the first, the id: no two are equal, so remembering them would be of no use."""
    return [None if column is None else decoder(column.type, database) for column in _COLUMNS[1:]]


def _with_dependents(
    tx: Tx, actor: Actor, found: list[Candidate], roots: Going, also: Collection[str]
) -> list[Candidate]:
    needs = [*_needs(tx, actor, found), *_executions(tx, actor, found)]
    if not needs:
        return found
    going = {candidate.id for candidate in found}.union(also)
    homes = {home for need in needs for home in need.homes if home is not None} - going
    going |= roots.holds(tx, homes)
    needed: dict[str, list[Dependent]] = defaultdict(list)
    for need in needs:
        if going.isdisjoint(need.homes):
            needed[need.target].append(need.dependent)
    return [
        msgspec.structs.replace(one, dependents=tuple(needed[one.id])) if one.id in needed else one for one in found
    ]


# --- what needs it ----------------------------------------------------------------------------------------------------


class _Need(NamedTuple):
    """What is needed, what needs it, and the objects with which that would go itself."""

    target: str
    dependent: Dependent
    homes: tuple[str | None, ...]


class _Known(Protocol):
    """An object of which at least this is known."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...


def needed_by(tx: Tx, actor: Actor, found: Sequence[_Known]) -> dict[str, list[Dependent]]:
    """What is live and needs one of ``found``, by the id of what it needs."""
    needed: dict[str, list[Dependent]] = defaultdict(list)
    for need in _needs(tx, actor, found):
        needed[need.target].append(need.dependent)
    return needed


def _needs(tx: Tx, actor: Actor, found: Sequence[_Known]) -> Iterator[_Need]:
    """What is live and needs one of ``found``."""
    of_kind: dict[str, list[str]] = {}
    for candidate in found:
        of_kind.setdefault(candidate.kind, []).append(candidate.id)
    for needs, kinds in _NEEDED:
        ids = [id for kind, some in of_kind.items() if kind in kinds for id in some]
        if ids:
            # By the range of the ids, which lie close together, and not by all of them: hardly any is needed.
            needed = list(needs(tx, actor, min(ids), max(ids)))
            wanted = frozenset(ids) if needed else frozenset()
            yield from (need for need in needed if need.target in wanted)


def _environments(tx: Tx, actor: Actor, first: str, last: str) -> Iterator[_Need]:
    c = t.environments.c
    query = select(c.document_id, c.id, c.name, c.project_id).where(
        c.organization_id == actor.organization_id, c.document_id.between(first, last)
    )
    for document_id, id, name, project_id in tx.execute(query.order_by(c.id)):
        yield _Need(document_id, Dependent("environment", id, name), (project_id,))


def _links(tx: Tx, actor: Actor, first: str, last: str) -> Iterator[_Need]:
    c, source = t.links.c, t.items.alias()
    joined = t.links.join(source, and_(source.c.organization_id == c.organization_id, source.c.id == c.source_id))
    query = (
        select(
            c.target_id, c.id, c.type, c.on_delete, source.c.name, source.c.id, source.c.project_id, source.c.parent_id
        )
        .select_from(joined)
        .where(
            c.organization_id == actor.organization_id,
            c.target_id.between(first, last),
            c.on_delete.in_((OnDelete.restrict, OnDelete.unbind)),
            source.c.state.in_(LIVE),
        )
    )
    for target_id, link_id, type, on_delete, name, *homes in tx.execute(query.order_by(c.id)):
        restricts = on_delete == OnDelete.restrict
        yield _Need(target_id, Dependent("link", link_id, f"{type} of {name}", restricts), tuple(homes))


def _bases(tx: Tx, actor: Actor, first: str, last: str) -> Iterator[_Need]:
    c = t.runs.c
    joined = t.runs.join(t.items, and_(t.items.c.organization_id == c.organization_id, t.items.c.id == c.id))
    query = (
        select(c.base_run_id, c.id, t.items.c.name, c.project_id)
        .select_from(joined)
        .where(
            c.organization_id == actor.organization_id, c.base_run_id.between(first, last), t.items.c.state.in_(LIVE)
        )
    )
    for base, id, name, project_id in tx.execute(query.order_by(c.id)):
        yield _Need(base, Dependent("base of run", id, name), (id, project_id))


def _executions(tx: Tx, actor: Actor, found: Sequence[Candidate]) -> Iterator[_Need]:
    """Runs that execute one of the experiments among ``found`` at this moment."""
    documents = {candidate.id for candidate in found if candidate.kind == Kind.document}
    if not documents:
        return
    c = t.runs.c
    joined = t.runs.join(t.items, and_(t.items.c.organization_id == c.organization_id, t.items.c.id == c.id))
    near = (c.organization_id == actor.organization_id, c.document_id.between(min(documents), max(documents)))
    query = select(c.document_id, c.id, t.items.c.name, c.project_id).select_from(joined)
    busy = query.where(*near, c.status.in_(BUSY), t.items.c.state.in_(LIVE))
    for document_id, id, name, project_id in tx.execute(busy.order_by(c.id)):
        if document_id in documents:
            yield _Need(document_id, Dependent(RUNNING_RUN, id, name, restricts=False), (id, project_id))


def _aliases(tx: Tx, actor: Actor, first: str, last: str) -> Iterator[_Need]:
    """Aliases protect a version. ``latest`` moves by itself and protects nothing."""
    c = t.artifact_versions.c
    joined = t.artifact_versions.join(
        t.items, and_(t.items.c.organization_id == c.organization_id, t.items.c.id == c.id)
    )
    query = (
        select(c.id, c.aliases, t.items.c.parent_id, t.items.c.project_id)
        .select_from(joined)
        .where(c.organization_id == actor.organization_id, c.id.between(first, last))
    )
    for id, aliases, *homes in tx.execute(query.order_by(c.id)):
        for alias in aliases:
            if alias != "latest":
                yield _Need(id, Dependent("alias", f"{id}:{alias}", alias), tuple(homes))


_NEEDED: tuple[tuple[Callable[[Tx, Actor, str, str], Iterator[_Need]], Collection[Kind]], ...] = (
    (_environments, {Kind.document}),
    (_links, set(Kind)),
    (_bases, {Kind.run}),
    (_aliases, {Kind.artifact_version}),
)


# --- bytes ------------------------------------------------------------------------------------------------------------


class Freed:
    """Adds up the bytes of blobs that only what goes refers to: what really comes back, beside rows and chunks."""

    def __init__(self) -> None:
        self.by_kind: Counter[str] = Counter()
        self._shared: dict[str, int] = {}
        """References that go, of blobs of which others are left so far."""

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.by_kind.total()

    def add(self, tx: Tx, actor: Actor, going: Sequence[Candidate]) -> None:
        """Take in what ``going`` refers to. Shared content counts for the kind whose last reference goes."""
        for kind in dict.fromkeys(candidate.kind for candidate in going):
            self._add(tx, actor, kind, [candidate.id for candidate in going if candidate.kind == kind])

    def _add(self, tx: Tx, actor: Actor, kind: str, ids: Sequence[str]) -> None:
        b = t.blobs.c
        for table, column, _ in REFERRING if ids else ():
            owner = table.c[column]
            near = (table.c.organization_id == actor.organization_id, owner.between(min(ids), max(ids)))
            # Most objects have none, which one look tells; the ids of a batch lie close together.
            if tx.execute(select(owner).where(*near).limit(1)).first() is None:
                continue
            for part in deletions.parts(ids):
                mine = (table.c.organization_id == actor.organization_id, owner.in_(part))
                counted = (
                    select(table.c.digest, func.count().label("refs")).where(*mine).group_by(table.c.digest).subquery()
                )
                joined = counted.join(
                    t.blobs, and_(b.organization_id == actor.organization_id, b.digest == counted.c.digest)
                )
                for digest, going, refs, size in tx.execute(
                    select(counted.c.digest, counted.c.refs, b.refs, b.size).select_from(joined)
                ):
                    self._take(kind, digest, going, refs, size)

    def _take(self, kind: str, digest: str, going: int, refs: int, size: int) -> None:
        gone = self._shared.pop(digest, 0) + going
        if gone >= refs:
            self.by_kind[str(kind)] += size
        else:
            self._shared[digest] = gone
