"""The process dies between the making of a key, what it encrypts, and its destruction. Then every content that was
acknowledged opens, every key belongs to something, and what was purged has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkeep import Labkeep
from labkeep.server import check_store, rotate_master_key
from labkeep.settings import Settings
from tests.fault.processes import Process, Site, find, wait_for_jobs
from tests.fault.workload import Workload, assert_one_of, snapshot

MASTER, OTHER = "c1" * 32, "c2" * 32

AFTERWARDS = "a word that is written after the crash"

CASES = [
    *("write.begun:8", "write.begun:12", "write.begun:20", "write.committed:8", "write.committed:15"),
    *("blob.written:1", "blob.renamed:1", "blob.renamed:3", "blob.registered:1", "blob.registered:4"),
    *("seal.written:1", "seal.uploaded:1", "seal.committed:1"),
    *("keys.noted:1", "keys.noted:2", "keys.noted:3", "keys.destroyed:1", "keys.destroyed:2", "keys.destroyed:3"),
    *("purge.removed:1", "purge.marked:1", "purge.swept:1", "purge.forgotten:1", "purge.verified:1"),
]


def assert_sound(site: Site, master: str = MASTER) -> None:
    report = check_store(Settings(data=str(site.data), master_key=master), deep=True)
    assert report.problems == []
    assert report.checked["keys"]


def write_afterwards(client: Labkeep) -> None:
    """However early the server died, there is something encrypted to check, and it is there for its reader only."""
    client.projects.create("afterwards", settings={"encrypt": True})
    run = client.runs.create("afterwards")
    client.rows.write(run.id, [{"id": "a", "data": {"input": AFTERWARDS}}])
    assert [row.data for row in client.rows.read(run.id)] == [{"input": AFTERWARDS}]


@pytest.mark.parametrize("case", CASES)
def test_every_key_fits_when_the_server_dies_at(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKEEP_MASTER_KEY", MASTER)
    site = Site(tmp_path, LABKEEP_SEAL_MIN_ROWS="5", LABKEEP_MASTER_KEY=MASTER)
    server = site.start(LABKEEP_FAULT=case).await_answer()
    with server.client() as client:
        workload = Workload(client, settings={"encrypt": True})
        assert workload.run() is False, f"{case} was never reached"
    assert server.wait() == 137
    with Labkeep.local(site.data) as client:
        wait_for_jobs(client)
        assert_one_of(snapshot(client), workload)
        workload.finish(client)
        write_afterwards(client)
        assert find(site.data, [*workload.doomed, AFTERWARDS]) == {}
    assert_sound(site)


def test_a_change_of_the_master_key_that_dies_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKEEP_MASTER_KEY", MASTER)
    site = Site(tmp_path, LABKEEP_MASTER_KEY=MASTER)
    with site.running() as server, server.client() as client:
        workload = Workload(client, rounds=1, settings={"encrypt": True})
        assert workload.run()
    (tmp_path / "new.key").write_text(OTHER)
    asked = ["rotate-master-key", "--data", str(site.data), "--new-file", str(tmp_path / "new.key")]
    rotation = Process(asked, site.settings | {"LABKEEP_FAULT": "keys.rewrapped:1"}, site.log)
    assert rotation.wait() == 137
    settings = Settings(data=str(site.data), master_key=MASTER)
    assert rotate_master_key(settings, tmp_path / "new.key").others == {}
    monkeypatch.setenv("LABKEEP_MASTER_KEY", OTHER)
    with Labkeep.local(site.data) as client:
        assert snapshot(client) == workload.before
    assert_sound(site, OTHER)
