"""Making and changing artifacts: created, filled, committed, used, edited, trashed."""

from __future__ import annotations

import secrets
from typing import Any

from labkeep.core.commands import GetFile, ItemVerb, ResolveArtifact
from labkeep.core.entities import ArtifactVersion, File, Json
from labkeep.core.errors import InUse, Invalid, NotFound
from labkeep.dialects.wandb import manifests
from labkeep.dialects.wandb.artifacts import Part, by_id, mine
from labkeep.dialects.wandb.context import Context, global_id, own_id, parts_of
from labkeep.dialects.wandb.files import DRAFT, links
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.dialects.wandb.projects import connection
from labkeep.dialects.wandb.translate import DIALECT, parse_object
from labkeep.operations import artifact_edits, artifact_searches, artifacts, deletions, drafts, files, lineage
from labkeep.operations.artifact_edits import EditCollection, EditVersion
from labkeep.operations.artifact_searches import FindCollection, Held
from labkeep.operations.drafts import AnnotateDraft, CommitDraft, GetUpload, PutDraftFile, StartDraft


def create(_root: None, context: Context, input: Json) -> Json:
    """A version to fill; or the one of the same content, which is complete."""
    name = input.get("artifactCollectionName") or next(iter(input.get("artifactCollectionNames") or ()), None)
    if not name:
        raise Invalid("an artifact needs a name", path="artifactCollectionName")
    kept: Json = {"digest": input["digest"]}
    if input.get("historyStep") is not None:
        kept["historyStep"] = input["historyStep"]
    ttl = input.get("ttlDurationSeconds") or 0
    if ttl > 0:
        kept["ttl"] = ttl
    asked = StartDraft(
        project=input["projectName"],
        name=name,
        type=input["artifactTypeName"],
        digest=input["digest"],
        client_id=input.get("clientID") or "",
        shared_id=input.get("distributedID") or "",
        ttl_s=ttl if ttl > 0 else None,
        run=input.get("runName") or "",
        description=input.get("description") or "",
        metadata=parse_object(input["metadata"], "metadata") if input.get("metadata") else {},
        extra={DIALECT: kept},
        tags=_tag_names(input.get("tags")),
        aliases=tuple(each["alias"] for each in input.get("aliases") or ()),
        dialect=DIALECT,
    )
    return {"artifact": context.write(drafts.start, asked)}


def _tag_names(tags: list[Json] | None) -> tuple[str, ...]:
    return tuple(tag["tagName"] for tag in tags or ())


def create_manifest(_root: None, context: Context, input: Json) -> Json:
    """A link to upload the manifest with. A version that says only what changed is kept with what it builds on."""
    id = own_id("Artifact", input["artifactID"])
    kind = input.get("type") or "FULL"
    if kind == "PATCH":
        return {"artifactManifest": Part(_manifest_upload(context, id), secrets.token_hex(16))}
    if kind == "INCREMENTAL":
        base = own_id("Artifact", input["baseArtifactID"]) if input.get("baseArtifactID") else ""
        context.write(drafts.annotate, AnnotateDraft(id=id, extra={DIALECT: {"base": base}}))
    return {"artifactManifest": _manifest_upload(context, id)}


def update_manifest(_root: None, context: Context, input: Json) -> Json:
    """Another link to upload the manifest with."""
    id, *part = parts_of("ArtifactManifest", input["artifactManifestID"], 2)
    held = _manifest_upload(context, own_id("ArtifactManifest", id))
    return {"artifactManifest": Part(held, part[0]) if part else held}


def _manifest_upload(context: Context, id: str) -> Held:
    return context.read(drafts.find, drafts.FindDraft(id=id))


def create_files(_root: None, context: Context, input: Json) -> Json:
    """Links to upload files with, in the order in which they are named."""
    specs = input["artifactFiles"]
    wanted = [(own_id("Artifact", spec["artifactID"]), files.clean_path(spec["name"])) for spec in specs]
    urls = links(context, "put", wanted, DRAFT)
    nodes = [
        {
            "id": global_id("File", id, path),
            "name": path,
            "storagePath": path,
            "uploadUrl": url,
            "directUrl": url,
            "sizeBytes": 0,
            "uploadHeaders": [],
            "artifactID": id,
        }
        for url, (id, path) in zip(urls, wanted, strict=True)
    ]
    return {"files": {**connection(nodes, None), "totalCount": len(nodes)}}


