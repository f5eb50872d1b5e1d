"""``labkeep undo``, and plans in full."""

from __future__ import annotations

from tests.unit.cli.folder_cli import Cli, MakeRun


def test_every_answer_names_its_way_back(cli: Cli, make_run: MakeRun) -> None:
    run = make_run("a")
    archived = cli.json("archive", run)
    assert cli("undo", archived["undo"], "--reason", "too early").stdout.startswith("unarchived 1 run")
    trashed = cli.json("trash", run, "--yes")
    back = cli.json("undo", trashed["undo"])
    assert (back["verb"], back["counts"]) == ("restore", {"run": 1})
    assert cli.json("undo", back["undo"])["counts"] == {"run": 1}
    assert cli.error("undo", "nonsense")["exit_code"] == 2


def test_a_dry_run_tells_what_comes_with_what(cli: Cli, project: str, make_run: MakeRun) -> None:
    make_run("inside")
    shown = cli("trash", f"project:{project}", "--dry-run").stdout
    assert "of these only because they lie in what goes: 1 run" in shown
    assert "is purged by itself after that" in shown


def test_a_dry_run_of_a_restore_offers_a_name_that_is_free(cli: Cli, make_run: MakeRun) -> None:
    first = make_run("twin")
    cli("trash", first, "--yes")
    make_run("twin")
    shown = cli("restore", first, "--dry-run").stdout
    assert f"--name {first}=twin-restored-" in shown
    offered = next(word for word in shown.split() if word.startswith(f"{first}="))
    assert cli("restore", first, "--name", offered).exit_code == 0
