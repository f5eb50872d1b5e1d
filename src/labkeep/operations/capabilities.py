"""Links that work without a key: each is good for one path of one object, until it expires or its maker's key ends.

A capability is signed with the stored digest of the key it was made with, so no further secret has to be kept, any
server process can check it, and revoking the key takes its links away.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Literal, NamedTuple

import msgspec
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.errors import Unauthenticated
from labkeep.core.ids import is_id
from labkeep.operations.accounts import Credentials, authenticate
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

Action = Literal["get", "put"]

LIFETIME_S = 24 * 3600
"""How long a link works: longer than the longest retries of clients that upload at the end of a long run."""

_SIGNATURE_BYTES = 24


class Capability(msgspec.Struct, frozen=True, array_like=True):
    """What a link is good for. ``owner`` is an object's id, ``purpose`` says more where an owner has several doors."""

    action: Action
    owner: str
    path: str
    purpose: str = ""


class Sign(msgspec.Struct, frozen=True):
    """Links to make, in order."""

    wanted: list[Capability]
    lifetime_s: int = LIFETIME_S


class _Signed(msgspec.Struct, frozen=True, array_like=True):
    organization_id: str
    key_id: str
    workspace_id: str
    expires: int
    capability: Capability


class Redeemed(NamedTuple):
    """Who made a link, with today's rights, and what it is good for."""

    actor: Actor
    capability: Capability


def sign(tx: Tx, actor: Actor, command: Sign) -> list[str]:
    """A token for each capability. What it may be used for is decided when it is redeemed."""
    digest = _digest(tx, actor.organization_id, actor.key_id)
    expires = int(tx.now.timestamp()) + command.lifetime_s
    who = (actor.organization_id, actor.key_id, actor.workspace_id)
    return [_token(digest, _Signed(*who, expires, each)) for each in command.wanted]


def redeem(tx: Tx, nobody: Actor, token: str) -> Redeemed:
    """Who a token speaks for, and what for. Unauthenticated for a forged, expired or revoked one."""
    signed, body, signature = _parse(token)
    digest = _digest(tx, signed.organization_id, signed.key_id)
    if not hmac.compare_digest(_signature(digest, body), signature):
        raise _refused()
    if signed.expires < tx.now.timestamp():
        raise Unauthenticated("the link has expired: ask for a new one")
    actor = authenticate(tx, nobody, Credentials(digest=digest, workspace=signed.workspace_id))
    return Redeemed(actor, signed.capability)


def _digest(tx: Tx, organization_id: str, key_id: str) -> bytes:
    if not (is_id(organization_id) and is_id(key_id)):
        raise _refused()
    keys = t.api_keys.c
    found = tx.one(select(keys.digest).where(keys.organization_id == organization_id, keys.id == key_id))
    if found is None:
        raise _refused()
    return bytes(found["digest"])


def _token(digest: bytes, signed: _Signed) -> str:
    body = msgspec.msgpack.encode(signed)
    return _text(_signature(digest, body) + body)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _parse(token: str) -> tuple[_Signed, bytes, bytes]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        if _text(raw) != token:  # bits that base64 does not look at
            raise _refused()
        body = raw[_SIGNATURE_BYTES:]
        return msgspec.msgpack.decode(body, type=_Signed), body, raw[:_SIGNATURE_BYTES]
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise _refused() from error


def _signature(digest: bytes, body: bytes) -> bytes:
    return hmac.digest(digest, b"labkeep capability\0" + body, "sha256")[:_SIGNATURE_BYTES]


def _refused() -> Unauthenticated:
    return Unauthenticated("the link is not one that this server made")
