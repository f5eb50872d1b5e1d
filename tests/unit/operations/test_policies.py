"""Retention policies on both databases: writing them, previews, and runs that go the way of everybody else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    BindEnvironment,
    CreateArtifactVersion,
    CreateLink,
    Get,
    ItemVerb,
    ListAudit,
    ListDeletions,
    ManifestEntry,
    ReadRows,
    RowIn,
    Selection,
    SetAliases,
    SetLock,
    UpdateProject,
    UpdateRun,
    WriteRows,
)
from labkeep.core.commands_holds import SetHold
from labkeep.core.commands_jobs import ControlJob
from labkeep.core.commands_policies import (
    CreatePolicy,
    ListLimits,
    ListPolicies,
    ListReports,
    Policy,
    PolicyPreview,
    PolicyReport,
    PreviewDraft,
    PreviewPolicy,
    PutPolicy,
    RemovePolicy,
    RunPolicy,
    UpdatePolicy,
)
from labkeep.core.entities import Item, Project
from labkeep.core.errors import AlreadyExists, Forbidden, Invalid, NotFound
from labkeep.core.lifecycle import State
from labkeep.operations import (
    Store,
    artifacts,
    audits,
    deletions,
    environments,
    files,
    holds,
    jobs,
    policies,
    policy_previews,
    policy_runs,
    projects,
    removals,
    retention,
    retention_limits,
    row_retention,
    rows,
    runs,
)
from labkeep.server import make_worker
from labkeep.storage import records
from labkeep.storage.database_postgres import Postgres
from labkeep.testing.factories import FixedClock, make_actor, make_document, make_project, make_run, make_store
from labkeep.worker import policies as tasks


class Lab(NamedTuple):
    """A store with an owner and a project."""

    store: Store
    clock: FixedClock
    owner: Actor
    project: Project

    def do(self, operation: Any, command: Any, actor: Actor | None = None) -> Any:
        return self.store.database.write(operation, actor or self.owner, command)

    def ask(self, operation: Any, command: Any, actor: Actor | None = None) -> Any:
        return self.store.database.read(operation, actor or self.owner, command)

    def run(self, days_old: int = 0, **fields: Any) -> str:
        at = self.clock.now - timedelta(days=days_old)
        fields = {"status": "finished", "created_at": at, **fields}
        return make_run(self.store.database, self.owner, fields.pop("project", self.project), **fields).id

    def policy(self, name: str = "a policy", /, actor: Actor | None = None, **fields: Any) -> Policy:
        home = {key: fields.pop(key) for key in ("scope", "project", "enabled", "every_s") if key in fields}
        made: Policy = self.do(policies.create, CreatePolicy(name=name, body=fields, **home), actor)
        return made

    def preview(self, policy: Policy, **options: Any) -> PolicyPreview:
        found: PolicyPreview = self.ask(policy_previews.preview, PreviewPolicy(id=policy.id, **options))
        return found

    def going(self, policy: Policy) -> list[str]:
        return [item.id for item in self.preview(policy, limit=10_000).items]

    def why(self, policy: Policy, id: str) -> dict[str, str]:
        for item in self.preview(policy, show="all").items:
            if item.id == id:
                return {reason.rule: reason.text for reason in item.reasons}
        return {}

    def work(self, policy: Policy, actor: Actor | None = None) -> PolicyReport:
        started = self.do(policy_runs.run, RunPolicy(id=policy.id), actor)
        make_worker(self.store).run_all()
        report: PolicyReport = self.ask(policies.get_report, Get(id=started.report_id))
        assert report.state == "done"
        return report

    def state(self, id: str) -> str:
        def read(tx: Any, actor: Actor, id: str) -> Item:
            return records.get(tx, Item, actor, id, states=tuple(State))

        return str(self.store.database.read(read, self.owner, id).state)

    def events(self, event: str) -> list[Any]:
        return list(self.ask(audits.list_, ListAudit(event=event)).items)


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


# --- writing them -----------------------------------------------------------------------------------------------------


def test_a_policy_says_what_it_means_and_runs_first_one_interval_later(lab: Lab) -> None:
    made = lab.policy("drafts", older_than="30d", status=["failed"], every_s=3600)
    assert made.sentence == "Trash runs created more than 30 days ago that are failed."
    assert made.scope == "workspace"
    assert made.next_run_at == lab.clock.now + timedelta(hours=1)
    assert lab.ask(policies.get, Get(id=made.id)) == made
    assert [event.subject_id for event in lab.events("policy.created")] == [made.id]


def test_a_name_is_taken_once_in_a_scope(lab: Lab) -> None:
    first = lab.policy("same", keep_last=1)
    with pytest.raises(AlreadyExists, match="has a policy 'same' already"):
        lab.policy("same", keep_last=2)
    elsewhere = lab.policy("same", keep_last=2, project=lab.project.name)
    other = lab.policy("other", keep_last=3)
    with pytest.raises(AlreadyExists):
        lab.do(policies.update, UpdatePolicy(id=other.id, name="same"))
    found = lab.ask(policies.list_, ListPolicies(name="same")).items
    assert {policy.id for policy in found} == {first.id, elsewhere.id}


def test_a_policy_is_changed_switched_off_and_taken_away(lab: Lab) -> None:
    made = lab.policy("drafts", older_than="30d")
    after = lab.do(policies.update, UpdatePolicy(id=made.id, body={"older_than": "60d"}, every_s=7200))
    assert "60 days" in after.sentence
    assert after.next_run_at == lab.clock.now + timedelta(hours=2)
    off = lab.do(policies.update, UpdatePolicy(id=made.id, enabled=False))
    assert (off.enabled, off.next_run_at) == (False, None)
    assert lab.do(policies.update, UpdatePolicy(id=made.id, enabled=False)) == off
    lab.do(policies.remove, RemovePolicy(id=made.id))
    with pytest.raises(NotFound):
        lab.ask(policies.get, Get(id=made.id))
    assert [len(lab.events(f"policy.{event}")) for event in ("updated", "disabled", "removed")] == [1, 1, 1]


def test_putting_a_policy_twice_changes_nothing_the_second_time(lab: Lab) -> None:
    wanted = PutPolicy(name="best", body={"keep_best": {"count": 5, "metric": "summary.acc"}}, project=lab.project.name)
    assert lab.do(policies.put, PutPolicy(**{**as_fields(wanted), "dry_run": True})).change == "created"
    assert lab.ask(policies.list_, ListPolicies()).items == []
    made = lab.do(policies.put, wanted)
    assert made.change == "created"
    lab.clock.advance(days=1)
    again = lab.do(policies.put, wanted)
    assert (again.change, again.policy.id, again.policy.updated_at) == (
        "unchanged",
        made.policy.id,
        made.policy.updated_at,
    )
    changed = lab.do(policies.put, PutPolicy(**{**as_fields(wanted), "every_s": 600}))
    assert (changed.change, changed.policy.id, changed.policy.every_s) == ("updated", made.policy.id, 600)


def as_fields(command: Any) -> dict[str, Any]:
    return {name: getattr(command, name) for name in command.__struct_fields__}


def test_who_may_write_what(lab: Lab) -> None:
    database = lab.store.database
    maintainer, editor = make_actor(database, "maintainer"), make_actor(database, "editor")
    agent = make_actor(database, "owner", agent=True)
    own = lab.policy("theirs", keep_last=1, actor=maintainer)
    whole = lab.policy("whole", keep_last=1, scope="organization")
    for actor in (editor, agent):
        with pytest.raises(Forbidden, match=r"policy\.write"):
            lab.policy("no", keep_last=1, actor=actor)
        with pytest.raises(Forbidden):
            lab.do(policy_runs.run, RunPolicy(id=own.id), actor)
        assert lab.ask(policies.get, Get(id=own.id), actor) == own
    for command in (UpdatePolicy(id=whole.id, every_s=600), RemovePolicy(id=whole.id)):
        operation = policies.update if isinstance(command, UpdatePolicy) else policies.remove
        with pytest.raises(Forbidden, match="write_organization"):
            lab.do(operation, command, maintainer)
    with pytest.raises(Forbidden):
        lab.policy("no", keep_last=1, scope="organization", actor=maintainer)


def test_another_workspace_sees_the_organizations_policies_and_not_ours(lab: Lab) -> None:
    neighbour = make_actor(lab.store.database, workspace="next door")
    stranger = make_actor(lab.store.database, organization="elsewhere")
    own, whole = lab.policy("own", keep_last=1), lab.policy("whole", keep_last=1, scope="organization")
    assert [policy.id for policy in lab.ask(policies.list_, ListPolicies(), neighbour).items] == [whole.id]
    assert lab.ask(policies.list_, ListPolicies(), stranger).items == []
    report = lab.work(own)
    for actor in (neighbour, stranger):
        for operation, command in (
            (policies.get, Get(id=own.id)),
            (policy_previews.preview, PreviewPolicy(id=own.id)),
            (policies.list_reports, ListReports(id=own.id)),
            (policies.get_report, Get(id=report.id)),
        ):
            with pytest.raises(NotFound):
                lab.ask(operation, command, actor)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scope": "project", "keep_last": 1}, "name the project"),
        ({"scope": "workspace", "project": "x", "keep_last": 1}, "leave the project out"),
        ({"keep_lst": 1}, "did you mean keep_last"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(lab: Lab, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        lab.policy("wrong", **fields)


# --- previews ---------------------------------------------------------------------------------------------------------


def test_a_preview_names_who_goes_and_who_stays_and_why(lab: Lab) -> None:
    old, young = lab.run(40), lab.run(3)
    tagged = lab.run(50, tags=("paper",))
    policy = lab.policy(older_than="30d", keep_tagged=["paper"], project=lab.project.name)
    shown = lab.preview(policy)
    assert [(item.id, item.action) for item in shown.items] == [(old, "trash")]
    assert shown.counts == {"keep": {"run": 1}, "trash": {"run": 1}}
    assert (shown.considered, shown.takes_everything, shown.runs_at) == (2, False, policy.next_run_at)
    assert lab.why(policy, old) == {
        "older_than": "it was created 40 days ago",
        "keep_tagged": "it is not tagged paper",
    }
    assert lab.why(policy, tagged) == {"keep_tagged": "it is tagged paper"}
    assert [item.id for item in lab.preview(policy, show="kept").items] == [tagged]
    later = lab.preview(policy, at=lab.clock.now + timedelta(days=60))
    assert {item.id for item in later.items} == {old, young}
    assert lab.state(old) == "active"


def test_a_preview_says_when_a_policy_would_take_everything(lab: Lab) -> None:
    lab.run(40)
    policy = lab.policy(older_than="30d")
    assert lab.preview(policy).takes_everything
    assert "everything" in lab.preview(policy).warnings[0]
    lab.run(50, locked=True)
    assert not lab.preview(policy).takes_everything


def test_a_preview_comes_in_pages(lab: Lab) -> None:
    ids = {lab.run(40) for _ in range(7)}
    policy = lab.policy(older_than="30d")
    seen: list[str] = []
    page = lab.preview(policy, limit=3)
    assert page.counts == {"trash": {"run": 7}}
    while True:
        seen += [item.id for item in page.items]
        if page.next is None:
            break
        page = lab.preview(policy, limit=3, cursor=page.next)
        assert page.counts == {}
    assert len(seen) == 7
    assert set(seen) == ids


def test_a_draft_can_be_looked_at_before_it_is_a_policy(lab: Lab) -> None:
    old = lab.run(40)
    shown = lab.ask(policy_previews.preview_draft, PreviewDraft(body={"older_than": "30d"}, project=lab.project.name))
    assert [item.id for item in shown.items] == [old]
    with pytest.raises(Invalid, match="older_than"):
        lab.ask(policy_previews.preview_draft, PreviewDraft(body={"older_than": "30 days"}))


def test_the_best_of_each_project_are_kept(lab: Lab) -> None:
    other = make_project(lab.store.database, lab.owner)
    here = [lab.run(summary={"acc": n / 10}) for n in range(5)]
    there = [lab.run(summary={"acc": n / 100}, project=other) for n in range(3)]
    without = lab.run(summary={"acc": "good"})
    policy = lab.policy(keep_best={"count": 2, "metric": "summary.acc"})
    assert set(lab.going(policy)) == {*here[:3], there[0], without}
    assert "its summary.acc is 0.2" in lab.why(policy, here[2])["keep_best"]
    assert lab.why(policy, without)["keep_best"] == "it has no summary.acc"
    assert "number 1 of the 2 best" in lab.why(policy, here[4])["keep_best"]


def test_conditions_are_those_of_the_language_of_queries(lab: Lab) -> None:
    ids = {name: lab.run(40, name=name, config={"lr": lr}) for name, lr in {"a": 0.1, "b": 0.5}.items()}
    policy = lab.policy(older_than="30d", q="config.lr > 0.3")
    assert lab.going(policy) == [ids["b"]]


def test_what_something_live_needs_is_kept_with_its_reason(lab: Lab) -> None:
    document = make_document(lab.store.database, lab.owner, lab.project)
    lab.do(environments.bind, BindEnvironment(project=lab.project.id, name="production", document_id=None))
    run, free = lab.run(40), lab.run(40)
    lab.do(environments.link, CreateLink(source_id=document.id, target_id=run, type="uses"))
    policy = lab.policy(older_than="30d")
    assert lab.going(policy) == [free]
    assert "link uses of document" in lab.why(policy, run)["keep_bound"]


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_trashes_as_the_policy_and_reports_it(lab: Lab) -> None:
    old, young = lab.run(40, bytes=500), lab.run(1)
    policy = lab.policy("drafts", older_than="30d")
    report = lab.work(policy)
    assert (lab.state(old), lab.state(young)) == ("trashed", "active")
    assert report.counts == {"trash": {"run": 1}}
    assert (report.body["bytes"], report.body["blocked"]) == (500, 0)
    deletion = lab.ask(deletions.get, Get(id=report.body["deletions"][0]))
    assert deletion.reason == "policy drafts"
    assert deletion.actor == f"policy drafts (for {lab.owner.name})"
    (ran,) = lab.events("policy.ran")
    assert (ran.subject_id, ran.count, ran.details["report_id"]) == (policy.id, 1, report.id)
    after = lab.ask(policies.get, Get(id=policy.id))
    assert after.last_run_at == lab.clock.now
    assert after.next_run_at == lab.clock.now + timedelta(days=1)


def test_a_second_run_does_nothing(lab: Lab) -> None:
    for _ in range(3):
        lab.run(40)
    policy = lab.policy(keep_last=1)
    assert lab.work(policy).counts == {"trash": {"run": 2}}
    again = lab.work(policy)
    assert (again.counts, again.body["kept"]) == ({}, 1)
    assert len(lab.ask(policies.list_reports, ListReports(id=policy.id)).items) == 2


def test_archiving_and_then_trashing_are_two_policies(lab: Lab) -> None:
    run = lab.run(40)
    archive, trash = lab.policy("a", action="archive", older_than="30d"), lab.policy("t", older_than="90d")
    lab.work(archive)
    assert lab.state(run) == "archived"
    lab.work(trash)
    assert lab.state(run) == "archived"
    lab.clock.advance(days=60)
    lab.work(trash)
    assert lab.state(run) == "trashed"


def test_purge_takes_only_what_was_in_the_trash_for_long_enough_and_cannot_be_restored_any_more(lab: Lab) -> None:
    lab.do(projects.update, UpdateProject(id=lab.project.id, settings={"grace_days": 10}))
    first, second = lab.run(40), lab.run(40)
    lab.do(deletions.apply, Apply(selection=Selection(ids=[first])))
    policy = lab.policy(action="purge", trashed_for="3d")
    lab.clock.advance(days=5)
    assert lab.work(policy).counts == {}
    lab.clock.advance(days=4, hours=23)
    lab.do(deletions.apply, Apply(selection=Selection(ids=[second])))
    lab.clock.advance(hours=2)
    assert lab.work(policy).counts == {"purge": {"run": 1}}
    assert (lab.state(first), lab.state(second)) == ("purged", "trashed")


def test_a_minimum_keep_of_the_project_keeps_from_purge(lab: Lab) -> None:
    lab.do(projects.update, UpdateProject(id=lab.project.id, settings={"grace_days": 0, "minimum_keep_days": 100}))
    run = lab.run(40)
    lab.do(deletions.apply, Apply(selection=Selection(ids=[run])))
    policy = lab.policy(action="purge", trashed_for="1d")
    lab.clock.advance(days=2)
    assert "purged before it is 100 days old" in lab.why(policy, run)["held"]
    assert lab.work(policy).counts == {}
    assert lab.state(run) == "trashed"


def test_holds_locks_and_what_runs_stay_and_the_preview_says_so(lab: Lab) -> None:
    held, locked, running, free = lab.run(40), lab.run(40), lab.run(40, status="running"), lab.run(40)
    lab.do(holds.set_, SetHold(matter="a case", ids=[held]))
    lab.do(deletions.set_lock, SetLock(id=locked, locked=True))
    policy = lab.policy(older_than="30d")
    assert lab.going(policy) == [free]
    assert next(iter(lab.why(policy, held))) == "held"
    assert next(iter(lab.why(policy, locked))) == "locked"
    assert next(iter(lab.why(policy, running))) == "running"
    assert "a case" not in str(lab.why(policy, held))
    report = lab.work(policy)
    assert report.counts == {"trash": {"run": 1}}
    assert report.body["kept"] == 3
    assert {lab.state(id) for id in (held, locked, running)} == {"active"}


def test_what_blocks_is_reported_and_the_rest_goes(lab: Lab) -> None:
    document = make_document(lab.store.database, lab.owner, lab.project)
    needed = [lab.run(40) for _ in range(3)]
    free = [lab.run(40) for _ in range(4)]
    for run in needed:
        lab.do(environments.link, CreateLink(source_id=document.id, target_id=run, type="uses"))
    policy = lab.policy(older_than="30d", keep_bound=False)
    report = lab.work(policy)
    assert report.counts == {"trash": {"run": 4}}
    assert report.body["blocked"] == 3
    assert {each["id"]: each["why"] for each in report.body["blocked_items"]} == dict.fromkeys(
        needed, "something live depends on it"
    )
    assert {lab.state(id) for id in free} == {"trashed"}
    assert {lab.state(id) for id in needed} == {"active"}


def test_what_only_something_that_goes_needs_goes_with_it_in_the_same_run(lab: Lab) -> None:
    base = lab.run(40)
    middle = lab.run(40, base_run_id=base)
    lab.run(40, base_run_id=middle)
    policy = lab.policy(older_than="30d")
    assert lab.work(policy).counts == {"trash": {"run": 3}}
    assert lab.work(policy).counts == {}


def test_what_another_policy_keeps_stays(lab: Lab) -> None:
    runs_ = [lab.run(40, summary={"acc": n / 10}) for n in range(4)]
    keeper = lab.policy("keeper", action="keep", keep_best={"count": 1, "metric": "summary.acc"})
    floor = lab.policy("floor", action="keep", minimum_keep="60d", enabled=False)
    policy = lab.policy("cleaner", older_than="30d", project=lab.project.name)
    assert lab.going(policy) == runs_[:3]
    assert lab.why(policy, runs_[3])["keep_best"].startswith("policy keeper: it is number 1 of the 1 best")
    lab.do(policies.update, UpdatePolicy(id=floor.id, enabled=True))
    assert lab.going(policy) == []
    lab.do(policies.update, UpdatePolicy(id=floor.id, enabled=False))
    assert lab.work(policy).counts == {"trash": {"run": 3}}
    assert lab.work(keeper).counts == {}
    assert lab.state(runs_[3]) == "active"


def test_a_policy_of_a_project_leaves_others_alone(lab: Lab) -> None:
    elsewhere = make_project(lab.store.database, lab.owner)
    run = lab.run(40, project=elsewhere)
    policy = lab.policy(older_than="30d", project=lab.project.name)
    keeper = lab.policy("keeper", action="keep", older_than="1d", project=lab.project.name)
    assert lab.work(policy).counts == {}
    whole = lab.policy("whole", older_than="30d")
    mine = lab.run(40)
    assert lab.going(whole) == [run]
    assert lab.why(whole, mine) == {"older_than": f"policy {keeper.name}: it was created 40 days ago"}


def test_a_policy_of_the_organization_works_in_every_workspace(lab: Lab) -> None:
    neighbour = make_actor(lab.store.database, workspace="next door")
    theirs = make_run(lab.store.database, neighbour, created_at=lab.clock.now - timedelta(days=40), status="finished")
    ours = lab.run(40)
    policy = lab.policy(older_than="30d", scope="organization")
    assert lab.going(policy) == [ours]
    assert lab.work(policy).counts == {"trash": {"run": 2}}
    found = lab.ask(deletions.list_, ListDeletions(item_id=theirs.id), neighbour).items
    assert [deletion.workspace_id for deletion in found] == [neighbour.workspace_id]


def test_the_schedule_runs_what_is_due_and_only_that(lab: Lab) -> None:
    run = lab.run(40)
    policy = lab.policy(older_than="30d")
    lab.policy("off", older_than="30d", enabled=False)
    worker = make_worker(lab.store)
    tasks.run_due(lab.store)
    worker.run_all()
    assert lab.state(run) == "active"
    lab.clock.advance(days=1)
    tasks.run_due(lab.store)
    tasks.run_due(lab.store)
    worker.run_all()
    assert lab.state(run) == "trashed"
    assert len(lab.ask(policies.list_reports, ListReports(id=policy.id)).items) == 1
    tasks.run_due(lab.store)
    assert worker.run_all() == 0


def test_a_policy_that_did_not_run_in_time_is_overdue(lab: Lab) -> None:
    policy = lab.policy(older_than="30d", every_s=3600)
    lab.clock.advance(hours=1, minutes=30)
    assert not lab.ask(policies.get, Get(id=policy.id)).overdue
    lab.clock.advance(hours=1)
    assert lab.ask(policies.get, Get(id=policy.id)).overdue
    (late,) = lab.ask(policy_runs.lateness, None)
    assert late == policy_runs.Lateness(policy.id, 9000.0, True)
    lab.work(policy)
    assert not lab.ask(policies.get, Get(id=policy.id)).overdue
    assert lab.ask(policy_runs.lateness, None) == [policy_runs.Lateness(policy.id, 0.0, False)]


def test_a_policy_of_a_trashed_project_rests(lab: Lab) -> None:
    policy = lab.policy(older_than="30d", project=lab.project.name)
    started = lab.do(policy_runs.run, RunPolicy(id=policy.id))
    lab.do(deletions.trash_item, ItemVerb(id=lab.project.id))
    make_worker(lab.store).run_all()
    report = lab.ask(policies.get_report, Get(id=started.report_id))
    assert (report.state, report.body["note"]) == ("failed", "the policy or its project is not there any more")
    lab.clock.advance(days=3)
    assert lab.do(policy_runs.schedule_due, 10) == 0
    assert lab.ask(policy_runs.lateness, None) == []


# --- what moves between looking and doing -----------------------------------------------------------------------------


def under_way(lab: Lab, policy: Policy) -> tuple[policy_runs.Run, retention.Survey, list[str]]:
    """A run that has looked and not yet done anything."""
    started = lab.do(policy_runs.run, RunPolicy(id=policy.id))
    run = lab.do(policy_runs.begin, policy_runs.Step(policy.id, started.report_id))
    known = lab.ask(retention.survey, run.look)
    found = lab.ask(policy_runs.next_victims, policy_runs.Search(known, None))
    return run, known, found.ids


def test_what_was_tagged_since_is_not_taken(lab: Lab) -> None:
    first, second = lab.run(40), lab.run(40)
    run, known, ids = under_way(lab, lab.policy(older_than="30d", keep_tagged=["keep"]))
    lab.do(runs.update, UpdateRun(id=first, add_tags=("keep",)))
    outcome = lab.do(policy_runs.apply_some, policy_runs.Some(run, known, ids))
    assert outcome.counts == {"run": 1}
    assert (lab.state(first), lab.state(second)) == ("active", "trashed")


def test_nobody_goes_when_what_ranks_before_has_gone(lab: Lab) -> None:
    from labkeep.core.errors import Stale

    good, better = lab.run(40, summary={"acc": 0.5}), lab.run(40, summary={"acc": 0.9})
    run, known, ids = under_way(lab, lab.policy(keep_best={"count": 1, "metric": "summary.acc"}))
    assert ids == [good]
    lab.do(deletions.trash_item, ItemVerb(id=better))
    with pytest.raises(Stale, match="look again"):
        lab.do(policy_runs.apply_some, policy_runs.Some(run, known, ids))
    make_worker(lab.store).run_all()
    assert lab.state(good) == "active"


def test_a_policy_that_was_changed_while_it_ran_stops(lab: Lab) -> None:
    lab.run(40)
    policy = lab.policy(older_than="30d")
    run, known, ids = under_way(lab, policy)
    lab.clock.advance(seconds=1)
    lab.do(policies.update, UpdatePolicy(id=policy.id, body={"older_than": "90d"}))
    assert lab.do(policy_runs.apply_some, policy_runs.Some(run, known, ids)) is None


def test_the_same_decision_is_never_applied_twice(lab: Lab) -> None:
    """Restored by somebody while the run goes on: the run has dealt with it."""
    id = lab.run(40)
    run, known, ids = under_way(lab, lab.policy(older_than="30d"))
    lab.do(policy_runs.apply_some, policy_runs.Some(run, known, ids))
    lab.do(deletions.restore_item, ItemVerb(id=id))
    assert lab.do(policy_runs.apply_some, policy_runs.Some(run, known, ids)).counts == {}
    make_worker(lab.store).run_all()
    assert lab.state(id) == "active"


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_says_what_is_kept_where_and_for_how_long(lab: Lab) -> None:
    lab.do(projects.update, UpdateProject(id=lab.project.id, settings={"grace_days": 7, "minimum_keep_days": 3}))
    lab.policy("drafts", older_than="30d", status=["failed"], keep_tagged=["paper"], project=lab.project.name)
    lab.policy("bin", action="purge", trashed_for="60d", scope="organization")
    lines = lab.ask(retention_limits.table, ListLimits()).items
    by = {line.by: line for line in lines if line.by}
    drafts = by["drafts"]
    assert drafts.category == "runs that are failed"
    assert drafts.where == f"project {lab.project.name}"
    assert drafts.kept_for == "30 days after it was created"
    assert (drafts.then, drafts.purged_after) == ("moved to the trash", "7 days in the trash")
    assert drafts.exceptions.startswith("what is tagged paper")
    assert (by["bin"].where, by["bin"].kept_for, by["bin"].then) == (
        "the organization",
        "60 days in the trash",
        "purged",
    )
    assert [(line.where, line.kept_for) for line in lines[:3]] == [
        ("this workspace", "30 days"),
        (f"project {lab.project.name}", "7 days"),
        (f"project {lab.project.name}", "at least 3 days"),
    ]
    first = lab.ask(retention_limits.table, ListLimits(limit=2))
    rest = lab.ask(retention_limits.table, ListLimits(limit=100, cursor=first.next))
    assert [*first.items, *rest.items] == lines


# --- rows -------------------------------------------------------------------------------------------------------------


def write_rows(lab: Lab, owner: str, **scores: float) -> None:
    sent = [RowIn(id=id, data={"scores": {"exact": score}}) for id, score in scores.items()]
    lab.do(rows.write, WriteRows(id=owner, rows=sent))


def rows_of(lab: Lab, owner: str) -> set[str]:
    return {row.id for row in lab.ask(rows.read, ReadRows(id=owner)).items}


def test_old_rows_go_and_means_are_counted_again(lab: Lab) -> None:
    run, other = lab.run(), lab.run(tags=("paper",), status="running")
    for owner in (run, other):
        write_rows(lab, owner, a=0.0, b=0.5)
    lab.clock.advance(days=40)
    write_rows(lab, run, c=1.0)
    policy = lab.policy("logs", kinds=["row"], older_than="30d", keep_tagged=["paper"])
    assert policy.sentence.startswith("Trash rows of runs and documents created more than 30 days ago, but keep")
    shown = lab.preview(policy)
    assert [(item.id, item.kind) for item in shown.items] == [("a", "row"), ("b", "row")]
    assert shown.counts == {"keep": {"row": 2}, "trash": {"row": 2}}
    report = lab.work(policy)
    assert (report.counts, report.body["kept"]) == ({"trash": {"row": 2}}, 2)
    assert (rows_of(lab, run), rows_of(lab, other)) == ({"c"}, {"a", "b"})
    assert lab.ask(rows.stats, Get(id=run)).scores == {"exact": 1.0}
    removal = lab.ask(removals.get, Get(id=report.body["removals"][0]))
    assert (removal.count, removal.reason, removal.item_id) == (2, "policy logs", run)
    assert lab.work(policy).counts == {}


def test_the_newest_rows_of_each_owner_are_kept(lab: Lab) -> None:
    owners = [lab.run(), lab.run()]
    for id in "abcd":
        for owner in owners:
            write_rows(lab, owner, **{id: 1.0})
        lab.clock.advance(hours=1)
    lab.clock.advance(days=40)
    policy = lab.policy(kinds=["row"], rows_of=["run"], older_than="30d", keep_last=2)
    page = lab.preview(policy, limit=3)
    assert page.counts == {"keep": {"row": 4}, "trash": {"row": 4}}
    assert [item.id for item in page.items + lab.preview(policy, limit=3, cursor=page.next).items] == [*"abab"]
    assert lab.work(policy).counts == {"trash": {"row": 4}}
    assert [rows_of(lab, owner) for owner in owners] == [{"c", "d"}, {"c", "d"}]


def test_rows_of_what_is_held_or_locked_stay(lab: Lab) -> None:
    held, locked, kept = lab.run(), lab.run(), lab.run(config={"lr": 1})
    for owner in (held, locked, kept):
        write_rows(lab, owner, a=1.0)
    lab.do(holds.set_, SetHold(matter="a case", ids=[held]))
    lab.do(deletions.set_lock, SetLock(id=locked, locked=True))
    lab.clock.advance(days=40)
    policy = lab.policy(kinds=["row"], older_than="30d")
    lab.policy("floor", action="keep", kinds=["run"], minimum_keep="1y")
    assert lab.work(policy).counts == {"trash": {"row": 1}}
    assert [rows_of(lab, owner) for owner in (held, locked, kept)] == [{"a"}, {"a"}, set()]


def test_rows_that_somebody_wrote_anew_in_the_meantime_are_looked_at_again(lab: Lab) -> None:
    run = lab.run()
    write_rows(lab, run, a=1.0)
    lab.clock.advance(days=40)
    policy = lab.policy(kinds=["row"], older_than="30d")
    started = lab.do(policy_runs.run, RunPolicy(id=policy.id))
    under = lab.do(policy_runs.begin, policy_runs.Step(policy.id, started.report_id))
    found = lab.ask(row_retention.next_rows, row_retention.RowSearch(under.look, None))
    assert (found.owner_id, found.ids, found.next) == (run, ["a"], None)
    lab.do(deletions.set_lock, SetLock(id=run, locked=True))
    assert lab.do(policy_runs.remove_rows, policy_runs.SomeRows(under, run, ["a"])) == 0
    assert rows_of(lab, run) == {"a"}


def test_the_newest_versions_of_each_artifact_are_kept(lab: Lab) -> None:
    versions: dict[str, list[str]] = {"model": [], "data": []}
    for number in range(3):
        for name, made in versions.items():
            with files.begin(lab.store, lab.owner) as upload:
                upload.write(f"{name} {number}".encode())
                stored = upload.finish()
            files.keep(lab.store, lab.owner, stored)
            entry = ManifestEntry(path="a", digest=stored.digest)
            command = CreateArtifactVersion(project=lab.project.id, name=name, files=[entry])
            made.append(lab.do(artifacts.create_version, command).id)
            lab.clock.advance(hours=1)
    lab.do(artifacts.set_aliases, SetAliases(id=versions["data"][0], add=("best",)))
    policy = lab.policy(kinds=["artifact_version"], keep_last=1, group_by=["project", "name"])
    assert {item.name for item in lab.preview(policy).items} == {"model:v0", "model:v1", "data:v1"}
    assert lab.why(policy, versions["data"][0])["keep_bound"] == "something live needs it: alias best"
    assert lab.work(policy).counts == {"trash": {"artifact_version": 3}}
    assert lab.state(versions["model"][2]) == "active"


def test_a_run_can_be_paused_and_cancelled(lab: Lab) -> None:
    ids = [lab.run(40) for _ in range(3)]
    policy = lab.policy(older_than="30d")
    worker = make_worker(lab.store)
    started = lab.do(policy_runs.run, RunPolicy(id=policy.id))
    lab.do(jobs.pause, ControlJob(id=started.job_id))
    worker.run_all()
    assert {lab.state(id) for id in ids} == {"active"}
    lab.do(jobs.cancel, ControlJob(id=started.job_id))
    worker.run_all()
    report = lab.ask(policies.get_report, Get(id=started.report_id))
    assert (report.state, report.body["note"], report.counts) == ("done", "cancelled", {})
    assert lab.ask(jobs.get, Get(id=started.job_id)).state == "cancelled"
    assert {lab.state(id) for id in ids} == {"active"}
