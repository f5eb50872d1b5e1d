"""The tables of the lifecycle: states, verbs, permissions, and the rules by which a plan is made."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import msgspec
import pytest

from labkeep.core.access import PERMISSIONS, Actor, allows, require
from labkeep.core.deletion import FROM, Candidate, Dependent, Options, Planner, blocker, event_of, parse_options
from labkeep.core.errors import Forbidden, Illegal, Invalid
from labkeep.core.lifecycle import TRANSITIONS, Kind, Role, State, Verb, legal_verbs, parse_state, transition

NOW = datetime(2026, 3, 1, tzinfo=UTC)

LEGAL = {
    State.active: {Verb.archive: State.archived, Verb.trash: State.trashed},
    State.archived: {Verb.unarchive: State.active, Verb.trash: State.trashed},
    State.trashed: {Verb.restore: State.active, Verb.purge: State.purged},
    State.purged: {},
}
"""The lifecycle, written down once more: state, verb, state after it."""

EVERYBODY = {"read"}
EDITORS = EVERYBODY | {"write", "archive", "trash", "restore", "lock"}
MAINTAINERS = EDITORS | {"purge"}
ALLOWED = {Role.viewer: EVERYBODY, Role.editor: EDITORS, Role.maintainer: MAINTAINERS, Role.owner: MAINTAINERS}
"""What each role may do with a kind, but for projects."""


def actor(role: Role, *, agent: bool = False) -> Actor:
    return Actor("organization", "workspace", "user", role, "key", agent=agent)


def candidate(**fields: Any) -> Candidate:
    own = {"id": "1", "kind": Kind.run, "type": "", "name": "r", "handle": None, "state": State.active}
    return Candidate(**(own | {"version": 1, "bytes": 0} | fields))


def planned(*candidates: Candidate, verb: Verb = Verb.trash, **options: bool) -> Planner:
    planner = Planner(verb, Options(**options))
    for one in candidates:
        planner.take([one])
    return planner


# --- states and verbs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "verb"), [*product(State, Verb)])
def test_a_verb_leads_where_the_table_says_or_is_refused_with_what_is_legal(state: State, verb: Verb) -> None:
    after = LEGAL[state].get(verb)
    assert TRANSITIONS.get((state, verb)) == after
    assert (state in FROM[verb]) == (after is not None)
    if after is not None:
        assert transition(Kind.run, "r", state, verb) == after
        return
    with pytest.raises(Illegal, match="run r cannot be") as caught:
        transition(Kind.run, "r", state, verb)
    assert caught.value.details["legal"] == [str(one) for one in legal_verbs(state)]


def test_nothing_leads_out_of_the_purged_state() -> None:
    assert legal_verbs(State.purged) == ()
    with pytest.raises(Illegal, match="nothing can be done"):
        transition(Kind.document, "d", State.purged, Verb.restore)


def test_only_what_is_in_the_trash_is_ever_purged() -> None:
    assert [state for (state, verb), after in TRANSITIONS.items() if State.purged == after] == [State.trashed]


def test_a_word_that_is_no_state_is_refused_with_the_list() -> None:
    assert parse_state("trashed") == State.trashed
    with pytest.raises(Invalid, match="active, archived, trashed, purged"):
        parse_state("deleted")


def test_events_are_named_by_kind_and_participle() -> None:
    assert [event_of("run", verb) for verb in Verb] == [
        "run.archived",
        "run.unarchived",
        "run.trashed",
        "run.restored",
        "run.purged",
    ]


# --- permissions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "kind"), [*product(Role, Kind)])
def test_each_role_has_the_verbs_of_its_rank(role: Role, kind: Kind) -> None:
    allowed = set(ALLOWED[role])
    if kind == Kind.project:  # losing the container of all else takes one rank more
        allowed -= {"trash"} if role == Role.editor else {"purge"} if role == Role.maintainer else set()
    assert {verb for verb in MAINTAINERS if allows(actor(role), f"{kind}.{verb}")} == allowed
    assert {verb for verb in MAINTAINERS if allows(actor(role, agent=True), f"{kind}.{verb}")} == allowed - {"purge"}


@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
def test_a_permission_of_a_role_is_one_of_every_higher_role(permission: str) -> None:
    has = [allows(actor(role), permission) for role in Role]
    assert has == sorted(has)
    assert has[-1], "the owner has every permission"


def test_who_lacks_a_permission_is_told_which_and_who_has_it() -> None:
    with pytest.raises(
        Forbidden, match=r"user \(viewer\) lacks project\.trash; it needs the role maintainer"
    ) as caught:
        require(actor(Role.viewer), "project.trash")
    assert caught.value.details == {"permission": "project.trash", "role": "viewer", "needs": "maintainer"}
    with pytest.raises(Forbidden, match="agent keys never have it"):
        require(actor(Role.owner, agent=True), "run.purge")


def test_an_unknown_permission_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        allows(actor(Role.owner), "run.explode")


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"state": State.archived},
        {"status": "finished"},
        {"id": "2"},
        {"dependents": (Dependent("link", "9", "uses of x"),)},
    ],
)
def test_whatever_changes_a_candidate_changes_the_hash(change: dict[str, Any]) -> None:
    before = candidate()
    assert planned(before).hash == planned(candidate()).hash
    assert planned(before).hash != planned(msgspec.structs.replace(before, **change)).hash


def test_other_wishes_give_another_hash() -> None:
    one = candidate()
    hashes = [planned(one, stop_running=stop, force=force).hash for stop in (False, True) for force in (False, True)]
    assert len({*hashes, planned(one, verb=Verb.archive).hash}) == 5


def test_a_plan_counts_all_and_shows_the_first_hundred() -> None:
    many = [candidate(id=f"{n}", name=f"n{n}", handle=f"n{n}", bytes=2, locked=n >= 150) for n in range(300)]
    plan = planned(*many).plan("p", NOW, freed={}, restorable_until=None)
    assert (plan.counts, plan.bytes, plan.blocked) == ({"run": 150}, 300, 150)
    assert (len(plan.names_freed), len(plan.blockers)) == (100, 100)


@pytest.mark.parametrize(
    ("fields", "override"),
    [
        ({"locked": True}, ""),
        ({"status": "running"}, "on_running=stop"),
        ({"status": "queued"}, "on_running=stop"),
        ({"kind": Kind.document, "status": "running"}, "on_running=stop"),
        ({"dependents": (Dependent("environment", "9", "production"),)}, "force"),
    ],
)
def test_a_blocker_says_what_overrides_it_and_concerns_only_the_trash(fields: dict[str, Any], override: str) -> None:
    one = candidate(**fields)
    found = blocker(Verb.trash, one, Options())
    assert found is not None
    assert (found.id, found.override) == ("1", override)
    lifted = blocker(Verb.trash, one, Options(stop_running=True, force=True))
    assert (lifted is None) == bool(override), "a lock is lifted by nothing but unlocking"
    for verb in set(Verb) - {Verb.trash}:
        assert blocker(verb, one, Options()) is None


def test_what_does_not_restrict_is_unbound_without_being_asked_for() -> None:
    planner = planned(candidate(dependents=(Dependent("link", "9", "uses of x", restricts=False),)))
    assert (planner.blocked, planner.counts) == (0, {"run": 1})
    assert planner.unbinds == [{"type": "link", "id": "9", "name": "uses of x", "item_id": "1"}]


def test_a_blocker_names_five_dependents_and_counts_the_rest() -> None:
    found = blocker(
        Verb.trash, candidate(dependents=tuple(Dependent("link", f"{n}", f"l{n}") for n in range(7))), Options()
    )
    assert found is not None
    assert "link l4 and 2 more" in found.reason


def test_options_are_read_from_their_words() -> None:
    assert parse_options("stop", True) == Options(stop_running=True, force=True)
    assert parse_options("refuse", False) == Options()
    with pytest.raises(Invalid, match="refuse or stop"):
        parse_options("kill", False)
