"""The process dies at every named point of write, upload, seal and purge. Then: nothing acknowledged is lost, nothing is
half there, what was purged is nowhere, and every check is clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkeep import Labkeep
from labkeep.core.faults import POINTS
from tests.fault.processes import Site, find, wait_for_jobs
from tests.fault.workload import Workload, assert_one_of, snapshot

MORE_TIMES = {
    "write.begun": (12, 30, 60),
    "write.committed": (15, 40),
    "blob.renamed": (9,),
    "blob.registered": (6,),
    "job.claimed": (5,),
}
"""Beside the first and the second time: points that are reached in many different circumstances."""

COMMON = [point for point in POINTS if not point.startswith(("apply.", "policy.", "keys.", "purge.left"))]
"""Large verbs, policies, keys and purges that are cancelled have workloads of their own."""

CASES = [f"{point}:{time}" for point in COMMON for time in sorted({1, 2, *MORE_TIMES.get(point, ())})]


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_lost_or_half_done_when_the_server_dies_at(case: str, tmp_path: Path) -> None:
    site = Site(tmp_path, LABKEEP_SEAL_MIN_ROWS="5")
    server = site.start(LABKEEP_FAULT=case).await_answer()
    with server.client() as client:
        workload = Workload(client)
        assert workload.run() is False, f"{case} was never reached"
    assert server.wait() == 137
    with Labkeep.local(site.data) as client:
        wait_for_jobs(client)
        assert_one_of(snapshot(client), workload)
        assert find(site.data, workload.purged) == {}
        workload.finish(client)
        assert client.audit.verify().intact
        assert find(site.data, workload.doomed + workload.parted + workload.erased) == {}
    site.assert_sound()


def test_the_workload_itself_comes_to_its_end(tmp_path: Path) -> None:
    site = Site(tmp_path, LABKEEP_SEAL_MIN_ROWS="5")
    with site.running() as server, server.client() as client:
        workload = Workload(client)
        assert workload.run() is True
        assert snapshot(client) == workload.before
        assert {job.task for job in client.jobs.list()} == {"seal", "purge", "purge_removal", "erasure.erase"}
        assert workload.purged == workload.doomed
        kept = workload.word("kept-0")
        assert {path.partition("/")[0] for path in find(site.data, [kept])[kept]} == {"blobs", "labkeep.db"}
    site.assert_sound()
