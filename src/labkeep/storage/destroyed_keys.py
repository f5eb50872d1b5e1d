"""Which data keys were destroyed, noted beside the database: in the blob store, which no backup of the database holds.

A backup of the database brings wrapped keys back that were destroyed since. When a server starts, it destroys again
what is noted here. Notes are ids only, and are never removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from labkeep.core.errors import Corrupt
from labkeep.storage.blobs import Blobs

SPACE = "destroyed-keys"
"""The space of the blob store that holds the notes. It is no organization's."""


class Note(msgspec.Struct, frozen=True):
    """Keys of one organization that were destroyed together."""

    organization_id: str
    keys: list[str]


def note(blobs: Blobs, organization_id: str, keys: Sequence[str]) -> None:
    """Write down that these keys are destroyed; durable on return. The same again changes nothing."""
    blobs.put(SPACE, msgspec.json.encode(Note(organization_id, sorted(keys))))


def notes(blobs: Blobs) -> Iterator[Note]:
    """Everything that was written down."""
    for listed in blobs.list(SPACE):
        try:
            yield msgspec.json.decode(blobs.read_all(SPACE, listed.digest), type=Note)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"the note {listed.digest} of destroyed keys cannot be read: {error}") from error
