"""Large verbs as jobs: what is answered at once, what each batch looks at again, and what pause and cancel leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    BindEnvironment,
    CommitVersion,
    Get,
    GetEnvironment,
    ItemVerb,
    ListAudit,
    ListMembersOf,
    ListRuns,
    MakePlan,
    Outcome,
    RestoreDeletion,
    Selection,
    SetLock,
    UpdateRun,
)
from labkeep.core.commands_holds import SetHold
from labkeep.core.commands_jobs import ControlJob, JobItem, ListJobItems, ResumeJob, SetRate
from labkeep.core.commands_plans import Undo
from labkeep.core.entities import Deletion, Job, Run
from labkeep.core.errors import Forbidden, Held, Illegal, TooLarge
from labkeep.core.lifecycle import Kind, State, Status, Verb
from labkeep.operations import audits, deletions, documents, environments, executions, holds, jobs, runs, undoing
from labkeep.operations.handovers import Asked
from labkeep.server import make_worker
from labkeep.storage.executions import WAITING, Waiting, turn_of
from labkeep.testing.factories import FixedClock, make_actor, make_document, make_project, make_run, make_store
from labkeep.worker.jobs import Lease, Progress

T = TypeVar("T")


class Lab:
    """A store where whatever is more than two objects is a job, in batches of two."""

    def __init__(self, folder: Path) -> None:
        self.clock = FixedClock()
        self._opened = make_store(folder, self.clock, apply_batch=2)
        self.store = self._opened.__enter__()
        self.database = self.store.database
        self.database.apply_at_once = 2
        self.actor = make_actor(self.database)
        self.project = make_project(self.database, self.actor, "drafts")
        self.worker = make_worker(self.store)

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def write(self, operation: Callable[..., T], command: Any, actor: Actor | None = None) -> T:
        return self.database.write(operation, actor or self.actor, command)

    def read(self, operation: Callable[..., T], command: Any) -> T:
        return self.database.read(operation, self.actor, command)

    def runs(self, count: int, **fields: Any) -> list[Run]:
        return [self.run(**fields) for _ in range(count)]

    def run(self, **fields: Any) -> Run:
        return make_run(self.database, self.actor, self.project, **({"status": Status.finished} | fields))

    def trash(self, **options: Any) -> Outcome:
        return self.apply("trash", **options)

    def apply(self, verb: str, q: str = "", **options: Any) -> Outcome:
        return self.write(deletions.apply, Apply(verb=verb, selection=Selection(project="drafts", q=q), **options))

    def job(self, outcome: Outcome | str) -> Job:
        id = outcome if isinstance(outcome, str) else str(outcome.job_id)
        return self.read(jobs.get, Get(id=id))

    def work(self, outcome: Outcome) -> Job:
        """Let the worker do all there is; the job as it is then."""
        self.worker.run_all()
        return self.job(outcome)

    def deletion(self, outcome: Outcome) -> Deletion:
        return self.read(deletions.get, Get(id=str(outcome.deletion_id)))

    def left(self, outcome: Outcome) -> list[JobItem]:
        return self.read(jobs.items, ListJobItems(id=str(outcome.job_id))).items

    def members(self, outcome: Outcome) -> dict[str, str]:
        found = self.read(deletions.members, ListMembersOf(id=str(outcome.deletion_id))).items
        return {member.item_id: member.outcome for member in found}

    def states(self, *items: Any) -> list[State]:
        return [self.read(deletions.get_item, Get(id=item.id, include="trashed")).state for item in items]

    def restore(self, outcome: Outcome, **options: Any) -> Outcome:
        return self.write(deletions.restore, RestoreDeletion(id=str(outcome.deletion_id), **options))


class Steps:
    """A large job, step by step, so that things can happen in between."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        job = lab.write(jobs.claim_next, jobs.Claim("by hand", timedelta(hours=1)))
        assert job is not None
        self.claimed = job

    def check(self) -> None:
        waiting: list[Waiting] = []
        found = self.lab.read(executions.check, executions.Check(Asked.of(self.claimed), waiting.extend))
        self.lab.write(executions.stage, executions.Staged(self.claimed, waiting))
        assert self.lab.write(executions.accept, executions.Accepted(self.claimed, found))

    def move(self, limit: int = 2) -> executions.Moved:
        moved = self.lab.write(executions.move, executions.Move(self.claimed, limit))
        assert moved is not None
        return moved

    def let_go(self) -> None:
        """As when the worker dies here: another one takes the job over."""
        self.lab.clock.advance(hours=2)


