"""What can be asked for about webhooks."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from labkeep.core.commands import Command, Count, Key, Paged
from labkeep.core.ids import Id
from labkeep.core.webhooks import Webhook

Url = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^[^\x00-\x20\x7f]+$(?!\n)")]
Events = Annotated[tuple[Key, ...], Meta(max_length=100)]


class CreateWebhook(Command, frozen=True, kw_only=True):
    """A new webhook: ``url`` is told of ``events`` (names or patterns such as ``run.*``; none for all)."""

    url: Url
    events: Events = ()


class NewWebhook(msgspec.Struct, frozen=True):
    """A webhook and its secret, which is shown this once."""

    webhook: Webhook
    secret: str


class ListWebhooks(Paged, frozen=True, kw_only=True):
    """Webhooks of the workspace, newest first."""


class GetWebhook(Command, frozen=True, kw_only=True):
    """One webhook by id."""

    id: Id


class UpdateWebhook(Command, frozen=True, kw_only=True):
    """Change a webhook. One that is not ``enabled`` is told later what it missed."""

    id: Id
    url: Url | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class RemoveWebhook(Command, frozen=True, kw_only=True):
    """Forget a webhook and what it was told."""

    id: Id


class RotateWebhookSecret(Command, frozen=True, kw_only=True):
    """Give a webhook a new secret; the old one signs nothing any more."""

    id: Id


class ListDeliveries(Paged, frozen=True, kw_only=True):
    """What a webhook was told and what waits, newest first."""

    id: Id
    state: str = ""


class ReplayWebhook(Command, frozen=True, kw_only=True):
    """Tell again: one delivery, or all events from number ``since`` of the audit trail on."""

    id: Id
    delivery_id: Id | None = None
    since: Count | None = None


class Replayed(msgspec.Struct, frozen=True):
    """How many messages wait now."""

    waiting: int


class TestWebhook(Command, frozen=True, kw_only=True):
    """Tell a webhook that it is tried out (event ``webhook.tested``), whatever its patterns."""

    id: Id
    __test__ = False
