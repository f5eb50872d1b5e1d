"""What can be asked about legal holds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from labkeep.core.commands import Command, Key, Name, Paged, Text
from labkeep.core.entities import Item
from labkeep.core.ids import Id


class HoldScope(Command, frozen=True, kw_only=True):
    """What a hold is for: either ``ids``, or whatever of a ``kind`` matches ``q`` (all of it, when empty), now and later.

    What lies inside of a held project, artifact or experiment is held with it. A standing query looks at objects in
    every state, so it does not say ``state``.
    """

    ids: Annotated[list[Id], Meta(max_length=5_000)] = []
    kind: str = ""
    q: Annotated[str, Meta(max_length=10_000, pattern=r"^[^\x00]*$")] = ""
    project: Key = ""
    """Limits a standing query to one project, by id or name."""


class SetHold(HoldScope, frozen=True, kw_only=True):
    """Hold something: nothing removes it until the hold is lifted. ``matter`` names the case that it serves."""

    matter: Name
    custodian: Key = ""
    reason: Text = ""


class LiftHold(Command, frozen=True, kw_only=True):
    """Lift a hold, with the reason for the record."""

    id: Id
    reason: Annotated[str, Meta(min_length=1, max_length=1_000_000, pattern=r"^[^\x00]*$")]


class ListHolds(Paged, frozen=True, kw_only=True):
    """Holds, newest first. ``state`` is active or lifted; with ``item_id`` the active ones that hold this object."""

    state: str = ""
    item_id: Id | None = None


class ListHeld(Paged, frozen=True, kw_only=True):
    """What a hold covers now, by id."""

    id: Id


class HoldPreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a hold would cover now. Counts are complete, ``items`` are the first 100."""

    counts: dict[str, int]
    bytes: int
    items: list[Item]
