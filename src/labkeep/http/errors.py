"""Errors as answers of the native API. Dialects have envelopes of their own over the same tree."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from labkeep.core.errors import Internal, LabkeepError, NotFound, Refused, Unsupported

log = logging.getLogger("labkeep.http")

Encode = Callable[[LabkeepError], Response]

LONGEST_MESSAGE = 4000
"""Characters of a message in an answer."""


class ErrorBody(msgspec.Struct, frozen=True):
    """What the native API answers for every error."""

    code: str
    message: str
    details: dict[str, Any]
    retry: bool
    incident: str = ""


def encode(error: LabkeepError) -> Response:
    """The native envelope."""
    body = ErrorBody(error.code, _clipped(error.message), dict(error.details), error.retry)
    headers = {"retry-after": str(error.details.get("retry_after_s", 1))} if error.retry else None
    return Response(msgspec.json.encode(body), error.status, headers, "application/json")


def _clipped(text: str) -> str:
    """``text`` without its middle when it is very long: it may quote what the client sent."""
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} … {text[-half:]}"


def handlers(encode: Encode) -> dict[type[Exception], Callable[[Request, Exception], Response]]:
    """Exception handlers for one application, all through its own envelope."""

    def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, LabkeepError)
        return encode(error)

    def unknown_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return encode(NotFound(f"no such path: {request.method} {request.url.path}"))
        if error.status_code == 405:
            response = encode(Unsupported(f"{request.method} is not offered for {request.url.path}"))
            response.status_code = 405
            response.headers["allow"] = ", ".join(_allowed(request))
            return response
        response = encode(Refused(str(error.detail)))
        response.status_code = error.status_code
        return response

    def unexpected(request: Request, error: Exception) -> Response:
        return encode(incident(error, request))

    return {LabkeepError: refused, HTTPException: unknown_route, Exception: unexpected}


def _allowed(request: Request) -> list[str]:
    """Every method of the path: the error that we got knows those of one route only."""
    here = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
    same = (route for route in here if getattr(route, "path", "") == getattr(here[0], "path", ""))
    return sorted({method for route in same for method in getattr(route, "methods", None) or ()})


def incident(error: BaseException, request: Request) -> Internal:
    """What to answer for a bug: the log has the trace under the incident's id, the caller gets only the id."""
    name = secrets.token_hex(6)
    log.error("incident %s: %s %s", name, request.method, request.url.path, exc_info=error)
    return Internal(f"internal error; the server's log has it as incident {name}", incident=name)
