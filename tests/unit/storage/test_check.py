"""What `labkeep check` is for: each thing that can be wrong with a store is planted, found, and gone once it is repaired."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from labkeep import Labkeep
from labkeep.cli.main import main
from labkeep.cli.session import Session
from labkeep.server import check_store
from labkeep.settings import Settings
from labkeep.storage.check import CHECKS, Report

OLD = 7200.0
"""Seconds ago: long enough that no upload is in flight."""


def checked(folder: Path, *, deep: bool = True) -> Report:
    return check_store(Settings(data=str(folder)), deep=deep)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a little of everything in it: live, in the trash, purged, sealed and not sealed."""
    folder = tmp_path_factory.mktemp("whole")
    with Labkeep.local(folder) as client:
        runs = [client.runs.create("p", name=f"run {number}", config={"lr": 0.1}).id for number in range(3)]
        for id in runs:
            client.runs.append_history(id, [{"_step": step, "loss": 0.5} for step in range(20)])
            client.rows.write(id, [{"id": "a", "data": {"input": "x", "scores": {"exact": 1.0}}}])
            client.files.upload(id, "weights.bin", id.encode() * 1000)
        client.runs.append_history(runs[0], [{"_step": step, "loss": 0.1} for step in range(20, 5100)])
        client.runs.finish(runs[0])
        client.runs.trash(runs[1], on_running="stop")
        trashed = client.runs.trash(runs[2], on_running="stop")
        outcome = client.deletions.purge(str(trashed.deletion_id))
        client.jobs.wait(str(outcome.job_id))
        for job in client.jobs.list():
            client.jobs.wait(job.id)
        client.audit.checkpoint()
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    shutil.copytree(made, folder)
    for path in (folder / "blobs").rglob("*"):
        os.utime(path, (path.stat().st_atime - OLD, path.stat().st_mtime - OLD))
    return folder


def sql(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "labkeep.db")) as connection:
        for name in ("contains_text", "matches_text"):
            connection.create_function(name, 2, lambda *_: 0)
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@contextmanager
def rows(folder: Path, table: str, where: str) -> Iterator[None]:
    """Has rows deleted inside, and puts them back after: what a backup is for."""
    with closing(sqlite3.connect(folder / "labkeep.db")) as connection:
        kept = connection.execute(f"SELECT * FROM {table} WHERE {where}").fetchall()
        assert kept, (table, where)
        connection.execute(f"DELETE FROM {table} WHERE {where}")
        connection.commit()
        yield
        connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(kept[0]))})", kept)
        connection.commit()


def blob_of(folder: Path, kind: bytes) -> Path:
    """A file of the blob store that begins like that."""
    return next(p for p in sorted((folder / "blobs").rglob("*")) if p.is_file() and p.read_bytes().startswith(kind))


@contextmanager
def changed(path: Path, change: Callable[[bytes], bytes | None]) -> Iterator[None]:
    """Has a file changed, or missing, inside."""
    before = path.read_bytes()
    after = change(before)
    if after is None:
        path.unlink()
    else:
        path.write_bytes(after)
    yield
    path.write_bytes(before)


@contextmanager
def both(folder: Path, break_: str, mend: str) -> Iterator[None]:
    """Two statements: one that breaks, one that the repair of the report comes down to."""
    sql(folder, break_)
    yield
    sql(folder, mend)


@contextmanager
def stray(folder: Path, space: str) -> Iterator[Path]:
    name = hashlib.sha256(b"stray").hexdigest()
    path = folder / "blobs" / space / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"stray")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    yield path
    path.unlink(missing_ok=True)


def organization(folder: Path) -> str:
    return next(p.name for p in (folder / "blobs").iterdir() if len(p.name) == 36)


class Fault(NamedTuple):
    """The check that sees it, a part of what it says, and what is wrong."""

    check: str
    message: str
    plant: Callable[[Path], Any]


RUN = b"PAR1"
LIVE = "kind = 'run' AND state = 'active'"

