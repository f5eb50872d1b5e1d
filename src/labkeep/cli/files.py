"""Files of runs, documents and artifact versions."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size
from labkeep.cli.command import Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.references import find_run, is_id
from labkeep.cli.session import Session

OWNER = "OWNER is the id of a run, a document or an artifact version, or PROJECT/NAME of a run."


@click.group(cls=Group)
def files() -> None:
    """Files of a run, a document or an artifact version."""


def owner_id(session: Session, owner: str, include: str | None = None) -> str:
    """The id of whatever has the files."""
    return owner.lower() if is_id(owner) else find_run(session.client, owner, include=include).id


FILES = (
    Column("FILE", lambda f: f.path),
    Column("SIZE", lambda f: Size(f.size)),
    Column("TYPE", lambda f: f.media_type),
    Column("CREATED", lambda f: f.created_at),
    Column("DIGEST", lambda f: f.digest),
)


@files.command(
    "ls",
    help=f"List files.\n\n{OWNER} Columns: path, size, media type, created, digest.",
    examples=("labkeep files ls digits/baseline", "labkeep files ls digits/baseline --prefix checkpoints/ --all"),
)
@click.argument("owner")
@click.option("--prefix", metavar="PATH", help="Only paths that begin so.")
@options.include_trashed
@listed
@pass_session
def list_files(session: Session, owner: str, prefix: str | None, include: str | None) -> None:
    id = owner_id(session, owner, include)

    def fetch(**page: Any) -> Any:
        return session.client.files.list(id, prefix=prefix, include=include, **page)

    session.output.list(fetch, FILES, window())


@files.command(
    "get",
    help=f"Download one file; checked against its digest, and there as a whole or not at all.\n\n{OWNER}",
    examples=(
        "labkeep files get digits/baseline checkpoints/last.pt",
        "labkeep files get digits/baseline report.html --to /tmp/report.html",
        "labkeep files get digits/baseline config.json --to - | jq .",
    ),
)
@click.argument("owner")
@click.argument("path")
@click.option("--to", metavar="FILE", help="Where to; - is standard output.  [default: its name, in this folder]")
@options.include_trashed
@pass_session
def get_file(session: Session, owner: str, path: str, to: str | None, include: str | None) -> None:
    id = owner_id(session, owner, include)
    if to == "-":
        sys.stdout.buffer.write(session.client.files.read(id, path, include=include))
        return
    name = PurePosixPath(path).name
    target = Path(to or name)
    if target.is_dir():
        target /= name
    session.client.files.download(id, path, target)
    session.output.answer({"file": str(target), "path": path}, str(target))


@files.command(
    "put",
    help=f"Upload a file, replacing what is there under its path.\n\n{OWNER}",
    examples=(
        "labkeep files put digits/baseline report.html",
        "labkeep files put digits/baseline out/report.html --path reports/final.html",
    ),
)
@click.argument("owner")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--path", metavar="PATH", help="Where it goes.  [default: its name]")
@pass_session
def put_file(session: Session, owner: str, file: Path, path: str | None) -> None:
    made = session.client.files.upload(owner_id(session, owner), path or file.name, file)
    session.output.answer(made, f"{made.path}  {session.output.cell(Size(made.size))}  {made.digest}")
