"""Rules of the lifecycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection
from labkeep.core.commands_rules import RulesInForce


class AsyncRules:
    """``client.rules``: what the organization, the workspace and projects ask of the lifecycle.

    Rules of a project are set with its settings: ``client.projects.update(id, settings={"require_reason": True})``.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, *, project: str | None = None) -> RulesInForce:
        """What each level asks for, and what that comes to (``effective``)."""
        return await self._connection.read(RulesInForce, requests.path("/rules"), project=project)

    async def set_workspace(self, rules: Mapping[str, Any]) -> RulesInForce:
        """Change rules of the workspace; None takes one back. What the organization asks for stays."""
        return await self._connection.write(RulesInForce, "PATCH", requests.path("/rules/workspace"), {"rules": rules})

    async def set_organization(self, rules: Mapping[str, Any]) -> RulesInForce:
        """Change rules of the organization; None takes one back."""
        return await self._connection.write(
            RulesInForce, "PATCH", requests.path("/rules/organization"), {"rules": rules}
        )
