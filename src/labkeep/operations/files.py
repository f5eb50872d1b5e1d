"""Files of runs and documents: paths, and the blobs behind them. Also how uploaded bytes become known."""

from __future__ import annotations

import unicodedata
from pathlib import PureWindowsPath

import msgspec
from sqlalchemy import Select, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import AttachFile, Command, Digest, GetFile, ListFiles, Page, Ref
from labkeep.core.entities import File, Item, Run
from labkeep.core.errors import Illegal, Invalid, NotFound, Unavailable
from labkeep.core.faults import reach
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import BUSY, Kind
from labkeep.operations import Store, holds
from labkeep.operations.projects import resolve, states_for
from labkeep.storage import blob_refs, data_keys, file_rows, records
from labkeep.storage import tables as t
from labkeep.storage.blobs import Stored, Upload
from labkeep.storage.blobs_encrypted import EncryptedUpload
from labkeep.storage.data_keys import Fresh
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.transaction import Tx

OWNERS = (Kind.run, Kind.document, Kind.artifact_version)
"""What has files."""

PATH_BYTES = 1_024
"""Longest path in UTF-8: it is part of a database key."""

NAME_BYTES = 255
"""Longest part of a path in UTF-8: what file systems take."""


# --- paths ------------------------------------------------------------------------------------------------------------


def clean_path(path: str) -> str:
    """``path`` in its one normal form. Invalid for one that is absolute, leads upwards or cannot be a file everywhere."""
    for character in path:
        if unicodedata.category(character) in ("Cc", "Cs") or character == "\\":
            raise _refused(path, "it has a control character or a backslash")
    if path.startswith("/") or PureWindowsPath(path).drive:
        raise _refused(path, "it is absolute")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _refused(path, "it leads upwards")
    if not parts or path.endswith("/"):
        raise _refused(path, "it names no file")
    cleaned = "/".join(parts)
    if len(cleaned.encode()) > PATH_BYTES or any(len(part.encode()) > NAME_BYTES for part in parts):
        raise _refused(path, f"it is longer than {PATH_BYTES} bytes, or a part of it than {NAME_BYTES}")
    return cleaned


def _refused(path: str, why: str) -> Invalid:
    shown = path[:80].encode(errors="backslashreplace").decode()
    return Invalid(f"the path {shown!r} cannot be used: {why}; use a relative path with forward slashes", path="path")


# --- uploaded bytes ---------------------------------------------------------------------------------------------------


class UploadTo(Command, frozen=True, kw_only=True):
    """Where uploaded bytes will belong: to an object, or to something in a project that is still to be made.

    With neither, the bytes are for projects that do not encrypt.
    """

    id: Ref = ""
    project: Ref = ""


def plan(tx: Tx, actor: Actor, command: UploadTo) -> Fresh | None:
    """The key under which an upload must be encrypted from its first byte; None when it stays as it is.

    Invalid when nobody says where the bytes belong, and the organization has projects that encrypt.
    """
    require(actor, "run.write")
    project_id = _home(tx, actor, command)
    if project_id is not None and data_keys.encrypts(tx, actor.organization_id, project_id):
        return data_keys.fresh(tx, actor.organization_id, project_id)
    if project_id is None and data_keys.has_any(tx, actor.organization_id):
        raise Invalid(
            "this organization encrypts contents of projects: say for which project the bytes are, one that is there "
            "already, as in PUT /blobs?project=NAME, or upload the file where it belongs: PUT /files/{id}?path=PATH",
            path="project",
        )
    return None


def _home(tx: Tx, actor: Actor, command: UploadTo) -> str | None:
    """The project; None when it is not known, or is still to be made."""
    if is_id(command.id):
        i = t.items.c
        found = tx.one(select(i.project_id).where(i.organization_id == actor.organization_id, i.id == command.id))
        return None if found is None else found["project_id"]
    if not command.project:
        return None
    try:
        return resolve(tx, actor, command.project).id
    except NotFound:
        return None


