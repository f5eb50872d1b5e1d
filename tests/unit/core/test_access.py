"""What agents may not do, beside what the table of roles says."""

from __future__ import annotations

import pytest

from labkeep.core.access import AGENT_DENIED, PERMISSIONS, Actor, allows, require
from labkeep.core.errors import Forbidden
from labkeep.core.lifecycle import Kind, Role


def actor(role: Role, *, agent: bool = False) -> Actor:
    return Actor("o", "w", "ann", role, "k", agent)


def test_records_name_an_agent_as_one() -> None:
    assert (actor(Role.owner).name, actor(Role.owner, agent=True).name) == ("ann", "ann (agent)")


def test_an_agent_has_all_of_its_role_but_what_no_agent_has() -> None:
    for role in Role:
        has = {permission for permission in PERMISSIONS if allows(actor(role), permission)}
        assert {p for p in PERMISSIONS if allows(actor(role, agent=True), p)} == has - AGENT_DENIED


@pytest.mark.parametrize("permission", [*(f"{kind}.purge" for kind in Kind), "key.write", "member.write"])
def test_no_agent_removes_for_good_nor_gets_a_key_that_could(permission: str) -> None:
    with pytest.raises(Forbidden, match="agent keys never have it"):
        require(actor(Role.owner, agent=True), permission)


def test_whatever_agents_are_denied_exists() -> None:
    assert set(PERMISSIONS) >= AGENT_DENIED