def _artifact_of(node: Json, context: Context) -> Held | None:
    """The version that a file was made for."""
    id = node.get("artifactID")
    return by_id(None, context, id) if id else None


# --- commit -----------------------------------------------------------------------------------------------------------


def commit(_root: None, context: Context, input: Json) -> Json:
    """Make the version complete: what the manifest lists is what it has."""
    id = own_id("Artifact", input["artifactID"])
    upload = context.read(drafts.get, GetUpload(id=id))
    if drafts.is_draft(upload.version):
        return {"artifact": context.write(drafts.commit, _commit(context, upload))}
    return {"artifact": by_id(None, context, id)}


def _commit(context: Context, upload: drafts.Upload) -> CommitDraft:
    facts: Json = {"base": None}
    parts = manifests.parts(upload.files)
    if parts:
        data = manifests.joined(_read(context, file) for file in parts)
        upload.files[manifests.PATH] = _put_manifest(context, upload.version, data)
        facts["digest"] = manifests.digest_of(manifests.parse(data))
    elif manifests.PATH in upload.files:
        data = _read(context, upload.files[manifests.PATH])
    else:
        raise Invalid("the artifact has no manifest yet: upload it, then commit again", path="manifest")
    if "base" in mine(upload.version):
        data = _on_base(context, upload.version, data)
    manifest = manifests.parse(data)
    elsewhere: dict[tuple[str, str], File] = {}
    for birth in manifests.births(manifest, upload.files):
        elsewhere.update(_born(context, birth))
    facts["size"] = manifests.size_of(manifest)
    return CommitDraft(
        id=upload.version.id,
        digest=facts.get("digest", ""),
        entries=manifests.entries(manifest, upload.files, elsewhere),
        kept=[manifests.PATH],
        extra={DIALECT: facts},
    )


def _read(context: Context, file: File) -> bytes:
    return files.read(context.store, context.actor, GetFile(id=file.owner_id, path=file.path))


def _on_base(context: Context, version: ArtifactVersion, data: bytes) -> bytes:
    """The whole manifest of a version that said only what changed; stored in place of the part."""
    base = mine(version)["base"]
    if not base:
        held = context.read(drafts.find, drafts.FindDraft(id=version.id))
        try:
            asked = ResolveArtifact(project=held.project.id, name=held.collection.name, type=version.type)
            base = context.read(artifacts.resolve, asked).id
        except NotFound:
            return data
    below = context.read(drafts.get, GetUpload(id=base))
    if manifests.PATH not in below.files:
        return data
    data = manifests.merged(_read(context, below.files[manifests.PATH]), data)
    _put_manifest(context, version, data)
    return data


def _put_manifest(context: Context, version: ArtifactVersion, data: bytes) -> File:
    stored = files.put(context.store, context.actor, files.UploadTo(id=version.id), data)
    put = PutDraftFile(id=version.id, path=manifests.PATH, digest=stored.digest, media_type="application/json")
    return context.write(drafts.put_file, put)


def _born(context: Context, birth: str) -> dict[tuple[str, str], File]:
    """Files of another version by MD5."""
    try:
        found = context.read(drafts.get, GetUpload(id=own_id("Artifact", birth)))
    except NotFound:
        return {}
    if manifests.PATH not in found.files:
        return {(birth, manifests.short_digest(file.digest)): file for file in found.files.values()}
    manifest = manifests.parse(_read(context, found.files[manifests.PATH]))
    return {
        (birth, entry.digest): found.files[path] for path, entry in manifest.contents.items() if path in found.files
    }


# --- use and edits ----------------------------------------------------------------------------------------------------


def use(_root: None, context: Context, input: Json) -> Json:
    """A run reads a version."""
    asked = lineage.Use(
        version_id=own_id("Artifact", input["artifactID"]), project=input["projectName"], run=input["runName"]
    )
    return {"artifact": context.write(lineage.use, asked)}


