"""Requests to erase one person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from labkeep.cli import options
from labkeep.cli.cells import count_of
from labkeep.cli.command import Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.progress import wait_for
from labkeep.cli.session import Session
from labkeep.core.errors import Refused

if TYPE_CHECKING:
    from labkeep.core.erasures import Erasure

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"


@click.group(cls=Group)
def erasure() -> None:
    """Requests to erase one person: ask, preview, run, prove."""


@erasure.command(
    "create",
    examples=(
        "labkeep erasure create u-17 --field metadata.user_id --ticket DSR-12",
        "labkeep erasure create ada@example.com --action delete --files remove",
        "labkeep erasure create ada@example.com --whole run --whole artifact_version",
    ),
)
@click.argument("subject")
@click.option("--field", metavar="PATH", help="Only rows whose declared field is SUBJECT.  [default: everywhere]")
@click.option("--action", type=click.Choice(("redact", "delete")), help="What happens to rows.  [default: redact]")
@click.option(
    "--files",
    "text_files",
    type=click.Choice(("replace", "remove")),
    help="What happens to text files.  [default: replace]",
)
@click.option(
    "--whole",
    multiple=True,
    type=click.Choice(("run", "document", "artifact_version")),
    help="Objects of this kind are purged when they speak of SUBJECT; may be repeated.  [default: none]",
)
@click.option("--due", "due_at", type=options.Moment(ahead=True), help="When it must be answered.  [default: 30d]")
@click.option("--ticket", metavar="ID", help="A reference for the record.")
@click.option("--reason", metavar="TEXT", help="Why; forgotten with the person.")
@pass_session
def create_erasure(
    session: Session, /, subject: str, due_at: datetime | None, whole: tuple[str, ...], **given: Any
) -> None:
    """Ask to erase SUBJECT. Nothing happens yet. Prints the id of the request."""
    made = session.client.erasures.create(subject, due_at=due_at, whole=list(whole) or None, **given)
    session.output.answer(made, made.id)


@erasure.command("preview", examples=(f"labkeep erasure preview {ID}", f"labkeep erasure preview {ID} --json"))
@click.argument("id")
@pass_session
def preview_erasure(session: Session, id: str) -> None:
    """Look for what the request ID would change: counts and ids, no content."""
    asked = session.client.erasures.preview(id)
    assert asked.job_id is not None
    wait_for(session, asked.job_id)
    found = session.client.erasures.get(id)
    session.output.answer(found, _told(found.report.get("preview") or {}, found.report.get("whole") or ()))


@erasure.command("run", examples=(f"labkeep erasure run {ID}", f"labkeep erasure run {ID} --yes --json"))
@click.argument("id")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Leave it to the background.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit trail.")
@pass_session
def run_erasure(session: Session, id: str, yes: bool, no_wait: bool, reason: str | None) -> None:
    """Erase what the request ID asks for, verify, and sign a receipt. Cannot be taken back."""
    if not yes and not session.interactive:
        raise Refused(
            "nobody is there to ask before this erasure: look with `labkeep erasure preview`, then pass --yes"
        )
    if not yes and not click.confirm("Erase it for good?", err=True):
        session.output.note("Nothing was done.")
        raise click.exceptions.Exit(1)
    asked = session.client.erasures.run(id, reason=reason)
    if asked.job_id is None or no_wait:
        session.output.answer(asked, asked.erasure.state)
        return
    wait_for(session, asked.job_id)
    found = session.client.erasures.get(id)
    lines = [found.state, _told(found.report.get("done") or {})]
    lines += [f"receipt: {found.receipt_id}"] if found.receipt_id else []
    session.output.answer(found, "\n".join(lines))


SHOWN = 20
"""Objects that are named; ``--json`` has up to a thousand."""


def _told(part: dict[str, Any], whole: Sequence[str] = ()) -> str:
    lines = [f"found in {count_of({'object': part.get('objects', 0)})}: {_counts(part.get('found') or {})}"]
    items = part.get("items") or ()
    for entry in items[:SHOWN]:
        line = f"{entry['kind']} {entry['id']}: {_counts(entry['counts'])}"
        if "deletion_id" in entry:
            line += f"; deleted, with its own receipt: labkeep receipt show {entry['deletion_id']}"
        lines.append(line + ("; would be deleted" if entry["kind"] in whole else ""))
    if len(items) > SHOWN:
        lines.append(f"… {part['objects'] - SHOWN} more: labkeep erasure show ID --json")
    for name in ("held", "blocked"):
        lines += [f"{name}: {entry['kind']} {entry['id']}: {entry['why']}" for entry in part.get(name) or ()]
    return "\n".join(lines)


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items())) or "nothing"


ERASURES = (
    Column("STATE", lambda e: e.state),
    Column("WHO", lambda e: e.subject or f"sha256:{e.subject_digest[:12]}…"),
    Column("FIELD", lambda e: e.field or "everywhere"),
    Column("ACTION", lambda e: e.action),
    Column("DUE", lambda e: e.due_at),
    Column("TICKET", lambda e: e.ticket),
    Column("BY", lambda e: e.created_by),
    Column("ID", lambda e: e.id, whole=True),
)


@erasure.command("ls", examples=("labkeep erasure ls", "labkeep erasure ls --state partly_held"))
@click.option(
    "--state", type=click.Choice(("open", "running", "done", "partly_held", "cancelled")), help="Only in this state."
)
@listed
@pass_session
def list_erasures(session: Session, state: str | None) -> None:
    """List requests, overdue ones first.

    Columns: state, who, field, action, due, ticket, by, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.erasures.list(state=state, **page)

    session.output.list(fetch, ERASURES, window())


@erasure.command("show", examples=(f"labkeep erasure show {ID}", f"labkeep erasure show {ID} --json"))
@click.argument("id")
@pass_session
def show_erasure(session: Session, id: str) -> None:
    """Show the request ID: who asked, until when, and what was found and done."""
    found = session.client.erasures.get(id)
    session.output.facts(found, _facts(found))


@erasure.command("cancel", examples=(f"labkeep erasure cancel {ID}", f"labkeep erasure cancel {ID} --reason withdrawn"))
@click.argument("id")
@click.option("--reason", metavar="TEXT", help="Why, for the audit trail.")
@pass_session
def cancel_erasure(session: Session, id: str, reason: str | None) -> None:
    """Withdraw the request ID. What was erased stays erased."""
    found = session.client.erasures.cancel(id, reason=reason)
    session.output.answer(found, found.state)


def _facts(found: Erasure) -> list[tuple[str, Any]]:
    names = (
        "id",
        "state",
        "subject",
        "subject_digest",
        "field",
        "action",
        "reason",
        "ticket",
        "created_by",
        "created_at",
    )
    facts = [(name.replace("_", " "), getattr(found, name) or None) for name in names]
    facts += [("due", found.due_at), ("finished", found.finished_at), ("receipt", found.receipt_id)]
    return facts + [(part, _told(found.report[part])) for part in ("preview", "done") if found.report.get(part)]
