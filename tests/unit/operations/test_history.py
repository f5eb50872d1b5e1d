"""Histories: appending, reading back and sealing, on both databases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.columns import Row, encode_columns, encode_rows
from labkeep.core.commands import (
    Appended,
    AppendHistory,
    Apply,
    FinishRun,
    ListRuns,
    ReadHistory,
    RestoreDeletion,
    Selection,
    StopRun,
)
from labkeep.core.entities import Item, Run, Series
from labkeep.core.errors import Corrupt, Forbidden, Gone, Illegal, Invalid, NotFound, Stale
from labkeep.core.lifecycle import State, Status
from labkeep.operations import Store, deletions, history, runs
from labkeep.operations.history import ListSeries, Prepared
from labkeep.storage import tables as t
from labkeep.storage.blobs import MemoryBlobs
from labkeep.storage.blobs_local import LocalBlobs
from labkeep.storage.database_postgres import Postgres
from labkeep.storage.metrics import Place
from labkeep.testing.factories import FixedClock, make_actor, make_project, make_run, make_store


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
def run(store: Store, actor: Actor) -> Run:
    return make_run(store.database, actor, started_at=store.database.clock())


def row(step: int, **values: Any) -> Row:
    return step, None, values


def rows_of(count: int, start: int = 0) -> list[Row]:
    return [row(step, loss=step / 2) for step in range(start, start + count)]


def append(store: Store, actor: Actor, run: Item, rows: Sequence[Row], **fields: Any) -> Appended:
    return store.database.write(
        history.append, actor, AppendHistory(**({"id": run.id, "batch": encode_rows(rows)} | fields))
    )


def long(store: Store, actor: Actor, run: Item, count: int, offset: int | None = None, key: str = "loss") -> None:
    start = offset or 0
    steps = list(range(start, start + count))
    batch = encode_columns(steps, {key: [step / 2 for step in steps]})
    store.database.write(history.append, actor, AppendHistory(id=run.id, offset=offset, batch=batch))


def read(store: Store, actor: Actor, run: Item, **fields: Any) -> list[dict[str, Any]]:
    return list(history.read(store, actor, ReadHistory(id=run.id, **fields)).table.rows())


def series(store: Store, actor: Actor, run: Item, **fields: Any) -> dict[str, Series]:
    page = store.database.read(history.list_series, actor, ListSeries(id=run.id, **fields))
    return {one.key: one for one in page.items}


def ask(store: Store, actor: Actor, query: Any) -> list[tuple[Any, ...]]:
    return store.database.read(lambda tx, _, __: [tuple(row) for row in tx.execute(query)], actor, None)


def jobs(store: Store, actor: Actor) -> list[str]:
    return [row[0] for row in ask(store, actor, select(t.jobs.c.dedupe).where(t.jobs.c.task == "seal"))]


def seal(store: Store, actor: Actor, run: Item, stream: str = "history") -> int:
    return history.seal(store, actor, run.id, stream)


def later(store: Store, **duration: float) -> None:
    assert isinstance(store.database.clock, FixedClock)
    store.database.clock.advance(**duration)


# --- appending --------------------------------------------------------------------------------------------------------


def test_rows_without_an_offset_go_to_the_end(store: Store, actor: Actor, run: Run) -> None:
    assert append(store, actor, run, rows_of(3)) == Appended(3)
    assert append(store, actor, run, rows_of(2, 3)) == Appended(5)
    assert read(store, actor, run) == [{"_step": step, "loss": step / 2} for step in range(5)]


def test_the_same_offset_again_replaces_those_rows(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, rows_of(4), offset=0)
    for _ in range(2):
        assert append(store, actor, run, [row(1, loss=9.0, acc=1)], offset=1) == Appended(4)
    assert read(store, actor, run)[1] == {"_step": 1, "loss": 9.0, "acc": 1}
    assert len(read(store, actor, run)) == 4
    assert {key: one.count for key, one in series(store, actor, run).items()} == {"loss": 4, "acc": 1}


def test_a_key_that_a_rewrite_took_away_is_forgotten(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, [row(0, typo=1.0, loss=1.0)], offset=0)
    append(store, actor, run, [row(0, loss=2.0)], offset=0)
    assert list(series(store, actor, run)) == ["loss"]
    indexed = ask(store, actor, select(t.fields.c.path, t.fields.c.num).where(t.fields.c.item_id == run.id))
    assert indexed == [("metrics.loss", 2.0)]


def test_an_offset_beyond_the_end_leaves_a_gap_that_can_be_filled(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, rows_of(2), offset=0)
    assert append(store, actor, run, rows_of(1, 10), offset=10) == Appended(11)
    assert [found["_step"] for found in read(store, actor, run)] == [0, 1, 10]
    assert append(store, actor, run, rows_of(8, 2), offset=2) == Appended(11)
    assert [found["_step"] for found in read(store, actor, run)] == list(range(11))
    found = series(store, actor, run)["loss"]
    assert (found.count, found.first, found.last, found.last_step) == (11, 0.0, 5.0, 10)


def test_streams_of_a_run_are_apart(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, rows_of(2))
    append(store, actor, run, [row(0, cpu=1.0)], stream="system")
    assert read(store, actor, run, stream="system") == [{"_step": 0, "cpu": 1.0}]
    assert list(series(store, actor, run, stream="system")) == ["cpu"]
    assert len(read(store, actor, run)) == 2


def test_an_empty_batch_says_where_the_stream_stands(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, rows_of(3))
    assert append(store, actor, run, []) == Appended(3)
    assert append(store, actor, run, [], offset=99) == Appended(3)


def test_rows_of_every_kind_come_back_as_they_were(store: Store, actor: Actor, run: Run) -> None:
    values: dict[str, Any] = {
        "f": 0.1,
        "inf": -math.inf,
        "i": 2**53 + 1,
        "huge": 2**70,
        "text": "NaN",
        "none": None,
        "flag": True,
        "list": [1, {"a": None}],
        "ünï \U0001f600": 1,
    }
    append(store, actor, run, [(7, 1.5, values | {"nan": math.nan})])
    found = read(store, actor, run)[0]
    assert math.isnan(found.pop("nan"))
    assert found == values | {"_step": 7, "_timestamp": 1.5}


def test_a_prepared_batch_is_what_the_command_says(store: Store, actor: Actor, run: Run) -> None:
    prepared = history.prepare(AppendHistory(id=run.id, batch=encode_rows(rows_of(3))))
    assert isinstance(prepared, Prepared)
    assert store.database.write(history.append, actor, prepared) == Appended(3)
    assert store.database.write(history.append, actor, prepared) == Appended(6)


@pytest.mark.parametrize("batch", [b"", b"nonsense", b"\xc1", encode_rows(rows_of(3))[:-5]])
def test_a_body_that_is_no_batch_is_refused(store: Store, actor: Actor, run: Run, batch: bytes) -> None:
    with pytest.raises(Invalid, match="column"):
        history.prepare(AppendHistory(id=run.id, batch=batch))


@pytest.mark.parametrize("stream", ["", "a\nb", "x" * 65, "\x7f"])
def test_the_name_of_a_stream_is_short_and_printable(stream: str) -> None:
    with pytest.raises(Invalid, match="name of a stream"):
        history.prepare(AppendHistory(id="x", stream=stream, batch=encode_rows([])))


def test_who_may_append(store: Store, actor: Actor, run: Run) -> None:
    with pytest.raises(Forbidden):
        append(store, make_actor(store.database, "viewer"), run, rows_of(1))
    with pytest.raises(NotFound):
        append(store, make_actor(store.database, organization="other"), run, rows_of(1))
    with pytest.raises(NotFound):
        append(store, make_actor(store.database, workspace="other"), run, rows_of(1))
    for id in ("nonsense", run.id.upper().replace("0", "A"), "00000000-0000-7000-8000-000000000000"):
        with pytest.raises(NotFound):
            append(store, actor, run, rows_of(1), id=id)
    with pytest.raises(NotFound):
        append(store, actor, make_project(store.database, actor), rows_of(1))


def test_a_trashed_run_takes_nothing_until_it_is_restored(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    append(store, actor, run, rows_of(2))
    outcome = store.database.write(deletions.apply, actor, Apply(selection=Selection(ids=[run.id])))
    with pytest.raises(Gone, match="restore"):
        append(store, actor, run, rows_of(1))
    with pytest.raises(Gone):
        read(store, actor, run)
    assert len(read(store, actor, run, include="trashed")) == 2
    assert outcome.deletion_id
    store.database.write(deletions.restore, actor, RestoreDeletion(id=outcome.deletion_id))
    assert append(store, actor, run, rows_of(1, 2)) == Appended(3)


def test_an_archived_run_is_read_and_not_written(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, state=State.archived)
    with pytest.raises(Illegal, match="unarchive"):
        append(store, actor, run, rows_of(1))
    assert read(store, actor, run) == []


def test_late_data_of_a_finished_run_is_taken(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    assert append(store, actor, run, rows_of(2)) == Appended(2)
    assert ask(store, actor, select(t.runs.c.status, t.runs.c.heartbeat_at)) == [(Status.finished, None)]


def test_an_append_is_a_heartbeat(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, rows_of(1))
    first = store.database.clock()
    later(store, seconds=3)
    append(store, actor, run, rows_of(1))
    assert ask(store, actor, select(t.runs.c.heartbeat_at)) == [(first,)]
    later(store, seconds=3)
    append(store, actor, run, rows_of(1))
    assert ask(store, actor, select(t.runs.c.heartbeat_at)) == [(store.database.clock(),)]


def test_a_crashed_run_that_logs_is_running_again(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.crashed)
    append(store, actor, run, rows_of(1))
    found = ask(store, actor, select(t.runs.c.status, t.runs.c.finished_at, t.runs.c.heartbeat_at))
    assert found == [(Status.running, None, store.database.clock())]


def test_a_stopped_run_tells_its_client(store: Store, actor: Actor, run: Run) -> None:
    assert append(store, actor, run, rows_of(1)) == Appended(1, stop=False)
    store.database.write(runs.stop, actor, StopRun(id=run.id))
    assert append(store, actor, run, rows_of(1)) == Appended(2, stop=True)


def test_a_refused_append_stores_and_accounts_for_nothing(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, state=State.archived)
    with pytest.raises(Illegal):
        append(store, actor, run, rows_of(5))
    assert ask(store, actor, select(t.items.c.bytes).where(t.items.c.id == run.id)) == [(0,)]
    assert ask(store, actor, select(func.count()).select_from(t.chunks)) == [(0,)]


def test_runs_are_found_by_the_last_value_of_a_metric(store: Store, actor: Actor) -> None:
    project = make_project(store.database, actor)
    good, bad = (make_run(store.database, actor, project) for _ in range(2))
    append(store, actor, good, [row(0, loss=0.9, note="x"), row(1, loss=0.1)])
    append(store, actor, bad, [row(0, loss=0.1), row(1, loss=0.9)])
    append(store, actor, bad, [row(0, loss=0.0)], stream="system")
    found = store.database.read(runs.list_, actor, ListRuns(project=project.id, q="metrics.loss < 0.5"))
    assert [one.id for one in found.items] == [good.id]


def test_the_keys_of_a_very_wide_batch_are_summarised_and_not_indexed(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, [row(0, **{f"k{n}": 1.0 for n in range(1_001)})])
    assert len(series(store, actor, run, limit=10_000)) == 1_001
    assert ask(store, actor, select(func.count()).select_from(t.fields)) == [(0,)]


# --- series -----------------------------------------------------------------------------------------------------------


def test_series_keep_nan_and_the_infinities(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, [row(0, x=math.nan), row(1, x=math.inf), row(2, x=-1.0), row(3, x=math.nan)])
    found = series(store, actor, run)["x"]
    assert math.isnan(found.first)
    assert math.isnan(found.last)
    assert (found.count, found.min, found.max, found.last_step) == (4, -1.0, math.inf, 3)


def test_the_text_nan_is_not_the_number(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, [row(0, x="NaN")])
    assert series(store, actor, run)["x"].last == "NaN"
    append(store, actor, run, [row(0, x=math.nan)])
    last = series(store, actor, run)["x"].last
    assert isinstance(last, float)
    assert math.isnan(last)


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, None),
        ({"a": [1, 2]}, {"a": [1, 2]}),
        (["x" * 2000], None),
        (2**70, 2**70),
    ],
)
def test_a_last_value_that_is_too_long_is_not_kept(
    store: Store, actor: Actor, run: Run, last: object, kept: object
) -> None:
    append(store, actor, run, [row(0, x=last)])
    assert series(store, actor, run)["x"].last == kept


def test_series_are_listed_in_pages_by_key(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, [row(0, b=1, a=2, Z=3, ä=4)])
    found: list[str] = []
    cursor = None
    while True:
        command = ListSeries(id=run.id, limit=3, cursor=cursor)
        page = store.database.read(history.list_series, actor, command)
        found += [one.key for one in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert found == ["Z", "a", "b", "ä"]


def test_the_console_has_no_series(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, [row(0, line="a"), row(1, line="b")], stream="console")
    append(store, actor, run, [row(1, line="c")], stream="console", offset=1)
    assert series(store, actor, run, stream="console") == {}
    assert [found["line"] for found in read(store, actor, run, stream="console")] == ["a", "c"]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_reading_by_key_leaves_out_rows_without_any_of_them(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, [(0, 1.5, {"a": 1}), (1, 2.5, {"b": 2}), (2, None, {"a": 3, "b": 4})])
    assert read(store, actor, run, keys=["a"]) == [{"_step": 0, "a": 1}, {"_step": 2, "a": 3}]
    assert read(store, actor, run, keys=["b", "a"]) == [
        {"_step": 0, "a": 1},
        {"_step": 1, "b": 2},
        {"_step": 2, "a": 3, "b": 4},
    ]
    assert read(store, actor, run, keys=["_timestamp"])[0] == {"_step": 0, "_timestamp": 1.5}
    assert read(store, actor, run, keys=["none"]) == []


def test_reading_a_range_of_steps_includes_both_ends(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, rows_of(10))
    assert [found["_step"] for found in read(store, actor, run, first_step=3, last_step=5)] == [3, 4, 5]
    assert [found["_step"] for found in read(store, actor, run, last_step=1)] == [0, 1]
    assert read(store, actor, run, first_step=100) == []


def test_pages_follow_each_other_over_gaps_chunks_and_segments(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    store.database.seal_min_rows = 10
    append(store, actor, run, rows_of(20), offset=0)
    assert seal(store, actor, run) == 20
    append(store, actor, run, rows_of(5, 30), offset=30)
    found: list[int] = []
    offset = 0
    while True:
        page = history.read(store, actor, ReadHistory(id=run.id, offset=offset, limit=7))
        assert len(page.table) <= 7
        assert page.total == 35
        found += page.table.steps.tolist()
        if page.next_offset is None:
            break
        offset = page.next_offset
    assert found == [*range(20), *range(30, 35)]


def test_a_page_reads_no_more_segments_than_it_must(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    store.database.seal_min_rows = 1
    for start in (0, 10, 20):
        append(store, actor, run, rows_of(10, start), offset=start)
        assert seal(store, actor, run) == 10
    asked: list[int] = []
    command = ReadHistory(id=run.id, offset=5, limit=4)
    located = store.database.read(history.locate, actor, command)
    reader = history.segment_reader(store.blobs, actor.organization_id)

    def counting(segment: Any, *rest: Any) -> Any:
        asked.append(segment.first_row)
        return reader(segment, *rest)

    assert history.assemble(located, counting, command).table.steps.tolist() == [5, 6, 7, 8]
    assert asked == [0]
    command = ReadHistory(id=run.id, offset=8, limit=4)
    located = store.database.read(history.locate, actor, command)
    assert history.assemble(located, counting, command).table.steps.tolist() == [8, 9, 10, 11]
    assert asked == [0, 0, 10]


def test_a_sample_keeps_the_extremes_of_each_bucket(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, [row(step, x=100.0 if step == 517 else step % 7) for step in range(1_000)])
    found = read(store, actor, run, keys=["x"], buckets=10)
    assert 10 < len(found) <= 22
    assert {"_step": 517, "x": 100.0} in found
    assert len(read(store, actor, run, buckets=10)) == len(found)


def test_another_tenants_history_is_not_found(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, rows_of(1))
    stranger = make_actor(store.database, organization="other")
    with pytest.raises(NotFound):
        read(store, stranger, run)
    with pytest.raises(NotFound):
        series(store, stranger, run)


# --- sealing ----------------------------------------------------------------------------------------------------------


def test_a_sealed_history_reads_the_same(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)
    append(store, actor, run, [(6_000, 1.5, {"text": "x", "nan": math.nan})])
    before, known = repr(read(store, actor, run)), repr(series(store, actor, run))
    assert seal(store, actor, run) == 6_001
    assert repr(read(store, actor, run)) == before
    assert repr(series(store, actor, run)) == known
    assert ask(store, actor, select(func.count()).select_from(t.chunks)) == [(0,)]
    assert ask(store, actor, select(t.blobs.c.refs)) == [(1,)]
    held = ask(store, actor, select(t.items.c.bytes).where(t.items.c.id == run.id))
    assert held == ask(store, actor, select(t.segments.c.size))
    assert ask(store, actor, select(t.streams.c.rows, t.streams.c.unsealed)) == [(6_001, 0)]
    assert seal(store, actor, run) == 0


def test_short_histories_stay_in_the_database(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 4_999)
    assert seal(store, actor, run) == 0
    assert list(store.blobs.list()) == []


def test_finishing_asks_for_the_long_streams_only(store: Store, actor: Actor, run: Run) -> None:
    long(store, actor, run, 5_000)
    append(store, actor, run, rows_of(10), stream="system")
    assert jobs(store, actor) == []
    store.database.write(runs.finish, actor, FinishRun(id=run.id))
    assert jobs(store, actor) == [f"seal {run.id} history end"]
    store.database.write(runs.finish, actor, FinishRun(id=run.id))
    assert len(jobs(store, actor)) == 1


def test_a_growing_stream_asks_each_time_it_grew_by_a_portion(store: Store, actor: Actor, run: Run) -> None:
    store.database.seal_every_rows = 10_000
    long(store, actor, run, 9_999, 0)
    assert jobs(store, actor) == []
    long(store, actor, run, 1, 9_999)
    assert jobs(store, actor) == [f"seal {run.id} history"]
    assert seal(store, actor, run) == 9_999  # the last chunk is small and may still grow
    store.database.write(runs.finish, actor, FinishRun(id=run.id))
    assert len(jobs(store, actor)) == 1


def test_late_data_is_sealed_when_it_is_much(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000, 0)
    assert jobs(store, actor) == [f"seal {run.id} history"]
    assert seal(store, actor, run) == 6_000
    append(store, actor, run, rows_of(10, 6_000), offset=6_000)
    assert seal(store, actor, run) == 0
    long(store, actor, run, 5_000, 6_010)
    assert seal(store, actor, run) == 5_010
    assert [found["_step"] for found in read(store, actor, run)] == list(range(11_010))
    assert ask(store, actor, select(t.segments.c.first_row, t.segments.c.rows)) == [(0, 6_000), (6_000, 5_010)]


def test_rows_written_over_a_segment_show_at_once_and_are_merged_later(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000, 0)
    seal(store, actor, run)
    append(store, actor, run, [row(7_777, loss=-1.0)], offset=10)
    assert read(store, actor, run, keys=["loss"], offset=10, limit=1) == [{"_step": 7_777, "loss": -1.0}]
    assert read(store, actor, run, first_step=10, last_step=10) == []
    assert len(read(store, actor, run)) == 6_000
    assert series(store, actor, run)["loss"].min == -1.0
    assert f"seal {run.id} history again" in jobs(store, actor)
    assert seal(store, actor, run) == 1
    found = series(store, actor, run)["loss"]
    assert (found.count, found.min, found.max, found.last, found.last_step) == (6_000, -1.0, 2_999.5, 2_999.5, 5_999)
    assert read(store, actor, run, offset=10, limit=1) == [{"_step": 7_777, "loss": -1.0}]
    assert ask(store, actor, select(func.count()).select_from(t.segments)) == [(1,)]
    assert sorted(ask(store, actor, select(t.blobs.c.refs))) == [(0,), (1,)]


def test_keys_that_lost_all_rows_in_a_segment_are_forgotten(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    store.database.seal_min_rows = 1
    append(store, actor, run, [row(0, gone=1.0), row(1, kept=1.0)], offset=0)
    seal(store, actor, run)
    append(store, actor, run, [row(0, kept=2.0)], offset=0)
    assert series(store, actor, run)["gone"].count == 1  # an estimate until it is sealed again
    seal(store, actor, run)
    found = series(store, actor, run)
    assert {key: one.count for key, one in found.items()} == {"kept": 2}
    assert found["kept"].first == 2.0
    indexed = ask(store, actor, select(t.fields.c.path).where(t.fields.c.item_id == run.id))
    assert indexed == [("metrics.kept",)]


def test_a_gap_that_is_filled_behind_a_segment_is_sealed_however_small(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000, 10)
    seal(store, actor, run)
    append(store, actor, run, rows_of(3), offset=0)
    assert seal(store, actor, run) == 3
    assert series(store, actor, run)["loss"].count == 6_003
    assert series(store, actor, run)["loss"].first == 0.0
    assert [found["_step"] for found in read(store, actor, run)] == [0, 1, 2, *range(10, 6_010)]


def test_sealing_leaves_a_run_in_the_trash_alone(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)
    store.database.write(deletions.apply, actor, Apply(selection=Selection(ids=[run.id])))
    assert seal(store, actor, run) == 0
    assert seal(store, actor, make_project(store.database, actor)) == 0


class Busy(MemoryBlobs):
    """Blobs after whose first uploads something happens: between the reading of chunks and the commit of a segment."""

    def __init__(self, work: Callable[[], object], times: int = 1) -> None:
        super().__init__()
        self.work, self.left = work, times

    def size(self, space: str, digest: str) -> int:
        if self.left:
            self.left -= 1
            self.work()
        return super().size(space, digest)


def test_rows_that_change_while_they_are_sealed_are_sealed_as_they_are_then(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)
    busy = store._replace(blobs=Busy(lambda: append(store, actor, run, [row(0, loss=-5.0)], offset=0)))
    assert seal(busy, actor, run) == 6_000
    assert series(busy, actor, run)["loss"].min == -5.0
    assert len(read(busy, actor, run)) == 6_000


def test_rows_that_change_all_the_time_are_sealed_another_time(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)
    values = iter(range(1, 100))
    busy = store._replace(blobs=Busy(lambda: append(store, actor, run, [row(0, loss=next(values))], offset=0), 99))
    with pytest.raises(Stale, match="sealed later"):
        seal(busy, actor, run)
    assert seal(store, actor, run) == 6_000


def test_rows_appended_while_a_seal_is_on_its_way_stay(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000, 0)
    busy = store._replace(blobs=Busy(lambda: long(store, actor, run, 10, 6_000)))
    assert seal(busy, actor, run) == 6_000
    assert len(read(busy, actor, run)) == 6_010
    assert ask(store, actor, select(t.streams.c.unsealed)) == [(10,)]
    assert series(store, actor, run)["loss"].count == 6_010


def test_a_run_trashed_while_it_is_sealed_keeps_its_chunks(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)

    def trash() -> None:
        store.database.write(deletions.apply, actor, Apply(selection=Selection(ids=[run.id])))

    assert seal(store._replace(blobs=Busy(trash)), actor, run) == 0
    assert len(read(store, actor, run, include="trashed")) == 6_000


def test_a_segment_that_is_replaced_between_two_steps_of_a_read_is_found_again(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)
    seal(store, actor, run)

    class Database:
        def read(self, operation: Any, actor: Actor, command: Any) -> Any:
            located = store.database.read(operation, actor, command)
            if ask(store, actor, select(t.blobs.c.refs)) == [(1,)]:
                old = located.segments[0].digest
                append(store, actor, run, [row(0, loss=-1.0)], offset=0)
                seal(store, actor, run)
                store.blobs.delete(actor.organization_id, [old])
            return located

    moved = store._replace(database=Database())  # type: ignore[arg-type]  # as much of one as a read needs
    assert read(moved, actor, run)[0] == {"_step": 0, "loss": -1.0}


def test_a_missing_segment_is_called_corrupt(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)
    seal(store, actor, run)
    store.blobs.delete(actor.organization_id, [one.digest for one in store.blobs.list()])
    with pytest.raises(Corrupt, match="labkeep check"):
        read(store, actor, run)


def test_segments_are_read_from_files_whole_and_in_ranges_alike(store: Store, actor: Actor, tmp_path: Path) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)
    local = store._replace(blobs=LocalBlobs(tmp_path / "blobs"))
    seal(local, actor, run)
    (segment,) = local.blobs.list()
    store.blobs.put(actor.organization_id, local.blobs.read_all(actor.organization_id, segment.digest))
    command = ReadHistory(id=run.id, keys=["loss"], first_step=100, last_step=200)
    located = store.database.read(history.locate, actor, command)
    readers = [
        history.segment_reader(local.blobs, actor.organization_id),
        history.segment_reader(store.blobs, actor.organization_id),
        history.segment_reader(store.blobs, actor.organization_id, whole_bytes=0),
    ]
    found = [list(history.assemble(located, reader, command).table.rows()) for reader in readers]
    assert found == [[{"_step": step, "loss": step / 2} for step in range(100, 201)]] * 3
    local.blobs.close()


def test_the_space_of_sealed_chunks_is_given_back(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        actor = make_actor(store.database)
        run = make_run(store.database, actor, status=Status.finished)
        steps = list(range(100_000))
        noise = [hash((step, 1)) % 10**15 / 7 for step in steps]
        batch = encode_columns(steps, dict.fromkeys(("a", "b", "c"), noise))
        store.database.write(history.append, actor, AppendHistory(id=run.id, batch=batch))
        store.database.reclaim().result()
        before = store.database.size_bytes()
        seal(store, actor, run)
        assert store.database.size_bytes() < before / 2


def test_a_job_that_was_killed_anywhere_is_simply_run_again(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    long(store, actor, run, 6_000)
    plan = store.database.read(history.seal_plan, actor, Place(actor.organization_id, run.id, "history"))
    assert plan is not None
    # What a process leaves that dies after the upload: bytes, registered, and no segment.
    store.blobs.put(actor.organization_id, b"half of a segment")
    assert seal(store, actor, run) == 6_000
    assert seal(store, actor, run) == 0
    assert len(read(store, actor, run)) == 6_000


def test_the_last_row_of_a_stream_with_an_enormous_offset_is_found(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    store.database.seal_min_rows = 1
    assert append(store, actor, run, rows_of(2), offset=2**53) == Appended(2**53 + 2)
    append(store, actor, run, rows_of(2), offset=0)
    assert seal(store, actor, run) == 4
    page = history.read(store, actor, ReadHistory(id=run.id, limit=3))
    assert (len(page.table), page.total, page.next_offset) == (3, 2**53 + 2, 2**53 + 1)
