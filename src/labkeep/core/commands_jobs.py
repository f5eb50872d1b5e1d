"""What can be asked of background jobs."""

from __future__ import annotations

import msgspec

from labkeep.core.commands import Command, Paged, Rate
from labkeep.core.ids import Id


class ControlJob(Command, frozen=True, kw_only=True):
    """Pause or cancel a job: who started it may, and maintainers."""

    id: Id


class ResumeJob(ControlJob, frozen=True, kw_only=True):
    """Let a job go on, one that failed included. ``rate`` limits it to so many objects a second from now on."""

    rate: Rate | None = None


class SetRate(ControlJob, frozen=True, kw_only=True):
    """Limit a job to ``rate`` objects a second; null lets it go as fast as it can."""

    rate: Rate | None


class ListJobItems(Paged, frozen=True, kw_only=True):
    """What a job did not do, object by object: ``outcome`` is already, blocked or stale."""

    id: Id
    outcome: str = ""


class JobItem(msgspec.Struct, frozen=True, kw_only=True):
    """One object that a job left as it was, and why."""

    item_id: str
    outcome: str
    """already, blocked or stale."""
    reason: str = ""
