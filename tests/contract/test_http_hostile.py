"""Hostile input over HTTP, at every route: a clear refusal in our envelope, never a fault of ours, nothing stored."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from labkeep.api.routes import ENDPOINTS
from labkeep.api.stream import DESCRIBED
from labkeep.http.wire import Endpoint
from tests.contract.http_lab import Answer, Ask, Lab, lab
from tests.contract.test_permissions_http import TABLE

NO_ID = "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"
UNKNOWN_ID = "00000000-0000-7000-8000-00000000abcd"

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**70,
    1.5,
    1e308,
    "",
    "x\n",
    "a\x00b",
    "a" * 5_000,
    "\u202e\u200b\ufeff",
    "e\u0301 \u00e9 \U0001f648" * 50,
    "../../../etc/passwd",
    "%00%2e%2e%2f",
    "' OR 1=1 --",
    NO_ID,
    UNKNOWN_ID,
    UNKNOWN_ID.upper(),
    "2026-01-01T00:00:00",
    "9999-12-31T23:59:59-23:59",
    "sha256:" + "0" * 64 + "\n",
    "((((a.b < 1 or not",
    "eyJhIjpbXX0",
    [],
    [None],
    [[[]]],
    ["a", "a"],
    [NO_ID],
    {},
    {"": {"a" * 2_000: None}},
]
"""What each field of each command gets, one after the other: some of it is right for some fields."""

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"<a>b</a>",
    "broken off": b'{"name": "a',
    "more behind it": b'{"name": "a"} {}',
    "a list": b"[1, 2]",
    "a number": b"1",
    "NaN": b'{"name": NaN}',
    "too large a number": b'{"name": 1e999}',
    "digits without end": b'{"name": ' + b"9" * 5_000 + b"}",
    "half a character": b'{"name": "\\ud800"}',
    "not UTF-8": b'{"name": "\xff\xfe\xfd"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "too deep": b'{"metadata": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "an unknown field": b'{"no_such_field": 1}',
    "a null byte": b'{"name": "a\x00b"}',
}

HEADERS: dict[str, dict[str, str]] = {
    "another type": {"Content-Type": "text/xml"},
    "a form": {"Content-Type": "multipart/form-data; boundary=x"},
    "another charset": {"Content-Type": "application/json; charset=utf-16"},
    "an unknown encoding": {"Content-Encoding": "br"},
    "two encodings": {"Content-Encoding": "gzip, gzip"},
    "gzip that is none": {"Content-Encoding": "gzip"},
    "deflate that is none": {"Content-Encoding": "deflate"},
}


class Target(NamedTuple):
    """A route, the names of its fields, and a request to it with everything in place."""

    method: str
    path: str
    fields: tuple[str, ...]
    in_body: bool
    ask: Ask


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("hostile")) as opened:
        yield opened


ROUTES = [*ENDPOINTS, *DESCRIBED]
WITH_BODY = [one for one in ROUTES if one.method in ("POST", "PUT", "PATCH")]
JSON_BODY = [one for one in ENDPOINTS if one.method in ("POST", "PUT", "PATCH")]


def label(route: Any) -> str:
    return f"{route.method} {route.path}"


def target(live: Lab, route: Any) -> Target:
    command = route.command if isinstance(route, Endpoint) else route.query
    fields = tuple(field.name for field in msgspec.structs.fields(command)) if command is not None else ()
    in_body = isinstance(route, Endpoint) and route.method not in ("GET", "DELETE")
    return Target(route.method, route.path, fields, in_body, TABLE[route.method, route.path].ask(live))


def with_value(wanted: Target, field: str, value: Any) -> Ask:
    """The request with ``value`` for one field, wherever that field belongs."""
    ask = wanted.ask
    if "{" + field + "}" in wanted.path:
        return ask._replace(path={**ask.path, field: _text(value) or " "})
    if wanted.in_body:
        return ask._replace(body={**(ask.body or {}), field: value})
    return ask._replace(query={**ask.query, field: _text(value)})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def assert_refused(answer: Answer, method: str) -> None:
    """A 4xx in the native envelope, with something for people to read, and nothing about how we are made."""
    assert 400 <= answer.status < 500, answer.body[:500]
    if method == "HEAD":
        return
    body = answer.json
    assert set(body) == {"code", "message", "details", "retry", "incident"}
    assert body["code"] not in ("", "internal")
    assert body["message"]
    assert body["incident"] == ""
    assert not any(word in body["message"] for word in ("Traceback", "sqlite", "SELECT ", ".py", "object at 0x"))


def assert_nothing_stored(live: Lab, wanted: Target, refused: list[Ask]) -> None:
    """Send again what was refused: it is refused again, and changes nothing."""
    before = live.counts()
    for ask in refused:
        assert_refused(live.ask(wanted.method, wanted.path, ask), wanted.method)
    assert live.counts() == before


# --- every field of every route ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=label)
def test_no_value_of_any_field_is_a_fault_of_ours_and_what_is_refused_leaves_nothing(live: Lab, route: Any) -> None:
    wanted = target(live, route)
    refused: list[Ask] = []
    for field in (*wanted.fields, "no_such_field"):
        for value in VALUES:
            ask = with_value(wanted, field, value)
            answer = live.ask(wanted.method, wanted.path, ask)
            assert answer.status < 500, (field, value, answer.body)
            if answer.status >= 400:
                assert_refused(answer, wanted.method)
                refused.append(ask)
    assert refused, "not even a field that there is not was refused"
    assert_nothing_stored(live, wanted, refused)


@pytest.mark.parametrize("route", JSON_BODY, ids=label)
def test_a_body_that_is_no_such_json_is_refused(live: Lab, route: Endpoint) -> None:
    wanted = target(live, route)
    bodies = [body for name, body in BODIES.items() if name != "nothing"]
    assert_nothing_stored(live, wanted, [wanted.ask._replace(body=None, raw=body) for body in bodies])


@pytest.mark.parametrize("route", WITH_BODY, ids=label)
def test_a_body_that_says_it_is_something_else_is_refused(live: Lab, route: Any) -> None:
    wanted = target(live, route)
    headers = [one for name, one in HEADERS.items() if isinstance(route, Endpoint) or "Encoding" in str(one)]
    assert_nothing_stored(live, wanted, [wanted.ask._replace(headers=one) for one in headers])


@pytest.mark.parametrize("route", WITH_BODY, ids=label)
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_a_bomb_goes_off_nowhere(live: Lab, route: Any, compress: Any) -> None:
    wanted = target(live, route)
    packed = compress(b" " * (257 * 2**20) if route is WITH_BODY[0] else b" " * 2**20)[:-5]
    encoding = {"Content-Encoding": "gzip" if compress is gzip.compress else "deflate"}
    assert_nothing_stored(live, wanted, [wanted.ask._replace(body=None, raw=packed, headers=encoding)])


@pytest.mark.parametrize("route", [one for one in ENDPOINTS if one.writes], ids=label)
def test_an_idempotency_key_that_is_none_is_refused(live: Lab, route: Endpoint) -> None:
    wanted = target(live, route)
    assert_nothing_stored(live, wanted, [wanted.ask._replace(headers={"Idempotency-Key": "k" * 256})])


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../../b",
        "a/..",
        "C:\\x",
        "c:/x",
        "\\\\host\\share",
        "a\x00b",
        "a\nb",
        "a/",
        ".",
        "\x7f",
        "x" * 256,
        "x/" * 600,
        "\u0000",
        "a\u0085b",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(live: Lab, path: str) -> None:
    run = live.run()
    upload = Target("PUT", "/files/{id}", (), False, Ask({"id": run}, {"path": path}, raw=b"content"))
    assert_nothing_stored(live, upload, [upload.ask])
    read = Target("GET", "/files/{id}/content", (), False, Ask({"id": run}, {"path": path}))
    assert_nothing_stored(live, read, [read.ask])
    files = [{"path": path, "digest": live.digest()}]
    manifest = Target("POST", "/artifacts", (), True, Ask(body={"project": "lab", "name": live.name(), "files": files}))
    assert_nothing_stored(live, manifest, [manifest.ask])


@pytest.mark.parametrize(
    "batch",
    [b"", b"\x00" * 8, b"\xff" * 1_000, b"LKC1", bytes(range(256)) * 20],
    ids=["empty", "zeros", "ones", "magic", "all bytes"],
)
def test_a_batch_that_is_no_batch_is_refused(live: Lab, batch: bytes) -> None:
    headers = {"Content-Type": "application/vnd.labkeep.columns"}
    ask = Ask({"id": live.run()}, {"offset": 0}, raw=batch, headers=headers)
    assert_nothing_stored(live, Target("POST", "/runs/{id}/history", (), False, ask), [ask])


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"rows": {}},
        {"rows": [1]},
        {"rows": [[]]},
        {"rows": [{"_step": "x"}]},
        {"rows": [{"_step": 2**70}]},
        {"rows": [{"_step": 1.5}]},
        {"rows": [{"_timestamp": "now"}]},
        {"rows": [{"a" * 100_000: 1}]},
        {"rows": [{"_step": 0, "a\u0000b": 1}]},
        {"rows": [{"_step": 0}], "offset": -1},
        {"rows": [{"_step": 0}], "offset": 2**60},
    ],
    ids=str,
)
def test_rows_of_history_that_are_none_are_refused_or_stored_as_they_are(live: Lab, rows: Any) -> None:
    run = live.run()
    answer = live.ask("POST", "/runs/{id}/history", Ask({"id": run}, {}, rows))
    assert answer.status < 500, answer.body
    if answer.status >= 400:
        assert_refused(answer, "POST")
        assert live.owner.runs.count_rows(run) == 0


def test_a_digest_that_is_not_that_of_the_bytes_keeps_nothing(live: Lab) -> None:
    wrong = "sha256:" + "0" * 64
    answer = live.ask("PUT", "/blobs", Ask(raw=b"content of another digest", headers={"Labkeep-Digest": wrong}))
    assert_refused(answer, "PUT")
    assert not live.owner.blobs.exists(wrong)
    for text in ("", "sha256:x", wrong + "0", "md5:" + "0" * 32, "\xff"):
        assert_refused(live.ask("PUT", "/blobs", Ask(raw=b"a", headers={"Labkeep-Digest": text})), "PUT")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("bytes=0-2", 206),
        ("bytes=-3", 206),
        ("bytes=99999999-", 416),
        ("bytes=2-1", 200),
        ("bytes=0-1,3-4", 200),
        ("bytes=" + "9" * 40 + "-", 200),
        ("lines=1-2", 200),
        ("bytes=-", 200),
        ("bytes=-0", 416),
        ("x" * 3_000, 200),
    ],
)
def test_a_range_is_served_or_refused_and_never_a_fault(live: Lab, text: str, status: int) -> None:
    ask = Ask({"id": live.file()}, {"path": "a.txt"}, headers={"Range": text})
    answer = live.ask("GET", "/files/{id}/content", ask)
    assert answer.status == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "e\u0301",
        "\u00e9",
        "\u202egnp.exe",
        "a\u200bb",
        "\U0001f648",
        "\u0130I\u0131i",
        "a'b\"c`d",
        "<script>",
        "a" * 512,
        "..",
        "/",
        "null",
        "NaN",
        "0",
        "-",
        "%s",
        "{0}",
        "\ufffd",
        "\ud7ff\ue000",
    ],
)
def test_a_name_in_any_script_comes_back_as_it_was_given(live: Lab, name: str) -> None:
    made = live.ask("POST", "/runs", Ask(body={"project": "lab", "name": name, "tags": [name], "config": {name: name}}))
    assert made.status == 201
    read = live.ask("GET", "/runs/{id}", Ask({"id": made.json["id"]})).json
    assert (read["name"], read["tags"], read["config"]) == (name, [name], {name: name})
    found = live.ask("GET", "/runs", Ask(query={"project": "lab", "name": name}))
    assert made.json["id"] in [run["id"] for run in found.json["items"]]


@pytest.mark.parametrize("name", ["", "a\n", "\n", "a\tb", "a\x00", "\x1b[31m", "\x7f", "a" * 513])
def test_a_name_that_nobody_can_read_is_refused(live: Lab, name: str) -> None:
    for path, more in (
        ("/runs", {"project": "lab"}),
        ("/projects", {}),
        ("/documents", {"project": "lab", "type": "x"}),
    ):
        ask = Ask(body={"name": name, **more})
        assert_nothing_stored(live, Target("POST", path, (), True, ask), [ask])


def test_of_a_field_that_stands_twice_the_last_one_counts(live: Lab) -> None:
    answer = live.ask("POST", "/runs", Ask(raw=b'{"project": "lab", "name": "first", "name": "second"}'))
    assert answer.json["name"] == "second"


# --- lists ------------------------------------------------------------------------------------------------------------

LISTS = [one for one in ENDPOINTS if "cursor" in one.command.__struct_fields__]


@pytest.mark.parametrize("route", LISTS, ids=label)
def test_a_cursor_that_this_list_did_not_give_is_refused(live: Lab, route: Endpoint) -> None:
    wanted = target(live, route)
    if wanted.path in UNPAGED:
        return
    cursors = [
        "x",
        "=",
        "bnVsbA",
        "W10",
        "WzExODA1OTE2MjA3MTc0MTEzMDM0MjRd",
        "W251bGxd",
        "WyJhIiwiYiIsImMiXQ",
        "e30",
        "a" * 10_000,
        "\x00",
        "\xe9",
    ]
    for cursor in cursors:
        answer = live.ask(wanted.method, wanted.path, wanted.ask._replace(query={**wanted.ask.query, "cursor": cursor}))
        assert answer.status == 422, (cursor, answer.body)
        assert_refused(answer, "GET")


UNPAGED = {"/usage", "/runs/diff"}
"""Lists that are answered whole."""


@pytest.mark.parametrize("route", LISTS, ids=label)
def test_a_limit_is_from_1_to_10_000(live: Lab, route: Endpoint) -> None:
    wanted = target(live, route)
    for limit in ("0", "-1", "10001", "99999999999999999999", "1.5", "x", "", "null"):
        ask = wanted.ask._replace(query={**wanted.ask.query, "limit": limit})
        assert_refused(live.ask(wanted.method, wanted.path, ask), "GET")


@pytest.mark.parametrize(
    "q",
    [
        "(",
        ")" * 3_000,
        "(" * 3_000,
        "not " * 3_000,
        "a = 1 and " * 900 + "a = 1",
        "a" * 10_001,
        'name = "',
        "name = \x00",
        "config.a ~ 1",
        "1 = 1",
        "select * from runs",
        "config..a = 1",
        "a in ()",
        "name like",
        'name = "a" limit 1',
    ],
)
def test_a_query_that_makes_no_sense_is_refused_with_its_place(live: Lab, q: str) -> None:
    for path in ("/runs", "/projects", "/documents", "/artifacts"):
        answer = live.ask("GET", path, Ask(query={"q": q}))
        assert answer.status < 500, answer.body
        if answer.status >= 400:
            assert_refused(answer, "GET")
