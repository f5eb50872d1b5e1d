"""What can be asked for: one Struct for each operation, the same in REST, SDK, CLI and dialects.

A field that is left out (`msgspec.UNSET`) stays as it is; ``None`` clears where the type allows it.
References named ``project`` take an id or a name; all other references are ids.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from labkeep.core.entities import Json, Row
from labkeep.core.ids import Id
from labkeep.core.lifecycle import OnDelete, Role, Status

T = TypeVar("T")

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=512,
        # The end is said twice: in Python, `$` also matches before a newline at the end.
        pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)",
        description="1 to 512 characters, no control characters.",
    ),
]
Ref = Annotated[
    str, Meta(min_length=1, max_length=512, pattern=r"^[^\x00]+$", description="An id, or a name where it says so.")
]
Text = Annotated[str, Meta(max_length=1_000_000, pattern=r"^[^\x00]*$")]
Key = Annotated[str, Meta(max_length=512, pattern=r"^[^\x00]*$")]
RowId = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00]+$")]
FilePath = Annotated[str, Meta(min_length=1, max_length=1024, description="Relative, forward slashes, no `..`.")]
Tags = Annotated[tuple[Key, ...], Meta(max_length=1000)]
Limit = Annotated[int, Meta(ge=1, le=10_000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")]
Moment = Annotated[datetime, Meta(tz=True, description="With its offset from UTC.")]


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all commands: unknown fields are refused, so a misspelt one is never ignored."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list. ``next`` goes into ``cursor`` to get the following page; None after the last."""

    items: list[T]
    next: str | None = None


class Paged(Command, frozen=True, kw_only=True):
    """Fields of every list."""

    limit: Limit = 100
    cursor: str | None = None


class Nothing(Command, frozen=True, kw_only=True):
    """A request without fields."""


class Get(Command, frozen=True, kw_only=True):
    """One object by id. ``include=trashed`` also finds it in the trash."""

    id: Ref
    include: str = ""


# --- accounts ---------------------------------------------------------------------------------------------------------


class CreateWorkspace(Command, frozen=True, kw_only=True):
    """A new workspace. Another organization than one's own needs the server scope; it is made when missing."""

    name: Name
    organization: Name | None = None


class ListWorkspaces(Paged, frozen=True, kw_only=True):
    """Workspaces of the organization."""


class CreateKey(Command, frozen=True, kw_only=True):
    """A new API key for ``user``, who becomes a member of ``workspace`` (id or name) with at least ``role``."""

    user: Name
    role: Role = Role.editor
    workspace: Ref | None = None
    organization: Name | None = None
    name: Key = ""
    agent: bool = False
    expires_at: Moment | None = None
    daily_trash: Count | None = None
    """Objects that an agent may trash in 24 hours; the server's setting when left out."""


class ListKeys(Paged, frozen=True, kw_only=True):
    """Keys of the workspace, without secrets."""


class RevokeKey(Command, frozen=True, kw_only=True):
    """Make a key unusable at once."""

    id: Id


class ResumeKey(Command, frozen=True, kw_only=True):
    """Let an agent's key remove things again that was suspended for trashing too much at once."""

    id: Id
    reason: Text = ""


class ListMembers(Paged, frozen=True, kw_only=True):
    """Members of the workspace."""


class SetMember(Command, frozen=True, kw_only=True):
    """Give ``user`` a role in the workspace."""

    user: Name
    role: Role


# --- projects ---------------------------------------------------------------------------------------------------------


class ListItems(Paged, frozen=True, kw_only=True):
    """Fields of every list of objects with a lifecycle. ``q`` is the query language of docs/query.md."""

    q: Annotated[str, Meta(max_length=10_000)] = ""
    order: Annotated[str, Meta(max_length=1000)] = ""
    state: str = ""


class CreateProject(Command, frozen=True, kw_only=True):
    """A new project. ``exist_ok`` answers the existing one instead of refusing."""

    name: Name
    description: Text = ""
    tags: Tags = ()
    metadata: Json = {}
    settings: Json = {}
    extra: Json = {}
    dialect: Key = "native"
    exist_ok: bool = False


