"""Experiments: what is started and stopped, and whose results come from their runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from labkeep.cli import options
from labkeep.cli.command import Command, Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.session import Session

if TYPE_CHECKING:
    from labkeep.core.commands import Experiment

STATUSES = ("draft", "running", "completed", "stopped")
PAST = {"start": "started", "stop": "stopped", "complete": "completed"}


@click.group(cls=Group)
def experiments() -> None:
    """Experiments: draft, running, completed or stopped."""


EXPERIMENTS = (
    Column("NAME", lambda e: e.name),
    Column("STATUS", lambda e: e.status),
    Column("VARIANTS", lambda e: len(e.variants)),
    Column("CREATED", lambda e: e.created_at),
    Column("STARTED", lambda e: e.started_at),
    Column("ID", lambda e: e.id, whole=True),
)


@experiments.command(
    "ls", examples=("labkeep experiments ls --status running", "labkeep experiments ls --project digits --all")
)
@options.project
@click.option("--status", type=click.Choice(STATUSES), help="Only those in this status.")
@options.state
@listed
@pass_session
def list_experiments(session: Session, project: str | None, status: str | None, state: str | None) -> None:
    """List experiments, newest first.

    Columns: name, status, number of variants, created, started, id.
    """
    from labkeep.client.requests import path
    from labkeep.core.commands import Experiment

    def fetch(**page: Any) -> Any:
        query = {"project": project, "status": status, "state": state, **page}
        return session.client.connection.pages(Experiment, path("/experiments"), **query)

    session.output.list(fetch, EXPERIMENTS, window())


@experiments.command(
    "show",
    examples=(
        "labkeep experiments show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep experiments show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json | jq .current_results",
    ),
)
@click.argument("id")
@options.include_trashed
@pass_session
def show_experiment(session: Session, id: str, include: str | None) -> None:
    """Show the experiment ID, with its results so far."""
    found = _read(session, id, include)
    names = [name for name in found.__struct_fields__ if name not in ("project_id", "current_results")]
    facts = [(name.replace("_", " "), getattr(found, name)) for name in names]
    session.output.facts(found, [*facts, ("current results", found.current_results or None)])


def _read(session: Session, id: str, include: str | None = None) -> Experiment:
    """Through the connection: the resource of the client answers plain dicts with local times."""
    from labkeep.client.experiment import existing
    from labkeep.client.requests import path
    from labkeep.core.commands import Experiment

    return session.client.connection.read(Experiment, path("/experiments/{id}", id=existing(id)), include=include)


def _verb(verb: str, summary: str) -> None:
    """Add the command that moves an experiment by ``verb``."""
    id = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"

    @click.argument("id")
    @pass_session
    def run(session: Session, id: str) -> None:
        move: Callable[[str], Any] = getattr(session.client.experiments, verb)
        move(id)
        after = _read(session, id)
        session.output.answer(after, f"{PAST[verb]} experiment {after.name}; it is {after.status} now")

    examples = (f"labkeep experiments {verb} {id}", f"labkeep experiments {verb} {id} --json")
    experiments.add_command(click.command(verb, cls=Command, help=summary, examples=examples)(run))


_verb("start", "Start the experiment ID: draft, stopped or completed → running.")
_verb("stop", "Stop the experiment ID, and with it the runs that are still open: running → stopped.")
_verb("complete", "Complete the experiment ID as planned: running → completed.")
