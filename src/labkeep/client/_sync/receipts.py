# Generated from labkeep/client/_async/receipts.py by scripts/unasync.py: change that file instead.
"""Receipts of what was purged or erased, and the keys that verify them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from labkeep.client import requests, signatures
from labkeep.client._sync.connection import Connection, Pages
from labkeep.core.receipts import KeySet, PublicKey, Receipt, Verdict, to_file


class Receipts:
    """``client.receipts``: signed proofs of what is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        kind: str | None = None,
        subject_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pages[Receipt]:
        """Receipts, newest first; ``kind`` is ``purge`` or ``erasure``, ``subject_id`` what it is about."""
        return self._connection.pages(Receipt, requests.path("/receipts"), **requests.given(locals()))

    def get(self, id: str, *, include: str | None = None) -> Receipt:
        """One receipt."""
        return self._connection.read(Receipt, requests.path("/receipts/{id}", id=id), include=include)

    def of_deletion(self, id: str, *, include: str | None = None) -> Receipt:
        """The receipt of a purged deletion. NotFound while it is not purged."""
        return self._connection.read(Receipt, requests.path("/deletions/{id}/receipt", id=id), include=include)

    def save(self, id: str, path: str | os.PathLike[str]) -> Receipt:
        """Write the receipt into a file that anybody can verify, and answer it."""
        found = self.get(id)
        Path(path).write_bytes(to_file(found))
        return found

    def keys(self) -> KeySet:
        """The server's public keys, the newest first. Anybody may have them: ``/.well-known/labkeep-keys.json``."""
        return self._connection.read(KeySet, requests.path("/signing-keys"))

    def rotate_key(self) -> PublicKey:
        """Put a new signing key into use; the others go on verifying what they signed. For the administrator's key."""
        return self._connection.write(PublicKey, "POST", requests.path("/signing-keys/rotate"), {})

    def verify(self, file: bytes | str | os.PathLike[str], *, keys: Sequence[PublicKey] | None = None) -> Verdict:
        """Whether a receipt file (its bytes, or its path) is whole and signed by one of ``keys``.

        Without ``keys``, by one of the server's. Nothing else is asked of the server. Unavailable when the package
        ``cryptography`` is not installed.
        """
        data = file if isinstance(file, bytes) else Path(file).read_bytes()
        known = (self.keys()).keys if keys is None else keys
        return signatures.examine(data, known)
