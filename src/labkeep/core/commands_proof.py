"""What can be asked about proofs: receipts, signing keys, checkpoints and the export of the audit trail."""

from __future__ import annotations

from typing import Annotated

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