@pytest.fixture
def lab(data_dir: Path) -> Iterator[Lab]:
    lab = Lab(data_dir)
    yield lab
    lab.close()


# --- what is answered -------------------------------------------------------------------------------------------------


def test_a_small_selection_is_done_at_once(lab: Lab) -> None:
    made = lab.runs(2)
    outcome = lab.trash()
    assert (outcome.job_id, outcome.counts) == (None, {"run": 2})
    assert lab.states(*made) == [State.trashed] * 2


def test_a_large_selection_answers_at_once_and_goes_on_as_a_job(lab: Lab) -> None:
    made = lab.runs(5)
    outcome = lab.trash(reason="old drafts", ticket="T-1")
    assert outcome.job_id is not None
    assert outcome.undo == outcome.deletion_id
    assert outcome.counts == {}
    assert lab.states(*made) == [State.active] * 5
    opened = lab.deletion(outcome)
    assert (opened.state, opened.counts, opened.reason) == ("applying", {}, "old drafts")
    done = lab.work(outcome)
    assert (done.state, done.done, done.total, done.payload) == ("done", 5, 5, {})
    assert done.result["outcomes"] == {"trashed": 5}
    assert lab.states(*made) == [State.trashed] * 5
    closed = lab.deletion(outcome)
    assert (closed.state, closed.counts, closed.project_id) == ("trashed", {"run": 5}, lab.project.id)
    events = list(lab.read(audits.list_, ListAudit(event="run.trashed")).items)
    assert sum(event.count for event in events) == 5
    assert {(event.reason, event.ticket, event.actor) for event in events} == {("old drafts", "T-1", lab.actor.name)}
    assert lab.left(outcome) == []


@pytest.mark.parametrize(("background", "is_job"), [(True, True), (False, False), ("auto", False)])
def test_the_caller_may_say_whether_it_is_a_job(lab: Lab, background: bool | str, is_job: bool) -> None:
    lab.runs(2)
    assert (lab.trash(background=background).job_id is not None) is is_job


def test_whoever_does_not_want_a_job_waits_for_any_size(lab: Lab) -> None:
    lab.runs(7)
    assert lab.trash(background=False).counts == {"run": 7}


def test_what_no_transaction_may_change_is_left_to_a_job(lab: Lab) -> None:
    made = lab.runs(101)
    with pytest.raises(TooLarge, match="leave that to a job"):
        lab.trash(background=False)
    assert set(lab.states(*made)) == {State.active}
    outcome = lab.trash()
    lab.work(outcome)
    whole = Selection(deletion_id=outcome.deletion_id)
    purge = lab.write(deletions.apply, Apply(verb="purge", selection=whole))
    assert lab.work(purge).result["items"] == 101


def test_what_blocks_is_said_at_once_when_nothing_would_go(lab: Lab) -> None:
    for run in lab.runs(3):
        lab.write(deletions.set_lock, SetLock(id=run.id, locked=True))
    with pytest.raises(Held):
        lab.trash(background=True)


def test_the_same_plan_twice_is_the_same_job(lab: Lab) -> None:
    lab.runs(5)
    plan = lab.write(deletions.make_plan, MakePlan(selection=Selection(project="drafts")))
    first, again = lab.trash(plan_hash=plan.hash), lab.trash(plan_hash=plan.hash)
    assert (again.deletion_id, again.job_id) == (first.deletion_id, first.job_id)
    lab.work(first)
    after = lab.trash(plan_hash=plan.hash)
    assert (after.deletion_id, after.job_id, after.already) == (first.deletion_id, None, 5)


