"""Artifacts: named, versioned sets of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size
from labkeep.cli.command import Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import PAGE, Column
from labkeep.cli.references import find_artifact_version
from labkeep.cli.session import Session

REFERENCE = "ARTIFACT is NAME, NAME:ALIAS or NAME:v3 with --project, PROJECT/NAME:ALIAS, or the id of a version."


@click.group(cls=Group)
def artifacts() -> None:
    """Models, datasets and other files, in versions under one name."""


ARTIFACTS = (
    Column("NAME", lambda a: a.name),
    Column("TYPE", lambda a: a.type),
    Column("VERSIONS", lambda a: a.latest),
    Column("STATE", lambda a: a.state),
    Column("UPDATED", lambda a: a.updated_at),
    Column("ID", lambda a: a.id, whole=True),
)


@artifacts.command(
    "ls",
    examples=("labkeep artifacts ls --project digits", "labkeep artifacts ls -p digits --type model --json"),
)
@options.project
@click.option("--type", "type_", metavar="TYPE", help="Only one sort: model, dataset, …")
@options.query
@options.order
@options.state
@listed
@pass_session
def list_artifacts(
    session: Session, project: str | None, type_: str | None, query: str | None, order: str | None, state: str | None
) -> None:
    """List the artifacts of a project, or of the workspace.

    Columns: name, type, number of versions, state, updated, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.artifacts.list(project, type=type_, q=query, order=order, state=state, **page)

    session.output.list(fetch, ARTIFACTS, window())


VERSIONS = (
    Column("VERSION", lambda v: v.name),
    Column("ALIASES", lambda v: v.aliases),
    Column("SIZE", lambda v: Size(v.bytes)),
    Column("STATE", lambda v: v.state),
    Column("CREATED", lambda v: v.created_at),
    Column("RUN", lambda v: v.run_id),
    Column("ID", lambda v: v.id, whole=True),
)


@artifacts.command(
    "versions",
    examples=("labkeep artifacts versions digits/model", "labkeep artifacts versions model --project digits --json"),
)
@click.argument("artifact")
@options.project
@options.state
@listed
@pass_session
def list_versions(session: Session, artifact: str, project: str | None, state: str | None) -> None:
    """List the versions of an artifact, newest first.

    Columns: version, aliases, size, state, created, the run that made it, id.
    """
    _, version = find_artifact_version(session.client, artifact, project)

    def fetch(**page: Any) -> Any:
        return session.client.artifacts.versions(version.parent_id, state=state, **page)

    session.output.list(fetch, VERSIONS, window())


FILES = (
    Column("FILE", lambda f: f.path),
    Column("SIZE", lambda f: Size(f.size)),
    Column("DIGEST", lambda f: f.digest),
)


@artifacts.command(
    "show",
    help=f"Show one version of an artifact, and its files.\n\n{REFERENCE}",
    examples=("labkeep artifacts show digits/model:best", "labkeep artifacts show model:v3 --project digits --json"),
)
@click.argument("artifact")
@options.project
@pass_session
def show_artifact(session: Session, artifact: str, project: str | None) -> None:
    name, version = find_artifact_version(session.client, artifact, project)
    files = list(session.client.files.list(version.id, limit=PAGE))
    out = session.output
    if session.json:
        out.json({**{field: getattr(version, field) for field in version.__struct_fields__}, "files": files})
        return
    facts = [
        ("name", f"{name}:{version.name}"),
        ("id", version.id),
        ("type", version.type),
        ("aliases", version.aliases),
        ("state", version.state),
        ("description", version.description),
        ("metadata", version.metadata),
        ("made by run", version.run_id),
        ("created", version.created_at),
        ("created by", version.created_by),
        ("digest", version.digest),
        ("size", Size(version.bytes)),
    ]
    out.facts(version, facts)
    out.line("")
    out.rows(FILES, files)


@artifacts.command(
    "download",
    help=f"Download every file of a version, each checked against its digest; prints the folder.\n\n{REFERENCE}",
    examples=(
        "labkeep artifacts download digits/model:best",
        "labkeep artifacts download model:v3 --project digits --to ./model",
    ),
)
@click.argument("artifact")
@options.project
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="[default: artifacts/NAME-VERSION]"
)
@pass_session
def download_artifact(session: Session, artifact: str, project: str | None, to: Path | None) -> None:
    from labkeep.client.artifact import Artifact

    name, version = find_artifact_version(session.client, artifact, project)
    folder = Artifact.found(session.client, name, version).download(to)
    session.output.answer({"folder": folder, "id": version.id, "bytes": version.bytes}, folder)
