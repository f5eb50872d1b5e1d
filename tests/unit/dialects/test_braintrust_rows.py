"""Events on Braintrust's wire: inserting, merging, feedback, fetching page by page and at a version."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateRun, ReadRows, RowIn, WriteRows
from labkeep.core.entities import Run
from labkeep.dialects.braintrust import DIALECT
from labkeep.operations import Store, rows, runs
from labkeep.testing.factories import FixedClock

MERGE = {"_is_merge": True}


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


@pytest.fixture
def project(api: TestClient) -> str:
    return str(api.post("/v1/project", json={"name": "p"}).json()["id"])


@pytest.fixture
def experiment(api: TestClient, project: str) -> str:
    return str(api.post("/v1/experiment", json={"project_id": project, "name": "e"}).json()["id"])


@pytest.fixture
def dataset(api: TestClient, project: str) -> str:
    return str(api.post("/v1/dataset", json={"project_id": project, "name": "d"}).json()["id"])


def insert(api: TestClient, experiment: str, *events: dict[str, Any], word: str = "experiment") -> list[str]:
    response = api.post(f"/v1/{word}/{experiment}/insert", json={"events": events})
    assert response.status_code == 200, response.text
    ids: list[str] = response.json()["row_ids"]
    return ids


def fetch(api: TestClient, experiment: str, word: str = "experiment", **body: Any) -> list[dict[str, Any]]:
    response = api.post(f"/v1/{word}/{experiment}/fetch", json=body)
    assert response.status_code == 200, response.text
    events: list[dict[str, Any]] = response.json()["events"]
    return events


def row(api: TestClient, experiment: str, id: str, word: str = "experiment") -> dict[str, Any]:
    return next(event for event in fetch(api, experiment, word) if event["id"] == id)


def log(api: TestClient, *events: dict[str, Any]) -> dict[str, Any]:
    response = api.post("/logs3", content=json.dumps({"rows": events, "api_version": 2}))
    assert response.status_code == 200, response.text
    answered: dict[str, Any] = response.json()
    return answered


# --- inserting --------------------------------------------------------------------------------------------------------


def test_a_row_without_spans_is_a_trace_of_its_own(api: TestClient, experiment: str, project: str) -> None:
    insert(api, experiment, {"id": "a", "input": 1, "scores": {"s": 0.5}})
    event = row(api, experiment, "a")
    assert event["span_id"] == event["root_span_id"]
    assert event["is_root"] is True
    assert (event["experiment_id"], event["project_id"]) == (experiment, project)
    assert event["created"] == "2026-03-01T12:00:00Z"
    assert (event["output"], event["tags"], event["span_parents"]) == (None, None, None)


def test_the_server_makes_ids_that_are_missing(api: TestClient, experiment: str) -> None:
    made = insert(api, experiment, {"input": 1}, {"id": "b"}, {"input": 2})
    assert made[1] == "b"
    assert {event["id"] for event in fetch(api, experiment)} == set(made)
    assert len(set(made)) == 3


def test_a_number_as_id_becomes_text(api: TestClient, experiment: str) -> None:
    assert insert(api, experiment, {"id": 5}) == ["5"]


def test_ids_of_spans_are_returned_as_they_came(api: TestClient, experiment: str) -> None:
    span = {"id": "r", "span_id": "ab12", "root_span_id": "cd34", "span_parents": None, "created": "2026-01-01T00:00Z"}
    insert(api, experiment, span)
    event = row(api, experiment, "r")
    assert {name: event[name] for name in span} == span
    assert event["is_root"] is True


def test_a_child_that_names_only_its_parent_joins_its_trace(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "parent"}, {"id": "child", "_parent_id": "parent"}, {"id": "alone"})
    child = row(api, experiment, "child")
    assert (child["root_span_id"], child["is_root"], "_parent_id" in child) == ("parent", False, False)
    assert [event["id"] for event in fetch(api, experiment, limit=1)] == ["alone"]


def test_what_directs_a_write_is_not_stored(api: TestClient, experiment: str, store: Store, admin: Actor) -> None:
    control = {"_is_merge": True, "_merge_paths": [["input"]], "_audit_source": "app", "_xact_id": "5"}
    log(api, {"id": "a", "experiment_id": experiment, "input": 1, **control})
    [stored] = store.database.read(rows.read, admin, ReadRows(id=experiment)).items
    assert stored.data == {"input": 1}


def test_an_unknown_field_of_an_event_is_kept(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a", "facets": {"f": 1}})
    assert row(api, experiment, "a")["facets"] == {"f": 1}


# --- merging ----------------------------------------------------------------------------------------------------------


def test_a_row_that_is_sent_again_is_replaced(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a", "input": {"x": 1}, "output": 2})
    insert(api, experiment, {"id": "a", "input": {"y": 1}})
    event = row(api, experiment, "a")
    assert (event["input"], event["output"]) == ({"y": 1}, None)


def test_a_merge_goes_deep_and_keeps_what_places_the_row(api: TestClient, experiment: str) -> None:
    first = {"id": "a", "input": {"x": 1}, "created": "2026-01-01T00:00:00Z", "span_id": "s", "root_span_id": "s"}
    insert(api, experiment, first)
    insert(
        api, experiment, {"id": "a", "input": {"y": 2}, "created": "x", "span_id": "z", "root_span_id": "z", **MERGE}
    )
    event = row(api, experiment, "a")
    assert event["input"] == {"x": 1, "y": 2}
    assert {name: event[name] for name in ("created", "span_id", "root_span_id")} == {
        name: first[name] for name in ("created", "span_id", "root_span_id")
    }


def test_tags_unite_unless_a_path_replaces_them(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a", "tags": ["x"]})
    insert(api, experiment, {"id": "a", "tags": ["y", "x"], **MERGE})
    assert row(api, experiment, "a")["tags"] == ["x", "y"]
    insert(api, experiment, {"id": "a", "tags": ["z"], "_merge_paths": [["tags"]], **MERGE})
    assert row(api, experiment, "a")["tags"] == ["z"]


def test_below_a_merge_path_the_new_value_replaces(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a", "input": {"p": {"x": 1}, "q": {"x": 1}}})
    insert(
        api, experiment, {"id": "a", "input": {"p": {"y": 1}, "q": {"y": 1}}, "_merge_paths": [["input", "p"]], **MERGE}
    )
    assert row(api, experiment, "a")["input"] == {"p": {"y": 1}, "q": {"x": 1, "y": 1}}


def test_values_are_taken_out_of_arrays(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a", "tags": ["x", "y"], "metadata": {"c": [1, {"k": 2}]}})
    removals = [{"path": ["tags"], "delete": ["x"]}, {"path": ["metadata", "c"], "delete": [{"k": 2}]}]
    insert(api, experiment, {"id": "a", "_array_delete": removals, **MERGE})
    event = row(api, experiment, "a")
    assert (event["tags"], event["metadata"]) == (["y"], {"c": [1]})


def test_a_deleted_row_is_gone_and_can_come_back(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a", "input": 1})
    insert(api, experiment, {"id": "a", "_object_delete": True})
    assert fetch(api, experiment) == []
    insert(api, experiment, {"id": "a", "output": 2, **MERGE})
    assert (row(api, experiment, "a")["input"], row(api, experiment, "a")["output"]) == (None, 2)


def test_a_batch_that_is_sent_again_changes_nothing(api: TestClient, experiment: str) -> None:
    batch = [
        {"id": "a", "experiment_id": experiment, "input": 1, "tags": ["t"]},
        {"id": "b", "experiment_id": experiment},
    ]
    first = log(api, *batch)
    before = fetch(api, experiment)
    assert log(api, *batch) == first
    assert fetch(api, experiment) == before


# --- feedback ---------------------------------------------------------------------------------------------------------


def test_feedback_merges_and_its_metadata_is_not_the_rows(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a", "scores": {"s": 1}, "metadata": {"m": 1}, "tags": ["x"]})
    item = {
        "id": "a",
        "scores": {"human": 0.5},
        "expected": "E",
        "tags": ["y"],
        "comment": "hm",
        "metadata": {"user": "u"},
    }
    answered = api.post(f"/v1/experiment/{experiment}/feedback", json={"feedback": [item]})
    assert answered.json() == {"status": "success"}
    event = row(api, experiment, "a")
    assert (event["scores"], event["expected"], event["tags"]) == ({"s": 1, "human": 0.5}, "E", ["x", "y"])
    assert event["metadata"] == {"m": 1}
    assert event["comments"] == [{"comment": {"text": "hm"}, "source": "external", "metadata": {"user": "u"}}]
    assert event["audit_data"] == [{"source": "external", "metadata": {"user": "u"}}]


def test_a_comment_is_no_event_and_stays_when_the_row_is_replaced(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a", "input": 1})
    comment = {"id": "c", "experiment_id": experiment, "origin": {"id": "a"}, "comment": {"text": "hi"}, "created": "t"}
    log(api, comment)
    log(api, comment)
    insert(api, experiment, {"id": "a", "input": 2})
    [event] = fetch(api, experiment)
    assert event["input"] == 2
    assert event["comments"] == [
        {"id": "c", "created": "t", "comment": {"text": "hi"}, "source": None, "metadata": None}
    ]


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_pages_hold_whole_traces_newest_first_and_end_with_an_empty_one(
    api: TestClient, experiment: str, clock: FixedClock
) -> None:
    for trace in "abcde":
        clock.advance(seconds=1)
        spans = [{"id": f"{trace}{n}", "span_id": f"{trace}{n}", "root_span_id": f"{trace}0"} for n in range(3)]
        insert(api, experiment, *spans)
    seen: list[list[str]] = []
    cursor: str | None = None
    while True:
        body = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        response = api.post(f"/v1/experiment/{experiment}/fetch", json=body)
        answered = response.json()
        seen.append([event["id"] for event in answered["events"]])
        cursor = answered.get("cursor")
        assert response.headers.get("x-bt-cursor") == cursor
        if not cursor:
            break
    assert [sorted({id[0] for id in page}) for page in seen] == [["d", "e"], ["b", "c"], ["a"], []]
    assert sum(len(page) for page in seen) == 15


def test_the_query_form_answers_like_the_body_form(api: TestClient, experiment: str) -> None:
    insert(api, experiment, *({"id": f"r{n}"} for n in range(5)))
    by_query = api.get(f"/v1/experiment/{experiment}/fetch", params={"limit": 2}).json()
    assert by_query == api.post(f"/v1/experiment/{experiment}/fetch", json={"limit": 2}).json()
    following = api.get(f"/v1/experiment/{experiment}/fetch", params={"limit": 2, "cursor": by_query["cursor"]}).json()
    assert [event["id"] for event in following["events"]] == ["r2", "r1"]


def test_the_older_way_of_paging_goes_on_below_the_last_trace(api: TestClient, experiment: str) -> None:
    insert(api, experiment, *({"id": f"r{n}"} for n in range(5)))
    last = fetch(api, experiment, limit=2)[-1]
    older = {"max_xact_id": last["_xact_id"], "max_root_span_id": last["root_span_id"]}
    assert [event["id"] for event in fetch(api, experiment, limit=2, **older)] == ["r2", "r1"]


def test_a_version_shows_the_rows_as_they_were(api: TestClient, dataset: str, clock: FixedClock) -> None:
    insert(api, dataset, {"id": "a", "input": 1}, {"id": "b", "input": 1}, word="dataset")
    version = max(event["_xact_id"] for event in fetch(api, dataset, "dataset"))
    clock.advance(seconds=5)
    insert(api, dataset, {"id": "a", "input": 2}, {"id": "b", "_object_delete": True}, {"id": "c"}, word="dataset")
    then = {event["id"]: event["input"] for event in fetch(api, dataset, "dataset", version=version)}
    assert then == {"a": 1, "b": 1}
    assert {event["id"] for event in fetch(api, dataset, "dataset")} == {"a", "c"}
    assert fetch(api, dataset, "dataset", version="0") == []
    assert len(fetch(api, dataset, "dataset", version=int(version))) == 2


def test_transaction_ids_have_nineteen_digits_and_rise(api: TestClient, experiment: str) -> None:
    insert(api, experiment, {"id": "a"})
    first = row(api, experiment, "a")["_xact_id"]
    insert(api, experiment, {"id": "a", "input": 1, **MERGE})
    second = row(api, experiment, "a")["_xact_id"]
    assert len(first) == len(second) == 19
    assert first < second
    # The second it was made in can be read from it, as from the vendor's.
    assert (int(first) >> 16) & 0xFFFFFFFF == 1772366400


def test_a_dataset_record_has_the_fields_of_a_record(api: TestClient, dataset: str, project: str) -> None:
    insert(api, dataset, {"id": "a", "input": 1, "expected": 2, "metadata": {"k": 1}}, word="dataset")
    record = row(api, dataset, "a", "dataset")
    assert (record["dataset_id"], record["project_id"], record["expected"]) == (dataset, project, 2)
    assert "scores" not in record
    assert api.get(f"/v1/dataset/{dataset}/summarize?summarize_data=true").json()["data_summary"] == {
        "total_records": 1
    }


# --- logs -------------------------------------------------------------------------------------------------------------


def test_one_batch_may_reach_several_objects(api: TestClient, experiment: str, dataset: str, project: str) -> None:
    batch = [
        {"id": "1", "experiment_id": experiment},
        {"id": "2", "dataset_id": dataset},
        {"id": "3", "project_id": project, "log_id": "g"},
        {"experiment_id": experiment},
    ]
    answered = log(api, *batch)
    assert answered["ids"][:3] == ["1", "2", "3"]
    assert {event["id"] for event in fetch(api, experiment)} == {"1", answered["ids"][3]}
    assert [event["id"] for event in fetch(api, dataset, "dataset")] == ["2"]
    [logged] = fetch(api, project, "project_logs")
    assert (logged["id"], logged["log_id"], logged["project_id"]) == ("3", "g", project)
    assert len(answered["xact_id"]) == 19


def test_a_batch_with_one_bad_row_stores_nothing(api: TestClient, experiment: str, dataset: str) -> None:
    api.delete(f"/v1/dataset/{dataset}")
    batch = {"rows": [{"id": "1", "experiment_id": experiment}, {"id": "2", "dataset_id": dataset}]}
    assert api.post("/logs3", json=batch).status_code == 400
    assert fetch(api, experiment) == []


def test_a_log_that_has_no_rows_is_an_empty_page(api: TestClient, project: str) -> None:
    assert fetch(api, project, "project_logs") == []


def test_the_log_of_a_project_is_one_run_natively(api: TestClient, project: str, store: Store, admin: Actor) -> None:
    insert(api, project, {"id": "a"}, word="project_logs")
    insert(api, project, {"id": "b"}, word="project_logs")
    [run] = store.database.read(runs.list_, admin, runs.ListRuns(project="p", type="logs")).items
    assert (run.name, run.dialect, run.status) == ("logs", "braintrust", "finished")
    assert len(store.database.read(rows.read, admin, ReadRows(id=run.id)).items) == 2


def test_a_body_needs_no_content_type_and_may_be_compressed(api: TestClient, experiment: str) -> None:
    body = gzip.compress(json.dumps({"rows": [{"id": "z", "experiment_id": experiment}]}).encode())
    answered = api.post("/logs3", content=body, headers={"content-encoding": "gzip", "content-type": "text/plain"})
    assert answered.json()["ids"] == ["z"]


@pytest.mark.parametrize(
    ("text", "stored"),
    [("NaN", None), ("-Infinity", None), ("1e999", None), (r'"a\ud800b"', "a\ufffdb"), (r'"\ud83d\ude00"', "😀")],
)
def test_what_other_encoders_write_for_json_is_mended_not_lost(
    api: TestClient, experiment: str, text: str, stored: Any
) -> None:
    body = json.dumps({"rows": [{"id": "a", "experiment_id": experiment, "input": {"x": "VALUE"}}]})
    body = body.replace('"VALUE"', text)
    assert api.post("/logs3", content=body).status_code == 200
    assert row(api, experiment, "a")["input"] == {"x": stored}


def test_rows_of_a_native_run_are_events(api: TestClient, store: Store, admin: Actor) -> None:
    run: Run = store.database.write(runs.create, admin, CreateRun(project="p"))
    data = {"input": {"q": 1}, "scores": {"acc": 1}, "own": True}
    store.database.write(rows.write, admin, WriteRows(id=run.id, rows=[RowIn(id="n", data=data)]))
    [event] = fetch(api, run.id)
    assert event["id"] == event["span_id"] == "n"
    assert (event["input"], event["scores"], event["own"]) == ({"q": 1}, {"acc": 1}, True)


# --- across objects ---------------------------------------------------------------------------------------------------


def test_one_request_may_insert_and_judge_in_several_objects(api: TestClient, experiment: str, dataset: str) -> None:
    body = {
        "experiment": {
            experiment: {"events": [{"id": "a"}, {"id": "b"}], "feedback": [{"id": "a", "scores": {"s": 1}}]}
        },
        "dataset": {dataset: {"events": [{"id": "d"}]}},
    }
    answered = api.post("/v1/insert", json=body).json()
    assert answered == {
        "experiment": {experiment: {"row_ids": ["a", "b"]}},
        "dataset": {dataset: {"row_ids": ["d"]}},
    }
    assert row(api, experiment, "a")["scores"] == {"s": 1}


def test_rows_of_one_object_share_a_transaction_whatever_else_they_name(
    api: TestClient, experiment: str, project: str
) -> None:
    log(api, {"id": "1", "experiment_id": experiment}, {"id": "2", "experiment_id": experiment, "project_id": project})
    assert len({event["_xact_id"] for event in fetch(api, experiment)}) == 1
