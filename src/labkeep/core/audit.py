"""The audit chain: each event's hash covers its content and the hash before it. Pure.

The hash of an event is SHA-256 over its canonical JSON: its fields but the hash itself, in alphabetical order. Whole
batches are hashed at once, which is several times faster than event by event; the form is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from labkeep.core.entities import AuditEvent, Json

GENESIS = "0" * 64
"""The hash before the first event."""

CHECKPOINT = "labkeep.checkpoint/1"
"""What the body of a checkpoint says that it is."""

BATCH = 128
"""Events hashed at once: few enough to stay in the processor's cache."""


class Content(msgspec.Struct, frozen=True, gc=False):
    """What the hash of an event covers, in the order of the canonical form."""

    actor: str
    at: datetime
    client: str
    count: int
    deletion_id: str
    details: Json
    event: str
    key_id: str
    previous: str
    reason: str
    request_id: str
    seq: int
    subject_id: str
    ticket: str
    workspace_id: str


CONTENT: tuple[str, ...] = Content.__struct_fields__
_PREVIOUS, _SEQ = CONTENT.index("previous"), CONTENT.index("seq")

_stored = attrgetter(*CONTENT, "hash")
_encoder = msgspec.json.Encoder(order="deterministic")
_sha256 = hashlib.sha256


class Link(NamedTuple):
    """A place in a chain: the number and the hash of an event. Before the first event: 0 and `GENESIS`."""

    seq: int
    hash: str


START = Link(0, GENESIS)

UNREADABLE = object()
"""Stands for what was stored and is no value of its column. An event with it follows from nothing."""

Columns = Sequence[Sequence[Any]]
"""Events by columns: those of `CONTENT` in this order, and the hash."""


def seal(event: AuditEvent) -> AuditEvent:
    """``event`` with its hash filled in. ``event.previous`` must be set."""
    return msgspec.structs.replace(event, hash=digest(event))


def digest(event: AuditEvent) -> str:
    """SHA-256, in hex, over the event's canonical JSON without its own hash."""
    return _sha256(_encoder.encode(Content(*_stored(event)[:-1]))).hexdigest()


def follow(link: Link, columns: Columns) -> tuple[Link, int | None]:
    """Go along the chain from ``link``: where that ends, and the number of the first event that does not follow."""
    hashes = list(columns[-1])
    found = _digests(columns[:-1])
    expected = range(link.seq + 1, link.seq + 1 + len(hashes))
    before = [link.hash, *hashes[:-1]]
    if found == hashes and list(columns[_PREVIOUS]) == before and list(columns[_SEQ]) == list(expected):
        return Link(link.seq + len(hashes), hashes[-1]), None
    checks = zip(expected, columns[_SEQ], found, hashes, columns[_PREVIOUS], before, strict=True)
    return next((Link(n - 1, b), n) for n, seq, f, h, p, b in checks if (seq, f, p) != (n, h, b))


def _digests(content: Columns) -> list[str | None]:
    """The hash of each event; None for one that has no canonical form."""
    text = bytearray()  # one for all of them: making 500 bytes anew takes half as long as hashing them
    found: list[str | None] = []
    encode_into, sha256 = _encoder.encode_into, _sha256
    for event in map(Content, *content):
        try:
            encode_into(event, text)
            found.append(sha256(text).hexdigest())
        except (TypeError, ValueError, OverflowError, RecursionError):
            found.append(None)
    return found


def first_break(events: Iterable[AuditEvent], previous: str = GENESIS, seq: int = 0) -> int | None:
    """The number of the first event that does not follow from the one before it; None when the chain holds.

    ``previous`` and ``seq`` are the hash and number just before the first event.
    """
    link = Link(seq, previous)
    for batch in _parts(events):
        link, broken = follow(link, columns_of(batch))
        if broken is not None:
            return broken
    return None


def columns_of(events: Sequence[AuditEvent]) -> Columns:
    """Events by columns."""
    return list(zip(*map(_stored, events), strict=True))


def _parts(events: Iterable[AuditEvent]) -> Iterator[list[AuditEvent]]:
    part: list[AuditEvent] = []
    for event in events:
        part.append(event)
        if len(part) == BATCH:
            yield part
            part = []
    if part:
        yield part


# --- checkpoints ------------------------------------------------------------------------------------------------------


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A signed place in the chain of an organization: what was there at that time cannot be made otherwise later."""

    organization_id: str
    seq: int
    hash: str
    signing_key_id: str
    signature: str
    created_at: datetime


def checkpoint_body(checkpoint: Checkpoint) -> Json:
    """What is signed, as canonical JSON."""
    return {
        "type": CHECKPOINT,
        "organization_id": checkpoint.organization_id,
        "seq": checkpoint.seq,
        "hash": checkpoint.hash,
        "at": checkpoint.created_at.isoformat(),
        "key_id": checkpoint.signing_key_id,
    }