FAULTS: dict[str, Fault] = {
    "a page is damaged": Fault(
        "pages",
        "",
        lambda f: changed(f / "labkeep.db", lambda d: d[: 4096 * 3] + bytes(range(256)) * 16 + d[4096 * 4 :]),
    ),
    "an object has no row of its kind": Fault(
        "objects", "has no row in runs", lambda f: rows(f, "runs", f"id = (SELECT id FROM items WHERE {LIVE})")
    ),
    "something belongs to nobody": Fault(
        "owners",
        "rows without their object",
        lambda f: both(
            f,
            "INSERT INTO streams SELECT organization_id, randomblob(16), 'lost', 0, 0, NULL FROM items LIMIT 1",
            "DELETE FROM streams WHERE stream = 'lost'",
        ),
    ),
    "a blob counts a reference too many": Fault(
        "references",
        "references but has",
        lambda f: both(f, "UPDATE blobs SET refs = refs + 1", "UPDATE blobs SET refs = refs - 1"),
    ),
    "a blob is referred to and not recorded": Fault(
        "references", "referred to but not recorded", lambda f: rows(f, "blobs", "refs > 0")
    ),
    "a blob is missing": Fault(
        "blobs", "missing from the blob store", lambda f: changed(blob_of(f, RUN), lambda _: None)
    ),
    "a blob is cut": Fault("blobs", "bytes instead of", lambda f: changed(blob_of(f, RUN), lambda d: d[:-1])),
    "a blob has another content": Fault(
        "blobs", "does not have the content", lambda f: changed(blob_of(f, RUN), lambda d: d[:-20] + b"x" + d[-19:])
    ),
    "a blob is recorded nowhere": Fault("orphans", "that nothing records", lambda f: stray(f, organization(f))),
    "a blob is nobody's": Fault("orphans", "belongs to no organization", lambda f: stray(f, "elsewhere")),
    "a data key cannot be opened": Fault(
        "keys",
        "",
        lambda f: both(
            f,
            "INSERT INTO data_keys (organization_id, id, owner_id, wrapped, master, created_at) "
            "SELECT organization_id, randomblob(16), id, x'01', 'another', 0 FROM items LIMIT 1",
            "DELETE FROM data_keys",
        ),
    ),
    "a stream counts fewer rows than it has": Fault(
        "history",
        "has rows up to",
        lambda f: both(f, "UPDATE streams SET rows = rows - 1", "UPDATE streams SET rows = rows + 1"),
    ),
    "a chunk cannot be read": Fault(
        "history",
        "",
        lambda f: both(
            f,
            "UPDATE chunks SET data = CAST(x'0001' || data AS BLOB)",
            "UPDATE chunks SET data = substr(data, 3)",
        ),
    ),
    "a segment cannot be read": Fault("history", "", lambda f: changed(blob_of(f, RUN), lambda d: bytes(len(d)))),
    "a row has two current states": Fault(
        "rows",
        "current states",
        lambda f: both(
            f,
            "INSERT INTO rows SELECT organization_id, owner_id, id, xact + 1, next_xact, deleted, root_id, position, 0, "
            "data, created_at FROM rows WHERE next_xact IS NULL",
            "DELETE FROM rows WHERE size = 0",
        ),
    ),
    "something is in the trash by itself": Fault(
        "trash",
        "belongs to no deletion",
        lambda f: both(
            f,
            "UPDATE deletion_members SET outcome = 'restored' WHERE outcome = 'trashed'",
            "UPDATE deletion_members SET outcome = 'trashed' WHERE outcome = 'restored'",
        ),
    ),
    "a deletion holds what is elsewhere": Fault(
        "trash",
        "which is elsewhere",
        lambda f: both(
            f,
            "INSERT INTO deletion_members SELECT m.organization_id, m.deletion_id, i.id, i.kind, 'active', 'trashed', '', '' "
            "FROM deletion_members m, items i WHERE i.kind = 'run' AND i.state = 'active' AND m.outcome = 'trashed' LIMIT 1",
            f"DELETE FROM deletion_members WHERE item_id IN (SELECT id FROM items WHERE {LIVE})",
        ),
    ),
    "an object is accounted wrong": Fault(
        "sizes",
        "is accounted",
        lambda f: both(
            f,
            f"UPDATE items SET bytes = bytes + 1 WHERE {LIVE}",
            f"UPDATE items SET bytes = bytes - 1 WHERE {LIVE}",
        ),
    ),
    "a counter is wrong": Fault(
        "usage",
        "but there are",
        lambda f: both(f, "UPDATE usage_counters SET items = items + 1", "UPDATE usage_counters SET items = items - 1"),
    ),
    "an event was changed": Fault(
        "audit",
        "breaks at event 2",
        lambda f: both(
            f,
            "UPDATE audit_events SET reason = 'x' || reason WHERE seq = 2",
            "UPDATE audit_events SET reason = substr(reason, 2) WHERE seq = 2",
        ),
    ),
    "a checkpoint was changed": Fault(
        "audit",
        "signature does not fit",
        lambda f: both(
            f,
            "UPDATE audit_checkpoints SET created_at = created_at + 1",
            "UPDATE audit_checkpoints SET created_at = created_at - 1",
        ),
    ),
    "a receipt is missing": Fault("receipts", "0 receipts instead of one", lambda f: rows(f, "receipts", "1")),
    "a receipt was changed": Fault(
        "receipts",
        "does not fit",
        lambda f: both(
            f,
            """UPDATE receipts SET body = replace(body, '"items":1', '"items":2')""",
            """UPDATE receipts SET body = replace(body, '"items":2', '"items":1')""",
        ),
    ),
    "a receipt has no deed": Fault(
        "receipts",
        "which is not purged",
        lambda f: both(
            f,
            "UPDATE deletions SET state = 'purging' WHERE state = 'purged'",
            "UPDATE deletions SET state = 'purged' WHERE state = 'purging'",
        ),
    ),
}


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {fault.check for fault in FAULTS.values()} == CHECKS.keys()


