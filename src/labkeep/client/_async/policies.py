"""Retention policies: what is kept, and what goes by itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.core.commands_policies import Policy, PolicyPreview, PolicyReport, PolicyRun, PutOutcome, RetentionLimit


class AsyncPolicies:
    """``client.policies``: retention policies. ``body`` has the fields of docs/retention.md."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        scope: str | None = None,
        project: str | None = None,
        enabled: bool | None = None,
        every_s: int | None = None,
    ) -> Policy:
        """A new policy of the workspace, of a ``project``, or with ``scope="organization"`` of all workspaces.

        It first runs ``every_s`` seconds later (a day unless said otherwise). AlreadyExists when the name is taken.
        """
        return await self._connection.write(Policy, "POST", requests.path("/policies"), requests.given(locals()))

    async def put(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        scope: str | None = None,
        project: str | None = None,
        enabled: bool | None = None,
        every_s: int | None = None,
        dry_run: bool | None = None,
    ) -> PutOutcome:
        """Make the policy of this name in this scope be so; ``change`` of the answer says what that took.

        ``dry_run`` only says it.
        """
        return await self._connection.write(PutOutcome, "PUT", requests.path("/policies"), requests.given(locals()))

    def list(
        self,
        *,
        project: str | None = None,
        scope: str | None = None,
        name: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[Policy]:
        """Policies that hold in the workspace, newest first; with ``project`` those that hold in it."""
        return self._connection.pages(Policy, requests.path("/policies"), **requests.given(locals()))

    async def get(self, id: str, *, include: str | None = None) -> Policy:
        """One policy; ``sentence`` says it in English, ``overdue`` whether it should have run."""
        return await self._connection.read(Policy, requests.path("/policies/{id}", id=id), include=include)

    async def update(
        self,
        id: str,
        *,
        name: str | UnsetType = UNSET,
        body: Mapping[str, Any] | UnsetType = UNSET,
        enabled: bool | UnsetType = UNSET,
        every_s: int | UnsetType = UNSET,
    ) -> Policy:
        """Change a policy. ``body`` is replaced as a whole."""
        fields = requests.changed(locals(), "id")
        return await self._connection.write(Policy, "PATCH", requests.path("/policies/{id}", id=id), fields)

    async def remove(self, id: str) -> Policy:
        """Take a policy away; the answer is what it was. What it did stays done."""
        return await self._connection.write(Policy, "DELETE", requests.path("/policies/{id}", id=id))

    async def preview(
        self,
        id: str,
        *,
        show: str | None = None,
        at: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> PolicyPreview:
        """Who would go now, or ``at`` a later moment, and why; nothing happens.

        ``show`` is ``going``, ``kept`` or ``all``. The counts come with the first page.
        """
        path = requests.path("/policies/{id}/preview", id=id)
        return await self._connection.read(PolicyPreview, path, **requests.given(locals(), "id", "path"))

    async def preview_draft(
        self,
        body: Mapping[str, Any],
        *,
        project: str | None = None,
        show: str | None = None,
        at: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> PolicyPreview:
        """Who would go by a policy that is not stored."""
        fields = requests.given(locals())
        return await self._connection.write(PolicyPreview, "POST", requests.path("/policies/preview"), fields)

    async def run(self, id: str) -> PolicyRun:
        """Run a policy now, whether it is enabled or not. ``jobs.wait(job_id)`` waits; `report` says what it did."""
        return await self._connection.write(PolicyRun, "POST", requests.path("/policies/{id}/run", id=id))

    def reports(self, id: str, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[PolicyReport]:
        """What the runs of a policy did, newest first."""
        path = requests.path("/policies/{id}/reports", id=id)
        return self._connection.pages(PolicyReport, path, limit=limit, cursor=cursor)

    async def report(self, id: str, *, include: str | None = None) -> PolicyReport:
        """One report, by the ``report_id`` of a run."""
        return await self._connection.read(
            PolicyReport, requests.path("/policies/reports/{id}", id=id), include=include
        )

    def table(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[RetentionLimit]:
        """Which data are kept where and for how long, what happens then, and who says so."""
        return self._connection.pages(RetentionLimit, requests.path("/policies/table"), limit=limit, cursor=cursor)
