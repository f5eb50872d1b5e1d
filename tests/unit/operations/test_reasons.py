"""Reasons and tickets: asked for by rules of three levels, given in the request or in its headers, kept in the record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    CreateProject,
    Get,
    ItemVerb,
    ListAudit,
    PurgeDeletion,
    RestoreDeletion,
    Selection,
    UpdateProject,
)
from labkeep.core.commands_rules import GetRules, SetRules
from labkeep.core.deletion import Origin
from labkeep.core.entities import Project
from labkeep.core.errors import Forbidden, Invalid
from labkeep.core.lifecycle import Kind
from labkeep.operations import Store, audits, deletions, projects, resources, rules
from labkeep.testing.factories import FixedClock, make_actor, make_project, make_run, make_store


class Lab(NamedTuple):
    """A store with an owner and a project."""

    store: Store
    owner: Actor
    project: Project

    def do(self, operation: Any, command: Any, actor: Actor | None = None) -> Any:
        return self.store.database.write(operation, actor or self.owner, command)

    def run(self) -> str:
        return make_run(self.store.database, self.owner, self.project, status="finished").id


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with make_store(tmp_path, FixedClock()) as store:
        owner = make_actor(store.database)
        yield Lab(store, owner, make_project(store.database, owner))


LEVELS = ("organization", "workspace", "project")


def ask_for(lab: Lab, level: str, **wanted: Any) -> None:
    if level == "project":
        lab.do(projects.update, UpdateProject(id=lab.project.id, settings=wanted))
    else:
        operation = rules.set_workspace if level == "workspace" else rules.set_organization
        lab.do(operation, SetRules(rules=wanted))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("word", ["reason", "ticket"])
def test_nothing_is_removed_without_what_a_level_asks_for(lab: Lab, level: str, word: str) -> None:
    run, other = lab.run(), lab.run()
    ask_for(lab, level, **{f"require_{word}": True})
    given: dict[str, Any] = {word: "OPS-17"}
    for bare in ({}, {word: "  "}):
        with pytest.raises(Invalid, match=f"needs a {word}.*Labkeep-{word.title()}"):
            lab.do(deletions.trash_item, ItemVerb(id=run, **bare))
    deletion = lab.do(deletions.trash_item, ItemVerb(id=run, **given)).deletion_id
    assert getattr(lab.do(deletions.get, Get(id=deletion)), word) == "OPS-17"
    with pytest.raises(Invalid):
        lab.do(deletions.purge, PurgeDeletion(id=deletion))
    with pytest.raises(Invalid):
        lab.do(deletions.purge_item, ItemVerb(id=run))
    lab.do(deletions.purge, PurgeDeletion(id=deletion, **given))
    (asked,) = lab.do(audits.list_, ListAudit(event="run.purge_requested")).items
    assert getattr(asked, word) == "OPS-17"
    lab.do(deletions.archive_item, ItemVerb(id=other))
    lab.do(deletions.unarchive_item, ItemVerb(id=other))


def test_headers_say_it_for_whoever_cannot_say_it_otherwise(lab: Lab) -> None:
    run = lab.run()
    ask_for(lab, "workspace", require_reason=True, require_ticket=True)
    with pytest.raises(Invalid, match="Labkeep-Reason"):
        lab.do(resources.remove, resources.Remove(id=run, kind=Kind.run))
    saying = msgspec.structs.replace(lab.owner, reason="wrong data", ticket="OPS-1")
    removed = lab.do(resources.remove, resources.Remove(id=run, kind=Kind.run), saying)
    found = lab.do(deletions.get, Get(id=removed.deletion_id))
    assert (found.reason, found.ticket) == ("wrong data", "OPS-1")
    (event,) = lab.do(audits.list_, ListAudit(event="run.trashed")).items
    assert (event.reason, event.ticket) == ("wrong data", "OPS-1")


def test_the_request_wins_over_its_headers(lab: Lab) -> None:
    saying = msgspec.structs.replace(lab.owner, reason="header")
    deletion = lab.do(deletions.trash_item, ItemVerb(id=lab.run(), reason="body"), saying).deletion_id
    assert lab.do(deletions.get, Get(id=deletion)).reason == "body"


def test_a_selection_over_projects_needs_what_the_strictest_asks_for(lab: Lab) -> None:
    ask_for(lab, "project", require_reason=True)
    free = make_run(lab.store.database, lab.owner, status="finished").id
    with pytest.raises(Invalid):
        lab.do(deletions.apply, Apply(selection=Selection(ids=[free, lab.run()])))
    assert lab.do(deletions.apply, Apply(selection=Selection(ids=[free]))).counts == {"run": 1}


def test_restoring_needs_no_reason(lab: Lab) -> None:
    deletion = lab.do(deletions.trash_item, ItemVerb(id=lab.run())).deletion_id
    ask_for(lab, "project", require_reason=True)
    assert lab.do(deletions.restore, RestoreDeletion(id=deletion)).counts == {"run": 1}


def test_a_policy_is_its_own_reason(lab: Lab) -> None:
    ask_for(lab, "project", require_ticket=True)
    run = lab.run()

    def by_policy(tx: Any, actor: Actor, _: None) -> None:
        deletions.apply(tx, actor, Apply(selection=Selection(ids=[run])), asker=Origin.retention)

    lab.do(by_policy, None)


# --- the rules themselves -----------------------------------------------------------------------------------------------


def test_an_inner_level_cannot_take_back_what_an_outer_one_asks_for(lab: Lab) -> None:
    ask_for(lab, "organization", require_reason=True, minimum_keep_days=90)
    ask_for(lab, "workspace", require_reason=False, minimum_keep_days=10)
    ask_for(lab, "project", require_reason=False, minimum_keep_days=0)
    found = lab.do(rules.get, GetRules(project=lab.project.name))
    assert (found.effective.require_reason, found.effective.minimum_keep_days) == (True, 90)
    assert (found.workspace.minimum_keep_days, found.effective.grace_days) == (10, 30)


def test_a_rule_is_taken_back_with_null_and_each_change_is_on_record(lab: Lab) -> None:
    ask_for(lab, "workspace", require_reason=True, grace_days=3)
    ask_for(lab, "workspace", grace_days=None)
    found = lab.do(rules.get, GetRules())
    assert (found.workspace.grace_days, found.workspace.require_reason) == (None, True)
    events = lab.do(audits.list_, ListAudit(event="rules.changed")).items
    assert [event.details["rules"] for event in events] == [
        {"grace_days": None},
        {"grace_days": 3, "require_reason": True},
    ]
    ask_for(lab, "workspace", grace_days=None)
    assert len(lab.do(audits.list_, ListAudit(event="rules.changed")).items) == 2


@pytest.mark.parametrize("wrong", [{"grace_days": -1}, {"unheard_of": 1}, {"require_reason": "yes"}])
def test_rules_that_make_no_sense_are_refused(lab: Lab, wrong: dict[str, Any]) -> None:
    for level in LEVELS[:2]:
        with pytest.raises(Invalid):
            ask_for(lab, level, **wrong)


def test_who_may_change_rules(lab: Lab) -> None:
    for role, workspace, organization in (
        ("editor", False, False),
        ("maintainer", True, False),
        ("owner", True, True),
    ):
        someone = make_actor(lab.store.database, role)
        for may, operation in ((workspace, rules.set_workspace), (organization, rules.set_organization)):
            if may:
                lab.do(operation, SetRules(rules={"grace_days": 9}), someone)
            else:
                with pytest.raises(Forbidden):
                    lab.do(operation, SetRules(rules={"grace_days": 9}), someone)
    agent = make_actor(lab.store.database, "owner", agent=True)
    with pytest.raises(Forbidden):
        lab.do(rules.set_workspace, SetRules(rules={}), agent)
    with pytest.raises(Forbidden):
        lab.do(projects.create, CreateProject(name="p", settings={"grace_days": 1}), agent)
