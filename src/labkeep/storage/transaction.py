"""What an operation gets to work with: one transaction, its moment, and what must be written together with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, CursorResult, Executable, RowMapping, Table

from labkeep.core.access import Actor
from labkeep.core.entities import AuditEvent
from labkeep.core.ids import IdSource
from labkeep.storage.chain import Noted
from labkeep.storage.cipher import Cipher
from labkeep.storage.column_types import EPOCH
from labkeep.storage.master_key import MasterKey
from labkeep.storage.prepared import bulk
from labkeep.storage.vault import Vault

_MILLISECOND = timedelta(milliseconds=1)


class Tx:
    """One transaction. ``now`` is the same moment throughout.

    Audit events are only noted here: whoever commits the transaction writes them, last of all.
    """

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        ids: IdSource,
        database: str,
        grace_days: int = 30,
        seal_min_rows: int = 5_000,
        seal_every_rows: int = 200_000,
        master: MasterKey | None = None,
        site: str = "",
        vault: Vault | None = None,
        apply_at_once: int = 2_000,
        agent_daily_trash: int = 1_000,
        agent_burst: int = 200,
    ) -> None:
        self.connection = connection
        self.now = now
        self.database = database
        self.grace_days = grace_days
        """Days in the trash where a project does not say otherwise."""
        self.seal_min_rows = seal_min_rows
        """Rows of a stream that make sealing it worthwhile when its run has ended."""
        self.seal_every_rows = seal_every_rows
        """Unsealed rows at which a growing stream is sealed."""
        self.master = master
        """Wraps the secret keys of the store; None where the settings give none."""
        self.site = site
        """Public address of the server, as the settings say it; may be empty."""
        self.vault = Vault() if vault is None else vault
        """What this process remembers of keys."""
        self.keys_made: dict[str, Cipher] = {}
        """Data keys that this transaction made, by owner."""
        self.apply_at_once = apply_at_once
        """Objects that a verb changes at once; what is larger becomes a job."""
        self.agent_daily_trash = agent_daily_trash
        """Objects that an agent's key may trash in 24 hours, unless the key says otherwise."""
        self.agent_burst = agent_burst
        """Objects trashed within minutes above which an agent's key is suspended."""
        self.enqueued = False
        """Whether a job was enqueued: after the commit the worker is woken."""
        self._ids = ids
        self._events: list[Noted] = []

    def new_id(self) -> str:
        """A new id that sorts after all earlier ones of this process."""
        return self._ids.new((self.now - EPOCH) // _MILLISECOND)

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """What is wrapped under this master key or the one before. Errors as `MasterKey.unwrap`."""
        return self.vault.unwrap(wrapped, context, self.master)

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[*tuple[Any, ...]]:
        """Run one statement, or one statement for each of a list of parameters."""
        return self.connection.execute(statement, parameters)

    def one(self, statement: Executable) -> RowMapping | None:
        """The first row as a mapping, or None."""
        return self.execute(statement).mappings().first()

    def all(self, statement: Executable) -> Sequence[RowMapping]:
        """All rows as mappings. For lists that are bounded by the statement."""
        return self.execute(statement).mappings().all()

    def insert(self, table: Table[Any], rows: Iterable[dict[str, Any]]) -> None:
        """Insert ``rows`` (all with the same keys); nothing when there are none."""
        self._write(table, list(rows), replace=False)

    def upsert(self, table: Table[Any], rows: Iterable[dict[str, Any]]) -> None:
        """Insert ``rows`` or replace what stands under their primary keys."""
        self._write(table, list(rows), replace=True)

    def _write(self, table: Table[Any], rows: list[dict[str, Any]], *, replace: bool) -> None:
        if rows:
            bulk(table, tuple(rows[0]), self.database, replace).write(self.connection, rows)

    def audit(
        self,
        actor: Actor,
        event: str,
        subject_id: str = "",
        *,
        count: int = 1,
        deletion_id: str = "",
        reason: str = "",
        ticket: str = "",
        **details: Any,
    ) -> None:
        """Note ``event`` in the organization's chain. ``details`` are ids, counts and digests, never content."""
        noted = AuditEvent(
            seq=0,
            at=self.now,
            event=event,
            actor=actor.name,
            key_id=actor.key_id,
            client=actor.client,
            request_id=actor.request_id,
            workspace_id=actor.workspace_id,
            subject_id=subject_id,
            deletion_id=deletion_id,
            count=count,
            reason=reason or actor.reason,
            ticket=ticket or actor.ticket,
            details=details,
            previous="",
            hash="",
        )
        self._events.append((actor.organization_id, noted))

    def finish(self) -> tuple[Noted, ...]:
        """The audit events that were noted, for whoever commits to write.

        Encoded once here, so that an event that cannot be stored fails its own operation and none beside it.
        """
        for _, event in self._events:
            msgspec.json.encode(event)
        return tuple(self._events)
