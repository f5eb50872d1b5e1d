"""The lifecycle against a model of a few dictionaries: any verbs in any order end where the model says they end.

The model knows nothing of SQL: it says what each operation changes, or with which error it is refused, and after every
step the store must look the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Apply,
    CreateDocument,
    CreateProject,
    CreateRun,
    ItemVerb,
    Nothing,
    Outcome,
    PurgeDeletion,
    RestoreDeletion,
    RowIn,
    Selection,
    SetLock,
    UpdateDocument,
    UpdateProject,
    UpdateRun,
    WriteRows,
)
from labkeep.core.errors import AlreadyExists, Gone, Held, Illegal, Invalid, LabkeepError, NotFound
from labkeep.core.lifecycle import LIVE, Kind, State, Status, Verb
from labkeep.operations import audits, deletions, documents, projects, rows, runs
from labkeep.server import make_worker
from labkeep.storage import check
from labkeep.storage import tables as t
from labkeep.storage.purge import OWNED
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import START, make_actor, make_store

Refusal = type[LabkeepError] | None
"""The class of the error that the model expects; None where an operation succeeds."""

WORKSPACE = ""
"""What the model calls the home of projects."""

NAMES = st.sampled_from(["a", "b", "c"])
"""Few, so that they collide."""


# --- the model --------------------------------------------------------------------------------------------------------


@dataclass
class Thing:
    """What the model knows of one object."""

    id: str
    kind: Kind
    home: str
    """Id of the project."""
    handle: str | None
    type: str = ""
    busy: bool = False
    state: State = State.active
    locked: bool = False
    before: State = State.active
    """Where a restore leads back to."""
    deletion: str | None = None

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def place(self) -> tuple[str, Kind, str, str | None]:
        """What only one live object may have, when it has a handle."""
        return self.home, self.kind, self.type, self.handle


@dataclass
class Removal:
    """What the model knows of one deletion."""

    id: str
    state: str = "trashed"
    members: set[str] = field(default_factory=set)
    """Whatever belonged to it, also what was restored since."""


class Model:
    """Every object and every deletion, and what each operation does to them."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self.removals: dict[str, Removal] = {}

    def taken(self, thing: Thing, handle: str | None) -> bool:
        """Whether a live sibling holds ``handle``."""
        wanted = (*thing.place[:3], handle)
        others = (other for other in self.things.values() if other.live and other.id != thing.id)
        return handle is not None and any(other.place == wanted for other in others)

    def held(self, removal: Removal) -> list[Thing]:
        """What is still in the trash by this deletion."""
        return [thing for thing in self.things.values() if (thing.state, thing.deletion) == (State.trashed, removal.id)]

    def inside(self, roots: Iterable[Thing]) -> list[Thing]:
        """What the projects of ``roots`` hold beside ``roots``, in the order in which it is looked at."""
        named = {root.id for root in roots}
        found = [thing for thing in self.things.values() if thing.home in named and thing.id not in named]
        return sorted(found, key=lambda thing: (thing.state, thing.id))

    def creating(self, thing: Thing) -> Refusal:
        """A handle that is taken counts before the state of the project, as the answer may be to use its holder."""
        home = self.things.get(thing.home)
        if home is not None and not home.live:
            return Gone
        if self.taken(thing, thing.handle):
            return AlreadyExists
        return Illegal if home is not None and home.state == State.archived else None

    def writing(self, thing: Thing) -> Refusal:
        if not thing.live:
            return Gone
        return Illegal if thing.state == State.archived else None

    def renaming(self, thing: Thing, handle: str | None) -> Refusal:
        taken = handle != thing.handle and self.taken(thing, handle)
        return self.writing(thing) or (AlreadyExists if taken else None)

    def shelving(self, thing: Thing) -> Refusal:
        """Archiving or unarchiving, which is no error where it is so already."""
        return None if thing.live else Gone

    def going(self, ids: Iterable[str]) -> list[Thing]:
        """What a trash of ``ids`` concerns, in the order in which it is judged."""
        roots = [self.things[id] for id in sorted(set(ids)) if self.things[id].live]
        alone = [self.things[id] for id in ids]
        return roots + [thing for thing in self.inside(alone) if thing.live]

    def trashing(self, ids: Iterable[str], stop: bool) -> Refusal:
        for thing in self.going(ids):
            if thing.locked:
                return Held
            if thing.busy and not stop:
                return Illegal
        return None

    def trash(self, ids: Iterable[str], deletion_id: str) -> None:
        going = self.going(ids)
        self.removals[deletion_id] = Removal(deletion_id, members={thing.id for thing in going})
        for thing in going:
            thing.before, thing.state = thing.state, State.trashed
            thing.deletion, thing.busy = deletion_id, False

    def restoring(self, removal: Removal, ids: Iterable[str], names: dict[str, str]) -> Refusal:
        """Restoring ``ids`` of a deletion, or all that it holds when none are named."""
        if set(ids) - removal.members:
            return NotFound
        if removal.state in ("purging", "purged"):
            return Illegal
        coming = self.coming(removal, ids)
        after = {thing.id: thing.handle and names.get(thing.id, thing.handle) for thing in coming}
        if any(self.stays_away(thing.home, after) for thing in coming):
            return Illegal
        if coming and set(names) - set(after):
            return NotFound
        places = Counter((*thing.place[:3], after[thing.id]) for thing in coming if thing.handle is not None)
        twice = any(count > 1 for count in places.values())
        if twice:
            return Invalid
        return AlreadyExists if any(self.taken(thing, after[thing.id]) for thing in coming) else None

    def stays_away(self, home: str, coming: Iterable[str]) -> bool:
        return home != WORKSPACE and not self.things[home].live and home not in coming

    def coming(self, removal: Removal, ids: Iterable[str]) -> list[Thing]:
        wanted = set(ids)
        return [thing for thing in self.held(removal) if not wanted or thing.id in wanted]

    def restore(self, removal: Removal, ids: Iterable[str], names: dict[str, str]) -> None:
        for thing in self.coming(removal, ids):
            thing.handle = thing.handle and names.get(thing.id, thing.handle)
            thing.state, thing.deletion = thing.before, None
        if not self.held(removal) and removal.state == "trashed":
            removal.state = "restored"

    def with_it(self, ids: Iterable[str]) -> list[Thing]:
        """Those of ``ids`` that are in the trash, and all in the trash that lies in them."""
        roots = [self.things[id] for id in dict.fromkeys(ids) if self.things[id].state == State.trashed]
        return roots + [thing for thing in self.inside(roots) if thing.state == State.trashed]

    def split(self, ids: set[str], removal: Removal, new_id: str) -> Removal:
        """``ids`` become a deletion of their own."""
        part = self.removals[new_id] = Removal(new_id, members=ids)
        removal.members -= ids
        for id in ids:
            self.things[id].deletion = new_id
        return part

    def work(self) -> None:
        """What the worker finishes."""
        for removal in self.removals.values():
            if removal.state == "purging":
                removal.state = "purged"
                for thing in self.held(removal):
                    thing.state, thing.handle, thing.locked = State.purged, None, False


