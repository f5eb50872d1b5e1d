"""How much of a project is encrypted: counted from the contents themselves, so it takes time in a large project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Text, and_, func, or_, select, type_coerce

from labkeep.core.access import Actor, require
from labkeep.core.commands_encryption import Encryption, GetEncryption, Share
from labkeep.operations.projects import resolve
from labkeep.storage import data_keys
from labkeep.storage import tables as t
from labkeep.storage.cipher import MARK
from labkeep.storage.transaction import Tx


def get(tx: Tx, actor: Actor, command: GetEncryption) -> Encryption:
    """What a project asks for, and how many bytes of its contents are stored in which way."""
    require(actor, "project.read")
    project = resolve(tx, actor, command.id)
    contents = {kind: _share(tx, query) for kind, query in _queries(actor.organization_id, project.id)}
    return Encryption(
        project_id=project.id,
        encrypt=data_keys.encrypts(tx, actor.organization_id, project.id),
        contents=contents,
        encrypted_bytes=sum(share.encrypted_bytes for share in contents.values()),
        plain_bytes=sum(share.plain_bytes for share in contents.values()),
        keys=_keys(tx, actor.organization_id, project.id),
    )


def _queries(organization_id: str, project_id: str) -> Iterator[tuple[str, Select[Any]]]:
    c, s, r, v, f = t.chunks.c, t.segments.c, t.rows.c, t.versions.c, t.files.c
    body = type_coerce(v.body, Text)
    parts = (
        ("history", c.organization_id, c.run_id, func.length(c.data), func.substr(c.data, 1, 1) == MARK),
        ("segments", s.organization_id, s.run_id, s.size, s.digest.like("key:%")),
        ("rows", r.organization_id, r.owner_id, r.size, func.substr(r.data, 1, 1) == MARK),
        ("bodies", v.organization_id, v.document_id, func.length(body), body.like(f'"{data_keys.TEXT_MARK}%')),
        ("files", f.organization_id, f.owner_id, f.size, f.digest.like("key:%")),
    )
    for kind, organization, owner, size, encrypted in parts:
        yield kind, _grouped(organization_id, project_id, organization, owner, size, encrypted)


def _grouped(
    organization_id: str,
    project_id: str,
    organization: Column[str],
    owner: Column[str],
    size: ColumnElement[int],
    encrypted: ColumnElement[bool],
) -> Any:
    i = t.items.c
    mine = and_(i.organization_id == organization, i.id == owner)
    here = (i.organization_id == organization_id, i.project_id == project_id)
    query = select(encrypted.label("encrypted"), func.sum(size)).select_from(t.items.join(owner.table, mine))
    found: Any = query.where(*here).group_by("encrypted")
    return found


def _share(tx: Tx, query: Select[Any]) -> Share:
    sizes = {bool(encrypted): int(size or 0) for encrypted, size in tx.execute(query)}
    return Share(encrypted_bytes=sizes.get(True, 0), plain_bytes=sizes.get(False, 0))


def _keys(tx: Tx, organization_id: str, project_id: str) -> int:
    k, i = t.data_keys.c, t.items.c
    joined = t.data_keys.join(t.items, and_(i.organization_id == k.organization_id, i.id == k.owner_id))
    query = select(func.count()).select_from(joined).where(k.organization_id == organization_id, k.wrapped.is_not(None))
    return int(tx.execute(query.where(or_(i.project_id == project_id, i.id == project_id))).scalar_one())
