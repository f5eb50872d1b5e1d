"""Exports and imports between two folders: equal on the other side, whole or not at all, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from labkeep import Labkeep
from labkeep.cli.main import main
from labkeep.client._sync.importing import Importer
from labkeep.client.archives import MANIFEST, Archive
from labkeep.core.commands_transfer import imported_id
from labkeep.core.errors import AlreadyExists, Corrupt, Invalid, LabkeepError, NotFound, Stale
from labkeep.server import check_store
from labkeep.settings import Settings

WHEN = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
NEW = "01990000-0000-7000-8000-00000000000"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Labkeep]:
    with Labkeep.local(tmp_path / "here") as client:
        yield client


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Labkeep]:
    with Labkeep.local(tmp_path / "there") as client:
        yield client


def fill(client: Labkeep, project: str = "digits") -> dict[str, str]:
    """A project with something of everything, and answers the ids that tests ask about."""
    home = client.projects.create(project, tags=["t"], description="d", settings={"grace_days": 3}, metadata={"a": [1]})
    base = client.runs.create(project, name="base", config={"lr": 0.1, "deep": {"x": [1, {"y": None}]}}, tags=["prod"])
    run = client.runs.create(project, name="run", notes="é", group="g", job_type="train", base_run_id=base.id)
    client.runs.append_history(
        run.id, [{"_step": n, "loss": 1 / (n + 1), "s": "x" if n % 2 else None} for n in range(70)]
    )
    client.runs.append_history(run.id, [{"_step": 200, "loss": float("nan"), "more": {"a": 1}}], offset=100)
    client.runs.append_history(run.id, [{"_step": n, "line": f"line {n}"} for n in range(3)], stream="console")
    client.rows.write(
        run.id, [{"id": "x", "data": {"scores": {"exact": 1}}}, {"id": "y", "data": {"scores": {"exact": 0}}}]
    )
    client.rows.write(run.id, [{"id": "x", "data": {"scores": {"exact": 0.5}, "input": "q"}}])
    client.rows.write(run.id, [{"id": "y", "delete": True}])
    client.files.upload(run.id, "a/b.txt", b"hello")
    client.files.upload(base.id, "same.txt", b"hello")
    document = client.documents.create(project, type="prompt", name="text", body={"text": "1"})
    client.documents.commit(document.id, {"text": "2"}, message="better")
    client.rows.write(document.id, [{"id": "case", "data": {"input": 1}}])
    client.environments.bind(project, "production", document.id, number=1)
    client.links.create(document.id, run.id, "uses", on_delete="keep")
    blob = client.blobs.upload(b"weights" * 1000)
    files = [{"path": "model.bin", "digest": blob, "size": 7000}]
    version = client.artifacts.create(project, "model", type="model", files=files, aliases=["best"], run_id=run.id)
    client.runs.finish(run.id, exit_code=0)
    client.runs.finish(base.id)
    client.runs.archive(base.id)
    return {"project": home.id, "run": run.id, "base": base.id, "document": document.id, "version": version.id}


def everything(client: Labkeep, project: str) -> dict[str, Any]:
    """All that can be read of a project, but for what tells when and by whom it was imported."""
    get = client.request
    found: dict[str, Any] = {"project": get("GET", f"/api/v1/projects/{project}")}
    id = found["project"]["id"]
    for kind in ("runs", "documents", "artifacts"):
        for state in ("active", "archived"):
            for one in get("GET", f"/api/v1/{kind}", project=id, state=state)["items"]:
                found[one["name"]] = one
                found |= details(client, kind, one)
    found["environments"] = get("GET", "/api/v1/environments", project=id)["items"]
    return normal(found)


def details(client: Labkeep, kind: str, one: dict[str, Any]) -> dict[str, Any]:
    get, name, id = client.request, one["name"], one["id"]
    found: dict[str, Any] = {f"{name} links": get("GET", f"/api/v1/links/{id}")["items"]}
    if kind == "artifacts":
        for version in get("GET", "/api/v1/artifacts/versions", id=id)["items"]:
            found[f"{name} {version['name']}"] = version
            found[f"{name} {version['name']} files"] = files(client, version["id"])
        return found
    found[f"{name} files"] = files(client, id)
    found[f"{name} states"] = get("GET", f"/api/v1/rows/{id}/states")["items"]
    found[f"{name} stats"] = get("GET", f"/api/v1/rows/{id}/stats")
    if kind == "documents":
        found[f"{name} versions"] = get("GET", f"/api/v1/documents/{id}/versions")["items"]
    for stream in get("GET", f"/api/v1/runs/{id}/streams")["items"] if kind == "runs" else ():
        which = stream["stream"]
        found[f"{name} {which}"] = get("GET", f"/api/v1/runs/{id}/history", stream=which)
        found[f"{name} {which} series"] = get("GET", f"/api/v1/runs/{id}/series", stream=which)["items"]
    return found


def files(client: Labkeep, id: str) -> list[Any]:
    listed = client.request("GET", f"/api/v1/files/{id}")["items"]
    return [(file, client.files.read(id, file["path"])) for file in listed]


LOCAL = ("organization_id", "workspace_id", "version", "updated_at", "bound_by")


def normal(value: Any) -> Any:
    """Without what differs between two servers, and without the ids and times of links and environments."""
    if isinstance(value, dict):
        mine = {name: normal(each) for name, each in value.items() if name not in LOCAL}
        if "on_delete" in mine or ("document_id" in mine and "name" in mine and "kind" not in mine):
            mine = {name: each for name, each in mine.items() if name not in ("id", "created_at")}
        if mine.get("kind") == "project":
            mine.pop("parent_id")
        return mine
    return [normal(each) for each in value] if isinstance(value, list | tuple) else value


def renamed(value: Any, ids: dict[str, str]) -> Any:
    text = json.dumps(value, default=repr)
    for old, new in ids.items():
        text = text.replace(old, new)
    return json.loads(text)


def clean(folder: Path) -> bool:
    return check_store(Settings(data=str(folder)), deep=True).clean


def test_what_is_imported_is_equal(here: Labkeep, there: Labkeep, tmp_path: Path) -> None:
    fill(here)
    archive = tmp_path / "digits.labkeep"
    digest = here.transfers.export(archive, project="digits")
    brought = there.transfers.bring(archive)
    assert brought.counts == {"project": 1, "document": 1, "artifact": 1, "artifact_version": 1, "run": 2}
    assert (brought.ids, brought.left_out) == ({}, [])
    assert everything(there, "digits") == everything(here, "digits")
    with Archive(archive) as opened:
        assert opened.digest == digest
    assert there.transfers.export(tmp_path / "again.labkeep", project="digits") != digest  # it tells where it is from
    assert clean(tmp_path / "there")


def test_a_query_over_what_was_imported_finds_what_it_found_before(
    here: Labkeep, there: Labkeep, tmp_path: Path
) -> None:
    fill(here)
    here.transfers.export(tmp_path / "a", project="digits")
    there.transfers.bring(tmp_path / "a")
    for q in ("scores.exact = 0.5", "job_type = train", "metrics.loss > 0"):
        found = [run.name for run in there.runs.list(project="digits", q=q)]
        assert found == [run.name for run in here.runs.list(project="digits", q=q)]
    assert [run.name for run in there.runs.list(project="digits", q="scores.exact = 0.5")] == ["run"]


def test_with_new_ids_all_references_follow(here: Labkeep, there: Labkeep, tmp_path: Path) -> None:
    ids = fill(here)
    here.transfers.export(tmp_path / "a", project="digits")
    there.transfers.bring(tmp_path / "a")
    brought = there.transfers.bring(tmp_path / "a", remap=True, name="copy")
    copy, original = everything(there, "copy"), renamed(everything(there, "digits"), brought.ids)
    original["project"] |= {"name": "copy", "handle": "copy"}
    versions = {v["number"]: v.pop("id") for found in (copy, original) for v in found["text versions"]}
    assert versions
    assert json.loads(json.dumps(copy, default=repr)) == original
    assert brought.ids[ids["run"]] != ids["run"]
    assert there.runs.get(brought.ids[ids["run"]]).base_run_id == brought.ids[ids["base"]]


def test_runs_can_be_brought_into_a_project_that_is_there(here: Labkeep, there: Labkeep, tmp_path: Path) -> None:
    ids = fill(here)
    there.projects.create("home")
    here.transfers.export(tmp_path / "a", project="digits", q="job_type = train")
    brought = there.transfers.bring(tmp_path / "a", into="home")
    assert brought.counts == {"run": 1}
    run = there.runs.get(ids["run"])
    assert run.project_id == there.projects.get("home").id
    assert run.base_run_id is None  # its base was not in the archive
    assert [project.name for project in there.projects.list()] == ["home"]


def test_the_whole_workspace_and_single_objects_can_be_exported(here: Labkeep, there: Labkeep, tmp_path: Path) -> None:
    ids = fill(here)
    fill(here, "other")
    here.transfers.export(tmp_path / "all")
    there.transfers.bring(tmp_path / "all")
    assert everything(there, "other") == everything(here, "other")
    here.transfers.export(tmp_path / "one", ids=[ids["version"]])
    with Archive(tmp_path / "one") as archive:
        kinds = [
            one["kind"] for m in archive.members if m.name.startswith("objects/") for one in archive.objects(m.name)
        ]
    assert kinds == ["project", "artifact", "artifact_version"]


def test_an_archive_can_be_read_with_tar(here: Labkeep, tmp_path: Path) -> None:
    fill(here)
    here.transfers.export(tmp_path / "a", project="digits")
    with tarfile.open(tmp_path / "a") as tar:
        names = tar.getnames()
        file = tar.extractfile(MANIFEST)
        assert file is not None
        listed = [json.loads(line)["name"] for line in file.read().splitlines()]
    assert names == [*listed, MANIFEST]


# --- what breaks off ----------------------------------------------------------------------------------------------------


def test_an_export_that_broke_off_anywhere_goes_on_and_comes_to_the_same(here: Labkeep, tmp_path: Path) -> None:
    fill(here)
    digest = here.transfers.export(tmp_path / "whole", project="digits")
    data = (tmp_path / "whole").read_bytes()
    for cut in range(0, len(data), max(1, len(data) // 23)):
        (tmp_path / "again.part").write_bytes(data[:cut])
        assert here.transfers.export(tmp_path / "again", project="digits") == digest
        (tmp_path / "again").unlink()


def test_an_export_of_something_else_is_not_gone_on_with(here: Labkeep, tmp_path: Path) -> None:
    fill(here)
    fill(here, "other")
    here.transfers.export(tmp_path / "a", project="other")
    (tmp_path / "a").rename(tmp_path / "b.part")
    with pytest.raises(Invalid, match="something else"):
        here.transfers.export(tmp_path / "b", project="digits")
    with pytest.raises(NotFound):
        here.transfers.export(tmp_path / "c", project="nothing")
    (tmp_path / "d").touch()
    with pytest.raises(Invalid, match="exists already"):
        here.transfers.export(tmp_path / "d", project="digits")


def test_an_archive_that_was_changed_or_cut_is_not_imported(here: Labkeep, there: Labkeep, tmp_path: Path) -> None:
    fill(here)
    here.transfers.export(tmp_path / "a", project="digits")
    data = (tmp_path / "a").read_bytes()
    end = len(data.rstrip(b"\0"))
    for place in range(0, end, max(1, end // 60)):
        changed = bytearray(data)
        changed[place] ^= 0x40
        (tmp_path / "b").write_bytes(changed)
        if not _is_padding(tmp_path / "a", place):
            with pytest.raises(LabkeepError):
                there.transfers.bring(tmp_path / "b")
    for cut in range(0, end, max(1, end // 20)):
        (tmp_path / "b").write_bytes(data[:cut])
        with pytest.raises(Corrupt):
            there.transfers.bring(tmp_path / "b")
    assert list(there.projects.list()) == []


def test_a_blob_that_is_not_what_its_name_says_is_found_out_though_the_manifest_has_it(tmp_path: Path) -> None:
    path, content = tmp_path / "a", b"something else"
    members = {"archive.json": b'{"format": 1}', f"blobs/sha256-{'0' * 64}": content}
    lines = [
        b'{"name":"%s","size":%d,"digest":"sha256:%s"}'
        % (name.encode(), len(data), hashlib.sha256(data).hexdigest().encode())
        for name, data in members.items()
    ]
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in {**members, "manifest.jsonl": b"\n".join(lines) + b"\n"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
    with Archive(path) as archive, pytest.raises(Corrupt, match="not as it was exported"):
        list(archive.verify())


def _is_padding(path: Path, place: int) -> bool:
    """Whether a byte says nothing: between a member and the next, or a field of tar that we do not read."""
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            if member.offset <= place < member.offset_data + member.size:
                return False
    return True


def begun(client: Labkeep, archive: Archive, members: int, **fields: Any) -> str:
    """An import of which only the first members were sent."""
    under_way = client.transfers.start(archive.digest, **fields)
    job = Importer(client.connection, archive, under_way, None, None)
    for member in archive.members[:members]:
        job._send(member)
    return under_way.id


def test_an_import_that_broke_off_is_not_seen_and_goes_on(here: Labkeep, there: Labkeep, tmp_path: Path) -> None:
    fill(here)
    here.transfers.export(tmp_path / "a", project="digits")
    with Archive(tmp_path / "a") as archive:
        for members in (1, 3, len(archive.members) // 2, len(archive.members)):
            id = begun(there, archive, members, remap=True, name=f"try {members}")
            assert list(there.projects.list()) == list(there.runs.list()) == list(there.trash.list()) == []
            there.jobs.wait(there.transfers.give_up(id).job_id or "")
        id = begun(there, archive, len(archive.members) // 2)
    with pytest.raises(LabkeepError, match="import"):
        there.deletions.restore(id)
    there.projects.create("digits")  # the name is free until the end
    with pytest.raises(AlreadyExists, match="exists again"):
        there.transfers.bring(tmp_path / "a", resume=id)
    project = there.projects.get("digits")
    there.projects.update(project.id, name="mine")
    there.transfers.bring(tmp_path / "a", resume=id)
    assert everything(there, "digits") == everything(here, "digits")
    with pytest.raises(NotFound):
        there.transfers.get(id)


def test_what_was_given_up_leaves_nothing(here: Labkeep, there: Labkeep, tmp_path: Path) -> None:
    fill(here)
    here.transfers.export(tmp_path / "a", project="digits")
    with Archive(tmp_path / "a") as archive:
        id = begun(there, archive, len(archive.members))
    outcome = there.transfers.give_up(id)
    assert there.jobs.wait(outcome.job_id or "").state == "done"
    there.close()
    assert b"weights" * 10 not in b"".join(p.read_bytes() for p in (tmp_path / "there").rglob("*") if p.is_file())
    assert clean(tmp_path / "there")


def test_what_is_here_already_is_not_brought_twice(here: Labkeep, tmp_path: Path) -> None:
    ids = fill(here)
    here.transfers.export(tmp_path / "a", project="digits")
    with pytest.raises(AlreadyExists, match="remap"):
        here.transfers.bring(tmp_path / "a")
    outcome = here.runs.trash(ids["run"], force=True)
    with pytest.raises(AlreadyExists, match="remap"):
        here.transfers.bring(tmp_path / "a")
    here.deletions.restore(outcome.deletion_id or "")


# --- parts that nobody exported -------------------------------------------------------------------------------------------


def project(**fields: Any) -> dict[str, Any]:
    return {"id": f"{NEW}1", "kind": "project", "parent_id": f"{NEW}9", "name": "p", **WHEN, **fields}


def run(**fields: Any) -> dict[str, Any]:
    home = {"parent_id": f"{NEW}1", "project_id": f"{NEW}1"}
    return {"id": f"{NEW}2", "kind": "run", "name": "r", "status": "finished", **home, **WHEN, **fields}


HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("enum", {"objects": [project(kind="moon")]}),
    ("length", {"objects": [project(name="")]}),
    ("control", {"objects": [project(name="a\0b")]}),
    ("status", {"objects": [project(), run(status="flying")]}),
    ("not part of this import", {"objects": [run()]}),
    ("not part of this import", {"objects": [project(), run(project_id="$other", parent_id="$other")]}),
    ("not part of this import", {"objects": [project(), run(parent_id="$run")]}),
    ("datetime", {"objects": [project(created_at="yesterday")]}),
    ("grace_days", {"objects": [project(settings={"grace_days": -1})]}),
    ("master key", {"objects": [project(settings={"encrypt": True})]}),
    (
        "not part",
        {"document_versions": [{"id": f"{NEW}5", "document_id": "$document", "number": 9, "body": {}, **WHEN}]},
    ),
    ("not part", {"row_states": [{"owner_id": "$run", "states": []}]}),
    (
        "not part",
        {"file_entries": [{"owner_id": "$run", "path": "a", "digest": f"sha256:{'0' * 64}", "size": 1, **WHEN}]},
    ),
    (
        "upload it",
        {
            "objects": [project(), run()],
            "file_entries": [{"owner_id": f"{NEW}2", "path": "a", "digest": f"sha256:{'0' * 64}", "size": 1, **WHEN}],
        },
    ),
    (
        "path",
        {
            "objects": [project(), run()],
            "file_entries": [
                {"owner_id": f"{NEW}2", "path": "../a", "digest": f"sha256:{'0' * 64}", "size": 1, **WHEN}
            ],
        },
    ),
    ("taken", {"objects": [project(), run(), run()]}),
]


@pytest.mark.parametrize(("word", "part"), HOSTILE, ids=[f"{n} {word}" for n, (word, _) in enumerate(HOSTILE)])
def test_a_part_that_makes_no_sense_is_refused_and_nothing_of_it_is_kept(
    there: Labkeep, word: str, part: dict[str, Any]
) -> None:
    ids = fill(there, "mine")
    other = there.projects.create("other")
    filled = json.loads(json.dumps(part).replace("$other", other.id).replace("$run", ids["run"]))
    filled = json.loads(json.dumps(filled).replace("$document", ids["document"]))
    begun = there.transfers.start(f"sha256:{'1' * 64}")
    with pytest.raises(LabkeepError, match=word):
        there.transfers.add_part(begun.id, 0, **filled)
    assert there.transfers.get(begun.id).parts == 0
    there.transfers.add_part(begun.id, 0, objects=[project(), run()])
    assert there.transfers.finish(begun.id).counts == {"project": 1, "run": 1}


def test_parts_come_in_order_and_each_counts_once(there: Labkeep) -> None:
    begun = there.transfers.start(f"sha256:{'1' * 64}")
    with pytest.raises(Stale, match="part 1 came before part 0"):
        there.transfers.add_part(begun.id, 1, objects=[project()])
    for _ in range(2):
        assert there.transfers.add_part(begun.id, 0, objects=[project()]).counts == {"project": 1}
    assert there.transfers.finish(begun.id).counts == {"project": 1}
    with pytest.raises(NotFound, match="under way"):
        there.transfers.add_part(begun.id, 1)


def test_what_was_running_elsewhere_does_not_run_here(there: Labkeep) -> None:
    begun = there.transfers.start(f"sha256:{'1' * 64}", remap=True)
    there.transfers.add_part(begun.id, 0, objects=[project(), run(status="running")])
    there.transfers.finish(begun.id)
    assert there.runs.get(imported_id(begun.id, f"{NEW}2")).status == "stopped"


# --- the command line -----------------------------------------------------------------------------------------------------


def labkeep(folder: Path, *argv: str) -> Any:
    result = CliRunner().invoke(main, ["--dir", str(folder), *argv])
    assert result.exit_code == 0, result.output
    return result


def test_what_goes_can_be_exported_first_and_brought_back_after_its_purge(tmp_path: Path) -> None:
    folder, archive = tmp_path / "here", tmp_path / "gone.labkeep"
    with Labkeep.local(folder) as client:
        ids = fill(client)
        before = client.request("GET", f"/api/v1/runs/{ids['run']}/history")
    labkeep(folder, "trash", ids["run"], "--force", "--yes", "--export", str(archive))
    labkeep(folder, "purge", ids["run"], "--yes")
    with Labkeep.local(folder) as client:
        deletion = next(iter(client.deletions.list(item_id=ids["run"])))
        with Archive(archive) as opened:
            assert deletion.archive == opened.digest
    labkeep(folder, "import", str(archive), "--into", "digits", "--new-ids")
    with Labkeep.local(folder) as client:
        (again,) = client.runs.list(project="digits", q='name = "run"')
        assert client.request("GET", f"/api/v1/runs/{again.id}/history") == before


def test_what_is_in_the_trash_can_be_exported_before_it_is_purged(tmp_path: Path) -> None:
    folder, archive = tmp_path / "here", tmp_path / "gone.labkeep"
    with Labkeep.local(folder) as client:
        ids = fill(client)
        deletion = client.projects.trash("digits", on_running="stop").deletion_id or ""
    labkeep(folder, "purge", "--deletion", deletion, "--yes", "--export", str(archive))
    with Labkeep.local(folder) as client:
        with Archive(archive) as opened:
            assert client.deletions.get(deletion).archive == opened.digest
        assert client.deletions.get(deletion).state == "purged"
    labkeep(tmp_path / "there", "import", str(archive))
    with Labkeep.local(tmp_path / "there") as client:
        assert client.files.read(ids["run"], "a/b.txt") == b"hello"
        assert client.runs.get(ids["base"]).state == "archived"


def test_an_archive_is_verified_and_looked_into_without_a_server(here: Labkeep, tmp_path: Path) -> None:
    fill(here)
    digest = here.transfers.export(tmp_path / "a", project="digits")
    here.close()
    found = json.loads(labkeep(tmp_path / "no", "archive-verify", str(tmp_path / "a"), "--json").output)
    assert (found["digest"], found["counts"]["run"]) == (digest, 2)
    said = labkeep(tmp_path / "no", "import", str(tmp_path / "a"), "--dry-run").output
    assert "whole and unchanged" in said
    assert not (tmp_path / "no").exists()
