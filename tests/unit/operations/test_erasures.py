"""Erasing one person: everything that speaks of them is found, redacted or deleted, checked and proven; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import (
    CommitVersion,
    CreateDocument,
    CreateRun,
    Get,
    GetVersion,
    ItemVerb,
    RowIn,
    SetLock,
    UpdateProject,
    UpdateRun,
    WriteRows,
)
from labkeep.core.commands_holds import LiftHold, SetHold
from labkeep.core.entities import Run
from labkeep.core.erasures import (
    MARK,
    CancelErasure,
    CreateErasure,
    Erasure,
    ListErasures,
    Matcher,
    PreviewErasure,
    RunErasure,
)
from labkeep.core.errors import Forbidden, Illegal, Invalid, NotFound
from labkeep.core.lifecycle import Status
from labkeep.core.removals import Part
from labkeep.operations import deletions, documents, erasure_progress, erasures, holds, projects, receipts, rows, runs
from labkeep.operations.documents import digest_of
from labkeep.operations.erasure_objects import Job, process
from labkeep.operations.erasure_progress import Noted
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import START, make_actor, make_project, make_run
from tests.unit.operations.removal_lab import Lab, open_lab

ADA = "ada.lovelace@example.com"


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with open_lab(tmp_path, url) as opened:
        yield opened


def ask(lab: Lab, subject: str = ADA, **fields: Any) -> Erasure:
    found = lab.write(erasures.create, CreateErasure(subject=subject, **fields))
    assert isinstance(found, Erasure)
    return found


def seen(lab: Lab, erasure: Erasure) -> Erasure:
    found = lab.read(erasures.get, Get(id=erasure.id))
    assert isinstance(found, Erasure)
    return found


def previewed(lab: Lab, erasure: Erasure) -> dict[str, Any]:
    lab.write(erasures.preview, PreviewErasure(id=erasure.id))
    lab.work()
    found: dict[str, Any] = seen(lab, erasure).report["preview"]
    return found


def done(lab: Lab, erasure: Erasure) -> Erasure:
    lab.clock.advance(seconds=1)
    lab.write(erasures.run, RunErasure(id=erasure.id))
    lab.work()
    return seen(lab, erasure)


def everything(lab: Lab) -> str:
    """Every cell of every table, and every blob, as one text."""

    def read(tx: Tx, _actor: Actor, _command: None) -> str:
        return "\n".join(repr(tuple(row)) for table in t.metadata.sorted_tables for row in tx.execute(select(table)))

    blobs = [repr(lab.store.blobs.read_all(one.space, one.digest)) for one in lab.store.blobs.list()]
    return lab.read(read, None) + "\n".join(blobs)


def populated(lab: Lab) -> Run:
    """A run whose every part speaks of the person, beside things that do not."""
    project = make_project(lab.store.database, lab.actor)
    run = lab.write(
        runs.create,
        CreateRun(
            project=project.id,
            name=f"trial of {ADA}",
            handle=ADA,
            config={"user": ADA, "deep": [{"who": f"<{ADA}>", ADA: 1}], "lr": 0.1},
            summary={"best": ADA, "loss": 0.5},
            notes=f"asked by {ADA}, not by x{ADA}",
            tags=(ADA, "other"),
            metadata={"who": ADA},
            status=Status.finished,
        ),
    )
    assert isinstance(run, Run)
    lab.rows(run, a={"input": ADA, "scores": {"exact": 1.0}}, b={"input": "other", "scores": {"exact": 0.0}})
    lab.rows(run, a={"input": "newer", "metadata": {"user": ADA}, "scores": {"exact": 0.5}})
    lab.rows(run, c={"input": ADA})
    lab.remove(run, Part.row, ids=["c"])
    lab.log(run, {"_step": 0, "said": f"hello {ADA}", "loss": 1.0}, {"_step": 1, "loss": 0.5})
    lab.seal(run)
    lab.log(run, {"_step": 2, "said": ADA})
    lab.log(run, {"_step": 0, "line": f"user={ADA};"}, {"_step": 1, "line": "other"}, stream="console")
    lab.file(run, "notes.txt", f"line one\n{ADA} wrote this".encode())
    lab.file(run, f"{ADA}.csv", b"a,b")
    lab.file(run, "image.png", b"\x89PNG")
    return run


def test_everything_that_speaks_of_a_person_is_redacted_and_the_rest_stays(lab: Lab) -> None:
    run = populated(lab)
    erasure = ask(lab, ticket="DSR-1")
    preview = previewed(lab, erasure)
    assert preview["objects"] == 1
    assert ADA not in repr(preview)
    assert preview["found"]["rows"] == 2
    assert ADA in everything(lab)
    after = done(lab, erasure)
    assert (after.state, after.subject, after.report["done"]["objects"]) == ("done", "", 1)
    assert after.receipt_id is not None
    left = everything(lab)
    speaking = [line for line in left.split("\n") if ADA in line.replace(f"x{ADA}", "")]
    assert speaking == []  # a longer word is somebody else
    assert left.count(ADA) == left.count(f"x{ADA}")
    found = lab.get(run)
    assert found.config == {"user": MARK, "deep": [{"who": f"<{MARK}>", MARK: 1}], "lr": 0.1}
    assert (found.summary, found.tags, found.name) == ({"best": MARK, "loss": 0.5}, (MARK, "other"), f"trial of {MARK}")
    assert lab.shown_rows(run) == {
        "a": {"input": "newer", "metadata": {"user": MARK}, "scores": {"exact": 0.5}},
        "b": {"input": "other", "scores": {"exact": 0.0}},
    }
    assert lab.stats(run) == (2, {"exact": 0.25})
    assert [row.get("said") for row in lab.shown(run)] == [f"hello {MARK}", None, MARK]
    assert [row["line"] for row in lab.shown(run, "console")] == [f"user={MARK};", "other"]
    assert lab.series(run)["loss"][:3] == (2, 1.0, 0.5)
    assert lab.paths(run) == [f"{MARK}.csv", "image.png", "notes.txt"]
    lab.assert_sound()


def test_deleting_takes_the_rows_and_the_files_away(lab: Lab) -> None:
    run = populated(lab)
    after = done(lab, ask(lab, action="delete"))
    assert after.state == "done"
    assert set(lab.shown_rows(run)) == {"b"}
    assert lab.stats(run) == (1, {"exact": 0.0})
    assert lab.paths(run) == ["image.png"]
    lab.assert_sound()


def test_versions_of_documents_are_rewritten_with_their_digests(lab: Lab) -> None:
    project = make_project(lab.store.database, lab.actor)
    made = lab.write(
        documents.create, CreateDocument(project=project.id, type="prompt", name="p", body={"text": f"Dear {ADA}"})
    )
    lab.write(documents.commit, CommitVersion(id=made.id, body={"text": "plain"}, message=f"for {ADA}"))
    after = done(lab, ask(lab))
    assert after.report["done"]["found"]["versions"] == 2
    first, second = (lab.read(documents.get_version, GetVersion(id=made.id, number=n)) for n in (1, 2))
    assert (first.body, first.digest) == ({"text": f"Dear {MARK}"}, digest_of({"text": f"Dear {MARK}"}))
    assert (second.body, second.message) == ({"text": "plain"}, f"for {MARK}")
    assert ADA not in everything(lab)


def declare(lab: Lab, project_id: str) -> None:
    lab.write(projects.update, UpdateProject(id=project_id, settings={"subject_fields": ["metadata.user_id"]}))


def test_rows_are_found_by_a_declared_field_also_those_from_before_it_was_declared(lab: Lab) -> None:
    project = make_project(lab.store.database, lab.actor)
    run, other = (make_run(lab.store.database, lab.actor, project) for _ in range(2))
    lab.rows(run, a={"metadata": {"user_id": "u-17"}}, b={"metadata": {"user_id": "u-18"}, "input": "u-17"})
    with pytest.raises(Invalid, match="not declared"):
        ask(lab, "u-17", field="metadata.user_id")
    declare(lab, project.id)
    lab.work()
    lab.rows(other, c={"metadata": {"user_id": "u-17"}, "input": "u-17 said"})
    lab.rows(other, c={"metadata": {"user_id": "u-20"}})
    erasure = ask(lab, "u-17", field="metadata.user_id")
    assert previewed(lab, erasure)["found"] == {"rows": 2}
    assert done(lab, erasure).state == "done"
    assert lab.shown_rows(run) == {
        "a": {"metadata": {"user_id": MARK}},
        "b": {"metadata": {"user_id": "u-18"}, "input": "u-17"},
    }
    assert lab.shown_rows(other) == {"c": {"metadata": {"user_id": "u-20"}}}
    assert everything(lab).count("u-17") == everything(lab).count("'u-17'") + everything(lab).count('"u-17"')


def test_holds_locks_and_the_minimum_keep_win_and_the_request_can_be_run_again(lab: Lab) -> None:
    project = make_project(lab.store.database, lab.actor)
    held, locked, young, free = (
        make_run(lab.store.database, lab.actor, project if n == 2 else None, notes=f"{ADA} {n}") for n in range(4)
    )
    hold = lab.write(holds.set_, SetHold(matter="M-1", ids=[held.id]))
    lab.write(deletions.set_lock, SetLock(id=locked.id, locked=True))
    lab.write(projects.update, UpdateProject(id=project.id, settings={"minimum_keep_days": 10}))
    erasure = ask(lab)
    after = done(lab, erasure)
    assert (after.state, after.receipt_id, after.subject) == ("partly_held", None, ADA)
    report = after.report["done"]
    assert [entry["id"] for entry in report["held"]] == [held.id]
    assert {entry["id"] for entry in report["blocked"]} == {locked.id, young.id}
    assert lab.get(free).notes == f"{MARK} 3"
    assert lab.get(held).notes == f"{ADA} 0"
    lab.write(holds.lift, LiftHold(id=hold.id, reason="over"))
    lab.write(deletions.set_lock, SetLock(id=locked.id, locked=False))
    lab.clock.advance(days=11)
    after = done(lab, erasure)
    assert (after.state, after.subject) == ("done", "")
    assert ADA not in everything(lab)


def test_objects_of_the_kinds_that_are_to_go_as_a_whole_are_purged_with_receipts(lab: Lab) -> None:
    named, trashed, other = (make_run(lab.store.database, lab.actor, name=name) for name in (ADA, f"of {ADA}", "other"))
    lab.write(deletions.trash_item, ItemVerb(id=trashed.id, on_running="stop"))
    lab.write(runs.update, UpdateRun(id=named.id, status=Status.finished))
    request = ask(lab, whole=["run"])
    assert previewed(lab, request)["objects"] == 2
    lab.write(erasures.run, RunErasure(id=request.id))
    lab.work()
    assert seen(lab, request).state == "running"
    lab.clock.advance(seconds=2)
    lab.work()
    request = seen(lab, request)
    assert request.state == "done"
    went = {entry["id"]: entry["deletion_id"] for entry in request.report["done"]["whole"]}
    assert went.keys() == {named.id, trashed.id}
    proof = lab.read(receipts.get, Get(id=str(request.receipt_id))).body
    assert proof["deletions"] == list(went.values())
    for id, deletion in went.items():
        what = lab.read(receipts.of_deletion, Get(id=deletion)).body
        assert (what["what"]["item_ids"], what["why"]["purge_reason"]) == ([id], f"erasure request {request.id}")
    assert ADA not in everything(lab)
    assert lab.read(runs.get, Get(id=other.id)).name == "other"


def test_what_cannot_go_as_a_whole_is_told_without_its_name(lab: Lab) -> None:
    base = make_run(lab.store.database, lab.actor, name=ADA, status=Status.finished)
    running = make_run(lab.store.database, lab.actor, name=f"running {ADA}")
    request = done(lab, ask(lab, whole=["run"]))
    lab.clock.advance(seconds=2)
    lab.work()
    request = seen(lab, request)
    assert request.state == "partly_held"
    (entry,) = request.report["done"]["blocked"]
    assert entry["id"] == running.id
    assert ADA not in entry["why"]
    assert "illegal" in entry["why"]
    assert [one["id"] for one in request.report["done"]["whole"]] == [base.id]


def test_a_hold_that_comes_while_an_object_is_purged_keeps_it_and_the_request_open(lab: Lab) -> None:
    run = make_run(lab.store.database, lab.actor, name=ADA, status=Status.finished)
    request = ask(lab, whole=["run"])
    lab.write(erasures.run, RunErasure(id=request.id))
    job = Job(seen(lab, request), run.id, looking=False)
    result = process(lab.store, lab.actor, job)
    assert result.whole
    lab.write(erasure_progress.remove, Noted(request.id, "done", run.id, {run.id: result}))
    hold = lab.write(holds.set_, SetHold(matter="M-1", ids=[run.id]))
    for _ in range(2):
        lab.work()
        lab.clock.advance(seconds=2)
    request = seen(lab, request)
    assert (request.state, [entry["id"] for entry in request.report["done"]["held"]]) == ("partly_held", [run.id])
    lab.write(holds.lift, LiftHold(id=hold.id, reason="over"))
    done(lab, request)
    lab.clock.advance(seconds=2)
    lab.work()
    assert seen(lab, request).state == "done"
    assert ADA not in everything(lab)


def test_only_kinds_that_can_go_as_a_whole_are_taken(lab: Lab) -> None:
    with pytest.raises(Invalid, match="not project"):
        ask(lab, whole=["project"])


def test_what_is_archived_or_in_the_trash_is_erased_too(lab: Lab) -> None:
    archived, trashed = (make_run(lab.store.database, lab.actor, notes=ADA, status=Status.finished) for _ in range(2))
    lab.rows(trashed, a={"input": ADA})
    lab.write(deletions.archive_item, ItemVerb(id=archived.id))
    outcome = lab.write(deletions.trash_item, ItemVerb(id=trashed.id))
    assert done(lab, ask(lab)).state == "done"
    assert ADA not in everything(lab)
    lab.write(deletions.restore_item, ItemVerb(id=trashed.id))
    assert lab.shown_rows(trashed) == {"a": {"input": MARK}}
    assert outcome.deletion_id


def test_ids_of_rows_that_name_the_person_become_others(lab: Lab) -> None:
    run = make_run(lab.store.database, lab.actor)
    lab.write(
        rows.write, WriteRows(id=run.id, rows=[RowIn(id=ADA, data={"input": 1}), RowIn(id="z", root_id=ADA, data={})])
    )
    assert done(lab, ask(lab)).state == "done"
    assert ADA not in everything(lab)
    assert len(lab.shown_rows(run)) == 2


def test_permissions_and_states_of_requests(lab: Lab) -> None:
    database = lab.store.database
    editor, maintainer, agent = (
        make_actor(database, "editor"),
        make_actor(database, "maintainer"),
        make_actor(database, agent=True),
    )
    with pytest.raises(Forbidden):
        lab.write(erasures.create, CreateErasure(subject=ADA), editor)
    with pytest.raises(Forbidden):
        lab.write(erasures.create, CreateErasure(subject=ADA), agent)
    erasure = lab.write(erasures.create, CreateErasure(subject=ADA), maintainer)
    with pytest.raises(Forbidden):
        lab.write(erasures.run, RunErasure(id=erasure.id), maintainer)
    stranger = make_actor(database, organization="elsewhere", workspace="there")
    with pytest.raises(NotFound):
        lab.read(erasures.get, Get(id=erasure.id), stranger)
    assert erasure.due_at == START + timedelta(days=30)
    cancelled = lab.write(erasures.cancel, CancelErasure(id=erasure.id))
    assert (cancelled.state, cancelled.subject) == ("cancelled", "")
    with pytest.raises(Illegal):
        lab.write(erasures.run, RunErasure(id=erasure.id))
    for fields in ({"action": "burn"}, {"text_files": "burn"}, {"subject": "   "}):
        with pytest.raises(Invalid):
            ask(lab, **fields)


def test_overdue_requests_come_first_and_are_counted(lab: Lab) -> None:
    first = ask(lab, due_at=START + timedelta(days=1))
    second, third = ask(lab), ask(lab)
    assert lab.read(erasures.count_overdue, None) == 0
    lab.clock.advance(days=2)
    page = lab.read(erasures.list_, ListErasures(limit=2))
    assert [one.id for one in page.items] == [first.id, third.id]
    assert [one.id for one in lab.read(erasures.list_, ListErasures(limit=2, cursor=page.next)).items] == [second.id]
    assert lab.read(erasures.count_overdue, None) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [(ADA, 1), (f"({ADA})", 1), (f"x{ADA}", 0), (f"{ADA}x", 0), (f"{ADA} {ADA}", 2), (f"{ADA.upper()}", 0), ("", 0)],
)
def test_a_person_is_found_between_word_boundaries(text: str, count: int) -> None:
    assert Matcher(ADA).count(text) == count
    assert Matcher(ADA).count({"a": [text, {"b": text}]}) == 2 * count
    assert Matcher(ADA).redact(text).count(MARK) == count


@pytest.mark.parametrize("subject", ["a.b", "(x)", "*+?", "@ada", "Grüße", "名前さん", "12345", "a\nb", "\\d+"])
def test_any_text_can_be_who_is_looked_for(subject: str) -> None:
    matcher = Matcher(subject)
    assert matcher.redact({"k": f"- {subject} -", subject: [subject]}) == {"k": f"- {MARK} -", MARK: [MARK]}
    assert matcher.count(12345) == (subject == "12345")
    assert matcher.redact("nothing of it") == "nothing of it"
