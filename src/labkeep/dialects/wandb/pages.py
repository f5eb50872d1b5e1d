"""Where the links that the client prints lead: a plain page with the facts of a run."""

from __future__ import annotations

from html import escape

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from labkeep.core.errors import LabkeepError
from labkeep.dialects.wandb.engine import actor_in
from labkeep.dialects.wandb.errors import for_a_person
from labkeep.dialects.wandb.refusals import HEADERS, STYLE, wants_page
from labkeep.dialects.wandb.translate import moment, state_of
from labkeep.http.wire import run
from labkeep.operations import run_searches
from labkeep.operations.run_searches import FindRun, Seen


async def show(request: Request) -> Response:
    """GET /{entity}/{project}/runs/{run}. A browser asks for the key as the password of any user."""
    path = request.path_params
    try:
        request.state.actor = await actor_in(request, path["entity"])
        asked = FindRun(project=path["project"], handle=path["run"])
        return HTMLResponse(page(await run(request, run_searches.find, asked, writes=False)), headers=HEADERS)
    except LabkeepError as error:
        if wants_page(request):
            raise for_a_person(error) from None
        raise


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
        f"<style>{STYLE}</style>"
        f"<h1>{escape(run.name)}</h1><table>{rows}</table>"
        f"<h2>Config</h2><pre>{_json(run.config)}</pre><h2>Summary</h2><pre>{_json(run.summary)}</pre></html>"
    )


def _json(value: object) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value)).decode())
