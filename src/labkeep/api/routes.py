"""The native API as a table: every row is method, path, command, operation and answer, under ``/api/v1``.

What moves bytes instead of JSON (history, files, blobs) is in `labkeep.api.stream`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from labkeep.core import audit as a
from labkeep.core import audit_files as f
from labkeep.core import commands as c
from labkeep.core import commands_branches as cb
from labkeep.core import commands_encryption as ce
from labkeep.core import commands_holds as h
from labkeep.core import commands_jobs as j
from labkeep.core import commands_plans as cl
from labkeep.core import commands_policies as cp
from labkeep.core import commands_proof as p
from labkeep.core import commands_rules as cr
from labkeep.core import commands_transfer as x
from labkeep.core import commands_webhooks as w
from labkeep.core import entities as e
from labkeep.core import erasures as er
from labkeep.core import receipts as r
from labkeep.core import removals as rm
from labkeep.core.plan_difference import PlanDifference
from labkeep.core.webhooks import Delivery, Webhook
from labkeep.http.wire import Endpoint, Prepare
from labkeep.operations import (
    Operation,
    accounts,
    artifacts,
    audits,
    branches,
    checkpoints,
    consoles,
    deleted_objects,
    deletions,
    documents,
    encryption_status,
    environments,
    erasures,
    experiments,
    exports,
    files,
    holds,
    imports,
    jobs,
    policies,
    policy_previews,
    policy_runs,
    projects,
    receipts,
    removals,
    retention_limits,
    rows,
    rules,
    runs,
    undoing,
    usage,
    webhooks,
)

PREFIX = "/api/v1"


def _read(
    path: str, command: type[Any], operation: Operation, output: Any, summary: str, variant: str = ""
) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        command=command,
        operation=operation,
        output=output,
        writes=False,
        summary=summary,
        tag=path.split("/")[1],
        variant=variant,
    )


def _ask(path: str, command: type[Any], operation: Operation, output: Any, summary: str) -> Endpoint:
    """A question with a body: nothing is written."""
    return msgspec.structs.replace(_write("POST", path, command, operation, output, summary), writes=False)


def _write(
    method: str, path: str, command: type[Any], operation: Operation, output: Any, summary: str, status: int = 200
) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        command=command,
        operation=operation,
        output=output,
        writes=True,
        summary=summary,
        tag=path.split("/")[1],
        status=status,
    )


def _prepared(
    path: str, command: type[Any], prepare: Prepare, operation: Operation, summary: str, status: int = 200
) -> Endpoint:
    """A write that begins before its transaction, and answers the run."""
    made = _write("POST", path, command, operation, e.Run, summary, status)
    return msgspec.structs.replace(made, prepare=prepare)


def _lined(
    path: str, command: type[Any], operation: Operation, output: Any, summary: str, status: int = 200
) -> Endpoint:
    """A write for which lines of the console may have to be found by their time first."""
    made = _write("POST", path, command, operation, output, summary, status)
    return msgspec.structs.replace(made, prepare=consoles.locate)


ACCOUNTS = [
    _read("/me", c.Nothing, accounts.me, c.Me, "Who this key is"),
    _read("/workspaces", c.ListWorkspaces, accounts.list_workspaces, c.Page[e.Workspace], "List workspaces"),
    _write("POST", "/workspaces", c.CreateWorkspace, accounts.create_workspace, e.Workspace, "Create a workspace", 201),
    _read("/keys", c.ListKeys, accounts.list_keys, c.Page[e.ApiKey], "List keys, without secrets"),
    _write("POST", "/keys", c.CreateKey, accounts.create_key, c.NewKey, "Create a key; its secret is shown once", 201),
    _write("POST", "/keys/{id}/resume", c.ResumeKey, accounts.resume_key, e.ApiKey, "Resume a suspended key"),
    _write("DELETE", "/keys/{id}", c.RevokeKey, accounts.revoke_key, e.ApiKey, "Revoke a key"),
    _read("/members", c.ListMembers, accounts.list_members, c.Page[e.Member], "List members"),
    _write("PUT", "/members/{user}", c.SetMember, accounts.set_member, e.Member, "Give a user a role"),
]

PROJECTS = [
    _read("/projects", c.ListProjects, projects.list_, c.Page[e.Project], "List projects"),
    _write("POST", "/projects", c.CreateProject, projects.create, e.Project, "Create a project", 201),
    _read("/projects/{id}", c.Get, projects.get, e.Project, "Get a project by id or name"),
    _write("PATCH", "/projects/{id}", c.UpdateProject, projects.update, e.Project, "Edit a project"),
    _read("/projects/{id}/encryption", ce.GetEncryption, encryption_status.get, ce.Encryption, "How much is encrypted"),
]

RUNS = [
    _read("/runs", c.ListRuns, runs.list_, c.Page[e.Run], "List and search runs"),
    _write("POST", "/runs", c.CreateRun, runs.create, e.Run, "Create a run", 201),
    _write("POST", "/runs/batch", c.CreateRuns, runs.create_many, c.Page[e.Run], "Create many runs at once", 201),
    _read("/runs/diff", c.DiffRuns, runs.diff, c.Page[c.Difference], "Compare two runs"),
    _read("/runs/{id}", c.Get, runs.get, e.Run, "Get a run"),
    _write("PATCH", "/runs/{id}", c.UpdateRun, runs.update, e.Run, "Edit a run"),
    _write("POST", "/runs/{id}/finish", c.FinishRun, runs.finish, e.Run, "Finish a run"),
    _write("POST", "/runs/{id}/stop", c.StopRun, runs.stop, e.Run, "Ask a run to stop"),
    _prepared(
        "/runs/{id}/fork", cb.ForkRun, branches.prepare_fork, branches.fork, "Begin a run with a run's history", 201
    ),
    _prepared("/runs/{id}/rewind", cb.RewindRun, branches.prepare_rewind, branches.rewind, "Take a run back to a step"),
    _write("POST", "/runs/{id}/heartbeat", c.Heartbeat, runs.heartbeat, c.Alive, "Say that a run is alive"),
]

ROWS = [
    _write("POST", "/rows/{id}", c.WriteRows, rows.write, c.Written, "Write rows of a run or document"),
    _read("/rows/{id}", c.ReadRows, rows.read, c.RowPage, "Read rows of a run or document"),
    _read("/rows/{id}/stats", c.Get, rows.stats, c.RowStats, "Count rows and average their scores"),
]

DOCUMENTS = [
    _read("/documents", c.ListDocuments, documents.list_, c.Page[e.Document], "List documents"),
    _write("POST", "/documents", c.CreateDocument, documents.create, e.Document, "Create a document", 201),
    _read("/documents/{id}", c.Get, documents.get, e.Document, "Get a document"),
    _write("PATCH", "/documents/{id}", c.UpdateDocument, documents.update, e.Document, "Edit a document"),
    _write("POST", "/documents/{id}/versions", c.CommitVersion, documents.commit, e.Version, "Commit a version", 201),
    _read("/documents/{id}/versions", c.ListVersions, documents.list_versions, c.Page[e.Version], "List versions"),
    _read(
        "/documents/{id}/versions/latest",
        c.GetVersion,
        documents.get_version,
        e.Version,
        "Get the newest version",
        "latest",
    ),
    _read("/documents/{id}/versions/{number}", c.GetVersion, documents.get_version, e.Version, "Get a version"),
]

EXPERIMENTS = [
    _read("/experiments", c.ListExperiments, experiments.list_, c.Page[c.Experiment], "List experiments"),
    _write("POST", "/experiments", c.CreateExperiment, experiments.create, c.Experiment, "Create an experiment", 201),
    _read("/experiments/{id}", c.Get, experiments.get, c.Experiment, "Get an experiment"),
    _write("PATCH", "/experiments/{id}", c.UpdateExperiment, experiments.update, c.Experiment, "Edit an experiment"),
    _write("POST", "/experiments/{id}/start", c.ExperimentVerb, experiments.start, c.Experiment, "Start an experiment"),
    _write("POST", "/experiments/{id}/stop", c.ExperimentVerb, experiments.stop, c.Experiment, "Stop an experiment"),
    _write(
        "POST",
        "/experiments/{id}/complete",
        c.ExperimentVerb,
        experiments.complete,
        c.Experiment,
        "Complete an experiment",
    ),
    _read("/experiments/{id}/results", c.Get, experiments.results, e.Json, "Results of an experiment"),
]

ARTIFACTS = [
    _read("/artifacts", c.ListArtifacts, artifacts.list_, c.Page[e.Artifact], "List artifacts"),
    _write(
        "POST",
        "/artifacts",
        c.CreateArtifactVersion,
        artifacts.create_version,
        e.ArtifactVersion,
        "Create an artifact version",
        201,
    ),
    _read(
        "/artifacts/resolve",
        c.ResolveArtifact,
        artifacts.resolve,
        e.ArtifactVersion,
        "Find a version by name and alias",
    ),
    _read(
        "/artifacts/versions",
        c.ListArtifactVersions,
        artifacts.list_versions,
        c.Page[e.ArtifactVersion],
        "List versions",
    ),
    _read("/artifacts/versions/{id}", c.Get, artifacts.get_version, e.ArtifactVersion, "Get a version"),
    _write(
        "POST",
        "/artifacts/versions/{id}/aliases",
        c.SetAliases,
        artifacts.set_aliases,
        e.ArtifactVersion,
        "Move aliases",
    ),
    _read("/artifacts/{id}", c.Get, artifacts.get, e.Artifact, "Get an artifact"),
]

FILES = [
    _read("/files/{id}", c.ListFiles, files.list_, c.Page[e.File], "List files of a run, document or artifact version"),
]

ENVIRONMENTS = [
    _read("/environments", c.ListEnvironments, environments.list_, c.Page[e.Environment], "List environments"),
    _write("PUT", "/environments", c.BindEnvironment, environments.bind, e.Environment, "Bind an environment"),
    _read("/environments/{name}", c.GetEnvironment, environments.get, e.Environment, "Get an environment"),
    _read("/links/{id}", c.ListLinks, environments.list_links, c.Page[e.Link], "List links of an object"),
    _write("POST", "/links", c.CreateLink, environments.link, e.Link, "Link two objects", 201),
    _write("DELETE", "/links/{id}", c.RemoveLink, environments.unlink, e.Link, "Remove a link"),
]

LIFECYCLE = [
    _write("POST", "/undo", cl.Undo, undoing.undo, c.Outcome, "Take back what an answer's undo names"),
    _read("/plans", cl.ListPlans, deletions.list_plans, c.Page[c.Plan], "List plans"),
    _read("/plans/{id}", c.Get, deletions.get_plan, c.Plan, "Get a plan"),
    _read("/plans/{id}/diff", cl.DiffPlans, deletions.diff_plans, PlanDifference, "Compare two plans"),
    msgspec.structs.replace(
        _write("POST", "/plans", c.MakePlan, deletions.make_plan, c.Plan, "Plan: what a verb would do"),
        # In a reading transaction: a plan over a million objects keeps no writer waiting.
        prepare=lambda store, actor, command: deletions.drafted(store.database, actor, command),
    ),
    _write(
        "POST", "/apply", c.Apply, deletions.apply, c.Outcome, "Archive, unarchive, trash, restore or purge a selection"
    ),
    _read("/deletions", c.ListDeletions, deletions.list_, c.Page[e.Deletion], "List deletions"),
    _read("/deletions/{id}", c.Get, deletions.get, e.Deletion, "Get a deletion"),
    _read(
        "/deletions/{id}/members", c.ListMembersOf, deletions.members, c.Page[e.DeletionMember], "What a deletion holds"
    ),
    _write("POST", "/deletions/{id}/restore", c.RestoreDeletion, deletions.restore, c.Outcome, "Take a deletion back"),
    _write(
        "POST",
        "/deletions/{id}/purge",
        c.PurgeDeletion,
        deletions.purge,
        c.Outcome,
        "Remove for good what a deletion holds",
    ),
    _read("/trash", c.ListTrash, deletions.trash_list, c.Page[c.TrashedItem], "What is in the trash"),
    _write("POST", "/items/{id}/archive", c.ItemVerb, deletions.archive_item, c.Outcome, "Archive one object"),
    _write("POST", "/items/{id}/unarchive", c.ItemVerb, deletions.unarchive_item, c.Outcome, "Unarchive one object"),
    _write("POST", "/items/{id}/trash", c.ItemVerb, deletions.trash_item, c.Outcome, "Trash one object"),
    _write(
        "POST",
        "/items/{id}/restore",
        c.ItemVerb,
        deletions.restore_item,
        c.Outcome,
        "Restore one object from the trash",
    ),
    _write(
        "POST",
        "/items/{id}/purge",
        c.ItemVerb,
        deletions.purge_item,
        c.Outcome,
        "Purge one object that is in the trash",
    ),
    _write("PUT", "/items/{id}/lock", c.SetLock, deletions.set_lock, e.Item, "Lock or unlock one object"),
    _read("/items/{id}", c.Get, deletions.get_item, e.Item, "Get any object by id"),
]

RULES = [
    _read("/rules", cr.GetRules, rules.get, cr.RulesInForce, "Rules of the lifecycle, level by level"),
    _write(
        "PATCH", "/rules/workspace", cr.SetRules, rules.set_workspace, cr.RulesInForce, "Change the workspace's rules"
    ),
    _write(
        "PATCH",
        "/rules/organization",
        cr.SetRules,
        rules.set_organization,
        cr.RulesInForce,
        "Change the organization's rules",
    ),
]

HOLDS = [
    _read("/holds", h.ListHolds, holds.list_, c.Page[e.Hold], "List legal holds"),
    _write("POST", "/holds", h.SetHold, holds.set_, e.Hold, "Set a legal hold", 201),
    _write("POST", "/holds/preview", h.HoldScope, holds.preview, h.HoldPreview, "What a legal hold would cover now"),
    _read("/holds/{id}", c.Get, holds.get, e.Hold, "Get a legal hold"),
    _read("/holds/{id}/items", h.ListHeld, holds.held, c.Page[e.Item], "What a legal hold covers now"),
    _write("POST", "/holds/{id}/lift", h.LiftHold, holds.lift, e.Hold, "Lift a legal hold"),
]

RECEIPTS = [
    _read("/receipts", p.ListReceipts, receipts.list_, c.Page[r.Receipt], "List receipts"),
    _read("/receipts/{id}", c.Get, receipts.get, r.Receipt, "Get a receipt"),
    _read("/deletions/{id}/receipt", c.Get, receipts.of_deletion, r.Receipt, "Get the receipt of a purge"),
    _read("/signing-keys", c.Nothing, receipts.keys, r.KeySet, "The public keys that verify receipts"),
    _write("POST", "/signing-keys/rotate", c.Nothing, receipts.rotate, r.PublicKey, "Put a new signing key into use"),
]

POLICIES = [
    _read("/policies", cp.ListPolicies, policies.list_, c.Page[cp.Policy], "List retention policies"),
    _write("POST", "/policies", cp.CreatePolicy, policies.create, cp.Policy, "Create a retention policy", 201),
    _write("PUT", "/policies", cp.PutPolicy, policies.put, cp.PutOutcome, "Create a retention policy, or change it"),
    _read("/policies/table", cp.ListLimits, retention_limits.table, c.Page[cp.RetentionLimit], "Retention limits"),
    _ask(
        "/policies/preview", cp.PreviewDraft, policy_previews.preview_draft, cp.PolicyPreview, "Who would go by a draft"
    ),
    _read("/policies/reports/{id}", c.Get, policies.get_report, cp.PolicyReport, "Get the report of a run of a policy"),
    _read("/policies/{id}", c.Get, policies.get, cp.Policy, "Get a retention policy"),
    _write("PATCH", "/policies/{id}", cp.UpdatePolicy, policies.update, cp.Policy, "Change a retention policy"),
    _read(
        "/policies/{id}/preview",
        cp.PreviewPolicy,
        policy_previews.preview,
        cp.PolicyPreview,
        "Who would go by a policy",
    ),
    _write("POST", "/policies/{id}/run", cp.RunPolicy, policy_runs.run, cp.PolicyRun, "Run a policy now"),
    _read(
        "/policies/{id}/reports", cp.ListReports, policies.list_reports, c.Page[cp.PolicyReport], "What a policy did"
    ),
    _write("DELETE", "/policies/{id}", cp.RemovePolicy, policies.remove, cp.Policy, "Remove a retention policy"),
]

REMOVALS = [
    _lined("/removals/plan", rm.PlanRemoval, removals.plan, rm.RemovalPlan, "Plan: what a removal would take"),
    _lined("/removals", rm.Remove, removals.remove, rm.Removal, "Remove rows, a metric, a file or console output", 201),
    _read("/removals", rm.ListRemovals, removals.list_, c.Page[rm.Removal], "List what was removed from objects"),
    _read(
        "/runs/{id}/removals", rm.ListRemovals, removals.list_, c.Page[rm.Removal], "What was removed of a run", "run"
    ),
    _read("/removals/{id}", c.Get, removals.get, rm.Removal, "Get a removal"),
    _write("POST", "/removals/{id}/restore", rm.RestoreRemoval, removals.restore, rm.Removal, "Take a removal back"),
    _write(
        "POST",
        "/removals/{id}/purge",
        rm.PurgeRemoval,
        removals.purge,
        rm.RequestedPurge,
        "Remove for good what a removal holds",
    ),
]

ERASURES = [
    _read("/erasures", er.ListErasures, erasures.list_, c.Page[er.Erasure], "List requests to erase a person"),
    _write("POST", "/erasures", er.CreateErasure, erasures.create, er.Erasure, "Ask to erase a person", 201),
    _read("/erasures/{id}", c.Get, erasures.get, er.Erasure, "Get a request to erase a person"),
    _write("POST", "/erasures/{id}/preview", er.PreviewErasure, erasures.preview, er.AskedErasure, "Look, and count"),
    _write("POST", "/erasures/{id}/run", er.RunErasure, erasures.run, er.AskedErasure, "Erase, verify, sign a receipt"),
    _write("POST", "/erasures/{id}/cancel", er.CancelErasure, erasures.cancel, er.Erasure, "Withdraw a request"),
]

RECORDS = [
    _read("/audit", c.ListAudit, audits.list_, c.Page[e.AuditEvent], "List audit events"),
    _read("/audit/verify", c.Nothing, audits.verify, c.AuditReport, "Check the audit chain"),
    _read("/audit/export", p.ExportAudit, audits.export, f.AuditPage, "Export the audit chain"),
    _read(
        "/audit/objects", p.ListDeletedObjects, deleted_objects.list_, c.Page[p.DeletedObject], "List deleted objects"
    ),
    _read("/audit/checkpoints", p.ListCheckpoints, checkpoints.list_, c.Page[a.Checkpoint], "List signed checkpoints"),
    _write("POST", "/audit/checkpoints", c.Nothing, checkpoints.sign, a.Checkpoint, "Sign the end of the audit chain"),
    _read("/jobs", c.ListJobs, jobs.list_, c.Page[e.Job], "List background jobs"),
    _read("/jobs/{id}", c.Get, jobs.get, e.Job, "Get a background job"),
    _read("/jobs/{id}/items", j.ListJobItems, jobs.items, c.Page[j.JobItem], "What a job left as it was, and why"),
    _write("POST", "/jobs/{id}/pause", j.ControlJob, jobs.pause, e.Job, "Pause a job"),
    _write("POST", "/jobs/{id}/resume", j.ResumeJob, jobs.resume, e.Job, "Let a job go on"),
    _write("POST", "/jobs/{id}/cancel", j.ControlJob, jobs.cancel, e.Job, "End a job before it is done"),
    _write("PUT", "/jobs/{id}/rate", j.SetRate, jobs.set_rate, e.Job, "Limit how fast a job goes"),
    _read("/usage", c.GetUsage, usage.by, c.Page[c.Usage], "Who holds how much"),
]

WEBHOOKS = [
    _read("/webhooks", w.ListWebhooks, webhooks.list_, c.Page[Webhook], "List webhooks"),
    _write(
        "POST",
        "/webhooks",
        w.CreateWebhook,
        webhooks.create,
        w.NewWebhook,
        "Create a webhook; its secret is shown once",
        201,
    ),
    _read("/webhooks/{id}", w.GetWebhook, webhooks.get, Webhook, "Get a webhook"),
    _write("PATCH", "/webhooks/{id}", w.UpdateWebhook, webhooks.edit, Webhook, "Edit a webhook"),
    _write("DELETE", "/webhooks/{id}", w.RemoveWebhook, webhooks.remove, Webhook, "Remove a webhook"),
    _write(
        "POST",
        "/webhooks/{id}/secret",
        w.RotateWebhookSecret,
        webhooks.rotate_secret,
        w.NewWebhook,
        "Give a webhook a new secret",
    ),
    _write("POST", "/webhooks/{id}/test", w.TestWebhook, webhooks.test, Webhook, "Try a webhook out"),
    _read(
        "/webhooks/{id}/deliveries", w.ListDeliveries, webhooks.deliveries, c.Page[Delivery], "What a webhook was told"
    ),
    _write("POST", "/webhooks/{id}/replay", w.ReplayWebhook, webhooks.replay, w.Replayed, "Tell a webhook again"),
]

TRANSFER = [
    _read("/runs/{id}/streams", x.ListStreams, exports.list_streams, c.Page[x.Stream], "List streams of a run"),
    _read("/rows/{id}/states", x.ReadStates, rows.states, c.Page[x.RowState], "Read all states that rows had"),
    _write("POST", "/imports", x.StartImport, imports.start, x.Import, "Begin an import", 201),
    _read("/imports/{id}", x.GetImport, imports.get, x.Import, "How far an import is"),
    _write("POST", "/imports/{id}/parts", x.ImportPart, imports.add_part, x.Import, "Take the next part of an import"),
    _write("POST", "/imports/{id}/finish", x.FinishImport, imports.finish, x.Imported, "Show what was imported"),
    _write("DELETE", "/imports/{id}", x.GetImport, imports.give_up, c.Outcome, "Give an import up"),
]

ENDPOINTS: list[Endpoint] = [
    *ACCOUNTS,
    *PROJECTS,
    *RUNS,
    *ROWS,
    *DOCUMENTS,
    *EXPERIMENTS,
    *ARTIFACTS,
    *FILES,
    *ENVIRONMENTS,
    *LIFECYCLE,
    *RULES,
    *REMOVALS,
    *ERASURES,
    *HOLDS,
    *RECEIPTS,
    *POLICIES,
    *RECORDS,
    *WEBHOOKS,
    *TRANSFER,
]
