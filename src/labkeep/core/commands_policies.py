"""Retention policies: what can be asked of them, and what is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from labkeep.core.commands import Command, Moment, Name, Paged, Ref
from labkeep.core.entities import Entity, Json
from labkeep.core.ids import Id

Every = Annotated[int, Meta(ge=60, le=366 * 86_400, description="Seconds; a minute to a year.")]

DAY_S = 86_400

Extent = Literal["organization", "workspace", "project"]


class Policy(Entity, frozen=True, kw_only=True):
    """A retention policy: what it says, where it holds and when it runs."""

    name: str
    """Unique within its scope."""
    scope: Extent
    workspace_id: str | None = None
    project_id: str | None = None
    body: Json
    """What it says: the fields of docs/retention.md."""
    sentence: str
    """The same in English."""
    enabled: bool
    """Whether it runs by itself, and whether what it keeps is kept from other policies."""
    every_s: int
    created_by: str
    updated_at: datetime
    last_run_at: datetime | None = None
    next_run_at: datetime | None = None
    overdue: bool = False
    """Whether it should have run by now and has not."""


class CreatePolicy(Command, frozen=True, kw_only=True):
    """A new policy. ``scope`` is the workspace unless it says otherwise, or a ``project`` is named.

    It first runs one interval after it was made, so that its first victims can be looked at.
    """

    name: Name
    body: Json
    scope: Extent | None = None
    project: Ref | None = None
    enabled: bool = True
    every_s: Every = DAY_S


class PutPolicy(CreatePolicy, frozen=True, kw_only=True):
    """Make the policy of this name in this scope be so: made, changed or left as it is. For policies kept in files."""

    dry_run: bool = False


class PutOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What putting a policy did, or would do."""

    policy: Policy
    change: Literal["created", "updated", "unchanged"]


class ListPolicies(Paged, frozen=True, kw_only=True):
    """Policies that hold in the workspace: its own, those of its projects, and those of the organization."""

    project: str = ""
    """Only those that hold in this project."""
    scope: str = ""
    name: str = ""


class UpdatePolicy(Command, frozen=True, kw_only=True):
    """Change a policy. ``body`` is replaced as a whole."""

    id: Id
    name: Name | UnsetType = UNSET
    body: Json | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    every_s: Every | UnsetType = UNSET


class RemovePolicy(Command, frozen=True, kw_only=True):
    """Take a policy away. What it did stays done, and its reports stay."""

    id: Id


class PreviewPolicy(Paged, frozen=True, kw_only=True):
    """Who would go. ``show`` is going, kept or all; ``at`` looks at a later moment, as if nothing changed until then."""

    id: Id
    show: Literal["going", "kept", "all"] = "going"
    at: Moment | None = None


class PreviewDraft(Paged, frozen=True, kw_only=True):
    """Who would go by a policy that is not stored."""

    body: Json
    project: Ref | None = None
    show: Literal["going", "kept", "all"] = "going"
    at: Moment | None = None


class Why(msgspec.Struct, frozen=True):
    """One reason: the field of the policy that says so (or held, locked, running), and why in words."""

    rule: str
    text: str


class PolicyDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one object, and why."""

    id: str
    kind: str
    type: str
    name: str
    project_id: str | None
    bytes: int
    created_at: datetime
    action: str
    reasons: list[Why]


class PolicyPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy would do. The counts are complete and come with the first page."""

    sentence: str
    at: datetime
    """The moment that was looked at."""
    runs_at: datetime | None
    """When it will run by itself."""
    items: list[PolicyDecision]
    next: str | None = None
    considered: int = 0
    """Objects that the conditions select."""
    counts: dict[str, dict[str, int]] = {}
    """By what becomes of them, and by kind."""
    bytes: int = 0
    """Bytes held by what goes."""
    takes_everything: bool = False
    """Whether all that it is about would go."""
    warnings: list[str] = []


class RunPolicy(Command, frozen=True, kw_only=True):
    """Run a policy now, whether it is enabled or not."""

    id: Id


class PolicyRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a policy under way: its job, and its report, which have one id."""

    policy_id: str
    job_id: str
    report_id: str


class ListReports(Paged, frozen=True, kw_only=True):
    """Reports of a policy, newest first."""

    id: Id


class PolicyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a policy did."""

    id: str
    policy_id: str
    state: str
    """running, done or failed."""
    counts: dict[str, dict[str, int]]
    """Objects by what became of them, and by kind."""
    body: Json
    """bytes, deletions, removals and jobs (ids), considered, kept, blocked with reasons (the first hundred), duration_s, note."""
    created_at: datetime
    finished_at: datetime | None = None


class ListLimits(Paged, frozen=True, kw_only=True):
    """The table of retention limits of the workspace."""


class RetentionLimit(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: which data are kept where and for how long, what happens then, and who says so."""

    category: str
    """Which data, in words."""
    where: str
    kept_for: str
    then: str
    purged_after: str
    """How long after that it is gone for good."""
    exceptions: str
    by: str
    """The policy; empty for what always holds."""
    policy_id: str = ""
    enabled: bool = True
    last_run_at: datetime | None = None
