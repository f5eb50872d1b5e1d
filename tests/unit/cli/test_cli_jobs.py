"""Large verbs on the command line: waiting for their jobs, looking at them, and telling them what to do."""

from __future__ import annotations

import pytest

from labkeep.cli.following import follow
from labkeep.cli.progress import remaining
from labkeep.cli.session import Session
from labkeep.core.entities import Job
from tests.unit.cli.folder_cli import Cli, MakeRun


@pytest.fixture
def drafts(project: str, make_run: MakeRun) -> list[str]:
    return [make_run(f"draft-{number}") for number in range(4)]


def selected(project: str) -> tuple[str, ...]:
    return ("-p", project, "-q", 'name ~ "draft"', "--yes")


def started(cli: Cli, project: str, *options: str) -> str:
    """The id of a job that trashes the drafts."""
    done = cli.json("trash", *selected(project), "--background", *options)
    assert done["counts"] == {}
    return str(done["job_id"])


def test_a_verb_that_is_left_to_the_background_says_where_to_look(cli: Cli, project: str, drafts: list[str]) -> None:
    said = cli("trash", *selected(project), "--background").stdout
    job = said.rpartition("labkeep jobs wait ")[2].strip()
    assert ["state", "done"] in cli.lines("jobs", "watch", job)
    assert ["trash", "done", "4", "4"] in [line[:4] for line in cli.lines("jobs", "ls", "--state", "done")]
    assert len(cli.lines("trashed")) == 4


def test_following_a_job_tells_what_it_came_to(cli: Cli, project: str, drafts: list[str]) -> None:
    cli("lock", drafts[0])
    outcome = cli.client.apply("trash", ids=drafts[1:], background=True)
    session = Session(human=False, interactive=False)
    session.__dict__["client"] = cli.client
    followed = follow(session, outcome)
    assert (followed.outcome.counts, followed.outcome.undo) == ({"run": 3}, outcome.deletion_id)
    assert followed.outcome.job_ids == []
    purge = follow(session, cli.client.apply("purge", ids=drafts[1:], background=True))
    assert [job.state for job in purge.purges] == ["done"]


def test_a_job_is_limited_paused_resumed_and_cancelled(cli: Cli, project: str, drafts: list[str]) -> None:
    job = started(cli, project, "--rate", "0.01")
    assert cli.json("jobs", "rate", job, "0.02")["payload"]["rate"] == 0.02
    assert cli.json("jobs", "pause", job)["state"] in ("queued", "running", "paused")
    assert ["state", "paused"] in cli.lines("jobs", "watch", job)
    assert cli("jobs", "resume", job, "--rate", "0.01").stdout.startswith("goes on")
    said = cli("jobs", "cancel", job).stdout
    deletion = said.rpartition("--deletion ")[2].strip()
    assert cli("jobs", "wait", job, "--timeout", "60").exit_code == 1
    state = cli.json("deletions", "show", deletion)
    assert state["state"] in ("trashed", "cancelled")
    assert sum(state["counts"].values()) <= 1


def test_what_a_job_left_is_listed_with_the_reason(cli: Cli, project: str, drafts: list[str]) -> None:
    job = started(cli, project)
    assert ["state", "done"] in cli.lines("jobs", "wait", job)
    assert cli.lines("jobs", "items", job) == []
    assert cli.json("jobs", "items", job, "--outcome", "blocked")["items"] == []
    assert cli.error("jobs", "items", drafts[0])["exit_code"] == 4


def test_the_time_that_is_left_follows_from_the_speed(cli: Cli, project: str, drafts: list[str]) -> None:
    job = cli.client.jobs.get(started(cli, project))
    fields = {name: getattr(job, name) for name in job.__struct_fields__}
    under_way = Job(**{**fields, "state": "running", "done": 100, "total": 1_100, "result": {"speed": 10.0}})
    assert remaining(under_way) == "0:01:40"
    assert remaining(Job(**{**fields, "state": "running", "result": {}})) == ""


def test_what_a_job_did_is_taken_back_by_its_id_and_said_when_it_is_done(
    cli: Cli, project: str, drafts: list[str]
) -> None:
    said = cli("archive", *selected(project), "--background").stdout
    job = said.rpartition("labkeep jobs wait ")[2].strip()
    cli("jobs", "wait", job)
    assert cli("undo", job).stdout.startswith("unarchived 4 runs")
    trashing = started(cli, project)
    cli("jobs", "wait", trashing)
    assert cli("undo", trashing).stdout.startswith("restored 4 runs")


def test_a_cancelled_job_says_how_to_take_back_what_it_did(cli: Cli, project: str, drafts: list[str]) -> None:
    said = cli("archive", *selected(project), "--background", "--rate", "0.01").stdout
    job = said.rpartition("labkeep jobs wait ")[2].strip()
    assert cli("jobs", "cancel", job).stdout == f"cancelling; undo what it did: labkeep undo {job}\n"