# --- what the store holds ---------------------------------------------------------------------------------------------


def _items(tx: Tx, _: Actor, _command: Nothing) -> dict[str, tuple[Any, ...]]:
    i = t.items.c
    query = select(i.id, i.state, i.handle, i.locked, i.deletion_id)
    return {row[0]: tuple(row)[1:] for row in tx.execute(query)}


def _removals(tx: Tx, _: Actor, _command: Nothing) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    d, m = t.deletions.c, t.deletion_members.c
    states = {row[0]: row[1] for row in tx.execute(select(d.id, d.state))}
    held = select(m.deletion_id, m.item_id, m.outcome).where(m.outcome != "restored")
    return states, {(row[0], row[1], row[2]) for row in tx.execute(held)}


def _leftovers(tx: Tx, _: Actor, purged: list[str]) -> dict[str, int]:
    counts = {
        f"{table.name}.{column}": tx.execute(
            select(func.count()).select_from(table).where(table.c[column].in_(purged))
        ).scalar_one()
        for table, column in OWNED
    }
    return {name: count for name, count in counts.items() if count}


# --- the machine ------------------------------------------------------------------------------------------------------

PROJECTS: Bundle[str] = Bundle("projects")
RUNS: Bundle[str] = Bundle("runs")
DOCUMENTS: Bundle[str] = Bundle("documents")
REMOVALS: Bundle[str] = Bundle("removals")
ITEMS = st.one_of(PROJECTS, RUNS, DOCUMENTS)


