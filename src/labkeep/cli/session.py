"""One invocation of the command line: whom it talks to, and who reads what it prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from labkeep.cli.output import Output

if TYPE_CHECKING:
    from labkeep.client._sync.client import Labkeep


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


class Session:
    """Shared by all commands. ``human`` says that a person reads the output, ``interactive`` that one can answer."""

    def __init__(
        self,
        *,
        human: bool | None = None,
        interactive: bool | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.human = sys.stdout.isatty() if human is None else human
        self.interactive = sys.stdin.isatty() and sys.stderr.isatty() if interactive is None else interactive
        self.now = now
        self.json = False
        self.url: str | None = None
        self.dir: str | None = None
        self.workspace: str | None = None

    @cached_property
    def client(self) -> Labkeep:
        """The client of the server, or of the folder, that the options and the environment name."""
        from labkeep.client._sync.client import Labkeep

        if self.dir is not None:
            return Labkeep.local(self.dir, workspace=self.workspace)
        return Labkeep(base_url=self.url, workspace=self.workspace)

    @cached_property
    def output(self) -> Output:
        """Where answers go."""
        return Output(human=self.human, as_json=self.json, now=self.now)

    def close(self) -> None:
        """Give back the connection, or the folder."""
        if "client" in self.__dict__:
            self.client.close()
