"""The process dies between any two effects of a large verb. Then: the job comes to its end, nothing is done twice or left
half, every check is clean, and restoring gives back exactly the world that was there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkeep import Labkeep
from labkeep.core.errors import Unavailable
from labkeep.core.faults import POINTS
from tests.fault.processes import Site, wait_for_jobs

PROJECT = "drafts"
RUNS = 23

TIMES = {
    "apply.staged": (1, 2, 3),
    "apply.accepted": (1, 2, 3),
    "apply.moved": (1, 2, 5, 8),
    "apply.unstaged": (1,),
    "apply.closing": (1, 2, 3),
    "apply.closed": (1, 2, 3),
}
"""Point -> at which of the times that it is reached the process dies."""

CASES = [f"{point}:{time}" for point, times in TIMES.items() for time in times]


def test_every_point_of_a_large_verb_is_tried() -> None:
    assert set(TIMES) == {point for point in POINTS if point.startswith("apply.")}


def furnish(client: Labkeep) -> None:
    """A project with runs, some of them archived, one that is the base of others, and documents that are bound."""
    client.projects.create(PROJECT)
    made = client.runs.create_many([{"project": PROJECT, "name": f"r{n}", "status": "finished"} for n in range(RUNS)])
    for run in list(made)[:4]:
        client.runs.archive(run.id)
    for number in range(3):
        document = client.documents.create(PROJECT, "prompt", f"d{number}", body={"text": str(number)})
        client.environments.bind(PROJECT, f"env{number}", document.id)


def world(client: Labkeep) -> dict[str, Any]:
    """All of it, as a client sees it."""
    if not list(client.projects.list(name=PROJECT)):
        return {}
    runs = sorted((run.name, str(run.state), str(run.status)) for run in client.runs.list(PROJECT, state="any"))
    documents = {document.id: document.name for document in client.documents.list(PROJECT, state="any")}
    bound = {one.name: (documents.get(one.document_id or ""), one.number) for one in client.environments.list(PROJECT)}
    return {"runs": runs, "documents": sorted(documents.values()), "bound": bound}


def work(client: Labkeep) -> None:
    """Trash the whole project, take it back, and begin to trash its runs but cancel that."""
    outcome = client.projects.trash(PROJECT, force=True, background=True)
    assert client.jobs.wait(str(outcome.job_id)).state == "done"
    assert world(client) == {}
    back = client.deletions.restore(str(outcome.deletion_id), background=True)
    assert client.jobs.wait(str(back.job_id)).state == "done"
    slow = client.apply("trash", project=PROJECT, q='name ~ "r"', background=True, rate=10)
    client.jobs.wait(str(slow.job_id), every_s=0.02, on_progress=lambda job: job.done and client.jobs.cancel(job.id))
    client.deletions.restore(str(slow.deletion_id), background=False)


def take_everything_back(client: Labkeep) -> None:
    """Restore every deletion that holds something."""
    for deletion in client.deletions.list(state="trashed"):
        client.deletions.restore(deletion.id, background=False)


@pytest.mark.parametrize("case", CASES)
def test_a_large_verb_comes_to_its_end_after_dying_at(case: str, tmp_path: Path) -> None:
    site = Site(tmp_path, LABKEEP_APPLY_BATCH="5")
    server = site.start(LABKEEP_FAULT=case).await_answer()
    with server.client() as client:
        furnish(client)
        before = world(client)
        with pytest.raises(Unavailable):
            work(client)
    assert server.wait() == 137
    with site.running() as server, server.client() as client:
        wait_for_jobs(client)
        assert list(client.deletions.list(state="applying")) == []
        for deletion in client.deletions.list(state="trashed"):
            held = [m for m in client.deletions.members(deletion.id) if m.outcome == "trashed"]
            assert len(held) <= sum(deletion.counts.values())
        take_everything_back(client)
        assert world(client) == before
        assert client.audit.verify().intact
    site.assert_sound()


def test_without_dying_the_world_is_the_same_in_the_end(tmp_path: Path) -> None:
    site = Site(tmp_path, LABKEEP_APPLY_BATCH="5")
    with site.running() as server, server.client() as client:
        furnish(client)
        before = world(client)
        work(client)
        assert world(client) == before
        trashed = [event.count for event in client.audit.list(event="run.trashed") if event.count]
        assert sum(trashed) == sum(event.count for event in client.audit.list(event="run.restored"))
    site.assert_sound()
