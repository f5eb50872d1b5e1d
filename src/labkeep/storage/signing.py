"""The server's signing keys: Ed25519, made when first needed, kept in the database, wrapped when there is a master key.

One key is in use at a time. Others are retired: they sign nothing more, and go on verifying what they signed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, RowMapping, select, text, update

from labkeep.core.errors import Invalid, Unavailable
from labkeep.core.receipts import PublicKey, canonical, key_bytes, signature_bytes
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

_PLAIN = b"\x00"
"""First byte of a private part that is not wrapped."""

_KEY_LOCK = 7062
"""Advisory lock under which one process at a time makes a key."""


class Signer(NamedTuple):
    """The key in use."""

    id: str
    key: Ed25519PrivateKey

    def sign(self, body: Any) -> str:
        """Signature over the canonical JSON of ``body``, in base64. Invalid when it has no canonical form."""
        return base64.b64encode(self.key.sign(canonical(body))).decode()


def signer(tx: Tx) -> Signer:
    """The key in use, made now when there is none. Unavailable when it is wrapped and the master key is not there."""
    found = _current(tx) or _make(tx)
    return Signer(found["id"], Ed25519PrivateKey.from_private_bytes(_private(tx, found)))


def ensure(tx: Tx) -> None:
    """Have a key, and have it wrapped where there is a master key by now."""
    found = _current(tx) or _make(tx)
    if found["private"][:1] == _PLAIN and tx.master is not None:
        k = t.signing_keys.c
        wrapped = tx.master.wrap(found["private"][1:], _context(found["id"]))
        tx.execute(update(t.signing_keys).where(k.id == found["id"]).values(private=wrapped))


def rotate(tx: Tx) -> PublicKey:
    """Retire the key in use and make another one."""
    _lock(tx)
    k = t.signing_keys.c
    tx.execute(update(t.signing_keys).where(k.retired_at.is_(None)).values(retired_at=tx.now))
    return _public(_insert(tx))


def public_keys(tx: Tx) -> list[PublicKey]:
    """All keys, the newest first."""
    k = t.signing_keys.c
    query = select(k.id, k.public, k.created_at, k.retired_at).order_by(k.created_at.desc(), k.id.desc())
    return [_public(row) for row in tx.all(query)]


def keys_by_id(connection: Connection) -> dict[str, PublicKey]:
    """All keys by their ids."""
    k = t.signing_keys.c
    rows = connection.execute(select(k.id, k.public, k.created_at, k.retired_at)).mappings()
    return {row["id"]: _public(row) for row in rows}


def problem_with(keys: Mapping[str, PublicKey], key_id: str, signature: str, body: Any) -> str:
    """What is wrong with a signature over the canonical JSON of ``body``; empty when nothing is."""
    if key_id not in keys:
        return f"its key {key_id} is not one of this server's"
    try:
        fits = verify(key_bytes(keys[key_id]), signature_bytes(signature), canonical(body))
    except Invalid as error:
        return error.message
    return "" if fits else "its signature does not fit: it was changed"


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` is that of the key ``public`` over ``data``."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _current(tx: Tx) -> RowMapping | None:
    k = t.signing_keys.c
    query = select(t.signing_keys).where(k.retired_at.is_(None)).order_by(k.created_at.desc(), k.id.desc()).limit(1)
    # Nobody may retire it until what it signs is stored.
    return tx.one(query.with_for_update(read=True))


def _make(tx: Tx) -> RowMapping:
    _lock(tx)
    return _current(tx) or _insert(tx)


def _lock(tx: Tx) -> None:
    if tx.database == "postgresql":  # SQLite has one writer
        tx.execute(text(f"SELECT pg_advisory_xact_lock({_KEY_LOCK})"))


def _insert(tx: Tx) -> RowMapping:
    key, id = Ed25519PrivateKey.generate(), tx.new_id()
    secret = key.private_bytes_raw()
    private = _PLAIN + secret if tx.master is None else tx.master.wrap(secret, _context(id))
    row = {"id": id, "public": key.public_key().public_bytes_raw(), "private": private, "created_at": tx.now}
    tx.insert(t.signing_keys, [{**row, "retired_at": None}])
    found = tx.one(select(t.signing_keys).where(t.signing_keys.c.id == id))
    assert found is not None
    return found


def _private(tx: Tx, row: RowMapping) -> bytes:
    if row["private"][:1] == _PLAIN:
        return bytes(row["private"][1:])
    if tx.master is None:
        raise Unavailable(
            f"signing key {row['id']} is wrapped under a master key that this server does not have: set "
            "master_key_file or LABKEEP_MASTER_KEY, or make a new key with `labkeep receipt rotate-key`"
        )
    return tx.unwrap(bytes(row["private"]), _context(row["id"]))


def _context(id: str) -> str:
    return f"signing key {id}"


def _public(row: Any) -> PublicKey:
    return PublicKey(
        kid=row["id"],
        x=base64.urlsafe_b64encode(row["public"]).decode().rstrip("="),
        created_at=row["created_at"],
        retired_at=row["retired_at"],
    )
