"""Policies and their reports as rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, or_, select, update

from labkeep.core.access import Actor
from labkeep.core.commands_policies import Policy, PolicyReport
from labkeep.core.entities import Json
from labkeep.core.errors import NotFound
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import LIVE
from labkeep.core.retention import describe
from labkeep.core.terms import Terms, parse
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

OVERDUE_AFTER = timedelta(hours=1)
"""How late a policy may be before that is worth an alarm."""

REPORT_COLUMNS = [t.policy_reports.c[name] for name in PolicyReport.__struct_fields__]


def visible(actor: Actor) -> tuple[ColumnElement[bool], ...]:
    """What keeps a statement to the policies that hold in the actor's workspace."""
    p = t.policies.c
    return p.organization_id == actor.organization_id, or_(
        p.workspace_id.is_(None), p.workspace_id == actor.workspace_id
    )


def in_project(project_id: str | None) -> ColumnElement[bool]:
    """Whether a policy holds in a project; or in any, when none is named."""
    p = t.policies.c
    return p.id.is_not(None) if project_id is None else or_(p.project_id.is_(None), p.project_id == project_id)


def statement() -> Select[Any]:
    """SELECT of everything that `policy_of` takes."""
    return select(t.policies)


def policy_of(row: Any, now: datetime) -> Policy:
    """A policy from its row."""
    due = row["next_run_at"]
    return Policy(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        scope="project" if row["project_id"] else "workspace" if row["workspace_id"] else "organization",
        workspace_id=row["workspace_id"],
        project_id=row["project_id"],
        body=row["body"],
        sentence=describe(terms_of(row["body"], now)),
        enabled=row["enabled"],
        every_s=row["every_s"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_run_at=row["last_run_at"],
        next_run_at=due,
        overdue=row["enabled"] and due is not None and due + OVERDUE_AFTER < now,
    )


def terms_of(body: Json, now: datetime) -> Terms:
    """What a stored policy says."""
    return parse(body, now)


def get(tx: Tx, actor: Actor, id: str, *, lock: bool = False) -> Policy:
    """One policy that holds in the actor's workspace. NotFound otherwise."""
    query = statement().where(*visible(actor), t.policies.c.id == id)
    found = tx.one(query.with_for_update() if lock else query) if is_id(id) else None
    if found is None:
        raise NotFound(f"policy {id[:80]} not found")
    return policy_of(found, tx.now)


def find(tx: Tx, actor: Actor, workspace_id: str | None, project_id: str | None, name: str) -> Policy | None:
    """The policy of this name in this scope."""
    p = t.policies.c
    same = (p.organization_id == actor.organization_id, p.name == name)
    home = (_is(p.workspace_id, workspace_id), _is(p.project_id, project_id))
    found = tx.one(statement().where(*same, *home).limit(1))
    return None if found is None else policy_of(found, tx.now)


def _is(column: Any, value: str | None) -> Any:
    return column.is_(None) if value is None else column == value


def insert(tx: Tx, policy: Policy) -> None:
    """Store a new policy."""
    tx.insert(t.policies, [{column.name: getattr(policy, column.name) for column in t.policies.columns}])


def change(tx: Tx, organization_id: str, id: str, **values: Any) -> None:
    """Change columns of one policy."""
    p = t.policies.c
    tx.execute(update(t.policies).where(p.organization_id == organization_id, p.id == id).values(**values))


def remove(tx: Tx, policy: Policy) -> None:
    """Take one policy away."""
    p = t.policies.c
    tx.execute(delete(t.policies).where(p.organization_id == policy.organization_id, p.id == policy.id))


def in_force(tx: Tx, actor: Actor, project_id: str | None) -> list[Policy]:
    """Policies that are enabled and hold in the actor's workspace or, when one is named, in the project."""
    p = t.policies.c
    query = statement().where(*visible(actor), in_project(project_id), p.enabled).order_by(p.id)
    return [policy_of(row, tx.now) for row in tx.all(query)]


def due(tx: Tx, now: datetime, limit: int) -> list[Policy]:
    """Enabled policies whose time has come, of every organization; those of projects in the trash are left out."""
    p, i = t.policies.c, t.items.c
    home = t.policies.outerjoin(t.items, and_(i.organization_id == p.organization_id, i.id == p.project_id))
    there = or_(p.project_id.is_(None), i.state.in_(LIVE))
    query = select(*t.policies.columns).select_from(home).where(p.enabled, p.next_run_at <= now, there)
    return [policy_of(row, now) for row in tx.all(query.order_by(p.next_run_at, p.id).limit(limit))]


def all_enabled(tx: Tx) -> list[Any]:
    """Id, last and next run of every enabled policy of the server whose project is there: what is measured."""
    p, i = t.policies.c, t.items.c
    home = t.policies.outerjoin(t.items, and_(i.organization_id == p.organization_id, i.id == p.project_id))
    there = or_(p.project_id.is_(None), i.state.in_(LIVE))
    query = select(p.id, p.created_at, p.last_run_at, p.next_run_at).select_from(home).where(p.enabled, there)
    return list(tx.all(query.order_by(p.id)))


def workspaces(tx: Tx, policy: Policy) -> list[str]:
    """Ids of the workspaces in which a policy holds."""
    if policy.workspace_id is not None:
        return [policy.workspace_id]
    w = t.workspaces.c
    query = select(w.id).where(w.organization_id == policy.organization_id).order_by(w.id)
    return [row[0] for row in tx.execute(query)]


# --- reports ----------------------------------------------------------------------------------------------------------


def report(tx: Tx, organization_id: str, id: str, *, lock: bool = False) -> PolicyReport | None:
    """One report, or None."""
    r = t.policy_reports.c
    query = select(*REPORT_COLUMNS).where(r.organization_id == organization_id, r.id == id)
    found = tx.one(query.with_for_update() if lock else query) if is_id(id) else None
    return None if found is None else PolicyReport(**found)


def insert_report(tx: Tx, organization_id: str, made: PolicyReport) -> None:
    """Store a new report."""
    values = {name: getattr(made, name) for name in PolicyReport.__struct_fields__}
    tx.insert(t.policy_reports, [{"organization_id": organization_id, **values}])


def change_report(tx: Tx, organization_id: str, id: str, **values: Any) -> None:
    """Change columns of one report."""
    r = t.policy_reports.c
    tx.execute(update(t.policy_reports).where(r.organization_id == organization_id, r.id == id).values(**values))


def unfinished(tx: Tx, organization_id: str, policy_id: str) -> list[PolicyReport]:
    """Reports of a policy that nobody finished."""
    r = t.policy_reports.c
    mine = (r.organization_id == organization_id, r.policy_id == policy_id, r.state == "running")
    return [PolicyReport(**row) for row in tx.all(select(*REPORT_COLUMNS).where(*mine))]


def note_items(tx: Tx, organization_id: str, report_id: str, outcomes: dict[str, tuple[str, str]]) -> None:
    """Note what became of objects: id → (outcome, reason)."""
    rows = [
        {"organization_id": organization_id, "job_id": report_id, "item_id": id, "outcome": outcome, "reason": reason}
        for id, (outcome, reason) in outcomes.items()
    ]
    tx.upsert(t.job_items, rows)


def noted(tx: Tx, organization_id: str, report_id: str, ids: list[str]) -> set[str]:
    """Which of ``ids`` this run of the policy has dealt with."""
    j = t.job_items.c
    found: set[str] = set()
    for start in range(0, len(ids), 500):
        mine = (j.organization_id == organization_id, j.job_id == report_id, j.item_id.in_(ids[start : start + 500]))
        found.update(row[0] for row in tx.execute(select(j.item_id).where(*mine)))
    return found


def forget_items(tx: Tx, organization_id: str, report_id: str) -> None:
    """Drop the notes on what went: its deletions say it. Those on what had to stay remain."""
    j = t.job_items.c
    tx.execute(
        delete(t.job_items).where(j.organization_id == organization_id, j.job_id == report_id, j.outcome != "blocked")
    )