def test_a_store_as_it_should_be_is_clean_and_all_of_it_was_looked_at(store: Path) -> None:
    report = checked(store)
    assert (report.clean, report.problems) == (True, [])
    assert {name for name, count in report.checked.items() if not count} == {"keys"}, "nothing of it is encrypted"


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_found_and_gone_once_repaired(store: Path, name: str) -> None:
    fault = FAULTS[name]
    with fault.plant(store):
        report = checked(store)
        found = [problem for problem in report.problems if problem.check == fault.check]
        assert found, report.problems
        assert any(fault.message in problem.message for problem in found), found
        assert all(problem.subject and problem.repair for problem in report.problems)
        assert report.found == len(report.problems)
    assert checked(store).problems == []


def sweep(folder: Path, *options: str) -> Any:
    return CliRunner().invoke(main, ["sweep", "--data", str(folder), *options], obj=Session(human=False))


def test_a_sweep_shows_what_it_would_remove_and_removes_it(store: Path) -> None:
    with stray(store, organization(store)) as path:
        shown = sweep(store, "--dry-run")
        assert (shown.exit_code, "that nothing records" in shown.stdout, path.exists()) == (7, True, True)
        swept = sweep(store)
        assert (swept.exit_code, path.exists()) == (0, False)
    assert checked(store).clean


def test_a_sweep_says_what_is_missing_and_does_not_touch_the_store_of_a_running_server(store: Path) -> None:
    with changed(blob_of(store, RUN), lambda _: None):
        assert "missing from the blob store" in sweep(store, "--dry-run").stdout
        assert sweep(store).exit_code == 7
    with Labkeep.local(store):
        assert sweep(store, "--dry-run").exit_code == 0
        refused = sweep(store)
        assert refused.exit_code == 6
        assert "in use by another Labkeep process" in refused.stderr


def test_what_only_reading_everything_can_find_needs_a_deep_check(store: Path) -> None:
    with changed(blob_of(store, RUN), lambda d: d[:-20] + b"x" + d[-19:]):
        assert checked(store, deep=False).clean
        assert not checked(store).clean


def test_an_upload_that_may_be_under_way_is_held_against_nobody(store: Path) -> None:
    name = hashlib.sha256(b"fresh").hexdigest()
    path = store / "blobs" / organization(store) / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"fresh")
    assert checked(store).clean


def test_of_very_many_problems_some_are_shown_and_all_are_counted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkeep.storage.check.SHOWN", 1)
    sql(store, "UPDATE items SET bytes = bytes + 1 WHERE state <> 'purged'")
    report = checked(store)
    assert (len(report.problems), report.clean) == (1, False)
    assert report.found > 1
