"""Tells webhooks what happened: one job for each webhook that has something waiting."""

from __future__ import annotations

import time
from datetime import timedelta

from labkeep.core.entities import Job, Json
from labkeep.core.webhooks import sign
from labkeep.http.outgoing import Answer, Outgoing
from labkeep.operations import Store, webhooks
from labkeep.worker.jobs import NOBODY, Progress, actor_of

BUDGET_S = 20.0
"""Seconds after which a job makes room for others; what is left waits for the next one."""

KEPT = timedelta(days=30)
"""How long it can be looked up what a webhook was told."""

BATCH = 100
"""Webhooks looked at in one transaction."""


def tell(store: Store, job: Job, progress: Progress) -> Json:
    """Send what is due to one webhook, until nothing is, or it does not answer at all."""
    actor = actor_of(job)
    ends_at = time.monotonic() + BUDGET_S
    client = Outgoing(store.settings.outgoing_allowed)
    try:
        while time.monotonic() < ends_at:
            batch = store.database.write(webhooks.take, actor, job.payload["webhook_id"])
            if batch is None:
                break
            for message in batch.messages:
                answer = _send(client, batch, message, int(store.database.clock().timestamp()))
                told = webhooks.Told(message.delivery, answer.status, answer.error)
                store.database.write(webhooks.told, actor, told)
                progress.advance(1)
                if not answer.status:
                    return {"webhook_id": job.payload["webhook_id"], "told": progress.done, "error": answer.error}
    finally:
        client.close()
    return {"webhook_id": job.payload["webhook_id"], "told": progress.done}


def _send(client: Outgoing, batch: webhooks.Batch, message: webhooks.Message, sent_at: int) -> Answer:
    id = message.delivery.id
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": sign(batch.secret, id, sent_at, message.body),
    }
    return client.post(batch.webhook.url, headers, message.body)


def look(store: Store) -> None:
    """By the clock: find out what webhooks are to be told."""
    if not store.database.read(webhooks.anything, NOBODY, None):
        return
    while store.database.write(webhooks.look, NOBODY, BATCH):
        time.sleep(0)


def forget(store: Store) -> None:
    """By the clock: forget what was told long ago."""
    store.database.write(webhooks.forget, NOBODY, KEPT)
