"""Artifact versions that come in pieces: started, fed one file after the other, and committed as a whole.

A draft is a version without a number that lies beside the collection it is for: no list of versions shows it, nothing
resolves to it, and it becomes visible, complete and numbered, in the one transaction that commits it. It has its id
from the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    Command,
    CreateArtifactVersion,
    Digest,
    FilePath,
    Key,
    ManifestEntry,
    Name,
    Ref,
    Tags,
    Text,
)
from labkeep.core.entities import Artifact, ArtifactVersion, File, Json, Project
from labkeep.core.errors import Conflict, Illegal, Invalid, NotFound
from labkeep.core.ids import Id
from labkeep.core.lifecycle import LIVE, Kind
from labkeep.core.merge import merge
from labkeep.operations import artifacts, sessions
from labkeep.operations.artifact_searches import Held
from labkeep.operations.artifacts import LATEST
from labkeep.operations.files import clean_media_type, clean_path
from labkeep.operations.projects import resolve
from labkeep.storage import blob_refs, file_rows, index, records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

UNNUMBERED = -1
"""Number of a draft."""

_DRAFT = "draft"
"""Key of ``extra`` under which a draft keeps what its version will have."""

CLIENT_ID, FOREIGN_DIGEST = "foreign.client_id", "foreign.digest"
"""Paths of the index: what a version is called, and what its content is, by whoever made it."""

SHARED = "foreign.shared_id"
"""Path of the index: what the several makers of one version call it."""

STARTED, EXPIRES = "foreign.started_at", "foreign.expires_at"
"""Paths of the index, in Unix seconds: since when there is a draft, and until when a version is wanted."""

PARTS = "parts"
"""Key of ``extra`` under which a version of several makers has the digests of what each of them brought."""


class StartDraft(Command, frozen=True, kw_only=True):
    """A draft for the collection ``name``, which is made when missing.

    ``digest`` is the maker's own digest of the content: a version that has it already is answered instead.
    ``client_id`` is what the maker calls the draft: sending the same again makes no second one.
    ``shared_id`` is what several makers call one draft of the collection that all of them fill.
    ``ttl_s`` is how long the version is wanted, in seconds from now.
    """

    project: Ref
    name: Name
    type: Name
    digest: Key
    client_id: Key = ""
    shared_id: Key = ""
    ttl_s: int | None = None
    run: Key = ""
    """Handle of the run, in the same project, that makes it."""
    description: Text = ""
    metadata: Json = {}
    extra: Json = {}
    tags: Tags = ()
    aliases: Tags = ()
    dialect: Key = "native"


def is_draft(version: ArtifactVersion) -> bool:
    """Whether the version is not committed yet."""
    return version.number == UNNUMBERED


def start(tx: Tx, actor: Actor, command: StartDraft) -> Held:
    """A new draft, or what is there already."""
    require(actor, "artifact.write")
    require(actor, "artifact_version.write")
    aliases = tuple(alias for alias in artifacts.check_aliases(command.aliases) if alias != LATEST)
    project = resolve(tx, actor, command.project, create=True)
    collection = artifacts.collection_for(tx, actor, project, _as_version(command, project))
    known = _known(tx, actor, command, collection, project)
    if known is not None and not is_draft(known):
        return Held(artifacts.move_aliases(tx, actor, known, aliases, ()), collection, project)
    if known is not None:
        return Held(known, collection, project)
    run_id = sessions.find(tx, actor, project.name, command.run).id if command.run else None
    draft = _draft(
        tx, actor, collection, command, {"collection_id": collection.id, "run_id": run_id, "aliases": aliases}
    )
    records.insert_items(tx, [draft])
    index.put(tx, draft, {STARTED: tx.now.timestamp(), **_names(command, collection)})
    return Held(draft, collection, project)


def _names(command: StartDraft, collection: Artifact) -> dict[str, str]:
    found = {CLIENT_ID: command.client_id} if command.client_id else {}
    return found | ({SHARED: f"{collection.id}:{command.shared_id}"} if command.shared_id else {})


def _known(tx: Tx, actor: Actor, command: StartDraft, collection: Artifact, project: Project) -> ArtifactVersion | None:
    """The draft or version that is asked for already: of the same content, of the same maker, or of all its makers."""
    if command.shared_id:
        return _shared(tx, actor, command, collection, project)
    same = find_indexed(tx, actor, project, FOREIGN_DIGEST, command.digest, collection)
    if same is not None or not command.client_id:
        return same
    return find_indexed(tx, actor, project, CLIENT_ID, command.client_id)


def _shared(
    tx: Tx, actor: Actor, command: StartDraft, collection: Artifact, project: Project
) -> ArtifactVersion | None:
    """What several makers fill, with this one among them. Conflict when it was committed without this one's part."""
    found = find_indexed(tx, actor, project, SHARED, _names(command, collection)[SHARED])
    if found is None:
        return None
    if not is_draft(found):
        if command.digest in found.extra.get(PARTS, ()):
            return found
        raise Conflict(
            f"{collection.name}:{found.name} was committed before this part of it came: use another distributed id"
        )
    plan = found.extra[_DRAFT]
    parts = list(dict.fromkeys([*plan[PARTS], command.digest]))
    aliases = list(dict.fromkeys([*plan["aliases"], *command.aliases]))
    mine = {**plan, PARTS: parts, "aliases": [alias for alias in aliases if alias != LATEST]}
    return records.save(tx, found, msgspec.structs.replace(found, extra={**found.extra, _DRAFT: mine}))


