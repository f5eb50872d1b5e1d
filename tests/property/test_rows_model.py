"""Rows against a dict: any writes in any order, read back now, in pages, and as of every earlier transaction."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.commands import Get, ReadRows, RowIn, RowPage, WriteRows
from labkeep.core.entities import Item, Run
from labkeep.core.merge import identity, merge, remove_values
from labkeep.operations import Store, rows
from labkeep.storage import rows as stored
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_run, make_store

CLOCK = FixedClock()

IDS = st.sampled_from(["a", "b", "c", "d", "ä"])
ROOTS = st.none() | st.sampled_from(["a", "b", "t1", "t2"])
SCORES = st.dictionaries(
    st.sampled_from(["exact", "f1"]),
    st.none() | st.booleans() | st.sampled_from([0, 1, 0.25, -2.5, 1e101]) | st.just("high"),
    max_size=2,
)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "input": st.integers(0, 3) | st.none() | st.just("x" * 600),
        "scores": SCORES | st.none() | st.just([1]),
        "tags": st.lists(st.sampled_from(["p", "q"]), max_size=2),
        "metadata": st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 2), max_size=2),
    },
)
ROWS = st.builds(
    RowIn,
    id=IDS,
    data=DATA,
    root_id=ROOTS,
    merge=st.booleans(),
    delete=st.sampled_from([False, False, False, True]),
    keep=st.sampled_from([(), ("input",)]),
    union=st.sampled_from([(), ("tags",)]),
    paths=st.sampled_from([(), (("metadata",),), (("tags",),)]),
    remove=st.sampled_from([(), ((("tags",), ("p",)),)]),
)
WRITES = st.lists(st.tuples(st.lists(ROWS, max_size=5), st.integers(0, 2)), max_size=6)

Seen = dict[str, tuple[str, bytes]]
"""Row id -> its trace and its data."""


class Model:
    """What the rows of one owner should be."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any] | None] = {}
        """None where a row was deleted."""
        self.roots: dict[str, str] = {}
        self.traces: list[str] = []
        """In the order in which they appeared."""

    def write(self, batch: list[RowIn]) -> None:
        before = dict(self.rows), dict(self.roots)
        for row in batch:
            self._apply(row)
        for row in batch:
            assert row.id is not None
            root = self.roots.get(row.id)
            changed = (self.rows.get(row.id), root) != (before[0].get(row.id), before[1].get(row.id))
            if changed and root not in self.traces:
                assert root is not None
                self.traces.append(root)

    def _apply(self, row: RowIn) -> None:
        assert row.id is not None
        current = self.rows.get(row.id)
        if row.delete:
            if row.id in self.rows:
                self.rows[row.id] = None
            return
        if row.merge and current is not None:
            data = merge(current, row.data, keep=row.keep, union=row.union, paths=row.paths, remove_none=False)
        else:
            data = row.data | {key: value for key, value in (current or {}).items() if key in row.keep}
            self.roots[row.id] = row.root_id or self.roots.get(row.id, row.id)
        for path, values in row.remove:
            data = remove_values(data, path, values)
        self.rows[row.id] = data

    def seen(self) -> Seen:
        return {id: (self.roots[id], identity(data)) for id, data in self.rows.items() if data is not None}

    def scores(self) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for data in self.rows.values():
            scores = (data or {}).get("scores")
            for name, value in scores.items() if isinstance(scores, dict) else ():
                if type(value) in (int, float) and value < 1e100:
                    found.setdefault(name, []).append(value)
        return {name: fsum(values) / len(values) for name, values in found.items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with make_store(tmp_path_factory.mktemp("rows"), CLOCK) as store:
        yield store


@pytest.fixture(scope="module")
def actor(store: Store) -> Actor:
    return make_actor(store.database)


def _pages(store: Store, actor: Actor, command: ReadRows) -> Iterator[RowPage]:
    while True:
        page = store.database.read(rows.read, actor, command)
        yield page
        if page.next is None:
            return
        command = msgspec.structs.replace(command, cursor=page.next)


def _all(store: Store, actor: Actor, command: ReadRows) -> tuple[Seen, list[str]]:
    """All rows over all pages, and their traces in the order in which they came."""
    seen: Seen = {}
    roots: list[str] = []
    positions: list[int] = []
    for page in _pages(store, actor, command):
        assert len({row.root_id for row in page.items}) <= command.limit
        for row in page.items:
            assert row.id not in seen
            seen[row.id] = (row.root_id, identity(row.data))
            roots += [row.root_id] if row.root_id not in roots else []
            positions.append(row.position)
    assert positions == sorted(positions, reverse=True)
    return seen, roots


def _indexed(tx: Tx, _: Actor, run: Item) -> tuple[dict[str, float], int, int]:
    f = t.fields.c
    fields = tx.all(select(f.path, f.num).where(f.item_id == run.id, f.path.like("scores.%")))
    held = tx.execute(select(t.items.c.bytes).where(t.items.c.id == run.id)).scalar_one()
    size = tx.execute(select(func.sum(func.length(t.rows.c.data))).where(t.rows.c.owner_id == run.id)).scalar_one()
    return {row["path"].removeprefix("scores."): row["num"] for row in fields}, held, size or 0


def _streamed(tx: Tx, _: Actor, run: Item) -> list[tuple[str, str, bytes]]:
    return [(trace.root_id, row.id, identity(row.data)) for trace in stored.traces(tx, run) for row in trace.rows]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(writes=WRITES, limit=st.integers(1, 3))
def test_rows_are_what_a_dict_would_hold(
    store: Store, actor: Actor, writes: list[tuple[list[RowIn], int]], limit: int
) -> None:
    run: Run = make_run(store.database, actor)
    model = Model()
    history: list[tuple[int, Seen]] = [(0, {})]
    for batch, seconds in writes:
        CLOCK.advance(seconds=seconds)
        written = store.database.write(rows.write, actor, WriteRows(id=run.id, rows=batch))
        model.write(batch)
        assert written.ids == [row.id for row in batch]
        assert written.xact >= history[-1][0]
        history.append((written.xact, model.seen()))

    seen, roots = _all(store, actor, ReadRows(id=run.id, limit=limit))
    assert seen == model.seen()
    assert roots == [root for root in reversed(model.traces) if root in {held for held, _ in seen.values()}]
    assert {id: (root, data) for root, id, data in store.database.read(_streamed, actor, run)} == seen
    for xact, expected in history:
        assert _all(store, actor, ReadRows(id=run.id, limit=limit, as_of=xact))[0] == expected
    chosen = _all(store, actor, ReadRows(id=run.id, limit=limit, ids=["a", "t1", "ä"]))[0]
    assert chosen == {id: value for id, value in seen.items() if id in ("a", "ä")}

    stats = store.database.read(rows.stats, actor, Get(id=run.id))
    assert (stats.rows, stats.xact) == (len(seen), history[-1][0])
    assert stats.scores == pytest.approx(model.scores())
    fields, held, size = store.database.read(_indexed, actor, run)
    assert fields == stats.scores
    assert held == size
