"""What the W&B client did, seen through our own API: the second half of its scenarios."""

from __future__ import annotations

import hashlib
import json
import urllib.request

from labkeep import Labkeep
from labkeep.core.entities import Project
from tests.conformance.server import LiveServer


def newest(client: Labkeep, prefix: str) -> Project:
    """The newest project whose name begins so."""
    return next(project for project in client.projects.list() if project.name.startswith(prefix))


def media_are_files_of_the_run_and_never_run_here(client: Labkeep, server: LiveServer) -> None:
    """s40."""
    (run,) = client.runs.list(newest(client, "s40-").id)
    files = {file.path: file for file in client.files.list(run.id)}
    kinds = {path.split("/")[1] for path in files if path.startswith("media/")}
    assert kinds == {"audio", "html", "images", "metadata", "molecule", "object3D", "plotly", "table", "videos"}
    (row,) = client.runs.history(run.id)
    for key in ("picture", "sound", "film", "html", "molecule", "cloud", "table"):
        path = row[f"{key}.path"] if f"{key}.path" in row else row[key]["path"]
        content = client.files.read(run.id, path)
        assert files[path].digest == "sha256:" + hashlib.sha256(content).hexdigest()
    request = urllib.request.Request(
        f"{server.url}/api/v1/files/{run.id}/content?path=drawing.svg",
        headers={"Authorization": f"Bearer {server.admin_key}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-security-policy"].startswith("sandbox")


def a_link_is_a_version_of_its_own_that_goes_and_comes_with_its_source(client: Labkeep, _server: LiveServer) -> None:
    """s48: the source of a link was deleted, and the link with it; the link in the registry had been taken out before."""
    project = newest(client, "s48-")
    registry = next(each for each in client.projects.list() if each.name.startswith("wandb-registry-models"))
    (best,) = client.artifacts.list(registry.id)
    assert (best.name, best.type, [*best.tags]) == ("Best net", "model", ["gold"])
    (first,) = client.artifacts.versions(best.id)
    files = {file.path: file.digest for file in client.files.list(first.id) if not file.path.startswith(".")}
    assert client.files.read(first.id, "weights.txt") == b"weights 1"
    source = client.artifacts.resolve(project.id, "net:v0")
    assert files == {file.path: file.digest for file in client.files.list(source.id) if not file.path.startswith(".")}
    (edge,) = [link for link in client.links.list(first.id) if link.type == "linked"]
    assert (edge.source_id, edge.target_id, edge.on_delete) == (first.id, source.id, "cascade")

    net = client.artifacts.resolve(project.id, "net").parent_id
    (gone,) = client.artifacts.versions(net, state="trashed")
    assert gone.deletion_id is not None
    members = {member.item_id for member in client.deletions.members(gone.deletion_id)}
    assert len(members) == 2
    assert gone.id in members
    client.deletions.restore(gone.deletion_id)
    again = client.artifacts.resolve(project.id, "shortlist:keep")
    assert again.id in members
    assert again.digest == gone.digest


def several_writers_made_one_version(client: Labkeep, _server: LiveServer) -> None:
    """s42."""
    project = newest(client, "s42-")
    whole = client.artifacts.resolve(project.id, "together:whole")
    paths = [file.path for file in client.files.list(whole.id)]
    assert paths == [".wandb/manifest.json", *(f"deep/{n}.bin" for n in range(3)), *(f"part-{n}.txt" for n in range(3))]
    assert client.files.read(whole.id, "deep/1.bin") == b"deep/1.bin of 1"
    (collection,) = [each for each in client.artifacts.list(project.id) if each.name == "together"]
    assert [each.name for each in client.artifacts.versions(collection.id)] == ["v0"]
    refs = client.artifacts.resolve(project.id, "refs:v0").extra["references"]
    assert {"s3://bucket/key/model.bin", "hdfs://cluster/other.bin"} <= {each["digest"] for each in refs}
    assert client.artifacts.resolve(project.id, "kept", type="checkpoint").type == "checkpoint"


def sweeps_are_documents_and_their_runs_say_so(client: Labkeep, server: LiveServer) -> None:
    """s44: of two sweeps one was deleted with its runs; runs of the other one were, and the sweep stayed."""
    project = next(each for each in client.projects.list() if each.name.startswith("s44-") and "moved" not in each.name)
    (kept,) = client.documents.list(project.id, type="sweep")
    (gone,) = client.documents.list(project.id, type="sweep", state="trashed")
    assert client.documents.get_version(kept.id).body["method"] == "random"
    shown = json.loads(server.cli("documents", "show", kept.id, "--json"))
    assert (shown["type"], shown["status"], shown["handle"]) == ("sweep", kept.status, kept.handle)
    listed = json.loads(server.cli("documents", "ls", "--project", project.id, "--type", "sweep", "--json"))
    assert [each["id"] for each in listed["items"]] == [kept.id]
    assert not list(client.runs.list(project.id, q=f'document = "{kept.id}"'))
    (trashed,) = client.runs.list(project.id, q=f'document = "{kept.id}" and state = trashed')
    assert trashed.document_id == kept.id

    assert gone.deletion_id is not None
    members = {member.item_id for member in client.deletions.members(gone.deletion_id)}
    assert len(members) == 3
    client.deletions.restore(gone.deletion_id)
    back = [*client.runs.list(project.id, q=f'document = "{gone.id}"')]
    assert {run.id for run in back} == members - {gone.id}
    assert {run.config["x"] for run in back} == {1, 2}


def variables_modes_and_code_end_up_in_the_run(client: Labkeep, _server: LiveServer) -> None:
    """s45."""
    runs = {run.name: run for run in client.runs.list(newest(client, "s45-").id)}
    named = runs["named"]
    assert (named.handle, named.group, named.job_type, named.notes) == ("fixed-id", "from variables", "train", "noted")
    assert sorted(named.tags) == ["a", "b"]
    console = [row["line"] for row in client.runs.history(named.id, stream="console")]
    assert (console[0], console[-1]) == ("100%|####| 4/4", "done at last")
    assert any(file.path.startswith("code/") for file in client.files.list(named.id))
    offline = [run for name, run in runs.items() if name.startswith("offline")]
    assert sorted(row["x"] for run in offline for row in client.runs.history(run.id)) == [0, 1, 2]
    assert {str(run.status) for run in offline} == {"finished"}


def what_lightgbm_logged_is_a_series(client: Labkeep, _server: LiveServer) -> None:
    """s47."""
    project = newest(client, "s47-")
    (boosted,) = client.runs.list(project.id, q="job_type = lightgbm")
    rows = [row for row in client.runs.history(boosted.id) if "held_binary_logloss" in row]
    assert len(rows) == 15
    assert boosted.config["objective"] == "binary"
    assert {each.type for each in client.artifacts.list(project.id)} >= {"model", "run_table"}


def a_log_that_was_sent_four_times_is_there_once(client: Labkeep, _server: LiveServer) -> None:
    """s07."""
    (run,) = client.runs.list(newest(client, "s07-").id)
    assert [row["x"] for row in client.runs.history(run.id)] == list(range(50))
    (series,) = [each for each in client.runs.metrics(run.id) if each.key == "x"]
    assert (series.count, series.last) == (50, 49)


WANDB = {
    "wandb-s07_offline_sync": a_log_that_was_sent_four_times_is_there_once,
    "wandb-s40_media": media_are_files_of_the_run_and_never_run_here,
    "wandb-s42_artifact_life": several_writers_made_one_version,
    "wandb-s44_public_api": sweeps_are_documents_and_their_runs_say_so,
    "wandb-s45_surfaces": variables_modes_and_code_end_up_in_the_run,
    "wandb-s47_integrations": what_lightgbm_logged_is_a_series,
    "wandb-s48_registry": a_link_is_a_version_of_its_own_that_goes_and_comes_with_its_source,
}
