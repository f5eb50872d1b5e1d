"""What people do with ``client.experiments`` of a hosted experiments API, call by call, with only the import changed.

Each function makes the calls of one recipe for deleting experiments, in the order and with the arguments of that recipe;
the key and the ids are put in.
"""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labkeep import AsyncLabkeep as AsyncKeywordsAI
from labkeep import Labkeep as KeywordsAI
from labkeep import errors
from tests.unit.client.live_server import Live, serving

UNKNOWN = "exp_123"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(autouse=True)
def in_its_own_folder(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABKEEP_URL", live.url)


@pytest.fixture
def client(live: Live) -> Iterator[Any]:
    with KeywordsAI(api_key=live.key) as found:
        yield found


@pytest.fixture
def experiment_id(client: Any) -> str:
    """A draft with two variants."""
    made = client.experiments.create(
        name="Prompt A against B",
        description="Which prompt answers better",
        variants=[{"name": "control", "weight": 50}, {"name": "treatment", "weight": 50}],
        metadata={"team": "search"},
    )
    return str(made["id"])


def gone(client: Any, id: str) -> bool:
    """Whether it is out of sight, and can come back."""
    with pytest.raises(errors.Gone):
        client.experiments.get(id)
    return bool(client.experiments.get(id, include="trashed")["state"] == "trashed")


def test_basic_deletion(client: Any, experiment_id: str) -> None:
    result = client.experiments.delete(experiment_id)
    assert f"{result['experiment_id']}" == experiment_id
    deleted_at = datetime.fromisoformat(result["deleted_at"])
    assert abs(deleted_at - datetime.now()) < timedelta(minutes=1)
    assert gone(client, experiment_id)


def test_an_id_that_does_not_exist_is_not_found(client: Any) -> None:
    for call in (
        client.experiments.get,
        client.experiments.delete,
        client.experiments.start,
        client.experiments.stop,
        client.experiments.get_results,
        client.experiments.update,
    ):
        for id in (UNKNOWN, "00000000-0000-7000-8000-000000000000"):
            with pytest.raises(errors.NotFound, match="not found"):
                call(id)


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_deletion_with_a_confirmation(client: Any, experiment_id: str, answer: str) -> None:
    experiment = client.experiments.get(experiment_id)
    shown = f"{experiment['name']} {experiment['status']} {experiment['created_at']}"
    assert shown.startswith("Prompt A against B draft 20")
    if answer.lower() == "yes":
        client.experiments.delete(experiment_id)
        assert gone(client, experiment_id)
    else:
        assert client.experiments.get(experiment_id)["status"] == "draft"


def test_the_status_is_looked_at_first(client: Any, experiment_id: str) -> None:
    client.experiments.start(experiment_id)
    experiment = client.experiments.get(experiment_id)
    assert experiment["status"] == "running"
    with pytest.raises(errors.Conflict, match="running"):
        client.experiments.delete(experiment_id)
    client.experiments.stop(experiment_id)
    experiment = client.experiments.get(experiment_id)
    assert experiment["status"] == "stopped"
    client.experiments.start(experiment_id)
    assert client.experiments.complete(experiment_id)["status"] == "completed"
    client.experiments.delete(experiment_id)
    assert gone(client, experiment_id)


def test_asynchronous_deletion(live: Live, client: Any, experiment_id: str) -> None:
    async def delete_one(id: str) -> Any:
        client = AsyncKeywordsAI(api_key=live.key)
        try:
            return await client.experiments.delete(id)
        except Exception as e:
            return str(e)

    assert asyncio.run(delete_one(experiment_id))["experiment_id"] == experiment_id
    assert "not found" in asyncio.run(delete_one(UNKNOWN))
    assert gone(client, experiment_id)


def test_batch_deletion(client: Any, experiment_id: str) -> None:
    deleted, failed = [], []
    for id in [experiment_id, "exp_456", "exp_789"]:
        try:
            deleted.append(client.experiments.delete(id))
        except Exception as e:
            failed.append({"id": id, "error": str(e)})
    assert [result["experiment_id"] for result in deleted] == [experiment_id]
    assert [failure["id"] for failure in failed] == ["exp_456", "exp_789"]
    assert all("not found" in failure["error"] for failure in failed)


def test_conditional_deletion_by_age(client: Any, experiment_id: str) -> None:
    response = client.experiments.list(status="draft", limit=100)
    drafts = response["experiments"]
    assert experiment_id in [experiment["id"] for experiment in drafts]
    for age, expected in ((timedelta(days=30), False), (timedelta(seconds=-5), True)):
        cutoff_date = datetime.now() - age
        old = [
            experiment["id"]
            for experiment in drafts
            if datetime.fromisoformat(experiment["created_at"].replace("Z", "+00:00")) < cutoff_date  # noqa: FURB162 - as people write it
        ]
        assert (experiment_id in old) is expected
    client.experiments.delete(experiment_id)
    assert experiment_id not in [e["id"] for e in client.experiments.list(status="draft", limit=100)["experiments"]]


def test_backup_before_deletion(client: Any, experiment_id: str, tmp_path: Path) -> None:
    experiment = client.experiments.get(experiment_id)
    backup = tmp_path / f"backup_{experiment_id}.json"
    with backup.open("w", encoding="utf-8") as f:
        json.dump(experiment, f, indent=2, ensure_ascii=False)
    client.experiments.delete(experiment_id)
    assert json.loads(backup.read_text())["variants"][0] == {"name": "control", "weight": 50}


def test_asynchronous_batch_deletion(live: Live, client: Any, experiment_id: str) -> None:
    ids = [experiment_id, *(client.experiments.create(name=f"e{n}")["id"] for n in range(8)), UNKNOWN]

    async def delete_all(ids: list[str]) -> list[Any]:
        client = AsyncKeywordsAI(api_key=live.key)

        async def delete_single(id: str) -> Any:
            try:
                return await client.experiments.delete(id)
            except Exception:
                return None

        results = await asyncio.gather(*[delete_single(id) for id in ids])
        return [result for result in results if result is not None]

    deleted = asyncio.run(delete_all(ids))
    assert [result["experiment_id"] for result in deleted] == ids[:-1]
    assert all(gone(client, id) for id in ids[:-1])


def test_deletion_by_metadata(client: Any, experiment_id: str) -> None:
    client.experiments.update(experiment_id=experiment_id, metadata={"marked_for_deletion": True})
    kept = client.experiments.create(name="kept", metadata={"temporary": True})["id"]
    to_delete = []
    for experiment in client.experiments.list(limit=100)["experiments"]:
        metadata = experiment.get("metadata", {})
        if metadata.get("marked_for_deletion") or metadata.get("temporary"):
            to_delete.append(experiment)
    for experiment in to_delete:
        current = client.experiments.get(experiment["id"])
        if current.get("metadata", {}).get("marked_for_deletion"):
            client.experiments.delete(experiment["id"])
    assert gone(client, experiment_id)
    assert client.experiments.get(kept)["metadata"] == {"temporary": True}


def test_deletion_with_a_log_of_ones_own(client: Any, experiment_id: str, tmp_path: Path) -> None:
    experiment = client.experiments.get(experiment_id)
    result = client.experiments.delete(experiment_id, "Experiment completed and no longer needed")
    entry = {
        "timestamp": datetime.now().isoformat(),
        "experiment_id": experiment_id,
        "experiment_name": experiment["name"],
        "status_at_deletion": experiment["status"],
        "created_at": experiment["created_at"],
        "variants_count": len(experiment.get("variants", [])),
        "had_results": "current_results" in experiment,
    }
    with (tmp_path / "audit.csv").open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=entry.keys())
        writer.writeheader()
        writer.writerow(entry)
    assert (entry["variants_count"], entry["had_results"]) == (2, False)
    record = client.deletions.get(result["deletion_id"])
    assert record.reason == "Experiment completed and no longer needed"


