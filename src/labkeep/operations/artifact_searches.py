"""Artifacts as other systems' clients look for them: with the collection and project they are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, Limit, Ref, ResolveArtifact
from labkeep.core.entities import Artifact, ArtifactVersion, Project
from labkeep.core.ids import Id
from labkeep.core.lifecycle import Kind, State
from labkeep.operations import artifacts
from labkeep.operations.projects import resolve as resolve_project
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.transaction import Tx


class Held(NamedTuple):
    """A version, the collection that it belongs to, and the project of that."""

    version: ArtifactVersion
    collection: Artifact
    project: Project


class Home(NamedTuple):
    """A collection and its project."""

    collection: Artifact
    project: Project


class Hits(NamedTuple):
    """A page, the cursor of the next one, and how many there are on all pages."""

    items: list[Held]
    next: str | None
    total: int


def hold(tx: Tx, actor: Actor, versions: Sequence[ArtifactVersion]) -> list[Held]:
    """The versions with what they are in, as far as that is live."""
    collections = records.find_ids(tx, Artifact, actor, sorted({version.parent_id for version in versions}))
    projects = records.find_ids(tx, Project, actor, sorted({one.parent_id for one in collections.values()}))
    return [
        Held(version, collections[version.parent_id], projects[collections[version.parent_id].parent_id])
        for version in versions
        if version.parent_id in collections
    ]


def resolve(tx: Tx, actor: Actor, command: ResolveArtifact) -> Held:
    """A version by ``name:alias``. NotFound."""
    [found] = hold(tx, actor, [artifacts.resolve(tx, actor, command)])
    return found


# --- collections ------------------------------------------------------------------------------------------------------


class FindCollection(Command, frozen=True, kw_only=True):
    """A collection by id, or by name in a project."""

    id: Id | None = None
    project: Ref = "?"
    name: Ref = "?"
    type: str = ""


def find_collection(tx: Tx, actor: Actor, command: FindCollection) -> Home:
    """The live collection. NotFound, Gone."""
    require(actor, "artifact.read")
    if command.id is not None:
        found = records.get(tx, Artifact, actor, command.id)
        return Home(found, records.get(tx, Project, actor, found.parent_id))
    project = resolve_project(tx, actor, command.project)
    return Home(artifacts.by_name(tx, actor, project, command.name, command.type), project)


class FindCollections(Command, frozen=True, kw_only=True):
    """The collections of a project, or those of one type."""

    project: Id
    type: str = ""


MOST = 10_000
"""Collections that are read as a whole."""


def collections(tx: Tx, actor: Actor, command: FindCollections) -> list[Artifact]:
    """The live ones, newest first."""
    require(actor, "artifact.read")
    query = records.statement(Artifact, actor).where(*_collections(command))
    return records.fetch(tx, Artifact, query.order_by(t.items.c.id.desc()).limit(MOST))


def count_collections(tx: Tx, actor: Actor, command: FindCollections) -> int:
    """How many live ones there are."""
    require(actor, "artifact.read")
    query = select(func.count()).select_from(t.items).where(*records.scope(actor), *_collections(command))
    return int(tx.execute(query).scalar_one())


def _collections(command: FindCollections) -> list[ColumnElement[bool]]:
    c = t.items.c
    mine = [c.parent_id == command.project, c.kind == Kind.artifact, c.state == State.active]
    return [*mine, c.type == command.type] if command.type else mine


class CountVersions(Command, frozen=True, kw_only=True):
    """How many live versions a collection has."""

    id: Id


def count_versions(tx: Tx, actor: Actor, command: CountVersions) -> int:
    """How many."""
    require(actor, "artifact_version.read")
    c = t.items.c
    mine = (c.parent_id == command.id, t.in_artifact, c.kind == Kind.artifact_version, c.state == State.active)
    return int(tx.execute(select(func.count()).select_from(t.items).where(*records.scope(actor), *mine)).scalar_one())


class FindTypes(Command, frozen=True, kw_only=True):
    """Types of the collections of a project, in order; one of them when it is named."""

    project: Id
    name: str = ""


def types(tx: Tx, actor: Actor, command: FindTypes) -> list[str]:
    """The types that live collections have."""
    require(actor, "artifact.read")
    c = t.items.c
    query = (
        select(c.type)
        .distinct()
        .where(*records.scope(actor), c.project_id == command.project, c.kind == Kind.artifact, c.state == State.active)
    )
    if command.name:
        query = query.where(c.type == command.name)
    return sorted(row[0] for row in tx.execute(query))


# --- versions of a run ------------------------------------------------------------------------------------------------


class OfRun(Command, frozen=True, kw_only=True):
    """Versions that a run made or used, oldest first."""

    id: Id
    limit: Limit = 100
    cursor: str | None = None


def made_by(tx: Tx, actor: Actor, command: OfRun) -> Hits:
    """Versions that the run made."""
    require(actor, "artifact_version.read")
    c, v = t.items.c, t.artifact_versions.c
    query = records.statement(ArtifactVersion, actor).where(v.run_id == command.id, c.state == State.active)
    counted = select(func.count()).select_from(query.subquery())
    if command.cursor:
        query = query.where(c.id > decode_cursor(command.cursor, tuple[str])[0])
    found = records.fetch(tx, ArtifactVersion, query.order_by(c.id).limit(command.limit + 1))
    page = cut(found, command.limit, lambda version: version.id)
    return Hits(hold(tx, actor, page.items), page.next, int(tx.execute(counted).scalar_one()))
