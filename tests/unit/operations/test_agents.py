"""Agents' keys: a daily quota, a circuit breaker, and purges that need two persons."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    CreateKey,
    Get,
    ItemVerb,
    ListAudit,
    ListDeletions,
    ListKeys,
    PurgeDeletion,
    RestoreDeletion,
    ResumeKey,
    RowIn,
    Selection,
    UpdateProject,
    WriteRows,
)
from labkeep.core.entities import Deletion, Project
from labkeep.core.errors import Forbidden, OverQuota
from labkeep.operations import Store, accounts, audits, deletions, projects, purges, rows
from labkeep.operations.accounts import Credentials, authenticate
from labkeep.server import make_worker
from labkeep.storage.database_postgres import Postgres
from labkeep.testing.factories import FixedClock, make_actor, make_project, make_run, make_store


class Lab(NamedTuple):
    """A store with an owner, a project and an agent with a key."""

    store: Store
    clock: FixedClock
    owner: Actor
    project: Project
    agent: Actor

    def do(self, operation: Any, command: Any, actor: Actor | None = None) -> Any:
        self.clock.advance(seconds=1)
        return self.store.database.write(operation, actor or self.owner, command)

    def runs(self, count: int) -> list[str]:
        return [make_run(self.store.database, self.owner, self.project, status="finished").id for _ in range(count)]

    def trash(self, ids: list[str], actor: Actor | None = None) -> str:
        asked = Apply(selection=Selection(ids=ids))
        return str(self.do(deletions.apply, asked, actor or self.agent).deletion_id)


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    clock = FixedClock()
    with make_store(tmp_path, clock) as store:
        if request.param == "postgresql":
            postgres = Postgres(request.getfixturevalue("postgres_url"), readers=2, clock=clock)
            store = store._replace(database=postgres)
        store.database.agent_daily_trash, store.database.agent_burst = 5, 3
        owner = make_actor(store.database)
        yield Lab(store, clock, owner, make_project(store.database, owner), new_agent(store, owner))
        if request.param == "postgresql":
            store.database.close()


def new_agent(store: Store, owner: Actor, **fields: Any) -> Actor:
    asked = CreateKey(user="cleaner", role="maintainer", agent=True, **fields)  # type: ignore[arg-type]
    made = store.database.write(accounts.create_key, owner, asked)
    found: Actor = store.database.read(authenticate, owner, Credentials(digest=accounts.digest_of(made.secret)))
    return found


def test_an_agent_trashes_up_to_its_daily_quota(lab: Lab) -> None:
    runs = lab.runs(6)
    lab.trash(runs[:2])
    lab.clock.advance(hours=1)
    lab.trash(runs[2:5])
    lab.clock.advance(hours=1)
    with pytest.raises(OverQuota, match="5 objects in 24 hours: 5 went already, and this would be 1 more") as refused:
        lab.trash(runs[5:])
    assert refused.value.details["retry_after_s"] == pytest.approx(22 * 3600, abs=10)
    lab.trash(runs[5:], lab.owner)
    lab.clock.advance(hours=22, minutes=1)
    lab.trash(lab.runs(2))


def test_a_selection_that_is_larger_than_the_quota_moves_nothing(lab: Lab) -> None:
    runs = lab.runs(6)
    with pytest.raises(OverQuota):
        lab.trash(runs)
    assert lab.do(deletions.list_, ListDeletions()).items == []


def test_a_key_may_have_a_quota_of_its_own(lab: Lab) -> None:
    careful = new_agent(lab.store, lab.owner, daily_trash=1)
    first, second = lab.runs(2)
    lab.trash([first], careful)
    with pytest.raises(OverQuota):
        lab.trash([second], careful)


def test_what_an_agent_takes_back_itself_does_not_count(lab: Lab) -> None:
    runs = lab.runs(5)
    mine = lab.trash(runs[:3])
    lab.do(deletions.restore, RestoreDeletion(id=mine), lab.agent)
    lab.clock.advance(hours=1)
    other = lab.trash(runs[:3])
    lab.do(deletions.restore, RestoreDeletion(id=other), lab.owner)
    lab.clock.advance(hours=1)
    lab.trash(runs[3:])
    with pytest.raises(OverQuota):
        lab.trash(runs[:1])


def test_an_agent_that_trashes_too_fast_is_suspended_until_an_owner_resumes_it(lab: Lab) -> None:
    runs = lab.runs(5)
    lab.trash(runs[:2])
    lab.trash(runs[2:4])
    (event,) = lab.do(audits.list_, ListAudit(event="key.suspended")).items
    assert (event.subject_id, event.count) == (lab.agent.key_id, 4)
    destroying: list[tuple[Any, Any]] = [
        (deletions.trash_item, ItemVerb(id=runs[4])),
        (deletions.archive_item, ItemVerb(id=runs[4])),
    ]
    for operation, command in destroying:
        with pytest.raises(Forbidden, match=f"key resume {lab.agent.key_id}"):
            lab.do(operation, command, lab.agent)
    lab.do(rows.write, WriteRows(id=runs[4], rows=[RowIn(id="a", data={})]), lab.agent)
    with pytest.raises(Forbidden, match="suspended"):
        lab.do(rows.write, WriteRows(id=runs[4], rows=[RowIn(id="a", delete=True)]), lab.agent)
    for actor in (lab.agent, make_actor(lab.store.database, "maintainer")):
        with pytest.raises(Forbidden):
            lab.do(accounts.resume_key, ResumeKey(id=lab.agent.key_id), actor)
    (listed,) = [key for key in lab.do(accounts.list_keys, ListKeys()).items if key.id == lab.agent.key_id]
    assert listed.suspended_at is not None
    assert lab.do(accounts.resume_key, ResumeKey(id=lab.agent.key_id, reason="meant to")).suspended_at is None
    lab.trash(runs[4:])
    assert len(lab.do(audits.list_, ListAudit(event="key.suspended")).items) == 1


def test_an_agent_that_takes_its_time_is_not_suspended(lab: Lab) -> None:
    for run in lab.runs(5):
        lab.trash([run])
        lab.clock.advance(minutes=3)
    assert lab.do(audits.list_, ListAudit(event="key.suspended")).items == []


def test_people_have_no_quota(lab: Lab) -> None:
    lab.trash(lab.runs(10), lab.owner)


def test_a_large_job_of_an_agent_stops_when_its_key_is_suspended(lab: Lab) -> None:
    lab.store.database.agent_daily_trash = 100
    runs = lab.runs(12)
    store = lab.store._replace(settings=type(lab.store.settings)(data=lab.store.settings.data, apply_batch=5))
    outcome = lab.do(deletions.apply, Apply(selection=Selection(ids=runs), background=True), lab.agent)
    make_worker(store).run_all()
    deletion: Deletion = lab.do(deletions.get, Get(id=outcome.deletion_id))
    assert deletion.counts == {"run": 5}
    assert lab.do(deletions.restore, RestoreDeletion(id=deletion.id)).counts == {"run": 5}


# --- two persons --------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(lab: Lab) -> Lab:
    lab.do(projects.update, UpdateProject(id=lab.project.id, settings={"two_person_purge": True}))
    return lab


def purge(lab: Lab, deletion: str, actor: Actor | None = None) -> Any:
    return lab.do(deletions.purge, PurgeDeletion(id=deletion), actor)


def test_a_purge_waits_for_a_second_person(guarded: Lab) -> None:
    lab, second = guarded, make_actor(guarded.store.database, "maintainer")
    deletion = lab.trash(lab.runs(2), lab.owner)
    for _ in range(2):
        asked = purge(lab, deletion)
        assert (asked.counts, asked.job_ids) == ({}, [])
        assert f"somebody other than {lab.owner.user}" in asked.waits_for
    waiting = lab.do(deletions.list_, ListDeletions(state="waiting")).items
    assert [(one.id, one.purge_requested_by) for one in waiting] == [(deletion, lab.owner.user)]
    assert len(lab.do(audits.list_, ListAudit(event="run.purge_proposed")).items) == 1
    agreed = purge(lab, deletion, second)
    assert (agreed.counts, agreed.waits_for) == ({"run": 2}, "")
    make_worker(lab.store).run_all()
    found: Deletion = lab.do(deletions.get, Get(id=deletion))
    assert (found.state, found.purged_by) == ("purged", f"{lab.owner.user} and {second.user}")


def test_another_key_of_the_same_person_is_no_second_person(guarded: Lab) -> None:
    import msgspec

    lab = guarded
    deletion = lab.trash(lab.runs(1), lab.owner)
    purge(lab, deletion)
    twin = msgspec.structs.replace(lab.owner, key_id=lab.agent.key_id)
    assert purge(lab, deletion, twin).waits_for


def test_what_was_asked_for_lapses_after_a_week(guarded: Lab) -> None:
    lab, second = guarded, make_actor(guarded.store.database)
    deletion = lab.trash(lab.runs(1), lab.owner)
    purge(lab, deletion)
    lab.clock.advance(days=7, seconds=1)
    assert f"other than {second.user}" in purge(lab, deletion, second).waits_for
    assert purge(lab, deletion).counts == {"run": 1}


def test_a_part_waits_by_itself(guarded: Lab) -> None:
    lab, second = guarded, make_actor(guarded.store.database)
    runs = lab.runs(2)
    lab.trash(runs, lab.owner)
    assert lab.do(deletions.purge_item, ItemVerb(id=runs[0])).waits_for
    assert lab.do(deletions.purge_item, ItemVerb(id=runs[1]), second).waits_for
    assert lab.do(deletions.purge_item, ItemVerb(id=runs[0]), second).counts == {"run": 1}


def test_the_clock_is_no_person(guarded: Lab) -> None:
    lab, second = guarded, make_actor(guarded.store.database)
    deletion = lab.trash(lab.runs(1), lab.owner)
    lab.clock.advance(days=31)
    assert lab.store.database.write(purges.schedule_overdue, lab.owner, 100) == 1
    assert lab.store.database.write(purges.schedule_overdue, lab.owner, 100) == 0
    (waiting,) = lab.do(deletions.list_, ListDeletions(state="waiting")).items
    assert waiting.purge_requested_by == "(grace period)"
    assert purge(lab, deletion).waits_for
    lab.clock.advance(days=2)
    lab.store.database.write(purges.schedule_overdue, lab.owner, 100)
    assert lab.clock.now + timedelta(hours=23) < lab.do(deletions.get, Get(id=deletion)).restorable_until
    assert purge(lab, deletion, second).counts == {"run": 1}
