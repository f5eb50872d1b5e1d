"""Sweeps: what agents are told, and that nothing of it is kept in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkeep.core.access import Actor
from labkeep.core.columns import from_rows
from labkeep.core.commands import CreateRun, FinishRun, Get, ItemVerb, UpdateRun
from labkeep.core.entities import Run
from labkeep.core.errors import Gone, Illegal, Invalid, NotFound
from labkeep.core.lifecycle import Status
from labkeep.core.sweeps import SweepState, parse_plan
from labkeep.operations import Store, deletions, history, runs, sweep_agents, sweeps
from labkeep.operations.history import prepare_batch
from labkeep.operations.run_searches import SearchRuns, search_runs
from labkeep.operations.sweep_agents import Beat, Order
from labkeep.operations.sweep_search import Trial, bayes_point
from labkeep.operations.sweeps import (
    AddAgent,
    BestRun,
    ChangeSweep,
    CreateSweep,
    FindSweep,
    GetSweep,
    ListSweeps,
    Sweep,
)
from labkeep.testing.factories import FixedClock, make_actor, make_project, make_store

GRID = {"method": "grid", "parameters": {"a": {"values": [1, 2]}, "b": {"values": ["x", "y"]}}}
BAYES = {
    "method": "bayes",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "c": {"values": ["u", "v"]}, "k": {"value": 7}},
}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with make_store(tmp_path, clock) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    actor = make_actor(store.database)
    make_project(store.database, actor, "p")
    return actor


def create(store: Store, actor: Actor, config: dict[str, Any], **fields: Any) -> Sweep:
    return store.database.write(sweeps.create, actor, CreateSweep(project="p", config=config, **fields))


def beat(store: Store, actor: Actor, sweep: Sweep, *running: str, agent: str = "one") -> list[Order]:
    return sweep_agents.beat(store, actor, Beat(id=sweep.document.id, agent=agent, running=list(running)))


def run_of(store: Store, actor: Actor, order: Order) -> Run:
    found = store.database.read(runs.list_, actor, runs.ListRuns(project="p", handle=order.handle))
    return found.items[0]


def finish(store: Store, actor: Actor, order: Order, loss: float | None = None) -> None:
    id = run_of(store, actor, order).id
    store.database.write(runs.update, actor, UpdateRun(id=id, status=Status.running))
    summary = {} if loss is None else {"loss": loss}
    store.database.write(runs.finish, actor, FinishRun(id=id, summary=summary))


def state_of(store: Store, actor: Actor, sweep: Sweep) -> SweepState:
    return store.database.read(sweeps.get, actor, GetSweep(id=sweep.document.id)).state


def change(store: Store, actor: Actor, sweep: Sweep, **fields: Any) -> Sweep:
    return store.database.write(sweeps.change, actor, ChangeSweep(id=sweep.document.id, **fields))


# --- sweeps -----------------------------------------------------------------------------------------------------------


def test_a_sweep_is_found_by_its_short_name_and_listed(store: Store, actor: Actor) -> None:
    first, second = create(store, actor, GRID, name="one"), create(store, actor, GRID)
    assert (first.state, first.document.name) == (SweepState.pending, "one")
    handle = first.document.handle or ""
    found = store.database.read(sweeps.find, actor, FindSweep(project="p", handle=handle))
    assert (found.document.id, found.config) == (first.document.id, GRID)
    page = store.database.read(sweeps.list_, actor, ListSweeps(project="p"))
    assert [each.document.id for each in page.items] == [second.document.id, first.document.id]
    assert store.database.read(sweeps.count, actor, ListSweeps(project="p")) == 2
    with pytest.raises(NotFound):
        store.database.read(sweeps.find, actor, FindSweep(project="p", handle="nothing"))


def test_a_configuration_that_cannot_be_searched_is_refused(store: Store, actor: Actor) -> None:
    with pytest.raises(Invalid):
        create(store, actor, {"method": "grid", "parameters": {"a": {"min": 0.0, "max": 1.0}}})
    sweep = create(store, actor, GRID)
    with pytest.raises(Invalid):
        change(store, actor, sweep, config={"method": "guess"})


# --- grids ------------------------------------------------------------------------------------------------------------


def test_a_grid_is_handed_out_point_by_point_until_it_is_done(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    points = []
    while (orders := beat(store, actor, sweep)) != [Order("exit")]:
        [order] = orders
        assert order.type == "run"
        assert run_of(store, actor, order).status == Status.queued
        points.append((order.config["a"], order.config["b"]))
        assert beat(store, actor, sweep, order.handle) == []
        finish(store, actor, order)
    assert points == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert state_of(store, actor, sweep) == SweepState.finished


def test_agents_at_the_same_time_never_get_the_same_point(store: Store, actor: Actor) -> None:
    config = {"method": "grid", "parameters": {"a": {"min": 0, "max": 19}, "b": {"values": [0, 1]}}}
    sweep = create(store, actor, config)
    points: list[tuple[int, int]] = []

    def work(agent: str) -> None:
        while (order := beat(store, actor, sweep, agent=agent)[0]).type == "run":
            points.append((order.config["a"], order.config["b"]))
            finish(store, actor, order)

    threads = [threading.Thread(target=work, args=(f"agent-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(points) == [(a, b) for a in range(20) for b in range(2)]


def test_a_server_that_starts_again_goes_on_with_the_grid(tmp_path: Path) -> None:
    seen = []
    with make_store(tmp_path) as store:
        actor = make_actor(store.database)
        make_project(store.database, actor, "p")
        sweep = create(store, actor, GRID)
        for _ in range(2):
            [order] = beat(store, actor, sweep)
            finish(store, actor, order)
            seen.append(tuple(order.config.values()))
    with make_store(tmp_path) as store:
        while (order := beat(store, actor, sweep)[0]).type == "run":
            finish(store, actor, order)
            seen.append(tuple(order.config.values()))
    assert seen == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_a_trashed_run_frees_its_point(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    orders = [beat(store, actor, sweep, agent=str(number))[0] for number in range(4)]
    for order in orders:
        finish(store, actor, order)
    assert beat(store, actor, sweep) == [Order("exit")]
    store.database.write(deletions.trash_item, actor, ItemVerb(id=run_of(store, actor, orders[2]).id))
    change(store, actor, sweep, state=SweepState.running)
    assert beat(store, actor, sweep)[0].config == {"a": 2, "b": "x"}


def test_a_run_from_elsewhere_takes_its_point(store: Store, actor: Actor) -> None:
    made = CreateRun(project="p", handle="before", config={"a": 1, "b": "x", "c": 0}, status=Status.finished)
    store.database.write(runs.create, actor, made)
    sweep = create(store, actor, GRID, runs=["before"])
    assert store.database.read(sweeps.run_count, actor, GetSweep(id=sweep.document.id)) == 1
    assert beat(store, actor, sweep)[0].config == {"a": 1, "b": "y"}


def test_a_new_configuration_keeps_the_points_that_both_have(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    finish(store, actor, beat(store, actor, sweep)[0])
    change(store, actor, sweep, config={"method": "grid", "parameters": {"a": {"values": [0, 1]}, "b": {"value": "x"}}})
    order = beat(store, actor, sweep)[0]
    finish(store, actor, order)
    assert (order.config, beat(store, actor, sweep)) == ({"a": 0, "b": "x"}, [Order("exit")])


# --- what was not heard -----------------------------------------------------------------------------------------------


def test_an_agent_that_did_not_hear_of_its_run_is_told_again(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    [first] = beat(store, actor, sweep)
    assert beat(store, actor, sweep) == [first]
    assert beat(store, actor, sweep, agent="two")[0].handle != first.handle


def test_a_run_that_never_starts_is_given_up(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    handles = {beat(store, actor, sweep)[0].handle for _ in range(sweep_agents.HANDOUTS + 1)}
    assert len(handles) == 2
    page = store.database.read(search_runs, actor, SearchRuns(project="p", document_id=sweep.document.id))
    assert [seen.run.status for seen in page.items].count(Status.crashed) == 1


def test_the_run_of_an_agent_that_is_gone_goes_to_another(store: Store, actor: Actor, clock: FixedClock) -> None:
    sweep = create(store, actor, GRID)
    [order] = beat(store, actor, sweep, agent="one")
    clock.advance(seconds=100)
    assert beat(store, actor, sweep, order.handle, agent="one") == []  # it waits, and its agent still knows it
    clock.advance(seconds=100)
    assert beat(store, actor, sweep, agent="two")[0].handle != order.handle
    clock.advance(seconds=100)
    assert beat(store, actor, sweep, agent="three")[0] == order


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_paused_sweep_waits_and_a_stopped_one_stops_its_runs(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    [order] = beat(store, actor, sweep)
    store.database.write(runs.update, actor, UpdateRun(id=run_of(store, actor, order).id, status=Status.running))
    waits = beat(store, actor, sweep, agent="two")[0]
    change(store, actor, sweep, state=SweepState.paused)
    assert beat(store, actor, sweep, agent="three") == []
    change(store, actor, sweep, state=SweepState.stopped)
    assert beat(store, actor, sweep, order.handle) == [Order("stop", order.handle)]
    assert beat(store, actor, sweep) == [Order("exit")]
    assert run_of(store, actor, waits).status == Status.stopped
    with pytest.raises(Illegal):
        change(store, actor, sweep, state=SweepState.paused)


def test_a_finished_sweep_lets_its_runs_end(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    [order] = beat(store, actor, sweep)
    change(store, actor, sweep, state=SweepState.finished)
    assert beat(store, actor, sweep, order.handle) == []
    assert beat(store, actor, sweep) == [Order("exit")]


def test_a_cap_ends_the_sweep(store: Store, actor: Actor) -> None:
    config = {"method": "random", "run_cap": 3, "parameters": {"x": {"min": 0.0, "max": 1.0}}}
    sweep = create(store, actor, config)
    points = []
    while (order := beat(store, actor, sweep)[0]).type == "run":
        points.append(order.config["x"])
        finish(store, actor, order)
    assert len(set(points)) == 3
    assert state_of(store, actor, sweep) == SweepState.finished


def test_agents_of_a_trashed_sweep_learn_that_it_is_gone(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    store.database.write(deletions.trash_item, actor, ItemVerb(id=sweep.document.id, on_running="stop", force=True))
    with pytest.raises(Gone):
        beat(store, actor, sweep)


def test_agents_are_listed_with_their_runs(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    name = store.database.write(sweeps.add_agent, actor, AddAgent(id=sweep.document.id, host="machine"))
    [order] = beat(store, actor, sweep, agent=name)
    [agent] = store.database.read(sweeps.agents, actor, GetSweep(id=sweep.document.id))
    assert (agent.name, agent.host, agent.busy) == (name, "machine", True)
    assert agent.runs == [run_of(store, actor, order).id]


# --- searches that learn ----------------------------------------------------------------------------------------------


def test_a_search_that_learns_comes_nearer_to_what_is_best() -> None:
    plan = parse_plan(BAYES)
    trials: list[Trial] = []
    for number in range(40):
        point = bayes_point(plan, "seed", number, trials)
        assert point["k"] == 7
        trials.append(Trial(point, (point["x"] - 0.3) ** 2 + (point["c"] == "u"), busy=False))
    late = trials[25:]
    assert sum(trial.config["c"] == "v" for trial in late) > len(late) / 2
    assert min(trial.loss or 0 for trial in trials) < 0.01


def test_a_point_that_was_learned_follows_from_seed_number_and_trials() -> None:
    plan = parse_plan(BAYES)
    trials = [Trial({"x": number / 20, "c": "u", "k": 7}, number, busy=False) for number in range(20)]
    trials += [Trial({"x": 0.5, "c": "u"}, None, busy=True), Trial({"x": 0.5, "c": "u"}, None, busy=False)]
    trials += [Trial({"x": "odd", "c": "u"}, 1.0, busy=False), Trial({"x": 0.1, "c": "strange"}, 1.0, busy=False)]
    assert bayes_point(plan, "s", 3, trials) == bayes_point(plan, "s", 3, trials)
    assert bayes_point(plan, "s", 3, trials) != bayes_point(plan, "s", 4, trials)


def test_a_bayes_sweep_hands_out_what_it_learned_and_knows_its_best(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, BAYES)
    points = []
    for number in range(12):
        [order] = beat(store, actor, sweep)
        finish(store, actor, order, loss=float(number))
        points.append(order.config["x"])
    assert len(set(points)) == 12
    assert store.database.read(sweeps.best, actor, BestRun(id=sweep.document.id)) == 0.0


# --- early termination ------------------------------------------------------------------------------------------------

HYPERBAND = {
    **GRID,
    "metric": {"name": "acc", "goal": "maximize"},
    "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 3},
}


def log(store: Store, actor: Actor, order: Order, *values: float) -> None:
    id = run_of(store, actor, order).id
    store.database.write(runs.update, actor, UpdateRun(id=id, status=Status.running))
    rows = [(step, None, {"acc": value}) for step, value in enumerate(values)]
    store.database.write(history.append, actor, prepare_batch(id, "history", 0, from_rows(rows)))


def test_a_run_without_hope_is_stopped_and_the_others_go_on(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, HYPERBAND)
    good, bad, late = (beat(store, actor, sweep, agent=agent)[0] for agent in ("g", "b", "l"))
    log(store, actor, good, 0.8, 0.9)
    store.database.write(runs.finish, actor, FinishRun(id=run_of(store, actor, good).id))
    log(store, actor, bad, 0.1)
    assert beat(store, actor, sweep, bad.handle, agent="b") == []  # not at the first band yet
    log(store, actor, bad, 0.1, 0.2, 0.3)
    assert beat(store, actor, sweep, bad.handle, agent="b") == [Order("stop", bad.handle)]
    assert beat(store, actor, sweep, bad.handle, agent="b") == [Order("stop", bad.handle)]
    log(store, actor, late, 0.8, 0.95)
    assert beat(store, actor, sweep, late.handle, agent="l") == []
    assert run_of(store, actor, bad).status == Status.running  # its agent stops it, and its process says so


def test_a_run_can_be_read_by_its_id(store: Store, actor: Actor) -> None:
    sweep = create(store, actor, GRID)
    [order] = beat(store, actor, sweep)
    run = store.database.read(runs.get, actor, Get(id=run_of(store, actor, order).id))
    assert (run.document_id, run.config) == (sweep.document.id, order.config)