class ListProjects(ListItems, frozen=True, kw_only=True):
    """Projects of the workspace."""

    name: str = ""


class UpdateItem(Command, frozen=True, kw_only=True):
    """Fields that every object with a lifecycle has. Objects merge deeply; ``None`` removes a key."""

    id: Ref
    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    metadata: Json | UnsetType = UNSET
    extra: Json | UnsetType = UNSET
    if_version: int | None = None


class UpdateProject(UpdateItem, frozen=True, kw_only=True):
    """Edit a project; ``id`` may be its name."""

    settings: Json | UnsetType = UNSET


# --- runs -------------------------------------------------------------------------------------------------------------


class CreateRun(Command, frozen=True, kw_only=True):
    """A new run. ``project`` is made when it is missing.

    ``id`` may be chosen by the client, so that sending the request twice makes one run. ``handle`` is unique among the
    live runs of the project; ``suffix`` adds a short suffix instead of refusing a handle that is taken, and
    ``exist_ok`` answers the run that has it.
    """

    project: Ref
    id: Id | None = None
    name: Name | None = None
    handle: Name | None = None
    type: Key = ""
    status: Status = Status.running
    config: Json = {}
    summary: Json = {}
    tags: Tags = ()
    description: Text = ""
    metadata: Json = {}
    extra: Json = {}
    notes: Text = ""
    group: Key = ""
    job_type: Key = ""
    base_run_id: Id | None = None
    document_id: Id | None = None
    exit_code: int | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    dialect: Key = "native"
    suffix: bool = False
    exist_ok: bool = False


class CreateRuns(Command, frozen=True, kw_only=True):
    """Up to 1,000 runs in one transaction: all of them or none."""

    runs: Annotated[list[CreateRun], Meta(min_length=1, max_length=1000)]


class ListRuns(ListItems, frozen=True, kw_only=True):
    """Runs of a project, or of the whole workspace when none is named."""

    project: str = ""
    name: str = ""
    handle: str = ""
    type: str | None = None
    ids: list[Id] = []
    before: str | None = None
    """Id of a run: the page that ends just before it, in the same order. For dialects with two-way paging."""
    after: str | None = None
    """Id of a run, which may be gone by now: the page that begins just after it."""


class UpdateRun(UpdateItem, frozen=True, kw_only=True):
    """Edit a run. ``config`` and ``summary`` merge deeply."""

    handle: Name | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    config: Json | UnsetType = UNSET
    summary: Json | UnsetType = UNSET
    notes: Text | UnsetType = UNSET
    group: Key | UnsetType = UNSET
    job_type: Key | UnsetType = UNSET
    base_run_id: Id | UnsetType | None = UNSET
    document_id: Id | UnsetType | None = UNSET
    add_tags: Tags = ()
    remove_tags: Tags = ()


class FinishRun(Command, frozen=True, kw_only=True):
    """End a run. Finishing again is allowed and changes the status."""

    id: Id
    status: Status = Status.finished
    exit_code: int | None = None
    summary: Json | UnsetType = UNSET


class StopRun(Command, frozen=True, kw_only=True):
    """Ask a running run to stop: its client learns of it with the next heartbeat or log."""

    id: Id


class Heartbeat(Command, frozen=True, kw_only=True):
    """Say that the process is alive."""

    id: Id


class Alive(msgspec.Struct, frozen=True):
    """Answer to a heartbeat."""

    status: Status
    stop: bool


class DiffRuns(Command, frozen=True, kw_only=True):
    """Compare two runs."""

    a: Id
    b: Id


class Difference(msgspec.Struct, frozen=True):
    """One path that differs between two runs; a missing side is None and is named in ``only``."""

    path: str
    a: Any = None
    b: Any = None
    only: str = ""


# --- history, console and files ---------------------------------------------------------------------------------------


class AppendHistory(Command, frozen=True, kw_only=True):
    """Rows of a stream. ``offset`` is the number of the first row; without one they go to the end.

    The same (run, stream, offset) may be sent again: those rows are replaced, never doubled. ``batch`` is the columnar
    form of `labkeep.core.columns`.
    """

    id: Id
    stream: Key = "history"
    offset: Count | None = None
    batch: bytes = b""


