"""Garbage for every route of the native API: each is refused in our own words, and leaves nothing behind."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from labkeep.api.routes import PREFIX
from labkeep.client.transport import Answer
from labkeep.core.columns import MEDIA_TYPE
from labkeep.core.errors import BY_CODE
from labkeep.http.openapi import ByteEndpoint
from tests.contract.native_api import (
    BODIES,
    ROUTES,
    SAMPLES,
    Api,
    Ask,
    Json,
    Row,
    World,
    filled,
    good_request,
    label,
    opened,
    path_of,
    takes_json,
)

EVERY_ROUTE = pytest.mark.parametrize("route", ROUTES, ids=label)
WITH_JSON = pytest.mark.parametrize(
    "route", [route for route in ROUTES if takes_json(route) or route.name == "history_append"], ids=label
)
WITH_PLACE = pytest.mark.parametrize("route", [route for route in ROUTES if "{" in route.path], ids=label)
NO_OBJECTS = {
    "not JSON": b"{",
    "two values": b"{} {}",
    "not closed": b'{"id": "',
    "a comma too many": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "deep arrays": b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep and not closed": b"[" * 100_000,
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "1e999": b'{"a": 1e999}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "half a pair": b'{"a": "\\udc00\\ud800"}',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a control character": b'{"a": "\x01"}',
    "an array": b"[]",
    "an array of objects": b'[{"id": "a"}]',
    "text": b'"id"',
    "a number": b"7",
    "null": b"null!",
    "binary": bytes(range(256)),
    "zeros": bytes(1000),
}
IDS = [
    "..",
    "../../etc/passwd",
    "%00",
    "a%00b",
    "..%2F..%2Fsecrets",
    "%2e%2e",
    "%F0%9F%92%A9",
    "%FF%FE",
    "%ED%A0%80",
    "'; DROP TABLE runs; --".replace(" ", "%20"),
    "a" * 100_000,
    "-1",
    "9" * 400,
    "null",
    "%0a",
    "{id}",
    "00000000-0000-0000-0000-000000000000",
    "00000000-0000-7000-8000-000000000001",
    "00000000-0000-7000-8000-00000000000A%00",
]
CURSORS = [
    "x",
    "\0",
    "a" * 100_000,
    "e30",
    "W10",
    "bnVsbA",
    "WzFlOTk5XQ",
    "eyJhIjpbXX0=",
    "../..",
    "\U0001f4a9",
    "-1",
    "[[[[",
    "'; --",
]
NUMBERS = ["-1", "0", "1e999", "NaN", "9" * 400, "1.5", "", " ", "0x10", "\0", "true"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with opened(tmp_path_factory.mktemp("hostile")) as api:
        yield api


@pytest.fixture(scope="module")
def world(api: Api) -> World:
    made = api.world("target")
    while any(job["state"] in ("queued", "running") for job in api.ok("GET", "/jobs")["items"]):
        time.sleep(0.01)
    return made


@pytest.fixture(scope="module")
def before(api: Api, world: World) -> list[Json]:
    return everything(api, world)


@pytest.fixture(autouse=True)
def _nothing_is_stored(api: Api, world: World, before: list[Json]) -> Iterator[None]:
    yield
    assert everything(api, world) == before


def everything(api: Api, world: World) -> list[Json]:
    """What would be another after anything was stored."""
    run = world["run"]
    paths = ["/usage?by=kind", "/audit?limit=1", "/members", "/workspaces", "/keys", "/trash"]
    paths += [f"/runs/{run}", f"/rows/{run}/stats", f"/runs/{run}/series", f"/files/{run}", f"/links/{run}"]
    paths += [f"/documents/{world['document']}/versions", f"/environments?project={world['project']}"]
    return [api.ok("GET", path) for path in paths]


def send(api: Api, ask: Ask) -> Answer:
    """The answer, which is never a bug of ours, and when it refuses does so in our envelope."""
    answer = api.send(ask, api.folder.key)
    assert answer.status < 500, (ask.path[:200], ask.body[:200], answer)
    if answer.status >= 400 and ask.method != "HEAD":
        said = msgspec.json.decode(answer.body)
        assert said["code"] in BY_CODE
        assert said["message"]
        assert len(answer.body) < 10_000
    return answer


def refused(api: Api, ask: Ask) -> Answer:
    """The answer, which is a refusal."""
    answer = send(api, ask)
    assert answer.status >= 400, (ask.path[:200], ask.body[:200], answer)
    return answer


def field_types(route: Row) -> dict[str, Any]:
    """Fields of the command behind a route."""
    command = route.query if isinstance(route, ByteEndpoint) else route.command
    return {field.name: field.type for field in msgspec.structs.fields(command)} if command else {}


def altered(route: Row, world: World, name: str, value: Any) -> Ask:
    """A good request with one field, not in the path, set to ``value``."""
    values = filled(dict(SAMPLES[route.name].values), world)
    path = path_of(route, values)
    if takes_json(route):
        return Ask(route.method, path, msgspec.json.encode(values | {name: value}))
    return Ask(
        route.method, f"{path}?{urlencode(values | {name: value}, errors='replace')}", BODIES.get(route.name, b"")
    )


def beside_path(route: Row) -> list[str]:
    """Fields that are not in the path."""
    return [name for name in field_types(route) if f"{{{name}}}" not in route.path]


# --- bodies -----------------------------------------------------------------------------------------------------------


@WITH_JSON
def test_a_body_that_is_no_json_object_is_refused(api: Api, world: World, route: Row) -> None:
    for body in NO_OBJECTS.values():
        answer = refused(api, good_request(route, world)._replace(body=body))
        assert answer.status in (400, 413, 422)


@WITH_JSON
def test_a_damaged_or_bursting_compressed_body_is_refused(api: Api, world: World, route: Row) -> None:
    whole = gzip.compress(b'{"padding": "' + b"a" * 10_000 + b'"}')
    for body in (whole, whole[:-9], b"\x1f\x8b" + bytes(50), b"{}", b"", whole + whole):
        refused(api, good_request(route, world)._replace(body=body, headers={"Content-Encoding": "gzip"}))
    for encoding in ("br", "gzip, gzip", "\x00", "x" * 1000):
        refused(api, good_request(route, world)._replace(headers={"Content-Encoding": encoding}))


@WITH_JSON
def test_a_body_that_says_it_is_something_else_is_refused(api: Api, world: World, route: Row) -> None:
    for kind in ("text/xml", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "\xff", "a" * 9999):
        if route.name != "history_append" or not kind.startswith("application/json"):
            answer = refused(api, good_request(route, world)._replace(headers={"Content-Type": kind}))
            assert msgspec.json.decode(answer.body)["details"]["path"] == "content-type"


@WITH_JSON
def test_an_unknown_field_is_refused(api: Api, world: World, route: Row) -> None:
    ask = good_request(route, world)
    values = msgspec.json.decode(ask.body)
    for name in ("unknown", "__proto__", "", "\0", "a" * 100_000):
        refused(api, ask._replace(body=msgspec.json.encode(values | {name: 1})))


@WITH_JSON
def test_a_field_of_another_type_is_refused(api: Api, world: World, route: Row) -> None:
    names = ["rows", "offset"] if route.name == "history_append" else beside_path(route)
    for name in names:
        wrong: list[Any] = [[[]], 10**30, 1e300, -1.5]
        for value in wrong:
            values = msgspec.json.decode(good_request(route, world).body) | {name: value}
            refused(api, good_request(route, world)._replace(body=msgspec.json.encode(values)))


@WITH_JSON
def test_text_with_a_zero_byte_is_refused(api: Api, world: World, route: Row) -> None:
    if not takes_json(route):
        return
    for name in beside_path(route):
        refused(api, altered(route, world, name, "a\0b"))


def test_a_bomb_stays_small(api: Api, world: World) -> None:
    body = gzip.compress(b"[" + b" " * (2**28 + 2**20) + b"]", 1)
    ask = good_request(next(route for route in ROUTES if route.name == "runs_create"), world)
    assert refused(api, ask._replace(body=body, headers={"Content-Encoding": "gzip"})).status == 413


@pytest.mark.parametrize("body", [b"", b"\0" * 64, b"PK\x03\x04", bytes(range(256)) * 40, b"\xff" * 4096])
def test_columns_that_are_none_are_refused(api: Api, world: World, body: bytes) -> None:
    ask = good_request(next(route for route in ROUTES if route.name == "history_append"), world)
    refused(api, ask._replace(body=body, headers={"Content-Type": MEDIA_TYPE}))


# --- paths and queries ------------------------------------------------------------------------------------------------


@WITH_PLACE
def test_an_id_that_is_none_is_not_found_or_refused(api: Api, world: World, route: Row) -> None:
    if route.name == "accounts_set_member":
        return  # it takes the name of a user, whom anybody may be called
    start, _, rest = route.path.partition("{")
    ask = good_request(route, world)
    for hostile in IDS:
        place = PREFIX + start + hostile + rest.partition("}")[2].replace("{number}", "1")
        refused(api, ask._replace(path=f"{place}?{ask.path.partition('?')[2]}"))


@EVERY_ROUTE
def test_a_parameter_that_makes_no_sense_is_no_bug(api: Api, world: World, route: Row) -> None:
    if route.method not in ("GET", "HEAD", "DELETE"):
        return
    for name in beside_path(route):
        for value in [*NUMBERS, *CURSORS, "(" * 9999, "a = " * 2000, "not " * 2400]:
            asked = altered(route, world, name, value)
            if route.method != "DELETE":
                answer = send(api, asked)
                assert answer.status >= 400 or "\0" not in str(value)
    refused(api, altered(route, world, "unknown", "1"))


@pytest.mark.parametrize("route", [route for route in ROUTES if "cursor" in field_types(route)], ids=label)
def test_a_cursor_that_we_did_not_make_is_refused(api: Api, world: World, route: Row) -> None:
    if route.name == "usage_by":
        return
    for cursor in CURSORS:
        refused(api, altered(route, world, "cursor", cursor))


@pytest.mark.parametrize("path", ["", ".", "..", "../x", "/etc/passwd", "a/../b", "a\0b", "a\\..\\b", "x" * 2000])
def test_a_file_does_not_leave_its_folder(api: Api, world: World, path: str) -> None:
    query = urlencode({"path": path})
    refused(api, Ask("PUT", f"{PREFIX}/files/{world['run']}?{query}", b"hello"))
    refused(api, Ask("GET", f"{PREFIX}/files/{world['run']}/content?{query}"))


@EVERY_ROUTE
def test_odd_headers_are_no_bug(api: Api, world: World, route: Row) -> None:
    """What is asked is nothing, so that only the headers matter."""
    ask = good_request(route, world)._replace(body=b"!")
    for headers in (
        {"Accept": "\xff" * 500},
        {"Range": "bytes=-"},
        {"X-Request-Id": "\x00\n" + "x" * 10_000},
        {"User-Agent": "\x1b[31m\xff"},
        {"Content-Length": "99999999999999999999999"},
        {"Idempotency-Key": "k" * 10_000},
        {"Labkeep-Digest": "sha256:\xff"},
    ):
        if takes_json(route) or (route.method in ("GET", "HEAD")):
            send(api, ask._replace(headers=headers))
    for workspace in ("\xff", "\x00", "w" * 10_000, "no-such"):
        refused(api, ask._replace(headers={"Labkeep-Workspace": workspace}))
