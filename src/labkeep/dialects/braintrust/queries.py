"""The handler of /btql: rows of one object, prompts and functions of one project, or their histories."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.entities import Json
from labkeep.core.errors import Invalid, Unsupported
from labkeep.core.ids import check_id
from labkeep.dialects.braintrust import btql
from labkeep.dialects.braintrust import events as ev
from labkeep.dialects.braintrust.definitions import definition_out
from labkeep.dialects.braintrust.rows import HOMES, read_command, target
from labkeep.dialects.braintrust.translate import command
from labkeep.http.wire import actor_of, answer, read_json, run
from labkeep.operations import definitions, traces
from labkeep.operations.definitions import Definition, FindDefinitions

DEFINITIONS = {"project_prompts": "prompt", "project_functions": "function"}
"""Source of a query -> type of the documents."""

MOST = 1000
"""Documents that one query looks at."""


async def handle(request: Request) -> Response:
    """POST /btql."""
    body = await read_json(request)
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object", path="$")
    query = btql.parse(body.get("query"))
    if query.source in DEFINITIONS:
        return answer({"data": await _definitions(request, query, bool(body.get("audit_log")))})
    if query.source not in HOMES or body.get("audit_log"):
        raise Unsupported(f"queries of {query.source[:40]} are not offered")
    return await _rows(request, query, body.get("version"))


async def _rows(request: Request, query: btql.Query, version: Any) -> Response:
    where = target(query.source, query.id)
    asked = {"limit": query.limit, "cursor": query.cursor, "version": version}
    reading = msgspec.structs.replace(read_command(where, asked), root=query.root)
    if reading.limit == 0:
        return answer({"data": []})
    page: traces.TracePage = await run(request, traces.read, reading, writes=False)
    address = ev.address_of(where, page.project_id, actor_of(request).organization_id)
    data: list[Json] = []
    last: int | None = None
    for row in page.items:
        if row.position != last and len(data) >= reading.limit:
            return answer({"data": data, "cursor": ev.cursor_out(last or 0)})
        last = row.position
        event = ev.event_out(row, address, where.home)
        if query.check is None or query.check(event) is True:
            data.append(event)
    return answer({"data": data, "cursor": ev.cursor_out(last or 0) if page.more else None})


async def _definitions(request: Request, query: btql.Query, history: bool) -> list[Json]:
    asked = command(
        FindDefinitions,
        project=check_id(query.id, "query.from"),
        type=DEFINITIONS[query.source],
        ids=None if query.only_id is None else [check_id(query.only_id, "id")],
        limit=MOST,
        history=history,
    )
    found: list[Definition] = await run(request, definitions.find, asked, writes=False)
    shown = [definition_out(each) | ({"audit_data": {"action": "upsert"}} if history else {}) for each in found]
    return [each for each in shown if query.check is None or query.check(each) is True]
