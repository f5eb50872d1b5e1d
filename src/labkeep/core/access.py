"""Who may do what: roles and permissions as one table, read by operations and printed by the docs.

A permission is ``<kind>.<verb>``. Checks happen in operations and nowhere else.
"""

from __future__ import annotations

import msgspec

from labkeep.core.errors import Forbidden
from labkeep.core.lifecycle import Kind, Role

RANK: dict[Role, int] = {role: rank for rank, role in enumerate(Role)}

VERB_ROLES: dict[str, Role] = {
    "read": Role.viewer,
    "write": Role.editor,
    "archive": Role.editor,
    "trash": Role.editor,
    "restore": Role.editor,
    "lock": Role.editor,
    "purge": Role.maintainer,
}
"""The least role for each verb on a kind."""

PERMISSIONS: dict[str, Role] = {f"{kind}.{verb}": role for kind in Kind for verb, role in VERB_ROLES.items()} | {
    # A project is the container of all else: making one is everyday work, losing one is not.
    "project.trash": Role.maintainer,
    "project.purge": Role.owner,
    "rules.write": Role.maintainer,
    "rules.write_organization": Role.owner,
    "hold.read": Role.maintainer,
    "hold.set": Role.maintainer,
    "hold.lift": Role.owner,
    "environment.write": Role.editor,
    "key.read": Role.editor,
    "key.write": Role.owner,
    "member.read": Role.viewer,
    "member.write": Role.owner,
    "workspace.read": Role.viewer,
    "workspace.write": Role.owner,
    "audit.read": Role.maintainer,
    "receipt.read": Role.viewer,
    "signing_key.write": Role.owner,
    "policy.read": Role.viewer,
    "policy.write": Role.maintainer,
    "policy.write_organization": Role.owner,
    "job.read": Role.viewer,
    # One's own jobs anybody may pause and cancel.
    "job.control": Role.maintainer,
    "usage.read": Role.viewer,
    "usage.read_all": Role.owner,
    "import.write": Role.maintainer,
    "webhook.read": Role.maintainer,
    "webhook.write": Role.maintainer,
    "check.run": Role.owner,
    "erasure.read": Role.maintainer,
    "erasure.write": Role.maintainer,
    "erasure.run": Role.owner,
}
"""Permission -> the least role that has it."""

AGENT_DENIED = frozenset(
    # Nor may an agent get itself a key, or a member, without the flag.
    {f"{kind}.purge" for kind in Kind}
    | {
        "key.write",
        "member.write",
        "workspace.write",
        "rules.write",
        "signing_key.write",
        "webhook.write",
        "import.write",
    }
    # Nor does a program decide what a court may want to see.
    | {"hold.read", "hold.set", "hold.lift"}
    | {"erasure.read", "erasure.write", "erasure.run"}
    | {"policy.write", "policy.write_organization", "rules.write_organization"}
)
"""Permissions that a key with the agent flag never has, whatever its role."""

SERVER_SCOPE = "server"
"""Scope of the first administrator's key: may create organizations, and workspaces and keys in any of them."""


class Actor(msgspec.Struct, frozen=True):
    """Who asks, resolved from a key: one user in one workspace, for one request."""

    organization_id: str
    workspace_id: str
    user: str
    role: Role
    key_id: str
    agent: bool = False
    scopes: tuple[str, ...] = ()
    client: str = ""
    request_id: str = ""
    reason: str = ""
    """Why, as the request's headers say it: for whatever the request itself gives no reason for."""
    ticket: str = ""

    @property
    def name(self) -> str:
        """How records name the actor."""
        return f"{self.user} (agent)" if self.agent else self.user


def allows(actor: Actor, permission: str) -> bool:
    """Whether ``actor`` has ``permission``; an unknown permission is a KeyError, which is a bug."""
    has = RANK[actor.role] >= RANK[PERMISSIONS[permission]]
    return has and not (actor.agent and permission in AGENT_DENIED)


def require(actor: Actor, permission: str) -> None:
    """Forbidden, naming the permission and the role that has it, unless ``actor`` has it."""
    if allows(actor, permission):
        return
    least = PERMISSIONS[permission]
    why = (
        "agent keys never have it" if actor.agent and RANK[actor.role] >= RANK[least] else f"it needs the role {least}"
    )
    raise Forbidden(
        f"no permission: {actor.user} ({actor.role}) lacks {permission}; {why}",
        permission=permission,
        role=str(actor.role),
        needs=str(least),
    )
