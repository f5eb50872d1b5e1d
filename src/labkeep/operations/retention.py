"""What retention policies would do. What is kept is decided in `labkeep.core.retention`.

All policies in force that concern an object count: what a keep rule of any of them keeps, stays. Doing it
is in `labkeep.operations.policy_runs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from labkeep.core import terms as core_terms
from labkeep.core.access import Actor, require
from labkeep.core.commands_policies import (
    PolicyDecision,
    PolicyPreview,
    PreviewDraft,
    PreviewPolicy,
    Why,
)
from labkeep.core.quantities import spell_duration
from labkeep.core.retention import Decision, Judge, Subject, describe, shielded
from labkeep.core.terms import Action, Terms
from labkeep.operations import holds, rules
from labkeep.operations.deletions import decode_id
from labkeep.operations.projects import resolve
from labkeep.storage import policies as store
from labkeep.storage import retention as inventory
from labkeep.storage.pages import decode_cursor, encode_cursor
from labkeep.storage.retention import Position, Reach
from labkeep.storage.transaction import Tx


class View(NamedTuple):
    """A policy at one moment, ready to decide: its ranks have seen everything that its conditions select."""

    name: str
    reach: Reach
    judge: Judge


class Survey(NamedTuple):
    """A policy at one moment, with the others whose rules keep things from it."""

    view: View
    others: list[View]


class Look(NamedTuple):
    """What to survey: a policy's name and terms, in one project or the whole workspace, at one moment."""

    name: str
    policy_id: str | None
    terms: Terms
    project_id: str | None
    at: datetime


def survey(tx: Tx, actor: Actor, look: Look) -> Survey:
    """Everything that must be known before the first object can be decided."""
    others = [
        _view(tx, actor, other.name, Reach(terms, other.project_id, look.at))
        for other in store.in_force(tx, actor, look.project_id)
        if other.id != look.policy_id and _may_shield(terms := store.terms_of(other.body, tx.now), look.terms)
    ]
    return Survey(_view(tx, actor, look.name, Reach(look.terms, look.project_id, look.at)), others)


def _may_shield(theirs: Terms, ours: Terms) -> bool:
    says = bool(theirs.rules) or theirs.action == Action.keep
    return says and not set(theirs.kinds).isdisjoint(ours.kinds)


def _view(tx: Tx, actor: Actor, name: str, reach: Reach) -> View:
    judge = Judge(reach.terms, reach.now)
    if reach.terms.ranks and not reach.terms.about_rows:
        for batch, _ in inventory.batches(tx, actor, reach):
            for subject in batch:
                judge.ranks.add(subject)
    return View(name, reach, judge)


# --- deciding ---------------------------------------------------------------------------------------------------------


def decide(tx: Tx, actor: Actor, known: Survey, subjects: Sequence[Subject], *, looking: bool) -> list[Decision]:
    """What becomes of ``subjects``, which the policy's conditions select; holds and other policies included."""
    judge = known.view.judge
    decisions = {subject.id: judge.decide(subject) for subject in subjects}
    going = [subject for subject in subjects if decisions[subject.id].action != Action.keep]
    for subject in _guarded(tx, actor, judge.terms, going, looking=looking):
        decisions[subject.id] = judge.decide(subject)
    going = [subject for subject in going if decisions[subject.id].action != Action.keep]
    for other in known.others:
        for id, theirs in _theirs(tx, actor, other, going):
            decisions[id] = shielded(decisions[id], other.name, theirs)
    return [decisions[subject.id] for subject in subjects]


def _guarded(tx: Tx, actor: Actor, terms: Terms, going: Sequence[Subject], *, looking: bool) -> Iterator[Subject]:
    """Those of ``going`` that a hold covers or a minimum keep still keeps, saying so."""
    held = holds.holding(tx, actor, [subject.id for subject in going], looking=looking)
    floors = _floors(tx, actor, going) if terms.action == Action.purge else {}
    for subject in going:
        why = ["a legal hold covers it"] if subject.id in held else []
        days = floors.get(subject.project_id or "", 0)
        if (tx.now - subject.created_at).days < days:
            why.append(f"nothing in its project is purged before it is {spell_duration(f'{days}d')} old")
        if why:
            yield msgspec.structs.replace(subject, held=tuple(why))


def _floors(tx: Tx, actor: Actor, going: Sequence[Subject]) -> dict[str, int]:
    projects = sorted({subject.project_id for subject in going if subject.project_id is not None})
    return {id: rule.minimum_keep_days for id, rule in rules.of_projects(tx, actor, projects).items()}


