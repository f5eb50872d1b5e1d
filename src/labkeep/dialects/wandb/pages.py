"""Where the links that the client prints lead: a plain page with the facts of a run."""

from __future__ import annotations

from html import escape

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from labkeep.dialects.wandb.engine import actor_in
from labkeep.dialects.wandb.translate import moment, state_of
from labkeep.http.wire import run
from labkeep.operations import run_searches
from labkeep.operations.run_searches import FindRun, Seen

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    "cache-control": "private, no-cache",
}


async def show(request: Request) -> Response:
    """GET /{entity}/{project}/runs/{run}. A browser asks for the key as the password of any user."""
    path = request.path_params
    request.state.actor = await actor_in(request, path["entity"])
    asked = FindRun(project=path["project"], handle=path["run"])
    return HTMLResponse(page(await run(request, run_searches.find, asked, writes=False)), headers=_HEADERS)


def page(seen: Seen) -> str:
    """The page of a run. Pure."""
    run = seen.run
    facts = {
        "project": seen.project.name,
        "id": run.handle or run.id,
        "state": state_of(run),
        "by": run.created_by,
        "created": moment(run.created_at) or "",
        "group": run.group,
        "job type": run.job_type,
        "tags": ", ".join(run.tags),
        "notes": run.notes,
        "history": f"{seen.rows('history')} rows",
    }
    rows = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in facts.items() if value)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(run.name)}</title>"
        "<style>body{font:16px system-ui;margin:2em}th{text-align:left;padding-right:1em}</style>"
        f"<h1>{escape(run.name)}</h1><table>{rows}</table>"
        f"<h2>Config</h2><pre>{_json(run.config)}</pre><h2>Summary</h2><pre>{_json(run.summary)}</pre></html>"
    )


def _json(value: object) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value)).decode())
