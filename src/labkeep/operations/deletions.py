"""The lifecycle's verbs: plan, archive, trash, restore, purge. Whatever destroys comes through here.

Planning and applying fold the same candidates by the same rules (`labkeep.core.deletion`), so what was shown is what
is done, or the caller is told what moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import select

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    Apply,
    Get,
    ItemVerb,
    ListDeletions,
    ListMembersOf,
    ListTrash,
    MakePlan,
    Outcome,
    Page,
    Plan,
    PurgeDeletion,
    RestoreDeletion,
    Selection,
    SetLock,
    TrashedItem,
)
from labkeep.core.commands_plans import DiffPlans, ListPlans
from labkeep.core.deletion import Candidate, Keep, Origin, Planner, event_of, parse_options
from labkeep.core.entities import Deletion, DeletionMember, Item
from labkeep.core.errors import Illegal, Invalid
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import PAST, State, Verb
from labkeep.core.plan_difference import PlanDifference, difference
from labkeep.core.undo_token import with_token
from labkeep.operations import agents, consents, protection, reasons
from labkeep.operations.handovers import hand_over, key_of
from labkeep.operations.plans import Applied, Large, at_once, fold, parse_verb, restorable_until
from labkeep.operations.projects import READABLE, resolve, states_for
from labkeep.storage import deletions as store
from labkeep.storage import jobs, plans, records
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.inventory import Freed
from labkeep.storage.pages import cut, decode_cursor, decode_id_cursor, encode_cursor, page
from labkeep.storage.transaction import Tx

SHOWN_ITEMS = 1_000
"""Items whose outcome is listed one by one."""


# --- planning ---------------------------------------------------------------------------------------------------------


def make_plan(tx: Tx, actor: Actor, command: MakePlan | Plan) -> Plan:
    """What a verb would do, stored so that it can be applied by its hash. Nothing happens yet."""
    plan = command if isinstance(command, Plan) else draft_plan(tx, actor, command)
    plans.keep(tx, actor, plan)
    return plan


def drafted(database: Database, actor: Actor, command: MakePlan) -> Plan:
    """The plan for `make_plan` to store, made while others write: a large one takes seconds."""
    return database.read(draft_plan, actor, command)


def draft_plan(tx: Tx, actor: Actor, command: MakePlan) -> Plan:
    """What a verb would do, not stored yet."""
    require(actor, "run.read")
    planner = Planner(parse_verb(command.verb), parse_options(command.on_running, command.force))
    freed = Freed()
    coming: dict[str, list[str]] = {}

    def count(going: list[Candidate]) -> None:
        if planner.verb in (Verb.trash, Verb.purge):
            freed.add(tx, actor, going)
        for candidate in going if planner.verb == Verb.restore else ():
            ids = coming.setdefault(candidate.deletion_id or "", [])
            if candidate.deletion_id != command.selection.deletion_id:
                ids.append(candidate.id)

    fold(tx, actor, command.selection, planner, count, applying=False)
    until = restorable_until(tx, actor, planner) if planner.verb == Verb.trash else None
    plan = planner.plan(tx.new_id(), tx.now, freed=freed.by_kind, restorable_until=until)
    if coming:
        plan = _with_obstacles(tx, actor, plan, coming)
    return plan


def _with_obstacles(tx: Tx, actor: Actor, plan: Plan, coming: dict[str, list[str]]) -> Plan:
    """What a restore would meet: names and slots that are taken by now."""
    parts = [store.Held.of(tx, actor, deletion_id, ids) for deletion_id, ids in sorted(coming.items())]
    names = [entry for part in parts for entry in store.offered_names(tx, part)]
    slots = [entry for part in parts for entry in store.taken_slots(tx, part)]
    return msgspec.structs.replace(plan, names_taken=names[:100], slots_taken=slots[:100])


def list_plans(tx: Tx, actor: Actor, command: ListPlans) -> Page[Plan]:
    """Plans that were made in the workspace, newest first."""
    require(actor, "run.read")
    return plans.page(tx, actor, command)


def get_plan(tx: Tx, actor: Actor, command: Get) -> Plan:
    """One plan as it was shown."""
    require(actor, "run.read")
    return plans.get(tx, actor, command.id)


def diff_plans(tx: Tx, actor: Actor, command: DiffPlans) -> PlanDifference:
    """What sets one plan apart from another."""
    require(actor, "run.read")
    return difference(plans.get(tx, actor, command.id), plans.get(tx, actor, command.other))


# --- applying ---------------------------------------------------------------------------------------------------------


def apply(tx: Tx, actor: Actor, command: Apply, *, asker: Origin = Origin.user) -> Outcome:
    """Do what a plan said. Stale when the world moved since; the blocker's own error when something must stay.

    ``asker`` is on whose word: a policy and an erasure request are stopped by less or by more than a user is.
    """
    verb = parse_verb(command.verb)
    reason, ticket = reasons.of(actor, command.reason, command.ticket)
    command = msgspec.structs.replace(command, reason=reason, ticket=ticket)
    if verb in (Verb.trash, Verb.archive):
        agents.refuse_suspended(tx, actor)
    try:
        if verb == Verb.trash:
            return _trash(tx, actor, command, asker)
        if verb in (Verb.archive, Verb.unarchive):
            return _archive(tx, actor, command, verb)
        return _undo_or_purge(tx, actor, command, verb, asker)
    except Large:
        return hand_over(tx, actor, command, asker=asker)


def _trash(tx: Tx, actor: Actor, command: Apply, asker: Origin) -> Outcome:
    """Members first, then one statement that moves them all: the same for one object and for a million."""
    done = None if command.plan_hash is None else store.find_applied(tx, actor, command.plan_hash)
    if done is not None:  # versions rise, so the same plan never holds again: this is the same request once more
        _require_all(actor, done, {}, Verb.trash)
        return _as_before(tx, done)
    applied = Applied.begin(command, Verb.trash, asker)
    planner = applied.planner
    deletion_id = tx.new_id()
    items: list[dict[str, Any]] = []
    bound: list[Candidate] = []

    def take(going: list[Candidate]) -> None:
        # Nothing that later candidates are judged by may change before all of them are folded.
        applied.note(tx, actor, going)
        store.add_members(tx, actor, deletion_id, going)
        room = SHOWN_ITEMS - len(items)
        items.extend({"id": c.id, "kind": str(c.kind), "name": c.name, "outcome": "trashed"} for c in going[:room])
        bound.extend(c for c in going if c.dependents)

    fold(tx, actor, command.selection, planner, take, at_once=at_once(tx, command), words=applied.words)
    until = restorable_until(tx, actor, planner)
    applied.check(tx, actor, until)
    if not planner.counts:
        return _nothing_new(tx, actor, planner)
    deletion = Deletion(
        id=deletion_id,
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        project_id=min(planner.homes) if len(planner.homes) == 1 else None,
        state="trashed",
        actor=actor.name,
        key_id=actor.key_id,
        client=actor.client,
        reason=command.reason,
        ticket=command.ticket,
        plan_hash=planner.hash,
        archive=command.archive,
        counts=dict(planner.counts),
        bytes=planner.bytes,
        created_at=tx.now,
        restorable_until=until,
    )
    store.insert(tx, deletion, command.selection)
    if planner.stops:
        store.stop_runs(tx, actor, store.ids_of(actor, deletion_id))
    store.unbind(tx, actor, deletion_id, bound)
    store.move_to_trash(tx, actor, deletion_id)
    _audit(tx, actor, Verb.trash, deletion, planner.counts, items)
    agents.break_circuit(tx, actor)
    return Outcome(
        verb="trash",
        counts=dict(planner.counts),
        bytes=planner.bytes,
        deletion_id=deletion_id,
        undo=deletion_id,
        already=planner.already,
        restorable_until=until,
        items=items,
    )


def _nothing_new(tx: Tx, actor: Actor, planner: Planner) -> Outcome:
    """All of it was in the trash before: success, with the record of that deletion."""
    held = sorted(planner.held)
    if len(held) != 1:
        return Outcome(verb="trash", counts={}, already=planner.already)
    return msgspec.structs.replace(_as_before(tx, store.get(tx, actor, held[0])), already=planner.already)


def _as_before(tx: Tx, deletion: Deletion) -> Outcome:
    """The answer to a trash that was asked for before: its record, which is the way back while it holds something, and
    the job that is at it."""
    job_id = jobs.find_open(tx, key_of(Verb.trash, deletion.id)) if deletion.state == "applying" else None
    return Outcome(
        verb="trash",
        counts={},
        already=sum(deletion.counts.values()),
        deletion_id=deletion.id,
        undo=deletion.id if deletion.state in ("applying", "trashed") else None,
        job_id=job_id,
        job_ids=[] if job_id is None else [job_id],
        restorable_until=deletion.restorable_until,
    )


def _audit(
    tx: Tx,
    actor: Actor,
    verb: Verb,
    deletion: Deletion,
    counts: dict[str, int],
    items: list[dict[str, Any]],
    reason: str = "",
) -> None:
    for kind, count in sorted(counts.items()):
        subject = items[0]["id"] if count == 1 and len(items) == 1 else ""
        tx.audit(
            actor,
            event_of(kind, verb),
            subject,
            count=count,
            deletion_id=deletion.id,
            reason=reason or deletion.reason,
            ticket=deletion.ticket,
            **({"archive": deletion.archive} if deletion.archive else {}),
        )


def _archive(tx: Tx, actor: Actor, command: Apply, verb: Verb) -> Outcome:
    applied = Applied.begin(command, verb)
    planner = applied.planner
    items: list[dict[str, Any]] = []

    def take(going: list[Candidate]) -> None:
        store.set_state(tx, actor, [c.id for c in going], State.archived if verb == Verb.archive else State.active)
        room = SHOWN_ITEMS - len(items)
        items.extend({"id": c.id, "kind": str(c.kind), "name": c.name, "outcome": PAST[verb]} for c in going[:room])

    fold(tx, actor, command.selection, planner, take, at_once=at_once(tx, command))
    applied.check(tx, actor)
    for kind, count in sorted(planner.counts.items()):
        subject = items[0]["id"] if len(items) == 1 else ""
        tx.audit(actor, event_of(kind, verb), subject, count=count, reason=command.reason, ticket=command.ticket)
    done = Outcome(verb=str(verb), counts=dict(planner.counts), already=planner.already, items=items)
    return with_token(done, tx.now)


def _undo_or_purge(tx: Tx, actor: Actor, command: Apply, verb: Verb, asker: Origin) -> Outcome:
    """Restore or purge a selection: each deletion that holds some of it, with just those members."""
    applied = Applied.begin(command, verb, asker)
    planner = applied.planner
    by_deletion: dict[str, list[str]] = {}
    selected = command.selection.deletion_id

    def take(going: list[Candidate]) -> None:
        applied.note(tx, actor, going)
        for candidate in going:
            ids = by_deletion.setdefault(candidate.deletion_id or "", [])
            if candidate.deletion_id != selected:
                ids.append(candidate.id)

    # What one deletion holds is purged by a job anyway.
    limit = None if selected and verb == Verb.purge else at_once(tx, command)
    fold(tx, actor, command.selection, planner, take, at_once=limit, words=applied.words)
    applied.check(tx, actor)
    outcomes = []
    # The newest first: what was trashed before its container comes back after it.
    for deletion_id, ids in sorted(by_deletion.items(), reverse=True):
        if verb == Verb.restore:
            asked = RestoreDeletion(id=deletion_id, ids=ids, reason=command.reason, background=False)
            outcomes.append(restore(tx, actor, asked))
        else:
            deletion = store.get(tx, actor, deletion_id, lock=True)
            outcomes.append(purge_members(tx, actor, deletion, ids or None, command.reason, command.ticket))
            store.note_archive(tx, actor, outcomes[-1].deletion_id, command.archive)
    done = msgspec.structs.replace(together(verb, outcomes), already=planner.already)
    if done.waits_for:
        return done
    return with_token(msgspec.structs.replace(done, counts=dict(planner.counts), bytes=planner.bytes), tx.now)


def together(verb: Verb, outcomes: Sequence[Outcome]) -> Outcome:
    """One answer for what was done to several deletions."""
    return Outcome(
        verb=str(verb),
        counts=dict(sum((Counter(outcome.counts) for outcome in outcomes), Counter())),
        bytes=sum(outcome.bytes for outcome in outcomes),
        already=sum(outcome.already for outcome in outcomes),
        deletion_id=outcomes[0].deletion_id if len(outcomes) == 1 else None,
        job_id=outcomes[-1].job_id if outcomes else None,
        job_ids=[job_id for outcome in outcomes for job_id in outcome.job_ids],
        not_rebound=[entry for outcome in outcomes for entry in outcome.not_rebound],
        waits_for=next((outcome.waits_for for outcome in outcomes if outcome.waits_for), ""),
        items=[entry for outcome in outcomes for entry in outcome.items][:SHOWN_ITEMS],
    )


# --- one object -------------------------------------------------------------------------------------------------------


def _one(tx: Tx, actor: Actor, command: ItemVerb, verb: Verb) -> Outcome:
    asked = Apply(
        verb=str(verb),
        selection=Selection(ids=[records.get(tx, Item, actor, command.id, states=tuple(State)).id]),
        on_running=command.on_running,
        force=command.force,
        plan_hash=command.plan_hash,
        reason=command.reason,
        ticket=command.ticket,
        background=command.background,
        rate=command.rate,
    )
    return apply(tx, actor, asked)


def archive_item(tx: Tx, actor: Actor, command: ItemVerb) -> Outcome:
    """Archive one object: hidden from lists, readable, not writable."""
    return _one(tx, actor, command, Verb.archive)


def unarchive_item(tx: Tx, actor: Actor, command: ItemVerb) -> Outcome:
    """Take one object out of the archive."""
    return _one(tx, actor, command, Verb.unarchive)


def trash_item(tx: Tx, actor: Actor, command: ItemVerb) -> Outcome:
    """Trash one object with what it contains."""
    return _one(tx, actor, command, Verb.trash)


def restore_item(tx: Tx, actor: Actor, command: ItemVerb) -> Outcome:
    """Restore one object; of a container, all that went with it."""
    return _one(tx, actor, command, Verb.restore)


def purge_item(tx: Tx, actor: Actor, command: ItemVerb) -> Outcome:
    """Purge one object that is in the trash, with what it contains."""
    return _one(tx, actor, command, Verb.purge)


def get_item(tx: Tx, actor: Actor, command: Get) -> Item:
    """Any object by id."""
    item = records.get(tx, Item, actor, command.id, states=states_for(command.include))
    require(actor, f"{item.kind}.read")
    return item


def set_lock(tx: Tx, actor: Actor, command: SetLock) -> Item:
    """Lock an object against trash, or lift the lock."""
    before = records.get(tx, Item, actor, command.id, lock=True)
    require(actor, f"{before.kind}.lock")
    if before.locked == command.locked:
        return before
    store.set_lock(tx, actor, before.id, command.locked)
    tx.audit(actor, f"{before.kind}.{'locked' if command.locked else 'unlocked'}", before.id, reason=command.reason)
    return records.get(tx, Item, actor, command.id)


# --- restoring --------------------------------------------------------------------------------------------------------


def restore(tx: Tx, actor: Actor, command: RestoreDeletion) -> Outcome:
    """Put back exactly what a deletion holds: states, names and bindings. Nothing that was trashed earlier on its own."""
    deletion = store.get(tx, actor, command.id, lock=True)
    held = store.Held.of(tx, actor, deletion.id, command.ids)
    _require_all(actor, deletion, held.counts, Verb.restore)
    if deletion.state in ("purging", "purged"):
        raise Illegal(f"deletion {deletion.id} is {deletion.state}: it cannot be restored", state=deletion.state)
    refuse_while_applying(tx, deletion)
    if not held.counts:
        return Outcome(verb="restore", counts={}, already=1, deletion_id=deletion.id)
    limit = at_once(tx, command)
    if held.members is None and limit is not None and sum(held.counts.values()) > limit:
        chosen = Selection(deletion_id=deletion.id)
        later = Apply(verb="restore", selection=chosen, reason=command.reason, rate=command.rate)
        return hand_over(tx, actor, later, command.names)
    shown = held.first(tx, SHOWN_ITEMS)
    items = [
        {"id": m.item_id, "kind": str(m.kind), "outcome": "restored", "state": str(m.previous_state)} for m in shown
    ]
    store.check_homes(tx, held)
    store.rename_members(tx, actor, command.names, held)
    store.check_names(tx, held)
    store.move_back(tx, actor, deletion, held)
    not_rebound = store.rebind(tx, actor, deletion.id, held.ids)
    _audit(tx, actor, Verb.restore, deletion, held.counts, items, command.reason)
    agents.give_back(tx, actor, deletion.id, sum(held.counts.values()))
    done = Outcome(verb="restore", counts=held.counts, deletion_id=deletion.id, not_rebound=not_rebound, items=items)
    return with_token(done, tx.now)


def refuse_while_applying(tx: Tx, deletion: Deletion) -> None:
    """Illegal while a job, or an import, is still adding to ``deletion``."""
    if deletion.state == "importing":
        raise Illegal(f"{deletion.id} is an import under way: finish it, or give it up", state=deletion.state)
    if deletion.state != "applying":
        return
    job_id = jobs.find_open(tx, key_of(Verb.trash, deletion.id))
    raise Illegal(
        f"deletion {deletion.id} is still being applied by job {job_id}: wait for that job, or cancel it first",
        state=deletion.state,
        job_id=job_id,
    )


def _require_all(actor: Actor, deletion: Deletion, counts: dict[str, int], verb: Verb) -> None:
    """Permission for the verb on every kind that is concerned; of a deletion that holds nothing any more, that it held."""
    for kind in sorted(counts or deletion.counts):
        require(actor, f"{kind}.{verb}")


# --- purging ----------------------------------------------------------------------------------------------------------


def purge(tx: Tx, actor: Actor, command: PurgeDeletion) -> Outcome:
    """Remove for good what a deletion holds, and what was trashed earlier out of its projects and artifacts; a job.

    What may not be purged now stays in the trash, in a deletion of its own; Held when that is all of it.
    """
    deletion = store.get(tx, actor, command.id, lock=True)
    reason, ticket = reasons.of(actor, command.reason, command.ticket)
    if deletion.state != "trashed":
        return purge_members(tx, actor, deletion, None, reason, ticket)
    if consents.is_person(actor):  # what the server does by itself needs no words
        reasons.require(tx, actor, store.homes(tx, actor, deletion.id), reason, ticket)
    kept: dict[str, Keep] = {}
    outcomes = []
    for deletion_id, ids in {deletion.id: None, **store.inside(tx, actor, deletion.id)}.items():
        part = store.get(tx, actor, deletion_id, lock=True)
        staying, going = protection.parted(tx, actor, part, ids)
        kept |= staying
        if going is None or going:
            outcomes.append(purge_members(tx, actor, part, going, reason, ticket))
    if not outcomes:
        raise protection.refusal(tx, actor, kept)
    shown = [{"id": id, "outcome": "kept", "reason": keep.reason} for id, keep in sorted(kept.items())[:SHOWN_ITEMS]]
    return msgspec.structs.replace(together(Verb.purge, outcomes), deletion_id=outcomes[0].deletion_id, items=shown)


def purge_members(
    tx: Tx, actor: Actor, deletion: Deletion, ids: list[str] | None, reason: str, ticket: str = ""
) -> Outcome:
    """Purge what ``deletion`` holds, or only ``ids`` of it, which become a deletion of their own."""
    held = store.Held.of(tx, actor, deletion.id, ids or [])
    _require_all(actor, deletion, held.counts, Verb.purge)
    if deletion.state in ("purging", "purged"):
        return _purged_before(tx, actor, deletion)
    refuse_while_applying(tx, deletion)
    if ids is not None and held.members is not None:
        # Purging a part: the part becomes a deletion of its own, so that every purge has one record.
        deletion = store.split(tx, actor, deletion, held.members)
    if deletion.state != "trashed":
        raise Illegal(f"deletion {deletion.id} is {deletion.state}: only what is in the trash can be purged")
    waits_for = consents.ask(tx, actor, deletion, held.counts, reason, ticket)
    if waits_for:
        return Outcome(verb="purge", counts={}, deletion_id=deletion.id, waits_for=waits_for)
    store.change(tx, deletion, state="purging", purged_by=_purgers(deletion, actor))
    job_id = store.enqueue_purge(tx, actor, deletion, sum(held.counts.values()))
    for kind, count in held.counts.items():
        tx.audit(actor, f"{kind}.purge_requested", count=count, deletion_id=deletion.id, reason=reason, ticket=ticket)
    return Outcome(
        verb="purge", counts=held.counts, bytes=deletion.bytes, deletion_id=deletion.id, job_id=job_id, job_ids=[job_id]
    )


def _purgers(deletion: Deletion, actor: Actor) -> str:
    """Who purges: both persons, where two had to agree."""
    first = deletion.purge_requested_by
    return f"{first} and {actor.name}" if first and not first.startswith("(") and first != actor.user else actor.name


def _purged_before(tx: Tx, actor: Actor, deletion: Deletion) -> Outcome:
    """Asked for before: success, with the job when it goes on. One that gave up starts again."""
    job_id = store.enqueue_purge(tx, actor, deletion, 0) if deletion.state == "purging" else None
    return Outcome(
        verb="purge",
        counts={},
        already=sum(deletion.counts.values()),
        deletion_id=deletion.id,
        job_id=job_id,
        job_ids=[] if job_id is None else [job_id],
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def list_(tx: Tx, actor: Actor, command: ListDeletions) -> Page[Deletion]:
    """Deletions of the workspace, newest first; ``item_id`` keeps those that hold or held one object."""
    require(actor, "run.read")
    c, m = t.deletions.c, t.deletion_members.c
    query = select(*store.COLUMNS).where(
        c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id
    )
    if command.state == "waiting":
        query = query.where(c.state == "trashed", c.purge_requested_at.is_not(None))
    elif command.state:
        query = query.where(c.state == command.state)
    if command.item_id is not None:
        mine = select(m.deletion_id).where(m.organization_id == actor.organization_id, m.item_id == command.item_id)
        query = query.where(c.id.in_(mine))
    return page(tx, query, c.id, command, Deletion)


def get(tx: Tx, actor: Actor, command: Get) -> Deletion:
    """One deletion: who, why, when, what, and until when it can be taken back."""
    require(actor, "run.read")
    return store.get(tx, actor, command.id)


def members(tx: Tx, actor: Actor, command: ListMembersOf) -> Page[DeletionMember]:
    """What belonged to a deletion, by id."""
    require(actor, "run.read")
    store.get(tx, actor, command.id)
    m = t.deletion_members.c
    query = select(*store.MEMBER_COLUMNS).where(m.organization_id == actor.organization_id, m.deletion_id == command.id)
    if command.cursor is not None:
        query = query.where(m.item_id > decode_id_cursor(command.cursor))
    rows = tx.all(query.order_by(m.item_id).limit(command.limit + 1))
    return cut([DeletionMember(**row) for row in rows], command.limit, lambda member: member.item_id)


def trash_list(tx: Tx, actor: Actor, command: ListTrash) -> Page[TrashedItem]:
    """What is in the trash, with the days that are left."""
    require(actor, "run.read")
    project_id = _trash_home(tx, actor, command.project) if command.project else None
    if command.order not in store.TRASH_ORDERS:
        raise Invalid(f"order is one of {', '.join(store.TRASH_ORDERS)}, not {command.order[:40]!r}", path="order")
    by = store.TRASH_ORDERS[command.order]
    after = None
    if command.cursor is not None:
        key, item_id = decode_cursor(command.cursor, tuple[by.type, str])  # type: ignore[name-defined]
        after = (decode_id(key) if by.type is str else key, decode_id(item_id))
    rows = store.trashed(tx, actor, command.kind, project_id, command.order, after, command.limit + 1)
    found = [_trashed(row, tx.now) for row in rows]
    if len(found) <= command.limit:
        return Page(found)
    last = found[command.limit - 1]
    keys = {"largest": last.bytes, "due": last.restorable_until}
    return Page(found[: command.limit], encode_cursor(keys.get(command.order, last.deletion_id), last.id))


def _trash_home(tx: Tx, actor: Actor, ref: str) -> str:
    """A project by id, which may be in the trash itself, or a live one by name."""
    if is_id(ref):
        return records.get(tx, Item, actor, ref, states=READABLE).id
    return resolve(tx, actor, ref).id


def decode_id(text: str) -> str:
    """``text`` when it is an id; Invalid for a cursor that this server did not make."""
    if not is_id(text):
        raise Invalid("the cursor is not one that this list gave", path="cursor")
    return text


def _trashed(row: Any, now: datetime) -> TrashedItem:
    left = (row["restorable_until"] - now).total_seconds() / 86_400
    return TrashedItem(**row, days_left=max(0, int(-(-left // 1))))
