"""Organizations, workspaces, members and keys; and who a request comes from."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Select, select, update

from labkeep.core.access import RANK, SERVER_SCOPE, Actor, require
from labkeep.core.commands import (
    Command,
    CreateKey,
    CreateWorkspace,
    ListKeys,
    ListMembers,
    ListWorkspaces,
    Me,
    NewKey,
    Nothing,
    Page,
    ResumeKey,
    RevokeKey,
    SetMember,
)
from labkeep.core.entities import ApiKey, Member, Workspace
from labkeep.core.errors import AlreadyExists, Conflict, Forbidden, Gone, Invalid, NotFound, Unauthenticated
from labkeep.core.ids import Id, is_id
from labkeep.core.lifecycle import Role
from labkeep.storage import tables as t
from labkeep.storage.data_keys import answers_of
from labkeep.storage.pages import page
from labkeep.storage.transaction import Tx

T = TypeVar("T")

SECRET_FORM = re.compile(r"lk-[A-Za-z0-9_-]{43}")
"""The form of keys: 256 random bits."""


def new_secret() -> str:
    """A fresh key."""
    return f"lk-{secrets.token_urlsafe(32)}"


def digest_of(secret: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(secret.encode()).digest()


# --- who asks ---------------------------------------------------------------------------------------------------------


class Credentials(msgspec.Struct, frozen=True):
    """The digest of a key as sent, and the workspace that was asked for (empty: the key's own)."""

    digest: bytes
    workspace: str = ""


def authenticate(tx: Tx, _nobody: Actor, given: Credentials) -> Actor:
    """The actor behind a key. Unauthenticated for an unknown, revoked or expired one; NotFound for another workspace
    than those the user is a member of."""
    keys = t.api_keys.c
    found = tx.one(select(t.api_keys).where(keys.digest == given.digest))
    # The lookup is by digest; the comparison is repeated in constant time so that nothing depends on the index alone.
    if found is None or not hmac.compare_digest(found["digest"], given.digest):
        raise Unauthenticated("the API key is not known to this server")
    if found["revoked_at"] is not None:
        raise Unauthenticated("the API key was revoked")
    if found["expires_at"] is not None and found["expires_at"] <= tx.now:
        raise Unauthenticated("the API key has expired")
    workspace_id = found["workspace_id"]
    if given.workspace:
        workspace_id = _workspace_id(tx, found["organization_id"], given.workspace)
    member = tx.one(
        select(t.members.c.role).where(
            t.members.c.organization_id == found["organization_id"],
            t.members.c.workspace_id == workspace_id,
            t.members.c.user == found["user"],
        )
    )
    if member is None:
        raise NotFound(f"workspace {given.workspace or workspace_id} not found")
    return Actor(
        organization_id=found["organization_id"],
        workspace_id=workspace_id,
        user=found["user"],
        role=min(found["role"], member["role"], key=RANK.__getitem__),
        key_id=found["id"],
        agent=found["agent"],
        scopes=found["scopes"],
    )


def _workspace_id(tx: Tx, organization_id: str, ref: str) -> str:
    workspaces = t.workspaces.c
    same = workspaces.id == ref if is_id(ref) else workspaces.name == ref
    found = tx.one(select(workspaces.id).where(workspaces.organization_id == organization_id, same))
    if found is None:
        raise NotFound(f"workspace {ref[:80]!r} not found")
    return str(found["id"])


def me(tx: Tx, actor: Actor, _command: Nothing) -> Me:
    """Who the key is, with the names of its workspace and organization."""
    joined = t.workspaces.join(t.organizations, t.workspaces.c.organization_id == t.organizations.c.id)
    found = tx.one(
        select(t.workspaces.c.name, t.organizations.c.name.label("organization"))
        .select_from(joined)
        .where(t.workspaces.c.organization_id == actor.organization_id, t.workspaces.c.id == actor.workspace_id)
    )
    if found is None:
        raise NotFound("the key's workspace is gone")
    return Me(
        user=actor.user,
        role=actor.role,
        agent=actor.agent,
        key_id=actor.key_id,
        workspace_id=actor.workspace_id,
        workspace=found["name"],
        organization_id=actor.organization_id,
        organization=found["organization"],
        scopes=actor.scopes,
    )


# --- workspaces -------------------------------------------------------------------------------------------------------


def create_workspace(tx: Tx, actor: Actor, command: CreateWorkspace) -> Workspace:
    """A new workspace; its creator becomes its owner. Another organization needs the server scope."""
    require(actor, "workspace.write")
    organization_id = actor.organization_id
    if command.organization is not None:
        organization_id = _organization(tx, actor, command.organization, create=True)
    names = t.workspaces.c
    taken = tx.one(select(names.id).where(names.organization_id == organization_id, names.name == command.name))
    if taken is not None:
        raise AlreadyExists(f"workspace {command.name!r} exists already", id=taken["id"])
    workspace = Workspace(id=tx.new_id(), organization_id=organization_id, name=command.name, created_at=tx.now)
    tx.insert(t.workspaces, [msgspec.structs.asdict(workspace)])
    _join(tx, organization_id, workspace.id, actor.user, Role.owner)
    tx.audit(msgspec.structs.replace(actor, organization_id=organization_id), "workspace.created", workspace.id)
    return workspace


def _organization(tx: Tx, actor: Actor, name: str, *, create: bool) -> str:
    """The id of the organization ``name``; only the server scope reaches another than the actor's own."""
    found = tx.one(select(t.organizations.c.id).where(t.organizations.c.name == name))
    if found is not None and found["id"] == actor.organization_id:
        return actor.organization_id
    if SERVER_SCOPE not in actor.scopes:
        raise Forbidden(f"organization {name!r} needs a key with the scope {SERVER_SCOPE!r}", permission=SERVER_SCOPE)
    if found is not None:
        return str(found["id"])
    if not create:
        raise NotFound(f"organization {name!r} not found")
    organization_id = tx.new_id()
    tx.insert(t.organizations, [{"id": organization_id, "name": name, "created_at": tx.now}])
    return organization_id


def list_workspaces(tx: Tx, actor: Actor, command: ListWorkspaces) -> Page[Workspace]:
    """The workspaces that the user is a member of."""
    require(actor, "workspace.read")
    joined = t.workspaces.join(
        t.members,
        (t.workspaces.c.organization_id == t.members.c.organization_id)
        & (t.workspaces.c.id == t.members.c.workspace_id),
    )
    query = _select(Workspace, t.workspaces).select_from(joined).where(t.members.c.user == actor.user)
    return page(
        tx, query.where(t.workspaces.c.organization_id == actor.organization_id), t.workspaces.c.id, command, Workspace
    )


# --- members and keys -------------------------------------------------------------------------------------------------


def list_members(tx: Tx, actor: Actor, command: ListMembers) -> Page[Member]:
    """Members of the workspace."""
    require(actor, "member.read")
    members = t.members.c
    query = _select(Member, t.members).where(
        members.organization_id == actor.organization_id, members.workspace_id == actor.workspace_id
    )
    return page(tx, query, members.id, command, Member)


def set_member(tx: Tx, actor: Actor, command: SetMember) -> Member:
    """Give a user a role in the workspace. The last owner keeps the role."""
    require(actor, "member.write")
    members = t.members.c
    if command.role != Role.owner:
        owners = tx.all(
            select(members.user).where(
                members.organization_id == actor.organization_id,
                members.workspace_id == actor.workspace_id,
                members.role == Role.owner,
            )
        )
        if [row["user"] for row in owners] == [command.user]:
            raise Conflict(f"{command.user} is the last owner of this workspace: make somebody else owner first")
    member = _join(tx, actor.organization_id, actor.workspace_id, command.user, command.role)
    tx.audit(actor, "member.set", member.id, role=str(command.role))
    return member


def _join(
    tx: Tx, organization_id: str, workspace_id: str, user: str, role: Role, *, raise_only: bool = False
) -> Member:
    members = t.members.c
    same = (members.organization_id == organization_id, members.workspace_id == workspace_id, members.user == user)
    found = tx.one(select(t.members).where(*same))
    if found is None:
        member = Member(
            id=tx.new_id(),
            organization_id=organization_id,
            workspace_id=workspace_id,
            user=user,
            role=role,
            created_at=tx.now,
        )
        tx.insert(t.members, [msgspec.structs.asdict(member)])
        return member
    member = Member(**found)
    if raise_only and RANK[member.role] >= RANK[role]:
        return member
    tx.execute(update(t.members).where(*same).values(role=role))
    return msgspec.structs.replace(member, role=role)


def create_key(tx: Tx, actor: Actor, command: CreateKey) -> NewKey:
    """A key for a user, who becomes a member with at least the key's role."""
    require(actor, "key.write")
    organization_id, workspace_id = _target(tx, actor, command)
    if command.expires_at is not None and command.expires_at <= tx.now:
        raise Invalid("expires_at lies in the past", path="expires_at")
    _join(tx, organization_id, workspace_id, command.user, command.role, raise_only=True)
    secret = new_secret()
    key = ApiKey(
        id=tx.new_id(),
        organization_id=organization_id,
        workspace_id=workspace_id,
        user=command.user,
        role=command.role,
        agent=command.agent,
        name=command.name,
        hint=secret[:7],
        created_at=tx.now,
        expires_at=command.expires_at,
        daily_trash=command.daily_trash,
    )
    tx.insert(t.api_keys, [{**msgspec.structs.asdict(key), "digest": digest_of(secret)}])
    scoped = msgspec.structs.replace(actor, organization_id=organization_id, workspace_id=workspace_id)
    tx.audit(scoped, "key.created", key.id, role=str(key.role), agent=key.agent)
    return NewKey(id=key.id, secret=secret, user=key.user, role=key.role, workspace_id=workspace_id)


def _target(tx: Tx, actor: Actor, command: CreateKey) -> tuple[str, str]:
    """Organization and workspace for a new key. The server scope may name any; others only where they are owners."""
    if command.workspace is None and command.organization is None:
        return actor.organization_id, actor.workspace_id
    organization_id = actor.organization_id
    if command.organization is not None:
        organization_id = _organization(tx, actor, command.organization, create=False)
    if SERVER_SCOPE in actor.scopes and command.organization is None:
        return _anywhere(tx, command.workspace or "")
    workspace_id = _workspace_id(tx, organization_id, command.workspace or "default")
    if SERVER_SCOPE not in actor.scopes:
        members = t.members.c
        found = tx.one(
            select(members.role).where(
                members.organization_id == organization_id,
                members.workspace_id == workspace_id,
                members.user == actor.user,
            )
        )
        if found is None:
            raise NotFound(f"workspace {command.workspace!r} not found")
        require(msgspec.structs.replace(actor, role=found["role"]), "key.write")
    return organization_id, workspace_id


def _anywhere(tx: Tx, ref: str) -> tuple[str, str]:
    workspaces = t.workspaces.c
    same = workspaces.id == ref if is_id(ref) else workspaces.name == ref
    found = tx.all(select(workspaces.organization_id, workspaces.id).where(same))
    if not found:
        raise NotFound(f"workspace {ref[:80]!r} not found")
    if len(found) > 1:
        raise Conflict(f"several organizations have a workspace {ref!r}: use its id, or name the organization")
    return found[0]["organization_id"], found[0]["id"]


def list_keys(tx: Tx, actor: Actor, command: ListKeys) -> Page[ApiKey]:
    """Keys of the workspace; those below maintainer see only their own."""
    require(actor, "key.read")
    keys = t.api_keys.c
    query = _select(ApiKey, t.api_keys).where(
        keys.organization_id == actor.organization_id, keys.workspace_id == actor.workspace_id
    )
    if RANK[actor.role] < RANK[Role.maintainer]:
        query = query.where(keys.user == actor.user)
    return page(tx, query, keys.id, command, ApiKey)


def resume_key(tx: Tx, actor: Actor, command: ResumeKey) -> ApiKey:
    """Let a suspended key remove things again. One that is not suspended stays as it is."""
    require(actor, "key.write")
    keys = t.api_keys.c
    same = (keys.organization_id == actor.organization_id, keys.workspace_id == actor.workspace_id)
    found = tx.one(_select(ApiKey, t.api_keys).where(*same, keys.id == command.id))
    if found is None:
        raise NotFound(f"key {command.id} not found")
    key = ApiKey(**found)
    if key.suspended_at is None:
        return key
    tx.execute(update(t.api_keys).where(*same, keys.id == key.id).values(suspended_at=None, resumed_at=tx.now))
    tx.audit(actor, "key.resumed", key.id, reason=command.reason)
    return msgspec.structs.replace(key, suspended_at=None)


def revoke_key(tx: Tx, actor: Actor, command: RevokeKey) -> ApiKey:
    """Make a key unusable. Users may revoke their own; an owner any of the workspace. Again is fine."""
    require(actor, "key.read")
    keys = t.api_keys.c
    same = (
        keys.organization_id == actor.organization_id,
        keys.workspace_id == actor.workspace_id,
        keys.id == command.id,
    )
    found = tx.one(_select(ApiKey, t.api_keys).where(*same))
    if found is None:
        raise NotFound(f"key {command.id} not found")
    key = ApiKey(**found)
    if key.user != actor.user:
        require(actor, "key.write")
    if key.revoked_at is not None:
        return key
    tx.execute(update(t.api_keys).where(*same).values(revoked_at=tx.now))
    tx.audit(actor, "key.revoked", key.id)
    return msgspec.structs.replace(key, revoked_at=tx.now)


def _select(entity: type[Any], table: Any) -> Select[Any]:
    return select(*[table.c[name] for name in entity.__struct_fields__])


# --- first start ------------------------------------------------------------------------------------------------------


class Setup(msgspec.Struct, frozen=True):
    """The first administrator's key; empty to have one made."""

    secret: str = ""


def set_up(tx: Tx, _nobody: Actor, command: Setup) -> str | None:
    """On an empty store make organization and workspace ``default`` and the owner ``admin``; answers the key.

    None when the store is set up already. A given key that an older store does not know is added as a further
    administrator's key, so that changing the variable changes the key that works.
    """
    if command.secret and not SECRET_FORM.fullmatch(command.secret):
        raise Invalid("LABKEEP_ADMIN_KEY must be lk- and 43 characters of A-Z a-z 0-9 _ -", path="admin_key")
    first = tx.one(select(t.workspaces.c.organization_id, t.workspaces.c.id).order_by(t.workspaces.c.id).limit(1))
    if first is not None and not command.secret:
        return None
    secret = command.secret or new_secret()
    if first is None:
        organization_id, workspace_id = tx.new_id(), tx.new_id()
        tx.insert(t.organizations, [{"id": organization_id, "name": "default", "created_at": tx.now}])
        workspace = {"id": workspace_id, "organization_id": organization_id, "name": "default", "created_at": tx.now}
        tx.insert(t.workspaces, [workspace])
    else:
        organization_id, workspace_id = first["organization_id"], first["id"]
        if tx.one(select(t.api_keys.c.id).where(t.api_keys.c.digest == digest_of(secret))) is not None:
            return None
    _join(tx, organization_id, workspace_id, "admin", Role.owner)
    key = ApiKey(
        id=tx.new_id(),
        organization_id=organization_id,
        workspace_id=workspace_id,
        user="admin",
        role=Role.owner,
        scopes=(SERVER_SCOPE,),
        name="administrator",
        hint=secret[:7],
        created_at=tx.now,
    )
    tx.insert(t.api_keys, [{**msgspec.structs.asdict(key), "digest": digest_of(secret)}])
    actor = Actor(
        organization_id=organization_id,
        workspace_id=workspace_id,
        user="admin",
        role=Role.owner,
        key_id=key.id,
        client="setup",
    )
    tx.audit(actor, "key.created", key.id, role="owner", agent=False)
    return secret


# --- where things are -------------------------------------------------------------------------------------------------


class FindHome(Command, frozen=True, kw_only=True):
    """Where the first of these objects is that there is."""

    ids: list[Id]


def home_of(tx: Tx, actor: Actor, command: FindHome) -> str | None:
    """The id of a workspace of the organization, for who then has to be identified in it."""
    c = t.items.c
    query = select(c.workspace_id).where(c.organization_id == actor.organization_id, c.id.in_(command.ids))
    found = tx.one(query.limit(1))
    return None if found is None else str(found["workspace_id"])


# --- requests that may be sent twice ----------------------------------------------------------------------------------


def once(operation: Callable[[Tx, Actor, Any], Any], key: str, fingerprint: str) -> Callable[[Tx, Actor, Any], bytes]:
    """``operation``, answering the stored answer when the same key sends the same request again. Answers JSON.

    Invalid when the idempotency key comes with another request.
    """
    if len(key) > 255:
        raise Invalid("an Idempotency-Key has at most 255 characters", path="idempotency-key")

    def run(tx: Tx, actor: Actor, command: Any) -> bytes:
        if isinstance(command, CreateKey):  # its answer is a secret, which is never stored
            return msgspec.json.encode(operation(tx, actor, command))
        keys = t.idempotency_keys.c
        same = (
            keys.organization_id == actor.organization_id,
            keys.key_id == actor.key_id,
            keys.idempotency_key == key,
        )
        found = tx.one(select(keys.fingerprint, keys.response).where(*same))
        if found is not None:
            if found["fingerprint"] != fingerprint:
                raise Invalid("this Idempotency-Key was used for another request", path="idempotency-key")
            if not found["response"]:  # see `labkeep.storage.purge.forget_answers`
                raise Conflict("this request was done before; its answer was dropped when something was purged")
            return _opened(tx, actor, key, bytes(found["response"]))
        response = msgspec.json.encode(operation(tx, actor, command))
        tx.insert(
            t.idempotency_keys,
            [
                {
                    "organization_id": actor.organization_id,
                    "key_id": actor.key_id,
                    "idempotency_key": key,
                    "fingerprint": fingerprint,
                    "response": answers_of(tx, actor.organization_id).close(response, _place_of(actor, key)),
                    "created_at": tx.now,
                }
            ],
        )
        return response

    return run


def _opened(tx: Tx, actor: Actor, key: str, response: bytes) -> bytes:
    try:
        return answers_of(tx, actor.organization_id).open(response, _place_of(actor, key))
    except Gone:
        raise Conflict("this request was done before; its answer was dropped when something was purged") from None


def _place_of(actor: Actor, key: str) -> str:
    return f"answer {actor.key_id} {key}"
