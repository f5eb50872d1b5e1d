"""Blobs as rows: who refers to which bytes, so that what nobody refers to can be swept.

An upload is first *registered*, with no references; a file or a segment then *refers* to it. While the bytes of an
unreferenced blob are being removed (``swept_at``) it can be neither registered nor referred to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Executable, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from labkeep.core.access import Actor
from labkeep.core.errors import NotFound, Unavailable
from labkeep.storage import data_keys
from labkeep.storage import tables as t
from labkeep.storage.blobs import KeyMade, Stored
from labkeep.storage.transaction import Tx

T = TypeVar("T")

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


def register_encrypted(tx: Tx, actor: Actor, stored: Stored, key: KeyMade) -> str:
    """As `register`, for an encrypted upload. Answers the name under which its project has the content: another one
    when it had it before, and then the upload can go."""
    row = {
        "organization_id": actor.organization_id,
        "digest": stored.name,
        "size": stored.size,
        "refs": 0,
        "swept_at": None,
        "created_at": tx.now,
        "fingerprint": data_keys.fingerprint(
            data_keys.require(tx, actor.organization_id, key.project_id), stored.digest
        ),
    }
    found = tx.execute(_register_encrypted(tx.database), row).first()
    if found is None:  # the older copy is being removed: it is not found any more
        b = t.blobs.c
        older = (b.organization_id == actor.organization_id, b.fingerprint == row["fingerprint"])
        tx.execute(update(t.blobs).where(*older, b.swept_at.is_not(None)).values(fingerprint=None))
        found = tx.execute(_register_encrypted(tx.database), row).one()
    if found[0] == stored.name:
        data_keys.keep(tx, actor.organization_id, key)
    return str(found[0])


@cache
def _register_encrypted(database: str) -> Executable:
    statement: Any = (postgresql.insert if database == "postgresql" else sqlite.insert)(t.blobs)
    upserted: Executable = statement.on_conflict_do_update(
        index_elements=["organization_id", "fingerprint"],
        index_where=t.blobs.c.fingerprint.is_not(None),
        set_={"created_at": statement.excluded.created_at},
        where=t.blobs.c.swept_at.is_(None),
    ).returning(t.blobs.c.digest)
    return upserted


def names(tx: Tx, actor: Actor, project_id: str | None, digests: Iterable[str]) -> dict[str, str]:
    """What blobs are called by their digests, in this project: the digests themselves, unless it encrypts.

    NotFound when it does and one of them is not in this project, whoever else may have it.
    """
    wanted = sorted(set(digests))
    if project_id is None or not data_keys.encrypts(tx, actor.organization_id, project_id):
        return dict(zip(wanted, wanted, strict=True))
    found = find_encrypted(tx, actor, project_id, wanted)
    if missing := [digest for digest in wanted if digest not in found]:
        raise NotFound(
            f"blob {missing[0]} is not in this project, which keeps its contents encrypted and apart from others: upload "
            f"it with PUT /blobs?project={project_id} first",
            digests=missing[:SHOWN],
        )
    return found


def find_encrypted(tx: Tx, actor: Actor, project_id: str, digests: Sequence[str]) -> dict[str, str]:
    """Names of the encrypted blobs of a project by the digests of their contents; those that are there."""
    b = t.blobs.c
    marks = data_keys.fingerprints(tx, actor.organization_id, project_id, digests)
    found: dict[str, str] = {}
    for part in _parts(marks):
        query = select(b.fingerprint, b.digest).where(
            b.organization_id == actor.organization_id, b.fingerprint.in_(part), b.swept_at.is_(None)
        )
        found.update((marks[bytes(mark)], name) for mark, name in tx.execute(query))
    return found


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


def _parts(values: Iterable[T]) -> Iterator[Sequence[T]]:
    known = list(values)
    for start in range(0, len(known), BATCH):
        yield known[start : start + BATCH]
