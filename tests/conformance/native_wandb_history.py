"""What the W&B scenarios of long, forked and rewound histories left behind, seen through our own API."""

from __future__ import annotations

import json
from collections.abc import Callable

from labkeep import Labkeep
from labkeep.core.entities import Run
from tests.conformance.server import LiveServer

Check = Callable[[Labkeep, LiveServer], None]


def _runs(client: Labkeep, prefix: str) -> dict[str, Run]:
    """Runs of the newest project whose name begins so, archived ones too, by the first word of their handles."""
    project = next(project for project in client.projects.list() if project.name.startswith(prefix))
    found = [run for state in ("active", "archived") for run in client.runs.list(project.id, state=state)]
    return {"kept" if "rewind" in str(run.handle) else str(run.handle).partition("-")[0]: run for run in found}


def _losses(client: Labkeep, run: Run) -> list[float]:
    return [row["loss"] for row in client.runs.history(run.id)]


def a_fork_has_its_beginning_and_a_rewind_keeps_what_it_took(client: Labkeep, server: LiveServer) -> None:
    """W&B s50."""
    runs = _runs(client, "s50-")
    beginning = [1 / (step + 1) for step in range(20)]
    assert _losses(client, runs["kept"]) == [*beginning, 0.0]
    assert _losses(client, runs["base"]) == [*beginning[:5], -10, -11, -12]
    assert _losses(client, runs["fork"]) == [*beginning[:10], 100, 101, 102, 103, 104]
    assert _losses(client, runs["again"]) == [*_losses(client, runs["fork"]), -1]
    assert [runs[name].base_run_id for name in ("fork", "again", "base")] == [
        runs["base"].id,
        runs["fork"].id,
        runs["kept"].id,
    ]
    assert (runs["kept"].state, runs["base"].config) == ("archived", {"lr": 0.1})
    summaries = json.loads(server.get(f"/api/v1/runs/{runs['fork'].id}/series"))["items"]
    (loss,) = [each for each in summaries if each["key"] == "loss"]
    assert (loss["count"], loss["last"], loss["last_step"]) == (15, 104, 14)


def a_history_read_as_files_is_the_one_that_is_stored(client: Labkeep, _server: LiveServer) -> None:
    """W&B s41."""
    run = _runs(client, "s41-")["gaps"]
    rows = list(client.runs.history(run.id))
    assert [row["x"] for row in rows] == list(range(6_000))
    assert [row["rare"] for row in rows if "rare" in row] == list(range(0, 6_000, 100))


WANDB_HISTORY: dict[str, Check] = {
    "wandb-s41_parquet_history": a_history_read_as_files_is_the_one_that_is_stored,
    "wandb-s50_fork_rewind": a_fork_has_its_beginning_and_a_rewind_keeps_what_it_took,
}
