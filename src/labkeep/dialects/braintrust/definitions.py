"""Prompts and functions: documents whose versions are the whole object as the wire has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.commands import CreateDocument, UpdateDocument
from labkeep.core.entities import Json
from labkeep.core.errors import Gone, NotFound, Unsupported
from labkeep.core.ids import check_id
from labkeep.core.lifecycle import Kind
from labkeep.dialects.braintrust import translate as tr
from labkeep.dialects.braintrust.events import xact_in, xact_out
from labkeep.dialects.braintrust.objects import page_of, path_id, project_of
from labkeep.http.wire import answer, read_json, run
from labkeep.operations import definitions as ops
from labkeep.operations.definitions import Definition
from labkeep.operations.resources import EnsureDocument, Remove

Handler = Callable[[Request], Awaitable[Response]]

WORDS = ("prompt", "function")
"""Word in the path, and type of the document."""

_BESIDE = frozenset({"id", "project_id", "org_id", "log_id", "slug", "created", "_xact_id", "deleted_at"})
"""Fields that are not in the body of a version."""


class DefinitionIn(msgspec.Struct, frozen=True):
    """What of a prompt or function we look at; all of it is kept."""

    project_id: str | None = None
    name: str | None = None
    slug: str | None = None
    description: str | None = None
    tags: list[str] | None = None
    metadata: Json | None = None
    prompt_data: Json | None = None
    function_data: Json | None = None


def define(word: str, body: Any, *, replace: bool) -> ops.Define:
    """POST or PUT prompt or function."""
    asked = tr.parse(body, DefinitionIn)
    document = tr.command(
        CreateDocument,
        project=check_id(tr.required(asked.project_id, "project_id"), "project_id"),
        type=word,
        name=tr.required(asked.name, "name"),
        handle=tr.required(asked.slug, "slug"),
        description=asked.description,
        tags=None if asked.tags is None else tuple(asked.tags),
        metadata=asked.metadata,
        body=content_of(body),
        dialect=tr.DIALECT,
    )
    return ops.Define(ensure=EnsureDocument(document=document), replace=replace)


def content_of(body: Json) -> Json:
    """What of a body makes a version."""
    return {key: value for key, value in body.items() if key not in _BESIDE and value is not None}


def revise(word: str, id: str, body: Any) -> ops.Revise:
    """PATCH prompt or function: objects merge, null changes nothing."""
    clean = tr.without_nulls(body)
    asked = tr.parse(clean, DefinitionIn)
    if asked.slug is not None:
        raise Unsupported("a slug cannot be changed here: it is what code loads the object by")
    edit = tr.command(
        UpdateDocument,
        id=id,
        name=asked.name,
        description=asked.description,
        tags=None if asked.tags is None else tuple(asked.tags),
        metadata=asked.metadata,
    )
    return ops.Revise(edit=edit, type=word, patch=content_of(clean))


def definition_out(found: Definition, deleted_at: datetime | None = None) -> Json:
    """A version of a prompt or function on the wire."""
    document, body = found.document, found.body
    return {
        "description": document.description or None,
        "prompt_data": None,
        "function_data": {"type": "prompt"} if document.type == "prompt" else None,
        "metadata": document.metadata or None,
        "tags": list(document.tags) or None,
        "name": document.name,
        **body,
        "id": document.id,
        "_xact_id": xact_out(found.stamp),
        "project_id": document.project_id,
        "org_id": document.organization_id,
        "log_id": "p",
        "slug": document.handle or tr.slug(document.name),
        "created": document.created_at,
        "deleted_at": deleted_at,
    }


# --- handlers ---------------------------------------------------------------------------------------------------------


def save(word: str, *, replace: bool) -> Handler:
    """POST answers what is there under the slug; PUT replaces it."""

    async def handle(request: Request) -> Response:
        command = define(word, await read_json(request), replace=replace)
        found: Definition = await run(request, ops.define, command, writes=True)
        return answer(definition_out(found))

    return handle


def find(word: str) -> Handler:
    """GET on all of them, by slug, name, project, ids and version."""

    async def handle(request: Request) -> Response:
        fields = page_of(request, word) | {"project": project_of(request), "type": word}
        if fields["limit"] == 0:
            return answer({"objects": []})
        fields |= {"handle": request.query_params.get("slug", ""), "as_of": version_of(request)}
        try:
            found = await run(request, ops.find, tr.command(ops.FindDefinitions, **fields), writes=False)
        except (NotFound, Gone):
            found = []
        return answer({"objects": [definition_out(each) for each in found]})

    return handle


def get(word: str) -> Handler:
    """GET on one of them, at a version when one is asked for."""

    async def handle(request: Request) -> Response:
        command = ops.GetDefinition(id=path_id(request), type=word, as_of=version_of(request))
        return answer(definition_out(await run(request, ops.get, command, writes=False)))

    return handle


def version_of(request: Request) -> int | None:
    """The version in the query. An environment would decide it too, and is not known here."""
    query = request.query_params
    if query.get("version"):
        return xact_in(query["version"])
    if query.get("environment"):
        raise Unsupported("environments of prompts and functions are not offered: ask for a version")
    return None


def update(word: str) -> Handler:
    """PATCH on one of them."""

    async def handle(request: Request) -> Response:
        command = revise(word, path_id(request), await read_json(request))
        return answer(definition_out(await run(request, ops.revise, command, writes=True)))

    return handle


def delete(word: str) -> Handler:
    """DELETE on one of them: to the trash."""

    async def handle(request: Request) -> Response:
        command = Remove(id=path_id(request), kind=Kind.document, types=(word,))
        found, removed = await run(request, ops.discard, command, writes=True)
        return answer(definition_out(found, removed.at))

    return handle
