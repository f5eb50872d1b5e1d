"""How lists are found: the way that is chosen, the plan that SQLite makes of it, cursors, and who may see what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import CreateProject, ListProjects, ListRuns, UpdateProject
from labkeep.core.entities import Project, Run
from labkeep.core.errors import Invalid
from labkeep.core.filters import Compare
from labkeep.core.lifecycle import State, Status
from labkeep.operations import Store, projects, runs
from labkeep.storage import index, records, search
from labkeep.storage.database_sqlite import Sqlite
from labkeep.storage.pages import encode_cursor
from labkeep.storage.transaction import Tx
from labkeep.storage.ways import FEW, Start, Way, choose
from labkeep.testing.factories import make_actor, make_project, make_run, make_store

MANY = FEW + 500


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with make_store(tmp_path_factory.mktemp("search")) as store:
        yield store


@pytest.fixture(scope="module")
def actor(store: Store) -> Actor:
    return make_actor(store.database)


@pytest.fixture(scope="module")
def crowd(store: Store, actor: Actor) -> Project:
    """A project of `MANY` runs: lr one of two, acc all different, note unique, a rare tag and a common one."""
    project = make_project(store.database, actor, "crowd")

    def fill(tx: Tx, actor: Actor, _command: None) -> None:
        made = [_run(tx, actor, project, number) for number in range(MANY)]
        records.insert_items(tx, made)
        index.add(tx, made)

    store.database.write(fill, actor, None)
    return project


def _run(tx: Tx, actor: Actor, project: Project, number: int) -> Run:
    return Run(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        kind=records.kind_of(Run),
        workspace_id=actor.workspace_id,
        parent_id=project.id,
        project_id=project.id,
        name=f"run-{number:05}",
        tags=("rare", "common") if number % 500 == 0 else ("common",),
        config={"lr": "0.1" if number % 5 == 0 else "0.01", "note": f"n{number}", "same": "x"},
        summary={"acc": number / MANY},
        status=Status.finished,
        created_at=tx.now,
        updated_at=tx.now,
    )


TARGET = 'config.lr = "0.1" and summary.acc > 0.9 order by summary.acc desc'


# The way


@pytest.mark.parametrize(
    ("q", "way"),
    [
        ("", Way(Start.scan)),
        ("order by name", Way(Start.scan)),
        ("order by summary.acc", Way(Start.walk)),
        (TARGET, Way(Start.walk)),
        ('config.same = "x" order by summary.acc', Way(Start.walk)),
        ('config.note = "n7" order by summary.acc', Way(Start.candidates, Compare("config.note", "=", "n7"))),
        ('config.note = "n7"', Way(Start.leaf, Compare("config.note", "=", "n7"))),
        ('config.same = "x" and tag = "rare"', Way(Start.leaf, Compare("tag", "=", "rare"))),
        ('config.same = "x" and tag = "common"', Way(Start.leaf, Compare("config.same", "=", "x"))),
        ("summary.acc > 0.99", Way(Start.candidates, Compare("summary.acc", ">", 0.99))),
        ("summary.acc > 0", Way(Start.scan)),
        ('tag = "rare" order by name, summary.acc', Way(Start.candidates, Compare("tag", "=", "rare"))),
        ('not tag = "rare"', Way(Start.scan)),
        ('tag = "rare" or name = "x"', Way(Start.scan)),
        ("config.lr = NaN", Way(Start.scan)),
    ],
)
def test_the_way_follows_the_most_selective_index(store: Store, actor: Actor, crowd: Project, q: str, way: Way) -> None:
    def chosen(tx: Tx, _actor: Actor, q: str) -> Way:
        return choose(tx, search.resolve(tx, Run, ListRuns(q=q), {"project_id": crowd.id}), 100)

    assert store.database.read(chosen, actor, q) == way


def test_without_a_project_there_is_no_index_to_follow(store: Store, actor: Actor, crowd: Project) -> None:
    def chosen(tx: Tx, _actor: Actor, q: str) -> Way:
        return choose(tx, search.resolve(tx, Run, ListRuns(q=q), {}), 100)

    assert store.database.read(chosen, actor, TARGET) == Way(Start.scan)


# The plan


def explained(store: Store, actor: Actor, command: ListRuns) -> list[str]:
    """What SQLite says it will do for each statement of a list, beside transactions."""
    asked: list[str] = []
    database = store.database
    assert isinstance(database, Sqlite)

    def traced(tx: Tx, actor: Actor, command: ListRuns) -> None:
        driver: Any = tx.connection.connection.driver_connection
        driver.set_trace_callback(asked.append)
        try:
            runs.list_(tx, actor, command)
        finally:
            driver.set_trace_callback(None)

    database.read(traced, actor, command)
    with database.reading.connect() as connection:
        return [
            row[3]
            for statement in asked
            if statement.startswith("SELECT")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")
        ]


def test_filter_and_order_by_values_walk_the_index_and_sort_nothing(store: Store, actor: Actor, crowd: Project) -> None:
    plan = explained(store, actor, ListRuns(project=crowd.id, q=TARGET, limit=100))
    assert "SEARCH entry USING COVERING INDEX fields_num (project_id=? AND path=? AND type=? AND num>?)" in plan
    assert not [step for step in plan if step.startswith("SCAN") and "anon" not in step]
    assert not [step for step in plan if "TEMP B-TREE" in step]
    assert not [step for step in plan if "items_workspace" in step]


@pytest.mark.parametrize("state", ["", "any", "trashed"])
def test_a_plain_list_comes_from_an_index_and_sorts_nothing(
    store: Store, actor: Actor, crowd: Project, state: str
) -> None:
    plan = explained(store, actor, ListRuns(project=crowd.id, state=state))
    assert [step for step in plan if "items_project (organization_id=? AND project_id=? AND kind=? AND state=?" in step]
    assert not [step for step in plan if "TEMP B-TREE" in step or step.startswith("SCAN")]


def test_a_list_of_the_workspace_comes_from_an_index_and_sorts_nothing(store: Store, actor: Actor) -> None:
    plan = explained(store, actor, ListRuns())
    assert [step for step in plan if "items_workspace" in step]
    assert not [step for step in plan if "TEMP B-TREE" in step or step.startswith("SCAN")]


@pytest.mark.parametrize("q", ['tag = "rare"', 'config.same = "x" and config.lr = "0.1"', "order by created_at desc"])
def test_newest_first_with_a_condition_sorts_nothing(store: Store, actor: Actor, crowd: Project, q: str) -> None:
    plan = explained(store, actor, ListRuns(project=crowd.id, q=q))
    assert not [step for step in plan if "TEMP B-TREE" in step]


def test_another_page_is_found_by_the_index_as_well(store: Store, actor: Actor, crowd: Project) -> None:
    first = store.database.read(runs.list_, actor, ListRuns(project=crowd.id, q=TARGET, limit=10))
    plan = explained(store, actor, ListRuns(project=crowd.id, q=TARGET, limit=10, cursor=first.next))
    assert [step for step in plan if "fields_num (project_id=? AND path=? AND type=? AND num>? AND num<?)" in step]
    assert not [step for step in plan if "TEMP B-TREE" in step]


def test_objects_are_loaded_by_their_ids_and_not_by_their_workspace(store: Store, actor: Actor, crowd: Project) -> None:
    plan = explained(store, actor, ListRuns(project=crowd.id, limit=100))
    assert "SEARCH items USING INDEX sqlite_autoindex_items_1 (organization_id=? AND id=?)" in plan


# Cursors


HOSTILE_CURSORS = [
    *("", "x", "{}", "W10", "bnVsbA", "é", "\x00", "=" * 10, "a" * 100_000),
    *(encode_cursor(*keys) for keys in [(), (1,), ("s",), (["s", "no id"],), (["s", 1],), (["x", "a"],), ([],)]),
    *(encode_cursor(*keys) for keys in [(["i", 2**70], ["s", "x"]), (["f", "zz"],), (["f", "0x1p99999"],), (None,)]),
    encode_cursor(["i", 0], ["i", 9], ["f", "0x1p0"], ["s", ""], ["s", "00000000-0000-7000-8000-00000000000g"]),
    encode_cursor(["i", 0], ["i", 1], ["f", 1], ["s", ""], ["s", "00000000-0000-7000-8000-000000000000"]),
    encode_cursor(["i", 0], ["i", 1], ["f", "0x1p0"], ["s", "\0"], ["s", "00000000-0000-7000-8000-000000000000"]),
]


@pytest.mark.parametrize("cursor", HOSTILE_CURSORS)
@pytest.mark.parametrize("q", ["", TARGET, "order by name", 'tag = "rare"'])
def test_a_cursor_that_no_list_gave_is_invalid(store: Store, actor: Actor, crowd: Project, cursor: str, q: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        store.database.read(runs.list_, actor, ListRuns(project=crowd.id, q=q, cursor=cursor))


def test_a_cursor_of_a_list_with_another_order_is_invalid(store: Store, actor: Actor, crowd: Project) -> None:
    first = store.database.read(runs.list_, actor, ListRuns(project=crowd.id, q="order by name", limit=1))
    with pytest.raises(Invalid, match="another order"):
        store.database.read(runs.list_, actor, ListRuns(project=crowd.id, q="order by bytes", cursor=first.next))


def test_a_cursor_outlives_the_object_that_it_came_from(store: Store, actor: Actor) -> None:
    project = make_project(store.database, actor)
    made = [make_run(store.database, actor, project, summary={"a": number}) for number in range(4)]
    ask = ListRuns(project=project.id, q="order by summary.a", limit=2)
    first = store.database.read(runs.list_, actor, ask)

    def move(tx: Tx, _actor: Actor, run: Run) -> None:
        records.save(tx, run, run.__class__(**{**_fields(run), "state": State.archived}))

    store.database.write(move, actor, made[1])
    more = store.database.read(runs.list_, actor, ListRuns(project=project.id, q=ask.q, limit=2, cursor=first.next))
    assert [run.id for run in more.items] == [made[2].id, made[3].id]


def _fields(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__struct_fields__}


# Two-way paging


def test_pages_go_both_ways_from_an_id(store: Store, actor: Actor, crowd: Project) -> None:
    newest = store.database.read(runs.list_, actor, ListRuns(project=crowd.id, limit=9)).items
    ids = [run.id for run in newest]
    after = store.database.read(runs.list_, actor, ListRuns(project=crowd.id, limit=3, after=ids[2]))
    assert [run.id for run in after.items] == ids[3:6]
    before = store.database.read(runs.list_, actor, ListRuns(project=crowd.id, limit=3, before=ids[6]))
    assert [run.id for run in before.items] == ids[3:6]
    absent = ids[4][:-1] + ("0" if ids[4][-1] != "0" else "1")
    around = store.database.read(runs.list_, actor, ListRuns(project=crowd.id, limit=1, after=absent)).items
    assert around[0].id in ids[4:6]


@pytest.mark.parametrize(
    "wrong",
    [{"before": "x"}, {"after": "x"}, {"before": "0" * 36, "after": "0" * 36}, {"after": "x", "order": "name"}],
)
def test_two_way_paging_refuses_what_makes_no_sense(
    store: Store, actor: Actor, crowd: Project, wrong: dict[str, str]
) -> None:
    with pytest.raises(Invalid):
        store.database.read(runs.list_, actor, ListRuns(project=crowd.id, **wrong))  # type: ignore[arg-type]


# Who sees what


def test_lists_show_nothing_of_other_organizations_and_workspaces(store: Store, actor: Actor, crowd: Project) -> None:
    strangers = [
        make_actor(store.database, organization="other"),
        make_actor(store.database, organization="organization", workspace="next door"),
    ]
    for stranger in strangers:
        mine = make_run(store.database, stranger, tags=("rare",), summary={"acc": 0.95})
        for q in ("", TARGET, 'tag = "rare"', "order by name", "order by summary.acc", 'name ~ "run"'):
            found = store.database.read(runs.list_, stranger, ListRuns(q=q, limit=1000)).items
            assert {run.id for run in found} <= {mine.id}
        listed = store.database.read(projects.list_, stranger, ListProjects()).items
        assert crowd.id not in {project.id for project in listed}

    def leaked(tx: Tx, stranger: Actor, q: str) -> list[Run]:
        return search.page(tx, stranger, Run, ListRuns(q=q), equal={"project_id": crowd.id}).items

    for stranger in strangers:
        for q in ("", TARGET, 'tag = "rare"'):
            assert store.database.read(leaked, stranger, q) == []


def test_the_states_that_a_list_shows_are_those_asked_for(store: Store, actor: Actor) -> None:
    project = make_project(store.database, actor)
    made = {state: make_run(store.database, actor, project, state=state).id for state in State}

    def shown(**asked: str) -> set[str]:
        found = store.database.read(runs.list_, actor, ListRuns(project=project.id, **asked)).items  # type: ignore[arg-type]
        return {state for state, id in made.items() if id in {run.id for run in found}}

    assert shown() == {"active"}
    assert shown(state="archived") == {"archived"}
    assert shown(state="any") == set(State)
    assert shown(q="state = any") == set(State)
    assert shown(q='state in ("trashed", "active")') == {"trashed", "active"}
    assert shown(q='not state = "active"') == set(State) - {"active"}
    assert shown(q='state = "active" and state = "trashed"') == set()
    with pytest.raises(Invalid, match="is not a state"):
        shown(state="gone")


@pytest.mark.parametrize("sizes", [1, 2, 7, 100, 499, 500, 501, 1000])
def test_pages_of_every_size_make_up_the_whole_list(store: Store, actor: Actor, crowd: Project, sizes: int) -> None:
    want = 1200 if sizes > 2 else 40
    found: list[str] = []
    cursor: str | None = None
    while len(found) < want:
        page = store.database.read(runs.list_, actor, ListRuns(project=crowd.id, limit=sizes, cursor=cursor))
        found += [run.name for run in page.items]
        cursor = page.next
    assert found == [f"run-{MANY - 1 - number:05}" for number in range(len(found))]


def test_projects_are_found_by_their_own_tags_and_metadata(store: Store, actor: Actor) -> None:
    made = store.database.write(
        projects.create, actor, CreateProject(name="tagged", tags=("blue",), metadata={"team": "a"})
    )

    def found(q: str) -> list[str]:
        return [project.id for project in store.database.read(projects.list_, actor, ListProjects(q=q)).items]

    assert found('tag = "blue"') == found('metadata.team = "a"') == [made.id]
    store.database.write(projects.update, actor, UpdateProject(id=made.id, tags=("red",), metadata={"team": None}))
    assert found('tag = "blue"') == found("exists metadata.team") == []
    assert found('tag = "red"') == [made.id]
