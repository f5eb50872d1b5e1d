"""Receipts: issued in the transaction that makes them true, listed, and the keys that sign them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select

from labkeep import __version__
from labkeep.core.access import SERVER_SCOPE, Actor, require
from labkeep.core.commands import Get, Nothing, Page
from labkeep.core.commands_proof import ListReceipts
from labkeep.core.entities import Json
from labkeep.core.errors import Forbidden, NotFound
from labkeep.core.ids import is_id
from labkeep.core.receipts import TYPE, KeySet, PublicKey, Receipt
from labkeep.storage import signing
from labkeep.storage import tables as t
from labkeep.storage.pages import page
from labkeep.storage.transaction import Tx

KINDS = ("purge", "erasure")
"""What there are receipts for."""


def issue(tx: Tx, actor: Actor, kind: str, subject_id: str, body: Json) -> Receipt:
    """Sign ``body`` and store it as the receipt about ``subject_id``: a deletion, or an erasure request.

    ``body`` holds ids, counts, digests and exact words, never content: texts, whole numbers, flags, lists and objects
    with ASCII keys (Invalid otherwise). What every receipt says of itself is put around it. Called in the transaction
    that makes it true, so that there is one receipt exactly where the deed is done; a second call about the same
    subject answers the first one.
    """
    assert kind in KINDS, kind
    found = _about(tx, actor, kind, subject_id)
    if found is not None:
        return found
    key = signing.signer(tx)
    receipt_id = tx.new_id()
    full = _frame(tx, actor, receipt_id, kind, subject_id, key.id) | body
    receipt = Receipt(
        id=receipt_id,
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        kind=kind,
        subject_id=subject_id,
        body=full,
        signing_key_id=key.id,
        signature=key.sign(full),
        created_at=tx.now,
    )
    tx.insert(t.receipts, [{name: getattr(receipt, name) for name in Receipt.__struct_fields__}])
    tx.audit(actor, "receipt.issued", receipt_id, receipt_kind=kind, about=subject_id, signing_key_id=key.id)
    return receipt


def _frame(tx: Tx, actor: Actor, id: str, kind: str, subject_id: str, key_id: str) -> Json:
    h = t.audit_heads.c
    head = tx.one(select(h.seq, h.hash).where(h.organization_id == actor.organization_id))
    return {
        "type": TYPE,
        "id": id,
        "kind": kind,
        "organization_id": actor.organization_id,
        "workspace_id": actor.workspace_id,
        "subject_id": subject_id,
        "issued_at": tx.now.isoformat(),
        "key_id": key_id,
        "issuer": {"software": "labkeep", "version": __version__, "server": tx.site},
        # Where the audit trail stood: whoever holds this receipt can tell if what came before is changed later.
        "audit": {"seq": head["seq"] if head else 0, "hash": head["hash"] if head else ""},
    }


def _select(actor: Actor) -> Select[Any]:
    c = t.receipts.c
    mine = (c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id)
    return select(*(c[name] for name in Receipt.__struct_fields__)).where(*mine)


def _about(tx: Tx, actor: Actor, kind: str, subject_id: str) -> Receipt | None:
    c = t.receipts.c
    found = tx.one(_select(actor).where(c.subject_id == subject_id, c.kind == kind).order_by(c.id).limit(1))
    return None if found is None else Receipt(**found)


def list_(tx: Tx, actor: Actor, command: ListReceipts) -> Page[Receipt]:
    """Receipts of the workspace, newest first."""
    require(actor, "receipt.read")
    query = _select(actor)
    if command.kind:
        query = query.where(t.receipts.c.kind == command.kind)
    if command.subject_id is not None:
        query = query.where(t.receipts.c.subject_id == command.subject_id)
    return page(tx, query, t.receipts.c.id, command, Receipt)


def get(tx: Tx, actor: Actor, command: Get) -> Receipt:
    """One receipt."""
    require(actor, "receipt.read")
    found = tx.one(_select(actor).where(t.receipts.c.id == command.id)) if is_id(command.id) else None
    if found is None:
        raise NotFound(f"receipt {command.id[:80]} not found")
    return Receipt(**found)


def of_deletion(tx: Tx, actor: Actor, command: Get) -> Receipt:
    """The receipt of a purged deletion. NotFound, saying where the deletion stands, while there is none."""
    require(actor, "receipt.read")
    found = _about(tx, actor, "purge", command.id) if is_id(command.id) else None
    if found is not None:
        return found
    d = t.deletions.c
    mine = (d.organization_id == actor.organization_id, d.workspace_id == actor.workspace_id, d.id == command.id)
    deletion = tx.one(select(d.state).where(*mine)) if is_id(command.id) else None
    if deletion is None:
        raise NotFound(f"deletion {command.id[:80]} not found")
    raise NotFound(
        f"deletion {command.id} is {deletion['state']}: it has no receipt. A receipt is issued when a purge is verified",
        state=deletion["state"],
    )


# --- keys -------------------------------------------------------------------------------------------------------------


def keys(tx: Tx, _actor: Actor, _command: Nothing) -> KeySet:
    """The server's public keys, for everybody."""
    return KeySet(signing.public_keys(tx))


def rotate(tx: Tx, actor: Actor, _command: Nothing) -> PublicKey:
    """Put a new signing key into use. The old ones stay, and verify what they signed."""
    require(actor, "signing_key.write")
    if SERVER_SCOPE not in actor.scopes:
        raise Forbidden(
            f"the signing key belongs to the whole server: this needs a key with the scope {SERVER_SCOPE!r}",
            permission=SERVER_SCOPE,
        )
    made = signing.rotate(tx)
    tx.audit(actor, "signing_key.rotated", made.kid)
    return made


def ensure_key(tx: Tx, _actor: Actor, _command: None) -> None:
    """Have a signing key, so that its public part can be had before the first receipt."""
    signing.ensure(tx)
