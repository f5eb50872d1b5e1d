"""Documents: definitions of any type (experiment, dataset, prompt, …) with immutable, numbered versions."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta
from sqlalchemy import RowMapping, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    CommitVersion,
    CreateDocument,
    Get,
    GetVersion,
    ListDocuments,
    ListVersions,
    Page,
    UpdateDocument,
)
from labkeep.core.entities import Document, Json, Project, Version
from labkeep.core.errors import AlreadyExists, Invalid, NotFound
from labkeep.core.ids import check_id, is_id
from labkeep.core.lifecycle import LIVE, Kind
from labkeep.operations.projects import edits, resolve, states_for
from labkeep.storage import holds, index, records, search
from labkeep.storage import tables as t
from labkeep.storage.data_keys import Box, place_of_body
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.transaction import Tx

Number = Annotated[int, Meta(ge=0, le=2**53)]
"""Number of a version, as cursors hold it."""

_VERSION = select(*(t.versions.c[name] for name in Version.__struct_fields__))


def digest_of(body: Json) -> str:
    """``sha256:…`` over the canonical form of a body: JSON with sorted keys. Invalid for what is not JSON."""
    try:
        canonical = msgspec.json.encode(body, order="sorted")
    except (UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"the body cannot be stored as JSON: {error}", path="body") from error
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


# --- documents --------------------------------------------------------------------------------------------------------


def create(tx: Tx, actor: Actor, command: CreateDocument) -> Document:
    """A new document, with its first version when there is a body; or the one that has this id, or with ``exist_ok``
    this handle, already."""
    require(actor, "document.write")
    project = resolve(tx, actor, command.project)
    handle = command.name if command.handle is UNSET else command.handle
    known = _known(tx, actor, project, command, handle)
    if known is not None:
        return known
    records.check_writable(project)
    document = _new(tx, actor, project, command, handle)
    records.insert_items(tx, [document])
    index.add(tx, [document])
    tx.audit(actor, "document.created", document.id, project_id=project.id)
    if command.body is not None:
        _insert_version(tx, actor, document, command.body, command.message, None)
    return document


def _new(tx: Tx, actor: Actor, project: Project, command: CreateDocument, handle: str | None) -> Document:
    return Document(
        id=tx.new_id() if command.id is None else check_id(command.id),
        organization_id=actor.organization_id,
        kind=Kind.document,
        workspace_id=actor.workspace_id,
        parent_id=project.id,
        project_id=project.id,
        type=command.type,
        name=command.name,
        handle=handle,
        description=command.description,
        tags=tuple(dict.fromkeys(command.tags)),
        metadata=command.metadata,
        extra=command.extra,
        dialect=command.dialect,
        created_by=actor.name,
        created_at=tx.now,
        updated_at=tx.now,
        status=command.status,
        latest=0 if command.body is None else 1,
    )


def _known(tx: Tx, actor: Actor, project: Project, command: CreateDocument, handle: str | None) -> Document | None:
    """The document that the command means, when there is one already. AlreadyExists when it must not be there."""
    if command.id is not None:
        found = records.find_ids(tx, Document, actor, [command.id]).get(command.id)
        if found is not None:
            return _same(tx, found, project, command)
    if handle is None:
        return None
    if not command.exist_ok:
        records.check_handle(tx, Document, actor, parent_id=project.id, handle=handle, type=command.type)
    return records.find(tx, Document, actor, parent_id=project.id, handle=handle, type=command.type)


def _same(tx: Tx, found: Document, project: Project, command: CreateDocument) -> Document:
    """``found``, which has the id that the command chose: the same request, sent twice."""
    if found.state not in LIVE:
        raise records.gone(tx, found)
    if (found.parent_id, found.type) != (project.id, command.type):
        raise AlreadyExists(f"the id {found.id} belongs to another document: choose another", id=found.id)
    return found


def get(tx: Tx, actor: Actor, command: Get) -> Document:
    """A document by id."""
    require(actor, "document.read")
    return records.get(tx, Document, actor, command.id, states=states_for(command.include))


def list_(tx: Tx, actor: Actor, command: ListDocuments) -> Page[Document]:
    """Documents by the query language of docs/query.md, newest first unless ordered otherwise."""
    require(actor, "document.read")
    equal: dict[str, Any] = {name: value for name in ("type", "name", "status") if (value := getattr(command, name))}
    if command.project:
        equal["project_id"] = resolve(tx, actor, command.project).id
    if command.ids:
        equal["id"] = [id for id in command.ids if is_id(id)]
    return search.page(tx, actor, Document, command, equal=equal, before=command.before, after=command.after)


def update(tx: Tx, actor: Actor, command: UpdateDocument) -> Document:
    """Edit what is beside the versions. A handle that was the name follows it, so the new name must be free then."""
    require(actor, "document.write")
    before = records.get_writable(tx, Document, actor, command.id)
    changes = edits(before, command)
    if command.status is not UNSET:
        changes["status"] = command.status
    if command.name is not UNSET and command.name != before.name and before.handle == before.name:
        records.check_handle(tx, Document, actor, parent_id=before.parent_id, handle=command.name, type=before.type)
        changes["handle"] = command.name
    with holds.lasting(tx, before):
        after = records.save(tx, before, msgspec.structs.replace(before, **changes))
        index.change(tx, before, after)
    if after is not before:
        tx.audit(actor, "document.updated", after.id, fields=sorted(changes))
    return after


# --- versions ---------------------------------------------------------------------------------------------------------


def commit(tx: Tx, actor: Actor, command: CommitVersion) -> Version:
    """A new version, numbered one up; or the newest one when its body is equal."""
    require(actor, "document.write")
    document = records.get_writable(tx, Document, actor, command.id)
    parent = document.latest if command.parent is None else command.parent
    if command.parent is not None and not 1 <= command.parent <= document.latest:
        raise Invalid(f"document {document.name} has no version {command.parent} to be the parent", path="parent")
    newest = _version(tx, document, document.latest) if document.latest else None
    if newest is not None and newest.digest == digest_of(command.body):
        return newest
    after = records.save(tx, document, msgspec.structs.replace(document, latest=document.latest + 1))
    return _insert_version(tx, actor, after, command.body, command.message, parent or None)


def _insert_version(tx: Tx, actor: Actor, document: Document, body: Json, message: str, parent: int | None) -> Version:
    version = Version(
        id=tx.new_id(),
        organization_id=document.organization_id,
        created_at=tx.now,
        document_id=document.id,
        number=document.latest,
        digest=digest_of(body),
        body=body,
        parent=parent,
        message=message,
        author=actor.name,
    )
    put_version(tx, document.project_id, version)
    tx.audit(actor, "document.committed", document.id, number=version.number, digest=version.digest)
    return version


def put_version(tx: Tx, project_id: str | None, version: Version) -> None:
    """Store a version as it is, encrypted where the project wants that."""
    box = Box(tx, version.organization_id, version.document_id, project_id)
    body_stored = box.close_json(version.body, place_of_body(version.number))
    tx.insert(t.versions, [msgspec.structs.asdict(version) | {"body": body_stored}])


def get_version(tx: Tx, actor: Actor, command: GetVersion) -> Version:
    """One version by number; the newest when none is named."""
    require(actor, "document.read")
    document = records.get(tx, Document, actor, command.id, states=states_for(command.include))
    number = document.latest if command.number is None else command.number
    if not 1 <= number <= document.latest:
        what = f"version {number}" if document.latest else "versions yet"
        raise NotFound(f"document {document.name} has no {what}", latest=document.latest)
    return _version(tx, document, number)


def _version(tx: Tx, document: Document, number: int) -> Version:
    c = t.versions.c
    same = (c.organization_id == document.organization_id, c.document_id == document.id, c.number == number)
    found = tx.one(_VERSION.where(*same))
    assert found is not None, "versions are numbered without gaps"
    return _opened(tx, found)


def _opened(tx: Tx, found: RowMapping) -> Version:
    return Version(
        **{
            **found,
            "body": open_body(tx, found["organization_id"], found["document_id"], found["number"], found["body"]),
        }
    )


def open_body(tx: Tx, organization_id: str, document_id: str, number: int, stored: Any) -> Json:
    """The body of a version from what its column has. Errors as `Box.open`."""
    body: Json = Box(tx, organization_id, document_id, None).open_json(stored, place_of_body(number))
    return body


def list_versions(tx: Tx, actor: Actor, command: ListVersions) -> Page[Version]:
    """Versions of a document, newest first."""
    require(actor, "document.read")
    document = records.get(tx, Document, actor, command.id, states=states_for(command.include))
    c = t.versions.c
    query = _VERSION.where(c.organization_id == document.organization_id, c.document_id == document.id)
    if command.cursor is not None:
        query = query.where(c.number < decode_cursor(command.cursor, tuple[Number])[0])
    found = tx.all(query.order_by(c.number.desc()).limit(command.limit + 1))
    return cut([_opened(tx, row) for row in found], command.limit, lambda version: version.number)
