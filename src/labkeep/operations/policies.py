"""Retention policies: writing them down. What they do is in `labkeep.operations.retention`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import select

from labkeep.core import terms
from labkeep.core.access import Actor, require
from labkeep.core.commands import Get, Page
from labkeep.core.commands_policies import (
    CreatePolicy,
    ListPolicies,
    ListReports,
    Policy,
    PolicyReport,
    PutOutcome,
    PutPolicy,
    RemovePolicy,
    UpdatePolicy,
)
from labkeep.core.entities import Json
from labkeep.core.errors import AlreadyExists, Invalid, NotFound
from labkeep.core.retention import describe
from labkeep.operations.projects import resolve
from labkeep.storage import policies as store
from labkeep.storage import tables as t
from labkeep.storage.pages import cut, decode_id_cursor, page
from labkeep.storage.transaction import Tx

SCOPES = ("organization", "workspace", "project")


def require_write(actor: Actor, workspace_id: str | None) -> None:
    """Forbidden unless the actor may write the policies of the workspace, or of the organization when it is None."""
    require(actor, "policy.write" if workspace_id is not None else "policy.write_organization")


def create(tx: Tx, actor: Actor, command: CreatePolicy) -> Policy:
    """Make a policy. AlreadyExists when its scope has one of that name."""
    policy = _new(tx, actor, command)
    _check_name(tx, actor, policy)
    _insert(tx, actor, policy)
    return policy


def put(tx: Tx, actor: Actor, command: PutPolicy) -> PutOutcome:
    """Make the policy of this name in this scope be what is asked; nothing is written when it is so already."""
    wanted = _new(tx, actor, command)
    before = store.find(tx, actor, wanted.workspace_id, wanted.project_id, wanted.name)
    if before is None:
        if not command.dry_run:
            _insert(tx, actor, wanted)
        return PutOutcome(policy=wanted, change="created")
    fields = {name: getattr(wanted, name) for name in ("body", "enabled", "every_s")}
    after = _changed(tx, before, fields)
    if after is before:
        return PutOutcome(policy=before, change="unchanged")
    if not command.dry_run:
        _save(tx, actor, before, after)
    return PutOutcome(policy=after, change="updated")


def _insert(tx: Tx, actor: Actor, policy: Policy) -> None:
    store.insert(tx, policy)
    tx.audit(actor, "policy.created", policy.id, **_noted(policy))


def _new(tx: Tx, actor: Actor, command: CreatePolicy) -> Policy:
    scope = command.scope or ("project" if command.project else "workspace")
    if (scope == "project") != (command.project is not None):
        hint = "name the project" if scope == "project" else "leave the project out"
        raise Invalid(f"scope {scope}: {hint}", path="project")
    workspace_id = None if scope == "organization" else actor.workspace_id
    require_write(actor, workspace_id)
    found = terms.parse(command.body, tx.now)
    return Policy(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        name=command.name,
        scope=scope,
        workspace_id=workspace_id,
        project_id=None if command.project is None else resolve(tx, actor, command.project).id,
        body=terms.printed(found),
        sentence=describe(found),
        enabled=command.enabled,
        every_s=command.every_s,
        created_by=actor.name,
        created_at=tx.now,
        updated_at=tx.now,
        next_run_at=tx.now + timedelta(seconds=command.every_s) if command.enabled else None,
    )


def _check_name(tx: Tx, actor: Actor, policy: Policy) -> None:
    holder = store.find(tx, actor, policy.workspace_id, policy.project_id, policy.name)
    if holder is not None and holder.id != policy.id:
        raise AlreadyExists(
            f"this {policy.scope} has a policy {policy.name!r} already: change that one, or choose another name",
            id=holder.id,
        )


def _noted(policy: Policy) -> Json:
    """What the audit trail says of a policy: its words are configuration, and may name what is purged one day."""
    return {"scope": policy.scope, "action": policy.body["action"], "enabled": policy.enabled}


def update(tx: Tx, actor: Actor, command: UpdatePolicy) -> Policy:
    """Change a policy. One that is switched on again first runs one interval later."""
    before = _writable(tx, actor, command.id)
    given = {name: getattr(command, name) for name in ("name", "enabled", "every_s")}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not UNSET}
    if not isinstance(command.body, msgspec.UnsetType):
        fields["body"] = terms.printed(terms.parse(command.body, tx.now))
    after = _changed(tx, before, fields)
    if after is before:
        return before
    _check_name(tx, actor, after)
    _save(tx, actor, before, after)
    return after


def _changed(tx: Tx, before: Policy, fields: Json) -> Policy:
    """``before`` with ``fields``; itself when they say nothing new."""
    after = msgspec.structs.replace(before, **fields)
    if after == before:
        return before
    due = before.next_run_at
    if not after.enabled:
        due = None
    elif due is None or after.every_s != before.every_s:
        due = tx.now + timedelta(seconds=after.every_s)
    sentence = describe(terms.parse(after.body, tx.now))
    return msgspec.structs.replace(after, sentence=sentence, next_run_at=due, updated_at=tx.now, overdue=False)


def _save(tx: Tx, actor: Actor, before: Policy, after: Policy) -> None:
    names = ("name", "body", "enabled", "every_s", "next_run_at", "updated_at")
    store.change(tx, after.organization_id, after.id, **{name: getattr(after, name) for name in names})
    switched = before.enabled != after.enabled
    event = ("policy.enabled" if after.enabled else "policy.disabled") if switched else "policy.updated"
    changed = [name for name in ("name", "body", "every_s") if getattr(before, name) != getattr(after, name)]
    tx.audit(actor, event, after.id, changed=changed, **_noted(after))


def remove(tx: Tx, actor: Actor, command: RemovePolicy) -> Policy:
    """Take a policy away; the answer is what it was."""
    policy = _writable(tx, actor, command.id)
    store.remove(tx, policy)
    tx.audit(actor, "policy.removed", policy.id, **_noted(policy))
    return policy


def _writable(tx: Tx, actor: Actor, id: str) -> Policy:
    require(actor, "policy.read")
    policy = store.get(tx, actor, id, lock=True)
    require_write(actor, policy.workspace_id)
    return policy


# --- reading ----------------------------------------------------------------------------------------------------------


def get(tx: Tx, actor: Actor, command: Get) -> Policy:
    """One policy."""
    require(actor, "policy.read")
    return store.get(tx, actor, command.id)


def list_(tx: Tx, actor: Actor, command: ListPolicies) -> Page[Policy]:
    """Policies that hold in the workspace, newest first."""
    require(actor, "policy.read")
    p = t.policies.c
    query = store.statement().where(*store.visible(actor))
    if command.project:
        query = query.where(store.in_project(resolve(tx, actor, command.project).id))
    if command.name:
        query = query.where(p.name == command.name)
    if command.scope:
        query = query.where(_of_scope(command.scope))
    if command.cursor is not None:
        query = query.where(p.id < decode_id_cursor(command.cursor))
    rows = tx.all(query.order_by(p.id.desc()).limit(command.limit + 1))
    return cut([store.policy_of(row, tx.now) for row in rows], command.limit, lambda policy: policy.id)


def _of_scope(scope: str) -> Any:
    p = t.policies.c
    conditions = {
        "organization": p.workspace_id.is_(None),
        "workspace": p.workspace_id.is_not(None) & p.project_id.is_(None),
        "project": p.project_id.is_not(None),
    }
    if scope not in conditions:
        raise Invalid(f"{scope[:40]!r} is not a scope; use one of {', '.join(SCOPES)}", path="scope")
    return conditions[scope]


def list_reports(tx: Tx, actor: Actor, command: ListReports) -> Page[PolicyReport]:
    """Reports of a policy, newest first."""
    require(actor, "policy.read")
    store.get(tx, actor, command.id)
    r = t.policy_reports.c
    query = select(*store.REPORT_COLUMNS).where(r.organization_id == actor.organization_id, r.policy_id == command.id)
    return page(tx, query, r.id, command, PolicyReport)


def get_report(tx: Tx, actor: Actor, command: Get) -> PolicyReport:
    """One report; also of a policy that was taken away since."""
    require(actor, "policy.read")
    report = store.report(tx, actor.organization_id, command.id)
    if report is None or report.body["workspace_id"] not in (None, actor.workspace_id):
        raise NotFound(f"report {command.id[:80]} not found")
    return report
