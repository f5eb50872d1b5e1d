"""What every command has: ``--json``, ``-h``, and examples at the end of its help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from labkeep.cli.session import Session

SHOWN_EXAMPLES = 5
"""Examples that the help of a group borrows from its commands."""

pass_session = click.make_pass_decorator(Session)


class Command(click.Command):
    """A command with ``examples`` (whole lines for a shell) that can answer as JSON."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)
        self.params.append(_json_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, as they are: never wrapped."""
        write_examples(self.examples, formatter)


class Group(click.Group):
    """A noun. Its help borrows the first example of each of its commands."""

    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were defined: what is used most comes first."""
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples of what is in the group."""
        write_examples(self.examples or self.borrowed(ctx), formatter)

    def borrowed(self, ctx: click.Context) -> list[str]:
        """The first examples of the commands in this group."""
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        found = [command.examples for command in commands if isinstance(command, Command) and command.examples]
        firsts = [examples[0] for examples in found]
        return (firsts if len(firsts) > 1 else [example for examples in found for example in examples])[:SHOWN_EXAMPLES]


class LazyGroup(Group):
    """A group whose commands are imported when they are needed. ``sections`` is heading → name → ``module:attribute``."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, str]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.sections = sections
        self._homes = {name: home for part in sections.values() for name, home in part.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the sections."""
        return list(self._homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        home = self._homes.get(cmd_name)
        if home is None:
            return None
        module, _, attribute = home.partition(":")
        found = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One list for each section."""
        width = max(map(len, self._homes)) + 2
        for heading, part in self.sections.items():
            with formatter.section(heading):
                commands = [(name, self.get_command(ctx, name)) for name in part]
                rows = [
                    (name.ljust(width - 2), command.get_short_help_str(75)) for name, command in commands if command
                ]
                formatter.write_dl(rows)


def write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    """The section at the end of a help text."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def _json_option() -> click.Option:
    return click.Option(
        ["--json"],
        is_flag=True,
        expose_value=False,
        callback=_note_json,
        help="Print JSON, as the API answers it; errors too.",
    )


def _note_json(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Session).json = value


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
"""What adds an option or an argument to a command."""