def test_what_was_gone_already_is_success_with_the_original_record(lab: Lab) -> None:
    made = lab.runs(4)
    first = lab.trash(background=False)
    selection = Selection(ids=[run.id for run in made])
    again = lab.write(deletions.apply, Apply(selection=selection, background=True))
    assert (again.job_id, again.already, again.deletion_id) == (None, 4, first.deletion_id)


# --- the whole is looked at first -------------------------------------------------------------------------------------


def test_a_plan_that_is_stale_moves_nothing(lab: Lab) -> None:
    made = lab.runs(5)
    plan = lab.write(deletions.make_plan, MakePlan(selection=Selection(project="drafts")))
    lab.write(runs.update, UpdateRun(id=made[4].id, notes="still needed"))
    outcome = lab.trash(plan_hash=plan.hash)
    failed = lab.work(outcome)
    assert failed.state == "failed"
    assert failed.error.startswith("Stale: something changed")
    assert lab.states(*made) == [State.active] * 5
    assert lab.deletion(outcome).state == "cancelled"
    assert failed.payload == {}
    fresh = lab.write(deletions.make_plan, MakePlan(selection=Selection(project="drafts")))
    assert lab.work(lab.trash(plan_hash=fresh.hash)).state == "done"


def test_one_that_must_stay_keeps_all_of_them(lab: Lab) -> None:
    made = [*lab.runs(4), lab.run(status=Status.running)]
    failed = lab.work(lab.trash())
    assert failed.state == "failed"
    assert "is running" in failed.error
    assert lab.states(*made) == [State.active] * 5
    assert lab.work(lab.trash(on_running="stop")).state == "done"
    assert lab.read(runs.get, Get(id=made[4].id, include="trashed")).status == Status.stopped


def test_a_job_has_the_rights_of_who_asked(lab: Lab) -> None:
    lab.runs(3)
    make_document(lab.database, lab.actor, lab.project)
    editor = make_actor(lab.database, "editor")
    asked = Apply(selection=Selection(ids=[lab.project.id]), background=True)
    with pytest.raises(Forbidden):
        lab.write(deletions.apply, asked, editor)


# --- each batch looks again -------------------------------------------------------------------------------------------


def test_what_changed_since_it_was_chosen_is_left_alone(lab: Lab) -> None:
    edited, locked, gone, started, *rest = lab.runs(8)
    outcome = lab.trash()
    steps = Steps(lab)
    steps.check()
    lab.write(runs.update, UpdateRun(id=edited.id, notes="wait"))
    lab.write(deletions.set_lock, SetLock(id=locked.id, locked=True))
    lab.write(deletions.trash_item, ItemVerb(id=gone.id))
    steps.let_go()
    done = lab.work(outcome)
    assert done.result["outcomes"] == {"trashed": 5, "stale": 1, "blocked": 1, "already": 1}
    assert lab.states(edited, locked, started, *rest) == [State.active] * 2 + [State.trashed] * 5
    assert {(one.item_id, one.outcome, one.reason) for one in lab.left(outcome)} == {
        (edited.id, "stale", "has changed since it was chosen"),
        (locked.id, "blocked", "is locked: unlock it first"),
        (gone.id, "already", "is trashed"),
    }
    assert lab.deletion(outcome).counts == {"run": 5}
    assert lab.read(jobs.items, ListJobItems(id=done.id, outcome="stale")).items[0].item_id == edited.id


def test_what_is_held_meanwhile_stays(lab: Lab) -> None:
    held, *rest = lab.runs(5)
    outcome = lab.trash()
    steps = Steps(lab)
    steps.check()
    lab.write(holds.set_, SetHold(matter="a case", ids=[held.id]))
    steps.let_go()
    assert lab.work(outcome).result["outcomes"] == {"trashed": 4, "blocked": 1}
    assert lab.states(held, *rest) == [State.active] + [State.trashed] * 4
    [left] = lab.left(outcome)
    assert "hold" in left.reason


