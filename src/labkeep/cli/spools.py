"""Sending what runs had to keep on disk while the server was away."""

from __future__ import annotations

import click

from labkeep.cli.command import Command, pass_session
from labkeep.cli.output import Column
from labkeep.cli.session import Session
from labkeep.core.errors import Unavailable

SYNCED = (
    Column("OUTCOME", lambda s: s.outcome),
    Column("ROWS", lambda s: s.rows),
    Column("MESSAGE", lambda s: s.message),
    Column("FILE", lambda s: s.file),
    Column("RUN", lambda s: s.run_id, whole=True),
)


@click.command(
    cls=Command,
    examples=("labkeep sync", "labkeep sync /scratch/labkeep-spool", "labkeep --url https://labkeep.example.com sync"),
)
@click.argument("folder", required=False)
@pass_session
def sync(session: Session, folder: str | None) -> None:
    """Send the runs that were kept on disk because the server was away, and remove what it has acknowledged.

    FOLDER is LABKEEP_SPOOL, or labkeep/spool in your data folder, unless named. It may be interrupted, or run twice at
    once. Runs of another server are kept, unless --url says that this one is meant. Exit code 6 when something was
    kept. Columns: outcome (sent, gone, kept, busy), rows, message, file, run.
    """
    from labkeep.client.sync import sync as send

    client = session.client if session.dir is not None else None
    done = send(folder, url=session.url, client=client)
    session.output.table(SYNCED, done)
    if not done and not session.json:
        session.output.note("Nothing was kept on disk.")
    if any(one.outcome in ("kept", "busy") for one in done):
        click.get_current_context().exit(Unavailable.exit_code)
