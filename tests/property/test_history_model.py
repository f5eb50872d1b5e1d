"""Histories against a dict of rows: appends, rewrites, gaps, trickles and sealing in any order, read back in any way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.columns import Row, encode_rows, from_rows
from labkeep.core.commands import AppendHistory, ReadHistory
from labkeep.core.entities import Run
from labkeep.core.lifecycle import Status
from labkeep.operations import Store, history
from labkeep.storage import tables as t
from labkeep.storage.metrics import Place, load
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_run, make_store

VALUES = st.one_of(
    st.integers(-3, 3),
    st.floats(width=32),
    st.sampled_from([2**53 + 1, -(2**63), 2**70, "NaN", "text", None, True, [1, 2], {"_type": "image"}]),
)
LOGGED = st.builds(
    lambda step, time, values: (step, time, values),
    st.integers(0, 30),
    st.none() | st.floats(0, 100, width=32),
    st.dictionaries(st.sampled_from(["loss", "acc", "ä"]), VALUES, max_size=3),
)
BATCHES = st.lists(LOGGED, min_size=1, max_size=6)
ACTIONS = st.one_of(
    st.tuples(st.just("append"), BATCHES),
    st.tuples(st.just("append"), BATCHES),
    st.tuples(st.just("write"), st.integers(0, 25), BATCHES),
    st.tuples(st.just("write"), st.integers(0, 25), BATCHES),
    st.tuples(st.just("repeat")),
    st.tuples(st.just("trickle"), st.integers(1, 3), LOGGED),
    st.tuples(st.just("seal")),
)


class Model:
    """What a stream should hold: rows by offset."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.end = 0
        self.last: tuple[int | None, list[Row]] = (0, [])

    def write(self, offset: int | None, rows: list[Row]) -> int:
        start = self.end if offset is None else offset
        self.rows.update({start + n: row for n, row in enumerate(rows)})
        self.end = max(self.end, start + len(rows))
        self.last = (start, rows)
        return self.end

    def ordered(self) -> list[tuple[int, Row]]:
        return sorted(self.rows.items(), key=lambda item: item[0])

    def read(self, command: ReadHistory) -> tuple[list[dict[str, Any]], int | None]:
        found: list[tuple[int, dict[str, Any]]] = []
        for offset, (step, time, values) in self.ordered():
            if offset < command.offset or not _within(step, command):
                continue
            row: dict[str, Any] = {"_step": step} | ({} if time is None else {"_timestamp": time}) | dict(values)
            if command.keys:
                row = {key: value for key, value in row.items() if key == "_step" or key in command.keys}
                if not row.keys() & set(command.keys):
                    continue
            found.append((offset, row))
        limit = len(found) if command.limit is None else command.limit
        following = found[limit][0] if len(found) > limit else None
        return [row for _, row in found[:limit]], following

    def summaries(self) -> dict[str, tuple[Any, ...]]:
        by_key: dict[str, list[tuple[int, Any]]] = {}
        for _, (step, _, values) in self.ordered():
            for key, value in values.items():
                by_key.setdefault(key, []).append((step, value))
        return {key: _summary(found) for key, found in by_key.items()}


def _within(step: int, command: ReadHistory) -> bool:
    return (command.first_step is None or step >= command.first_step) and (
        command.last_step is None or step <= command.last_step
    )


def _summary(found: list[tuple[int, Any]]) -> tuple[Any, ...]:
    numbers = [float(value) for _, value in found if type(value) in (int, float)]
    ordered = [number for number in numbers if not math.isnan(number)]
    return (
        len(found),
        same(found[-1][1]),
        found[-1][0],
        same(numbers[0] if numbers else None),
        same(min(ordered, default=None)),
        same(max(ordered, default=None)),
        len(numbers) - len(ordered),
    )


