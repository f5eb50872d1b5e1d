"""Commands that run a server, or look after its store without one."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

import click

from labkeep.cli.command import Command, Decorator, pass_session
from labkeep.cli.output import Column
from labkeep.cli.session import Session
from labkeep.core.errors import Corrupt, Unavailable, Unsupported

if TYPE_CHECKING:
    from labkeep.settings import Settings
    from labkeep.storage.check import Report

config_option: Decorator = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Settings file (TOML)."
)
data_option: Decorator = click.option("--data", metavar="DIR", help="Folder of the store.  [default: ./labkeep-data]")


def server_root() -> ModuleType:
    """The composition root. Unavailable, saying what to install, where only the client is."""
    try:
        return importlib.import_module("labkeep.server")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("labkeep"):
            raise
        raise Unavailable(
            f"this command needs the server's packages ({error.name} is missing): pip install 'labkeep[server]'",
            missing=error.name,
        ) from error


def settings_of(config: Path | None, **overrides: Any) -> Settings:
    """The settings of the server that a command is about."""
    from labkeep.settings import load

    return load(config, **overrides)


def _own_ports(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str] | None:
    """``wandb=8081`` -> ``{"wandb": "8081"}``; None when none is given, for the settings file to decide."""
    found = {}
    for text in given:
        name, equals, address = text.partition("=")
        if not (name and equals and address):
            raise click.BadParameter(f"{text!r} is not DIALECT=PORT, such as wandb=8081")
        if name in found:
            raise click.BadParameter(f"{name} is named twice")
        found[name] = address
    return found or None


@click.command(
    cls=Command,
    examples=(
        "labkeep serve",
        "labkeep serve --data /srv/labkeep --host 0.0.0.0 --port 80",
        "labkeep serve --listen wandb=8081 --listen braintrust=8082",
        "LABKEEP_DATABASE_URL=postgresql+psycopg://labkeep@db/labkeep labkeep serve",
    ),
)
@data_option
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 picks a free one.  [default: 8080]")
@click.option(
    "--listen",
    "own",
    multiple=True,
    callback=_own_ports,
    metavar="DIALECT=PORT",
    help="Also serve a dialect at the root of a port of its own; PORT or ADDRESS:PORT. May be repeated.",
)
@config_option
@pass_session
def serve(
    session: Session,
    data: str | None,
    host: str | None,
    port: int | None,
    own: dict[str, str] | None,
    config: Path | None,
) -> None:
    """Start the server.

    On an empty store it makes the organization and workspace "default" and an owner "admin", and prints the
    owner's key once. LABKEEP_ADMIN_KEY sets that key instead. `labkeep settings` lists everything that can be set.
    """
    chosen = settings_of(config, data=data, host=host, port=port, listen=own)

    def announce(url: str, key: str | None, dialects: Mapping[str, str]) -> None:
        _announce(session, url, key, dialects)
        sys.stdout.flush()

    # The server takes both signals while it serves, and sends them again once it has finished: by default the second
    # one would end the process before the store is closed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    server_root().serve(chosen, announce)


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise click.exceptions.Exit(0)


def _announce(session: Session, url: str, key: str | None, dialects: Mapping[str, str]) -> None:
    if session.json:
        session.output.json({"url": url, "key": key, "dialects": dialects})
        return
    click.echo(f"Labkeep is at {url}  (API: {url}/docs)")
    for name, address in dialects.items():
        click.echo(f"{name} is also at {address}")
    if key is not None:
        click.echo(f"The administrator's key, shown this once:\n\n    export LABKEEP_URL={url} LABKEEP_API_KEY={key}\n")


@click.command(
    cls=Command,
    examples=(
        "LABKEEP_DATABASE_URL=postgresql+psycopg://labkeep@db/labkeep labkeep worker",
        "labkeep worker --config /etc/labkeep.toml",
    ),
)
@config_option
@pass_session
def worker(session: Session, config: Path | None) -> None:
    """Work on background jobs, beside the server's own worker. Needs PostgreSQL.

    Any number may run. Ctrl-C, or SIGTERM, lets it finish the job at hand; a job whose worker was killed is taken over
    by another.
    """
    chosen = settings_of(config)
    if not chosen.database_url:
        raise Unsupported(
            "a SQLite store belongs to one process, and `labkeep serve` has a worker of its own; set "
            "LABKEEP_DATABASE_URL to a PostgreSQL database to run workers beside it"
        )
    root = server_root()
    store = root.open_store(chosen)
    try:
        running = root.make_worker(store)
        _stop_on_signals(running)
        session.output.answer({"worker": running.name}, f"Working as {running.name}")
        sys.stdout.flush()
        running.run()
    finally:
        root.close_store(store)


def _stop_on_signals(running: Any) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        running.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


PROBLEMS = (
    Column("CHECK", lambda p: p.check),
    Column("SUBJECT", lambda p: p.subject),
    Column("PROBLEM", lambda p: p.message),
    Column("REPAIR", lambda p: p.repair),
)


@click.command(
    cls=Command,
    examples=("labkeep check", "labkeep check --data /srv/labkeep --deep", "labkeep check --json"),
)
@data_option
@click.option("--deep", is_flag=True, help="Also read and hash every blob and decode every history: slow.")
@config_option
@pass_session
def check(session: Session, data: str | None, deep: bool, config: Path | None) -> None:
    """Check that database, histories and blobs fit together, in both directions.

    Only reads, and may run beside the server. Prints what was looked at and, for each problem, what would mend it.
    Exit code 7 when there are problems.
    """
    chosen = settings_of(config, data=data)
    if not chosen.database_url and not Path(chosen.data).is_dir():
        raise Unavailable(f"there is no store at {chosen.data}: say where it is with --data DIR", path=chosen.data)
    report = server_root().check_store(chosen, deep=deep)
    if session.json:
        session.output.json(report)
    else:
        _print_report(session, report)
    if report.found:
        click.get_current_context().exit(Corrupt.exit_code)


def _print_report(session: Session, report: Report) -> None:
    found = {name: sum(problem.check == name for problem in report.problems) for name in report.checked}
    columns = (
        Column("CHECK", lambda name: name),
        Column("LOOKED AT", lambda name: report.checked[name]),
        Column("PROBLEMS", lambda name: found[name]),
    )
    session.output.rows(columns, list(report.checked))
    if not report.found:
        session.output.note("Everything fits together.")
        return
    session.output.note(f"\n{report.found} problems, and what would mend them:")
    session.output.rows(PROBLEMS, report.problems)
    if report.found > len(report.problems):
        session.output.note(f"… and {report.found - len(report.problems)} more")


@click.command(
    cls=Command,
    examples=("labkeep sweep --dry-run", "labkeep sweep --data /srv/labkeep", "labkeep sweep --dry-run --json"),
)
@data_option
@click.option("--dry-run", is_flag=True, help="Only look; this may run beside the server.")
@config_option
@pass_session
def sweep(session: Session, data: str | None, dry_run: bool, config: Path | None) -> None:
    """Remove blobs that nothing refers to or that nothing records, and say what is missing.

    The server does that by itself, every hour and every day, so this is for a store that no server has open. Uploads of
    the last hours that nothing refers to yet are left alone. Prints what does not fit between the database and the blob
    store, in both directions; exit code 7 when something is left that a sweep cannot mend, or would be with --dry-run.
    """
    chosen = settings_of(config, data=data)
    if not chosen.database_url and not Path(chosen.data).is_dir():
        raise Unavailable(f"there is no store at {chosen.data}: say where it is with --data DIR", path=chosen.data)
    root = server_root()
    report = root.check_store(chosen, only=root.SWEPT) if dry_run else root.sweep_store(chosen)
    if session.json:
        session.output.json(report)
    else:
        _print_report(session, report)
    if report.found:
        click.get_current_context().exit(Corrupt.exit_code)


SETTINGS = (
    Column("NAME", lambda s: s["name"]),
    Column("VALUE", lambda s: s["value"]),
    Column("ORIGIN", lambda s: s["origin"]),
    Column("MEANING", lambda s: s["description"]),
)


@click.command(
    cls=Command,
    examples=("labkeep settings", "labkeep settings --config /etc/labkeep.toml --json"),
)
@config_option
@pass_session
def settings(session: Session, config: Path | None) -> None:
    """Show every setting of the server: its value, and where that comes from.

    Settings come from a TOML file, then from LABKEEP_* variables, then from options of the command; the last one wins.
    Secrets are not shown. Columns: name, value, origin, meaning.
    """
    from labkeep.cli.origins import explain

    session.output.table(SETTINGS, explain(config))
