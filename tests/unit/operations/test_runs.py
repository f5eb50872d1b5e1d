"""Runs: made once, edited, ended, heard of, compared."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import (
    CreateRun,
    CreateRuns,
    DiffRuns,
    FinishRun,
    Get,
    Heartbeat,
    ListRuns,
    StopRun,
    UpdateRun,
)
from labkeep.core.entities import Run
from labkeep.core.errors import AlreadyExists, Forbidden, Illegal, Invalid, NotFound, Stale
from labkeep.core.lifecycle import ENDED, Status
from labkeep.operations import Store, audits, runs, upkeep
from labkeep.testing.factories import FixedClock, make_actor, make_document, make_project, make_store

ID = "00000000-0000-7000-8000-00000000000a"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with make_store(tmp_path, clock) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def create(store: Store, actor: Actor, project: str = "p", **more: Any) -> Run:
    return store.database.write(runs.create, actor, CreateRun(project=project, **more))


def update(store: Store, actor: Actor, run: Run, **more: Any) -> Run:
    return store.database.write(runs.update, actor, UpdateRun(id=run.id, **more))


def get(store: Store, actor: Actor, run: Run) -> Run:
    return store.database.read(runs.get, actor, Get(id=run.id))


# --- making -------------------------------------------------------------------------------------------------------------


def test_everything_that_a_run_is_given_comes_back(store: Store, actor: Actor, clock: FixedClock) -> None:
    given: dict[str, Any] = {
        "name": "n",
        "handle": "h",
        "type": "t",
        "status": Status.failed,
        "config": {"lr": 0.1, "deep": {"list": [1, {"a": None}], "big": 2**53, "text": "\u0000\u2028é"}},
        "summary": {"acc": 1e308, "none": None},
        "tags": ("b", "a"),
        "description": "d",
        "metadata": {"m": True},
        "extra": {"e": [1]},
        "notes": "notes",
        "group": "g",
        "job_type": "j",
        "base_run_id": ID,
        "document_id": ID,
        "exit_code": -9,
        "started_at": clock.now - timedelta(hours=1),
        "finished_at": clock.now,
        "dialect": "wandb",
    }
    run = create(store, actor, **given)
    assert {name: getattr(run, name) for name in given} == given
    assert get(store, actor, run) == run
    assert (run.created_by, run.heartbeat_at, run.version, run.bytes) == (actor.user, None, 1, 0)


@pytest.mark.parametrize("status", list(Status))
def test_the_times_of_a_new_run_go_with_its_status(
    store: Store, actor: Actor, clock: FixedClock, status: Status
) -> None:
    run = create(store, actor, status=status)
    waiting = status in (Status.draft, Status.queued)
    assert (run.started_at is None, run.finished_at is None) == (waiting, status not in ENDED)
    assert run.heartbeat_at == (None if status in ENDED else clock.now)
    assert run.name == f"run-{run.id[-6:]}"


def test_a_chosen_id_makes_one_run_however_often_it_is_sent(store: Store, actor: Actor) -> None:
    first = create(store, actor, id=ID, config={"a": 1})
    assert create(store, actor, id=ID, config={"a": 2}) == first
    with pytest.raises(AlreadyExists, match="choose another"):
        create(store, actor, "elsewhere", id=ID)
    document = make_document(store.database, actor)
    with pytest.raises(AlreadyExists, match="choose another"):
        create(store, actor, id=document.id)


def test_a_chosen_id_of_another_tenant_tells_nothing(store: Store, actor: Actor) -> None:
    create(store, actor, id=ID)
    stranger = make_actor(store.database, organization="other")
    assert create(store, stranger, id=ID).organization_id == stranger.organization_id


def test_a_handle_is_unique_among_the_live_runs_of_a_project_and_type(store: Store, actor: Actor) -> None:
    first = create(store, actor, handle="h")
    with pytest.raises(AlreadyExists, match="exists already") as refused:
        create(store, actor, handle="h")
    assert refused.value.details["id"] == first.id
    assert create(store, actor, handle="h", exist_ok=True) == first
    assert create(store, actor, handle="h", type="other").id != first.id
    assert create(store, actor, "q", handle="h").id != first.id
    suffixed = create(store, actor, handle="h", name="h", suffix=True)
    assert suffixed.handle is not None
    assert suffixed.handle.startswith("h-")
    assert suffixed.name == suffixed.handle
    assert create(store, actor, handle="h", name="mine", suffix=True).name == "mine"
    assert create(store, actor, handle="new", suffix=True).handle == "new"


def test_many_runs_are_made_at_once_in_their_order(store: Store, actor: Actor) -> None:
    asked = [CreateRun(project=f"p{number % 2}", name=f"n{number}", config={"n": number}) for number in range(50)]
    made = store.database.write(runs.create_many, actor, CreateRuns(runs=asked)).items
    assert [run.name for run in made] == [f"n{number}" for number in range(50)]
    assert [run.id for run in made] == sorted(run.id for run in made)
    found = store.database.read(runs.list_, actor, ListRuns(project="p1", q="config.n >= 25")).items
    assert {run.name for run in found} == {f"n{number}" for number in range(25, 50, 2)}
    (event,) = store.database.read(audits.list_, actor, audits.ListAudit(event="run.created")).items
    assert event.count == 50


def test_of_many_runs_all_are_made_or_none(store: Store, actor: Actor) -> None:
    asked = [CreateRun(project="p", handle="same"), CreateRun(project="p"), CreateRun(project="p", handle="same")]
    with pytest.raises(AlreadyExists):
        store.database.write(runs.create_many, actor, CreateRuns(runs=asked))
    assert store.database.read(runs.list_, actor, ListRuns()).items == []
    asked = [msgspec.structs.replace(run, suffix=True) for run in asked]
    handles = [run.handle for run in store.database.write(runs.create_many, actor, CreateRuns(runs=asked)).items]
    assert handles[0] == "same"
    assert len(set(handles)) == 3


def test_a_batch_that_names_one_id_twice_makes_one_run(store: Store, actor: Actor) -> None:
    asked = [CreateRun(project="p", id=ID), CreateRun(project="p", id=ID), CreateRun(project="p")]
    made = store.database.write(runs.create_many, actor, CreateRuns(runs=asked)).items
    assert [run.id == ID for run in made] == [True, True, False]
    assert len(store.database.read(runs.list_, actor, ListRuns()).items) == 2
    assert [run.id for run in store.database.write(runs.create_many, actor, CreateRuns(runs=asked[:2])).items] == [
        ID,
        ID,
    ]


# --- editing ------------------------------------------------------------------------------------------------------------


def test_edits_merge_deeply_and_are_found_at_once(store: Store, actor: Actor) -> None:
    run = create(store, actor, config={"a": {"b": 1, "c": 2}}, summary={"x": 1}, tags=("one", "two"), notes="old")
    after = update(
        store,
        actor,
        run,
        config={"a": {"b": None, "d": 3}},
        summary={"x": 2, "y": {"z": "t"}},
        add_tags=("three", "one"),
        remove_tags=("two",),
        notes="new",
        group="g",
        name="n",
    )
    assert (after.config, after.summary) == ({"a": {"c": 2, "d": 3}}, {"x": 2, "y": {"z": "t"}})
    assert (after.tags, after.notes, after.group, after.name) == (("one", "three"), "new", "g", "n")
    assert get(store, actor, run) == after
    for q, count in (
        ("config.a.d = 3", 1),
        ("exists config.a.b", 0),
        ('summary.y.z = "t"', 1),
        ("summary.x = 1", 0),
        ('tag = "two"', 0),
        ('tag = "three"', 1),
    ):
        assert len(store.database.read(runs.list_, actor, ListRuns(project="p", q=q)).items) == count, q


def test_an_edit_of_nothing_changes_no_version(store: Store, actor: Actor, clock: FixedClock) -> None:
    run = create(store, actor, config={"a": 1})
    clock.advance(hours=1)
    assert update(store, actor, run, config={"a": 1}, name=run.name) == run
    assert update(store, actor, run) == run
    with pytest.raises(Stale, match="version 1, not 7"):
        update(store, actor, run, notes="x", if_version=7)


def test_a_handle_moves_only_where_it_is_free(store: Store, actor: Actor) -> None:
    first, second = create(store, actor, handle="a"), create(store, actor, handle="b")
    with pytest.raises(AlreadyExists):
        update(store, actor, second, handle="a")
    assert update(store, actor, first, handle=None).handle is None
    assert update(store, actor, second, handle="a").handle == "a"
    assert update(store, actor, second, handle="a").handle == "a"


@pytest.mark.parametrize("ended", ENDED)
def test_a_run_ends_once_and_may_run_again(store: Store, actor: Actor, clock: FixedClock, ended: Status) -> None:
    run = create(store, actor)
    clock.advance(minutes=5)
    done = update(store, actor, run, status=ended)
    assert (done.finished_at, done.heartbeat_at) == (clock.now, None)
    clock.advance(minutes=5)
    again = update(store, actor, run, status=Status.failed)
    assert again.finished_at == done.finished_at
    running = update(store, actor, run, status=Status.running)
    assert (running.finished_at, running.heartbeat_at, running.started_at) == (None, clock.now, run.started_at)


def test_finishing_takes_status_summary_and_exit_code(store: Store, actor: Actor) -> None:
    run = create(store, actor, summary={"a": 1})
    done = store.database.write(
        runs.finish, actor, FinishRun(id=run.id, status=Status.failed, exit_code=3, summary={"b": 2})
    )
    assert (done.status, done.exit_code, done.summary) == (Status.failed, 3, {"a": 1, "b": 2})
    again = store.database.write(runs.finish, actor, FinishRun(id=run.id))
    assert (again.status, again.exit_code) == (Status.finished, 3)
    with pytest.raises(Illegal, match="cannot finish as running"):
        store.database.write(runs.finish, actor, FinishRun(id=run.id, status=Status.running))


def test_a_run_that_is_asked_to_stop_is_told_with_its_next_heartbeat(store: Store, actor: Actor) -> None:
    run = create(store, actor)
    assert store.database.write(runs.heartbeat, actor, Heartbeat(id=run.id)).stop is False
    stopped = store.database.write(runs.stop, actor, StopRun(id=run.id))
    assert (stopped.status, stopped.finished_at is not None) == (Status.stopped, True)
    assert store.database.write(runs.heartbeat, actor, Heartbeat(id=run.id)).stop is True
    assert store.database.write(runs.stop, actor, StopRun(id=run.id)) == stopped
    done = create(store, actor, status=Status.finished)
    with pytest.raises(Illegal, match="only a running or queued run"):
        store.database.write(runs.stop, actor, StopRun(id=done.id))


def test_a_silent_run_counts_as_crashed_until_it_is_heard_of_again(
    store: Store, actor: Actor, clock: FixedClock
) -> None:
    silent, loud, done = create(store, actor), create(store, actor), create(store, actor, status=Status.finished)
    last = clock.now
    clock.advance(seconds=200)
    store.database.write(runs.heartbeat, actor, Heartbeat(id=loud.id))
    clock.advance(seconds=200)
    assert store.database.write(upkeep.mark_crashed, actor, timedelta(seconds=300)) == 1
    crashed = get(store, actor, silent)
    assert (crashed.status, crashed.finished_at) == (Status.crashed, last)
    assert [get(store, actor, run).status for run in (loud, done)] == ["running", "finished"]
    assert store.database.write(runs.heartbeat, actor, Heartbeat(id=silent.id)).status == Status.running
    alive = get(store, actor, silent)
    assert (alive.status, alive.finished_at, alive.heartbeat_at) == (Status.running, None, clock.now)


# --- looking ------------------------------------------------------------------------------------------------------------


def test_lists_narrow_by_project_name_handle_type_and_ids(store: Store, actor: Actor) -> None:
    a = create(store, actor, "a", name="one", handle="h", type="t")
    b = create(store, actor, "b", name="one")

    def listed(**asked: Any) -> list[str]:
        return [run.id for run in store.database.read(runs.list_, actor, ListRuns(**asked)).items]

    assert listed() == listed(name="one") == [b.id, a.id]
    assert listed(project="a") == listed(handle="h") == listed(type="t") == listed(ids=[a.id]) == [a.id]
    assert listed(type="") == [b.id]
    assert listed(project=a.project_id, name="two") == []
    assert listed(ids=[b.id, a.id, "00000000-0000-7000-8000-000000000000"]) == [b.id, a.id]
    assert listed(ids=[a.id], q='name = "two"') == []
    with pytest.raises(NotFound):
        listed(project="c")
    with pytest.raises(Invalid):
        listed(order="nonsense")


def test_a_difference_names_every_path_that_differs(store: Store, actor: Actor) -> None:
    a = create(store, actor, name="a", config={"lr": 1, "same": 1, "deep": {"x": [1]}}, tags=("t",), exit_code=1)
    b = create(store, actor, name="b", config={"lr": 2, "same": 1, "deep": {"x": [2]}}, summary={"acc": None})
    found = store.database.read(runs.diff, actor, DiffRuns(a=a.id, b=b.id)).items
    assert [(d.path, d.a, d.b, d.only) for d in found] == [
        ("config.deep.x", [1], [2], ""),
        ("config.lr", 1, 2, ""),
        ("exit_code", 1, None, "a"),
        ("name", "a", "b", ""),
        ("summary.acc", None, None, "b"),
        ("tag.t", True, None, "a"),
    ]
    assert store.database.read(runs.diff, actor, DiffRuns(a=a.id, b=a.id)).items == []


# --- who ----------------------------------------------------------------------------------------------------------------


def test_viewers_only_look_and_strangers_find_nothing(store: Store, actor: Actor) -> None:
    run = create(store, actor)
    viewer = make_actor(store.database, "viewer")
    assert get(store, viewer, run) == run
    writes = [
        (runs.create, CreateRun(project="p")),
        (runs.create_many, CreateRuns(runs=[CreateRun(project="p")])),
        (runs.update, UpdateRun(id=run.id, notes="x")),
        (runs.finish, FinishRun(id=run.id)),
        (runs.stop, StopRun(id=run.id)),
        (runs.heartbeat, Heartbeat(id=run.id)),
    ]
    for operation, command in writes:
        with pytest.raises(Forbidden, match=r"run\.write"):
            store.database.write(operation, viewer, command)  # type: ignore[arg-type]
    for place in ({"organization": "other"}, {"workspace": "next door"}):
        stranger = make_actor(store.database, **place)
        own = create(store, stranger)
        for operation, command in (
            *writes[2:],
            (runs.get, Get(id=run.id)),
            (runs.diff, DiffRuns(a=own.id, b=run.id)),
            (runs.create, CreateRun(project=run.parent_id)),
            (runs.list_, ListRuns(project=run.parent_id)),
        ):
            with pytest.raises(NotFound):
                store.database.write(operation, stranger, command)  # type: ignore[arg-type]
    assert make_project(store.database, actor).id != run.parent_id
