"""Pointing other systems' SDKs at the server."""

from __future__ import annotations

import shlex

import click

from labkeep.cli.command import Command, pass_session
from labkeep.cli.session import Session
from labkeep.core.errors import Invalid


@click.command(
    cls=Command,
    examples=(
        'eval "$(labkeep connect braintrust)"',
        "labkeep connect braintrust --json",
        "labkeep connect labkeep >> .env",
    ),
)
@click.argument("system")
@pass_session
def connect(session: Session, system: str) -> None:
    """Print the variables that point the SDK of SYSTEM at this server.

    They hold your key: keep them where you keep other secrets. Nothing else in code that uses the SDK has to change.
    """
    from labkeep.client.target import resolve
    from labkeep.core.connect import environment, system_named

    chosen = system_named(system.lower())
    if session.dir is not None:
        raise Invalid("an SDK needs a server: start one with `labkeep serve --data DIR`", path="dir")
    target = resolve(session.url)
    variables = environment(chosen, target.url, target.key)
    if session.json:
        session.output.json(variables)
        return
    for name, value in variables.items():
        session.output.line(f"export {name}={shlex.quote(value)}")
