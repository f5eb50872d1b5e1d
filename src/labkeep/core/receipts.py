"""Receipts: signed statements of what is gone, and how anybody checks one without us. Pure.

What is signed is the canonical JSON of a body: RFC 8785, where only texts, whole numbers, flags, null, lists and objects
with ASCII keys occur. Every body says in ``type`` what it is, so that a signature under one thing never fits another.
A receipt file is the canonical JSON of ``body``, ``key_id`` and ``signature``, and a newline.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from labkeep.core.entities import Entity, Json
from labkeep.core.errors import Invalid

TYPE = "labkeep.receipt/1"
"""What the body of a receipt says that it is."""

MAX_FILE_BYTES = 16 * 1024 * 1024

LEEWAY = timedelta(seconds=60)
"""How far the clocks of two processes of one server may be apart."""

_LARGEST = 2**53
_encoder = msgspec.json.Encoder(order="deterministic")

Verify = Callable[[bytes, bytes, bytes], bool]
"""``(public key, signature, data)`` → whether the signature is that key's over exactly these bytes: Ed25519."""


class Receipt(Entity, frozen=True, kw_only=True):
    """A signed proof of what is gone. ``body`` is what was signed."""

    workspace_id: str
    kind: str
    """purge or erasure."""
    subject_id: str
    """The deletion or the erasure request that it is about."""
    body: Json
    signing_key_id: str
    signature: str
    """Ed25519 over the canonical JSON of ``body``, in base64."""


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """One of the server's keys, in the form of a JSON Web Key (RFC 8037), and when it was in use."""

    kid: str
    x: str
    """32 bytes in base64url without padding."""
    kty: str = "OKP"
    crv: str = "Ed25519"
    alg: str = "EdDSA"
    use: str = "sig"
    created_at: datetime
    retired_at: datetime | None = None


class KeySet(msgspec.Struct, frozen=True):
    """All keys of a server, the newest first: what ``/.well-known/labkeep-keys.json`` answers."""

    keys: list[PublicKey]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What checking a receipt came to. ``body`` is what it says, to be believed only when it is ``valid``."""

    valid: bool
    problems: list[str]
    key_id: str = ""
    key_state: str = "unknown"
    """current, retired or unknown."""
    body: Json = {}


def canonical(value: Any) -> bytes:
    """``value`` as canonical JSON. Invalid for what has more than one form there: fractions, huge numbers, odd keys."""
    _check_plain(value)
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        raise Invalid("a text is not valid Unicode") from None


def _check_plain(value: Any) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if abs(value) > _LARGEST:
            raise Invalid("a number is too large for canonical JSON")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not (isinstance(key, str) and key.isascii()):
                raise Invalid("a key is not ASCII")
            _check_plain(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_plain(inner)
    else:
        raise Invalid(f"a {type(value).__name__} has no canonical form")


def to_file(receipt: Receipt) -> bytes:
    """The receipt as it is handed to others."""
    return canonical({"body": receipt.body, "key_id": receipt.signing_key_id, "signature": receipt.signature}) + b"\n"


def parse_keys(data: bytes) -> list[PublicKey]:
    """The keys of a key file. Invalid when it is none."""
    try:
        return msgspec.json.decode(data, type=KeySet).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            f"this is not a key file ({error}): get one with `labkeep receipt keys --save FILE`", path="keys"
        ) from error


def examine(data: bytes, keys: Sequence[PublicKey], verify: Verify) -> Verdict:
    """Whether ``data`` is a receipt file, unchanged to the last byte, that one of ``keys`` signed."""
    try:
        body, key_id, signature = _parse(data)
    except Invalid as error:
        return Verdict(valid=False, problems=[error.message])
    key = next((key for key in keys if key.kid == key_id), None)
    if key is None:
        problem = f"key {key_id} is not among the {len(keys)} keys that were given: ask the server for its keys"
        return Verdict(valid=False, problems=[problem], key_id=key_id, body=body)
    problems = _problems(body, key, signature, verify)
    state = "current" if key.retired_at is None else "retired"
    return Verdict(valid=not problems, problems=problems, key_id=key_id, key_state=state, body=body)


def _parse(data: bytes) -> tuple[Json, str, bytes]:
    if len(data) > MAX_FILE_BYTES:
        raise Invalid("the file is too large for a receipt")
    try:
        found = msgspec.json.decode(data)
        exact = canonical(found) + b"\n" if data.endswith(b"\n") else canonical(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Invalid) as error:
        raise Invalid(f"the file is not a receipt: {getattr(error, 'message', error)}") from None
    if not (isinstance(found, dict) and found.keys() == {"body", "key_id", "signature"}):
        raise Invalid("the file is not a receipt: it needs body, key_id and signature, and nothing else")
    if exact != data:
        raise Invalid(
            "the file is not as it was issued: a receipt is one line of canonical JSON; "
            "if a program only laid it out anew, `jq -cS . FILE` undoes that"
        )
    body, key_id, signature = found["body"], found["key_id"], found["signature"]
    if not (isinstance(body, dict) and isinstance(key_id, str) and isinstance(signature, str)):
        raise Invalid("the file is not a receipt: body must be an object, key_id and signature texts")
    return body, key_id, signature_bytes(signature)


def signature_bytes(text: str) -> bytes:
    """The 64 bytes of a signature in base64. Invalid for any other spelling of them."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != 64 or base64.b64encode(found).decode() != text:
        raise Invalid("the signature is not 64 bytes in base64")
    return found


def key_bytes(key: PublicKey) -> bytes:
    """The 32 bytes of a public key. Invalid when it has another form or is of another kind."""
    try:
        found = base64.urlsafe_b64decode(key.x + "=" * (-len(key.x) % 4))
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != 32 or (key.kty, key.crv) != ("OKP", "Ed25519"):
        raise Invalid(f"key {key.kid} is not an Ed25519 key", path="keys")
    return found


def _problems(body: Json, key: PublicKey, signature: bytes, verify: Verify) -> list[str]:
    try:
        public = key_bytes(key)
    except Invalid as error:
        return [error.message]
    if not verify(public, signature, canonical(body)):
        return [f"the signature is not that of key {key.kid} over this body: one of them was changed"]
    found = []
    if body.get("type") != TYPE:
        found.append(f"what was signed is no receipt of a form that is known here ({body.get('type')})")
    if body.get("key_id") != key.kid:
        found.append("the body names another key than the one that signed it")
    return found + _untimely(body, key)


def _untimely(body: Json, key: PublicKey) -> list[str]:
    try:
        issued = msgspec.convert(body.get("issued_at"), datetime)
    except msgspec.ValidationError:
        return ["the body does not say when it was signed"]
    if issued.tzinfo is None:
        return ["the time of signing has no time zone"]
    if issued < key.created_at - LEEWAY:
        return [f"it says it was signed at {issued.isoformat()}, before key {key.kid} existed"]
    if key.retired_at is not None and issued > key.retired_at + LEEWAY:
        return [f"it says it was signed at {issued.isoformat()}, after key {key.kid} was retired"]
    return []
