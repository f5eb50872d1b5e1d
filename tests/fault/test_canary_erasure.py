"""A person's id in every part of runs and documents. After the erasure it is nowhere in the data folder: not in the
database, its log or the index of that log, not in a blob, not in a temporary file, not inside of anything compressed."""

from __future__ import annotations

import os
from pathlib import Path

from labkeep import Labkeep
from tests.fault.processes import SHIM, Site, find, wait_for_jobs

PERSON = "person-4711-canary"


def plant(client: Labkeep) -> None:
    run = client.runs.create(
        "people",
        name=f"trial of {PERSON}",
        config={"who": PERSON, PERSON: [PERSON]},
        summary={"best": PERSON},
        notes=PERSON + " " + "x" * 9_000,
        tags=[PERSON],
    )
    client.rows.write(run.id, [{"id": "a", "data": {"input": PERSON + " " + "y" * 3_000}}])
    client.rows.write(run.id, [{"id": "a", "data": {"input": f"newer {PERSON}"}}, {"id": PERSON, "data": {}}])
    client.rows.write(run.id, [{"id": "gone", "data": {"input": PERSON}}])
    client.removals.remove(run.id, "row", ids=["gone"], reason="wrong")
    client.runs.append_history(run.id, [{"_step": n, "said": f"{PERSON} {n}"} for n in range(8)], offset=0)
    client.runs.append_history(run.id, [{"_step": 0, "line": PERSON}], stream="console", offset=0)
    client.files.upload(run.id, "notes.txt", (PERSON + "\n").encode() * 2_000)
    client.files.upload(run.id, f"{PERSON}.bin", b"\x00\x01")
    client.files.upload(run.id, "removed.txt", PERSON.encode())
    client.removals.remove(run.id, "file", ref="removed.txt")
    client.runs.finish(run.id, summary={"last": PERSON})
    document = client.documents.create("people", "prompt", "letter", body={"text": f"Dear {PERSON}"}, message=PERSON)
    client.documents.commit(document.id, {"text": "plain"})
    client.plan("trash", ids=[run.id])
    trashed = client.runs.create("people", notes=PERSON, status="finished")
    client.runs.trash(trashed.id)
    wait_for_jobs(client)


def test_not_one_byte_speaks_of_a_person_who_was_erased(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(SHIM), os.environ.get("PYTHONPATH", "")]))
    site = Site(tmp_path, LABKEEP_SEAL_MIN_ROWS="5", PYTHONPATH=path, UPSTREAM_SQLITE="upstream")
    with site.running() as server, server.client() as client:
        plant(client)
        asked = client.erasures.create(PERSON, ticket="DSR-1", reason=f"{PERSON} asks")
        client.jobs.wait(client.erasures.preview(asked.id).job_id or "")
        assert PERSON not in repr(client.erasures.get(asked.id).report)
        assert find(site.data, [PERSON])[PERSON]
        client.jobs.wait(client.erasures.run(asked.id).job_id or "")
        done = client.erasures.get(asked.id)
        assert (done.state, done.subject) == ("done", ""), done
        assert find(site.data, [PERSON]) == {}
        assert client.audit.verify().intact
    assert find(site.data, [PERSON]) == {}
    site.assert_sound()
