"""The master key: 32 bytes that never enter the database, under which the keys that do are wrapped.

AES-256-GCM. What is wrapped is bound to a context (a text such as ``signing key <id>``): unwrapped for another purpose,
or for another row, it is refused. A wrapped value is one byte of format, 12 bytes of nonce, the ciphertext and its tag.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from labkeep.core.errors import Corrupt, Invalid

KEY_BYTES = 32

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEX = re.compile(r"[0-9a-fA-F]{64}")


class MasterKey:
    """One master key. ``id`` names it without telling it: the first 16 hex digits of a digest over it."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise Invalid(f"a master key has {KEY_BYTES} bytes, not {len(secret)}", path="master_key")
        self.id = hashlib.sha256(b"labkeep master key\0" + secret).hexdigest()[:16]
        self._aead = AESGCM(secret)

    def wrap(self, plain: bytes, context: str) -> bytes:
        """``plain`` encrypted, for ``context`` only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._aead.encrypt(nonce, plain, context.encode())

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """What `wrap` was given. Corrupt when it was changed, or wrapped by another key or for another context."""
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        if wrapped[:1] == _FORMAT and len(sealed) >= _TAG_BYTES:
            try:
                return self._aead.decrypt(nonce, sealed, context.encode())
            except InvalidTag:
                pass
        raise Corrupt(
            f"the {context} cannot be unwrapped with master key {self.id}: it was wrapped by another one, or changed"
        )

    def __repr__(self) -> str:
        return f"MasterKey({self.id})"


def parse(text: str) -> MasterKey:
    """A key from 64 hex digits or from base64 (either alphabet, padding or not). Invalid for anything else."""
    compact = text.strip()
    if _HEX.fullmatch(compact):
        return MasterKey(bytes.fromhex(compact))
    plain = compact.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != KEY_BYTES:
        # Not one character of it is repeated: the message may end up in a log.
        raise Invalid(
            "the master key is not 32 bytes in base64 or hex; make one with: openssl rand -base64 32", path="master_key"
        )
    return MasterKey(found)


def load(text: str, file: str) -> MasterKey | None:
    """The key that the settings give: ``text`` itself, or the content of ``file``; None when both are empty.

    Invalid when the file cannot be read, or both are given and differ.
    """
    keys = [parse(text)] if text else []
    if file:
        try:
            keys.append(parse(Path(file).read_text(encoding="ascii")))
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"master_key_file {file} cannot be read: {error}", path="master_key_file") from error
    if len({key.id for key in keys}) > 1:
        raise Invalid("master_key and master_key_file hold different keys: set one of them", path="master_key")
    return keys[0] if keys else None
