"""``labkeep rules``."""

from __future__ import annotations

from tests.unit.cli.folder_cli import Cli, MakeRun


def test_rules_of_a_project_are_set_shown_and_taken_back(cli: Cli, project: str, make_run: MakeRun) -> None:
    shown = cli("rules", "set", "--project", project, "--require-reason", "--minimum-keep-days", "5").stdout
    assert "require_reason" in shown
    found = cli.json("rules", "show", "--project", project)
    assert found["project"] == {"minimum_keep_days": 5, "require_reason": True}
    refused = cli.error("trash", make_run("a"), "--yes")
    assert (refused["code"], refused["exit_code"]) == ("invalid", 2)
    cli("rules", "set", "--project", project, "--clear", "require_reason", "--no-require-ticket")
    assert cli.json("rules", "show", "--project", project)["effective"].get("require_reason") is None


def test_rules_of_the_workspace_hold_in_its_projects(cli: Cli, project: str) -> None:
    cli("rules", "set", "--level", "workspace", "--grace-days", "12")
    assert cli.json("rules", "show", "--project", project)["effective"]["grace_days"] == 12
    cli("rules", "set", "--level", "organization", "--grace-days", "13")
    cli("rules", "set", "--level", "workspace", "--clear", "grace_days")
    assert cli.json("rules", "show")["effective"]["grace_days"] == 13


def test_rules_are_set_for_one_level(cli: Cli, project: str) -> None:
    assert cli("rules", "set", "--require-reason").exit_code == 2
    assert cli("rules", "set", "--project", project, "--level", "workspace", "--require-reason").exit_code == 2
    assert cli("rules", "set", "--project", project).exit_code == 2
