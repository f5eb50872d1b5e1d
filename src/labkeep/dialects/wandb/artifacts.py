"""Reading artifacts: types, collections, memberships, versions, their files and their lineage."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from labkeep.core.commands import ListArtifacts, ListArtifactVersions, ResolveArtifact
from labkeep.core.entities import ArtifactVersion, Json, Project
from labkeep.core.errors import Gone, NotFound
from labkeep.dialects.wandb import manifests
from labkeep.dialects.wandb.context import Context, global_id, own_id
from labkeep.dialects.wandb.files import DRAFT, MADE_UP, links, shown
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.dialects.wandb.projects import accepted, connection, filters_in, page_size
from labkeep.dialects.wandb.registries import found_by, of_collection, of_version, paged
from labkeep.dialects.wandb.translate import DIALECT, dumps, moment
from labkeep.operations import (
    artifact_links,
    artifact_searches,
    artifacts,
    drafts,
    file_searches,
    lineage,
    run_searches,
)
from labkeep.operations.artifact_links import Sources, is_link, is_portfolio
from labkeep.operations.artifact_searches import FindCollection, FindCollections, FindTypes, Held, Home, OfRun
from labkeep.operations.drafts import FindDigest, FindDraft
from labkeep.operations.file_searches import CountFiles, FindFiles
from labkeep.operations.run_searches import GetRun, Seen

MOST_FILES = 5_000
"""Files in a page: what the client asks for when it downloads."""

MOST_VERSIONS = 10_000
"""Versions of a collection that are read as a whole."""

COMMITTED: Json = {"state": "COMMITTED"}
"""What the client always asks for: versions in lists are."""

INHERITED = -2
"""Time to live of a version that has none of its own."""


class TypeOf(NamedTuple):
    """A type of collections in a project."""

    name: str
    project: Project


class Part(NamedTuple):
    """The manifest of one of several makers of a version, and its own name."""

    held: Held
    name: str


def version_id(held: Held) -> str:
    """The global id of a version."""
    return global_id("Artifact", held.version.id)


def mine(version: ArtifactVersion) -> Json:
    """What only this dialect knows of a version."""
    found = version.extra.get(DIALECT)
    return found if isinstance(found, dict) else {}


def home_of(held: Held) -> Home:
    """The collection of a version."""
    return Home(held.collection, held.project)


# --- finding ----------------------------------------------------------------------------------------------------------


def by_id(_root: None, context: Context, id: str) -> Held:
    """A version, or one that is not committed yet."""
    return context.read(drafts.find, FindDraft(id=own_id("Artifact", id)))


def by_client_id(_root: None, context: Context, clientID: str) -> Json | None:  # noqa: N803 - the wire's name
    """The id of what the client calls by an id of its own."""
    try:
        return {"serverID": global_id("Artifact", context.read(drafts.id_of, FindDraft(client_id=clientID)))}
    except NotFound:
        return None


def by_name(project: Project, context: Context, name: str) -> Held | None:
    """A version by ``name:alias``; None when there is none."""
    path = name.rpartition("/")[2]
    try:
        return context.read(artifact_searches.resolve, ResolveArtifact(project=project.id, name=path))
    except NotFound:
        return _by_digest(project, context, path)
    except Gone:
        return None


def _by_digest(project: Project, context: Context, path: str) -> Held | None:
    """A version by ``name:digest``, where the digest is the client's own."""
    name, _, digest = path.partition(":")
    if _DIGEST.fullmatch(digest) is None:
        return None
    try:
        return context.read(drafts.find_digest, FindDigest(project=project.id, name=name, digest=digest))
    except (NotFound, Gone):
        return None


_DIGEST = re.compile("[0-9a-f]{32}")


def collection(project: Project, context: Context, name: str, type: str = "") -> Home | None:
    """A collection by name; None when there is none."""
    try:
        return context.read(artifact_searches.find_collection, FindCollection(project=project.id, name=name, type=type))
    except NotFound:
        return None


def collection_by_id(_root: None, context: Context, id: str) -> Home:
    """A collection by id."""
    return context.read(artifact_searches.find_collection, FindCollection(id=own_id("ArtifactCollection", id)))


