"""Where the links that the client prints lead: plain pages with the runs of a project, and the facts of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import TypeVar
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from labkeep.core.commands import Command
from labkeep.core.errors import LabkeepError
from labkeep.dialects.wandb.engine import actor_in
from labkeep.dialects.wandb.errors import for_a_person
from labkeep.dialects.wandb.refusals import HEADERS, STYLE, wants_page
from labkeep.dialects.wandb.translate import moment, state_of
from labkeep.http.wire import run
from labkeep.operations import run_searches
from labkeep.operations.run_searches import FindRun, Matches, SearchRuns, Seen

T = TypeVar("T")


async def show(request: Request) -> Response:
    """GET /{entity}/{project}/runs/{run}."""
    path = request.path_params
    return await _shown(request, run_searches.find, FindRun(project=path["project"], handle=path["run"]), page)


async def show_project(request: Request) -> Response:
    """GET /{entity}/{project}."""
    name = request.path_params["project"]
    newest = SearchRuns(project=name, order="-created_at")
    return await _shown(request, run_searches.search_runs, newest, partial(project_page, name))


async def _shown(request: Request, operation: Callable[..., T], asked: Command, render: Callable[[T], str]) -> Response:
    """A page of what was found. A browser asks for the key as the password of any user."""
    try:
        request.state.actor = await actor_in(request, request.path_params["entity"])
        return HTMLResponse(render(await run(request, operation, asked, writes=False)), headers=HEADERS)
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
    return _html(
        run.name,
        f"<table>{rows}</table>"
        f"<h2>Config</h2><pre>{_json(run.config)}</pre><h2>Summary</h2><pre>{_json(run.summary)}</pre>",
    )


def project_page(name: str, found: Matches) -> str:
    """The page of a project: its newest runs. Pure."""
    more = f"<p>The newest {len(found.items)}; <code>labkeep runs ls --project</code> lists all." if found.next else ""
    rows = "".join(_row(name, seen) for seen in found.items)
    head = "<tr><th>run<th>state<th>by<th>created"
    return _html(name, f"<table>{head}{rows}</table>{more}" if rows else "<p>No runs yet.")


def _row(project: str, seen: Seen) -> str:
    run = seen.run
    link = f"{quote(project, safe='')}/runs/{quote(run.handle or run.id, safe='')}"
    cells = (state_of(run), run.created_by, moment(run.created_at) or "")
    return f'<tr><td><a href="./{link}">{escape(run.name)}</a>' + "".join(f"<td>{escape(cell)}" for cell in cells)


def _html(title: str, body: str) -> str:
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )


def _json(value: object) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value)).decode())
