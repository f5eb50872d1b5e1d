"""Several servers and workers on one PostgreSQL: any of them may die, and the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select

from labkeep import Labkeep
from labkeep.core.entities import Job
from labkeep.storage.tables import metadata
from tests.fault.processes import Process, Site, find, wait_for_jobs
from tests.fault.workload import Workload, assert_one_of, snapshot


@pytest.fixture
def site(postgres_url: str, tmp_path: Path) -> Site:
    """Servers without workers of their own, and leases that run out soon."""
    settings = {"LABKEEP_DATABASE_URL": postgres_url, "LABKEEP_EMBEDDED_WORKER": "false", "LABKEEP_JOB_LEASE_S": "1"}
    return Site(tmp_path, LABKEEP_SEAL_MIN_ROWS="5", **settings)


@contextmanager
def worker(site: Site, **extra: str) -> Iterator[Process]:
    """`labkeep worker`, stopped at the end of the block when it still lives."""
    process = Process(
        ["worker"], site.settings | {"LABKEEP_DATA": str(site.data)} | extra, site.data.parent / "worker.log"
    )
    try:
        yield process
    finally:
        if process.code is None:
            process.stop()


def words_in_database(url: str, words: list[str]) -> set[str]:
    """Those of ``words`` that any column of any row holds. Compressed ones are in the rows of tables that are empty."""
    engine = create_engine(url)
    found: set[str] = set()
    with engine.connect() as connection:
        for table in metadata.tables.values():
            for row in connection.execute(select(table)):
                text = str(tuple(row))
                found |= {word for word in words if word in text}
    engine.dispose()
    return found


def purge_job(client: Labkeep, name: str) -> str:
    """Log a run with rows and a file, trash it and ask for its purge; the id of the job."""
    run = client.runs.create("p", name=name, config={"note": name}, status="finished")
    client.rows.write(run.id, [{"id": "r", "data": {"input": name}}])
    client.files.upload(run.id, "f.txt", name.encode())
    client.runs.trash(run.id)
    job_id = client.runs.purge(run.id).job_id
    assert job_id is not None
    return job_id


def seal_job(client: Labkeep, name: str) -> str:
    """Log a history and finish the run; the id of the job that seals it."""
    run = client.runs.create("p", name=name)
    client.runs.append_history(run.id, [{"_step": n, "loss": n / 2} for n in range(50)], offset=0)
    client.runs.finish(run.id)
    return next(iter(client.jobs.list(state="queued"))).id


CASES: list[tuple[str, Callable[[Labkeep, str], str]]] = [
    ("job.claimed", purge_job),
    ("purge.removed", purge_job),
    ("purge.swept", purge_job),
    ("purge.verified", purge_job),
    ("seal.uploaded", seal_job),
]


def test_the_job_of_a_worker_that_died_is_taken_over_by_another(site: Site, postgres_url: str) -> None:
    with site.running() as server, server.client() as client:
        for point, ask in CASES:
            job_id = ask(client, f"word-at-{point}")
            with worker(site, LABKEEP_FAULT=point) as doomed:
                assert doomed.wait() == 137
            held: Job = client.jobs.get(job_id)
            assert (held.state, held.attempts) == ("running", 1), point
            with worker(site):
                done = client.jobs.wait(job_id, timeout_s=60)
            assert (done.state, done.attempts) == ("done", 2), point
            assert done.worker != held.worker
            wait_for_jobs(client)
        purged = [f"word-at-{point}" for point, ask in CASES if ask is purge_job]
        assert words_in_database(postgres_url, purged) == set()
        assert {deletion.state for deletion in client.deletions.list()} == {"purged"}
        assert client.audit.verify().intact
        sealed = next(iter(client.runs.list("p", name="word-at-seal.uploaded")))
        assert len(client.runs.history(sealed.id)) == 50
    site.assert_sound()


def test_a_worker_killed_in_the_middle_of_a_large_purge_leaves_nothing_half_done(site: Site, postgres_url: str) -> None:
    with site.running() as server, server.client() as client:
        runs = [{"name": f"word-{n}-word", "status": "finished", "config": {"a": n}} for n in range(1_000)]
        ids = [run.id for run in client.runs.create_many(runs, project="p")]
        outcome = client.apply("trash", ids=ids)
        job_id = client.deletions.purge(outcome.deletion_id or "").job_id or ""
        with worker(site, LABKEEP_FAULT="purge.removed:2") as doomed:
            assert doomed.wait() == 137
        half = {member.outcome for member in client.deletions.members(outcome.deletion_id or "")}
        assert half == {"purged", "trashed"}
        site.assert_sound()
        with worker(site):
            assert client.jobs.wait(job_id, timeout_s=60).state == "done"
        assert {member.outcome for member in client.deletions.members(outcome.deletion_id or "")} == {"purged"}
        assert words_in_database(postgres_url, [run["name"] for run in runs]) == set()  # type: ignore[misc]
    site.assert_sound()


def test_one_of_two_servers_is_killed_under_load_and_the_other_has_all_that_it_acknowledged(site: Site) -> None:
    with site.running() as survivor, worker(site), survivor.client() as client:
        for kill in range(2):
            doomed = site.start().await_answer()
            on_doomed = Workload(doomed.client(), f"doomed-server-{kill}", rounds=40)
            beside = Workload(survivor.client(), f"other-server-{kill}", rounds=1)
            threads = [threading.Thread(target=one.run) for one in (on_doomed, beside)]
            for thread in threads:
                thread.start()
            wait_until(lambda one=on_doomed, n=kill: one.acknowledged >= 25 + 17 * n)
            doomed.kill()
            for thread in threads:
                thread.join()
            wait_for_jobs(client)
            assert beside.before == snapshot(client, beside.project), "the other server's clients noticed nothing"
            assert_one_of(snapshot(client, on_doomed.project), on_doomed)
            on_doomed.finish(client)
            assert find(site.data, on_doomed.purged + beside.doomed) == {}, "what died on its way up waits for a day"
        assert client.audit.verify().intact
    site.assert_sound()


def test_what_one_server_writes_the_other_reads_at_once(site: Site) -> None:
    with site.running() as first, site.running() as second, first.client() as one, second.client() as other:
        run = one.runs.create("p", name="shared")
        assert other.runs.get(run.id) == run
        other.runs.update(run.id, notes="seen")
        assert one.runs.get(run.id).notes == "seen"
        one.runs.trash(run.id, on_running="stop")
        assert [each.id for each in other.trash.list()] == [run.id]


def wait_until(true: Callable[[], Any], timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, "this never came true"
        time.sleep(0.002)
