"""Folding a selection into a plan, to show it or to do what it says. Both go by `labkeep.core.deletion`, so what was
shown is what is done, or the caller is told what moved.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple, Self

import msgspec

from labkeep.core.access import Actor, require
from labkeep.core.commands import Apply, Paced, Selection
from labkeep.core.deletion import FROM, Candidate, Origin, Planner, parse_options
from labkeep.core.entities import Item
from labkeep.core.errors import Conflict, Held, Illegal, InUse, Invalid, Stale, TooLarge
from labkeep.core.lifecycle import PAST, Kind, State, Verb, legal_verbs
from labkeep.core.plan_difference import difference, in_words
from labkeep.operations import agents, protection, reasons, rules
from labkeep.operations.projects import resolve
from labkeep.storage import inventory, records
from labkeep.storage import plans as stored
from labkeep.storage.inventory import Freed, Scope
from labkeep.storage.transaction import Tx


def parse_verb(text: str) -> Verb:
    """A verb from text; Invalid with the list of verbs otherwise."""
    try:
        return Verb(text)
    except ValueError:
        raise Invalid(f"{text[:40]!r} is not a verb; use one of {', '.join(Verb)}", path="verb") from None


def fold(
    tx: Tx,
    actor: Actor,
    selection: Selection,
    planner: Planner,
    sink: Callable[[list[Candidate]], None],
    *,
    applying: bool = True,
    at_once: int | None = None,
    words: tuple[str, str] | None = None,
) -> None:
    """Run all candidates through ``planner``; those that go are handed to ``sink`` in batches.

    ``words`` are reason and ticket, where something is about to be done: Invalid when a project asks for more.

    Large, before anything is handed over, when more than ``at_once`` would go. Without that limit TooLarge for what no
    single transaction may change.
    """
    held: list[list[Candidate]] = []
    project_id = resolve(tx, actor, selection.project).id if selection.project else None
    checked: set[Kind] = set()
    asked: set[str] = set()
    scope = Scope(planner.verb, FROM[planner.verb], applying)
    for batch in inventory.candidates(tx, actor, selection, project_id, scope):
        for kind in {candidate.kind for candidate in batch} - checked:
            require(actor, f"{kind}.{'archive' if planner.verb == Verb.unarchive else planner.verb}")
            checked.add(kind)
        going = planner.take(protection.guarded(tx, actor, batch, planner.verb, looking=not applying))
        if isinstance(batch, inventory.Found):
            planner.came(batch.via, going)
        if words is not None and planner.removes and not planner.homes <= asked:
            reasons.require(tx, actor, planner.homes - asked, *words)
            asked |= planner.homes
        if at_once is None:
            if applying and selection.deletion_id is None:  # what one deletion holds moves by a few statements
                _refuse_too_many(tx, planner)
            if going:
                sink(going)
            continue
        held.append(going)
        if sum(planner.counts.values()) > at_once:
            raise Large
    for going in filter(None, held):
        sink(going)


TIMES_AT_ONCE = 50
"""How many times `Tx.apply_at_once` one transaction may change: what it would have to undo is kept in memory until its
end."""


def _refuse_too_many(tx: Tx, planner: Planner) -> None:
    most = max(100, TIMES_AT_ONCE * tx.apply_at_once)
    if sum(planner.counts.values()) > most:
        raise TooLarge(
            f"more than {most:,} objects would be changed at once: leave that to a job (background=true or auto)",
            limit=most,
        )


class Large(Exception):
    """More would go than is done at once: it is work for a job."""


def at_once(tx: Tx, command: Paced) -> int | None:
    """How many objects ``command`` may change before it becomes a job; None for any number."""
    limits: dict[bool | str, int | None] = {"auto": tx.apply_at_once, True: 0, False: None}
    return limits[command.background]


def restorable_until(tx: Tx, actor: Actor, planner: Planner) -> datetime:
    """When what is trashed now may be purged: the longest of the grace periods of the projects that it comes from."""
    days = [rule.grace_days for rule in rules.of_projects(tx, actor, sorted(planner.homes)).values()]
    return tx.now + timedelta(days=max((tx.grace_days if one is None else one for one in days), default=tx.grace_days))


class Applied(NamedTuple):
    """One apply under way: what is folded so far, and what a new plan would say if the world has moved."""

    command: Apply
    planner: Planner
    freed: Freed

    @classmethod
    def begin(cls, command: Apply, verb: Verb, asker: Origin = Origin.user) -> Self:
        return cls(command, Planner(verb, parse_options(command.on_running, command.force, asker)), Freed())

    @property
    def words(self) -> tuple[str, str]:
        """Reason and ticket."""
        return self.command.reason, self.command.ticket

    def note(self, tx: Tx, actor: Actor, going: list[Candidate]) -> None:
        """Count the bytes that a new plan would show; without a plan's hash nobody asks."""
        if self.command.plan_hash is not None and self.planner.verb in (Verb.trash, Verb.purge):
            self.freed.add(tx, actor, going)

    def check(self, tx: Tx, actor: Actor, until: datetime | None = None) -> None:
        """Stale when the world moved since the plan; the blocker's own error when something must stay."""
        planner = self.planner
        # Nothing left to do is no surprise: somebody, or an earlier try of this, has done it.
        asked = planner.counts or planner.blocked or planner.illegal
        moved = self.command.plan_hash not in (None, planner.hash) and asked
        if moved:
            raise self._stale(tx, actor, until)
        if planner.illegal is not None:
            raise _illegal(tx, actor, planner.illegal, planner.verb)
        if planner.blocked:
            raise _blocked(planner)
        if planner.verb == Verb.trash:
            agents.check_quota(tx, actor, sum(planner.counts.values()))

    def _stale(self, tx: Tx, actor: Actor, until: datetime | None) -> Stale:
        """The new plan, and what sets it apart from the one that was to be applied."""
        new = self.planner.plan(tx.new_id(), tx.now, freed=self.freed.by_kind, restorable_until=until)
        old = stored.find_plan(tx, actor, self.command.plan_hash or "")
        found = None if old is None else difference(old, new)
        what = "" if found is None else f" ({in_words(found)})"
        return Stale(
            f"something changed since this plan was made{what}: look at the new plan and apply that",
            plan=msgspec.to_builtins(new),
            difference=msgspec.to_builtins(found),
        )


def _illegal(tx: Tx, actor: Actor, candidate: Candidate, verb: Verb) -> Exception:
    """Why the verb is not legal for ``candidate``: it is gone, or it has to go through another state first."""
    if candidate.state in (State.trashed, State.purged):
        return records.gone(tx, records.get(tx, Item, actor, candidate.id, states=tuple(State)))
    legal = legal_verbs(candidate.state)
    return Illegal(
        f"{candidate.kind} {candidate.name} is {candidate.state}: cannot be {PAST[verb]}; legal now: {', '.join(legal)}",
        state=str(candidate.state),
        verb=str(verb),
        legal=list(legal),
    )


def _blocked(planner: Planner) -> Conflict:
    """The blockers as one error, of the kind of the first."""
    first = planner.blockers[0]
    more = f" (and {planner.blocked - 1} more)" if planner.blocked > 1 else ""
    kinds: dict[str, type[Conflict]] = {"": Held, "on_running=stop": Illegal, "force": InUse}
    listed = [msgspec.to_builtins(blocker) for blocker in planner.blockers]
    return kinds[first.override](first.reason + more, blockers=listed, blocked=planner.blocked, override=first.override)
