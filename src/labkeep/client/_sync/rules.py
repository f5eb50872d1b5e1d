# Generated from labkeep/client/_async/rules.py by scripts/unasync.py: change that file instead.
"""Rules of the lifecycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkeep.client import requests
from labkeep.client._sync.connection import Connection
from labkeep.core.commands_rules import RulesInForce


class Rules:
    """``client.rules``: what the organization, the workspace and projects ask of the lifecycle.

    Rules of a project are set with its settings: ``client.projects.update(id, settings={"require_reason": True})``.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, *, project: str | None = None) -> RulesInForce:
        """What each level asks for, and what that comes to (``effective``)."""
        return self._connection.read(RulesInForce, requests.path("/rules"), project=project)

    def set_workspace(self, rules: Mapping[str, Any]) -> RulesInForce:
        """Change rules of the workspace; None takes one back. What the organization asks for stays."""
        return self._connection.write(RulesInForce, "PATCH", requests.path("/rules/workspace"), {"rules": rules})

    def set_organization(self, rules: Mapping[str, Any]) -> RulesInForce:
        """Change rules of the organization; None takes one back."""
        return self._connection.write(RulesInForce, "PATCH", requests.path("/rules/organization"), {"rules": rules})
