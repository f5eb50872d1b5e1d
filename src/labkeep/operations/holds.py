"""Legal holds: what they cover is removed by nobody and by nothing until they are lifted.

Every path that removes something asks `refuse` (one object must stay: Held) or `holding` (which of many must stay).
What a standing query covers is never written down: it is asked anew whenever something is about to go, so it covers
what came after it, and costs nothing where there are no holds.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select, update

from labkeep.core.access import Actor, require
from labkeep.core.commands import Get, ListItems, Page
from labkeep.core.commands_holds import HoldPreview, HoldScope, LiftHold, ListHeld, ListHolds, SetHold
from labkeep.core.entities import KIND_ENTITY, Hold, Item
from labkeep.core.errors import Held, Invalid, NotFound
from labkeep.core.filters import leaves
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import Kind
from labkeep.operations.projects import READABLE, resolve
from labkeep.storage import holds as store
from labkeep.storage import records, search
from labkeep.storage import tables as t
from labkeep.storage.pages import page
from labkeep.storage.transaction import Tx

SHOWN = 100
"""Objects that a preview lists."""

_ITEM = select(*(t.items.c[name] for name in Item.__struct_fields__))


# --- asked by whatever removes ----------------------------------------------------------------------------------------


def holding(tx: Tx, actor: Actor, ids: Collection[str], *, looking: bool = False) -> dict[str, list[Hold]]:
    """The active holds that cover each of ``ids``, in any state; what none covers is left out.

    An object is covered itself, by what it lies in (project, artifact, experiment), or, a container, by what lies in
    it. ``looking``: nothing will be removed, so a hold may be set in the meantime.
    """
    if not ids:
        return {}
    if not looking:
        store.settle(tx, actor)
    holds = store.active(tx, actor)
    return store.covering(tx, actor, holds, ids) if holds else {}


def any_active(tx: Tx, actor: Actor) -> bool:
    """Whether anything in the workspace is held; nobody sets a hold until the transaction ends."""
    store.settle(tx, actor)
    return bool(store.active(tx, actor))


def refuse(tx: Tx, actor: Actor, ids: Collection[str], what: str) -> None:
    """Held, naming the object, the matter and the hold, when a hold covers one of ``ids``.

    ``what`` completes "it cannot be …": trashed, purged, changed.
    """
    found = holding(tx, actor, ids)
    if not found:
        return
    first = min(found)
    c = t.items.c
    item = tx.one(select(c.kind, c.type, c.name).where(*records.scope(actor), c.id == first))
    assert item is not None, first
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise Held(
        f"{item['type'] or item['kind']} {item['name']} {reason(found[first][0])}: it cannot be {what}{more}",
        ids=sorted(found)[:SHOWN],
        holds=[{"id": hold.id, "matter": hold.matter} for hold in found[first]],
        override="",
    )


def reason(hold: Hold) -> str:
    """How a refusal names a hold."""
    return f"is under a legal hold for {hold.matter!r} (hold {hold.id})"


# --- setting and lifting ----------------------------------------------------------------------------------------------


def set_(tx: Tx, actor: Actor, command: SetHold) -> Hold:
    """Hold objects by id, or by a standing query."""
    require(actor, "hold.set")
    project_id = _check(tx, actor, command)
    store.settle(tx, actor, setting=True)
    hold = Hold(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        matter=command.matter,
        custodian=command.custodian,
        reason=command.reason,
        kind=command.kind,
        q=command.q,
        project_id=project_id,
        created_by=actor.name,
        created_at=tx.now,
    )
    tx.insert(t.holds, [{name: getattr(hold, name) for name in Hold.__struct_fields__}])
    same = {"organization_id": actor.organization_id, "hold_id": hold.id}
    tx.insert(t.hold_items, [{**same, "item_id": id} for id in sorted(set(command.ids))])
    count = len(set(command.ids)) or 1
    tx.audit(actor, "hold.set", hold.id, count=count, reason=command.reason, kind=command.kind, project_id=project_id)
    return hold


def _check(tx: Tx, actor: Actor, scope: HoldScope) -> str | None:
    """The project of a standing query. Invalid for a scope that makes no sense; NotFound or Gone for an id."""
    if bool(scope.ids) == bool(scope.kind):
        raise Invalid("a hold has either ids, or a kind with a query", path="ids")
    if scope.ids:
        if scope.q or scope.project:
            raise Invalid("a hold on ids has no query and no project", path="q")
        for id in scope.ids:
            records.get(tx, Item, actor, id, states=READABLE)
        return None
    try:
        entity = KIND_ENTITY[Kind(scope.kind)]
    except ValueError:
        raise Invalid(f"{scope.kind[:40]!r} is not a kind; use one of {', '.join(Kind)}", path="kind") from None
    plan = search.resolve(tx, entity, ListItems(q=scope.q), {})
    if any(leaf.field == "state" for leaf in leaves(plan.filter)):
        raise Invalid("a hold covers objects in every state: leave out state", path="q")
    if plan.order:
        raise Invalid("a standing query has no order", path="q")
    return _project(tx, actor, scope.project) if scope.project else None


def _project(tx: Tx, actor: Actor, ref: str) -> str:
    """A project by id, also in the trash, or by name."""
    return records.get(tx, Item, actor, ref, states=READABLE).id if is_id(ref) else resolve(tx, actor, ref).id


def lift(tx: Tx, actor: Actor, command: LiftHold) -> Hold:
    """Lift a hold. What it covered alone can be removed again. Lifting twice is the same as once."""
    require(actor, "hold.lift")
    before = _get(tx, actor, command.id)
    store.settle(tx, actor, setting=True)
    c = t.holds.c
    same = (c.organization_id == actor.organization_id, c.id == before.id, c.state == "active")
    lifted = {"state": "lifted", "lifted_by": actor.name, "lift_reason": command.reason, "lifted_at": tx.now}
    if tx.execute(update(t.holds).where(*same).values(lifted)).rowcount:
        tx.audit(actor, "hold.lifted", before.id, reason=command.reason)
    return _get(tx, actor, command.id)


# --- reading ----------------------------------------------------------------------------------------------------------


def _get(tx: Tx, actor: Actor, id: str) -> Hold:
    c = t.holds.c
    mine = (c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id, c.id == id)
    found = tx.one(select(*store.COLUMNS).where(*mine)) if is_id(id) else None
    if found is None:
        raise NotFound(f"hold {id[:80]} not found")
    return Hold(**found)


def get(tx: Tx, actor: Actor, command: Get) -> Hold:
    """One hold."""
    require(actor, "hold.read")
    return _get(tx, actor, command.id)


def list_(tx: Tx, actor: Actor, command: ListHolds) -> Page[Hold]:
    """Holds of the workspace, newest first."""
    require(actor, "hold.read")
    if command.state not in ("", "active", "lifted"):
        raise Invalid(f"state is active or lifted, not {command.state[:40]!r}", path="state")
    c = t.holds.c
    query = select(*store.COLUMNS).where(
        c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id
    )
    if command.state:
        query = query.where(c.state == command.state)
    if command.item_id is not None:
        item = records.get(tx, Item, actor, command.item_id, states=READABLE)
        covering = holding(tx, actor, [item.id], looking=True).get(item.id, [])
        query = query.where(c.id.in_([hold.id for hold in covering]))
    return page(tx, query, c.id, command, Hold)


def held(tx: Tx, actor: Actor, command: ListHeld) -> Page[Item]:
    """What an active hold covers now, with what lies in it, by id; a lifted one covers nothing."""
    require(actor, "hold.read")
    hold = _get(tx, actor, command.id)
    if hold.state != "active":
        return Page([])
    query = _ITEM.where(*store.covered(tx, actor, hold))
    return page(tx, query, t.items.c.id, command, Item, ascending=True)


def preview(tx: Tx, actor: Actor, command: HoldScope) -> HoldPreview:
    """What a hold would cover now. Nothing is set."""
    require(actor, "hold.set")
    project_id = _check(tx, actor, command)
    unset = Hold(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        matter="",
        kind=command.kind,
        q=command.q,
        project_id=project_id,
        created_at=tx.now,
    )
    conditions = store.covered(tx, actor, unset, command.ids)
    counts, size = store.totals(tx, conditions)
    items = [Item(**row) for row in tx.all(_ITEM.where(*conditions).order_by(t.items.c.id).limit(SHOWN))]
    return HoldPreview(counts=counts, bytes=size, items=items)
