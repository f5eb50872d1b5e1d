"""Projects, experiments and datasets on Braintrust's wire, and the same objects through our own operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateProject, CreateRun, Get, ItemVerb, ListRuns, SetLock
from labkeep.core.entities import Run
from labkeep.core.lifecycle import State, Status
from labkeep.dialects.braintrust import DIALECT
from labkeep.operations import Store, deletions, projects, runs
from labkeep.testing.factories import FixedClock

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


@pytest.fixture
def project(api: TestClient) -> str:
    return str(make(api, "project", name="p")["id"])


def make(api: TestClient, word: str, **fields: Any) -> dict[str, Any]:
    response = api.post(f"/v1/{word}", json=fields)
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def listed(api: TestClient, word: str, **query: Any) -> list[str]:
    response = api.get(f"/v1/{word}", params=query)
    assert response.status_code == 200, response.text
    return [found["id"] for found in response.json()["objects"]]


# --- creating ---------------------------------------------------------------------------------------------------------


def test_a_project_of_a_known_name_is_answered_unchanged_and_says_so(api: TestClient) -> None:
    first = api.post("/v1/project", json={"name": "p", "description": "d"})
    again = api.post("/v1/project", json={"name": "p", "description": "other"})
    assert "x-bt-found-existing" not in first.headers
    assert again.headers["x-bt-found-existing"] == "true"
    assert again.json() == first.json()
    assert first.json()["description"] == "d"


def test_an_experiment_of_a_known_name_is_answered_unchanged(api: TestClient, project: str) -> None:
    first = make(api, "experiment", project_id=project, name="e", metadata={"a": 1})
    assert make(api, "experiment", project_id=project, name="e", metadata={"a": 2}) == first


def test_a_new_experiment_of_a_known_name_gets_eight_more_characters(api: TestClient, project: str) -> None:
    make(api, "experiment", project_id=project, name="e")
    fresh = make(api, "experiment", project_id=project, name="e", ensure_new=True)
    stem, _, suffix = fresh["name"].rpartition("-")
    assert stem == "e"
    assert len(bytes.fromhex(suffix)) == 4


def test_an_experiment_without_a_name_is_called_after_its_branch_and_the_time(api: TestClient, project: str) -> None:
    made = make(api, "experiment", project_id=project, repo_info={"branch": "main", "commit": "c0ffee"})
    assert made["name"].startswith("main-1772")
    assert made["commit"] == "c0ffee"
    unnamed = [make(api, "experiment", project_id=project)["name"] for _ in range(2)]
    assert len(set(unnamed)) == 2


def test_fields_that_we_do_not_know_are_kept_and_returned(api: TestClient, project: str) -> None:
    fields = {"repo_info": {"commit": "c", "dirty": True}, "dataset_version": "5", "public": True, "from_tomorrow": [1]}
    made = make(api, "experiment", project_id=project, name="e", **fields)
    read = api.get(f"/v1/experiment/{made['id']}").json()
    assert read == made
    assert {name: read[name] for name in fields} == fields
    assert make(api, "project", name="q", project_group_name="g")["project_group_name"] == "g"


def test_what_a_client_read_may_be_sent_back(api: TestClient, project: str) -> None:
    made = make(api, "experiment", project_id=project, name="e", metadata={"a": 1}, tags=["t"])
    patched = api.patch(f"/v1/experiment/{made['id']}", json=made)
    assert patched.status_code == 200
    assert patched.json() == made


def test_the_ancestors_of_a_commit_are_not_kept(api: TestClient, project: str) -> None:
    assert "ancestor_commits" not in make(api, "experiment", project_id=project, ancestor_commits=["a", "b"])


def test_a_dataset_of_a_known_name_is_answered_unchanged_and_says_so(api: TestClient, project: str) -> None:
    asked = {"project_id": project, "name": "My Data!", "metadata": {"k": 1}, "tags": ["t"]}
    first, again = api.post("/v1/dataset", json=asked), api.post("/v1/dataset", json={**asked, "metadata": {}})
    assert again.json() == first.json()
    assert again.headers["x-bt-found-existing"] == "true"
    assert first.json()["url_slug"] == "my-data"


# --- listing ----------------------------------------------------------------------------------------------------------


def test_lists_are_newest_first_and_page_both_ways(api: TestClient, project: str) -> None:
    made = [make(api, "experiment", project_id=project, name=f"e{n}")["id"] for n in range(5)][::-1]
    assert listed(api, "experiment", project_id=project) == made
    assert listed(api, "experiment", project_id=project, limit=2, starting_after=made[1]) == made[2:4]
    assert listed(api, "experiment", project_id=project, limit=2, ending_before=made[4]) == made[2:4]
    assert listed(api, "experiment", project_id=project, starting_after=made[4]) == []


def test_projects_page_both_ways_too(api: TestClient) -> None:
    made = [make(api, "project", name=f"p{n}")["id"] for n in range(4)][::-1]
    assert listed(api, "project", limit=2, starting_after=made[0]) == made[1:3]
    assert listed(api, "project", limit=1, ending_before=made[2]) == made[1:2]
    assert listed(api, "project", project_name="p1") == [made[2]]


def test_ids_come_separated_by_commas_or_one_by_one(api: TestClient, project: str) -> None:
    a, b, _ = (make(api, "experiment", project_id=project, name=name)["id"] for name in "abc")
    assert set(listed(api, "experiment", ids=f"{a},{b}")) == {a, b}
    assert set(listed(api, "experiment", ids=[a, b])) == {a, b}
    assert listed(api, "experiment", id=a) == [a]


@pytest.mark.parametrize("query", [{"project_name": "nowhere"}, {"project_id": UNKNOWN}, {"experiment_name": "none"}])
def test_a_list_that_matches_nothing_is_empty(api: TestClient, project: str, query: dict[str, str]) -> None:
    make(api, "experiment", project_id=project, name="e")
    assert listed(api, "experiment", **query) == []


def test_a_limit_of_zero_answers_nothing(api: TestClient, project: str) -> None:
    assert listed(api, "project", limit=0) == []


# --- editing ----------------------------------------------------------------------------------------------------------


def test_a_patch_merges_objects_replaces_lists_and_leaves_what_is_null(api: TestClient, project: str) -> None:
    metadata = {"a": 1, "deep": {"x": 1, "y": [1]}}
    made = make(api, "experiment", project_id=project, name="e", description="d", metadata=metadata, tags=["a"])
    patch = {"name": None, "description": None, "metadata": {"a": None, "deep": {"y": [2], "z": None}}, "tags": ["b"]}
    patched = api.patch(f"/v1/experiment/{made['id']}", json=patch).json()
    assert patched == {**made, "metadata": {"a": 1, "deep": {"x": 1, "y": [2]}}, "tags": ["b"]}


def test_a_rename_moves_the_name_and_frees_the_old_one(api: TestClient, project: str) -> None:
    made = make(api, "experiment", project_id=project, name="old")
    api.patch(f"/v1/experiment/{made['id']}", json={"name": "new"})
    assert make(api, "experiment", project_id=project, name="new")["id"] == made["id"]
    assert make(api, "experiment", project_id=project, name="old")["id"] != made["id"]


def test_a_rename_onto_a_taken_name_is_refused_with_400(api: TestClient, project: str) -> None:
    make(api, "experiment", project_id=project, name="taken")
    made = make(api, "experiment", project_id=project, name="e")
    assert api.patch(f"/v1/experiment/{made['id']}", json={"name": "taken"}).status_code == 400


def test_an_id_of_another_kind_is_not_found(api: TestClient, project: str) -> None:
    dataset = make(api, "dataset", project_id=project, name="d")["id"]
    prompt = make(api, "prompt", project_id=project, name="n", slug="s")["id"]
    assert api.get(f"/v1/experiment/{dataset}").status_code == 403
    assert api.delete(f"/v1/experiment/{dataset}").status_code == 400
    assert api.get(f"/v1/dataset/{prompt}").status_code == 403
    assert api.patch(f"/v1/dataset/{prompt}", json={"name": "x"}).status_code == 400
    assert api.delete(f"/v1/dataset/{prompt}").status_code == 400
    assert api.get(f"/v1/prompt/{prompt}").json()["name"] == "n"


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_deleted_experiment_is_answered_once_and_then_missing_everywhere(api: TestClient, project: str) -> None:
    made = make(api, "experiment", project_id=project, name="e")
    path = f"/v1/experiment/{made['id']}"
    deleted = api.delete(path)
    assert deleted.status_code == 200
    assert deleted.json() == {**made, "deleted_at": "2026-03-01T12:00:00Z"}
    gone = api.get(path)
    assert gone.status_code == 403
    assert gone.json()["Code"] == "ForbiddenError"
    assert gone.json()["Message"].startswith(f"Missing read access to experiment id {made['id']}, or the experiment ")
    again = api.delete(path)
    assert (again.status_code, again.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert again.text.startswith(f"Missing delete access to experiment id {made['id']}, or the experiment does not ")
    assert listed(api, "experiment", project_id=project) == []
    assert listed(api, "experiment", ids=made["id"]) == []


@pytest.mark.parametrize(
    ("method", "rest", "status"),
    [
        ("PATCH", "", 400),
        ("POST", "/insert", 400),
        ("POST", "/feedback", 400),
        ("POST", "/fetch", 403),
        ("GET", "/fetch", 403),
        ("GET", "/summarize", 403),
    ],
)
def test_nothing_can_be_done_with_a_deleted_experiment(
    api: TestClient, project: str, method: str, rest: str, status: int
) -> None:
    made = make(api, "experiment", project_id=project, name="e")
    api.delete(f"/v1/experiment/{made['id']}")
    body = {"events": [{"input": 1}], "feedback": [{"id": "x"}]}
    response = api.request(method, f"/v1/experiment/{made['id']}{rest}", json=None if method == "GET" else body)
    assert response.status_code == status
    assert made["id"] in response.text


def test_the_name_of_a_deleted_experiment_is_free(api: TestClient, project: str) -> None:
    first = make(api, "experiment", project_id=project, name="e")
    api.delete(f"/v1/experiment/{first['id']}")
    assert make(api, "experiment", project_id=project, name="e")["id"] != first["id"]


def test_deleting_a_project_hides_what_is_in_it(api: TestClient, project: str) -> None:
    experiment = make(api, "experiment", project_id=project, name="e")["id"]
    dataset = make(api, "dataset", project_id=project, name="d")["id"]
    assert api.delete(f"/v1/project/{project}").json()["deleted_at"]
    assert api.get(f"/v1/experiment/{experiment}").status_code == 403
    assert api.get(f"/v1/dataset/{dataset}").status_code == 403
    assert make(api, "project", name="p")["id"] != project
    assert api.post("/v1/experiment", json={"project_id": project, "name": "x"}).status_code == 400


def test_a_base_experiment_can_be_deleted(api: TestClient, project: str) -> None:
    base = make(api, "experiment", project_id=project, name="base")["id"]
    made = make(api, "experiment", project_id=project, name="e", base_exp_id=base)
    assert made["base_exp_id"] == base
    assert api.delete(f"/v1/experiment/{base}").status_code == 200


def test_the_published_command_line_deletes_an_experiment(
    client_of: Callable[..., TestClient], project: str, api: TestClient, new_key: Callable[..., str]
) -> None:
    """``curl --request DELETE --url …/v1/experiment/{experiment_id} --header 'Authorization: Bearer <token>'``"""
    made = make(api, "experiment", project_id=project, name="e")
    bare = client_of(DIALECT, key=new_key("editor"))
    bare.headers = {"authorization": bare.headers["authorization"], "accept": "*/*", "user-agent": "curl/8.5.0"}  # type: ignore[assignment]
    answered = bare.delete(f"/v1/experiment/{made['id']}").json()
    documented = "id project_id name description created repo_info commit base_exp_id deleted_at dataset_id "
    documented += "dataset_version public user_id metadata tags"
    assert set(documented.split()) <= answered.keys()


# --- the same objects elsewhere ---------------------------------------------------------------------------------------


def test_a_run_of_another_api_is_an_experiment_with_its_config_as_metadata(
    api: TestClient, store: Store, admin: Actor
) -> None:
    command = CreateRun(project="p", name="train", config={"lr": 0.1}, metadata={"note": "x"}, tags=("a",))
    run: Run = store.database.write(runs.create, admin, command)
    found = api.get(f"/v1/experiment/{run.id}").json()
    assert (found["name"], found["metadata"], found["tags"]) == ("train", {"lr": 0.1, "note": "x"}, ["a"])
    assert listed(api, "experiment", project_name="p") == [run.id]


def test_a_running_run_of_another_api_can_be_deleted_here(api: TestClient, store: Store, admin: Actor) -> None:
    run: Run = store.database.write(runs.create, admin, CreateRun(project="p", status=Status.running))
    assert api.delete(f"/v1/experiment/{run.id}").status_code == 200
    assert store.database.read(runs.get, admin, Get(id=run.id, include="trashed")).state == State.trashed


def test_an_experiment_that_is_restored_natively_is_back_here(
    api: TestClient, project: str, store: Store, admin: Actor
) -> None:
    made = make(api, "experiment", project_id=project, name="e")
    api.delete(f"/v1/experiment/{made['id']}")
    store.database.write(deletions.restore_item, admin, ItemVerb(id=made["id"]))
    assert api.get(f"/v1/experiment/{made['id']}").json() == made


def test_an_experiment_is_a_finished_run_natively(api: TestClient, project: str, store: Store, admin: Actor) -> None:
    made = make(api, "experiment", project_id=project, name="e", metadata={"m": 1}, description="d")
    [run] = store.database.read(runs.list_, admin, ListRuns(project="p")).items
    assert (run.id, run.name, run.handle, run.status, run.dialect) == (made["id"], "e", "e", "finished", "braintrust")
    assert (run.metadata, run.description, run.config) == ({"m": 1}, "d", {})


def test_what_another_api_keeps_for_itself_is_not_shown_here(api: TestClient, store: Store, admin: Actor) -> None:
    command = CreateRun(project="p", extra={"elsewhere": {"secret": 1}, "public": True})
    run: Run = store.database.write(runs.create, admin, command)
    shown = api.get(f"/v1/experiment/{run.id}").json()
    assert "elsewhere" not in shown
    assert shown["public"] is False


def test_a_locked_experiment_is_not_deleted(api: TestClient, project: str, store: Store, admin: Actor) -> None:
    made = make(api, "experiment", project_id=project, name="e")
    store.database.write(deletions.set_lock, admin, SetLock(id=made["id"], locked=True))
    refused = api.delete(f"/v1/experiment/{made['id']}")
    assert refused.status_code == 400
    assert "lock" in refused.text


def test_an_archived_experiment_can_be_read_but_not_written(
    api: TestClient, project: str, store: Store, admin: Actor
) -> None:
    made = make(api, "experiment", project_id=project, name="e")
    store.database.write(deletions.archive_item, admin, ItemVerb(id=made["id"]))
    assert api.get(f"/v1/experiment/{made['id']}").status_code == 200
    assert listed(api, "experiment", project_id=project) == []
    refused = api.post(f"/v1/experiment/{made['id']}/insert", json={"events": [{"input": 1}]})
    assert refused.status_code == 400
    assert "unarchive" in refused.text


def test_a_project_made_natively_is_found_by_name(api: TestClient, store: Store, admin: Actor) -> None:
    made = store.database.write(projects.create, admin, CreateProject(name="native"))
    assert make(api, "project", name="native")["id"] == made.id


def test_the_log_of_a_project_is_no_experiment(
    api: TestClient, project: str, store: Store, admin: Actor, clock: FixedClock
) -> None:
    api.post(f"/v1/project_logs/{project}/insert", json={"events": [{"input": 1}]})
    [log] = store.database.read(runs.list_, admin, ListRuns(project="p", type="logs")).items
    assert listed(api, "experiment", project_id=project) == []
    assert api.get(f"/v1/experiment/{log.id}").status_code == 403
    assert api.patch(f"/v1/experiment/{log.id}", json={"name": "x"}).status_code == 400
    assert api.delete(f"/v1/experiment/{log.id}").status_code == 400
    assert api.post(f"/v1/experiment/{log.id}/insert", json={"events": [{}]}).status_code == 400
    assert api.get(f"/v1/experiment/{log.id}/summarize").status_code == 403
