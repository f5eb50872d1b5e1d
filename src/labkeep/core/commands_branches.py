"""Commands that begin a run with the history of another, or take a run back to an earlier step."""

from __future__ import annotations

from labkeep.core.commands import Command, Count, Name, Ref, Tags, Text
from labkeep.core.entities import Json
from labkeep.core.lifecycle import Status


class ForkRun(Command, frozen=True, kw_only=True):
    """Make a run that begins with the history of ``id`` up to and including ``step``; without a step, with all of it.

    Config, tags, group and job type are the base's unless given; ``config`` merges deeply over the base's. Without
    ``project`` the new run stands beside its base.
    """

    id: Ref
    step: Count | None = None
    project: Ref | None = None
    name: Name | None = None
    handle: Name | None = None
    status: Status = Status.running
    config: Json = {}
    tags: Tags | None = None
    notes: Text = ""


class RewindRun(Command, frozen=True, kw_only=True):
    """Take a run back to ``step``: what it logged after that is kept as a run of its own, in the archive."""

    id: Ref
    step: Count
    reason: Text = ""
