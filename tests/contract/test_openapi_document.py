"""The OpenAPI document: it is valid and complete, and what it says of requests and answers is so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.checks import CHECKS

from labkeep.api.routes import PREFIX
from tests.contract.native_api import ROUTES, SAMPLES, Api, Ask, Row, World, filled, label, opened

CHECKED = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
]
NOT_CHECKED = {
    # References are ids of what exists, `q` and cursors have grammars of their own, and two fields may contradict each
    # other: a request that fits the document is often refused, and rightly so.
    "positive_data_acceptance",
    # Methods that a path does not have are answered by the router, the same for all paths: see the test below.
    "unsupported_method",
    "allow_header_conformance",
    # These follow objects from one request to another. That an object which is gone cannot be used, that one that was
    # made can, and that keys and tenants matter is tested route by route with objects that exist.
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
    "object_level_authorization",
}


@schemathesis.serializer("application/vnd.apache.parquet")
def _as_bytes(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with opened(tmp_path_factory.mktemp("openapi")) as api:
        yield api


@pytest.fixture(scope="module")
def world(api: Api) -> World:
    return api.world("described")


@pytest.fixture(scope="module")
def document(api: Api) -> BaseSchema:
    return schemathesis.openapi.from_asgi(f"{PREFIX}/openapi.json", api.app)


def test_the_document_is_openapi_3_1(document: BaseSchema) -> None:
    document.validate()
    assert document.raw_schema["openapi"].startswith("3.1")


def test_every_route_is_described_once(document: BaseSchema) -> None:
    paths: dict[str, Any] = document.raw_schema["paths"]
    described = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    assert sorted(described) == sorted(f"{route.method} {PREFIX}{route.path}" for route in ROUTES)
    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(set(names)) == len(names)


def test_each_check_is_made_or_left_out_for_a_reason() -> None:
    assert {*CHECKED} | NOT_CHECKED == {*CHECKS.get_all_names()}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fits", "does not fit"])
@pytest.mark.parametrize("route", ROUTES, ids=label)
def test_answers_are_as_the_document_says(
    api: Api, world: World, document: BaseSchema, route: Row, mode: GenerationMode
) -> None:
    """What fits is asked of objects that exist, so that the answers are more than "not found"."""
    known = filled(SAMPLES[route.name].values, world) if mode == GenerationMode.POSITIVE else {}
    place = {name: value for name, value in known.items() if f"{{{name}}}" in route.path}
    operation = document[PREFIX + route.path][route.method]
    checks: list[Any] = [*CHECKS.get_by_names(CHECKED)]

    @settings(
        max_examples=3,
        phases=[Phase.generate],  # no shrinking: what was sent is shown anyway, and time is bounded
        suppress_health_check=[*HealthCheck],  # of three examples no statistics can be made
    )
    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=place or None))
    def ask(case: Case[Any]) -> None:
        case.call_and_validate(checks=checks, headers={"Authorization": f"Bearer {api.folder.key}"})

    ask()


@pytest.mark.parametrize("path", ["/me", "/runs", "/runs/batch", "/openapi.json"])
def test_a_method_that_is_not_offered_is_refused_with_those_that_are(api: Api, path: str) -> None:
    answer = api.send(Ask("DELETE", PREFIX + path), api.folder.key)
    assert (answer.status, msgspec.json.decode(answer.body)["code"]) == (405, "unsupported")
    assert {*answer.headers["allow"].split(", ")} & {"GET", "POST"}
