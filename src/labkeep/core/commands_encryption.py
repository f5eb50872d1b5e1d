"""Commands about the encryption of projects."""

from __future__ import annotations

import msgspec

from labkeep.core.commands import Command, Ref


class GetEncryption(Command, frozen=True, kw_only=True):
    """How much of a project is encrypted."""

    id: Ref


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of one kind: how many bytes are stored encrypted, and how many in the clear."""

    encrypted_bytes: int = 0
    plain_bytes: int = 0


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """What a project asks for, and what of it is so. Content that several share counts for each of them."""

    project_id: str
    encrypt: bool
    """Whether what is written now is encrypted."""
    contents: dict[str, Share]
    """By kind: history, segments, rows, bodies, files."""
    encrypted_bytes: int
    plain_bytes: int
    keys: int
    """Keys of runs, documents and of the project itself; blobs have their own."""
