"""Files as rows: whose path leads to which blob. A file tells the digest of its content, whatever its blob is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import func, select

from labkeep.core.entities import File
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

_f = t.files.c

COLUMNS = tuple(
    func.coalesce(_f.content, _f.digest).label("digest") if name == "digest" else _f[name]
    for name in File.__struct_fields__
)
"""What a `File` is made of, by the names of its fields."""


def row_of(organization_id: str, file: File, blob: str) -> dict[str, Any]:
    """A file as a row of the table. ``blob`` is the name of its blob: the digest, unless that is encrypted."""
    content = None if blob == file.digest else file.digest
    return {"organization_id": organization_id, **msgspec.structs.asdict(file), "digest": blob, "content": content}


def blobs_of(tx: Tx, organization_id: str, owner_id: str, paths: Sequence[str] | None = None) -> Mapping[str, str]:
    """Names of the blobs behind files, by path; all files of the owner when no paths are given."""
    query = select(_f.path, _f.digest).where(_f.organization_id == organization_id, _f.owner_id == owner_id)
    if paths is not None:
        query = query.where(_f.path.in_(paths))
    return {row[0]: row[1] for row in tx.execute(query)}
