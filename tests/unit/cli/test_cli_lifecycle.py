"""The verbs: plan, question, deed, report, and the way back."""

from __future__ import annotations

import msgspec
import pytest

from labkeep.client._sync.client import Labkeep
from tests.unit.cli.folder_cli import Cli, MakeRun


def _state(cli: Cli, id: str) -> str:
    return str(cli.client.items.get(id, include="trashed").state)


def _undo(text: str) -> list[str]:
    """The words of the undo command in what was printed."""
    line = next(line for line in text.splitlines() if line.startswith("undo: "))
    return line.removeprefix("undo: labkeep ").split()


# --- asking


@pytest.mark.parametrize("verb", ["trash", "purge"])
def test_what_destroys_does_nothing_when_nobody_can_be_asked(cli: Cli, make_run: MakeRun, verb: str) -> None:
    id = make_run("kept")
    before = "active"
    if verb == "purge":
        cli.client.runs.trash(id)
        before = "trashed"
    result = cli(verb, id)
    assert result.exit_code == 2
    assert f"This would {verb} 1 run" in result.stderr
    assert "pass --yes" in result.stderr
    assert _state(cli, id) == before


def test_no_is_an_answer(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("kept")
    for answer in ("n\n", "\n"):
        result = cli("trash", id, answer=answer)
        assert result.exit_code == 1
        assert result.stderr.endswith("Nothing was done.\n")
        assert result.stdout == ""
    assert _state(cli, id) == "active"


def test_an_end_of_input_is_no_yes(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("kept")
    assert cli("trash", id, answer="").exit_code == 130
    assert _state(cli, id) == "active"


def test_yes_does_what_was_shown(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("going")
    result = cli("trash", id, "--reason", "wrong data", "--ticket", "OPS-17", answer="y\n")
    assert result.exit_code == 0
    assert "This would trash 1 run" in result.stderr
    assert "frees the names: going" in result.stderr
    assert result.stdout.startswith("trashed 1 run")
    record = cli.client.deletions.list(item_id=id).items[0]
    assert (record.reason, record.ticket) == ("wrong data", "OPS-17")


def test_a_dry_run_shows_the_plan_and_does_nothing(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("kept")
    assert "This would trash 1 run" in cli("trash", id, "--dry-run").stdout
    plan = cli.json("trash", id, "--dry-run")
    assert (plan["verb"], plan["counts"], plan["blocked"]) == ("trash", {"run": 1}, 0)
    assert "request" not in plan
    assert _state(cli, id) == "active"


def test_json_without_yes_asks_where_somebody_is(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("going")
    result = cli("trash", id, "--json", answer="y\n")
    assert msgspec.json.decode(result.stdout)["counts"] == {"run": 1}
    assert "This would trash" in result.stderr
    assert cli.error("trash", make_run("kept"))["code"] == "refused"


def test_a_reversible_verb_on_named_objects_does_not_ask(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("named")
    assert cli("archive", id).exit_code == 0
    assert cli("unarchive", id).exit_code == 0
    cli.client.runs.trash(id)
    assert cli("restore", id).exit_code == 0
    assert _state(cli, id) == "active"


def test_a_reversible_verb_on_a_query_asks(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("queried")
    words = ("archive", "-p", project, "-q", 'name = "queried"')
    assert cli(*words).exit_code == 2
    assert cli(*words, answer="n\n").exit_code == 1
    assert _state(cli, id) == "active"
    assert cli(*words, "--yes").stdout.startswith("archived 1 run")
    assert _state(cli, id) == "archived"


# --- there and back


def test_the_printed_undo_command_takes_a_trash_back(cli: Cli, make_run: MakeRun) -> None:
    ids = [make_run("a"), make_run("b")]
    done = cli("trash", *ids, "--yes").stdout
    assert [_state(cli, id) for id in ids] == ["trashed", "trashed"]
    back = cli(*_undo(done)).stdout
    assert back.splitlines()[0] == "restored 2 runs"
    assert [_state(cli, id) for id in ids] == ["active", "active"]
    assert cli(*_undo(back)).stdout.startswith("trashed 2 runs")


def test_the_printed_undo_command_takes_an_archive_back(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("a")
    done = cli("archive", id).stdout
    assert _state(cli, id) == "archived"
    back = cli(*_undo(done)).stdout
    assert _state(cli, id) == "active"
    assert _undo(back) == ["archive", id]


def test_a_query_finds_what_each_verb_is_for(cli: Cli, project: str, make_run: MakeRun) -> None:
    ids = [make_run("q1"), make_run("q2")]
    other = make_run("other")
    words = ("-p", project, "-q", 'name ~ "q"', "--yes")
    for verb, after in (
        ("archive", "archived"),
        ("unarchive", "active"),
        ("trash", "trashed"),
        ("restore", "active"),
    ):
        assert "2 runs" in cli(verb, *words).stdout, verb
        assert [_state(cli, id) for id in ids] == [after, after]
    assert _state(cli, other) == "active"


def test_a_kind_other_than_runs_is_selected(cli: Cli, project: str) -> None:
    made = cli.client.documents.create(project, "prompt", "greeting", body={})
    plan = cli.json("trash", "-p", project, "--kind", "document", "-q", "type = prompt", "--dry-run")
    assert plan["counts"] == {"document": 1}
    assert _state(cli, made.id) == "active"


def test_doing_it_again_is_success_and_names_the_record(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("once")
    first = cli.json("trash", id, "--yes")
    again = cli("trash", id)
    assert again.exit_code == 0
    assert "nothing to trash: 1 already trashed" in again.stdout
    assert _undo(again.stdout) == ["restore", "--deletion", first["deletion_id"]]


def test_a_project_goes_and_comes_back_with_all_that_is_in_it(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("inside")
    assert "1 project, 1 run" in cli("trash", f"project:{project}", "--yes").stdout
    assert _state(cli, id) == "trashed"
    assert cli("projects", "restore", project).exit_code == 0
    assert _state(cli, id) == "active"
    assert cli("projects", "trash", project, "--yes").exit_code == 0
    assert cli("restore", f"project:{project}").exit_code == 0
    assert _state(cli, id) == "active"


def test_an_archived_project_keeps_its_runs(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("inside")
    assert cli("projects", "archive", project).stdout.startswith("archived 1 project")
    assert _state(cli, id) == "active"
    assert cli("projects", "unarchive", project).exit_code == 0


def test_a_run_is_named_by_its_project_and_name(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("baseline")
    assert cli("trash", f"{project}/baseline", "--yes").exit_code == 0
    assert _state(cli, id) == "trashed"
    assert cli("restore", f"{project}/baseline").exit_code == 0
    assert _state(cli, id) == "active"


def test_a_name_that_is_taken_meanwhile_is_answered_with_the_command_that_helps(
    cli: Cli, project: str, make_run: MakeRun
) -> None:
    id = make_run("popular")
    cli("trash", id, "--yes")
    make_run("popular")
    error = cli.error("restore", id)
    assert (error["code"], error["exit_code"]) == ("already_exists", 5)
    words = error["hint"].removeprefix("labkeep ").split()
    assert cli(*words).exit_code == 0
    assert _state(cli, id) == "active"


def test_a_run_is_restored_under_another_name(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("original")
    cli("trash", id, "--yes")
    assert cli("restore", id, "--name", f"{id}=renamed").exit_code == 0
    assert cli.client.runs.get(id).name == "renamed"
    cli("trash", id, "--yes")
    malformed = cli.error("restore", id, "--name", "renamed")
    assert (malformed["code"], "'renamed' is not ID=NAME" in malformed["message"]) == ("usage", True)


def test_a_project_is_restored_under_another_name_with_its_deletion(cli: Cli, project: str) -> None:
    id = cli.client.projects.get(project).id
    deletion = cli.json("projects", "trash", project, "--yes")["deletion_id"]
    assert "--deletion" in cli.error("restore", id, "--name", f"{id}={project}-2")["message"]
    assert cli("restore", "--deletion", deletion, "--name", f"{id}={project}-2").exit_code == 0
    assert cli.client.projects.get(id).name == f"{project}-2"


# --- what must stay


def test_what_runs_is_stopped_only_when_that_is_said(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("busy", status="running")
    error = cli.error("trash", id, "--yes")
    assert (error["code"], error["exit_code"]) == ("illegal", 5)
    assert error["hint"].startswith("--on-running stop")
    assert _state(cli, id) == "active"
    assert "stops first: 1 running run" in cli("trash", id, "--on-running", "stop", "--yes").stderr
    assert cli.client.runs.get(id, include="trashed").status == "stopped"


def test_one_that_must_stay_keeps_all_and_each_is_named(cli: Cli, project: str, make_run: MakeRun) -> None:
    kept = [make_run("busy1", status="running"), make_run("busy2", status="running"), make_run("free")]
    result = cli("trash", "-p", project, "-q", "created_at > -1d", "--yes")
    assert result.exit_code == 5
    assert "2 must stay, so nothing would be done:" in result.stderr
    assert "busy1" in result.stderr
    assert "busy2" in result.stderr
    assert {_state(cli, id) for id in kept} == {"active"}


def test_a_lock_protects_until_it_is_lifted(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("locked")
    assert cli("lock", f"{project}/locked", "--reason", "in the paper").stdout == "run locked is locked now\n"
    error = cli.error("trash", id, "--yes")
    assert (error["code"], error["hint"]) == ("held", f"labkeep unlock {id}")
    assert cli.json("unlock", id)["locked"] is False
    assert cli("trash", id, "--yes").exit_code == 0


def test_what_is_depended_on_goes_only_by_force(cli: Cli, project: str, make_run: MakeRun) -> None:
    base = make_run("base")
    make_run("derived", base_run_id=base)
    error = cli.error("trash", base, "--yes")
    assert (error["code"], error["hint"]) == ("in_use", "--force does it all the same")
    assert cli("trash", base, "--yes", "--force").exit_code == 0


def test_a_world_that_moved_is_shown_again_before_anything_is_done(
    cli: Cli, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = make_run("moving")
    plan, planned = Labkeep.plan, []

    def plan_and_move(self: Labkeep, verb: str, **selection: object) -> object:
        made = plan(self, verb, **selection)  # type: ignore[arg-type]
        planned.append(made)
        if len(planned) == 1:
            cli.client.runs.update(id, notes="edited meanwhile")
        return made

    monkeypatch.setattr(Labkeep, "plan", plan_and_move)
    result = cli("trash", id, answer="y\ny\n")
    assert result.exit_code == 0
    assert len(planned) == 2
    assert result.stderr.count("This would trash 1 run") == 2
    assert "Something changed in between" in result.stderr


def test_a_world_that_does_not_stand_still_ends_as_stale(
    cli: Cli, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = make_run("restless")
    plan, notes = Labkeep.plan, iter(map(str, range(100)))

    def plan_and_move(self: Labkeep, verb: str, **selection: object) -> object:
        made = plan(self, verb, **selection)  # type: ignore[arg-type]
        cli.client.runs.update(id, notes=next(notes))
        return made

    monkeypatch.setattr(Labkeep, "plan", plan_and_move)
    error = cli.error("trash", id, "--yes")
    assert (error["code"], error["exit_code"]) == ("stale", 5)
    assert _state(cli, id) == "active"


# --- purging


def test_a_purge_waits_and_reports_what_verified_it(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("going")
    cli.client.files.upload(id, "big.bin", b"big" * 1000)
    deletion = cli.json("trash", id, "--yes")["deletion_id"]
    result = cli("purge", "--deletion", deletion, "--yes")
    assert "cannot be taken back" in result.stderr
    assert result.stdout.startswith("purged 1 run")
    assert "verified (1 blob removed" in result.stdout
    assert "freed 0 B" not in result.stdout
    assert cli.error("runs", "show", id, "--trashed")["exit_code"] == 4
    assert ["state", "purged"] in cli.lines("deletions", "show", deletion)


def test_a_purge_in_json_has_the_verified_records(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("going")
    cli("trash", id, "--yes")
    done = cli.json("purge", id, "--yes")
    assert done["job_id"]
    [record] = done["deletions"]
    assert (record["state"], record["verification"]["rows_left"]) == ("purged", 0)


def test_a_purge_of_several_deletions_waits_for_all(cli: Cli, project: str, make_run: MakeRun) -> None:
    for name in ("p1", "p2", "p3"):
        cli("trash", make_run(name), "--yes")
    done = cli.json("purge", "-p", project, "-q", 'name ~ "p"', "--yes")
    assert [record["state"] for record in done["deletions"]] == ["purged"] * 3


def test_a_purge_of_a_part_leaves_the_rest_restorable(cli: Cli, make_run: MakeRun) -> None:
    going, staying = make_run("going"), make_run("staying")
    cli("trash", going, staying, "--yes")
    said = cli("purge", going, "--yes").stdout
    assert said.startswith("purged 1 run")
    assert "background" not in said
    assert cli("restore", staying).exit_code == 0


def test_a_purge_need_not_be_waited_for(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("going")
    cli("trash", id, "--yes")
    done = cli("purge", id, "--yes", "--no-wait").stdout
    job = done.rpartition("labkeep jobs wait ")[2].strip()
    assert done.startswith("will purge 1 run\ngoes on in the background")
    assert ["state", "done"] in cli.lines("jobs", "wait", job, "--timeout", "60")
    assert cli.json("jobs", "show", job)["task"] == "purge"
    assert job in [line[-1] for line in cli.lines("jobs", "ls", "--state", "done")]


def test_a_deletion_that_was_purged_says_so(cli: Cli, make_run: MakeRun) -> None:
    deletion = cli.json("trash", make_run("going"), "--yes")["deletion_id"]
    cli("purge", "--deletion", deletion, "--yes")
    assert "1 already purged" in cli("purge", "--deletion", deletion, "--yes").stdout
    error = cli.error("restore", "--deletion", deletion)
    assert (error["code"], error["exit_code"]) == ("illegal", 5)


def test_only_what_is_in_the_trash_is_purged(cli: Cli, make_run: MakeRun) -> None:
    id = make_run("alive")
    cli("purge", id, "--yes")
    assert _state(cli, id) == "active"


# --- looking into the trash


def test_the_trash_says_who_when_why_and_how_long(cli: Cli, project: str, make_run: MakeRun) -> None:
    id = make_run("gone")
    deletion = cli.json("trash", id, "--yes", "--reason", "wrong data")["deletion_id"]
    [[name, kind, by, when, why, _, days, _, held, last]] = cli.lines("trashed", "-p", project)
    assert (name, kind, by, why, days) == ("gone", "run", "admin", "wrong data", "30")
    assert (held, last) == (deletion, id)
    assert when.endswith("Z")
    assert cli.lines("trashed", "-p", project, "--kind", "document") == []
    [line] = cli.lines("deletions", "ls", "--item", id)
    assert (line[0], line[1], line[-1]) == ("trashed", "1 run", deletion)
    shown = cli.json("deletions", "show", deletion, "--members")
    assert [member["item_id"] for member in shown["members"]] == [id]
    assert ["run", "active", "trashed", id] in cli.lines("deletions", "show", deletion, "--members")


# --- what cannot be meant


@pytest.mark.parametrize(
    "words",
    [
        ("trash",),
        ("trash", "-q", ""),
        ("restore",),
        ("trash", "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77", "-q", "x = 1"),
        ("restore", "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77", "--deletion", "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"),
        ("trash", "baseline"),
    ],
)
def test_a_selection_that_is_none_or_two_is_refused(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli.error(*words, "--yes")["exit_code"] == 2


def test_what_is_not_there_is_not_found(cli: Cli) -> None:
    unknown = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"
    for words in (("trash", unknown), ("restore", "--deletion", unknown), ("trash", "project:nowhere")):
        assert cli.error(*words, "--yes")["exit_code"] == 4, words
