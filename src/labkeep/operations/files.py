"""Files of runs and documents: paths, and the blobs behind them. Also how uploaded bytes become known."""

from __future__ import annotations

import unicodedata
from pathlib import PureWindowsPath

import msgspec
from sqlalchemy import Select, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import AttachFile, Command, Digest, GetFile, ListFiles, Page
from labkeep.core.entities import File, Item
from labkeep.core.errors import Illegal, Invalid, NotFound, Unavailable
from labkeep.core.faults import reach
from labkeep.core.lifecycle import Kind
from labkeep.operations import Store
from labkeep.operations.projects import states_for
from labkeep.storage import blob_refs, records
from labkeep.storage import tables as t
from labkeep.storage.blobs import Stored, Upload
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


def begin(store: Store, actor: Actor) -> Upload:
    """Start an upload. Blocks: for threads. Any member who may write runs may upload."""
    require(actor, "run.write")
    return store.blobs.begin(actor.organization_id)


def keep(store: Store, actor: Actor, stored: Stored) -> None:
    """Make bytes that were just uploaded known, so that something can refer to them. Blocks: for threads.

    Unavailable when an older copy of them is being removed at this moment: upload them again.
    """
    store.database.write(register, actor, stored)
    reach("blob.registered")
    try:
        store.blobs.size(actor.organization_id, stored.digest)
    except NotFound:
        # The sweep of an older copy ended between upload and registration, and took the new bytes along. From the
        # registration on no sweep touches them, so this can be seen only here.
        raise Unavailable(f"blob {stored.digest} was removed while it was uploaded: upload it again") from None


def register(tx: Tx, actor: Actor, stored: Stored) -> None:
    """Note an upload."""
    require(actor, "run.write")
    blob_refs.register(tx, actor, stored.digest, stored.size)


class FindBlob(Command, frozen=True, kw_only=True):
    """Whether bytes are there already."""

    digest: Digest


def find_blob(tx: Tx, actor: Actor, command: FindBlob) -> int:
    """The size of a blob of the organization. NotFound."""
    require(actor, "run.read")
    size = blob_refs.find(tx, actor, command.digest)
    if size is None:
        raise NotFound(f"blob {command.digest} is not here: upload it first", digest=command.digest)
    return size


# --- files ------------------------------------------------------------------------------------------------------------

_COLUMNS = tuple(t.files.c[name] for name in File.__struct_fields__)


def attach(tx: Tx, actor: Actor, command: AttachFile) -> File:
    """Put an uploaded blob under a path; what was there is replaced. NotFound when the blob was not uploaded."""
    path = clean_path(command.path)
    owner = records.get(tx, Item, actor, command.id, lock=True)
    _check_writable(actor, owner)
    before = _find(tx, owner, path)
    size = blob_refs.refer(tx, actor, command.digest)
    if size != command.size:
        raise Invalid(f"blob {command.digest} has {size} bytes, not {command.size}", path="size")
    if before is not None:
        blob_refs.release(tx, actor.organization_id, {before.digest: 1})
    file = File(
        owner_id=owner.id,
        path=path,
        digest=command.digest,
        size=size,
        media_type=clean_media_type(command.media_type),
        created_at=tx.now,
    )
    tx.upsert(t.files, [{"organization_id": owner.organization_id, **msgspec.structs.asdict(file)}])
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


def _readable(tx: Tx, actor: Actor, id: str, include: str) -> Item:
    owner = records.get(tx, Item, actor, id, states=states_for(include))
    _check_owner(owner)
    require(actor, f"{owner.kind}.read")
    return owner


def _check_owner(owner: Item) -> None:
    if owner.kind not in OWNERS:
        raise Invalid(f"{owner.kind} {owner.name} has no files: runs, documents and artifact versions do", path="id")


def _files(owner: Item) -> Select[tuple[object, ...]]:
    f = t.files.c
    return select(*_COLUMNS).where(f.organization_id == owner.organization_id, f.owner_id == owner.id)


def _find(tx: Tx, owner: Item, path: str) -> File | None:
    found = tx.one(_files(owner).where(t.files.c.path == path))
    return None if found is None else File(**found)


__all__ = [
    "FindBlob",
    "Stored",
    "attach",
    "begin",
    "check_attach",
    "clean_media_type",
    "clean_path",
    "find",
    "find_blob",
    "keep",
    "list_",
    "register",
]
