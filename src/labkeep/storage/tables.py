"""The one schema, for SQLite and PostgreSQL. Every table of a tenant leads its key with ``organization_id``.

Whatever is filtered on has a column or a row in ``fields``.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    and_,
    literal_column,
    text,
)

from labkeep.core.lifecycle import LIVE, Kind, OnDelete, Role, State, Status
from labkeep.storage.column_types import TEXT, Choice, Id, Json, Moment, Words

metadata = MetaData()


def _default(sql: str | None) -> Any:
    return None if sql is None else text(sql)


def _id(name: str, comment: str, *, key: bool = False, null: bool = False) -> Column[str]:
    return Column(name, Id, primary_key=key, nullable=null, comment=comment)


def _text(name: str, comment: str, *, key: bool = False, null: bool = False, default: str | None = None) -> Column[str]:
    return Column(name, TEXT, primary_key=key, nullable=null, server_default=_default(default), comment=comment)


def _time(name: str, comment: str, *, null: bool = False) -> Column[datetime]:
    return Column(name, Moment, nullable=null, comment=comment)


def _json(name: str, comment: str, *, default: str | None = None) -> Column[Any]:
    return Column(name, Json, nullable=False, server_default=_default(default), comment=comment)


def _choice(name: str, words: type[StrEnum], comment: str, *, key: bool = False) -> Column[StrEnum]:
    return Column(name, Choice(words), primary_key=key, nullable=False, comment=comment)


def _words_column(name: str, comment: str) -> Column[tuple[str, ...]]:
    return Column(name, Words, nullable=False, comment=comment)


def _int(name: str, comment: str, *, key: bool = False, null: bool = False, default: str | None = None) -> Column[int]:
    return Column(
        name,
        BigInteger,
        primary_key=key,
        autoincrement=False,
        nullable=null,
        server_default=_default(default),
        comment=comment,
    )


def _flag(name: str, comment: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, comment=comment)


def _organization() -> Column[str]:
    return _id("organization_id", "The tenant.", key=True)


# Small rows under long keys: without a rowid SQLite keeps one tree instead of two.
_COMPACT: dict[str, Any] = {"sqlite_with_rowid": False}

organizations = Table(
    "organizations",
    metadata,
    _id("id", "The tenant.", key=True),
    Column("name", TEXT, nullable=False, unique=True, comment="Unique on the server."),
    _time("created_at", "When it was made."),
    _json(
        "settings",
        "Lifecycle settings that hold for all of it, unless something inside says otherwise.",
        default="'{}'",
    ),
    comment="Tenants.",
)

workspaces = Table(
    "workspaces",
    metadata,
    _organization(),
    _id("id", "The workspace.", key=True),
    _text("name", "Unique in the organization."),
    _time("created_at", "When it was made."),
    _json(
        "settings",
        "Lifecycle settings that hold for all of it, unless something inside says otherwise.",
        default="'{}'",
    ),
    Index("workspaces_name", "organization_id", "name", unique=True),
    comment="Rooms of a tenant.",
)

members = Table(
    "members",
    metadata,
    _organization(),
    _id("id", "The membership.", key=True),
    _id("workspace_id", "Where."),
    _text("user", "Who."),
    _choice("role", Role, "viewer, editor, maintainer or owner."),
    _time("created_at", "Since when."),
    Index("members_user", "organization_id", "workspace_id", "user", unique=True),
    comment="Who may do what in which workspace.",
)

api_keys = Table(
    "api_keys",
    metadata,
    _organization(),
    _id("id", "The key's id, safe to show.", key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True, comment="SHA-256 of the secret, which is not kept."),
    _id("workspace_id", "The workspace it opens when none is named."),
    _text("user", "Whose key."),
    _choice("role", Role, "Most it may be used for; the member's role caps it."),
    _flag("agent", "Used by a program that decides by itself: may trash, never purge."),
    _words_column("scopes", "Extra scopes."),
    _text("name", "What its owner calls it."),
    _text("hint", "First characters of the secret."),
    _time("created_at", "When it was made."),
    _time("expires_at", "When it stops working.", null=True),
    _time("revoked_at", "When it was revoked.", null=True),
    _time("suspended_at", "When the circuit breaker stopped it; null while it works.", null=True),
    _int("daily_trash", "Objects it may trash in 24 hours; null for the server's setting.", null=True),
    _time("resumed_at", "When it was last resumed after that: the breaker counts from there.", null=True),
    comment="API keys; secrets are never stored.",
)

items = Table(
    "items",
    metadata,
    _organization(),
    _id("id", "The object; never reused.", key=True),
    _choice("kind", Kind, "project, run, document, artifact or artifact_version."),
    _id("workspace_id", "The workspace."),
    _id("parent_id", "What contains it: workspace, project or artifact."),
    _id("project_id", "The project; null for projects themselves.", null=True),
    _text("type", "Finer kind: of document, artifact or run."),
    _text("name", "For people; empty once purged."),
    _text("handle", "Unique among live siblings; null when the name need not be.", null=True),
    _text("description", "Free text."),
    _words_column("tags", "List of tags."),
    _json("metadata", "Free JSON object."),
    _json("extra", "What only one dialect knows."),
    _text("dialect", "The API through which it was made."),
    _choice("state", State, "active, archived, trashed or purged."),
    _flag("locked", "Somebody with write access locked it against trash."),
    _id("deletion_id", "The deletion that holds it, while trashed or purged.", null=True),
    _int("version", "Counts edits; plans are checked against it."),
    _int("bytes", "Bytes of history, rows and files that it owns."),
    _int("last_xact", "Newest transaction id of its rows."),
    _text("created_by", "Who made it."),
    _time("created_at", "When it was made."),
    _time("updated_at", "When it was last edited."),
    _text("name_digest", "SHA-256 of the name, once purged.", default="''"),
    Index(
        "items_parent",
        "organization_id",
        "parent_id",
        "kind",
        "state",
        "id",
        sqlite_where=text("parent_id <> project_id"),
        postgresql_where=text("parent_id <> project_id"),
    ),
    Index("items_project", "organization_id", "project_id", "kind", "state", "id"),
    Index("items_created", "organization_id", "project_id", "kind", "state", "created_at", "id"),
    Index("items_workspace", "organization_id", "workspace_id", "kind", "state", "id"),
    Index(
        "items_deletion",
        "organization_id",
        "deletion_id",
        "id",
        sqlite_where=text("deletion_id IS NOT NULL"),
        postgresql_where=text("deletion_id IS NOT NULL"),
    ),
    Index(
        "items_handle",
        "organization_id",
        "parent_id",
        "kind",
        "type",
        "handle",
        unique=True,
        sqlite_where=text("state IN ('active', 'archived') AND handle IS NOT NULL"),
        postgresql_where=text("state IN ('active', 'archived') AND handle IS NOT NULL"),
    ),
    comment="Everything that has a lifecycle. A purged row stays as a tombstone without content.",
)


in_artifact: ColumnElement[bool] = items.c.parent_id != items.c.project_id
"""Whether an object lies in an artifact. Spelled as in ``items_parent``, which has no others: those that lie in their
project itself are in ``items_project``."""


def holds_name(items_: Any) -> ColumnElement[bool]:
    """Whether an object holds its handle: spelled as in ``items_handle``, or SQLite would not use that index."""
    live: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in LIVE]
    return and_(items_.c.state.in_(live), items_.c.handle.is_not(None))


projects = Table(
    "projects",
    metadata,
    _organization(),
    _id("id", "The item.", key=True),
    _json("settings", "Settings that override the server's."),
    comment="What only projects have.",
)

runs = Table(
    "runs",
    metadata,
    _organization(),
    _id("id", "The item.", key=True),
    _id("project_id", "The project, repeated so that statuses can be indexed within it."),
    _choice("status", Status, "draft, queued, running, finished, failed, crashed or stopped."),
    _json("config", "What the run was given."),
    _json("summary", "What the run came to."),
    _text("notes", "Free text."),
    _text("group", "Runs that belong together."),
    _text("job_type", "train, eval, …"),
    _id("base_run_id", "The run to compare with, or forked from.", null=True),
    _id("document_id", "The experiment or eval it is one execution of.", null=True),
    Column("exit_code", Integer, nullable=True, comment="Exit code of the process."),
    _time("started_at", "When the execution began.", null=True),
    _time("finished_at", "When it ended.", null=True),
    _time("heartbeat_at", "When the client was last heard of.", null=True),
    Index("runs_status", "organization_id", "project_id", "status", "id"),
    Index(
        "runs_base",
        "organization_id",
        "base_run_id",
        sqlite_where=text("base_run_id IS NOT NULL"),
        postgresql_where=text("base_run_id IS NOT NULL"),
    ),
    Index("runs_document", "organization_id", "document_id", "id"),
    Index("runs_heartbeat", "status", "heartbeat_at"),
    comment="What only runs have.",
)

documents = Table(
    "documents",
    metadata,
    _organization(),
    _id("id", "The item.", key=True),
    _text("status", "Of an experiment: draft, running, completed or stopped."),
    _int("latest", "Number of the newest version."),
    comment="What only documents have.",
)

versions = Table(
    "versions",
    metadata,
    _organization(),
    _id("document_id", "The document.", key=True),
    _int("number", "1, 2, 3 …", key=True),
    _id("id", "The version's own id."),
    _text("digest", "sha256:… over the canonical body."),
    _json("body", "The definition."),
    _int("parent", "Number of the version it was made from.", null=True),
    _text("message", "Why."),
    _text("author", "Who."),
    _time("created_at", "When."),
    Index("versions_id", "organization_id", "id", unique=True),
    comment="Immutable versions of documents.",
)

artifacts = Table(
    "artifacts",
    metadata,
    _organization(),
    _id("id", "The item.", key=True),
    _int("latest", "Number of versions made so far."),
    comment="What only artifact collections have.",
)

artifact_versions = Table(
    "artifact_versions",
    metadata,
    _organization(),
    _id("id", "The item.", key=True),
    _int("number", "0, 1, 2 …"),
    _text("digest", "sha256:… over the manifest."),
    _id("run_id", "The run that made it.", null=True),
    _words_column("aliases", "Aliases that point here now."),
    Index("artifact_versions_run", "organization_id", "run_id"),
    comment="What only artifact versions have.",
)

files = Table(
    "files",
    metadata,
    _organization(),
    _id("owner_id", "Run, document or artifact version.", key=True),
    _text("path", "Relative path with forward slashes.", key=True),
    _text("digest", "The blob."),
    _int("size", "Bytes."),
    _text("media_type", "As uploaded."),
    _time("created_at", "When it was stored."),
    _text("content", "sha256:… of the content, where the blob is encrypted and named by its key.", null=True),
    Index("files_digest", "organization_id", "digest"),
    comment="Paths and the blobs behind them.",
    **_COMPACT,
)

blobs = Table(
    "blobs",
    metadata,
    _organization(),
    _text("digest", "sha256:…", key=True),
    _int("size", "Bytes."),
    _int("refs", "How many files and segments point here."),
    _time("swept_at", "Set while the bytes are being removed; such a blob cannot be referenced.", null=True),
    _time("created_at", "When it was first stored."),
    Column(
        "fingerprint",
        LargeBinary(32),
        nullable=True,
        comment="HMAC-SHA-256 of the content's digest under the project's key, while the blob is encrypted and kept.",
    ),
    Index("blobs_refs", "refs", "created_at"),
    Index(
        "blobs_fingerprint",
        "organization_id",
        "fingerprint",
        unique=True,
        sqlite_where=text("fingerprint IS NOT NULL"),
        postgresql_where=text("fingerprint IS NOT NULL"),
    ),
    comment="Content-addressed bytes and how many references they have.",
    **_COMPACT,
)

fields = Table(
    "fields",
    metadata,
    _organization(),
    _id("item_id", "The run or document.", key=True),
    _text("path", "config.lr, summary.acc, scores.exact, tag.prod …", key=True),
    _id("project_id", "The project."),
    _text("type", "n number, b flag (as 0 or 1), t text, o anything else."),
    Column("num", Double, nullable=True, comment="The number or flag."),
    Column("text", TEXT, nullable=True, comment="The first characters of the text."),
    Index(
        "fields_num",
        "project_id",
        "path",
        "type",
        "num",
        "item_id",
        sqlite_where=text("num IS NOT NULL"),
        postgresql_where=text("num IS NOT NULL"),
    ),
    Index(
        "fields_text",
        "project_id",
        "path",
        "text",
        "item_id",
        sqlite_where=text("text IS NOT NULL"),
        postgresql_where=text("text IS NOT NULL"),
    ),
    comment="Whatever can be filtered and ordered by, one row each.",
    **_COMPACT,
)

streams = Table(
    "streams",
    metadata,
    _organization(),
    _id("run_id", "The run.", key=True),
    _text("stream", "history, system, console …", key=True),
    _int("rows", "Rows so far: the next offset."),
    _int("unsealed", "Rows in chunks that are not sealed yet."),
    _int("last_step", "Highest step.", null=True),
    comment="Where each stream of a run stands.",
    **_COMPACT,
)

chunks = Table(
    "chunks",
    metadata,
    _organization(),
    _id("run_id", "The run.", key=True),
    _text("stream", "history, system, console …", key=True),
    _int("first_row", "Offset of its first row.", key=True),
    _int("rows", "How many rows."),
    Column("data", LargeBinary, nullable=False, comment="Compressed columns; see docs/format.md."),
    comment="The hot end of histories: batches as they were logged.",
)

segments = Table(
    "segments",
    metadata,
    _organization(),
    _id("run_id", "The run.", key=True),
    _text("stream", "history, system, console …", key=True),
    _int("first_row", "Offset of its first row.", key=True),
    _int("rows", "How many rows it spans."),
    _text("digest", "The blob: a Parquet file."),
    _int("size", "Bytes."),
    comment="Sealed histories.",
)

series = Table(
    "series",
    metadata,
    _organization(),
    _id("run_id", "The run.", key=True),
    _text("stream", "history, system …", key=True),
    _text("key", "The metric.", key=True),
    _json("summary", "count, first, last, min, max, last_step."),
    comment="Per-key summaries of histories.",
    **_COMPACT,
)

rows = Table(
    "rows",
    metadata,
    _organization(),
    _id("owner_id", "Run or document.", key=True),
    _text("id", "The row's id: any string.", key=True),
    _int("xact", "The transaction that wrote this state of the row.", key=True),
    _int("next_xact", "The transaction that replaced it; null while it is current.", null=True),
    _flag("deleted", "A tombstone: the row does not exist from here on."),
    _text("root_id", "The trace."),
    _int("position", "Place of the trace in the owner; newest highest."),
    Column("size", Integer, nullable=False, comment="Bytes of data."),
    Column("data", LargeBinary, nullable=False, comment="The row as JSON, zstd-compressed when that is smaller."),
    _time("created_at", "When the row first appeared."),
    Index("rows_position", "organization_id", "owner_id", "position", "id"),
    Index("rows_root", "organization_id", "owner_id", "root_id"),
    Index(
        "rows_tombstones",
        "organization_id",
        "owner_id",
        "xact",
        "id",
        sqlite_where=text("deleted = 1"),
        postgresql_where=text("deleted"),
    ),
    comment="Eval rows, spans, results, dataset items; every state they had.",
)

row_scores = Table(
    "row_scores",
    metadata,
    _organization(),
    _id("owner_id", "Run or document.", key=True),
    _text("name", "The score.", key=True),
    Column("total", Double, nullable=False, comment="Sum over current rows."),
    _int("count", "How many current rows have it."),
    comment="Running means of scores, so that runs can be filtered by them.",
    **_COMPACT,
)

environments = Table(
    "environments",
    metadata,
    _organization(),
    _id("id", "The environment.", key=True),
    _id("workspace_id", "The workspace."),
    _id("project_id", "The project."),
    _text("name", "production, staging …"),
    _id("document_id", "What it is bound to.", null=True),
    _int("number", "Which version.", null=True),
    _text("bound_by", "Who bound it."),
    _time("created_at", "When it was made."),
    _time("updated_at", "When it was last bound."),
    Index("environments_name", "organization_id", "project_id", "name", unique=True),
    Index("environments_document", "organization_id", "document_id"),
    comment="Names bound to one version of one document.",
)

links = Table(
    "links",
    metadata,
    _organization(),
    _id("id", "The link.", key=True),
    _id("source_id", "What depends."),
    _id("target_id", "On what."),
    _text("type", "base, used, produced …"),
    _choice("on_delete", OnDelete, "restrict, unbind, cascade or keep."),
    _time("created_at", "When it was made."),
    Index("links_target", "organization_id", "target_id"),
    Index("links_edge", "organization_id", "source_id", "target_id", "type", unique=True),
    comment="Typed edges between objects.",
)

plans = Table(
    "plans",
    metadata,
    _organization(),
    _id("id", "The plan.", key=True),
    _id("workspace_id", "The workspace."),
    _text("hash", "What applying must name."),
    _text("actor", "Who asked."),
    _json("body", "The plan as it was shown."),
    _time("created_at", "When."),
    Index("plans_created", "created_at"),
    comment="Plans that were shown and may be applied.",
)

deletions = Table(
    "deletions",
    metadata,
    _organization(),
    _id("id", "The deletion.", key=True),
    _id("workspace_id", "The workspace."),
    _id("project_id", "The project, when all of it was in one.", null=True),
    _text("state", "applying, trashed, restored, purging or purged."),
    _text("actor", "Who."),
    _id("key_id", "With which key."),
    _text("client", "With which program."),
    _text("reason", "Why."),
    _text("ticket", "Reference to somebody's ticket."),
    _text("plan_hash", "The plan that was applied."),
    _json("selection", "What was asked for."),
    _json("counts", "Items by kind."),
    _int("bytes", "Bytes held by them."),
    _time("created_at", "When it was trashed."),
    _time("restorable_until", "When it may be purged."),
    _time("restored_at", "When all of it came back.", null=True),
    _time("purged_at", "When all of it was gone and checked.", null=True),
    _text("purged_by", "Who asked for the purge."),
    _text("commitment", "SHA-256 over what was to be purged."),
    _json("verification", "What reading every store again found."),
    _int("items", "How many objects it took, less what an agent restored of its own.", default="0"),
    _text("purge_requested_by", "Who asked for the purge, where two persons must agree.", default="''"),
    _time("purge_requested_at", "When that was.", null=True),
    _text("archive", "Digest of the archive that was exported before it went.", default="''"),
    Index("deletions_key", "organization_id", "key_id", "created_at"),
    Index("deletions_workspace", "organization_id", "workspace_id", "id"),
    Index("deletions_hash", "organization_id", "plan_hash"),
    Index("deletions_due", "state", "restorable_until"),
    comment="One row for each deletion: the way back, and the record after.",
)

deletion_members = Table(
    "deletion_members",
    metadata,
    _organization(),
    _id("deletion_id", "The deletion.", key=True),
    _id("item_id", "The object.", key=True),
    _choice("kind", Kind, "What it is."),
    _choice("previous_state", State, "What restoring puts back."),
    _text("outcome", "trashed, restored or purged."),
    _text("status", "A run's own status, kept when it is purged.", default="''"),
    _text("created_by", "Who had made it, kept when it is purged.", default="''"),
    Index("deletion_members_item", "organization_id", "item_id"),
    comment="What belonged to a deletion.",
    **_COMPACT,
)

deletion_bindings = Table(
    "deletion_bindings",
    metadata,
    _organization(),
    _id("deletion_id", "The deletion.", key=True),
    Column("number", Integer, primary_key=True, autoincrement=False, comment="Order of undoing."),
    _text("type", "environment or link."),
    _id("subject_id", "The environment or link."),
    _id("item_id", "The object that was unbound."),
    _json("body", "What to put back."),
    _text("outcome", "unbound, rebound, or why not."),
    comment="Bindings that a deletion undid.",
)

audit_events = Table(
    "audit_events",
    metadata,
    _organization(),
    _int("seq", "1, 2, 3 … without gaps.", key=True),
    _time("at", "When."),
    _text("event", "<kind>.<participle>"),
    _text("actor", "Who."),
    _text("key_id", "With which key."),
    _text("client", "With which program."),
    _text("request_id", "In which request."),
    _text("workspace_id", "Where."),
    _text("subject_id", "On what."),
    _text("deletion_id", "As part of which deletion."),
    _int("count", "On how many."),
    _text("reason", "Why."),
    _text("ticket", "Reference to somebody's ticket."),
    _json("details", "Ids, counts, digests; never content."),
    _text("previous", "Hash of the event before."),
    _text("hash", "SHA-256 over this event and the hash before."),
    Index("audit_events_subject", "organization_id", "subject_id"),
    Index("audit_events_deletion", "organization_id", "deletion_id"),
    comment="The hash-chained audit trail.",
)

audit_heads = Table(
    "audit_heads",
    metadata,
    _organization(),
    _int("seq", "Number of the newest event."),
    _text("hash", "Its hash."),
    _int("pruned_seq", "Number of the newest event that its own retention dropped.", default="0"),
    _text("pruned_hash", "Its hash: what the oldest kept event follows from.", default="''"),
    comment="End of each chain; locked while one transaction extends it.",
)

jobs = Table(
    "jobs",
    metadata,
    _organization(),
    _id("id", "The job.", key=True),
    _text("workspace_id", "The workspace, when it belongs to one."),
    _text("task", "Name of the function."),
    _text("dedupe", "At most one unfinished job has this value; null for no limit.", null=True),
    _json("payload", "Its arguments: ids, never content."),
    _text("actor", "On whose behalf."),
    _text("state", "queued, running, paused, done, failed or cancelled."),
    Column("attempts", SmallInteger, nullable=False, comment="Times it was started."),
    _int("done", "Items done."),
    _int("total", "Items in all; 0 when unknown."),
    _text("error", "The last failure."),
    _json("result", "What it came to."),
    _time("created_at", "When it was enqueued."),
    _time("run_at", "Not before."),
    _time("lease_until", "When another worker may take it over.", null=True),
    _text("worker", "Who holds the lease."),
    _time("finished_at", "When it ended.", null=True),
    _text("wanted", "run, pause or cancel: what its owner asks of it.", default="'run'"),
    Index("jobs_due", "state", "run_at"),
    Index(
        "jobs_dedupe",
        "dedupe",
        unique=True,
        sqlite_where=text("state IN ('queued', 'running') AND dedupe IS NOT NULL"),
        postgresql_where=text("state IN ('queued', 'running') AND dedupe IS NOT NULL"),
    ),
    comment="Background work, with leases.",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _organization(),
    _id("key_id", "Whose request.", key=True),
    _text("idempotency_key", "As sent by the client.", key=True),
    _text("fingerprint", "SHA-256 over operation and command: the same key with another request is refused."),
    Column("response", LargeBinary, nullable=False, comment="What was answered."),
    _time("created_at", "When."),
    Index("idempotency_created", "created_at"),
    Index(
        "idempotency_quoting",
        "organization_id",
        sqlite_where=text("length(response) > 0"),
        postgresql_where=text("length(response) > 0"),
    ),
    comment="Answers to requests that may be sent twice.",
)

job_items = Table(
    "job_items",
    metadata,
    _organization(),
    _id("job_id", "The job.", key=True),
    _id("item_id", "The object.", key=True),
    _text("outcome", "What became of it: trashed, already, blocked …"),
    _text("reason", "Why, when it stayed as it was."),
    comment="Results of jobs, object by object.",
    **_COMPACT,
)

holds = Table(
    "holds",
    metadata,
    _organization(),
    _id("id", "The hold.", key=True),
    _id("workspace_id", "The workspace."),
    _text("matter", "The case or reason that it serves."),
    _text("custodian", "Who answers for it."),
    _text("reason", "Why."),
    _text("kind", "Kind of what the standing query looks for; empty when it names objects."),
    _text("q", "The standing query: it also catches what comes later."),
    _id("project_id", "The project to which the query is limited.", null=True),
    _text("state", "active or lifted."),
    _text("created_by", "Who set it."),
    _time("created_at", "When it was set."),
    _text("lifted_by", "Who lifted it."),
    _text("lift_reason", "Why."),
    _time("lifted_at", "When it was lifted.", null=True),
    Index("holds_workspace", "organization_id", "workspace_id", "state", "id"),
    comment="Legal holds.",
)

hold_items = Table(
    "hold_items",
    metadata,
    _organization(),
    _id("hold_id", "The hold.", key=True),
    _id("item_id", "The object that it names.", key=True),
    Index("hold_items_item", "organization_id", "item_id"),
    comment="Objects that holds name by id.",
    **_COMPACT,
)

policies = Table(
    "policies",
    metadata,
    _organization(),
    _id("id", "The policy.", key=True),
    _id("workspace_id", "The workspace; null for the whole organization.", null=True),
    _id("project_id", "The project; null for the whole workspace.", null=True),
    _text("name", "What people call it."),
    _json("body", "Rules and conditions."),
    _flag("enabled", "Whether it runs by itself."),
    _int("every_s", "Seconds between two runs."),
    _text("created_by", "Who made it."),
    _time("created_at", "When it was made."),
    _time("updated_at", "When it was last edited."),
    _time("last_run_at", "When it last ran to its end.", null=True),
    _time("next_run_at", "When it is due.", null=True),
    Index("policies_due", "enabled", "next_run_at"),
    Index("policies_name", "organization_id", "workspace_id", "project_id", "name"),
    comment="Retention policies.",
)

policy_reports = Table(
    "policy_reports",
    metadata,
    _organization(),
    _id("id", "The report.", key=True),
    _id("policy_id", "The policy that ran."),
    _text("state", "running, done or failed."),
    _json("counts", "Objects by action and kind."),
    _json("body", "Deletions and jobs it caused, what was blocked and why; ids, never content."),
    _time("created_at", "When it began."),
    _time("finished_at", "When it ended.", null=True),
    Index("policy_reports_policy", "organization_id", "policy_id", "id"),
    comment="What each run of a policy did.",
)

signing_keys = Table(
    "signing_keys",
    metadata,
    _id("id", "The key.", key=True),
    Column("public", LargeBinary(32), nullable=False, comment="Ed25519, public part."),
    Column("private", LargeBinary, nullable=False, comment="Private part; wrapped when there is a master key."),
    _time("created_at", "When it was made."),
    _time("retired_at", "When another took its place; it still verifies what it signed.", null=True),
    comment="The server's own keys for receipts and checkpoints.",
)

receipts = Table(
    "receipts",
    metadata,
    _organization(),
    _id("id", "The receipt.", key=True),
    _id("workspace_id", "The workspace."),
    _text("kind", "purge or erasure."),
    _id("subject_id", "The deletion or erasure request that it is about."),
    _json("body", "What was signed."),
    _id("signing_key_id", "With which key."),
    _text("signature", "Ed25519 over the canonical body, base64."),
    _time("created_at", "When it was signed."),
    Index("receipts_workspace", "organization_id", "workspace_id", "id"),
    Index("receipts_subject", "organization_id", "subject_id"),
    comment="Signed proofs of what is gone.",
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    _organization(),
    _int("seq", "Number of the event it covers.", key=True),
    _text("hash", "Hash of that event."),
    _id("signing_key_id", "With which key."),
    _text("signature", "Ed25519 over organization, number, hash and time, base64."),
    _time("created_at", "When it was signed."),
    comment="Signed points of the audit chains.",
)

data_keys = Table(
    "data_keys",
    metadata,
    _organization(),
    _id("id", "The key; an encrypted blob is named by its own.", key=True),
    _id("owner_id", "Run, document, project or organization; the key itself when it is a blob's."),
    Column("wrapped", LargeBinary, nullable=True, comment="The key under the master key; null once destroyed."),
    _text("master", "Which master key wraps it."),
    _time("created_at", "When it was made."),
    _time("destroyed_at", "When it was destroyed.", null=True),
    Index(
        "data_keys_owner",
        "organization_id",
        "owner_id",
        unique=True,
        sqlite_where=text("destroyed_at IS NULL"),
        postgresql_where=text("destroyed_at IS NULL"),
    ),
    comment="Keys of encrypted contents; destroying one makes every copy of what it encrypts unreadable.",
)

erasures = Table(
    "erasures",
    metadata,
    _organization(),
    _id("id", "The request.", key=True),
    _id("workspace_id", "The workspace."),
    _text("field", "The declared field that names the person: metadata.user_id …; empty for a search everywhere."),
    _text("subject", "Who is erased; empty once done."),
    _text("subject_digest", "SHA-256 of it, which stays."),
    _text("action", "redact or delete."),
    _text("state", "open, running, done, partly_held or cancelled."),
    _text("reason", "Why."),
    _text("ticket", "Reference to somebody's ticket."),
    _text("created_by", "Who asked."),
    _time("created_at", "When."),
    _time("due_at", "Until when it must be answered."),
    _time("finished_at", "When it was done.", null=True),
    _json("report", "What was found, redacted, deleted and held: counts and ids."),
    _id("receipt_id", "The receipt.", null=True),
    Index("erasures_workspace", "organization_id", "workspace_id", "id"),
    comment="Requests to erase one person.",
)

subjects = Table(
    "subjects",
    metadata,
    _organization(),
    _text("digest", "SHA-256 over declared field and value.", key=True),
    _id("owner_id", "Run or document.", key=True),
    _text("row_id", "The row.", key=True),
    Index("subjects_owner", "organization_id", "owner_id", "row_id"),
    comment="Which rows speak of whom, by the declared fields.",
    **_COMPACT,
)

removals = Table(
    "removals",
    metadata,
    _organization(),
    _id("id", "The removal.", key=True),
    _id("workspace_id", "The workspace."),
    _id("item_id", "The object that it was removed from."),
    _text("part", "row, metric, file or console."),
    _text("ref", "Which: row id, metric key or path; empty for several rows, and once purged."),
    _text("stream", "Of a metric or console output: the stream."),
    _int("first_row", "Of a metric or console output: the first row of the stream that is hidden.", null=True),
    _int("end_row", "Of a metric or console output: one past the last row that is hidden.", null=True),
    _int("xact", "Of rows: the transaction whose tombstones hide them.", null=True),
    _text("digest", "Of a file: the blob, which it still refers to; empty once purged or restored."),
    _int("count", "Rows, points or lines removed."),
    _int("bytes", "Bytes that they took."),
    _text("state", "trashed, restored, purging or purged."),
    _text("reason", "Why."),
    _text("ticket", "Reference to somebody's ticket."),
    _text("actor", "Who."),
    _id("key_id", "With which key."),
    _json("body", "What puts it back; empty once purged."),
    _time("created_at", "When."),
    _time("restorable_until", "When it may be purged."),
    _time("restored_at", "When it came back.", null=True),
    _time("purged_at", "When it was gone.", null=True),
    _text("purged_by", "Who asked for the purge."),
    _json("verification", "What reading every store again found."),
    Index("removals_item", "organization_id", "item_id", "id"),
    Index("removals_workspace", "organization_id", "workspace_id", "id"),
    Index("removals_due", "state", "restorable_until"),
    comment="Parts that were removed from an object: rows, a metric, a file, console output.",
)

purge_blobs = Table(
    "purge_blobs",
    metadata,
    _organization(),
    _id("deletion_id", "The deletion that is being purged.", key=True),
    _text("digest", "A blob that it referred to.", key=True),
    _int("size", "Bytes."),
    comment="What a purge under way has yet to find gone from the blob store; empty once it is verified.",
    **_COMPACT,
)

usage_counters = Table(
    "usage_counters",
    metadata,
    _organization(),
    _id("workspace_id", "The workspace.", key=True),
    _id("project_id", "The project.", key=True),
    _choice("kind", Kind, "What is counted.", key=True),
    _text("user", "Who made it.", key=True),
    _text("tag", "One of its tags; empty in the line that counts everything.", key=True),
    _text("state", "live or trashed.", key=True),
    Column(
        "shard",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="So that writers at the same moment do not wait for each other; lines are added up over it.",
    ),
    _int("items", "Objects."),
    _int("bytes", "Bytes that they hold."),
    comment="Who holds how much: kept by triggers on the objects, so that no statement can forget it.",
    **_COMPACT,
)

webhooks = Table(
    "webhooks",
    metadata,
    _organization(),
    _id("id", "The webhook.", key=True),
    _id("workspace_id", "The workspace."),
    _text("url", "Where events are sent."),
    Column("secret", LargeBinary, nullable=False, comment="What signs them; wrapped when there is a master key."),
    _words_column("events", "Names or patterns of events; empty for all."),
    _flag("enabled", "Whether it is in use."),
    _text("created_by", "Who made it."),
    _time("created_at", "When it was made."),
    _int("seq", "Number of the newest audit event that was looked at."),
    Index("webhooks_workspace", "organization_id", "workspace_id", "id"),
    comment="Who is told about what happens.",
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    _organization(),
    _id("id", "The delivery.", key=True),
    _id("webhook_id", "To whom."),
    _int("seq", "The audit event that is told."),
    _text("subject_id", "What it is about: told in order."),
    _text("event", "Its name."),
    _text("state", "waiting, delivered or failed."),
    Column("attempts", SmallInteger, nullable=False, comment="Times it was tried."),
    _int("status", "The last HTTP status; 0 when there was none."),
    _text("error", "The last failure."),
    _time("created_at", "When it was noted."),
    _time("run_at", "Not before."),
    _time("delivered_at", "When it was accepted.", null=True),
    Index("webhook_deliveries_due", "state", "run_at"),
    Index("webhook_deliveries_webhook", "organization_id", "webhook_id", "seq"),
    comment="What webhooks were told, and what waits.",
)
