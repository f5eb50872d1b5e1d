"""Errors on standard error: one readable line and a hint what to do, or JSON; and the exit code of the error's class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import IO, Any

import click

from labkeep.cli.cells import clean
from labkeep.core.errors import (
    AlreadyExists,
    Conflict,
    Corrupt,
    Forbidden,
    Gone,
    LabkeepError,
    Stale,
    Unauthenticated,
)

USAGE = "usage"
"""The code, in JSON, of a command line that cannot be read."""

OVERRIDES = {"on_running=stop": "--on-running stop", "force": "--force"}
"""What a blocker names -> the option that does it."""


class Failure(click.ClickException):
    """What ends a command. Click prints it through `show` and exits with ``exit_code``."""

    def __init__(self, error: LabkeepError | click.ClickException, *, as_json: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.as_json = as_json

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click declares a class attribute
        """The exit code of the error's class."""
        return self.error.exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        if self.as_json:
            from msgspec import json

            click.echo(json.encode(body(self.error)), file=file, err=True)
            return
        lines = "\n".join(map(clean, _message(self.error).split("\n")))  # a query is shown with its place marked
        click.echo(f"Error: {lines}", file=file, err=True)
        if found := hint(self.error):
            click.echo(f"Hint: {clean(found)}", file=file, err=True)


def body(error: LabkeepError | click.ClickException) -> dict[str, Any]:
    """The error as the API writes it, with the hint."""
    found: dict[str, Any] = {"code": USAGE, "message": _message(error), "details": {}, "retry": False}
    if isinstance(error, LabkeepError):
        found.update(code=error.code, details=dict(error.details), retry=error.retry)
    return {**found, "hint": advice} if (advice := hint(error)) else found


def _message(error: LabkeepError | click.ClickException) -> str:
    return error.message if isinstance(error, LabkeepError) else error.format_message()


def hint(error: LabkeepError | click.ClickException) -> str:
    """What can be done about it; empty when the message says it all."""
    if isinstance(error, click.UsageError):
        return f"{error.ctx.command_path} -h shows how it is used" if error.ctx else ""
    for kind, advise in HINTS.items():
        if isinstance(error, kind):
            return advise(error.details)
    return ""


def _restore(details: Mapping[str, Any]) -> str:
    if not details.get("restorable_until"):
        return ""
    return f"labkeep restore --deletion {details['deletion_id']} brings it back" if details.get("deletion_id") else ""


def _rename(details: Mapping[str, Any]) -> str:
    taken = details.get("taken")
    if not taken:
        return ""
    names = " ".join(f"--name {offer['id']}={offer['suggestion']}" for offer in taken[:3])
    whole = f"--deletion {details['deletion_id']}" if details.get("deletion_id") else "…"
    return f"labkeep restore {whole} {names}"


def _override(details: Mapping[str, Any]) -> str:
    option = OVERRIDES.get(str(details.get("override", "")))
    if option:
        return f"{option} does it all the same"
    staying = [blocker for blocker in details.get("blockers", ()) if not blocker.get("override")]
    if not staying:
        return ""
    first = staying[0]
    hints = {"hold": "labkeep hold ls --item {}", "minimum_keep": "labkeep trashed --order due"}
    return hints.get(first.get("origin", "user"), "labkeep unlock {}").format(first["id"])


def _role(details: Mapping[str, Any]) -> str:
    return f"an owner can give the role: labkeep member set USER {details['needs']}" if details.get("needs") else ""


LOGIN = "labkeep login keeps a key that works, with the server that it is for"

CHECK = "labkeep check tells what is wrong and what would mend it"

HINTS: dict[type[LabkeepError], Callable[[Mapping[str, Any]], str]] = {
    Unauthenticated: lambda details: "" if "url" in details else LOGIN,
    Forbidden: _role,
    Gone: _restore,
    AlreadyExists: _rename,
    Stale: lambda _: "run it again to see what would happen now",
    Conflict: _override,
    Corrupt: lambda details: "" if "path" in details else CHECK,
}
"""Class -> hint from the error's details; the first class that fits wins, so children come before their parents."""