class Appended(msgspec.Struct, frozen=True):
    """Where a stream stands after an append; ``stop`` asks the client to end the run."""

    rows: int
    stop: bool = False


class ReadHistory(Command, frozen=True, kw_only=True):
    """Part of a stream. ``buckets`` asks for a sample: per bucket of steps the rows with least and greatest value."""

    id: Id
    stream: Key = "history"
    keys: list[Key] = []
    first_step: int | None = None
    last_step: int | None = None
    offset: Count = 0
    limit: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    buckets: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    include: str = ""


class ListFiles(Paged, frozen=True, kw_only=True):
    """Files of a run, document or artifact version, by path."""

    id: Id
    prefix: Key = ""
    include: str = ""


class AttachFile(Command, frozen=True, kw_only=True):
    """Put an uploaded blob under a path. An existing path is replaced."""

    id: Id
    path: FilePath
    digest: Digest
    size: Count
    media_type: Key = "application/octet-stream"


class GetFile(Command, frozen=True, kw_only=True):
    """One file by path."""

    id: Id
    path: FilePath
    include: str = ""


# --- rows -------------------------------------------------------------------------------------------------------------


class RowIn(Command, frozen=True, kw_only=True):
    """One row to write. ``merge`` merges deeply into the current row and inserts when there is none.

    ``keep`` lists top-level keys whose current value stays, also when the row is replaced; ``union`` lists top-level
    arrays that merge as sets; ``paths`` lists paths below which a merge replaces instead of descending; ``delete``
    writes a tombstone.
    """

    id: RowId | None = None
    data: Json = {}
    root_id: RowId | None = None
    merge: bool = False
    delete: bool = False
    keep: tuple[str, ...] = ()
    union: tuple[str, ...] = ()
    paths: tuple[tuple[str, ...], ...] = ()
    remove: tuple[tuple[tuple[str, ...], tuple[Any, ...]], ...] = ()
    """(path, values): after the merge these values are taken out of the array at that path."""


class WriteRows(Command, frozen=True, kw_only=True):
    """Rows of one run or document: one transaction, one transaction id."""

    id: Id
    rows: Annotated[list[RowIn], Meta(max_length=100_000)]


class WriteRowSets(Command, frozen=True, kw_only=True):
    """Rows of several owners in one transaction."""

    sets: list[WriteRows]


class Written(msgspec.Struct, frozen=True):
    """Ids of the rows in the order given, and the transaction that wrote them."""

    ids: list[str]
    xact: int


class ReadRows(Paged, frozen=True, kw_only=True):
    """Current rows, newest trace first; ``limit`` counts traces. ``as_of`` reads the state at a transaction."""

    id: Id
    as_of: int | None = None
    ids: list[RowId] = []
    include: str = ""


class RowPage(msgspec.Struct, frozen=True):
    """A page of rows and the transaction id that it reflects."""

    items: list[Row]
    next: str | None
    xact: int


class RowStats(msgspec.Struct, frozen=True):
    """Counts of the current rows, and the mean of each score over them."""

    rows: int
    xact: int
    scores: dict[str, float]


# --- documents --------------------------------------------------------------------------------------------------------


class CreateDocument(Command, frozen=True, kw_only=True):
    """A new document of a type (experiment, dataset, prompt, …); with a ``body``, also its first version."""

    project: Ref
    type: Name
    name: Name
    handle: Name | UnsetType | None = UNSET
    """Unique among live documents of the type in the project; the name when left out, None for no uniqueness."""
    id: Id | None = None
    description: Text = ""
    tags: Tags = ()
    metadata: Json = {}
    extra: Json = {}
    status: Key = ""
    body: Json | None = None
    message: Text = ""
    dialect: Key = "native"
    exist_ok: bool = False


class ListDocuments(ListItems, frozen=True, kw_only=True):
    """Documents of a project, or of the workspace."""

    project: str = ""
    type: str = ""
    name: str = ""
    status: str = ""
    ids: list[Id] = []
    before: str | None = None
    after: str | None = None


