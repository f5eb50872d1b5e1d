"""What SQL finds must be what the language means: pages of `search.page` against `filters.evaluate` and `ordered`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from labkeep.core.access import Actor
from labkeep.core.commands import ListRuns
from labkeep.core.entities import Project, Run
from labkeep.core.fields import FIELDS, REFERENCES, field_info
from labkeep.core.filters import (
    And,
    Compare,
    Contains,
    Exists,
    In,
    Leaf,
    Matches,
    Order,
    Query,
    Stored,
    evaluate,
    find_fault,
    ordered,
    state_filter,
)
from labkeep.core.lifecycle import Kind, State, Status
from labkeep.core.paths import leaves_of
from labkeep.core.query import MAX_TEXT, parse, print_query
from labkeep.storage import index, records, search
from labkeep.storage.database import Database
from labkeep.storage.finding import find, write_cursor
from labkeep.storage.opening import open_database
from labkeep.storage.transaction import Tx
from labkeep.storage.ways import Plan, Start, Way, is_exact, is_indexed, must, walked_field
from labkeep.testing.factories import make_actor, make_project
from tests.property.test_query_language import NOW, joins, queries

# --- a small world, so that conditions and runs meet often -----------------------------------------------------------

LONG = "x" * 256
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "b",
    "é",
    "É",
    "e\u0301",
    "ß",
    "SS",
    "1",
    "0.1",
    "\u212a",
    "k",
    "日本",
    "\U0001f600",
    "%",
    "_",
]
TEXTS += [LONG + "y", LONG + "z", LONG, "line\nbreak", "a/b", "v12", "\u0663", "NaN"]
NUMBERS: list[int | float] = [0, 1, -1, 2, 0.1, 0.5, -0.0, 1e308, 5e-324, 2**53 + 1, 2**62, -(2**63) + 1]
NUMBERS += [math.nan, math.inf, -math.inf, 1.0]
MOMENTS = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s) for s in (0, 0.000001, 1, 86400)]
TAGS = ["a", "b", "prod", "x/y", "é", "a.b", "1"]
PATTERNS = ["^a", "a$", "[ab]", "(?i)A", "x{250}y?", "^$", "v[0-9]+", "a|b", "line.break", "^..$"]
PATHS = ["a", "b", "n.m", "n.m.o", "ключ", "with space", "d.o.t"]
OPEN = [f"config.{path}" for path in PATHS] + ["summary.a", "summary.acc", "metadata.a", "scores.exact", "metrics.loss"]

values = st.one_of(st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.booleans())
stored = st.one_of(values, st.none(), st.just([1]), st.just({}))
spaces = st.dictionaries(st.sampled_from(["a", "b", "acc", "ключ", "with space", "d.o.t"]), stored, max_size=4)
nested = st.builds(
    lambda flat, inner, deep: flat | ({} if inner is None else {"n": inner | ({"m": {"o": deep}} if deep else {})}),
    spaces,
    st.none() | st.dictionaries(st.just("m"), stored, max_size=1),
    st.none() | values,
)


class Facts(dict[str, Any]):
    """One run to be, without what only a store can give."""


runs = st.builds(
    Facts,
    state=st.sampled_from([State.active, State.active, State.archived, State.trashed]),
    status=st.sampled_from(list(Status)),
    name=st.sampled_from([text for text in TEXTS if text]),
    type=st.sampled_from(["", "a", "b"]),
    group=st.sampled_from(["", "a", "é"]),
    notes=st.sampled_from(TEXTS),
    tags=st.lists(st.sampled_from(TAGS), max_size=3, unique=True).map(tuple),
    config=nested,
    summary=spaces,
    metadata=spaces,
    bytes=st.integers(0, 3),
    version=st.integers(1, 3),
    locked=st.booleans(),
    started_at=st.none() | st.sampled_from(MOMENTS),
    finished_at=st.none() | st.sampled_from(MOMENTS),
    base=st.none() | st.integers(0, 2),
    handle=st.booleans(),
    scores=st.none() | st.sampled_from(NUMBERS),
)

choices: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(TEXTS),
    "tags": st.sampled_from(TAGS),
    "choice": st.sampled_from([str(state) for state in State]),
    "number": st.sampled_from(NUMBERS),
    "flag": st.booleans(),
    "time": st.sampled_from(MOMENTS),
    "open": values,
}
known_fields = st.one_of(st.sampled_from(OPEN), st.sampled_from(sorted(FIELDS)))
IDS = st.integers(0, 2).map(lambda number: f"00000000-0000-7000-8000-{number:012d}")


@st.composite
def leaves(draw: st.DrawFn, fields: st.SearchStrategy[str] = known_fields) -> Leaf:
    name = draw(fields)
    info = field_info(name)
    assert info is not None
    value = choices[info.type] | IDS if name in REFERENCES else choices[info.type]
    if name in ("status", "kind"):
        value = st.sampled_from(info.words) | value
    kinds: list[st.SearchStrategy[Leaf]] = [
        st.builds(Compare, st.just(name), st.sampled_from(info.rules.ops), value),
        st.builds(In, st.just(name), st.lists(value, max_size=3).map(tuple)),
        st.builds(Exists, st.just(name)),
    ]
    if info.rules.searched:
        kinds.append(st.builds(Contains, st.just(name), st.sampled_from(TEXTS)))
        kinds.append(st.builds(Matches, st.just(name), st.sampled_from(PATTERNS)))
    leaf = draw(st.one_of(kinds))
    assume(find_fault(leaf) is None)
    return leaf


orderable = known_fields.filter(lambda name: name != "tag")
orders = st.lists(st.builds(Order, orderable, st.booleans()), max_size=3).map(tuple)
filters = st.recursive(leaves(), joins, max_leaves=8)


@st.composite
def exact(draw: st.DrawFn) -> Leaf:
    """A condition that asks for one value which an index has."""
    name = draw(st.sampled_from([*OPEN, "tag"]))
    leaf = Compare(name, "=", draw(choices[field_info(name).type]))  # type: ignore[union-attr]
    assume(find_fault(leaf) is None)
    return leaf


worldly = st.one_of(
    st.builds(Query, st.builds(lambda *both: And(both), exact(), filters), st.just(())),
    st.builds(Query, st.none() | filters, orders),
    st.builds(
        Query, st.none() | filters, st.builds(Order, st.sampled_from(OPEN), st.booleans()).map(lambda key: (key,))
    ),
    queries,
)


# --- the two sides ----------------------------------------------------------------------------------------------------


_numbers = count(1)


class World:
    """A database with an actor; each question is asked of a project of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.actor = make_actor(database)
        self.taken: Counter[Start] = Counter()

    def populate(self, facts: Sequence[Facts]) -> tuple[Project, list[Run], dict[str, dict[str, Any]]]:
        """A project with these runs, and what ``scores`` and ``metrics`` say of each."""
        project = make_project(self.database, self.actor, name=f"ab v{next(_numbers)}")
        more: dict[str, dict[str, Any]] = {}

        def add(tx: Tx, actor: Actor, facts: Sequence[Facts]) -> list[Run]:
            made = [_run(tx, actor, project, one) for one in facts]
            records.insert_items(tx, made)
            index.add(tx, made)
            for run, one in zip(made, facts, strict=True):
                if one["scores"] is not None:
                    more[run.id] = {"scores.exact": one["scores"], "metrics.loss": one["scores"]}
                    index.put(tx, run, more[run.id])
            return made

        return project, self.database.write(add, self.actor, facts), more

    def find(self, project: Project, text: str, sizes: Iterator[int]) -> list[str]:
        """Ids of all pages as `search.page` gives them, in order; each page of the next of ``sizes``."""
        cursor: str | None = None
        found: list[str] = []
        while True:
            limit = next(sizes)
            asked = ListRuns(project=project.id, q=text, limit=limit, cursor=cursor)
            page = self.database.read(_page, self.actor, asked)
            assert len(page.items) == limit or page.next is None
            found += [run.id for run in page.items]
            if page.next is None:
                return found
            cursor = page.next

    def find_by(self, project: Project, text: str, sizes: Iterator[int], turns: Iterator[int]) -> list[str]:
        """The same, each page by the next of the ways that there are."""
        cursor: str | None = None
        found: list[str] = []
        while True:
            asked = ListRuns(project=project.id, q=text, limit=next(sizes), cursor=cursor)
            start, ids, cursor = self.database.read(_page_by, self.actor, (asked, next(turns)))
            self.taken[start] += 1
            found += ids
            if cursor is None:
                return found


