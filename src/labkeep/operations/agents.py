"""Keys of programs that act by themselves: how much they may trash, and what stops one that trashes too fast.

Both count what deletions took with the key. What an agent restores of its own deletions does not count.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from labkeep.core.access import Actor
from labkeep.core.errors import Forbidden, OverQuota
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

DAY = timedelta(hours=24)
BURST = timedelta(minutes=5)


def refuse_suspended(tx: Tx, actor: Actor) -> None:
    """Forbidden for an agent's key that the circuit breaker stopped: to be asked before anything is removed."""
    if not actor.agent:
        return
    # Locked, so that two requests of one agent are counted one after the other.
    key = _key(tx, actor, lock=True)
    if key is not None and key["suspended_at"] is not None:
        raise Forbidden(
            f"this agent's key was suspended at {key['suspended_at'].isoformat()}, as it trashed more than "
            f"{tx.agent_burst} objects within {BURST.seconds // 60} minutes: an owner of the workspace can look at what "
            f"it did, and resume it (labkeep key resume {actor.key_id})",
            permission="key.write",
            key_id=actor.key_id,
        )


def is_suspended(tx: Tx, actor: Actor) -> bool:
    """Whether the circuit breaker stopped an agent's key."""
    key = _key(tx, actor, lock=True) if actor.agent else None
    return key is not None and key["suspended_at"] is not None


def check_quota(tx: Tx, actor: Actor, wanted: int) -> None:
    """OverQuota when an agent has trashed so much in 24 hours that ``wanted`` more objects would be too many."""
    if not actor.agent:
        return
    key = _key(tx, actor)
    quota = tx.agent_daily_trash if key is None or key["daily_trash"] is None else key["daily_trash"]
    used = _taken(tx, actor, tx.now - DAY)
    if used + wanted <= quota:
        return
    raise OverQuota(
        f"an agent may trash {quota:,} objects in 24 hours: {used:,} went already, and this would be {wanted:,} more",
        retry_after_s=_wait_s(tx, actor, used + wanted - quota),
        quota=quota,
        used=used,
    )


def break_circuit(tx: Tx, actor: Actor) -> None:
    """Suspend an agent's key that trashed too much in a few minutes. What went stays restorable."""
    if not actor.agent:
        return
    key = _key(tx, actor)
    if key is None or key["suspended_at"] is not None:
        return
    since = max(tx.now - BURST, key["resumed_at"] or tx.now - BURST)
    taken = _taken(tx, actor, since)
    if taken > tx.agent_burst:
        tx.execute(update(t.api_keys).where(*_mine(actor)).values(suspended_at=tx.now))
        tx.audit(actor, "key.suspended", actor.key_id, count=taken)


def give_back(tx: Tx, actor: Actor, deletion_id: str, count: int) -> None:
    """An agent restored this many objects of a deletion: of its own, they do not count any more."""
    if actor.agent:
        d = t.deletions.c
        mine = (d.organization_id == actor.organization_id, d.id == deletion_id, d.key_id == actor.key_id)
        tx.execute(update(t.deletions).where(*mine).values(items=d["items"] - count))


def _mine(actor: Actor) -> tuple[Any, ...]:
    k = t.api_keys.c
    return k.organization_id == actor.organization_id, k.id == actor.key_id


def _key(tx: Tx, actor: Actor, *, lock: bool = False) -> Any:
    k = t.api_keys.c
    query = select(k.suspended_at, k.resumed_at, k.daily_trash).where(*_mine(actor))
    return tx.one(query.with_for_update() if lock else query)


def _taken(tx: Tx, actor: Actor, since: datetime) -> int:
    d = t.deletions.c
    mine = (d.organization_id == actor.organization_id, d.key_id == actor.key_id, d.created_at > since)
    return int(tx.execute(select(func.coalesce(func.sum(d["items"]), 0)).where(*mine)).scalar_one())


def _wait_s(tx: Tx, actor: Actor, over: int) -> int:
    """Seconds until deletions of at least ``over`` objects are older than a day; a day when that never suffices."""
    d = t.deletions.c
    mine = (d.organization_id == actor.organization_id, d.key_id == actor.key_id, d.created_at > tx.now - DAY)
    for made, count in tx.execute(select(d.created_at, d["items"]).where(*mine).order_by(d.created_at)):
        over -= count
        if over <= 0:
            return max(1, math.ceil(float((made + DAY - tx.now).total_seconds())))
    return int(DAY.total_seconds())
