"""Versions linked into collections of their own: what a team has chosen among what its runs made.

A collection of links (a portfolio) has its own numbers and aliases. A link is a version with the files of its source,
whose bytes are stored once. It goes to the trash with its source and comes back with it; trashing the link leaves the
source alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, CreateLink, ItemVerb, Name, Ref, Tags
from labkeep.core.entities import Artifact, ArtifactVersion, Project
from labkeep.core.errors import Conflict, Illegal, NotFound
from labkeep.core.ids import Id
from labkeep.core.lifecycle import LIVE, Kind, OnDelete
from labkeep.operations import artifacts, deletions, drafts, environments
from labkeep.operations.artifact_searches import Held, hold
from labkeep.operations.artifacts import LATEST, PORTFOLIO
from labkeep.operations.projects import resolve
from labkeep.storage import blob_refs, data_keys, index, records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

LINKED = "linked"
"""Type of the link from a version in a portfolio to the one that it stands for."""

SOURCE = "source"
"""Key of ``extra`` under which a linked version has the id of the one that it stands for."""


class LinkVersion(Command, frozen=True, kw_only=True):
    """Link a version into the portfolio ``name`` of a project; both are made when missing."""

    id: Id
    project: Ref
    name: Name
    aliases: Tags = ()


def link(tx: Tx, actor: Actor, command: LinkVersion) -> Held:
    """The link, with the next number of the portfolio. Linked again it only gains the aliases.

    Conflict when the portfolio holds versions of another type, or the name belongs to a collection that runs write.
    """
    require(actor, "artifact.write")
    require(actor, "artifact_version.write")
    aliases = tuple(alias for alias in artifacts.check_aliases(command.aliases) if alias != LATEST)
    source = records.get(tx, ArtifactVersion, actor, command.id)
    if drafts.is_draft(source):
        raise Illegal("the artifact version is not committed yet: commit it, then link it")
    if is_link(source):
        source = records.get(tx, ArtifactVersion, actor, source.extra[SOURCE])
    project = resolve(tx, actor, command.project, create=True)
    _check_apart(tx, source, project)
    portfolio = _portfolio(tx, actor, project, command.name, source.type)
    known = _member(tx, actor, portfolio, source.id)
    if known is None:
        known = _new_link(tx, actor, portfolio, source)
        aliases = (*aliases, LATEST)
    return Held(artifacts.move_aliases(tx, actor, known, aliases, ()), portfolio, project)


def _check_apart(tx: Tx, source: ArtifactVersion, project: Project) -> None:
    """Contents of a project that encrypts stay in it: erasing its key has to be the end of them."""
    if source.project_id == project.id:
        return
    for id in (source.project_id, project.id):
        if id is not None and data_keys.encrypts(tx, project.organization_id, id):
            raise Conflict("a project that encrypts keeps its contents apart from others: link within the project")


def is_link(version: ArtifactVersion) -> bool:
    """Whether the version stands for one that was made elsewhere."""
    return SOURCE in version.extra


def is_portfolio(collection: Artifact) -> bool:
    """Whether the collection holds links."""
    return bool(collection.extra.get(PORTFOLIO))


def _portfolio(tx: Tx, actor: Actor, project: Project, name: str, type: str) -> Artifact:
    """The live portfolio of that name, locked; made when missing."""
    c = t.items.c
    query = records.statement(Artifact, actor).where(
        c.project_id == project.id, c.kind == Kind.artifact, c.handle == name, c.state.in_(LIVE)
    )
    for found in records.fetch(tx, Artifact, query):
        if not is_portfolio(found):
            raise Conflict(f"{name!r} holds versions that runs made: link into a collection of another name")
        if found.type != type:
            raise Conflict(f"{name!r} holds links to artifacts of type {found.type!r}, and this one is a {type!r}")
        return records.get_writable(tx, Artifact, actor, found.id)
    return artifacts.new_collection(tx, actor, project, name, type, dialect="native", extra={PORTFOLIO: True})


def _member(tx: Tx, actor: Actor, portfolio: Artifact, source_id: str) -> ArtifactVersion | None:
    """The live link of a portfolio to a version."""
    li, c = t.links.c, t.items.c
    mine = select(li.source_id).where(
        li.organization_id == actor.organization_id, li.target_id == source_id, li.type == LINKED
    )
    query = records.statement(ArtifactVersion, actor)
    query = query.where(c.id.in_(mine), c.parent_id == portfolio.id, c.state.in_(LIVE)).limit(1)
    found = records.fetch(tx, ArtifactVersion, query)
    return found[0] if found else None


def _new_link(tx: Tx, actor: Actor, portfolio: Artifact, source: ArtifactVersion) -> ArtifactVersion:
    name = f"v{portfolio.latest}"
    made = msgspec.structs.replace(
        source,
        id=tx.new_id(),
        parent_id=portfolio.id,
        project_id=portfolio.project_id,
        workspace_id=portfolio.workspace_id,
        name=name,
        handle=name,
        number=portfolio.latest,
        aliases=(),
        locked=False,
        version=1,
        run_id=None,
        created_by=actor.name,
        created_at=tx.now,
        updated_at=tx.now,
        extra={**source.extra, SOURCE: source.id},
    )
    records.insert_items(tx, [made])
    index.add(tx, [made])
    _copy_files(tx, actor, source, made)
    records.save(tx, portfolio, msgspec.structs.replace(portfolio, latest=portfolio.latest + 1))
    edge = CreateLink(source_id=made.id, target_id=source.id, type=LINKED, on_delete=OnDelete.cascade)
    environments.link(tx, actor, edge)
    return made


def _copy_files(tx: Tx, actor: Actor, source: ArtifactVersion, made: ArtifactVersion) -> None:
    f = t.files.c
    mine = (f.organization_id == actor.organization_id, f.owner_id == source.id)
    rows: list[dict[str, Any]] = [{**row, "owner_id": made.id} for row in tx.all(select(t.files).where(*mine))]
    blob_refs.refer_all(tx, actor, Counter(row["digest"] for row in rows))
    tx.insert(t.files, rows)


class UnlinkVersion(Command, frozen=True, kw_only=True):
    """Take a version out of a portfolio."""

    id: Id
    portfolio_id: Id


def unlink(tx: Tx, actor: Actor, command: UnlinkVersion) -> ArtifactVersion:
    """Trash the link, whatever aliases it has; the source stays. NotFound when there is none."""
    portfolio = records.get(tx, Artifact, actor, command.portfolio_id)
    found = _member(tx, actor, portfolio, command.id)
    if found is None:
        raise NotFound(f"the version is not linked into {portfolio.name!r}", id=portfolio.id)
    deletions.trash_item(tx, actor, ItemVerb(id=found.id, force=True, reason="unlinked"))
    return found


# --- finding ----------------------------------------------------------------------------------------------------------


class LinksOf(Command, frozen=True, kw_only=True):
    """Live links to a version."""

    id: Id


def links_of(tx: Tx, actor: Actor, command: LinksOf) -> list[Held]:
    """In the order in which they were made."""
    require(actor, "artifact_version.read")
    li, c = t.links.c, t.items.c
    mine = select(li.source_id).where(
        li.organization_id == actor.organization_id, li.target_id == command.id, li.type == LINKED
    )
    query = records.statement(ArtifactVersion, actor).where(c.id.in_(mine), c.state.in_(LIVE)).order_by(c.id)
    return hold(tx, actor, records.fetch(tx, ArtifactVersion, query))


class Sources(msgspec.Struct, frozen=True):
    """Versions, links among them."""

    versions: Sequence[ArtifactVersion]


def sources(tx: Tx, actor: Actor, command: Sources) -> dict[str, Held]:
    """By the id of a link, the live version that it stands for. A link whose source is gone is not in it."""
    require(actor, "artifact_version.read")
    wanted = {version.id: version.extra[SOURCE] for version in command.versions if is_link(version)}
    found = records.find_ids(tx, ArtifactVersion, actor, sorted(set(wanted.values())))
    held = {each.version.id: each for each in hold(tx, actor, [*found.values()])}
    return {id: held[source] for id, source in wanted.items() if source in held}


class FindMember(Command, frozen=True, kw_only=True):
    """A version as a collection of some project has it: itself, or the link to it."""

    id: Id
    project: Ref
    name: Name


def member(tx: Tx, actor: Actor, command: FindMember) -> ArtifactVersion:
    """The version itself where it was made, its link elsewhere. NotFound."""
    require(actor, "artifact_version.read")
    project = resolve(tx, actor, command.project)
    collection = artifacts.by_name(tx, actor, project, command.name, "")
    version = records.get(tx, ArtifactVersion, actor, command.id)
    if version.parent_id == collection.id:
        return version
    found = _member(tx, actor, collection, version.id)
    if found is None:
        raise NotFound(f"the version is not in {collection.name!r} of project {project.name}", id=collection.id)
    return found


class FindPortfolios(Command, frozen=True, kw_only=True):
    """Portfolios of all live projects whose names begin with ``prefix``."""

    prefix: Name


class Portfolio(msgspec.Struct, frozen=True):
    """A portfolio and its project."""

    collection: Artifact
    project: Project


MOST = 10_000
"""Registries, portfolios or links in one answer."""


def registries(tx: Tx, actor: Actor, command: FindPortfolios) -> list[Project]:
    """Live projects whose names begin so, by name."""
    require(actor, "project.read")
    c = t.items.c
    query = records.statement(Project, actor).where(
        c.kind == Kind.project, c.state.in_(LIVE), c.handle.startswith(command.prefix, autoescape=True)
    )
    found = records.fetch(tx, Project, query.order_by(c.handle).limit(MOST))
    return [project for project in found if project.name.startswith(command.prefix)]  # LIKE may ignore case


def portfolios(tx: Tx, actor: Actor, command: FindPortfolios) -> list[Portfolio]:
    """Their live portfolios, by project and name."""
    require(actor, "artifact.read")
    homes = {project.id: project for project in registries(tx, actor, command)}
    c = t.items.c
    query = records.statement(Artifact, actor).where(
        c.kind == Kind.artifact, c.state.in_(LIVE), c.parent_id.in_([*homes])
    )
    found = records.fetch(tx, Artifact, query.order_by(c.parent_id, c.handle).limit(MOST))
    return [Portfolio(each, homes[each.parent_id]) for each in found if is_portfolio(each)]


class FindLinked(msgspec.Struct, frozen=True):
    """Links in these portfolios."""

    portfolios: Sequence[Portfolio]


def linked(tx: Tx, actor: Actor, command: FindLinked) -> list[Held]:
    """Live links, in the order in which they were made."""
    require(actor, "artifact_version.read")
    homes = {each.collection.id: each for each in command.portfolios}
    c = t.items.c
    query = records.statement(ArtifactVersion, actor).where(
        c.kind == Kind.artifact_version, c.state.in_(LIVE), c.parent_id.in_([*homes])
    )
    found = records.fetch(tx, ArtifactVersion, query.order_by(c.id).limit(MOST))
    return [Held(each, homes[each.parent_id].collection, homes[each.parent_id].project) for each in found]
