"""What can be asked about plans that were made."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from labkeep.core.commands import Command, Paged, Text
from labkeep.core.ids import Id


class ListPlans(Paged, frozen=True, kw_only=True):
    """Plans of the workspace, newest first. They are kept for a week, and until the next purge."""


class DiffPlans(Command, frozen=True, kw_only=True):
    """What sets the plan ``id`` apart from the plan ``other``, which came later or asks for something else."""

    id: Id
    other: Id


class Undo(Command, frozen=True, kw_only=True):
    """Take back what an answer's ``undo`` names: a trash, an archive, an unarchive or a restore."""

    token: Annotated[str, Meta(min_length=1, max_length=500)]
    reason: Text = ""
