"""Data keys in SQL: one for each run, document and project that has encrypted contents, and one for each encrypted blob.

A key lies in the database wrapped by a master key that does not. Destroying it overwrites the wrapped form; the row
stays, and says when. An owner has one key at a time.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from sqlalchemy import RowMapping, and_, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from labkeep.core import rules
from labkeep.core.entities import Json
from labkeep.core.errors import Corrupt, Gone, Invalid, Unavailable
from labkeep.storage import tables as t
from labkeep.storage.blobs import KeyMade
from labkeep.storage.cipher import MARK, Cipher, new_key
from labkeep.storage.master_key import MasterKey
from labkeep.storage.transaction import Tx

BATCH = 500
"""Keys in one statement."""

TEXT_MARK = "labkeep:encrypted:"
"""What the JSON text begins with that stands in the place of an encrypted JSON object."""

_k = t.data_keys.c


# --- where encryption is asked for ------------------------------------------------------------------------------------


def encrypts(tx: Tx, organization_id: str, project_id: str | None) -> bool:
    """Whether what is written into the project now is to be encrypted."""
    if project_id is None:
        return False
    known = tx.vault.encrypting.get(project_id)
    if known is None:
        known = _asks(tx, organization_id, project_id)
        tx.vault.encrypting.put(project_id, known)
    return known


def _asks(tx: Tx, organization_id: str, project_id: str) -> bool:
    i, p, w, o = t.items.c, t.projects.c, t.workspaces.c, t.organizations.c
    joined = (
        t.projects.join(t.items, and_(i.organization_id == p.organization_id, i.id == p.id))
        .join(t.workspaces, and_(w.organization_id == i.organization_id, w.id == i.workspace_id))
        .join(t.organizations, o.id == p.organization_id)
    )
    query = select(o.settings, w.settings, p.settings).select_from(joined)
    found = tx.execute(query.where(p.organization_id == organization_id, p.id == project_id)).first()
    return found is not None and rules.combine(rules.read(level) for level in found).encrypt


def has_any(tx: Tx, organization_id: str) -> bool:
    """Whether the organization encrypts something, or ever did."""
    known = tx.vault.encrypting.get(organization_id)
    if known is None:
        known = _has_any(tx, organization_id)
        tx.vault.encrypting.put(organization_id, known)
    return known


def _has_keys(tx: Tx, organization_id: str) -> bool:
    """As it is now, and not as it is remembered: before something is destroyed."""
    query = select(_k.id).where(_k.organization_id == organization_id).limit(1)
    return tx.execute(query).first() is not None


def _has_any(tx: Tx, organization_id: str) -> bool:
    if _has_keys(tx, organization_id):
        return True
    w, o = t.workspaces.c, t.organizations.c
    levels = [*tx.execute(select(o.settings).where(o.id == organization_id))]
    levels += tx.execute(select(w.settings).where(w.organization_id == organization_id))
    return any(rules.read(settings).encrypt for (settings,) in levels)


def turn(tx: Tx, organization_id: str, project_id: str | None, before: Json, after: Json) -> None:
    """Settings change. Invalid when they ask for encryption from now on, and the server has no master key."""
    tx.vault.encrypting.clear()
    if not rules.read(after).encrypt or rules.read(before).encrypt:
        return
    if tx.master is None:
        raise Invalid(
            "encrypt needs a master key, and the server has none: make one with `labkeep keygen master --out master.key`, "
            "set master_key_file to it, start the server again, and keep a copy elsewhere: without the master key "
            "everything that is encrypted is lost",
            path="settings.encrypt",
        )
    if project_id is not None:
        require(tx, organization_id, project_id)


# --- keys -------------------------------------------------------------------------------------------------------------

_COLUMNS = (_k.id, _k.owner_id, _k.wrapped, _k.master)
_LIVE = select(*_COLUMNS).where(
    _k.organization_id == bindparam("organization"), _k.owner_id == bindparam("owner"), _k.destroyed_at.is_(None)
)


def _context(organization_id: str, key_id: str) -> str:
    return f"data key {key_id} of organization {organization_id}"


def find(tx: Tx, organization_id: str, owner_id: str) -> Cipher | None:
    """The key of an owner; None when it has none. Unavailable without the master key, Corrupt when it does not open."""
    known = tx.vault.ciphers.get((organization_id, owner_id)) or tx.keys_made.get(owner_id)
    if known is not None:
        return known
    row = tx.execute(_LIVE, {"organization": organization_id, "owner": owner_id}).mappings().first()
    if row is None:
        return None
    cipher = unwrap(tx, organization_id, row)
    tx.vault.ciphers.put((organization_id, owner_id), cipher)
    return cipher


def unwrap(tx: Tx, organization_id: str, row: RowMapping | Mapping[str, Any]) -> Cipher:
    """The key of a row of the table."""
    if row["wrapped"] is None:
        raise Corrupt(f"data key {row['id']} has no content and was not destroyed; run `labkeep check`", key=row["id"])
    own = tx.master
    master = own if own is not None and own.id == row["master"] else tx.vault.master(row["master"])
    return Cipher(row["id"], master.unwrap(row["wrapped"], _context(organization_id, row["id"])))


def get(tx: Tx, organization_id: str, owner_id: str) -> Cipher:
    """The key with which something of the owner was encrypted. Gone when it was destroyed, Corrupt when it is lost."""
    found = find(tx, organization_id, owner_id)
    if found is not None:
        return found
    query = select(_k.id, _k.destroyed_at).where(_k.organization_id == organization_id, _k.owner_id == owner_id)
    row = tx.execute(query.order_by(_k.destroyed_at.desc()).limit(1)).first()
    if row is None:
        raise Corrupt(f"the data key of {owner_id} is missing; run `labkeep check`", owner=owner_id)
    raise Gone(f"data key {row[0]} was destroyed at {row[1].isoformat()}: what it encrypted cannot be read", key=row[0])


def require(tx: Tx, organization_id: str, owner_id: str) -> Cipher:
    """The key of an owner, made now when it has none. Only in a transaction that writes."""
    found = find(tx, organization_id, owner_id)
    if found is None:
        tx.execute(_make(tx.database), _row(tx, organization_id, str(uuid4()), owner_id, new_key()))
        row = tx.execute(_LIVE, {"organization": organization_id, "owner": owner_id}).mappings().one()
        # Only this transaction may use it before it is committed.
        found = tx.keys_made[owner_id] = unwrap(tx, organization_id, row)
    return found


def _make(database: str) -> Any:
    statement: Any = (postgresql.insert if database == "postgresql" else sqlite.insert)(t.data_keys)
    # Somebody else may make it at this moment; theirs is as good.
    return statement.on_conflict_do_nothing()


def _row(tx: Tx, organization_id: str, id: str, owner_id: str, secret: bytes) -> dict[str, Any]:
    master = wrapping_key(tx)
    return {
        "organization_id": organization_id,
        "id": id,
        "owner_id": owner_id,
        "wrapped": master.wrap(secret, _context(organization_id, id)),
        "master": master.id,
        "created_at": tx.now,
        "destroyed_at": None,
    }


def wrapping_key(tx: Tx) -> MasterKey:
    """The master key for new keys. Unavailable when the settings give none."""
    if tx.master is None:
        raise Unavailable(
            "this project encrypts its contents, and the server has no master key: set master_key_file to the file that "
            "holds it, and start again"
        )
    return tx.master


# --- values -----------------------------------------------------------------------------------------------------------


class Box:
    """Closes and opens the values of one owner. Where nothing asks for encryption they stay as they are.

    ``what`` names the column and the place in it; a value opens only there.
    """

    __slots__ = ("_organization_id", "_owner_id", "_project_id", "_tx")

    def __init__(self, tx: Tx, organization_id: str, owner_id: str, project_id: str | None) -> None:
        self._tx = tx
        self._organization_id, self._owner_id, self._project_id = organization_id, owner_id, project_id

    @property
    def closes(self) -> bool:
        """Whether what is written now is to be encrypted. What is nobody's but the organization's is, once anything is."""
        if self._owner_id == self._organization_id:
            return has_any(self._tx, self._organization_id)
        return encrypts(self._tx, self._organization_id, self._project_id)

    def close(self, value: bytes, what: str) -> bytes:
        """``value`` as it is stored. Only in a transaction that writes."""
        if not self.closes:
            return value
        return require(self._tx, self._organization_id, self._owner_id).close(value, self._bound(what))

    def open(self, stored: bytes, what: str) -> bytes:
        """The value. Unavailable without its master key, Gone without its key, Corrupt when it was changed."""
        if stored[:1] != MARK:
            return stored
        return get(self._tx, self._organization_id, self._owner_id).open(stored, self._bound(what))

    def close_json(self, value: Any, what: str) -> Any:
        """A JSON object as it is stored."""
        if not self.closes:
            return value
        return TEXT_MARK + b64encode(self.close(msgspec.json.encode(value), what)).decode()

    def open_json(self, stored: Any, what: str) -> Any:
        """The JSON object."""
        if not isinstance(stored, str) or not stored.startswith(TEXT_MARK):
            return stored
        return msgspec.json.decode(self.open(b64decode(stored[len(TEXT_MARK) :]), what))

    def _bound(self, what: str) -> bytes:
        return f"{self._organization_id}\0{self._owner_id}\0{what}".encode()


def answers_of(tx: Tx, organization_id: str) -> Box:
    """What closes and opens answers to requests that may be sent twice: they may quote any content."""
    return Box(tx, organization_id, organization_id, None)


def place_of_row(id: str) -> str:
    """What the data of a row is bound to beside its owner."""
    return f"row {id}"


def place_of_body(number: int) -> str:
    """What the body of a version is bound to beside its document."""
    return f"body {number}"


# --- blobs ------------------------------------------------------------------------------------------------------------


class Fresh(NamedTuple):
    """A key for one upload: at work, and as the database will keep it."""

    cipher: Cipher
    made: KeyMade


def fresh(tx: Tx, organization_id: str, project_id: str) -> Fresh:
    """A key for one upload into a project. Nothing is written: it is kept when the upload is registered."""
    secret = new_key()
    row = _row(tx, organization_id, str(uuid4()), "", secret)
    return Fresh(Cipher(row["id"], secret), KeyMade(row["id"], project_id, row["wrapped"], row["master"]))


def keep(tx: Tx, organization_id: str, made: KeyMade) -> None:
    """Keep the key of an upload."""
    row = {"organization_id": organization_id, "id": made.id, "owner_id": made.id, "wrapped": made.wrapped}
    tx.execute(insert(t.data_keys), {**row, "master": made.master, "created_at": tx.now, "destroyed_at": None})


def fingerprints(tx: Tx, organization_id: str, project_id: str, digests: Iterable[str]) -> dict[bytes, str]:
    """What contents are found by within a project: HMAC-SHA-256 of their digests under its key -> digest.

    Nothing when the project has no key, and so no encrypted blob, yet.
    """
    cipher = find(tx, organization_id, project_id)
    return {} if cipher is None else {fingerprint(cipher, digest): digest for digest in digests}


def fingerprint(project: Cipher, digest: str) -> bytes:
    """What a content is found by within the project that has this key."""
    return hmac.digest(project.secret, b"blob\0" + digest.encode(), hashlib.sha256)


# --- another master key -----------------------------------------------------------------------------------------------


def rewrap(tx: Tx, old: MasterKey, new: MasterKey, limit: int) -> int:
    """Wrap the next keys of all organizations anew; answers how many. 0 when no key needs the old one any more."""
    query = select(_k.organization_id, *_COLUMNS).where(_k.master == old.id, _k.wrapped.is_not(None)).limit(limit)
    rows = tx.all(query.with_for_update())
    for row in rows:
        context = _context(row["organization_id"], row["id"])
        same = (_k.organization_id == row["organization_id"], _k.id == row["id"])
        wrapped = new.wrap(old.unwrap(row["wrapped"], context), context)
        tx.execute(update(t.data_keys).where(*same).values(wrapped=wrapped, master=new.id))
    return len(rows)


def rewrap_secrets(tx: Tx, old: MasterKey, new: MasterKey) -> int:
    """The same for the private parts of signing keys and the secrets of webhooks, all at once."""
    count = 0
    for column, what in ((t.signing_keys.c.private, "signing key"), (t.webhooks.c.secret, "webhook")):
        table = column.table
        for row in tx.all(select(table.c.id, column).with_for_update()):
            wrapped = _rewrapped(bytes(row[column.name]), f"{what} {row['id']}", old, new)
            if wrapped is not None:
                count += 1
                tx.execute(update(table).where(table.c.id == row["id"]).values({column.name: wrapped}))
    return count


def _rewrapped(stored: bytes, context: str, old: MasterKey, new: MasterKey) -> bytes | None:
    if stored[:1] == b"\0":  # was never wrapped
        return None
    try:
        return new.wrap(old.unwrap(stored, context), context)
    except Corrupt:
        new.unwrap(stored, context)  # is wrapped anew already, or by neither
        return None


def count_of_master(tx: Tx) -> dict[str, int]:
    """How many keys need which master key."""
    query = select(_k.master, func.count()).where(_k.wrapped.is_not(None)).group_by(_k.master)
    return {row[0]: int(row[1]) for row in tx.execute(query)}


# --- destroying -------------------------------------------------------------------------------------------------------


def destroy(tx: Tx, organization_id: str, key_ids: Sequence[str]) -> int:
    """Destroy keys; answers how many were there. What is destroyed already stays so."""
    gone = {"wrapped": None, "destroyed_at": tx.now}
    count = 0
    for start in range(0, len(key_ids), BATCH):
        part = key_ids[start : start + BATCH]
        live = (_k.organization_id == organization_id, _k.id.in_(part), _k.destroyed_at.is_(None))
        owners = [row[0] for row in tx.execute(select(_k.owner_id).where(*live))]
        count += tx.execute(update(t.data_keys).where(*live).values(gone)).rowcount if owners else 0
        tx.vault.ciphers.forget((organization_id, owner) for owner in owners)
    return count


def count_destroyed(tx: Tx, organization_id: str, deletion_id: str) -> int:
    """Keys of members of a deletion that are destroyed."""
    if not _has_keys(tx, organization_id):
        return 0
    m = t.deletion_members.c
    held = and_(m.organization_id == _k.organization_id, m.item_id == _k.owner_id, m.deletion_id == deletion_id)
    query = select(func.count()).select_from(t.data_keys.join(t.deletion_members, held))
    mine = (_k.organization_id == organization_id, m.outcome != "kept", _k.wrapped.is_(None))
    return int(tx.execute(query.where(*mine)).scalar_one())


def destroy_of(tx: Tx, organization_id: str, owner_ids: Sequence[str]) -> int:
    """Destroy the keys of what is removed for good in this transaction; answers how many there were."""
    if not owner_ids or not _has_keys(tx, organization_id):
        return 0
    live = (_k.organization_id == organization_id, _k.owner_id.in_(owner_ids), _k.destroyed_at.is_(None))
    return destroy(tx, organization_id, [row[0] for row in tx.execute(select(_k.id).where(*live))])


def destroyed_of(tx: Tx, organization_id: str, deletion_id: str, after: str | None, limit: int) -> list[str]:
    """The next keys, in order, of what was purged with a deletion: all of them are destroyed."""
    if not _has_keys(tx, organization_id):
        return []
    m = t.deletion_members.c
    held = and_(m.organization_id == _k.organization_id, m.item_id == _k.owner_id, m.deletion_id == deletion_id)
    query = select(_k.id).select_from(t.data_keys.join(t.deletion_members, held))
    mine = [_k.organization_id == organization_id, m.outcome == "purged", _k.wrapped.is_(None)]
    if after is not None:
        mine.append(_k.id > after)
    return [row[0] for row in tx.execute(query.where(*mine).order_by(_k.id).limit(limit))]


def of_answers(tx: Tx, organization_id: str) -> list[str]:
    """The key of stored answers, while there is one."""
    mine = (_k.organization_id == organization_id, _k.owner_id == organization_id, _k.destroyed_at.is_(None))
    return [row[0] for row in tx.execute(select(_k.id).where(*mine))]
