"""Removing parts of runs and documents: plan, show, ask, remove just that; and the records of it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size, clean, count_of, human
from labkeep.cli.command import Group, pass_session
from labkeep.cli.files import owner_id
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.progress import wait_for
from labkeep.cli.session import Session
from labkeep.core.errors import Held, Invalid, Refused

if TYPE_CHECKING:
    from labkeep.core.removals import RemovalPlan

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"
OWNER = "OWNER is the id of a run or document, or PROJECT/NAME of a run."
ASKS = "Shows the plan and asks; without a terminal it needs --yes. Hidden at once, restorable until its grace period ends."


@click.group(cls=Group)
def remove() -> None:
    """Remove parts of a run or document: rows, a metric, a file, console output."""


def _common(command: Any) -> Any:
    for option in (
        click.option("--dry-run", is_flag=True, help="Show the plan, and do nothing."),
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        click.option("--ticket", metavar="ID", help="A reference for the record."),
        click.option("--reason", metavar="TEXT", help="Why, for the record and the audit trail."),
    ):
        command = option(command)
    return command


@remove.command(
    "row",
    help=f"Remove rows by id, or those that meet a filter.\n\n{OWNER} {ASKS}",
    examples=(
        "labkeep remove row digits/baseline row-17 --reason 'wrong label'",
        "labkeep remove row digits/baseline --where metadata.user_id=u-17 --dry-run",
        "labkeep remove row digits/baseline -q 'scores.exact < 0.1' --yes",
    ),
)
@click.argument("owner")
@click.argument("ids", nargs=-1, metavar="[ROW...]")
@click.option("--where", multiple=True, metavar="PATH=VALUE", help="Only rows with this value; JSON, or text as it is.")
@options.query
@click.option("--keep-versions", is_flag=True, help="Reads as of an earlier version show them until they are purged.")
@_common
@pass_session
def remove_row(session: Session, /, owner: str, ids: tuple[str, ...], where: tuple[str, ...], **given: Any) -> None:
    wanted = {"ids": list(ids) or None, "where": dict(map(_pair, where)) or None, "q": given.pop("query")}
    _remove(session, owner, "row", wanted, versions=given.pop("keep_versions") or None, **given)


def _pair(text: str) -> tuple[str, Any]:
    import msgspec

    path, equals, value = text.partition("=")
    if not equals or not path:
        raise Invalid(f"--where is PATH=VALUE, not {text[:80]!r}", path="where")
    try:
        return path, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return path, value


@remove.command(
    "metric",
    help=f"Remove a metric: its series, its summary and what it is found by.\n\n{OWNER} {ASKS}",
    examples=(
        "labkeep remove metric digits/baseline loss",
        "labkeep remove metric digits/baseline gpu --stream system",
    ),
)
@click.argument("owner", metavar="RUN")
@click.argument("key")
@click.option("--stream", metavar="NAME", help="The stream that it is in.  [default: history]")
@_common
@pass_session
def remove_metric(session: Session, /, owner: str, key: str, stream: str | None, **given: Any) -> None:
    _remove(session, owner, "metric", {"ref": key, "stream": stream}, **given)


@remove.command(
    "file",
    help=f"Remove a file by its path.\n\n{OWNER} {ASKS}",
    examples=(
        "labkeep remove file digits/baseline report.html --reason 'has names in it'",
        "labkeep remove file digits/baseline report.html --dry-run",
    ),
)
@click.argument("owner")
@click.argument("path")
@_common
@pass_session
def remove_file(session: Session, /, owner: str, path: str, **given: Any) -> None:
    _remove(session, owner, "file", {"ref": path}, **given)


@remove.command(
    "console",
    help=f"Remove what a run printed: all of it, or the lines before a moment.\n\n{OWNER} {ASKS}",
    examples=("labkeep remove console digits/baseline", "labkeep remove console digits/baseline --before 2026-11-01"),
)
@click.argument("owner", metavar="RUN")
@click.option("--before", type=options.Moment(), help="Only lines that were printed before.")
@click.option("--upto", type=click.IntRange(min=0), metavar="N", help="Only the first N lines.")
@_common
@pass_session
def remove_console(session: Session, /, owner: str, before: datetime | None, upto: int | None, **given: Any) -> None:
    _remove(session, owner, "console", {"before": before, "upto": upto}, **given)


def _remove(
    session: Session,
    owner: str,
    part: str,
    wanted: dict[str, Any],
    *,
    dry_run: bool,
    yes: bool,
    reason: str | None,
    ticket: str | None,
    versions: bool | None = None,
) -> None:
    id = owner_id(session, owner)
    plan = session.client.removals.plan(id, part, **wanted)
    lines = _described(plan, session)
    if dry_run:
        session.output.answer(plan, "\n".join(lines))
        return
    if plan.blockers:
        raise Held(plan.blockers[0], id=plan.item_id, reasons=plan.blockers)
    if not yes:
        _ask(session, plan, lines)
    made = session.client.removals.remove(
        id, part, **wanted, versions=versions, plan_hash=plan.hash, reason=reason, ticket=ticket
    )
    undo = f"labkeep removals restore {made.id}"
    session.output.answer(made, f"removed {count_of({_noun(part): made.count})}\nundo: {undo}")


def _noun(part: str) -> str:
    return {"metric": "point", "console": "line"}.get(part, part)


def _described(plan: RemovalPlan, session: Session) -> list[str]:
    ref = clean(plan.ref)
    which = {"metric": f" of the metric {ref}", "console": " of the console"}.get(plan.part, f": {ref}" if ref else "")
    lines = [f"This would remove {count_of({_noun(plan.part): plan.count})}{which}"]
    if plan.ids and not plan.ref:
        more = f" and {plan.count - 10} more" if plan.count > 10 else ""
        lines.append(f"  rows: {', '.join(map(clean, plan.ids[:10]))}{more}")
    when = plan.restorable_until.astimezone().strftime("%Y-%m-%d %H:%M")
    lines.append(f"  can be restored until: {when} ({human(plan.restorable_until, session.now())})")
    return lines + [f"  must stay: {clean(blocker)}" for blocker in plan.blockers]


def _ask(session: Session, plan: RemovalPlan, lines: list[str]) -> None:
    for line in lines if session.interactive else ():
        click.echo(line, err=True)
    if not session.interactive:
        import msgspec

        raise Refused(
            "nobody is there to ask before this removal: look with --dry-run, then pass --yes",
            plan=msgspec.to_builtins(plan),
        )
    if not click.confirm("Remove it?", err=True):
        session.output.note("Nothing was done.")
        raise click.exceptions.Exit(1)


# --- the records ------------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def removals() -> None:
    """The records of what was removed from runs and documents: who, when, why, and the way back."""


REMOVALS = (
    Column("STATE", lambda r: r.state),
    Column("PART", lambda r: r.part),
    Column("WHICH", lambda r: r.ref),
    Column("COUNT", lambda r: r.count),
    Column("SIZE", lambda r: Size(r.bytes)),
    Column("BY", lambda r: r.actor),
    Column("WHEN", lambda r: r.created_at),
    Column("WHY", lambda r: r.reason),
    Column("RESTORABLE UNTIL", lambda r: r.restorable_until if r.state == "trashed" else None),
    Column("OF", lambda r: r.item_id, whole=True),
    Column("ID", lambda r: r.id, whole=True),
)
"""Columns of a list of removals."""


@removals.command(
    "ls",
    examples=(
        "labkeep removals ls",
        "labkeep removals ls --of digits/baseline",
        "labkeep removals ls --project digits --part row --state trashed",
    ),
)
@click.option("--of", "owner", metavar="OWNER", help="Only those of this run or document.")
@options.project
@click.option("--part", type=click.Choice(("row", "metric", "file", "console")), help="Only this part.")
@click.option("--state", type=click.Choice(("trashed", "restored", "purging", "purged")), help="Only in this state.")
@listed
@pass_session
def list_removals(
    session: Session, owner: str | None, project: str | None, part: str | None, state: str | None
) -> None:
    """List removals, newest first.

    Columns: state, part, which, count, size, by, when, why, restorable until, of, id.
    """
    id = None if owner is None else owner_id(session, owner, "trashed")

    def fetch(**page: Any) -> Any:
        return session.client.removals.list(id=id, project=project, part=part, state=state, **page)

    session.output.list(fetch, REMOVALS, window())


@removals.command("show", examples=(f"labkeep removals show {ID}", f"labkeep removals show {ID} --json"))
@click.argument("id")
@pass_session
def show_removal(session: Session, id: str) -> None:
    """Show the removal ID: what went, who, why, and, once it was purged, what verified it."""
    found = session.client.removals.get(id)
    names = ("id", "item_id", "part", "ref", "stream", "count", "state", "actor", "reason", "ticket", "created_at")
    facts = [(name.replace("_", " "), getattr(found, name) or None) for name in names]
    facts += [
        ("restorable until", found.restorable_until if found.state == "trashed" else None),
        ("restored", found.restored_at),
        ("purged", found.purged_at),
        ("purged by", found.purged_by or None),
        *((f"verified: {name.replace('_', ' ')}", value) for name, value in found.verification.items()),
    ]
    session.output.facts(found, facts)


@removals.command(
    "restore",
    examples=(f"labkeep removals restore {ID}", f"labkeep removals restore {ID} --path reports/old.html"),
)
@click.argument("id")
@click.option("--path", metavar="PATH", help="Where a file goes whose own path is taken now.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit trail.")
@pass_session
def restore_removal(session: Session, id: str, path: str | None, reason: str | None) -> None:
    """Put back exactly what the removal ID took."""
    found = session.client.removals.restore(id, path=path, reason=reason)
    session.output.answer(found, f"restored {count_of({_noun(found.part): found.count})}")


@removals.command("purge", examples=(f"labkeep removals purge {ID}", f"labkeep removals purge {ID} --yes --no-wait"))
@click.argument("id")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Leave it to the background.")
@click.option("--ticket", metavar="ID", help="A reference for the record.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit trail.")
@pass_session
def purge_removal(session: Session, id: str, yes: bool, no_wait: bool, ticket: str | None, reason: str | None) -> None:
    """Remove for good what the removal ID holds, and verify that nothing is left. Cannot be taken back."""
    if not yes and not session.interactive:
        raise Refused("nobody is there to ask before this purge: pass --yes")
    if not yes and not click.confirm(f"{clean(session.client.removals.get(id).sentence)}. Purge it?", err=True):
        session.output.note("Nothing was done.")
        raise click.exceptions.Exit(1)
    asked = session.client.removals.purge(id, reason=reason, ticket=ticket)
    if asked.job_id is None or no_wait:
        session.output.answer(asked, asked.removal.state if asked.job_id is None else f"purging: job {asked.job_id}")
        return
    wait_for(session, asked.job_id)
    found = session.client.removals.get(id)
    session.output.answer(found, f"purged {count_of({_noun(found.part): found.count})}: nothing is left")


__all__ = ["REMOVALS", "removals", "remove"]
