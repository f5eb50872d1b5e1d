"""Webhooks: who is told about what happens. They follow the audit trail, so nothing is told that did not happen, and
nothing that happened is left out.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from sqlalchemy import select, update

from labkeep.core.access import Actor, require
from labkeep.core.commands import Page
from labkeep.core.commands_webhooks import (
    CreateWebhook,
    GetWebhook,
    ListDeliveries,
    ListWebhooks,
    NewWebhook,
    RemoveWebhook,
    Replayed,
    ReplayWebhook,
    RotateWebhookSecret,
    TestWebhook,
    UpdateWebhook,
)
from labkeep.core.entities import AuditEvent
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.webhooks import (
    SECRET_BYTES,
    Delivery,
    Webhook,
    check_patterns,
    message,
    next_try,
    show_secret,
    wants,
)
from labkeep.operations.purges import system
from labkeep.storage import jobs
from labkeep.storage import tables as t
from labkeep.storage import webhooks as store
from labkeep.storage.pages import page
from labkeep.storage.transaction import Tx

EVENTS = 1_000
"""Events looked at in one transaction."""

MESSAGES = 20
"""Messages sent between two looks at what is due."""

TESTED = "webhook.tested"
"""The event that every webhook is told of, when it is its own."""

GONE = 410

_encoder = msgspec.json.Encoder(order="deterministic")


def create(tx: Tx, actor: Actor, command: CreateWebhook) -> NewWebhook:
    """A new webhook, told of what happens from now on. Its secret is in this answer and in no other."""
    require(actor, "webhook.write")
    _check_url(command.url)
    check_patterns(command.events)
    webhook = Webhook(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        url=command.url,
        events=command.events,
        created_by=actor.name,
        created_at=tx.now,
        seq=store.head(tx, actor.organization_id),
    )
    secret = secrets.token_bytes(SECRET_BYTES)
    store.add(tx, webhook, secret)
    tx.audit(actor, "webhook.created", webhook.id)
    return NewWebhook(webhook, show_secret(secret))


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Invalid(f"{url[:80]!r} is not a URL", path="url") from None
    if parts.scheme not in ("https", "http") or not host:
        raise Invalid(f"{url[:80]!r} is not a URL that starts with https:// or http://", path="url")
    if parts.username is not None or parts.password is not None:
        raise Invalid("a webhook's URL holds no user and password: messages are signed instead", path="url")


def list_(tx: Tx, actor: Actor, command: ListWebhooks) -> Page[Webhook]:
    """Webhooks of the workspace, newest first."""
    require(actor, "webhook.read")
    return page(tx, select(*store.COLUMNS).where(*store.mine(actor)), store.W.id, command, Webhook)


def get(tx: Tx, actor: Actor, command: GetWebhook) -> Webhook:
    """One webhook, without its secret."""
    require(actor, "webhook.read")
    return store.get(tx, actor, command.id)


def edit(tx: Tx, actor: Actor, command: UpdateWebhook) -> Webhook:
    """Change where a webhook is, what it is told of, or whether it is told anything."""
    require(actor, "webhook.write")
    before = store.get(tx, actor, command.id, lock=True)
    asked = {name: getattr(command, name) for name in ("url", "events", "enabled")}
    changes = {name: value for name, value in asked.items() if value is not UNSET and value != getattr(before, name)}
    if not changes:
        return before
    _check_url(changes.get("url", before.url))
    check_patterns(changes.get("events", ()))
    store.save(tx, before, **changes)
    tx.audit(actor, "webhook.updated", before.id, fields=sorted(changes))
    return msgspec.structs.replace(before, **changes)


def remove(tx: Tx, actor: Actor, command: RemoveWebhook) -> Webhook:
    """Forget a webhook, and what it was told or was still to be told."""
    require(actor, "webhook.write")
    webhook = store.get(tx, actor, command.id, lock=True)
    store.remove(tx, webhook)
    tx.audit(actor, "webhook.removed", webhook.id)
    return webhook


def rotate_secret(tx: Tx, actor: Actor, command: RotateWebhookSecret) -> NewWebhook:
    """A new secret for a webhook; what waits is signed with it too."""
    require(actor, "webhook.write")
    webhook = store.get(tx, actor, command.id, lock=True)
    secret = secrets.token_bytes(SECRET_BYTES)
    store.save(tx, webhook, secret=store.wrap(tx, webhook.id, secret))
    tx.audit(actor, "webhook.secret_rotated", webhook.id)
    return NewWebhook(webhook, show_secret(secret))


def deliveries(tx: Tx, actor: Actor, command: ListDeliveries) -> Page[Delivery]:
    """What a webhook was told and what waits, newest first."""
    require(actor, "webhook.read")
    webhook = store.get(tx, actor, command.id)
    d = store.D
    query = select(*store.DELIVERY_COLUMNS).where(
        d.organization_id == webhook.organization_id, d.webhook_id == webhook.id
    )
    if command.state:
        query = query.where(d.state == command.state)
    return page(tx, query, d.id, command, Delivery)


def test(tx: Tx, actor: Actor, command: TestWebhook) -> Webhook:
    """Have something happen that the webhook is told of."""
    require(actor, "webhook.write")
    webhook = store.get(tx, actor, command.id)
    if not webhook.enabled:
        raise Invalid(f"webhook {webhook.id} is not enabled: enable it first", path="id")
    tx.audit(actor, TESTED, webhook.id)
    return webhook


def replay(tx: Tx, actor: Actor, command: ReplayWebhook) -> Replayed:
    """Tell one message again, or everything from a number of the audit trail on. Each gets a new try at once."""
    require(actor, "webhook.write")
    webhook = store.get(tx, actor, command.id, lock=True)
    if (command.delivery_id is None) == (command.since is None):
        raise Invalid("say what to tell again: either delivery_id or since", path="delivery_id")
    if command.delivery_id is not None:
        _again(tx, webhook, command.delivery_id)
    else:
        _told_of_since(tx, webhook, command.since or 0)
    waiting = store.count_waiting(tx, webhook)
    tx.audit(actor, "webhook.replayed", webhook.id, count=waiting)
    return Replayed(waiting)


def _again(tx: Tx, webhook: Webhook, delivery_id: str) -> None:
    d = t.webhook_deliveries.c
    same = (d.organization_id == webhook.organization_id, d.webhook_id == webhook.id, d.id == delivery_id)
    anew = {"state": "waiting", "attempts": 0, "run_at": tx.now, "delivered_at": None}
    if not tx.execute(update(t.webhook_deliveries).where(*same).values(anew)).rowcount:
        raise NotFound(f"delivery {delivery_id} not found")


def _told_of_since(tx: Tx, webhook: Webhook, since: int) -> None:
    """Everything from ``since`` on is looked at again, in the background."""
    store.save(tx, webhook, seq=min(webhook.seq, max(0, since - 1)))


# --- for workers ------------------------------------------------------------------------------------------------------


class Message(NamedTuple):
    """One message, ready to be signed and sent."""

    delivery: Delivery
    body: bytes


class Batch(NamedTuple):
    """What a webhook is to be told next."""

    webhook: Webhook
    secret: bytes
    messages: list[Message]


class Told(NamedTuple):
    """How sending went: the HTTP status, or 0 and why there was no answer."""

    delivery: Delivery
    status: int
    error: str = ""


def anything(tx: Tx, _actor: Actor, _command: None) -> bool:
    """Whether `look` would find something, in any organization."""
    return store.restless(tx)


def look(tx: Tx, _actor: Actor, limit: int) -> int:
    """Note for the webhooks of all organizations what they are to be told; answers how many had something new."""
    found = store.behind(tx, limit)
    for webhook in found:
        events = store.events_after(tx, webhook, webhook.seq, EVENTS)
        store.note(tx, webhook, [event for event in events if _concerns(webhook, event)])
        store.save(tx, webhook, seq=events[-1].seq if events else store.head(tx, webhook.organization_id))
    for webhook in store.ready(tx, limit):
        actor = system(webhook.organization_id, webhook.workspace_id)
        jobs.enqueue(tx, actor, "tell", {"webhook_id": webhook.id}, dedupe=f"tell {webhook.id}")
    return len(found)


def _concerns(webhook: Webhook, event: AuditEvent) -> bool:
    if event.event == TESTED:
        return event.subject_id == webhook.id
    return event.workspace_id == webhook.workspace_id and wants(webhook.events, event.event)


def take(tx: Tx, actor: Actor, webhook_id: str) -> Batch | None:
    """The next messages of a webhook; None when there is nothing to send, or it was removed or disabled."""
    try:
        webhook = store.get(tx, actor, webhook_id)
    except NotFound:
        return None
    due = store.due(tx, webhook, MESSAGES) if webhook.enabled else []
    messages = []
    for delivery in due:
        event = store.event(tx, webhook.organization_id, delivery.seq)
        if event is None:
            store.change(tx, delivery, state="failed", error="its event is not in the audit trail any more")
        else:
            messages.append(Message(delivery, _encoder.encode(message(delivery.id, event))))
    return Batch(webhook, store.secret_of(tx, webhook), messages) if due else None


def told(tx: Tx, actor: Actor, command: Told) -> None:
    """Note how sending went, and when to try again. A webhook that answers 410 Gone wants to be told no more."""
    delivery, status, error = command
    attempts = delivery.attempts + 1
    went = {"attempts": attempts, "status": status, "error": error}
    if 200 <= status < 300:
        store.change(tx, delivery, **went, state="delivered", delivered_at=tx.now)
        return
    again = next_try(attempts, tx.now)
    if again is None:
        store.change(tx, delivery, **went, state="failed")
    else:
        store.change(tx, delivery, **went, run_at=again)
    _give_up(tx, actor, delivery, status, again or tx.now)


def _give_up(tx: Tx, actor: Actor, delivery: Delivery, status: int, again: datetime) -> None:
    """What one failure says about the webhook as a whole."""
    if status and status != GONE:
        return
    try:
        webhook = store.get(tx, actor, delivery.webhook_id, lock=True)
    except NotFound:
        return
    if status == GONE:
        store.save(tx, webhook, enabled=False)
        tx.audit(actor, "webhook.disabled", webhook.id, reason="it answered 410 Gone")
    else:
        store.postpone(tx, webhook, again)


def forget(tx: Tx, _actor: Actor, age: timedelta) -> None:
    """Forget what was told, or failed for good, longer than ``age`` ago."""
    store.drop_old(tx, tx.now - age)