def same(value: Any) -> Any:
    """A form in which equal values are equal: NaN is itself, 1 is 1.0, and True is not 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return repr(value)
    if math.isnan(value):
        return "nan"
    return float(value) if float(value) == value else value


def forms(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: same(value) for key, value in row.items()} for row in rows]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with make_store(tmp_path_factory.mktemp("histories")) as store:
        store.database.seal_min_rows = 4
        yield store


@pytest.fixture(scope="module")
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def _write(store: Store, actor: Actor, run: Run, model: Model, offset: int | None, rows: list[Row]) -> None:
    command = AppendHistory(id=run.id, offset=offset, batch=encode_rows(rows))
    answer = store.database.write(history.append, actor, command)
    assert answer.rows == model.write(offset, rows)


def _perform(store: Store, actor: Actor, run: Run, model: Model, action: tuple[Any, ...]) -> None:
    match action:
        case ("append", rows):
            _write(store, actor, run, model, None, rows)
        case ("write", offset, rows):
            _write(store, actor, run, model, offset, rows)
        case ("repeat",):
            _write(store, actor, run, model, *model.last)
        case ("trickle", times, row):
            for n in range(70 * times):
                _write(store, actor, run, model, None, [(row[0] + n % 3, row[1], row[2])])
        case ("seal",):
            history.seal(store, actor, run.id, "history")


def _accounts(tx: Tx, _: Actor, run: Run) -> dict[str, Any]:
    """What the tables say about the stream, each thing counted in two ways."""
    c, g, s, b = t.chunks.c, t.segments.c, t.streams.c, t.blobs.c
    spans = tx.all(select(c.first_row, c.rows, func.length(c.data).label("size")).where(c.run_id == run.id))
    segments = tx.all(select(g.first_row, g.rows, g.size, g.digest).where(g.run_id == run.id))
    standing = tx.one(select(s.rows, s.unsealed).where(s.run_id == run.id))
    refs = {row[0] for row in tx.execute(select(b.digest).where(b.refs > 0))}
    f = t.fields.c
    indexed = tx.execute(select(f.path, f.num).where(f.item_id == run.id, f.path.like("metrics.%")))
    return {
        "bytes": tx.execute(select(t.items.c.bytes).where(t.items.c.id == run.id)).scalar_one(),
        "counted": sum(row["size"] for row in (*spans, *segments)),
        "unsealed": standing["unsealed"] if standing else 0,
        "chunk_rows": sum(row["rows"] for row in spans),
        "spans": sorted((row["first_row"], row["rows"]) for row in spans),
        "segment_spans": sorted((row["first_row"], row["rows"]) for row in segments),
        "unreferenced": [row["digest"] for row in segments if row["digest"] not in refs],
        "indexed": {path.removeprefix("metrics."): num for path, num in indexed},
    }


def _double(number: float | None) -> Any:
    return same(None if number is None else float(number))


def _disjoint(spans: list[tuple[int, int]]) -> bool:
    return all(first + rows <= after for (first, rows), (after, _) in pairwise(spans))


def _check_tables(store: Store, actor: Actor, run: Run) -> None:
    found = store.database.read(_accounts, actor, run)
    assert found["bytes"] == found["counted"]
    assert found["unsealed"] == found["chunk_rows"]
    assert found["unreferenced"] == []
    assert _disjoint(found["spans"])
    assert _disjoint(found["segment_spans"])
    assert sum(rows < 1000 for _, rows in found["spans"]) <= 128 + 64


def _check_summaries(store: Store, actor: Actor, run: Run, model: Model) -> None:
    known = store.database.read(
        lambda tx, _, place: load(tx, place), actor, Place(actor.organization_id, run.id, "history")
    )
    assert not any(one.stale for one in known.values())
    totals = {key: one.total for key, one in known.items()}
    expected = model.summaries()
    found = {
        key: (one.count, same(one.last), one.last_step, *map(_double, (one.first, one.min, one.max)), one.nan_count)
        for key, one in totals.items()
    }
    assert found == expected


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    actions=st.lists(ACTIONS, max_size=12),
    keys=st.lists(st.sampled_from(["loss", "acc", "_timestamp", "none"]), max_size=2, unique=True),
    steps=st.tuples(st.none() | st.integers(0, 30), st.none() | st.integers(0, 30)),
    offset=st.integers(0, 40),
    limit=st.none() | st.integers(1, 20),
)
def test_a_stream_is_what_a_dict_would_hold(
    store: Store,
    actor: Actor,
    actions: list[tuple[Any, ...]],
    keys: list[str],
    steps: tuple[int | None, int | None],
    offset: int,
    limit: int | None,
) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    model = Model()
    for action in actions:
        _perform(store, actor, run, model, action)
        _check_tables(store, actor, run)
        for command in (
            ReadHistory(id=run.id),
            ReadHistory(id=run.id, offset=offset, limit=limit),
            ReadHistory(id=run.id, keys=keys, first_step=steps[0], last_step=steps[1], offset=offset, limit=limit),
        ):
            found = history.read(store, actor, command)
            rows, following = model.read(command)
            assert forms(list(found.table.rows())) == forms(rows)
            assert (found.total, found.next_offset) == (model.end, following)
    history.seal(store, actor, run.id, "history")
    _check_summaries(store, actor, run, model)
    assert forms(list(history.read(store, actor, ReadHistory(id=run.id)).table.rows())) == forms(
        model.read(ReadHistory(id=run.id))[0]
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(actions=st.lists(ACTIONS.filter(lambda action: action[0] != "seal"), max_size=8))
def test_summaries_are_exact_at_every_moment_while_nothing_is_sealed(
    store: Store, actor: Actor, actions: list[tuple[Any, ...]]
) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    model = Model()
    for action in actions:
        _perform(store, actor, run, model, action)
        _check_summaries(store, actor, run, model)


@given(rows=BATCHES)
def test_preparing_a_batch_changes_nothing_in_it(rows: list[Row]) -> None:
    prepared = history.prepare_batch("id", "history", 0, from_rows(rows))
    assert forms(list(prepared.table.rows())) == forms(list(from_rows(rows).rows()))
    assert sum(piece.rows for piece in prepared.packed) == len(rows)
