"""Following what a verb left to the background, to its end or until a person has enough of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from labkeep.cli.cells import size
from labkeep.cli.progress import wait_for
from labkeep.cli.session import Session
from labkeep.core.commands import Outcome

if TYPE_CHECKING:
    from labkeep.core.entities import Job

INTERRUPTED = 130
"""Exit code of a command that was ended by Ctrl-C."""


class Followed(NamedTuple):
    """What a verb came to in the end, the purges that are part of it, and remarks."""

    outcome: Outcome
    purges: list[Job]
    remarks: list[str]


def follow(session: Session, outcome: Outcome) -> Followed:
    """Wait for the jobs of ``outcome``, and those that they cause. Ctrl-C asks what shall become of them."""
    purges: list[Job] = []
    remarks: list[str] = []
    waiting = list(outcome.job_ids)
    while waiting:
        job = _wait(session, waiting.pop(0))
        if job.task == "purge":
            purges.append(job)
            continue
        waiting += job.result.get("job_ids", ())
        outcome = _with_result(outcome, job)
        remarks += _remarks(job)
    return Followed(outcome, purges, remarks)


def _with_result(outcome: Outcome, job: Job) -> Outcome:
    found = job.result
    return msgspec.structs.replace(
        outcome,
        counts=found.get("counts", {}),
        bytes=found.get("bytes", 0),
        already=found.get("outcomes", {}).get("already", 0),
        not_rebound=found.get("not_rebound", []),
        job_id=None,
        job_ids=[],
    )


def _remarks(job: Job) -> list[str]:
    left = {name: job.result.get("outcomes", {}).get(name, 0) for name in ("blocked", "stale")}
    stayed = ", ".join(f"{count} {name}" for name, count in left.items() if count)
    freed = job.result.get("will_free_bytes", 0)
    remarks = [f"stayed as they were: {stayed}; see labkeep jobs items {job.id}"] if stayed else []
    if freed and job.result.get("verb") == "trash":
        remarks.append(f"{size(freed)} will be freed when it is purged")
    return remarks


def _wait(session: Session, id: str) -> Job:
    try:
        return wait_for(session, id)
    except KeyboardInterrupt:
        _stop(session, id)
        raise click.exceptions.Exit(INTERRUPTED) from None


def _stop(session: Session, id: str) -> None:
    """Pause the job, or what a person says instead."""
    wish = "pause"
    if session.interactive:
        click.echo(err=True)
        choice = click.Choice(("pause", "cancel", "leave"))
        wish = click.prompt("Pause the job, cancel it, or leave it running?", type=choice, default=wish, err=True)
    jobs = session.client.jobs
    if wish == "leave":
        click.echo(f"It goes on: labkeep jobs watch {id}", err=True)
    elif wish == "cancel":
        purges = jobs.cancel(id).task == "purge"
        left = "what is not purged yet stays in the trash" if purges else "what has gone so far can be restored"
        click.echo(f"Cancelled; {left}: labkeep jobs show {id}", err=True)
    else:
        jobs.pause(id)
        click.echo(f"Paused. Go on: labkeep jobs resume {id} · end it: labkeep jobs cancel {id}", err=True)
