from __future__ import annotations

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from labkeep.cli.command import Command
from labkeep.cli.failure import Failure, body, hint
from labkeep.cli.main import Root, main
from labkeep.core import errors

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"


def run(error: BaseException, *arguments: str) -> Any:
    """What a command line ends with when its command raises ``error``."""

    @click.group(cls=Root, sections={})
    def root() -> None:
        """A root."""

    @click.command(cls=Command)
    def command() -> None:
        raise error

    root.get_command = lambda _ctx, _name: command  # type: ignore[method-assign]
    return CliRunner().invoke(root, ["command", *arguments])


@pytest.mark.parametrize("kind", errors.all_errors())
def test_every_error_ends_with_one_line_and_the_exit_code_of_its_class(kind: type[errors.LabkeepError]) -> None:
    result = run(kind("run r-7 is somewhere else"))
    assert result.exit_code == kind.exit_code
    assert result.stdout == ""
    assert result.stderr.startswith("Error: run r-7 is somewhere else\n")


@pytest.mark.parametrize("kind", errors.all_errors())
def test_every_error_is_the_envelope_of_the_api_where_json_is_wanted(kind: type[errors.LabkeepError]) -> None:
    result = run(kind("it moved", id=ID), "--json")
    assert result.exit_code == kind.exit_code
    found = {name: value for name, value in json.loads(result.stderr).items() if name != "hint"}
    assert found == {"code": kind.code, "message": "it moved", "details": {"id": ID}, "retry": kind.retry}


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errors.Gone("gone", deletion_id=ID, restorable_until="2026-12-21"), f"labkeep restore --deletion {ID}"),
        (errors.Gone("purged", deletion_id=ID), ""),
        (errors.Forbidden("no", needs="owner"), "labkeep member set USER owner"),
        (errors.Unauthenticated("unknown key"), "labkeep login"),
        (errors.Illegal("running", override="on_running=stop"), "--on-running stop"),
        (errors.InUse("in use", override="force"), "--force"),
        (errors.Held("locked", blockers=[{"id": ID, "override": ""}], override=""), f"labkeep unlock {ID}"),
        (errors.AlreadyExists("taken", taken=[{"id": ID, "suggestion": "a-2"}]), f"--name {ID}=a-2"),
        (errors.AlreadyExists("taken", id=ID), ""),
        (errors.Corrupt("broken"), "labkeep check"),
        (errors.Corrupt("an archive that somebody cut", path="digits.labkeep"), ""),
        (errors.NotFound("nowhere"), ""),
    ],
)
def test_a_hint_names_the_command_that_helps(error: errors.LabkeepError, advice: str) -> None:
    assert advice in hint(error)
    assert bool(advice) == bool(hint(error))


def test_an_error_cannot_steer_the_terminal() -> None:
    result = run(errors.NotFound("project '\x1b[2J' not found"))
    assert result.stderr == "Error: project '\\x1b[2J' not found\n"


def test_a_file_that_cannot_be_read_is_no_traceback() -> None:
    result = run(PermissionError(13, "Permission denied", "secrets.txt"))
    assert result.exit_code == 1
    assert result.stderr == "Error: [Errno 13] Permission denied: 'secrets.txt'\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_ends_with_130(error: BaseException) -> None:
    result = run(error)
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_a_command_line_that_cannot_be_read_says_where_help_is() -> None:
    result = CliRunner().invoke(main, ["runs", "ls", "--limit", "many"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0].startswith("Error: Invalid value for '--limit'")
    assert result.stderr.splitlines()[1] == "Hint: main runs ls -h shows how it is used"


def test_a_command_line_that_cannot_be_read_is_json_where_json_is_wanted() -> None:
    result = CliRunner().invoke(main, ["runs", "nosuch", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stderr)["code"] == "usage"


def test_a_noun_by_itself_shows_its_help() -> None:
    result = CliRunner().invoke(main, ["runs"])
    assert "Commands:" in result.output
    assert "Error" not in result.output


def test_a_bug_is_not_dressed_up_as_an_error() -> None:
    assert isinstance(run(RuntimeError("bug")).exception, RuntimeError)


def test_a_failure_carries_the_error_it_stands_for() -> None:
    error = errors.Stale("moved", plan={"hash": "x"})
    assert Failure(error, as_json=True).exit_code == 5
    assert body(error)["details"] == {"plan": {"hash": "x"}}
