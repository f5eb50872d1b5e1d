"""What can be asked about proofs: receipts, signing keys, checkpoints and the export of the audit trail."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from labkeep.core.commands import Command, Moment, Paged
from labkeep.core.ids import Id


class ListReceipts(Paged, frozen=True, kw_only=True):
    """Receipts of the workspace, newest first; ``subject_id`` keeps those about one deletion or erasure request."""

    kind: str = ""
    subject_id: Id | None = None


class ListCheckpoints(Paged, frozen=True, kw_only=True):
    """Signed checkpoints of the audit trail, newest first."""


class ExportAudit(Command, frozen=True, kw_only=True):
    """Events of the organization's chain in order: those after number ``after``, from ``since`` on, before ``until``."""

    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    since: Moment | None = None
    until: Moment | None = None
    limit: Annotated[int, Meta(ge=1, le=5000)] = 1000


class ListDeletedObjects(Paged, frozen=True, kw_only=True):
    """Every object of every deletion that was made from ``since`` on and before ``until``, by deletion and id."""

    since: Moment | None = None
    until: Moment | None = None


class DeletedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a deletion, in full: what the trail says of a whole deletion in one event, object by object."""

    deletion_id: str
    id: str
    kind: str
    outcome: str
    """trashed, restored, purged; or kept: a purge had committed to it, and left it to a deletion of its own."""
    name: str = ""
    name_digest: str = ""
    """SHA-256 of the name, once purged."""
    status: str = ""
    """A run's own status; of what is in the trash or purged, the one that it had."""
    state_before: str
    created_by: str = ""
    created_at: datetime
    trashed_by: str
    trashed_at: datetime
    reason: str = ""
    ticket: str = ""
    purged_by: str = ""
    purged_at: datetime | None = None
    """When its deletion was purged and checked."""
    objects: int
    """How many objects its deletion had."""
