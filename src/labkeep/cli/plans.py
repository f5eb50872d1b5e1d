"""Plans and outcomes in words: what would happen, what must stay, what happened, and how to take it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from labkeep.cli.cells import clean, count_of, human, size
from labkeep.cli.failure import OVERRIDES
from labkeep.core.commands import Blocker, Outcome, Plan
from labkeep.core.entities import Deletion
from labkeep.core.errors import Conflict, Held, Illegal, InUse
from labkeep.core.lifecycle import PAST, Verb

CAME = {"contained": "because they lie in what goes", "linked": "by a link to what goes"}

SHOWN_NAMES = 10
"""Entries of a list that are shown; the rest is counted."""

SHOWN_IDS = 5
"""So many ids fit into an undo command."""


def describe(plan: Plan, now: datetime) -> Iterator[str]:
    """A plan, line by line."""
    held = f" ({size(plan.bytes)})" if plan.bytes else ""
    yield f"This would {plan.verb} {count_of(plan.counts)}{held}"
    for kind, held_bytes in sorted(plan.bytes_by_kind.items()) if len(plan.counts) > 1 else ():
        yield f"    {count_of({kind: plan.counts.get(kind, 0)})}: {size(held_bytes)}"
    for via, counts in sorted(plan.cascades.items()):
        yield f"  of these only {CAME[via]}: {count_of(counts)}"
    if plan.freed_bytes:
        yield f"  space that comes back when it is purged: at least {size(plan.freed_bytes)}"
    if plan.stops:
        yield f"  stops first: {count_of({'running run': plan.stops})}"
    if plan.names_freed:
        yield f"  frees the names: {_listed(plan.names_freed)}"
    for unbound in plan.unbinds:
        yield f"  unbinds: {clean(str(unbound.get('type', '')))} {clean(str(unbound.get('name', '')))}"
    if plan.restorable_until is not None and plan.counts:
        when = plan.restorable_until.astimezone().strftime("%Y-%m-%d %H:%M")
        yield f"  can be restored until: {when} ({human(plan.restorable_until, now)})"
        yield "  is purged by itself after that"
    for taken in plan.names_taken:
        name = clean(str(taken.get("name", "")))
        yield f"  the name {name} is taken: --name {taken.get('id')}={clean(str(taken.get('suggestion', '')))}"
    for slot in plan.slots_taken:
        what = f"{slot.get('type')} {clean(str(slot.get('name', '')))}"
        yield f"  would not be bound again: {what}, which is bound to {slot.get('taken_by')} now"
    if plan.already:
        yield f"  already {PAST[Verb(plan.verb)]}: {plan.already}"
    if plan.verb == Verb.purge and plan.counts:
        yield "  cannot be taken back"
    yield from _blocked(plan)


def _blocked(plan: Plan) -> Iterator[str]:
    if not plan.blocked:
        return
    yield f"{plan.blocked} must stay, so nothing would be done:"
    for blocker in plan.blockers:
        option = OVERRIDES.get(blocker.override, blocker.override)
        yield f"  {clean(blocker.reason)}" + (f"  [{option}]" if option else "") + f"  {blocker.id}"
    if plan.blocked > len(plan.blockers):
        yield f"  … and {plan.blocked - len(plan.blockers)} more"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(clean, names[:SHOWN_NAMES]))
    return shown + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


KINDS: dict[str, type[Conflict]] = {"": Held, "on_running=stop": Illegal, "force": InUse}
"""What would override a blocker -> the error that it is."""


def conflict(plan: Plan) -> Conflict:
    """The blockers of a plan as the error that applying it would be."""
    first: Blocker = plan.blockers[0]
    more = f" (and {plan.blocked - 1} more)" if plan.blocked > 1 else ""
    details: dict[str, Any] = {
        "blocked": plan.blocked,
        "override": first.override,
        "blockers": [
            {"id": b.id, "kind": b.kind, "reason": b.reason, "override": b.override, "origin": b.origin}
            for b in plan.blockers
        ],
    }
    return KINDS.get(first.override, Conflict)(f"{first.reason}{more}; nothing was done", **details)


def report(outcome: Outcome, targets: Sequence[str], now: datetime) -> Iterator[str]:
    """What a verb did, and the command that takes it back."""
    past = PAST[Verb(outcome.verb)]
    if outcome.waits_for:
        yield f"waits for {clean(outcome.waits_for)}"
        return
    if not outcome.counts:
        yield f"nothing to {outcome.verb}" + (f": {outcome.already} already {past}" if outcome.already else "")
    else:
        held = f" ({size(outcome.bytes)})" if outcome.bytes else ""
        yield f"{f'will {outcome.verb}' if outcome.job_ids else past} {count_of(outcome.counts)}{held}" + (
            f"; {outcome.already} already {past}" if outcome.already else ""
        )
    if outcome.restorable_until is not None:
        yield f"can be restored until {outcome.restorable_until:%Y-%m-%d} ({human(outcome.restorable_until, now)})"
    for binding in outcome.not_rebound:
        yield f"not bound again: {clean(_words(binding))}"
    if undo := undo_command(outcome, targets):
        yield f"undo: {undo}"


def _words(binding: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in binding.items() if value)


def undo_command(outcome: Outcome, targets: Sequence[str]) -> str:
    """The command that takes it back; empty when there is none."""
    if outcome.verb == Verb.trash and outcome.undo is not None:
        return f"labkeep restore --deletion {outcome.undo}"
    reverse = {Verb.archive: Verb.unarchive, Verb.unarchive: Verb.archive}.get(Verb(outcome.verb))
    if reverse is not None and outcome.counts and 0 < len(targets) <= SHOWN_IDS:
        return f"labkeep {reverse} {' '.join(targets)}"
    return f"labkeep undo {outcome.undo}" if outcome.undo is not None else ""


def verified(deletions: Sequence[Deletion]) -> str:
    """What purges found when they read every store again."""
    freed = sum(int(deletion.verification.get("freed_bytes", 0)) for deletion in deletions)
    tables = max((int(deletion.verification.get("tables_read", 0)) for deletion in deletions), default=0)
    blobs = sum(int(deletion.verification.get("blobs_removed", 0)) for deletion in deletions)
    counted: Counter[str] = Counter()
    for deletion in deletions:
        counted.update(deletion.counts)
    held = size(sum(deletion.bytes for deletion in deletions))
    return (
        f"purged {count_of(counted)} ({held}): freed {size(freed)}, verified "
        f"({count_of({'blob': blobs})} removed, {tables} tables and the blob store read again, nothing left)"
    )
