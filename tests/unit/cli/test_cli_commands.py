"""What holds for every command, whichever it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from labkeep.cli.command import Command, Group
from labkeep.cli.main import SECTIONS, main
from scripts import reference


def _walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None, name
            yield from _walk(found, (*path, name))


EVERYTHING = dict(_walk(main, ("labkeep",)))
COMMANDS = {path: command for path, command in EVERYTHING.items() if not isinstance(command, click.Group)}
GROUPS = {path: command for path, command in EVERYTHING.items() if isinstance(command, click.Group)}

every_command = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
everything = pytest.mark.parametrize("path", EVERYTHING, ids=" ".join)


def _help(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(main, [*path[1:], "-h"], prog_name="labkeep")
    assert result.exit_code == 0, result.output
    return result.output


def test_the_issue_s_commands_are_all_there() -> None:
    wanted = """serve worker check workspace key login connect projects runs archive trash restore purge audit du
    unarchive whoami member settings completion trashed deletions jobs experiments artifacts files sync"""
    assert set(wanted.split()) <= {path[1] for path in EVERYTHING if len(path) > 1}
    assert {"ls", "show", "diff", "history"} <= {path[2] for path in COMMANDS if path[:2] == ("labkeep", "runs")}


@everything
def test_help_says_what_it_does_and_shows_two_examples(path: tuple[str, ...]) -> None:
    text = _help(path)
    assert EVERYTHING[path].help
    examples = [line for line in text.partition("Examples:")[2].splitlines() if line.strip()]
    assert len(examples) >= 2
    assert all("labkeep" in line for line in examples)


@every_command
def test_every_command_has_json(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert isinstance(command, Command)
    assert any("--json" in option.opts for option in command.params)


@every_command
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    silent = [option.name for option in COMMANDS[path].params if isinstance(option, click.Option) and not option.help]
    assert silent in ([], ["by"])


@everything
def test_the_long_help_option_does_the_same(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path[1:], "--help"], prog_name="labkeep")
    assert result.output == _help(path)


def _invocations(example: str) -> Iterator[list[str]]:
    """The words of every ``labkeep …`` in a line for a shell."""
    lexer = shlex.shlex(example.replace('"$(', "").replace(')"', ""), posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, "|"]:
        if not set(word) <= set("|<>;&"):
            words.append(word)
            continue
        if "labkeep" in words:
            yield words[words.index("labkeep") + 1 :]
        words = []


def _examples() -> Iterator[str]:
    for command in EVERYTHING.values():
        if isinstance(command, Command | Group):
            yield from command.examples


@pytest.mark.parametrize("example", sorted(set(_examples())))
def test_every_example_is_a_command_line_that_can_be_read(
    example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Command, "invoke", lambda _self, _ctx: None)
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    for name in ("report.html", "out/report.html"):
        Path(name).touch()
    for words in _invocations(example):
        result = CliRunner().invoke(main, words, prog_name="labkeep")
        assert result.exit_code == 0, result.output


def _documented() -> Iterator[str]:
    """Every line of the docs that calls the command line, with an id where one is to be filled in."""
    for page in (reference.DOCS.parent / "README.md", *reference.DOCS.rglob("*.md")):
        for line in page.read_text("utf-8").replace("\\\n", " ").splitlines() if page.name != "cli.md" else ():
            text = line.removeprefix("$ ").partition("  #")[0].strip()
            if text.startswith(("labkeep ", 'eval "$(labkeep ')):
                yield re.sub(r"<[a-z ]+>|…", "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77", text)


@pytest.mark.parametrize("line", sorted(set(_documented())))
def test_every_command_in_the_docs_is_one_that_can_be_read(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Command, "invoke", lambda _self, _ctx: None)
    for words in _invocations(line):
        result = CliRunner().invoke(main, words, prog_name="labkeep")
        assert result.exit_code == 0, result.output


def test_the_root_help_names_every_command_once() -> None:
    names = [name for part in SECTIONS.values() for name in part]
    assert len(names) == len(set(names))
    listed = re.findall(r"^  ([a-z-]+) {2,}\S", _help(("labkeep",)), re.MULTILINE)
    assert [name for name in listed if name in names] == names


@pytest.mark.parametrize("page", reference.PAGES)
def test_a_generated_page_is_what_the_code_says(page: str) -> None:
    assert (reference.DOCS / page).read_text("utf-8") == reference.PAGES[page]()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell], prog_name="labkeep")
    assert result.exit_code == 0
    assert "_LABKEEP_COMPLETE" in result.output


def test_completion_knows_commands_and_options() -> None:
    environment = {"_LABKEEP_COMPLETE": "bash_complete", "COMP_WORDS": "labkeep runs ", "COMP_CWORD": "2"}
    result = CliRunner().invoke(main, [], prog_name="labkeep", env=environment)
    assert "plain,diff" in result.output
    environment = {"_LABKEEP_COMPLETE": "bash_complete", "COMP_WORDS": "labkeep runs ls --st", "COMP_CWORD": "3"}
    assert "plain,--state" in CliRunner().invoke(main, [], prog_name="labkeep", env=environment).output


def test_the_version_is_the_package_s() -> None:
    from labkeep import __version__

    assert CliRunner().invoke(main, ["--version"], prog_name="labkeep").output == f"labkeep, version {__version__}\n"
