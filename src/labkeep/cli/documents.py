"""Documents: definitions with immutable versions."""

from __future__ import annotations

from typing import Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size
from labkeep.cli.command import Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.session import Session


@click.group(cls=Group)
def documents() -> None:
    """Datasets, prompts, experiments and whatever else has versions."""


DOCUMENTS = (
    Column("NAME", lambda d: d.name),
    Column("TYPE", lambda d: d.type),
    Column("VERSION", lambda d: d.latest),
    Column("STATUS", lambda d: d.status),
    Column("STATE", lambda d: d.state),
    Column("CREATED", lambda d: d.created_at),
    Column("ID", lambda d: d.id, whole=True),
)


@documents.command(
    "ls",
    examples=("labkeep documents ls --project digits --type dataset", "labkeep documents ls -q 'updated_at > -7d'"),
)
@options.project
@click.option("--type", "type_", metavar="TYPE", help="Only one sort: dataset, prompt, experiment, …")
@options.query
@options.order
@options.state
@listed
@pass_session
def list_documents(
    session: Session, project: str | None, type_: str | None, query: str | None, order: str | None, state: str | None
) -> None:
    """List documents of a project, or of the workspace.

    Columns: name, type, number of the newest version, status, state, created, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.documents.list(project, type=type_, q=query, order=order, state=state, **page)

    session.output.list(fetch, DOCUMENTS, window())


@documents.command(
    "show",
    examples=(
        "labkeep documents show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep documents show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json",
    ),
)
@click.argument("id")
@options.include_trashed
@pass_session
def show_document(session: Session, id: str, include: str | None) -> None:
    """Show the document ID."""
    found = session.client.documents.get(id, include=include)
    facts = [
        ("name", found.name),
        ("id", found.id),
        ("type", found.type),
        ("status", found.status),
        ("state", found.state),
        ("deletion", found.deletion_id),
        ("newest version", found.latest),
        ("description", found.description),
        ("tags", found.tags),
        ("metadata", found.metadata),
        ("created", found.created_at),
        ("created by", found.created_by),
        ("size", Size(found.bytes)),
    ]
    session.output.facts(found, facts)


VERSIONS = (
    Column("NUMBER", lambda v: v.number),
    Column("MESSAGE", lambda v: v.message),
    Column("AUTHOR", lambda v: v.author),
    Column("CREATED", lambda v: v.created_at),
    Column("DIGEST", lambda v: v.digest),
)


@documents.command(
    "versions",
    examples=(
        "labkeep documents versions 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep documents versions 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json | jq '.items[0].body'",
    ),
)
@click.argument("id")
@options.include_trashed
@listed
@pass_session
def list_versions(session: Session, id: str, include: str | None) -> None:
    """List the versions of the document ID, newest first.

    Columns: number, message, author, created, digest. With --json, each has its body.
    """

    def fetch(**page: Any) -> Any:
        return session.client.documents.versions(id, include=include, **page)

    session.output.list(fetch, VERSIONS, window())
