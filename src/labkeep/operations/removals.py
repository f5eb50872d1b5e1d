"""Removing parts of a run or document, with one lifecycle: planned, hidden, restorable, purged by the clock or on request.

What is hidden is hidden from every read in every dialect, because it is taken out below all of them; aggregates are
counted again in the same transaction. The bytes go with the purge (`labkeep.operations.removal_purges`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import select, update

from labkeep.core.access import Actor, require
from labkeep.core.commands import Get, Page
from labkeep.core.entities import Document, Item, Run
from labkeep.core.errors import Held, Illegal, Invalid, LabkeepError, Stale
from labkeep.core.lifecycle import Kind
from labkeep.core.removals import (
    OWNERS,
    ListRemovals,
    Part,
    PlanRemoval,
    PurgeRemoval,
    Removal,
    RemovalPlan,
    Remove,
    RequestedPurge,
    RestoreRemoval,
)
from labkeep.core.rules import Rules
from labkeep.operations import agents, holds, rules
from labkeep.operations.projects import READABLE, resolve
from labkeep.operations.purges import system
from labkeep.operations.removal_parts import Found, find, give_back, take
from labkeep.storage import jobs, records, row_removals
from labkeep.storage import removals as store
from labkeep.storage import tables as t
from labkeep.storage.pages import page
from labkeep.storage.transaction import Tx

SHOWN = 100
"""Rows that a plan names."""

EVENTS: dict[Part, str] = {
    Part.row: "rows",
    Part.metric: "metric",
    Part.file: "file",
    Part.console: "console",
}
"""Part -> how audit events call it: ``run.rows_removed``."""


# --- planning ---------------------------------------------------------------------------------------------------------


def plan(tx: Tx, actor: Actor, command: PlanRemoval) -> RemovalPlan:
    """What a removal would take, and what stands in its way. Nothing happens."""
    owner = _owner(tx, actor, command)
    require(actor, f"{owner.kind}.trash")
    found = find(tx, owner, command)
    return RemovalPlan(
        item_id=owner.id,
        kind=str(owner.kind),
        part=command.part,
        ref=found.ref,
        count=found.number,
        bytes=found.bytes,
        ids=list(found.ids[:SHOWN]),
        blockers=_blockers(tx, actor, owner),
        restorable_until=restorable_until(tx, actor, owner),
        hash=_hash(owner, command, found),
    )


def _owner(tx: Tx, actor: Actor, command: PlanRemoval, *, lock: bool = False) -> Item:
    item = records.get(tx, Item, actor, command.id, lock=lock)
    if item.kind not in OWNERS[command.part]:
        have = " and ".join(f"{kind}s" for kind in OWNERS[command.part])
        raise Invalid(f"from {item.kind} {item.name} no {command.part} can be removed: only from {have}", path="id")
    entity: type[Item] = Run if item.kind == Kind.run else Document
    return records.get(tx, entity, actor, item.id)


def _blockers(tx: Tx, actor: Actor, owner: Item) -> list[str]:
    found = []
    try:
        _check_state(owner)
    except LabkeepError as error:
        found.append(error.message)
    covering = holds.holding(tx, actor, [owner.id], looking=True).get(owner.id, [])
    return [*found, *(f"{owner.kind} {owner.name} {holds.reason(hold)}" for hold in covering)]


def _hash(owner: Item, command: PlanRemoval, found: Found) -> str:
    parts = [owner.id, owner.version, str(command.part), found.ref, found.stream, found.number, found.seen]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def restorable_until(tx: Tx, actor: Actor, owner: Item) -> datetime:
    """When what is removed now may be purged: by the grace period of its project."""
    days = _rules(tx, actor, owner).grace_days
    return tx.now + timedelta(days=tx.grace_days if days is None else days)


def _rules(tx: Tx, actor: Actor, owner: Item) -> Rules:
    project_id = owner.project_id or owner.id
    return rules.of_projects(tx, actor, [project_id]).get(project_id) or rules.of_workspace(tx, actor)


# --- what protects ----------------------------------------------------------------------------------------------------


def protect(tx: Tx, actor: Actor, owner: Item, *, reason: str = "", ticket: str = "", asked: bool = True) -> None:
    """Refuse to take anything away from ``owner``: Held, Illegal, or Invalid for a reason that its project wants.

    ``asked``: whether whoever removes could have been asked for a reason; the SDKs of other systems cannot.
    """
    require(actor, f"{owner.kind}.trash")
    _check_state(owner)
    agents.refuse_suspended(tx, actor)
    holds.refuse(tx, actor, [owner.id], "taken apart")
    if asked:
        _check_words(_rules(tx, actor, owner), reason or actor.reason, ticket or actor.ticket)


def _check_state(owner: Item) -> None:
    records.check_writable(owner)
    if owner.locked:
        raise Held(f"{owner.kind} {owner.name} is locked: unlock it first", id=owner.id)


def _check_words(wanted: Rules, reason: str, ticket: str) -> None:
    for name, needed, given in (("reason", wanted.require_reason, reason), ("ticket", wanted.require_ticket, ticket)):
        if needed and not given.strip():
            raise Invalid(f"the rules here ask for a {name} with everything that is removed: pass {name}", path=name)


# --- removing ---------------------------------------------------------------------------------------------------------


def remove(tx: Tx, actor: Actor, command: Remove) -> Removal:
    """Hide a part from every read. Stale when ``plan_hash`` is of another plan."""
    owner = _owner(tx, actor, command, lock=True)
    protect(tx, actor, owner, reason=command.reason, ticket=command.ticket)
    found = find(tx, owner, command)
    if command.plan_hash not in (None, _hash(owner, command, found)):
        new = plan(tx, actor, PlanRemoval(**{name: getattr(command, name) for name in PlanRemoval.__struct_fields__}))
        raise Stale(
            f"{owner.kind} {owner.name} has changed since this plan was made: look at the new plan and apply that",
            plan=msgspec.to_builtins(new),
        )
    held = take(tx, owner, command.part, found, versions=command.versions)
    _touch(tx, owner)
    return _note(tx, actor, owner, command.part, found, held, command.reason, command.ticket)


def _note(
    tx: Tx, actor: Actor, owner: Item, part: Part, found: Found, held: store.Held, reason: str, ticket: str
) -> Removal:
    removal = Removal(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        item_id=owner.id,
        part=part,
        ref=found.ref,
        stream=found.stream,
        count=found.number,
        bytes=found.bytes,
        reason=reason or actor.reason,
        ticket=ticket or actor.ticket,
        actor=actor.name,
        key_id=actor.key_id,
        created_at=tx.now,
        restorable_until=restorable_until(tx, actor, owner),
    )
    store.insert(tx, owner, removal, held)
    _audit(tx, actor, owner, removal, "removed", removal.reason, removal.ticket)
    return removal


def _audit(tx: Tx, actor: Actor, owner: Item, removal: Removal, done: str, reason: str, ticket: str = "") -> None:
    event = f"{owner.kind}.{EVENTS[removal.part]}_{done}"
    tx.audit(actor, event, owner.id, count=removal.count, reason=reason, ticket=ticket, removal_id=removal.id)


def _touch(tx: Tx, owner: Item) -> None:
    """Plans of the whole object were made for what it was before."""
    c = t.items.c
    same = (c.organization_id == owner.organization_id, c.id == owner.id)
    tx.execute(update(t.items).where(*same).values(version=c.version + 1, updated_at=tx.now))


# --- paths that removed parts before there were removals --------------------------------------------------------------


def drop_rows(tx: Tx, actor: Actor, owner: Item, ids: Sequence[str], xact: int) -> Removal:
    """Note the rows over which a write is about to put tombstones under the transaction ``xact``.

    Earlier versions still show them, until they are purged. Whoever writes has asked `protect` before.
    """
    size = row_removals.size_of(tx, owner, ids)
    found = Found(ids[0] if len(ids) == 1 else "", len(ids), size, store.Held(xact=xact))
    return _note(tx, actor, owner, Part.row, found, found.held, "", "")


def drop_file(tx: Tx, actor: Actor, owner: Item, path: str) -> Removal:
    """Remove one file. NotFound when there is none. Whoever calls has locked the owner and asked `protect`."""
    found = find(tx, owner, PlanRemoval(id=owner.id, part=Part.file, ref=path))
    held = take(tx, owner, Part.file, found, versions=False)
    return _note(tx, actor, owner, Part.file, found, held, "", "")


# --- restoring --------------------------------------------------------------------------------------------------------


def restore(tx: Tx, actor: Actor, command: RestoreRemoval) -> Removal:
    """Put back exactly what a removal took. What was written in its place since stays."""
    removal = store.get(tx, actor, command.id)
    owner = _item(tx, actor, removal, lock=True)
    require(actor, f"{owner.kind}.restore")
    removal = store.get(tx, actor, command.id, lock=True)
    if removal.state == "restored":
        return removal
    if removal.state != "trashed":
        raise Illegal(f"removal {removal.id} is {removal.state}: it cannot be restored", state=removal.state)
    records.check_writable(owner)
    if command.path is not None and removal.part != Part.file:
        raise Invalid("only a file can be restored under another path", path="path")
    held = store.held(tx, removal)
    after = store.change(tx, removal, state="restored", restored_at=tx.now, digest="", body={})
    give_back(tx, owner, removal, held, command.path)
    _touch(tx, owner)
    _audit(tx, actor, owner, removal, "restored", command.reason)
    return after


def _item(tx: Tx, actor: Actor, removal: Removal, *, lock: bool = False) -> Item:
    """The live object that something was removed from. Gone when it is in the trash itself."""
    item = records.get(tx, Item, actor, removal.item_id, lock=lock)
    entity: type[Item] = Run if item.kind == Kind.run else Document
    return records.get(tx, entity, actor, item.id)


# --- purging ----------------------------------------------------------------------------------------------------------


def purge(tx: Tx, actor: Actor, command: PurgeRemoval) -> RequestedPurge:
    """Remove for good what a removal holds. A job; it verifies itself."""
    removal = store.get(tx, actor, command.id)
    owner = records.get(tx, Item, actor, removal.item_id, states=READABLE, lock=True)
    require(actor, f"{owner.kind}.purge")
    removal = store.get(tx, actor, command.id, lock=True)
    if removal.state == "purged":
        return RequestedPurge(removal=removal)
    if removal.state == "restored":
        raise Illegal(f"removal {removal.id} is restored: there is nothing to purge", state=removal.state)
    if removal.state == "trashed":
        _check_purge(tx, actor, owner, removal, command)
        removal = store.change(tx, removal, state="purging", purged_by=actor.name)
        _audit(tx, actor, owner, removal, "purge_requested", command.reason, command.ticket)
    return RequestedPurge(removal=removal, job_id=_enqueue(tx, actor, removal))


def _check_purge(tx: Tx, actor: Actor, owner: Item, removal: Removal, command: PurgeRemoval) -> None:
    if owner.locked:
        raise Held(f"{owner.kind} {owner.name} is locked: unlock it first", id=owner.id)
    holds.refuse(tx, actor, [owner.id], "purged, and no part of it")
    wanted = _rules(tx, actor, owner)
    _check_words(wanted, command.reason, command.ticket)
    kept_until = owner.created_at + timedelta(days=wanted.minimum_keep_days)
    if tx.now < kept_until:
        raise Held(
            f"{owner.kind} {owner.name} must be kept until {kept_until.isoformat()}: no part of it can be purged",
            until=kept_until.isoformat(),
        )
    if wanted.two_person_purge and removal.actor == actor.name:
        raise Held(f"removal {removal.id} was made by {actor.name}: a second person must ask for its purge")


def _enqueue(tx: Tx, actor: Actor, removal: Removal) -> str:
    payload = {"removal_id": removal.id, "workspace_id": removal.workspace_id}
    return jobs.enqueue(tx, actor, "purge_removal", payload, dedupe=f"purge_removal {removal.id}")


def schedule_due(tx: Tx, _actor: Actor, limit: int) -> int:
    """Enqueue the purge of removals whose grace period is over, in every organization; answers how many it looked at.

    What a hold, a lock or the minimum keep protects is looked at again a day later.
    """
    found = store.due(tx, limit)
    for removal in found:
        actor = system(removal.organization_id, removal.workspace_id)
        owner = records.get(tx, Item, actor, removal.item_id, states=READABLE)
        kept_until = owner.created_at + timedelta(days=_rules(tx, actor, owner).minimum_keep_days)
        if owner.locked or tx.now < kept_until or holds.holding(tx, actor, [owner.id]):
            store.change(tx, removal, restorable_until=max(kept_until, tx.now + timedelta(days=1)))
            continue
        store.change(tx, removal, state="purging", purged_by="grace period")
        _audit(tx, actor, owner, removal, "purge_requested", "")
        _enqueue(tx, actor, removal)
    return len(found)


# --- reading ----------------------------------------------------------------------------------------------------------


def get(tx: Tx, actor: Actor, command: Get) -> Removal:
    """One removal."""
    removal = store.get(tx, actor, command.id)
    owner = records.get(tx, Item, actor, removal.item_id, states=READABLE)
    require(actor, f"{owner.kind}.read")
    return removal


def list_(tx: Tx, actor: Actor, command: ListRemovals) -> Page[Removal]:
    """Removals, newest first: of one object, of a project, or of the workspace."""
    require(actor, "run.read")
    c = t.removals.c
    query = store.query(actor)
    if command.id is not None:
        query = query.where(c.item_id == records.get(tx, Item, actor, command.id, states=READABLE).id)
    if command.project is not None:
        i, project = t.items.c, resolve(tx, actor, command.project)
        inside = select(i.id).where(i.organization_id == actor.organization_id, i.project_id == project.id)
        query = query.where(c.item_id.in_(inside))
    if command.part is not None:
        query = query.where(c.part == str(command.part))
    if command.state:
        query = query.where(c.state == command.state)
    return page(tx, query, c.id, command, Removal)
