"""The nouns, as frozen values. One Struct is one row of storage and one object on the native wire.

Times are aware UTC, sizes are bytes, ids are UUIDs. ``state`` is where an object stands in its lifecycle
(`labkeep.core.lifecycle`); ``version`` counts its edits and is what plans are checked against.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from labkeep.core.lifecycle import Kind, OnDelete, Role, State, Status

Json = dict[str, Any]


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever belongs to one organization."""

    id: str
    organization_id: str
    created_at: datetime


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant. Nothing is ever visible across organizations."""

    id: str
    name: str
    created_at: datetime


class Workspace(Entity, frozen=True, kw_only=True):
    """A room of an organization with its own members and projects."""

    name: str


class Member(Entity, frozen=True, kw_only=True):
    """A user's role in one workspace."""

    workspace_id: str
    user: str
    role: Role


class ApiKey(Entity, frozen=True, kw_only=True):
    """A key of a user. The secret itself is shown once and kept only as its SHA-256."""

    workspace_id: str
    user: str
    role: Role
    agent: bool = False
    scopes: tuple[str, ...] = ()
    name: str = ""
    hint: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    suspended_at: datetime | None = None
    """When an agent's key was stopped because it trashed too much at once; None while it works."""
    daily_trash: int | None = None
    """Objects that an agent may trash in 24 hours; None for the server's setting."""


class Item(Entity, frozen=True, kw_only=True):
    """What every object with a lifecycle has."""

    kind: Kind
    workspace_id: str
    parent_id: str
    project_id: str | None = None
    type: str = ""
    name: str
    handle: str | None = None
    """Unique among live siblings of one kind and type; freed by trash. Names of runs need not be unique."""
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: Json = {}
    extra: Json = {}
    """What only one dialect knows, kept and returned verbatim."""
    dialect: str = "native"
    state: State = State.active
    locked: bool = False
    deletion_id: str | None = None
    version: int = 1
    bytes: int = 0
    created_by: str = ""
    updated_at: datetime


class Project(Item, frozen=True, kw_only=True):
    """A container of runs, documents and artifacts. Its ``parent_id`` is its workspace."""

    settings: Json = {}


class Run(Item, frozen=True, kw_only=True):
    """One execution."""

    status: Status = Status.running
    config: Json = {}
    summary: Json = {}
    notes: str = ""
    group: str = ""
    job_type: str = ""
    base_run_id: str | None = None
    document_id: str | None = None
    """The experiment or eval that this run is one execution of."""
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    heartbeat_at: datetime | None = None


class Document(Item, frozen=True, kw_only=True):
    """A definition with immutable versions; ``type`` says of what: experiment, dataset, prompt, …"""

    status: str = ""
    latest: int = 0
    """Number of the newest version; 0 before the first."""


class Version(Entity, frozen=True, kw_only=True):
    """One immutable version of a document; ``digest`` is over its canonical body."""

    document_id: str
    number: int
    digest: str
    body: Json = {}
    parent: int | None = None
    message: str = ""
    author: str = ""


class Artifact(Item, frozen=True, kw_only=True):
    """A collection of artifact versions under one name; ``type`` is the collection's type (model, dataset, …)."""

    latest: int = 0


class ArtifactVersion(Item, frozen=True, kw_only=True):
    """One immutable set of files. ``name`` is ``v0``, ``v1`` …; its ``parent_id`` is the artifact."""

    number: int
    digest: str
    run_id: str | None = None
    aliases: tuple[str, ...] = ()


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A path of a run, document or artifact version, and the blob behind it."""

    owner_id: str
    path: str
    digest: str
    size: int
    media_type: str = "application/octet-stream"
    created_at: datetime


class Environment(Entity, frozen=True, kw_only=True):
    """A name in a project that is bound to one version of one document."""

    workspace_id: str
    project_id: str
    name: str
    document_id: str | None = None
    number: int | None = None
    bound_by: str = ""
    updated_at: datetime


class Link(Entity, frozen=True, kw_only=True):
    """A typed edge: ``source`` depends on ``target``; ``on_delete`` says what trashing the target does."""

    source_id: str
    target_id: str
    type: str
    on_delete: OnDelete


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a run or document at one transaction: an eval row, span, result or dataset item."""

    id: str
    xact: int
    root_id: str
    """Rows of one trace share it; a row without a trace is its own root."""
    data: Json
    created_at: datetime
    position: int
    """Place of the row's trace in the owner, newest highest."""


NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""How numbers that JSON does not have are written in it."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one key of a run's history without reading it. Values are as logged, NaN included.

    JSON has no NaN and no infinities: there they are the texts that `NOT_FINITE` lists, and numbers again once decoded.
    """

    stream: str
    key: str
    count: int
    first: Any = None
    last: Any = None
    min: float | str | None = None
    max: float | str | None = None
    last_step: int | None = None

    def __post_init__(self) -> None:
        for name in ("first", "min", "max", "last"):
            text = getattr(self, name)
            # The last value may be text itself; of a series of numbers it is a number.
            if text in NOT_FINITE and isinstance(text, str) and (name != "last" or self.min is not None):
                msgspec.structs.force_setattr(self, name, float(text))


class Deletion(Entity, frozen=True, kw_only=True):
    """The record of one trash: what went, who, why, and how to take it back."""

    workspace_id: str
    project_id: str | None = None
    state: str
    """applying, trashed, restored, purging, purged; cancelled when nothing went."""
    actor: str
    key_id: str
    client: str = ""
    reason: str = ""
    ticket: str = ""
    plan_hash: str
    counts: dict[str, int] = {}
    """Items by kind."""
    bytes: int = 0
    restorable_until: datetime
    purged_at: datetime | None = None
    purged_by: str = ""
    restored_at: datetime | None = None
    archive: str = ""
    """Digest of the archive that was exported, and verified, before any of it went."""
    commitment: str = ""
    """SHA-256 over what was to be purged, stored before the first byte went."""
    verification: Json = {}
    """What the purge found when it read every store again."""
    purge_requested_by: str = ""
    """Who asked for the purge first, where two persons must agree; in parentheses when that was no person."""
    purge_requested_at: datetime | None = None


class DeletionMember(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a deletion, with what it was before."""

    deletion_id: str
    item_id: str
    kind: Kind
    previous_state: State
    outcome: str = "trashed"
    """trashed, restored, purged; or kept: a purge had committed to it, and left it to a deletion of its own."""


class Hold(Entity, frozen=True, kw_only=True):
    """A legal hold: what it covers cannot be removed by anybody until it is lifted.

    It names objects by id, or has a standing query over one ``kind`` that also covers what comes later.
    """

    workspace_id: str
    matter: str
    custodian: str = ""
    reason: str = ""
    kind: str = ""
    """Of what the standing query looks for; empty when it names objects."""
    q: str = ""
    project_id: str | None = None
    state: str = "active"
    """active or lifted."""
    created_by: str = ""
    lifted_by: str = ""
    lift_reason: str = ""
    lifted_at: datetime | None = None


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One link of the organization's audit chain. Holds ids, counts and digests, never content."""

    seq: int
    at: datetime
    event: str
    """``<kind>.<participle>``: ``run.trashed``."""
    actor: str
    key_id: str
    client: str = ""
    request_id: str = ""
    workspace_id: str = ""
    subject_id: str = ""
    deletion_id: str = ""
    count: int = 1
    reason: str = ""
    ticket: str = ""
    details: Json = {}
    previous: str
    hash: str


class Job(Entity, frozen=True, kw_only=True):
    """Work that runs after the transaction that caused it. A lease that runs out is taken over.

    ``result`` holds what it came to so far: counts, ``speed`` (objects a second) and, in the end, what was freed.
    """

    workspace_id: str = ""
    task: str
    payload: Json = {}
    state: str = "queued"
    """queued, running, paused, done, failed, cancelled."""
    wanted: str = "run"
    """run, pause or cancel: what its owner asks of it."""
    attempts: int = 0
    done: int = 0
    total: int = 0
    error: str = ""
    result: Json = {}
    run_at: datetime
    lease_until: datetime | None = None
    worker: str = ""
    finished_at: datetime | None = None
    actor: str = ""


KIND_ENTITY: dict[Kind, type[Item]] = {
    Kind.project: Project,
    Kind.run: Run,
    Kind.document: Document,
    Kind.artifact: Artifact,
    Kind.artifact_version: ArtifactVersion,
}