class UpdateDocument(UpdateItem, frozen=True, kw_only=True):
    """Edit what is beside the versions."""

    status: Key | UnsetType = UNSET


class CommitVersion(Command, frozen=True, kw_only=True):
    """A new immutable version. A body that equals the newest one answers that version instead."""

    id: Id
    body: Json
    message: Text = ""
    parent: int | None = None


class ListVersions(Paged, frozen=True, kw_only=True):
    """Versions of a document, newest first."""

    id: Id
    include: str = ""


class GetVersion(Command, frozen=True, kw_only=True):
    """One version by number; the newest when left out."""

    id: Id
    number: int | None = None
    include: str = ""


# --- experiments ------------------------------------------------------------------------------------------------------


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A document of type experiment as its own resource; ``status`` is draft, running, completed or stopped.

    ``current_results`` is left out until there are results.
    """

    id: str
    name: str
    description: str = ""
    status: str
    variants: list[Json] = []
    metadata: Json = {}
    tags: tuple[str, ...] = ()
    project_id: str
    state: str
    created_at: datetime
    updated_at: datetime
    created_by: str = ""
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    current_results: Json | UnsetType = UNSET


class CreateExperiment(Command, frozen=True, kw_only=True):
    """A new experiment, in status draft."""

    name: Name
    description: Text = ""
    variants: Annotated[list[Json], Meta(max_length=1000)] = []
    metadata: Json = {}
    tags: Tags = ()
    project: Ref = "default"


class ListExperiments(Paged, frozen=True, kw_only=True):
    """Experiments, newest first."""

    status: str = ""
    project: str = ""
    name: str = ""
    state: str = ""


class UpdateExperiment(Command, frozen=True, kw_only=True):
    """Edit an experiment; ``metadata`` merges deeply."""

    id: Id
    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    variants: list[Json] | UnsetType = UNSET
    metadata: Json | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


class ExperimentVerb(Command, frozen=True, kw_only=True):
    """Start, stop or complete an experiment."""

    id: Id


# --- artifacts --------------------------------------------------------------------------------------------------------


class ManifestEntry(Command, frozen=True, kw_only=True):
    """One file of an artifact version: an uploaded blob, or a reference to somewhere else."""

    path: FilePath
    digest: str
    size: Count = 0
    media_type: Key = "application/octet-stream"


class CreateArtifactVersion(Command, frozen=True, kw_only=True):
    """A new version of the collection ``name``, which is made when missing. Equal content answers the newest version."""

    project: Ref
    name: Name
    type: Name = "artifact"
    files: Annotated[list[ManifestEntry], Meta(max_length=100_000)] = []
    description: Text = ""
    metadata: Json = {}
    tags: Tags = ()
    aliases: Tags = ()
    run_id: Id | None = None
    dialect: Key = "native"


class ListArtifacts(ListItems, frozen=True, kw_only=True):
    """Artifact collections."""

    project: str = ""
    type: str = ""
    name: str = ""


class ListArtifactVersions(Paged, frozen=True, kw_only=True):
    """Versions of a collection, newest first; or those that a run made."""

    id: Id | None = None
    run_id: Id | None = None
    state: str = ""


class ResolveArtifact(Command, frozen=True, kw_only=True):
    """One version by ``name:alias`` or ``name:vN`` in a project; ``latest`` when nothing follows the name."""

    project: Ref
    name: Ref
    type: str = ""


class SetAliases(Command, frozen=True, kw_only=True):
    """Add and remove aliases of a version. An alias points at one version of a collection at a time."""

    id: Id
    add: Tags = ()
    remove: Tags = ()


# --- environments and links -------------------------------------------------------------------------------------------


class BindEnvironment(Command, frozen=True, kw_only=True):
    """Bind the environment ``name`` of a project to a version of a document; made when missing."""

    project: Ref
    name: Name
    document_id: Id | None
    number: int | None = None


class ListEnvironments(Paged, frozen=True, kw_only=True):
    """Environments of a project."""

    project: Ref


class GetEnvironment(Command, frozen=True, kw_only=True):
    """One environment by name."""

    project: Ref
    name: Name


class CreateLink(Command, frozen=True, kw_only=True):
    """``source`` depends on ``target``."""

    source_id: Id
    target_id: Id
    type: Name
    on_delete: OnDelete = OnDelete.restrict


class RemoveLink(Command, frozen=True, kw_only=True):
    """Take a link away."""

    id: Id


class ListLinks(Paged, frozen=True, kw_only=True):
    """Links from and to an object."""

    id: Id


# --- the lifecycle ----------------------------------------------------------------------------------------------------


class Selection(Command, frozen=True, kw_only=True):
    """What a verb is for: ids, or a query over one kind. A project selects all that is in it."""

    ids: Annotated[list[Id], Meta(max_length=100_000)] = []
    kind: str = "run"
    project: str = ""
    q: Annotated[str, Meta(max_length=10_000)] = ""
    deletion_id: Id | None = None
    """Only for restore and purge: everything that one deletion holds."""


class MakePlan(Command, frozen=True, kw_only=True):
    """Ask what a verb would do. Nothing happens yet.

    ``on_running=stop`` stops running runs first; ``force`` unbinds and unlinks what depends on the selection.
    """

    verb: str = "trash"
    selection: Selection
    on_running: str = "refuse"
    force: bool = False


Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
"""Objects a second."""


class Paced(Command, frozen=True, kw_only=True):
    """What may become a background job when it is large: at once (false), as a job (true), or by its size (auto).

    ``rate`` limits the job to so many objects a second.
    """

    background: bool | Literal["auto"] = "auto"
    rate: Rate | None = None


class Apply(Paced, frozen=True, kw_only=True):
    """Do it. With ``plan_hash`` only if the world is still as that plan saw it (Stale, with the new plan, otherwise).

    A large selection answers at once with ``job_id``, and goes on in the background (see `Paced`).
    """

    selection: Selection
    verb: str = "trash"
    on_running: str = "refuse"
    force: bool = False
    plan_hash: Key | None = None
    reason: Text = ""
    ticket: Key = ""
    archive: Annotated[str, Meta(pattern=r"^(sha256:[0-9a-f]{64})?$(?!\n)")] = ""
    """Digest of an archive that was exported, and verified, before: for the record."""


class Blocker(msgspec.Struct, frozen=True):
    """Something that must stay for now, why, and what would override it (empty: nothing does).

    ``origin`` is whose word that is: hold, minimum_keep or user; see docs/lifecycle.md for who overrules whom.
    """

    id: str
    kind: str
    name: str
    reason: str
    override: str = ""
    origin: str = "user"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a verb would do, as it was shown. Lists are cut at 100 entries; the counts are complete."""

    id: str
    verb: str
    hash: str
    counts: dict[str, int]
    bytes: int
    """Bytes of history, rows and files held by what goes."""
    freed_bytes: int
    """Bytes that will really come back: content that nothing else shares."""
    names_freed: list[str]
    unbinds: list[Json]
    stops: int
    blockers: list[Blocker]
    blocked: int
    restorable_until: datetime | None
    """Until when it can be restored, and from when on it is purged by itself."""
    created_at: datetime
    bytes_by_kind: dict[str, int] = {}
    freed_by_kind: dict[str, int] = {}
    cascades: dict[str, dict[str, int]] = {}
    """What comes with what was selected, by kind: ``contained`` in it, or ``linked`` to it. The counts include it."""
    already: int = 0
    """Objects that are in the wanted state before."""
    names_taken: list[Json] = []
    """Of a restore: what cannot have its name back (id, name, taken_by), and a name that is free (suggestion)."""
    slots_taken: list[Json] = []
    """Of a restore: bindings that cannot be put back, because something else is bound there now."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a verb did. ``job_id`` is set when it goes on in the background, and the counts are then in the job;
    ``undo`` is the deletion to restore."""

    verb: str
    counts: dict[str, int]
    bytes: int = 0
    deletion_id: str | None = None
    job_id: str | None = None
    job_ids: list[str] = []
    """All jobs, where several deletions are purged at once; ``job_id`` is the last of them."""
    already: int = 0
    """Objects that were in the wanted state before."""
    restorable_until: datetime | None = None
    undo: str | None = None
    """What takes it back: ``POST /undo``, ``labkeep undo``. Of a trash it is the deletion, of what a job did the job."""
    not_rebound: list[Json] = []
    """Bindings that could not be put back, and why."""
    items: list[Json] = []
    """Per item: id, kind, name, and what became of it; the first 1,000."""
    waits_for: str = ""
    """What has to happen before it is done: the consent of a second person. Empty otherwise."""


