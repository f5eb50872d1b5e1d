"""Who makes the same thing at the same moment gets the one thing: on PostgreSQL writes run side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from labkeep.core.access import Actor
from labkeep.core.columns import from_json_rows
from labkeep.core.commands import CreateProject, RowIn
from labkeep.core.lifecycle import Status
from labkeep.operations import purges, resources, sessions, traces
from labkeep.operations.history import prepare_batch
from labkeep.operations.sessions import Announce, Changes, Delivery, Part
from labkeep.operations.traces import Home, ReadTraces, Target, TraceSet, WriteTraces
from labkeep.storage import blob_refs
from labkeep.storage.database import Database
from labkeep.storage.opening import open_database
from labkeep.storage.transaction import Tx
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


def test_a_blob_that_is_referred_to_at_this_moment_is_not_swept(database: Database) -> None:
    actor = make_actor(database)
    digest = "sha256:" + "a" * 64
    database.write(lambda tx, actor, _: blob_refs.register(tx, actor, digest, 1), actor, None)
    referred, swept = threading.Event(), threading.Event()

    def refer_slowly(tx: Tx, actor: Actor, _command: None) -> None:
        blob_refs.refer(tx, actor, digest)
        referred.set()
        assert swept.wait(WAIT_S)

    referring = database.submit(refer_slowly, actor, None)
    assert referred.wait(WAIT_S)
    sweep = database.submit(purges.begin_sweep, actor, purges.Sweep(database.clock() + timedelta(days=1)))
    try:
        assert sweep.result(WAIT_S) == {}
    finally:
        swept.set()
    referring.result(WAIT_S)


def test_writers_of_one_run_do_not_write_over_each_other(database: Database) -> None:
    actor = make_actor(database)
    changes = Changes(status=Status.running)
    run = database.write(sessions.announce, actor, Announce(project="p", handle="r", starts=True, changes=changes)).run

    def batches(starts: Mapping[str, int]) -> sessions.Batches:
        rows = from_json_rows([{"_step": 0, "line": "a"}, {"_step": 0, "line": "b"}])
        return [prepare_batch("", stream, starts[stream], rows) for stream in ("history", "console")]

    parts = [Part(f"w{number}", str(number), Delivery("p", "r"), batches) for number in range(MANY)]
    for future in [database.submit(sessions.deliver_part, actor, part) for part in parts]:
        future.result(WAIT_S)
    stand = database.read(lambda tx, _actor, _: sessions.standings(tx, run), actor, None)
    assert (stand["history"].rows, stand["console"].rows) == (2 * MANY, 2 * MANY)
