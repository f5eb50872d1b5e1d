"""What there is: projects, runs, documents, experiments, artifacts and files, as tables, lines and JSON."""

from __future__ import annotations

import csv
import hashlib
import math
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.folder_cli import Cli, MakeRun

# --- projects


def test_a_new_project_is_answered_by_its_id_alone(cli: Cli) -> None:
    [[id]] = cli.lines("projects", "create", "by-id", "--tag", "prod", "--grace-days", "7")
    found = cli.json("projects", "show", "by-id")
    assert (found["id"], found["tags"], found["settings"]) == (id, ["prod"], {"grace_days": 7})
    assert cli.error("projects", "create", "by-id")["code"] == "already_exists"
    assert cli.lines("projects", "create", "by-id", "--exist-ok") == [[id]]


def test_projects_are_listed_by_query(cli: Cli) -> None:
    cli("projects", "create", "listed-a", "--tag", "listed")
    cli("projects", "create", "listed-b", "--tag", "listed", "--description", "two\nlines")
    found = cli.lines("projects", "ls", "-q", "tag = listed", "--order", "name asc")
    assert [line[0] for line in found] == ["listed-a", "listed-b"]
    assert found[1][4] == "two\\nlines"


def test_a_project_shows_how_much_it_holds(cli: Cli, project: str, make_run: MakeRun) -> None:
    cli.client.files.upload(make_run("a"), "x.bin", b"x" * 5000)
    shown = cli("projects", "show", project, human=True).stdout
    assert "4.9 KiB" in shown
    assert ["size", "5000"] in cli.lines("projects", "show", project)


# --- runs


