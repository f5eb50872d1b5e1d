"""A folder with SQLite belongs to one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkeep import Labkeep
from labkeep.core.errors import Unavailable
from tests.fault.processes import Process, Site


def test_a_second_server_on_a_folder_says_who_has_it_and_ends(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.running() as first, first.client() as client:
        client.runs.create("p", name="before")
        second = Site(tmp_path)
        second.log = tmp_path / "second.log"
        process = second.start()
        assert process.wait() not in (0, 137)
        said = second.log.read_text()
        assert f"{site.data} is in use by another Labkeep process (pid {first.pid})" in said
        assert "Traceback" not in said
        client.runs.create("p", name="after")
        assert [run.name for run in client.runs.list("p")] == ["after", "before"]
    site.assert_sound()


def test_a_folder_that_a_server_has_is_not_opened_in_process(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.running() as server:
        with pytest.raises(Unavailable, match=f"in use by another Labkeep process \\(pid {server.pid}\\)"):
            Labkeep.local(site.data)
        assert server.answers("/readyz")


def test_the_folder_of_a_server_that_was_killed_is_free_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path)
    server = site.start().await_answer()
    with server.client() as client:
        run = client.runs.create("p", name="acknowledged")
    server.kill()
    with site.running() as again, again.client() as client:
        assert client.runs.get(run.id) == run


def test_a_worker_beside_a_server_with_sqlite_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    worker = Process(["worker"], {}, log)
    assert worker.wait() not in (0, 137)
    assert "a SQLite store belongs to one process" in log.read_text()


def test_a_server_without_a_worker_needs_postgresql(tmp_path: Path) -> None:
    site = Site(tmp_path, LABKEEP_EMBEDDED_WORKER="false")
    assert site.start().wait() not in (0, 137)
    assert "embedded_worker=false needs PostgreSQL" in site.log.read_text()
    assert not (site.data / "labkeep.db").exists()
