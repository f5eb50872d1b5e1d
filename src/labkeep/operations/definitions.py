"""Documents together with their content: what systems expect that show one resource where we keep versions of it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Command,
    CommitVersion,
    Get,
    GetVersion,
    ListDocuments,
    ListVersions,
    UpdateDocument,
)
from labkeep.core.entities import Document, Json, Version
from labkeep.core.errors import NotFound
from labkeep.core.ids import Id
from labkeep.core.lifecycle import Kind
from labkeep.core.merge import merge
from labkeep.operations import documents
from labkeep.operations.resources import EnsureDocument, Remove, Removed, ensure_document, get_live, remove
from labkeep.storage.transaction import Tx

STAMP_SHIFT = 16


class Definition(msgspec.Struct, frozen=True):
    """A document and one of its versions: the newest, unless another was asked for. None before the first."""

    document: Document
    version: Version | None
    found: bool = True
    """Whether it was there before."""

    @property
    def stamp(self) -> int:
        """Rises with each version: the second it was made in, and below that its number."""
        at = (self.version or self.document).created_at
        return int(at.timestamp()) << STAMP_SHIFT | min(self.version.number if self.version else 0, 0xFFFF)

    @property
    def body(self) -> Json:
        """The content; empty before the first version."""
        return {} if self.version is None else self.version.body


class Define(Command, frozen=True, kw_only=True):
    """A document with its first version. ``replace``: where it is there already it gets this body as a new version."""

    ensure: EnsureDocument
    replace: bool = False


def define(tx: Tx, actor: Actor, command: Define) -> Definition:
    """The document of this handle: made, or replaced when that was asked for, or as it is."""
    asked = command.ensure.document
    ensured = ensure_document(tx, actor, command.ensure)
    if ensured.found and command.replace:
        edit = UpdateDocument(
            id=ensured.item.id, name=asked.name, description=asked.description, tags=asked.tags, metadata=asked.metadata
        )
        document = documents.update(tx, actor, edit)
        documents.commit(tx, actor, CommitVersion(id=document.id, body=asked.body or {}))
    current = _at(tx, actor, documents.get(tx, actor, Get(id=ensured.item.id)), None)
    return msgspec.structs.replace(current, found=ensured.found)


class Revise(Command, frozen=True, kw_only=True):
    """Merge ``patch`` into the newest body, as a new version, and edit what is beside the versions."""

    edit: UpdateDocument
    type: str
    patch: Json


def revise(tx: Tx, actor: Actor, command: Revise) -> Definition:
    """The document with its new version."""
    found = get(tx, actor, GetDefinition(id=command.edit.id, type=command.type))
    document = documents.update(tx, actor, command.edit)
    body = merge(found.body, command.patch)
    version = documents.commit(tx, actor, CommitVersion(id=document.id, body=body))
    return Definition(documents.get(tx, actor, Get(id=document.id)), version)


class GetDefinition(Command, frozen=True, kw_only=True):
    """A document of a type; with ``as_of`` its newest version of that stamp or below."""

    id: Id
    type: str
    as_of: int | None = None


def get(tx: Tx, actor: Actor, command: GetDefinition) -> Definition:
    """One document with one version. NotFound when it had none at that stamp."""
    document = documents.get(tx, actor, Get(id=command.id))
    if document.type != command.type:
        raise NotFound(f"{command.type} {command.id} not found")
    return _at(tx, actor, document, command.as_of)


def _at(tx: Tx, actor: Actor, document: Document, as_of: int | None) -> Definition:
    if as_of is None:
        version = documents.get_version(tx, actor, GetVersion(id=document.id)) if document.latest else None
        return Definition(document, version)
    for revision in revisions(tx, actor, document):
        if revision.stamp <= as_of:
            return revision
    raise NotFound(f"{document.type} {document.name} had no version then")


def revisions(tx: Tx, actor: Actor, document: Document) -> Iterator[Definition]:
    """All versions of a document, newest first."""
    cursor: str | None = None
    while True:
        page = documents.list_versions(tx, actor, ListVersions(id=document.id, cursor=cursor))
        yield from (Definition(document, version) for version in page.items)
        if page.next is None:
            return
        cursor = page.next


class FindDefinitions(ListDocuments, frozen=True, kw_only=True):
    """Documents with their versions; ``handle`` names one, ``history`` asks for all versions of each."""

    handle: str = ""
    as_of: int | None = None
    history: bool = False


def find(tx: Tx, actor: Actor, command: FindDefinitions) -> list[Definition]:
    """One page of documents, newest first; those that had no version at the stamp left out."""
    fields = {name: getattr(command, name) for name in ListDocuments.__struct_fields__}
    if command.handle:
        fields["q"] = f"handle = {msgspec.json.encode(command.handle).decode()}"
    found: list[Definition] = []
    for document in documents.list_(tx, actor, ListDocuments(**fields)).items:
        if command.history:
            found.extend(revisions(tx, actor, document))
            continue
        try:
            found.append(_at(tx, actor, document, command.as_of))
        except NotFound:
            continue
    return found


def discard(tx: Tx, actor: Actor, command: Remove) -> tuple[Definition, Removed]:
    """Trash a document, and answer what it was."""
    document = get_live(tx, actor, command.id, Kind.document, command.types)
    assert isinstance(document, Document)
    return _at(tx, actor, document, None), remove(tx, actor, command)
