"""The command line over a folder that is open in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner, Result

from labkeep import Labkeep
from labkeep.cli.main import main
from labkeep.cli.session import Session

MakeRun = Callable[..., str]
"""(name, status, …) → the id of a new run in the test's project."""


class Cli:
    """``labkeep --dir DIR …`` in this process. ``client`` talks to the same folder."""

    def __init__(self, folder: Path, client: Labkeep) -> None:
        self.folder = folder
        self.client = client

    def __call__(self, *words: str, human: bool = False, answer: str | None = None) -> Result:
        """Run a command. With an ``answer`` somebody is there to be asked."""
        session = Session(human=human, interactive=answer is not None)
        result = CliRunner().invoke(main, ["--dir", str(self.folder), *words], obj=session, input=answer)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def lines(self, *words: str) -> list[list[str]]:
        """The fields of every line that a successful command prints in a pipe."""
        result = self(*words)
        assert result.exit_code == 0, result.stderr
        return [line.split("\t") for line in result.stdout.splitlines()]

    def json(self, *words: str) -> Any:
        """What a successful command prints with ``--json``."""
        result = self(*words, "--json")
        assert result.exit_code == 0, result.stderr
        return msgspec.json.decode(result.stdout)

    def error(self, *words: str) -> Any:
        """What a command that fails prints with ``--json``, and its exit code as ``exit_code``."""
        result = self(*words, "--json")
        assert result.exit_code != 0, result.stdout
        return {**msgspec.json.decode(result.stderr), "exit_code": result.exit_code}
