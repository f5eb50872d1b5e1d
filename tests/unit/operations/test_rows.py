"""Rows of runs and documents, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.commands import Get, ItemVerb, ReadRows, RowIn, RowPage, RowStats, WriteRows, WriteRowSets, Written
from labkeep.core.entities import Item, Run
from labkeep.core.errors import Forbidden, Gone, Illegal, Invalid, NotFound
from labkeep.core.lifecycle import State
from labkeep.operations import deletions, rows
from labkeep.storage import tables as t
from labkeep.storage.database import Database
from labkeep.storage.database_postgres import Postgres
from labkeep.storage.pages import encode_cursor
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import START, FixedClock, make_actor, make_document, make_project, make_run, make_store


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        with make_store(tmp_path) as store:
            yield store.database
        return
    database = Postgres(request.getfixturevalue("postgres_url"), readers=2, clock=FixedClock())
    yield database
    database.close()


@pytest.fixture
def actor(database: Database) -> Actor:
    return make_actor(database)


@pytest.fixture
def run(database: Database, actor: Actor) -> Run:
    return make_run(database, actor)


def write(database: Database, actor: Actor, owner: Item, *given: RowIn) -> Written:
    return database.write(rows.write, actor, WriteRows(id=owner.id, rows=list(given)))


def read(database: Database, actor: Actor, owner: Item, **fields: Any) -> RowPage:
    return database.read(rows.read, actor, ReadRows(id=owner.id, **fields))


def data_of(page: RowPage) -> dict[str, Any]:
    return {row.id: row.data for row in page.items}


def stats(database: Database, actor: Actor, owner: Item) -> RowStats:
    return database.read(rows.stats, actor, Get(id=owner.id))


def later(database: Database, **duration: float) -> None:
    assert isinstance(database.clock, FixedClock)
    database.clock.advance(**duration)


# --- what a write does ------------------------------------------------------------------------------------------------


def test_a_row_is_inserted_and_read_back(database: Database, actor: Actor, run: Run) -> None:
    data = {"input": "ä" * 1000, "n": [1, 2.5, None, True, 10**30], "nul": "\0"}
    written = write(database, actor, run, RowIn(id="a", data=data))
    page = read(database, actor, run)
    assert written.ids == ["a"]
    assert (page.xact, page.next) == (written.xact, None)
    (row,) = page.items
    assert (row.id, row.root_id, row.xact, row.data, row.created_at) == ("a", "a", written.xact, data, START)


def test_a_row_without_an_id_gets_one(database: Database, actor: Actor, run: Run) -> None:
    written = write(database, actor, run, RowIn(data={"n": 1}), RowIn(data={"n": 2}))
    assert data_of(read(database, actor, run)) == {written.ids[0]: {"n": 1}, written.ids[1]: {"n": 2}}


def test_writing_again_replaces_the_row_and_keeps_when_it_was_made(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, RowIn(id="a", data={"x": 1, "y": 1}))
    later(database, hours=1)
    write(database, actor, run, RowIn(id="a", data={"x": 2}))
    (row,) = read(database, actor, run).items
    assert (row.data, row.created_at) == ({"x": 2}, START)


def test_a_merge_goes_deep_keeps_unites_and_removes(database: Database, actor: Actor, run: Run) -> None:
    first = {"created": 1, "m": {"a": 1, "p": {"x": 1}}, "tags": ["p"], "list": ["u", "v"], "null": 1}
    write(database, actor, run, RowIn(id="a", data=first))
    second = {"created": 2, "m": {"b": 2, "p": {"y": 1}}, "tags": ["q", "p"], "null": None}
    merging = RowIn(
        id="a",
        data=second,
        merge=True,
        keep=("created",),
        union=("tags",),
        paths=(("m", "p"),),
        remove=((("list",), ("u",)),),
    )
    write(database, actor, run, merging)
    assert data_of(read(database, actor, run))["a"] == {
        "created": 1,
        "m": {"a": 1, "b": 2, "p": {"y": 1}},
        "tags": ["p", "q"],
        "list": ["v"],
        "null": None,
    }


def test_a_replacement_keeps_what_it_is_told_to_keep(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, RowIn(id="a", data={"feedback": 1, "x": 1}, keep=("feedback",)))
    write(database, actor, run, RowIn(id="a", data={"feedback": 2, "y": 1}, keep=("feedback", "none")))
    assert data_of(read(database, actor, run)) == {"a": {"feedback": 1, "y": 1}}
    write(database, actor, run, RowIn(id="a", delete=True), RowIn(id="a", data={"y": 2}, keep=("feedback",)))
    assert data_of(read(database, actor, run)) == {"a": {"y": 2}}


def test_a_merge_inserts_when_there_is_no_row(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, RowIn(id="a", data={"x": 1}, merge=True, root_id="t"))
    (row,) = read(database, actor, run).items
    assert (row.data, row.root_id) == ({"x": 1}, "t")


def test_a_merge_does_not_move_a_row_to_another_trace_but_a_replacement_does(
    database: Database, actor: Actor, run: Run
) -> None:
    write(database, actor, run, RowIn(id="a", root_id="t1"))
    write(database, actor, run, RowIn(id="a", root_id="t2", data={"x": 1}, merge=True))
    assert read(database, actor, run).items[0].root_id == "t1"
    write(database, actor, run, RowIn(id="a", data={"x": 2}))
    assert read(database, actor, run).items[0].root_id == "t1"
    write(database, actor, run, RowIn(id="a", root_id="t2"))
    assert read(database, actor, run).items[0].root_id == "t2"


def test_a_deleted_row_is_gone_now_and_there_before(database: Database, actor: Actor, run: Run) -> None:
    first = write(database, actor, run, RowIn(id="a", data={"x": 1}), RowIn(id="b"))
    write(database, actor, run, RowIn(id="a", delete=True))
    assert list(data_of(read(database, actor, run))) == ["b"]
    assert data_of(read(database, actor, run, as_of=first.xact)) == {"a": {"x": 1}, "b": {}}
    assert data_of(read(database, actor, run, as_of=first.xact, ids=["a"])) == {"a": {"x": 1}}


def test_a_merge_into_a_deleted_row_starts_anew(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, RowIn(id="a", data={"x": 1}))
    write(database, actor, run, RowIn(id="a", delete=True))
    write(database, actor, run, RowIn(id="a", data={"y": 1}, merge=True))
    assert data_of(read(database, actor, run)) == {"a": {"y": 1}}


def test_deleting_what_is_not_there_writes_nothing(database: Database, actor: Actor, run: Run) -> None:
    written = write(database, actor, run, RowIn(id="a", delete=True))
    assert written == Written(["a"], 0)
    assert stats(database, actor, run) == RowStats(0, 0, {})


def test_one_write_applies_its_rows_in_order_and_stores_only_the_last_state(
    database: Database, actor: Actor, run: Run
) -> None:
    write(
        database,
        actor,
        run,
        RowIn(id="a", data={"x": 1}),
        RowIn(id="a", data={"y": 2}, merge=True),
        RowIn(id="b"),
        RowIn(id="b", delete=True),
    )
    assert data_of(read(database, actor, run)) == {"a": {"x": 1, "y": 2}}

    def states(tx: Tx, _: Actor, owner: Item) -> int:
        return int(tx.execute(select(func.count()).where(t.rows.c.owner_id == owner.id)).scalar_one())

    assert database.read(states, actor, run) == 2


def test_sending_a_write_again_changes_nothing(database: Database, actor: Actor, run: Run) -> None:
    given = [RowIn(id="a", data={"x": 1, "scores": {"s": 1}}), RowIn(id="b", data={"y": 1}, merge=True)]
    first = write(database, actor, run, *given)
    later(database, minutes=5)
    assert write(database, actor, run, *given) == first
    assert stats(database, actor, run) == RowStats(2, first.xact, {"s": 1.0})


def test_transaction_ids_tell_the_time_and_always_rise(database: Database, actor: Actor, run: Run) -> None:
    xacts = [write(database, actor, run, RowIn(data={"n": n})).xact for n in range(3)]
    assert xacts[0] == int(START.timestamp()) << 16
    assert xacts == [xacts[0], xacts[0] + 1, xacts[0] + 2]
    later(database, seconds=-3600)
    assert write(database, actor, run, RowIn()).xact == xacts[0] + 3
    later(database, seconds=3700)
    assert write(database, actor, run, RowIn()).xact == int((START + timedelta(seconds=100)).timestamp()) << 16


def test_rows_of_several_owners_are_written_together_or_not_at_all(database: Database, actor: Actor, run: Run) -> None:
    dataset = make_document(database, actor)
    sets = WriteRowSets(
        sets=[
            WriteRows(id=run.id, rows=[RowIn(id="a")]),
            WriteRows(id=dataset.id, rows=[RowIn(id="d")]),
            WriteRows(id=run.id, rows=[RowIn(id="b")]),
        ]
    )
    written = database.write(rows.write_sets, actor, sets)
    assert [part.ids for part in written] == [["a"], ["d"], ["b"]]
    assert set(data_of(read(database, actor, run))) == {"a", "b"}
    broken = WriteRowSets(
        sets=[WriteRows(id=run.id, rows=[RowIn(id="c")]), WriteRows(id=dataset.id, rows=[RowIn(id="\0")])]
    )
    with pytest.raises(Invalid):
        database.write(rows.write_sets, actor, broken)
    assert set(data_of(read(database, actor, run))) == {"a", "b"}


def test_writing_no_rows_is_fine(database: Database, actor: Actor, run: Run) -> None:
    assert write(database, actor, run) == Written([], 0)


@pytest.mark.parametrize("bad", ["", "\0", "a\0b", "x" * 1025, "ä" * 513, "\ud800"])
def test_an_id_that_cannot_be_a_key_is_refused(database: Database, actor: Actor, run: Run, bad: str) -> None:
    with pytest.raises(Invalid, match="1024 bytes"):
        write(database, actor, run, RowIn(id=bad))
    with pytest.raises(Invalid, match="1024 bytes"):
        write(database, actor, run, RowIn(id="a", root_id=bad))


def test_the_longest_ids_are_kept(database: Database, actor: Actor, run: Run) -> None:
    longest = "".join(chr(0x4E00 + n) for n in range(341))
    write(database, actor, run, RowIn(id=longest, root_id=longest[::-1]))
    assert [row.id for row in read(database, actor, run).items] == [longest]


def test_data_that_is_not_unicode_is_refused(database: Database, actor: Actor, run: Run) -> None:
    with pytest.raises(Invalid, match="row 'a' cannot be stored as JSON"):
        write(database, actor, run, RowIn(id="a", data={"x": "\ud800"}))


# --- pages ------------------------------------------------------------------------------------------------------------


def test_the_newest_trace_comes_first_with_all_its_rows(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, RowIn(id="a"), RowIn(id="b"))
    later(database, seconds=1)
    write(database, actor, run, RowIn(id="c"), RowIn(id="a2", root_id="a"))
    assert [row.id for row in read(database, actor, run).items] == ["c", "b", "a", "a2"]


def test_limit_counts_traces_and_the_cursor_goes_on_where_the_page_ended(
    database: Database, actor: Actor, run: Run
) -> None:
    given = [RowIn(id=f"{trace}{span}", root_id=f"t{trace}") for trace in range(5) for span in "xy"]
    write(database, actor, run, *given)
    seen, cursor = [], None
    while True:
        page = read(database, actor, run, limit=2, cursor=cursor)
        seen.append([row.id for row in page.items])
        cursor = page.next
        if cursor is None:
            break
        write(database, actor, run, RowIn())  # what is new comes first and moves nothing
    assert seen == [["4x", "4y", "3x", "3y"], ["2x", "2y", "1x", "1y"], ["0x", "0y"]]


def test_chosen_rows_are_paged_by_trace_too(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, *[RowIn(id=f"r{n:04}", root_id=f"t{n // 2:04}") for n in range(2000)])
    wanted = [f"r{n:04}" for n in range(0, 2000, 3)] + ["absent"]
    first = read(database, actor, run, ids=wanted, limit=300)
    assert first.next is not None
    rest = read(database, actor, run, ids=wanted, limit=10_000, cursor=first.next)
    assert [row.id for row in first.items + rest.items] == sorted(wanted[:-1], reverse=True)
    assert len(first.items) == 300
    assert rest.next is None


def test_traces_of_a_very_large_write_lie_below_those_of_the_next(database: Database, actor: Actor, run: Run) -> None:
    first = write(database, actor, run, *[RowIn(id=f"r{n:05}") for n in range(33_000)])
    second = write(database, actor, run, RowIn(id="new"))
    assert second.xact == first.xact + 1
    assert [row.id for row in read(database, actor, run, limit=2).items] == ["new", "r32999"]
    assert stats(database, actor, run).rows == 33_001
    (newest,) = read(database, actor, run, ids=["new"]).items
    (oldest,) = read(database, actor, run, ids=["r00000"]).items
    assert newest.position > oldest.position + 32_999


def test_a_page_of_large_rows_ends_early_and_goes_on(database: Database, actor: Actor, run: Run) -> None:
    for n in range(5):
        write(database, actor, run, RowIn(id=f"r{n}", data={"x": str(n) * 10_000_000}))
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = read(database, actor, run, cursor=cursor)
        seen += [row.id for row in page.items]
        cursor, pages = page.next, pages + 1
    assert seen == ["r4", "r3", "r2", "r1", "r0"]
    assert pages == 2


def test_reading_as_of_the_future_is_reading_now_and_before_the_first_is_nothing(
    database: Database, actor: Actor, run: Run
) -> None:
    written = write(database, actor, run, RowIn(id="a"))
    now = read(database, actor, run, as_of=10**30)
    assert (list(data_of(now)), now.xact) == (["a"], written.xact)
    before = read(database, actor, run, as_of=-5)
    assert (before.items, before.xact, before.next) == ([], 0, None)


@pytest.mark.parametrize("cursor", ["x", "", encode_cursor("a"), encode_cursor(-1), encode_cursor(2**63)])
def test_a_cursor_of_another_list_is_refused(database: Database, actor: Actor, run: Run, cursor: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        read(database, actor, run, cursor=cursor)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_are_averaged_over_the_rows_that_have_them(database: Database, actor: Actor, run: Run) -> None:
    write(
        database,
        actor,
        run,
        RowIn(id="a", data={"scores": {"exact": 1, "f1": 0.5}}),
        RowIn(id="b", data={"scores": {"exact": 0, "f1": None, "flag": True, "word": "x"}}),
        RowIn(id="c", data={"scores": [1]}),
        RowIn(id="d", data={"scores": {"huge": 1e300, "bigger": 10**400, "": 1, "n\0": 1, "x" * 513: 1}}),
    )
    assert stats(database, actor, run).scores == {"exact": 0.5, "f1": 0.5}


def test_means_follow_replacements_merges_and_deletions(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, *[RowIn(id=id, data={"scores": {"s": n}}) for n, id in enumerate("abc")])
    assert stats(database, actor, run).scores == {"s": 1.0}
    write(database, actor, run, RowIn(id="a", data={"scores": {"s": 3}}), RowIn(id="b", delete=True))
    assert stats(database, actor, run).scores == {"s": 2.5}
    write(database, actor, run, RowIn(id="a", data={"scores": {"s": None, "late": 1}}, merge=True))
    assert stats(database, actor, run).scores == {"late": 1.0, "s": 2.0}
    write(database, actor, run, RowIn(id="a", delete=True), RowIn(id="c", delete=True))
    assert stats(database, actor, run) == RowStats(0, read(database, actor, run).xact, {})


def indexed(tx: Tx, _: Actor, owner: Item) -> dict[str, float]:
    f = t.fields.c
    return {row["path"]: row["num"] for row in tx.all(select(f.path, f.num).where(f.item_id == owner.id))}


def test_runs_can_be_found_by_their_scores_and_documents_cannot(database: Database, actor: Actor, run: Run) -> None:
    dataset = make_document(database, actor)
    for owner in (run, dataset):
        write(
            database, actor, owner, RowIn(id="a", data={"scores": {"s": 1, "u": 1}}), RowIn(data={"scores": {"s": 0}})
        )
    assert database.read(indexed, actor, run) == {"scores.s": 0.5, "scores.u": 1.0}
    assert database.read(indexed, actor, dataset) == {}
    write(database, actor, run, RowIn(id="a", delete=True))
    assert database.read(indexed, actor, run) == {"scores.s": 0.0}


def test_every_state_is_accounted_to_the_owner(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, RowIn(id="a", data={"x": "y" * 100}))
    write(database, actor, run, RowIn(id="a", data={"x": "z" * 200}))
    write(database, actor, run, RowIn(id="a", delete=True))

    def held(tx: Tx, _: Actor, owner: Item) -> tuple[int, int]:
        size = select(func.sum(func.length(t.rows.c.data))).where(t.rows.c.owner_id == owner.id)
        counted = select(t.items.c.bytes).where(t.items.c.id == owner.id)
        return int(tx.execute(counted).scalar_one()), int(tx.execute(size).scalar_one())

    counted, size = database.read(held, actor, run)
    assert counted == size == 109 + 209 + 3


# --- who may ----------------------------------------------------------------------------------------------------------


def test_a_viewer_reads_rows_and_does_not_write_them(database: Database, actor: Actor, run: Run) -> None:
    viewer = make_actor(database, "viewer")
    write(database, actor, run, RowIn(id="a"))
    assert list(data_of(read(database, viewer, run))) == ["a"]
    with pytest.raises(Forbidden, match=r"run\.write"):
        write(database, viewer, run, RowIn(id="b"))
    with pytest.raises(Forbidden, match=r"document\.write"):
        write(database, viewer, make_document(database, actor), RowIn(id="b"))


def test_rows_of_another_workspace_or_tenant_are_not_found(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, RowIn(id="a"))
    for stranger in (make_actor(database, workspace="other"), make_actor(database, organization="other")):
        for attempt in (read, write, stats):
            with pytest.raises(NotFound):
                attempt(database, stranger, run)


def test_only_runs_and_documents_have_rows(database: Database, actor: Actor) -> None:
    project = make_project(database, actor, "alpha")
    with pytest.raises(Invalid, match="project alpha has no rows"):
        write(database, actor, project, RowIn(id="a"))
    with pytest.raises(Invalid, match="project alpha has no rows"):
        read(database, actor, project)


def test_a_trashed_run_takes_no_rows_and_shows_them_only_when_asked(database: Database, actor: Actor, run: Run) -> None:
    write(database, actor, run, RowIn(id="a"))
    database.write(deletions.trash_item, actor, ItemVerb(id=run.id, on_running="stop"))
    with pytest.raises(Gone):
        write(database, actor, run, RowIn(id="b"))
    with pytest.raises(Gone):
        read(database, actor, run)
    assert list(data_of(read(database, actor, run, include="trashed"))) == ["a"]


def test_an_archived_run_keeps_its_rows_as_they_are(database: Database, actor: Actor) -> None:
    run = make_run(database, actor, state=State.archived)
    with pytest.raises(Illegal, match="unarchive it first"):
        write(database, actor, run, RowIn(id="b"))
    assert read(database, actor, run).items == []