def collections(
    project: Project,
    context: Context,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
    type: str = "",
) -> Json:
    """Collections of a project, newest first unless ordered otherwise."""
    wanted = FindCollections(project=project.id, type=type)
    if filters or order:
        found = [Home(each, project) for each in context.read(artifact_searches.collections, wanted)]
        return paged(found_by(found, filters, of_collection, order), after, first)
    asked = ListArtifacts(project=project.id, type=type, limit=page_size(first), cursor=after or None)
    listed = context.read(artifacts.list_, asked)
    page = connection([Home(each, project) for each in listed.items], listed.next)
    return {**page, "totalCount": context.read(artifact_searches.count_collections, wanted)}


def artifact_type(project: Project, context: Context, name: str) -> TypeOf | None:
    """A type of which the project has collections."""
    found = context.read(artifact_searches.types, FindTypes(project=project.id, name=name))
    return TypeOf(name, project) if found else None


def artifact_types(project: Project, context: Context, **_more: Any) -> Json:
    """All types of a project."""
    found = context.read(artifact_searches.types, FindTypes(project=project.id))
    return connection([TypeOf(name, project) for name in sorted({*found, *(accepted(project) or ())})], None)


def versions(
    home: Home,
    context: Context,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
    **_more: Any,
) -> Json:
    """Versions of a collection, newest first unless ordered otherwise."""
    if order or filters_in(filters) not in ({}, COMMITTED):
        every = ListArtifactVersions(id=home.collection.id, limit=MOST_VERSIONS)
        kept = found_by(context.read(artifacts.list_versions, every).items, filters, of_version, order)
        page = paged([Held(each, *home) for each in kept], after, first)
    else:
        asked = ListArtifactVersions(id=home.collection.id, limit=page_size(first), cursor=after or None)
        listed = context.read(artifacts.list_versions, asked)
        page = connection([Held(each, *home) for each in listed.items], listed.next)
    found = [edge["node"].version for edge in page["edges"]]
    sources = context.read(artifact_links.sources, Sources(found)) if is_portfolio(home.collection) else {}
    for edge in page["edges"]:
        edge["version"] = edge["node"].version.name
        edge["node"] = sources.get(edge["node"].version.id, edge["node"])
    return {**page, "of": home}


def source_of(held: Held, context: Context) -> Held:
    """The version that a link stands for; the link itself when that is gone, and any other version."""
    if not is_link(held.version):
        return held
    return context.read(artifact_links.sources, Sources([held.version])).get(held.version.id, held)


def kind_of(home: Home) -> str:
    """The GraphQL type of a collection."""
    return "ArtifactPortfolio" if is_portfolio(home.collection) else "ArtifactSequence"


def membership(home: Home, context: Context, aliasName: str) -> Held | None:  # noqa: N803 - the wire's name
    """A version of a collection by alias or number."""
    name = f"{home.collection.name}:{aliasName}"
    asked = ResolveArtifact(project=home.project.id, name=name, type=home.collection.type)
    try:
        return context.read(artifact_searches.resolve, asked)
    except NotFound:
        return None


def latest(home: Home, context: Context) -> Held | None:
    """The newest version."""
    return membership(home, context, artifacts.LATEST)


def aliases(held: Held, _context: Context) -> list[Json]:
    """The aliases of a version."""
    return [_alias(alias, home_of(held)) for alias in held.version.aliases]


def _alias(alias: str, home: Home) -> Json:
    return {"id": global_id("ArtifactAlias", home.collection.id, alias), "alias": alias, "artifactCollection": home}


def all_aliases(home: Home, context: Context, **_page: Any) -> Json:
    """The aliases of all versions."""
    found = context.read(artifacts.list_versions, ListArtifactVersions(id=home.collection.id, limit=MOST_VERSIONS))
    return connection([_alias(alias, home) for each in found.items for alias in each.aliases], None)


def tags(names: tuple[str, ...]) -> list[Json]:
    """Tags as the client reads them."""
    return [{"id": global_id("Tag", name), "name": name} for name in names]


# --- files ------------------------------------------------------------------------------------------------------------


