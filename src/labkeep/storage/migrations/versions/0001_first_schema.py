"""The first schema.

A migration is history: it keeps its own words and types, whatever becomes of `labkeep.storage.tables`.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.LargeBinary(16).with_variant(sa.Uuid(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.BigInteger()


def upgrade() -> None:
    """Make every table."""
    _make_organizations()
    _make_workspaces()
    _make_members()
    _make_api_keys()
    _make_items()
    _make_projects()
    _make_runs()
    _make_documents()
    _make_versions()
    _make_artifacts()
    _make_artifact_versions()
    _make_files()
    _make_blobs()
    _make_fields()
    _make_streams()
    _make_chunks()
    _make_segments()
    _make_series()
    _make_rows()
    _make_row_scores()
    _make_environments()
    _make_links()
    _make_plans()
    _make_deletions()
    _make_deletion_members()
    _make_deletion_bindings()
    _make_audit_events()
    _make_audit_heads()
    _make_jobs()
    _make_idempotency_keys()


def _where(condition: str) -> dict[str, Any]:
    """A partial index, in both databases."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _make_organizations() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", ID, nullable=False, comment="The tenant."),
        sa.Column("name", TEXT, nullable=False, comment="Unique on the server."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        comment="Tenants.",
    )


def _make_workspaces() -> None:
    op.create_table(
        "workspaces",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The workspace."),
        sa.Column("name", TEXT, nullable=False, comment="Unique in the organization."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Rooms of a tenant.",
    )
    op.create_index("workspaces_name", "workspaces", ["organization_id", "name"], unique=True)


def _make_members() -> None:
    op.create_table(
        "members",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The membership."),
        sa.Column("workspace_id", ID, nullable=False, comment="Where."),
        sa.Column("user", TEXT, nullable=False, comment="Who."),
        sa.Column("role", TEXT, nullable=False, comment="viewer, editor, maintainer or owner."),
        sa.Column("created_at", TIME, nullable=False, comment="Since when."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Who may do what in which workspace.",
    )
    op.create_index("members_user", "members", ["organization_id", "workspace_id", "user"], unique=True)


def _make_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The key's id, safe to show."),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, comment="SHA-256 of the secret, which is not kept."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace it opens when none is named."),
        sa.Column("user", TEXT, nullable=False, comment="Whose key."),
        sa.Column("role", TEXT, nullable=False, comment="Most it may be used for; the member's role caps it."),
        sa.Column(
            "agent",
            sa.Boolean(),
            nullable=False,
            comment="Used by a program that decides by itself: may trash, never purge.",
        ),
        sa.Column("scopes", TEXT, nullable=False, comment="Extra scopes."),
        sa.Column("name", TEXT, nullable=False, comment="What its owner calls it."),
        sa.Column("hint", TEXT, nullable=False, comment="First characters of the secret."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.Column("expires_at", TIME, nullable=True, comment="When it stops working."),
        sa.Column("revoked_at", TIME, nullable=True, comment="When it was revoked."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        sa.UniqueConstraint("digest"),
        comment="API keys; secrets are never stored.",
    )


def _make_items() -> None:
    op.create_table(
        "items",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The object; never reused."),
        sa.Column("kind", TEXT, nullable=False, comment="project, run, document, artifact or artifact_version."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("parent_id", ID, nullable=False, comment="What contains it: workspace, project or artifact."),
        sa.Column("project_id", ID, nullable=True, comment="The project; null for projects themselves."),
        sa.Column("type", TEXT, nullable=False, comment="Finer kind: of document, artifact or run."),
        sa.Column("name", TEXT, nullable=False, comment="For people; empty once purged."),
        sa.Column("handle", TEXT, nullable=True, comment="Unique among live siblings; null when the name need not be."),
        sa.Column("description", TEXT, nullable=False, comment="Free text."),
        sa.Column("tags", TEXT, nullable=False, comment="List of tags."),
        sa.Column("metadata", TEXT, nullable=False, comment="Free JSON object."),
        sa.Column("extra", TEXT, nullable=False, comment="What only one dialect knows."),
        sa.Column("dialect", TEXT, nullable=False, comment="The API through which it was made."),
        sa.Column("state", TEXT, nullable=False, comment="active, archived, trashed or purged."),
        sa.Column(
            "locked", sa.Boolean(), nullable=False, comment="Somebody with write access locked it against trash."
        ),
        sa.Column("deletion_id", ID, nullable=True, comment="The deletion that holds it, while trashed or purged."),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="Counts edits; plans are checked against it."),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="Bytes of history, rows and files that it owns."),
        sa.Column("last_xact", sa.BigInteger(), nullable=False, comment="Newest transaction id of its rows."),
        sa.Column("created_by", TEXT, nullable=False, comment="Who made it."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.Column("updated_at", TIME, nullable=False, comment="When it was last edited."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Everything that has a lifecycle. A purged row stays as a tombstone without content.",
    )
    op.create_index("items_created", "items", ["organization_id", "project_id", "kind", "state", "created_at", "id"])
    op.create_index("items_deletion", "items", ["organization_id", "deletion_id", "id"])
    op.create_index(
        "items_handle",
        "items",
        ["organization_id", "parent_id", "kind", "type", "handle"],
        unique=True,
        **_where("state IN ('active', 'archived') AND handle IS NOT NULL"),
    )
    op.create_index("items_parent", "items", ["organization_id", "parent_id", "kind", "state", "id"])
    op.create_index("items_project", "items", ["organization_id", "project_id", "kind", "state", "id"])
    op.create_index("items_workspace", "items", ["organization_id", "workspace_id", "kind", "state", "id"])


def _make_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The item."),
        sa.Column("settings", TEXT, nullable=False, comment="Settings that override the server's."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="What only projects have.",
    )


def _make_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The item."),
        sa.Column(
            "project_id", ID, nullable=False, comment="The project, repeated so that statuses can be indexed within it."
        ),
        sa.Column(
            "status", TEXT, nullable=False, comment="draft, queued, running, finished, failed, crashed or stopped."
        ),
        sa.Column("config", TEXT, nullable=False, comment="What the run was given."),
        sa.Column("summary", TEXT, nullable=False, comment="What the run came to."),
        sa.Column("notes", TEXT, nullable=False, comment="Free text."),
        sa.Column("group", TEXT, nullable=False, comment="Runs that belong together."),
        sa.Column("job_type", TEXT, nullable=False, comment="train, eval, …"),
        sa.Column("base_run_id", ID, nullable=True, comment="The run to compare with, or forked from."),
        sa.Column("document_id", ID, nullable=True, comment="The experiment or eval it is one execution of."),
        sa.Column("exit_code", sa.Integer(), nullable=True, comment="Exit code of the process."),
        sa.Column("started_at", TIME, nullable=True, comment="When the execution began."),
        sa.Column("finished_at", TIME, nullable=True, comment="When it ended."),
        sa.Column("heartbeat_at", TIME, nullable=True, comment="When the client was last heard of."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="What only runs have.",
    )
    op.create_index("runs_base", "runs", ["organization_id", "base_run_id"], **_where("base_run_id IS NOT NULL"))
    op.create_index("runs_document", "runs", ["organization_id", "document_id", "id"])
    op.create_index("runs_heartbeat", "runs", ["status", "heartbeat_at"])
    op.create_index("runs_status", "runs", ["organization_id", "project_id", "status", "id"])


def _make_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The item."),
        sa.Column("status", TEXT, nullable=False, comment="Of an experiment: draft, running, completed or stopped."),
        sa.Column("latest", sa.BigInteger(), nullable=False, comment="Number of the newest version."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="What only documents have.",
    )


def _make_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("document_id", ID, nullable=False, comment="The document."),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False, comment="1, 2, 3 …"),
        sa.Column("id", ID, nullable=False, comment="The version's own id."),
        sa.Column("digest", TEXT, nullable=False, comment="sha256:… over the canonical body."),
        sa.Column("body", TEXT, nullable=False, comment="The definition."),
        sa.Column("parent", sa.BigInteger(), nullable=True, comment="Number of the version it was made from."),
        sa.Column("message", TEXT, nullable=False, comment="Why."),
        sa.Column("author", TEXT, nullable=False, comment="Who."),
        sa.Column("created_at", TIME, nullable=False, comment="When."),
        sa.PrimaryKeyConstraint("organization_id", "document_id", "number"),
        comment="Immutable versions of documents.",
    )
    op.create_index("versions_id", "versions", ["organization_id", "id"], unique=True)


def _make_artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The item."),
        sa.Column("latest", sa.BigInteger(), nullable=False, comment="Number of versions made so far."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="What only artifact collections have.",
    )


def _make_artifact_versions() -> None:
    op.create_table(
        "artifact_versions",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The item."),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="0, 1, 2 …"),
        sa.Column("digest", TEXT, nullable=False, comment="sha256:… over the manifest."),
        sa.Column("run_id", ID, nullable=True, comment="The run that made it."),
        sa.Column("aliases", TEXT, nullable=False, comment="Aliases that point here now."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="What only artifact versions have.",
    )
    op.create_index("artifact_versions_run", "artifact_versions", ["organization_id", "run_id"])


def _make_files() -> None:
    op.create_table(
        "files",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("owner_id", ID, nullable=False, comment="Run, document or artifact version."),
        sa.Column("path", TEXT, nullable=False, comment="Relative path with forward slashes."),
        sa.Column("digest", TEXT, nullable=False, comment="The blob."),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Bytes."),
        sa.Column("media_type", TEXT, nullable=False, comment="As uploaded."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was stored."),
        sa.PrimaryKeyConstraint("organization_id", "owner_id", "path"),
        comment="Paths and the blobs behind them.",
        sqlite_with_rowid=False,
    )
    op.create_index("files_digest", "files", ["organization_id", "digest"])


def _make_blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("digest", TEXT, nullable=False, comment="sha256:…"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Bytes."),
        sa.Column("refs", sa.BigInteger(), nullable=False, comment="How many files and segments point here."),
        sa.Column(
            "swept_at",
            TIME,
            nullable=True,
            comment="Set while the bytes are being removed; such a blob cannot be referenced.",
        ),
        sa.Column("created_at", TIME, nullable=False, comment="When it was first stored."),
        sa.PrimaryKeyConstraint("organization_id", "digest"),
        comment="Content-addressed bytes and how many references they have.",
        sqlite_with_rowid=False,
    )
    op.create_index("blobs_refs", "blobs", ["refs", "created_at"])


def _make_fields() -> None:
    op.create_table(
        "fields",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("item_id", ID, nullable=False, comment="The run or document."),
        sa.Column("path", TEXT, nullable=False, comment="config.lr, summary.acc, scores.exact, tag.prod …"),
        sa.Column("project_id", ID, nullable=False, comment="The project."),
        sa.Column("type", TEXT, nullable=False, comment="n number, b flag (as 0 or 1), t text, o anything else."),
        sa.Column("num", sa.Double(), nullable=True, comment="The number or flag."),
        sa.Column("text", TEXT, nullable=True, comment="The first characters of the text."),
        sa.PrimaryKeyConstraint("organization_id", "item_id", "path"),
        comment="Whatever can be filtered and ordered by, one row each.",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "fields_num", "fields", ["project_id", "path", "type", "num", "item_id"], **_where("num IS NOT NULL")
    )
    op.create_index("fields_text", "fields", ["project_id", "path", "text", "item_id"], **_where("text IS NOT NULL"))


def _make_streams() -> None:
    op.create_table(
        "streams",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("run_id", ID, nullable=False, comment="The run."),
        sa.Column("stream", TEXT, nullable=False, comment="history, system, console …"),
        sa.Column("rows", sa.BigInteger(), nullable=False, comment="Rows so far: the next offset."),
        sa.Column("unsealed", sa.BigInteger(), nullable=False, comment="Rows in chunks that are not sealed yet."),
        sa.Column("last_step", sa.BigInteger(), nullable=True, comment="Highest step."),
        sa.PrimaryKeyConstraint("organization_id", "run_id", "stream"),
        comment="Where each stream of a run stands.",
        sqlite_with_rowid=False,
    )


def _make_chunks() -> None:
    op.create_table(
        "chunks",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("run_id", ID, nullable=False, comment="The run."),
        sa.Column("stream", TEXT, nullable=False, comment="history, system, console …"),
        sa.Column(
            "first_row", sa.BigInteger(), autoincrement=False, nullable=False, comment="Offset of its first row."
        ),
        sa.Column("rows", sa.BigInteger(), nullable=False, comment="How many rows."),
        sa.Column("data", sa.LargeBinary(), nullable=False, comment="Compressed columns; see docs/format.md."),
        sa.PrimaryKeyConstraint("organization_id", "run_id", "stream", "first_row"),
        comment="The hot end of histories: batches as they were logged.",
    )


def _make_segments() -> None:
    op.create_table(
        "segments",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("run_id", ID, nullable=False, comment="The run."),
        sa.Column("stream", TEXT, nullable=False, comment="history, system, console …"),
        sa.Column(
            "first_row", sa.BigInteger(), autoincrement=False, nullable=False, comment="Offset of its first row."
        ),
        sa.Column("rows", sa.BigInteger(), nullable=False, comment="How many rows it spans."),
        sa.Column("digest", TEXT, nullable=False, comment="The blob: a Parquet file."),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Bytes."),
        sa.PrimaryKeyConstraint("organization_id", "run_id", "stream", "first_row"),
        comment="Sealed histories.",
    )


def _make_series() -> None:
    op.create_table(
        "series",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("run_id", ID, nullable=False, comment="The run."),
        sa.Column("stream", TEXT, nullable=False, comment="history, system …"),
        sa.Column("key", TEXT, nullable=False, comment="The metric."),
        sa.Column("summary", TEXT, nullable=False, comment="count, first, last, min, max, last_step."),
        sa.PrimaryKeyConstraint("organization_id", "run_id", "stream", "key"),
        comment="Per-key summaries of histories.",
        sqlite_with_rowid=False,
    )


def _make_rows() -> None:
    op.create_table(
        "rows",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("owner_id", ID, nullable=False, comment="Run or document."),
        sa.Column("id", TEXT, nullable=False, comment="The row's id: any string."),
        sa.Column(
            "xact",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="The transaction that wrote this state of the row.",
        ),
        sa.Column(
            "next_xact",
            sa.BigInteger(),
            nullable=True,
            comment="The transaction that replaced it; null while it is current.",
        ),
        sa.Column("deleted", sa.Boolean(), nullable=False, comment="A tombstone: the row does not exist from here on."),
        sa.Column("root_id", TEXT, nullable=False, comment="The trace."),
        sa.Column(
            "position", sa.BigInteger(), nullable=False, comment="Place of the trace in the owner; newest highest."
        ),
        sa.Column("size", sa.Integer(), nullable=False, comment="Bytes of data."),
        sa.Column(
            "data", sa.LargeBinary(), nullable=False, comment="The row as JSON, zstd-compressed when that is smaller."
        ),
        sa.Column("created_at", TIME, nullable=False, comment="When the row first appeared."),
        sa.PrimaryKeyConstraint("organization_id", "owner_id", "id", "xact"),
        comment="Eval rows, spans, results, dataset items; every state they had.",
    )
    op.create_index("rows_position", "rows", ["organization_id", "owner_id", "position", "id"])
    op.create_index("rows_root", "rows", ["organization_id", "owner_id", "root_id"])


def _make_row_scores() -> None:
    op.create_table(
        "row_scores",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("owner_id", ID, nullable=False, comment="Run or document."),
        sa.Column("name", TEXT, nullable=False, comment="The score."),
        sa.Column("total", sa.Double(), nullable=False, comment="Sum over current rows."),
        sa.Column("count", sa.BigInteger(), nullable=False, comment="How many current rows have it."),
        sa.PrimaryKeyConstraint("organization_id", "owner_id", "name"),
        comment="Running means of scores, so that runs can be filtered by them.",
        sqlite_with_rowid=False,
    )


def _make_environments() -> None:
    op.create_table(
        "environments",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The environment."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("project_id", ID, nullable=False, comment="The project."),
        sa.Column("name", TEXT, nullable=False, comment="production, staging …"),
        sa.Column("document_id", ID, nullable=True, comment="What it is bound to."),
        sa.Column("number", sa.BigInteger(), nullable=True, comment="Which version."),
        sa.Column("bound_by", TEXT, nullable=False, comment="Who bound it."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.Column("updated_at", TIME, nullable=False, comment="When it was last bound."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Names bound to one version of one document.",
    )
    op.create_index("environments_document", "environments", ["organization_id", "document_id"])
    op.create_index("environments_name", "environments", ["organization_id", "project_id", "name"], unique=True)


def _make_links() -> None:
    op.create_table(
        "links",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The link."),
        sa.Column("source_id", ID, nullable=False, comment="What depends."),
        sa.Column("target_id", ID, nullable=False, comment="On what."),
        sa.Column("type", TEXT, nullable=False, comment="base, used, produced …"),
        sa.Column("on_delete", TEXT, nullable=False, comment="restrict, unbind, cascade or keep."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Typed edges between objects.",
    )
    op.create_index("links_edge", "links", ["organization_id", "source_id", "target_id", "type"], unique=True)
    op.create_index("links_target", "links", ["organization_id", "target_id"])


def _make_plans() -> None:
    op.create_table(
        "plans",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The plan."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("hash", TEXT, nullable=False, comment="What applying must name."),
        sa.Column("actor", TEXT, nullable=False, comment="Who asked."),
        sa.Column("body", TEXT, nullable=False, comment="The plan as it was shown."),
        sa.Column("created_at", TIME, nullable=False, comment="When."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Plans that were shown and may be applied.",
    )
    op.create_index("plans_created", "plans", ["created_at"])


def _make_deletions() -> None:
    op.create_table(
        "deletions",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The deletion."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("project_id", ID, nullable=True, comment="The project, when all of it was in one."),
        sa.Column("state", TEXT, nullable=False, comment="applying, trashed, restored, purging or purged."),
        sa.Column("actor", TEXT, nullable=False, comment="Who."),
        sa.Column("key_id", ID, nullable=False, comment="With which key."),
        sa.Column("client", TEXT, nullable=False, comment="With which program."),
        sa.Column("reason", TEXT, nullable=False, comment="Why."),
        sa.Column("ticket", TEXT, nullable=False, comment="Reference to somebody's ticket."),
        sa.Column("plan_hash", TEXT, nullable=False, comment="The plan that was applied."),
        sa.Column("selection", TEXT, nullable=False, comment="What was asked for."),
        sa.Column("counts", TEXT, nullable=False, comment="Items by kind."),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="Bytes held by them."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was trashed."),
        sa.Column("restorable_until", TIME, nullable=False, comment="When it may be purged."),
        sa.Column("restored_at", TIME, nullable=True, comment="When all of it came back."),
        sa.Column("purged_at", TIME, nullable=True, comment="When all of it was gone and checked."),
        sa.Column("purged_by", TEXT, nullable=False, comment="Who asked for the purge."),
        sa.Column("commitment", TEXT, nullable=False, comment="SHA-256 over what was to be purged."),
        sa.Column("verification", TEXT, nullable=False, comment="What reading every store again found."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="One row for each deletion: the way back, and the record after.",
    )
    op.create_index("deletions_due", "deletions", ["state", "restorable_until"])
    op.create_index("deletions_hash", "deletions", ["organization_id", "plan_hash"])
    op.create_index("deletions_workspace", "deletions", ["organization_id", "workspace_id", "id"])


def _make_deletion_members() -> None:
    op.create_table(
        "deletion_members",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("deletion_id", ID, nullable=False, comment="The deletion."),
        sa.Column("item_id", ID, nullable=False, comment="The object."),
        sa.Column("kind", TEXT, nullable=False, comment="What it is."),
        sa.Column("previous_state", TEXT, nullable=False, comment="What restoring puts back."),
        sa.Column("outcome", TEXT, nullable=False, comment="trashed, restored or purged."),
        sa.PrimaryKeyConstraint("organization_id", "deletion_id", "item_id"),
        comment="What belonged to a deletion.",
        sqlite_with_rowid=False,
    )
    op.create_index("deletion_members_item", "deletion_members", ["organization_id", "item_id"])


def _make_deletion_bindings() -> None:
    op.create_table(
        "deletion_bindings",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("deletion_id", ID, nullable=False, comment="The deletion."),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False, comment="Order of undoing."),
        sa.Column("type", TEXT, nullable=False, comment="environment or link."),
        sa.Column("subject_id", ID, nullable=False, comment="The environment or link."),
        sa.Column("item_id", ID, nullable=False, comment="The object that was unbound."),
        sa.Column("body", TEXT, nullable=False, comment="What to put back."),
        sa.Column("outcome", TEXT, nullable=False, comment="unbound, rebound, or why not."),
        sa.PrimaryKeyConstraint("organization_id", "deletion_id", "number"),
        comment="Bindings that a deletion undid.",
    )


def _make_audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False, comment="1, 2, 3 … without gaps."),
        sa.Column("at", TIME, nullable=False, comment="When."),
        sa.Column("event", TEXT, nullable=False, comment="<kind>.<participle>"),
        sa.Column("actor", TEXT, nullable=False, comment="Who."),
        sa.Column("key_id", TEXT, nullable=False, comment="With which key."),
        sa.Column("client", TEXT, nullable=False, comment="With which program."),
        sa.Column("request_id", TEXT, nullable=False, comment="In which request."),
        sa.Column("workspace_id", TEXT, nullable=False, comment="Where."),
        sa.Column("subject_id", TEXT, nullable=False, comment="On what."),
        sa.Column("deletion_id", TEXT, nullable=False, comment="As part of which deletion."),
        sa.Column("count", sa.BigInteger(), nullable=False, comment="On how many."),
        sa.Column("reason", TEXT, nullable=False, comment="Why."),
        sa.Column("ticket", TEXT, nullable=False, comment="Reference to somebody's ticket."),
        sa.Column("details", TEXT, nullable=False, comment="Ids, counts, digests; never content."),
        sa.Column("previous", TEXT, nullable=False, comment="Hash of the event before."),
        sa.Column("hash", TEXT, nullable=False, comment="SHA-256 over this event and the hash before."),
        sa.PrimaryKeyConstraint("organization_id", "seq"),
        comment="The hash-chained audit trail.",
    )
    op.create_index("audit_events_deletion", "audit_events", ["organization_id", "deletion_id"])
    op.create_index("audit_events_subject", "audit_events", ["organization_id", "subject_id"])


def _make_audit_heads() -> None:
    op.create_table(
        "audit_heads",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("seq", sa.BigInteger(), nullable=False, comment="Number of the newest event."),
        sa.Column("hash", TEXT, nullable=False, comment="Its hash."),
        sa.PrimaryKeyConstraint("organization_id"),
        comment="End of each chain; locked while one transaction extends it.",
    )


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The job."),
        sa.Column("workspace_id", TEXT, nullable=False, comment="The workspace, when it belongs to one."),
        sa.Column("task", TEXT, nullable=False, comment="Name of the function."),
        sa.Column(
            "dedupe", TEXT, nullable=True, comment="At most one unfinished job has this value; null for no limit."
        ),
        sa.Column("payload", TEXT, nullable=False, comment="Its arguments: ids, never content."),
        sa.Column("actor", TEXT, nullable=False, comment="On whose behalf."),
        sa.Column("state", TEXT, nullable=False, comment="queued, running, done or failed."),
        sa.Column("attempts", sa.SmallInteger(), nullable=False, comment="Times it was started."),
        sa.Column("done", sa.BigInteger(), nullable=False, comment="Items done."),
        sa.Column("total", sa.BigInteger(), nullable=False, comment="Items in all; 0 when unknown."),
        sa.Column("error", TEXT, nullable=False, comment="The last failure."),
        sa.Column("result", TEXT, nullable=False, comment="What it came to."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was enqueued."),
        sa.Column("run_at", TIME, nullable=False, comment="Not before."),
        sa.Column("lease_until", TIME, nullable=True, comment="When another worker may take it over."),
        sa.Column("worker", TEXT, nullable=False, comment="Who holds the lease."),
        sa.Column("finished_at", TIME, nullable=True, comment="When it ended."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Background work, with leases.",
    )
    op.create_index(
        "jobs_dedupe",
        "jobs",
        ["dedupe"],
        unique=True,
        **_where("state IN ('queued', 'running') AND dedupe IS NOT NULL"),
    )
    op.create_index("jobs_due", "jobs", ["state", "run_at"])


def _make_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("key_id", ID, nullable=False, comment="Whose request."),
        sa.Column("idempotency_key", TEXT, nullable=False, comment="As sent by the client."),
        sa.Column(
            "fingerprint",
            TEXT,
            nullable=False,
            comment="SHA-256 over operation and command: the same key with another request is refused.",
        ),
        sa.Column("response", sa.LargeBinary(), nullable=False, comment="What was answered."),
        sa.Column("created_at", TIME, nullable=False, comment="When."),
        sa.PrimaryKeyConstraint("organization_id", "key_id", "idempotency_key"),
        comment="Answers to requests that may be sent twice.",
    )
    op.create_index("idempotency_created", "idempotency_keys", ["created_at"])
