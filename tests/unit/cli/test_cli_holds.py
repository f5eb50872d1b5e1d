"""``labkeep hold``."""

from __future__ import annotations

from tests.unit.cli.folder_cli import Cli, MakeRun


def test_a_hold_is_set_shown_and_lifted(cli: Cli, project: str, make_run: MakeRun) -> None:
    run = make_run("a")
    id = cli("hold", "set", "--matter", "Case 12", run, "--reason", "asked for").stdout.strip()
    assert [id, "Case 12"] == [cli.json("hold", "show", id)[name] for name in ("id", "matter")]
    assert [line[-1] for line in cli.lines("hold", "ls", "--item", run)] == [id]
    assert run in cli("hold", "show", id, "--items").stdout
    assert cli("hold", "lift", id, "--reason", "closed").stdout == "lifted the hold for Case 12\n"
    assert cli.lines("hold", "ls", "--item", run) == []
    assert "closed" in cli("hold", "show", id).stdout


def test_a_dry_run_shows_what_would_be_held_and_sets_nothing(cli: Cli, project: str, make_run: MakeRun) -> None:
    run = make_run("a", tags=("released",))
    words = ("hold", "set", "--kind", "run", "--project", project, "-q", 'tag = "released"', "--dry-run")
    assert cli(*words).stdout.startswith("would hold 1 run")
    assert [item["id"] for item in cli.json(*words)["items"]] == [run]
    assert cli.lines("hold", "ls", "--item", run) == []


def test_a_hold_needs_a_matter(cli: Cli, make_run: MakeRun) -> None:
    assert "--matter" in cli("hold", "set", make_run("a")).stderr


def test_a_refusal_names_the_hold_and_how_to_look_at_it(cli: Cli, make_run: MakeRun) -> None:
    run = make_run("held")
    id = cli("hold", "set", "--matter", "Case 12", run).stdout.strip()
    refused = cli("trash", run, "--yes").stderr
    assert f"hold {id}" in refused
    assert f"labkeep hold ls --item {run}" in refused
    assert cli("trash", run, "--yes").exit_code == 5


def test_a_part_of_what_is_held_is_refused_with_the_hold(cli: Cli, make_run: MakeRun) -> None:
    run = make_run("held")
    cli.client.files.upload(run, "notes.txt", b"kept")
    id = cli("hold", "set", "--matter", "Case 12", run).stdout.strip()
    refused = cli.error("remove", "file", run, "notes.txt", "--yes")
    assert (refused["code"], refused["exit_code"]) == ("held", 5)
    assert id in refused["message"]
    assert cli("remove", "file", run, "notes.txt", "--yes").stderr.startswith("Error: run held is under a legal hold")
