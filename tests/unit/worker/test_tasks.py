"""What jobs and the clock do to a store: purging, sealing, and removing what nobody needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.columns import encode_rows
from labkeep.core.commands import AppendHistory, Apply, AttachFile, CreateLink, Get, PurgeDeletion, Selection
from labkeep.core.entities import Deletion, Job, Run
from labkeep.core.errors import Conflict, Corrupt, Unavailable
from labkeep.core.lifecycle import OnDelete, Status
from labkeep.operations import Store, accounts, deletions, environments, files, history, jobs, purges, runs
from labkeep.operations.purge_statement import Verified
from labkeep.server import make_worker
from labkeep.settings import Settings
from labkeep.storage import jobs as job_rows
from labkeep.storage import tables as t
from labkeep.storage.blobs import Upload
from labkeep.storage.blobs_local import LocalBlobs
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_document, make_project, make_run, make_sqlite
from labkeep.worker import tasks


class Lab:
    """A store in a folder, its owner and its worker."""

    def __init__(self, folder: Path, clock: FixedClock, **settings: Any) -> None:
        self.clock = clock
        self.blobs = LocalBlobs(folder / "blobs")
        self.store = Store(make_sqlite(folder, clock), self.blobs, Settings(data=str(folder), **settings))
        self.store.database.seal_min_rows = 1
        self.actor: Actor = make_actor(self.store.database)
        self.worker = make_worker(self.store)

    def write(self, operation: Callable[..., Any], command: Any) -> Any:
        return self.store.database.write(operation, self.actor, command)

    def rows(self, table: Any) -> list[Any]:
        def read(tx: Tx, _actor: Actor, _command: None) -> list[Any]:
            return list(tx.all(select(table)))

        return self.store.database.read(read, self.actor, None)

    def upload(self, data: bytes, *, keep: bool = True) -> str:
        stored = self.blobs.put(self.actor.organization_id, data)
        if keep:
            files.keep(self.store, self.actor, stored)
        return stored.digest

    def attach(self, owner_id: str, data: bytes, path: str = "file.bin") -> str:
        digest = self.upload(data)
        self.write(files.attach, AttachFile(id=owner_id, path=path, digest=digest, size=len(data)))
        return digest

    def on_disk(self) -> set[str]:
        return {one.digest for one in self.blobs.list()}

    def trash(self, *ids: str, **options: Any) -> str:
        return str(self.write(deletions.apply, Apply(selection=Selection(ids=list(ids)), **options)).deletion_id)

    def purge(self, deletion_id: str) -> Deletion:
        self.write(deletions.purge, PurgeDeletion(id=deletion_id))
        self.worker.run_all()
        return self.store.database.read(deletions.get, self.actor, Get(id=deletion_id))

    def close(self) -> None:
        self.store.database.close()
        self.blobs.close()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def lab(data_dir: Path, clock: FixedClock) -> Iterator[Lab]:
    opened = Lab(data_dir, clock)
    yield opened
    opened.close()


def finished_run(lab: Lab, **fields: Any) -> Run:
    return make_run(lab.store.database, lab.actor, status=Status.finished, **fields)


# --- purge ------------------------------------------------------------------------------------------------------------


def test_a_purge_removes_bytes_that_nothing_else_needs_and_keeps_shared_ones(lab: Lab) -> None:
    going, staying = finished_run(lab), finished_run(lab)
    alone = lab.attach(going.id, b"only here")
    shared = lab.attach(going.id, b"in both", "b")
    lab.attach(staying.id, b"in both")
    lab.clock.advance(seconds=1)
    deletion = lab.purge(lab.trash(going.id))
    assert deletion.state == "purged"
    assert lab.on_disk() == {shared}
    assert alone not in {row["digest"] for row in lab.rows(t.blobs)}
    assert [row["refs"] for row in lab.rows(t.blobs)] == [1]
    assert deletion.verification["blobs_removed"] == 1


def test_an_upload_that_is_going_on_is_not_swept_by_a_purge(lab: Lab) -> None:
    run = finished_run(lab)
    deletion_id = lab.trash(run.id)
    waiting = lab.upload(b"to be attached in a moment")
    lab.purge(deletion_id)
    assert lab.on_disk() == {waiting}


def test_a_purge_that_finds_something_left_fails_and_says_what(lab: Lab) -> None:
    deletion_id = lab.trash(finished_run(lab).id)
    lab.write(deletions.purge, PurgeDeletion(id=deletion_id))
    lab.write(purges.commit, purges.Committed(deletion_id, "a digest"))
    while lab.write(purges.remove_some, purges.Step(deletion_id)):
        pass
    wrong = Verified(
        deletion_id=deletion_id, items=1, counts={"run": 1}, item_ids=[], items_digest="", blobs_left=1, method={}
    )
    with pytest.raises(Corrupt, match="1 blobs"):
        lab.write(purges.verify, wrong)
    assert lab.store.database.read(deletions.get, lab.actor, Get(id=deletion_id)).state == "purging"
    lab.worker.run_all()
    assert lab.store.database.read(deletions.get, lab.actor, Get(id=deletion_id)).state == "purged"


def test_after_a_purge_a_repeated_request_is_neither_quoted_nor_done_again(lab: Lab) -> None:
    from labkeep.core.commands import CreateRun

    command = CreateRun(project="p", name="told once")
    create = accounts.once(runs.create, "key-1", "fingerprint")
    lab.write(create, command)
    lab.purge(lab.trash(finished_run(lab).id))
    with pytest.raises(Conflict, match="was done before"):
        lab.write(create, command)
    assert [row["response"] for row in lab.rows(t.idempotency_keys)] == [b""]
    assert sum(row["name"] == "told once" for row in lab.rows(t.items)) == 1


def test_a_purge_forgets_the_bindings_of_what_is_gone(lab: Lab) -> None:
    project = make_project(lab.store.database, lab.actor)
    target = make_document(lab.store.database, lab.actor, project)
    link = CreateLink(source_id=finished_run(lab).id, target_id=target.id, type="secret", on_delete=OnDelete.restrict)
    lab.write(environments.link, link)
    deletion_id = lab.trash(target.id, force=True)
    assert len(lab.rows(t.deletion_bindings)) == 1
    lab.purge(deletion_id)
    assert lab.rows(t.deletion_bindings) == []


def test_what_is_in_the_trash_for_too_long_is_purged_unless_the_setting_says_no(data_dir: Path) -> None:
    for auto in (False, True):
        lab = Lab(data_dir / str(auto), FixedClock(), auto_purge=auto)
        deletion_id = lab.trash(finished_run(lab).id)
        tasks.purge_overdue(lab.store)
        assert lab.worker.run_all() == 0, "not before its time"
        lab.clock.advance(days=31)
        tasks.purge_overdue(lab.store)
        assert lab.worker.run_all() == auto
        found = lab.store.database.read(deletions.get, lab.actor, Get(id=deletion_id))
        assert (found.state, found.purged_by) == (("purged", "grace period") if auto else ("trashed", ""))
        lab.close()


# --- seal -------------------------------------------------------------------------------------------------------------


def logged(lab: Lab, rows: int = 10) -> str:
    run = make_run(lab.store.database, lab.actor)
    points = [(step, None, {"loss": step / 2}) for step in range(rows)]
    lab.write(history.append, AppendHistory(id=run.id, offset=0, batch=encode_rows(points)))
    lab.write(runs.finish, runs.FinishRun(id=run.id))
    return run.id


def test_a_finished_run_is_sealed_by_a_job(lab: Lab) -> None:
    run_id = logged(lab)
    assert lab.worker.run_all() == 1
    assert [(row["run_id"], row["rows"]) for row in lab.rows(t.segments)] == [(run_id, 10)]
    assert lab.rows(t.chunks) == []


class Interrupted(LocalBlobs):
    """Does something just when a segment is uploaded."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.then: Callable[[], Any] = lambda: None

    def begin(self, space: str) -> Upload:
        then, self.then = self.then, lambda: None
        then()
        return super().begin(space)


