"""Plans that were made."""

from __future__ import annotations

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.core.commands import Plan
from labkeep.core.plan_difference import PlanDifference


class AsyncPlans:
    """``client.plans``: what was planned within the last week. ``client.plan`` makes one."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPages[Plan]:
        """Plans, newest first."""
        return self._connection.pages(Plan, requests.path("/plans"), limit=limit, cursor=cursor)

    async def get(self, id: str, *, include: str | None = None) -> Plan:
        """One plan as it was shown."""
        return await self._connection.read(Plan, requests.path("/plans/{id}", id=id), include=include)

    async def diff(self, id: str, other: str) -> PlanDifference:
        """What sets the plan ``other`` apart from the plan ``id``."""
        return await self._connection.read(PlanDifference, requests.path("/plans/{id}/diff", id=id), other=other)
