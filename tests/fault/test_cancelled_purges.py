"""The process dies while a cancelled purge leaves the rest: then what went is proven, and what stayed can be restored."""

from __future__ import annotations

from pathlib import Path

from labkeep.core.commands_jobs import ControlJob
from labkeep.operations import jobs, purges
from labkeep.storage.opening import open_database
from tests.fault.processes import Site, wait_for_jobs

LEFT = 5


def test_a_cancelled_purge_comes_to_its_end_after_dying(tmp_path: Path) -> None:
    site = Site(tmp_path)
    server = site.start(LABKEEP_FAULT="purge.removed:1").await_answer()
    with server.client() as client:
        client.projects.create("p")
        made = client.runs.create_many([{"project": "p", "status": "finished"}] * (purges.BATCH + LEFT))
        deletion = client.deletions.get(str(client.apply("trash", ids=[run.id for run in made]).deletion_id))
        job = str(client.deletions.purge(deletion.id).job_id)
    assert server.wait() == 137
    _cancel(site, job, deletion.organization_id, deletion.workspace_id)
    assert site.start(LABKEEP_FAULT="purge.left:1").wait() == 137
    with site.running() as server, server.client() as client:
        wait_for_jobs(client)
        assert client.jobs.get(job).state == "cancelled"
        what = client.receipts.of_deletion(deletion.id).body["what"]
        assert (what["items"], what["kept"]["items"]) == (purges.BATCH, LEFT)
        assert client.apply("restore", ids=what["kept"]["item_ids"]).counts == {"run": LEFT}
        assert client.audit.verify().intact
    site.assert_sound()


def _cancel(site: Site, job: str, organization_id: str, workspace_id: str) -> None:
    """As the last thing that a server did: there is no time for it between its second batch and its end."""
    database = open_database("", data=site.data)
    database.write(jobs.cancel, purges.system(organization_id, workspace_id), ControlJob(id=job))
    database.close()
