"""What was done: the audit trail, its checks, its signed checkpoints and its export."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labkeep.cli.command import Group, pass_session
from labkeep.cli.options import Moment, listed, window
from labkeep.cli.output import Column
from labkeep.cli.receipts import keys_of, keys_option
from labkeep.cli.session import Session
from labkeep.core.errors import Corrupt

if TYPE_CHECKING:
    from labkeep.core.audit_files import FileReport


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


@audit.command(
    "verify",
    examples=(
        "labkeep audit verify",
        "labkeep audit verify --json",
        "labkeep audit verify trail.jsonl --keys labkeep-keys.json",
        "labkeep audit verify trail.jsonl --keys https://labkeep.example",
    ),
)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@keys_option
@pass_session
def verify_audit(session: Session, file: Path | None, keys: str | None) -> None:
    """Check that every audit event follows from the one before it, and that every signed checkpoint says the same.

    Of the server's own trail; or of FILE, an export as JSON lines, without any server once its keys are saved. Exit code
    7 when something does not fit. Keep the head that it prints: it proves later that nothing before it was changed.
    """
    if file is not None:
        _verify_file(session, file, keys)
        return
    report = session.client.audit.verify()
    verdict = "intact" if report.intact else _broken(report.first_break)
    said = f"{report.events} events, {verdict}; head {report.head}"
    if report.pruned:
        said += (
            f"\nThe check starts behind event {report.pruned}: what lay before was dropped by the trail's retention."
        )
    said += f"\n{report.checkpoints} signed checkpoints, the newest at event {report.checkpoint}."
    session.output.answer(report, "\n".join([said, *report.problems]))
    if not report.intact:
        click.get_current_context().exit(Corrupt.exit_code)


def _broken(event: int | None) -> str:
    return "BROKEN" if event is None else f"BROKEN at event {event}"


def _verify_file(session: Session, file: Path, keys: str | None) -> None:
    from labkeep.client.audit_export import examine

    report = examine(file, keys_of(session, keys))
    session.output.answer(report, "\n".join([*_in_words(report), *report.problems]))
    if not report.intact:
        click.get_current_context().exit(Corrupt.exit_code)


def _in_words(report: FileReport) -> list[str]:
    verdict = "intact" if report.intact else _broken(report.first_break)
    lines = [f"{report.events} events, numbers {report.first} to {report.last}, {verdict}"]
    if report.links:
        lines.append(f"{report.links} events of other workspaces: their place was checked, their content is not there")
    if report.first > 1:
        lines.append(f"The file begins at event {report.first}: what lay before it is not in it.")
    after = report.last - report.checkpoint
    lines.append(f"{report.checkpoints} signed checkpoints, the newest at event {report.checkpoint}.")
    if after:
        lines.append(f"The last {after} events are behind it: were some of them cut off or made up, it would not show.")
    return lines


@audit.command("checkpoint", examples=("labkeep audit checkpoint", "labkeep audit checkpoint --json > checkpoint.json"))
@pass_session
def sign_audit(session: Session) -> None:
    """Sign the end of the audit trail as it is now.

    The server does that by itself every day and every 10,000 events. Kept elsewhere, a checkpoint proves later that
    nothing before it was changed.
    """
    made = session.client.audit.checkpoint()
    session.output.answer(made, f"Signed event {made.seq}, {made.hash}, with key {made.signing_key_id}")


CHECKPOINTS = (
    Column("SEQ", lambda c: c.seq),
    Column("TIME", lambda c: c.created_at),
    Column("HASH", lambda c: c.hash, whole=True),
    Column("KEY", lambda c: c.signing_key_id, whole=True),
)


@audit.command("checkpoints", examples=("labkeep audit checkpoints", "labkeep audit checkpoints --all --json"))
@listed
@pass_session
def list_checkpoints(session: Session) -> None:
    """List the signed checkpoints of the audit trail, newest first.

    Columns: number of the event, time, hash, key.
    """
    session.output.list(session.client.audit.checkpoints, CHECKPOINTS, window())


OUTPUT = click.option(
    "--output",
    "path",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where it is written to.",
)


@audit.command(
    "export",
    examples=(
        "labkeep audit export --output trail.jsonl",
        "labkeep audit export --output trail.csv --format csv --since 2026-01-01 --until 2026-04-01",
        "labkeep audit export --output trail.jsonl --resume",
    ),
)
@OUTPUT
@click.option(
    "--format",
    type=click.Choice(("jsonl", "csv")),
    default="jsonl",
    show_default=True,
    help="JSON lines, which can be checked, or CSV for a spreadsheet.",
)
@click.option("--since", type=Moment(), metavar="TIME", help="Only from then on: 2026-11-01, or -7d.")
@click.option("--until", type=Moment(), metavar="TIME", help="Only before that.")
@click.option("--after", type=click.IntRange(0), metavar="SEQ", help="Only what comes behind this event.")
@click.option("--resume", is_flag=True, help="Go on with a file that broke off.")
@pass_session
def export_audit(
    session: Session,
    path: Path,
    format: str,
    since: datetime | None,
    until: datetime | None,
    after: int | None,
    resume: bool,
) -> None:
    """Write the audit trail into a file.

    As JSON lines it can be checked later with `labkeep audit verify FILE`, by anybody and without the server: its end is
    signed first. As CSV it is for spreadsheets: no cell begins like a formula. Names of what was purged are digests. Of
    other workspaces' events only the hashes are there, unless the key is the administrator's.
    """
    audit = session.client.audit
    if until is None:
        audit.checkpoint()
    last = audit.export(path, format=format, after=after, since=since, until=until, resume=resume)
    session.output.answer({"path": str(path), "last": last}, f"Wrote {path}, up to event {last}")


@audit.command(
    "objects",
    examples=(
        "labkeep audit objects --output objects.csv",
        "labkeep audit objects --output objects.jsonl --format jsonl --since 2026-01-01 --until 2026-04-01",
    ),
)
@OUTPUT
@click.option(
    "--format",
    type=click.Choice(("csv", "jsonl")),
    default="csv",
    show_default=True,
    help="CSV for a spreadsheet, or JSON lines.",
)
@click.option("--since", type=Moment(), metavar="TIME", help="Only what was trashed from then on: 2026-11-01, or -7d.")
@click.option("--until", type=Moment(), metavar="TIME", help="Only what was trashed before that.")
@pass_session
def export_objects(session: Session, path: Path, format: str, since: datetime | None, until: datetime | None) -> None:
    """Write a line for each object of each deletion into a file.

    A bulk deletion is one event in the trail. This says which objects it was: id, name (a digest once purged), status at
    deletion, who made it, who trashed and purged it, when, why, and what became of it.
    """
    from labkeep.core.audit_files import object_head, object_lines

    found = iter(session.client.audit.objects(since=since, until=until, limit=1000))
    count, as_csv = 0, format == "csv"
    part = path.with_name(f"{path.name}.part")  # what stands under the name is whole
    with part.open("wb") as file:
        file.write(object_head() if as_csv else b"")
        while some := list(islice(found, 1000)):
            file.write(object_lines(some, as_csv=as_csv))
            count += len(some)
    part.replace(path)
    session.output.answer({"path": str(path), "objects": count}, f"Wrote {path}: {count} objects")
