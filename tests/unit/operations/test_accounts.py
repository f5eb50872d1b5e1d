"""Who asks: keys and what they open, members and their roles, workspaces and tenants, requests that are sent twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from sqlalchemy import select

from labkeep.core.access import SERVER_SCOPE, Actor
from labkeep.core.commands import (
    CreateKey,
    CreateProject,
    CreateWorkspace,
    ListKeys,
    ListMembers,
    ListWorkspaces,
    NewKey,
    Nothing,
    RevokeKey,
    SetMember,
    UpdateProject,
)
from labkeep.core.entities import Project
from labkeep.core.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from labkeep.core.lifecycle import Role
from labkeep.operations import Store, accounts, projects
from labkeep.operations.accounts import Credentials, Setup, authenticate, digest_of, new_secret, once, set_up
from labkeep.operations.purges import system
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_store

T = TypeVar("T")
NOBODY = system("00000000-0000-7000-8000-000000000000", "")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with make_store(tmp_path, clock) as store:
        yield store


@pytest.fixture
def owner(store: Store) -> Actor:
    return make_actor(store.database)


def do(store: Store, operation: Callable[[Tx, Actor, Any], T], actor: Actor, command: Any) -> T:
    return store.database.write(operation, actor, command)


def identify(store: Store, secret: str, workspace: str = "") -> Actor:
    return store.database.read(authenticate, NOBODY, Credentials(digest_of(secret), workspace))


def make_key(store: Store, actor: Actor, user: str = "ann", **more: Any) -> NewKey:
    return do(store, accounts.create_key, actor, CreateKey(user=user, **more))


# --- the first start ----------------------------------------------------------------------------------------------------


def test_an_empty_store_is_set_up_once_with_a_key_that_opens_it(store: Store) -> None:
    secret = do(store, set_up, NOBODY, Setup())
    assert secret is not None
    admin = identify(store, secret)
    assert (admin.user, admin.role, admin.scopes) == ("admin", Role.owner, (SERVER_SCOPE,))
    me = store.database.read(accounts.me, admin, Nothing())
    assert (me.workspace, me.organization) == ("default", "default")
    assert do(store, set_up, NOBODY, Setup()) is None


def test_a_given_administrators_key_works_and_is_added_to_an_older_store(store: Store) -> None:
    first, second = new_secret(), new_secret()
    do(store, set_up, NOBODY, Setup(first))
    assert do(store, set_up, NOBODY, Setup(first)) is None
    do(store, set_up, NOBODY, Setup(second))
    one, other = identify(store, first), identify(store, second)
    assert (one.workspace_id, one.user) == (other.workspace_id, other.user)


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_stored_as_its_digest(store: Store, owner: Actor) -> None:
    key = make_key(store, owner, name="laptop")
    assert accounts.SECRET_FORM.fullmatch(key.secret)

    def stored(tx: Tx, _actor: Actor, _command: None) -> bytes:
        return b" ".join(str(row).encode() for row in tx.execute(select(t.api_keys)))

    kept = store.database.read(stored, owner, None)
    assert key.secret.encode() not in kept
    listed = store.database.read(accounts.list_keys, owner, ListKeys()).items
    assert [(one.id, one.name, one.hint) for one in listed] == [(key.id, "laptop", key.secret[:7])]
    assert key.secret not in str(listed)


def test_a_key_says_who_and_where(store: Store, owner: Actor) -> None:
    actor = identify(store, make_key(store, owner, role=Role.maintainer, agent=True).secret)
    assert (actor.user, actor.role, actor.agent, actor.name) == ("ann", Role.maintainer, True, "ann (agent)")
    assert (actor.organization_id, actor.workspace_id) == (owner.organization_id, owner.workspace_id)


@pytest.mark.parametrize("secret", ["", "x", "lk-" + "A" * 43, "lk-" + "b_-9" * 10 + "xyz"])
def test_an_unknown_key_opens_nothing(store: Store, owner: Actor, secret: str) -> None:
    with pytest.raises(Unauthenticated):
        identify(store, secret)


def test_an_expired_key_opens_nothing(store: Store, owner: Actor, clock: FixedClock) -> None:
    with pytest.raises(Invalid, match="in the past"):
        make_key(store, owner, expires_at=clock.now)
    key = make_key(store, owner, expires_at=clock.now + timedelta(hours=1))
    identify(store, key.secret)
    clock.advance(hours=1)
    with pytest.raises(Unauthenticated, match="expired"):
        identify(store, key.secret)


def test_a_revoked_key_opens_nothing_and_revoking_again_is_fine(store: Store, owner: Actor) -> None:
    key = make_key(store, owner)
    first = do(store, accounts.revoke_key, owner, RevokeKey(id=key.id))
    with pytest.raises(Unauthenticated, match="revoked"):
        identify(store, key.secret)
    assert do(store, accounts.revoke_key, owner, RevokeKey(id=key.id)) == first


def test_a_key_never_has_more_than_its_users_role(store: Store, owner: Actor) -> None:
    key = make_key(store, owner, role=Role.owner)
    do(store, accounts.set_member, owner, SetMember(user="ann", role=Role.viewer))
    assert identify(store, key.secret).role == Role.viewer
    do(store, accounts.set_member, owner, SetMember(user="ann", role=Role.owner))
    weak = make_key(store, owner, role=Role.editor)
    assert identify(store, weak.secret).role == Role.editor


def test_a_weaker_key_takes_no_role_from_its_user(store: Store, owner: Actor) -> None:
    strong = make_key(store, owner, role=Role.maintainer)
    make_key(store, owner, role=Role.viewer)
    assert identify(store, strong.secret).role == Role.maintainer


def test_users_see_and_revoke_their_own_keys_and_owners_all(store: Store, owner: Actor) -> None:
    ann, bob = make_key(store, owner, "ann"), make_key(store, owner, "bob")
    as_ann = identify(store, ann.secret)
    assert [key.user for key in store.database.read(accounts.list_keys, as_ann, ListKeys()).items] == ["ann"]
    with pytest.raises(Forbidden, match=r"key\.write"):
        do(store, accounts.revoke_key, as_ann, RevokeKey(id=bob.id))
    assert do(store, accounts.revoke_key, as_ann, RevokeKey(id=ann.id)).revoked_at is not None
    assert {key.user for key in store.database.read(accounts.list_keys, owner, ListKeys()).items} == {"ann", "bob"}
    do(store, accounts.revoke_key, owner, RevokeKey(id=bob.id))


@pytest.mark.parametrize("role", [Role.viewer, Role.editor, Role.maintainer])
def test_only_owners_make_keys_members_and_workspaces(store: Store, owner: Actor, role: Role) -> None:
    weak = make_actor(store.database, role)
    for operation, command in (
        (accounts.create_key, CreateKey(user="x")),
        (accounts.set_member, SetMember(user="x", role=Role.viewer)),
        (accounts.create_workspace, CreateWorkspace(name="x")),
    ):
        with pytest.raises(Forbidden):
            do(store, operation, weak, command)  # type: ignore[arg-type]


def test_an_agent_gets_itself_no_key_without_the_flag(store: Store, owner: Actor) -> None:
    agent = identify(store, make_key(store, owner, role=Role.owner, agent=True).secret)
    for operation, command in (
        (accounts.create_key, CreateKey(user=agent.user, role=Role.owner)),
        (accounts.set_member, SetMember(user="x", role=Role.owner)),
        (accounts.create_workspace, CreateWorkspace(name="mine")),
    ):
        with pytest.raises(Forbidden, match="agent keys never have it"):
            do(store, operation, agent, command)  # type: ignore[arg-type]


# --- members ------------------------------------------------------------------------------------------------------------


def test_the_last_owner_stays_owner(store: Store, owner: Actor) -> None:
    with pytest.raises(Conflict, match="last owner"):
        do(store, accounts.set_member, owner, SetMember(user=owner.user, role=Role.editor))
    do(store, accounts.set_member, owner, SetMember(user="second", role=Role.owner))
    do(store, accounts.set_member, owner, SetMember(user=owner.user, role=Role.editor))
    members = {m.user: m.role for m in store.database.read(accounts.list_members, owner, ListMembers()).items}
    assert members == {owner.user: Role.editor, "second": Role.owner}


# --- workspaces and tenants ---------------------------------------------------------------------------------------------


def test_a_workspace_belongs_to_its_maker_and_is_opened_by_name_or_id(store: Store, owner: Actor) -> None:
    made = do(store, accounts.create_workspace, owner, CreateWorkspace(name="lab"))
    with pytest.raises(AlreadyExists):
        do(store, accounts.create_workspace, owner, CreateWorkspace(name="lab"))
    names = [one.name for one in store.database.read(accounts.list_workspaces, owner, ListWorkspaces()).items]
    assert names == ["lab", "workspace"]
    key = make_key(store, owner, user=owner.user, role=Role.owner)
    for reference in (made.id, "lab"):
        assert identify(store, key.secret, reference).workspace_id == made.id
    assert identify(store, key.secret).workspace_id == owner.workspace_id


def test_a_workspace_without_membership_looks_as_if_it_were_not_there(store: Store, owner: Actor) -> None:
    other = make_actor(store.database, organization="other")
    foreign = do(store, accounts.create_workspace, other, CreateWorkspace(name="theirs"))
    private = do(store, accounts.create_workspace, owner, CreateWorkspace(name="private"))
    key = make_key(store, owner, "ann")
    for reference in ("theirs", foreign.id, "private", private.id, "nowhere", "0" * 36, "'; --"):
        with pytest.raises(NotFound, match="workspace"):
            identify(store, key.secret, reference)


def test_another_organization_needs_the_server_scope(store: Store, owner: Actor) -> None:
    with pytest.raises(Forbidden, match="server"):
        do(store, accounts.create_workspace, owner, CreateWorkspace(name="x", organization="other"))
    with pytest.raises(Forbidden, match="server"):
        make_key(store, owner, organization="other")
    server = msgspec.structs.replace(owner, scopes=(SERVER_SCOPE,))
    made = do(store, accounts.create_workspace, server, CreateWorkspace(name="x", organization="other"))
    assert made.organization_id != owner.organization_id
    for where in ({"workspace": made.id}, {"workspace": "x"}, {"workspace": "x", "organization": "other"}):
        key = make_key(store, server, "eve", **where)
        assert identify(store, key.secret).organization_id == made.organization_id
    with pytest.raises(NotFound):
        make_key(store, server, organization="nowhere")
    with pytest.raises(NotFound):
        make_key(store, server, workspace="nowhere")
    do(store, accounts.create_workspace, server, CreateWorkspace(name="x"))
    with pytest.raises(Conflict, match="several organizations"):
        make_key(store, server, workspace="x")


def test_keys_for_other_workspaces_need_ownership_there(store: Store, owner: Actor) -> None:
    lab = do(store, accounts.create_workspace, owner, CreateWorkspace(name="lab"))
    boss = msgspec.structs.replace(owner, workspace_id=lab.id)
    do(store, accounts.set_member, boss, SetMember(user="ann", role=Role.editor))
    ann_at_home = identify(store, make_key(store, owner, "ann", role=Role.owner).secret)
    with pytest.raises(Forbidden, match=r"key\.write"):
        make_key(store, ann_at_home, workspace="lab")
    assert make_key(store, owner, workspace="lab").workspace_id == lab.id
    stranger = make_actor(store.database)
    with pytest.raises(NotFound):
        make_key(store, stranger, workspace="lab")


def test_another_tenants_keys_are_not_found(store: Store, owner: Actor) -> None:
    key = make_key(store, owner)
    for place in ({"organization": "other"}, {"workspace": "next door"}):
        stranger = make_actor(store.database, **place)
        with pytest.raises(NotFound):
            do(store, accounts.revoke_key, stranger, RevokeKey(id=key.id))
        assert store.database.read(accounts.list_keys, stranger, ListKeys()).items == []
    identify(store, key.secret)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_lists_of_accounts_come_in_pages(store: Store, owner: Actor, limit: int) -> None:
    for number in range(3):
        make_key(store, owner, f"user {number}")
        do(store, accounts.create_workspace, owner, CreateWorkspace(name=f"w{number}"))
    for operation, kind, count in (
        (accounts.list_keys, ListKeys, 3),
        (accounts.list_members, ListMembers, 4),
        (accounts.list_workspaces, ListWorkspaces, 4),
    ):
        found: list[str] = []
        cursor = None
        while True:
            page = store.database.read(operation, owner, kind(limit=limit, cursor=cursor))  # type: ignore[arg-type]
            found += [one.id for one in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert len(set(found)) == len(found) == count
        assert found == sorted(found, reverse=True)


# --- requests that are sent twice ---------------------------------------------------------------------------------------


def test_the_same_request_under_one_key_is_done_once_and_answered_twice(store: Store, owner: Actor) -> None:
    ask = once(projects.create, "key-1", "fingerprint")
    first = do(store, ask, owner, CreateProject(name="p"))
    assert do(store, ask, owner, CreateProject(name="p")) == first
    assert msgspec.json.decode(first, type=Project).name == "p"
    with pytest.raises(AlreadyExists):
        do(store, once(projects.create, "key-2", "fingerprint"), owner, CreateProject(name="p"))
    with pytest.raises(Invalid, match="another request"):
        do(store, once(projects.create, "key-1", "other"), owner, CreateProject(name="q"))
    with pytest.raises(Invalid, match="255"):
        once(projects.create, "k" * 256, "f")


def test_a_request_that_failed_may_be_sent_again(store: Store, owner: Actor) -> None:
    project = do(store, projects.create, owner, CreateProject(name="p"))
    ask = once(projects.create, "key", "f")
    with pytest.raises(AlreadyExists):
        do(store, ask, owner, CreateProject(name="p"))
    do(store, projects.update, owner, UpdateProject(id=project.id, name="q"))
    assert msgspec.json.decode(do(store, ask, owner, CreateProject(name="p")), type=Project).id != project.id


def test_idempotency_keys_are_each_users_own(store: Store, owner: Actor) -> None:
    ask = once(projects.create, "key", "f")
    do(store, ask, owner, CreateProject(name="p"))
    with pytest.raises(AlreadyExists):
        do(store, ask, make_actor(store.database), CreateProject(name="p"))


def test_the_secret_of_a_new_key_is_never_stored_as_an_answer(store: Store, owner: Actor) -> None:
    ask = once(accounts.create_key, "key", "f")
    first, second = (msgspec.json.decode(do(store, ask, owner, CreateKey(user="ann"))) for _ in range(2))
    assert first["secret"] != second["secret"]

    def answers(tx: Tx, _actor: Actor, _command: None) -> int:
        return len(tx.execute(select(t.idempotency_keys)).all())

    assert store.database.read(answers, owner, None) == 0


def test_a_time_beyond_the_calendar_is_refused_and_lists_go_on(store: Store, owner: Actor) -> None:
    far = datetime.fromisoformat("9999-12-31T23:59:59-23:59")
    with pytest.raises(Invalid, match="out of range"):
        store.database.write(accounts.create_key, owner, CreateKey(user="far", expires_at=far))
    assert store.database.read(accounts.list_keys, owner, ListKeys()).items == []
