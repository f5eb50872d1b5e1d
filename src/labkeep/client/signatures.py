"""Checking signatures on the client's side. Needs the package ``cryptography``, which the base install does not have."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

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


WELL_KNOWN = "/.well-known/labkeep-keys.json"
"""Where a server shows its public keys to everybody."""

TIMEOUT_S = 30.0


def load_keys(source: str) -> list[PublicKey]:
    """The keys in a file, or at a URL: that of a key file, or of a server. Invalid when there are none in it."""
    if not source.startswith(("http://", "https://")):
        return receipts.parse_keys(Path(source).read_bytes())
    url = source if urlsplit(source).path.endswith(".json") else source.rstrip("/") + WELL_KNOWN
    try:
        answer = httpx2.get(url, timeout=TIMEOUT_S, follow_redirects=True)
    except httpx2.HTTPError as error:
        raise Unavailable(f"the keys at {url} cannot be had: {error}") from error
    if answer.status_code != httpx2.codes.OK:
        raise Unavailable(f"the keys at {url} cannot be had: the server answered {answer.status_code}")
    return receipts.parse_keys(answer.content)