def update(_root: None, context: Context, input: Json) -> Json:
    """Change what is beside the content. Null is "as it is"."""
    changes: dict[str, Any] = {}
    if input.get("description") is not None:
        changes["description"] = input["description"]
    if input.get("metadata") is not None:
        changes["metadata"] = parse_object(input["metadata"], "metadata")
    if input.get("aliases") is not None:
        changes["aliases"] = tuple(each["alias"] for each in input["aliases"])
    if input.get("ttlDurationSeconds") is not None:
        ttl = input["ttlDurationSeconds"]
        changes["extra"] = {DIALECT: {"ttl": ttl if ttl > 0 else None}}
        changes["ttl_s"] = ttl if ttl > 0 else None
    asked = EditVersion(
        id=own_id("Artifact", input["artifactID"]),
        add_tags=_tag_names(input.get("tagsToAdd")),
        remove_tags=_tag_names(input.get("tagsToDelete")),
        **changes,
    )
    return {"artifact": context.write(artifact_edits.edit_version, asked)}


def delete(_root: None, context: Context, input: Json) -> Json:
    """Trash a version. One that has aliases is in use unless they go, too."""
    held = by_id(None, context, input["artifactID"])
    try:
        context.write(deletions.trash_item, ItemVerb(id=held.version.id, force=bool(input.get("deleteAliases"))))
    except InUse as error:
        raise InUse(error.message.replace("or pass force", "or pass delete_aliases=True"), **error.details) from None
    return {"artifact": held}


# --- collections ------------------------------------------------------------------------------------------------------


def _collection_id(input: Json) -> str:
    return own_id("ArtifactCollection", input.get("artifactSequenceID") or input.get("artifactPortfolioID") or "")


def update_collection(_root: None, context: Context, input: Json) -> Json:
    """Rename or describe a collection, or give it another type. Null is "as it is"."""
    theirs = {"name": "name", "description": "description", "destinationArtifactTypeName": "type"}
    changes = {ours: input[name] for name, ours in theirs.items() if input.get(name) is not None}
    found = context.write(artifact_edits.edit_collection, EditCollection(id=_collection_id(input), **changes))
    return {"artifactCollection": found}


def delete_collection(_root: None, context: Context, input: Json) -> Json:
    """Trash a collection with all of its versions."""
    home = context.read(artifact_searches.find_collection, FindCollection(id=_collection_id(input)))
    context.write(deletions.trash_item, ItemVerb(id=home.collection.id, force=True))
    return {"artifactCollection": home}


def tag_collection(_root: None, context: Context, input: Json) -> Json:
    """Give a collection tags."""
    names = _tag_names(input["tags"])
    context.write(artifact_edits.edit_collection, EditCollection(id=_named(context, input), add_tags=names))
    return {"tags": [{"id": global_id("Tag", name), "name": name} for name in names]}


def untag_collection(_root: None, context: Context, input: Json) -> Json:
    """Take tags from a collection."""
    names = _tag_names(input["tags"])
    context.write(artifact_edits.edit_collection, EditCollection(id=_named(context, input), remove_tags=names))
    return {"success": True}


def _named(context: Context, input: Json) -> str:
    asked = FindCollection(project=input["projectName"], name=input["artifactCollectionName"])
    return context.read(artifact_searches.find_collection, asked).collection.id


RESOLVERS: Resolvers = {
    "Mutation": {
        "createArtifact": create,
        "createArtifactManifest": create_manifest,
        "updateArtifactManifest": update_manifest,
        "createArtifactFiles": create_files,
        "commitArtifact": commit,
        "useArtifact": use,
        "updateArtifact": update,
        "deleteArtifact": delete,
        "updateArtifactSequence": update_collection,
        "updateArtifactPortfolio": update_collection,
        "moveArtifactSequence": update_collection,
        "deleteArtifactSequence": delete_collection,
        "deleteArtifactPortfolio": delete_collection,
        "createArtifactCollectionTagAssignments": tag_collection,
        "deleteArtifactCollectionTagAssignments": untag_collection,
    },
    "File": {"artifact": _artifact_of},
}
