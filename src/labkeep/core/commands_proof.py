"""What can be asked about proofs: receipts, signing keys, checkpoints and the export of the audit trail."""

from __future__ import annotations

from labkeep.core.commands import Paged
from labkeep.core.ids import Id


class ListReceipts(Paged, frozen=True, kw_only=True):
    """Receipts of the workspace, newest first; ``subject_id`` keeps those about one deletion or erasure request."""

    kind: str = ""
    subject_id: Id | None = None
