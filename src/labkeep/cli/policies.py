"""Retention policies: what is kept, and what goes by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size, count_of
from labkeep.cli.command import Decorator, Group, pass_session
from labkeep.cli.options import Moment, listed, window
from labkeep.cli.output import PAGE, Column
from labkeep.cli.policy_options import TERMS, body_of, every_s
from labkeep.cli.policy_tables import print_table
from labkeep.cli.progress import wait_for
from labkeep.cli.session import Session
from labkeep.core.errors import Invalid, NotFound

if TYPE_CHECKING:
    from labkeep.core.commands_policies import Policy, PolicyPreview, PolicyReport


class Policies(Group):
    """Knows ``list`` as another word for ``ls``."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        return super().get_command(ctx, "ls" if cmd_name == "list" else cmd_name)


@click.group(cls=Policies)
def policy() -> None:
    """Retention policies: what is kept, and what is archived, trashed or purged by itself.

    POLICY is a name or an id. docs/retention.md has every field.
    """


WILL_BE = {"keep": "kept", "archive": "archived", "trash": "trashed", "purge": "purged"}


def did(report: PolicyReport) -> str:
    """What a run did, in words."""
    parts = [f"{WILL_BE[verb]} {count_of(kinds)}" for verb, kinds in report.counts.items() if any(kinds.values())]
    return ", ".join(parts) or "nothing"


POLICIES = (
    Column("NAME", lambda p: p.name),
    Column("WHERE", lambda p: p.scope),
    Column("ON", lambda p: "on" if p.enabled else "off"),
    Column("LAST RUN", lambda p: p.last_run_at),
    Column("NEXT RUN", lambda p: p.next_run_at),
    Column("", lambda p: "OVERDUE" if p.overdue else ""),
    Column("SAYS", lambda p: p.sentence),
    Column("ID", lambda p: p.id, whole=True),
)

DECISIONS = (
    Column("NAME", lambda d: d.name),
    Column("KIND", lambda d: d.type or d.kind),
    Column("SIZE", lambda d: Size(d.bytes)),
    Column("CREATED", lambda d: d.created_at),
    Column("WILL BE", lambda d: WILL_BE[d.action]),
    Column("BECAUSE", lambda d: "; ".join(reason.text for reason in d.reasons)),
    Column("ID", lambda d: d.id, whole=True),
)

REPORTS = (
    Column("BEGAN", lambda r: r.created_at),
    Column("STATE", lambda r: r.state),
    Column("DID", did),
    Column("SIZE", lambda r: Size(r.body.get("bytes", 0))),
    Column("KEPT", lambda r: r.body.get("kept", 0)),
    Column("BLOCKED", lambda r: r.body.get("blocked", 0)),
    Column("SECONDS", lambda r: r.body.get("duration_s")),
    Column("NOTE", lambda r: r.body.get("note", "")),
    Column("ID", lambda r: r.id, whole=True),
)


def find(session: Session, ref: str) -> Policy:
    """The policy of this id or name. Invalid when several policies have the name."""
    from labkeep.core.ids import is_id  # here, because it brings in msgspec, which a help text does not need

    if is_id(ref):
        return session.client.policies.get(ref)
    found = list(session.client.policies.list(name=ref))
    if len(found) > 1:
        raise Invalid(f"{len(found)} policies are called {ref}: say which by its id ({', '.join(p.id for p in found)})")
    if not found:
        raise NotFound(f"policy {ref} not found; `labkeep policy ls` lists them")
    return found[0]


def show(session: Session, found: Policy) -> None:
    """All of one policy."""
    names = ("name", "sentence", "scope", "project_id", "enabled", "every_s", "body", "created_by", "created_at")
    times = ("updated_at", "last_run_at", "next_run_at", "overdue", "id")
    session.output.facts(found, [(name.replace("_", " "), getattr(found, name)) for name in (*names, *times)])


# --- writing them -----------------------------------------------------------------------------------------------------


def _with(*decorators: Decorator) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


EVERY = click.option("--every", metavar="DURATION", help="How often it runs: 6h, 1d, 1w.")


@policy.command(
    "create",
    examples=(
        "labkeep policy create best-five --project digits --keep-best 5 --metric summary.acc",
        "labkeep policy create drafts --older-than 30d --status failed --status crashed --dry-run",
        "labkeep policy create empty-trash --action purge --trashed-for 14d --kind run --kind artifact_version",
        "labkeep policy create six-months --scope organization --action keep --minimum-keep 183d",
    ),
)
@click.argument("name")
@click.option("--scope", type=click.Choice(("organization", "workspace", "project")), help="Where it holds.")
@options.project
@_with(*TERMS)
@EVERY
@click.option("--disabled", is_flag=True, help="It does not run by itself.")
@click.option("--dry-run", is_flag=True, help="Show what it would do now, and make nothing.")
@pass_session
def create_policy(
    session: Session,
    /,
    name: str,
    scope: str | None,
    project: str | None,
    every: str | None,
    disabled: bool,
    dry_run: bool,
    **terms: Any,
) -> None:
    """Make a policy NAME of the workspace, or of a --project. Prints its id.

    It first runs one interval later: look at who would go with `labkeep policy preview NAME`.
    """
    body = body_of(terms)
    if dry_run:
        _print_preview(session, session.client.policies.preview_draft(body, project=project))
        return
    made = session.client.policies.create(
        name, body, scope=scope, project=project, enabled=not disabled, every_s=every_s(every)
    )
    session.output.note(made.sentence)
    session.output.answer(made, made.id)