def _theirs(tx: Tx, actor: Actor, other: View, going: Sequence[Subject]) -> Iterator[tuple[str, Decision]]:
    """What another policy decides about ``going``, as far as it concerns them."""
    inside = [one for one in going if other.reach.project_id in (None, one.project_id)]
    if not inside:
        return
    selected = {one.id: one for one in inventory.by_ids(tx, actor, other.reach, [one.id for one in inside])}
    for subject in inside:
        if subject.id in selected:
            yield subject.id, other.judge.decide(selected[subject.id])
        elif floor := other.judge.floor(subject):
            yield subject.id, Decision(subject.id, subject.kind, Action.keep, floor, True)


# --- previews ---------------------------------------------------------------------------------------------------------


class _Shown(NamedTuple):
    """How much of a preview is asked for."""

    show: str
    limit: int
    start: Position | None
    runs_at: datetime | None = None


def preview(tx: Tx, actor: Actor, command: PreviewPolicy) -> PolicyPreview:
    """Who would go by a policy in this workspace, and why; nothing happens. The counts come with the first page."""
    require(actor, "policy.read")
    policy = store.get(tx, actor, command.id)
    look = Look(policy.name, policy.id, store.terms_of(policy.body, tx.now), policy.project_id, command.at or tx.now)
    return _preview(tx, actor, look, _shown(command, policy.next_run_at))


def preview_draft(tx: Tx, actor: Actor, command: PreviewDraft) -> PolicyPreview:
    """Who would go by a policy that is not stored."""
    require(actor, "policy.read")
    project_id = None if command.project is None else resolve(tx, actor, command.project).id
    look = Look("draft", None, core_terms.parse(command.body, tx.now), project_id, command.at or tx.now)
    return _preview(tx, actor, look, _shown(command, None))


def _shown(command: PreviewPolicy | PreviewDraft, runs_at: datetime | None) -> _Shown:
    start = None
    if command.cursor is not None:
        place, last = decode_cursor(command.cursor, tuple[int, str])
        start = Position(max(0, place), decode_id(last))
    return _Shown(command.show, command.limit, start, runs_at)


def _preview(tx: Tx, actor: Actor, look: Look, shown: _Shown) -> PolicyPreview:
    for kind in look.terms.kinds:
        require(actor, f"{kind}.read")
    tally, items, last, cursor = _Tally(), list[PolicyDecision](), Position(), None
    for subject, decision, at in _decided(tx, actor, survey(tx, actor, look), shown.start):
        tally.add(subject, decision)
        if not _is_shown(decision, shown.show):
            continue
        if len(items) < shown.limit:
            items.append(_as_item(subject, decision))
            last = at
        elif cursor is None:
            cursor = encode_cursor(*last)
            if shown.start is not None:  # the first page counts on, to the end
                break
    return tally.preview(look, shown, items, cursor)


def _decided(
    tx: Tx, actor: Actor, known: Survey, start: Position | None
) -> Iterator[tuple[Subject, Decision, Position]]:
    for batch, end in inventory.batches(tx, actor, known.view.reach, start):
        for subject, decision in zip(batch, decide(tx, actor, known, batch, looking=True), strict=True):
            yield subject, decision, Position(end.place, subject.id)


def _is_shown(decision: Decision, show: str) -> bool:
    return show == "all" or (decision.action == Action.keep) == (show == "kept")


def _as_item(subject: Subject, decision: Decision) -> PolicyDecision:
    return PolicyDecision(
        id=subject.id,
        kind=str(subject.kind),
        type=subject.type,
        name=subject.name,
        project_id=subject.project_id,
        bytes=subject.bytes,
        created_at=subject.created_at,
        action=str(decision.action),
        reasons=[Why(reason.rule, reason.text) for reason in decision.reasons],
    )


class _Tally:
    """The counts of a preview."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.bytes = 0

    def add(self, subject: Subject, decision: Decision) -> None:
        self.counts.setdefault(str(decision.action), Counter())[str(subject.kind)] += 1
        if decision.action != Action.keep:
            self.bytes += subject.bytes

    def preview(self, look: Look, shown: _Shown, items: list[PolicyDecision], cursor: str | None) -> PolicyPreview:
        first = shown.start is None
        everything = first and bool(self.counts) and str(Action.keep) not in self.counts
        warning = "the policy takes everything that it is about: no rule keeps anything"
        return PolicyPreview(
            sentence=describe(look.terms),
            at=look.at,
            runs_at=shown.runs_at,
            items=items,
            next=cursor,
            considered=sum(count.total() for count in self.counts.values()) if first else 0,
            counts={action: dict(count) for action, count in sorted(self.counts.items())} if first else {},
            bytes=self.bytes if first else 0,
            takes_everything=everything,
            warnings=[warning] if everything else [],
        )
