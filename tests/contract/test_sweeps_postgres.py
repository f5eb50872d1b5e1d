"""Agents of a sweep that ask at the same moment: on PostgreSQL writes run side by side, and no point is given twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labkeep.core.entities import Json
from labkeep.operations import Store, sweep_agents, sweeps
from labkeep.operations.sweep_agents import Beat, Order
from labkeep.operations.sweeps import CreateSweep
from labkeep.settings import Settings
from labkeep.storage.blobs import MemoryBlobs
from labkeep.storage.opening import open_database
from labkeep.testing.factories import make_actor, make_project

AGENTS = 8
GRID: Json = {"method": "grid", "parameters": {"a": {"min": 0, "max": 3}, "b": {"values": [0, 1]}}}
BAYES: Json = {"method": "bayes", "metric": {"name": "loss"}, "parameters": {"a": {"min": 0.0, "max": 1.0}}}


@pytest.fixture
def store(postgres_url: str, tmp_path: Path) -> Iterator[Store]:
    database = open_database(postgres_url, data=tmp_path)
    yield Store(database, MemoryBlobs(), Settings(data=str(tmp_path)))
    database.close()


@pytest.mark.parametrize("config", [GRID, BAYES], ids=["grid", "bayes"])
def test_agents_at_the_same_moment_never_get_the_same_point(store: Store, config: Json) -> None:
    actor = make_actor(store.database)
    project = make_project(store.database, actor)
    sweep = store.database.write(sweeps.create, actor, CreateSweep(project=project.id, config=config))

    def ask(agent: str) -> Order:
        orders: list[Order] = []
        while not orders:  # all the others were faster: an agent asks again
            orders = sweep_agents.beat(store, actor, Beat(id=sweep.document.id, agent=agent))
        return orders[0]

    with ThreadPoolExecutor(AGENTS) as pool:
        orders = list(pool.map(ask, [f"agent-{number}" for number in range(AGENTS)]))
    assert {order.type for order in orders} == {"run"}
    assert len({tuple(order.config.values()) for order in orders}) == AGENTS
    assert len({order.handle for order in orders}) == AGENTS
