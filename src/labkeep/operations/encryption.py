"""Encrypted projects: turning it on, destroying keys, changing the master key, and how much is not encrypted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from labkeep.core.access import Actor
from labkeep.core.faults import reach
from labkeep.operations import Store, purges
from labkeep.storage import data_keys, destroyed_keys
from labkeep.storage.blobs import key_of_name
from labkeep.storage.cipher import Cipher
from labkeep.storage.database import Database
from labkeep.storage.master_key import MasterKey
from labkeep.storage.transaction import Tx

# --- reading ----------------------------------------------------------------------------------------------------------


def cipher_of_blob(database: Database, organization_id: str, key_id: str) -> Cipher:
    """The key of an encrypted blob. Blocks: for threads. Errors as `data_keys.get`."""
    known = database.vault.ciphers.get((organization_id, key_id))
    return known or database.read(_get_key, purges.system(organization_id, ""), key_id)


def _get_key(tx: Tx, actor: Actor, key_id: str) -> Cipher:
    return data_keys.get(tx, actor.organization_id, key_id)


# --- destroying -------------------------------------------------------------------------------------------------------


class Destroy(msgspec.Struct, frozen=True):
    """Keys to destroy, by id."""

    keys: Sequence[str]


def destroy(store: Store, actor: Actor, keys: Sequence[str]) -> int:
    """Destroy keys for good: noted beside the database first, then overwritten in it. Answers how many were there.

    May be killed anywhere and run again.
    """
    if not keys:
        return 0
    destroyed_keys.note(store.blobs, actor.organization_id, keys)
    reach("keys.noted")
    count = store.database.write(destroy_rows, actor, Destroy(keys))
    reach("keys.destroyed")
    return count


def destroy_of_blobs(store: Store, actor: Actor, names: Iterable[str]) -> int:
    """Destroy the keys of blobs that are being removed, before their bytes are."""
    return destroy(store, actor, [key for name in names if (key := key_of_name(name)) is not None])


def destroy_rows(tx: Tx, actor: Actor, command: Destroy) -> int:
    """Overwrite keys in the database."""
    return data_keys.destroy(tx, actor.organization_id, command.keys)


class OfDeletion(msgspec.Struct, frozen=True):
    """Which deletion."""

    deletion_id: str


def count_destroyed(tx: Tx, actor: Actor, command: OfDeletion) -> int:
    """How many keys of the members of a deletion are destroyed."""
    return data_keys.count_destroyed(tx, actor.organization_id, command.deletion_id)


class After(NamedTuple):
    """Where to go on among the keys of a deletion."""

    deletion_id: str
    key: str | None


def destroyed_after(tx: Tx, actor: Actor, at: After) -> list[str]:
    """The next keys of what was purged with a deletion."""
    return data_keys.destroyed_of(tx, actor.organization_id, at.deletion_id, at.key, data_keys.BATCH)


def key_of_answers(tx: Tx, actor: Actor, _command: None) -> list[str]:
    """The key of stored answers, while there is one."""
    return data_keys.of_answers(tx, actor.organization_id)


def finish_for(store: Store, actor: Actor, deletion_id: str) -> None:
    """After a purge has removed its members, and destroyed their keys with them: note that beside the database, and
    destroy the key of stored answers, which may quote them. May be killed anywhere and run again."""
    at = After(deletion_id, None)
    while keys := store.database.read(destroyed_after, actor, at):
        destroyed_keys.note(store.blobs, actor.organization_id, keys)
        reach("keys.noted")
        at = After(deletion_id, keys[-1])
    destroy(store, actor, store.database.read(key_of_answers, actor, None))


def replay(store: Store) -> int:
    """Destroy again what a backup of the database brought back; answers how many keys that were."""
    count = 0
    for note in destroyed_keys.notes(store.blobs):
        count += store.database.write(destroy_rows, purges.system(note.organization_id, ""), Destroy(note.keys))
    return count


# --- another master key -----------------------------------------------------------------------------------------------


class Rewrap(NamedTuple):
    """From one master key to another."""

    old: MasterKey
    new: MasterKey


class Rewrapped(msgspec.Struct, frozen=True):
    """What changing the master key did: how many secrets are wrapped anew, and how many still need which other key."""

    data_keys: int
    secrets: int
    others: dict[str, int]


def rewrap(store: Store, old: MasterKey, new: MasterKey) -> Rewrapped:
    """Wrap all data keys and secrets of the store anew. May be killed anywhere and run again, and beside servers that
    have both keys. Afterwards nothing of the old wrapping is left in the database."""
    command, count = Rewrap(old, new), 0
    while some := store.database.write(_rewrap_some, _NOBODY, command):
        count += some
        reach("keys.rewrapped")
    secrets = store.database.write(_rewrap_secrets, _NOBODY, command)
    store.database.reclaim().result()
    by_master = store.database.read(_by_master, _NOBODY, None)
    return Rewrapped(count, secrets, {id: number for id, number in by_master.items() if id != new.id})


_NOBODY = purges.system("00000000-0000-7000-8000-000000000000", "")


def _rewrap_some(tx: Tx, _actor: Actor, command: Rewrap) -> int:
    return data_keys.rewrap(tx, command.old, command.new, data_keys.BATCH)


def _rewrap_secrets(tx: Tx, _actor: Actor, command: Rewrap) -> int:
    return data_keys.rewrap_secrets(tx, command.old, command.new)


def _by_master(tx: Tx, _actor: Actor, _command: None) -> dict[str, int]:
    return data_keys.count_of_master(tx)
