"""Moving objects between servers: export, import, and looking whether an archive is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Size, clean, count_of
from labkeep.cli.command import Command, pass_session
from labkeep.cli.options import NewName
from labkeep.cli.references import target_id
from labkeep.cli.session import Session
from labkeep.core.errors import LabkeepError

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"

FILE = click.Path(dir_okay=False, path_type=Path)


@contextmanager
def _bar(session: Session, what: str) -> Iterator[Callable[[int, int], None]]:
    """How far it is, on standard error, so that it never mixes with the answer."""
    if not session.human or session.json:
        yield lambda _done, _bytes: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    looks = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[so_far]}"),
        TimeElapsedColumn(),
    )
    with Progress(*looks, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=None, so_far="")

        def show(done: int, size: int) -> None:
            progress.update(bar, so_far=f"{done} ({session.output.cell(Size(size))})")

        yield show


@click.command(
    cls=Command,
    examples=(
        "labkeep export digits.labkeep --project digits",
        "labkeep export best.labkeep --project digits -q 'summary.acc > 0.99'",
        f"labkeep export one.labkeep {ID}",
        "labkeep export everything.labkeep",
    ),
)
@click.argument("path", type=FILE)
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@options.project
@options.query
@pass_session
def export(session: Session, path: Path, targets: tuple[str, ...], project: str | None, query: str | None) -> None:
    """Write TARGETs (ids, project:NAME, or PROJECT/NAME of a run), a project, the runs that --query finds, or the whole
    workspace to the archive PATH: everything that they are, for `labkeep import`.

    Prints the digest of the archive. One that broke off goes on where it was when it is started again.
    """
    ids = [target_id(session.client, target, trashed=True) for target in targets]
    _say_what_is_plain(session, ids, project)
    with _bar(session, "exported") as show:
        digest = session.client.transfers.export(path, ids=ids, project=project, q=query, progress=show)
    size = path.stat().st_size
    session.output.answer({"path": str(path), "digest": digest, "bytes": size}, digest)


def _say_what_is_plain(session: Session, ids: list[str], project: str | None) -> None:
    """Projects that encrypt do so in the store: whoever takes something out of there has to know that it is plain then."""
    client = session.client
    if ids:
        items = [client.items.get(id, include="trashed") for id in ids]
        homes = sorted({item.project_id or item.id for item in items})
        found = [client.projects.get(id, include="trashed") for id in homes]
    else:
        found = [client.projects.get(project)] if project else list(client.projects.list())
    everywhere = client.rules.get().effective.encrypt
    names = [clean(one.name) for one in found if everywhere or one.settings.get("encrypt")]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        holds = "encrypts what it holds" if len(names) == 1 else "encrypt what they hold"
        said = f"{', '.join(names[:5])}{more} {holds}: the archive has it in plain, keep it accordingly"
        session.output.note(said)


@click.command(
    "import",
    cls=Command,
    examples=(
        "labkeep import digits.labkeep",
        "labkeep import digits.labkeep --name digits-2026 --new-ids",
        "labkeep import best.labkeep --into digits --new-ids",
        f"labkeep import digits.labkeep --resume {ID} --rename {ID}=other-name",
    ),
)
@click.argument("path", type=FILE)
@click.option("--new-ids", is_flag=True, help="Give every object a new id; otherwise they keep theirs.")
@click.option("--into", metavar="PROJECT", help="Put what was in a project into this one.")
@click.option("--name", metavar="NAME", help="A new name for the project.")
@click.option("--rename", "renames", multiple=True, type=NewName(), help="A new name where the old is taken.")
@click.option("--resume", metavar="ID", help="Go on with an import that broke off.")
@click.option("--dry-run", is_flag=True, help="Read the archive, say what is in it, and import nothing.")
@pass_session
def import_(
    session: Session,
    path: Path,
    new_ids: bool,
    into: str | None,
    name: str | None,
    renames: tuple[tuple[str, str], ...],
    resume: str | None,
    dry_run: bool,
) -> None:
    """Make the objects of the archive PATH again, equal to what they were: ids, times, versions, rows and histories.

    All of PATH is read first to see that it is whole and unchanged. Nothing is seen before all of it is there.
    """
    if dry_run:
        _verify(session, path)
        return
    under_way: list[str] = []
    try:
        with _bar(session, "imported") as show:
            brought = session.client.transfers.bring(
                path,
                remap=new_ids,
                into=into,
                name=name,
                names=dict(renames),
                resume=resume,
                began=under_way.append,
                progress=show,
            )
    except (LabkeepError, KeyboardInterrupt):
        for id in under_way:
            session.output.note(f"Not finished: go on with --resume {id}, or give it up: labkeep import-abort {id}")
        raise
    for line in brought.left_out:
        session.output.note(f"left out: {line}")
    session.output.answer(brought._asdict(), f"imported {count_of(brought.counts)}")


@click.command(
    "import-abort", cls=Command, examples=(f"labkeep import-abort {ID}", f"labkeep import-abort {ID} --json")
)
@click.argument("id")
@pass_session
def abort(session: Session, id: str) -> None:
    """Give up the import ID: what it brought so far is removed for good."""
    outcome = session.client.transfers.give_up(id)
    session.output.answer(outcome, f"gave up {id}; removing {count_of(outcome.counts) or 'nothing'}")


@click.command(
    "archive-verify",
    cls=Command,
    examples=("labkeep archive-verify digits.labkeep", "labkeep archive-verify digits.labkeep --json"),
)
@click.argument("path", type=FILE)
@pass_session
def verify(session: Session, path: Path) -> None:
    """Read all of the archive PATH, and say whether it is whole and as it was exported. Needs no server."""
    _verify(session, path)


def _verify(session: Session, path: Path) -> None:
    from labkeep.client.archives import Archive

    counts: dict[str, int] = {}
    with _bar(session, "read") as show, Archive(path) as archive:
        size = 0
        for number, member in enumerate(archive.verify(), start=1):
            size += member.size
            show(number, size)
            if member.name.startswith("objects/"):
                for one in archive.objects(member.name):
                    counts[one["kind"]] = counts.get(one["kind"], 0) + 1
        found: dict[str, Any] = {"digest": archive.digest, "counts": counts, "bytes": size, "header": archive.header}
    session.output.answer(found, f"whole and unchanged: {count_of(counts) or 'empty'}, {archive.digest}")


# --- before something goes ----------------------------------------------------------------------------------------------


def ids_of(session: Session, selection: dict[str, Any]) -> list[str]:
    """The objects that a selection names; what is in a live project or artifact goes with it."""
    if "ids" in selection:
        return list(selection["ids"])
    client = session.client
    if "deletion_id" in selection:
        return [member.item_id for member in client.deletions.members(selection["deletion_id"], limit=1000)]
    plural = {
        "project": client.projects,
        "run": client.runs,
        "document": client.documents,
        "artifact": client.artifacts,
    }
    listed: Any = plural[selection["kind"]]
    found = []
    for state in ("active", "archived", "trashed"):
        fields = {name: selection[name] for name in ("q", "project") if selection.get(name)}
        found += [one.id for one in listed.list(**fields, state=state, limit=1000)]
    return found


def export_first(session: Session, path: Path, ids: list[str]) -> str:
    """Export, read it again, and answer the digest for the record."""
    from labkeep.client.archives import Archive

    _say_what_is_plain(session, ids[:100], None)
    with _bar(session, "exported") as show:
        digest = session.client.transfers.export(path, ids=ids, progress=show)
    with Archive(path) as archive:
        for _ in archive.verify():
            pass
    session.output.note(f"Exported to {path} and verified: {digest}")
    return digest
