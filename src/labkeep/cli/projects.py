"""Projects."""

from __future__ import annotations

from typing import Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size
from labkeep.cli.command import Group, pass_session
from labkeep.cli.lifecycle import verb_command
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.rules import given, rule_options
from labkeep.cli.session import Session


@click.group(cls=Group)
def projects() -> None:
    """Projects hold runs, documents and artifacts."""


PROJECTS = (
    Column("NAME", lambda p: p.name),
    Column("STATE", lambda p: p.state),
    Column("CREATED", lambda p: p.created_at),
    Column("TAGS", lambda p: p.tags),
    Column("DESCRIPTION", lambda p: p.description),
    Column("ID", lambda p: p.id, whole=True),
)


@projects.command("ls", examples=("labkeep projects ls", "labkeep projects ls -q 'tag = \"prod\"' --state any"))
@options.query
@options.order
@options.state
@listed
@pass_session
def list_projects(session: Session, query: str | None, order: str | None, state: str | None) -> None:
    """List the projects of the workspace.

    Columns: name, state, created, tags, description, id.
    """

    def fetch(**page: object) -> object:
        return session.client.projects.list(q=query, order=order, state=state, **page)  # type: ignore[arg-type]

    session.output.list(fetch, PROJECTS, window())


SHARES = (
    Column("CONTENTS", lambda s: s[0]),
    Column("ENCRYPTED", lambda s: Size(s[1].encrypted_bytes)),
    Column("IN THE CLEAR", lambda s: Size(s[1].plain_bytes)),
)


@projects.command(
    "encryption", examples=("labkeep projects encryption patients", "labkeep projects encryption patients --json")
)
@click.argument("project")
@pass_session
def show_encryption(session: Session, project: str) -> None:
    """Show how much of a project is stored encrypted.

    Columns: contents, encrypted, in the clear. docs/encryption.md says what is never encrypted, such as names and config.
    """
    found = session.client.projects.encryption(project)
    if session.json:
        session.output.json(found)
        return
    session.output.rows(SHARES, [*found.contents.items()])
    session.output.note(
        "What is written now is encrypted." if found.encrypt else "What is written now is not encrypted."
    )


@projects.command(
    "create",
    examples=("labkeep projects create digits", "labkeep projects create digits --tag prod --grace-days 90"),
)
@click.argument("name")
@click.option("--description", metavar="TEXT", help="What it is about.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="May be given several times.")
@rule_options
@click.option("--exist-ok", is_flag=True, help="Answer the project that has the name, instead of refusing.")
@pass_session
def create_project(
    session: Session, /, name: str, description: str | None, tags: tuple[str, ...], exist_ok: bool, **rules: Any
) -> None:
    """Make the project NAME; prints its id."""
    settings = given(rules) or None
    made = session.client.projects.create(
        name, description=description, tags=tags, settings=settings, exist_ok=exist_ok
    )
    session.output.answer(made, made.id)


@projects.command("show", examples=("labkeep projects show digits", "labkeep projects show digits --json"))
@click.argument("project")
@options.include_trashed
@pass_session
def show_project(session: Session, project: str, include: str | None) -> None:
    """Show the project PROJECT (name or id), and what it holds."""
    found = session.client.projects.get(project, include=include)
    held = next((usage for usage in session.client.usage.list(by="project") if usage.id == found.id), None)
    facts = [
        ("name", found.name),
        ("id", found.id),
        ("state", found.state),
        ("locked", found.locked or None),
        ("description", found.description),
        ("tags", found.tags),
        ("settings", found.settings),
        ("metadata", found.metadata),
        ("created", found.created_at),
        ("created by", found.created_by),
        ("updated", found.updated_at),
        ("objects", held and held.items),
        ("size", held and Size(held.bytes)),
        ("of that in the trash", held and Size(held.trashed_bytes)),
    ]
    session.output.facts(found, facts)


for verb in ("archive", "unarchive", "trash", "restore", "purge"):
    projects.add_command(verb_command(verb, of_projects=True))
