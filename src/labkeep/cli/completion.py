"""Completion of commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from labkeep.cli.command import Command, pass_session
from labkeep.cli.session import Session

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    examples=(
        'eval "$(labkeep completion bash)"',
        "labkeep completion zsh > ~/.zfunc/_labkeep",
        "labkeep completion fish > ~/.config/fish/completions/labkeep.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@pass_session
def completion(session: Session, shell: str) -> None:
    """Print what makes SHELL complete commands and options with Tab."""
    kind = get_completion_class(shell)
    assert kind is not None, "click completes each of SHELLS"
    root = click.get_current_context().find_root()
    program = kind(root.command, {}, "labkeep", "_LABKEEP_COMPLETE")
    script = program.source_template % program.source_vars()
    session.output.answer({"shell": shell, "script": script}, script)
