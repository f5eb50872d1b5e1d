"""Counters of who holds how much agree with the objects, whatever statement changes them, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update

from labkeep.core.access import Actor
from labkeep.core.entities import Project
from labkeep.core.lifecycle import State
from labkeep.storage import tables as t
from labkeep.storage import usage
from labkeep.storage.database import Database
from labkeep.storage.opening import open_database
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_project, make_run

WORDS = ("", "prod", "a b", 'quote"', "é")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    database = open_database(url, data=tmp_path, readers=4)
    yield database
    database.close()


@pytest.fixture
def actor(database: Database) -> Actor:
    return make_actor(database)


def do(database: Database, actor: Actor, statement: Any) -> None:
    """One statement on objects, as raw as can be."""

    def run(tx: Tx, _actor: Actor, _command: None) -> None:
        tx.execute(statement)

    database.write(run, actor, None)


def differences(database: Database) -> list[tuple[Any, ...]]:
    with database.engine.connect() as connection:
        return list(usage.differences(connection))


def counted(database: Database) -> int:
    with database.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(t.usage_counters)).scalar_one()


CHANGES = st.one_of(
    st.builds(dict, state=st.sampled_from(State)),
    st.builds(dict, tags=st.lists(st.sampled_from(WORDS[1:]), max_size=3).map(tuple)),
    st.builds(dict, bytes=st.integers(0, 10**12)),
    st.builds(dict, created_by=st.sampled_from(["one", "two"]), bytes=st.integers(0, 100)),
    st.builds(dict, project=st.integers(0, 1)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), CHANGES), max_size=12))
def test_no_statement_can_make_them_wrong(database: Database, actor: Actor, changes: list[tuple[int, Any]]) -> None:
    homes = [make_project(database, actor, name) for name in _fresh(database, 2)]
    runs = [make_run(database, actor, homes[0], bytes=7, tags=("prod",)).id for _ in range(4)]
    c = t.items.c
    for which, change in changes:
        values = {"project_id": homes[change["project"]].id} if "project" in change else change
        some = c.id == runs[which] if which < len(runs) else c.id.in_(runs)
        do(database, actor, update(t.items).where(some).values(values))
    assert differences(database) == []


def _fresh(database: Database, count: int) -> list[str]:
    with database.engine.connect() as connection:
        made = connection.execute(select(func.count()).select_from(t.items)).scalar_one()
    return [f"p{made + number}" for number in range(count)]


def test_what_is_dropped_counts_no_more_and_leaves_no_line(database: Database, actor: Actor) -> None:
    project = make_project(database, actor)
    make_run(database, actor, project, bytes=5, tags=("secret",))
    do(database, actor, delete(t.items))
    assert differences(database) == []
    database.write(_add_up, actor, None)
    assert counted(database) == 0


def test_a_word_that_nothing_has_any_more_is_not_kept(database: Database, actor: Actor) -> None:
    project = make_project(database, actor)
    run = make_run(database, actor, project, bytes=5, tags=("secret",))
    purged = {"state": State.purged, "tags": (), "created_by": "", "bytes": 0}
    do(database, actor, update(t.items).where(t.items.c.id == run.id).values(purged))
    database.write(_add_up, actor, None)
    with database.engine.connect() as connection:
        assert "secret" not in {row.tag for row in connection.execute(select(t.usage_counters))}
    assert differences(database) == []


def _add_up(tx: Tx, actor: Actor, _command: None) -> None:
    usage.add_up(tx, actor.organization_id)


def test_adding_up_beside_writers_loses_nothing(database: Database, actor: Actor) -> None:
    project = make_project(database, actor)
    made = [database.submit(_grow, actor, project) for _ in range(40)]
    sums = [database.submit(_add_up, actor, None) for _ in range(10)]
    for future in (*made, *sums):
        future.result(60)
    assert differences(database) == []


def _grow(tx: Tx, _actor: Actor, project: Project) -> None:
    c = t.items.c
    tx.execute(update(t.items).where(c.id == project.id).values(bytes=c.bytes + 3))


def test_a_database_without_counters_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    database = open_database("", data=tmp_path, readers=2)
    actor = make_actor(database)
    make_run(database, actor, make_project(database, actor), bytes=9, tags=("prod",))

    def damage(tx: Tx, _actor: Actor, _command: None) -> None:
        tx.connection.exec_driver_sql("DROP TRIGGER usage_made")
        tx.execute(delete(t.usage_counters))

    database.write(damage, actor, None)
    assert len(differences(database)) == 3
    database.close()
    again = open_database("", data=tmp_path, readers=2)
    assert differences(again) == []
    assert counted(again) == 3
    again.close()