def _as_version(command: StartDraft, project: Project) -> CreateArtifactVersion:
    return CreateArtifactVersion(project=project.id, name=command.name, type=command.type, dialect=command.dialect)


def _draft(tx: Tx, actor: Actor, collection: Artifact, command: StartDraft, plan: Json) -> ArtifactVersion:
    return ArtifactVersion(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        kind=Kind.artifact_version,
        workspace_id=actor.workspace_id,
        parent_id=collection.parent_id,
        project_id=collection.project_id,
        type=collection.type,
        name="draft",
        description=command.description,
        tags=tuple(dict.fromkeys(command.tags)),
        metadata=command.metadata,
        extra={
            **command.extra,
            _DRAFT: {**plan, "digest": command.digest, PARTS: [command.digest], "ttl_s": command.ttl_s},
        },
        dialect=command.dialect,
        created_by=actor.name,
        created_at=tx.now,
        updated_at=tx.now,
        number=UNNUMBERED,
        digest="",
    )


def find_indexed(
    tx: Tx, actor: Actor, project: Project, path: str, text: str, collection: Artifact | None = None
) -> ArtifactVersion | None:
    """The newest live version or draft of the project, or of one collection, with this text under this path."""
    f, c = t.fields.c, t.items.c
    mine = select(f.item_id).where(f.project_id == project.id, f.path == path, f.text.is_not(None), f.text == text)
    query = records.statement(ArtifactVersion, actor).where(c.id.in_(mine), c.state.in_(LIVE))
    if collection is not None:
        query = query.where(c.parent_id == collection.id)
    found = records.fetch(tx, ArtifactVersion, query.order_by(c.id.desc()).limit(1))
    return found[0] if found else None


def expire(tx: Tx, version: ArtifactVersion, ttl_s: int | None) -> None:
    """Note until when a version is wanted: so many seconds from when it was made; None is for good."""
    if ttl_s is None or ttl_s <= 0:
        index.drop(tx, version, [EXPIRES])
    else:
        index.put(tx, version, {EXPIRES: version.created_at.timestamp() + ttl_s})


# --- files of a draft -------------------------------------------------------------------------------------------------


class PutDraftFile(Command, frozen=True, kw_only=True):
    """Put an uploaded blob under a path of a draft; what was there is replaced."""

    id: Id
    path: FilePath
    digest: Digest
    media_type: Key = "application/octet-stream"


