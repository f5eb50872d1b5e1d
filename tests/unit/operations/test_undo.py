"""Plans that are kept and compared, what they say in full, the way back of every verb, and the trash in any order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    AttachFile,
    BindEnvironment,
    CreateDocument,
    CreateLink,
    Get,
    ItemVerb,
    ListTrash,
    MakePlan,
    Outcome,
    Plan,
    RestoreDeletion,
    Selection,
    UpdateRun,
)
from labkeep.core.commands_plans import DiffPlans, ListPlans, Undo
from labkeep.core.entities import Item, Project
from labkeep.core.errors import AlreadyExists, Illegal, Invalid, NotFound, Stale
from labkeep.core.lifecycle import State
from labkeep.operations import Store, deletions, documents, environments, files, runs, undoing
from labkeep.storage import records
from labkeep.storage.database_postgres import Postgres
from labkeep.testing.factories import FixedClock, make_actor, make_document, make_project, make_run, make_store


class Lab(NamedTuple):
    """A store with an owner and a project."""

    store: Store
    clock: FixedClock
    owner: Actor
    project: Project

    def do(self, operation: Any, command: Any, actor: Actor | None = None) -> Any:
        self.clock.advance(seconds=1)
        return self.store.database.write(operation, actor or self.owner, command)

    def run(self, **fields: Any) -> str:
        return make_run(self.store.database, self.owner, self.project, **{"status": "finished", **fields}).id

    def plan(self, *ids: str, verb: str = "trash", **more: Any) -> Plan:
        selection = Selection(ids=list(ids)) if ids else Selection(**more.pop("selection"))
        found: Plan = self.do(deletions.make_plan, MakePlan(verb=verb, selection=selection, **more))
        return found

    def apply(self, verb: str, *ids: str, **more: Any) -> Outcome:
        found: Outcome = self.do(deletions.apply, Apply(verb=verb, selection=Selection(ids=list(ids)), **more))
        return found

    def undo(self, outcome: Outcome) -> Outcome:
        assert outcome.undo is not None
        found: Outcome = self.do(undoing.undo, Undo(token=outcome.undo))
        return found

    def states(self, *ids: str) -> list[str]:
        def look(tx: Any, actor: Actor, _: None) -> list[str]:
            return [str(records.get(tx, Item, actor, id, states=tuple(State)).state) for id in ids]

        found: list[str] = self.do(look, None)
        return found

    def file(self, id: str, content: bytes) -> None:
        with files.begin(self.store, self.owner) as upload:
            upload.write(content)
            stored = upload.finish()
        files.keep(self.store, self.owner, stored)
        self.do(files.attach, AttachFile(id=id, path="a", digest=stored.digest, size=len(content)))


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    clock = FixedClock()
    with make_store(tmp_path, clock) as store:
        if request.param == "postgresql":
            postgres = Postgres(request.getfixturevalue("postgres_url"), readers=2, clock=clock)
            store = store._replace(database=postgres)
        owner = make_actor(store.database)
        yield Lab(store, clock, owner, make_project(store.database, owner, name="p"))
        if request.param == "postgresql":
            store.database.close()


# --- the way back -------------------------------------------------------------------------------------------------------


def test_every_verb_but_purge_can_be_taken_back_by_its_token(lab: Lab) -> None:
    ids = [lab.run(), lab.run()]
    archived = lab.apply("archive", *ids)
    assert lab.undo(archived).counts == {"run": 2}
    assert lab.states(*ids) == ["active", "active"]
    unarchived = lab.apply("unarchive", *ids) if lab.apply("archive", *ids) else None
    assert unarchived is not None
    assert lab.undo(unarchived).counts == {"run": 2}
    assert lab.states(*ids) == ["archived", "archived"]
    trashed = lab.apply("trash", *ids)
    restored = lab.undo(trashed)
    assert lab.states(*ids) == ["archived", "archived"]
    again = lab.undo(restored)
    assert lab.states(*ids) == ["trashed", "trashed"]
    assert lab.undo(again).counts == {"run": 2}
    lab.apply("trash", *ids)
    assert lab.apply("purge", *ids).undo is None


def test_taking_back_leaves_alone_what_was_changed_since(lab: Lab) -> None:
    first, second = lab.run(), lab.run()
    lab.apply("archive", first, second)
    done = lab.apply("unarchive", first, second)
    lab.do(runs.update, UpdateRun(id=first, notes="still needed"))
    assert lab.undo(done).counts == {"run": 1}
    assert lab.states(first, second) == ["active", "archived"]
    assert lab.undo(done) == Outcome(verb="archive", counts={}, already=2)


def test_what_nothing_changed_has_no_way_back(lab: Lab) -> None:
    assert lab.apply("unarchive", lab.run()).undo is None


@pytest.mark.parametrize("token", ["x", "AAAA", "WyJwdXJnZSIsMSwxXQ", "WyJhcmNoaXZlIiwtMSwxXQ", "é" * 10])
def test_a_token_that_nobody_gave_is_refused(lab: Lab, token: str) -> None:
    with pytest.raises(Invalid, match="token"):
        lab.do(undoing.undo, Undo(token=token))


# --- what a plan says ---------------------------------------------------------------------------------------------------


def test_a_plan_tells_what_comes_only_with_something_else(lab: Lab) -> None:
    run = lab.run()
    other = make_document(lab.store.database, lab.owner)
    lab.do(environments.link, CreateLink(source_id=other.id, target_id=run, type="made of", on_delete="cascade"))  # type: ignore[arg-type]
    plan = lab.plan(lab.project.id)
    assert plan.counts == {"project": 1, "run": 1, "document": 1}
    assert plan.cascades == {"contained": {"run": 1}, "linked": {"document": 1}}
    assert lab.plan(run).cascades == {"linked": {"document": 1}}


def test_a_plan_counts_bytes_by_kind_and_shared_content_once(lab: Lab) -> None:
    document = make_document(lab.store.database, lab.owner, lab.project)
    first, second = lab.run(), lab.run()
    for id in (first, second, document.id):
        lab.file(id, b"the same bytes")
    lab.file(first, b"its own")
    plan = lab.plan(first, second)
    assert plan.bytes_by_kind == {"run": 7 + 14}
    assert plan.freed_by_kind == {"run": 7}
    whole = lab.plan(first, second, document.id)
    assert sum(whole.freed_by_kind.values()) == whole.freed_bytes == 7 + 14


def test_plans_are_listed_shown_and_compared(lab: Lab) -> None:
    one, two = lab.run(name="one", handle="one"), lab.run(name="two", handle="two")
    before = lab.plan(one)
    after = lab.plan(one, two)
    assert [plan.id for plan in lab.do(deletions.list_plans, ListPlans()).items] == [after.id, before.id]
    page = lab.do(deletions.list_plans, ListPlans(limit=1))
    assert [plan.id for plan in lab.do(deletions.list_plans, ListPlans(limit=1, cursor=page.next)).items] == [before.id]
    assert lab.do(deletions.get_plan, Get(id=before.id)) == before
    found = lab.do(deletions.diff_plans, DiffPlans(id=before.id, other=after.id))
    assert (found.same, found.names_added, found.names_gone) == (False, ["two"], [])
    assert (found.counts["run"].before, found.counts["run"].after) == (1, 2)
    assert lab.do(deletions.diff_plans, DiffPlans(id=before.id, other=before.id)).same
    with pytest.raises(NotFound):
        lab.do(deletions.get_plan, Get(id=lab.owner.key_id))
    stranger = make_actor(lab.store.database, organization="neighbours")
    with pytest.raises(NotFound):
        lab.do(deletions.get_plan, Get(id=before.id), stranger)


def test_stale_says_what_moved(lab: Lab) -> None:
    lab.run()
    selection = Selection(project="p")
    plan = lab.do(deletions.make_plan, MakePlan(selection=selection))
    lab.run()
    with pytest.raises(Stale, match="run: 1 → 2") as refused:
        lab.do(deletions.apply, Apply(selection=selection, plan_hash=plan.hash))
    assert refused.value.details["difference"]["counts"] == {"run": {"before": 1, "after": 2}}
    assert refused.value.details["plan"]["counts"] == {"run": 2}


def test_a_plan_to_restore_shows_names_and_slots_that_are_taken(lab: Lab) -> None:
    asked = CreateDocument(project="p", type="prompt", name="greeting", body={"a": 1})
    first = lab.do(documents.create, asked)
    lab.do(environments.bind, BindEnvironment(project="p", name="production", document_id=first.id))
    deletion = lab.apply("trash", first.id, force=True)
    second = lab.do(documents.create, asked)
    environment = lab.do(environments.bind, BindEnvironment(project="p", name="production", document_id=second.id))
    for plan in (
        lab.plan(first.id, verb="restore"),
        lab.plan(verb="restore", selection={"deletion_id": deletion.deletion_id}),
    ):
        (name,), (slot,) = plan.names_taken, plan.slots_taken
        assert (name["id"], name["name"], name["taken_by"]) == (first.id, "greeting", second.id)
        assert (slot["id"], slot["taken_by"]) == (environment.id, second.id)
    taken = lab.plan(first.id, verb="restore").names_taken[0]["suggestion"]
    lab.do(documents.create, CreateDocument(project="p", type="prompt", name=taken, body={"a": 1}))
    free = lab.plan(first.id, verb="restore").names_taken[0]["suggestion"]
    assert free != taken
    back = lab.do(deletions.restore, RestoreDeletion(id=deletion.deletion_id, names={first.id: free}))
    assert [entry["id"] for entry in back.not_rebound] == [environment.id]


def test_two_members_do_not_come_back_under_one_name(lab: Lab) -> None:
    ids = [lab.run(name=name, handle=name) for name in ("one", "two")]
    deletion = lab.apply("trash", *ids).deletion_id
    for names in (dict.fromkeys(ids, "same"), {ids[0]: "two"}):
        with pytest.raises(Invalid, match="give each a name of its own"):
            lab.do(deletions.restore, RestoreDeletion(id=deletion, names=names))
    lab.run(name="other", handle="other")
    with pytest.raises(AlreadyExists):
        lab.do(deletions.restore, RestoreDeletion(id=deletion, names={ids[0]: "other"}))
    assert lab.do(deletions.restore, RestoreDeletion(id=deletion)).counts == {"run": 2}


def test_an_experiment_whose_run_is_going_on_names_it_or_stops_it(lab: Lab) -> None:
    document = make_document(lab.store.database, lab.owner, lab.project, type="experiment")
    run = lab.run(name="night shift", status="running", document_id=document.id)
    with pytest.raises(Illegal, match="is being executed by run night shift"):
        lab.apply("trash", document.id)
    assert lab.plan(document.id, on_running="stop").stops == 1
    lab.apply("trash", document.id, on_running="stop")
    assert lab.do(runs.get, Get(id=run)).status == "stopped"


def test_an_experiment_that_goes_with_its_running_run_is_blocked_once(lab: Lab) -> None:
    document = make_document(lab.store.database, lab.owner, lab.project, type="experiment")
    lab.run(status="running", document_id=document.id)
    plan = lab.plan(lab.project.id)
    assert [blocker.kind for blocker in plan.blockers] == ["run"]


# --- the trash ----------------------------------------------------------------------------------------------------------


def test_the_trash_is_sorted_as_asked_in_pages(lab: Lab) -> None:
    small, large, middle = (lab.run(name=name) for name in ("small", "large", "middle"))
    for id, size in ((small, 1), (large, 30), (middle, 2)):
        lab.file(id, b"x" * size)
        lab.apply("trash", id, reason="why not", ticket="OPS-1")
    orders = {
        "newest": ["middle", "large", "small"],
        "oldest": ["small", "large", "middle"],
        "largest": ["large", "middle", "small"],
        "due": ["small", "large", "middle"],
    }
    for order, wanted in orders.items():
        seen, cursor = [], None
        while True:
            page = lab.do(deletions.trash_list, ListTrash(order=order, limit=2, cursor=cursor))
            seen += [item.name for item in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert seen == wanted, order
    first = lab.do(deletions.trash_list, ListTrash()).items[0]
    assert (first.reason, first.ticket, first.days_left, first.trashed_by) == ("why not", "OPS-1", 30, lab.owner.name)
    with pytest.raises(Invalid, match="order is one of"):
        lab.do(deletions.trash_list, ListTrash(order="loudest"))


def test_the_trash_of_a_project_that_is_in_the_trash_is_listed_by_its_id(lab: Lab) -> None:
    run = lab.run()
    lab.do(deletions.trash_item, ItemVerb(id=lab.project.id))
    assert [item.id for item in lab.do(deletions.trash_list, ListTrash(project=lab.project.id)).items] == [run]
