"""What is in the trash, and the records of how it got there."""

from __future__ import annotations

from typing import Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size, count_of
from labkeep.cli.command import Command, Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import PAGE, Column
from labkeep.cli.session import Session

KINDS = ("run", "document", "artifact", "artifact_version", "project")

TRASHED = (
    Column("NAME", lambda i: i.name),
    Column("KIND", lambda i: i.type or i.kind),
    Column("BY", lambda i: i.trashed_by),
    Column("WHEN", lambda i: i.trashed_at),
    Column("WHY", lambda i: i.reason),
    Column("TICKET", lambda i: i.ticket),
    Column("DAYS LEFT", lambda i: i.days_left),
    Column("SIZE", lambda i: Size(i.bytes)),
    Column("DELETION", lambda i: i.deletion_id, whole=True),
    Column("ID", lambda i: i.id, whole=True),
)


@click.command(
    cls=Command,
    examples=("labkeep trashed", "labkeep trashed --project digits --kind run", "labkeep trashed --all --json"),
)
@options.project
@click.option("--kind", type=click.Choice(KINDS), help="Only one kind of object.")
@click.option(
    "--order",
    type=click.Choice(("newest", "oldest", "largest", "due")),
    help="What comes first; due is what is purged next.  [default: newest]",
)
@listed
@pass_session
def trashed(session: Session, project: str | None, kind: str | None, order: str | None) -> None:
    """List what is in the trash: who put it there, when, why, and how long it can be restored.

    `labkeep trash` puts something there. Columns: name, kind, by, when, why, ticket, days left, size, deletion, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.trash.list(kind=kind, project=project, order=order, **page)

    session.output.list(fetch, TRASHED, window())


@click.group(cls=Group)
def deletions() -> None:
    """The records of each trash: who, when, why, what, and what became of it."""


DELETIONS = (
    Column("STATE", lambda d: d.state),
    Column("WHAT", lambda d: count_of(d.counts)),
    Column("SIZE", lambda d: Size(d.bytes)),
    Column("BY", lambda d: d.actor),
    Column("WHEN", lambda d: d.created_at),
    Column("WHY", lambda d: d.reason),
    Column("RESTORABLE UNTIL", lambda d: d.restorable_until if d.state == "trashed" else None),
    Column("ID", lambda d: d.id, whole=True),
)


@deletions.command(
    "ls",
    examples=(
        "labkeep deletions ls",
        "labkeep deletions ls --state purged --all",
        "labkeep deletions ls --item 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
    ),
)
@click.option(
    "--state", type=click.Choice(("trashed", "waiting", "restored", "purging", "purged")), help="Only in this state."
)
@click.option("--item", metavar="ID", help="Only those that hold, or held, this object.")
@listed
@pass_session
def list_deletions(session: Session, state: str | None, item: str | None) -> None:
    """List deletions, newest first.

    Columns: state, what, size, by, when, why, restorable until, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.deletions.list(state=state, item_id=item, **page)

    session.output.list(fetch, DELETIONS, window())


MEMBERS = (
    Column("KIND", lambda m: m.kind),
    Column("BEFORE", lambda m: m.previous_state),
    Column("NOW", lambda m: m.outcome),
    Column("ID", lambda m: m.item_id, whole=True),
)


@deletions.command(
    "show",
    examples=(
        "labkeep deletions show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep deletions show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json | jq .verification",
    ),
)
@click.argument("id")
@click.option("--members", is_flag=True, help="Also list everything that belonged to it.")
@pass_session
def show_deletion(session: Session, id: str, members: bool) -> None:
    """Show the deletion ID: what went, who, why, and, once it was purged, what verified it."""
    found = session.client.deletions.get(id)
    held = list(session.client.deletions.members(id, limit=PAGE)) if members else []
    if session.json:
        fields = {name: getattr(found, name) for name in found.__struct_fields__}
        session.output.json({**fields, "members": held} if members else fields)
        return
    facts = [
        ("id", found.id),
        ("state", found.state),
        ("what", count_of(found.counts)),
        ("size", Size(found.bytes)),
        ("by", found.actor),
        ("client", found.client),
        ("when", found.created_at),
        ("reason", found.reason),
        ("ticket", found.ticket),
        ("restorable until", found.restorable_until if found.state == "trashed" else None),
        ("restored", found.restored_at),
        ("purged", found.purged_at),
        ("purged by", found.purged_by),
        ("purge asked for by", found.purge_requested_by),
        ("purge asked for", found.purge_requested_at),
        ("commitment", found.commitment),
        *((f"verified: {name.replace('_', ' ')}", value) for name, value in found.verification.items()),
    ]
    session.output.facts(found, facts)
    if held:
        session.output.line("")
        session.output.rows(MEMBERS, held)