def put_file(tx: Tx, actor: Actor, command: PutDraftFile) -> File:
    """Attach a file. The same again changes nothing, also after the commit; Illegal when the content differs then."""
    require(actor, "artifact_version.write")
    version = records.get_writable(tx, ArtifactVersion, actor, command.id)
    path = clean_path(command.path)
    before = _files(tx, version, [path]).get(path)
    if before is not None and before.digest == command.digest:
        return before
    if not is_draft(version):
        raise Illegal(f"artifact version {version.name} is committed: make a new version")
    blob = blob_refs.names(tx, actor, version.project_id, [command.digest])[command.digest]
    size = blob_refs.refer(tx, actor, blob)
    for replaced in file_rows.blobs_of(tx, version.organization_id, version.id, [path]).values():
        blob_refs.release(tx, actor.organization_id, {replaced: 1})
    file = File(
        owner_id=version.id,
        path=path,
        digest=command.digest,
        size=size,
        media_type=clean_media_type(command.media_type),
        created_at=tx.now,
    )
    tx.upsert(t.files, [file_rows.row_of(version.organization_id, file, blob)])
    records.add_bytes(tx, version.id, version.organization_id, size - (before.size if before else 0))
    return file


def _files(tx: Tx, version: ArtifactVersion, paths: Sequence[str] = ()) -> dict[str, File]:
    f = t.files.c
    query = select(*file_rows.COLUMNS).where(f.organization_id == version.organization_id, f.owner_id == version.id)
    if paths:
        query = query.where(f.path.in_(paths))
    return {row["path"]: File(**row) for row in tx.all(query)}


class Upload(msgspec.Struct, frozen=True):
    """A draft, or a version that is committed already, with the files that it has."""

    version: ArtifactVersion
    files: dict[str, File]


class GetUpload(Command, frozen=True, kw_only=True):
    """What was uploaded for a draft."""

    id: Id


def get(tx: Tx, actor: Actor, command: GetUpload) -> Upload:
    """The draft and its files."""
    require(actor, "artifact_version.read")
    version = records.get(tx, ArtifactVersion, actor, command.id)
    return Upload(version, _files(tx, version))


class AnnotateDraft(Command, frozen=True, kw_only=True):
    """Keep something with a draft; it merges deeply."""

    id: Id
    extra: Json


def annotate(tx: Tx, actor: Actor, command: AnnotateDraft) -> ArtifactVersion:
    """The draft with what is kept. A version that is committed stays as it is."""
    require(actor, "artifact_version.write")
    before = records.get_writable(tx, ArtifactVersion, actor, command.id)
    if not is_draft(before):
        return before
    return records.save(tx, before, msgspec.structs.replace(before, extra=merge(before.extra, command.extra)))


# --- committing -------------------------------------------------------------------------------------------------------


class CommitDraft(Command, frozen=True, kw_only=True):
    """Make a draft a version with exactly these files. ``kept`` are paths of the draft that stay beside them.

    ``extra`` merges deeply. ``digest`` is the maker's own digest of the content, when it is another than at the start.
    """

    id: Id
    extra: Json = {}
    digest: Key = ""
    entries: list[ManifestEntry]
    kept: list[FilePath] = []


def commit(tx: Tx, actor: Actor, command: CommitDraft) -> Held:
    """The version, with the next number of its collection. Committing again answers it."""
    require(actor, "artifact_version.write")
    draft = records.get_writable(tx, ArtifactVersion, actor, command.id)
    if not is_draft(draft):
        return held(tx, actor, draft)
    plan = draft.extra[_DRAFT]
    collection = records.get_writable(tx, Artifact, actor, plan["collection_id"])
    manifest = artifacts.manifest_of(tx, actor, collection.project_id, command.entries)
    uploaded = _files(tx, draft)
    kept = [uploaded[path] for path in command.kept if path in uploaded]
    _replace_files(tx, actor, draft, manifest, kept)
    name = f"v{collection.latest}"
    if len(plan[PARTS]) > 1:
        draft = msgspec.structs.replace(draft, extra={**draft.extra, PARTS: plan[PARTS]})
    extra = merge({key: value for key, value in draft.extra.items() if key != _DRAFT}, command.extra)
    if manifest.references:
        extra["references"] = [msgspec.to_builtins(entry) for entry in manifest.references]
    version = msgspec.structs.replace(
        draft,
        parent_id=collection.id,
        type=collection.type,
        name=name,
        handle=name,
        number=collection.latest,
        digest=manifest.digest,
        run_id=plan["run_id"],
        bytes=manifest.bytes + sum(file.size for file in kept),
        extra=extra,
    )
    version = records.save(tx, draft, version)
    index.add(tx, [version])
    index.put(tx, version, {FOREIGN_DIGEST: command.digest or plan["digest"]})
    index.drop(tx, version, [STARTED])
    expire(tx, version, plan["ttl_s"])
    records.save(tx, collection, msgspec.structs.replace(collection, latest=collection.latest + 1))
    tx.audit(actor, "artifact_version.created", version.id, digest=version.digest, files=len(manifest.blobs))
    version = artifacts.move_aliases(tx, actor, version, (*plan["aliases"], LATEST), ())
    return held(tx, actor, version)


