"""The SDK against the real application: over HTTP, and over a folder in this process."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import labkeep
from labkeep import Api, AsyncLabkeep, Labkeep, errors
from tests.unit.client.live_server import Live, serving

UNKNOWN = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folder")


@pytest.fixture(autouse=True)
def settings(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABKEEP_URL", live.url)
    monkeypatch.setenv("LABKEEP_API_KEY", live.key)
    monkeypatch.setenv("LABKEEP_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("LABKEEP_QUIET", "1")


@pytest.fixture(params=["http", "local"])
def client(request: pytest.FixtureRequest, folder: Path) -> Iterator[Labkeep]:
    with Labkeep() if request.param == "http" else Labkeep.local(folder) as found:
        yield found


@pytest.fixture(params=["http", "local"])
def where(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    """How `init` and `Api` are told where to go."""
    return {} if request.param == "http" else {"dir": folder}


# --- the typed client


def test_runs_are_created_found_edited_and_ended(client: Labkeep) -> None:
    run = client.runs.create(
        "typed", name="n", config={"lr": 0.1, "deep": {"a": 1}}, tags=["x"], handle="h", exist_ok=True
    )
    assert client.runs.create("typed", handle="h", exist_ok=True) == run
    with pytest.raises(errors.AlreadyExists, match="exists already"):
        client.runs.create("typed", handle="h")
    assert client.runs.get(run.id) == run
    edited = client.runs.update(run.id, config={"deep": {"b": 2}}, add_tags=["y"], remove_tags=["x"], handle=None)
    assert (edited.config, edited.tags, edited.handle) == ({"lr": 0.1, "deep": {"a": 1, "b": 2}}, ("y",), None)
    with pytest.raises(errors.Stale):
        client.runs.update(run.id, notes="late", if_version=run.version)
    assert client.runs.heartbeat(run.id).stop is False
    assert client.runs.stop(run.id).status == "stopped"
    assert client.runs.heartbeat(run.id).stop is True
    ended = client.runs.finish(run.id, status="failed", exit_code=3, summary={"acc": 0.5})
    assert (ended.status, ended.exit_code, ended.summary) == ("failed", 3, {"acc": 0.5})


def test_a_list_turns_its_pages(client: Labkeep) -> None:
    made = client.runs.create_many(
        [{"name": f"r{n}", "summary": {"n": n}, "status": "finished"} for n in range(25)], project="many"
    )
    assert [run.name for run in made] == [f"r{n}" for n in range(25)]
    found = [run.id for run in client.runs.list("many", limit=10, order="summary.n desc")]
    assert [id for id in found if id in {run.id for run in made}] == [run.id for run in reversed(made)]
    assert client.runs.list("many", q="summary.n >= 20", limit=3).next is not None
    with pytest.raises(errors.Invalid) as error:
        list(client.runs.list("many", q="summary.n >"))
    assert error.value.details["column"]


def test_many_more_runs_than_fit_one_request_are_created(client: Labkeep) -> None:
    made = client.runs.create_many([{"project": "thousands", "status": "finished"}] * 1001)
    assert len({run.id for run in made}) == 1001


def test_two_runs_are_compared(client: Labkeep) -> None:
    a, b = (client.runs.create("p", config={"lr": lr, "same": 1}).id for lr in (0.1, 0.2))
    differing = {d.path: (d.a, d.b) for d in client.runs.diff(a, b)}
    assert differing["config.lr"] == (0.1, 0.2)
    assert "config.same" not in differing


def test_history_goes_in_and_comes_out(client: Labkeep) -> None:
    id = client.runs.create("p").id
    assert client.runs.append_history(id, [{"_step": 0, "a": 1.5, "b": "text"}]).rows == 1
    assert client.runs.append_history(id, [{"_step": 1, "a": math.nan, "c": [1, {"d": None}]}], offset=1).rows == 2
    assert client.runs.append_history(id, [{"_step": 1, "a": math.inf}], offset=1).rows == 2
    assert client.runs.history(id) == [{"_step": 0, "a": 1.5, "b": "text"}, {"_step": 1, "a": math.inf}]
    assert client.runs.history(id, keys=["b"]) == [{"_step": 0, "b": "text"}]
    assert client.runs.count_rows(id) == 2
    with pytest.raises(errors.Invalid, match="_step"):
        client.runs.append_history(id, [{"a": 1}])


def test_whole_columns_go_in_and_come_out_as_arrays(client: Labkeep) -> None:
    id = client.runs.create("p").id
    n = 60_000
    steps, loss = array("q", range(0, 2 * n, 2)), array("d", (1 / (s + 1) for s in range(n)))
    assert client.runs.log_columns(id, steps, {"loss": loss, "n": list(range(n))}, timestamps=[1.5] * n).rows == n
    assert client.runs.log_columns(id, [2 * n], {"loss": [math.nan]}).rows == n + 1
    found_steps, values = client.runs.series(id, "loss")
    assert found_steps == array("q", [*steps, 2 * n])
    assert values[:-1] == loss
    assert math.isnan(values[-1])
    assert client.runs.series(id, "n")[1] == array("q", range(n))
    assert client.runs.series(id, "nothing") == (array("q"), array("d"))
    sampled = client.runs.series(id, "loss", buckets=100)[0]
    assert 100 <= len(sampled) <= 202
    assert len(client.runs.history(id, limit=10, offset=5)) == 10
    summaries = {metric.key: metric for metric in client.runs.metrics(id)}
    assert (summaries["loss"].count, summaries["loss"].max) == (n + 1, 1.0)
    assert math.isnan(summaries["loss"].last)


def test_rows_are_written_merged_and_read(client: Labkeep) -> None:
    id = client.runs.create("p").id
    first = client.rows.write(
        id, [{"id": "a", "data": {"x": 1, "scores": {"q": 0.5}}}, {"data": {"x": 2, "scores": {"q": 1}}}]
    )
    client.rows.write(id, [{"id": "a", "merge": True, "data": {"y": 3}}])
    rows = {row.id: row.data for row in client.rows.read(id)}
    assert rows["a"] == {"x": 1, "y": 3, "scores": {"q": 0.5}}
    assert len(rows) == 2
    assert {row.id: row.data for row in client.rows.read(id, as_of=first.xact)}["a"] == {"x": 1, "scores": {"q": 0.5}}
    assert client.rows.stats(id).scores["q"] == 0.75


def test_documents_have_versions_and_environments_point_at_them(client: Labkeep) -> None:
    project = client.projects.create("documents", exist_ok=True)
    document = client.documents.create(project.id, "prompt", "greet", body={"text": "Hi"}, exist_ok=True)
    second = client.documents.commit(document.id, {"text": "Hello"}, message="politer")
    assert (second.number, second.message) == (2, "politer")
    assert client.documents.get_version(document.id).body == {"text": "Hello"}
    assert client.documents.get_version(document.id, 1).body == {"text": "Hi"}
    assert [version.number for version in client.documents.versions(document.id)] == [2, 1]
    assert client.environments.bind("documents", "production", document.id, number=1).number == 1
    assert client.environments.get("documents", "production").document_id == document.id
    assert client.environments.bind("documents", "production", None).document_id is None
    assert client.documents.trash(document.id).counts["document"] == 1


def test_files_and_blobs(client: Labkeep, tmp_path: Path) -> None:
    id = client.runs.create("p").id
    content = bytes(range(256)) * 20_000
    (tmp_path / "large.bin").write_bytes(content)
    file = client.files.upload(id, "out/large ü.bin", tmp_path / "large.bin")
    assert file.size == len(content)
    assert client.files.upload(id, "note.txt", b"hello").media_type == "text/plain"
    assert [f.path for f in client.files.list(id)] == ["note.txt", "out/large ü.bin"]
    assert client.files.read(id, "note.txt") == b"hello"
    assert client.files.download(id, "out/large ü.bin", tmp_path / "copy").read_bytes() == content
    assert client.blobs.exists(file.digest)
    assert not client.blobs.exists("sha256:" + "0" * 64)
    with pytest.raises(errors.Invalid):
        client.blobs.upload(b"other", digest=file.digest)
    with pytest.raises(errors.NotFound):
        client.files.read(id, "missing")


def test_a_plan_is_applied_as_it_was_shown(client: Labkeep) -> None:
    ids = [
        run.id
        for run in client.runs.create_many(
            [{"summary": {"acc": n / 10}, "status": "finished"} for n in range(10)], project="plans"
        )
    ]
    plan = client.plan("trash", ids=ids)
    assert plan.counts == {"run": 10}
    client.runs.update(ids[0], notes="moved")
    with pytest.raises(errors.Stale):
        client.apply(plan)
    plan = client.plan("trash", ids=ids[:4])
    outcome = client.apply(plan, reason="low", ticket="T-1")
    assert outcome.counts == {"run": 4}
    assert outcome.deletion_id is not None
    record = client.deletions.get(outcome.deletion_id)
    assert (record.reason, record.ticket, record.state) == ("low", "T-1", "trashed")
    assert {m.item_id for m in client.deletions.members(record.id)} == set(ids[:4])
    assert {item.id for item in client.trash.list(project="plans")} >= set(ids[:4])
    client.deletions.restore(record.id)
    assert client.runs.get(ids[0]).state == "active"
    assert client.apply("archive", ids=ids).counts == {"run": 10}
    with pytest.raises(errors.Invalid, match="say what to trash"):
        client.plan("trash")
    with pytest.raises(errors.Invalid, match="leave out ids"):
        client.apply(plan, ids=ids)


def test_the_lifecycle_of_one_run(client: Labkeep) -> None:
    id = client.runs.create("p", status="running").id
    with pytest.raises(errors.Conflict, match="running"):
        client.runs.trash(id)
    client.runs.lock(id)
    with pytest.raises(errors.Conflict, match="locked"):
        client.runs.trash(id, on_running="stop")
    client.runs.unlock(id)
    outcome = client.runs.trash(id, on_running="stop", reason="r")
    assert client.runs.trash(id).already == 1
    with pytest.raises(errors.Gone) as gone:
        client.runs.append_history(id, [{"_step": 0, "a": 1}])
    assert gone.value.details["deletion_id"] == outcome.deletion_id
    client.runs.restore(id)
    client.runs.trash(id)
    job = client.runs.purge(id).job_id
    assert job is not None
    assert client.jobs.wait(job).state == "done"
    assert [event.event for event in client.audit.list(id=id)][:1] == ["run.purged"]
    assert client.audit.verify().intact


def test_projects_are_named_wherever_an_id_will_do(client: Labkeep) -> None:
    project = client.projects.create("by name", tags=["t"], settings={"grace_days": 3})
    assert client.projects.get("by name") == project
    assert client.projects.update("by name", description="d").description == "d"
    client.projects.trash("by name")
    client.projects.restore("by name")
    assert client.projects.archive("by name").counts["project"] == 1


def test_accounts(client: Labkeep) -> None:
    workspace = client.workspaces.create("Büro")
    key = client.keys.create("eve", role="viewer", workspace=workspace.id, expires_at=datetime(2100, 1, 1, tzinfo=UTC))
    assert key.secret.startswith("lk-")
    assert client.members.set("eve", "editor").role == "editor"
    assert {me.name for me in client.workspaces.list()} >= {"Büro"}
    assert client.usage.list(by="project").items is not None
    assert client.request("GET", "/api/v1/me")["role"] == "owner"


def test_a_workspace_is_chosen_by_name_or_id(live: Live) -> None:
    with Labkeep() as client:
        workspace = client.workspaces.create("chosen")
    for named in ("chosen", workspace.id):
        with Labkeep(workspace=named) as there:
            assert there.me().workspace_id == workspace.id


def test_roles_are_refused_by_their_own_class(live: Live) -> None:
    with Labkeep(api_key=live.key_of("viewer")) as reader, pytest.raises(errors.Forbidden, match="permission"):
        reader.runs.create("p")
    with pytest.raises(errors.Unauthenticated):
        Labkeep(api_key="lk-wrong").me()


def test_the_async_client_does_the_same(live: Live, folder: Path) -> None:
    async def work(client: AsyncLabkeep) -> tuple[int, int, list[float]]:
        async with client:
            made = await client.runs.create_many([{"status": "finished"}] * 7, project="async")
            first = await client.runs.list("async", limit=3)
            every = [run async for run in client.runs.list("async", limit=3)]
            await client.runs.log_columns(made[0].id, [1, 2], {"a": [0.5, 1.5]})
            _, values = await client.runs.series(made[0].id, "a")
            return len(first.items), len(every), [*values]

    assert asyncio.run(work(AsyncLabkeep())) == (3, 7, [0.5, 1.5])
    assert asyncio.run(work(AsyncLabkeep.local(folder))) == (3, 7, [0.5, 1.5])


# --- tracking and the Api


def test_a_run_is_tracked_and_found_again(where: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"weights" * 1000)
    with labkeep.init(
        "tracked", name="first", config={"lr": 0.1, "nan": math.nan}, id="mine", console=True, **where
    ) as run:
        for step in range(1200):
            run.log({"loss": math.nan if step == 3 else 1 / (step + 1), "deep": {"x": step}})
        print("said")
        artifact = labkeep.Artifact("model", type="model", metadata={"k": 1})
        artifact.add_file(tmp_path / "model.pth", name="sub/model.pth")
        artifact.add_reference("s3://bucket/large")
        run.log_artifact(artifact, aliases=["best"]).wait()
        run.save(tmp_path / "model.pth", base_path=tmp_path)
        used = run.use_artifact("model:best")
        assert used.id == artifact.id
        run.log({"last": 1}, durable=True)
    api = Api(**where)
    found = api.run("tracked/mine")
    assert (found.name, found.state, found.handle) == ("first", "finished", "mine")
    assert math.isnan(found.config["nan"])
    assert found.summary["last"] == 1
    assert len(found.history()) < 1201
    rows = list(found.scan_history(page_size=500))
    assert len(rows) == 1201
    assert (rows[2]["deep.x"], rows[-1]) == (2, {"_step": 1200, "_timestamp": rows[-1]["_timestamp"], "last": 1})
    assert [row["loss"] for row in found.scan_history(keys=["loss"], page_size=7, min_step=10, max_step=30)] == [
        1 / (s + 1) for s in range(10, 31)
    ]
    assert [file.path for file in found.files()] == ["model.pth"]
    assert api.client.runs.console(found.id)[-1] == "said"
    (logged,) = found.logged_artifacts()
    assert (logged.name, logged.version, logged.references) == ("model", "v0", {"large": "s3://bucket/large"})
    root = Path(api.artifact("tracked/model").download(tmp_path / "down"))
    assert (root / "sub" / "model.pth").read_bytes() == b"weights" * 1000
    assert [a.name for a in api.project("tracked").artifacts()] == ["model"]
    found.config["reviewed"] = True
    found.tags.append("good")
    found.name = "renamed"
    found.update(notes="n")
    again = api.run(f"tracked/{found.id}")
    assert (again.config["reviewed"], again.tags, again.name, again.notes) == (True, ["good"], "renamed", "n")
    api.close()


def test_a_run_goes_on_where_it_ended(where: dict[str, Any]) -> None:
    for n in range(3):
        with labkeep.init("resumed", id="long", resume="allow", **where) as run:
            run.log({"x": n}, durable=True)
    api = Api(**where)
    found = api.run("resumed/long")
    assert [(row["_step"], row["x"]) for row in found.history()] == [(0, 0), (1, 1), (2, 2)]
    assert found.state == "finished"
    api.close()


def test_runs_are_filtered_and_ordered(where: dict[str, Any]) -> None:
    for n in range(4):
        with labkeep.init(
            "filtered", config={"n": n, "kind": "ab"[n % 2]}, tags=["even"] * (n % 2 == 0), **where
        ) as run:
            run.summary["acc"] = n / 10
            run.finish(exit_code=n == 3)
    api = Api(**where)
    project = api.project("filtered")

    def found(filters: Any = None, order: str | None = "+config.n") -> list[int]:
        return [run.config["n"] for run in project.runs(filters=filters, order=order, per_page=2)]

    assert found() == [0, 1, 2, 3]
    assert found({"state": "failed"}) == [3]
    assert found({"$or": [{"config.n": {"$gte": 3}}, {"tags": "even"}]}) == [0, 2, 3]
    assert found('config.kind = "b" and status = finished') == [1]
    assert found({"summary_metrics.acc": {"$gt": 0.1}}, "-summary_metrics.acc") == [3, 2]
    assert found(None, "summary.acc desc") == [3, 2, 1, 0]
    runs = project.runs(order="-config.n")
    assert (len(runs), runs[0].config["n"], runs[-1].config["n"]) == (4, 3, 0)
    with pytest.raises(errors.Invalid, match=r"\$wrong"):
        project.runs(filters={"config.n": {"$wrong": 1}})
    api.close()


def test_a_run_that_somebody_stops_or_trashes(live: Live, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Labkeep() as client:
        with labkeep.init("watched") as run:
            client.runs.stop(run.id)
            run.log({"a": 1}, durable=True)
            assert run.stopped
        assert client.runs.get(run.id).status == "stopped"
        with labkeep.init("watched") as run:
            run.log({"a": 1}, durable=True)
            client.runs.trash(run.id, on_running="stop", reason="enough")
            run.log({"a": 2}, durable=True)
        assert "was trashed by" in caplog.text
        assert [done.outcome for done in labkeep.sync()] == ["gone"]
        client.runs.restore(run.id)
        assert [done.outcome for done in labkeep.sync()] == ["sent"]
        assert [row["a"] for row in client.runs.history(run.id)] == [1, 2]
        assert client.runs.get(run.id).status == "finished"


def test_offline_runs_are_synced_with_their_times(live: Live) -> None:
    with labkeep.init("offline", mode="offline", config={"a": 1}) as run:
        run.log({"x": 1})
    ended = datetime.now(UTC)
    assert [done.outcome for done in labkeep.sync()] == ["sent"]
    with Labkeep() as client:
        found = client.runs.get(run.id)
    assert found.finished_at is not None
    assert found.finished_at <= ended
    assert (found.status, found.config) == ("finished", {"a": 1})


def test_a_folder_belongs_to_one_process_and_is_shared_within_it(folder: Path) -> None:
    with Labkeep.local(folder) as first, Labkeep.local(str(folder)) as second:
        assert first.me() == second.me()
        script = f"import labkeep; labkeep.Labkeep.local({str(folder)!r})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "Unavailable" in done.stderr
    with pytest.raises(errors.Unavailable, match="closed"):
        first.me()
    with Labkeep.local(folder) as again:
        assert again.me().role == "owner"


LOCAL_SCRIPT = """
import labkeep, sys
run = labkeep.init("script", dir=sys.argv[1])
for step in range(10):
    run.log({"a": step})
"""


def test_a_script_over_a_folder_that_just_ends_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOCAL_SCRIPT, str(tmp_path / "lab")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Labkeep.local(tmp_path / "lab") as client:
        (run,) = client.runs.list("script")
        assert run.status == "finished"
        assert len(client.runs.history(run.id)) == 10
