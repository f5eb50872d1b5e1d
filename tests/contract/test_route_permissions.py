"""Who may call what: every route of the native API with every role, without a valid key, and as another tenant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pytest

from labkeep.api.routes import PREFIX
from labkeep.core.access import AGENT_DENIED, PERMISSIONS, RANK
from labkeep.core.lifecycle import Role
from tests.contract.native_api import ROUTES, SAMPLES, Api, Ask, Row, Sample, World, good_request, label, opened

EVERY_ROUTE = pytest.mark.parametrize("route", ROUTES, ids=label)

UNKNOWN = "lk-" + "0" * 43


class Tenants(NamedTuple):
    """An organization with something in it, a key of another one, and a key that was revoked."""

    api: Api
    world: World
    stranger: str
    revoked: str


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with opened(tmp_path_factory.mktemp("permissions")) as api:
        world = api.world("quiet heron")
        api.ok("POST", "/workspaces", name="elsewhere", organization="neighbours")
        stranger = api.key_for("stranger", "owner", workspace="elsewhere")["secret"]
        former = api.key_for("former", "owner")
        assert api.send(Ask("GET", f"{PREFIX}/me"), former["secret"]).status == 200
        api.ok("DELETE", f"/keys/{former['id']}")
        yield Tenants(api, world, stranger, former["secret"])


def test_every_route_has_a_row_in_the_table() -> None:
    assert {route.name for route in ROUTES} == SAMPLES.keys()
    assert {sample.needs for sample in SAMPLES.values() if sample.needs} <= PERMISSIONS.keys()


@EVERY_ROUTE
def test_without_a_valid_key_there_is_nothing(tenants: Tenants, route: Row) -> None:
    ask = good_request(route, tenants.world)
    for key in (None, "", UNKNOWN, "not a key", tenants.revoked):
        answer = tenants.api.send(ask, key)
        assert answer.status == 401, key
        if route.method != "HEAD":
            assert msgspec.json.decode(answer.body)["code"] == "unauthenticated"


@EVERY_ROUTE
def test_another_tenant_sees_nothing_of_ours(tenants: Tenants, route: Row) -> None:
    """What names an object of ours does not find it; what names none shows none."""
    answer = tenants.api.send(good_request(route, tenants.world), tenants.stranger)
    assert answer.status < 500
    assert not any(secret.encode() in answer.body for secret in ("quiet heron", "this world", "hello"))
    if "$" in str(SAMPLES[route.name].values):
        found = msgspec.json.decode(answer.body)
        assert (answer.status == 404 and found["code"] == "not_found") or found.get("items") == []
    elif route.name == "blobs_head":  # it names bytes that we have
        assert answer.status == 404
    elif answer.status < 300:
        assert not any(ours.encode() in answer.body for ours in tenants.world.values())


def may(role: Role, agent: bool, sample: Sample) -> bool:
    """What the table of permissions says. No key of these tests is the administrator's."""
    needs = sample.needs
    if sample.server:
        return False
    if needs is None:
        return True
    return RANK[role] >= RANK[PERMISSIONS[needs]] and not (agent and needs in AGENT_DENIED)


@pytest.mark.parametrize("agent", [False, True], ids=["person", "agent"])
@pytest.mark.parametrize("role", Role)
def test_a_role_may_do_what_the_table_says_and_no_more(tenants: Tenants, role: Role, agent: bool) -> None:
    name = f"{role} {'agent' if agent else 'person'}"
    world, key = tenants.api.world(name), tenants.api.key_for(name, role, agent=agent)["secret"]
    allowed = [route for route in ROUTES if may(role, agent, SAMPLES[route.name])]
    refused = [route for route in ROUTES if route not in allowed]
    for route in refused:  # before the others: these change nothing
        answer = tenants.api.send(good_request(route, world), key)
        assert answer.status == 403, (label(route), answer)
        assert msgspec.json.decode(answer.body)["code"] == "forbidden"
    for route in allowed:
        answer = tenants.api.send(good_request(route, world), key)
        # It got as far as the object: what was done before may be in the way, a missing permission is not.
        assert answer.status in (200, 201, 409, 410), (label(route), answer)
