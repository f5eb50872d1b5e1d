"""The schema with all of its resolvers, and the one endpoint that runs documents."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.access import Actor
from labkeep.core.errors import NotFound
from labkeep.dialects.wandb import (
    accounts,
    artifact_writes,
    artifacts,
    files,
    histories,
    portfolios,
    projects,
    registries,
    run_sets,
    runs,
    sweeps,
)
from labkeep.dialects.wandb.context import Context, ids_in
from labkeep.dialects.wandb.graphql import Engine, Resolver
from labkeep.http.auth import KeyRing, bearer
from labkeep.http.urls import base_url
from labkeep.http.wire import JSON, actor_of, decode_json, read_body, run, store_of
from labkeep.operations import accounts as operations_accounts
from labkeep.operations.accounts import FindHome

MODULES = (
    accounts,
    projects,
    runs,
    histories,
    files,
    artifacts,
    artifact_writes,
    portfolios,
    registries,
    run_sets,
    sweeps,
)


def _gathered() -> dict[str, dict[str, Resolver]]:
    found: dict[str, dict[str, Resolver]] = {}
    for module in MODULES:
        for kind, fields in module.RESOLVERS.items():
            found.setdefault(kind, {}).update(fields)
    return found


ENGINE = Engine(Path(__file__).with_name("schema.graphql"), _gathered(), {"ArtifactCollection": artifacts.kind_of})


class Asked(msgspec.Struct, frozen=True, rename="camel"):
    """Body of a GraphQL request."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None


async def graphql(request: Request) -> Response:
    """POST /graphql."""
    body = await read_body(request)
    asked: Asked = decode_json(body, store_of(request).settings.max_json_depth, Asked)
    document = ENGINE.document(asked.query)
    variables = asked.variables or {}
    entity = document.entity(variables) or _entity(variables) or await _home(request, variables)
    context = await _context(request, entity, writes=document.writes)
    data = await asyncio.to_thread(_run, document, variables, asked.operation_name, context)
    return Response(data, media_type=JSON)


async def _context(request: Request, entity: str, *, writes: bool) -> Context:
    """What resolvers get. Who reads from an entity that is not there finds nothing; who writes to it is told."""
    try:
        actor, found = await actor_in(request, entity), True
    except NotFound:
        if writes:
            raise
        actor, found = actor_of(request), False
    return Context(store_of(request), actor, base_url(request), found=found)


def _run(document: Any, variables: dict[str, Any], name: str | None, context: Context) -> bytes:
    return msgspec.json.encode({"data": ENGINE.run(document, variables, name, context)})


def _entity(variables: dict[str, Any]) -> str:
    """The entity in the variables of a document that names none, as far as their names say; empty when there is none."""
    nested = variables.get("input")
    for place in (variables, nested if isinstance(nested, dict) else {}):
        for name in ("entity", "entityName", "entity_name"):
            if isinstance(place.get(name), str) and place[name]:
                return str(place[name])
    return ""


async def _home(request: Request, variables: dict[str, Any]) -> str:
    """The workspace of what a request names by id, where the user is a member; empty for the key's own."""
    ids = list(islice(ids_in(variables), MOST_IDS))
    if not ids:
        return ""
    home = await run(request, operations_accounts.home_of, FindHome(ids=ids), writes=False)
    if home in (None, actor_of(request).workspace_id):
        return ""
    try:
        await actor_in(request, home)
    except NotFound:
        return ""
    return str(home)


MOST_IDS = 5
"""Ids of a request that are looked at: all of them are of one workspace."""


async def actor_in(request: Request, entity: str) -> Actor:
    """Who asks, in the workspace that the vendor calls entity; in the key's own when none is named. NotFound."""
    if not entity:
        return actor_of(request)
    keyring: KeyRing = request.app.state.keyring
    found = await keyring.identify(request, bearer(request), entity)
    mine = actor_of(request)
    return msgspec.structs.replace(found, client=mine.client, request_id=mine.request_id)
