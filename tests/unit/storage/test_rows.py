"""How rows are stored, and how they are read for summaries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from labkeep.core.access import Actor
from labkeep.core.commands import RowIn, WriteRows
from labkeep.core.entities import Item, Run
from labkeep.core.errors import Corrupt
from labkeep.operations import rows as operations
from labkeep.storage import rows
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_run, make_store


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with make_store(tmp_path) as store:
        yield store.database


@pytest.fixture
def actor(database: Database) -> Actor:
    return make_actor(database)


@pytest.fixture
def run(database: Database, actor: Actor) -> Run:
    return make_run(database, actor)


def write(database: Database, actor: Actor, owner: Item, *given: RowIn) -> int:
    return database.write(operations.write, actor, WriteRows(id=owner.id, rows=list(given))).xact


# --- bytes ------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=2000) | st.binary(min_size=1, max_size=20).map(lambda part: part * 100))
def test_what_is_packed_is_unpacked(json: bytes) -> None:
    stored = rows.pack(json)
    assert rows.unpack(stored) == json
    assert len(stored) <= len(json) + 1


def test_only_what_is_large_and_shrinks_is_compressed() -> None:
    assert rows.pack(b"x" * 512)[:1] == b"j"
    assert rows.pack(b"x" * 513)[:1] == b"z"
    noise = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(20))
    assert rows.pack(noise) == b"j" + noise


@pytest.mark.parametrize("stored", [b"", b"?{}", b"z", b"znot compressed", rows.pack(b"x" * 600)[:-3]])
def test_damaged_bytes_are_corrupt_and_not_a_surprise(stored: bytes) -> None:
    with pytest.raises(Corrupt, match="the data of a row"):
        rows.unpack(stored)


# --- traces -----------------------------------------------------------------------------------------------------------


def traces(tx: Tx, _: Actor, owner: Item) -> list[rows.Trace]:
    return list(rows.traces(tx, owner))


def test_a_trace_sums_and_averages_over_its_rows(database: Database, actor: Actor, run: Run) -> None:
    write(
        database,
        actor,
        run,
        RowIn(id="root", root_id="t", data={"input": 1, "metrics": {"tokens": 3}}),
        RowIn(id="s1", root_id="t", data={"scores": {"exact": 1, "f1": 0.5}, "metrics": {"tokens": 4, "word": "x"}}),
        RowIn(id="s2", root_id="t", data={"scores": {"exact": 0, "none": None, "flag": True}}),
        RowIn(id="alone", data={"scores": "high"}),
    )
    alone, trace = database.read(traces, actor, run)
    assert (alone.root_id, alone.means("scores"), alone.sums("metrics")) == ("alone", {}, {})
    assert [row.id for row in trace.rows] == ["root", "s1", "s2"]
    assert trace.means("scores") == {"exact": 0.5, "f1": 0.5}
    assert trace.sums("metrics") == {"tokens": 7.0}


def test_traces_come_whole_however_many_rows_there_are(database: Database, actor: Actor, run: Run) -> None:
    given = [RowIn(id=f"{n}-{span}", root_id=f"t{n}") for n in range(7) for span in range(rows.BATCH // 2 + 1)]
    write(database, actor, run, *given)
    found = database.read(traces, actor, run)
    assert [trace.root_id for trace in found] == [f"t{n}" for n in reversed(range(7))]
    assert sum(len(trace.rows) for trace in found) == len(given)
    assert {len(trace.rows) for trace in found} == {rows.BATCH // 2 + 1}


def test_streaming_sees_a_state_of_the_past(database: Database, actor: Actor, run: Run) -> None:
    first = write(database, actor, run, RowIn(id="a", data={"x": 1}), RowIn(id="b"))
    write(database, actor, run, RowIn(id="a", data={"x": 2}), RowIn(id="b", delete=True), RowIn(id="c"))

    def streamed(tx: Tx, _: Actor, as_of: int | None) -> dict[str, Any]:
        return {row.id: row.data for row in rows.iter_current(tx, run, as_of=as_of)}

    assert database.read(streamed, actor, None) == {"a": {"x": 2}, "c": {}}
    assert database.read(streamed, actor, first) == {"a": {"x": 1}, "b": {}}


def test_a_page_ends_before_it_would_fetch_too_much(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, *[RowIn(id=f"r{n}") for n in range(5)])

    def claim(tx: Tx, _: Actor, size: int) -> None:
        tx.execute(update(t.rows).values(size=size))

    def page(tx: Tx, _: Actor, before: int | None) -> tuple[list[str], bool, int]:
        found, more = rows.page(tx, run, limit=100, before=before)
        return [row.id for row in found], more, found[-1].position

    database.write(claim, actor, rows.PAGE_BYTES // 2)
    first = database.read(page, actor, None)
    second = database.read(page, actor, first[2])
    third = database.read(page, actor, second[2])
    assert [part[:2] for part in (first, second, third)] == [
        (["r4", "r3"], True),
        (["r2", "r1"], True),
        (["r0"], False),
    ]
    database.write(claim, actor, rows.PAGE_BYTES * 2)
    assert database.read(page, actor, None)[:2] == (["r4"], True)


# --- sums -------------------------------------------------------------------------------------------------------------


def test_sums_of_several_owners_are_weighted_by_their_rows(database: Database, actor: Actor, run: Run) -> None:
    other = make_run(database, actor)
    write(database, actor, run, *[RowIn(data={"scores": {"s": 1}}) for _ in range(3)])
    write(database, actor, other, RowIn(data={"scores": {"s": 0, "u": 1}}), RowIn())

    def summary(tx: Tx, _: Actor, ids: list[str]) -> tuple[int, dict[str, float]]:
        return rows.summary(tx, run.organization_id, ids)

    assert database.read(summary, actor, [run.id, other.id]) == (5, {"s": 0.75, "u": 1.0})
    assert database.read(summary, actor, []) == (0, {})


def test_a_sum_does_not_drift_within_a_write(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, *[RowIn(id=f"r{n}", data={"scores": {"s": 0.1}}) for n in range(10)])
    write(database, actor, run, *[RowIn(id=f"r{n}", data={"scores": {"s": 0.3}}) for n in range(10)])

    def summary(tx: Tx, _: Actor, __: None) -> tuple[int, dict[str, float]]:
        return rows.summary(tx, run.organization_id, [run.id])

    assert database.read(summary, actor, None) == (10, {"s": 0.3})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": 1, "b": 2.5, "c": -1}, {"a": 1.0, "b": 2.5, "c": -1.0}),
        ({"a": True, "b": None, "c": "1", "d": [1], "e": float("nan"), "f": float("inf"), "g": 10**400}, {}),
        (None, {}),
        ([1], {}),
    ],
)
def test_numbers_are_finite_and_not_flags(value: Any, found: dict[str, float]) -> None:
    assert rows.numbers(value) == found
