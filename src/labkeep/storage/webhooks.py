"""Webhooks and their deliveries in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, exists, func, insert, literal, or_, select, update

from labkeep.core.access import Actor
from labkeep.core.entities import AuditEvent
from labkeep.core.errors import NotFound, Unavailable
from labkeep.core.webhooks import Delivery, Webhook
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

COLUMNS = [t.webhooks.c[name] for name in Webhook.__struct_fields__]
DELIVERY_COLUMNS = [t.webhook_deliveries.c[name] for name in Delivery.__struct_fields__]
_EVENT = [t.audit_events.c[name] for name in AuditEvent.__struct_fields__]
W, D, E = t.webhooks.c, t.webhook_deliveries.c, t.audit_events.c


def get(tx: Tx, actor: Actor, id: str, *, lock: bool = False) -> Webhook:
    """A webhook of the workspace. NotFound otherwise."""
    query = select(*COLUMNS).where(*mine(actor), W.id == id)
    found = tx.one(query.with_for_update() if lock else query)
    if found is None:
        raise NotFound(f"webhook {id} not found")
    return Webhook(**found)


def mine(actor: Actor) -> tuple[Any, ...]:
    """What is the actor's to see."""
    return W.organization_id == actor.organization_id, W.workspace_id == actor.workspace_id


_PLAIN = b"\x00"


def _context(id: str) -> str:
    return f"webhook secret {id}"


def secret_of(tx: Tx, webhook: Webhook) -> bytes:
    """What signs the messages. Unavailable when it is wrapped and the master key is not there."""
    query = select(W.secret).where(*_same(webhook))
    stored = bytes(tx.execute(query).scalar_one())
    if stored[:1] == _PLAIN:
        return stored[1:]
    if tx.master is None:
        raise Unavailable(
            f"the secret of webhook {webhook.id} is wrapped under a master key that this server does not have: set "
            "master_key_file or LABKEEP_MASTER_KEY, or give the webhook a new secret"
        )
    return tx.unwrap(stored, _context(webhook.id))


def wrap(tx: Tx, id: str, secret: bytes) -> bytes:
    """A secret as it is stored."""
    return _PLAIN + secret if tx.master is None else tx.master.wrap(secret, _context(id))


def save(tx: Tx, webhook: Webhook, **values: Any) -> None:
    """Change columns of a webhook."""
    tx.execute(update(t.webhooks).where(*_same(webhook)).values(**values))


def remove(tx: Tx, webhook: Webhook) -> None:
    """Forget a webhook and its deliveries."""
    tx.execute(delete(t.webhook_deliveries).where(*_of(webhook)))
    tx.execute(delete(t.webhooks).where(*_same(webhook)))


def head(tx: Tx, organization_id: str) -> int:
    """Number of the organization's newest audit event."""
    h = t.audit_heads.c
    return int(tx.execute(select(h.seq).where(h.organization_id == organization_id)).scalar() or 0)


def events_after(tx: Tx, webhook: Webhook, seq: int, limit: int) -> list[AuditEvent]:
    """The next events of the webhook's organization, whatever their workspace."""
    query = select(*_EVENT).where(E.organization_id == webhook.organization_id, E.seq > seq)
    return [AuditEvent(**row) for row in tx.all(query.order_by(E.seq).limit(limit))]


def event(tx: Tx, organization_id: str, seq: int) -> AuditEvent | None:
    """One event; None when its own retention has dropped it."""
    found = tx.one(select(*_EVENT).where(E.organization_id == organization_id, E.seq == seq))
    return None if found is None else AuditEvent(**found)


def note(tx: Tx, webhook: Webhook, events: Sequence[AuditEvent]) -> None:
    """Have the webhook told of ``events``."""
    rows = [
        {
            "organization_id": webhook.organization_id,
            "id": tx.new_id(),
            "webhook_id": webhook.id,
            "seq": one.seq,
            "subject_id": one.subject_id or one.deletion_id,
            "event": one.event,
            "state": "waiting",
            "attempts": 0,
            "status": 0,
            "error": "",
            "created_at": tx.now,
            "run_at": tx.now,
            "delivered_at": None,
        }
        for one in events
    ]
    tx.insert(t.webhook_deliveries, rows)


