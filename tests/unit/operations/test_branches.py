"""Forks and rewinds: what a run begins with, what its base keeps, and who holds which bytes, on both databases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from labkeep.core.access import Actor
from labkeep.core.columns import Row, encode_rows
from labkeep.core.commands import AppendHistory, FinishRun, Get, ItemVerb, ReadHistory, UpdateRun
from labkeep.core.commands_branches import ForkRun, RewindRun
from labkeep.core.commands_holds import SetHold
from labkeep.core.entities import Item, Run, Series
from labkeep.core.errors import Forbidden, Held, Illegal, InUse, Invalid, NotFound
from labkeep.core.lifecycle import State
from labkeep.operations import Store, branches, deletions, history, holds, runs
from labkeep.operations.branches import summary_of
from labkeep.operations.history import ListSeries
from labkeep.server import make_worker
from labkeep.storage import check
from labkeep.storage.database_postgres import Postgres
from labkeep.testing.factories import FixedClock, make_actor, make_run, make_store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with make_store(tmp_path) as store:
        if request.param == "sqlite":
            yield store
            return
        database = Postgres(request.getfixturevalue("postgres_url"), readers=2, clock=FixedClock())
        yield store._replace(database=database)
        database.close()


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


@pytest.fixture
def base(store: Store, actor: Actor) -> Run:
    """Steps 0 to 99."""
    run = make_run(store.database, actor, config={"lr": 0.1}, summary={"deep": {"x": 99}}, tags=("t",))
    append(store, actor, run, [(step, 1.0 + step, {"loss": step / 2, "deep.x": step}) for step in range(100)])
    return run


def append(store: Store, actor: Actor, run: Item, rows: Sequence[Row], **more: Any) -> None:
    store.database.write(history.append, actor, AppendHistory(id=run.id, batch=encode_rows(rows), **more))


def seal(store: Store, actor: Actor, run: Item, rows: int = 1) -> int:
    store.database.seal_min_rows = rows
    store.database.write(runs.finish, actor, FinishRun(id=run.id))
    return history.seal(store, actor, run.id, "history")


def fork(store: Store, actor: Actor, run: Item, step: int | None = None, **more: Any) -> Run:
    prepared = branches.prepare_fork(store, actor, ForkRun(id=run.id, step=step, **more))
    return store.database.write(branches.fork, actor, prepared)


def rewind(store: Store, actor: Actor, run: Item, step: int) -> Run:
    prepared = branches.prepare_rewind(store, actor, RewindRun(id=run.id, step=step, reason="diverged"))
    return store.database.write(branches.rewind, actor, prepared)


def read(store: Store, actor: Actor, run: Item, **fields: Any) -> list[dict[str, Any]]:
    return list(history.read(store, actor, ReadHistory(id=run.id, **fields)).table.rows())


def steps(store: Store, actor: Actor, run: Item) -> list[int]:
    return [row["_step"] for row in read(store, actor, run)]


def series(store: Store, actor: Actor, run: Item) -> dict[str, Series]:
    page = store.database.read(history.list_series, actor, ListSeries(id=run.id))
    return {one.key: one for one in page.items}


def get(store: Store, actor: Actor, id: str) -> Run:
    return store.database.read(runs.get, actor, Get(id=id))


def assert_whole(store: Store) -> None:
    with store.database.engine.connect() as connection:  # type: ignore[attr-defined]  # both have one
        report = check.run(connection, store.blobs, store.database.clock(), deep=True)
    assert not report.problems, report.problems


def test_a_fork_begins_with_the_rows_up_to_a_step_and_its_base_keeps_all(store: Store, actor: Actor, base: Run) -> None:
    before = read(store, actor, base)
    made = fork(store, actor, base, 9, config={"wd": 1}, name="second")
    assert read(store, actor, made) == before[:10]
    assert (made.base_run_id, made.name, made.tags) == (base.id, "second", ("t",))
    assert made.config == {"lr": 0.1, "wd": 1}
    assert made.summary == {"loss": 4.5, "deep": {"x": 9}}
    append(store, actor, made, [(10, None, {"loss": -1.0})])
    assert (steps(store, actor, made), read(store, actor, base)) == (list(range(11)), before)
    assert_whole(store)


def test_what_is_known_of_each_key_is_what_it_was_at_that_step(store: Store, actor: Actor, base: Run) -> None:
    append(store, actor, base, [(100, None, {"late": 1})])
    seal(store, actor, base)
    found = series(store, actor, fork(store, actor, base, 9))
    assert found.keys() == {"loss", "deep.x"}
    loss = found["loss"]
    assert (loss.count, loss.first, loss.last, loss.max, loss.last_step) == (10, 0.0, 4.5, 4.5, 9)


def test_segments_before_the_step_are_shared_and_no_byte_is_stored_twice(store: Store, actor: Actor, base: Run) -> None:
    seal(store, actor, base)
    store.database.write(runs.update, actor, UpdateRun(id=base.id, status="running"))
    append(store, actor, base, [(step, None, {"loss": 0.0}) for step in range(100, 120)])
    blobs = sorted(store.blobs.list(actor.organization_id))
    made = fork(store, actor, base, 105)
    assert steps(store, actor, made) == list(range(106))
    assert sorted(store.blobs.list(actor.organization_id)) == blobs
    assert series(store, actor, made)["loss"].count == 106
    assert_whole(store)


def test_a_fork_without_a_step_has_all(store: Store, actor: Actor, base: Run) -> None:
    seal(store, actor, base)
    assert steps(store, actor, fork(store, actor, base)) == list(range(100))


def test_a_shared_segment_stays_until_the_last_run_that_has_it_is_purged(store: Store, actor: Actor, base: Run) -> None:
    seal(store, actor, base)
    made = fork(store, actor, base)
    with pytest.raises(InUse, match="base of run"):
        store.database.write(deletions.trash_item, actor, ItemVerb(id=base.id))
    store.database.write(deletions.trash_item, actor, ItemVerb(id=base.id, force=True))
    store.database.write(deletions.purge_item, actor, ItemVerb(id=base.id))
    make_worker(store).run_all()
    assert len(list(store.blobs.list(actor.organization_id))) == 1
    assert steps(store, actor, made) == list(range(100))
    assert_whole(store)


def test_where_steps_go_back_what_belongs_to_the_beginning_is_kept_and_nothing_else(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor)
    for at in (0, 1, 5, 2, 6, 3):
        append(store, actor, run, [(at, None, {"x": at})])
    assert [row["x"] for row in read(store, actor, fork(store, actor, run, 3))] == [0, 1, 2, 3]
    seal(store, actor, run)
    made = fork(store, actor, run, 3)
    assert [row["x"] for row in read(store, actor, made)] == [0, 1, 2, 3]
    append(store, actor, made, [(4, None, {"x": 4})])
    assert [row["x"] for row in read(store, actor, made)] == [0, 1, 2, 3, 4]
    assert_whole(store)


def test_rows_that_were_written_over_are_inherited_as_they_are_now(store: Store, actor: Actor, base: Run) -> None:
    seal(store, actor, base)
    append(store, actor, base, [(50, None, {"loss": math.inf}), (200, None, {"loss": 1.0})], offset=50)
    made = fork(store, actor, base, 60)
    expected = [row for row in read(store, actor, base) if row["_step"] <= 60]
    assert read(store, actor, made) == expected
    assert math.isinf(expected[50]["loss"])
    assert 51 not in [row["_step"] for row in expected]
    assert_whole(store)


def test_a_step_that_the_base_has_not_reached_is_refused(store: Store, actor: Actor, base: Run) -> None:
    with pytest.raises(Invalid, match="steps up to 99: it has no step 100"):
        fork(store, actor, base, 100)
    with pytest.raises(Invalid, match="has logged nothing"):
        fork(store, actor, make_run(store.database, actor), 0)


def test_a_rewound_run_goes_on_and_what_it_had_logged_is_kept(store: Store, actor: Actor, base: Run) -> None:
    before = read(store, actor, base)
    seal(store, actor, base)
    append(store, actor, base, [(0, None, {"line": "printed"})], stream="console")
    after = rewind(store, actor, base, 4)
    assert (after.id, read(store, actor, after)) == (base.id, before[:5])
    assert after.summary == {"loss": 2.0, "deep": {"x": 4}}
    assert series(store, actor, after)["loss"].last == 2.0
    kept = get(store, actor, str(after.base_run_id))
    assert (kept.state, read(store, actor, kept), kept.config) == (State.archived, before, base.config)
    assert [row["line"] for row in read(store, actor, kept, stream="console")] == ["printed"]
    append(store, actor, after, [(5, None, {"loss": 7.0})])
    assert (steps(store, actor, after), steps(store, actor, kept)) == ([0, 1, 2, 3, 4, 5], list(range(100)))
    assert series(store, actor, kept)["loss"].count == 100
    assert_whole(store)


def test_a_rewind_that_is_sent_twice_keeps_one_copy(store: Store, actor: Actor, base: Run) -> None:
    first = rewind(store, actor, base, 4)
    assert rewind(store, actor, base, 4).base_run_id == first.base_run_id


def test_each_rewind_keeps_its_own(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, handle="r")
    append(store, actor, run, [(step, None, {"x": step}) for step in range(10)])
    first, second = rewind(store, actor, run, 5), rewind(store, actor, run, 2)
    kept = [get(store, actor, str(one.base_run_id)) for one in (first, second)]
    assert [one.handle for one in kept] == ["r-before-rewind-1", "r-before-rewind-2"]
    assert [len(read(store, actor, one)) for one in (*kept, second)] == [10, 6, 3]
    assert kept[1].base_run_id == kept[0].id


def test_an_archived_run_is_forked_but_not_rewound(store: Store, actor: Actor, base: Run) -> None:
    kept = get(store, actor, str(rewind(store, actor, base, 4).base_run_id))
    assert len(read(store, actor, fork(store, actor, kept, 49))) == 50
    with pytest.raises(Illegal, match="archived"):
        rewind(store, actor, kept, 0)


def test_a_held_run_is_not_taken_back(store: Store, actor: Actor, base: Run) -> None:
    store.database.write(holds.set_, actor, SetHold(matter="inquiry", reason="asked for", ids=[base.id]))
    with pytest.raises(Held, match="inquiry"):
        rewind(store, actor, base, 1)
    assert len(read(store, actor, base)) == 100
    assert len(read(store, actor, fork(store, actor, base, 1))) == 2


def test_a_viewer_neither_forks_nor_rewinds_and_a_stranger_finds_nothing(store: Store, actor: Actor, base: Run) -> None:
    viewer, stranger = make_actor(store.database, "viewer"), make_actor(store.database, organization="elsewhere")
    for who, error in ((viewer, Forbidden), (stranger, NotFound)):
        with pytest.raises(error):
            fork(store, who, base, 1)
        with pytest.raises(error):
            rewind(store, who, base, 1)


@pytest.mark.parametrize(
    ("base", "lasts", "found"),
    [
        ({"a": {"b": 9}, "c": 9}, {"a.b": 1, "c": 2}, {"a": {"b": 1}, "c": 2}),
        ({"a.b": 9}, {"a.b": 1}, {"a.b": 1}),
        ({"gone": 9, "acc": {"max": 9}}, {"acc": 1}, {"acc": 1}),
        ({"_step": 9}, {"_step": 3, "_timestamp": 1.5, "x": None}, {"_step": 3}),
        ({}, {}, {}),
    ],
)
def test_a_summary_has_the_form_that_its_base_gave_it(base: Any, lasts: Any, found: Any) -> None:
    assert summary_of(base, lasts) == found
