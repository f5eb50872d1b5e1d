"""The lifecycle in full: holds, policies, receipts, erasures, removals, counters, webhooks.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.LargeBinary(16).with_variant(sa.Uuid(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.BigInteger()


def upgrade() -> None:
    """Add what the first schema lacks."""
    _extend()
    _make_job_items()
    _make_holds()
    _make_hold_items()
    _make_policies()
    _make_policy_reports()
    _make_signing_keys()
    _make_receipts()
    _make_audit_checkpoints()
    _make_data_keys()
    _name_encrypted_blobs()
    _make_erasures()
    _make_subjects()
    _make_removals()
    _make_purge_blobs()
    _make_usage_counters()
    _make_webhooks()
    _make_webhook_deliveries()
    _narrow_indexes()


def _extend() -> None:
    op.add_column(
        "organizations",
        sa.Column(
            "settings",
            TEXT,
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="Lifecycle settings that hold for all of it, unless something inside says otherwise.",
        ),
    )
    op.add_column(
        "workspaces",
        sa.Column(
            "settings",
            TEXT,
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="Lifecycle settings that hold for all of it, unless something inside says otherwise.",
        ),
    )
    op.add_column(
        "api_keys",
        sa.Column(
            "suspended_at", TIME, nullable=True, comment="When the circuit breaker stopped it; null while it works."
        ),
    )
    op.add_column(
        "api_keys",
        sa.Column(
            "daily_trash",
            sa.BigInteger(),
            nullable=True,
            comment="Objects it may trash in 24 hours; null for the server's setting.",
        ),
    )
    op.add_column(
        "api_keys",
        sa.Column(
            "resumed_at",
            TIME,
            nullable=True,
            comment="When it was last resumed after that: the breaker counts from there.",
        ),
    )
    op.add_column(
        "items",
        sa.Column(
            "name_digest",
            TEXT,
            nullable=False,
            server_default=sa.text("''"),
            comment="SHA-256 of the name, once purged.",
        ),
    )
    op.add_column(
        "deletions",
        sa.Column(
            "items",
            sa.BigInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="How many objects it took, less what an agent restored of its own.",
        ),
    )
    op.add_column(
        "deletions",
        sa.Column(
            "purge_requested_by",
            TEXT,
            nullable=False,
            server_default=sa.text("''"),
            comment="Who asked for the purge, where two persons must agree.",
        ),
    )
    op.add_column("deletions", sa.Column("purge_requested_at", TIME, nullable=True, comment="When that was."))
    op.add_column(
        "deletions",
        sa.Column(
            "archive",
            TEXT,
            nullable=False,
            server_default=sa.text("''"),
            comment="Digest of the archive that was exported before it went.",
        ),
    )
    op.add_column(
        "audit_heads",
        sa.Column(
            "pruned_seq",
            sa.BigInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="Number of the newest event that its own retention dropped.",
        ),
    )
    op.add_column(
        "audit_heads",
        sa.Column(
            "pruned_hash",
            TEXT,
            nullable=False,
            server_default=sa.text("''"),
            comment="Its hash: what the oldest kept event follows from.",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "wanted",
            TEXT,
            nullable=False,
            server_default=sa.text("'run'"),
            comment="run, pause or cancel: what its owner asks of it.",
        ),
    )
    op.create_index(
        "rows_tombstones",
        "rows",
        ["organization_id", "owner_id", "xact", "id"],
        sqlite_where=sa.text("deleted = 1"),
        postgresql_where=sa.text("deleted"),
    )
    op.create_index("deletions_key", "deletions", ["organization_id", "key_id", "created_at"])
    if op.get_bind().dialect.name == "postgresql":
        states = "queued, running, paused, done, failed or cancelled."
        op.alter_column("jobs", "state", existing_type=TEXT, existing_nullable=False, comment=states)
    for name, comment in (
        ("status", "A run's own status, kept when it is purged."),
        ("created_by", "Who had made it, kept when it is purged."),
    ):
        column = sa.Column(name, TEXT, nullable=False, server_default=sa.text("''"), comment=comment)
        op.add_column("deletion_members", column)
    quoting = sa.text("length(response) > 0")
    op.create_index(
        "idempotency_quoting",
        "idempotency_keys",
        ["organization_id"],
        sqlite_where=quoting,
        postgresql_where=quoting,
    )


def _make_job_items() -> None:
    op.create_table(
        "job_items",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("job_id", ID, nullable=False, comment="The job."),
        sa.Column("item_id", ID, nullable=False, comment="The object."),
        sa.Column("outcome", TEXT, nullable=False, comment="What became of it: trashed, already, blocked …"),
        sa.Column("reason", TEXT, nullable=False, comment="Why, when it stayed as it was."),
        sa.PrimaryKeyConstraint("organization_id", "job_id", "item_id"),
        comment="Results of jobs, object by object.",
        sqlite_with_rowid=False,
    )


def _make_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The hold."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("matter", TEXT, nullable=False, comment="The case or reason that it serves."),
        sa.Column("custodian", TEXT, nullable=False, comment="Who answers for it."),
        sa.Column("reason", TEXT, nullable=False, comment="Why."),
        sa.Column(
            "kind",
            TEXT,
            nullable=False,
            comment="Kind of what the standing query looks for; empty when it names objects.",
        ),
        sa.Column("q", TEXT, nullable=False, comment="The standing query: it also catches what comes later."),
        sa.Column("project_id", ID, nullable=True, comment="The project to which the query is limited."),
        sa.Column("state", TEXT, nullable=False, comment="active or lifted."),
        sa.Column("created_by", TEXT, nullable=False, comment="Who set it."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was set."),
        sa.Column("lifted_by", TEXT, nullable=False, comment="Who lifted it."),
        sa.Column("lift_reason", TEXT, nullable=False, comment="Why."),
        sa.Column("lifted_at", TIME, nullable=True, comment="When it was lifted."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Legal holds.",
    )
    op.create_index("holds_workspace", "holds", ["organization_id", "workspace_id", "state", "id"])


def _make_hold_items() -> None:
    op.create_table(
        "hold_items",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("hold_id", ID, nullable=False, comment="The hold."),
        sa.Column("item_id", ID, nullable=False, comment="The object that it names."),
        sa.PrimaryKeyConstraint("organization_id", "hold_id", "item_id"),
        comment="Objects that holds name by id.",
        sqlite_with_rowid=False,
    )
    op.create_index("hold_items_item", "hold_items", ["organization_id", "item_id"])


def _make_policies() -> None:
    op.create_table(
        "policies",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The policy."),
        sa.Column("workspace_id", ID, nullable=True, comment="The workspace; null for the whole organization."),
        sa.Column("project_id", ID, nullable=True, comment="The project; null for the whole workspace."),
        sa.Column("name", TEXT, nullable=False, comment="What people call it."),
        sa.Column("body", TEXT, nullable=False, comment="Rules and conditions."),
        sa.Column("enabled", sa.Boolean(), nullable=False, comment="Whether it runs by itself."),
        sa.Column("every_s", sa.BigInteger(), nullable=False, comment="Seconds between two runs."),
        sa.Column("created_by", TEXT, nullable=False, comment="Who made it."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.Column("updated_at", TIME, nullable=False, comment="When it was last edited."),
        sa.Column("last_run_at", TIME, nullable=True, comment="When it last ran to its end."),
        sa.Column("next_run_at", TIME, nullable=True, comment="When it is due."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Retention policies.",
    )
    op.create_index("policies_due", "policies", ["enabled", "next_run_at"])
    op.create_index("policies_name", "policies", ["organization_id", "workspace_id", "project_id", "name"])


def _make_policy_reports() -> None:
    op.create_table(
        "policy_reports",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The report."),
        sa.Column("policy_id", ID, nullable=False, comment="The policy that ran."),
        sa.Column("state", TEXT, nullable=False, comment="running, done or failed."),
        sa.Column("counts", TEXT, nullable=False, comment="Objects by action and kind."),
        sa.Column(
            "body",
            TEXT,
            nullable=False,
            comment="Deletions and jobs it caused, what was blocked and why; ids, never content.",
        ),
        sa.Column("created_at", TIME, nullable=False, comment="When it began."),
        sa.Column("finished_at", TIME, nullable=True, comment="When it ended."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="What each run of a policy did.",
    )
    op.create_index("policy_reports_policy", "policy_reports", ["organization_id", "policy_id", "id"])


def _make_signing_keys() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("id", ID, nullable=False, comment="The key."),
        sa.Column("public", sa.LargeBinary(32), nullable=False, comment="Ed25519, public part."),
        sa.Column(
            "private", sa.LargeBinary(), nullable=False, comment="Private part; wrapped when there is a master key."
        ),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.Column(
            "retired_at", TIME, nullable=True, comment="When another took its place; it still verifies what it signed."
        ),
        sa.PrimaryKeyConstraint("id"),
        comment="The server's own keys for receipts and checkpoints.",
    )


def _make_receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The receipt."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("kind", TEXT, nullable=False, comment="purge or erasure."),
        sa.Column("subject_id", ID, nullable=False, comment="The deletion or erasure request that it is about."),
        sa.Column("body", TEXT, nullable=False, comment="What was signed."),
        sa.Column("signing_key_id", ID, nullable=False, comment="With which key."),
        sa.Column("signature", TEXT, nullable=False, comment="Ed25519 over the canonical body, base64."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was signed."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Signed proofs of what is gone.",
    )
    op.create_index("receipts_subject", "receipts", ["organization_id", "subject_id"])
    op.create_index("receipts_workspace", "receipts", ["organization_id", "workspace_id", "id"])


def _make_audit_checkpoints() -> None:
    op.create_table(
        "audit_checkpoints",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column(
            "seq", sa.BigInteger(), autoincrement=False, nullable=False, comment="Number of the event it covers."
        ),
        sa.Column("hash", TEXT, nullable=False, comment="Hash of that event."),
        sa.Column("signing_key_id", ID, nullable=False, comment="With which key."),
        sa.Column(
            "signature", TEXT, nullable=False, comment="Ed25519 over organization, number, hash and time, base64."
        ),
        sa.Column("created_at", TIME, nullable=False, comment="When it was signed."),
        sa.PrimaryKeyConstraint("organization_id", "seq"),
        comment="Signed points of the audit chains.",
    )


def _make_data_keys() -> None:
    op.create_table(
        "data_keys",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The key; an encrypted blob is named by its own."),
        sa.Column(
            "owner_id",
            ID,
            nullable=False,
            comment="Run, document, project or organization; the key itself when it is a blob's.",
        ),
        sa.Column(
            "wrapped", sa.LargeBinary(), nullable=True, comment="The key under the master key; null once destroyed."
        ),
        sa.Column("master", TEXT, nullable=False, comment="Which master key wraps it."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.Column("destroyed_at", TIME, nullable=True, comment="When it was destroyed."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Keys of encrypted contents; destroying one makes every copy of what it encrypts unreadable.",
    )
    op.create_index(
        "data_keys_owner",
        "data_keys",
        ["organization_id", "owner_id"],
        unique=True,
        sqlite_where=sa.text("destroyed_at IS NULL"),
        postgresql_where=sa.text("destroyed_at IS NULL"),
    )


def _name_encrypted_blobs() -> None:
    op.add_column(
        "files",
        sa.Column(
            "content",
            TEXT,
            nullable=True,
            comment="sha256:… of the content, where the blob is encrypted and named by its key.",
        ),
    )
    op.add_column(
        "blobs",
        sa.Column(
            "fingerprint",
            sa.LargeBinary(32),
            nullable=True,
            comment="HMAC-SHA-256 of the content's digest under the project's key, while the blob is encrypted and kept.",
        ),
    )
    op.create_index(
        "blobs_fingerprint",
        "blobs",
        ["organization_id", "fingerprint"],
        unique=True,
        sqlite_where=sa.text("fingerprint IS NOT NULL"),
        postgresql_where=sa.text("fingerprint IS NOT NULL"),
    )


def _make_erasures() -> None:
    op.create_table(
        "erasures",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The request."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column(
            "field",
            TEXT,
            nullable=False,
            comment="The declared field that names the person: metadata.user_id …; empty for a search everywhere.",
        ),
        sa.Column("subject", TEXT, nullable=False, comment="Who is erased; empty once done."),
        sa.Column("subject_digest", TEXT, nullable=False, comment="SHA-256 of it, which stays."),
        sa.Column("action", TEXT, nullable=False, comment="redact or delete."),
        sa.Column("state", TEXT, nullable=False, comment="open, running, done, partly_held or cancelled."),
        sa.Column("reason", TEXT, nullable=False, comment="Why."),
        sa.Column("ticket", TEXT, nullable=False, comment="Reference to somebody's ticket."),
        sa.Column("created_by", TEXT, nullable=False, comment="Who asked."),
        sa.Column("created_at", TIME, nullable=False, comment="When."),
        sa.Column("due_at", TIME, nullable=False, comment="Until when it must be answered."),
        sa.Column("finished_at", TIME, nullable=True, comment="When it was done."),
        sa.Column(
            "report", TEXT, nullable=False, comment="What was found, redacted, deleted and held: counts and ids."
        ),
        sa.Column("receipt_id", ID, nullable=True, comment="The receipt."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Requests to erase one person.",
    )
    op.create_index("erasures_workspace", "erasures", ["organization_id", "workspace_id", "id"])


def _make_subjects() -> None:
    op.create_table(
        "subjects",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("digest", TEXT, nullable=False, comment="SHA-256 over declared field and value."),
        sa.Column("owner_id", ID, nullable=False, comment="Run or document."),
        sa.Column("row_id", TEXT, nullable=False, comment="The row."),
        sa.PrimaryKeyConstraint("organization_id", "digest", "owner_id", "row_id"),
        comment="Which rows speak of whom, by the declared fields.",
        sqlite_with_rowid=False,
    )
    op.create_index("subjects_owner", "subjects", ["organization_id", "owner_id", "row_id"])


def _make_removals() -> None:
    op.create_table(
        "removals",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The removal."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("item_id", ID, nullable=False, comment="The object that it was removed from."),
        sa.Column("part", TEXT, nullable=False, comment="row, metric, file or console."),
        sa.Column(
            "ref",
            TEXT,
            nullable=False,
            comment="Which: row id, metric key or path; empty for several rows, and once purged.",
        ),
        sa.Column("stream", TEXT, nullable=False, comment="Of a metric or console output: the stream."),
        sa.Column(
            "first_row",
            sa.BigInteger(),
            nullable=True,
            comment="Of a metric or console output: the first row of the stream that is hidden.",
        ),
        sa.Column(
            "end_row",
            sa.BigInteger(),
            nullable=True,
            comment="Of a metric or console output: one past the last row that is hidden.",
        ),
        sa.Column(
            "xact", sa.BigInteger(), nullable=True, comment="Of rows: the transaction whose tombstones hide them."
        ),
        sa.Column(
            "digest",
            TEXT,
            nullable=False,
            comment="Of a file: the blob, which it still refers to; empty once purged or restored.",
        ),
        sa.Column("count", sa.BigInteger(), nullable=False, comment="Rows, points or lines removed."),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="Bytes that they took."),
        sa.Column("state", TEXT, nullable=False, comment="trashed, restored, purging or purged."),
        sa.Column("reason", TEXT, nullable=False, comment="Why."),
        sa.Column("ticket", TEXT, nullable=False, comment="Reference to somebody's ticket."),
        sa.Column("actor", TEXT, nullable=False, comment="Who."),
        sa.Column("key_id", ID, nullable=False, comment="With which key."),
        sa.Column("body", TEXT, nullable=False, comment="What puts it back; empty once purged."),
        sa.Column("created_at", TIME, nullable=False, comment="When."),
        sa.Column("restorable_until", TIME, nullable=False, comment="When it may be purged."),
        sa.Column("restored_at", TIME, nullable=True, comment="When it came back."),
        sa.Column("purged_at", TIME, nullable=True, comment="When it was gone."),
        sa.Column("purged_by", TEXT, nullable=False, comment="Who asked for the purge."),
        sa.Column("verification", TEXT, nullable=False, comment="What reading every store again found."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Parts that were removed from an object: rows, a metric, a file, console output.",
    )
    op.create_index("removals_due", "removals", ["state", "restorable_until"])
    op.create_index("removals_item", "removals", ["organization_id", "item_id", "id"])
    op.create_index("removals_workspace", "removals", ["organization_id", "workspace_id", "id"])


def _make_purge_blobs() -> None:
    op.create_table(
        "purge_blobs",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("deletion_id", ID, nullable=False, comment="The deletion that is being purged."),
        sa.Column("digest", TEXT, nullable=False, comment="A blob that it referred to."),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Bytes."),
        sa.PrimaryKeyConstraint("organization_id", "deletion_id", "digest"),
        comment="What a purge under way has yet to find gone from the blob store; empty once it is verified.",
        sqlite_with_rowid=False,
    )


def _make_usage_counters() -> None:
    # Filled, and kept, by triggers that are put in place whenever a database is opened.
    op.create_table(
        "usage_counters",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("project_id", ID, nullable=False, comment="The project."),
        sa.Column("kind", TEXT, nullable=False, comment="What is counted."),
        sa.Column("user", TEXT, nullable=False, comment="Who made it."),
        sa.Column("tag", TEXT, nullable=False, comment="One of its tags; empty in the line that counts everything."),
        sa.Column("state", TEXT, nullable=False, comment="live or trashed."),
        sa.Column(
            "shard",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
            comment="So that writers at the same moment do not wait for each other; lines are added up over it.",
        ),
        sa.Column("items", sa.BigInteger(), nullable=False, comment="Objects."),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="Bytes that they hold."),
        sa.PrimaryKeyConstraint(
            "organization_id", "workspace_id", "project_id", "kind", "user", "tag", "state", "shard"
        ),
        comment="Who holds how much: kept by triggers on the objects, so that no statement can forget it.",
        sqlite_with_rowid=False,
    )


def _make_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The webhook."),
        sa.Column("workspace_id", ID, nullable=False, comment="The workspace."),
        sa.Column("url", TEXT, nullable=False, comment="Where events are sent."),
        sa.Column(
            "secret", sa.LargeBinary(), nullable=False, comment="What signs them; wrapped when there is a master key."
        ),
        sa.Column("events", TEXT, nullable=False, comment="Names or patterns of events; empty for all."),
        sa.Column("enabled", sa.Boolean(), nullable=False, comment="Whether it is in use."),
        sa.Column("created_by", TEXT, nullable=False, comment="Who made it."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was made."),
        sa.Column(
            "seq", sa.BigInteger(), nullable=False, comment="Number of the newest audit event that was looked at."
        ),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="Who is told about what happens.",
    )
    op.create_index("webhooks_workspace", "webhooks", ["organization_id", "workspace_id", "id"])


def _make_webhook_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("organization_id", ID, nullable=False, comment="The tenant."),
        sa.Column("id", ID, nullable=False, comment="The delivery."),
        sa.Column("webhook_id", ID, nullable=False, comment="To whom."),
        sa.Column("seq", sa.BigInteger(), nullable=False, comment="The audit event that is told."),
        sa.Column("subject_id", TEXT, nullable=False, comment="What it is about: told in order."),
        sa.Column("event", TEXT, nullable=False, comment="Its name."),
        sa.Column("state", TEXT, nullable=False, comment="waiting, delivered or failed."),
        sa.Column("attempts", sa.SmallInteger(), nullable=False, comment="Times it was tried."),
        sa.Column("status", sa.BigInteger(), nullable=False, comment="The last HTTP status; 0 when there was none."),
        sa.Column("error", TEXT, nullable=False, comment="The last failure."),
        sa.Column("created_at", TIME, nullable=False, comment="When it was noted."),
        sa.Column("run_at", TIME, nullable=False, comment="Not before."),
        sa.Column("delivered_at", TIME, nullable=True, comment="When it was accepted."),
        sa.PrimaryKeyConstraint("organization_id", "id"),
        comment="What webhooks were told, and what waits.",
    )
    op.create_index("webhook_deliveries_due", "webhook_deliveries", ["state", "run_at"])
    op.create_index("webhook_deliveries_webhook", "webhook_deliveries", ["organization_id", "webhook_id", "seq"])


def _narrow_indexes() -> None:
    """Leave out of two indexes of objects what nobody looks for there, so that moving them costs less."""
    for name, columns, where in (
        ("items_parent", ["organization_id", "parent_id", "kind", "state", "id"], "parent_id <> project_id"),
        ("items_deletion", ["organization_id", "deletion_id", "id"], "deletion_id IS NOT NULL"),
    ):
        op.drop_index(name, "items")
        op.create_index(name, "items", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
