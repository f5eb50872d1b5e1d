"""The audit chain: each event's hash covers its content and the hash before it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from labkeep.core.entities import AuditEvent

GENESIS = "0" * 64
"""The hash before the first event."""

_encoder = msgspec.json.Encoder(order="deterministic")


def seal(event: AuditEvent) -> AuditEvent:
    """``event`` with its hash filled in. ``event.previous`` must be set."""
    return msgspec.structs.replace(event, hash=digest(event))


def digest(event: AuditEvent) -> str:
    """SHA-256, in hex, over the event's canonical JSON without its own hash."""
    content = msgspec.structs.asdict(event)
    del content["hash"]
    return hashlib.sha256(_encoder.encode(content)).hexdigest()


def first_break(events: Iterable[AuditEvent], previous: str = GENESIS, seq: int = 0) -> int | None:
    """The number of the first event that does not follow from the one before it; None when the chain holds.

    ``previous`` and ``seq`` are the hash and number just before the first event.
    """
    for event in events:
        if event.seq != seq + 1 or event.previous != previous or digest(event) != event.hash:
            return seq + 1
        previous, seq = event.hash, event.seq
    return None
