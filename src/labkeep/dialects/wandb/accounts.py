"""Who asks: users, entities (our workspaces), organizations, and what the server says of itself."""

from __future__ import annotations

from typing import Any

from labkeep import __version__
from labkeep.core.commands import ListKeys, ListMembers, ListWorkspaces
from labkeep.core.entities import Json
from labkeep.core.errors import Forbidden
from labkeep.core.lifecycle import Role
from labkeep.dialects.wandb.context import Context, global_id
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.operations import accounts

MOST = 1000
"""Users, teams or keys in one answer."""

NEWEST = "0.31.0"
"""Newest client that this dialect is tested with."""

FEATURES: dict[str, bool] = {
    "ARTIFACT_COLLECTIONS_FILTERING_SORTING": True,
    "ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE": True,
    "ARTIFACT_REGISTRY_SEARCH": True,
    "FILESTREAM_GZIP": True,
    "INCLUDE_ARTIFACT_TYPES_IN_REGISTRY_CREATION": True,
    "STRUCTURED_CONSOLE_LOGS": True,
    "TOTAL_COUNT_IN_FILE_CONNECTION": True,
}
"""Features of newer servers by name. A feature that is not named is not used by the client."""


class OrganizationEntity(str):
    """The workspace where the client expects the entity of an organization, which is no team."""

    __slots__ = ()


def user(name: str) -> Json:
    """A user, of whom we know the name only."""
    return {
        "id": global_id("User", name),
        "name": name,
        "username": name,
        "email": name if "@" in name else None,
        "admin": False,
        "flags": "{}",
    }


def viewer(_root: None, context: Context, **_arguments: Any) -> Json:
    """The user behind the key."""
    return {**user(context.actor.user), "entity": context.entity, "admin": context.actor.role == Role.owner}


def users(_root: None, context: Context, query: str | None = None) -> Json:
    """Members of the workspace whose name has ``query`` in it."""
    members = context.read(accounts.list_members, ListMembers(limit=MOST)).items
    return {"edges": [{"node": user(each.user)} for each in members if (query or "") in each.user]}


def entity(_root: None, context: Context, name: str | None = None) -> str | None:
    """The workspace that the request is for; None when there is none of that name."""
    return (name or context.entity) if context.found else None


def _teams(_user: Json, context: Context) -> Json:
    found = context.read(accounts.list_workspaces, ListWorkspaces(limit=MOST)).items
    return {"edges": [{"node": each.name} for each in found]}


def _keys(owner: Json, context: Context) -> Json:
    try:
        found = context.read(accounts.list_keys, ListKeys(limit=MOST)).items
    except Forbidden:  # the client asks for them wherever it asks who it is
        found = []
    mine = [key for key in found if key.user == owner["name"] and key.revoked_at is None]
    return {
        "edges": [
            {"node": {"id": global_id("ApiKey", key.id), "name": key.hint, "description": key.name}} for key in mine
        ]
    }


def _organization(context: Context) -> Json:
    return {"id": global_id("Organization", context.me.organization_id), "name": context.me.organization}


def organization(_root: None, context: Context, name: str | None = None) -> Json | None:
    """The organization of the key; None for any other."""
    return _organization(context) if name in (None, "", context.me.organization, context.entity) else None


def server_info(_root: None, _context: Context) -> Json:
    """Versions and features."""
    return {
        "features": [{"name": name, "isEnabled": on} for name, on in FEATURES.items()],
        "cliVersionInfo": {"max_cli_version": NEWEST},
        "latestLocalVersionInfo": {
            "outOfDate": False,
            "latestVersionString": __version__,
            "versionOnThisInstanceString": __version__,
        },
    }


RESOLVERS: Resolvers = {
    "Query": {
        "viewer": viewer,
        "users": users,
        "entity": entity,
        "organization": organization,
        "serverInfo": server_info,
    },
    "User": {
        "teams": _teams,
        "apiKeys": _keys,
        "organizations": lambda _user, context: [_organization(context)],
    },
    "Entity": {
        "id": lambda name, _context: global_id("Entity", name),
        "name": lambda name, _context: str(name),
        "entityType": lambda name, _context: "organization" if isinstance(name, OrganizationEntity) else "team",
        "isTeam": lambda name, _context: not isinstance(name, OrganizationEntity),
        "xxhashDigestsEnabled": lambda _name, _context: False,
        "organization": lambda _name, context: _organization(context),
        "user": lambda _name, _context: None,
    },
    "Organization": {
        "coreWeaveOrganizationId": lambda _organization, _context: None,
        "orgEntity": lambda _organization, context: OrganizationEntity(context.entity),
        "featureFlags": lambda _organization, _context, **_: [],
    },
}
