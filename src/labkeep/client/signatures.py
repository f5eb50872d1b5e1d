"""Checking signatures on the client's side. Needs the package ``cryptography``, which the base install does not have."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from labkeep.core import receipts
from labkeep.core.errors import Unavailable
from labkeep.core.receipts import PublicKey, Verdict, Verify


def verifier() -> Verify:
    """What checks an Ed25519 signature. Unavailable, saying what to install, where nothing can."""
    try:
        ed25519 = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
        refusal = importlib.import_module("cryptography.exceptions").InvalidSignature
    except ModuleNotFoundError as error:
        raise Unavailable(
            "verifying a signature needs the package cryptography: pip install cryptography (or 'labkeep[server]')",
            missing="cryptography",
        ) from error

    def verify(public: bytes, signature: bytes, data: bytes) -> bool:
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
        except refusal:
            return False
        return True

    return verify


def examine(data: bytes, keys: Sequence[PublicKey]) -> Verdict:
    """Whether ``data`` is a receipt file, unchanged, that one of ``keys`` signed."""
    return receipts.examine(data, keys, verifier())
