"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import click

from labkeep.cli.command import Decorator
from labkeep.cli.output import Window
from labkeep.cli.session import Session

STATES = ("active", "archived", "trashed", "any")
LIMIT = 100

_AHEAD = re.compile(r"\+?([0-9]{1,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[datetime]):
    """A time as people write it: ``2026-11-01``, ``2026-11-01T09:30Z``, ``-7d`` (before now).

    With ``ahead`` also ``90d`` or ``+90d`` (from now), for what has not happened yet.
    """

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        self.ahead = ahead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """An aware moment."""
        from labkeep.core.times import parse_time

        if isinstance(value, datetime):
            return value
        now = ctx.ensure_object(Session).now() if ctx else datetime.now().astimezone()
        ahead = _AHEAD.fullmatch(value) if self.ahead else None
        try:
            return now + timedelta(**{_UNITS[ahead[2]]: int(ahead[1])}) if ahead else parse_time(value, now)
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)


class NewName(click.ParamType[tuple[str, str]]):
    """``ID=NAME``: a new name for the object with that id."""

    name = "id=name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """The id and the name."""
        if isinstance(value, tuple):
            return value
        id, _, name = value.partition("=")
        if not name:
            self.fail(f"{value[:80]!r} is not ID=NAME", param, ctx)
        return id.lower(), name


def listed(command: Any) -> Any:
    """``--limit``, ``--all`` and ``--cursor``, handed over as ``window``."""
    for option in (
        click.option("--cursor", expose_value=False, callback=_keep, help="Go on where an earlier list ended."),
        click.option("--all", is_flag=True, expose_value=False, callback=_keep, help="The same as --limit 0."),
        click.option(
            "--limit",
            type=click.IntRange(min=0),
            default=LIMIT,
            show_default=True,
            expose_value=False,
            callback=_keep,
            help="How many at the most; 0 is all.",
        ),
    ):
        command = option(command)
    return command


def _keep(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    """Options of the window meet in the context, because they mean something only together."""
    ctx.meta[f"labkeep.{option.name}"] = value


def window() -> Window:
    """What `listed` was given."""
    meta = click.get_current_context().meta
    limit = 0 if meta.get("labkeep.all") else meta.get("labkeep.limit", LIMIT)
    return Window(limit, meta.get("labkeep.cursor"))


project: Decorator = click.option("--project", "-p", metavar="PROJECT", help="Project, by name or id.")

query: Decorator = click.option(
    "-q",
    "--query",
    metavar="QUERY",
    help="Only what matches, like 'config.lr < 0.1 and tag = \"prod\"'; see docs/query.md.",
)

order: Decorator = click.option(
    "--order", metavar="ORDER", help="What comes first, like 'summary.acc desc'.  [default: the newest]"
)

state: Decorator = click.option("--state", type=click.Choice(STATES), help="State in the lifecycle.  [default: active]")

include_trashed: Decorator = click.option(
    "--trashed", "include", flag_value="trashed", default=None, help="Also look in the trash."
)
