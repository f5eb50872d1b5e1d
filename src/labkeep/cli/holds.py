"""Legal holds."""

from __future__ import annotations

from typing import Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size, count_of, size
from labkeep.cli.command import Group, pass_session
from labkeep.cli.deletions import KINDS
from labkeep.cli.options import listed, window
from labkeep.cli.output import PAGE, Column
from labkeep.cli.references import target_id
from labkeep.cli.session import Session

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"


@click.group(cls=Group)
def hold() -> None:
    """Legal holds: what they cover is removed by nobody and nothing until they are lifted."""


HOLDS = (
    Column("STATE", lambda h: h.state),
    Column("MATTER", lambda h: h.matter),
    Column("CUSTODIAN", lambda h: h.custodian),
    Column("COVERS", lambda h: f"{h.kind}s: {h.q or 'all'}" if h.kind else "objects by id"),
    Column("BY", lambda h: h.created_by),
    Column("SINCE", lambda h: h.created_at),
    Column("ID", lambda h: h.id, whole=True),
)

HELD = (
    Column("NAME", lambda i: i.name),
    Column("KIND", lambda i: i.type or i.kind),
    Column("STATE", lambda i: i.state),
    Column("SIZE", lambda i: Size(i.bytes)),
    Column("ID", lambda i: i.id, whole=True),
)


@hold.command(
    "set",
    examples=(
        f"labkeep hold set --matter 'Case 12/2026' {ID}",
        "labkeep hold set --matter 'Case 12/2026' project:digits --custodian legal@example.com",
        "labkeep hold set --matter 'Model audit' --kind run --project digits -q 'tag = \"released\"' --dry-run",
    ),
)
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@click.option("--matter", metavar="TEXT", help="The case or reason that it serves.")
@click.option("--custodian", metavar="WHO", help="Who answers for it.")
@click.option("--reason", metavar="TEXT", help="Why, for the record and the audit trail.")
@options.query
@options.project
@click.option("--kind", type=click.Choice(KINDS), help="What a standing query looks for; without --query, all of it.")
@click.option("--dry-run", is_flag=True, help="Show what it would cover now, and set nothing.")
@pass_session
def set_hold(
    session: Session,
    targets: tuple[str, ...],
    matter: str | None,
    custodian: str | None,
    reason: str | None,
    query: str | None,
    project: str | None,
    kind: str | None,
    dry_run: bool,
) -> None:
    """Hold TARGETs (ids, project:NAME, or PROJECT/NAME of a run), or whatever matches a standing query, also later.

    Prints the id of the hold.
    """
    ids = [target_id(session.client, target, trashed=False) for target in targets] or None
    scope: dict[str, Any] = {"ids": ids, "kind": kind, "q": query, "project": project}
    if dry_run:
        _preview(session, scope)
        return
    if not matter:
        raise click.UsageError("Say which case it serves: --matter TEXT")
    made = session.client.holds.set(matter, **scope, custodian=custodian, reason=reason)
    session.output.answer(made, made.id)


def _preview(session: Session, scope: dict[str, Any]) -> None:
    found = session.client.holds.preview(**scope)
    if session.json:
        session.output.json(found)
        return
    session.output.line(f"would hold {count_of(found.counts)} ({size(found.bytes)})")
    session.output.rows(HELD, found.items)


@hold.command("ls", examples=("labkeep hold ls", "labkeep hold ls --state lifted", f"labkeep hold ls --item {ID}"))
@click.option("--state", type=click.Choice(("active", "lifted")), help="Only in this state.")
@click.option("--item", metavar="ID", help="Only those that hold this object now.")
@listed
@pass_session
def list_holds(session: Session, state: str | None, item: str | None) -> None:
    """List holds, newest first.

    Columns: state, matter, custodian, covers, by, since, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.holds.list(state=state, item_id=item, **page)

    session.output.list(fetch, HOLDS, window())


@hold.command("show", examples=(f"labkeep hold show {ID}", f"labkeep hold show {ID} --items"))
@click.argument("id")
@click.option("--items", is_flag=True, help="Also list everything that it covers now.")
@pass_session
def show_hold(session: Session, id: str, items: bool) -> None:
    """Show the hold ID: its matter, its scope, who set it, and who lifted it."""
    found = session.client.holds.get(id)
    held = list(session.client.holds.items(id, limit=PAGE)) if items else []
    if session.json:
        fields = {name: getattr(found, name) for name in found.__struct_fields__}
        session.output.json({**fields, "items": held} if items else fields)
        return
    facts = [
        ("id", found.id),
        ("state", found.state),
        ("matter", found.matter),
        ("custodian", found.custodian),
        ("reason", found.reason),
        ("kind", found.kind),
        ("query", found.q),
        ("project", found.project_id),
        ("set by", found.created_by),
        ("set", found.created_at),
        ("lifted by", found.lifted_by),
        ("lifted", found.lifted_at),
        ("reason for lifting", found.lift_reason),
    ]
    session.output.facts(found, facts)
    if held:
        session.output.line("")
        session.output.rows(HELD, held)


@hold.command(
    "lift",
    examples=(
        f"labkeep hold lift {ID} --reason 'case closed'",
        f"labkeep hold lift {ID} --reason 'agreed with counsel' --json",
    ),
)
@click.argument("id")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record and the audit trail.")
@pass_session
def lift_hold(session: Session, id: str, reason: str) -> None:
    """Lift the hold ID: what it alone covered can be removed again."""
    lifted = session.client.holds.lift(id, reason=reason)
    session.output.answer(lifted, f"lifted the hold for {lifted.matter}")
