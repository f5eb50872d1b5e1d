"""What a process sends while it runs: nothing is doubled, nothing that can be kept is lost, and nothing is refused."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import ItemVerb, ReadHistory
from labkeep.core.entities import Run
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.lifecycle import Status
from labkeep.dialects.wandb import DIALECT
from labkeep.dialects.wandb.filestream import Piece, batches_of, console_row, decode, prepare, rows_of
from labkeep.operations import Store, deletions, history, run_searches, runs
from labkeep.operations.run_searches import FindRun
from labkeep.server import make_worker

ANNOUNCE = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted bucket { id name } } }"
HISTORY, EVENTS, OUTPUT, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "output.log", "wandb-summary.json"


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    client = client_of(DIALECT)
    announce(client)
    return client


def announce(client: TestClient, **more: Any) -> dict[str, Any]:
    variables = {"input": {"name": "r1", "modelName": "p", "host": "h", **more}}
    response = client.post("/graphql", json={"query": ANNOUNCE, "variables": variables})
    assert response.status_code == 200, response.text
    return dict(response.json()["data"]["upsertBucket"])


def post(client: TestClient, body: dict[str, Any], run: str = "r1") -> tuple[int, dict[str, Any]]:
    response = client.post(f"/files/default/p/{run}/file_stream", json=body)
    return response.status_code, response.json()


def piece(name: str, offset: int, *lines: Any) -> dict[str, Any]:
    content = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return {"files": {name: {"offset": offset, "content": content}}}


@pytest.fixture
def stored(store: Store, admin: Actor) -> Callable[[], Run]:
    return lambda: store.database.read(run_searches.find, admin, FindRun(project="p", handle="r1")).run


@pytest.fixture
def rows(store: Store, admin: Actor, stored: Callable[[], Run]) -> Callable[..., list[dict[str, Any]]]:
    def read(stream: str = "history") -> list[dict[str, Any]]:
        return list(history.read(store, admin, ReadHistory(id=stored().id, stream=stream)).table.rows())

    return read


Rows = Callable[..., list[dict[str, Any]]]


# --- through the server -----------------------------------------------------------------------------------------------


def test_history_is_appended_line_by_line(api: TestClient, rows: Rows) -> None:
    assert post(api, piece(HISTORY, 0, {"_step": 0, "_timestamp": 1.5, "loss": 0.5}, {"_step": 1, "loss": 0.25})) == (
        200,
        {},
    )
    assert rows() == [{"_step": 0, "_timestamp": 1.5, "loss": 0.5}, {"_step": 1, "loss": 0.25}]


def test_a_retry_doubles_nothing(api: TestClient, rows: Rows) -> None:
    for _ in range(3):
        post(api, piece(HISTORY, 0, {"_step": 0, "a": 1}, {"_step": 1, "a": 2}))
    post(api, piece(HISTORY, 1, {"_step": 1, "a": 2}, {"_step": 2, "a": 3}))
    assert [row["a"] for row in rows()] == [1, 2, 3]


def test_pieces_that_come_out_of_order_end_up_in_order(api: TestClient, rows: Rows) -> None:
    for start in (4, 2, 0, 2):
        sent = [{"_step": n, "a": n} for n in (start, start + 1)]
        assert post(api, piece(HISTORY, start, *sent)) == (200, {})
    assert [row["a"] for row in rows()] == [0, 1, 2, 3, 4, 5]


def test_a_late_piece_in_another_version_replaces_its_lines_and_no_others(api: TestClient, rows: Rows) -> None:
    post(api, piece(HISTORY, 0, *({"_step": n, "a": n} for n in range(4))))
    post(api, piece(HISTORY, 1, {"_step": 1, "a": -1}))
    assert [row["a"] for row in rows()] == [0, -1, 2, 3]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files": None},
        {"files": {}},
        {"files": {"tomorrow.jsonl": {"offset": 0, "content": ["x"]}}},
        {"files": {HISTORY: {"offset": -3, "content": ['{"_step": 0}']}}},
        {
            "files": {
                HISTORY: {"offset": 0, "content": ["", "null", "[]", "1", "NaN", '{"_step": "x"}', '{"_step": 1e300}']}
            }
        },
        {"files": {HISTORY: {"offset": 2**40, "content": ["{}"]}}},
        {"files": {EVENTS: {"offset": 0, "content": ["{broken"]}, OUTPUT: {"offset": 9, "content": ["\x00"]}}},
        {"files": {SUMMARY: {"offset": 0, "content": ["{broken", "[]", ""]}}},
        {"uploaded": ["config.yaml"], "preempting": None, "dropped": 3},
        {"complete": True},
        {"complete": False, "exitcode": None},
    ],
)
def test_nothing_that_a_process_may_send_is_refused(api: TestClient, body: dict[str, Any]) -> None:
    assert post(api, body)[0] == 200


def test_not_a_number_and_the_infinities_survive(api: TestClient, rows: Rows) -> None:
    post(api, piece(HISTORY, 0, '{"_step":0,"a":NaN,"b":Infinity,"c":-Infinity}', '{"_step":1,"a":1}'))
    first, second = rows()
    assert math.isnan(first["a"])
    assert (first["b"], first["c"], second["a"]) == (math.inf, -math.inf, 1)


def test_a_line_that_is_no_json_keeps_its_place(api: TestClient, rows: Rows) -> None:
    assert post(api, piece(HISTORY, 0, '{"_step":0,"a":1}', "{broken", '{"_step":2,"a":3}'))[0] == 200
    assert [row.get("a") for row in rows()] == [1, None, 3]


def test_a_value_that_cannot_be_kept_costs_neither_the_row_nor_the_run(api: TestClient, rows: Rows) -> None:
    long = "k" * 2_000
    assert post(api, piece(HISTORY, 0, {"_step": 0, "": 1, long: 2, "_offset": 3, "good": 4}))[0] == 200
    assert rows() == [{"_step": 0, "good": 4}]


def test_a_console_line_may_be_written_again(api: TestClient, rows: Rows) -> None:
    post(api, piece(OUTPUT, 0, "2026-01-01T00:00:00.1 first", "2026-01-01T00:00:01 10%"))
    post(api, piece(OUTPUT, 1, "2026-01-01T00:00:02 90%", "ERROR 2026-01-01T00:00:03 oh no"))
    assert [row["line"] for row in rows("console")] == ["first", "90%", "oh no"]
    assert rows("console")[2]["level"] == "error"


def test_system_metrics_have_a_stream_of_their_own(api: TestClient, rows: Rows) -> None:
    post(api, piece(EVENTS, 0, {"_wandb": True, "_timestamp": 2.0, "_runtime": 1, "system.cpu": 12.5}))
    assert rows("system") == [{"_step": 0, "_timestamp": 2.0, "_runtime": 1, "system.cpu": 12.5}]


def test_the_last_summary_wins_and_replaces(api: TestClient, stored: Callable[[], Run]) -> None:
    post(api, piece(SUMMARY, 0, {"a": 1, "gone": 2}))
    post(api, piece(SUMMARY, 0, '{"a": 1}', '{"a": NaN, "b": {"max": 3}}'))
    assert stored().summary == {"a": "NaN", "b": {"max": 3}}


@pytest.mark.parametrize(("code", "status"), [(0, Status.finished), (1, Status.failed), (255, Status.failed)])
def test_the_exit_code_ends_the_run(api: TestClient, stored: Callable[[], Run], code: int, status: Status) -> None:
    for _ in range(2):
        post(api, {"complete": True, "exitcode": code})
    assert (stored().status, stored().exit_code) == (status, code)


def test_a_late_piece_does_not_start_a_run_again(api: TestClient, stored: Callable[[], Run], rows: Rows) -> None:
    post(api, {"complete": True, "exitcode": 0})
    assert post(api, piece(HISTORY, 0, {"_step": 0, "a": 1})) == (200, {})
    assert (stored().status, len(rows())) == (Status.finished, 1)


def test_a_process_that_starts_again_makes_the_run_go_on(api: TestClient, stored: Callable[[], Run]) -> None:
    post(api, {"complete": True, "exitcode": 1})
    assert announce(api)["inserted"] is False
    assert (stored().status, stored().exit_code, stored().finished_at) == (Status.running, None, None)


def test_a_run_that_was_asked_to_stop_is_told(
    api: TestClient, store: Store, admin: Actor, stored: Callable[[], Run]
) -> None:
    api.post("/graphql", json={"query": f'mutation {{ stopRun(input: {{id: "{stored().id}"}}) {{ success }} }}'})
    assert post(api, {}) == (200, {"stopped": True})
    post(api, {"complete": True, "exitcode": 255})
    assert (stored().status, stored().exit_code) == (Status.stopped, 255)


def test_a_run_in_the_trash_is_gone_for_good_and_never_a_conflict(
    api: TestClient, store: Store, admin: Actor, stored: Callable[[], Run]
) -> None:
    store.database.write(deletions.trash_item, admin, ItemVerb(id=stored().id, on_running="stop"))
    assert post(api, {})[0] == 410
    late = {"name": "r1", "modelName": "p", "config": '{"lr": {"value": 1}}'}
    response = api.post("/graphql", json={"query": ANNOUNCE, "variables": {"input": late}})
    assert response.status_code == 410
    assert "restorable until" in response.json()["error"]


def test_a_purged_run_is_not_brought_back_by_what_its_process_says_late(
    api: TestClient, store: Store, admin: Actor, stored: Callable[[], Run]
) -> None:
    id = stored().id
    store.database.write(deletions.trash_item, admin, ItemVerb(id=id, on_running="stop"))
    store.database.write(deletions.purge_item, admin, ItemVerb(id=id))
    make_worker(store).run_all()
    late: list[dict[str, Any]] = [
        {"name": "r1", "modelName": "p", "config": '{"lr": {"value": 1}}'},
        {"id": id, "summaryMetrics": '{"x": 1}'},
        {"id": id, "tags": ["late"]},
    ]
    answers = [api.post("/graphql", json={"query": ANNOUNCE, "variables": {"input": each}}) for each in late]
    statuses = {*(answer.status_code for answer in answers), post(api, {})[0], post(api, {"complete": True})[0]}
    assert statuses <= {404, 410}
    with pytest.raises(NotFound):
        stored()


def test_the_id_of_a_run_in_the_trash_is_free_for_a_new_process(
    api: TestClient, store: Store, admin: Actor, stored: Callable[[], Run], rows: Rows
) -> None:
    post(api, piece(HISTORY, 0, {"_step": 0, "a": 1}))
    before = stored().id
    store.database.write(deletions.trash_item, admin, ItemVerb(id=before, on_running="stop"))
    assert announce(api)["inserted"] is True
    assert stored().id != before
    assert rows() == []


def test_a_run_that_never_was_is_404(api: TestClient) -> None:
    assert post(api, {}, run="other")[0] == 404


def test_bodies_may_be_compressed(api: TestClient, rows: Rows) -> None:
    body = gzip.compress(json.dumps(piece(HISTORY, 0, {"_step": 0, "a": 1})).encode())
    response = api.post("/files/default/p/r1/file_stream", content=body, headers={"content-encoding": "gzip"})
    assert (response.status_code, len(rows())) == (200, 1)


def test_preempting_shows_in_the_state(api: TestClient) -> None:
    post(api, {"preempting": True})
    query = '{ project(name: "p") { run(name: "r1") { state } } }'
    assert api.post("/graphql", json={"query": query}).json()["data"]["project"]["run"]["state"] == "preempting"


def test_a_heartbeat_brings_a_crashed_run_back(
    api: TestClient, store: Store, admin: Actor, stored: Callable[[], Run]
) -> None:
    store.database.write(runs.update, admin, runs.UpdateRun(id=stored().id, status=Status.crashed))
    post(api, {})
    assert stored().status == Status.running


# --- without it -------------------------------------------------------------------------------------------------------


def test_nested_rows_and_rows_without_a_step_are_read() -> None:
    found = rows_of("history", Piece(7, ['{"a": {"b": 1}}', '{"_step": 3.0, "_timestamp": "soon"}']))
    assert found == [(7, None, {"a": {"b": 1}}), (3, None, {})]


def test_a_structured_console_line_is_understood() -> None:
    line = json.dumps({"ts": "2026-01-01T00:00:00", "level": "error", "label": "rank 1", "content": "oh no"})
    assert console_row(line) == {"line": "oh no", "time": "2026-01-01T00:00:00", "level": "error", "label": "rank 1"}
    assert console_row('{"a": 1}') == {"line": '{"a": 1}'}


def test_half_a_character_in_a_console_line_is_replaced() -> None:
    body = b'{"files": {"output.log": {"offset": 0, "content": ["2026-01-01T00:00:00 \\ud83d"]}}}'
    [row] = rows_of("console", decode(body).files["output.log"])  # type: ignore[index]  # there is one
    assert row[2]["line"] == "?"


def test_rows_that_are_too_many_for_one_batch_become_several() -> None:
    wide = [(n, None, {f"k{n}.{m}": m for m in range(6_000)}) for n in range(3)]
    found = list(batches_of(wide, 10))
    assert [offset for offset, _ in found] == [10, 11, 12]
    assert sum(batch.n for _, batch in found) == 3


def test_an_empty_body_is_a_heartbeat() -> None:
    assert prepare(b"", "p", "r").batches == []


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(Invalid, match="not what a run sends"):
        decode(b"[1")
