"""Artifacts: collections of immutable versions, each a set of files under one digest, found by alias or number."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import msgspec
from sqlalchemy import Select

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    CreateArtifactVersion,
    Get,
    ListArtifacts,
    ListArtifactVersions,
    ManifestEntry,
    Page,
    ResolveArtifact,
    SetAliases,
)
from labkeep.core.entities import Artifact, ArtifactVersion, File, Json, Project, Run
from labkeep.core.errors import Conflict, Illegal, Invalid, NotFound
from labkeep.core.ids import check_id
from labkeep.core.lifecycle import LIVE, Kind, State, parse_state
from labkeep.operations import holds
from labkeep.operations.files import clean_media_type, clean_path
from labkeep.operations.projects import READABLE, states_for
from labkeep.operations.projects import resolve as resolve_project
from labkeep.storage import blob_refs, file_rows, index, records, search
from labkeep.storage import tables as t
from labkeep.storage.pages import cut, decode_cursor, decode_id_cursor
from labkeep.storage.transaction import Tx

LATEST = "latest"
"""The alias of the newest version. It moves by itself."""

PORTFOLIO = "portfolio"
"""Key of ``extra`` of a collection whose versions are links to versions that were made elsewhere."""

MAX_ALIASES = 1_000
"""Aliases that one version may have."""

_BLOB = re.compile(r"sha256:[0-9a-f]{64}")
_NUMBERED = re.compile(r"v(0|[1-9][0-9]{0,17})")


# --- versions ---------------------------------------------------------------------------------------------------------


class Manifest(msgspec.Struct, frozen=True):
    """The files of a version in order of their paths: blobs, and references to somewhere else."""

    blobs: tuple[ManifestEntry, ...]
    references: tuple[ManifestEntry, ...]
    digest: str
    names: dict[str, str]
    """Names of the blobs by their digests."""

    def counts(self) -> Counter[str]:
        """How often each blob is referred to."""
        return Counter(self.names[entry.digest] for entry in self.blobs)

    @property
    def bytes(self) -> int:
        """Size of the files that are stored here."""
        return sum(entry.size for entry in self.blobs)


def create_version(tx: Tx, actor: Actor, command: CreateArtifactVersion) -> ArtifactVersion:
    """A new version of a collection, which is made when missing; the newest version, if it has the same content.

    Every blob of the manifest must be uploaded before: NotFound, with the digests that are missing.
    """
    require(actor, "artifact.write")
    require(actor, "artifact_version.write")
    aliases = check_aliases(command.aliases)
    project = resolve_project(tx, actor, command.project, create=True)
    if command.run_id is not None:
        records.get(tx, Run, actor, command.run_id)
    collection = collection_for(tx, actor, project, command)
    manifest = manifest_of(tx, actor, project.id, command.files)
    newest = newest_of(tx, actor, collection)
    if newest is not None and newest.digest == manifest.digest:
        return move_aliases(tx, actor, newest, (*aliases, LATEST), ())
    blob_refs.refer_all(tx, actor, manifest.counts())
    version = _new_version(tx, actor, collection, command, manifest)
    records.insert_items(tx, [version])
    index.add(tx, [version])
    tx.insert(t.files, [file_row(tx, version, entry, manifest) for entry in manifest.blobs])
    records.save(tx, collection, msgspec.structs.replace(collection, latest=collection.latest + 1))
    tx.audit(actor, "artifact_version.created", version.id, digest=version.digest, files=len(manifest.blobs))
    return move_aliases(tx, actor, version, (*aliases, LATEST), ())


def collection_for(tx: Tx, actor: Actor, project: Project, command: CreateArtifactVersion) -> Artifact:
    """The collection, locked, so that its versions are numbered one after the other."""
    found = records.find(tx, Artifact, actor, parent_id=project.id, handle=command.name, type=command.type)
    if found is not None and found.extra.get(PORTFOLIO):
        raise Conflict(f"{command.name!r} holds links to versions of other artifacts: make versions under another name")
    if found is not None:
        return records.get_writable(tx, Artifact, actor, found.id)
    return new_collection(tx, actor, project, command.name, command.type, dialect=command.dialect)


def new_collection(
    tx: Tx, actor: Actor, project: Project, name: str, type: str, *, dialect: str, extra: Json | None = None
) -> Artifact:
    """A collection without versions."""
    if ":" in name:
        raise Invalid("the name of an artifact has no colon: what follows one is an alias", path="name")
    records.check_writable(project)
    collection = Artifact(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        kind=Kind.artifact,
        workspace_id=actor.workspace_id,
        parent_id=project.id,
        project_id=project.id,
        type=type,
        name=name,
        handle=name,
        extra=extra or {},
        dialect=dialect,
        created_by=actor.name,
        created_at=tx.now,
        updated_at=tx.now,
    )
    records.insert_items(tx, [collection])
    tx.audit(actor, "artifact.created", collection.id)
    return collection


def _new_version(
    tx: Tx, actor: Actor, collection: Artifact, command: CreateArtifactVersion, manifest: Manifest
) -> ArtifactVersion:
    name = f"v{collection.latest}"
    references = [msgspec.to_builtins(entry) for entry in manifest.references]
    return ArtifactVersion(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        kind=Kind.artifact_version,
        workspace_id=actor.workspace_id,
        parent_id=collection.id,
        project_id=collection.project_id,
        type=collection.type,
        name=name,
        handle=name,
        description=command.description,
        tags=tuple(dict.fromkeys(command.tags)),
        metadata=command.metadata,
        extra={"references": references} if references else {},
        dialect=command.dialect,
        bytes=manifest.bytes,
        created_by=actor.name,
        created_at=tx.now,
        updated_at=tx.now,
        number=collection.latest,
        digest=manifest.digest,
        run_id=command.run_id,
    )


def manifest_of(tx: Tx, actor: Actor, project_id: str | None, entries: Sequence[ManifestEntry]) -> Manifest:
    """The entries in their normal form. Sizes of blobs are those of the stored bytes. NotFound as `blob_refs.names`."""
    by_path = {clean_path(entry.path): entry for entry in entries}
    if len(by_path) < len(entries):
        twice, _ = Counter(clean_path(entry.path) for entry in entries).most_common(1)[0]
        raise Invalid(f"the path {twice!r} stands twice in the manifest", path="files")
    digests = {entry.digest for entry in entries if _is_blob(entry)}
    names = blob_refs.names(tx, actor, project_id, digests)
    known = blob_refs.sizes(tx, actor, names.values())
    sizes = {digest: known[name] for digest, name in names.items() if name in known}
    ordered = [
        msgspec.structs.replace(
            entry,
            path=path,
            size=sizes.get(entry.digest, entry.size),
            media_type=clean_media_type(entry.media_type),
        )
        for path, entry in sorted(by_path.items())
    ]
    body = msgspec.json.encode([(entry.path, entry.digest, entry.size) for entry in ordered])
    return Manifest(
        blobs=tuple(entry for entry in ordered if _is_blob(entry)),
        references=tuple(entry for entry in ordered if not _is_blob(entry)),
        digest=f"sha256:{hashlib.sha256(body).hexdigest()}",
        names=names,
    )


def _is_blob(entry: ManifestEntry) -> bool:
    """Whether the bytes are here. What has another digest is somewhere else, and the digest says where or which."""
    if _BLOB.fullmatch(entry.digest):
        return True
    if entry.digest.startswith("sha256:") or not 0 < len(entry.digest) <= 2_048 or "\x00" in entry.digest:
        raise Invalid(f"{entry.digest[:80]!r} is not a digest: use sha256: and 64 lower-case hex digits", path="files")
    return False


def file_row(tx: Tx, version: ArtifactVersion, entry: ManifestEntry, manifest: Manifest) -> dict[str, object]:
    """The row of one file of a version."""
    file = File(
        owner_id=version.id,
        path=entry.path,
        digest=entry.digest,
        size=entry.size,
        media_type=entry.media_type,
        created_at=tx.now,
    )
    return file_rows.row_of(version.organization_id, file, manifest.names[entry.digest])


# --- aliases ----------------------------------------------------------------------------------------------------------


def set_aliases(tx: Tx, actor: Actor, command: SetAliases) -> ArtifactVersion:
    """Add and remove aliases of a version. An alias that another version of the collection has moves here."""
    require(actor, "artifact_version.write")
    version = records.get_writable(tx, ArtifactVersion, actor, command.id)
    collection = records.get_writable(tx, Artifact, actor, version.parent_id)
    add = check_aliases(command.add)
    newest = newest_of(tx, actor, collection)
    if not set(version.aliases).isdisjoint(command.remove):
        holds.refuse(tx, actor, [version.id], "changed")
    if LATEST in command.remove or (LATEST in add and newest is not None and newest.id != version.id):
        raise Illegal(f"{LATEST!r} always is the newest version of {collection.name}: it moves by itself")
    return move_aliases(tx, actor, version, add, command.remove)


def check_aliases(aliases: Iterable[str]) -> tuple[str, ...]:
    """The aliases, each once. Invalid for one that cannot be told from a version."""
    for alias in aliases:
        if not alias or set(alias) & set(":/") or not alias.isprintable() or _NUMBERED.fullmatch(alias):
            raise Invalid(
                f"{alias[:80]!r} cannot be an alias: use printable text without : and / that is not the number of a version",
                path="aliases",
            )
    return tuple(dict.fromkeys(aliases))


def move_aliases(
    tx: Tx, actor: Actor, version: ArtifactVersion, add: Sequence[str], remove: Collection[str]
) -> ArtifactVersion:
    """``version`` with its aliases changed; what it gains is taken from the versions that had it, also in the trash."""
    wanted = tuple(alias for alias in dict.fromkeys((*version.aliases, *add)) if alias not in remove)
    if len(wanted) > MAX_ALIASES:
        raise Invalid(f"a version has at most {MAX_ALIASES} aliases", path="aliases")
    gained = set(wanted) - set(version.aliases)
    losers = _holders(tx, actor, version, gained) if gained else []
    for other in losers:
        left = tuple(alias for alias in other.aliases if alias not in gained)
        records.save(tx, other, msgspec.structs.replace(other, aliases=left))
    after = records.save(tx, version, msgspec.structs.replace(version, aliases=wanted))
    changed = (gained | (set(version.aliases) - set(wanted))) - {LATEST}
    if changed:
        tx.audit(actor, "artifact_version.aliased", version.id, count=len(changed), taken_from=[o.id for o in losers])
    return after


def _holders(tx: Tx, actor: Actor, version: ArtifactVersion, aliases: Collection[str]) -> list[ArtifactVersion]:
    """Other versions of the collection that have one of ``aliases``, those in the trash too."""
    c, v = t.items.c, t.artifact_versions.c
    query = records.statement(ArtifactVersion, actor).where(
        c.parent_id == version.parent_id,
        t.in_artifact,
        c.kind == Kind.artifact_version,
        c.state.in_(READABLE),
        c.id != version.id,
        v.aliases != (),
    )
    return [other for other in records.fetch(tx, ArtifactVersion, query) if not set(aliases).isdisjoint(other.aliases)]


# --- finding ----------------------------------------------------------------------------------------------------------


def resolve(tx: Tx, actor: Actor, command: ResolveArtifact) -> ArtifactVersion:
    """A live version by ``name:alias`` or ``name:v3``; the newest one of ``name`` alone. NotFound."""
    require(actor, "artifact.read")
    project = resolve_project(tx, actor, command.project)
    name, _, alias = command.name.partition(":")
    collection = by_name(tx, actor, project, name, command.type)
    if alias in ("", LATEST):
        found = newest_of(tx, actor, collection)
    elif _NUMBERED.fullmatch(alias):
        found = records.find(tx, ArtifactVersion, actor, parent_id=collection.id, handle=alias)
    else:
        query = _live(actor, collection).where(t.artifact_versions.c.aliases != ())
        found = next((one for one in records.fetch(tx, ArtifactVersion, query) if alias in one.aliases), None)
    if found is None:
        raise NotFound(f"artifact {name!r} has no version {alias or LATEST!r}", id=collection.id)
    return found


def by_name(tx: Tx, actor: Actor, project: Project, name: str, type: str) -> Artifact:
    """The live collection of that name. NotFound; Conflict when several types have one."""
    c = t.items.c
    query = records.statement(Artifact, actor).where(
        c.project_id == project.id, c.kind == Kind.artifact, c.handle == name, c.state.in_(LIVE)
    )
    found = records.fetch(tx, Artifact, (query.where(c.type == type) if type else query).limit(2))
    if not found:
        raise NotFound(f"artifact {name[:80]!r} not found in project {project.name}")
    if len(found) > 1:
        types = ", ".join(sorted(one.type for one in found))
        raise Conflict(
            f"several artifacts of project {project.name} have the name {name!r}: say of which type ({types} …)"
        )
    return found[0]


def _live(actor: Actor, collection: Artifact) -> Select[tuple[object, ...]]:
    c = t.items.c
    return records.statement(ArtifactVersion, actor).where(
        c.parent_id == collection.id, t.in_artifact, c.kind == Kind.artifact_version, c.state.in_(LIVE)
    )


def newest_of(tx: Tx, actor: Actor, collection: Artifact) -> ArtifactVersion | None:
    """The live version of the highest number, or None."""
    query = _live(actor, collection).order_by(t.artifact_versions.c.number.desc()).limit(1)
    found = records.fetch(tx, ArtifactVersion, query)
    return found[0] if found else None


def get(tx: Tx, actor: Actor, command: Get) -> Artifact:
    """A collection by id."""
    require(actor, "artifact.read")
    return records.get(tx, Artifact, actor, command.id, states=states_for(command.include))


def get_version(tx: Tx, actor: Actor, command: Get) -> ArtifactVersion:
    """A version by its own id."""
    require(actor, "artifact_version.read")
    return records.get(tx, ArtifactVersion, actor, command.id, states=states_for(command.include))


def list_(tx: Tx, actor: Actor, command: ListArtifacts) -> Page[Artifact]:
    """Collections by the query language of docs/query.md, newest first unless ordered otherwise."""
    require(actor, "artifact.read")
    equal: dict[str, str] = {}
    if command.project:
        equal["project_id"] = resolve_project(tx, actor, command.project).id
    for name in ("type", "name"):
        if getattr(command, name):
            equal[name] = getattr(command, name)
    return search.page(tx, actor, Artifact, command, equal=equal)


def list_versions(tx: Tx, actor: Actor, command: ListArtifactVersions) -> Page[ArtifactVersion]:
    """Versions of a collection by number, or those that a run made by age; newest first."""
    require(actor, "artifact_version.read")
    if (command.id is None) == (command.run_id is None):
        raise Invalid("name either the artifact (id) or the run (run_id) whose versions are wanted", path="id")
    c, v = t.items.c, t.artifact_versions.c
    query = records.statement(ArtifactVersion, actor).where(c.kind == Kind.artifact_version)
    query = query.where(c.state.in_(_states(command.state)))
    if command.run_id is not None:
        check_id(command.run_id, "run_id")
        after = command.cursor and decode_id_cursor(command.cursor)
        query = query.where(v.run_id == command.run_id, *([c.id < after] if after else []))
        found = records.fetch(tx, ArtifactVersion, query.order_by(c.id.desc()).limit(command.limit + 1))
        return cut(found, command.limit, lambda version: version.id)
    assert command.id is not None
    collection = records.get(tx, Artifact, actor, command.id, states=READABLE)
    if command.cursor is not None:
        query = query.where(v.number < decode_cursor(command.cursor, tuple[int])[0])
    query = query.where(c.parent_id == collection.id, t.in_artifact).order_by(v.number.desc())
    found = records.fetch(tx, ArtifactVersion, query.limit(command.limit + 1))
    return cut(found, command.limit, lambda version: version.number)


def _states(state: str) -> tuple[State, ...]:
    if state == "any":
        return READABLE
    return (parse_state(state),) if state else (State.active,)
