"""What a person is told in a browser when there is no page for them."""

from __future__ import annotations

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse

from labkeep.core.errors import LabkeepError

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    "cache-control": "private, no-cache",
}
"""Of every page: nothing in it runs, and nobody else keeps it."""

STYLE = "body{font:16px system-ui;margin:2em}th,td{text-align:left;padding-right:1em}"

_TITLES = {
    401: ("Sign in", "Your browser asks for a name and a password: any name will do, the password is your API key."),
    403: ("Not for this key", "Ask the owner of the workspace for a role in it."),
    404: ("Not here", "Look at the address, and at whether your key is for this workspace."),
    410: ("In the trash", "As long as it is there, it can be restored."),
}


def wants_page(request: Request) -> bool:
    """Whether a person looks, and not a program."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def page(error: LabkeepError, status: int) -> HTMLResponse:
    """The error as a page."""
    title, advice = _TITLES.get(status, ("This did not work", ""))
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1><p>{escape(error.message)}<p>{advice}</html>",
        status,
        HEADERS,
    )
