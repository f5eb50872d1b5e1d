"""The native API's OpenAPI 3.1 document, and a page for people, both made from the route tables."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from labkeep import __version__
from labkeep.http.errors import ErrorBody
from labkeep.http.wire import Endpoint

Json = dict[str, Any]


class ByteEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that moves bytes. ``query`` is a command whose fields are its parameters; bodies are media types."""

    method: str
    path: str
    name: str
    summary: str
    tag: str
    query: type[Any] | None = None
    query_fields: tuple[str, ...] = ()
    request: tuple[str, ...] = ()
    response: tuple[str, ...] = ()
    output: Any = None
    status: int = 200
    needs_body: bool = True
    """False where no bytes at all are bytes, too."""


_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_REF = "#/components/schemas/{name}"


class Document:
    """OpenAPI for a route table."""

    def __init__(self, endpoints: Sequence[Endpoint], byte_endpoints: Sequence[ByteEndpoint], prefix: str) -> None:
        self._endpoints, self._bytes, self._prefix = endpoints, byte_endpoints, prefix
        self._encoded = b""

    def build(self) -> Json:
        """The whole document."""
        types: list[Any] = [ErrorBody]
        for endpoint in self._endpoints:
            types += [endpoint.command, endpoint.output]
        types += [e.output for e in self._bytes if e.output is not None] + [e.query for e in self._bytes if e.query]
        schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
        by_type = dict(zip(map(repr, types), schemas, strict=True))
        paths: Json = {}
        names: set[str] = set()
        for endpoint in self._endpoints:
            operation = self._operation(endpoint, by_type, components)
            if operation["operationId"] in names:  # one operation under two paths
                operation["operationId"] += "_" + endpoint.path.rpartition("/")[2].strip("{}")
            names.add(operation["operationId"])
            paths.setdefault(self._path(endpoint.path), {})[endpoint.method.lower()] = operation
        for raw in self._bytes:
            paths.setdefault(self._path(raw.path), {})[raw.method.lower()] = self._byte_operation(
                raw, by_type, components
            )
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Labkeep",
                "version": __version__,
                "description": "Experiments and eval runs with one honest lifecycle. "
                "Errors are JSON with a stable `code`; lists are pages with `next`.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"key": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key: lk-…"}},
            },
        }

    def _path(self, path: str) -> str:
        return self._prefix + _PARAMETER.sub(r"{\1}", path)

    def _operation(self, endpoint: Endpoint, by_type: Json, components: Json) -> Json:
        in_path = set(_PARAMETER.findall(endpoint.path))
        fields = _properties(by_type[repr(endpoint.command)], components)
        required = _required(by_type[repr(endpoint.command)], components)
        in_body = endpoint.method not in ("GET", "DELETE")
        operation: Json = {
            "operationId": endpoint.name,
            "tags": [endpoint.tag],
            "summary": endpoint.summary,
            "parameters": [
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "schema": _for_path(fields.get(name, {"type": "string"})),
                }
                for name in sorted(in_path)
            ],
            "responses": _responses(endpoint.status, {"application/json": {"schema": by_type[repr(endpoint.output)]}}),
        }
        if description := _doc(endpoint.operation):
            operation["description"] = description
        left = {name: schema for name, schema in fields.items() if name not in in_path}
        if in_body:
            body = {"type": "object", "properties": left, "additionalProperties": False}
            needed = sorted(required - in_path)
            body |= {"required": needed} if needed else {}
            operation["requestBody"] = {"required": bool(needed), "content": {"application/json": {"schema": body}}}
        else:
            operation["parameters"] += [
                {"name": name, "in": "query", "required": name in required, "schema": schema}
                for name, schema in left.items()
            ]
        if endpoint.writes:
            operation["parameters"].append(
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": False,
                    "schema": {"type": "string", "maxLength": 255},
                }
            )
        return operation

    def _byte_operation(self, raw: ByteEndpoint, by_type: Json, components: Json) -> Json:
        in_path = sorted(set(_PARAMETER.findall(raw.path)))
        fields = _properties(by_type[repr(raw.query)], components) if raw.query else {}
        required = _required(by_type[repr(raw.query)], components) if raw.query else set()
        names = raw.query_fields or tuple(name for name in fields if name not in in_path)
        parameters: list[Json] = [
            {"name": name, "in": "path", "required": True, "schema": _for_path(fields.get(name, {"type": "string"}))}
            for name in in_path
        ]
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": fields[name]} for name in names
        ]
        content: Json = {media: {"schema": {}} for media in raw.response}
        if raw.output is not None:
            content["application/json"] = {"schema": by_type[repr(raw.output)]}
        operation: Json = {
            "operationId": raw.name,
            "tags": [raw.tag],
            "summary": raw.summary,
            "parameters": parameters,
            "responses": _responses(raw.status, content),
        }
        if raw.request:
            content = {media: {"schema": {}} for media in raw.request}
            operation["requestBody"] = {"required": raw.needs_body, "content": content}
        return operation

    def routes(self) -> list[Route]:
        """``/openapi.json`` within the API."""

        async def document(_request: Request) -> Response:
            self._encoded = self._encoded or msgspec.json.encode(self.build())
            return Response(self._encoded, media_type="application/json")

        return [Route("/openapi.json", document)]

    def pages(self) -> list[Route]:
        """``/docs``: the same for people."""

        async def page(_request: Request) -> Response:
            return HTMLResponse(
                self.html(), headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
            )

        return [Route("/docs", page)]

    def html(self) -> str:
        """The document as a page without scripts."""
        document = self.build()
        parts = [_HEAD]
        tags: dict[str, list[tuple[str, str, Json]]] = {}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                tags.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
        parts.append("<nav>" + " ".join(f'<a href="#{tag}">{tag}</a>' for tag in tags) + "</nav>")
        for tag, operations in tags.items():
            parts.append(f'<h2 id="{tag}">{tag}</h2>')
            parts += [_section(*entry) for entry in operations]
        return "".join(parts) + "</body></html>"


