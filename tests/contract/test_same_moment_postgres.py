"""Who makes the same thing at the same moment gets the one thing: on PostgreSQL writes run side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkeep.core.commands import CreateProject, RowIn
from labkeep.operations import resources, traces
from labkeep.operations.traces import Home, ReadTraces, Target, TraceSet, WriteTraces
from labkeep.storage.database import Database
from labkeep.storage.opening import open_database
from labkeep.testing.databases import WAIT_S
from labkeep.testing.factories import make_actor, make_project

MANY = 12


@pytest.fixture
def database(postgres_url: str, tmp_path: Path) -> Iterator[Database]:
    database = open_database(postgres_url, data=tmp_path)
    yield database
    database.close()


def test_one_project_is_made_for_one_name(database: Database) -> None:
    actor = make_actor(database)
    asked = CreateProject(name="same")
    futures = [database.submit(resources.ensure_project, actor, asked) for _ in range(MANY)]
    made = [future.result(WAIT_S) for future in futures]
    assert len({each.item.id for each in made}) == 1
    assert [each.found for each in made].count(False) == 1


def test_one_log_is_made_for_the_first_entries_of_a_project(database: Database) -> None:
    actor = make_actor(database)
    log = Target(Home.log, make_project(database, actor).id)
    sets = [TraceSet(target=log, rows=[RowIn(id=f"r{number}")], attachments=("key",)) for number in range(MANY)]
    for future in [database.submit(traces.write, actor, WriteTraces(sets=[part])) for part in sets]:
        future.result(WAIT_S)
    page = database.read(traces.read, actor, ReadTraces(target=log, limit=100))
    assert {row.id for row in page.items} == {f"r{number}" for number in range(MANY)}
