"""Named points between any two effects, where a test can make the process die. They cost nothing in life.

``LABKEEP_FAULT=purge.removed`` ends the process the first time it gets there; ``purge.removed:3`` the third time.
"""

from __future__ import annotations

import os

_POINT, _, _TIMES = os.environ.get("LABKEEP_FAULT", "").partition(":")
_seen = 0

POINTS = (
    "write.begun",
    "write.committed",
    "blob.written",
    "blob.renamed",
    "blob.registered",
    "seal.written",
    "seal.uploaded",
    "seal.committed",
    "keys.noted",
    "keys.destroyed",
    "keys.rewrapped",
    "purge.committed",
    "purge.left",
    "purge.removed",
    "purge.marked",
    "purge.swept",
    "purge.forgotten",
    "purge.reclaimed",
    "purge.read",
    "purge.verified",
    "policy.begun",
    "policy.applied",
    "policy.noted",
    "policy.finished",
    "apply.staged",
    "apply.accepted",
    "apply.moved",
    "apply.unstaged",
    "apply.closing",
    "apply.closed",
    "removal.rows_dropped",
    "removal.file_dropped",
    "removal.chunks_swapped",
    "removal.segment_written",
    "removal.segment_swapped",
    "removal.verified",
    "erasure.rows",
    "erasure.chunks",
    "erasure.segment",
    "erasure.file",
    "erasure.noted",
    "erasure.done",
    "job.claimed",
    "job.finished",
)
"""Every point, in the order of a life. Tests enumerate them."""


def reach(point: str) -> None:
    """Die here, without any clean-up, if that is what the environment asks for."""
    global _seen
    if point != _POINT:
        return
    assert point in POINTS, point
    _seen += 1
    if _seen >= int(_TIMES or 1):
        os._exit(137)
