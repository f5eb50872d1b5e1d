"""The audit trail: reading, checking, signing and exporting it."""

from __future__ import annotations

import os
from datetime import datetime

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.client.audit_export import AuditFile
from labkeep.core.audit import Checkpoint
from labkeep.core.audit_files import AuditPage
from labkeep.core.commands import AuditReport
from labkeep.core.commands_proof import DeletedObject
from labkeep.core.entities import AuditEvent


class AsyncAudit:
    """``client.audit``: who did what, when and why."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        id: str | None = None,
        event: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        ascending: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[AuditEvent]:
        """Audit events, newest first; with ``id`` those about one object."""
        return self._connection.pages(AuditEvent, requests.path("/audit"), **requests.given(locals()))

    async def verify(self) -> AuditReport:
        """Whether every event still follows from the one before it."""
        return await self._connection.read(AuditReport, requests.path("/audit/verify"))

    async def page(
        self,
        *,
        after: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> AuditPage:
        """Events of the whole organization in order, behind number ``after``, with what is known of their subjects.

        Of events of other workspaces only the hash is there, unless the key is the administrator's.
        """
        return await self._connection.read(AuditPage, requests.path("/audit/export"), **requests.given(locals()))

    def objects(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[DeletedObject]:
        """Every object of every deletion of the workspace that was made from ``since`` on and before ``until``."""
        return self._connection.pages(DeletedObject, requests.path("/audit/objects"), **requests.given(locals()))

    def checkpoints(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[Checkpoint]:
        """Signed checkpoints, newest first."""
        return self._connection.pages(Checkpoint, requests.path("/audit/checkpoints"), limit=limit, cursor=cursor)

    async def checkpoint(self) -> Checkpoint:
        """Sign the end of the chain as it is now. Kept elsewhere, it shows later whether anything before it changed."""
        return await self._connection.write(Checkpoint, "POST", requests.path("/audit/checkpoints"), {})

    async def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: str = "jsonl",
        after: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        resume: bool = False,
        limit: int = 1000,
    ) -> int:
        """Write the chain into a file, as ``jsonl`` or ``csv``; answers the number of the last event in it.

        With ``resume`` a file that broke off is gone on with. Invalid for another format, or a file that is no export.
        """
        with AuditFile(path, format, resume=resume) as file:
            after = file.after or after or 0
            while after is not None:
                page = await self.page(after=after, since=since, until=until, limit=limit)
                file.write(page, server=self._connection.target.url)
                after = page.next
        return file.after