def test_a_project_goes_after_what_is_in_it_and_stays_when_something_came_in(lab: Lab) -> None:
    made = lab.runs(5)
    outcome = lab.write(deletions.trash_item, ItemVerb(id=lab.project.id))
    steps = Steps(lab)
    steps.check()
    steps.move()
    assert lab.states(lab.project) == [State.active]
    late = lab.run()
    steps.let_go()
    done = lab.work(outcome)
    assert lab.states(lab.project, late) == [State.active] * 2
    assert lab.states(*made) == [State.trashed] * 5
    [left] = lab.left(outcome)
    assert (left.item_id, left.outcome) == (lab.project.id, "blocked")
    assert "came in" in left.reason
    assert done.state == "done"
    assert lab.write(deletions.trash_item, ItemVerb(id=lab.project.id)).counts == {"project": 1, "run": 1}


def test_names_are_free_with_each_batch_and_readers_see_what_has_gone_so_far(lab: Lab) -> None:
    documents_ = [make_document(lab.database, lab.actor, lab.project, handle=f"d{n}", name=f"d{n}") for n in range(4)]
    outcome = lab.write(deletions.apply, Apply(selection=Selection(project="drafts", kind="document")))
    steps = Steps(lab)
    steps.check()
    assert steps.move().done == 2
    assert lab.deletion(outcome).counts == {"document": 2}
    assert lab.members(outcome) == {one.id: "trashed" for one in documents_[:2]}
    make_document(lab.database, lab.actor, lab.project, handle="d0", name="d0")
    steps.let_go()
    assert lab.work(outcome).state == "done"
    assert lab.deletion(outcome).counts == {"document": 4}


def test_bindings_are_undone_once_and_put_back(lab: Lab) -> None:
    bound = []
    for number in range(4):
        document = make_document(lab.database, lab.actor, lab.project)
        lab.write(documents.commit, CommitVersion(id=document.id, body={"n": number}))
        name = {"project": lab.project.id, "name": f"env-{number}"}
        lab.write(environments.bind, BindEnvironment(**name, document_id=document.id))
        bound.append(document)
    asked = Apply(selection=Selection(project="drafts", kind="document"), force=True)
    outcome = lab.write(deletions.apply, asked)
    assert lab.work(outcome).state == "done"
    find = {"project": lab.project.id}
    assert lab.read(environments.get, GetEnvironment(**find, name="env-2")).document_id is None
    unbound = lab.read(audits.list_, ListAudit(event="environment.unbound")).items
    assert len(unbound) == 4
    back = lab.work(lab.restore(outcome))
    assert back.result["outcomes"] == {"restored": 4}
    assert back.result["not_rebound"] == []
    for number, document in enumerate(bound):
        assert lab.read(environments.get, GetEnvironment(**find, name=f"env-{number}")).document_id == document.id


def test_what_needs_each_other_goes_together_across_batches(lab: Lab) -> None:
    base, *others = lab.runs(3)
    forks = [lab.run(base_run_id=base.id) for _ in range(3)]
    assert lab.work(lab.trash()).result["outcomes"] == {"trashed": 6}
    assert lab.states(base, *others, *forks) == [State.trashed] * 6


# --- control ----------------------------------------------------------------------------------------------------------


def test_cancelling_leaves_what_went_as_a_deletion_that_can_be_restored(lab: Lab) -> None:
    made = lab.runs(5)
    outcome = lab.trash()
    steps = Steps(lab)
    steps.check()
    steps.move()
    asked = lab.write(jobs.cancel, ControlJob(id=str(outcome.job_id)))
    assert asked.wanted == "cancel"
    assert steps.move() == executions.Moved("cancel")
    steps.let_go()
    ended = lab.work(outcome)
    assert (ended.state, ended.done, ended.result["outcomes"]) == ("cancelled", 2, {"trashed": 2})
    assert lab.states(*made) == [State.trashed] * 2 + [State.active] * 3
    assert (lab.deletion(outcome).state, lab.deletion(outcome).counts) == ("trashed", {"run": 2})
    assert lab.left(outcome) == []
    lab.restore(outcome)
    assert lab.states(*made) == [State.active] * 5


def test_cancelling_before_anything_went_leaves_nothing(lab: Lab) -> None:
    made = lab.runs(3)
    outcome = lab.trash()
    lab.write(jobs.cancel, ControlJob(id=str(outcome.job_id)))
    assert lab.work(outcome).state == "cancelled"
    assert lab.deletion(outcome).state == "cancelled"
    assert lab.states(*made) == [State.active] * 3
    again = lab.write(jobs.cancel, ControlJob(id=str(outcome.job_id)))
    assert again.state == "cancelled"


