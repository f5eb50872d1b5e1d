"""Removing rows, metrics, files and console output: hidden at once, restored exactly, purged for good; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    Get,
    ItemVerb,
    ListAudit,
    PurgeDeletion,
    ReadHistory,
    RowIn,
    SetLock,
    UpdateProject,
    WriteRows,
)
from labkeep.core.commands_holds import LiftHold, SetHold
from labkeep.core.entities import Run
from labkeep.core.errors import AlreadyExists, Forbidden, Gone, Held, Illegal, Invalid, NotFound, Stale
from labkeep.core.lifecycle import Status
from labkeep.core.removals import ListRemovals, Part, PlanRemoval, PurgeRemoval, Remove, RestoreRemoval
from labkeep.operations import audits, deletions, file_searches, history, holds, projects, removals, rows
from labkeep.operations.file_searches import DetachFiles, RunFile
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import START, make_actor, make_document, make_project, make_run
from labkeep.worker.tasks import purge_overdue
from tests.unit.operations.removal_lab import Lab, open_lab

ROW, METRIC, FILE, CONSOLE = Part.row, Part.metric, Part.file, Part.console


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with open_lab(tmp_path, url) as opened:
        yield opened


@pytest.fixture
def run(lab: Lab) -> Run:
    return make_run(lab.store.database, lab.actor, status=Status.finished, summary={"loss": 0.5, "nested": {"acc": 1}})


def count(lab: Lab, table: Any) -> int:
    def read(tx: Tx, _actor: Actor, _command: None) -> int:
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())

    return lab.read(read, None)


THREE = {
    "a": {"input": 1, "scores": {"exact": 1.0}, "metadata": {"user_id": "u-1"}},
    "b": {"input": 2, "scores": {"exact": 0.0}, "metadata": {"user_id": "u-2"}},
    "c": {"input": 3, "scores": {"exact": 0.5, "fluent": 1.0}, "metadata": {"user_id": "u-1"}},
}


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_removed_row_is_gone_from_reads_counts_means_and_the_index(lab: Lab, run: Run) -> None:
    xact = lab.rows(run, **THREE)
    removal = lab.remove(run, ROW, ids=["c"], reason="wrong label", ticket="T-1")
    assert lab.shown_rows(run) == {"a": THREE["a"], "b": THREE["b"]}
    assert lab.shown_rows(run, ids=["c"]) == {}
    assert lab.shown_rows(run, as_of=xact) == {"a": THREE["a"], "b": THREE["b"]}
    assert lab.stats(run) == (2, {"exact": 0.5})
    assert lab.found("scores.fluent > 0") == []
    assert removal.sentence.startswith(f"1 row (c) removed by {lab.actor.name} at 2026-03-01T12:00:00+00:00: wrong")
    assert (removal.count, removal.state, removal.restorable_until) == (1, "trashed", START + timedelta(days=30))
    lab.assert_sound()


def test_restoring_a_row_brings_everything_back(lab: Lab, run: Run) -> None:
    xact = lab.rows(run, **THREE)
    lab.rows(run, c=THREE["c"] | {"input": 33})
    before = lab.shown_rows(run), lab.shown_rows(run, as_of=xact), lab.stats(run), lab.found("scores.fluent > 0")
    size = lab.get(run).bytes
    removal = lab.remove(run, ROW, ids=["c", "a"])
    assert lab.restore(removal).state == "restored"
    assert (
        lab.shown_rows(run),
        lab.shown_rows(run, as_of=xact),
        lab.stats(run),
        lab.found("scores.fluent > 0"),
    ) == before
    assert lab.get(run).bytes == size
    assert lab.restore(removal).state == "restored"
    lab.assert_sound()


def test_a_purged_row_has_no_state_left_at_any_version(lab: Lab, run: Run) -> None:
    first = lab.rows(run, **THREE)
    second = lab.rows(run, a={"input": "newer"})
    removal = lab.purge(lab.remove(run, ROW, ids=["a"]))
    assert removal.ref == ""
    for as_of in (None, first, second):
        assert set(lab.shown_rows(run, as_of=as_of)) == {"b", "c"}
    assert count(lab, t.rows) == 2
    assert removal.verification["left"] == 0
    with pytest.raises(Illegal, match="purged"):
        lab.restore(removal)
    lab.assert_sound()


def test_rows_are_chosen_by_values_and_by_a_query(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    lab.remove(run, ROW, where={"metadata.user_id": "u-1"}, q="scores.exact < 1")
    assert set(lab.shown_rows(run)) == {"a", "b"}
    lab.remove(run, ROW, q='metadata.user_id = "u-2" or id = "zz"')
    assert set(lab.shown_rows(run)) == {"a"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ids": ["a"], "q": "id = a"},
        {"q": "config.lr < 1"},
        {"q": "status = finished"},
        {"ref": "a"},
        {"ids": ["a"], "before": START},
    ],
    ids=str,
)
def test_a_choice_of_rows_that_makes_no_sense_is_refused(lab: Lab, run: Run, fields: dict[str, Any]) -> None:
    lab.rows(run, **THREE)
    with pytest.raises(Invalid):
        lab.remove(run, ROW, **fields)


def test_a_row_that_is_not_there_cannot_be_removed(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    for fields in ({"ids": ["a", "z"]}, {"where": {"input": 9}}, {"where": {"input": True}}):
        with pytest.raises(NotFound):
            lab.remove(run, ROW, **fields)
    assert set(lab.shown_rows(run)) == {"a", "b", "c"}


def test_a_row_that_was_written_again_stays_when_the_removed_one_comes_back_or_goes(lab: Lab, run: Run) -> None:
    lab.rows(run, a={"input": "old"})
    restored, purged = lab.remove(run, ROW, ids=["a"]), None
    lab.rows(run, a={"input": "new", "scores": {"exact": 1.0}})
    lab.restore(restored)
    assert lab.shown_rows(run) == {"a": {"input": "new", "scores": {"exact": 1.0}}}
    purged = lab.remove(run, ROW, ids=["a"])
    lab.rows(run, a={"input": "newest"})
    lab.purge(purged)
    assert lab.shown_rows(run) == {"a": {"input": "newest"}}
    assert lab.stats(run) == (1, {})
    assert count(lab, t.rows) == 1
    lab.assert_sound()


def test_removals_of_one_row_come_back_in_any_order(lab: Lab, run: Run) -> None:
    one = lab.rows(run, a={"input": 1})
    first = lab.remove(run, ROW, ids=["a"])
    two = lab.rows(run, a={"input": 2})
    second = lab.remove(run, ROW, ids=["a"])
    lab.restore(first)
    assert lab.shown_rows(run) == {}
    assert lab.shown_rows(run, as_of=one) == {"a": {"input": 1}}
    lab.restore(second)
    assert lab.shown_rows(run) == {"a": {"input": 2}}
    assert lab.shown_rows(run, as_of=one) == {"a": {"input": 1}}
    assert lab.shown_rows(run, as_of=two) == {"a": {"input": 2}}
    lab.assert_sound()


def test_many_rows_go_and_come_back_and_go_for_good(lab: Lab) -> None:
    document = make_document(lab.store.database, lab.actor)
    lab.rows(document, **{f"r{n:04}": {"n": n, "scores": {"s": n}} for n in range(1_300)})
    before = lab.stats(document)
    removal = lab.remove(document, ROW, q="scores.s >= 100")
    assert lab.stats(document)[0] == 100
    lab.restore(removal)
    assert lab.stats(document) == before
    lab.purge(lab.remove(document, ROW, q="scores.s >= 100"))
    assert count(lab, t.rows) == 100
    lab.assert_sound()


def test_deleting_a_row_by_a_write_is_a_removal_that_old_versions_outlive_until_the_purge(lab: Lab, run: Run) -> None:
    xact = lab.rows(run, **THREE)
    lab.write(rows.write, WriteRows(id=run.id, rows=[RowIn(id="a", delete=True), RowIn(id="d", data={"input": 4})]))
    [removal] = lab.read(removals.list_, ListRemovals(id=run.id)).items
    assert (removal.part, removal.ref, removal.count) == (ROW, "a", 1)
    assert set(lab.shown_rows(run)) == {"b", "c", "d"}
    assert set(lab.shown_rows(run, as_of=xact)) == {"a", "b", "c"}
    lab.restore(removal)
    assert set(lab.shown_rows(run)) == {"a", "b", "c", "d"}
    lab.write(rows.write, WriteRows(id=run.id, rows=[RowIn(id="a", delete=True)]))
    lab.purge(lab.read(removals.list_, ListRemovals(id=run.id, state="trashed")).items[0])
    assert set(lab.shown_rows(run, as_of=xact)) == {"b", "c"}
    lab.assert_sound()


# --- metrics ----------------------------------------------------------------------------------------------------------


def logged(lab: Lab, run: Run, count: int = 6) -> None:
    lab.log(run, *({"_step": n, "loss": n / 4, "acc": n, "text": f"t{n}"} for n in range(count)))
    lab.log(run, {"_step": count, "loss": -1.0})


def world(lab: Lab, run: Run) -> Any:
    summary = lab.get(run).summary
    pages = [
        lab.shown(run),
        lab.shown(run, keys=["loss"]),
        lab.shown(run, offset=2, limit=3),
        lab.shown(run, buckets=2),
    ]
    return pages, lab.series(run), summary, lab.found("metrics.loss < 9"), lab.found("summary.loss < 9")


@pytest.mark.parametrize("sealed", [False, True])
def test_a_removed_metric_is_gone_from_history_summary_and_index_and_comes_back(
    lab: Lab, run: Run, sealed: bool
) -> None:
    logged(lab, run)
    if sealed:
        lab.seal(run)
    before = world(lab, run)
    removal = lab.remove(run, METRIC, ref="loss", reason="leaked")
    assert all("loss" not in row for row in lab.shown(run))
    assert lab.shown(run, keys=["loss"]) == []
    assert [row["acc"] for row in lab.shown(run, offset=2, limit=3)] == [2, 3, 4]
    assert set(lab.series(run)) == {"acc", "text"}
    assert lab.get(run).summary == {"nested": {"acc": 1}}
    assert (lab.found("metrics.loss < 9"), lab.found("summary.loss < 9")) == ([], [])
    assert (removal.count, removal.ref, removal.stream) == (7, "loss", "history")
    lab.seal(run)
    lab.restore(removal)
    assert world(lab, run) == before
    lab.work()
    assert world(lab, run) == before
    lab.assert_sound()


@pytest.mark.parametrize("sealed", [False, True])
def test_after_the_purge_of_a_metric_the_world_is_as_if_it_had_never_been_logged(
    lab: Lab, run: Run, sealed: bool
) -> None:
    other = make_run(lab.store.database, lab.actor, status=Status.finished, summary={"nested": {"acc": 1}})
    logged(lab, run)
    lab.log(other, *({"_step": n, "acc": n, "text": f"t{n}"} for n in range(6)))
    lab.log(other, {"_step": 6})
    if sealed:
        lab.seal(run)
        lab.seal(other)
    lab.clock.advance(seconds=1)
    lab.purge(lab.remove(run, METRIC, ref="loss"))
    pages, series, summary, *found = world(lab, run)
    assert (pages, series, summary, *found) == world(lab, other)
    for blob in lab.store.blobs.list():
        assert b"loss" not in lab.store.blobs.read_all(blob.space, blob.digest)
    lab.assert_sound()


def test_points_that_are_logged_after_the_removal_are_seen_and_stay_when_it_is_purged(lab: Lab, run: Run) -> None:
    logged(lab, run)
    lab.seal(run)
    removal = lab.remove(run, METRIC, ref="loss")
    lab.log(run, {"_step": 7, "loss": 7.0}, {"_step": 8, "loss": 8.0})
    assert [row["loss"] for row in lab.shown(run, keys=["loss"])] == [7.0, 8.0]
    assert lab.series(run)["loss"] == (2, 7.0, 8.0, 7.0, 8.0, 8)
    lab.seal(run)
    assert lab.series(run)["loss"] == (2, 7.0, 8.0, 7.0, 8.0, 8)
    lab.restore(removal)
    lab.work()
    assert lab.series(run)["loss"] == (9, 0.0, 8.0, -1.0, 8.0, 8)
    assert len(lab.shown(run, keys=["loss"])) == 9


def test_what_is_sent_late_for_removed_rows_stays_hidden(lab: Lab, run: Run) -> None:
    logged(lab, run)
    lab.remove(run, METRIC, ref="loss")
    lab.log(run, *({"_step": n, "loss": 100.0, "acc": n} for n in range(3)), offset=0)
    assert lab.shown(run, keys=["loss"]) == []
    assert "loss" not in lab.series(run)
    lab.seal(run)
    lab.log(run, {"_step": 0, "loss": 5.0, "acc": -5}, offset=0)
    assert "loss" not in lab.series(run)
    lab.seal(run)
    assert set(lab.series(run)) == {"acc", "text"}
    assert lab.series(run)["acc"][3] == -5
    lab.assert_sound()


def test_two_removals_of_one_metric_are_two_parts(lab: Lab, run: Run) -> None:
    lab.log(run, {"_step": 0, "loss": 1.0}, {"_step": 1, "loss": 2.0})
    first = lab.remove(run, METRIC, ref="loss")
    lab.log(run, {"_step": 2, "loss": 3.0})
    second = lab.remove(run, METRIC, ref="loss")
    lab.restore(first)
    assert [row["loss"] for row in lab.shown(run, keys=["loss"])] == [1.0, 2.0]
    assert lab.series(run)["loss"][:3] == (2, 1.0, 2.0)
    lab.purge(second)
    assert [row["loss"] for row in lab.shown(run, keys=["loss"])] == [1.0, 2.0]
    lab.assert_sound()


def test_a_metric_of_another_stream_and_one_that_is_only_in_the_summary(lab: Lab) -> None:
    run = make_run(lab.store.database, lab.actor, summary={"best": 1, "deep": {"er": 2, "x": 3}})
    lab.log(run, {"_step": 0, "gpu": 1.0}, stream="system")
    system = lab.remove(run, METRIC, ref="gpu", stream="system")
    assert lab.series(run, "system") == {}
    best, deep = lab.remove(run, METRIC, ref="best"), lab.remove(run, METRIC, ref="deep.er")
    assert lab.get(run).summary == {"deep": {"x": 3}}
    for removal in (system, best, deep):
        lab.restore(removal)
    assert lab.get(run).summary == {"best": 1, "deep": {"er": 2, "x": 3}}
    assert lab.series(run, "system")["gpu"][0] == 1


def test_what_a_client_defined_of_a_metric_goes_with_it(lab: Lab) -> None:
    defined = {"wandb": {"_wandb": {"m": [{"1": "step"}, {"1": "loss", "5": 1}, {"2": "train/*"}]}}}
    run = make_run(lab.store.database, lab.actor, extra=defined)
    lab.log(run, {"_step": 0, "loss": 1.0})
    removal = lab.remove(run, METRIC, ref="loss")
    assert lab.get(run).extra["wandb"]["_wandb"]["m"] == [{"1": "step"}, {"1": "", "5": 1}, {"2": "train/*"}]
    lab.restore(removal)
    assert lab.get(run).extra == defined


def test_a_metric_that_is_none_is_refused(lab: Lab, run: Run) -> None:
    logged(lab, run)
    for ref, stream, error in (
        ("_step", "", Invalid),
        ("_timestamp", "history", Invalid),
        ("line", "console", Invalid),
        ("nothing", "", NotFound),
        ("loss", "system", NotFound),
        ("", "", Invalid),
    ):
        with pytest.raises(error):
            lab.remove(run, METRIC, ref=ref, stream=stream)
    document = make_document(lab.store.database, lab.actor)
    with pytest.raises(Invalid, match="only from runs"):
        lab.remove(document, METRIC, ref="loss")


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_goes_comes_back_and_goes_for_good(lab: Lab, run: Run) -> None:
    lab.file(run, "a/secret.txt", b"secret")
    lab.file(run, "b.txt", b"other")
    size = lab.get(run).bytes
    removal = lab.remove(run, FILE, ref="a//secret.txt")
    assert (lab.paths(run), removal.ref, removal.bytes) == (["b.txt"], "a/secret.txt", 6)
    assert lab.get(run).bytes == size
    lab.assert_sound()
    lab.restore(removal)
    assert lab.paths(run) == ["a/secret.txt", "b.txt"]
    lab.assert_sound()
    lab.clock.advance(seconds=1)
    gone = lab.purge(lab.remove(run, FILE, ref="a/secret.txt"))
    assert (gone.verification["blobs_removed"], gone.verification["blobs_shared"]) == (1, 0)
    assert [lab.store.blobs.read_all(one.space, one.digest) for one in lab.store.blobs.list()] == [b"other"]
    assert lab.get(run).bytes == 5
    lab.assert_sound()


def test_bytes_that_another_object_shares_stay_and_the_record_says_so(lab: Lab, run: Run) -> None:
    lab.file(run, "a.txt", b"shared")
    lab.file(make_run(lab.store.database, lab.actor), "b.txt", b"shared")
    lab.clock.advance(seconds=1)
    gone = lab.purge(lab.remove(run, FILE, ref="a.txt"))
    assert (gone.verification["blobs_removed"], gone.verification["blobs_shared"]) == (0, 1)
    lab.assert_sound()


def test_a_file_whose_path_is_taken_comes_back_under_another(lab: Lab, run: Run) -> None:
    lab.file(run, "a.txt", b"old")
    removal = lab.remove(run, FILE, ref="a.txt")
    lab.file(run, "a.txt", b"new")
    with pytest.raises(AlreadyExists) as caught:
        lab.restore(removal)
    lab.restore(removal, path=caught.value.details["suggestion"])
    assert len(lab.paths(run)) == 2
    lab.assert_sound()


def test_taking_files_of_runs_away_is_a_removal(lab: Lab, run: Run) -> None:
    lab.file(run, "a.txt", b"old")
    wanted = DetachFiles(files=[RunFile(run.id, "a.txt"), RunFile(run.id, "a.txt"), RunFile(run.id, "none")])
    assert lab.write(file_searches.detach, wanted) == 1
    [removal] = lab.read(removals.list_, ListRemovals(id=run.id)).items
    lab.restore(removal)
    assert lab.paths(run) == ["a.txt"]
    lab.assert_sound()


# --- console output ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True])
def test_console_lines_go_come_back_and_go_for_good(lab: Lab, run: Run, sealed: bool) -> None:
    lines = [{"_step": n, "line": f"line {n} of it"} for n in range(10)]
    lab.log(run, *lines[:5], stream="console")
    lab.log(run, *lines[5:], stream="console")
    if sealed:
        lab.seal(run, "console")
    removal = lab.remove(run, CONSOLE, upto=7)
    assert lab.shown(run, "console") == lines[7:]
    assert lab.shown(run, "console", limit=2) == lines[7:9]
    found = history.read(lab.store, lab.actor, ReadHistory(id=run.id, stream="console", limit=2))
    assert lab.shown(run, "console", limit=2, offset=found.next_offset) == lines[9:]
    lab.restore(removal)
    assert lab.shown(run, "console") == lines
    lab.clock.advance(seconds=1)
    lab.purge(lab.remove(run, CONSOLE, upto=7))
    assert lab.shown(run, "console") == lines[7:]
    lab.log(run, {"_step": 10, "line": "line 10"}, stream="console", offset=10)
    assert len(lab.shown(run, "console")) == 4
    lab.purge(lab.remove(run, CONSOLE))
    assert lab.shown(run, "console") == []
    for blob in lab.store.blobs.list():
        assert b"of it" not in lab.store.blobs.read_all(blob.space, blob.digest)
    with pytest.raises(NotFound):
        lab.remove(run, CONSOLE)
    lab.assert_sound()


# --- plans, permissions, protection -----------------------------------------------------------------------------------


def test_a_plan_changes_nothing_and_binds_the_removal_by_its_hash(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    plan = lab.read(removals.plan, PlanRemoval(id=run.id, part=ROW, q="scores.exact < 1"))
    assert (plan.count, plan.ids, plan.blockers) == (2, ["b", "c"], [])
    assert set(lab.shown_rows(run)) == {"a", "b", "c"}
    lab.rows(run, d={"scores": {"exact": 0}})
    with pytest.raises(Stale) as caught:
        lab.remove(run, ROW, q="scores.exact < 1", plan_hash=plan.hash)
    removal = lab.remove(run, ROW, q="scores.exact < 1", plan_hash=caught.value.details["plan"]["hash"])
    assert removal.count == 3


def test_viewers_remove_nothing_and_agents_purge_nothing(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    database = lab.store.database
    viewer, editor, agent = (
        make_actor(database, "viewer"),
        make_actor(database, "editor"),
        make_actor(database, "owner", agent=True),
    )
    with pytest.raises(Forbidden):
        lab.remove(run, ROW, actor=viewer, ids=["a"])
    with pytest.raises(Forbidden):
        lab.read(removals.plan, PlanRemoval(id=run.id, part=ROW, ids=["a"]), viewer)
    for actor in (editor, agent):
        removal = lab.remove(run, ROW, actor=actor, ids=["a"])
        with pytest.raises(Forbidden):
            lab.write(removals.purge, PurgeRemoval(id=removal.id), actor)
        with pytest.raises(Forbidden):
            lab.write(removals.restore, RestoreRemoval(id=removal.id), viewer)
        lab.restore(removal)


def test_another_tenant_finds_nothing(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    removal = lab.remove(run, ROW, ids=["a"])
    stranger = make_actor(lab.store.database, organization="elsewhere", workspace="there")
    for operation, command in (
        (removals.remove, Remove(id=run.id, part=ROW, ids=["b"])),
        (removals.restore, RestoreRemoval(id=removal.id)),
        (removals.purge, PurgeRemoval(id=removal.id)),
        (removals.get, Get(id=removal.id)),
        (removals.list_, ListRemovals(id=run.id)),
    ):
        with pytest.raises(NotFound):
            lab.write(operation, command, stranger)
    assert lab.read(removals.list_, ListRemovals(), stranger).items == []


def test_locked_archived_held_and_trashed_objects_keep_their_parts(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    lab.file(run, "a.txt", b"x")
    taken = lab.remove(run, ROW, ids=["c"])
    attempts = [
        lambda: lab.remove(run, ROW, ids=["a"]),
        lambda: lab.remove(run, FILE, ref="a.txt"),
        lambda: lab.write(rows.write, WriteRows(id=run.id, rows=[RowIn(id="a", delete=True)])),
        lambda: lab.write(file_searches.detach, DetachFiles(files=[RunFile(run.id, "a.txt")])),
    ]

    def all_refused(error: type[Exception]) -> None:
        for attempt in attempts:
            with pytest.raises(error):
                attempt()

    lab.write(deletions.set_lock, SetLock(id=run.id, locked=True))
    all_refused(Held)
    assert "locked" in lab.read(removals.plan, PlanRemoval(id=run.id, part=ROW, ids=["a"])).blockers[0]
    with pytest.raises(Held):
        lab.write(removals.purge, PurgeRemoval(id=taken.id))
    lab.write(deletions.set_lock, SetLock(id=run.id, locked=False))

    hold = lab.write(holds.set_, SetHold(matter="M-1", ids=[run.id]))
    all_refused(Held)
    with pytest.raises(Held):
        lab.write(removals.purge, PurgeRemoval(id=taken.id))
    lab.write(holds.lift, LiftHold(id=hold.id, reason="over"))

    lab.write(deletions.archive_item, ItemVerb(id=run.id))
    all_refused(Illegal)
    with pytest.raises(Illegal):
        lab.restore(taken)
    lab.write(deletions.unarchive_item, ItemVerb(id=run.id))

    outcome = lab.write(deletions.trash_item, ItemVerb(id=run.id))
    all_refused(Gone)
    with pytest.raises(Gone):
        lab.restore(taken)
    lab.clock.advance(seconds=1)
    lab.write(deletions.purge, PurgeDeletion(id=outcome.deletion_id))
    lab.work()
    assert count(lab, t.removals) == 0
    lab.assert_sound()


def test_rules_ask_for_reasons_and_keep_for_a_minimum(lab: Lab) -> None:
    project = make_project(lab.store.database, lab.actor)
    run = make_run(lab.store.database, lab.actor, project)
    lab.rows(run, **THREE)
    wanted = {"require_reason": True, "require_ticket": True, "grace_days": 3, "minimum_keep_days": 10}
    lab.write(projects.update, UpdateProject(id=project.id, settings=wanted))
    for fields in ({}, {"reason": "wrong"}, {"ticket": "T-1"}, {"reason": " ", "ticket": "T-1"}):
        with pytest.raises(Invalid):
            lab.remove(run, ROW, ids=["a"], **fields)
    removal = lab.remove(run, ROW, ids=["a"], reason="wrong", ticket="T-1")
    assert removal.restorable_until == START + timedelta(days=3)
    with pytest.raises(Held, match="must be kept until"):
        lab.write(removals.purge, PurgeRemoval(id=removal.id, reason="wrong", ticket="T-1"))
    lab.clock.advance(days=4)
    purge_overdue(lab.store)
    lab.work()
    assert lab.read(removals.get, Get(id=removal.id)).state == "trashed"
    lab.clock.advance(days=7)
    purge_overdue(lab.store)
    lab.work()
    assert lab.read(removals.get, Get(id=removal.id)).state == "purged"


def test_the_clock_purges_what_nothing_protects(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    first = lab.remove(run, ROW, ids=["a"])
    held = make_run(lab.store.database, lab.actor)
    lab.rows(held, **THREE)
    second = lab.remove(held, ROW, ids=["a"])
    lab.write(holds.set_, SetHold(matter="M-1", ids=[held.id]))
    lab.clock.advance(days=31)
    purge_overdue(lab.store)
    lab.work()
    assert [lab.read(removals.get, Get(id=one.id)).state for one in (first, second)] == ["purged", "trashed"]
    assert lab.read(removals.get, Get(id=first.id)).purged_by == "grace period"


def test_lists_are_by_object_project_part_and_state(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    lab.file(run, "a.txt", b"x")
    row, file = lab.remove(run, ROW, ids=["a"]), lab.remove(run, FILE, ref="a.txt")
    other = make_run(lab.store.database, lab.actor)
    lab.rows(other, **THREE)
    third = lab.restore(lab.remove(other, ROW, ids=["a"]))

    def listed(**fields: Any) -> list[str]:
        return [one.id for one in lab.read(removals.list_, ListRemovals(**fields)).items]

    assert listed() == [third.id, file.id, row.id]
    assert listed(id=run.id) == [file.id, row.id]
    assert listed(project=run.project_id) == [file.id, row.id]
    assert listed(part=ROW) == [third.id, row.id]
    assert listed(state="restored") == [third.id]
    page = lab.read(removals.list_, ListRemovals(limit=1))
    assert listed(cursor=page.next) == [file.id, row.id]


def test_the_audit_names_counts_and_reasons_but_no_content(lab: Lab, run: Run) -> None:
    logged(lab, run)
    removal = lab.remove(run, METRIC, ref="loss", reason="leaked", ticket="T-1")
    lab.purge(removal)
    events = [event for event in lab.read(audits.list_, ListAudit(id=run.id)).items if "metric" in event.event]
    assert [event.event for event in events] == [
        "run.metric_purged",
        "run.metric_purge_requested",
        "run.metric_removed",
    ]
    assert all(event.count == 7 and event.details["removal_id"] == removal.id for event in events)
    assert all("loss" not in repr(event.details) for event in events)


def test_asking_twice_for_a_purge_is_one_purge(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    removal = lab.remove(run, ROW, ids=["a"])
    first, second = (lab.write(removals.purge, PurgeRemoval(id=removal.id)).job_id for _ in range(2))
    assert first == second
    with pytest.raises(Illegal, match="purging"):
        lab.restore(removal)
    lab.work()
    assert lab.write(removals.purge, PurgeRemoval(id=removal.id)).job_id is None
    kept = lab.remove(run, ROW, ids=["b"])
    lab.restore(kept)
    with pytest.raises(Illegal, match="restored"):
        lab.write(removals.purge, PurgeRemoval(id=kept.id))


def test_rows_of_a_run_that_is_in_the_trash_can_still_be_purged(lab: Lab, run: Run) -> None:
    lab.rows(run, **THREE)
    removal = lab.remove(run, ROW, ids=["a"])
    outcome = lab.write(deletions.trash_item, ItemVerb(id=run.id))
    lab.purge(removal)
    lab.write(deletions.restore_item, ItemVerb(id=run.id))
    assert set(lab.shown_rows(run)) == {"b", "c"}
    assert outcome.deletion_id
