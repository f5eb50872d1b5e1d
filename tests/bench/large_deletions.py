"""Plan, trash, restore and purge over very many runs: time, memory, and the ratio to plain SQL that moves the same rows.

    python tests/bench/large_deletions.py [RUNS] [--purge RUNS ...] [--folder FOLDER]

Everything happens in one process over SQLite. The floor is measured in the
same run on the same file: one UPDATE and one INSERT that move as many rows, without reasons, checks or a trail.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import Apply, Get, MakePlan, PurgeDeletion, RestoreDeletion, Selection
from labkeep.core.lifecycle import Kind, State, Status
from labkeep.operations import Store, deletions, jobs
from labkeep.server import make_worker
from labkeep.settings import Settings
from labkeep.storage import tables as t
from labkeep.storage.blobs_local import LocalBlobs
from labkeep.storage.database_sqlite import Sqlite
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_project

PART = 10_000

MOST_AT_ONCE = 100_000


def add_runs(tx: Tx, actor: Actor, wanted: tuple[str, int, int, tuple[str, ...]]) -> None:
    """Finished runs with three fields each, straight into the tables."""
    project_id, first, count, tags = wanted
    home = {"organization_id": actor.organization_id}
    ids = [tx.new_id() for _ in range(count)]
    blank: dict[str, Any] = {
        **home,
        "kind": Kind.run,
        "workspace_id": actor.workspace_id,
        "parent_id": project_id,
        "project_id": project_id,
        "type": "",
        "handle": None,
        "description": "",
        "tags": tags,
        "metadata": {},
        "extra": {},
        "dialect": "",
        "state": State.active,
        "locked": False,
        "deletion_id": None,
        "version": 1,
        "bytes": 1_000,
        "last_xact": 0,
        "created_by": "bench",
        "created_at": tx.now,
        "updated_at": tx.now,
        "name_digest": "",
    }
    tx.insert(t.items, [{**blank, "id": id, "name": f"draft-{first + n}"} for n, id in enumerate(ids)])
    run: dict[str, Any] = {
        **home,
        "project_id": project_id,
        "status": Status.finished,
        "config": {"lr": 0.1},
        "summary": {"acc": 0.5},
        "notes": "",
        "group": "",
        "job_type": "",
        "base_run_id": None,
        "document_id": None,
        "exit_code": 0,
        "started_at": tx.now,
        "finished_at": tx.now,
        "heartbeat_at": None,
    }
    tx.insert(t.runs, [{**run, "id": id} for id in ids])
    fields = (("config.lr", "n", 0.1, None), ("summary.acc", "n", 0.5, None), ("tag.draft", "b", 1.0, None))
    rows = [
        {**home, "item_id": id, "path": path, "project_id": project_id, "type": kind, "num": num, "text": text}
        for id in ids
        for path, kind, num, text in fields
    ]
    tx.insert(t.fields, rows)


class Lab:
    """A store with many runs."""

    def __init__(self, folder: Path, runs: int, tags: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True)
        self.folder, self.count = folder, runs
        database = Sqlite(folder / "labkeep.db")
        self.store = Store(database, LocalBlobs(folder / "blobs"), Settings(data=str(folder)))
        self.actor = make_actor(database)
        self.project = make_project(database, self.actor, "drafts")
        for first in range(0, runs, PART):
            database.write(add_runs, self.actor, (self.project.id, first, min(PART, runs - first), tags))
        self.worker = make_worker(self.store)

    def close(self) -> None:
        self.store.database.close()
        self.store.blobs.close()
        shutil.rmtree(self.folder)

    def write(self, operation: Callable[..., Any], command: Any) -> Any:
        return self.store.database.write(operation, self.actor, command)

    def finish(self, outcome: Any) -> Any:
        """Work until the job is over; the job."""
        self.worker.run_all()
        job = self.store.database.read(jobs.get, self.actor, Get(id=outcome.job_id))
        assert job.state == "done", job
        return job


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    """Print how long it took, how many a second that is, and how far memory rose meanwhile."""
    peak = Peak()
    started, cpu = time.perf_counter(), time.process_time()
    with peak:
        yield
    spent, worked = time.perf_counter() - started, time.process_time() - cpu
    print(f"{what:<44}{spent:8.2f} s {worked:8.2f} s cpu {count / spent:12,.0f}/s {peak.mib:+8.0f} MiB", flush=True)


class Peak:
    """How far the resident memory of this process rises above where it was."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.mib = max(self.mib, _resident_mib() - self._before)

    def __enter__(self) -> Peak:
        self._before = _resident_mib()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.mib = max(self.mib, _resident_mib() - self._before)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def floor(lab: Lab) -> None:
    """The least that SQLite must do for it: read every candidate, note it, and move it; then back."""
    path = lab.folder / "floor.db"
    source = sqlite3.connect(lab.folder / "labkeep.db")
    source.execute(f"VACUUM INTO '{path}'")
    source.close()
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;")
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")
    mine = "kind = 'run' AND state = 'active'"
    with timed("floor: plain SQL, one transaction", lab.count):
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "INSERT INTO deletion_members (organization_id, deletion_id, item_id, kind, previous_state, outcome) "
            "SELECT organization_id, zeroblob(16), id, kind, state, 'trashed' "
            f"FROM items WHERE {mine}"
        )
        database.execute(f"UPDATE items SET state = 'trashed', version = version + 1 WHERE {mine}")
        database.execute("COMMIT")
    database.close()
    for file in lab.folder.glob("floor.db*"):
        file.unlink()