def begin(store: Store, actor: Actor, key: Fresh | None = None) -> Upload:
    """Start an upload, encrypted with the ``key`` that `plan` gave. Blocks: for threads.

    Any member who may write runs may upload.
    """
    require(actor, "run.write")
    upload = store.blobs.begin(actor.organization_id)
    return upload if key is None else EncryptedUpload(upload, key.cipher, key.made)


def put(store: Store, actor: Actor, to: UploadTo, data: bytes) -> Stored:
    """Upload and make known. Blocks: for threads. Errors as `plan` and `keep`."""
    with begin(store, actor, store.database.read(plan, actor, to)) as upload:
        upload.write(data)
        stored = upload.finish()
    keep(store, actor, stored)
    return stored


def read(store: Store, actor: Actor, command: GetFile) -> bytes:
    """The whole content of a file. Blocks: for threads. NotFound."""
    located = store.database.read(locate, actor, command)
    return store.blobs.read_all(actor.organization_id, located.blob)


def keep(store: Store, actor: Actor, stored: Stored) -> str:
    """Make bytes that were just uploaded known, so that something can refer to them; answers the name of their blob.
    Blocks: for threads.

    Unavailable when an older copy of them is being removed at this moment: upload them again.
    """
    name = store.database.write(register, actor, stored)
    reach("blob.registered")
    if name != stored.name:
        store.blobs.delete(actor.organization_id, [stored.name])
        return name
    try:
        store.blobs.size(actor.organization_id, name)
    except NotFound:
        # The sweep of an older copy ended between upload and registration, and took the new bytes along. From the
        # registration on no sweep touches them, so this can be seen only here.
        raise Unavailable(f"blob {stored.digest} was removed while it was uploaded: upload it again") from None
    return name


def register(tx: Tx, actor: Actor, stored: Stored) -> str:
    """Note an upload; answers the name of the blob, which for an encrypted one may be that of an earlier upload."""
    require(actor, "run.write")
    if stored.key is not None:
        return blob_refs.register_encrypted(tx, actor, stored, stored.key)
    blob_refs.register(tx, actor, stored.digest, stored.size)
    return stored.digest


class FindBlob(Command, frozen=True, kw_only=True):
    """Whether bytes are there already. Projects that encrypt share with no other, and must be named."""

    digest: Digest
    project: Ref = ""


def find_blob(tx: Tx, actor: Actor, command: FindBlob) -> int:
    """The size of a blob of the organization, or of a project that encrypts. NotFound."""
    require(actor, "run.read")
    home = _home(tx, actor, UploadTo(project=command.project))
    name = blob_refs.names(tx, actor, home, [command.digest])[command.digest]
    size = blob_refs.find(tx, actor, name)
    if size is None:
        raise NotFound(f"blob {command.digest} is not here: upload it first", digest=command.digest)
    return size


def is_there(tx: Tx, actor: Actor, project_id: str | None, digest: str) -> bool:
    """Whether a file of the project can have this content without another upload."""
    try:
        name = blob_refs.names(tx, actor, project_id, [digest])[digest]
    except NotFound:
        return False
    return blob_refs.find(tx, actor, name) is not None


# --- files ------------------------------------------------------------------------------------------------------------


def attach(tx: Tx, actor: Actor, command: AttachFile) -> File:
    """Put an uploaded blob under a path; what was there is replaced. NotFound when the blob was not uploaded."""
    path = clean_path(command.path)
    owner = records.get(tx, Item, actor, command.id, lock=True)
    _check_writable(actor, owner)
    before = _find(tx, owner, path)
    if before is not None and before.digest != command.digest and not _is_running(tx, actor, owner):
        holds.refuse(tx, actor, [owner.id], f"changed: {path} would be overwritten")
    blob = blob_refs.names(tx, actor, owner.project_id, [command.digest])[command.digest]
    size = blob_refs.refer(tx, actor, blob)
    if size != command.size:
        raise Invalid(f"blob {command.digest} has {size} bytes, not {command.size}", path="size")
    for replaced in file_rows.blobs_of(tx, owner.organization_id, owner.id, [path]).values():
        blob_refs.release(tx, actor.organization_id, {replaced: 1})
    file = File(
        owner_id=owner.id,
        path=path,
        digest=command.digest,
        size=size,
        media_type=clean_media_type(command.media_type),
        created_at=tx.now,
    )
    tx.upsert(t.files, [file_rows.row_of(owner.organization_id, file, blob)])
    records.add_bytes(tx, owner.id, owner.organization_id, size - (before.size if before else 0))
    return file


