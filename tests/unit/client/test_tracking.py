"""`labkeep.init` and its run, against a server that keeps its promises."""

from __future__ import annotations

import logging
import math
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

import labkeep
from labkeep import errors
from tests.unit.client.fake_server import FakeServer, Fault


def test_a_run_is_logged_with_config_summary_and_rows(server: FakeServer, spool_dir: Path) -> None:
    run = labkeep.init(project="digits", config={"lr": 0.1}, job_type="train", tags=["a"], group="g", notes="n")
    for step in range(100):
        run.log({"loss": 1 - step / 100, "acc": step / 100})
    run.name = "best"
    run.summary["final"] = 0.95
    run.finish()
    stored = server.runs[run.id]
    assert stored["name"] == "best"
    assert stored["config"] == {"lr": 0.1}
    assert stored["summary"] == {"loss": 1 - 99 / 100, "acc": 0.99, "final": 0.95}
    assert (stored["status"], stored["job_type"], stored["group"], stored["notes"]) == ("finished", "train", "g", "n")
    assert stored["extra"]["project"] == "digits"
    assert server.rows(run.id) == [{"_step": s, "loss": 1 - s / 100, "acc": s / 100} for s in range(100)]
    assert run.url == f"{server.url}/runs/{run.id}"
    assert list(spool_dir.glob("**/*")) == []


def test_the_same_step_adds_to_its_row_also_after_that_row_was_sent(server: FakeServer) -> None:
    with labkeep.init() as run:
        run.log({"a": 1}, step=3)
        run.log({"b": 2}, step=3)
        run.flush()
        run.log({"c": 3}, step=3)
        run.log({"d": 4})
        assert run.step == 5
    assert server.rows(run.id) == [{"_step": 3, "a": 1, "b": 2, "c": 3}, {"_step": 4, "d": 4}]


def test_a_lower_step_is_kept_with_a_warning(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    with labkeep.init() as run:
        run.log({"a": 1}, step=5)
        run.log({"a": 2}, step=2)
        run.log({"a": 3}, step=1)
        run.log({"a": 4})
    assert [row["_step"] for row in server.rows(run.id)] == [5, 2, 1, 6]
    assert len([r for r in caplog.records if "behind step" in r.message]) == 1


def test_the_caller_may_change_what_it_logged(server: FakeServer) -> None:
    metrics: dict[str, Any] = {"a": 1, "nested": {"x": 1}}
    with labkeep.init() as run:
        run.log(metrics)
        metrics["a"], metrics["nested"]["x"] = 2, 2
        run.log(metrics)
    assert server.rows(run.id) == [{"_step": 0, "a": 1, "nested.x": 1}, {"_step": 1, "a": 2, "nested.x": 2}]


def test_nan_and_infinities_arrive(server: FakeServer) -> None:
    with labkeep.init() as run:
        run.log({"a": math.nan, "b": math.inf, "c": -math.inf})
    (row,) = server.rows(run.id)
    assert math.isnan(row["a"])
    assert (row["b"], row["c"]) == (math.inf, -math.inf)
    assert server.runs[run.id]["summary"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}


class Strange:
    def __str__(self) -> str:
        return "strange"


class Nasty:
    def __str__(self) -> str:
        raise RuntimeError("no")

    def tolist(self) -> None:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("row", "stored"),
    [
        ({"a": Strange()}, {"a": "strange"}),
        ({"a": Nasty()}, {"a": "<Nasty without text: RuntimeError>"}),
        ({"a": 1, 5: 2}, {"a": 1, "5": 2}),
        ({"_step": 3, "a": 1}, {"user_step": 3, "a": 1}),
        ({"a\0b": 1}, {"a\\0b": 1}),
        ({"": 1}, {"(empty)": 1}),
        ({"a": "\ud800"}, {"a": "\\ud800"}),
        ({"\ud800": 1}, {"\\ud800": 1}),
        ({"k" * 600: 1}, {"k" * 512: 1}),
        ({"a": 2**5000}, {"a": str(2**5000)[:10_000]}),
        ({"a": {1, 2}}, {"a": "{1, 2}"}),
        ({"a": b"bytes"}, {"a": "b'bytes'"}),
    ],
)
def test_a_bad_value_costs_that_value_and_a_warning(
    server: FakeServer, caplog: pytest.LogCaptureFixture, row: dict[Any, Any], stored: dict[str, Any]
) -> None:
    with labkeep.init() as run:
        run.log({"before": 1})
        run.log(row)
        run.log(row)
        run.log({"after": 1})
    assert server.rows(run.id)[1:3] == [{"_step": 1, **stored}, {"_step": 2, **stored}]
    assert len(server.rows(run.id)) == 4
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


