"""Editing what is beside the content of artifacts: descriptions, metadata, tags and all aliases at once."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import update

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, Key, Name, Tags, Text
from labkeep.core.entities import Artifact, ArtifactVersion, Item, Json, Project
from labkeep.core.ids import Id
from labkeep.core.lifecycle import Kind
from labkeep.core.merge import merge
from labkeep.operations import artifacts, drafts, holds
from labkeep.operations.artifact_searches import Held, Home
from labkeep.operations.artifacts import LATEST
from labkeep.operations.projects import READABLE
from labkeep.storage import index, records
from labkeep.storage import tables as t
from labkeep.storage.holds import lasting
from labkeep.storage.transaction import Tx


class EditVersion(Command, frozen=True, kw_only=True):
    """``metadata`` and ``aliases`` replace what is there; ``extra`` merges deeply. ``ttl_s``: see `drafts.StartDraft`."""

    id: Id
    description: Text | UnsetType = UNSET
    metadata: Json | UnsetType = UNSET
    extra: Json | UnsetType = UNSET
    ttl_s: int | UnsetType | None = UNSET
    aliases: Tags | UnsetType = UNSET
    add_tags: Tags = ()
    remove_tags: Tags = ()


def edit_version(tx: Tx, actor: Actor, command: EditVersion) -> Held:
    """The version as it is now. Its files cannot change."""
    require(actor, "artifact_version.write")
    before = records.get_writable(tx, ArtifactVersion, actor, command.id)
    fields: dict[str, Any] = {"tags": _tags(before, command.add_tags, command.remove_tags)}
    for name in ("description", "metadata"):
        if (value := getattr(command, name)) is not UNSET:
            fields[name] = value
    if command.extra is not UNSET:
        fields["extra"] = merge(before.extra, command.extra)
    after = msgspec.structs.replace(before, **fields)
    if _loses(before, after):
        holds.refuse(tx, actor, [before.id], "changed")
    after = records.save(tx, before, after)
    index.change(tx, before, after)
    if command.ttl_s is not UNSET and not drafts.is_draft(after):
        drafts.expire(tx, after, command.ttl_s)
    if command.aliases is not UNSET and not drafts.is_draft(after):
        wanted = artifacts.check_aliases(command.aliases)
        gone = [alias for alias in after.aliases if alias not in wanted and alias != LATEST]
        if gone:
            holds.refuse(tx, actor, [before.id], "changed")
        after = artifacts.move_aliases(tx, actor, after, [alias for alias in wanted if alias != LATEST], gone)
    return drafts.held(tx, actor, after)


class EditCollection(Command, frozen=True, kw_only=True):
    """Fields of a collection."""

    id: Id
    name: Name | UnsetType = UNSET
    type: Key | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    add_tags: Tags = ()
    remove_tags: Tags = ()


def edit_collection(tx: Tx, actor: Actor, command: EditCollection) -> Home:
    """The collection as it is now. AlreadyExists when the new name is taken."""
    require(actor, "artifact.write")
    before = records.get_writable(tx, Artifact, actor, command.id)
    fields: dict[str, Any] = {"tags": _tags(before, command.add_tags, command.remove_tags)}
    for name in ("name", "type", "description"):
        if (value := getattr(command, name)) is not UNSET:
            fields[name] = value
    name, type = fields.get("name", before.name), fields.get("type", before.type)
    if (name, type) != (before.name, before.type):
        records.check_handle(tx, Artifact, actor, parent_id=before.parent_id, handle=name, type=type)
        fields["handle"] = name
    with lasting(tx, before):
        after = records.save(tx, before, msgspec.structs.replace(before, **fields))
        if type != before.type:
            _retype_versions(tx, after)
    return Home(after, records.get(tx, Project, actor, after.parent_id))


def _retype_versions(tx: Tx, collection: Artifact) -> None:
    """Versions carry the type of their collection, those in the trash too."""
    c = t.items.c
    mine = (c.organization_id == collection.organization_id, c.parent_id == collection.id, t.in_artifact)
    changed = update(t.items).where(*mine, c.kind == Kind.artifact_version, c.state.in_(READABLE))
    tx.execute(changed.values(type=collection.type, version=c.version + 1, updated_at=tx.now))


def _loses(before: Item, after: Item) -> bool:
    """Whether something that was written down is not there any more."""
    replaced = any(getattr(before, name) not in ("", {}, getattr(after, name)) for name in ("description", "metadata"))
    return replaced or not set(before.tags) <= set(after.tags)


def _tags(item: Item, add: Tags, remove: Tags) -> tuple[str, ...]:
    return tuple(tag for tag in dict.fromkeys((*item.tags, *add)) if tag not in remove)
