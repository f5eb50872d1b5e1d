"""Histories as Parquet files: only where they say exactly what pages say, and never older than the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from labkeep.core.access import Actor
from labkeep.core.commands import CreateRun, ItemVerb
from labkeep.core.entities import Run
from labkeep.dialects.wandb import DIALECT
from labkeep.operations import Store, deletions, history, run_searches, runs
from labkeep.operations.run_searches import FindRun
from labkeep.server import make_worker
from labkeep.storage.recent import RECENT

ANNOUNCE = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
PARQUET = """query RunParquetHistory { project(name: "p") { run(name: "r1") { parquetHistory(liveKeys: ["_step"]) {
  parquetUrls liveData } } } }"""


@pytest.fixture
def api(client_of: Callable[..., TestClient], store: Store) -> TestClient:
    store.database.seal_min_rows = 1
    client = client_of(DIALECT)
    announce(client)
    return client


def announce(api: TestClient) -> None:
    asked = {"input": {"name": "r1", "modelName": "p", "host": "h"}}
    assert api.post("/graphql", json={"query": ANNOUNCE, "variables": asked}).status_code == 200


def log(api: TestClient, rows: list[dict[str, Any]], offset: int = 0, **more: Any) -> None:
    piece = {"offset": offset, "content": [json.dumps(row) for row in rows]}
    body = {"files": {"wandb-history.jsonl": piece}, "complete": True, "exitcode": 0} | more
    assert api.post("/files/default/p/r1/file_stream", json=body).status_code == 200


def ask(api: TestClient) -> dict[str, Any]:
    response = api.post("/graphql", json={"query": PARQUET})
    assert response.status_code == 200, response.text
    return dict(response.json()["data"]["project"]["run"]["parquetHistory"])


def stored(store: Store, admin: Actor) -> Run:
    return store.database.read(run_searches.find, admin, FindRun(project="p", handle="r1")).run


def seal(store: Store, admin: Actor) -> None:
    history.seal(store, admin, stored(store, admin).id, "history")


def get(api: TestClient, url: str, **headers: str) -> Any:
    del api.headers["authorization"]  # the client sends none to what it takes for a store's link
    return api.get(url.partition("/storage/")[1] + url.partition("/storage/")[2], headers=headers)


def dense(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"_step": n, "_timestamp": 1.5, "x": n / 2, "n": n, "s": f"s{n}", "b": n > 1, "a": {"c": n}}
        for n in range(start, start + count)
    ]


def test_a_sealed_history_is_a_file_without_our_row_numbers(api: TestClient, store: Store, admin: Actor) -> None:
    log(api, dense(5))
    seal(store, admin)
    (url,) = ask(api)["parquetUrls"]
    response = get(api, url)
    table = pq.read_table(BytesIO(response.content))
    assert table.to_pylist()[3] == {"_step": 3, "_timestamp": 1.5, "x": 1.5, "n": 3, "s": "s3", "b": True, "a.c": 3}
    assert (len(table), response.headers["accept-ranges"]) == (5, "bytes")


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=0-3", 206, (0, 4)),
        ("bytes=-4", 206, (-4, None)),
        ("bytes=4-", 206, (4, None)),
        ("bytes=9999999-", 416, None),
    ],
)
def test_a_file_is_read_in_ranges(
    api: TestClient, store: Store, admin: Actor, asked: str, status: int, span: tuple[int, int | None] | None
) -> None:
    log(api, dense(5))
    seal(store, admin)
    (url,) = ask(api)["parquetUrls"]
    whole = get(api, url).content
    response = api.get("/storage/" + url.partition("/storage/")[2], headers={"range": asked})
    assert response.status_code == status
    assert response.headers["content-range"].endswith(f"/{len(whole)}")
    if span is not None:
        assert response.content == whole[slice(*span)]


@pytest.mark.parametrize(
    "rows",
    [
        [{"_step": 0, "x": 1}, {"_step": 1}],
        [{"_step": 0, "x": 1}, {"_step": 0, "x": 2}],
        [{"_step": 3, "x": 1}, {"_step": 1, "x": 2}],
        [{"_step": 0, "x": [1]}],
        [{"_step": 0, "x": "a"}, {"_step": 1, "x": 1}],
        [{"_step": 0, "x": None}],
        [{"_step": 0, "x": {"_type": "image-file", "path": "p", "sizes": [1]}}],
    ],
    ids=["gap", "twice", "back", "list", "mixed", "null", "media"],
)
def test_what_a_file_would_not_say_exactly_is_read_in_pages(
    api: TestClient, store: Store, admin: Actor, rows: list[dict[str, Any]]
) -> None:
    log(api, [{"_timestamp": 1.5, **row} for row in rows])
    seal(store, admin)
    assert ask(api) == {"parquetUrls": [], "liveData": [{"_step": 0}]}


def test_a_history_that_may_still_change_has_no_files(api: TestClient, store: Store, admin: Actor) -> None:
    assert ask(api) == {"parquetUrls": [], "liveData": []}
    log(api, dense(5))
    assert not ask(api)["parquetUrls"]  # not sealed
    seal(store, admin)
    assert ask(api)["parquetUrls"]
    announce(api)
    assert not ask(api)["parquetUrls"]  # running again
    log(api, dense(1, 5), offset=5)
    assert not ask(api)["parquetUrls"]  # not all of it sealed
    seal(store, admin)
    assert len(ask(api)["parquetUrls"]) == 2


def test_segments_with_other_keys_are_read_in_pages(api: TestClient, store: Store, admin: Actor) -> None:
    log(api, dense(2))
    seal(store, admin)
    log(api, [{"_step": 2, "_timestamp": 1.5, "other": 1}], offset=2)
    seal(store, admin)
    assert not ask(api)["parquetUrls"]


def test_a_history_that_was_written_over_has_no_files_any_more(api: TestClient, store: Store, admin: Actor) -> None:
    log(api, dense(5))
    seal(store, admin)
    (url,) = ask(api)["parquetUrls"]
    log(api, [{"_step": 1, "_timestamp": 1.5, "x": -1.0, "n": 1, "s": "s", "b": True, "a": {"c": 1}}], offset=1)
    seal(store, admin)
    assert not ask(api)["parquetUrls"]
    assert get(api, url).status_code == 404


def test_a_run_with_the_id_of_one_in_the_trash_has_no_files(api: TestClient, store: Store, admin: Actor) -> None:
    log(api, dense(5))
    store.database.write(deletions.trash_item, admin, ItemVerb(id=stored(store, admin).id))
    store.database.write(runs.create, admin, CreateRun(project="p", handle="r1"))
    log(api, dense(5))
    seal(store, admin)
    assert not ask(api)["parquetUrls"]


def test_a_link_ends_with_its_run_and_nothing_of_it_is_kept(api: TestClient, store: Store, admin: Actor) -> None:
    log(api, dense(5))
    seal(store, admin)
    (url,) = ask(api)["parquetUrls"]
    assert get(api, url).status_code == 200
    assert RECENT.keys(admin.organization_id)
    run = stored(store, admin)
    store.database.write(deletions.trash_item, admin, ItemVerb(id=run.id))
    assert api.get("/storage/" + url.partition("/storage/")[2]).status_code == 410
    store.database.write(deletions.purge_item, admin, ItemVerb(id=run.id))
    make_worker(store).run_all()
    assert api.get("/storage/" + url.partition("/storage/")[2]).status_code == 410
    assert not RECENT.keys(admin.organization_id)
