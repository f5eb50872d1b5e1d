"""Reading every store again after a purge: each table for each object, and the blob store for each blob."""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from labkeep.core.access import Actor
from labkeep.core.errors import NotFound
from labkeep.operations import Store, encryption, purges
from labkeep.operations.purge_statement import SHOWN_IDS, Verified
from labkeep.storage.blobs import key_of_name
from labkeep.storage.purge import HeldBlob
from labkeep.worker.jobs import Progress

ASKING = 16
"""Blobs that the blob store is asked for at the same time."""


def read_again(store: Store, actor: Actor, look: purges.Look, progress: Progress) -> Verified:
    """What is still there of a purge, in steps; in memory are only counts, a running digest and the first ids."""
    return _blobs(store, actor, look, progress, _rows(store, actor, look, progress))


def _rows(store: Store, actor: Actor, look: purges.Look, progress: Progress) -> Verified:
    counts: Counter[str] = Counter()
    left: Counter[str] = Counter()
    ids: list[str] = []
    digest = hashlib.sha256()
    while True:
        members = store.database.read(purges.look, actor, look)
        if not members.found:
            break
        for id, kind in members.found:
            digest.update(f"{kind} {id}\n".encode())
            counts[kind] += 1
        ids += [id for id, _ in members.found[: SHOWN_IDS - len(ids)]]
        left.update(members.left)
        look = replace(look, after=members.found[-1][0])
        progress.keep()
    return Verified(
        deletion_id=look.deletion_id,
        items=counts.total(),
        counts=dict(sorted(counts.items())),
        item_ids=ids,
        items_digest=digest.hexdigest(),
        rows_left=dict(left),
        method={},
    )


def read_blobs(store: Store, actor: Actor, look: purges.Look, progress: Progress) -> Verified:
    """What is still there of the blobs of a purge, whatever it purged beside them."""
    nothing = Verified(
        deletion_id=look.deletion_id, items=0, counts={}, item_ids=[], items_digest="", rows_left={}, method={}
    )
    return _blobs(store, actor, look, progress, nothing)


def _blobs(store: Store, actor: Actor, look: purges.Look, progress: Progress, verified: Verified) -> Verified:
    removed = kept = left = freed = keys = 0
    look = replace(look, after=None)

    def is_there(blob: HeldBlob) -> bool:
        try:
            store.blobs.size(actor.organization_id, blob.digest)
        except NotFound:
            return False
        return True

    with ThreadPoolExecutor(ASKING, thread_name_prefix="labkeep-evidence") as pool:
        while held := store.database.read(purges.held_blobs, actor, look):
            going = [blob for blob in held if not blob.kept]
            gone = [blob for blob, there in zip(going, pool.map(is_there, going), strict=True) if not there]
            kept, removed, left = kept + len(held) - len(going), removed + len(gone), left + len(going) - len(gone)
            freed += sum(blob.size for blob in gone)
            keys += sum(key_of_name(blob.digest) is not None for blob in gone)
            look = replace(look, after=held[-1].digest)
            progress.keep()
    keys += store.database.read(encryption.count_destroyed, actor, encryption.OfDeletion(look.deletion_id))
    found = replace(verified, blobs_removed=removed, blobs_kept=kept, blobs_left=left, freed_bytes=freed)
    return replace(found, keys_destroyed=keys)
