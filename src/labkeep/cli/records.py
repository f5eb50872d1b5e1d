"""What was done, and who holds how much: the audit trail and usage."""

from __future__ import annotations

import click

from labkeep.cli.cells import Size
from labkeep.cli.command import Command, pass_session
from labkeep.cli.output import Column
from labkeep.cli.session import Session

USAGE = (
    Column("SIZE", lambda u: Size(u.bytes)),
    Column("OBJECTS", lambda u: u.items),
    Column("TRASHED", lambda u: Size(u.trashed_bytes)),
    Column("IN TRASH", lambda u: u.trashed_items),
    Column("NAME", lambda u: u.name or u.id),
)


@click.command(
    cls=Command,
    examples=(
        "labkeep du",
        "labkeep du --by user",
        "labkeep du --by run --project digits --limit 10",
        "labkeep du --by kind --json | jq '.items[0].bytes'",
    ),
)
@click.option(
    "--by",
    type=click.Choice(("organization", "workspace", "project", "run", "user", "tag", "kind")),
    default="project",
    show_default=True,
)
@click.option("--project", help="Only what is in this project (id or name).")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Lines at most.")
@pass_session
def du(session: Session, by: str, project: str | None, limit: int) -> None:
    """Show who holds how much, largest first, and how much of it sits in the trash.

    Columns: size, objects, size of what is in the trash, objects in the trash, name. Content that several objects share
    counts for each of them. By organization and workspace needs the role owner.
    """
    session.output.table(USAGE, list(session.client.usage.list(by=by, project=project, limit=limit)))
