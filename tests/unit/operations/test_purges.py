"""A purge from the request to the proof: nothing is left of what went, everything of what others share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import func, select

from labkeep.core.access import Actor
from labkeep.core.columns import encode_rows
from labkeep.core.commands import (
    AppendHistory,
    Apply,
    AttachFile,
    BindEnvironment,
    CreateArtifactVersion,
    CreateDocument,
    CreateLink,
    CreateProject,
    CreateRun,
    FinishRun,
    Get,
    ItemVerb,
    MakePlan,
    ManifestEntry,
    Nothing,
    PurgeDeletion,
    RestoreDeletion,
    RowIn,
    Selection,
    UpdateProject,
    WriteRows,
)
from labkeep.core.commands_jobs import ControlJob, SetRate
from labkeep.core.commands_policies import CreatePolicy
from labkeep.core.commands_proof import ListReceipts
from labkeep.core.entities import Deletion, Item, Project
from labkeep.core.errors import Corrupt, NotFound
from labkeep.core.lifecycle import OnDelete, State, Status
from labkeep.core.removals import Part, Remove
from labkeep.operations import (
    Store,
    accounts,
    artifacts,
    audits,
    deletions,
    documents,
    environments,
    files,
    history,
    jobs,
    policies,
    projects,
    purges,
    receipts,
    removals,
    rows,
    runs,
)
from labkeep.server import make_worker
from labkeep.settings import Settings
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.blobs import Blobs, MemoryBlobs
from labkeep.storage.blobs_local import LocalBlobs
from labkeep.storage.purge import OWNED
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import FixedClock, make_actor, make_sqlite
from labkeep.worker.tasks import purge_overdue

T = TypeVar("T")
CANARY = "canary-51e27f3a9c"


class Lab:
    """A store over some kind of blobs, its clock, its owner, and the deeds of these tests in short."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self.folder = folder
        self.clock = FixedClock()
        database = make_sqlite(folder, self.clock)
        database.seal_min_rows = 1
        self.store = Store(database, blobs, Settings(data=str(folder)))
        self.actor = make_actor(database)

    def do(self, operation: Callable[[Tx, Actor, Any], T], command: Any) -> T:
        self.clock.advance(seconds=1)
        return self.store.database.write(operation, self.actor, command)

    def work(self) -> int:
        return make_worker(self.store).run_all()

    def upload(self, data: bytes) -> str:
        self.clock.advance(seconds=1)
        stored = self.store.blobs.put(self.actor.organization_id, data)
        files.keep(self.store, self.actor, stored)
        return stored.digest

    def attach(self, item: Item, path: str, data: bytes) -> str:
        digest = self.upload(data)
        self.do(files.attach, AttachFile(id=item.id, path=path, digest=digest, size=len(data)))
        return digest

    def has(self, digest: str) -> bool:
        try:
            return self.store.blobs.size(self.actor.organization_id, digest) >= 0
        except NotFound:
            return False

    def count(self, table: Any) -> int:
        def read(tx: Tx, _actor: Actor, _command: None) -> int:
            return int(tx.execute(select(func.count()).select_from(table)).scalar_one())

        return self.store.database.read(read, self.actor, None)

    def deletion(self, id: str | None) -> Deletion:
        return self.store.database.read(deletions.get, self.actor, Get(id=id or ""))

    def canaries(self) -> int:
        found = (path.read_bytes().count(CANARY.encode()) for path in self.folder.rglob("*") if path.is_file())
        return sum(found)