def _page(tx: Tx, actor: Actor, command: ListRuns) -> Any:
    return search.page(tx, actor, Run, command, equal={"project_id": command.project})


def _page_by(tx: Tx, actor: Actor, asked: tuple[ListRuns, int]) -> tuple[Start, list[str], str | None]:
    command, turn = asked
    plan = search.resolve(tx, Run, command, {"project_id": command.project})
    ways = legal_ways(plan)
    way = ways[turn % len(ways)]
    rows = find(tx, actor, plan, way, command.cursor, command.limit)
    ids = [run.id for run in search.load(tx, actor, Run, [row.id for row in rows])]
    return way.start, ids, write_cursor(rows[-1], tx.database) if len(rows) == command.limit else None


def legal_ways(plan: Plan) -> list[Way]:
    """Every way that answers ``plan``, however dear."""
    indexed = [leaf for leaf in must(plan.filter) if is_indexed(leaf)]
    ways = [Way(Start.scan), *(Way(Start.candidates, leaf) for leaf in indexed)]
    if not plan.order:
        ways += [Way(Start.leaf, leaf) for leaf in indexed if is_exact(leaf)]
    return [*ways, Way(Start.walk)] if walked_field(plan) else ways


def _run(tx: Tx, actor: Actor, project: Project, facts: Facts) -> Run:
    plain = {name: value for name, value in facts.items() if name not in ("base", "handle", "scores")}
    id = tx.new_id()
    base = None if facts["base"] is None else f"00000000-0000-7000-8000-{facts['base']:012d}"
    return Run(
        id=id,
        organization_id=actor.organization_id,
        kind=Kind.run,
        workspace_id=actor.workspace_id,
        parent_id=project.id,
        project_id=project.id,
        handle=id if facts["handle"] else None,
        base_run_id=base,
        document_id=base,
        created_at=facts["started_at"] or tx.now,
        updated_at=tx.now,
        **plain,
    )