def test_a_segment_that_is_written_while_its_run_is_purged_does_not_stay(lab: Lab, data_dir: Path) -> None:
    run_id = logged(lab)
    blobs = Interrupted(data_dir / "blobs")
    lab.store = lab.store._replace(blobs=blobs)
    lab.worker = make_worker(lab.store)

    def purge() -> None:
        deletion_id = lab.trash(run_id)
        lab.write(deletions.purge, PurgeDeletion(id=deletion_id))
        other = make_worker(lab.store)
        assert other.run_one() is True

    blobs.then = purge
    lab.worker.run_all()
    assert lab.on_disk() == set()
    assert lab.rows(t.blobs) == []
    assert {row["state"] for row in lab.rows(t.jobs)} == {"done"}
    blobs.close()


# --- what nobody needs ------------------------------------------------------------------------------------------------


def test_an_upload_that_nothing_refers_to_goes_after_a_day(lab: Lab) -> None:
    idle = lab.upload(b"idle")
    kept = lab.attach(finished_run(lab).id, b"kept")
    lab.clock.advance(hours=23)
    tasks.tidy(lab.store)
    assert lab.on_disk() == {idle, kept}
    lab.clock.advance(hours=2)
    tasks.tidy(lab.store)
    assert lab.on_disk() == {kept}
    assert [row["digest"] for row in lab.rows(t.blobs)] == [kept]


