"""``labkeep policy``."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.unit.cli.folder_cli import Cli, MakeRun


def runs_with(make_run: MakeRun, number: int = 4) -> list[str]:
    return [make_run(f"run-{n}", summary={"acc": n / 10}) for n in range(number)]


def test_a_policy_is_made_looked_at_run_and_taken_away(cli: Cli, project: str, make_run: MakeRun) -> None:
    ids = runs_with(make_run)
    made = cli("policy", "create", project, "-p", project, "--keep-best", "2", "--metric", "summary.acc")
    assert made.exit_code == 0, made.stderr
    assert "the 2 with the largest summary.acc of each project" in made.stderr
    assert cli.json("policy", "show", project)["id"] == made.stdout.strip()
    assert [line[-1] for line in cli.lines("policy", "preview", project)] == ids[:2]
    assert [line[-1] for line in cli.lines("policy", "preview", project, "--kept")] == ids[2:]
    assert len(cli.lines("policy", "preview", project, "--everything", "--limit", "3")) == 3
    assert len(cli.lines("policy", "run", project, "--dry-run")) == 2
    ran = cli("policy", "run", project)
    assert ran.stdout == "trashed 2 runs; 2 kept\n", ran.stderr
    (report,) = cli.lines("policy", "reports", project)
    assert report[1:3] == ["done", "trashed 2 runs"]
    assert len(cli.json("policy", "preview", project)["items"]) == 0
    assert cli("policy", "delete", project, "--dry-run").exit_code == 0
    assert cli("policy", "delete", project).stdout == f"policy {project} is gone\n"
    assert cli.error("policy", "show", project)["code"] == "not_found"


def test_a_dry_run_makes_nothing(cli: Cli, project: str, make_run: MakeRun) -> None:
    ids = runs_with(make_run)
    words = ("policy", "create", project, "-p", project, "--keep-last", "1", "--dry-run")
    assert [line[-1] for line in cli.lines(*words)] == ids[:-1]
    assert cli.json(*words)["counts"] == {"keep": {"run": 1}, "trash": {"run": 3}}
    assert cli.lines("policy", "ls", "-p", project) == []


def test_a_policy_that_takes_everything_is_said_to(cli: Cli, project: str, make_run: MakeRun) -> None:
    runs_with(make_run, 1)
    shown = cli("policy", "create", "x", "-p", project, "--state", "active", "--dry-run")
    assert "Careful: the policy takes everything" in shown.stderr


def test_a_policy_is_edited_and_switched(cli: Cli, project: str) -> None:
    words = ("--older-than", "30d", "--status", "failed", "--every", "6h", "--disabled")
    cli("policy", "create", project, "-p", project, *words)
    edited = cli("policy", "edit", project, "--older-than", "60d", "--drop", "status", "--tag", "a", "--tag", "b")
    assert edited.stdout == "Trash runs created more than 60 days ago tagged a or b.\n", edited.stderr
    assert "says nothing about" in cli("policy", "edit", project, "--drop", "q").stderr
    assert cli("policy", "enable", project).stdout == f"policy {project} is on now\n"
    assert cli.json("policy", "show", project)["every_s"] == 6 * 3600
    assert cli("policy", "disable", project).stdout == f"policy {project} is off now\n"
    renamed = cli.json("policy", "edit", project, "--rename", f"{project} 2", "--every", "1d")
    assert (renamed["name"], renamed["every_s"]) == (f"{project} 2", 86_400)


def test_list_is_another_word_for_ls(cli: Cli, project: str) -> None:
    cli("policy", "create", project, "-p", project, "--keep-last", "3")
    assert cli.lines("policy", "list", "-p", project) == cli.lines("policy", "ls", "-p", project)


def test_files_are_applied_and_again_change_nothing(cli: Cli, project: str, tmp_path: Path) -> None:
    file = tmp_path / "retention.toml"
    file.write_text(f'name = "{project}"\nproject = "{project}"\nolder_than = "30d"\n')
    changes = [
        cli.lines("policy", "apply", str(file), *words)[0][0] for words in (("--dry-run",), ("--dry-run",), (), ())
    ]
    assert changes == ["would be created", "would be created", "created", "unchanged"]
    assert cli.lines("policy", "apply", str(file), "--dry-run")[0][0] == "unchanged"
    file.write_text(file.read_text() + 'every = "2d"\n')
    assert cli.json("policy", "apply", str(file))["items"][0]["change"] == "updated"
    file.write_text("policy = ")
    assert "retention.toml" in cli("policy", "apply", str(file)).stderr
    assert cli("policy", "apply", str(tmp_path / "none.toml")).exit_code != 0


def test_what_cannot_be_meant_is_said_before_anything_is_sent(cli: Cli, project: str) -> None:
    for words, said in (
        (("--keep-best", "5"), "best by what"),
        (("--metric", "summary.acc"), "go together"),
        (("--older-than", "soon"), "is not a duration"),
        (("--every", "soon", "--keep-last", "1"), "is not a duration"),
        (("--action", "purge"), "say how long"),
    ):
        failed = cli("policy", "create", project, *words)
        assert failed.exit_code == 2
        assert said in failed.stderr


def test_several_policies_of_one_name_must_be_told_apart(cli: Cli, project: str) -> None:
    for home in ((), ("-p", project)):
        cli("policy", "create", project, *home, "--keep-last", "3")
    assert "say which by its id" in cli("policy", "show", project).stderr


def test_the_table_comes_in_the_forms_that_people_hand_on(cli: Cli, project: str) -> None:
    name = f"=cmd|{project}"
    cli("policy", "create", name, "-p", project, "--older-than", "30d", "--type", "a|b")
    rows = [*csv.reader(cli("policy", "table", "--format", "csv").stdout.splitlines())]
    assert rows[0][:3] == ["data", "where", "kept_for"]
    (row,) = [row for row in rows if row[6] == f"'{name}"]
    assert row[:5] == [
        "runs of type a|b",
        f"project {project}",
        "30 days after it was created",
        "moved to the trash",
        "30 days in the trash",
    ]
    text = cli("policy", "table", "--format", "md").stdout
    assert text.startswith("| Data | Where | Kept for |")
    assert r"runs of type a\|b" in text
    assert {line.count(" | ") for line in text.splitlines()} == {8}
    by = [line["by"] for line in cli.json("policy", "table")["items"]]
    assert name in by
    assert [line["by"] for line in cli.json("policy", "table", "--format", "json")["items"]] == by
    assert len(cli.lines("policy", "table")) == len(by)