def check_attach(tx: Tx, actor: Actor, command: GetFile) -> None:
    """Whether a file could be attached: to be asked before an upload, so that no byte is sent in vain."""
    clean_path(command.path)
    _check_writable(actor, records.get(tx, Item, actor, command.id))


def _check_writable(actor: Actor, owner: Item) -> None:
    _check_owner(owner)
    require(actor, f"{owner.kind}.write")
    records.check_writable(owner)
    if owner.kind == Kind.artifact_version:
        raise Illegal(f"{owner.kind} {owner.name} cannot be changed: make a new version of its artifact")


def clean_media_type(text: str) -> str:
    """A media type that can stand in a header; ``application/octet-stream`` for anything else."""
    allowed = len(text) <= 255 and text.isascii() and text.isprintable() and text.count("/") >= 1
    return text.strip() if allowed else "application/octet-stream"


def list_(tx: Tx, actor: Actor, command: ListFiles) -> Page[File]:
    """Files by path, in order of code points."""
    owner = _readable(tx, actor, command.id, command.include)
    f = t.files.c
    query = _files(owner)
    if command.prefix:
        # A range, which the key serves; U+10FFFF is not a character and sorts after all that are.
        query = query.where(f.path >= command.prefix, f.path < command.prefix + "\U0010ffff")
    if command.cursor is not None:
        query = query.where(f.path > decode_cursor(command.cursor, tuple[str])[0])
    found = [File(**row) for row in tx.all(query.order_by(f.path).limit(command.limit + 1))]
    return cut(found, command.limit, lambda file: file.path)


def find(tx: Tx, actor: Actor, command: GetFile) -> File:
    """One file by path. NotFound."""
    owner = _readable(tx, actor, command.id, command.include)
    found = _find(tx, owner, clean_path(command.path))
    if found is None:
        raise NotFound(f"{owner.kind} {owner.name} has no file {command.path!r}", id=owner.id)
    return found


class Located(msgspec.Struct, frozen=True):
    """A file, and the name of the blob that has its content."""

    file: File
    blob: str


def locate(tx: Tx, actor: Actor, command: GetFile) -> Located:
    """As `find`, with where the bytes are."""
    file = find(tx, actor, command)
    return Located(file, file_rows.blobs_of(tx, actor.organization_id, file.owner_id, [file.path])[file.path])


def _readable(tx: Tx, actor: Actor, id: str, include: str) -> Item:
    owner = records.get(tx, Item, actor, id, states=states_for(include))
    _check_owner(owner)
    require(actor, f"{owner.kind}.read")
    return owner


def _is_running(tx: Tx, actor: Actor, owner: Item) -> bool:
    """Whether it is a run that is being written: its client sends some files again and again."""
    return owner.kind == Kind.run and records.get(tx, Run, actor, owner.id).status in BUSY


def _check_owner(owner: Item) -> None:
    if owner.kind not in OWNERS:
        raise Invalid(f"{owner.kind} {owner.name} has no files: runs, documents and artifact versions do", path="id")


def _files(owner: Item) -> Select[tuple[object, ...]]:
    f = t.files.c
    return select(*file_rows.COLUMNS).where(f.organization_id == owner.organization_id, f.owner_id == owner.id)


def _find(tx: Tx, owner: Item, path: str) -> File | None:
    found = tx.one(_files(owner).where(t.files.c.path == path))
    return None if found is None else File(**found)


__all__ = [
    "FindBlob",
    "Located",
    "Stored",
    "UploadTo",
    "attach",
    "begin",
    "check_attach",
    "clean_media_type",
    "clean_path",
    "find",
    "find_blob",
    "is_there",
    "keep",
    "list_",
    "locate",
    "plan",
    "put",
    "read",
    "register",
]