def _replace_files(
    tx: Tx,
    actor: Actor,
    draft: ArtifactVersion,
    manifest: artifacts.Manifest,
    kept: list[File],
) -> None:
    """Exactly the files of the manifest and those that are kept; references move with them."""
    before = file_rows.blobs_of(tx, draft.organization_id, draft.id)
    blob_refs.refer_all(tx, actor, manifest.counts() + Counter(before[file.path] for file in kept))
    blob_refs.release(tx, actor.organization_id, Counter(before.values()))
    f = t.files.c
    tx.execute(delete(t.files).where(f.organization_id == draft.organization_id, f.owner_id == draft.id))
    rows: list[dict[str, Any]] = [artifacts.file_row(tx, draft, entry, manifest) for entry in manifest.blobs]
    rows += [file_rows.row_of(draft.organization_id, file, before[file.path]) for file in kept]
    tx.insert(t.files, rows)


def held(tx: Tx, actor: Actor, version: ArtifactVersion) -> Held:
    """A version or draft with its collection and project."""
    collection_id = version.extra[_DRAFT]["collection_id"] if is_draft(version) else version.parent_id
    collection = records.get(tx, Artifact, actor, collection_id)
    if collection.project_id is None:
        raise Invalid(f"artifact {collection.name} is in no project")
    return Held(version, collection, records.get(tx, Project, actor, collection.project_id))


class FindDraft(Command, frozen=True, kw_only=True):
    """A version or draft by id, or by what its maker calls it."""

    id: Id | None = None
    client_id: Key = ""


def find(tx: Tx, actor: Actor, command: FindDraft) -> Held:
    """The version with its collection and project. NotFound, Gone."""
    require(actor, "artifact_version.read")
    if command.id is not None:
        return held(tx, actor, records.get(tx, ArtifactVersion, actor, command.id))
    f, c = t.fields.c, t.items.c
    mine = select(f.item_id).where(
        f.organization_id == actor.organization_id, f.path == CLIENT_ID, f.text == command.client_id
    )
    query = records.statement(ArtifactVersion, actor).where(c.id.in_(mine), c.state.in_(LIVE))
    found = records.fetch(tx, ArtifactVersion, query.limit(1))
    if not found:
        raise NotFound(f"artifact {command.client_id[:80]!r} not found")
    return held(tx, actor, found[0])


def id_of(tx: Tx, actor: Actor, command: FindDraft) -> str:
    """The id of what its maker calls so, in whichever workspace it is: who knows the one may know the other. NotFound."""
    require(actor, "artifact_version.read")
    f, c = t.fields.c, t.items.c
    found = tx.one(
        select(c.id)
        .join(t.fields, f.item_id == c.id)
        .where(
            f.organization_id == actor.organization_id,
            f.path == CLIENT_ID,
            f.text == command.client_id,
            c.state.in_(LIVE),
        )
        .limit(1)
    )
    if found is None:
        raise NotFound(f"artifact {command.client_id[:80]!r} not found")
    return str(found["id"])


class FindDigest(Command, frozen=True, kw_only=True):
    """A version of a collection by its maker's own digest of the content."""

    project: Ref
    name: Ref
    digest: Key


def find_digest(tx: Tx, actor: Actor, command: FindDigest) -> Held:
    """The newest one that is committed. NotFound."""
    require(actor, "artifact_version.read")
    project = resolve(tx, actor, command.project)
    collection = artifacts.by_name(tx, actor, project, command.name, "")
    found = find_indexed(tx, actor, project, FOREIGN_DIGEST, command.digest, collection)
    if found is None or is_draft(found):
        raise NotFound(f"artifact {collection.name!r} has no version with the digest {command.digest[:80]!r}")
    return Held(found, collection, project)
