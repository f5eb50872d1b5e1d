"""The verbs: what a plan says, what applying does, what stands in the way, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest
from sqlalchemy import update

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    BindEnvironment,
    CreateArtifactVersion,
    CreateDocument,
    CreateLink,
    CreateProject,
    CreateRun,
    Get,
    GetEnvironment,
    ItemVerb,
    ListDeletions,
    ListLinks,
    ListMembersOf,
    ListProjects,
    ListRuns,
    ListTrash,
    MakePlan,
    Nothing,
    Outcome,
    Plan,
    PurgeDeletion,
    RestoreDeletion,
    Selection,
    SetAliases,
    SetLock,
    UpdateProject,
    UpdateRun,
)
from labkeep.core.entities import KIND_ENTITY, Artifact, Deletion, Document, Item, Project, Run
from labkeep.core.errors import AlreadyExists, Forbidden, Gone, Held, Illegal, InUse, Invalid, NotFound, Stale
from labkeep.core.lifecycle import Kind, OnDelete, State, Status, Verb
from labkeep.operations import Store, artifacts, audits, deletions, documents, environments, projects, runs
from labkeep.server import make_worker
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_document, make_project, make_run, make_store

T = TypeVar("T")
VERBS = {
    Verb.archive: deletions.archive_item,
    Verb.unarchive: deletions.unarchive_item,
    Verb.trash: deletions.trash_item,
    Verb.restore: deletions.restore_item,
    Verb.purge: deletions.purge_item,
}


class Lab(NamedTuple):
    """A store, its clock and an owner, with the deeds of these tests in short."""

    store: Store
    clock: FixedClock
    actor: Actor

    def do(self, operation: Callable[[Tx, Actor, Any], T], command: Any, actor: Actor | None = None) -> T:
        self.clock.advance(seconds=1)
        return self.store.database.write(operation, actor or self.actor, command)

    def verb(self, verb: Verb | str, item: Item | str, **more: Any) -> Outcome:
        id = item if isinstance(item, str) else item.id
        return self.do(VERBS[Verb(verb)], ItemVerb(id=id, **more))

    def trash(self, *items: Item, **more: Any) -> Outcome:
        return self.do(deletions.apply, Apply(selection=Selection(ids=[item.id for item in items]), **more))

    def restore(self, deletion_id: str | None, **more: Any) -> Outcome:
        assert deletion_id is not None
        return self.do(deletions.restore, RestoreDeletion(id=deletion_id, **more))

    def plan(self, *items: Item, verb: str = "trash", **more: Any) -> Plan:
        return self.do(deletions.make_plan, MakePlan(verb=verb, selection=Selection(ids=[i.id for i in items]), **more))

    def deletion(self, outcome: Outcome) -> Deletion:
        assert outcome.deletion_id is not None
        return self.do(deletions.get, Get(id=outcome.deletion_id))

    def item(self, item: Item) -> Item:
        return self.do(lambda tx, actor, _: records.get(tx, Item, actor, item.id, states=tuple(State)), None)

    def state(self, item: Item) -> State:
        return self.item(item).state

    def run(self, project: Project | None = None, **fields: Any) -> Run:
        return make_run(self.store.database, self.actor, project, **({"status": Status.finished} | fields))

    def project(self, name: str = "", **fields: Any) -> Project:
        return make_project(self.store.database, self.actor, name, **fields)

    def document(self, project: Project, name: str, **more: Any) -> Document:
        asked = CreateDocument(project=project.id, name=name, **({"type": "dataset", "body": {"a": 1}} | more))
        return self.do(documents.create, asked)

    def purge_all(self) -> int:
        return make_worker(self.store).run_all()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def lab(tmp_path: Path, clock: FixedClock) -> Iterator[Lab]:
    with make_store(tmp_path, clock) as store:
        yield Lab(store, clock, make_actor(store.database))


# --- states and verbs ---------------------------------------------------------------------------------------------------


def in_state(lab: Lab, state: State) -> Run:
    """A run that came into ``state`` by the verbs."""
    run = lab.run()
    if state == State.archived:
        lab.verb(Verb.archive, run)
    if state in (State.trashed, State.purged):
        lab.verb(Verb.trash, run)
    if state == State.purged:
        lab.verb(Verb.purge, run)
        lab.purge_all()
    return run


OUTCOMES: dict[tuple[State, Verb], State | type[Exception] | str] = {
    (State.active, Verb.archive): State.archived,
    (State.active, Verb.unarchive): "already",
    (State.active, Verb.trash): State.trashed,
    (State.active, Verb.restore): "already",
    (State.active, Verb.purge): Illegal,
    (State.archived, Verb.archive): "already",
    (State.archived, Verb.unarchive): State.active,
    (State.archived, Verb.trash): State.trashed,
    (State.archived, Verb.restore): "already",
    (State.archived, Verb.purge): Illegal,
    (State.trashed, Verb.archive): Gone,
    (State.trashed, Verb.unarchive): Gone,
    (State.trashed, Verb.trash): "already",
    (State.trashed, Verb.restore): State.active,
    (State.trashed, Verb.purge): State.purged,
    (State.purged, Verb.archive): Gone,
    (State.purged, Verb.unarchive): Gone,
    (State.purged, Verb.trash): "already",
    (State.purged, Verb.restore): Gone,
    (State.purged, Verb.purge): "already",
}


@pytest.mark.parametrize(("state", "verb"), [(state, verb) for state in State for verb in Verb])
def test_every_verb_does_in_every_state_what_the_table_says(lab: Lab, state: State, verb: Verb) -> None:
    run = in_state(lab, state)
    expected = OUTCOMES[state, verb]
    if isinstance(expected, type):
        with pytest.raises(expected):
            lab.verb(verb, run)
        assert lab.state(run) == state
        return
    before = lab.item(run)
    outcome = lab.verb(verb, run)
    lab.purge_all()
    if expected == "already":
        assert (outcome.counts, outcome.already) == ({}, 1)
        assert lab.item(run) == before
    else:
        assert (outcome.counts, outcome.already) == ({"run": 1}, 0)
        assert lab.state(run) == expected


@pytest.mark.parametrize("state", [State.active, State.archived])
def test_restoring_brings_back_the_state_before(lab: Lab, state: State) -> None:
    run = in_state(lab, state)
    outcome = lab.verb("trash", run)
    lab.restore(outcome.deletion_id)
    assert lab.state(run) == state


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.artifact_version])
def test_every_kind_goes_through_all_states(lab: Lab, kind: Kind) -> None:
    item = make_one(lab, kind)
    for verb, state in (
        ("archive", "archived"),
        ("unarchive", "active"),
        ("trash", "trashed"),
        ("restore", "active"),
        ("trash", "trashed"),
        ("purge", "purged"),
    ):
        lab.verb(verb, item)
        lab.purge_all()
        assert lab.state(item) == state


def make_one(lab: Lab, kind: Kind) -> Item:
    project = lab.project()
    if kind == Kind.project:
        return project
    if kind == Kind.run:
        return lab.run(project)
    if kind == Kind.document:
        return lab.document(project, "doc")
    version = lab.do(artifacts.create_version, CreateArtifactVersion(project=project.id, name="model", type="model"))
    return (
        version
        if kind == Kind.artifact_version
        else lab.do(lambda tx, actor, _: records.get(tx, Artifact, actor, version.parent_id), None)
    )


def test_an_archived_run_is_read_and_not_written(lab: Lab) -> None:
    run = in_state(lab, State.archived)
    assert lab.do(runs.get, Get(id=run.id)).state == State.archived
    with pytest.raises(Illegal, match="unarchive it first") as refused:
        lab.do(runs.update, UpdateRun(id=run.id, notes="x"))
    assert (refused.value.status, refused.value.details["legal"]) == (409, ["unarchive", "trash"])
    assert lab.do(runs.list_, ListRuns()).items == []


def test_a_trashed_run_says_who_when_and_how_to_get_it_back(lab: Lab) -> None:
    run = lab.run()
    outcome = lab.verb("trash", run)
    deletion = lab.deletion(outcome)
    for ask in (lambda: lab.do(runs.get, Get(id=run.id)), lambda: lab.do(runs.update, UpdateRun(id=run.id, notes="x"))):
        with pytest.raises(Gone, match="trashed by") as gone:
            ask()
        assert gone.value.status == 410
        assert gone.value.details == {
            "id": run.id,
            "deletion_id": deletion.id,
            "by": lab.actor.user,
            "at": deletion.created_at.isoformat(),
            "restorable_until": deletion.restorable_until.isoformat(),
        }
    assert lab.do(runs.get, Get(id=run.id, include="trashed")).state == State.trashed


def test_a_purged_run_is_gone_for_good_and_leaves_a_tombstone_without_content(lab: Lab) -> None:
    run = lab.run(
        lab.project(),
        name="canary",
        handle="canary",
        description="canary",
        tags=("canary",),
        metadata={"canary": "canary"},
        extra={"canary": 1},
        config={"canary": "canary"},
        notes="canary",
    )
    lab.verb("trash", run)
    lab.verb("purge", run)
    lab.purge_all()
    tombstone = lab.item(run)
    assert b"canary" not in msgspec.json.encode(tombstone)
    assert (tombstone.id, tombstone.kind, tombstone.state) == (run.id, Kind.run, State.purged)
    assert tombstone.created_at == run.created_at
    for include in ("", "trashed"):
        with pytest.raises(Gone, match="was purged"):
            lab.do(runs.get, Get(id=run.id, include=include))
    with pytest.raises(Gone):
        lab.do(runs.create, CreateRun(project="p", id=run.id))


# --- plans --------------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_goes_and_changes_nothing(lab: Lab) -> None:
    project = lab.project("p")
    items = [lab.run(project, bytes=100, handle="h"), lab.document(project, "d")]
    plan = lab.plan(*items)
    assert plan.counts == {"run": 1, "document": 1}
    assert plan.bytes == 100
    assert sorted(plan.names_freed) == sorted([items[0].name, "d"])
    assert (plan.blockers, plan.blocked, plan.stops, plan.unbinds) == ([], 0, 0, [])
    assert plan.restorable_until == lab.clock.now + timedelta(days=30)
    assert [lab.state(item) for item in items] == ["active", "active"]


def test_applying_a_plan_by_its_hash_does_what_it_said(lab: Lab) -> None:
    run = lab.run()
    plan = lab.plan(run)
    outcome = lab.trash(run, plan_hash=plan.hash, reason="tidy", ticket="T-1")
    deletion = lab.deletion(outcome)
    assert (deletion.plan_hash, deletion.counts, deletion.reason, deletion.ticket) == (
        plan.hash,
        plan.counts,
        "tidy",
        "T-1",
    )
    assert deletion.restorable_until == plan.restorable_until + timedelta(seconds=1)  # type: ignore[operator]


MOVES: dict[str, Callable[[Lab, Run], object]] = {
    "renamed": lambda lab, run: lab.do(runs.update, UpdateRun(id=run.id, name="new")),
    "archived": lambda lab, run: lab.verb("archive", run),
    "locked": lambda lab, run: lab.do(deletions.set_lock, SetLock(id=run.id, locked=True)),
    "another run came": lambda lab, run: lab.run(lab.do(projects.get, Get(id=run.parent_id)), name="more"),
    "one of them went": lambda lab, run: lab.verb("trash", run),
    "running again": lambda lab, run: lab.do(runs.update, UpdateRun(id=run.id, status=Status.running)),
    "a base now": lambda lab, run: lab.run(base_run_id=run.id),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_plan_is_stale_when_the_world_has_moved(lab: Lab, move: str) -> None:
    project = lab.project("p")
    run, _other = lab.run(project), lab.run(project)
    selection = Selection(project="p")
    plan = lab.do(deletions.make_plan, MakePlan(selection=selection))
    MOVES[move](lab, run)
    with pytest.raises(Stale) as stale:
        lab.do(deletions.apply, Apply(selection=selection, plan_hash=plan.hash))
    new = stale.value.details["plan"]
    assert new["hash"] != plan.hash
    assert new["hash"] == lab.do(deletions.make_plan, MakePlan(selection=selection)).hash


def test_a_hash_belongs_to_a_verb_and_its_options(lab: Lab) -> None:
    run = lab.run()
    hashes = {
        lab.plan(run, **options).hash  # type: ignore[arg-type]
        for options in ({}, {"verb": "archive"}, {"force": True}, {"on_running": "stop"})
    }
    assert len(hashes) == 4
    with pytest.raises(Stale):
        lab.trash(run, plan_hash=lab.plan(run, force=True).hash)


def test_the_same_apply_twice_is_the_same_deletion(lab: Lab) -> None:
    items = [lab.run(), lab.run()]
    plan = lab.plan(*items)
    first = lab.trash(*items, plan_hash=plan.hash)
    second = lab.trash(*items, plan_hash=plan.hash)
    assert second.deletion_id == second.undo == first.deletion_id
    assert (second.counts, second.already) == ({}, 2)
    assert len(lab.do(deletions.list_, ListDeletions()).items) == 1


def test_a_late_retry_of_an_applied_plan_undoes_no_restore(lab: Lab) -> None:
    run = lab.run()
    plan = lab.plan(run)
    first = lab.trash(run, plan_hash=plan.hash)
    lab.restore(first.deletion_id)
    again = lab.trash(run, plan_hash=plan.hash)
    assert (again.deletion_id, again.undo, again.counts) == (first.deletion_id, None, {})
    assert lab.state(run) == State.active
    assert len(lab.do(deletions.members, ListMembersOf(id=first.deletion_id)).items) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ["archive", "restore", "purge"])
def test_a_retry_of_any_verb_with_its_plan_is_no_error(lab: Lab, verb: str) -> None:
    run = in_state(lab, State.active if verb == "archive" else State.trashed)
    plan = lab.plan(run, verb=verb)
    asked = Apply(verb=verb, selection=Selection(ids=[run.id]), plan_hash=plan.hash)
    assert lab.do(deletions.apply, asked).counts == {"run": 1}
    lab.purge_all()
    again = lab.do(deletions.apply, asked)
    assert (again.counts, again.already) == ({}, 1)


def test_trashing_what_is_in_the_trash_names_the_deletion_that_holds_it(lab: Lab) -> None:
    first, second = lab.run(), lab.run()
    held = lab.trash(first)
    again = lab.trash(first)
    assert (again.already, again.deletion_id, again.undo) == (1, held.deletion_id, held.deletion_id)
    mixed = lab.trash(first, second)
    assert (mixed.already, mixed.counts) == (1, {"run": 1})
    assert mixed.deletion_id != held.deletion_id


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Selection(), "either ids, or a query"),
        (Selection(ids=["00000000-0000-7000-8000-000000000000"], q="name = 'x'"), "either ids, or a query"),
        (Selection(project="p", kind="nothing"), "is not a kind"),
        (Selection(project="p", q="no such field = 1"), "there is no field"),
        (Selection(deletion_id="00000000-0000-7000-8000-000000000000"), "restored or purged"),
    ],
)
def test_a_selection_that_makes_no_sense_is_invalid(lab: Lab, asked: Selection, message: str) -> None:
    lab.project("p")
    with pytest.raises(Invalid, match=message):
        lab.do(deletions.make_plan, MakePlan(selection=asked))


def test_unknown_verbs_options_and_ids_are_refused(lab: Lab) -> None:
    run = lab.run()
    with pytest.raises(Invalid, match="is not a verb; use one of archive"):
        lab.plan(run, verb="delete")
    with pytest.raises(Invalid, match="refuse or stop"):
        lab.plan(run, on_running="kill")
    nobody = "00000000-0000-7000-8000-000000000000"
    with pytest.raises(NotFound, match=nobody):
        lab.do(deletions.apply, Apply(selection=Selection(ids=[run.id, nobody])))
    assert lab.state(run) == State.active


def test_a_query_selects_what_meets_it_and_is_live(lab: Lab) -> None:
    project = lab.project("p")
    good, bad, archived = (
        lab.run(project),
        lab.run(project, status=Status.failed),
        lab.run(project, status=Status.failed),
    )
    lab.verb("archive", archived)
    outcome = lab.do(deletions.apply, Apply(selection=Selection(project="p", q="status = failed")))
    assert outcome.counts == {"run": 2}
    assert [lab.state(run) for run in (good, bad, archived)] == ["active", "trashed", "trashed"]
    back = lab.do(deletions.apply, Apply(verb="restore", selection=Selection(project="p", q="status = failed")))
    assert back.counts == {"run": 2}
    assert [lab.state(run) for run in (bad, archived)] == ["active", "archived"]


def test_a_query_that_names_states_is_taken_at_its_word(lab: Lab) -> None:
    project = lab.project("p")
    active, archived = lab.run(project), lab.run(project, config={"state": "x"})
    lab.verb("archive", archived)
    selection = Selection(project="p", q='state = "archived"')
    assert lab.do(deletions.make_plan, MakePlan(selection=selection)).counts == {"run": 1}
    # A field that only sounds like it is none.
    assert lab.do(deletions.make_plan, MakePlan(selection=Selection(project="p", q='config.state = "x"'))).counts == {
        "run": 1
    }
    assert lab.state(active) == State.active


# --- blockers -----------------------------------------------------------------------------------------------------------


def test_a_running_run_is_not_trashed_unless_it_may_be_stopped(lab: Lab) -> None:
    run = lab.run(status=Status.running)
    with pytest.raises(
        Illegal, match="is running: cannot be trashed; stop it first, or pass on_running=stop"
    ) as refused:
        lab.verb("trash", run)
    assert refused.value.details["override"] == "on_running=stop"
    assert lab.plan(run, on_running="stop").stops == 1
    lab.verb("trash", run, on_running="stop")
    trashed = lab.do(runs.get, Get(id=run.id, include="trashed"))
    assert trashed.status == Status.stopped
    assert trashed.finished_at is not None


def test_a_locked_object_stays_whatever_is_passed(lab: Lab) -> None:
    run = lab.run()
    lab.do(deletions.set_lock, SetLock(id=run.id, locked=True))
    for options in ({}, {"force": True, "on_running": "stop"}):
        with pytest.raises(Held, match="is locked: unlock it first"):
            lab.verb("trash", run, **options)
    lab.do(deletions.set_lock, SetLock(id=run.id, locked=False))
    lab.verb("trash", run)
    assert lab.state(run) == State.trashed


def test_a_lock_inside_a_project_holds_the_project(lab: Lab) -> None:
    project = lab.project()
    run = lab.run(project)
    lab.do(deletions.set_lock, SetLock(id=run.id, locked=True))
    with pytest.raises(Held):
        lab.verb("trash", project, force=True)
    assert [lab.state(item) for item in (project, run)] == ["active", "active"]


def bound(lab: Lab) -> tuple[Project, Document]:
    project = lab.project()
    document = lab.document(project, "prompt")
    lab.do(environments.bind, BindEnvironment(project=project.id, name="production", document_id=document.id))
    return project, document


def environment(lab: Lab, project: Project) -> str | None:
    return lab.do(environments.get, GetEnvironment(project=project.id, name="production")).document_id


def test_what_an_environment_is_bound_to_goes_only_by_force_and_comes_back_bound(lab: Lab) -> None:
    project, document = bound(lab)
    with pytest.raises(InUse, match="has active dependencies: environment production"):
        lab.verb("trash", document)
    plan = lab.plan(document, force=True)
    assert [(unbound["type"], unbound["name"]) for unbound in plan.unbinds] == [("environment", "production")]
    outcome = lab.verb("trash", document, force=True)
    assert environment(lab, project) is None
    assert lab.restore(outcome.deletion_id).not_rebound == []
    assert environment(lab, project) == document.id


def test_a_binding_that_was_taken_meanwhile_is_reported(lab: Lab) -> None:
    project, document = bound(lab)
    outcome = lab.verb("trash", document, force=True)
    other = lab.document(project, "other")
    lab.do(environments.bind, BindEnvironment(project=project.id, name="production", document_id=other.id))
    (refused,) = lab.restore(outcome.deletion_id).not_rebound
    assert (refused["type"], refused["item_id"]) == ("environment", document.id)
    assert refused["reason"] == f"environment production is bound to {other.id} now"
    assert (environment(lab, project), lab.state(document)) == (other.id, State.active)


def linked(lab: Lab, on_delete: OnDelete) -> tuple[Run, Document]:
    run, document = lab.run(), lab.document(lab.project(), "data")
    lab.do(environments.link, CreateLink(source_id=run.id, target_id=document.id, type="used", on_delete=on_delete))
    return run, document


def links_of(lab: Lab, item: Item) -> int:
    return len(lab.do(environments.list_links, ListLinks(id=item.id)).items)


def test_a_restricting_link_blocks_and_force_takes_it_away_until_restored(lab: Lab) -> None:
    run, document = linked(lab, OnDelete.restrict)
    with pytest.raises(InUse, match=rf"link used of {run.name}"):
        lab.verb("trash", document)
    lab.verb("trash", run)  # what depends may go
    outcome = lab.verb("trash", document)  # and then what it depended on
    lab.restore(outcome.deletion_id)
    lab.verb("restore", run)
    outcome = lab.verb("trash", document, force=True)
    assert links_of(lab, run) == 0
    lab.restore(outcome.deletion_id)
    assert links_of(lab, run) == 1


def test_an_unbinding_link_goes_without_force_and_comes_back(lab: Lab) -> None:
    run, document = linked(lab, OnDelete.unbind)
    outcome = lab.verb("trash", document)
    assert links_of(lab, run) == 0
    lab.restore(outcome.deletion_id)
    assert links_of(lab, run) == 1


def test_a_cascading_link_takes_what_depends_along_and_brings_it_back(lab: Lab) -> None:
    run, document = linked(lab, OnDelete.cascade)
    outcome = lab.verb("trash", document)
    assert outcome.counts == {"document": 1, "run": 1}
    assert lab.state(run) == State.trashed
    lab.restore(outcome.deletion_id)
    assert [lab.state(item) for item in (run, document)] == ["active", "active"]


def test_cascades_in_a_circle_and_named_twice_go_once(lab: Lab) -> None:
    project = lab.project()
    ring = [lab.run(project) for _ in range(4)]
    for number, run in enumerate(ring):
        target = ring[(number + 1) % 4]
        asked = CreateLink(source_id=run.id, target_id=target.id, type="chain", on_delete=OnDelete.cascade)
        lab.do(environments.link, asked)
    for selection in (Selection(ids=[ring[0].id]), Selection(project=project.id), Selection(ids=[project.id])):
        outcome = lab.do(deletions.apply, Apply(selection=selection))
        assert outcome.counts["run"] == 4
        lab.restore(outcome.deletion_id)
    assert {lab.state(run) for run in ring} == {State.active}


def test_a_link_that_stays_keeps_nothing(lab: Lab) -> None:
    run, document = linked(lab, OnDelete.keep)
    lab.verb("trash", document)
    assert links_of(lab, run) == 1


def test_the_base_of_a_live_run_goes_only_by_force(lab: Lab) -> None:
    base = lab.run()
    fork = lab.run(base_run_id=base.id)
    with pytest.raises(InUse, match=f"base of run {fork.name}"):
        lab.verb("trash", base)
    lab.verb("trash", base, force=True)
    assert lab.do(runs.get, Get(id=fork.id)).base_run_id == base.id


def test_what_goes_together_holds_nobody_up_however_many_they_are(lab: Lab) -> None:
    project = lab.project("p")
    base = lab.run(project)

    def fill(tx: Tx, _actor: Actor, _command: None) -> None:
        made = [msgspec.structs.replace(base, id=tx.new_id(), base_run_id=base.id) for _ in range(2_500)]
        records.insert_items(tx, made)

    lab.do(fill, None)
    # The base is in the first batch, most of those that need it are in later ones.
    assert lab.do(deletions.make_plan, MakePlan(selection=Selection(project="p"))).blocked == 0
    everything = [run.id for run in lab.do(runs.list_, ListRuns(project="p", limit=10_000)).items]
    assert lab.do(deletions.make_plan, MakePlan(selection=Selection(ids=everything))).blocked == 0
    assert lab.do(deletions.make_plan, MakePlan(selection=Selection(ids=everything[1:]))).blocked == 1
    outcome = lab.do(deletions.apply, Apply(selection=Selection(project="p"), background=False))
    assert outcome.counts == {"run": 2_501}
    assert len(outcome.items) == 1_000
    assert lab.restore(outcome.deletion_id, background=False).counts == {"run": 2_501}


def version(lab: Lab, project: Project, *aliases: str, **more: Any) -> Any:
    asked = CreateArtifactVersion(project=project.id, name="model", type="model", aliases=aliases, **more)
    return lab.do(artifacts.create_version, asked)


def test_an_alias_protects_its_version_and_latest_does_not(lab: Lab) -> None:
    project = lab.project()
    first = version(lab, project, "best", metadata={"a": 1})
    second = version(lab, project, description="other")
    with pytest.raises(InUse, match="alias best"):
        lab.verb("trash", first)
    lab.do(artifacts.set_aliases, SetAliases(id=first.id, remove=("best",)))
    lab.verb("trash", first)
    if second.id != first.id:
        lab.verb("trash", second)
    assert lab.state(first) == State.trashed


def test_a_collection_takes_its_versions_along_aliases_or_not(lab: Lab) -> None:
    project = lab.project()
    made = version(lab, project, "best")
    outcome = lab.verb("trash", made.parent_id)
    assert outcome.counts == {"artifact": 1, "artifact_version": 1}
    lab.verb("restore", made.parent_id)
    assert lab.state(made) == State.active


def test_many_blockers_are_counted_and_the_first_are_shown(lab: Lab) -> None:
    project = lab.project("p")
    for _ in range(105):
        lab.run(project, status=Status.running)
    plan = lab.do(deletions.make_plan, MakePlan(selection=Selection(project="p")))
    assert (plan.blocked, len(plan.blockers), plan.counts) == (105, 100, {})
    with pytest.raises(Illegal, match=r"and 104 more") as refused:
        lab.do(deletions.apply, Apply(selection=Selection(project="p")))
    assert refused.value.details["blocked"] == 105


def test_one_blocker_keeps_all_of_them(lab: Lab) -> None:
    runs_ = [lab.run(), lab.run(status=Status.running), lab.run()]
    with pytest.raises(Illegal):
        lab.trash(*runs_)
    assert {lab.state(run) for run in runs_} == {State.active}
    assert lab.do(deletions.list_, ListDeletions()).items == []


def test_a_running_experiment_is_stopped_with_its_runs(lab: Lab) -> None:
    project = lab.project()
    experiment = make_document(lab.store.database, lab.actor, project, type="experiment", status="running")
    run = lab.run(project, document_id=experiment.id, status=Status.running)
    with pytest.raises(Illegal, match="experiment document-"):
        lab.verb("trash", experiment)
    plan = lab.plan(project, on_running="stop")
    assert plan.stops == 2
    lab.trash(project, on_running="stop", plan_hash=plan.hash)
    assert lab.do(runs.get, Get(id=run.id, include="trashed")).status == Status.stopped


# --- containers ---------------------------------------------------------------------------------------------------------


def test_a_project_takes_everything_in_it_along_and_brings_it_back(lab: Lab) -> None:
    project = lab.project("p")
    inside: list[Item] = [lab.run(project), lab.document(project, "d"), version(lab, project, "best")]
    lab.verb("archive", inside[0])
    outcome = lab.verb("trash", project)
    assert outcome.counts == {"project": 1, "run": 1, "document": 1, "artifact": 1, "artifact_version": 1}
    assert {lab.state(item) for item in (project, *inside)} == {State.trashed}
    assert lab.verb("restore", project).counts == outcome.counts
    assert [lab.state(item) for item in (project, *inside)] == ["active", "archived", "active", "active"]


@pytest.mark.parametrize("way", ["item", "deletion", "selection", "selected deletion"])
def test_what_was_trashed_before_on_its_own_stays_in_the_trash(lab: Lab, way: str) -> None:
    project = lab.project("p")
    early, late = lab.run(project), lab.run(project)
    alone = lab.verb("trash", early)
    together = lab.verb("trash", project)
    assert together.counts == {"project": 1, "run": 1}
    if way == "item":
        lab.verb("restore", project)
    elif way == "deletion":
        lab.restore(together.deletion_id)
    else:
        selection = Selection(ids=[project.id]) if way == "selection" else Selection(deletion_id=together.deletion_id)
        lab.do(deletions.apply, Apply(verb="restore", selection=selection))
    assert [lab.state(item) for item in (project, early, late)] == ["active", "trashed", "active"]
    lab.restore(alone.deletion_id)
    assert lab.state(early) == State.active


def test_purging_a_project_takes_what_was_trashed_before_in_it_as_well(lab: Lab) -> None:
    project = lab.project("p")
    early, late = lab.run(project), lab.run(project)
    lab.verb("trash", early)
    lab.verb("trash", project)
    outcome = lab.verb("purge", project)
    assert outcome.counts == {"project": 1, "run": 2}
    assert len(outcome.job_ids) == 2
    lab.purge_all()
    assert {lab.state(item) for item in (project, early, late)} == {State.purged}


def test_nothing_comes_back_into_a_container_that_is_gone(lab: Lab) -> None:
    project = lab.project("p")
    run = lab.run(project)
    alone = lab.verb("trash", run)
    together = lab.verb("trash", project)
    with pytest.raises(Illegal, match=rf"its project p is trashed; restore deletion {together.deletion_id} first"):
        lab.restore(alone.deletion_id)


@pytest.mark.parametrize("by", ["id", "deletion", "selected deletion"])
def test_purging_a_container_takes_along_what_was_trashed_out_of_it_before(lab: Lab, by: str) -> None:
    project = lab.project("p")
    run = lab.run(project)
    alone = lab.verb("trash", run)
    together = lab.verb("trash", project)
    if by == "id":
        done = lab.verb("purge", project)
    elif by == "deletion":
        done = lab.do(deletions.purge, PurgeDeletion(id=together.deletion_id or ""))
    else:
        selection = Selection(deletion_id=together.deletion_id)
        assert lab.do(deletions.make_plan, MakePlan(verb="purge", selection=selection)).counts == {
            "project": 1,
            "run": 1,
        }
        done = lab.do(deletions.apply, Apply(verb="purge", selection=selection))
    assert done.counts == {"project": 1, "run": 1}
    lab.purge_all()
    with pytest.raises(Illegal, match="is purged"):
        lab.restore(alone.deletion_id)
    assert {lab.item(each).state for each in (project, run)} == {State.purged}


def test_nothing_is_made_in_a_project_in_the_trash(lab: Lab) -> None:
    project = lab.project("p")
    lab.verb("trash", project)
    with pytest.raises(Gone):
        lab.do(runs.create, CreateRun(project=project.id))
    with pytest.raises(Gone):
        lab.do(documents.create, CreateDocument(project=project.id, type="dataset", name="d"))
    # The name is free: it means another project from now on.
    made = lab.do(runs.create, CreateRun(project="p"))
    assert made.project_id != project.id


def test_an_archived_project_keeps_its_runs_as_they_are_and_takes_no_new_ones(lab: Lab) -> None:
    project = lab.project("p")
    run = lab.run(project)
    assert lab.verb("archive", project).counts == {"project": 1}
    assert lab.state(run) == State.active
    with pytest.raises(Illegal, match="unarchive it first"):
        lab.do(runs.create, CreateRun(project=project.id))
    assert lab.do(projects.list_, ListProjects()).items == []
    lab.verb("unarchive", project)
    lab.do(runs.create, CreateRun(project=project.id))


# --- names --------------------------------------------------------------------------------------------------------------


def test_a_name_is_free_as_soon_as_its_holder_is_in_the_trash(lab: Lab) -> None:
    first = lab.project("p")
    with pytest.raises(AlreadyExists):
        lab.do(projects.create, CreateProject(name="p"))
    lab.verb("archive", first)
    with pytest.raises(AlreadyExists, match="archived"):
        lab.do(projects.create, CreateProject(name="p"))
    lab.verb("trash", first)
    second = lab.do(projects.create, CreateProject(name="p"))
    assert second.id != first.id


def test_restoring_onto_a_taken_name_offers_another(lab: Lab) -> None:
    first = lab.project("p")
    outcome = lab.verb("trash", first)
    second = lab.do(projects.create, CreateProject(name="p"))
    with pytest.raises(AlreadyExists, match="restore under another name") as refused:
        lab.restore(outcome.deletion_id)
    (offer,) = refused.value.details["taken"]
    assert (offer["id"], offer["name"], offer["taken_by"]) == (first.id, "p", second.id)
    with pytest.raises(AlreadyExists):
        lab.restore(outcome.deletion_id, names={first.id: "p"})
    with pytest.raises(NotFound):
        lab.restore(outcome.deletion_id, names={second.id: "q"})
    lab.restore(outcome.deletion_id, names={first.id: offer["suggestion"]})
    restored = lab.do(projects.get, Get(id=offer["suggestion"]))
    assert (restored.id, restored.name) == (first.id, offer["suggestion"])


def test_two_that_would_come_back_under_one_name_do_not(lab: Lab) -> None:
    made = [lab.project(name) for name in ("a", "b")]
    outcome = lab.trash(*made)
    with pytest.raises(Invalid, match="2 projects would come back as 'same'"):
        lab.restore(outcome.deletion_id, names={item.id: "same" for item in made})
    assert {lab.state(item) for item in made} == {State.trashed}


def test_names_of_different_types_and_projects_do_not_meet(lab: Lab) -> None:
    one, other = lab.project(), lab.project()
    first = lab.document(one, "same")
    outcome = lab.verb("trash", first)
    lab.document(one, "same", type="prompt")
    lab.document(other, "same")
    lab.restore(outcome.deletion_id)
    assert lab.state(first) == State.active


# --- parts --------------------------------------------------------------------------------------------------------------


def test_a_part_comes_back_and_the_rest_stays(lab: Lab) -> None:
    items = [lab.run() for _ in range(3)]
    outcome = lab.trash(*items)
    lab.restore(outcome.deletion_id, ids=[items[0].id])
    assert lab.deletion(outcome).state == "trashed"
    assert [lab.state(item) for item in items] == ["active", "trashed", "trashed"]
    assert lab.restore(outcome.deletion_id).counts == {"run": 2}
    done = lab.deletion(outcome)
    assert (done.state, done.restored_at is not None) == ("restored", True)
    again = lab.restore(outcome.deletion_id)
    assert (again.counts, again.already) == ({}, 1)
    with pytest.raises(NotFound, match="does not belong to deletion"):
        lab.restore(outcome.deletion_id, ids=[lab.run().id])


def test_a_part_is_purged_and_the_rest_can_still_come_back(lab: Lab) -> None:
    _, document = bound(lab)
    items: list[Item] = [lab.run(bytes=10), lab.run(bytes=5), document]
    outcome = lab.trash(*items, force=True)
    part = lab.do(deletions.apply, Apply(verb="purge", selection=Selection(ids=[items[0].id, document.id])))
    assert part.deletion_id != outcome.deletion_id
    lab.purge_all()
    purged, rest = lab.deletion(part), lab.deletion(outcome)
    assert (purged.state, purged.counts, purged.bytes) == ("purged", {"document": 1, "run": 1}, 10)
    assert (rest.state, rest.counts, rest.bytes) == ("trashed", {"run": 1}, 5)
    assert lab.restore(outcome.deletion_id).counts == {"run": 1}
    assert [lab.state(item) for item in items] == ["purged", "active", "purged"]
    events = [(e.event, e.count) for e in lab.do(audits.list_, audits.ListAudit(event="run.purged")).items]
    assert events == [("run.purged", 1)]


def test_only_what_is_still_held_counts_as_purged(lab: Lab) -> None:
    items = [lab.run() for _ in range(3)]
    outcome = lab.trash(*items)
    lab.restore(outcome.deletion_id, ids=[items[0].id])
    purging = lab.do(deletions.purge, PurgeDeletion(id=outcome.deletion_id or ""))
    assert purging.counts == {"run": 2}
    lab.purge_all()
    (event,) = lab.do(audits.list_, audits.ListAudit(event="run.purged")).items
    assert event.count == 2
    assert lab.state(items[0]) == State.active


def test_what_is_being_purged_does_not_come_back_and_purging_again_is_the_same_job(lab: Lab) -> None:
    run, other = lab.run(), lab.run()
    outcome = lab.trash(run, other)
    first = lab.do(deletions.purge, PurgeDeletion(id=outcome.deletion_id or ""))
    with pytest.raises(Illegal, match="is purging"):
        lab.restore(outcome.deletion_id)
    with pytest.raises(Illegal, match="is purging"):
        lab.verb("restore", run)
    again = lab.verb("purge", run)
    assert (again.job_id, again.deletion_id, again.counts) == (first.job_id, outcome.deletion_id, {"run": 1})
    lab.purge_all()
    with pytest.raises(Illegal, match="is purged"):
        lab.restore(outcome.deletion_id)
    done = lab.do(deletions.purge, PurgeDeletion(id=outcome.deletion_id or ""))
    assert (done.counts, done.already, done.job_id) == ({}, 2, None)


# --- how long it stays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "days"),
    [({}, 30), ({"grace_days": 7}, 7), ({"grace_days": 0}, 0), ({"grace_days": 90}, 90), ({"grace_days": None}, 30)],
)
def test_the_project_says_how_long_the_trash_keeps(lab: Lab, settings: dict[str, Any], days: int) -> None:
    project = lab.project("p")
    lab.do(projects.update, UpdateProject(id="p", settings=settings))
    run = lab.run(project)
    for selection in (Selection(ids=[run.id]), Selection(project="p"), Selection(ids=[project.id])):
        plan = lab.do(deletions.make_plan, MakePlan(selection=selection))
        assert plan.restorable_until == lab.clock.now + timedelta(days=days)
        outcome = lab.do(deletions.apply, Apply(selection=selection))
        assert outcome.restorable_until == lab.clock.now + timedelta(days=days)
        lab.restore(outcome.deletion_id)


@pytest.mark.parametrize("wrong", [-1, "7", True, 3651, 1.5])
def test_days_that_are_none_are_refused_before_they_are_stored(lab: Lab, wrong: Any) -> None:
    lab.project("p")
    with pytest.raises(Invalid, match="grace_days"):
        lab.do(projects.update, UpdateProject(id="p", settings={"grace_days": wrong}))


def test_the_longest_grace_of_all_projects_holds_for_one_deletion(lab: Lab) -> None:
    short, long = lab.project("short"), lab.project("long")
    lab.do(projects.update, UpdateProject(id="short", settings={"grace_days": 1}))
    lab.do(projects.update, UpdateProject(id="long", settings={"grace_days": 100}))
    items = [lab.run(short), lab.run(long)]
    assert lab.trash(*items).restorable_until == lab.clock.now + timedelta(days=100)


# --- reading the trash --------------------------------------------------------------------------------------------------


def test_the_trash_lists_newest_first_with_the_days_that_are_left(lab: Lab) -> None:
    project = lab.project("p")
    first, second = lab.run(project, bytes=7), lab.run(project)
    one = lab.verb("trash", first, reason="old")
    lab.clock.advance(days=10)
    two = lab.verb("trash", second)
    items = lab.do(deletions.trash_list, ListTrash()).items
    assert [item.id for item in items] == [second.id, first.id]
    assert [item.days_left for item in items] == [30, 20]
    assert (items[1].deletion_id, items[1].reason, items[1].bytes, items[1].trashed_by) == (
        one.deletion_id,
        "old",
        7,
        lab.actor.user,
    )
    assert [d.id for d in lab.do(deletions.list_, ListDeletions()).items] == [two.deletion_id, one.deletion_id]
    assert [d.id for d in lab.do(deletions.list_, ListDeletions(item_id=first.id)).items] == [one.deletion_id]
    assert lab.do(deletions.list_, ListDeletions(state="purged")).items == []
    assert lab.do(deletions.trash_list, ListTrash(kind="document")).items == []
    assert len(lab.do(deletions.trash_list, ListTrash(project="p")).items) == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_of_the_trash_deletions_and_members_are_complete(lab: Lab, limit: int) -> None:
    made = [lab.run() for _ in range(5)]
    whole = lab.trash(*made[:3])
    lab.trash(made[3])
    lab.trash(made[4])
    asked = [
        (deletions.trash_list, ListTrash(limit=limit), 5),
        (deletions.list_, ListDeletions(limit=limit), 3),
        (deletions.members, ListMembersOf(id=whole.deletion_id or "", limit=limit), 3),
    ]
    for operation, command, count in asked:
        found: list[Any] = []
        cursor = None
        while True:
            page = lab.do(operation, msgspec.structs.replace(command, cursor=cursor))  # type: ignore[arg-type]
            found += page.items
            cursor = page.next
            if cursor is None:
                break
        assert len(found) == len({msgspec.json.encode(one) for one in found}) == count


@pytest.mark.parametrize("operation", [deletions.trash_list, deletions.list_, deletions.members])
def test_foreign_cursors_are_invalid(lab: Lab, operation: Any) -> None:
    outcome = lab.trash(lab.run())
    kind = {deletions.trash_list: ListTrash, deletions.list_: ListDeletions}.get(operation)
    for cursor in ("x", "W10", "WyJhIl0", "WyJhIiwiYiJd", "bnVsbA"):
        command = kind(cursor=cursor) if kind else ListMembersOf(id=outcome.deletion_id or "", cursor=cursor)
        with pytest.raises(Invalid, match="cursor"):
            lab.do(operation, command)


def test_a_freed_byte_is_one_that_nothing_else_holds(lab: Lab) -> None:
    keep, go, alone = lab.run(), lab.run(), lab.run()

    def attach(tx: Tx, actor: Actor, _command: None) -> None:
        own = {"organization_id": actor.organization_id}
        for digest, size, owners in (
            ("sha256:a", 100, [keep, go]),
            ("sha256:b", 10, [go, alone]),
            ("sha256:c", 1, [go]),
        ):
            blob = {"digest": digest, "size": size, "refs": len(owners), "swept_at": None, "created_at": tx.now}
            tx.insert(t.blobs, [own | blob])
            for run in owners:
                file = {"owner_id": run.id, "path": digest, "digest": digest, "size": size, "media_type": ""}
                tx.insert(t.files, [own | file | {"created_at": tx.now}])

    lab.do(attach, None)
    assert lab.plan(go).freed_bytes == 1
    assert lab.plan(go, alone).freed_bytes == 11
    assert lab.plan(keep, go, alone).freed_bytes == 111
    stale = "0" * 64
    with pytest.raises(Stale) as error:
        lab.trash(go, plan_hash=stale)
    assert error.value.details["plan"]["freed_bytes"] == 1


# --- locks and tenants --------------------------------------------------------------------------------------------------


def test_locking_again_changes_nothing(lab: Lab) -> None:
    run = lab.run()
    locked = lab.do(deletions.set_lock, SetLock(id=run.id, locked=True, reason="keep"))
    assert lab.do(deletions.set_lock, SetLock(id=run.id, locked=True)) == locked
    assert lab.do(deletions.get_item, Get(id=run.id)).locked
    lab.do(deletions.set_lock, SetLock(id=run.id, locked=False))
    lab.verb("trash", run)
    with pytest.raises(Gone):
        lab.do(deletions.set_lock, SetLock(id=run.id, locked=True))


def test_every_verb_leaves_its_event_in_the_chain(lab: Lab) -> None:
    run = lab.run()
    lab.do(deletions.set_lock, SetLock(id=run.id, locked=True))
    lab.do(deletions.set_lock, SetLock(id=run.id, locked=False))
    for verb in ("archive", "unarchive", "trash", "restore"):
        lab.verb(verb, run, reason=f"because {verb}", ticket="T-9")
    lab.verb("trash", run)
    lab.verb("purge", run)
    lab.purge_all()
    events = lab.do(audits.list_, audits.ListAudit(id=run.id, ascending=True)).items
    assert [event.event for event in events] == [
        *("run.locked", "run.unlocked", "run.archived", "run.unarchived", "run.trashed", "run.restored"),
        *("run.trashed", "run.purge_requested", "run.purge_committed", "run.purged"),
    ]
    assert events[2].reason == "because archive"
    assert (events[4].reason, events[4].ticket) == ("because trash", "T-9")
    assert lab.do(audits.verify, Nothing()).intact


@pytest.mark.parametrize("place", [{"organization": "other"}, {"workspace": "next door"}])
def test_another_tenants_objects_and_deletions_are_not_found(lab: Lab, place: dict[str, str]) -> None:
    run = lab.run()
    outcome = lab.verb("trash", lab.run())
    stranger = make_actor(lab.store.database, **place)
    for operation in VERBS.values():
        with pytest.raises(NotFound):
            lab.do(operation, ItemVerb(id=run.id), stranger)
    for verb in Verb:
        with pytest.raises(NotFound):
            lab.do(deletions.apply, Apply(verb=verb, selection=Selection(ids=[run.id])), stranger)
    for verb in ("restore", "purge"):
        selection = Selection(deletion_id=outcome.deletion_id)
        with pytest.raises(NotFound):
            lab.do(deletions.make_plan, MakePlan(verb=verb, selection=selection), stranger)
    for operation, command in (
        (deletions.get, Get(id=outcome.deletion_id or "")),
        (deletions.restore, RestoreDeletion(id=outcome.deletion_id or "")),
        (deletions.purge, PurgeDeletion(id=outcome.deletion_id or "")),
        (deletions.members, ListMembersOf(id=outcome.deletion_id or "")),
    ):
        with pytest.raises(NotFound):
            lab.do(operation, command, stranger)  # type: ignore[arg-type]
    assert lab.do(deletions.list_, ListDeletions(), stranger).items == []
    assert lab.do(deletions.trash_list, ListTrash(), stranger).items == []


def test_a_cascade_stops_at_the_walls_of_the_workspace(lab: Lab) -> None:
    run, document = linked(lab, OnDelete.cascade)
    stranger = make_actor(lab.store.database, workspace="next door")
    elsewhere = make_run(lab.store.database, stranger, status=Status.finished)

    def relink(tx: Tx, _actor: Actor, _command: None) -> None:
        tx.execute(update(t.links).values(source_id=elsewhere.id))

    lab.do(relink, None)
    assert lab.verb("trash", document).counts == {"document": 1}
    assert lab.state(run) == State.active


@pytest.mark.parametrize(("role", "verb", "kind"), [("viewer", "trash", Kind.run), ("editor", "purge", Kind.run)])
def test_a_plan_needs_the_permission_of_its_verb(lab: Lab, role: str, verb: str, kind: Kind) -> None:
    run = lab.run()
    if verb == "purge":
        lab.verb("trash", run)
    weak = make_actor(lab.store.database, role)
    with pytest.raises(Forbidden, match=f"{kind}.{verb}"):
        lab.do(deletions.make_plan, MakePlan(verb=verb, selection=Selection(ids=[run.id])), weak)


def test_whoever_may_trash_what_is_inside_may_not_so_trash_the_project(lab: Lab) -> None:
    project = lab.project("p")
    run = lab.run(project)
    editor = make_actor(lab.store.database, "editor")
    with pytest.raises(Forbidden, match=r"project\.trash"):
        lab.do(deletions.trash_item, ItemVerb(id=project.id), editor)
    assert lab.do(deletions.apply, Apply(selection=Selection(project="p")), editor).counts == {"run": 1}
    assert lab.state(run) == State.trashed


def test_kinds_have_entities(lab: Lab) -> None:
    assert set(KIND_ENTITY) == set(Kind)
