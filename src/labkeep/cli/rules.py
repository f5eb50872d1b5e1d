"""Rules of the lifecycle: what organization, workspace and project ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from labkeep.cli import options
from labkeep.cli.command import Decorator, Group, pass_session
from labkeep.cli.output import Column
from labkeep.cli.session import Session

if TYPE_CHECKING:
    from labkeep.core.commands_rules import RulesInForce

LEVELS = ("organization", "workspace", "project")


@click.group(cls=Group)
def rules() -> None:
    """Rules that protect what is kept. What an outer level asks for, an inner one cannot take back."""


RULES = (
    Column("RULE", lambda row: row["rule"]),
    Column("ORGANIZATION", lambda row: row["organization"]),
    Column("WORKSPACE", lambda row: row["workspace"]),
    Column("PROJECT", lambda row: row["project"]),
    Column("IN FORCE", lambda row: row["effective"]),
)


@rules.command("show", examples=("labkeep rules show", "labkeep rules show --project digits"))
@options.project
@pass_session
def show_rules(session: Session, project: str | None) -> None:
    """Show the rules of the workspace, or of a project, level by level.

    Columns: rule, organization, workspace, project, in force.
    """
    _show(session, session.client.rules.get(project=project))


def _show(session: Session, found: RulesInForce) -> None:
    if session.json:
        session.output.json(found)
        return
    levels = {name: getattr(found, name) for name in (*LEVELS, "effective")}
    names = found.effective.__struct_fields__
    said = [
        {"rule": name} | {level: getattr(rule, name, None) or None for level, rule in levels.items()} for name in names
    ]
    session.output.rows(RULES, said)


def _switch(name: str, help: str) -> Decorator:
    return click.option(f"--{name}/--no-{name}", default=None, help=help)


OPTIONS: tuple[Decorator, ...] = (
    click.option("--grace-days", type=click.IntRange(0, 3650), help="Days that what is trashed can be restored."),
    click.option(
        "--minimum-keep-days", type=click.IntRange(0, 36_500), help="Days after it was made in which nothing is purged."
    ),
    _switch("require-reason", "Whether removing something needs a reason."),
    _switch("require-ticket", "Whether removing something needs a ticket."),
    _switch("two-person-purge", "Whether a second person must agree to a purge."),
    _switch("encrypt", "Whether contents are encrypted from birth."),
    click.option("--subject-field", "subject_fields", multiple=True, help="A field of rows that names a person."),
)


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """The rules that options ask for."""
    return {name: value for name, value in fields.items() if value not in (None, ())}


def rule_options(command: Any) -> Any:
    """One option for each rule."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@rules.command(
    "set",
    examples=(
        "labkeep rules set --level workspace --require-reason --minimum-keep-days 90",
        "labkeep rules set --level organization --two-person-purge",
        "labkeep rules set --project digits --require-ticket",
        "labkeep rules set --level workspace --clear minimum_keep_days",
    ),
)
@click.option("--level", type=click.Choice(LEVELS[:2]), help="For the whole workspace or organization.")
@options.project
@rule_options
@click.option("--clear", multiple=True, metavar="RULE", help="Take a rule of this level back.")
@pass_session
def set_rules(
    session: Session, /, level: str | None, project: str | None, clear: tuple[str, ...], **fields: Any
) -> None:
    """Change rules of a project, of the workspace, or of the organization, and show what is in force then."""
    if (level is None) == (project is None):
        raise click.UsageError("Say for what: --project PROJECT, or --level workspace or organization")
    wanted = given(fields) | dict.fromkeys(clear)
    if not wanted:
        raise click.UsageError("Say which rule to change; `labkeep rules set --help` lists them")
    client = session.client
    if project is not None:
        client.projects.update(project, settings=wanted)
        _show(session, client.rules.get(project=project))
    else:
        change = client.rules.set_workspace if level == "workspace" else client.rules.set_organization
        _show(session, change(wanted))
