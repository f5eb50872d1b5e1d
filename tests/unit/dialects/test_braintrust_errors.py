"""What goes wrong, in Braintrust's envelope; who may ask; and what is known and not offered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from labkeep.core import errors as e
from labkeep.dialects.braintrust import DIALECT
from labkeep.dialects.braintrust.errors import STATUS, encode
from labkeep.http.errors import incident

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def api(client_of: Callable[..., TestClient]) -> TestClient:
    return client_of(DIALECT)


def request(method: str, path: str) -> Request:
    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "path_params": {}}
    if UNKNOWN in path:
        scope["path_params"] = {"id": UNKNOWN}
    return Request(scope)


# --- the envelope -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", e.all_errors())
def test_every_class_of_error_has_a_row(kind: type[e.LabkeepError]) -> None:
    assert kind in STATUS
    assert kind in DIALECT.errors


@pytest.mark.parametrize("kind", e.all_errors())
@pytest.mark.parametrize("asked", [None, request("GET", f"/v1/experiment/{UNKNOWN}"), request("POST", "/logs3")])
def test_no_error_is_409_or_2xx_and_each_has_the_vendors_form(
    kind: type[e.LabkeepError], asked: Request | None
) -> None:
    response = encode(kind("something went wrong"), asked)
    assert response.status_code >= 400
    assert response.status_code != 409
    assert b"something went wrong" in bytes(response.body)
    expected = "application/json" if response.status_code == 403 else "text/plain; charset=utf-8"
    assert response.headers["content-type"] == expected


def test_a_bug_shows_its_incident_and_nothing_else() -> None:
    response = encode(incident(ValueError("secret"), request("GET", "/v1")))
    assert response.status_code == 500
    assert b"secret" not in bytes(response.body)


def test_a_request_that_may_be_repeated_says_when() -> None:
    assert encode(e.OverQuota("slow down", retry_after_s=7)).headers["retry-after"] == "7"
    assert encode(e.Unavailable("later")).headers["retry-after"] == "1"


def test_a_subclass_that_nobody_listed_is_answered_like_its_parent() -> None:
    class Tighter(e.TooLarge):
        pass

    assert encode(Tighter("x")).status_code == 413


# --- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer lk-wrong"}, {"authorization": "Bearer "}])
@pytest.mark.parametrize("path", ["/api/apikey/login", "/logs3", "/v1/experiment", "/nothing"])
def test_nothing_is_answered_without_a_valid_key(
    client_of: Callable[..., TestClient], headers: dict[str, str], path: str
) -> None:
    client = client_of(DIALECT)
    del client.headers["authorization"]
    refused = client.post(path, json={}, headers=headers)
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_viewer_may_read_and_not_write(client_of: Callable[..., TestClient], new_key: Callable[..., str]) -> None:
    made = client_of(DIALECT).post("/v1/project", json={"name": "p"}).json()
    viewer = client_of(DIALECT, key=new_key("viewer"))
    assert viewer.get(f"/v1/project/{made['id']}").json() == made
    refused = viewer.post("/v1/experiment", json={"project_id": made["id"]})
    assert (refused.status_code, refused.json()["Code"]) == (403, "ForbiddenError")
    assert viewer.post("/logs3", json={"rows": [{"project_id": made["id"]}]}).status_code == 403
    assert viewer.delete(f"/v1/project/{made['id']}").status_code == 403


def test_a_project_is_deleted_by_a_maintainer_not_by_an_editor(
    client_of: Callable[..., TestClient], new_key: Callable[..., str]
) -> None:
    made = client_of(DIALECT).post("/v1/project", json={"name": "p"}).json()
    assert client_of(DIALECT, key=new_key("editor", "ed")).delete(f"/v1/project/{made['id']}").status_code == 403
    assert client_of(DIALECT, key=new_key("maintainer", "mo")).delete(f"/v1/project/{made['id']}").status_code == 200


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/experiment/not-a-uuid", None),
        ("GET", "/v1/experiment?ids=zz", None),
        ("GET", "/v1/experiment?limit=-1", None),
        ("GET", "/v1/experiment?limit=x", None),
        ("GET", "/v1/project?starting_after=x", None),
        ("GET", f"/v1/experiment?starting_after={UNKNOWN}&ending_before={UNKNOWN}", None),
        ("GET", f"/v1/experiment/{UNKNOWN}/fetch?version=x", None),
        ("GET", f"/v1/experiment/{UNKNOWN}/fetch?cursor=x", None),
        ("GET", f"/v1/experiment/{UNKNOWN}/summarize?comparison_experiment_id=x", None),
        ("POST", "/v1/project", {"name": ""}),
        ("POST", "/v1/project", {"name": "a\x00b"}),
        ("POST", "/v1/project", {"name": 5}),
        ("POST", "/v1/project", {}),
        ("POST", "/v1/project", []),
        ("POST", "/v1/experiment", {"name": "e"}),
        ("POST", "/v1/experiment", {"project_id": "p"}),
        ("POST", "/v1/experiment", {"project_id": UNKNOWN}),
        ("POST", "/v1/experiment", {"project_id": UNKNOWN, "base_exp_id": "x"}),
        ("POST", "/v1/experiment", {"project_id": UNKNOWN, "metadata": []}),
        ("POST", "/v1/experiment", {"project_id": UNKNOWN, "tags": ["a", 1]}),
        ("POST", "/v1/dataset", {"project_id": UNKNOWN}),
        ("PATCH", f"/v1/project/{UNKNOWN}", 5),
        ("POST", f"/v1/experiment/{UNKNOWN}/insert", {"events": {}}),
        ("POST", f"/v1/experiment/{UNKNOWN}/insert", {"events": [1]}),
        ("POST", f"/v1/experiment/{UNKNOWN}/insert", {"events": [{"id": []}]}),
        ("POST", f"/v1/experiment/{UNKNOWN}/insert", {"events": [{"_is_merge": True, "_merge_paths": "x"}]}),
        ("POST", f"/v1/experiment/{UNKNOWN}/insert", {"events": [{"_is_merge": True, "_array_delete": [1]}]}),
        ("POST", f"/v1/experiment/{UNKNOWN}/insert", []),
        ("POST", f"/v1/experiment/{UNKNOWN}/feedback", {"feedback": [{"scores": {}}]}),
        ("POST", f"/v1/experiment/{UNKNOWN}/fetch", {"limit": "x"}),
        ("POST", f"/v1/experiment/{UNKNOWN}/fetch", {"version": True}),
        ("POST", f"/v1/experiment/{UNKNOWN}/fetch", {"cursor": 5}),
        ("POST", f"/v1/experiment/{UNKNOWN}/fetch", {"max_root_span_id": 5}),
        ("POST", "/logs3", {"rows": [{"id": "x"}]}),
        ("POST", "/logs3", {"rows": [{"experiment_id": "x"}]}),
        ("POST", "/logs3", {"rows": [{"experiment_id": UNKNOWN}]}),
        ("POST", "/logs3", {"rows": 5}),
        ("POST", "/logs3", {}),
        ("POST", "/v1/insert", {"experiment": []}),
        ("POST", "/v1/insert", {"experiment": {"x": {}}}),
        ("POST", "/v1/insert", {"dataset": {UNKNOWN: []}}),
        ("POST", "/api/base_experiment/get_id", {"id": 5}),
    ],
)
def test_bad_input_is_refused_with_400(api: TestClient, method: str, path: str, body: Any) -> None:
    refused = api.request(method, path, json=body)
    assert refused.status_code == 400, refused.text
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "content", [b"{", b'{"rows":[', b"\xff\xfe", b'{"rows":[{"a":' + b"[" * 500 + b"]" * 500 + b"}]}"]
)
@pytest.mark.parametrize("path", ["/logs3", "/v1/project", "/btql"])
def test_what_is_no_json_is_refused_with_400(api: TestClient, path: str, content: bytes) -> None:
    assert api.post(path, content=content).status_code == 400


def test_a_row_with_a_bad_id_is_refused_and_nothing_is_stored(api: TestClient) -> None:
    project = api.post("/v1/project", json={"name": "p"}).json()["id"]
    for bad in ("", "\x00", "x" * 2000):
        events = [{"id": "fine"}, {"id": bad}]
        assert api.post(f"/v1/project_logs/{project}/insert", json={"events": events}).status_code == 400
    assert api.post(f"/v1/project_logs/{project}/fetch").json() == {"events": []}


def test_a_body_over_the_limit_is_413(client_of: Callable[..., TestClient]) -> None:
    small = client_of(DIALECT, max_body_bytes=2000)
    assert small.post("/logs3", content=b"x" * 3000).status_code == 413


# --- what is known and not offered ------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [each for each in DIALECT.surface if not each.supported], ids=str)
def test_what_is_not_offered_says_so(api: TestClient, operation: Any) -> None:
    path = operation.path.replace("{id}", UNKNOWN).replace("{user_id}", UNKNOWN)
    path = path.replace("{kind}", "dataset").replace("{environment}", "dev").replace("{path}", "x")
    refused = api.request(operation.method, path)
    assert refused.status_code == 501
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("operation", [each for each in DIALECT.surface if each.supported], ids=str)
def test_what_the_table_calls_supported_is_answered(api: TestClient, operation: Any) -> None:
    answered = api.request(operation.method, operation.path.replace("{id}", UNKNOWN))
    assert answered.status_code not in (404, 405, 500, 501)


def test_a_path_that_nobody_knows_is_404(api: TestClient) -> None:
    assert api.get("/v1/nothing").status_code == 404
    assert api.put("/v1/project").status_code == 404


def test_an_overflow_upload_is_not_offered(api: TestClient) -> None:
    assert api.post("/logs3", json={"rows": {"type": "logs3_overflow", "key": "k"}}).status_code == 501
    assert api.post("/logs3", json={"rows": [{"prompt_session_id": "x", "log_id": "x"}]}).status_code == 501