def test_a_paused_job_waits_until_it_is_resumed(lab: Lab) -> None:
    made = lab.runs(5)
    outcome = lab.trash()
    steps = Steps(lab)
    steps.check()
    steps.move()
    lab.write(jobs.pause, ControlJob(id=str(outcome.job_id)))
    steps.let_go()
    assert lab.work(outcome).state == "paused"
    assert lab.work(outcome).done == 2
    assert lab.write(jobs.pause, ControlJob(id=str(outcome.job_id))).state == "paused"
    resumed = lab.write(jobs.resume, ResumeJob(id=str(outcome.job_id), rate=1e6))
    assert (resumed.state, resumed.payload["rate"]) == ("queued", 1e6)
    assert lab.work(outcome).state == "done"
    assert lab.states(*made) == [State.trashed] * 5
    with pytest.raises(Illegal, match="is done"):
        lab.write(jobs.pause, ControlJob(id=str(outcome.job_id)))


def test_a_job_that_waits_can_be_paused_and_then_cancelled(lab: Lab) -> None:
    lab.runs(3)
    outcome = lab.trash()
    assert lab.write(jobs.pause, ControlJob(id=str(outcome.job_id))).state == "paused"
    assert lab.work(outcome).state == "paused"
    lab.write(jobs.cancel, ControlJob(id=str(outcome.job_id)))
    assert lab.work(outcome).state == "cancelled"


def test_pausing_often_does_not_use_up_the_attempts(lab: Lab) -> None:
    lab.runs(3)
    outcome = lab.trash()
    for _ in range(15):
        lab.write(jobs.pause, ControlJob(id=str(outcome.job_id)))
        lab.write(jobs.resume, ResumeJob(id=str(outcome.job_id)))
    assert lab.work(outcome).state == "done"


def test_others_need_the_right_to_control_jobs(lab: Lab) -> None:
    lab.runs(3)
    outcome = lab.trash()
    editor, maintainer = make_actor(lab.database, "editor"), make_actor(lab.database, "maintainer")
    control = ControlJob(id=str(outcome.job_id))
    for operation in (jobs.pause, jobs.cancel):
        with pytest.raises(Forbidden, match=r"job\.control"):
            lab.write(operation, control, editor)
    assert lab.write(jobs.pause, control, maintainer).state == "paused"
    limited = lab.write(jobs.set_rate, SetRate(id=control.id, rate=7), maintainer)
    assert limited.payload["rate"] == 7
    assert lab.write(jobs.set_rate, SetRate(id=control.id, rate=None)).payload["rate"] is None


def test_a_purge_can_be_paused(lab: Lab) -> None:
    run = lab.run()
    lab.write(deletions.trash_item, ItemVerb(id=run.id))
    outcome = lab.write(deletions.purge_item, ItemVerb(id=run.id))
    control = ControlJob(id=str(outcome.job_id))
    assert lab.write(jobs.pause, control).state == "paused"
    assert lab.work(outcome).state == "paused"
    lab.write(jobs.resume, ResumeJob(id=control.id))
    assert lab.work(outcome).state == "done"


def test_nobody_restores_or_purges_what_is_still_being_trashed(lab: Lab) -> None:
    lab.runs(5)
    outcome = lab.trash()
    steps = Steps(lab)
    steps.check()
    steps.move()
    with pytest.raises(Illegal, match=f"still being applied by job {outcome.job_id}"):
        lab.restore(outcome)
    with pytest.raises(Illegal, match="still being applied"):
        lab.write(deletions.apply, Apply(verb="purge", selection=Selection(deletion_id=outcome.deletion_id)))


def test_a_job_with_a_rate_makes_room_for_others(lab: Lab) -> None:
    lab.runs(3)
    outcome = lab.trash(rate=0.1)
    assert lab.work(outcome).state == "queued"
    assert (lab.job(outcome).done, lab.job(outcome).attempts) == (1, 0)
    for done in (2, 3):
        lab.clock.advance(seconds=11)
        assert lab.work(outcome).done == done
    lab.clock.advance(seconds=11)
    assert lab.work(outcome).state == "done"