class RestoreDeletion(Paced, frozen=True, kw_only=True):
    """Put back what a deletion holds, or only ``ids`` of it. ``names`` gives new names where the old one is taken."""

    id: Id
    ids: list[Id] = []
    names: dict[str, Name] = {}
    reason: Text = ""


class PurgeDeletion(Command, frozen=True, kw_only=True):
    """Remove for good what a deletion holds. A job; it verifies itself."""

    id: Id
    reason: Text = ""
    ticket: Key = ""


class ListDeletions(Paged, frozen=True, kw_only=True):
    """Deletions, newest first. The state ``waiting`` finds those whose purge waits for a second person."""

    state: str = ""
    item_id: Id | None = None


class ListMembersOf(Paged, frozen=True, kw_only=True):
    """What belonged to a deletion."""

    id: Id


class ListTrash(Paged, frozen=True, kw_only=True):
    """What is in the trash. ``order``: ``newest`` deletion first, ``oldest``, ``largest``, or ``due`` (purged next)."""

    kind: str = ""
    project: str = ""
    order: str = "newest"


class TrashedItem(msgspec.Struct, frozen=True, kw_only=True):
    """One object in the trash, with who, when, why and how long it stays."""

    id: str
    kind: str
    type: str
    name: str
    project_id: str | None
    bytes: int
    deletion_id: str
    trashed_at: datetime
    trashed_by: str
    reason: str
    ticket: str
    restorable_until: datetime
    days_left: int