def test_rows_that_are_too_much_for_one_batch_are_sent_in_several(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    with labkeep.init() as run:
        for step in range(6):
            run.log({"text": "x" * 4_000_000, "n": step})
        run.log({"list": [["y" * 9_000_000], ["z" * 9_000_000]], "n": 6})
        run.log({f"key{n}": n for n in range(12_000)})
        run.log({"n": 8})
    rows = server.rows(run.id)
    assert [row["n"] for row in rows[:7]] == list(range(7))
    assert all(len(row["text"]) == 4_000_000 for row in rows[:6])
    assert len(rows[6]["list"]) == 10_000
    assert 1000 < len(rows[7]) < 10_000
    assert rows[8] == {"_step": 8, "n": 8}


@pytest.mark.parametrize("call", [("text",), (None,), ([1],), ({"a": 1}, "x")])
def test_a_log_that_makes_no_sense_is_ignored_with_a_warning(
    server: FakeServer, caplog: pytest.LogCaptureFixture, call: tuple[Any, ...]
) -> None:
    with labkeep.init() as run:
        run.log(*call)
    assert server.rows(run.id) == []
    assert "ignored" in caplog.text


def test_durable_rows_are_on_the_server_when_log_returns(server: FakeServer) -> None:
    with labkeep.init() as run:
        run.log({"a": 1})
        run.log({"a": 2}, durable=True)
        assert [row["a"] for row in server.rows(run.id)] == [1, 2]
        run.log({"a": 3})
        assert run.flush() is True
        assert [row["a"] for row in server.rows(run.id)] == [1, 2, 3]
        assert run.flush() is True


def test_rows_arrive_without_a_flush(server: FakeServer) -> None:
    with labkeep.init() as run:
        run.log({"a": 1})
        until = time.monotonic() + 5
        while not server.rows(run.id) and time.monotonic() < until:
            time.sleep(0.02)
        assert [row["a"] for row in server.rows(run.id)] == [1]


def test_edits_of_a_run_that_goes_on_arrive(server: FakeServer) -> None:
    with labkeep.init(config={"lr": 0.1}) as run:
        run.config.lr = 0.2
        run.config.update(Namespace(depth=3))
        run.notes = "changed"
        run.tags += ("x", "x")
        until = time.monotonic() + 5
        while server.runs[run.id].get("notes") != "changed" and time.monotonic() < until:
            time.sleep(0.02)
        assert server.runs[run.id]["config"] == {"lr": 0.2, "depth": 3}
        assert server.runs[run.id]["tags"][-1] == "x"


def test_columns_are_logged_in_order_with_rows(server: FakeServer) -> None:
    with labkeep.init() as run:
        run.log({"a": -1.0})
        run.log_columns(range(1, 60_001), {"a": [float(s) for s in range(1, 60_001)]})
        run.log({"a": -2.0})
        with pytest.raises(errors.Invalid):
            run.log_columns([1, 2], {"a": [1.0]})
    values = [row["a"] for row in server.rows(run.id)]
    assert values == [-1.0, *map(float, range(1, 60_001)), -2.0]
    assert server.rows(run.id)[-1]["_step"] == 60_001
    assert run.summary["a"] == -2.0


def test_an_exception_in_the_block_fails_the_run(server: FakeServer) -> None:
    with pytest.raises(ZeroDivisionError), labkeep.init() as run:
        1 / 0  # noqa: B018
    assert (server.runs[run.id]["status"], server.runs[run.id]["exit_code"]) == ("failed", 1)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(KeyboardInterrupt(), "stopped", 130), (SystemExit(3), "failed", 3), (SystemExit(0), "finished", 0)],
)
def test_how_a_block_ends_is_how_the_run_ends(server: FakeServer, error: BaseException, status: str, code: int) -> None:
    with pytest.raises(type(error)), labkeep.init() as run:
        raise error
    assert (server.runs[run.id]["status"], server.runs[run.id]["exit_code"]) == (status, code)