def measure(lab: Lab) -> None:
    everything = Selection(project="drafts")
    selection = Selection(project="drafts", q="config.lr < 0.5")
    count = lab.count
    with timed("plan, whole project", count):
        plan = lab.write(deletions.make_plan, MakePlan(selection=everything))
    assert plan.counts == {"run": count}, plan.counts
    with timed("plan, by query", count):
        plan = lab.write(deletions.make_plan, MakePlan(selection=selection))
    floor(lab)
    if count <= MOST_AT_ONCE:
        with timed("trash by query, at once", count):
            outcome = lab.write(deletions.apply, Apply(selection=selection, background=False))
        with timed("restore, at once", count):
            lab.write(deletions.restore, RestoreDeletion(id=outcome.deletion_id, background=False))
    with timed("trash by query, as a job", count):
        outcome = lab.write(deletions.apply, Apply(selection=selection, background=True))
        job = lab.finish(outcome)
    assert job.result["outcomes"] == {"trashed": count}
    with timed("restore, as a job", count):
        back = lab.write(deletions.restore, RestoreDeletion(id=outcome.deletion_id, background=True))
        lab.finish(back)


def purge(lab: Lab, count: int) -> None:
    """Purge ``count`` runs, whatever else the store holds."""
    found = lab.store.database.read(_first_ids, lab.actor, count)
    outcome = lab.write(deletions.apply, Apply(selection=Selection(ids=found), background=False))
    with timed(f"purge {count:,} of {lab.count:,}, verified", count):
        lab.finish(lab.write(deletions.purge, PurgeDeletion(id=outcome.deletion_id)))


def _first_ids(tx: Tx, _actor: Actor, count: int) -> list[str]:
    return [row[0] for row in tx.execute(select(t.runs.c.id).limit(count))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="?", type=int, default=100_000, help="runs to plan, trash and restore")
    parser.add_argument("--purge", nargs="*", type=int, default=[10_000], help="further stores to purge from, by size")
    parser.add_argument("--tags", action="store_true", help="give each run a tag, which costs counters more")
    parser.add_argument("--folder", type=Path, default=None, help="where the stores are made, and removed again")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="labkeep-bench-", dir=asked.folder))
    try:
        for size in dict.fromkeys([*asked.purge, asked.runs]):
            with timed(f"make {size:,} runs", size):
                lab = Lab(folder / f"store-{size}", size, tags=("draft",) if asked.tags else ())
            if size == asked.runs:
                measure(lab)
            purge(lab, min(10_000, size))
            lab.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
