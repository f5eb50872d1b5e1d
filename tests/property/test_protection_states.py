"""What protects holds against everything at once: people, an agent, policies, jobs and the clock, in any order.

The model knows who is covered by which hold and when each object was made. Whatever is done, and by whomever, nothing
that is covered moves towards its end, nothing is purged before its minimum keep is over, no purge of a project that asks
for two persons begins with one, and an agent never takes more than its quota.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    CreateKey,
    CreateRun,
    ItemVerb,
    PurgeDeletion,
    RestoreDeletion,
    ResumeKey,
    Selection,
    SetLock,
    UpdateProject,
    UpdateRun,
)
from labkeep.core.commands_holds import LiftHold, SetHold
from labkeep.core.deletion import ASKERS, Origin
from labkeep.core.errors import LabkeepError
from labkeep.core.lifecycle import Role, State, Status
from labkeep.operations import Store, accounts, agents, deletions, holds, projects, purges, runs
from labkeep.operations.accounts import Credentials, authenticate
from labkeep.server import make_worker
from labkeep.storage import check
from labkeep.storage import tables as t
from labkeep.storage.database_postgres import Postgres
from labkeep.testing.factories import FixedClock, make_actor, make_store

QUOTA, BURST = 4, 2
NUMBERS = count(1)
PROGRESS = {State.active: 0, State.archived: 0, State.trashed: 1, State.purged: 2}
"""How near an object is to its end."""


@dataclass
class Thing:
    """What the model knows of one object."""

    id: str
    home: str | None
    made: datetime
    tags: set[str] = field(default_factory=set)


@dataclass
class Hold:
    """What a hold covers: named objects, or runs with a tag."""

    id: str
    named: set[str]
    tag: str = ""

    def catches(self, thing: Thing) -> bool:
        return bool(self.named & {thing.id, thing.home}) or (self.tag in thing.tags and thing.home is not None)


RUNS: Bundle[str] = Bundle("runs")
HOLDS: Bundle[str] = Bundle("holds")


class Protection(RuleBasedStateMachine):
    """One organization under fire. Subclasses say in which store."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(prefix="protection-")
        self.clock = FixedClock()
        self.opened = self._open()
        self.store = self.opened.__enter__()
        self.store.database.agent_daily_trash, self.store.database.agent_burst = QUOTA, BURST
        organization = f"organization-{next(NUMBERS)}"
        self.ann = make_actor(self.store.database, organization=organization)
        self.bo = make_actor(self.store.database, organization=organization)
        made = self._write(accounts.create_key, CreateKey(user="cleaner", role=Role.maintainer, agent=True))
        self.agent: Actor = self.store.database.read(
            authenticate, self.ann, Credentials(digest=accounts.digest_of(made.secret))
        )
        self.things: dict[str, Thing] = {}
        self.holds: dict[str, Hold] = {}
        self.keep_days = 0
        self.two = False

    @contextmanager
    def _open(self) -> Iterator[Store]:
        with make_store(Path(self.folder.name), self.clock) as store:
            if not self.url:
                yield store
                return
            database = Postgres(self.url, readers=2, clock=self.clock)
            yield store._replace(database=database)
            database.close()

    def _write(self, operation: Callable[..., Any], command: Any, actor: Actor | None = None) -> Any:
        return self.store.database.write(operation, actor or self.ann, command)

    # --- every step is watched

    def states(self) -> dict[str, tuple[State, str | None]]:
        c = t.items.c

        def look(tx: Any, actor: Actor, _: None) -> dict[str, tuple[State, str | None]]:
            query = select(c.id, c.state, c.deletion_id).where(c.organization_id == actor.organization_id)
            return {row[0]: (row[1], row[2]) for row in tx.execute(query)}

        found: dict[str, tuple[State, str | None]] = self.store.database.read(look, self.ann, None)
        return found

    def purging(self) -> dict[str, tuple[str, str]]:
        d = t.deletions.c

        def look(tx: Any, actor: Actor, _: None) -> dict[str, tuple[str, str]]:
            query = select(d.id, d.purged_by, d.purge_requested_by).where(d.organization_id == actor.organization_id)
            return {row[0]: (row[1], row[2]) for row in tx.execute(query.where(d.state == "purging"))}

        found: dict[str, tuple[str, str]] = self.store.database.read(look, self.ann, None)
        return found

    def covered(self) -> set[str]:
        caught = {thing.id for thing in self.things.values() if any(h.catches(thing) for h in self.holds.values())}
        return caught | {home for id in caught if (home := self.things[id].home) is not None}

    def watch(self, deed: Callable[[], Any]) -> None:
        """Do something; whatever it was, what is protected must be where it was."""
        covered, before, under_way = self.covered(), self.states(), self.purging()
        with suppress(LabkeepError):
            deed()
        after = self.states()
        for id, (state, _) in after.items():
            moved = PROGRESS[state] > PROGRESS[before[id][0]] if id in before else False
            assert not (moved and id in covered), (id, before[id], state)
            if moved and state == State.purged and id in self.things:
                assert self.clock.now - self.things[id].made >= timedelta(days=self.keep_days)
        if self.two:
            for id, (by, first) in self.purging().items():
                assert id in under_way or (first and first != by and " and " in by), (id, by, first)

    def do(self, operation: Callable[..., Any], command: Any, actor: Actor | None = None) -> None:
        self.clock.advance(seconds=1)
        self.watch(lambda: self._write(operation, command, actor))

    def actor(self, who: int) -> Actor:
        return (self.ann, self.bo, self.agent)[who]

    # --- the world

    @initialize()
    def first(self) -> None:
        run = self._write(runs.create, CreateRun(project="p", status=Status.finished))
        self.home = str(run.project_id)
        self.things[self.home] = Thing(self.home, None, self.clock.now)
        self.things[run.id] = Thing(run.id, self.home, self.clock.now)

    @rule(target=RUNS, tagged=st.booleans())
    def make(self, tagged: bool) -> str:
        self.clock.advance(seconds=1)
        tags = ("case",) if tagged else ()
        try:
            run = self._write(runs.create, CreateRun(project=self.home, status=Status.finished, tags=tags))
        except LabkeepError:  # the project is in the trash
            return next(id for id, thing in self.things.items() if thing.home is not None)
        self.things[run.id] = Thing(run.id, self.home, self.clock.now, set(tags))
        return str(run.id)

    @rule(id=RUNS, tag=st.booleans())
    def retag(self, id: str, tag: bool) -> None:
        asked = UpdateRun(id=id, add_tags=("case",)) if tag else UpdateRun(id=id, remove_tags=("case",))
        with suppress(LabkeepError):
            self.things[id].tags = set(self._write(runs.update, asked).tags)

    @rule(target=HOLDS, id=RUNS, how=st.sampled_from(["id", "project", "query"]))
    def hold(self, id: str, how: str) -> str:
        named = {"id": {id}, "project": {self.home}, "query": set()}[how]
        scope: dict[str, Any] = {"ids": sorted(named)} if named else {"kind": "run", "q": 'tag = "case"'}
        try:
            made = self._write(holds.set_, SetHold(matter="a case", **scope))
        except LabkeepError:  # it is purged already
            return ""
        self.holds[made.id] = Hold(made.id, named, "" if named else "case")
        return str(made.id)

    @rule(id=HOLDS)
    def lift(self, id: str) -> None:
        if self.holds.pop(id, None) is not None:
            self._write(holds.lift, LiftHold(id=id, reason="closed"))

    @rule(days=st.sampled_from([0, 0, 20, 60]), two=st.booleans())
    def change_rules(self, days: int, two: bool) -> None:
        asked = UpdateProject(id=self.home, settings={"minimum_keep_days": days, "two_person_purge": two})
        with suppress(LabkeepError):
            self._write(projects.update, asked)
            self.keep_days, self.two = days, two

    @rule(hours=st.sampled_from([1, 20, 24 * 10, 24 * 31]))
    def wait(self, hours: int) -> None:
        self.clock.advance(hours=hours)

    @rule(id=RUNS, locked=st.booleans())
    def lock(self, id: str, locked: bool) -> None:
        self.do(deletions.set_lock, SetLock(id=id, locked=locked))

    # --- the fire

    @rule(ids=st.lists(RUNS, min_size=1, max_size=4), who=st.integers(0, 2), far=st.booleans())
    def trash(self, ids: list[str], who: int, far: bool) -> None:
        asked = Apply(selection=Selection(ids=ids), force=True, on_running="stop", background=far)
        self.do(deletions.apply, asked, self.actor(who))

    @rule(who=st.integers(0, 2), query=st.booleans())
    def trash_the_project(self, who: int, query: bool) -> None:
        selection = Selection(project=self.home) if query else Selection(ids=[self.home])
        self.do(deletions.apply, Apply(selection=selection, force=True), self.actor(who))

    @rule(id=RUNS, verb=st.sampled_from(["trash", "purge"]), asker=st.sampled_from(ASKERS))
    def on_the_word_of(self, id: str, verb: str, asker: Origin) -> None:
        """A policy, or an erasure request."""

        def ask(tx: Any, actor: Actor, _: None) -> Any:
            return deletions.apply(tx, actor, Apply(verb=verb, selection=Selection(ids=[id])), asker=asker)

        self.do(ask, None)

    @rule(ids=st.lists(RUNS, min_size=1, max_size=3), who=st.integers(0, 2), far=st.booleans())
    def purge(self, ids: list[str], who: int, far: bool) -> None:
        self.do(deletions.apply, Apply(verb="purge", selection=Selection(ids=ids), background=far), self.actor(who))

    @rule(who=st.integers(0, 1))
    def purge_the_project(self, who: int) -> None:
        self.do(deletions.purge_item, ItemVerb(id=self.home), self.actor(who))

    @rule(id=RUNS, who=st.integers(0, 1))
    def purge_its_deletion(self, id: str, who: int) -> None:
        deletion_id = self.states()[id][1]
        if deletion_id is not None:
            self.do(deletions.purge, PurgeDeletion(id=deletion_id), self.actor(who))

    @rule(id=RUNS, who=st.integers(0, 2), whole=st.booleans())
    def restore(self, id: str, who: int, whole: bool) -> None:
        deletion_id = self.states()[id][1]
        if deletion_id is not None and whole:
            self.do(deletions.restore, RestoreDeletion(id=deletion_id), self.actor(who))
        self.do(deletions.restore_item, ItemVerb(id=self.home if whole else id), self.actor(who))

    @rule()
    def resume(self) -> None:
        self.do(accounts.resume_key, ResumeKey(id=self.agent.key_id))

    @rule()
    def overdue(self) -> None:
        self.do(purges.schedule_overdue, 100)

    @rule()
    def work(self) -> None:
        self.watch(lambda: make_worker(self.store).run_all())

    # --- what always holds

    @invariant()
    def an_agent_takes_no_more_than_its_quota(self) -> None:
        d = t.deletions.c

        def taken(tx: Any, actor: Actor, _: None) -> int:
            since = tx.now - agents.DAY
            mine = (d.organization_id == actor.organization_id, d.key_id == actor.key_id, d.created_at > since)
            return sum(row[0] for row in tx.execute(select(d["items"]).where(*mine)))

        assert self.store.database.read(taken, self.agent, None) <= QUOTA

    @invariant()
    def what_is_in_the_trash_has_a_home(self) -> None:
        if not self.things:
            return
        states = self.states()
        left = [id for id, thing in self.things.items() if thing.home and states[id][0] != State.purged]
        held = [id for id in left if id in self.covered()]
        if held:
            assert states[self.home][0] != State.purged, held

    def teardown(self) -> None:
        try:
            if not self.url:
                with self.store.database.engine.connect() as connection:
                    report = check.run(connection, self.store.blobs, self.clock.now)
                assert report.clean, report.problems
        finally:
            self.opened.__exit__(None, None, None)
            self.folder.cleanup()


def bounds(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def test_nothing_gets_around_what_protects_on_sqlite() -> None:
    run_state_machine_as_test(Protection, settings=bounds(25))


def test_nothing_gets_around_what_protects_on_postgresql(postgres_url: str) -> None:
    class OnPostgres(Protection):
        url = postgres_url

    run_state_machine_as_test(OnPostgres, settings=bounds(8))


@pytest.mark.parametrize("how", ["id", "project", "query"])
def test_the_machine_itself_sees_a_purge_of_what_is_held(how: str) -> None:
    """Were holds not asked, the machine would say so."""
    machine = Protection()
    try:
        machine.first()
        run = machine.make(True)
        machine.hold(run, how)
        with machine.store.database.engine.begin() as connection:  # behind everybody's back
            connection.execute(t.holds.update().values(state="lifted"))
        with pytest.raises(AssertionError):
            machine.trash([run], 0, False)
    finally:
        machine.opened.__exit__(None, None, None)
        machine.folder.cleanup()