# --- the other verbs --------------------------------------------------------------------------------------------------


def test_a_large_deletion_comes_back_as_a_job_containers_first(lab: Lab) -> None:
    made = lab.runs(5, state=State.archived)
    outcome = lab.write(deletions.trash_item, ItemVerb(id=lab.project.id))
    lab.work(outcome)
    back = lab.restore(outcome)
    assert back.job_id is not None
    steps = Steps(lab)
    steps.check()
    steps.move()
    assert lab.states(lab.project) == [State.active]
    steps.let_go()
    assert lab.work(back).result["outcomes"] == {"restored": 6}
    assert lab.states(lab.project, *made) == [State.active] + [State.archived] * 5
    assert lab.deletion(outcome).state == "restored"


def test_names_that_are_taken_by_then_stay_in_the_trash(lab: Lab) -> None:
    made = [make_document(lab.database, lab.actor, lab.project, handle=f"d{n}", name=f"d{n}") for n in range(4)]
    outcome = lab.write(
        deletions.apply, Apply(selection=Selection(project="drafts", kind="document"), background=False)
    )
    back = lab.restore(outcome)
    steps = Steps(lab)
    steps.check()
    taken = make_document(lab.database, lab.actor, lab.project, handle="d1", name="d1")
    steps.let_go()
    done = lab.work(back)
    assert done.result["outcomes"] == {"restored": 3, "blocked": 1}
    [left] = lab.left(back)
    assert left.item_id == made[1].id
    assert taken.id in left.reason
    assert lab.states(*made) == [State.active, State.trashed, State.active, State.active]
    assert lab.deletion(outcome).state == "trashed"
    lab.restore(outcome, names={made[1].id: "d1-again"})
    assert lab.deletion(outcome).state == "restored"


def test_a_name_that_is_taken_before_keeps_the_whole_in_the_trash(lab: Lab) -> None:
    made = [make_document(lab.database, lab.actor, lab.project, handle=f"d{n}", name=f"d{n}") for n in range(4)]
    outcome = lab.write(
        deletions.apply, Apply(selection=Selection(project="drafts", kind="document"), background=False)
    )
    make_document(lab.database, lab.actor, lab.project, handle="d1", name="d1")
    failed = lab.work(lab.restore(outcome))
    assert failed.state == "failed"
    assert "exists again" in failed.error
    assert lab.states(*made) == [State.trashed] * 4
    renamed = lab.work(lab.restore(outcome, names={made[1].id: "d1-again"}))
    assert renamed.result["outcomes"] == {"restored": 4}


def test_archiving_much_is_a_job_too(lab: Lab) -> None:
    made = lab.runs(5)
    assert lab.work(lab.apply("archive")).result["outcomes"] == {"archived": 5}
    assert lab.states(*made) == [State.archived] * 5
    assert lab.work(lab.apply("unarchive")).result["counts"] == {"run": 5}
    assert lab.states(*made) == [State.active] * 5


def test_purging_much_by_a_query_purges_what_matches_and_no_more(lab: Lab) -> None:
    made = lab.runs(6)
    whole = lab.trash(background=False)
    chosen = Selection(ids=[run.id for run in made[:4]])
    outcome = lab.write(deletions.apply, Apply(verb="purge", selection=chosen))
    done = lab.work(outcome)
    assert done.result["outcomes"] == {"purged": 4}
    assert [lab.job(id).state for id in done.result["job_ids"]] == ["done", "done"]
    assert lab.states(*made[4:]) == [State.trashed] * 2
    assert lab.deletion(whole).counts == {"run": 2}
    lab.restore(whole)
    assert len(lab.read(runs.list_, ListRuns(project="drafts")).items) == 2


# --- killed in between ------------------------------------------------------------------------------------------------


