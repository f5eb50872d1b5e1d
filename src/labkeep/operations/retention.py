"""What retention policies would do. What is kept is decided in `labkeep.core.retention`.

All policies in force that concern an object count: what a keep rule of any of them keeps, stays. Doing it
is in `labkeep.operations.policy_runs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from labkeep.core.access import Actor
from labkeep.core.quantities import spell_duration
from labkeep.core.retention import Decision, Judge, Subject, shielded
from labkeep.core.terms import Action, Terms
from labkeep.operations import holds, rules
from labkeep.storage import policies as store
from labkeep.storage import retention as inventory
from labkeep.storage.retention import Reach
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


def decide(
    tx: Tx, actor: Actor, known: Survey, subjects: Sequence[Subject], *, looking: bool, explain: bool = False
) -> list[Decision]:
    """What becomes of ``subjects``, which the policy's conditions select; holds and other policies included.

    ``explain``: somebody wants to read why something goes.
    """
    judge = known.view.judge
    first = judge.decide if explain else judge.decide_selected
    decisions = {subject.id: first(subject) for subject in subjects}
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
