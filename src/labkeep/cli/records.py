"""What was done, and who holds how much: the audit trail and usage."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from labkeep.cli.cells import Size
from labkeep.cli.command import Command, Group, pass_session
from labkeep.cli.options import Moment, listed, window
from labkeep.cli.output import Column
from labkeep.cli.session import Session
from labkeep.core.errors import Corrupt


@click.group(cls=Group)
def audit() -> None:
    """Who did what, when and why: a chain that shows when somebody changed it."""


EVENTS = (
    Column("SEQ", lambda e: e.seq),
    Column("TIME", lambda e: e.at),
    Column("ACTOR", lambda e: e.actor),
    Column("EVENT", lambda e: e.event),
    Column("COUNT", lambda e: e.count),
    Column("REASON", lambda e: e.reason),
    Column("TICKET", lambda e: e.ticket),
    Column("DELETION", lambda e: e.deletion_id, whole=True),
    Column("SUBJECT", lambda e: e.subject_id, whole=True),
)


@audit.command(
    "ls",
    examples=(
        "labkeep audit ls --since -7d",
        "labkeep audit ls --event run.purged --all --json",
        "labkeep audit ls --id 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
    ),
)
@click.option("--id", metavar="ID", help="Only what is about this object or deletion.")
@click.option("--event", metavar="EVENT", help="Only this event, like run.trashed.")
@click.option("--actor", metavar="USER", help="Only what this user did.")
@click.option("--since", type=Moment(), metavar="TIME", help="Only from then on: 2026-11-01, or -7d.")
@click.option("--oldest-first", is_flag=True, help="In the order in which it happened.")
@listed
@pass_session
def list_events(
    session: Session, id: str | None, event: str | None, actor: str | None, since: datetime | None, oldest_first: bool
) -> None:
    """List audit events, newest first. They hold ids and counts, never content.

    Columns: number, time, actor, event, count, reason, ticket, deletion, object.
    """

    def fetch(**page: Any) -> Any:
        ascending = oldest_first or None
        return session.client.audit.list(id=id, event=event, actor=actor, since=since, ascending=ascending, **page)

    session.output.list(fetch, EVENTS, window())


@audit.command("verify", examples=("labkeep audit verify", "labkeep audit verify --json"))
@pass_session
def verify_audit(session: Session) -> None:
    """Check that every audit event still follows from the one before it.

    Exit code 7 when one does not. Keep the head that it prints: it proves later that nothing before it was changed.
    """
    report = session.client.audit.verify()
    verdict = "intact" if report.intact else f"BROKEN at event {report.first_break}"
    session.output.answer(report, f"{report.events} events, {verdict}; head {report.head}")
    if not report.intact:
        click.get_current_context().exit(Corrupt.exit_code)


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