class ItemVerb(Paced, frozen=True, kw_only=True):
    """A verb on one object by its id."""

    id: Ref
    reason: Text = ""
    ticket: Key = ""
    on_running: str = "refuse"
    force: bool = False
    plan_hash: Key | None = None


class SetLock(Command, frozen=True, kw_only=True):
    """Lock an object against trash, or lift the lock."""

    id: Id
    locked: bool
    reason: Text = ""


# --- audit, jobs, usage -----------------------------------------------------------------------------------------------


class ListAudit(Paged, frozen=True, kw_only=True):
    """Audit events, newest first; ``id`` keeps those about one object."""

    id: Id | None = None
    event: str = ""
    actor: str = ""
    since: Moment | None = None
    ascending: bool = False


class AuditReport(msgspec.Struct, frozen=True):
    """Whether the chain holds; ``first_break`` is the number of the first event that does not follow."""

    events: int
    intact: bool
    first_break: int | None
    head: str
    pruned: int = 0
    """Events up to this number were dropped by the trail's own retention: the check starts behind it."""
    checkpoints: int = 0
    """Signed checkpoints that were checked."""
    checkpoint: int = 0
    """Number of the event that the newest of them covers."""
    problems: list[str] = []
    """What checkpoints say against the chain."""


class ListJobs(Paged, frozen=True, kw_only=True):
    """Background jobs, newest first."""

    state: str = ""


class GetUsage(Command, frozen=True, kw_only=True):
    """Objects and bytes by organization, workspace, project, run, user, tag or kind, the largest first."""

    by: str = "project"
    project: Ref | None = None
    limit: Limit = 1000


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``du``: what is held, and how much of it sits in the trash."""

    id: str
    name: str
    kind: str
    items: int
    bytes: int
    trashed_items: int
    trashed_bytes: int


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who a key is."""

    user: str
    role: Role
    agent: bool
    key_id: str
    workspace_id: str
    workspace: str
    organization_id: str
    organization: str
    scopes: tuple[str, ...] = ()


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key just made. ``secret`` is shown this once."""

    id: str
    secret: str
    user: str
    role: Role
    workspace_id: str
