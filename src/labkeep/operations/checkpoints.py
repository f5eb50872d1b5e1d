"""Signed points of the audit chains, and the retention of what lies behind them."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import RowMapping, and_, delete, func, or_, select, update

from labkeep.core.access import Actor, require
from labkeep.core.audit import Checkpoint, checkpoint_body
from labkeep.core.commands import Nothing, Page
from labkeep.core.commands_proof import ListCheckpoints
from labkeep.core.entities import Json
from labkeep.core.errors import Invalid
from labkeep.storage import chain, signing
from labkeep.storage import tables as t
from labkeep.storage.pages import cut, decode_cursor
from labkeep.storage.trails import COLUMNS
from labkeep.storage.transaction import Tx

EVERY = 10_000
"""Events after which a chain is signed again."""

DAILY = timedelta(days=1)
"""Time after which a chain that grew is signed again."""

PRUNED = 5_000
"""Events that retention drops in one transaction."""

KEEP_DAYS = "audit_keep_days"
"""The organization's setting: days that audit events are kept. Without it, for ever."""


def sign(tx: Tx, actor: Actor, _command: Nothing) -> Checkpoint:
    """Sign the end of the organization's chain as it is now; answers what is there when it was signed before."""
    require(actor, "audit.read")
    return of_head(tx, actor.organization_id)


def of_head(tx: Tx, organization_id: str) -> Checkpoint:
    """The same for any organization. Invalid while its chain has no event."""
    h = t.audit_heads.c
    # Locked: no transaction may be half-way in front of what is signed.
    query = select(h.seq, h.hash).where(h.organization_id == organization_id).with_for_update()
    head = tx.one(query)
    if head is None or head["seq"] == 0:
        raise Invalid("the audit trail has no event yet: there is nothing to sign")
    c = t.audit_checkpoints.c
    before = tx.one(select(*COLUMNS).where(c.organization_id == organization_id, c.seq == head["seq"]))
    if before is not None:
        return Checkpoint(**before)
    key = signing.signer(tx)
    unsigned = Checkpoint(
        organization_id=organization_id,
        seq=head["seq"],
        hash=head["hash"],
        signing_key_id=key.id,
        signature="",
        created_at=tx.now,
    )
    made = msgspec.structs.replace(unsigned, signature=key.sign(checkpoint_body(unsigned)))
    tx.insert(t.audit_checkpoints, [msgspec.structs.asdict(made)])
    return made


def list_(tx: Tx, actor: Actor, command: ListCheckpoints) -> Page[Checkpoint]:
    """Checkpoints of the organization, newest first."""
    require(actor, "audit.read")
    c = t.audit_checkpoints.c
    query = select(*COLUMNS).where(c.organization_id == actor.organization_id)
    if command.cursor is not None:
        (last,) = decode_cursor(command.cursor, tuple[int])
        query = query.where(c.seq < last)
    rows = tx.all(query.order_by(c.seq.desc()).limit(command.limit + 1))
    return cut([Checkpoint(**row) for row in rows], command.limit, lambda point: point.seq)


def sign_due(tx: Tx, _actor: Actor, _command: None) -> int:
    """Sign every chain that grew by `EVERY` events, or grew at all within `DAILY`; answers how many."""
    h, c = t.audit_heads.c, t.audit_checkpoints.c
    newest = (
        select(c.organization_id, func.max(c.seq).label("seq"), func.max(c.created_at).label("at"))
        .group_by(c.organization_id)
        .subquery("newest")
    )
    seq = func.coalesce(newest.c.seq, 0)
    old = or_(newest.c.at.is_(None), newest.c.at < tx.now - DAILY)
    query = (
        select(h.organization_id)
        .select_from(t.audit_heads.outerjoin(newest, newest.c.organization_id == h.organization_id))
        .where(or_(h.seq >= seq + EVERY, and_(h.seq > seq, old)))
    )
    due = sorted(row[0] for row in tx.execute(query))
    for organization_id in due:
        of_head(tx, organization_id)
    return len(due)


# --- retention --------------------------------------------------------------------------------------------------------


class Prune(msgspec.Struct, frozen=True):
    """Whose trail, and up to which checkpoint. ``before`` is the moment from which on events are kept."""

    organization_id: str
    before: datetime


def keepers(tx: Tx, _actor: Actor, _command: None) -> dict[str, int]:
    """Organizations that keep their audit trail for a number of days only, and that number."""
    o = t.organizations.c
    found = {row["id"]: _days(row["settings"]) for row in tx.all(select(o.id, o.settings).where(o.settings != {}))}
    return {id: days for id, days in found.items() if days}


def _days(settings: Json) -> int:
    days = settings.get(KEEP_DAYS)
    return days if isinstance(days, int) and not isinstance(days, bool) and days > 0 else 0


def prune(tx: Tx, actor: Actor, command: Prune) -> int:
    """Drop the next of the events that are older than ``before``; answers how many. 0 when no more may go.

    Only what lies behind a signed checkpoint goes, up to that checkpoint: it vouches for what the rest follows from.
    That it was done is an event itself.
    """
    h = t.audit_heads.c
    tx.execute(select(h.seq).where(h.organization_id == command.organization_id).with_for_update())  # one at a time
    head = chain.head(tx.connection, command.organization_id)
    last = chain.seq_before(tx.connection, command.organization_id, head, command.before)
    point = _newest_until(tx, command.organization_id, last)
    if point is None or point["seq"] <= head.pruned.seq:
        return 0
    through = min(point["seq"], head.pruned.seq + PRUNED)
    e, c = t.audit_events.c, t.audit_checkpoints.c
    place = (e.organization_id == command.organization_id, e.seq == through)
    hash = tx.execute(select(e.hash).where(*place)).scalar_one()
    gone = delete(t.audit_events).where(e.organization_id == command.organization_id, e.seq <= through)
    count = tx.execute(gone).rowcount
    moved = update(t.audit_heads).where(h.organization_id == command.organization_id)
    tx.execute(moved.values(pruned_seq=through, pruned_hash=hash))
    behind = (c.organization_id == command.organization_id, c.seq < through)
    tx.execute(delete(t.audit_checkpoints).where(*behind))
    tx.audit(actor, "audit.pruned", count=count, through=through, hash=hash, checkpoint=point["seq"])
    return count


def _newest_until(tx: Tx, organization_id: str, seq: int) -> RowMapping | None:
    c = t.audit_checkpoints.c
    mine = (c.organization_id == organization_id, c.seq <= seq)
    return tx.one(select(c.seq, c.hash).where(*mine).order_by(c.seq.desc()).limit(1))