def test_runs_are_lines_of_the_columns_that_help_promises(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("baseline", summary={"acc": 0.5}, config={"opt": {"lr": 0.1}})
    [[name, status, state, created, duration, acc, lr, last]] = cli.lines(
        "runs", "ls", "-p", project, "--columns", "acc,config.opt.lr"
    )
    assert (name, status, state, acc, lr, last) == ("baseline", "finished", "active", "0.5", "0.1", id)
    assert created.endswith("Z")
    assert float(duration) >= 0


def test_runs_of_all_projects_say_which(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("somewhere")
    [line] = cli.lines("runs", "ls", "-q", f'id = "{id}"')
    assert line[:2] == ["somewhere", project]


def test_a_list_ends_at_its_limit_and_says_how_to_go_on(cli: Cli, project: str, make_run: MakeRun) -> None:
    ids = [make_run(f"r{number}") for number in range(7)]
    first = cli("runs", "ls", "-p", project, "--limit", "3")
    assert [line.rpartition("\t")[2] for line in first.stdout.splitlines()] == ids[:3:-1]
    cursor = first.stderr.partition("--cursor ")[2].split()[0]
    rest = cli.lines("runs", "ls", "-p", project, "--cursor", cursor)
    assert [line[-1] for line in rest] == ids[3::-1]
    assert [line[-1] for line in cli.lines("runs", "ls", "-p", project, "--all")] == ids[::-1]
    assert [line[-1] for line in cli.lines("runs", "ls", "-p", project, "--limit", "0")] == ids[::-1]


def test_a_list_in_json_is_a_page_of_the_api(cli: Cli, project: str, make_run: MakeRun) -> None:
    ids = [make_run(f"r{number}") for number in range(3)]
    page = cli.json("runs", "ls", "-p", project, "--limit", "2")
    assert [item["id"] for item in page["items"]] == ids[:0:-1]
    following = cli.json("runs", "ls", "-p", project, "--cursor", page["next"])
    assert ([item["id"] for item in following["items"]], following["next"]) == ([ids[0]], None)
    answered = cli.client.request("GET", "/api/v1/runs", project=project, limit=1)["items"][0]
    assert page["items"][0] == answered


def test_an_empty_list_is_empty(cli: Cli, project: str) -> None:
    assert cli.lines("runs", "ls", "-p", project) == []
    assert cli.json("runs", "ls", "-p", project) == {"items": [], "next": None}
    assert cli("runs", "ls", "-p", project, human=True).stdout == ""


def test_people_get_a_table(cli: Cli, project: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    id = make_run("baseline", summary={"acc": 1 / 3})
    header, line = cli("runs", "ls", "-p", project, "--columns", "acc", human=True).stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "STATE", "CREATED", "DURATION", "ACC", "ID"]
    assert line.startswith("baseline  finished  active")
    assert "0.333333" in line
    assert line.endswith(id)


def test_runs_are_ordered_and_selected_by_the_query_language(cli: Cli, project: str, make_run: MakeRun) -> None:
    for number in range(4):
        make_run(f"r{number}", summary={"acc": number / 10})
    words = ("-q", "summary.acc > 0", "--order", "summary.acc desc")
    assert [line[0] for line in cli.lines("runs", "ls", "-p", project, *words)] == ["r3", "r2", "r1"]


def test_a_query_that_cannot_be_read_shows_the_place(cli: Cli) -> None:
    result = cli("runs", "ls", "-q", "summary.acc >> 3")
    assert result.exit_code == 2
    message, query, place = result.stderr.splitlines()
    assert message.startswith("Error: ")
    assert query[place.index("^")] == ">"


def test_a_name_cannot_steer_the_terminal(cli: Cli, project: str) -> None:
    cli.client.runs.create(project, name="ordinary", notes="\x1b]0;owned\x07", status="finished")
    for human in (False, True):
        shown = cli("runs", "show", f"{project}/ordinary", human=human).stdout
        assert "\x1b]" not in shown
        assert "\\x1b]0;owned\\x07" in shown


def _logged(cli: Cli, id: str, rows: int = 20) -> None:
    cli.client.runs.append_history(
        id, [{"_step": step, "_timestamp": 1.7e9 + step, "loss": 1 / (step + 1)} for step in range(rows)], offset=0
    )


def test_a_run_shows_all_about_it(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("full", config={"lr": 0.1}, summary={"acc": 0.9, "bad": math.nan}, tags=["prod"], notes="why")
    _logged(cli, id)
    cli.client.files.upload(id, "report.html", b"<h1>hi</h1>")
    lines = cli.lines("runs", "show", f"{project}/full")
    facts = {line[0]: line[1] for line in lines if len(line) == 2}
    assert facts["id"] == id
    assert (facts["project"], facts["tags"], facts["notes"]) == (project, "prod", "why")
    assert (facts["config.lr"], facts["summary.acc"], facts["summary.bad"]) == ("0.1", "0.9", "NaN")
    assert ["loss", "20", "0.05", "0.05", "1.0", "19"] in lines
    assert ["report.html", "11", "text/html"] in lines
    found = cli.json("runs", "show", id)
    assert (found["name"], found["metrics"][0]["key"], found["files"][0]["path"]) == ("full", "loss", "report.html")


def test_a_run_is_found_by_handle_name_or_id_and_never_guessed(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("by-handle")
    for name in ("twin", "twin"):
        cli.client.runs.create(project, name=name, status="finished")
    assert cli.json("runs", "show", f"{project}/by-handle")["id"] == id
    assert cli.json("runs", "show", id.upper())["id"] == id
    assert cli.error("runs", "show", f"{project}/twin")["exit_code"] == 5
    assert cli.error("runs", "show", f"{project}/nobody")["exit_code"] == 4
    assert cli.error("runs", "show", "by-handle")["exit_code"] == 2


def test_a_run_in_the_trash_is_shown_only_when_asked_for(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("gone")
    deletion = cli.client.runs.trash(id).deletion_id
    error = cli.error("runs", "show", id)
    assert (error["code"], error["exit_code"]) == ("gone", 4)
    assert f"labkeep restore --deletion {deletion}" in error["hint"]
    assert cli.json("runs", "show", id, "--trashed")["state"] == "trashed"
    assert cli.json("runs", "show", f"{project}/gone", "--trashed")["id"] == id


def test_a_running_run_is_asked_to_stop(cli: Cli, project: str, make_run: MakeRun) -> None:
    make_run("busy", status="running")
    assert cli("runs", "stop", f"{project}/busy").stdout == "run busy is stopped now\n"


def test_two_runs_differ_where_they_differ(cli: Cli, project: str, make_run: MakeRun) -> None:
    make_run("a", config={"lr": 0.1, "same": 1})
    make_run("b", config={"lr": 0.2, "same": 1})
    lines = cli.lines("runs", "diff", f"{project}/a", f"{project}/b")
    assert ["config.lr", "0.1", "0.2"] in lines
    assert not [line for line in lines if "same" in line[0]]
    same = cli("runs", "diff", f"{project}/a", f"{project}/a")
    assert (same.stdout, same.stderr) == ("", "They do not differ.\n")


def test_a_history_is_printed_row_by_row(cli: Cli, project: str, make_run: MakeRun) -> None:
    _logged(cli, make_run("logged"))
    run = f"{project}/logged"
    assert cli.lines("runs", "history", run, "--key", "loss", "--from", "1", "--to", "3") == [
        ["1", "0.5"],
        ["2", "0.3333333333333333"],
        ["3", "0.25"],
    ]
    assert cli.lines("runs", "history", run)[0] == ["0", "1700000000.0", "1.0"]
    assert len(cli.json("runs", "history", run)["rows"]) == 20
    assert 2 <= len(cli.json("runs", "history", run, "--key", "loss", "--buckets", "2")["rows"]) <= 8
    assert "2023-11-14" in cli("runs", "history", run, human=True).stdout


def test_a_history_becomes_a_csv_file_that_reads_back(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("csv")
    rows: list[dict[str, Any]] = [
        {"_step": 0, "text": 'say "hi", twice', "loss": math.inf},
        {"_step": 1, "text": "two\nlines"},
        {"_step": 2, "loss": math.nan},
    ]
    cli.client.runs.append_history(id, rows, offset=0)
    read = list(csv.reader(cli("runs", "history", id, "--csv").stdout.splitlines()))
    assert read[0] == ["_step", "_timestamp", "loss", "text"]
    assert read[1:] == [["0", "", "Infinity", 'say "hi", twice'], ["1", "", "", "two\\nlines"], ["2", "", "NaN", ""]]


def test_a_long_history_is_fetched_in_parts(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("long")
    cli.client.runs.log_columns(id, list(range(25_000)), {"loss": [0.5] * 25_000}, offset=0)
    steps = [int(line.partition("\t")[0]) for line in cli("runs", "history", id, "--key", "loss").stdout.splitlines()]
    assert steps == list(range(25_000))


# --- documents and experiments


def test_documents_and_their_versions_are_listed(cli: Cli, project: str) -> None:
    made = cli.client.documents.create(project, "dataset", "items", body={"rows": 1})
    cli.client.documents.commit(made.id, {"rows": 2}, message="one more")
    [[name, kind, number, _, state, _, id]] = cli.lines("documents", "ls", "-p", project, "--type", "dataset")
    assert (name, kind, number, state, id) == ("items", "dataset", "2", "active", made.id)
    assert [line[:2] for line in cli.lines("documents", "versions", id)] == [["2", "one more"], ["1", ""]]
    assert cli.json("documents", "versions", id)["items"][0]["body"] == {"rows": 2}
    assert cli.json("documents", "show", id)["latest"] == 2
    assert ["name", "items"] in cli.lines("documents", "show", id)


def test_an_experiment_is_started_stopped_and_completed(cli: Cli, project: str) -> None:
    made = cli.client.experiments.create("ab", project=project, variants=[{"name": "a"}, {"name": "b"}])
    id = made["id"]
    assert cli.lines("experiments", "ls", "-p", project)[0][:3] == ["ab", "draft", "2"]
    assert "started experiment ab; it is running now" in cli("experiments", "start", id).stdout
    assert cli.error("experiments", "start", id)["exit_code"] == 5
    assert cli.json("experiments", "stop", id)["status"] == "stopped"
    assert cli.json("experiments", "start", id)["started_at"].endswith("Z")
    assert cli.json("experiments", "complete", id)["status"] == "completed"
    assert ["status", "completed"] in cli.lines("experiments", "show", id)
    assert cli.lines("experiments", "ls", "-p", project, "--status", "running") == []
    assert cli.error("experiments", "show", "no-id")["exit_code"] == 4


# --- artifacts and files


@pytest.fixture
def model(cli: Cli, project: str) -> str:
    """An artifact version with one file; its id."""
    digest = cli.client.blobs.upload(b"weights")
    entry = {"path": "deep/weights.bin", "digest": digest, "size": 7}
    return cli.client.artifacts.create(project, "model", type="model", files=[entry], aliases=["best"]).id


def test_artifacts_are_found_by_name_alias_and_id(cli: Cli, project: str, model: str) -> None:
    assert cli.lines("artifacts", "ls", "-p", project)[0][:2] == ["model", "model"]
    assert cli.lines("artifacts", "versions", f"{project}/model")[0][-1] == model
    for words in ([f"{project}/model:best"], ["model:v0", "-p", project], ["model", "-p", project], [model]):
        found = cli.json("artifacts", "show", *words)
        assert (found["id"], found["files"][0]["path"]) == (model, "deep/weights.bin")
    assert ["name", "model:v0"] in cli.lines("artifacts", "show", model)
    assert cli.error("artifacts", "show", "model:best")["exit_code"] == 2
    assert cli.error("artifacts", "show", f"{project}/model:worst")["exit_code"] == 4


def test_an_artifact_is_downloaded_into_a_folder(cli: Cli, project: str, model: str, tmp_path: Path) -> None:
    [[folder]] = cli.lines("artifacts", "download", f"{project}/model:best", "--to", str(tmp_path / "out"))
    assert (Path(folder) / "deep" / "weights.bin").read_bytes() == b"weights"


def test_a_file_goes_up_and_comes_down(
    cli: Cli, project: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run("filed")
    monkeypatch.chdir(tmp_path)
    content = bytes(range(256)) * 40
    Path("in.bin").write_bytes(content)
    run = f"{project}/filed"
    put = cli.json("files", "put", run, "in.bin", "--path", "a/b.bin")
    assert put["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert cli.lines("files", "ls", run, "--prefix", "a/")[0][:2] == ["a/b.bin", str(len(content))]
    assert cli.lines("files", "get", run, "a/b.bin") == [["b.bin"]]
    assert Path("b.bin").read_bytes() == content
    Path("folder").mkdir()
    assert cli.lines("files", "get", run, "a/b.bin", "--to", "folder") == [[str(Path("folder/b.bin"))]]
    assert Path("folder/b.bin").read_bytes() == content
    assert cli("files", "get", run, "a/b.bin", "--to", "-").stdout_bytes == content
    assert cli.error("files", "get", run, "nothing")["exit_code"] == 4
    assert cli.error("files", "put", run, "absent.bin")["code"] == "usage"


# --- records


def test_usage_is_counted_by_project_kind_and_user(cli: Cli, project: str, make_run: MakeRun) -> None:
    cli.client.files.upload(make_run("a"), "x.bin", b"x" * 2048)
    cli.client.files.upload(trashed := make_run("b"), "y.bin", b"y" * 1024)
    cli.client.runs.trash(trashed)
    [line] = [line for line in cli.lines("du") if line[-1] == project]
    assert line == ["3072", "3", "1024", "1", project]
    assert "3.0 KiB" in cli("du", human=True).stdout
    assert {line[-1] for line in cli.lines("du", "--by", "kind")} >= {"run", "project"}
    assert cli.json("du", "--by", "user")["items"][0]["kind"] == "user"


def test_the_audit_trail_is_listed_and_verified(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("audited")
    cli.client.runs.trash(id, reason="wrong data", ticket="OPS-1")
    [event] = [line for line in cli.lines("audit", "ls", "--event", "run.trashed", "--since", "-1h") if id in line]
    assert event[3:7] == ["run.trashed", "1", "wrong data", "OPS-1"]
    assert [line[3] for line in cli.lines("audit", "ls", "--id", id, "--oldest-first")] == [
        "run.created",
        "run.trashed",
    ]
    assert cli.lines("audit", "ls", "--since", "2100-01-01") == []
    verdict = " ".join(cli.lines("audit", "verify")[0])
    assert "intact; head " in verdict
    assert cli.json("audit", "verify")["intact"] is True
    for text in ("yesterday", "7d"):
        assert cli.error("audit", "ls", "--since", text)["code"] == "usage"


def test_keys_and_members_and_workspaces(cli: Cli) -> None:
    [[workspace]] = cli.lines("workspace", "create", "research")
    assert ["research", workspace] in [[line[0], line[2]] for line in cli.lines("workspace", "ls")]
    words = ("--user", "bot", "--role", "editor", "--agent", "--name", "cleanup", "--expires", "+90d")
    made = cli.json("key", "create", *words)
    [[secret]] = cli.lines("key", "create", "--user", "ada", "--role", "viewer")
    assert secret.startswith("lk-")
    listed = {line[0]: line for line in cli.lines("key", "ls")}
    assert listed["bot"][1:3] == ["editor (agent)", "cleanup"]
    assert listed["bot"][5].endswith("Z")
    assert secret not in str(listed)
    assert "revoked the key" in cli("key", "revoke", made["id"]).stdout
    assert cli.json("key", "revoke", made["id"])["revoked_at"]
    assert cli.lines("member", "set", "ada", "maintainer") == [["ada is maintainer now"]]
    assert ["ada", "maintainer"] in [line[:2] for line in cli.lines("member", "ls")]
    assert cli.json("--workspace", "research", "whoami")["workspace"] == "research"


def test_whoami_says_which_server(cli: Cli) -> None:
    facts = dict(map(tuple, cli.lines("whoami")))
    assert facts["server"] == cli.folder.resolve().as_uri()
    assert facts["role"] == "owner"


def test_an_sdk_needs_a_server_and_not_a_folder(cli: Cli) -> None:
    assert cli.error("connect", "braintrust")["exit_code"] == 2
