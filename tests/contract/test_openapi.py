"""The generated OpenAPI document: valid, complete, and the same as what is served."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from labkeep import __version__
from labkeep.api.routes import ENDPOINTS, PREFIX
from labkeep.api.stream import DESCRIBED
from labkeep.core.errors import all_errors
from labkeep.http import errors, openapi
from tests.contract.http_lab import Ask, Lab, lab

DOCUMENT = json.loads(json.dumps(openapi.Document(ENDPOINTS, DESCRIBED, prefix=PREFIX).build()))
OPERATIONS = {
    (method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}
ROUTES = {(one.method, PREFIX + re.sub(r"\{(\w+):\w+\}", r"{\1}", one.path)) for one in (*ENDPOINTS, *DESCRIBED)}


def label(case: tuple[str, str]) -> str:
    return " ".join(case)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("openapi")) as opened:
        yield opened


def walk(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from walk(inner)


def schemas() -> Iterator[tuple[str, Any]]:
    """Every schema of the document, with where it stands."""
    yield from ((f"#{name}", schema) for name, schema in DOCUMENT["components"]["schemas"].items())
    for case, operation in OPERATIONS.items():
        for parameter in operation["parameters"]:
            yield f"{label(case)} {parameter['name']}", parameter["schema"]
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media in (media for body in bodies for media in body.get("content", {}).items()):
            yield f"{label(case)} {media[0]}", media[1]["schema"]


def standalone(schema: Any) -> Any:
    """A schema of the document as one that knows what it refers to."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "components": DOCUMENT["components"]}


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_document_says_what_it_is() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["title"] == "Labkeep"
    assert DOCUMENT["info"]["version"] == __version__
    assert DOCUMENT["security"] == [{"key": []}]


def test_every_route_is_described_and_nothing_else() -> None:
    assert set(OPERATIONS) == ROUTES


def test_every_schema_is_a_schema() -> None:
    found = dict(schemas())
    assert len(found) > 300
    for where, schema in found.items():
        assert jsonschema_rs.meta.is_valid(standalone(schema)), where


def test_every_reference_leads_somewhere() -> None:
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    used = {value["$ref"] for value in walk(DOCUMENT) if isinstance(value, dict) and "$ref" in value}
    assert used <= known


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert {name for name in names if names.count(name) > 1} == set()


@pytest.mark.parametrize("case", OPERATIONS, ids=label)
def test_an_operation_is_described_whole(case: tuple[str, str]) -> None:
    method, path = case
    operation = OPERATIONS[case]
    assert operation["summary"]
    assert operation["tags"]
    by_place = {(one["in"], one["name"]) for one in operation["parameters"]}
    assert len(by_place) == len(operation["parameters"]), "no parameter stands twice"
    assert {name for place, name in by_place if place == "path"} == set(re.findall(r"\{(\w+)\}", path))
    assert all(one["required"] for one in operation["parameters"] if one["in"] == "path")
    assert ("requestBody" in operation) == (method in ("POST", "PUT", "PATCH"))
    success = [status for status in operation["responses"] if status.startswith("2")]
    assert len(success) == 1
    assert operation["responses"]["default"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ErrorBody"
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
def test_what_a_body_may_hold_is_what_the_command_takes(endpoint: Any) -> None:
    operation = OPERATIONS[endpoint.method, PREFIX + endpoint.path]
    fields = set(endpoint.command.__struct_fields__)
    in_path = set(re.findall(r"\{(\w+)\}", endpoint.path))
    if "requestBody" in operation:
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert set(body["properties"]) == fields - in_path
        assert body["additionalProperties"] is False
    else:
        said = {one["name"] for one in operation["parameters"] if one["in"] != "header"}
        assert said == fields | in_path


# --- what is served ---------------------------------------------------------------------------------------------------


def test_the_document_is_served_to_everybody_as_it_is(live: Lab) -> None:
    answer = live.request("GET", "/api/v1/openapi.json", key="")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == DOCUMENT


def test_the_page_for_people_names_every_route_and_runs_no_script(live: Lab) -> None:
    answer = live.request("GET", "/docs", key="")
    page = answer.body.decode()
    assert answer.status == 200
    assert [path for _, path in OPERATIONS if f"<code>{path}</code>" not in page] == []
    assert "<script" not in page
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_the_form_that_the_document_gives_it(kind: Any) -> None:
    validator = jsonschema_rs.validator_for(standalone({"$ref": "#/components/schemas/ErrorBody"}))
    body = errors.encode(kind("what is wrong, and what to do", path="a.b", retry_after_s=3)).body
    validator.validate(json.loads(bytes(body)))


def test_answers_have_the_form_that_the_document_gives_them(live: Lab) -> None:
    run, document = live.run(), live.document()
    asked = {
        ("GET", "/runs"): Ask(query={"project": "lab"}),
        ("GET", "/runs/{id}"): Ask({"id": run}),
        ("GET", "/documents/{id}"): Ask({"id": document}),
        ("GET", "/me"): Ask(),
        ("GET", "/audit"): Ask(),
        ("POST", "/plans"): Ask(body={"selection": {"ids": [run]}}),
        ("POST", "/items/{id}/trash"): Ask({"id": run}, body={}),
        ("GET", "/deletions"): Ask(),
        ("GET", "/trash"): Ask(),
        ("GET", "/usage"): Ask(),
    }
    for (method, path), ask in asked.items():
        answer = live.ask(method, path, ask)
        schema = OPERATIONS[method, PREFIX + path]["responses"][str(answer.status)]["content"]["application/json"][
            "schema"
        ]
        jsonschema_rs.validator_for(standalone(schema)).validate(answer.json)
