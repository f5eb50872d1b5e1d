"""Our errors in Braintrust's envelope: a line of plain text, or for a missing permission a JSON object.

Never 409: its REST client takes that for a collision and sends the request again.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from labkeep.core import errors as e

STATUS: dict[type[e.LabkeepError], int] = {
    e.LabkeepError: 500,
    e.Refused: 400,
    e.Invalid: 400,
    e.Unauthenticated: 401,
    e.Forbidden: 403,
    e.NotFound: 403,
    e.Gone: 403,
    e.TooLarge: 413,
    e.OverQuota: 429,
    e.Unsupported: 501,
    e.Conflict: 400,
    e.AlreadyExists: 400,
    e.Illegal: 400,
    e.Stale: 400,
    e.Held: 400,
    e.InUse: 400,
    e.Unavailable: 503,
    e.Corrupt: 500,
    e.Internal: 500,
}
"""Class -> status. What is missing is 403 where it was to be read and 400 where it was to be changed."""

VERBS = {"GET": "read", "HEAD": "read", "DELETE": "delete"}


class Subject(NamedTuple):
    """What a request was about: ``experiment``, its id, and read, update or delete."""

    word: str
    id: str
    verb: str


def subject_of(request: Request) -> Subject | None:
    """The subject that the path of ``request`` names, if it names one."""
    id = request.path_params.get("id")
    if id is None:
        return None
    path = request.url.path.rstrip("/").split("/")
    verb = "read" if path[-1] == "fetch" else VERBS.get(request.method, "update")
    return Subject(path[path.index(id) - 1] if id in path else "object", id, verb)


def _with_path(error: e.LabkeepError) -> str:
    """The message, led by the field that it is about unless it names it."""
    path = error.details.get("path")
    if not isinstance(path, str) or path in ("", "$") or path.removeprefix("$.") in error.message:
        return error.message
    return f"{path.removeprefix('$.')}: {error.message}"


def encode(error: e.LabkeepError, request: Request | None = None) -> Response:
    """``error`` as Braintrust would put it; ``request`` tells what was missing."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    message = _with_path(error)
    if isinstance(error, e.NotFound | e.Gone):
        subject = None if request is None else subject_of(request)
        if subject is None:
            status = 400
        else:
            status = 403 if subject.verb == "read" else 400
            message = (
                f"Missing {subject.verb} access to {subject.word} id {subject.id}, "
                f"or the {subject.word} does not exist [{message}]"
            )
    headers = {"retry-after": str(error.details.get("retry_after_s", 1))} if error.retry else None
    if status != 403:
        return PlainTextResponse(message, status, headers)
    path = "" if request is None else request.url.path
    body = {"Code": "ForbiddenError", "Message": message, "InternalTraceId": "", "Path": path, "Service": "api"}
    return Response(msgspec.json.encode(body), status, headers, "application/json")
