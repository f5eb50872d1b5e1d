# Generated from labkeep/client/_async/erasures.py by scripts/unasync.py: change that file instead.
"""Requests to erase one person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from labkeep.client import requests
from labkeep.client._sync.connection import Connection, Pages
from labkeep.core.erasures import AskedErasure, Erasure


class Erasures:
    """``client.erasures``: requests to erase one person, from asking to the receipt."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        subject: str,
        *,
        field: str | None = None,
        action: str | None = None,
        text_files: str | None = None,
        whole: Sequence[str] | None = None,
        reason: str | None = None,
        ticket: str | None = None,
        due_at: datetime | None = None,
    ) -> Erasure:
        """Ask to erase ``subject``: rows whose declared ``field`` is that, or whatever says it anywhere.

        ``action`` is redact (unless said otherwise) or delete; ``text_files`` says whether they are replaced or removed.
        ``whole`` names kinds (run, document, artifact_version) whose objects are purged when they speak of the person.
        Nothing happens before `run`.
        """
        return self._connection.write(Erasure, "POST", requests.path("/erasures"), requests.given(locals()))

    def list(self, *, state: str | None = None, limit: int | None = None, cursor: str | None = None) -> Pages[Erasure]:
        """Requests: overdue ones first, then the newest."""
        return self._connection.pages(Erasure, requests.path("/erasures"), **requests.given(locals()))

    def get(self, id: str, *, include: str | None = None) -> Erasure:
        """One request; ``report`` has what was found, by counts and ids."""
        return self._connection.read(Erasure, requests.path("/erasures/{id}", id=id), include=include)

    def preview(self, id: str) -> AskedErasure:
        """Look for what the request would change; wait for ``job_id``, then see ``report`` of the request."""
        return self._connection.write(AskedErasure, "POST", requests.path("/erasures/{id}/preview", id=id), {})

    def run(self, id: str, *, reason: str | None = None) -> AskedErasure:
        """Erase. A job, ``job_id`` of the answer, does it, looks again, and has a receipt issued."""
        path = requests.path("/erasures/{id}/run", id=id)
        return self._connection.write(AskedErasure, "POST", path, requests.given({"reason": reason}))

    def cancel(self, id: str, *, reason: str | None = None) -> Erasure:
        """Withdraw a request that is not running; the person's name is forgotten."""
        path = requests.path("/erasures/{id}/cancel", id=id)
        return self._connection.write(Erasure, "POST", path, requests.given({"reason": reason}))
