"""Blobs as rows: who refers to which bytes, so that what nobody refers to can be swept.

An upload is first *registered*, with no references; a file or a segment then *refers* to it. While the bytes of an
unreferenced blob are being removed (``swept_at``) it can be neither registered nor referred to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Executable, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from labkeep.core.access import Actor
from labkeep.core.errors import NotFound, Unavailable
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

BATCH = 500
"""Digests looked up in one statement."""

SHOWN = 100
"""Missing digests that an error lists."""


def register(tx: Tx, actor: Actor, digest: str, size: int) -> None:
    """Note that the bytes of ``digest`` were uploaded just now. Unavailable while an older copy is being removed."""
    row = {
        "organization_id": actor.organization_id,
        "digest": digest,
        "size": size,
        "refs": 0,
        "swept_at": None,
        "created_at": tx.now,
    }
    if tx.execute(_register(tx.database), row).rowcount == 0:
        raise _removed(digest)


@cache
def _register(database: str) -> Executable:
    statement: Any = (postgresql.insert if database == "postgresql" else sqlite.insert)(t.blobs)
    upserted: Executable = statement.on_conflict_do_update(
        index_elements=["organization_id", "digest"],
        set_={"created_at": statement.excluded.created_at},  # the sweep spares what was uploaded lately
        where=t.blobs.c.swept_at.is_(None),
    )
    return upserted.execution_options(preserve_rowcount=True)


def find(tx: Tx, actor: Actor, digest: str) -> int | None:
    """The size of a blob that can be referred to; None when there is none."""
    return sizes(tx, actor, [digest]).get(digest)


def sizes(tx: Tx, actor: Actor, digests: Iterable[str]) -> dict[str, int]:
    """Sizes of those blobs that can be referred to, by digest."""
    return _sizes(tx, actor, sorted(set(digests)))


def refer(tx: Tx, actor: Actor, digest: str, count: int = 1) -> int:
    """Add ``count`` references; answers the blob's size. NotFound before it was uploaded, Unavailable while it is removed."""
    return refer_all(tx, actor, {digest: count})[digest]


def refer_all(tx: Tx, actor: Actor, counts: Mapping[str, int]) -> dict[str, int]:
    """Add references to many blobs, or to none of them; answers their sizes. Errors as `refer`."""
    sizes = _sizes(tx, actor, sorted(counts), lock=True)
    missing = [digest for digest in counts if digest not in sizes]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise NotFound(f"blob {missing[0]} is not here{more}: upload it first", digests=missing[:SHOWN])
    _add(tx, actor.organization_id, counts)
    return sizes


def release(tx: Tx, organization_id: str, counts: Mapping[str, int]) -> None:
    """Take references away. What has none left is swept later."""
    _add(tx, organization_id, {digest: -count for digest, count in counts.items()})


def _sizes(tx: Tx, actor: Actor, digests: Sequence[str], *, lock: bool = False) -> dict[str, int]:
    """Sizes of the blobs that are known, by digest. With ``lock`` they stay, and Unavailable for one that is going."""
    found: dict[str, int] = {}
    b = t.blobs.c
    for part in _parts(digests):
        query = select(b.digest, b.size, b.swept_at).where(
            b.organization_id == actor.organization_id, b.digest.in_(part)
        )
        for digest, size, swept_at in tx.execute(query.with_for_update() if lock else query):
            if swept_at is None:
                found[digest] = size
            elif lock:
                raise _removed(digest)
    return found


_CHANGE = (
    update(t.blobs)
    .where(t.blobs.c.organization_id == bindparam("organization"), t.blobs.c.digest == bindparam("which"))
    .values(refs=t.blobs.c.refs + bindparam("more"))
)


def _add(tx: Tx, organization_id: str, counts: Mapping[str, int]) -> None:
    # In one order, so that two transactions never wait for each other.
    rows = [{"organization": organization_id, "which": digest, "more": n} for digest, n in sorted(counts.items()) if n]
    if rows:
        tx.execute(_CHANGE, rows)


def _removed(digest: str) -> Unavailable:
    return Unavailable(f"blob {digest} is being removed just now: upload it again in a moment", digest=digest)


def _parts(values: Iterable[str]) -> Iterator[Sequence[str]]:
    known = list(values)
    for start in range(0, len(known), BATCH):
        yield known[start : start + BATCH]