def due(tx: Tx, webhook: Webhook, limit: int) -> list[Delivery]:
    """What can be told now: of each subject only the first that waits, and only when its time has come."""
    earlier = t.webhook_deliveries.alias()
    before = select(literal(1)).where(
        earlier.c.organization_id == D.organization_id,
        earlier.c.webhook_id == D.webhook_id,
        earlier.c.state == "waiting",
        earlier.c.subject_id == D.subject_id,
        or_(earlier.c.seq < D.seq, and_(earlier.c.seq == D.seq, earlier.c.id < D.id)),
    )
    query = select(*DELIVERY_COLUMNS).where(*_of(webhook), D.state == "waiting", D.run_at <= tx.now, ~exists(before))
    return [Delivery(**row) for row in tx.all(query.order_by(D.seq, D.id).limit(limit))]


def change(tx: Tx, delivery: Delivery, **values: Any) -> None:
    """Note how a delivery went."""
    same = (D.organization_id == delivery.organization_id, D.id == delivery.id)
    tx.execute(update(t.webhook_deliveries).where(*same).values(**values))


def postpone(tx: Tx, webhook: Webhook, until: datetime) -> None:
    """Try nothing of this webhook before a moment: it does not answer at all."""
    waiting = (*_of(webhook), D.state == "waiting", D.run_at < until)
    tx.execute(update(t.webhook_deliveries).where(*waiting).values(run_at=until))


def count_waiting(tx: Tx, webhook: Webhook) -> int:
    """Deliveries that wait."""
    query = select(func.count()).select_from(t.webhook_deliveries).where(*_of(webhook), D.state == "waiting")
    return int(tx.execute(query).scalar_one())


def restless(tx: Tx) -> bool:
    """Whether any webhook of any organization has events to look at, or a delivery that is due."""
    h = t.audit_heads.c
    joined = t.webhooks.join(t.audit_heads, h.organization_id == W.organization_id)
    due_now = exists(select(literal(1)).where(*_due(tx)))
    query = select(literal(1)).select_from(joined).where(W.enabled, or_(W.seq < h.seq, due_now)).limit(1)
    return tx.execute(query).first() is not None


def _due(tx: Tx) -> tuple[Any, ...]:
    return D.organization_id == W.organization_id, D.webhook_id == W.id, D.state == "waiting", D.run_at <= tx.now


def behind(tx: Tx, limit: int) -> list[Webhook]:
    """Webhooks of all organizations that have not looked at the newest events; nobody else looks meanwhile."""
    h = t.audit_heads.c
    joined = t.webhooks.join(t.audit_heads, h.organization_id == W.organization_id)
    query = select(*COLUMNS).select_from(joined).where(W.enabled, W.seq < h.seq).order_by(W.id).limit(limit)
    return [Webhook(**row) for row in tx.all(query.with_for_update(of=t.webhooks, skip_locked=True))]


def ready(tx: Tx, limit: int) -> list[Webhook]:
    """Webhooks of all organizations with deliveries that are due."""
    query = select(*COLUMNS).where(W.enabled, exists(select(literal(1)).where(*_due(tx)))).order_by(W.id)
    return [Webhook(**row) for row in tx.all(query.limit(limit))]


def drop_old(tx: Tx, before: datetime) -> int:
    """Forget what was told before a moment; answers how much."""
    told = (D.state != "waiting", D.created_at < before)
    return max(0, tx.execute(delete(t.webhook_deliveries).where(*told)).rowcount)


def add(tx: Tx, webhook: Webhook, secret: bytes) -> None:
    """Store a new webhook."""
    values = {name: getattr(webhook, name) for name in Webhook.__struct_fields__}
    tx.execute(insert(t.webhooks).values({**values, "secret": wrap(tx, webhook.id, secret)}))


def _same(webhook: Webhook) -> tuple[Any, ...]:
    return W.organization_id == webhook.organization_id, W.id == webhook.id


def _of(webhook: Webhook) -> tuple[Any, ...]:
    return D.organization_id == webhook.organization_id, D.webhook_id == webhook.id