@policy.command(
    "apply",
    examples=("labkeep policy apply retention.toml --dry-run", "labkeep policy apply retention.toml"),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@pass_session
def apply_files(session: Session, files: tuple[Path, ...], dry_run: bool) -> None:
    """Make policies be what FILES (TOML or JSON) say: made, changed, or left as they are. Again changes nothing.

    Policies that no file names stay as they are.
    """
    from labkeep.core.policy_files import read

    written = [each for file in files for each in read(file.read_text("utf-8"), file.name)]
    outcomes = [
        session.client.policies.put(
            each.name,
            each.body,
            scope=each.scope,
            project=each.project,
            enabled=each.enabled,
            every_s=each.every_s,
            dry_run=dry_run,
        )
        for each in written
    ]
    session.output.table(WOULD_PUT if dry_run else PUT, outcomes)


_SAYS = (Column("NAME", lambda o: o.policy.name), Column("SAYS", lambda o: o.policy.sentence))
PUT = (Column("CHANGE", lambda o: o.change), *_SAYS, Column("ID", lambda o: o.policy.id, whole=True))
WOULD_PUT = (Column("CHANGE", lambda o: o.change if o.change == "unchanged" else f"would be {o.change}"), *_SAYS)


@policy.command(
    "edit",
    examples=(
        "labkeep policy edit drafts --older-than 60d",
        "labkeep policy edit drafts --rename old-drafts --every 6h",
    ),
)
@click.argument("ref", metavar="POLICY")
@click.option("--rename", metavar="NAME", help="A new name.")
@_with(*TERMS)
@EVERY
@click.option("--drop", multiple=True, metavar="FIELD", help="Take a field out of it, like keep_last.")
@pass_session
def edit_policy(
    session: Session, /, ref: str, rename: str | None, every: str | None, drop: tuple[str, ...], **terms: Any
) -> None:
    """Change POLICY: fields that are given take the place of those it has."""
    from msgspec import UNSET

    before = find(session, ref)
    unknown = [name for name in drop if name not in before.body]
    if unknown:
        raise Invalid(f"the policy says nothing about {unknown[0]}; it has {', '.join(before.body)}", path="drop")
    body = {name: value for name, value in (before.body | body_of(terms)).items() if name not in drop}
    after = session.client.policies.update(
        before.id, name=rename or UNSET, body=body, every_s=UNSET if every is None else every_s(every) or UNSET
    )
    session.output.answer(after, after.sentence)


def _switch(session: Session, ref: str, enabled: bool) -> None:
    after = session.client.policies.update(find(session, ref).id, enabled=enabled)
    session.output.answer(after, f"policy {after.name} is {'on' if enabled else 'off'} now")


@policy.command("enable", examples=("labkeep policy enable drafts", "labkeep policy enable drafts --json"))
@click.argument("ref", metavar="POLICY")
@pass_session
def enable_policy(session: Session, ref: str) -> None:
    """Let POLICY run by itself; it first does one interval later."""
    _switch(session, ref, True)


@policy.command("disable", examples=("labkeep policy disable drafts", "labkeep policy disable drafts --json"))
@click.argument("ref", metavar="POLICY")
@pass_session
def disable_policy(session: Session, ref: str) -> None:
    """Stop POLICY from running by itself. What it keeps is not kept from other policies any more."""
    _switch(session, ref, False)


@policy.command("delete", examples=("labkeep policy delete drafts", "labkeep policy delete drafts --dry-run"))
@click.argument("ref", metavar="POLICY")
@click.option("--dry-run", is_flag=True, help="Show it, and delete nothing.")
@pass_session
def delete_policy(session: Session, ref: str, dry_run: bool) -> None:
    """Take POLICY away. What it did stays done; what it kept, other policies may take."""
    found = find(session, ref)
    if dry_run:
        show(session, found)
        return
    gone = session.client.policies.remove(found.id)
    session.output.answer(gone, f"policy {gone.name} is gone")


# --- looking at them --------------------------------------------------------------------------------------------------


@policy.command("ls", examples=("labkeep policy ls", "labkeep policy ls --project digits --json"))
@options.project
@click.option("--scope", type=click.Choice(("organization", "workspace", "project")), help="Only those of this scope.")
@listed
@pass_session
def list_policies(session: Session, project: str | None, scope: str | None) -> None:
    """List policies that hold in the workspace, newest first. Warns of those that are overdue.

    Columns: name, scope, on or off, last run, next run, overdue, what it says, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.policies.list(project=project, scope=scope, **page)

    session.output.list(fetch, POLICIES, window())
    if session.json:
        return
    if late := [each.name for each in session.client.policies.list() if each.overdue]:
        session.output.note(f"overdue, so nothing goes by itself: {', '.join(late)}; does a worker run?")


@policy.command("show", examples=("labkeep policy show drafts", "labkeep policy show drafts --json | jq .body"))
@click.argument("ref", metavar="POLICY")
@pass_session
def show_policy(session: Session, ref: str) -> None:
    """Show POLICY, with what it says as a sentence."""
    show(session, find(session, ref))


@policy.command(
    "preview",
    examples=(
        "labkeep policy preview drafts",
        "labkeep policy preview drafts --kept",
        "labkeep policy preview drafts --at 30d --all --json",
    ),
)
@click.argument("ref", metavar="POLICY")
@click.option("--kept", "show_", flag_value="kept", help="Those that are kept, instead of those that go.")
@click.option("--everything", "show_", flag_value="all", help="Those that go and those that are kept.")
@click.option("--at", type=Moment(ahead=True), metavar="TIME", help="As if it were then: 2027-01-01, or 30d ahead.")
@listed
@pass_session
def preview_policy(session: Session, ref: str, show_: str | None, at: datetime | None) -> None:
    """Show who would go by POLICY, and why. Nothing happens.

    Columns: name, type, size, created, what will be done, reasons, id.
    """
    found, part = find(session, ref), window()

    def fetch(cursor: str | None) -> PolicyPreview:
        limit = min(part.limit or PAGE, PAGE)
        return session.client.policies.preview(found.id, show=show_, at=at, limit=limit, cursor=cursor)

    page = fetch(part.cursor)
    items = list(page.items)
    following = page.next
    while following and (not part.limit or len(items) < part.limit):
        more = fetch(following)
        items, following = [*items, *more.items], more.next
    _print_preview(session, page, items, following)


def _print_preview(
    session: Session, page: PolicyPreview, items: list[Any] | None = None, following: str | None = None
) -> None:
    import msgspec

    shown = page.items if items is None else items
    following = page.next if items is None else following
    if session.json:
        session.output.json(msgspec.structs.replace(page, items=shown, next=following))
        return
    output = session.output
    output.note(page.sentence)
    output.rows(DECISIONS, shown)
    going = {kind: n for action, kinds in page.counts.items() if action != "keep" for kind, n in kinds.items()}
    kept = sum(page.counts.get("keep", {}).values())
    if page.counts or not shown:
        when = f", on {output.cell(page.runs_at)} at the earliest" if page.runs_at and going else ""
        what = count_of(going) if going else "nothing"
        output.note(f"{what} would go ({output.cell(Size(page.bytes))}), {kept} kept{when}")
    for warning in page.warnings:
        output.note(f"Careful: {warning}.")
    if following:
        output.note(f"… and more: --limit 0 shows all, --cursor {following} goes on from here")


@policy.command(
    "run",
    examples=(
        "labkeep policy run drafts",
        "labkeep policy run drafts --dry-run",
        "labkeep policy run drafts --no-wait",
    ),
)
@click.argument("ref", metavar="POLICY")
@click.option("--dry-run", is_flag=True, help="Show who would go, and do nothing.")
@click.option("--no-wait", is_flag=True, help="Leave it to the background.")
@pass_session
def run_policy(session: Session, ref: str, dry_run: bool, no_wait: bool) -> None:
    """Run POLICY now, whether it is on or off, and print its report."""
    found = find(session, ref)
    if dry_run:
        _print_preview(session, session.client.policies.preview(found.id))
        return
    started = session.client.policies.run(found.id)
    if no_wait:
        session.output.answer(started, started.job_id)
        return
    wait_for(session, started.job_id)
    report = session.client.policies.report(started.report_id)
    blocked = report.body["blocked"]
    text = f"{did(report)}; {report.body['kept']} kept" + (f", {blocked} had to stay" if blocked else "")
    session.output.answer(report, text)
    for each in report.body["blocked_items"]:
        session.output.note(f"{each['id']}: {each['why']}")


@policy.command("reports", examples=("labkeep policy reports drafts", "labkeep policy reports drafts --all --json"))
@click.argument("ref", metavar="POLICY")
@listed
@pass_session
def list_reports(session: Session, ref: str) -> None:
    """List what the runs of POLICY did, newest first.

    Columns: began, state, what it did, size, kept, blocked, seconds, note, id.
    """
    found = find(session, ref)

    def fetch(**page: Any) -> Any:
        return session.client.policies.reports(found.id, **page)

    session.output.list(fetch, REPORTS, window())


@policy.command(
    "table",
    examples=(
        "labkeep policy table",
        "labkeep policy table --format md > retention.md",
        "labkeep policy table --format csv",
    ),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "md", "csv", "json")),
    default="text",
    show_default=True,
    help="Markdown, comma-separated values, …",
)
@pass_session
def table_of_limits(session: Session, form: str) -> None:
    """Print the table of retention limits, as a record of processing needs it.

    Columns: data, where, how long it is kept, what happens then, when it is purged, exceptions, by which policy, on or off,
    last run.
    """
    lines = list(session.client.policies.table())
    print_table(session, lines, "json" if session.json else form)
