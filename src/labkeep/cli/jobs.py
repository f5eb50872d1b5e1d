"""Background jobs: looking at them, waiting for them, and telling them what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from labkeep.cli.command import Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.progress import ENDED, remaining, wait_for
from labkeep.cli.session import Session

if TYPE_CHECKING:
    from labkeep.core.entities import Job


@click.group(cls=Group)
def jobs() -> None:
    """Background work: large verbs, purges and sealing."""


STATES = ("queued", "running", "paused", "done", "failed", "cancelled")

JOBS = (
    Column("TASK", lambda j: j.result.get("verb", j.task)),
    Column("STATE", lambda j: j.state),
    Column("DONE", lambda j: j.done),
    Column("TOTAL", lambda j: j.total),
    Column("ATTEMPTS", lambda j: j.attempts),
    Column("CREATED", lambda j: j.created_at),
    Column("FINISHED", lambda j: j.finished_at),
    Column("ERROR", lambda j: j.error),
    Column("ID", lambda j: j.id, whole=True),
)


@jobs.command("ls", examples=("labkeep jobs ls", "labkeep jobs ls --state failed --all"))
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@listed
@pass_session
def list_jobs(session: Session, state: str | None) -> None:
    """List background jobs, newest first.

    Columns: task, state, done, total, attempts, created, finished, error, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.jobs.list(state=state, **page)

    session.output.list(fetch, JOBS, window())


def _show(session: Session, job: Job) -> None:
    hidden = ("organization_id", "workspace_id")
    names = [field for field in job.__struct_fields__ if field not in hidden]
    facts = [(name.replace("_", " "), getattr(job, name)) for name in names]
    session.output.facts(job, [*facts, ("left", remaining(job))])


@jobs.command(
    "show",
    examples=(
        "labkeep jobs show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep jobs show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json | jq .result",
    ),
)
@click.argument("id")
@pass_session
def show_job(session: Session, id: str) -> None:
    """Show the job ID."""
    _show(session, session.client.jobs.get(id))


@jobs.command(
    "wait",
    examples=(
        "labkeep jobs wait 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep jobs wait 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --timeout 3600",
    ),
)
@click.argument("id")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="SECONDS", help="[default: for ever]")
@pass_session
def wait_for_job(session: Session, id: str, timeout_s: float | None) -> None:
    """Wait until the job ID has ended. Exit code 1 when it failed or was cancelled, 6 when time ran out."""
    _show(session, wait_for(session, id, timeout_s=timeout_s))


@jobs.command(
    "watch",
    examples=(
        "labkeep jobs watch 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep jobs watch 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json | jq .state",
    ),
)
@click.argument("id")
@pass_session
def watch_job(session: Session, id: str) -> None:
    """Watch the job ID until it ends or is paused. Ctrl-C ends the watching, and not the job."""
    _show(session, wait_for(session, id, ends=(*ENDED, "paused")))


ITEMS = (
    Column("OUTCOME", lambda i: i.outcome),
    Column("WHY", lambda i: i.reason),
    Column("ID", lambda i: i.item_id, whole=True),
)


@jobs.command(
    "items",
    examples=(
        "labkeep jobs items 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep jobs items 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --outcome blocked --all --json",
    ),
)
@click.argument("id")
@click.option("--outcome", type=click.Choice(("already", "blocked", "stale")), help="Only these.")
@listed
@pass_session
def list_items(session: Session, id: str, outcome: str | None) -> None:
    """List what the job ID left as it was, and why. What went well is only counted: `labkeep jobs show`.

    Columns: outcome, why, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.jobs.items(id, outcome=outcome, **page)

    session.output.list(fetch, ITEMS, window())


@jobs.command(
    "pause",
    examples=(
        "labkeep jobs pause 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep jobs pause 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json | jq .state",
    ),
)
@click.argument("id")
@pass_session
def pause_job(session: Session, id: str) -> None:
    """Have the job ID wait until it is resumed. What it has done stays done."""
    job = session.client.jobs.pause(id)
    session.output.answer(job, f"pausing; go on with: labkeep jobs resume {id}")


@jobs.command(
    "resume",
    examples=(
        "labkeep jobs resume 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep jobs resume 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --rate 500",
    ),
)
@click.argument("id")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N objects a second.")
@pass_session
def resume_job(session: Session, id: str, rate: float | None) -> None:
    """Let the job ID go on, one that failed included."""
    job = session.client.jobs.resume(id, rate=rate)
    session.output.answer(job, f"goes on; watch it with: labkeep jobs watch {id}")


@jobs.command(
    "rate",
    examples=(
        "labkeep jobs rate 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 500",
        "labkeep jobs rate 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
    ),
)
@click.argument("id")
@click.argument("rate", required=False, type=click.FloatRange(min=0, min_open=True))
@pass_session
def limit_job(session: Session, id: str, rate: float | None) -> None:
    """Limit the job ID to RATE objects a second; without RATE it goes as fast as it can."""
    job = session.client.jobs.set_rate(id, rate)
    session.output.answer(job, "no limit" if rate is None else f"at most {rate:g} objects a second")


@jobs.command(
    "cancel",
    examples=(
        "labkeep jobs cancel 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep jobs cancel 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json | jq .state",
    ),
)
@click.argument("id")
@pass_session
def cancel_job(session: Session, id: str) -> None:
    """End the job ID before it is done. What it has done so far can be taken back, as it says."""
    job = session.client.jobs.cancel(id)
    back = {"trash": f"restore --deletion {job.result.get('deletion_id')}"}
    back |= dict.fromkeys(("archive", "unarchive", "restore"), f"undo {job.id}")
    undo = back.get(job.result.get("verb", ""))
    then = f"; undo what it did: labkeep {undo}" if undo else ""
    if job.task == "purge":
        then = "; what is not purged yet stays in the trash"
    session.output.answer(job, f"cancelling{then}")