def _properties(schema: Json, components: Json) -> Json:
    found: Json = _resolved(schema, components).get("properties", {})
    return found


def _required(schema: Json, components: Json) -> set[str]:
    return set(_resolved(schema, components).get("required", ()))


def _resolved(schema: Json, components: Json) -> Json:
    found: Json = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _for_path(schema: Json) -> Json:
    """A path parameter is always there, so null is not one of its values."""
    if "anyOf" in schema:
        kept = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return dict(kept[0]) if len(kept) == 1 else {"anyOf": kept}
    return {key: value for key, value in schema.items() if key != "default"}


def _responses(status: int, content: Json) -> Json:
    error = {"application/json": {"schema": {"$ref": _REF.format(name=ErrorBody.__name__)}}}
    return {
        str(status): {"description": "Done.", "content": content} if content else {"description": "Done."},
        "default": {"description": "An error; `code` says which.", "content": error},
    }


def _doc(function: Any) -> str:
    return " ".join(str(function.__doc__ or "").split())


def _section(method: str, path: str, operation: Json) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(p['name'])}</code></td><td>{p['in']}{', required' if p['required'] else ''}</td>"
        f"<td>{html.escape(_kind(p['schema']))}</td></tr>"
        for p in operation["parameters"]
    )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    needed = set(body.get("required", ()))
    rows += "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>body{', required' if name in needed else ''}</td>"
        f"<td>{html.escape(_kind(schema))}</td></tr>"
        for name, schema in body.get("properties", {}).items()
    )
    table = f"<table>{rows}</table>" if rows else ""
    text = html.escape(str(operation.get("description", operation["summary"])))
    return f"<section><h3><b>{method}</b> <code>{html.escape(path)}</code></h3><p>{text}</p>{table}</section>"


def _kind(schema: Json) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "any"))
    return f"{kind} of {_kind(schema['items'])}" if kind == "array" and schema.get("items") else kind


_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Labkeep API</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2330}
nav a{margin-right:.8rem}h3{font-weight:500;margin-bottom:.2rem}h3 b{color:#1d6f42}
table{border-collapse:collapse;width:100%}td{border-top:1px solid #ddd;padding:.2rem .6rem .2rem 0;vertical-align:top}
code{font:13px ui-monospace,monospace}section{margin-bottom:1.6rem}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#dde3ec}td{border-color:#333}a{color:#8ab4f8}h3 b{color:#7fd3a4}}
</style></head><body><h1>Labkeep API</h1><p>Send <code>Authorization: Bearer &lt;key&gt;</code>.
The same as a document for machines: <a href="/api/v1/openapi.json">openapi.json</a>.</p>"""
