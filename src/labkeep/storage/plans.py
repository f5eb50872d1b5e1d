"""Plans as they were shown."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Select, select

from labkeep.core.access import Actor
from labkeep.core.commands import Page, Paged, Plan
from labkeep.core.errors import NotFound
from labkeep.core.ids import is_id
from labkeep.storage import tables as t
from labkeep.storage.pages import decode_id_cursor, encode_cursor
from labkeep.storage.transaction import Tx


def keep(tx: Tx, actor: Actor, plan: Plan) -> None:
    """Store a plan."""
    row = {
        "organization_id": actor.organization_id,
        "id": plan.id,
        "workspace_id": actor.workspace_id,
        "hash": plan.hash,
        "actor": actor.name,
        "body": msgspec.to_builtins(plan),
        "created_at": tx.now,
    }
    tx.insert(t.plans, [row])


def _mine(actor: Actor) -> Select[Any]:
    c = t.plans.c
    return select(c.body).where(c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id)


def find_plan(tx: Tx, actor: Actor, hash: str) -> Plan | None:
    """The newest plan with this hash."""
    c = t.plans.c
    found = tx.one(_mine(actor).where(c.hash == hash).order_by(c.id.desc()).limit(1))
    return None if found is None else msgspec.convert(found["body"], Plan)


def get(tx: Tx, actor: Actor, id: str) -> Plan:
    """One plan. NotFound for one that is older than a week, or from before the last purge."""
    found = tx.one(_mine(actor).where(t.plans.c.id == id)) if is_id(id) else None
    if found is None:
        raise NotFound(f"plan {id[:80]} not found: plans are kept for a week, and until the next purge")
    return msgspec.convert(found["body"], Plan)


def page(tx: Tx, actor: Actor, command: Paged) -> Page[Plan]:
    """Plans, newest first."""
    c = t.plans.c
    query = _mine(actor)
    if command.cursor is not None:
        query = query.where(c.id < decode_id_cursor(command.cursor))
    rows = tx.all(query.order_by(c.id.desc()).limit(command.limit + 1))
    found = [msgspec.convert(row["body"], Plan) for row in rows]
    if len(found) <= command.limit:
        return Page(found)
    return Page(found[: command.limit], encode_cursor(found[command.limit - 1].id))
