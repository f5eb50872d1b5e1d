"""What may not go, whoever asks: legal holds and minimum keeps, looked up for many objects at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.deletion import Candidate, Keep
from labkeep.core.entities import Deletion
from labkeep.core.errors import Held
from labkeep.core.lifecycle import Kind, State, Verb
from labkeep.operations import holds, rules
from labkeep.storage import deletions, records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

RECHECK = timedelta(days=1)
"""When what something keeps in the trash, with no end in sight, is looked at again."""


def guarded(tx: Tx, actor: Actor, batch: Sequence[Candidate], verb: Verb, *, looking: bool) -> list[Candidate]:
    """``batch`` with the holds that cover each and, for a purge, the minimum keeps that are not over."""
    if verb not in (Verb.trash, Verb.purge):
        return list(batch)
    ids = [candidate.id for candidate in batch]
    held = _held(tx, actor, ids, looking=looking)
    young: dict[str, Keep] = {}
    if verb == Verb.purge and _any_minimum(tx, actor, {candidate.project_id or candidate.id for candidate in batch}):
        young = _young(tx, actor, ids)
    if not held and not young:
        return list(batch)
    return [
        msgspec.structs.replace(one, holds=held.get(one.id, ()), young=young.get(one.id))
        if one.id in held or one.id in young
        else one
        for one in batch
    ]


def kept(tx: Tx, actor: Actor, ids: Collection[str]) -> dict[str, Keep]:
    """What of ``ids`` may not be purged now, each with the strongest reason."""
    held = _held(tx, actor, ids, looking=False)
    return _young(tx, actor, ids) | {id: keeps[0] for id, keeps in held.items()}


CANCELLED = Keep("cancelled", "stays: its purge was cancelled")
"""Why something was left that nothing protects."""


def wait(keeps: Collection[Keep], now: datetime) -> datetime:
    """When what ``keeps`` hold back is worth looking at again: not before the first of them can have ended."""
    return max(now, min((keep.until or now + RECHECK for keep in keeps), default=now + RECHECK))


def refusal(tx: Tx, actor: Actor, found: Mapping[str, Keep]) -> Held:
    """The error that says that all of this must stay."""
    first = min(found)
    c = t.items.c
    item = tx.one(select(c.kind, c.type, c.name).where(*records.scope(actor), c.id == first))
    what = first if item is None else f"{item['type'] or item['kind']} {item['name']}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Held(f"{what} {found[first].reason}: it cannot be purged{more}", ids=sorted(found)[:100], override="")


def parted(
    tx: Tx, actor: Actor, deletion: Deletion, ids: Sequence[str] | None = None
) -> tuple[dict[str, Keep], list[str] | None]:
    """What of a deletion (or only of ``ids`` in it) may not be purged now, and what may: None when that is all of it."""
    found: dict[str, Keep] = {}
    if _guarded_at_all(tx, actor, deletion):
        for batch in deletions.batches(tx, actor, deletion.id) if ids is None else deletions.parts(ids):
            found |= kept(tx, actor, batch)
    if ids is not None:
        return {id: found[id] for id in ids if id in found}, [id for id in ids if id not in found]
    if not found:
        return {}, None
    every = (id for batch in deletions.batches(tx, actor, deletion.id) for id in batch)
    return found, [id for id in every if id not in found]


def _guarded_at_all(tx: Tx, actor: Actor, deletion: Deletion) -> bool:
    """Whether anything could keep any of it, so that a large deletion is looked through only then."""
    if holds.any_active(tx, actor):
        return True
    return _any_minimum(tx, actor, deletions.homes(tx, actor, deletion.id))


def _any_minimum(tx: Tx, actor: Actor, project_ids: Collection[str]) -> bool:
    """Whether a minimum keep holds in one of these projects."""
    found = rules.of_projects(tx, actor, sorted(project_ids))
    return any(rule.minimum_keep_days for rule in found.values())


def set_aside(tx: Tx, actor: Actor, deletion: Deletion, keeps: Mapping[str, Keep]) -> None:
    """Leave what may not be purged in the trash, in a deletion of its own that waits.

    When that is all that ``deletion`` ever had, it is the deletion itself that goes on waiting.
    """
    staying = deletions.find_members(tx, actor, deletion.id, keeps)
    whole = len(staying) == deletions.count_members(tx, actor, deletion.id)
    aside = deletion if whole else deletions.split(tx, actor, deletion, staying)
    if whole:
        deletions.forget_kept(tx, actor, deletion.id)
    counts = Counter(str(member.kind) for member in staying)
    _leave(tx, actor, aside, list(keeps.values()), counts, out_of=deletion.id)


def leave_rest(tx: Tx, actor: Actor, deletion: Deletion, ids: Sequence[str]) -> None:
    """Leave ``ids``, which a cancelled purge has not removed, in the trash; all of it when nothing has gone yet."""
    if any(deletions.held_counts(tx, actor, deletion.id, outcome) for outcome in ("purged", "kept")):
        set_aside(tx, actor, deletion, dict.fromkeys(ids, CANCELLED))
    else:
        counts = deletions.held_counts(tx, actor, deletion.id)
        _leave(tx, actor, deletion, [CANCELLED], counts, out_of=deletion.id)


def _leave(
    tx: Tx, actor: Actor, aside: Deletion, keeps: Sequence[Keep], counts: Mapping[str, int], out_of: str
) -> None:
    """Let a deletion wait in the trash again, and say in the trail what kept it."""
    waits: dict[str, Any] = {"state": "trashed", "purged_by": "", "commitment": ""}
    waits |= {} if aside.restorable_until > tx.now else {"restorable_until": wait(keeps, tx.now)}
    deletions.change(tx, aside, **waits)
    because = sorted({keep.id for keep in keeps})[:100]
    for kind, count in sorted(counts.items()):
        tx.audit(actor, f"{kind}.kept", count=count, deletion_id=aside.id, out_of=out_of, because=because)


def _held(tx: Tx, actor: Actor, ids: Collection[str], *, looking: bool) -> dict[str, tuple[Keep, ...]]:
    found = holds.holding(tx, actor, ids, looking=looking)
    return {id: tuple(Keep(hold.id, holds.reason(hold)) for hold in each) for id, each in found.items()}


# --- minimum keep -----------------------------------------------------------------------------------------------------


def _young(tx: Tx, actor: Actor, ids: Collection[str]) -> dict[str, Keep]:
    """What was made too short a time ago; a container as long as something in it was."""
    c = t.items.c
    found: dict[str, Keep] = {}
    query = select(c.id, c.kind, c.project_id, c.created_at).where(*records.scope(actor))
    for part in deletions.parts(sorted(ids)):
        rows = tx.execute(query.where(c.id.in_(part))).all()
        homes: dict[str, list[tuple[str, Kind, datetime]]] = defaultdict(list)
        for id, kind, project_id, made in rows:
            homes[project_id or id].append((id, kind, made))
        for project_id, rule in rules.of_projects(tx, actor, sorted(homes)).items():
            if rule.minimum_keep_days:
                found |= _young_in(tx, actor, homes[project_id], timedelta(days=rule.minimum_keep_days))
    return found


def _young_in(tx: Tx, actor: Actor, some: Sequence[tuple[str, Kind, datetime]], least: timedelta) -> dict[str, Keep]:
    newest = {id: made for id, _, made in some}
    for kind, column in ((Kind.project, t.items.c.project_id), (Kind.artifact, t.items.c.parent_id)):
        containers = [id for id, its, _ in some if its == kind]
        c = t.items.c
        inside = select(column, func.max(c.created_at)).where(
            *records.scope(actor), column.in_(containers), c.state != State.purged
        )
        for id, made in tx.execute(inside.group_by(column)) if containers else ():
            newest[id] = max(newest[id], made)
    ends = {id: made + least for id, made in newest.items()}
    return {
        id: Keep("minimum_keep", f"must be kept until {end.isoformat()}: {least.days} days are the minimum", end)
        for id, end in ends.items()
        if end > tx.now
    }