def test_finishing_twice_is_once(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    run = labkeep.init()
    run.finish()
    run.finish(exit_code=1)
    run.log({"a": 1})
    assert server.runs[run.id]["status"] == "finished"
    assert "is finished" in caplog.text


def test_module_names_stand_for_the_active_run(server: FakeServer) -> None:
    assert labkeep.run is None
    with pytest.raises(errors.Refused, match="no run is active"):
        labkeep.log({"a": 1})
    with pytest.raises(errors.Refused, match="no run is active"):
        _ = labkeep.config
    run = labkeep.init(config={"a": 1})
    assert labkeep.run is run
    labkeep.log({"x": 1})
    labkeep.config.b = 2
    labkeep.summary["y"] = 3
    labkeep.finish()
    assert labkeep.run is None
    assert server.runs[run.id]["config"] == {"a": 1, "b": 2}
    assert server.runs[run.id]["summary"] == {"x": 1, "y": 3}


def test_a_second_init_finishes_the_first_unless_told_otherwise(server: FakeServer) -> None:
    first = labkeep.init()
    second = labkeep.init()
    assert first.status == "finished"
    assert labkeep.init(reinit="return_previous") is second
    third = labkeep.init(reinit="create_new")
    assert second.status == "running"
    second.finish()
    third.finish()
    with pytest.raises(errors.Invalid, match="finish_previous"):
        labkeep.init(reinit="sometimes")


def test_a_key_that_is_refused_raises_at_once(server: FakeServer) -> None:
    with pytest.raises(errors.Unauthenticated, match="unknown"):
        labkeep.init(api_key="lk-wrong")
    assert labkeep.run is None


def test_a_stop_is_seen_by_the_training(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    with labkeep.init() as run:
        run.log({"a": 1}, durable=True)
        assert not run.stopped
        server.stopped.add(run.id)
        run.log({"a": 2}, durable=True)
        assert run.stopped
    assert server.runs[run.id]["status"] == "stopped"
    assert "asked for run" in caplog.text


def test_a_disabled_run_does_nothing(spool_dir: Path) -> None:
    run = labkeep.init(mode="disabled", config={"a": 1})
    run.log({"a": 1})
    run.log_columns([1], {"a": [1.0]})
    run.summary["x"] = 1
    assert run.config.a == 1
    assert run.log_artifact(labkeep.Artifact("m")).name == "m"
    assert run.save("nothing") == []
    assert run.flush() is False
    assert labkeep.run is run
    run.finish()
    assert labkeep.run is None
    assert not spool_dir.exists()


@pytest.mark.parametrize("words", [{"mode": "sideways"}, {"resume": "perhaps"}])
def test_a_word_that_is_none_is_refused_with_the_words(words: dict[str, Any]) -> None:
    with pytest.raises(errors.Invalid, match="is not one of"):
        labkeep.init(**words)


def test_printed_lines_are_kept_when_asked_for(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    with labkeep.init(console=True) as run:
        print("one")
        print("50%\r100%")
        print("no end", end="")
    assert [row["line"] for row in server.rows(run.id, "console")] == ["one", "100%", "no end"]
    assert capsys.readouterr().out == "one\n50%\r100%\nno end"
    print("after")
    assert len(server.rows(run.id, "console")) == 3


def test_finish_says_where_to_look(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABKEEP_QUIET")
    run = labkeep.init(name="n")
    run.finish()
    assert capsys.readouterr().err == f"labkeep: run n finished: {server.url}/runs/{run.id}\n"


# --- resuming


def test_a_run_is_resumed_behind_what_it_has(server: FakeServer) -> None:
    with labkeep.init(id="mine", config={"a": 1}) as first:
        first.log({"x": 1})
        first.log({"x": 2})
    with pytest.raises(errors.AlreadyExists, match="resume='allow'"):
        labkeep.init(id="mine")
    with labkeep.init(id="mine", resume="must", config={"b": 2}) as again:
        assert again.id == first.id
        assert again.config == {"a": 1, "b": 2}
        again.log({"x": 3})
    assert [(row["_step"], row["x"]) for row in server.rows(first.id)] == [(0, 1), (1, 2), (2, 3)]
    assert server.runs[first.id]["status"] == "finished"


def test_resume_must_needs_a_run_and_allow_does_not(server: FakeServer) -> None:
    with pytest.raises(errors.NotFound, match="resume='must'"):
        labkeep.init(id="other", resume="must")
    with labkeep.init(id="other", resume="allow") as run:
        assert run.handle == "other"
    with labkeep.init(id=run.id, resume=True) as again:
        assert again.id == run.id


# --- files and artifacts


def test_an_artifact_is_uploaded_once(server: FakeServer, tmp_path: Path, spool_dir: Path) -> None:
    model = tmp_path / "model.pth"
    model.write_text("weights")
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("a")
    with labkeep.init(project="p") as run:
        artifact = labkeep.Artifact("weights", type="model", description="d", metadata={"k": 1})
        artifact.add_file(model)
        artifact.add_dir(folder, name="data")
        artifact.add_reference("s3://bucket/key.bin")
        with artifact.new_file("made/notes.txt") as file:
            file.write("made")
        assert run.log_artifact(artifact, aliases=["best"]) is artifact
        model.write_text("changed at once")
        assert (artifact.wait().version, artifact.aliases) == ("v0", ["latest", "best"])
        again = run.log_artifact(str(folder), name="weights", type="model")
        assert again.version == "v1"
    made = server.artifacts[0]
    assert {entry["path"] for entry in made["files"]} == {"model.pth", "data/sub/a.txt", "made/notes.txt", "key.bin"}
    assert server.blobs[next(e["digest"] for e in made["files"] if e["path"] == "model.pth")] == b"weights"
    assert (made["run_id"], made["project"], made["metadata"]) == (run.id, "p", {"k": 1})
    assert len(server.asked("PUT", "/blobs")) == 3
    assert list(spool_dir.glob("**/*")) == [spool_dir / "files"] or list(spool_dir.glob("**/*")) == []
    with pytest.raises(errors.Refused, match="make a new one"):
        artifact.add_file(model)


def test_an_artifact_that_cannot_be_is_refused_where_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(errors.Invalid):
        labkeep.Artifact("a/b")
    artifact = labkeep.Artifact("a")
    with pytest.raises(errors.NotFound):
        artifact.add_file(tmp_path / "missing")
    with pytest.raises(errors.NotFound):
        artifact.add_dir(tmp_path / "missing")
    with pytest.raises(errors.Invalid):
        artifact.add_reference("s3://x", name="../out")
    with pytest.raises(errors.Refused, match="not logged"):
        artifact.wait()


def test_an_artifact_of_which_a_part_is_missing_is_not_logged(
    server: FakeServer, tmp_path: Path, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    artifact = labkeep.Artifact("both")
    artifact.add_file(tmp_path / "a")
    artifact.add_file(tmp_path / "b")
    (tmp_path / "b").unlink()
    with labkeep.init() as run:
        run.log_artifact(artifact)
        with pytest.raises(errors.Refused):
            artifact.wait(1)
    assert server.artifacts == []
    assert "would be missing" in caplog.text
    assert [path for path in spool_dir.glob("**/*") if path.is_file()] == []


def test_a_file_that_the_server_will_never_take_leaves_nothing_behind(
    server: FakeServer, tmp_path: Path, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_text("a")
    server.faults.append(Fault(413, only="/files/"))
    with labkeep.init() as run:
        run.save(tmp_path / "a", base_path=tmp_path)
    assert "does not take" in caplog.text
    assert [path for path in spool_dir.glob("**/*") if path.is_file()] == []


def test_files_are_saved_under_their_path(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "out" / name).write_text(name)
    with labkeep.init() as run:
        assert run.save("out/*.txt") == ["out/a.txt", "out/b.txt"]
        assert run.save(tmp_path / "out" / "a.txt", base_path=tmp_path / "out") == ["a.txt"]
        assert run.save("missing.*") == []
    assert {path: content for (_, path), content in server.files.items()} == {
        "out/a.txt": b"a.txt",
        "out/b.txt": b"b.txt",
        "a.txt": b"a.txt",
    }
    assert "no file" in caplog.text


# --- faults


def test_a_passing_fault_while_training_is_not_noticed(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    with labkeep.init() as run:
        server.faults.append(Fault(503, only="/history"))
        run.log({"a": 1}, durable=True)
    assert server.rows(run.id) == [{"_step": 0, "a": 1}]
    assert caplog.text == ""


def test_an_answer_that_was_lost_doubles_nothing(server: FakeServer) -> None:
    with labkeep.init() as run:
        server.faults.append(Fault(502, only="/history", after=True))
        run.log({"a": 1}, durable=True)
        run.log({"a": 2}, durable=True)
    assert [row["a"] for row in server.rows(run.id)] == [1, 2]


def test_a_server_that_goes_away_and_comes_back_gets_everything(
    server: FakeServer, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with labkeep.init(config={"a": 1}) as run:
        run.log({"a": 1}, durable=True)
        server.stop()
        for step in range(2, 50):
            run.log({"a": step})
        assert run.flush(5.0) is False
        run.name = "while away"
        assert any(spool_dir.glob("*.spool"))
        server.start()
        until = time.monotonic() + 20
        while len(server.rows(run.id)) < 49 and time.monotonic() < until:
            time.sleep(0.05)
        run.log({"a": 50}, durable=True)
    assert [row["a"] for row in server.rows(run.id)] == list(range(1, 51))
    assert server.runs[run.id]["name"] == "while away"
    assert list(spool_dir.glob("*.spool")) == []
    assert len([r for r in caplog.records if "no answer" in r.message]) == 1
    assert "answers again" in caplog.text


def test_a_run_that_never_had_its_server_is_kept_and_synced(
    server: FakeServer, spool_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    (tmp_path / "f.txt").write_text("content")
    with labkeep.init(project="p", config={"lr": 1}) as run:
        run.log({"a": 1})
        run.log_artifact(tmp_path / "f.txt")
    assert "kept in" in caplog.text
    assert len(list(spool_dir.glob("*.spool"))) == 2
    server.start()
    assert [done.outcome for done in labkeep.sync()] == ["sent", "sent"]
    assert server.rows(run.id) == [{"_step": 0, "a": 1}]
    assert server.runs[run.id]["config"] == {"lr": 1}
    assert server.runs[run.id]["status"] == "finished"
    assert server.runs[run.id]["finished_at"]
    assert server.artifacts[0]["name"] == "f.txt"
    assert [path for path in spool_dir.glob("**/*") if path.is_file()] == []
    assert labkeep.sync() == []


def test_an_offline_run_goes_to_any_server(server: FakeServer, spool_dir: Path) -> None:
    with labkeep.init(mode="offline") as run:
        run.log({"a": 1})
        assert run.flush() is False
    assert server.seen == []
    (done,) = labkeep.sync()
    assert (done.outcome, done.rows, done.run_id) == ("sent", 1, run.id)
    assert server.rows(run.id) == [{"_step": 0, "a": 1}]


def test_a_trashed_run_keeps_its_local_copy(
    server: FakeServer, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with labkeep.init() as run:
        run.log({"a": 1}, durable=True)
        server.gone.add(run.id)
        run.log({"a": 2}, durable=True)
        run.log({"a": 3})
    assert "trashed by ada" in caplog.text
    (gone,) = labkeep.sync()
    assert gone.outcome == "gone"
    assert "local copy is kept" in gone.message
    server.gone.clear()
    assert [done.outcome for done in labkeep.sync()] == ["sent"]
    assert [row["a"] for row in server.rows(run.id)] == [1, 2, 3]


def test_rows_that_the_server_refuses_cost_those_rows_only(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.unit.client.fake_server import Refusal

    def validate(row: dict[str, Any]) -> None:
        if row.get("a") == 7:
            raise Refusal(422, "invalid", "seven is not taken")

    server.validate = validate
    with labkeep.init() as run:
        for number in range(20):
            run.log({"a": number})
    assert [row.get("a") for row in server.rows(run.id)] == [*range(7), None, *range(8, 20)]
    assert len([r for r in caplog.records if "seven is not taken" in r.message]) == 1


def test_a_key_that_is_revoked_while_training_stops_the_sending_only(
    server: FakeServer, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with labkeep.init() as run:
        run.log({"a": 1}, durable=True)
        server.key = "lk-other"
        run.log({"a": 2}, durable=True)
    assert "Nothing more is sent" in caplog.text
    (done,) = labkeep.sync(api_key="lk-other")
    assert done.outcome == "sent"
    assert [row["a"] for row in server.rows(run.id)] == [1, 2]
