"""The table of retention limits: which data are kept where and for how long, and who says so."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Page
from labkeep.core.commands_policies import ListLimits, Policy, RetentionLimit
from labkeep.core.entities import Project
from labkeep.core.lifecycle import State
from labkeep.core.quantities import spell_duration
from labkeep.core.rules import Rules, combine, read
from labkeep.core.sentence import Phrases
from labkeep.core.terms import Action, Terms
from labkeep.operations import checkpoints, rules
from labkeep.storage import policies as store
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.pages import decode_cursor, encode_cursor
from labkeep.storage.transaction import Tx

ALWAYS = "what a hold or a lock protects, what is running"
"""What no policy ever removes."""

THEN = {
    Action.keep: "nothing: it is kept from other policies",
    Action.archive: "archived",
    Action.trash: "moved to the trash",
    Action.purge: "purged",
}


def table(tx: Tx, actor: Actor, command: ListLimits) -> Page[RetentionLimit]:
    """What holds in the workspace: the rules of the lifecycle first, then every policy."""
    require(actor, "policy.read")
    start = 0 if command.cursor is None else max(0, decode_cursor(command.cursor, tuple[int])[0])
    lines = [*_lines(tx, actor)]
    end = start + command.limit
    return Page(lines[start:end], encode_cursor(end) if end < len(lines) else None)


def _lines(tx: Tx, actor: Actor) -> Iterator[RetentionLimit]:
    around = rules.outer(tx, actor)
    names = _names(tx, actor)
    yield from _of_rules(tx, combine(around), "this workspace")
    for project in records.fetch(
        tx, Project, records.statement(Project, actor).where(t.items.c.state != State.purged).order_by(t.items.c.id)
    ):
        names[project.id] = f"project {project.name}"
        own = read(project.settings)
        if own.grace_days is not None or own.minimum_keep_days:
            yield from _of_rules(tx, combine([*around, own]), f"project {project.name}")
    for row in tx.all(store.statement().where(*store.visible(actor)).order_by(t.policies.c.id)):
        policy = store.policy_of(row, tx.now)
        yield _of_policy(tx, policy, names, _grace(tx, around, policy, actor))
    yield _forever("tombstones (ids, kinds and times of what was purged), deletions and receipts")
    audit_days = checkpoints.keepers(tx, actor, None).get(actor.organization_id)
    yield _forever(
        "the audit trail (ids, counts and digests, never content)",
        "for ever" if audit_days is None else _days(audit_days),
    )


def _names(tx: Tx, actor: Actor) -> dict[str, str]:
    w = t.workspaces.c
    mine = (w.organization_id == actor.organization_id, w.id == actor.workspace_id)
    return {row[0]: f"workspace {row[1]}" for row in tx.execute(select(w.id, w.name).where(*mine))}


def _grace(tx: Tx, around: list[Rules], policy: Policy, actor: Actor) -> int:
    inside = {} if policy.project_id is None else rules.of_projects(tx, actor, [policy.project_id])
    found = inside.get(policy.project_id or "", combine(around)).grace_days
    return tx.grace_days if found is None else found


def _of_rules(tx: Tx, found: Rules, where: str) -> Iterator[RetentionLimit]:
    grace = tx.grace_days if found.grace_days is None else found.grace_days
    yield RetentionLimit(
        category="whatever is in the trash",
        where=where,
        kept_for=_days(grace),
        then="purged",
        purged_after="at once",
        exceptions="what a hold covers",
        by="",
    )
    if found.minimum_keep_days:
        yield RetentionLimit(
            category="everything",
            where=where,
            kept_for=f"at least {_days(found.minimum_keep_days)}",
            then="may be purged",
            purged_after="when somebody, or a policy, asks for it",
            exceptions="",
            by="",
        )


def _forever(category: str, kept_for: str = "for ever") -> RetentionLimit:
    return RetentionLimit(
        category=category, where="the organization", kept_for=kept_for, then="", purged_after="", exceptions="", by=""
    )


def _of_policy(tx: Tx, policy: Policy, names: dict[str, str], grace: int) -> RetentionLimit:
    terms = store.terms_of(policy.body, tx.now)
    said = Phrases(terms)
    home = names.get(policy.project_id or policy.workspace_id or "", "the organization")
    kept = [rule for rule in (said.rules, ALWAYS) if rule]
    category = said.subjects_without_age
    if terms.action == Action.keep and terms.rules not in ((), ("minimum_keep",)):
        category, kept = f"of {category}, {said.rules}", []
    return RetentionLimit(
        category=category,
        where=home,
        kept_for=_kept_for(terms),
        then=THEN[terms.action],
        purged_after=_purged_after(terms, grace),
        exceptions="; ".join(kept) if terms.action != Action.keep else "",
        by=policy.name,
        policy_id=policy.id,
        enabled=policy.enabled,
        last_run_at=policy.last_run_at,
    )


def _kept_for(terms: Terms) -> str:
    if terms.action == Action.keep or terms.is_empty:
        floor = terms.minimum_keep if terms.rules == ("minimum_keep",) else None
        return f"at least {spell_duration(floor)}" if floor else "as long as the policy stands"
    if terms.action == Action.purge:
        return f"{spell_duration(terms.trashed_for or '0d')} in the trash"
    if terms.older_than is None:
        return "until others take its place" if terms.ranks else "until the next run of the policy"
    return f"{spell_duration(terms.older_than)} after it was {terms.age_of}"


def _purged_after(terms: Terms, grace: int) -> str:
    if terms.action == Action.purge:
        return "at once"
    return (
        f"{_days(grace)} in the trash" if terms.action == Action.trash and not terms.is_empty else "not by this policy"
    )


def _days(number: int) -> str:
    return spell_duration(f"{number}d")
