# Generated from labkeep/client/_async/webhooks.py by scripts/unasync.py: change that file instead.
"""Webhooks: who is told about what happens."""

from __future__ import annotations

from collections.abc import Sequence

from labkeep.client import requests
from labkeep.client._sync.connection import Connection, Pages
from labkeep.core.commands_webhooks import NewWebhook, Replayed
from labkeep.core.webhooks import Delivery, Webhook


class Webhooks:
    """``client.webhooks``: messages to a URL of yours about what happens in the workspace."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, url: str, *, events: Sequence[str] | None = None) -> NewWebhook:
        """Have ``url`` told of ``events``: names or patterns such as ``run.*``, ``*.purged``; all when none are named.

        The answer holds the secret that signs the messages; it is shown this once. See `labkeep.verify_webhook`.
        """
        return self._connection.write(NewWebhook, "POST", requests.path("/webhooks"), requests.given(locals()))

    def get(self, id: str) -> Webhook:
        """One webhook, without its secret."""
        return self._connection.read(Webhook, requests.path("/webhooks/{id}", id=id))

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Pages[Webhook]:
        """Webhooks of the workspace, newest first."""
        return self._connection.pages(Webhook, requests.path("/webhooks"), limit=limit, cursor=cursor)

    def update(
        self, id: str, *, url: str | None = None, events: Sequence[str] | None = None, enabled: bool | None = None
    ) -> Webhook:
        """Change a webhook. One that is disabled is told what it missed when it is enabled again."""
        given = {name: value for name, value in requests.given(locals()).items() if name != "id"}
        return self._connection.write(Webhook, "PATCH", requests.path("/webhooks/{id}", id=id), given)

    def remove(self, id: str) -> Webhook:
        """Forget a webhook and what it was told."""
        return self._connection.write(Webhook, "DELETE", requests.path("/webhooks/{id}", id=id), {})

    def rotate_secret(self, id: str) -> NewWebhook:
        """Give a webhook a new secret, which is shown this once."""
        return self._connection.write(NewWebhook, "POST", requests.path("/webhooks/{id}/secret", id=id), {})

    def test(self, id: str) -> Webhook:
        """Have the webhook told of ``webhook.tested``."""
        return self._connection.write(Webhook, "POST", requests.path("/webhooks/{id}/test", id=id), {})

    def deliveries(
        self, id: str, *, state: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Pages[Delivery]:
        """What a webhook was told and what waits, newest first; ``state`` is waiting, delivered or failed."""
        path = requests.path("/webhooks/{id}/deliveries", id=id)
        return self._connection.pages(Delivery, path, state=state, limit=limit, cursor=cursor)

    def replay(self, id: str, *, delivery_id: str | None = None, since: int | None = None) -> Replayed:
        """Tell again: one delivery, or all events from number ``since`` of the audit trail on."""
        path = requests.path("/webhooks/{id}/replay", id=id)
        fields = {"delivery_id": delivery_id} if delivery_id is not None else {"since": since}
        return self._connection.write(Replayed, "POST", path, fields)