@pytest.fixture(params=["memory", "local"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, MemoryBlobs() if request.param == "memory" else LocalBlobs(tmp_path / "blobs"))
    yield made
    made.store.database.close()
    made.store.blobs.close()


def populate(lab: Lab, name: str) -> tuple[Project, list[str]]:
    """A project with something of everything, all of it full of canaries; and the digests of its blobs."""
    project = lab.do(
        projects.create,
        CreateProject(name=name, description=CANARY, tags=(CANARY,), metadata={CANARY: CANARY}, extra={"x": CANARY}),
    )
    lab.do(projects.update, UpdateProject(id=project.id, settings={"grace_days": 5}))
    run = lab.do(
        runs.create,
        CreateRun(
            project=project.id,
            name=CANARY,
            handle=f"{CANARY}-{name}",
            config={CANARY: {"deep": CANARY}},
            summary={"loss": 1.0},
            notes=CANARY,
            group=CANARY,
            tags=(CANARY,),
        ),
    )
    logged = [(step, None, {"loss": step / 7, "text": f"{CANARY} {step}"}) for step in range(50)]
    lab.do(history.append, AppendHistory(id=run.id, offset=0, batch=encode_rows(logged)))
    lab.do(rows.write, WriteRows(id=run.id, rows=[RowIn(id=CANARY, data={"input": CANARY, "scores": {"exact": 1.0}})]))
    digests = [lab.attach(run, f"{CANARY}.txt", f"{CANARY} of {name}".encode() * 100)]
    digests.append(lab.attach(run, f"{CANARY}.removed", f"{CANARY} removed from {name}".encode()))
    for part, which in ((Part.row, {"ids": [CANARY]}), (Part.file, {"ref": f"{CANARY}.removed"})):
        lab.do(removals.remove, Remove(id=run.id, part=part, **which))
    lab.do(removals.remove, Remove(id=run.id, part=Part.metric, ref="text"))
    lab.do(rows.write, WriteRows(id=run.id, rows=[RowIn(id="kept", data={"input": CANARY, "scores": {"exact": 1.0}})]))
    lab.do(runs.finish, FinishRun(id=run.id, status=Status.finished))
    document = lab.do(
        documents.create, CreateDocument(project=project.id, type="prompt", name=CANARY, body={"text": CANARY})
    )
    lab.do(environments.bind, BindEnvironment(project=project.id, name=CANARY, document_id=document.id))
    asked = CreateLink(source_id=run.id, target_id=document.id, type=CANARY, on_delete=OnDelete.restrict)
    lab.do(environments.link, asked)
    data = f"{CANARY} weights of {name}".encode() * 50
    digests.append(lab.upload(data))
    entry = ManifestEntry(path=f"{CANARY}/weights", digest=digests[-1], size=len(data))
    lab.do(
        artifacts.create_version, CreateArtifactVersion(project=project.id, name=CANARY, files=[entry], run_id=run.id)
    )
    said = {"older_than": "90d", "q": f'config.note = "{CANARY}"', "tags": [CANARY]}
    lab.do(policies.create, CreatePolicy(name=CANARY, body=said, project=project.id, enabled=False))
    assert lab.work() == 1  # seals the history
    hot = lab.do(runs.create, CreateRun(project=project.id, status=Status.finished))
    lab.store.database.seal_min_rows = 1_000
    lab.do(history.append, AppendHistory(id=hot.id, offset=0, batch=encode_rows(logged)))
    lab.store.database.seal_min_rows = 1
    return project, digests


def test_everything_of_a_project_is_gone_and_the_deletion_says_what_was_checked(lab: Lab) -> None:
    empty = {table.name: lab.count(table) for table, _ in OWNED}
    project, digests = populate(lab, "going")
    filled = {table.name for table, _ in OWNED if lab.count(table) > empty[table.name]}
    assert {table.name for table, _ in OWNED} - filled == {"deletion_bindings", "subjects"}
    assert lab.canaries() > 0
    lab.do(deletions.make_plan, MakePlan(selection=Selection(ids=[project.id])))
    lab.do(accounts.once(projects.update, "key", "print"), UpdateProject(id=project.id, description=CANARY * 2))
    trashed = lab.do(deletions.trash_item, ItemVerb(id=project.id, reason="over"))
    lab.do(deletions.purge_item, ItemVerb(id=project.id))
    assert lab.deletion(trashed.deletion_id).state == "purging"
    lab.work()

    assert {table.name: lab.count(table) for table, _ in OWNED} == empty
    assert lab.count(t.blobs) == lab.count(t.plans) == 0
    assert not any(lab.has(digest) for digest in digests)
    assert list(lab.store.blobs.list()) == []
    assert lab.canaries() == 0
    done = lab.deletion(trashed.deletion_id)
    assert (done.state, done.purged_by, done.purged_at) == ("purged", lab.actor.user, lab.clock.now)
    assert done.verification["rows_left"] == done.verification["blobs_left"] == 0
    assert done.verification["blobs_removed"] >= 3  # file, weights, sealed history
    assert done.verification["tables_read"] == len({table.name for table, _ in OWNED}) + 1
    assert set(done.verification["method"]) == {"database", "blobs"}
    assert lab.store.database.read(audits.verify, lab.actor, Nothing()).intact


def test_what_others_share_and_own_stays_as_it_was(lab: Lab) -> None:
    kept, kept_digests = populate(lab, "kept")
    before = {table.name: lab.count(table) for table, _ in OWNED}
    going, going_digests = populate(lab, "going")
    shared = [lab.attach(project, "shared", b"the same bytes") for project in (run_of(lab, kept), run_of(lab, going))]
    before["files"] += 1
    lab.do(deletions.trash_item, ItemVerb(id=going.id))
    lab.do(deletions.purge_item, ItemVerb(id=going.id))
    lab.work()
    assert {table.name: lab.count(table) for table, _ in OWNED} == before
    assert all(lab.has(digest) for digest in [*kept_digests, shared[0]])
    assert not any(lab.has(digest) for digest in going_digests)
    assert shared[0] == shared[1]
    read = lab.store.database.read(projects.get, lab.actor, Get(id=kept.id))
    assert read.description == CANARY


def run_of(lab: Lab, project: Project) -> Item:
    return lab.store.database.read(runs.list_, lab.actor, runs.ListRuns(project=project.id)).items[0]


def test_the_commitment_is_over_kind_id_size_and_content_of_all_that_goes(lab: Lab) -> None:
    project, _ = populate(lab, "going")
    trashed = lab.do(deletions.trash_item, ItemVerb(id=project.id))

    def recompute(tx: Tx, actor: Actor, _command: None) -> str:
        i, f, s, r = t.items.c, t.files.c, t.segments.c, t.removals.c
        held = i.deletion_id == trashed.deletion_id
        lines = [
            f"{row[1]} {row[0]} {row[2]}"
            for row in tx.execute(select(i.id, i.kind, i.bytes).where(held).order_by(i.id))
        ]
        for owner, digest in ((f.owner_id, f.digest), (s.run_id, s.digest), (r.item_id, r.digest)):
            found = sorted(tuple(row) for row in tx.execute(select(owner, digest).where(digest != "")))
            lines += [f"blob {id} {content}" for id, content in found]
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    wanted = lab.store.database.read(recompute, lab.actor, None)
    lab.do(deletions.purge, PurgeDeletion(id=trashed.deletion_id or ""))
    assert lab.deletion(trashed.deletion_id).commitment == ""
    lab.work()
    assert lab.deletion(trashed.deletion_id).commitment == wanted
    trail = lab.store.database.read(audits.list_, lab.actor, audits.ListAudit()).items
    told = [event for event in reversed(trail) if event.event in ("run.purge_committed", "run.purged")]
    assert [event.event for event in told] == ["run.purge_committed", "run.purged"]
    assert {event.details["commitment"] for event in told} == {wanted}


def test_nothing_is_removed_before_there_is_a_commitment_and_there_is_only_one(lab: Lab) -> None:
    project, _ = populate(lab, "going")
    trashed = lab.do(deletions.trash_item, ItemVerb(id=project.id))
    step = purges.Step(trashed.deletion_id or "")
    lab.do(deletions.purge, PurgeDeletion(id=step.deletion_id))
    with pytest.raises(Corrupt, match="no commitment"):
        lab.do(purges.remove_some, step)
    first = lab.store.database.read(purges.digest, lab.actor, step)
    assert first is not None
    lab.do(purges.commit, purges.Committed(step.deletion_id, first))
    lab.do(purges.commit, purges.Committed(step.deletion_id, "another"))
    assert lab.deletion(step.deletion_id).commitment == first
    assert lab.store.database.read(purges.digest, lab.actor, step) is None
    assert lab.do(purges.remove_some, step) > 0


def test_a_tombstone_keeps_no_word_of_anybody(lab: Lab) -> None:
    project, _ = populate(lab, "going")
    lab.do(deletions.trash_item, ItemVerb(id=project.id))
    lab.do(deletions.purge_item, ItemVerb(id=project.id))
    lab.work()

    def tombstones(tx: Tx, actor: Actor, _command: None) -> list[Item]:
        query = records.statement(Item, actor).where(t.items.c.state == State.purged)
        return records.fetch(tx, Item, query)

    found = lab.store.database.read(tombstones, lab.actor, None)
    assert {str(item.kind) for item in found} == {"project", "run", "document", "artifact", "artifact_version"}
    for item in found:
        assert (item.name, item.handle, item.description, item.tags, item.created_by) == ("", None, "", (), "")
        assert (item.metadata, item.extra, item.bytes) == ({}, {}, 0)


def test_nothing_is_purged_that_nobody_asked_for(lab: Lab) -> None:
    run = lab.do(runs.create, CreateRun(project="p", status=Status.finished))
    trashed = lab.do(deletions.trash_item, ItemVerb(id=run.id))
    assert lab.do(purges.remove_some, purges.Step(trashed.deletion_id or "")) == 0
    assert lab.do(deletions.get_item, Get(id=run.id, include="trashed")).state == "trashed"


def test_a_purge_in_many_steps_goes_on_where_it_stopped(lab: Lab) -> None:
    asked = [CreateRun(project="p", status=Status.finished, config={"n": n}) for n in range(purges.BATCH + 10)]
    made = lab.do(runs.create_many, runs.CreateRuns(runs=asked)).items
    trashed = lab.do(deletions.apply, Apply(selection=Selection(ids=[run.id for run in made])))
    lab.do(deletions.purge, PurgeDeletion(id=trashed.deletion_id or ""))
    step = purges.Step(trashed.deletion_id or "")
    lab.do(purges.commit, purges.Committed(step.deletion_id, "a digest"))
    assert lab.do(purges.remove_some, step) == purges.BATCH
    assert lab.work() == 1
    done = lab.deletion(trashed.deletion_id)
    assert (done.state, done.counts) == ("purged", {"run": purges.BATCH + 10})
    assert lab.count(t.runs) == lab.count(t.fields) == 0
    assert lab.do(purges.remove_some, step) == 0


def test_a_purge_that_is_cancelled_before_anything_went_leaves_its_deletion_as_it_was(lab: Lab) -> None:
    made = [lab.do(runs.create, CreateRun(project="p", status=Status.finished)) for _ in range(2)]
    trashed = lab.do(deletions.apply, Apply(selection=Selection(ids=[run.id for run in made]))).deletion_id
    asked = lab.do(deletions.purge, PurgeDeletion(id=trashed))
    lab.do(jobs.cancel, ControlJob(id=asked.job_id))
    assert lab.work() == 1
    assert lab.do(jobs.get, Get(id=asked.job_id)).state == "cancelled"
    assert lab.deletion(trashed).state == "trashed"
    assert list(lab.do(receipts.list_, ListReceipts()).items) == []
    assert lab.do(deletions.restore, RestoreDeletion(id=trashed)).counts == {"run": 2}


def test_what_a_cancelled_purge_has_not_removed_stays_in_the_trash_and_its_receipt_says_so(lab: Lab) -> None:
    asked = [CreateRun(project="p", status=Status.finished) for _ in range(purges.BATCH + 3)]
    made = sorted(run.id for run in lab.do(runs.create_many, runs.CreateRuns(runs=asked)).items)
    trashed = lab.do(deletions.apply, Apply(selection=Selection(ids=made))).deletion_id or ""
    purge = lab.do(deletions.purge, PurgeDeletion(id=trashed))
    lab.do(jobs.set_rate, SetRate(id=purge.job_id, rate=1))
    lab.work()
    assert lab.do(jobs.get, Get(id=purge.job_id)).done == purges.BATCH
    lab.do(jobs.cancel, ControlJob(id=purge.job_id))
    lab.work()
    assert lab.do(jobs.get, Get(id=purge.job_id)).state == "cancelled"
    what = lab.do(receipts.of_deletion, Get(id=trashed)).body["what"]
    left = made[purges.BATCH :]
    assert (what["items"], what["kept"]["item_ids"], what["kept"]["because"]) == (purges.BATCH, left, ["cancelled"])
    assert lab.deletion(trashed).counts == {"run": purges.BATCH}
    assert lab.do(deletions.apply, Apply(verb="restore", selection=Selection(ids=left))).counts == {"run": 3}


def test_a_purge_that_is_cancelled_too_late_is_done(lab: Lab) -> None:
    run = lab.do(runs.create, CreateRun(project="p", status=Status.finished))
    trashed = lab.do(deletions.trash_item, ItemVerb(id=run.id)).deletion_id
    asked = lab.do(deletions.purge, PurgeDeletion(id=trashed))
    step = purges.Step(trashed or "")
    lab.do(purges.commit, purges.Committed(step.deletion_id, "a digest"))
    assert lab.do(purges.remove_some, step) == 1
    lab.do(jobs.cancel, ControlJob(id=asked.job_id))
    lab.work()
    assert (lab.do(jobs.get, Get(id=asked.job_id)).state, lab.deletion(trashed).state) == ("done", "purged")


@pytest.mark.parametrize("auto", [True, False])
def test_the_end_of_the_grace_period_is_when_things_are_purged_by_themselves(tmp_path: Path, auto: bool) -> None:
    lab = Lab(tmp_path, MemoryBlobs())
    lab.do(projects.create, CreateProject(name="p", settings={"grace_days": 2}))
    early = lab.do(runs.create, CreateRun(project="p", status=Status.finished))
    other = lab.do(runs.create, CreateRun(project="other", status=Status.finished))
    outcomes = [lab.do(deletions.trash_item, ItemVerb(id=run.id)) for run in (early, other)]
    states: list[tuple[str, str]] = []
    store = lab.store._replace(settings=Settings(data=str(tmp_path), auto_purge=auto))
    for days in (1, 1, 29):
        lab.clock.advance(days=days)
        purge_overdue(store)
        lab.work()
        states.append((lab.deletion(outcomes[0].deletion_id).state, lab.deletion(outcomes[1].deletion_id).state))
    kept = ("trashed", "trashed")
    assert states == ([kept, ("purged", "trashed"), ("purged", "purged")] if auto else [kept, kept, kept])
    if auto:
        assert lab.deletion(outcomes[0].deletion_id).purged_by == "grace period"
    lab.store.database.close()
