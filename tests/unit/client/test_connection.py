"""Retries, errors and pages: what every resource of the client shares."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest

import labkeep
from labkeep import AsyncLabkeep, Labkeep, errors
from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection
from labkeep.client._sync.connection import Connection
from labkeep.client.retries import LONGEST_WAIT_S, Retries, error_of
from labkeep.client.target import Target
from labkeep.client.transport import Answer, Call, Lost
from tests.unit.client.fake_server import FakeServer, Fault

GET = Call(method="GET", path="/api/v1/runs?limit=1", headers={})
ONCE = Call(method="POST", path="/api/v1/runs/1/history", headers={}, repeatable=False)
QUICK = Retries(count=3, first_s=0.001)


def envelope(code: str, **details: Any) -> dict[str, Any]:
    return {"code": code, "message": f"it is {code}", "details": details, "retry": False, "incident": ""}


class Scripted:
    """A transport that answers from a list, and keeps what it was asked."""

    def __init__(self, *answers: Answer | Lost) -> None:
        self.answers = list(answers)
        self.calls: list[Call] = []

    def send(self, call: Call) -> Answer:
        self.calls.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, Lost):
            raise answer
        return answer

    def close(self) -> None:
        pass


def connection(*answers: Answer | Lost) -> tuple[Connection, Scripted]:
    transport = Scripted(*answers)
    return Connection(transport, Target("http://lab", "lk-1"), retries=QUICK, timeout_s=1.0), transport


# --- retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_fault_is_tried_again_with_the_same_idempotency_key(status: int) -> None:
    made, transport = connection(Answer(status, {}), Lost("gone", sent=True), Answer(201, {}, b"{}"))
    assert made.write(dict[str, Any], "POST", "/api/v1/runs", {"a": 1}) == {}
    keys = {call.headers["Idempotency-Key"] for call in transport.calls}
    assert (len(transport.calls), len(keys)) == (3, 1)
    made, transport = connection(Answer(201, {}, b"{}"))
    made.write(dict[str, Any], "POST", "/api/v1/runs", {"a": 1})
    assert transport.calls[0].headers["Idempotency-Key"] not in keys


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(501, {}), errors.Unsupported),
        (Answer(500, {}, msgspec.json.encode(envelope("corrupt"))), errors.Corrupt),
        (Answer(404, {}, b"<html>"), errors.NotFound),
        (Answer(422, {}), errors.Invalid),
        (Answer(301, {"location": "https://lab/"}), errors.Refused),
    ],
)
def test_what_a_retry_cannot_help_is_not_tried_again(answer: Answer, error: type[Exception]) -> None:
    made, transport = connection(answer)
    with pytest.raises(error):
        made.read(Any, "/api/v1/me")
    assert len(transport.calls) == 1


def test_patience_ends_with_the_error_of_the_last_try() -> None:
    made, transport = connection(*[Lost("refused", sent=False)] * 4)
    with pytest.raises(errors.Unavailable, match=r"no answer from http://lab: refused\..*labkeep serve"):
        made.read(Any, "/api/v1/me")
    assert len(transport.calls) == 4
    made, _ = connection(*[Answer(500, {}, b"trouble")] * 4)
    with pytest.raises(errors.LabkeepError, match="GET /api/v1/me was answered with 500: trouble"):
        made.read(Any, "/api/v1/me")


def test_what_may_have_been_done_is_not_sent_twice_unless_that_is_safe() -> None:
    assert QUICK.after_loss(0, ONCE, Lost("x", sent=True)) is None
    assert QUICK.after_loss(0, ONCE, Lost("x", sent=False)) is not None
    assert QUICK.after_loss(0, GET, Lost("x", sent=True)) is not None
    assert QUICK.after_answer(0, ONCE, Answer(502, {})) is None
    assert QUICK.after_answer(0, ONCE, Answer(503, {})) is not None


def test_retry_after_is_honoured_up_to_a_limit() -> None:
    assert Retries().after_answer(0, GET, Answer(429, {"retry-after": "7"})) == 7.0
    assert Retries().after_answer(0, GET, Answer(503, {"retry-after": "86400"})) == LONGEST_WAIT_S
    assert Retries().after_answer(0, GET, Answer(503, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"})) <= 0.25
    assert Retries().after_answer(3, GET, Answer(503, {"retry-after": "7"})) is None


def test_waits_double_with_jitter_up_to_a_limit() -> None:
    waits = [Retries(count=20).after_loss(n, GET, Lost("x", sent=False)) for n in range(12)]
    for n, wait in enumerate(waits):
        full = min(0.25 * 2.0**n, 8.0)
        assert wait is not None
        assert full / 2 <= wait <= full


# --- errors


@pytest.mark.parametrize("kind", [kind for kind in errors.all_errors() if kind.code in errors.BY_CODE])
def test_every_error_of_the_server_is_raised_as_its_own_class(kind: type[errors.LabkeepError]) -> None:
    body = msgspec.json.encode(envelope(kind.code, message="details may have any name", by="ada"))
    error = error_of(GET, Answer(kind.status, {}, body))
    assert type(error) is kind
    assert error.message == f"it is {kind.code}"
    assert error.details == {"message": "details may have any name", "by": "ada"}


def test_a_bug_of_the_server_says_what_to_look_for_in_its_log() -> None:
    body = msgspec.json.encode({**envelope("internal"), "incident": "4f2a"})
    assert error_of(GET, Answer(500, {}, body)).details["incident"] == "4f2a"


def test_a_code_of_a_newer_server_falls_back_to_its_status() -> None:
    error = error_of(GET, Answer(409, {}, msgspec.json.encode(envelope("newer"))))
    assert type(error) is errors.Conflict
    assert type(error_of(GET, Answer(418, {}, msgspec.json.encode(envelope("newer"))))) is errors.Refused


def test_an_answer_that_is_something_else_is_explained() -> None:
    made, _ = connection(Answer(200, {}, b"<html>Sign in to the hotel network"))
    with pytest.raises(errors.Unsupported, match="is this a Labkeep server"):
        made.read(dict[str, Any], "/api/v1/me")
    made, _ = connection(Answer(302, {"location": "https://lab.example/"}))
    with pytest.raises(errors.Refused, match=r"redirected to https://lab\.example/; set LABKEEP_URL"):
        made.read(Any, "/api/v1/me")


# --- pages


def page(*items: int, following: str | None) -> Answer:
    return Answer(200, {}, msgspec.json.encode({"items": items, "next": following}))


def test_iterating_turns_the_pages() -> None:
    made, transport = connection(
        page(1, 2, following="b c"), page(3, following="d"), page(following="e"), page(4, following=None)
    )
    found = made.pages(int, "/api/v1/runs", q="a = 1", limit=2, tags=["x", "y"])
    assert transport.calls == []
    assert list(found) == [1, 2, 3, 4]
    assert [call.path.partition("?")[2] for call in transport.calls] == [
        "q=a+%3D+1&limit=2&tags=x&tags=y",
        "q=a+%3D+1&limit=2&tags=x&tags=y&cursor=b+c",
        "q=a+%3D+1&limit=2&tags=x&tags=y&cursor=d",
        "q=a+%3D+1&limit=2&tags=x&tags=y&cursor=e",
    ]


def test_the_first_page_is_fetched_once_and_alone() -> None:
    made, transport = connection(page(1, 2, following="b"))
    found = made.pages(int, "/api/v1/runs")
    assert (found.items, found.next) == ([1, 2], "b")
    assert found.first_page().items == [1, 2]
    assert next(iter(found)) == 1
    assert len(transport.calls) == 1


def test_an_async_list_is_awaited_for_a_page_and_iterated_for_all() -> None:
    class Async(Scripted):
        async def send(self, call: Call) -> Answer:  # type: ignore[override]
            return Scripted.send(self, call)

    async def both() -> tuple[list[int], list[int]]:
        transport = Async(page(1, following="b"), page(1, following="b"), page(2, following=None))
        made = AsyncConnection(transport, Target("http://lab", "lk-1"), retries=QUICK, timeout_s=1.0)  # type: ignore[arg-type]
        first = await made.pages(int, "/api/v1/runs")
        return first.items, [item async for item in made.pages(int, "/api/v1/runs")]

    assert asyncio.run(both()) == ([1], [1, 2])


# --- requests


class Colour(Enum):
    red = "r"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": float("nan"), "b": [float("inf")]}, '{"a":"NaN","b":["Infinity"]}'),
        ({"at": datetime(2026, 11, 1, tzinfo=UTC)}, '{"at":"2026-11-01T00:00:00+00:00"}'),
        ({"p": Path("a/b"), "c": Colour.red, 1: (1, 2)}, '{"p":"a/b","c":"r","1":[1,2]}'),
    ],
)
def test_values_become_json(value: Any, text: str) -> None:
    assert requests.body(value).decode() == text


def test_what_cannot_be_json_is_refused_before_it_is_sent() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    for value in ({"a": object()}, {"a": "\ud800"}, {(1, 2): 3}, cyclic):
        with pytest.raises(errors.Invalid):
            requests.body(value)


@pytest.mark.parametrize("id", ["", ".", "..", "\ud800"])
def test_an_id_that_would_be_another_path_is_refused(id: str) -> None:
    with pytest.raises(errors.Invalid):
        requests.path("/runs/{id}", id=id)
    assert requests.path("/runs/{id}", id="../keys?x") == "/api/v1/runs/..%2Fkeys%3Fx"


def test_a_client_says_who_it_is(server: FakeServer) -> None:
    with Labkeep(workspace="Büro") as client:
        assert client.me().user == "ada"
    seen = server.seen[0]
    assert seen.headers["labkeep-client"].startswith(f"labkeep-python/{labkeep.__version__} ")
    assert seen.headers["labkeep-workspace"].encode("utf-8") == "Büro".encode()


def test_both_clients_work_with_a_real_connection(server: FakeServer) -> None:
    async def ask() -> str:
        async with AsyncLabkeep(max_retries=1) as client:
            server.faults.append(Fault(503, {"retry-after": "0"}))
            return (await client.me()).user

    assert asyncio.run(ask()) == "ada"
    assert Labkeep(max_retries=1).me().user == "ada"


def test_an_async_client_that_nobody_closes_leaves_no_connection_open(server: FakeServer) -> None:
    clients = [AsyncLabkeep() for _ in range(3)]
    for client in clients:
        asyncio.run(many(client))
        asyncio.run(many(client))
    asyncio.run(many(AsyncLabkeep()))
    del clients, client
    gc.collect()  # what is left open would be a ResourceWarning now


async def many(client: AsyncLabkeep) -> None:
    answers = await asyncio.gather(*(client.me() for _ in range(12)))
    assert {answer.user for answer in answers} == {"ada"}