def safe_delete(client: Any, id: str, force: bool = False) -> dict[str, Any]:
    try:
        experiment = client.experiments.get(id)
        if experiment["status"] == "running" and not force:
            return {"success": False, "error": "running"}
        if "current_results" in experiment and not force:
            total = experiment["current_results"].get("total_requests", 0)
            if total > 1000:
                return {"success": False, "error": f"Experiment has {total} requests. Use force=True to delete."}
        result = client.experiments.delete(id)
        return {"success": True, "result": result, "experiment_name": experiment["name"]}
    except Exception as e:
        return {"success": False, "error": str(e)}


def test_a_function_that_deletes_safely(client: Any, experiment_id: str) -> None:
    assert "not found" in safe_delete(client, UNKNOWN)["error"]
    client.experiments.start(experiment_id)
    assert safe_delete(client, experiment_id) == {"success": False, "error": "running"}
    assert "running" in safe_delete(client, experiment_id, force=True)["error"]
    client.experiments.stop(experiment_id)
    done = safe_delete(client, experiment_id)
    assert (done["success"], done["experiment_name"]) == (True, "Prompt A against B")


def why(client: Any, id: str) -> str:
    """Why a deletion failed, by what the error says."""
    try:
        client.experiments.delete(id)
    except Exception as e:
        error_msg = str(e).lower()
        return next(
            (word for word in ("not found", "permission", "running", "has active") if word in error_msg), str(e)
        )
    return "deleted"


def test_errors_are_told_apart_by_their_text(live: Live, client: Any, experiment_id: str) -> None:
    assert why(client, UNKNOWN) == "not found"
    client.experiments.start(experiment_id)
    assert why(client, experiment_id) == "running"
    client.experiments.stop(experiment_id)
    with KeywordsAI(api_key=live.key_of("viewer")) as reader:
        assert why(reader, experiment_id) == "permission"
    other = client.experiments.create(name="depends on it")["id"]
    client.links.create(other, experiment_id, "baseline")
    assert why(client, experiment_id) == "has active"
    client.experiments.delete(other)
    assert why(client, experiment_id) == "deleted"


def test_deleting_again_answers_the_same_deletion(client: Any, experiment_id: str) -> None:
    first = client.experiments.delete(experiment_id)
    assert client.experiments.delete(experiment_id) == first


def test_a_run_is_not_deleted_by_the_way(client: Any) -> None:
    run = client.runs.create("p", status="finished")
    with pytest.raises(errors.NotFound, match="not found"):
        client.experiments.delete(run.id)
    assert client.runs.get(run.id).state == "active"


@pytest.mark.parametrize(
    "metadata",
    [
        {"deleted": True, "deleted_at": datetime.now().isoformat(), "deleted_by": "user_123"},
        {"archived": True, "archived_at": datetime.now().isoformat(), "archive_reason": "results preserved"},
    ],
)
def test_metadata_in_place_of_deletion(client: Any, experiment_id: str, metadata: dict[str, Any]) -> None:
    experiment = client.experiments.update(experiment_id=experiment_id, metadata=metadata)
    assert experiment["metadata"] == {"team": "search", **metadata}


def test_a_deleted_experiment_comes_back(client: Any, experiment_id: str) -> None:
    before = client.experiments.get(experiment_id)
    client.experiments.delete(experiment_id)
    after = client.experiments.restore(experiment_id)
    assert {k: v for k, v in after.items() if k != "updated_at"} == {
        k: v for k, v in before.items() if k != "updated_at"
    }
