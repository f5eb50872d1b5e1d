"""The endpoints that move bytes, over HTTP: history, blobs and files, and what becomes of hostile requests."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from labkeep.api import stream
from labkeep.core import columns
from labkeep.core.access import Actor
from labkeep.core.commands import Apply, CreateKey, FinishRun, Selection
from labkeep.core.entities import Run
from labkeep.core.lifecycle import Role, Status
from labkeep.http.app import edge
from labkeep.http.auth import NOBODY, KeyRing, bearer
from labkeep.http.errors import encode
from labkeep.operations import Store, deletions, history, runs
from labkeep.operations.accounts import Credentials, Setup, authenticate, create_key, digest_of, set_up
from labkeep.storage.blobs import PIECE_BYTES
from labkeep.testing.factories import make_run, make_store

ADMIN = "lk-" + "a" * 43
BINARY = columns.MEDIA_TYPE
MIB = 2**20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make_store(tmp_path, max_upload_bytes=4 * MIB, max_body_bytes=MIB, max_inflated_bytes=2 * MIB) as store:
        store.database.write(set_up, NOBODY, Setup(secret=ADMIN))
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return store.database.read(authenticate, NOBODY, Credentials(digest=digest_of(ADMIN)))


@pytest.fixture
def client_of(store: Store) -> Iterator[Callable[[str], TestClient]]:
    ring = KeyRing()
    api = edge("api", stream.ROUTES, store, ring, lambda ring, request: ring.identify(request, bearer(request)), encode)
    opened: list[TestClient] = []

    def make(key: str) -> TestClient:
        client = TestClient(Starlette(routes=[Mount("/api/v1", api)]), base_url="http://labkeep.test/api/v1")
        client.headers["authorization"] = f"Bearer {key}"
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def client(client_of: Callable[[str], TestClient]) -> TestClient:
    return client_of(ADMIN)


@pytest.fixture
def viewer(store: Store, actor: Actor, client_of: Callable[[str], TestClient]) -> TestClient:
    key = store.database.write(create_key, actor, CreateKey(user="vera", role=Role.viewer))
    return client_of(key.secret)


@pytest.fixture
def run(store: Store, actor: Actor) -> Run:
    return make_run(store.database, actor)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def refused(response: Any, status: int, code: str = "") -> str:
    """The message of an error in the native envelope."""
    body = response.json()
    assert response.status_code == status, body
    assert body["code"] == code or not code
    assert not body["incident"]
    return str(body["message"])


def rows_of(count: int) -> list[columns.Row]:
    return [(step, None, {"loss": step / 2}) for step in range(count)]


def post(client: TestClient, run: Run, body: bytes, form: str = BINARY, **query: Any) -> Any:
    return client.post(f"/runs/{run.id}/history", params=query, content=body, headers={"content-type": form})


# --- appending history ------------------------------------------------------------------------------------------------


def test_rows_go_in_and_out_in_the_binary_form(client: TestClient, run: Run) -> None:
    answer = post(
        client, run, columns.encode_rows([*rows_of(2), (2, 1.5, {"loss": float("nan"), "text": "NaN"})]), offset=0
    )
    assert answer.json() == {"rows": 3, "stop": False}
    found = client.get(f"/runs/{run.id}/history", headers={"accept": BINARY})
    assert found.headers["content-type"] == BINARY
    assert found.headers["labkeep-total"] == "3"
    batch = columns.decode(found.content)
    assert list(batch.json_rows())[2] == {"_step": 2, "_timestamp": 1.5, "loss": "NaN", "text": "NaN"}


def test_rows_go_in_and_out_as_json(client: TestClient, run: Run) -> None:
    rows = [{"_step": 0, "_timestamp": 1.5, "loss": "NaN"}, {"_step": 1, "loss": 0.25, "list": [1, {"a": None}]}]
    for _ in range(2):
        answer = client.post(f"/runs/{run.id}/history", json={"offset": 0, "rows": rows})
        assert answer.json() == {"rows": 2, "stop": False}
    assert client.get(f"/runs/{run.id}/history").json() == {"rows": rows, "total": 2, "next_offset": None}


def test_a_long_body_is_decoded_like_a_short_one(client: TestClient, run: Run) -> None:
    body = columns.encode_rows([(step, None, {"loss": hash((step,)) / 7}) for step in range(10_000)])
    assert len(body) > stream.INLINE_BYTES
    assert post(client, run, body).json()["rows"] == 10_000


def test_a_gzipped_body_is_taken(client: TestClient, run: Run) -> None:
    headers = {"content-type": BINARY, "content-encoding": "gzip"}
    body = gzip.compress(columns.encode_rows(rows_of(3)))
    assert client.post(f"/runs/{run.id}/history", content=body, headers=headers).json()["rows"] == 3


def test_the_parameters_of_a_content_type_do_not_matter(client: TestClient, run: Run) -> None:
    assert post(client, run, b'{"rows": []}', "Application/JSON; charset=utf-8").status_code == 200


def test_an_idempotency_key_makes_an_append_to_the_end_safe_to_repeat(client: TestClient, run: Run) -> None:
    body = columns.encode_rows(rows_of(2))
    headers = {"content-type": BINARY, "idempotency-key": "k1"}
    answers = [client.post(f"/runs/{run.id}/history", content=body, headers=headers) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"rows": 2, "stop": False}] * 2
    other = client.post(f"/runs/{run.id}/history", content=columns.encode_rows(rows_of(3)), headers=headers)
    assert "another request" in refused(other, 422, "invalid")
    assert client.get(f"/runs/{run.id}/history").json()["total"] == 2


@pytest.mark.parametrize(
    ("body", "form", "query"),
    [
        (b"", BINARY, {}),
        (b"\xc1", BINARY, {}),
        (columns.encode_rows(rows_of(3))[:-1], BINARY, {}),
        (columns.encode_rows(rows_of(3)), "text/plain", {}),
        (columns.encode_rows(rows_of(3)), "application/x-www-form-urlencoded", {}),
        (columns.encode_rows(rows_of(3)), BINARY, {"offset": -1}),
        (columns.encode_rows(rows_of(3)), BINARY, {"offset": 2**60}),
        (columns.encode_rows(rows_of(3)), BINARY, {"offset": "x"}),
        (columns.encode_rows(rows_of(3)), BINARY, {"stream": ""}),
        (columns.encode_rows(rows_of(3)), BINARY, {"stream": "a\nb"}),
        (columns.encode_rows(rows_of(3)), BINARY, {"batch": "AAAA"}),
        (b"[]", "application/json", {}),
        (b'{"rows": 1}', "application/json", {}),
        (b'{"rows": [1]}', "application/json", {}),
        (b'{"rows": [{}]}', "application/json", {}),
        (b'{"rows": [{"_step": 0.5}]}', "application/json", {}),
        (b'{"rows": [{"_step": 1e400}]}', "application/json", {}),
        (b'{"rows": [{"_step": 99999999999999999999}]}', "application/json", {}),
        (b'{"rows": [{"_step": 0, "a": "\\ud800"}]}', "application/json", {}),
        (b'{"rows": [{"_step": 0, "\\u0000": 1}]}', "application/json", {}),
        (b'{"rows": [{"_step": 0, "_offset": 1}]}', "application/json", {}),
        (b'{"rows": [], "unknown": 1}', "application/json", {}),
        (b'{"rows": [], "offset": 1}', "application/json", {"offset": 2}),
        (b'{"rows": [{"_step": 0, "a": ' + b"[" * 500 + b"]" * 500 + b"}]}", "application/json", {}),
        (b'{"rows": [{"_step": 0, "a": ' + b"[" * 90 + b"]" * 90 + b"}]}", "application/json", {}),
        (b'{"rows": [{"_step": 0}', "application/json", {}),
        (b"\xff\xfe", "application/json", {}),
    ],
)
def test_a_bad_append_is_refused_and_stores_nothing(
    client: TestClient, run: Run, body: bytes, form: str, query: dict[str, Any]
) -> None:
    assert refused(post(client, run, body, form, **query), 422, "invalid")
    assert client.get(f"/runs/{run.id}/history").json() == {"rows": [], "total": 0, "next_offset": None}


def test_a_body_over_the_limit_is_refused_before_and_after_inflation(client: TestClient, run: Run) -> None:
    refused(post(client, run, b"x" * (MIB + 1)), 413, "too_large")
    headers = {"content-type": BINARY, "content-encoding": "gzip"}
    bomb = gzip.compress(b"\0" * (50 * MIB))
    refused(client.post(f"/runs/{run.id}/history", content=bomb, headers=headers), 413, "too_large")


def test_late_rows_of_a_trashed_run_are_gone(store: Store, actor: Actor, client: TestClient, run: Run) -> None:
    store.database.write(runs.finish, actor, FinishRun(id=run.id))
    post(client, run, columns.encode_rows(rows_of(2)))
    store.database.write(deletions.apply, actor, Apply(selection=Selection(ids=[run.id])))
    assert "restore" in refused(post(client, run, columns.encode_rows(rows_of(2))), 410, "gone")
    refused(client.get(f"/runs/{run.id}/history"), 410, "gone")
    assert client.get(f"/runs/{run.id}/history", params={"include": "trashed"}).json()["total"] == 2


def test_history_needs_a_key_and_a_role(client: TestClient, viewer: TestClient, run: Run) -> None:
    body = columns.encode_rows(rows_of(1))
    refused(post(viewer, run, body), 403, "forbidden")
    assert viewer.get(f"/runs/{run.id}/history").status_code == 200
    refused(viewer.get(f"/runs/{run.id}/history", headers={"authorization": "Bearer nonsense"}), 401)
    refused(client.post("/runs/nonsense/history", content=body, headers={"content-type": BINARY}), 404)


# --- reading history --------------------------------------------------------------------------------------------------


def test_json_comes_in_pages(client: TestClient, run: Run) -> None:
    post(client, run, columns.encode_rows(rows_of(10_001)))
    first = client.get(f"/runs/{run.id}/history").json()
    assert (len(first["rows"]), first["total"], first["next_offset"]) == (10_000, 10_001, 10_000)
    second = client.get(f"/runs/{run.id}/history", params={"offset": 10_000}).json()
    assert (len(second["rows"]), second["next_offset"]) == (1, None)
    assert len(client.get(f"/runs/{run.id}/history", params={"limit": 3}).json()["rows"]) == 3


def test_the_binary_form_is_a_page_only_when_asked(client: TestClient, run: Run) -> None:
    post(client, run, columns.encode_rows(rows_of(10_001)))
    found = client.get(f"/runs/{run.id}/history", headers={"accept": f"{BINARY}, application/json;q=0.5"})
    assert columns.decode(found.content).n == 10_001
    assert "labkeep-next-offset" not in found.headers
    found = client.get(f"/runs/{run.id}/history", params={"limit": 7}, headers={"accept": BINARY})
    assert (columns.decode(found.content).n, found.headers["labkeep-next-offset"]) == (7, "7")


def test_keys_may_be_named_several_times(client: TestClient, run: Run) -> None:
    client.post(f"/runs/{run.id}/history", json={"rows": [{"_step": 0, "a": 1, "b": 2, "c": 3}]})
    found = client.get(f"/runs/{run.id}/history", params={"keys": ["a", "b"]}).json()
    assert found["rows"] == [{"_step": 0, "a": 1, "b": 2}]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 10**9},
        {"buckets": 0},
        {"first_step": "x"},
        {"offset": -1},
        {"unknown": 1},
        {"keys": "\0"},
    ],
)
def test_a_bad_read_is_refused(client: TestClient, run: Run, query: dict[str, Any]) -> None:
    assert refused(client.get(f"/runs/{run.id}/history", params=query), 422, "invalid")


@pytest.mark.parametrize("step", [2**70, -(2**70)])
def test_steps_beyond_64_bits_select_all_or_nothing(client: TestClient, run: Run, step: int) -> None:
    post(client, run, columns.encode_rows(rows_of(2)))
    found = client.get(f"/runs/{run.id}/history", params={"first_step": step})
    assert found.status_code == 422 or len(found.json()["rows"]) == (0 if step > 0 else 2)


def test_series_say_nan_and_infinity_in_words(client: TestClient, run: Run) -> None:
    client.post(f"/runs/{run.id}/history", json={"rows": [{"_step": 0, "x": "NaN"}, {"_step": 1, "x": "-Infinity"}]})
    (found,) = client.get(f"/runs/{run.id}/series").json()["items"]
    assert found == {
        "stream": "history",
        "key": "x",
        "count": 2,
        "first": "NaN",
        "last": "-Infinity",
        "min": "-Infinity",
        "max": "-Infinity",
        "last_step": 1,
    }


# --- blobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * (PIECE_BYTES + 1), bytes(range(256)) * 10_000])
def test_an_uploaded_blob_is_known_by_its_digest(client: TestClient, content: bytes) -> None:
    refused_before = client.head(f"/blobs/{digest(content)}")
    assert refused_before.status_code == 404
    answer = client.put("/blobs", content=content, headers={"labkeep-digest": digest(content)})
    assert answer.json() == {"digest": digest(content), "size": len(content)}
    found = client.head(f"/blobs/{digest(content)}")
    assert (found.status_code, found.headers["labkeep-size"], found.content) == (200, str(len(content)), b"")


def test_other_bytes_than_announced_are_not_kept(store: Store, client: TestClient) -> None:
    answer = client.put("/blobs", content=b"other", headers={"labkeep-digest": digest(b"hello")})
    assert "send them again" in refused(answer, 422, "invalid")
    assert list(store.blobs.list()) == []


@pytest.mark.parametrize("text", ["", "sha256:", "md5:abc", "sha256:" + "g" * 64, "SHA256:" + "a" * 64])
def test_a_malformed_digest_is_refused_before_the_upload(client: TestClient, text: str) -> None:
    assert "is not a digest" in refused(client.put("/blobs", content=b"x", headers={"labkeep-digest": text}), 422)


@pytest.mark.parametrize("text", ["nonsense", "sha256:abc", "..%2f..%2fetc"])
def test_a_malformed_digest_in_a_path_is_no_blob(client: TestClient, text: str) -> None:
    assert client.head(f"/blobs/{text}").status_code in (404, 422)


def test_an_upload_over_the_limit_is_refused_announced_or_not(store: Store, client: TestClient) -> None:
    refused(client.put("/blobs", content=b"x" * (4 * MIB + 1)), 413, "too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * MIB

    refused(client.put("/blobs", content=pieces()), 413, "too_large")
    assert list(store.blobs.list()) == []


def test_an_upload_that_breaks_off_is_refused(store: Store, client: TestClient) -> None:
    answer = client.put("/blobs", content=iter([b"half"]), headers={"content-length": "8"})
    assert "broke off after 4 of 8 bytes" in refused(answer, 422, "invalid")
    assert list(store.blobs.list()) == []


def test_an_encoded_upload_is_refused(client: TestClient) -> None:
    answer = client.put("/blobs", content=gzip.compress(b"x"), headers={"content-encoding": "gzip"})
    assert "content-encoding" in refused(answer, 422, "invalid")


def test_a_viewer_uploads_nothing(store: Store, viewer: TestClient, run: Run) -> None:
    refused(viewer.put("/blobs", content=b"x"), 403, "forbidden")
    refused(viewer.put(f"/files/{run.id}", params={"path": "a"}, content=b"x"), 403, "forbidden")
    assert list(store.blobs.list()) == []


# --- files ------------------------------------------------------------------------------------------------------------


def put_file(client: TestClient, run: Run, path: str, content: bytes, form: str = "text/plain") -> Any:
    return client.put(f"/files/{run.id}", params={"path": path}, content=content, headers={"content-type": form})


def get_file(client: TestClient, run: Run, path: str, **headers: str) -> Any:
    return client.get(
        f"/files/{run.id}/content", params={"path": path}, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def test_a_file_comes_back_with_headers_that_no_browser_can_misuse(client: TestClient, run: Run) -> None:
    stored = put_file(client, run, 'docs/ünsafe ".html', b"<script>alert(1)</script>", "text/html").json()
    assert stored["path"] == 'docs/ünsafe ".html'
    found = get_file(client, run, 'docs/ünsafe ".html')
    assert found.content == b"<script>alert(1)</script>"
    headers = {
        name: found.headers[name] for name in ("etag", "cache-control", "content-type", "x-content-type-options")
    }
    assert headers == {
        "etag": f'"{stored["digest"]}"',
        "cache-control": "private, no-cache",
        "content-type": "text/html; charset=utf-8",
        "x-content-type-options": "nosniff",
    }
    assert found.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert found.headers["content-disposition"] == (
        "attachment; filename=\"_nsafe _.html\"; filename*=UTF-8''%C3%BCnsafe%20%22.html"
    )


@pytest.mark.parametrize("path", ["../up", "/abs", "a\\b", "a\x00b", "", "a/", "C:x", "x" * 1025])
def test_a_hostile_path_is_refused_before_a_byte_is_taken(
    store: Store, client: TestClient, run: Run, path: str
) -> None:
    refused(put_file(client, run, path, b"x"), 422, "invalid")
    refused(get_file(client, run, path), 422, "invalid")
    assert list(store.blobs.list()) == []


def test_a_file_needs_a_path(client: TestClient, run: Run) -> None:
    refused(client.put(f"/files/{run.id}", content=b"x"), 422, "invalid")
    refused(client.get(f"/files/{run.id}/content"), 422, "invalid")


def test_a_missing_file_says_so(client: TestClient, run: Run) -> None:
    assert "has no file 'a'" in refused(get_file(client, run, "a"), 404, "not_found")


CONTENT = bytes(range(256)) * 8_000
"""More than one piece."""


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=2000000-", 2_000_000, 2_048_000),
        ("bytes=-5", 2_047_995, 2_048_000),
        ("bytes=-99999999", 0, 2_048_000),
        ("bytes=5-99999999", 5, 2_048_000),
        (" bytes=5-9 ", 5, 10),
    ],
)
def test_a_range_is_answered_with_that_part(client: TestClient, run: Run, asked: str, start: int, end: int) -> None:
    put_file(client, run, "a", CONTENT)
    found = get_file(client, run, "a", range=asked)
    assert (found.status_code, found.content) == (206, CONTENT[start:end])
    assert found.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert found.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=2048000-", "bytes=9999999-99999999", "bytes=-0"])
def test_a_range_that_no_byte_is_in_is_refused(client: TestClient, run: Run, asked: str) -> None:
    put_file(client, run, "a", CONTENT)
    found = get_file(client, run, "a", range=asked)
    assert (found.status_code, found.headers["content-range"], found.content) == (416, "bytes */2048000", b"")


@pytest.mark.parametrize(
    "asked",
    ["", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=" + "9" * 30 + "-"],
)
def test_what_is_not_one_range_is_ignored(client: TestClient, run: Run, asked: str) -> None:
    put_file(client, run, "a", CONTENT)
    found = get_file(client, run, "a", range=asked)
    assert (found.status_code, found.content) == (200, CONTENT)
    assert found.headers["accept-ranges"] == "bytes"


def test_a_range_of_another_content_is_not_mixed_in(client: TestClient, run: Run) -> None:
    put_file(client, run, "a", CONTENT)
    etag = f'"{digest(CONTENT)}"'
    assert get_file(client, run, "a", range="bytes=0-1", if_range=etag).status_code == 206
    assert get_file(client, run, "a", range="bytes=0-1", if_range='"other"').status_code == 200


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*"])
def test_a_content_that_is_known_is_not_sent_again(client: TestClient, run: Run, form: str) -> None:
    put_file(client, run, "a", CONTENT)
    found = get_file(client, run, "a", if_none_match=form.format(f'"{digest(CONTENT)}"'))
    assert (found.status_code, found.content) == (304, b"")
    assert found.headers["etag"] == f'"{digest(CONTENT)}"'
    assert get_file(client, run, "a", if_none_match='"other"').status_code == 200


def test_the_head_of_a_file_has_its_size_and_no_content(client: TestClient, run: Run) -> None:
    put_file(client, run, "a", CONTENT)
    found = client.head(f"/files/{run.id}/content", params={"path": "a"})
    assert (found.status_code, found.headers["content-length"], found.content) == (200, str(len(CONTENT)), b"")


def test_an_empty_file_has_no_ranges(client: TestClient, run: Run) -> None:
    put_file(client, run, "a", b"")
    assert get_file(client, run, "a").content == b""
    assert get_file(client, run, "a", range="bytes=0-0").status_code == 416


def test_a_file_of_a_trashed_run_is_gone_unless_asked_for(
    store: Store, actor: Actor, client: TestClient, run: Run
) -> None:
    put_file(client, run, "a", b"1")
    store.database.write(runs.finish, actor, FinishRun(id=run.id, status=Status.failed))
    store.database.write(deletions.apply, actor, Apply(selection=Selection(ids=[run.id])))
    refused(get_file(client, run, "a"), 410, "gone")
    refused(put_file(client, run, "b", b"2"), 410, "gone")
    found = client.get(f"/files/{run.id}/content", params={"path": "a", "include": "trashed"})
    assert found.content == b"1"


def test_a_lost_blob_is_called_corrupt(store: Store, client: TestClient, run: Run, actor: Actor) -> None:
    put_file(client, run, "a", b"1")
    store.blobs.delete(actor.organization_id, [digest(b"1")])
    assert "labkeep check" in refused(get_file(client, run, "a"), 500, "corrupt")


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_route_is_described() -> None:
    described = {(one.method, one.path) for one in stream.DESCRIBED}
    assert described == {(method, route.path) for route in stream.ROUTES for method in (route.methods or ())} - {
        ("HEAD", route.path) for route in stream.ROUTES if "GET" in (route.methods or ())
    }
    assert len({one.name for one in stream.DESCRIBED}) == len(stream.DESCRIBED)


def test_history_is_sealed_and_read_over_http_alike(store: Store, actor: Actor, client: TestClient, run: Run) -> None:
    post(client, run, columns.encode_rows(rows_of(6_000)))
    store.database.write(runs.finish, actor, FinishRun(id=run.id))
    url = f"/runs/{run.id}/history"
    before = client.get(url, params={"keys": "loss"}, headers={"accept": BINARY}).content
    assert history.seal(store, actor, run.id, "history") == 6_000
    after = client.get(url, params={"keys": "loss"}, headers={"accept": BINARY}).content
    assert msgspec.msgpack.decode(after) == msgspec.msgpack.decode(before)
