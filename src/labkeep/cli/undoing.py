"""``labkeep undo``: the way back that every answer names."""

from __future__ import annotations

import click

from labkeep.cli.command import Command, pass_session
from labkeep.cli.session import Session


@click.command(
    cls=Command,
    examples=(
        "labkeep undo 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep undo WyJhcmNoaXZlIiwxNzY0MDAwMDAwMDAwMDAwLDNd --reason 'too early'",
    ),
)
@click.argument("token")
@click.option("--reason", metavar="TEXT", help="Why, for the record and the audit trail.")
@pass_session
def undo(session: Session, token: str, reason: str | None) -> None:
    """Take back a trash, archive, unarchive or restore by the TOKEN that it answered.

    Of what a job did, TOKEN is the id of the job. What was changed since by somebody else stays as it is.
    """
    from labkeep.cli.following import follow
    from labkeep.cli.plans import report

    outcome, _, remarks = follow(session, session.client.undo(token, reason=reason))
    if session.json:
        session.output.json(outcome)
        return
    for line in (*report(outcome, (), session.now()), *remarks):
        session.output.line(line)
