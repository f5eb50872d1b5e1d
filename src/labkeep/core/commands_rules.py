"""What can be asked about the rules of the lifecycle."""

from __future__ import annotations

import msgspec

from labkeep.core.commands import Command, Key
from labkeep.core.entities import Json
from labkeep.core.rules import Rules


class GetRules(Command, frozen=True, kw_only=True):
    """The rules of the workspace, or of one ``project`` (id or name)."""

    project: Key = ""


class SetRules(Command, frozen=True, kw_only=True):
    """Change rules of the workspace or the organization. What is left out stays; null takes a rule back."""

    rules: Json


class RulesInForce(msgspec.Struct, frozen=True, kw_only=True):
    """What each level asks for, and what that comes to. ``grace_days`` of ``effective`` is the server's where none says
    otherwise."""

    organization: Rules
    workspace: Rules
    project: Rules | None = None
    effective: Rules
