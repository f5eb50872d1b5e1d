"""What a process sends while it runs: nothing is doubled, nothing that can be kept is lost, and nothing is refused."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.columns import Limits, from_rows
from labkeep.core.commands import ItemVerb, ReadHistory
from labkeep.core.entities import Run
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.lifecycle import Status
from labkeep.dialects.wandb import DIALECT, filestream
from labkeep.dialects.wandb.filestream import Piece, batches_of, console_row, decode, prepare, rows_of
from labkeep.operations import Store, deletions, history, run_searches, runs, sessions
from labkeep.operations.history import prepare_batch
from labkeep.operations.resends import Resent, pieces, watch, without_known
from labkeep.operations.run_searches import FindRun
from labkeep.server import make_worker
from labkeep.storage.histories import Standing

ANNOUNCE = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted bucket { id name } } }"
STARTS = {"name": "r1", "modelName": "p", "host": "h"}
HISTORY, EVENTS, OUTPUT, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "output.log", "wandb-summary.json"


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    client = client_of(DIALECT)
    announce(client)
    return client


def announce(client: TestClient, **more: Any) -> dict[str, Any]:
    variables = {"input": {**STARTS, **more}}
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


def test_a_step_may_have_very_many_keys(api: TestClient, rows: Rows) -> None:
    step = {f"layer/{number}": number for number in range(10_001)}
    assert post(api, piece(HISTORY, 0, {"_step": 0, **step}, {"_step": 1, "last": 1}))[0] == 200
    assert rows() == [{"_step": 0, **step}, {"_step": 1, "last": 1}]
    query = 'query Q { project(name: "p") { run(name: "r1") { historyKeys } } }'
    seen = api.post("/graphql", json={"query": query}).json()["data"]["project"]["run"]["historyKeys"]
    assert len(seen["keys"]) == 10_003


def test_a_step_with_more_keys_than_a_row_can_have_loses_the_last_of_them(
    api: TestClient, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filestream, "WIDE", Limits(columns=5))
    many = {"_step": 0, "_timestamp": 1.0, "a": 1, "nested": {"x": 1, "y": 2, "z": 3}, "b": 2}
    assert post(api, piece(HISTORY, 0, many))[0] == 200
    assert rows() == [{"_step": 0, "_timestamp": 1.0, "a": 1, "nested.x": 1, "nested.y": 2}]


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


def test_the_id_of_a_deleted_run_is_free_once_it_is_purged_and_no_sooner(
    api: TestClient, store: Store, admin: Actor, stored: Callable[[], Run], rows: Rows
) -> None:
    post(api, piece(HISTORY, 0, {"_step": 0, "a": 1}))
    before = stored().id
    store.database.write(deletions.trash_item, admin, ItemVerb(id=before, on_running="stop"))
    refused = api.post("/graphql", json={"query": ANNOUNCE, "variables": {"input": STARTS}})
    assert refused.status_code == 410
    assert "a new run can have the id 'r1' once that run is purged" in refused.json()["error"]
    store.database.write(deletions.purge_item, admin, ItemVerb(id=before))
    make_worker(store).run_all()
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


# --- a log that is sent again under other offsets ---------------------------------------------------------------------


def logged(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    """Rows as a process logs them, the same each time that they are asked for."""
    return [
        {"_step": n, "_timestamp": 100.0 + n, "a": n, "b": 0.5 * n, "t": {"x": n}, "l": [n, "s", None], **more}
        for n in numbers
    ]


def steps_of(rows: Rows) -> list[int]:
    return [row["_step"] for row in rows()]


def test_a_log_that_is_sent_again_behind_its_own_rows_changes_nothing(api: TestClient, rows: Rows) -> None:
    post(api, piece(HISTORY, 0, *logged(*range(30))))
    post(api, piece(HISTORY, 30, *logged(*range(30, 50))))
    before = rows()
    for _ in range(2):
        assert post(api, piece(HISTORY, 50, *logged(*range(20)))) == (200, {})
        assert post(api, piece(HISTORY, 70, *logged(*range(20, 50)))) == (200, {})
    assert rows() == before
    assert counted(api) == 50


def counted(client: TestClient) -> int:
    query = '{ project(name: "p") { run(name: "r1") { historyLineCount } } }'
    return int(client.post("/graphql", json={"query": query}).json()["data"]["project"]["run"]["historyLineCount"])


def test_what_was_lost_of_a_log_is_taken_from_it_when_it_is_sent_again(api: TestClient, rows: Rows) -> None:
    post(api, piece(HISTORY, 0, *logged(*range(30))))
    for _ in range(2):  # the piece, and its retry
        post(api, piece(HISTORY, 30, *logged(*range(40))))
        assert steps_of(rows) == list(range(40))
    post(api, piece(HISTORY, 70, *logged(*range(40, 50))))
    assert steps_of(rows) == list(range(50))
    post(api, piece(HISTORY, 80, *logged(*range(50))))
    assert steps_of(rows) == list(range(50))


def test_a_hole_in_the_middle_of_a_log_is_filled_by_sending_it_again(api: TestClient, rows: Rows) -> None:
    post(api, piece(HISTORY, 0, *logged(0, 1, 2, 6, 7)))
    post(api, piece(HISTORY, 5, *logged(*range(9))))
    assert sorted(steps_of(rows)) == list(range(9))


@pytest.mark.parametrize(
    "other",
    [{"a": -1}, {"_timestamp": 7.0}, {"_timestamp": None}, {"more": 1}, {"l": []}, {"a": True}, {"a": "1"}],
)
def test_another_row_of_the_same_step_is_kept(api: TestClient, rows: Rows, other: dict[str, Any]) -> None:
    post(api, piece(HISTORY, 0, *logged(0, 1, 2)))
    post(api, piece(HISTORY, 3, *logged(0), *logged(1, **other), *logged(2)))
    assert steps_of(rows) == [0, 1, 2, 1]


def test_a_run_that_goes_on_with_lower_steps_keeps_all_of_them(api: TestClient, rows: Rows) -> None:
    post(api, piece(HISTORY, 0, *logged(*range(5))))
    post(api, piece(HISTORY, 5, *logged(*range(3), _timestamp=900.0)))
    post(api, piece(HISTORY, 8, *logged(*range(3, 7), _timestamp=901.0)))
    assert steps_of(rows) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6]


def test_rows_with_what_is_not_a_number_are_known_again(api: TestClient, rows: Rows) -> None:
    lines = ['{"_step":0,"_timestamp":1.5,"a":NaN}', '{"_step":1,"_timestamp":2,"a":-Infinity}']
    post(api, piece(HISTORY, 0, *lines))
    post(api, piece(HISTORY, 2, *lines))
    assert steps_of(rows) == [0, 1]


def test_whole_numbers_are_known_again_among_others(api: TestClient, rows: Rows) -> None:
    first, second = '{"_step":0,"_timestamp":1.5,"a":1}', '{"_step":1,"_timestamp":2.5,"a":0.5}'
    post(api, piece(HISTORY, 0, first, second))  # one column of doubles
    post(api, piece(HISTORY, 2, first))  # one of whole numbers
    assert steps_of(rows) == [0, 1]


def test_a_late_piece_that_moves_lines_loses_none(api: TestClient, rows: Rows) -> None:
    post(api, piece(HISTORY, 0, *logged(0, 1)))
    post(api, piece(HISTORY, 0, *logged(7, 0)))
    assert steps_of(rows) == [7, 0]


def test_the_rest_of_a_request_that_repeats_its_history_is_stored(
    api: TestClient, rows: Rows, stored: Callable[[], Run]
) -> None:
    post(api, piece(HISTORY, 0, *logged(0, 1)))
    body = piece(HISTORY, 2, *logged(0, 1))
    body["files"] |= piece(OUTPUT, 0, "first")["files"] | piece(SUMMARY, 0, {"a": 1})["files"]
    assert post(api, body | {"complete": True, "exitcode": 0})[0] == 200
    assert (len(rows()), len(rows("console"))) == (2, 1)
    assert (stored().summary, stored().status) == ({"a": 1}, Status.finished)


def test_a_log_is_known_again_when_it_is_sealed(
    api: TestClient, store: Store, admin: Actor, rows: Rows, stored: Callable[[], Run]
) -> None:
    post(api, piece(HISTORY, 0, *logged(*range(6_000))))
    post(api, {"complete": True, "exitcode": 0})
    make_worker(store).run_all()
    assert history.seal(store, admin, stored().id, "history") == 0
    located = store.database.read(history.locate, admin, ReadHistory(id=stored().id))
    assert (len(located.segments), located.chunks) == (1, [])
    announce(api)
    post(api, piece(HISTORY, 6_000, *logged(*range(5_500, 6_010))))
    assert steps_of(rows) == list(range(6_010))


def test_a_log_that_is_sent_again_after_a_rewind_brings_back_what_was_taken(api: TestClient, rows: Rows) -> None:
    post(api, piece(HISTORY, 0, *logged(*range(10))))
    query = 'mutation { rewindRun(input: {runName: "r1", projectName: "p", metricName: "_step", metricValue: 3}) { rewoundRun { name } } }'
    assert "errors" not in api.post("/graphql", json={"query": query}).json()
    post(api, piece(HISTORY, counted(api), *logged(*range(10))))
    assert steps_of(rows) == list(range(10))


def test_rows_that_were_compared_are_not_stored_once_the_history_has_changed(
    api: TestClient, store: Store, admin: Actor, stored: Callable[[], Run], rows: Rows
) -> None:
    post(api, piece(HISTORY, 0, *logged(0, 1)))
    again = prepare(json.dumps(piece(HISTORY, 2, *logged(0, 1, 2))).encode(), "p", "r1")
    seen, fresh = without_known(store, admin, stored().id, again.batches)
    assert [(batch.offset, len(batch.table)) for batch in fresh] == [(4, 1)]
    post(api, piece(HISTORY, 2, *logged(2)))
    with pytest.raises(Resent):
        store.database.write(sessions.deliver, admin, again._replace(batches=fresh, seen=seen))
    assert steps_of(rows) == [0, 1, 2]


def test_nothing_is_read_while_steps_grow() -> None:
    watch(Standing(5, 5, 4), prepare_batch("r", "history", 5, from_rows([(5, None, {"a": 1})])))
    watch(Standing(5, 5, 4), prepare_batch("r", "system", 5, from_rows([(4, None, {"a": 1})])))
    with pytest.raises(Resent):
        watch(Standing(5, 5, 4), prepare_batch("r", "history", 5, from_rows([(4, None, {"a": 1})])))


def test_a_batch_is_cut_into_a_bounded_number_of_pieces() -> None:
    batch = prepare_batch("r", "history", 10, from_rows([(n, None, {"a": n}) for n in range(100)]))
    some = pieces(batch, np.arange(100) % 50 < 25)
    assert [(each.offset, len(each.table)) for each in some] == [(35, 25), (85, 25)]
    assert [(each.offset, len(each.table)) for each in pieces(batch, np.arange(100) % 2 == 0)] == [(11, 99)]
    assert pieces(batch, np.ones(100, bool)) == []


# --- without it -------------------------------------------------------------------------------------------------------


def test_nested_rows_and_rows_without_a_step_are_read() -> None:
    found = rows_of("history", Piece(7, ['{"a": {"b": 1}}', '{"_step": 3.0, "_timestamp": "soon"}']))
    assert found == [(7, None, {"a": {"b": 1}}), (3, None, {})]


def test_several_processes_write_one_run_and_each_counts_for_itself(
    api: TestClient, rows: Rows, stored: Callable[[], Run]
) -> None:
    def write(writer: str, body: dict[str, Any]) -> None:
        headers = {"X-WANDB-ASYNC-CLIENT-ID": writer, "X-WANDB-USE-ASYNC-FILESTREAM": "true"}
        assert api.post("/files/default/p/r1/file_stream", json=body, headers=headers).status_code == 200

    for _ in range(2):  # the second time is a retry
        write("one", {"files": {**piece(HISTORY, 0, {"_step": 0, "a": 1})["files"], **said("a0")["files"]}})
    for _ in range(2):
        write("two", {"files": {**piece(HISTORY, 0, {"_step": 0, "b": 1})["files"], **said("b0", "b1")["files"]}})
    write(
        "one", {"files": {**piece(HISTORY, 1, {"_step": 1, "a": 2})["files"], **piece(SUMMARY, 0, {"a": 2})["files"]}}
    )
    write("two", piece(SUMMARY, 0, {"b": 1}))
    assert rows() == [{"_step": 0, "a": 1}, {"_step": 0, "b": 1}, {"_step": 1, "a": 2}]
    assert [(row["_step"], row["line"]) for row in rows("console")] == [(0, "a0"), (1, "b0"), (2, "b1")]
    assert stored().summary == {"a": 2, "b": 1}


def said(*lines: str) -> dict[str, Any]:
    return piece(OUTPUT, 0, *lines)


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
