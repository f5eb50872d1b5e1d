"""Handlers of rows: insert, fetch and feedback for each kind of object, and the two writes that reach across objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.commands import RowIn, Written
from labkeep.core.errors import Invalid
from labkeep.core.ids import check_id
from labkeep.dialects.braintrust import events as ev
from labkeep.dialects.braintrust.objects import path_id
from labkeep.dialects.braintrust.translate import DATASET, DIALECT
from labkeep.http.wire import actor_of, answer, decode_json, read_body, run, store_of
from labkeep.operations import traces
from labkeep.operations.traces import Home, ReadTraces, Target, TracePage, TraceSet, WriteTraces

Handler = Callable[[Request], Awaitable[Response]]

HOMES: dict[str, tuple[Home, str]] = {
    "experiment": (Home.run, ""),
    "dataset": (Home.document, DATASET),
    "project_logs": (Home.log, ""),
}
"""Word in the path -> where its rows are, and their document's type."""

PAGE = 1000
"""Traces in a page when no limit is given."""

MOST = 10_000
"""Traces in a page at most."""


def target(word: str, id: str) -> Target:
    """The rows of ``word`` ``id``."""
    home, type = HOMES[word]
    return Target(home, check_id(id, "id"), type)


class Body(NamedTuple):
    """A request's object, and whether anything in it may refer to an attachment."""

    fields: dict[str, Any]
    attached: bool


async def write(request: Request, body: Body, sets: list[TraceSet]) -> list[Written]:
    """Write rows of several objects in one transaction."""
    if body.attached:
        sets = [ev.with_attachments(part) for part in sets]
    return await run(request, traces.write, WriteTraces(sets=sets, dialect=DIALECT), writes=True)


async def _body(request: Request, *, lenient: bool = False) -> Body:
    data, depth = await read_body(request), store_of(request).settings.max_json_depth
    try:
        fields = decode_json(data, depth) if data.strip() else {}
    except Invalid:
        mended = ev.repaired(data) if lenient else None
        if mended is None:
            raise
        fields = decode_json(mended, depth)
    if not isinstance(fields, dict):
        raise Invalid("the body must be a JSON object", path="$")
    return Body(fields, ev.ATTACHED.encode() in data)


# --- one object -------------------------------------------------------------------------------------------------------


def insert(word: str) -> Handler:
    """POST /v1/{word}/{id}/insert."""

    async def handle(request: Request) -> Response:
        body = await _body(request)
        rows = ev.rows_in(body.fields.get("events"))
        [written] = await write(request, body, [TraceSet(target=target(word, path_id(request)), rows=rows)])
        return answer({"row_ids": written.ids, "xact_id": ev.xact_out(written.xact)})

    return handle


def feedback(word: str) -> Handler:
    """POST /v1/{word}/{id}/feedback."""

    async def handle(request: Request) -> Response:
        body = await _body(request)
        rows = ev.feedback_in(body.fields.get("feedback"))
        await write(request, body, [TraceSet(target=target(word, path_id(request)), rows=rows)])
        return answer({"status": "success"})

    return handle


def fetch(word: str) -> Handler:
    """GET and POST /v1/{word}/{id}/fetch: newest trace first; ``limit`` counts traces."""

    async def handle(request: Request) -> Response:
        asked = dict(request.query_params)
        if request.method == "POST":
            asked |= (await _body(request)).fields
        where = target(word, path_id(request))
        return await _page(request, where, asked)

    return handle


async def _page(request: Request, where: Target, asked: dict[str, Any]) -> Response:
    command = read_command(where, asked)
    if command.limit == 0:
        return answer({"events": []})
    page: TracePage = await run(request, traces.read, command, writes=False)
    address = ev.address_of(where, page.project_id, actor_of(request).organization_id)
    shown: dict[str, Any] = {"events": ev.events_out(page.items, address, where.home)}
    if not page.items:
        return answer(shown)
    # Every page that is not empty has a cursor: the client stops at the first that is.
    shown["cursor"] = ev.cursor_out(page.items[-1].position)
    return answer(shown, headers={"x-bt-cursor": shown["cursor"]})


def read_command(where: Target, asked: dict[str, Any]) -> ReadTraces:
    """What a fetch asks for: limit, cursor, version, and the older pair of max_xact_id and max_root_span_id."""
    version, cursor = asked.get("version"), asked.get("cursor")
    below_root = asked.get("max_root_span_id")
    if below_root is not None and not isinstance(below_root, str):
        raise Invalid("max_root_span_id must be a text", path="max_root_span_id")
    return ReadTraces(
        target=where,
        limit=limit_in(asked.get("limit")),
        below=ev.cursor_in(cursor) if cursor else None,
        below_root=below_root,
        as_of=ev.xact_in(version) if version not in (None, "") else None,
    )


def limit_in(value: Any) -> int:
    """A limit from a query or body; one above `MOST` is cut, as the cursor leads on."""
    if value is None or value == "":
        return PAGE
    if isinstance(value, bool) or not str(value).isdecimal() or len(str(value)) > 18:
        raise Invalid("limit must be a number from 0", path="limit")
    return min(int(value), MOST)


# --- across objects ---------------------------------------------------------------------------------------------------


async def logs3(request: Request) -> Response:
    """POST /logs3: what the SDK logs in the background. All of it is stored, or none."""
    body = await _body(request, lenient=True)
    batch = ev.batch_in(body.fields.get("rows"))
    written = await write(request, body, batch.sets)
    ids = [written[number].ids[at] for number, at in batch.places]
    return answer({"ids": ids, "xact_id": ev.xact_out(max((part.xact for part in written), default=0))})


async def insert_many(request: Request) -> Response:
    """POST /v1/insert: events and feedback for several objects."""
    body = await _body(request)
    sets: list[TraceSet] = []
    inserted: dict[str, dict[str, tuple[int, int]]] = {}
    for word in HOMES:
        objects = {} if body.fields.get(word) is None else body.fields[word]
        if not isinstance(objects, dict):
            raise Invalid(f"{word} must be an object by id", path=word)
        for id, asked in objects.items():
            events, more = _asked(asked, f"{word}.{id}")
            inserted.setdefault(word, {})[id] = (len(sets), len(events))
            sets.append(TraceSet(target=target(word, id), rows=[*events, *more]))
    written = await write(request, body, sets)
    return answer(
        {
            word: {id: {"row_ids": written[number].ids[:count]} for id, (number, count) in ids.items()}
            for word, ids in inserted.items()
        }
    )


def _asked(asked: Any, place: str) -> tuple[list[RowIn], list[RowIn]]:
    if not isinstance(asked, dict):
        raise Invalid(f"{place} must be an object with events or feedback", path=place)
    return ev.rows_in(asked.get("events") or []), ev.feedback_in(asked.get("feedback") or [])