def test_a_sweep_that_was_interrupted_goes_on(lab: Lab) -> None:
    lab.upload(b"idle")
    lab.clock.advance(hours=25)
    sweep = purges.Sweep(lab.clock.now - timedelta(hours=24))
    assert lab.write(purges.begin_sweep, sweep)  # … and here the process ended
    with pytest.raises(Unavailable, match="being removed"):
        lab.upload(b"idle")
    tasks.tidy(lab.store)
    assert (lab.on_disk(), lab.rows(t.blobs)) == (set(), [])


def old_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - 60, time.time() - 60))


def test_what_a_process_left_behind_is_gone_once_the_folder_is_opened_again(data_dir: Path, clock: FixedClock) -> None:
    first = Lab(data_dir, clock)
    kept = first.attach(finished_run(first).id, b"kept")
    idle = first.upload(b"registered, and not referred to yet")
    stray = first.upload(b"renamed, and not registered", keep=False)
    first.close()
    old_file(data_dir / "blobs" / "_tmp" / "half", b"half of an upload")
    again = Lab(data_dir, clock)
    tasks.tidy(again.store)
    tasks.drop_strays(again.store)
    assert again.on_disk() == {kept, idle}
    assert stray not in {row["digest"] for row in again.rows(t.blobs)}
    assert list((data_dir / "blobs" / "_tmp").iterdir()) == []
    again.close()


def test_what_is_being_uploaded_now_is_no_stray(lab: Lab) -> None:
    with lab.blobs.begin(lab.actor.organization_id) as upload:
        upload.write(b"half")
        other = lab.upload(b"renamed a moment ago", keep=False)
        tasks.tidy(lab.store)
        tasks.drop_strays(lab.store)
        done = upload.finish().digest
    assert lab.on_disk() == {other, done}


def test_where_several_processes_upload_only_what_is_a_day_old_is_a_stray(data_dir: Path, clock: FixedClock) -> None:
    lab = Lab(data_dir, clock, blobs_url=str(data_dir / "blobs"))
    digest = lab.upload(b"somebody's", keep=False)
    path = lab.blobs.path(lab.actor.organization_id, digest)
    assert path is not None
    for hours, there in ((23, {digest}), (25, set())):
        os.utime(path, (time.time() - hours * 3600,) * 2)
        tasks.drop_strays(lab.store)
        assert lab.on_disk() == there
    lab.close()


