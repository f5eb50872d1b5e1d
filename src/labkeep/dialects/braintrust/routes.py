"""The route table: what is answered, and what is known and refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from labkeep.core.errors import LabkeepError, Unsupported
from labkeep.dialects import Covered
from labkeep.dialects.braintrust import account, attachments, definitions, legacy, objects, queries, rows
from labkeep.dialects.braintrust.errors import encode
from labkeep.dialects.braintrust.surface import SURFACE

Handler = Callable[[Request], Awaitable[Response]]

_OBJECTS: list[tuple[str, str, Handler]] = [
    ("POST", "/v1/project", objects.create_project),
    ("GET", "/v1/project", objects.list_projects),
    ("GET", "/v1/project/{id}", objects.get_project),
    ("PATCH", "/v1/project/{id}", objects.update_project),
    ("DELETE", "/v1/project/{id}", objects.delete_project),
    ("POST", "/v1/experiment", objects.create_experiment),
    ("GET", "/v1/experiment", objects.list_experiments),
    ("GET", "/v1/experiment/{id}", objects.get_experiment),
    ("PATCH", "/v1/experiment/{id}", objects.update_experiment),
    ("DELETE", "/v1/experiment/{id}", objects.delete_experiment),
    ("GET", "/v1/experiment/{id}/summarize", objects.summarize_experiment),
    ("POST", "/v1/dataset", objects.create_dataset),
    ("GET", "/v1/dataset", objects.list_datasets),
    ("GET", "/v1/dataset/{id}", objects.get_dataset),
    ("PATCH", "/v1/dataset/{id}", objects.update_dataset),
    ("DELETE", "/v1/dataset/{id}", objects.delete_dataset),
    ("GET", "/v1/dataset/{id}/summarize", objects.summarize_dataset),
]

_ROWS: list[tuple[str, str, Handler]] = [
    *(("POST", f"/v1/{word}/{{id}}/insert", rows.insert(word)) for word in rows.HOMES),
    *((method, f"/v1/{word}/{{id}}/fetch", rows.fetch(word)) for word in rows.HOMES for method in ("GET", "POST")),
    *(("POST", f"/v1/{word}/{{id}}/feedback", rows.feedback(word)) for word in rows.HOMES),
    ("POST", "/v1/insert", rows.insert_many),
    ("POST", "/logs3", rows.logs3),
    ("POST", "/btql", queries.handle),
]

_DEFINITIONS: list[tuple[str, str, Handler]] = [
    row
    for word in definitions.WORDS
    for row in (
        ("POST", f"/v1/{word}", definitions.save(word, replace=False)),
        ("PUT", f"/v1/{word}", definitions.save(word, replace=True)),
        ("GET", f"/v1/{word}", definitions.find(word)),
        ("GET", f"/v1/{word}/{{id}}", definitions.get(word)),
        ("PATCH", f"/v1/{word}/{{id}}", definitions.update(word)),
        ("DELETE", f"/v1/{word}/{{id}}", definitions.delete(word)),
    )
]

_ATTACHMENTS: list[tuple[str, str, Handler]] = [
    ("POST", "/attachment", attachments.create),
    ("GET", "/attachment", attachments.find),
    ("POST", "/attachment/status", attachments.note),
]

_LINKS: list[tuple[str, str, Handler]] = [
    ("PUT", attachments.DOOR + "/{token}", attachments.upload),
    ("GET", attachments.DOOR + "/{token}", attachments.download),
]
"""Behind the links that we make ourselves."""

_ACCOUNT: list[tuple[str, str, Handler]] = [
    ("POST", "/api/apikey/login", account.login),
    ("POST", "/api/base_experiment/get_id", objects.base_experiment),
    ("GET", "/version", account.version),
    ("GET", "/ping", account.ping),
    ("GET", "/v1", account.hello),
]

_LEGACY: list[tuple[str, str, Handler]] = [
    ("POST", "/api/project/register", legacy.register_project),
    ("GET", "/api/project", legacy.get_project),
    ("POST", "/api/experiment/register", legacy.register_experiment),
    ("POST", "/api/experiment/get", legacy.find_experiment),
    ("POST", "/api/dataset/register", legacy.register_dataset),
    ("GET", "/experiment-comparison2", legacy.compare_experiments),
    ("GET", "/dataset-summary", legacy.summarize_dataset),
]

HANDLERS: list[tuple[str, str, Handler]] = [*_OBJECTS, *_ROWS, *_DEFINITIONS, *_ATTACHMENTS, *_ACCOUNT, *_LEGACY]


def _in_envelope(handler: Handler) -> Handler:
    """Errors of ``handler`` in the envelope that knows the request."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except LabkeepError as error:
            return encode(error, request)

    return handle


async def _unsupported(request: Request) -> Response:
    raise Unsupported(f"{request.method} {request.url.path} is not offered by this server")


async def _unknown(request: Request) -> Response:
    return PlainTextResponse(f"no such path: {request.method} {request.url.path}", 404)


def _shape(path: str) -> str:
    """A path without the names of its parameters."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


_SERVED = {(method, _shape(path)) for method, path, _ in HANDLERS}

COVERED = [Covered(group, method, path, (method, _shape(path)) in _SERVED) for group, method, path in SURFACE]
"""Every operation of the vendor's clients, and whether it is answered."""

ROUTES = [
    *(Route(path, _in_envelope(handler), methods=[method]) for method, path, handler in (*HANDLERS, *_LINKS)),
    *(
        Route(operation.path, _in_envelope(_unsupported), methods=[operation.method])
        for operation in COVERED
        if not operation.supported
    ),
    Route("/{path:path}", _unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
]