class Lifecycle(RuleBasedStateMachine):
    """One store and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(prefix="lifecycle-")
        self.opened = make_store(Path(self.folder.name))
        self.store = self.opened.__enter__()
        with self.store.database.engine.connect() as connection:
            connection.exec_driver_sql(
                "PRAGMA synchronous=OFF"
            )  # no power is cut here, and waiting for disks takes long
        self.actor = make_actor(self.store.database)
        self.worker = make_worker(self.store)
        self.model = Model()
        self.steps = 0
        self.home = self.store.database.write(projects.create, self.actor, CreateProject(name="a")).id
        self.model.things[self.home] = Thing(self.home, Kind.project, WORKSPACE, "a")

    def do(self, operation: Callable[[Tx, Actor, Any], Any], command: Any, refusal: Refusal) -> Any:
        """Run an operation that ends as the model says; None when it is refused."""
        if refusal is None:
            return self.store.database.write(operation, self.actor, command)
        with pytest.raises(LabkeepError) as caught:
            self.store.database.write(operation, self.actor, command)
        assert type(caught.value) is refusal, caught.value
        return None

    def make(self, operation: Callable[[Tx, Actor, Any], Any], command: Any, thing: Thing) -> MultipleResults[str]:
        made = self.do(operation, command, self.model.creating(thing))
        if made is None:
            return multiple()
        thing.id = made.id
        self.model.things[thing.id] = thing
        return multiple(thing.id)

    # --- making and editing

    @initialize(target=PROJECTS)
    def first_project(self) -> str:
        return self.home

    @initialize(target=RUNS, handles=st.tuples(NAMES | st.none(), NAMES, st.none()), busy=st.booleans())
    def first_runs(self, handles: tuple[str | None, ...], busy: bool) -> MultipleResults[str]:
        made = [id for handle in handles for id in self.make_run(self.home, handle, busy).values]
        for id in made:
            self.write_to_a_run(id, busy, "a")
        return multiple(*made)

    @initialize(target=DOCUMENTS, names=st.tuples(NAMES, NAMES))
    def first_documents(self, names: tuple[str, ...]) -> MultipleResults[str]:
        return multiple(*(id for name in names for id in self.make_document(self.home, name, "dataset").values))

    @rule(target=PROJECTS, name=NAMES)
    def create_project(self, name: str) -> MultipleResults[str]:
        return self.make(projects.create, CreateProject(name=name), Thing("", Kind.project, WORKSPACE, name))

    @rule(target=RUNS, project=PROJECTS, handle=NAMES | st.none(), busy=st.booleans())
    def create_run(self, project: str, handle: str | None, busy: bool) -> MultipleResults[str]:
        return self.make_run(project, handle, busy)

    @rule(target=DOCUMENTS, project=PROJECTS, name=NAMES, type=st.sampled_from(["dataset", "prompt"]))
    def create_document(self, project: str, name: str, type: str) -> MultipleResults[str]:
        return self.make_document(project, name, type)

    def make_run(self, project: str, handle: str | None, busy: bool) -> MultipleResults[str]:
        status = Status.running if busy else Status.finished
        command = CreateRun(project=project, handle=handle, status=status, config={"depth": 3}, summary={"loss": 0.5})
        return self.make(runs.create, command, Thing("", Kind.run, project, handle, busy=busy))

    def make_document(self, project: str, name: str, type: str) -> MultipleResults[str]:
        command = CreateDocument(project=project, name=name, type=type, body={"name": name})
        return self.make(documents.create, command, Thing("", Kind.document, project, name, type))

    @rule(id=ITEMS, name=NAMES)
    def rename(self, id: str, name: str) -> None:
        thing = self.model.things[id]
        refusal = self.model.renaming(thing, name)
        if thing.kind == Kind.run:
            done = self.do(runs.update, UpdateRun(id=id, handle=name), refusal)
        elif thing.kind == Kind.document:
            done = self.do(documents.update, UpdateDocument(id=id, name=name), refusal)
        else:
            done = self.do(projects.update, UpdateProject(id=id, name=name), refusal)
        thing.handle = thing.handle if done is None else name

    @rule(id=RUNS, busy=st.booleans(), row=NAMES)
    def write_to_a_run(self, id: str, busy: bool, row: str) -> None:
        thing = self.model.things[id]
        refusal = self.model.writing(thing)
        self.do(
            rows.write, WriteRows(id=id, rows=[RowIn(id=row, data={"input": row, "scores": {"exact": 1}})]), refusal
        )
        status = Status.running if busy else Status.finished
        if self.do(runs.update, UpdateRun(id=id, status=status), refusal) is not None:
            thing.busy = busy

    # --- archive and locks

    @rule(id=ITEMS, away=st.booleans())
    def archive_or_unarchive(self, id: str, away: bool) -> None:
        thing = self.model.things[id]
        operation = deletions.archive_item if away else deletions.unarchive_item
        if self.do(operation, ItemVerb(id=id), self.model.shelving(thing)) is not None:
            thing.state = State.archived if away else State.active

    @rule(id=ITEMS, locked=st.sampled_from([True, False, False]))
    def lock(self, id: str, locked: bool) -> None:
        thing = self.model.things[id]
        if self.do(deletions.set_lock, SetLock(id=id, locked=locked), None if thing.live else Gone) is not None:
            thing.locked = locked

    # --- trash

    @rule(target=REMOVALS, id=ITEMS, stop=st.booleans())
    def trash(self, id: str, stop: bool) -> MultipleResults[str]:
        return self.trash_one(id, stop)

    @rule(target=REMOVALS, id=PROJECTS, first=st.one_of(RUNS, DOCUMENTS))
    def trash_something_and_then_a_project(self, id: str, first: str) -> MultipleResults[str]:
        project = self.model.things[id]
        for thing in [project, *self.model.inside([project])]:
            if thing.locked:
                self.lock(thing.id, False)
        return multiple(*self.trash_one(first, True).values, *self.trash_one(id, True).values)

    def trash_one(self, id: str, stop: bool) -> MultipleResults[str]:
        command = ItemVerb(id=id, on_running="stop" if stop else "refuse")
        return self.trashed([id], self.do(deletions.trash_item, command, self.model.trashing([id], stop)))

    @rule(target=REMOVALS, ids=st.lists(ITEMS, min_size=2, max_size=4), stop=st.booleans())
    def trash_a_selection(self, ids: list[str], stop: bool) -> MultipleResults[str]:
        command = Apply(selection=Selection(ids=ids), on_running="stop" if stop else "refuse")
        return self.trashed(ids, self.do(deletions.apply, command, self.model.trashing(ids, stop)))

    def trashed(self, ids: list[str], outcome: Outcome | None) -> MultipleResults[str]:
        """Follow a trash; one of what is in the trash already makes no deletion."""
        if outcome is None:
            return multiple()
        going = self.model.going(ids)
        assert outcome.counts == Counter(str(thing.kind) for thing in going)
        if not going:
            assert outcome.deletion_id in {None, *self.model.removals}
            return multiple()
        assert outcome.deletion_id is not None
        self.model.trash(ids, outcome.deletion_id)
        return multiple(outcome.deletion_id)

    # --- restore

    @rule(id=ITEMS)
    def restore_one(self, id: str) -> None:
        thing = self.model.things[id]
        if thing.state != State.trashed:
            self.do(deletions.restore_item, ItemVerb(id=id), None if thing.live else Gone)
            return
        removal = self.model.removals[thing.deletion or ""]
        ids = [other.id for other in self.model.with_it([id]) if other.deletion == removal.id]
        if self.do(deletions.restore_item, ItemVerb(id=id), self.model.restoring(removal, ids, {})) is not None:
            self.model.restore(removal, ids, {})

    @rule(removal=REMOVALS, data=st.data(), part=st.booleans(), naming=st.booleans())
    def restore_a_deletion(self, removal: str, data: st.DataObject, part: bool, naming: bool) -> None:
        known = self.model.removals[removal]
        held = [thing.id for thing in self.model.held(known)]
        ids = data.draw(st.lists(st.sampled_from(held), max_size=3)) if part and held else []
        names = data.draw(st.dictionaries(st.sampled_from(held), NAMES, max_size=3)) if naming and held else {}
        self.restore_members(known, ids, names)

    def restore_members(self, removal: Removal, ids: list[str], names: dict[str, str]) -> None:
        command = RestoreDeletion(id=removal.id, ids=ids, names=names)
        if self.do(deletions.restore, command, self.model.restoring(removal, ids, names)) is not None:
            self.model.restore(removal, ids, names)

    # --- purge

    @rule(target=REMOVALS, removal=REMOVALS, at_once=st.booleans())
    def purge_a_deletion(self, removal: str, at_once: bool) -> MultipleResults[str]:
        """Also what was trashed earlier out of the projects that it holds."""
        known = self.model.removals[removal]
        refusal = Illegal if known.state == "restored" else None
        made: list[str] = []
        if self.do(deletions.purge, PurgeDeletion(id=removal), refusal) is not None and known.state == "trashed":
            made = self.purged_by_deletion(self.model.with_it([thing.id for thing in self.model.held(known)]))
        if at_once:
            self.work()
        return multiple(*made)

    @rule(target=REMOVALS, removal=REMOVALS, data=st.data())
    def purge_a_part(self, removal: str, data: st.DataObject) -> MultipleResults[str]:
        held = [thing.id for thing in self.model.held(self.model.removals[removal])]
        return self.purge(data.draw(st.lists(st.sampled_from(held), min_size=1, max_size=3))) if held else multiple()

    @rule(target=REMOVALS, ids=st.lists(ITEMS, min_size=1, max_size=2))
    def purge_a_selection(self, ids: list[str]) -> MultipleResults[str]:
        return self.purge(ids)

    def purge(self, ids: list[str]) -> MultipleResults[str]:
        """Also what lies in them, whichever deletion that belongs to; a part of a deletion becomes one of its own."""
        refusal = Illegal if any(self.model.things[id].live for id in ids) else None
        if self.do(deletions.apply, Apply(verb="purge", selection=Selection(ids=ids)), refusal) is None:
            return multiple()
        return multiple(*self.purged_by_deletion(self.model.with_it(ids)))

    def purged_by_deletion(self, going: list[Thing]) -> list[str]:
        stored = self.store.database.read(_items, self.actor, Nothing())
        asked: dict[str, set[str]] = {}
        for thing in going:
            asked.setdefault(thing.deletion or "", set()).add(thing.id)
        return [new for id, part in asked.items() for new in self.purged_part(id, part, stored)]

    def purged_part(self, deletion_id: str, ids: set[str], stored: dict[str, tuple[Any, ...]]) -> list[str]:
        removal = self.model.removals[deletion_id]
        if removal.state != "trashed":
            return []
        if len(ids) == len(self.model.held(removal)):
            removal.state = "purging"
            return []
        (new_id,) = {stored[id][3] for id in ids}
        assert new_id not in self.model.removals
        self.model.split(ids, removal, new_id).state = "purging"
        return [new_id]

    @rule()
    def work(self) -> None:
        self.worker.run_all()
        self.model.work()
        purged = [thing.id for thing in self.model.things.values() if thing.state == State.purged]
        assert self.store.database.read(_leftovers, self.actor, purged) == {}

    @rule(id=ITEMS, removal=REMOVALS, verb=st.sampled_from(list(Verb)))
    def name_what_is_not_there(self, id: str, removal: str, verb: Verb) -> None:
        """Ids of the other sort name nothing; what a deletion never held cannot be restored from it."""
        self.do(deletions.apply, Apply(verb=verb, selection=Selection(ids=[id, removal])), NotFound)
        self.do(deletions.restore, RestoreDeletion(id=id), NotFound)
        self.do(deletions.purge, PurgeDeletion(id=id), NotFound)
        self.restore_members(self.model.removals[removal], [id], {})

    # --- what always holds

    @invariant()
    def objects_are_as_the_model_says(self) -> None:
        things = self.model.things.values()
        expected = {x.id: (x.state, x.handle, x.locked, x.deletion) for x in things}
        assert self.store.database.read(_items, self.actor, Nothing()) == expected

    @invariant()
    def live_siblings_have_handles_of_their_own(self) -> None:
        places = Counter(x.place for x in self.model.things.values() if x.live and x.handle is not None)
        assert all(count == 1 for count in places.values())

    @invariant()
    def what_is_in_the_trash_belongs_to_one_deletion(self) -> None:
        states, members = self.store.database.read(_removals, self.actor, Nothing())
        assert states == {removal.id: removal.state for removal in self.model.removals.values()}
        things = self.model.things.values()
        assert members == {(x.deletion, x.id, str(x.state)) for x in things if not x.live}

    @invariant()
    def the_audit_chain_is_intact(self) -> None:
        self.steps += 1
        if self.steps % 5 == 0:
            assert self.store.database.read(audits.verify, self.actor, Nothing()).intact

    def teardown(self) -> None:
        try:
            with self.store.database.engine.connect() as connection:
                report = check.run(connection, self.store.blobs, START, deep=True)
            assert report.clean, report.problems
            assert self.store.database.read(audits.verify, self.actor, Nothing()).intact
        finally:
            self.opened.__exit__(None, None, None)
            self.folder.cleanup()


BOUNDS = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_any_verbs_in_any_order_end_where_the_model_says() -> None:
    run_state_machine_as_test(Lifecycle, settings=BOUNDS)