def files(
    held: Held,
    context: Context,
    names: list[str] | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Json:
    """Files of a version by path; what is somewhere else comes after the last of them."""
    paths = [name for name in names or [] if name]
    limit = min(first or MOST_FILES, MOST_FILES)
    asked = FindFiles(id=held.version.id, hidden=manifests.PATH, paths=paths, limit=limit, cursor=after or None)
    found = context.read(file_searches.find, asked)
    urls = links(context, "get", [(file.owner_id, file.path) for file in found.items])
    nodes = [shown(file, url) for file, url in zip(found.items, urls, strict=True)]
    if found.next is None:
        nodes += [
            _reference(held, each) for each in manifests.references(held.version) if not paths or each["path"] in paths
        ]
    return {**connection(nodes, found.next), "totalCount": file_count(held, context) if not paths else len(nodes)}


def _reference(held: Held, entry: dict[str, Any]) -> Json:
    return {
        "id": global_id("File", held.version.id, entry["path"]),
        "name": entry["path"],
        "displayName": entry["path"],
        "directUrl": entry["digest"],
        "url": entry["digest"],
        "sizeBytes": entry.get("size", 0),
        "uploadHeaders": [],
    }


def by_entries(held: Held, context: Context, entries: list[Json] | None = None, **_more: Any) -> Json:
    """Files of a version in the order in which they are named."""
    wanted = [entry["name"] for entry in entries or []]
    page = files(held, context, names=wanted, first=MOST_FILES)
    found = {edge["node"]["name"]: edge["node"] for edge in page["edges"]}
    return {**connection([found[name] for name in wanted if name in found], None), "totalCount": len(found)}


def file_count(held: Held, context: Context) -> int:
    """Files and references of a version."""
    stored = context.read(file_searches.count, CountFiles(id=held.version.id, hidden=manifests.PATH))
    return stored + len(manifests.references(held.version))


def size(held: Held, _context: Context) -> int:
    """Bytes of the files of a version."""
    return int(mine(held.version).get("size", held.version.bytes))


def manifest(held: Held, _context: Context) -> Held | None:
    """The manifest of a version: only one that is committed has one."""
    return None if drafts.is_draft(held.version) else held


def manifest_file(of: Held | Part, context: Context) -> Json:
    """Where the manifest can be had, or put as long as the version is a draft.

    It is the one that the client uploaded, or is made up when it is asked for.
    """
    held = _held(of)
    path = manifests.part_path(of.name) if isinstance(of, Part) else manifests.PATH
    draft = drafts.is_draft(held.version)
    purpose = DRAFT if draft else "" if "digest" in mine(held.version) else MADE_UP
    [url] = links(context, "put" if draft else "get", [(held.version.id, path)], purpose)
    return {
        "id": global_id("File", held.version.id, path),
        "name": "wandb_manifest.json",
        "directUrl": url,
        "uploadUrl": url if draft else None,
        "sizeBytes": 0,
        "uploadHeaders": [],
    }


def _held(of: Held | Part) -> Held:
    return of.held if isinstance(of, Part) else of


# --- lineage ----------------------------------------------------------------------------------------------------------


def made_by(held: Held, context: Context) -> Seen | None:
    """The run that made a version; None when it is gone."""
    if held.version.run_id is None:
        return None
    try:
        return context.read(run_searches.get, GetRun(id=held.version.run_id))
    except (NotFound, Gone):
        return None


def _hits(operation: Any) -> Any:
    def resolve(seen: Seen, context: Context, after: str | None = None, first: int | None = None) -> Json:
        found = context.read(operation, OfRun(id=seen.run.id, limit=page_size(first), cursor=after or None))
        return {**connection(found.items, found.next), "totalCount": found.total}

    return resolve


def state(held: Held, _context: Context) -> str:
    """Whether a version is complete."""
    return "PENDING" if drafts.is_draft(held.version) else "COMMITTED"


_COLLECTION: dict[str, Any] = {
    "id": lambda home, _context: global_id("ArtifactCollection", home.collection.id),
    "name": lambda home, _context: home.collection.name,
    "description": lambda home, _context: home.collection.description or None,
    "createdAt": lambda home, _context: moment(home.collection.created_at),
    "updatedAt": lambda home, _context: moment(home.collection.updated_at),
    "project": lambda home, _context: home.project,
    "state": lambda _home, _context: "READY",
    "defaultArtifactType": lambda home, _context: TypeOf(home.collection.type, home.project),
    "tags": lambda home, _context: {"edges": [{"node": tag} for tag in tags(home.collection.tags)]},
    "aliases": all_aliases,
    "artifacts": versions,
    "artifactMembership": membership,
}

RESOLVERS: Resolvers = {
    "Query": {"artifact": by_id, "artifactCollection": collection_by_id, "clientIDMapping": by_client_id},
    "Project": {
        "artifact": by_name,
        "artifactCollectionMembership": by_name,
        "artifactCollection": collection,
        "artifactCollections": collections,
        "artifactType": artifact_type,
        "artifactTypes": artifact_types,
    },
    "ArtifactType": {
        "id": lambda kind, _context: global_id("ArtifactType", kind.project.id, kind.name),
        "name": lambda kind, _context: kind.name,
        "description": lambda _kind, _context: None,
        "createdAt": lambda kind, _context: moment(kind.project.created_at),
        "artifactCollection": lambda kind, context, name: collection(kind.project, context, name, kind.name),
        "artifactCollections": lambda kind, context, **page: collections(
            kind.project, context, **{**page, "type": kind.name}
        ),
    },
    "ArtifactSequence": {
        **_COLLECTION,
        "latestArtifact": latest,
        "digestAlgorithm": lambda _home, _context: "MANIFEST_MD5",
    },
    "ArtifactPortfolio": _COLLECTION,
    "ArtifactCollectionMembership": {
        "id": lambda held, _context: global_id("ArtifactCollectionMembership", held.version.id),
        "versionIndex": lambda held, _context: held.version.number,
        "createdAt": lambda held, _context: moment(held.version.created_at),
        "aliases": aliases,
        "artifactCollection": lambda held, _context: home_of(held),
        "artifact": source_of,
        "files": files,
    },
    "Artifact": {
        "id": lambda held, _context: version_id(held),
        "artifactSequence": lambda held, _context: home_of(held),
        "artifactType": lambda held, _context: TypeOf(held.collection.type, held.project),
        "versionIndex": lambda held, _context: None if drafts.is_draft(held.version) else held.version.number,
        "description": lambda held, _context: held.version.description or None,
        "metadata": lambda held, _context: dumps(held.version.metadata),
        "state": state,
        "size": size,
        "digest": lambda held, _context: mine(held.version).get("digest", held.version.digest),
        "digestAlgorithm": lambda _held, _context: "MANIFEST_MD5",
        "commitHash": lambda held, _context: held.version.id.replace("-", "")[:20],
        "fileCount": file_count,
        "historyStep": lambda held, _context: mine(held.version).get("historyStep"),
        "ttlDurationSeconds": lambda held, _context: mine(held.version).get("ttl", INHERITED),
        "ttlIsInherited": lambda held, _context: "ttl" not in mine(held.version),
        "tags": lambda held, _context: tags(held.version.tags),
        "aliases": aliases,
        "createdAt": lambda held, _context: moment(held.version.created_at),
        "updatedAt": lambda held, _context: moment(held.version.updated_at),
        "currentManifest": manifest,
        "files": files,
        "filesByManifestEntries": by_entries,
        "createdBy": made_by,
        "usedBy": lambda held, context: connection(
            context.read(lineage.users, lineage.Users(id=held.version.id)), None
        ),
    },
    "ArtifactManifest": {
        "id": lambda of, _context: global_id(
            "ArtifactManifest", _held(of).version.id, *([of.name] if isinstance(of, Part) else [])
        ),
        "digest": lambda of, _context: mine(_held(of).version).get("digest"),
        "file": manifest_file,
    },
    "VersionedArtifactConnection": {
        "totalCount": lambda page, context: (
            page["totalCount"]
            if "totalCount" in page
            else context.read(
                artifact_searches.count_versions, artifact_searches.CountVersions(id=page["of"].collection.id)
            )
        ),
    },
    "Run": {"outputArtifacts": _hits(artifact_searches.made_by), "inputArtifacts": _hits(lineage.used_by_run)},
}
