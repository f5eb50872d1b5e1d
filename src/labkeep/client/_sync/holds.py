# Generated from labkeep/client/_async/holds.py by scripts/unasync.py: change that file instead.
"""Legal holds: what nobody and nothing may remove."""

from __future__ import annotations

from collections.abc import Sequence

from labkeep.client import requests
from labkeep.client._sync.connection import Connection, Pages
from labkeep.core.commands_holds import HoldPreview
from labkeep.core.entities import Hold, Item


class Holds:
    """``client.holds``: legal holds. What one covers cannot be removed by anybody until it is lifted."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def set(
        self,
        matter: str,
        *,
        ids: Sequence[str] | None = None,
        kind: str | None = None,
        q: str | None = None,
        project: str | None = None,
        custodian: str | None = None,
        reason: str | None = None,
    ) -> Hold:
        """Hold ``ids``, or whatever of a ``kind`` matches ``q`` (in ``project``), now and later, for ``matter``.

        What lies inside of a held project, artifact or experiment is held with it.
        """
        return self._connection.write(Hold, "POST", requests.path("/holds"), requests.given(locals()))

    def preview(
        self,
        *,
        ids: Sequence[str] | None = None,
        kind: str | None = None,
        q: str | None = None,
        project: str | None = None,
    ) -> HoldPreview:
        """What such a hold would cover now: counts by kind, bytes, and the first 100 objects. Nothing is set."""
        fields = requests.given(locals())
        return self._connection.write(HoldPreview, "POST", requests.path("/holds/preview"), fields)

    def lift(self, id: str, *, reason: str) -> Hold:
        """Lift a hold: what it alone covered can be removed again."""
        path = requests.path("/holds/{id}/lift", id=id)
        return self._connection.write(Hold, "POST", path, {"reason": reason})

    def get(self, id: str, *, include: str | None = None) -> Hold:
        """One hold."""
        return self._connection.read(Hold, requests.path("/holds/{id}", id=id), include=include)

    def list(
        self,
        *,
        state: str | None = None,
        item_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pages[Hold]:
        """Holds, newest first: active or lifted ones, or with ``item_id`` those that hold this object now."""
        return self._connection.pages(Hold, requests.path("/holds"), **requests.given(locals()))

    def items(self, id: str, *, limit: int | None = None, cursor: str | None = None) -> Pages[Item]:
        """What a hold covers now, with what lies in it."""
        path = requests.path("/holds/{id}/items", id=id)
        return self._connection.pages(Item, path, limit=limit, cursor=cursor)
