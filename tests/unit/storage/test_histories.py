"""How histories lie in tables: chunks that split, merge and are left alone, and what is sealed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.columns import Row, encode_columns, encode_rows, from_rows
from labkeep.core.commands import AppendHistory, ReadHistory
from labkeep.core.entities import Run
from labkeep.core.lifecycle import Status
from labkeep.operations import Store, history
from labkeep.storage import histories, metrics, sealing
from labkeep.storage import tables as t
from labkeep.storage.histories import Owner, Packed
from labkeep.storage.metrics import Place
from labkeep.storage.reductions import Summary
from labkeep.storage.series import Series, Table
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_run, make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_store(tmp_path) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


@pytest.fixture
def run(store: Store, actor: Actor) -> Run:
    return make_run(store.database, actor, status=Status.finished)


def append(store: Store, actor: Actor, run: Run, rows: Sequence[Row], offset: int | None = None) -> None:
    command = AppendHistory(id=run.id, offset=offset, batch=encode_rows(rows))
    store.database.write(history.append, actor, command)


def rows_of(count: int, start: int = 0) -> list[Row]:
    return [(step, None, {"loss": step / 2}) for step in range(start, start + count)]


def spans(store: Store, actor: Actor, table: Any = t.chunks) -> list[tuple[int, int]]:
    query = select(table.c.first_row, table.c.rows).order_by(table.c.first_row)
    return store.database.read(lambda tx, _, __: [(first, rows) for first, rows in tx.execute(query)], actor, None)


def steps(store: Store, actor: Actor, run: Run) -> list[int]:
    return list(map(int, history.read(store, actor, ReadHistory(id=run.id)).table.steps))


def changes(store: Store, actor: Actor) -> int:
    """How many rows of the database were ever changed."""
    return int(
        store.database.write(
            lambda tx, _, __: tx.connection.exec_driver_sql("SELECT total_changes()").scalar_one(), actor, None
        )
    )


# --- chunks -----------------------------------------------------------------------------------------------------------


def test_a_long_batch_becomes_chunks_of_bounded_length(store: Store, actor: Actor, run: Run) -> None:
    numbers = list(range(140_000))
    batch = encode_columns(numbers, {"loss": [step / 2 for step in numbers]})
    store.database.write(history.append, actor, AppendHistory(id=run.id, batch=batch))
    assert spans(store, actor) == [(0, 65_536), (65_536, 65_536), (131_072, 8_928)]
    assert steps(store, actor, run) == numbers


def test_a_wide_batch_becomes_chunks_of_fewer_rows() -> None:
    column = Series("f8", None, np.zeros(3_000))
    table = Table(3_000, {"_step": Series("i8", None, np.arange(3_000)), **{f"k{n}": column for n in range(1_999)}})
    assert [piece.rows for piece in histories.pack(table)] == [2_000, 1_000]


def test_rows_logged_one_by_one_are_merged_as_they_gather(store: Store, actor: Actor, run: Run) -> None:
    for step in range(1_000):
        append(store, actor, run, rows_of(1, step), step)
    found = spans(store, actor)
    assert len(found) <= 64 + 1_000 // 64
    assert found[0] == (0, 64)
    assert steps(store, actor, run) == list(range(1_000))


def test_small_batches_are_merged_into_large_chunks(store: Store, actor: Actor, run: Run) -> None:
    for start in range(0, 30_000, 100):
        append(store, actor, run, rows_of(100, start), start)
    found = spans(store, actor)
    assert len(found) < 128 + 3
    assert found[0] == (0, 12_800)
    assert steps(store, actor, run) == list(range(30_000))


def test_chunks_on_both_sides_of_a_gap_are_not_merged(store: Store, actor: Actor, run: Run) -> None:
    for step in [*range(100), *range(200, 300)]:
        append(store, actor, run, rows_of(1, step), step)
    assert steps(store, actor, run) == [*range(100), *range(200, 300)]
    assert all(first + rows <= 100 or first >= 200 for first, rows in spans(store, actor))


def test_sending_rows_again_that_were_merged_changes_no_row_of_the_database(
    store: Store, actor: Actor, run: Run
) -> None:
    for step in range(130):
        append(store, actor, run, rows_of(1, step), step)
    before, found = changes(store, actor), spans(store, actor)
    append(store, actor, run, rows_of(50, 40), 40)
    assert spans(store, actor) == found
    # Bytes there and back again, of the run and in the counters of usage, and nothing else.
    assert changes(store, actor) - before <= 5


def test_the_new_part_of_a_batch_that_was_sent_in_part_before_is_appended(store: Store, actor: Actor, run: Run) -> None:
    append(store, actor, run, rows_of(10), 0)
    append(store, actor, run, rows_of(10, 5), 5)
    assert spans(store, actor) == [(0, 10), (10, 5)]
    assert steps(store, actor, run) == list(range(15))


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, 4, [(0, 10), (10, 10), (20, 10)]),
        (3, 4, [(0, 10), (10, 10), (20, 10)]),
        (8, 4, [(0, 20), (20, 10)]),
        (10, 10, [(0, 10), (10, 10), (20, 10)]),
        (5, 20, [(0, 30)]),
        (25, 10, [(0, 10), (10, 10), (20, 15)]),
        (0, 40, [(0, 40)]),
    ],
)
def test_a_write_over_earlier_rows_joins_the_chunks_that_it_touches(
    store: Store, actor: Actor, run: Run, offset: int, count: int, expected: list[tuple[int, int]]
) -> None:
    for start in (0, 10, 20):
        append(store, actor, run, rows_of(10, start), start)
    append(store, actor, run, rows_of(count, 1_000), offset)
    assert spans(store, actor) == expected
    model = list(range(30))
    model[offset : offset + count] = range(1_000, 1_000 + count)
    assert steps(store, actor, run) == model


def test_the_bytes_of_a_batch_are_those_of_its_chunks() -> None:
    batch = histories.prepare("id", "history", None, from_rows(rows_of(3)))
    assert batch.bytes == sum(len(piece.data) for piece in batch.packed) > 0
    assert batch._replace(packed=[Packed(1, b"abc"), Packed(1, b"de")]).bytes == 5


# --- what is sealed together ------------------------------------------------------------------------------------------


def group(store: Store, actor: Actor, run: Run, status: Status = Status.finished) -> list[tuple[int, int]] | None:
    """The spans of the chunks that would be sealed next."""
    place = Place(run.organization_id, run.id, "history")
    owner = Owner(run.organization_id, run.workspace_id, run.id, run.project_id, status)

    def plan(tx: Tx, _: Actor, __: None) -> sealing.Group | None:
        return sealing.next_group(tx, owner, place)

    found = store.database.read(plan, actor, None)
    return None if found is None else [(chunk.first_row, chunk.rows) for chunk in found.chunks]


def test_a_segment_has_a_bounded_number_of_rows(store: Store, actor: Actor, run: Run) -> None:
    store.database.seal_min_rows, store.database.seal_every_rows = 1, 2_500
    for start in range(0, 6_000, 1_000):
        append(store, actor, run, rows_of(1_000, start), start)
    assert group(store, actor, run) == [(0, 1_000), (1_000, 1_000), (2_000, 1_000)]
    assert history.seal(store, actor, run.id, "history") == 6_000
    assert spans(store, actor, t.segments) == [(0, 3_000), (3_000, 3_000)]
    assert steps(store, actor, run) == list(range(6_000))


def test_the_small_chunks_at_the_end_of_a_running_stream_are_left(store: Store, actor: Actor, run: Run) -> None:
    store.database.seal_min_rows = 1
    append(store, actor, run, rows_of(1_000), 0)
    append(store, actor, run, rows_of(10, 1_000), 1_000)
    assert group(store, actor, run, Status.running) == [(0, 1_000)]
    assert group(store, actor, run) == [(0, 1_000), (1_000, 10)]


def test_chunks_that_lie_over_segments_come_first_with_all_that_hangs_together(
    store: Store, actor: Actor, run: Run
) -> None:
    store.database.seal_min_rows = 1
    for start in (0, 10, 20):
        append(store, actor, run, rows_of(10, start), start)
        history.seal(store, actor, run.id, "history")
    store.database.seal_min_rows = 1_000
    append(store, actor, run, rows_of(10, 30), 30)
    append(store, actor, run, rows_of(4, 500), 18)
    assert group(store, actor, run) == [(18, 4)]
    assert history.seal(store, actor, run.id, "history") == 4
    assert spans(store, actor, t.segments) == [(0, 10), (10, 20)]
    assert spans(store, actor) == [(30, 10)]
    assert steps(store, actor, run) == [*range(18), *range(500, 504), *range(22, 40)]


def test_a_segment_may_have_gaps(store: Store, actor: Actor, run: Run) -> None:
    store.database.seal_min_rows = 1
    append(store, actor, run, rows_of(5), 0)
    append(store, actor, run, rows_of(5, 10), 10)
    assert history.seal(store, actor, run.id, "history") == 10
    assert spans(store, actor, t.segments) == [(0, 15)]
    append(store, actor, run, rows_of(5, 5), 5)
    assert steps(store, actor, run) == list(range(15))
    assert history.seal(store, actor, run.id, "history") == 5
    assert spans(store, actor, t.segments) == [(0, 15)]


# --- summaries --------------------------------------------------------------------------------------------------------


def summary(*numbers: float, step: int = 0) -> Summary:
    return Summary(len(numbers), numbers[-1], step, numbers[0], min(numbers), max(numbers))


def test_a_summary_follows_another() -> None:
    assert metrics.followed(summary(2, 1), summary(3, 0, step=9)) == Summary(4, 0, 9, 2, 0, 3)
    text = Summary(1, "text", 5)
    assert metrics.followed(text, summary(3)) == Summary(2, 3, 0, 3, 3, 3)
    assert metrics.followed(summary(3), text) == Summary(2, "text", 5, 3, 3, 3)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 511, 512, 513, 1_500])
def test_any_number_of_keys_is_loaded(store: Store, actor: Actor, run: Run, count: int) -> None:
    append(store, actor, run, [(0, None, {f"k{n}": n for n in range(count)})])
    append(store, actor, run, [(1, None, {f"k{n}": n for n in range(count)})])
    place = Place(run.organization_id, run.id, "history")

    def load(tx: Tx, _: Actor, keys: list[str]) -> dict[str, metrics.Known]:
        return metrics.load(tx, place, keys)

    found = store.database.read(load, actor, [*(f"k{n}" for n in range(count)), "unknown"])
    assert {key: known.total.count for key, known in found.items()} == {f"k{n}": 2 for n in range(count)}