def test_an_attempt_that_died_while_looking_starts_to_look_again(lab: Lab) -> None:
    made = lab.runs(5)
    outcome = lab.trash()
    steps = Steps(lab)
    lost = Waiting(made[0].id, WAITING[0], "of an attempt that died")
    lab.write(executions.stage, executions.Staged(steps.claimed, [lost]))
    steps.let_go()
    assert lab.work(outcome).result["outcomes"] == {"trashed": 5}


def test_who_lost_the_job_does_nothing_more(lab: Lab) -> None:
    made = lab.runs(5)
    outcome = lab.trash()
    steps = Steps(lab)
    steps.check()
    steps.let_go()
    other = lab.write(jobs.claim_next, jobs.Claim("another", timedelta(hours=1)))
    assert other is not None
    assert lab.write(executions.move, executions.Move(steps.claimed, 2)) is None
    assert lab.write(executions.stage, executions.Staged(steps.claimed, [])) is None
    assert lab.write(executions.close, executions.Closed(steps.claimed, "done")) is False
    assert lab.states(*made) == [State.active] * 5
    assert lab.deletion(outcome).state == "applying"


# --- order and pace ---------------------------------------------------------------------------------------------------


def test_containers_go_last_and_come_back_first() -> None:
    depth = [Kind.run, Kind.artifact, Kind.project]
    assert [turn_of(Verb.trash, kind) for kind in depth] == list(WAITING)
    assert [turn_of(Verb.restore, kind) for kind in depth] == list(reversed(WAITING))
    assert {turn_of(Verb.archive, kind) for kind in Kind} == {WAITING[0]}


def test_a_worker_that_is_to_stop_leaves_its_job_to_the_next(lab: Lab) -> None:
    lab.runs(3)
    lab.trash()
    stopping = threading.Event()
    progress = Progress(Lease(lab.store, Steps(lab).claimed), stopping)
    assert progress.pace(2, None) is None
    assert progress.speed > 0
    stopping.set()
    assert progress.pace(2, None) == jobs.Turn("queued")


def test_a_rate_is_kept_by_waiting_or_by_coming_back_later(lab: Lab) -> None:
    lab.runs(3)
    lab.trash()
    progress = Progress(Lease(lab.store, Steps(lab).claimed))
    assert progress.pace(1, 1000) is None
    later = progress.pace(1, 0.01)
    assert later is not None
    assert 190 < later.after_s <= 200


# --- the way back -----------------------------------------------------------------------------------------------------


def test_what_a_job_did_is_taken_back_by_its_id_but_for_what_was_changed_since(lab: Lab) -> None:
    made = lab.runs(5)
    done = lab.apply("archive")
    assert done.undo == done.job_id
    with pytest.raises(Illegal, match="still at it"):
        lab.write(undoing.undo, Undo(token=str(done.undo)))
    lab.worker.run_all()
    assert "moments" not in lab.job(done).result
    lab.clock.advance(seconds=1)
    for verb in ("unarchive", "archive"):
        lab.write(deletions.apply, Apply(verb=verb, selection=Selection(ids=[made[0].id])))
        lab.clock.advance(seconds=1)
    back = lab.write(undoing.undo, Undo(token=str(done.undo)))
    lab.worker.run_all()
    assert lab.job(back).result["counts"] == {"run": 4}
    assert lab.states(*made) == ["archived", *["active"] * 4]
    assert lab.write(undoing.undo, Undo(token=str(done.undo))).already == 5
    lab.clock.advance(seconds=1)
    lab.write(undoing.undo, Undo(token=str(back.undo)))
    lab.worker.run_all()
    assert lab.states(*made) == ["archived"] * 5


def test_a_trash_and_a_restore_by_jobs_are_taken_back_by_their_ids(lab: Lab) -> None:
    made = lab.runs(3)
    lab.clock.advance(seconds=1)
    trashed = lab.trash()
    lab.worker.run_all()
    restored = lab.write(undoing.undo, Undo(token=str(trashed.job_id)))
    lab.worker.run_all()
    assert lab.states(*made) == ["active"] * 3
    lab.clock.advance(seconds=1)
    lab.write(undoing.undo, Undo(token=str(restored.undo)))
    lab.worker.run_all()
    assert lab.states(*made) == ["trashed"] * 3
