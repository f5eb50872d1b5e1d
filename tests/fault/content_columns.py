"""Every column that can hold words, bytes or JSON: either the canary test plants a word in it, or here is why not."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import LargeBinary, Text

from labkeep.storage import column_types as types
from labkeep.storage.tables import metadata
from tests.fault.processes import unpacked

PLANTED = frozenset(
    {
        "artifact_versions.aliases",
        "chunks.data",
        "chunks.stream",
        "deletion_bindings.body",
        "documents.status",
        "environments.name",
        "fields.path",
        "fields.text",
        "files.media_type",
        "files.path",
        "idempotency_keys.response",
        "items.description",
        "items.extra",
        "items.handle",
        "items.metadata",
        "items.name",
        "items.tags",
        "items.type",
        "links.type",
        "plans.body",
        "policies.body",
        "policies.name",
        "projects.settings",
        "removals.ref",
        "row_scores.name",
        "rows.data",
        "rows.id",
        "rows.root_id",
        "runs.config",
        "runs.group",
        "runs.job_type",
        "runs.notes",
        "runs.summary",
        "segments.stream",
        "series.key",
        "series.stream",
        "series.summary",
        "streams.stream",
        "usage_counters.tag",
        "versions.body",
        "versions.message",
    }
)
"""Columns in which a word was found before the purge, and none after it."""

_DIGEST, _WORD, _PERSON = "a digest", "one of our own words", "who did it; not what it was"
_HOLD = "what somebody says of a legal case, and the query that finds it: it stays with the hold, as the docs say"
_WHY = "why it was done: reasons and tickets are the free text that stays, as the docs say"
_SETUP = "how the server or an organization is set up; no object has part in it"

REASONS: dict[str, str] = {
    **dict.fromkeys(("api_keys.digest", "artifact_versions.digest", "audit_checkpoints.hash"), _DIGEST),
    **dict.fromkeys(
        ("audit_events.previous", "audit_events.hash", "audit_heads.hash", "audit_heads.pruned_hash"), _DIGEST
    ),
    **dict.fromkeys(("blobs.digest", "blobs.fingerprint", "deletions.plan_hash", "deletions.commitment"), _DIGEST),
    **dict.fromkeys(
        ("erasures.subject_digest", "files.digest", "files.content", "idempotency_keys.fingerprint"), _DIGEST
    ),
    **dict.fromkeys(("items.name_digest", "plans.hash", "purge_blobs.digest", "segments.digest"), _DIGEST),
    **dict.fromkeys(("subjects.digest", "versions.digest", "deletions.archive", "removals.digest"), _DIGEST),
    **dict.fromkeys(
        ("api_keys.user", "api_keys.name", "members.user", "organizations.name", "workspaces.name"), _SETUP
    ),
    **dict.fromkeys(("api_keys.scopes", "api_keys.hint", "organizations.settings", "workspaces.settings"), _SETUP),
    **dict.fromkeys(("signing_keys.public", "signing_keys.private", "data_keys.wrapped", "data_keys.master"), _SETUP),
    **dict.fromkeys(("webhooks.url", "webhooks.secret", "webhooks.events"), _SETUP),
    **dict.fromkeys(("audit_events.event", "deletion_bindings.type", "deletion_members.outcome"), _WORD),
    **dict.fromkeys(("deletion_bindings.outcome", "deletions.state", "erasures.action", "erasures.state"), _WORD),
    **dict.fromkeys(("fields.type", "holds.kind", "holds.state", "items.dialect", "job_items.outcome"), _WORD),
    **dict.fromkeys(("jobs.task", "jobs.state", "jobs.wanted", "policy_reports.state", "receipts.kind"), _WORD),
    **dict.fromkeys(("removals.part", "removals.state", "usage_counters.state", "deletion_members.status"), _WORD),
    **dict.fromkeys(("webhook_deliveries.event", "webhook_deliveries.state"), _WORD),
    **dict.fromkeys(("audit_events.actor", "audit_events.client", "deletions.actor", "deletions.client"), _PERSON),
    **dict.fromkeys(("deletion_members.created_by", "deletions.purge_requested_by", "deletions.purged_by"), _PERSON),
    **dict.fromkeys(("environments.bound_by", "erasures.created_by", "holds.created_by", "holds.lifted_by"), _PERSON),
    **dict.fromkeys(("items.created_by", "jobs.actor", "plans.actor", "policies.created_by"), _PERSON),
    **dict.fromkeys(
        ("removals.actor", "removals.purged_by", "usage_counters.user", "versions.author", "webhooks.created_by"),
        _PERSON,
    ),
    **dict.fromkeys(("audit_events.reason", "audit_events.ticket", "deletions.reason", "deletions.ticket"), _WHY),
    **dict.fromkeys(("erasures.reason", "erasures.ticket", "removals.reason", "removals.ticket"), _WHY),
    **dict.fromkeys(("holds.matter", "holds.custodian", "holds.reason", "holds.q", "holds.lift_reason"), _HOLD),
    **dict.fromkeys(
        ("audit_events.key_id", "audit_events.request_id", "audit_events.workspace_id", "audit_events.subject_id"),
        "an id",
    ),
    **dict.fromkeys(("audit_events.deletion_id", "jobs.workspace_id", "webhook_deliveries.subject_id"), "an id"),
    "audit_checkpoints.signature": "a signature",
    "receipts.signature": "a signature",
    "audit_events.details": "ids, counts and digests",
    "deletions.counts": "counts",
    "deletions.selection": "how many ids, and whether there was a query",
    "deletions.verification": "counts, and how it was removed",
    "policy_reports.counts": "counts",
    "policy_reports.body": "ids",
    "receipts.body": "ids, counts, digests, people, reasons and tickets",
    "erasures.field": "the name of a declared field",
    "erasures.subject": "emptied when the request is done",
    "erasures.report": "counts and ids",
    "idempotency_keys.idempotency_key": "what a client made up for one request; ours are random",
    "job_items.reason": "which rule kept an object",
    "removals.verification": "counts",
    "removals.stream": "emptied when the removal is purged",
    "jobs.dedupe": "a task and ids",
    "jobs.payload": "ids; emptied when the job is done",
    "jobs.error": "what went wrong, in words of ours",
    "jobs.result": "counts and ids",
    "jobs.worker": "a machine and a process",
    "removals.body": "emptied with the object",
    "subjects.row_id": "goes with the object",
    "webhook_deliveries.error": "what the receiver's server answered",
}
"""Why no word is planted in a column."""


def content_columns() -> list[str]:
    """Every column that could hold somebody's words."""
    found = []
    for table in metadata.sorted_tables:
        for column in table.columns:
            free = isinstance(column.type, types.Json | types.Words | LargeBinary | Text)
            if free and not isinstance(column.type, types.Id | types.Choice | types.Moment):
                found.append(f"{table.name}.{column.name}")
    return found


def columns_with(database: Path, word: bytes) -> set[str]:
    """The columns of a SQLite file in which ``word`` is, plain or compressed."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        connection.text_factory = bytes
        return {name for name in content_columns() if _holds(connection, name, word)}
    finally:
        connection.close()


def _holds(connection: sqlite3.Connection, name: str, word: bytes) -> bool:
    table, _, column = name.partition(".")
    values: list[tuple[Any]] = connection.execute(f'SELECT "{column}" FROM "{table}"').fetchall()
    return any(isinstance(value, bytes) and any(word in part for part in unpacked(value)) for (value,) in values)
