"""Legal holds: what they cover, who may set and lift them, and that what they cover is named when it must stay."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    AttachFile,
    CreateArtifactVersion,
    Get,
    GetFile,
    ItemVerb,
    ListAudit,
    ListMembersOf,
    MakePlan,
    ManifestEntry,
    PurgeDeletion,
    RestoreDeletion,
    RowIn,
    Selection,
    SetAliases,
    UpdateProject,
    UpdateRun,
    WriteRows,
)
from labkeep.core.commands_holds import HoldScope, LiftHold, ListHeld, ListHolds, SetHold
from labkeep.core.deletion import ASKERS, Keep, Origin
from labkeep.core.entities import ArtifactVersion, Hold, Item, Project
from labkeep.core.errors import Forbidden, Gone, Held, Invalid, NotFound, Stale
from labkeep.core.lifecycle import State
from labkeep.operations import (
    Store,
    artifact_edits,
    artifacts,
    audits,
    deletions,
    file_searches,
    files,
    holds,
    projects,
    protection,
    purges,
    receipts,
    rows,
    run_selections,
    runs,
)
from labkeep.operations.artifact_edits import EditVersion
from labkeep.operations.run_searches import Selected
from labkeep.server import make_worker
from labkeep.storage import check, purge, records
from labkeep.storage.database_postgres import Postgres
from labkeep.testing.factories import FixedClock, make_actor, make_document, make_project, make_run, make_store


class Lab(NamedTuple):
    """A store with an owner and a project."""

    store: Store
    clock: FixedClock
    owner: Actor
    project: Project

    def overdue(self) -> int:
        """What the clock asks to purge now, and has not been asked for before."""
        return self.store.database.write(purges.schedule_overdue, self.owner, 100)

    def do(self, operation: Any, command: Any, actor: Actor | None = None) -> Any:
        return self.store.database.write(operation, actor or self.owner, command)

    def run(self, **fields: Any) -> str:
        return make_run(self.store.database, self.owner, self.project, **{"status": "finished", **fields}).id

    def hold(self, matter: str = "a case", **scope: Any) -> Hold:
        found: Hold = self.do(holds.set_, SetHold(matter=matter, **scope))
        return found

    def version(self, content: bytes) -> ArtifactVersion:
        with files.begin(self.store, self.owner) as upload:
            upload.write(content)
            stored = upload.finish()
        files.keep(self.store, self.owner, stored)
        entry = ManifestEntry(path="weights", digest=stored.digest)
        command = CreateArtifactVersion(project=self.project.id, name="model", files=[entry])
        found: ArtifactVersion = self.do(artifacts.create_version, command)
        return found

    def holding(self, *ids: str) -> dict[str, list[str]]:
        found = self.do(holds.holding, list(ids))
        return {id: [hold.id for hold in each] for id, each in found.items()}


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    clock = FixedClock()
    with make_store(tmp_path, clock) as store:
        if request.param == "postgresql":
            postgres = Postgres(request.getfixturevalue("postgres_url"), readers=2, clock=clock)
            store = store._replace(database=postgres)
        owner = make_actor(store.database)
        yield Lab(store, clock, owner, make_project(store.database, owner))
        if request.param == "postgresql":
            store.database.close()


def test_a_hold_on_an_id_covers_that_object_and_its_containers_alone(lab: Lab) -> None:
    held, free = lab.run(), lab.run()
    hold = lab.hold(ids=[held])
    assert lab.holding(held, free, lab.project.id) == {held: [hold.id], lab.project.id: [hold.id]}


def test_a_hold_on_a_project_covers_all_that_is_in_it_now_and_later(lab: Lab) -> None:
    before = lab.run()
    hold = lab.hold(ids=[lab.project.id])
    after = lab.run()
    elsewhere = make_run(lab.store.database, lab.owner).id
    assert lab.holding(before, after, elsewhere) == {before: [hold.id], after: [hold.id]}


def test_a_hold_on_an_artifact_covers_its_versions(lab: Lab) -> None:
    first = lab.version(b"first")
    hold = lab.hold(ids=[first.parent_id])
    assert lab.holding(first.id) == {first.id: [hold.id]}


def test_a_hold_on_a_version_covers_its_artifact_but_not_the_versions_beside_it(lab: Lab) -> None:
    versions = [lab.version(content) for content in (b"first", b"second")]
    lab.hold(ids=[versions[0].id])
    assert lab.holding(versions[0].parent_id).keys() == {versions[0].parent_id}
    assert versions[1].id not in lab.holding(*(version.id for version in versions))


def test_a_hold_on_an_experiment_covers_its_runs(lab: Lab) -> None:
    document = make_document(lab.store.database, lab.owner, lab.project, type="experiment")
    run = lab.run(document_id=document.id)
    assert lab.holding(run) == {}
    hold = lab.hold(ids=[document.id])
    assert lab.holding(run) == {run: [hold.id]}


def test_a_standing_query_covers_what_matches_now_and_later_in_every_state(lab: Lab) -> None:
    gone, other = lab.run(tags=("released",)), lab.run()
    lab.do(deletions.trash_item, ItemVerb(id=gone))
    hold = lab.hold(kind="run", q='tag = "released"', project=lab.project.name)
    later = lab.run(tags=("released",))
    assert lab.holding(gone, other, later) == {gone: [hold.id], later: [hold.id]}


def test_a_standing_query_limited_to_a_project_covers_nothing_elsewhere(lab: Lab) -> None:
    lab.hold(kind="run", project=lab.project.id)
    assert lab.holding(make_run(lab.store.database, lab.owner).id) == {}


def test_a_standing_query_over_projects_covers_what_is_in_them(lab: Lab) -> None:
    run = lab.run()
    hold = lab.hold(kind="project", q=f'name = "{lab.project.name}"')
    assert lab.holding(run, lab.project.id) == {run: [hold.id], lab.project.id: [hold.id]}


def test_a_project_is_held_while_something_that_a_query_finds_is_in_it(lab: Lab) -> None:
    hold = lab.hold(kind="run", q="config.seed = 7")
    assert lab.holding(lab.project.id) == {}
    lab.run(config={"seed": 7})
    assert lab.holding(lab.project.id) == {lab.project.id: [hold.id]}


def test_a_lifted_hold_covers_nothing_and_keeps_its_record(lab: Lab) -> None:
    run = lab.run()
    hold = lab.hold(ids=[run])
    lifted = lab.do(holds.lift, LiftHold(id=hold.id, reason="closed"))
    assert (lifted.state, lifted.lifted_by, lifted.lift_reason) == ("lifted", lab.owner.name, "closed")
    assert lab.holding(run) == {}
    assert lab.do(holds.held, ListHeld(id=hold.id)).items == []
    assert lab.do(holds.lift, LiftHold(id=hold.id, reason="again")) == lifted
    events = [event.event for event in lab.do(audits.list_, ListAudit(id=hold.id)).items]
    assert sorted(events) == ["hold.lifted", "hold.set"]


def test_two_holds_on_one_object_are_lifted_one_by_one(lab: Lab) -> None:
    run = lab.run()
    first, second = lab.hold(ids=[run]), lab.hold("another", kind="run")
    assert lab.holding(run) == {run: [first.id, second.id]}
    lab.do(holds.lift, LiftHold(id=first.id, reason="closed"))
    assert lab.holding(run) == {run: [second.id]}


def test_a_refusal_names_the_object_the_matter_and_the_hold(lab: Lab) -> None:
    run = lab.run(name="baseline")
    hold = lab.hold("Case 12", ids=[run])

    def attempt(tx: Any, actor: Actor, _command: None) -> None:
        holds.refuse(tx, actor, [run], "changed")

    with pytest.raises(Held, match=f"run baseline is under a legal hold for 'Case 12' .hold {hold.id}.") as refused:
        lab.do(attempt, None)
    assert refused.value.details["holds"] == [{"id": hold.id, "matter": "Case 12"}]


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"q": 'name = "x"'},
        {"kind": "rabbit"},
        {"kind": "run", "q": "state = active"},
        {"kind": "run", "q": "order by name"},
        {"kind": "run", "q": "("},
    ],
)
def test_a_scope_that_makes_no_sense_is_refused(lab: Lab, scope: dict[str, Any]) -> None:
    for operation, command in ((holds.set_, SetHold(matter="m", **scope)), (holds.preview, HoldScope(**scope))):
        with pytest.raises(Invalid):
            lab.do(operation, command)


def test_a_hold_has_ids_or_a_query_and_not_both(lab: Lab) -> None:
    run = lab.run()
    for scope in ({"kind": "run"}, {"q": "x"}, {"project": lab.project.id}):
        with pytest.raises(Invalid):
            lab.hold(ids=[run], **scope)


def test_what_is_not_there_cannot_be_held(lab: Lab) -> None:
    stranger = make_actor(lab.store.database, organization="neighbours")
    foreign = make_run(lab.store.database, stranger).id
    for id in (foreign, lab.owner.key_id):
        with pytest.raises((NotFound, Gone)):
            lab.hold(ids=[id])


def test_another_workspace_has_holds_of_its_own(lab: Lab) -> None:
    neighbour = make_actor(lab.store.database, workspace="next door")
    hold = lab.hold(kind="run")
    run = make_run(lab.store.database, neighbour).id
    assert lab.do(holds.holding, [run], neighbour) == {}
    with pytest.raises(NotFound):
        lab.do(holds.get, Get(id=hold.id), neighbour)


def test_a_preview_counts_what_a_hold_would_cover_and_sets_nothing(lab: Lab) -> None:
    runs = [lab.run(config={"seed": seed}) for seed in (1, 2)]
    found = lab.do(holds.preview, HoldScope(kind="run", q="config.seed = 2"))
    assert (found.counts, [item.id for item in found.items]) == ({"run": 1}, [runs[1]])
    whole = lab.do(holds.preview, HoldScope(ids=[lab.project.id]))
    assert whole.counts == {"project": 1, "run": 2}
    assert lab.do(holds.list_, ListHolds()).items == []


def test_what_a_hold_covers_comes_in_pages(lab: Lab) -> None:
    runs = [lab.run() for _ in range(3)]
    hold = lab.hold(ids=[lab.project.id])
    seen: list[str] = []
    cursor = None
    while True:
        page = lab.do(holds.held, ListHeld(id=hold.id, limit=2, cursor=cursor))
        seen += [item.id for item in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == sorted([lab.project.id, *runs])


def test_holds_are_listed_by_state_and_by_what_they_hold(lab: Lab) -> None:
    run, other = lab.run(), lab.run()
    first, second = lab.hold(ids=[run]), lab.hold(ids=[other])
    lab.do(holds.lift, LiftHold(id=second.id, reason="closed"))
    assert [hold.id for hold in lab.do(holds.list_, ListHolds()).items] == [second.id, first.id]
    assert [hold.id for hold in lab.do(holds.list_, ListHolds(state="active")).items] == [first.id]
    assert [hold.id for hold in lab.do(holds.list_, ListHolds(item_id=run)).items] == [first.id]
    assert lab.do(holds.list_, ListHolds(item_id=other)).items == []


@pytest.mark.parametrize(("role", "sets", "lifts"), [("editor", False, False), ("maintainer", True, False)])
def test_who_may_hold_may_not_always_lift(lab: Lab, role: str, sets: bool, lifts: bool) -> None:
    someone = make_actor(lab.store.database, role)
    mine = lab.hold(ids=[lab.run()])
    asked = ((sets, holds.set_, SetHold(matter="m", kind="run")), (lifts, holds.lift, LiftHold(id=mine.id, reason="r")))
    for may, operation, command in asked:
        if may:
            lab.do(operation, command, someone)
        else:
            with pytest.raises(Forbidden):
                lab.do(operation, command, someone)


def test_an_agent_neither_holds_nor_lifts_nor_looks(lab: Lab) -> None:
    agent = make_actor(lab.store.database, "owner", agent=True)
    mine = lab.hold(ids=[lab.run()])
    for operation, command in (
        (holds.set_, SetHold(matter="m", kind="run")),
        (holds.lift, LiftHold(id=mine.id, reason="r")),
        (holds.list_, ListHolds()),
    ):
        with pytest.raises(Forbidden):
            lab.do(operation, command, agent)


# --- nothing that is held goes ------------------------------------------------------------------------------------------


def test_what_is_held_is_not_trashed_whatever_is_passed(lab: Lab) -> None:
    run = lab.run()
    hold = lab.hold("Case 12", ids=[run])
    for command in (ItemVerb(id=run, force=True, on_running="stop"), ItemVerb(id=lab.project.id, force=True)):
        with pytest.raises(Held, match="legal hold for 'Case 12'") as refused:
            lab.do(deletions.trash_item, command)
        assert {blocker["origin"] for blocker in refused.value.details["blockers"]} == {"hold"}
        assert refused.value.details["override"] == ""
    lab.do(holds.lift, LiftHold(id=hold.id, reason="closed"))
    assert lab.do(deletions.trash_item, ItemVerb(id=run)).counts == {"run": 1}


def test_no_word_is_stronger_than_a_hold(lab: Lab) -> None:
    run = lab.run()
    lab.hold(ids=[run])

    def ask(tx: Any, actor: Actor, asker: Origin) -> None:
        deletions.apply(tx, actor, Apply(selection=Selection(ids=[run])), asker=asker)

    for asker in Origin:
        if asker in ASKERS:
            with pytest.raises(Held):
                lab.do(ask, asker)


def test_an_erasure_request_is_stronger_than_a_lock_and_a_policy_is_not(lab: Lab) -> None:
    run = lab.run(locked=True)

    def ask(tx: Any, actor: Actor, asker: Origin) -> None:
        deletions.apply(tx, actor, Apply(selection=Selection(ids=[run])), asker=asker)

    for asker in (Origin.user, Origin.retention):
        with pytest.raises(Held, match="locked"):
            lab.do(ask, asker)
    lab.do(ask, Origin.erasure)


def test_a_plan_shows_a_hold_and_moves_when_one_is_set(lab: Lab) -> None:
    run = lab.run()
    ask = MakePlan(selection=Selection(ids=[run]))
    free = lab.do(deletions.make_plan, ask)
    hold = lab.hold(ids=[run])
    plan = lab.do(deletions.make_plan, ask)
    assert [(entry.origin, entry.override) for entry in plan.blockers] == [("hold", "")]
    assert hold.id in plan.blockers[0].reason
    with pytest.raises(Stale):
        lab.do(deletions.apply, Apply(selection=ask.selection, plan_hash=free.hash))


def trashed(lab: Lab, *ids: str) -> str:
    return str(lab.do(deletions.apply, Apply(selection=Selection(ids=list(ids)))).deletion_id)


def state_of(lab: Lab, id: str) -> str:
    return str(lab.do(lambda tx, actor, _: records.get(tx, Item, actor, id, states=tuple(State)).state, None))


def test_what_is_held_in_the_trash_is_not_purged_and_can_be_restored(lab: Lab) -> None:
    run = lab.run()
    deletion = trashed(lab, run)
    lab.hold(ids=[run])
    for operation, command in (
        (deletions.purge_item, ItemVerb(id=run)),
        (deletions.purge, PurgeDeletion(id=deletion)),
        (deletions.apply, Apply(verb="purge", selection=Selection(deletion_id=deletion))),
    ):
        with pytest.raises(Held):
            lab.do(operation, command)
    assert lab.do(deletions.restore, RestoreDeletion(id=deletion)).counts == {"run": 1}


def test_purging_a_deletion_leaves_what_is_held_in_the_trash(lab: Lab) -> None:
    held, free = lab.run(), lab.run()
    deletion = trashed(lab, held, free)
    lab.hold(ids=[held])
    done = lab.do(deletions.purge, PurgeDeletion(id=deletion))
    assert done.counts == {"run": 1}
    assert [(entry["id"], entry["outcome"]) for entry in done.items] == [(held, "kept")]
    make_worker(lab.store).run_all()
    assert (state_of(lab, held), state_of(lab, free)) == ("trashed", "purged")
    assert lab.do(deletions.restore_item, ItemVerb(id=held)).counts == {"run": 1}


@pytest.mark.parametrize("whole", [False, True])
def test_a_hold_that_comes_before_the_job_keeps_what_it_covers(lab: Lab, whole: bool) -> None:
    held, free = lab.run(tags=("a",)), lab.run(tags=("a",) if whole else ())
    deletion = trashed(lab, held, free)
    lab.do(deletions.purge, PurgeDeletion(id=deletion))
    lab.hold(kind="run", q='tag = "a"')
    make_worker(lab.store).run_all()
    assert (state_of(lab, held), state_of(lab, free)) == ("trashed", "trashed" if whole else "purged")
    kept = lab.do(audits.list_, ListAudit(event="run.kept")).items
    assert [event.count for event in kept] == [2 if whole else 1]
    assert lab.do(deletions.restore_item, ItemVerb(id=held)).counts == {"run": 1}
    assert check_database(lab) == []


def check_database(lab: Lab) -> list[Any]:
    return list(lab.do(lambda tx, _actor, _: check.run(tx.connection, lab.store.blobs, tx.now).problems, None))


def test_the_receipt_says_what_a_purge_had_committed_to_and_kept_and_for_which_hold(lab: Lab) -> None:
    free, held = lab.run(), lab.run()
    sizes = {id: lab.do(deletions.get_item, Get(id=id)).bytes for id in (free, held)}
    deletion = trashed(lab, free, held)
    lab.do(deletions.purge, PurgeDeletion(id=deletion))
    committed = lab.do(purges.digest, purges.Step(deletion_id=deletion))
    assert committed
    lab.do(purges.commit, purges.Committed(deletion_id=deletion, commitment=committed))
    lab.do(lambda tx, actor, _: purge.remove(tx, actor.organization_id, deletion, [free]), None)
    hold = lab.hold(ids=[held])
    make_worker(lab.store).run_all()
    what = lab.do(receipts.of_deletion, Get(id=deletion)).body["what"]
    assert (what["item_ids"], what["counts"], what["bytes"]) == ([free], {"run": 1}, sizes[free])
    assert what["commitment"] == committed
    assert what["kept"] == {
        "items": 1,
        "counts": {"run": 1},
        "item_ids": [held],
        "item_ids_complete": True,
        "items_digest": hashlib.sha256(f"run {held}\n".encode()).hexdigest(),
        "because": [hold.id],
    }
    listed = lab.do(deletions.members, ListMembersOf(id=deletion)).items
    assert {member.item_id: member.outcome for member in listed} == {free: "purged", held: "kept"}
    assert lab.do(deletions.get, Get(id=deletion)).counts == {"run": 1}
    assert check_database(lab) == []


def test_a_purge_of_which_all_is_kept_names_nothing_as_kept(lab: Lab) -> None:
    early, late = lab.run(), lab.run()
    deletion = trashed(lab, early, late)
    lab.do(deletions.purge, PurgeDeletion(id=deletion))
    record = lab.do(deletions.get, Get(id=deletion))
    for id in (early, late):
        keep = {id: Keep("a hold", "is held")}
        lab.do(lambda tx, actor, keeps: protection.set_aside(tx, actor, record, keeps), keep)
    assert [member.outcome for member in lab.do(deletions.members, ListMembersOf(id=deletion)).items] == ["trashed"]
    assert lab.do(deletions.get, Get(id=deletion)).state == "trashed"
    assert check_database(lab) == []


@pytest.mark.parametrize("whole", [False, True])
def test_the_end_of_the_grace_period_purges_nothing_that_is_held(lab: Lab, whole: bool) -> None:
    held, free = lab.run(tags=("a",)), lab.run(tags=("a",) if whole else ())
    trashed(lab, held, free)
    hold = lab.hold(kind="run", q='tag = "a"')
    lab.clock.advance(days=40)
    assert lab.overdue() == 1
    assert lab.overdue() == 0
    make_worker(lab.store).run_all()
    assert (state_of(lab, held), state_of(lab, free)) == ("trashed", "trashed" if whole else "purged")
    lab.do(holds.lift, LiftHold(id=hold.id, reason="closed"))
    lab.clock.advance(days=1)
    assert lab.overdue() == 1
    make_worker(lab.store).run_all()
    assert state_of(lab, held) == "purged"


def test_a_project_stays_in_the_trash_while_something_in_it_is_held(lab: Lab) -> None:
    run, other = lab.run(), lab.run()
    trashed(lab, run)
    whole = trashed(lab, lab.project.id)
    lab.hold(ids=[run])
    lab.do(deletions.purge, PurgeDeletion(id=whole))
    make_worker(lab.store).run_all()
    assert [state_of(lab, id) for id in (lab.project.id, run, other)] == ["trashed", "trashed", "purged"]
    lab.do(deletions.restore_item, ItemVerb(id=lab.project.id))
    lab.do(deletions.restore_item, ItemVerb(id=run))


def test_a_project_waits_for_what_was_trashed_out_of_it_and_can_still_be_restored(lab: Lab) -> None:
    run = lab.run()
    lab.do(projects.update, UpdateProject(id=lab.project.id, settings={"grace_days": 90}))
    trashed(lab, run)
    lab.do(projects.update, UpdateProject(id=lab.project.id, settings={"grace_days": 5}))
    trashed(lab, lab.project.id)
    lab.clock.advance(days=10)
    assert lab.overdue() == 1
    make_worker(lab.store).run_all()
    assert state_of(lab, lab.project.id) == "trashed"
    lab.do(deletions.restore_item, ItemVerb(id=lab.project.id))
    assert lab.do(deletions.restore_item, ItemVerb(id=run)).counts == {"run": 1}


# --- the minimum keep ---------------------------------------------------------------------------------------------------


def test_nothing_is_purged_before_its_minimum_keep_is_over(lab: Lab) -> None:
    lab.do(projects.update, UpdateProject(id=lab.project.id, settings={"minimum_keep_days": 100}))
    run = lab.run()
    deletion = trashed(lab, run)
    until = (lab.clock.now + timedelta(days=100)).date().isoformat()
    for operation, command in (
        (deletions.purge_item, ItemVerb(id=run, force=True)),
        (deletions.purge, PurgeDeletion(id=deletion)),
    ):
        with pytest.raises(Held, match=f"must be kept until {until}"):
            lab.do(operation, command)
    lab.clock.advance(days=40)
    assert lab.overdue() == 1
    assert state_of(lab, run) == "trashed"
    lab.clock.advance(days=61)
    assert lab.overdue() == 1
    make_worker(lab.store).run_all()
    assert state_of(lab, run) == "purged"


def test_a_project_is_kept_as_long_as_the_youngest_of_what_is_in_it(lab: Lab) -> None:
    lab.do(projects.update, UpdateProject(id=lab.project.id, settings={"minimum_keep_days": 10}))
    lab.clock.advance(days=20)
    run = lab.run()
    trashed(lab, run)
    deletion = trashed(lab, lab.project.id)
    with pytest.raises(Held):
        lab.do(deletions.purge, PurgeDeletion(id=deletion))
    lab.clock.advance(days=11)
    assert lab.do(deletions.purge, PurgeDeletion(id=deletion)).counts == {"project": 1, "run": 1}


# --- what is held does not lose a part either -----------------------------------------------------------------------------


def stored(lab: Lab, content: bytes) -> str:
    with files.begin(lab.store, lab.owner) as upload:
        upload.write(content)
        found = upload.finish()
    files.keep(lab.store, lab.owner, found)
    return found.digest


def test_a_held_run_keeps_its_files_and_rows_and_its_place(lab: Lab) -> None:
    run = lab.run()
    first, second = stored(lab, b"first"), stored(lab, b"second")
    lab.do(files.attach, AttachFile(id=run, path="a.txt", digest=first, size=5))
    lab.do(rows.write, WriteRows(id=run, rows=[RowIn(id="row", data={"x": 1})]))
    lab.hold(ids=[run])
    for operation, command in (
        (files.attach, AttachFile(id=run, path="a.txt", digest=second, size=6)),
        (file_searches.detach, file_searches.DetachFiles(files=[GetFile(id=run, path="a.txt")])),
        (rows.write, WriteRows(id=run, rows=[RowIn(id="row", delete=True)])),
        (
            run_selections.move,
            run_selections.MoveRuns(by=Selected(project=lab.project.name), destination="elsewhere"),
        ),
    ):
        with pytest.raises(Held):
            lab.do(operation, command)
    lab.do(files.attach, AttachFile(id=run, path="a.txt", digest=first, size=5))
    lab.do(files.attach, AttachFile(id=run, path="b.txt", digest=second, size=6))
    lab.do(rows.write, WriteRows(id=run, rows=[RowIn(id="row", data={"x": 2}), RowIn(id="none", delete=True)]))


def test_a_held_run_that_runs_is_still_written(lab: Lab) -> None:
    run = lab.run(status="running")
    lab.hold(ids=[lab.project.id])
    for content in (b"first", b"second"):
        lab.do(files.attach, AttachFile(id=run, path="log", digest=stored(lab, content), size=len(content)))


def test_a_held_version_keeps_its_aliases_and_what_is_said_of_it(lab: Lab) -> None:
    version = lab.version(b"weights")
    lab.do(artifacts.set_aliases, SetAliases(id=version.id, add=("best",)))
    lab.do(artifact_edits.edit_version, EditVersion(id=version.id, metadata={"a": 1}, add_tags=("t",)))
    lab.hold(ids=[version.id])
    for operation, command in (
        (artifacts.set_aliases, SetAliases(id=version.id, remove=("best",))),
        (artifact_edits.edit_version, EditVersion(id=version.id, metadata={})),
        (artifact_edits.edit_version, EditVersion(id=version.id, remove_tags=("t",))),
        (artifact_edits.edit_version, EditVersion(id=version.id, aliases=())),
    ):
        with pytest.raises(Held):
            lab.do(operation, command)
    lab.do(artifacts.set_aliases, SetAliases(id=version.id, add=("good",)))
    lab.do(artifact_edits.edit_version, EditVersion(id=version.id, add_tags=("u",)))


def test_nobody_edits_an_object_out_of_a_standing_hold(lab: Lab) -> None:
    run = lab.run(tags=("released",))
    hold = lab.hold(kind="run", q='tag = "released"')
    with pytest.raises(Held, match="would take it out"):
        lab.do(runs.update, UpdateRun(id=run, remove_tags=("released",)))
    lab.do(runs.update, UpdateRun(id=run, notes="checked"))
    lab.hold(kind="project", q=f'name = "{lab.project.name}"')
    with pytest.raises(Held, match="would take it out"):
        lab.do(projects.update, UpdateProject(id=lab.project.id, name="another"))
    lab.do(holds.lift, LiftHold(id=hold.id, reason="closed"))
    lab.do(runs.update, UpdateRun(id=run, remove_tags=("released",)))
