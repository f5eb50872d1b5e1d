"""The server dies in the middle of a run of a policy. After a restart the run ends, and everything went once."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkeep import Labkeep
from labkeep.core.errors import Unavailable
from labkeep.core.faults import POINTS
from tests.fault.processes import Server, Site, wait_for_jobs

OWN = [point for point in POINTS if point.startswith("policy.")]
CASES = [*OWN, "policy.applied:2", "job.claimed", "job.finished", "write.begun", "write.committed"]
RUNS, BEST = 1_300, 5


def prepare(client: Labkeep) -> dict[str, str]:
    """Runs of which five are best, three are blocked and one is locked; a policy for each of the two ways to go."""
    runs = [
        {"project": "p", "name": f"run-{n}", "status": "finished", "summary": {"acc": n / RUNS}} for n in range(RUNS)
    ]
    made = [one for at in range(0, RUNS, 650) for one in client.runs.create_many(runs[at : at + 650])]
    ids = {one.name: one.id for one in made}
    document = client.documents.create("p", "report", "report", body={})
    for name in ("run-10", "run-700", "run-900"):
        client.links.create(document.id, ids[name], "cites")
    client.items.lock(ids["run-11"])
    return ids


def states(client: Labkeep) -> dict[str, str]:
    return {run.name: str(run.state) for run in client.runs.list("p", state="any", limit=1_000)}


@pytest.mark.parametrize("case", CASES)
def test_a_run_of_a_policy_ends_after_a_crash_at(case: str, tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.running() as server, server.client() as client:
        ids = prepare(client)
        best = {"count": BEST, "metric": "summary.acc"}
        policy = client.policies.create("best", {"keep_best": best, "keep_bound": False}, project="p")
    doomed = site.start(LABKEEP_FAULT=case).await_answer()
    started = ask_for_a_run(doomed, policy.id)
    assert doomed.wait() == 137, f"{case} was never reached"
    with Labkeep.local(site.data) as client:
        started = started or client.policies.run(policy.id).report_id
        wait_for_jobs(client)
        report = client.policies.report(started)
        seen = states(client)
        assert client.audit.verify().intact
        trashed = sum(client.deletions.get(id).counts["run"] for id in report.body["deletions"])
    stayed = {name for name, state in seen.items() if state == "active"}
    expected = {f"run-{n}" for n in range(RUNS - BEST, RUNS)} | {"run-10", "run-700", "run-900", "run-11"}
    assert stayed == expected
    assert report.state == "done"
    assert report.counts == {"trash": {"run": RUNS - len(expected)}}
    assert trashed == RUNS - len(expected)
    assert {each["id"] for each in report.body["blocked_items"]} == {ids[f"run-{n}"] for n in (10, 700, 900)}
    assert report.body["blocked"] == 3
    site.assert_sound()


def ask_for_a_run(server: Server, policy_id: str) -> str | None:
    """The id of its report; None when the server died before it could answer."""
    try:
        with server.client() as client:
            return client.policies.run(policy_id).report_id
    except Unavailable:
        return None
