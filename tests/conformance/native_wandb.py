"""What the W&B client did, seen through our own API: the second half of its scenarios."""

from __future__ import annotations

import hashlib
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


WANDB = {
    "wandb-s40_media": media_are_files_of_the_run_and_never_run_here,
}