def test_a_stray_that_is_uploaded_again_meanwhile_is_refused_for_a_moment(lab: Lab) -> None:
    digest = lab.upload(b"stray", keep=False)
    assert lab.write(purges.adopt, purges.Strays({digest: 5})) == [digest]
    with pytest.raises(Unavailable, match="being removed"):
        lab.upload(b"stray")
    assert lab.write(purges.adopt, purges.Strays({digest: 5})) == [], "it is recorded by now"
    tasks.tidy(lab.store)
    assert lab.upload(b"stray") == digest


def test_old_plans_answers_and_jobs_are_dropped(lab: Lab) -> None:
    def enqueue(tx: Tx, actor: Actor, _command: None) -> str:
        return job_rows.enqueue(tx, actor, "seal", {"run_id": actor.workspace_id, "stream": "history"})

    run = finished_run(lab)
    lab.write(deletions.make_plan, deletions.MakePlan(selection=Selection(ids=[run.id])))
    lab.write(accounts.once(runs.create, "k", "f"), runs.CreateRun(project="p"))
    lab.write(enqueue, None)
    lab.worker.run_all()
    lab.write(enqueue, None)
    lab.clock.advance(days=6)
    tasks.tidy(lab.store)
    counts = [len(lab.rows(table)) for table in (t.plans, t.idempotency_keys, t.jobs)]
    lab.clock.advance(days=2)
    tasks.tidy(lab.store)
    after = [len(lab.rows(table)) for table in (t.plans, t.idempotency_keys, t.jobs)]
    assert (counts, after) == ([1, 1, 2], [0, 0, 1]), "a job that waits is not dropped"


def test_a_run_that_went_silent_counts_as_crashed_and_comes_back_with_its_next_rows(lab: Lab) -> None:
    silent = make_run(lab.store.database, lab.actor, heartbeat_at=lab.clock.now)
    alive = make_run(lab.store.database, lab.actor, heartbeat_at=lab.clock.now + timedelta(seconds=200))
    lab.clock.advance(seconds=301)
    tasks.mark_crashed(lab.store)

    def status(id: str) -> str:
        return str(lab.store.database.read(runs.get, lab.actor, Get(id=id)).status)

    assert (status(silent.id), status(alive.id)) == ("crashed", "running")
    lab.write(history.append, AppendHistory(id=silent.id, batch=encode_rows([(0, None, {"a": 1.0})])))
    assert status(silent.id) == "running"


def test_what_a_job_did_is_there_for_who_waits_for_it(lab: Lab) -> None:
    outcome = lab.write(deletions.purge, PurgeDeletion(id=lab.trash(finished_run(lab).id)))
    lab.worker.run_all()
    job: Job = lab.store.database.read(jobs.get, lab.actor, Get(id=outcome.job_id))
    assert job.result["items"] == 1
    assert (job.done, job.total) == (1, 1)


def test_nobodys_rows_are_touched_by_a_purge_of_another_tenant(lab: Lab) -> None:
    stranger = make_actor(lab.store.database, organization="other")
    theirs = make_run(lab.store.database, stranger, name="theirs")
    lab.purge(lab.trash(finished_run(lab).id))
    assert lab.store.database.read(runs.get, stranger, Get(id=theirs.id)).name == "theirs"


def test_a_job_whose_process_died_again_and_again_keeps_counting(lab: Lab) -> None:
    def enqueue(tx: Tx, actor: Actor, _command: None) -> str:
        return job_rows.enqueue(tx, actor, "seal", {"run_id": actor.workspace_id, "stream": "history"})

    id = lab.write(enqueue, None)
    for expected in (1, 2, 3):
        job = lab.write(jobs.claim_next, jobs.Claim("gone", timedelta(seconds=9)))
        assert (job.id, job.attempts) == (id, expected)
        lab.write(jobs.release_all, None)