def facts_of(run: Run, project: Project, more: dict[str, Any]) -> dict[str, Stored]:
    """Everything that a query may ask of ``run``, by field: the oracle's own view."""
    found: dict[str, Stored] = {name: getattr(run, name) for name in FIELDS if hasattr(run, name)}
    found |= {name: str(getattr(run, name)) for name in ("state", "status", "kind")}
    found |= {"tag": run.tags, "project": project.name, "parent": run.base_run_id, "document": run.document_id}
    if run.started_at is not None and run.finished_at is not None:
        found["duration_s"] = (run.finished_at - run.started_at).total_seconds()
    for space in ("config", "summary", "metadata"):
        found |= {f"{space}.{path}": value for path, value in leaves_of(getattr(run, space))}
    return found | more


def expected(query: Query, project: Project, made: Sequence[Run], more: dict[str, dict[str, Any]]) -> list[str]:
    """Ids of what ``query`` finds, in order, without any SQL."""
    seen = {run.id: facts_of(run, project, more.get(run.id, {})) for run in made}
    states = state_filter(query.filter)
    shown = frozenset([State.active]) if states is None else states
    met = [run for run in made if run.state in shown and evaluate(query.filter, seen[run.id].get)]
    return [run.id for run in ordered(met, query.order, lambda run, field: seen[run.id].get(field))]


def check(world: World, facts: Sequence[Facts], query: Query, sizes: Sequence[int]) -> None:
    text = print_query(query)
    assume(len(text) <= MAX_TEXT)
    project, made, more = world.populate(facts)
    asked = parse(text, NOW)
    wanted = expected(asked, project, made, more)
    assert world.find(project, text, cycle(sizes)) == wanted
    for first in range(3):
        assert world.find_by(project, text, cycle(sizes), count(first)) == wanted


@pytest.fixture(scope="module")
def sqlite_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    database = open_database("", data=tmp_path_factory.mktemp("oracle"))
    world = World(database)
    yield world
    database.close()
    assert set(world.taken) == set(Start), "some way was never taken"


@pytest.fixture(scope="module")
def postgres_world(postgres_server: Any) -> Iterator[World]:
    with ExitStack() as stack:
        url = postgres_server.create_database()
        stack.callback(postgres_server.drop_database, url)
        database = open_database(url, data=Path())
        stack.callback(database.close)
        world = World(database)
        yield world
        assert set(world.taken) == set(Start), "some way was never taken"


pages = st.lists(st.integers(1, 5), min_size=1, max_size=3)
few_runs = st.lists(runs, max_size=8)
FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]


@given(facts=few_runs, query=worldly, sizes=pages)
@settings(max_examples=200, deadline=None, suppress_health_check=FIXTURES)
def test_sqlite_finds_what_the_language_means(
    sqlite_world: World, facts: list[Facts], query: Query, sizes: list[int]
) -> None:
    check(sqlite_world, facts, query, sizes)


@given(facts=few_runs, query=worldly, sizes=pages)
@settings(max_examples=70, deadline=None, suppress_health_check=FIXTURES)
def test_postgres_finds_what_the_language_means(
    postgres_world: World, facts: list[Facts], query: Query, sizes: list[int]
) -> None:
    check(postgres_world, facts, query, sizes)
