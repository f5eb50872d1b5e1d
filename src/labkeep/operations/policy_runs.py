"""The steps of a run of a policy, each one transaction. The worker takes them in order; any of them may be taken again.

What goes, goes the way of everybody else, through `deletions.apply`: whatever blocks a person blocks a policy, and is
reported. What was done to an object is noted in the transaction that does it, so no run does it twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from labkeep.core.access import Actor, require
from labkeep.core.commands import Apply, Outcome, Selection
from labkeep.core.commands_policies import Policy, PolicyReport, PolicyRun, RunPolicy
from labkeep.core.deletion import Origin
from labkeep.core.entities import Json, Project
from labkeep.core.errors import Gone, NotFound, Stale
from labkeep.core.lifecycle import LIVE, Role
from labkeep.core.removals import Part, Remove
from labkeep.core.retention import Subject
from labkeep.core.terms import ROW, Action
from labkeep.operations import deletions, removals, row_retention
from labkeep.operations.policies import require_write
from labkeep.operations.purges import system
from labkeep.operations.retention import Look, Survey, View, decide
from labkeep.storage import jobs, records
from labkeep.storage import policies as store
from labkeep.storage import retention as inventory
from labkeep.storage.retention import Position
from labkeep.storage.transaction import Tx

VICTIMS = 500
"""Objects that go in one transaction, as one deletion."""

LOOKED_AT = 40_000
"""Objects looked at in one transaction that only reads."""

SHOWN_BLOCKED = 100
"""Objects that had to stay which a report lists; all are counted."""

WHY = {
    "held": "a lock or a hold protects it",
    "in_use": "something live depends on it",
    "illegal": "it is running, or its state does not allow it",
    "over_quota": "the quota of deletions is used up",
    "forbidden": "who wrote the policy may not do that",
    "gone": "somebody else removed it at the same moment",
    "not_found": "somebody else removed it at the same moment",
}
"""Code of an error → why something had to stay, without its name: reports outlive what they are about."""


# --- asking for a run -------------------------------------------------------------------------------------------------


def run(tx: Tx, actor: Actor, command: RunPolicy) -> PolicyRun:
    """Run a policy now; when it runs already, the answer is that run."""
    require(actor, "policy.read")
    policy = store.get(tx, actor, command.id)
    require_write(actor, policy.workspace_id)
    job_id = _enqueue(tx, actor, policy)
    tx.audit(actor, "policy.run_requested", policy.id, job_id=job_id)
    return PolicyRun(policy_id=policy.id, job_id=job_id, report_id=job_id)


def _enqueue(tx: Tx, actor: Actor, policy: Policy) -> str:
    """Enqueue a run, and begin its report; the run that is under way when there is one."""
    job_id = jobs.enqueue(tx, actor, "policy", {"policy_id": policy.id}, dedupe=f"policy {policy.id}")
    if store.report(tx, policy.organization_id, job_id) is None:
        _begin_report(tx, policy, job_id)
    return job_id


def schedule_due(tx: Tx, _actor: Actor, limit: int) -> int:
    """Enqueue the policies whose time has come, in every organization; answers how many."""
    due = store.due(tx, tx.now, limit)
    for policy in due:
        _enqueue(tx, actor_of(policy, store.workspaces(tx, policy)[0]), policy)
    return len(due)


class Lateness(NamedTuple):
    """How late an enabled policy is: seconds since it last ran (or was made), and whether it is overdue."""

    policy_id: str
    age_s: float
    overdue: bool


def lateness(tx: Tx, _actor: Actor, _command: None) -> list[Lateness]:
    """Every enabled policy of the server, by id, for its metrics."""
    return [
        Lateness(
            row["id"],
            max(0.0, (tx.now - (row["last_run_at"] or row["created_at"])).total_seconds()),
            row["next_run_at"] is not None and row["next_run_at"] + store.OVERDUE_AFTER < tx.now,
        )
        for row in store.all_enabled(tx)
    ]


def actor_of(policy: Policy, workspace_id: str) -> Actor:
    """Who a policy acts as: itself, on behalf of who wrote it, with what that takes and no more."""
    actor = system(policy.organization_id, workspace_id, f"policy {policy.name} (for {policy.created_by})")
    return msgspec.structs.replace(actor, role=Role.maintainer, client="policy")


# --- beginning and ending ---------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """Which run of which policy."""

    policy_id: str
    report_id: str


class Run(NamedTuple):
    """A run under way. ``report.created_at`` is the moment by which everything is decided, after a crash too."""

    policy: Policy
    report: PolicyReport
    workspaces: list[str]

    @property
    def look(self) -> Look:
        """What to survey."""
        terms = store.terms_of(self.policy.body, self.report.created_at)
        return Look(self.policy.name, self.policy.id, terms, self.policy.project_id, self.report.created_at)


def begin(tx: Tx, actor: Actor, step: Step) -> Run | None:
    """Begin a run, or go on with it after a crash; None when the policy, or its project, is not there any more."""
    try:
        policy = store.get(tx, actor, step.policy_id, lock=True)
        if policy.project_id is not None:
            records.get(tx, Project, actor, policy.project_id, states=LIVE)
    except (NotFound, Gone):
        _give_up(tx, actor.organization_id, step.report_id, "the policy or its project is not there any more")
        return None
    report = _report(tx, policy, step.report_id)
    return Run(policy, report, store.workspaces(tx, policy))


def _begin_report(tx: Tx, policy: Policy, id: str) -> None:
    for stale in store.unfinished(tx, policy.organization_id, policy.id):
        _give_up(tx, policy.organization_id, stale.id, "its job ended before it did")
    body = {**_EMPTY, "workspace_id": policy.workspace_id, "project_id": policy.project_id}
    report = PolicyReport(id=id, policy_id=policy.id, state="running", counts={}, body=body, created_at=tx.now)
    store.insert_report(tx, policy.organization_id, report)


def _give_up(tx: Tx, organization_id: str, report_id: str, note: str) -> None:
    report = store.report(tx, organization_id, report_id, lock=True)
    if report is not None and report.state == "running":
        body = {**report.body, "note": note}
        store.change_report(tx, organization_id, report_id, state="failed", body=body, finished_at=tx.now)


_EMPTY: Json = {
    "bytes": 0,
    "deletions": [],
    "removals": [],
    "jobs": [],
    "blocked": 0,
    "blocked_items": [],
    "considered": 0,
    "kept": 0,
}


class Ended(NamedTuple):
    """How a run ended: what its last look found, and a remark."""

    run: Run
    considered: int
    kept: int
    note: str = ""


def finish(tx: Tx, actor: Actor, ended: Ended) -> PolicyReport:
    """Close the report, and say when the policy runs next."""
    policy = ended.run.policy
    report = _report(tx, policy, ended.run.report.id)
    if report.state != "running":
        return report
    body = report.body | {
        "considered": ended.considered,
        "kept": ended.kept,
        "duration_s": round((tx.now - report.created_at).total_seconds(), 3),
        "note": ended.note,
    }
    store.change_report(tx, policy.organization_id, report.id, state="done", body=body, finished_at=tx.now)
    store.forget_items(tx, policy.organization_id, report.id)
    store.change(tx, policy.organization_id, policy.id, last_run_at=tx.now, next_run_at=_next(tx, actor, policy))
    removed = sum(sum(kinds.values()) for kinds in report.counts.values())
    itself, blocked = actor_of(policy, actor.workspace_id), report.body["blocked"]
    tx.audit(itself, "policy.ran", policy.id, count=removed, report_id=report.id, counts=report.counts, blocked=blocked)
    return _report(tx, policy, report.id)


def _next(tx: Tx, actor: Actor, policy: Policy) -> datetime | None:
    """When it runs next, as it stands now: it may have been changed while it ran."""
    try:
        now = store.get(tx, actor, policy.id, lock=True)
    except NotFound:
        return None
    return tx.now + timedelta(seconds=now.every_s) if now.enabled else None


def _report(tx: Tx, policy: Policy, id: str) -> PolicyReport:
    report = store.report(tx, policy.organization_id, id, lock=True)
    if report is None:
        raise NotFound(f"report {id} not found")
    return report


# --- looking ----------------------------------------------------------------------------------------------------------


class Search(NamedTuple):
    """Where to look for the next victims."""

    known: Survey
    start: Position | None


class Found(NamedTuple):
    """The next victims, where to go on (None at the end), and what was looked at."""

    ids: list[str]
    next: Position | None
    considered: int
    kept: int
    freed_later: bool
    """Whether something is kept only because what needs it is not gone yet."""


def next_victims(tx: Tx, actor: Actor, search: Search) -> Found:
    """The next objects that go."""
    ids: list[str] = []
    looked = kept = 0
    later = False
    for batch, place in inventory.batches(tx, actor, search.known.view.reach, search.start):
        for decision in decide(tx, actor, search.known, batch, looking=True):
            if decision.action == Action.keep:
                kept += 1
                later = later or {reason.rule for reason in decision.reasons} == {"keep_bound"}
            else:
                ids.append(decision.id)
        looked += len(batch)
        if len(ids) >= VICTIMS or looked >= LOOKED_AT:
            return Found(ids, place, looked, kept, later)
    return Found(ids, None, looked, kept, later)


# --- applying ---------------------------------------------------------------------------------------------------------


class Some(NamedTuple):
    """Victims that shall go now."""

    run: Run
    known: Survey
    ids: Sequence[str]


def apply_some(tx: Tx, actor: Actor, some: Some) -> Outcome | None:
    """Do to ``ids`` what the policy says, those of them for which it still says so.

    None, and nothing happens, when the policy was changed or taken away. Stale when something moved that ranks depend
    on. A blocker raises its own error, and then none of them goes.
    """
    policy, report = some.run.policy, _report(tx, some.run.policy, some.run.report.id)
    if report.state != "running" or _was_changed(tx, actor, policy):
        return None
    inventory.lock(tx, actor, some.ids)
    done = store.noted(tx, policy.organization_id, report.id, list(some.ids))
    left = [id for id in some.ids if id not in done]
    subjects = inventory.by_ids(tx, actor, some.known.view.reach, left)
    decisions = decide(tx, actor, some.known, subjects, looking=False)
    going = [one for one, decision in zip(subjects, decisions, strict=True) if decision.action != Action.keep]
    for view in (some.known.view, *some.known.others):
        _check_ranks(tx, actor, view, going)
    action = str(some.known.view.reach.terms.action)
    if not going:
        return Outcome(verb=action, counts={})
    outcome = deletions.apply(tx, actor, _order(policy, action, going), asker=Origin.retention)
    store.note_items(tx, policy.organization_id, report.id, {one.id: (action, "") for one in going})
    _add_to_report(tx, policy, report, outcome, sum(one.bytes for one in going))
    return outcome


def _was_changed(tx: Tx, actor: Actor, policy: Policy) -> bool:
    try:
        return store.get(tx, actor, policy.id).updated_at != policy.updated_at
    except NotFound:
        return True


def _check_ranks(tx: Tx, actor: Actor, view: View, going: Sequence[Subject]) -> None:
    ranks = view.judge.ranks
    members = sorted(ranks.members(going)) if view.reach.terms.ranks else []
    if members and not ranks.still_hold(going, inventory.by_ids(tx, actor, view.reach, members)):
        raise Stale("what ranks before these objects has changed: look again")


def _order(policy: Policy, action: str, going: Sequence[Subject]) -> Apply:
    selection = Selection(ids=[subject.id for subject in going])
    reason, ticket = _because(policy)
    return Apply(verb=action, selection=selection, background=False, reason=reason, ticket=ticket)


def _because(policy: Policy) -> tuple[str, str]:
    """Reason and ticket of all that a policy does."""
    return f"policy {policy.name}", f"policy:{policy.id}"


def _add_to_report(tx: Tx, policy: Policy, report: PolicyReport, outcome: Outcome, size: int) -> None:
    counts = {action: dict(kinds) for action, kinds in report.counts.items()}
    counts[outcome.verb] = dict(Counter(counts.get(outcome.verb, {})) + Counter(outcome.counts))
    body = report.body | {"bytes": report.body["bytes"] + size}
    if outcome.deletion_id is not None:
        body["deletions"] = [*body["deletions"], outcome.deletion_id]
    body["jobs"] = [*body["jobs"], *outcome.job_ids]
    store.change_report(tx, policy.organization_id, report.id, counts=counts, body=body)


class SomeRows(NamedTuple):
    """Rows of one owner that shall go now."""

    run: Run
    owner_id: str
    ids: Sequence[str]


def remove_rows(tx: Tx, actor: Actor, some: SomeRows) -> int | None:
    """Take rows out of a run or document, those of them that still go; answers how many.

    None when the policy was changed or taken away. What is averaged over the rows is counted again.
    """
    policy, report = some.run.policy, _report(tx, some.run.policy, some.run.report.id)
    if report.state != "running" or _was_changed(tx, actor, policy):
        return None
    inventory.lock(tx, actor, [some.owner_id])
    going = row_retention.still_going(tx, actor, some.run.look, some.owner_id, some.ids)
    if going:
        reason, ticket = _because(policy)
        asked = Remove(id=some.owner_id, part=Part.row, ids=list(going), reason=reason, ticket=ticket)
        removal = removals.remove(tx, actor, asked)
        body = report.body | {"removals": [*report.body["removals"], removal.id]}
        done = Outcome(verb=str(Action.trash), counts={ROW: removal.count})
        _add_to_report(tx, policy, msgspec.structs.replace(report, body=body), done, sum(going.values()))
    return len(going)


class Blocked(NamedTuple):
    """Objects that had to stay, and the code of the error that said so."""

    run: Run
    ids: Sequence[str]
    code: str


def note_blocked(tx: Tx, _actor: Actor, blocked: Blocked) -> None:
    """Note what had to stay; each object once in a run."""
    policy, report = blocked.run.policy, _report(tx, blocked.run.policy, blocked.run.report.id)
    known = store.noted(tx, policy.organization_id, report.id, list(blocked.ids))
    fresh = [id for id in blocked.ids if id not in known]
    why = WHY.get(blocked.code, blocked.code)
    store.note_items(tx, policy.organization_id, report.id, dict.fromkeys(fresh, ("blocked", why)))
    room = SHOWN_BLOCKED - len(report.body["blocked_items"])
    shown: list[Any] = [*report.body["blocked_items"], *({"id": id, "why": why} for id in fresh[: max(0, room)])]
    body = report.body | {"blocked": report.body["blocked"] + len(fresh), "blocked_items": shown}
    store.change_report(tx, policy.organization_id, report.id, body=body)
