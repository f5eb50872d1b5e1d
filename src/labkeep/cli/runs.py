"""Runs: finding, looking at and comparing them, and reading what they logged."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import click

from labkeep.cli import options
from labkeep.cli.cells import Seconds, Size, plain
from labkeep.cli.command import Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import PAGE, Column
from labkeep.cli.paths import columns_of
from labkeep.cli.references import find_run
from labkeep.cli.session import Session

if TYPE_CHECKING:
    from labkeep.core.entities import Run

HISTORY_ROWS = 10_000
"""Rows of a history that are asked for at a time."""


@click.group(cls=Group)
def runs() -> None:
    """Runs: one execution each, with its config, summary, metrics and files."""


def duration(run: Run, session: Session) -> Seconds | None:
    """How long a run took, or has taken so far."""
    begin = run.started_at or run.created_at
    end = run.finished_at or (session.now() if run.status == "running" else None)
    return None if end is None else Seconds(max(0.0, (end - begin).total_seconds()))


def _columns(session: Session, extra: Sequence[str], *, with_project: bool) -> list[Column]:
    @cache
    def project_name(id: str) -> str:
        return session.client.projects.get(id, include="trashed").name

    project = [Column("PROJECT", lambda r: project_name(r.project_id))] if with_project else []
    return [
        Column("NAME", lambda r: r.name),
        *project,
        Column("STATUS", lambda r: r.status),
        Column("STATE", lambda r: r.state),
        Column("CREATED", lambda r: r.created_at),
        Column("DURATION", lambda r: duration(r, session)),
        *columns_of(extra),
        Column("ID", lambda r: r.id, whole=True),
    ]


@runs.command(
    "ls",
    examples=(
        "labkeep runs ls --project digits",
        "labkeep runs ls -p digits -q 'summary.acc >= 0.9 and tag = \"prod\"' --order 'summary.acc desc'",
        "labkeep runs ls -p digits --columns summary.acc,config.lr --limit 10",
        "labkeep runs ls -p digits --all | cut -f1,6",
    ),
)
@options.project
@options.query
@options.order
@options.state
@click.option("--columns", multiple=True, metavar="PATHS", help="Values to show too, like summary.acc,config.lr.")
@listed
@pass_session
def list_runs(
    session: Session,
    project: str | None,
    query: str | None,
    order: str | None,
    state: str | None,
    columns: tuple[str, ...],
) -> None:
    """List the runs of a project, or of the workspace.

    Columns: name, status, state, created, duration, those of --columns, id. Without --project, the project comes
    after the name.
    """

    def fetch(**page: Any) -> Any:
        return session.client.runs.list(project, q=query, order=order, state=state, **page)

    session.output.list(fetch, _columns(session, columns, with_project=project is None), window())


METRICS = (
    Column("METRIC", lambda s: s.key),
    Column("COUNT", lambda s: s.count),
    Column("LAST", lambda s: s.last),
    Column("MIN", lambda s: s.min),
    Column("MAX", lambda s: s.max),
    Column("LAST STEP", lambda s: s.last_step),
)
FILES = (
    Column("FILE", lambda f: f.path),
    Column("SIZE", lambda f: Size(f.size)),
    Column("TYPE", lambda f: f.media_type),
)


@runs.command(
    "show",
    examples=(
        "labkeep runs show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep runs show digits/baseline",
        "labkeep runs show digits/baseline --json",
    ),
)
@click.argument("run")
@options.include_trashed
@pass_session
def show_run(session: Session, run: str, include: str | None) -> None:
    """Show a run: everything about it, its metrics and its files.

    RUN is an id, or PROJECT/NAME. With --json, `metrics`, `files` and `removals` (what was removed of it) are added to
    what the API answers for the run.
    """
    found = find_run(session.client, run, include=include)
    metrics = list(session.client.runs.metrics(found.id, stream="history", include=include))
    files = list(session.client.files.list(found.id, include=include, limit=PAGE))
    removed = list(session.client.removals.of_run(found.id, limit=PAGE))
    out = session.output
    if session.json:
        out.json({**_fields(found), "metrics": metrics, "files": files, "removals": removed})
        return
    out.facts(found, [*_facts(session, found), *(("removed", one.sentence) for one in removed)])
    for columns, items in ((METRICS, metrics), (FILES, files)):
        if items:
            out.line("")
            out.rows(columns, items)


def _fields(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__struct_fields__}


def _facts(session: Session, run: Run) -> Iterator[tuple[str, Any]]:
    yield "name", run.name
    yield "id", run.id
    yield "handle", run.handle if run.handle != run.name else None
    yield "project", session.client.projects.get(run.project_id or "", include="trashed").name
    yield "status", run.status
    yield "exit code", run.exit_code
    yield "state", run.state
    yield "deletion", run.deletion_id
    yield "locked", run.locked or None
    for name in ("type", "group", "job_type", "tags", "notes", "description"):
        yield name.replace("_", " "), getattr(run, name)
    yield "created", run.created_at
    yield "created by", run.created_by
    yield "duration", duration(run, session)
    yield "base run", run.base_run_id
    yield "document", run.document_id
    yield "logged through", run.dialect
    yield "size", Size(run.bytes)
    for space in ("config", "summary", "metadata"):
        for key, value in getattr(run, space).items():
            yield f"{space}.{key}", value


@runs.command("stop", examples=("labkeep runs stop digits/baseline", "labkeep runs stop digits/baseline --json"))
@click.argument("run")
@pass_session
def stop_run(session: Session, run: str) -> None:
    """Ask a running run to stop: its process learns of it with the next heartbeat or log.

    RUN is an id, or PROJECT/NAME.
    """
    after = session.client.runs.stop(find_run(session.client, run).id)
    session.output.answer(after, f"run {after.name} is {after.status} now")


@runs.command(
    "fork",
    examples=(
        "labkeep runs fork digits/baseline --step 1000",
        "labkeep runs fork digits/baseline --name second-try --json",
    ),
)
@click.argument("run")
@click.option(
    "--step", type=click.IntRange(min=0), help="The last step that the fork begins with; all of them without."
)
@click.option("--name", help="Name of the new run.")
@pass_session
def fork_run(session: Session, run: str, step: int | None, name: str | None) -> None:
    """Make a run that begins with the history of RUN, which stays as it is.

    RUN is an id, or PROJECT/NAME.
    """
    made = session.client.runs.fork(find_run(session.client, run).id, step=step, name=name)
    session.output.answer(made, f"run {made.name} ({made.id}) begins with the history of {run}")


@runs.command(
    "rewind",
    examples=(
        "labkeep runs rewind digits/baseline --step 1000 --reason diverged",
        "labkeep runs rewind digits/baseline --step 0 --json",
    ),
)
@click.argument("run")
@click.option("--step", type=click.IntRange(min=0), required=True, help="The last step that the run keeps.")
@click.option("--reason", help="Why, for the audit log.")
@pass_session
def rewind_run(session: Session, run: str, step: int, reason: str | None) -> None:
    """Take RUN back to a step. All that it had logged is kept as a run in the archive.

    RUN is an id, or PROJECT/NAME.
    """
    after = session.client.runs.rewind(find_run(session.client, run).id, step=step, reason=reason)
    kept = f"; what it had logged is kept as run {after.base_run_id} in the archive" if after.base_run_id else ""
    session.output.answer(after, f"run {after.name} stands at step {step}{kept}")


DIFFERENCES = (
    Column("PATH", lambda d: d.path),
    Column("A", lambda d: d.a),
    Column("B", lambda d: d.b),
)


@runs.command(
    "diff",
    examples=(
        "labkeep runs diff digits/baseline digits/wider",
        "labkeep runs diff digits/baseline digits/wider --json",
    ),
)
@click.argument("a")
@click.argument("b")
@pass_session
def diff_runs(session: Session, a: str, b: str) -> None:
    """Show where two runs differ: attributes, config and summary.

    A and B are ids, or PROJECT/NAME. Columns: path, value in A, value in B.
    """
    client = session.client
    found = list(client.runs.diff(find_run(client, a).id, find_run(client, b).id))
    session.output.table(DIFFERENCES, found)
    if not found and not session.json:
        session.output.note("They do not differ.")


@runs.command(
    "history",
    examples=(
        "labkeep runs history digits/baseline --key loss --key acc",
        "labkeep runs history digits/baseline --csv > baseline.csv",
        "labkeep runs history digits/baseline --key loss --buckets 50 --json",
        "labkeep runs history digits/baseline --stream console",
    ),
)
@click.argument("run")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Metric to read; all of them when left out.")
@click.option("--from", "first", type=int, metavar="STEP", help="First step.")
@click.option("--to", "last", type=int, metavar="STEP", help="Last step.")
@click.option("--buckets", type=click.IntRange(1, 100_000), help="A sample: least and greatest value per bucket.")
@click.option("--stream", default="history", show_default=True, help="Which stream; console has what was printed.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a header.")
@options.include_trashed
@pass_session
def show_history(
    session: Session,
    run: str,
    keys: tuple[str, ...],
    first: int | None,
    last: int | None,
    buckets: int | None,
    stream: str,
    as_csv: bool,
    include: str | None,
) -> None:
    """Print what a run logged, row by row.

    RUN is an id, or PROJECT/NAME. Columns: _step and the keys; without --key, also _timestamp, and all keys.
    """
    found = find_run(session.client, run, include=include)
    query = {"first_step": first, "last_step": last, "buckets": buckets, "stream": stream, "include": include}
    pages = _pages(session, found.id, {"keys": list(keys) or None, **query})
    if session.json:
        session.output.json({"rows": [row for page in pages for row in page]})
        return
    names = _names(session, found.id, keys, stream, include)
    columns = [Column(name, methodcaller("get", name)) for name in names]
    if session.human and not as_csv:
        columns = [Column("_timestamp", _moment) if column.title == "_timestamp" else column for column in columns]
    if as_csv:
        _print_csv([names])
    for number, page in enumerate(pages):
        if as_csv:
            _print_csv([[column.value(row) for column in columns] for row in page])
        else:
            session.output.rows(columns, page, header=number == 0)


def _pages(session: Session, id: str, query: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Rows of the stream as the API writes them in JSON, page by page."""
    from labkeep.client.requests import path

    where, offset = path("/runs/{id}/history", id=id), 0
    while offset is not None:
        page = session.client.request("GET", where, offset=offset, limit=HISTORY_ROWS, **query)
        yield page["rows"]
        offset = page["next_offset"]


def _names(session: Session, id: str, keys: Sequence[str], stream: str, include: str | None) -> list[str]:
    if keys:
        return ["_step", *keys]
    known = [series.key for series in session.client.runs.metrics(id, stream=stream, include=include)]
    return ["_step", "_timestamp", *known]


def _moment(row: dict[str, Any]) -> datetime | None:
    """When a row was logged, for people."""
    seconds = row.get("_timestamp")
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _print_csv(rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([plain(value) for value in row] for row in rows)
    click.echo(text.getvalue(), nl=False)
