"""Attachments: files that rows refer to by a key.

Rows are written first and the bytes follow. Each run or document whose rows refer to a key has the file as its own,
under ``attachments/<key>/<name>``, so that it goes to the trash, comes back and is purged with its rows. Equal bytes
are stored once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec
from sqlalchemy import select

from labkeep.core.access import Actor, require
from labkeep.core.commands import AttachFile, Command, Digest, Key, ListFiles, RowId
from labkeep.core.entities import File, Item
from labkeep.core.errors import NotFound
from labkeep.core.lifecycle import LIVE, Kind, State
from labkeep.operations import capabilities, files
from labkeep.operations.capabilities import Action, Capability, Sign
from labkeep.storage import index, records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

FOLDER = "attachments"


def refer(tx: Tx, actor: Actor, owner: Item, keys: Iterable[str]) -> None:
    """Note that rows of ``owner`` refer to ``keys``. What another owner has of them becomes a file of this one, too."""
    for key in dict.fromkeys(keys):
        others = _owners(tx, actor, key)
        if owner.id in {other.id for other in others}:
            continue
        index.put(tx, owner, {_field(key): True})
        held = _held(tx, actor, others, key)
        # What another project keeps encrypted, or keeps in the clear where this one encrypts, stays there.
        if held is not None and files.is_there(tx, actor, owner.project_id, held.digest):
            copy = AttachFile(
                id=owner.id, path=held.path, digest=held.digest, size=held.size, media_type=held.media_type
            )
            files.attach(tx, actor, copy)


class Invite(Command, frozen=True, kw_only=True):
    """Ask for a link to upload or download the attachment ``key``."""

    key: RowId
    action: Action
    filename: str = ""


class Invited(msgspec.Struct, frozen=True):
    """The token of a link, and the file if its bytes are here."""

    token: str
    file: File | None


def invite(tx: Tx, actor: Actor, command: Invite) -> Invited:
    """A link for an attachment. NotFound when no row that is live refers to it."""
    require(actor, "run.read" if command.action == "get" else "run.write")
    owners = _owners(tx, actor, command.key)
    if command.action == "put":
        owners = [owner for owner in owners if owner.state == State.active]
    if not owners:
        raise NotFound(
            f"attachment {command.key[:80]!r} not found: no row refers to it; write the row first, then upload"
        )
    held = _held(tx, actor, owners, command.key)
    path = held.path if held is not None else f"{_folder(command.key)}{_clean(command.filename)}"
    owner_id = held.owner_id if held is not None else owners[0].id
    [token] = capabilities.sign(tx, actor, Sign([Capability(command.action, owner_id, path, command.key)]))
    return Invited(token, held)


class Receive(Command, frozen=True, kw_only=True):
    """Bytes that were uploaded for the attachment ``key``, to be a file at ``path``."""

    key: RowId
    path: str
    digest: Digest
    size: int
    media_type: Key = "application/octet-stream"


def receive(tx: Tx, actor: Actor, command: Receive) -> None:
    """Give the file to every owner whose rows refer to it."""
    for owner in _owners(tx, actor, command.key):
        if owner.state == State.active and files.is_there(tx, actor, owner.project_id, command.digest):
            file = AttachFile(
                id=owner.id,
                path=command.path,
                digest=command.digest,
                size=command.size,
                media_type=command.media_type,
            )
            files.attach(tx, actor, file)


def _owners(tx: Tx, actor: Actor, key: str) -> list[Item]:
    """What has rows that refer to ``key``, oldest first. The index is by project, so each live one is asked."""
    f, i = t.fields.c, t.items.c
    projects = select(i.id).where(*records.scope(actor), i.kind == Kind.project, i.state.in_(LIVE))
    found = tx.all(
        select(f.item_id)
        .where(f.project_id.in_(projects), f.path == _field(key), f.type == "b", f.num == 1)
        .where(f.organization_id == actor.organization_id)
    )
    items = records.find_ids(tx, Item, actor, [row["item_id"] for row in found]).values()
    return sorted((item for item in items if item.state in LIVE), key=lambda item: item.id)


def _held(tx: Tx, actor: Actor, owners: Iterable[Item], key: str) -> File | None:
    for owner in owners:
        listed = files.list_(tx, actor, ListFiles(id=owner.id, prefix=_folder(key), limit=1)).items
        if listed:
            return listed[0]
    return None


def _field(key: str) -> str:
    return f"attachment.{_plain(key)}"


def _folder(key: str) -> str:
    return f"{FOLDER}/{_plain(key)}/"


def _plain(key: str) -> str:
    """The key as it may stand in a path; its digest when it may not."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,128}", key):
        return key
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def _clean(filename: str) -> str:
    """A file name that every file system takes."""
    name = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]', "_", filename).strip(". ")
    return name.encode(errors="replace")[:200].decode(errors="ignore") or "file"
