"""Handlers of projects, experiments and datasets: create, list, get, edit, delete, summarize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.commands import Get, ListDocuments, ListRuns
from labkeep.core.entities import Document, Item, Project, Run
from labkeep.core.errors import Gone, Invalid, NotFound
from labkeep.core.ids import check_id
from labkeep.core.lifecycle import Kind
from labkeep.dialects.braintrust import translate as tr
from labkeep.http.urls import base_url
from labkeep.http.wire import answer, read_json, run
from labkeep.operations import documents, projects, resources, runs, summaries
from labkeep.operations.traces import LOGS

PAGE = 1000
"""Objects in a page when no limit is given, and at most."""

FOUND = {"x-bt-found-existing": "true"}

# --- reading requests -------------------------------------------------------------------------------------------------


def path_id(request: Request) -> str:
    """The id in the path; Invalid when it is not a UUID."""
    return check_id(request.path_params["id"], "id")


def number(request: Request, name: str, default: int) -> int:
    """A count in the query."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise Invalid(f"{name} must be a number from 0", path=name)
    return int(text)


def page_of(request: Request, word: str) -> dict[str, Any]:
    """Fields of a list: limit, where it begins, ids, name. Ids come separated by commas, or one by one."""
    query = request.query_params
    ids = [id for name in ("ids", "id") for part in query.getlist(name) for id in part.split(",") if id]
    after, before = query.get("starting_after") or None, query.get("ending_before") or None
    found: dict[str, Any] = {
        "limit": min(number(request, "limit", PAGE), PAGE),
        "after": None if after is None else check_id(after, "starting_after"),
        "before": None if before is None else check_id(before, "ending_before"),
        "ids": [check_id(id, "ids") for id in ids],
        "name": query.get(f"{word}_name") or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def project_of(request: Request) -> str:
    """The project that a list is of, by id or by name; empty for all."""
    id = request.query_params.get("project_id")
    return check_id(id, "project_id") if id else request.query_params.get("project_name", "")


async def objects(
    request: Request, operation: Callable[..., Any], kind: type[Any], fields: dict[str, Any], out: Callable[..., Any]
) -> Response:
    """A list as the wire has it; empty when it is of a project that is not there."""
    if fields["limit"] == 0:
        return answer({"objects": []})
    try:
        page = await run(request, operation, tr.command(kind, **fields), writes=False)
    except (NotFound, Gone):
        return answer({"objects": []})
    return answer({"objects": [out(item) for item in page.items]})


async def _removed(
    request: Request, kind: Kind, out: Callable[..., Any], types: tuple[str, ...] = (), other: tuple[str, ...] = ()
) -> Response:
    command = resources.Remove(id=path_id(request), kind=kind, types=types, other_than=other)
    removed = await run(request, resources.remove, command, writes=True)
    return answer(out(removed.item, removed.at))


def _typed(item: Item, word: str, fits: bool) -> Any:
    if not fits:
        raise NotFound(f"{word} {item.id} not found")
    return item


# --- projects ---------------------------------------------------------------------------------------------------------


async def create_project(request: Request) -> Response:
    """POST /v1/project: the existing one, unchanged, when the name is taken."""
    command = tr.create_project(await read_json(request))
    ensured = await run(request, resources.ensure_project, command, writes=True)
    return answer(tr.project_out(ensured.item), headers=FOUND if ensured.found else None)


async def list_projects(request: Request) -> Response:
    """GET /v1/project."""
    fields = page_of(request, "project")
    return await objects(request, resources.find_projects, resources.FindProjects, fields, tr.project_out)


async def get_project(request: Request) -> Response:
    """GET /v1/project/{id}."""
    project: Project = await run(request, projects.get, Get(id=path_id(request)), writes=False)
    return answer(tr.project_out(project))


async def update_project(request: Request) -> Response:
    """PATCH /v1/project/{id}."""
    command = tr.update_project(path_id(request), await read_json(request))
    return answer(tr.project_out(await run(request, projects.update, command, writes=True)))


async def delete_project(request: Request) -> Response:
    """DELETE /v1/project/{id}: to the trash, with all that is in it."""
    return await _removed(request, Kind.project, tr.project_out)


# --- experiments ------------------------------------------------------------------------------------------------------


async def create_experiment(request: Request) -> Response:
    """POST /v1/experiment: the existing one, unchanged, when the name is taken and no new one is asked for."""
    command = tr.create_experiment(await read_json(request))
    ensured = await run(request, resources.ensure_run, command, writes=True)
    return answer(tr.experiment_out(ensured.item))


async def list_experiments(request: Request) -> Response:
    """GET /v1/experiment: every run of the project but its log, through whichever API it was made."""
    fields = page_of(request, "experiment") | {"project": project_of(request), "q": f'not type = "{LOGS}"'}
    return await objects(request, runs.list_, ListRuns, fields, tr.experiment_out)


async def get_experiment(request: Request) -> Response:
    """GET /v1/experiment/{id}."""
    found: Run = await run(request, runs.get, Get(id=path_id(request)), writes=False)
    return answer(tr.experiment_out(_typed(found, "experiment", found.type != LOGS)))


async def update_experiment(request: Request) -> Response:
    """PATCH /v1/experiment/{id}."""
    asked = tr.update_experiment(path_id(request), await read_json(request))
    command = resources.Edit(edit=asked, other_than=(LOGS,))
    edited: Any = await run(request, resources.edit, command, writes=True)
    return answer(tr.experiment_out(edited))


async def delete_experiment(request: Request) -> Response:
    """DELETE /v1/experiment/{id}: to the trash."""
    return await _removed(request, Kind.run, tr.experiment_out, other=(LOGS,))


async def summarize_experiment(request: Request) -> Response:
    """GET /v1/experiment/{id}/summarize: what the rows come to, against the base."""
    base = request.query_params.get("comparison_experiment_id")
    command = summaries.Summarize(
        id=path_id(request),
        base_id=check_id(base, "comparison_experiment_id") if base else None,
        scores=flag(request, "summarize_scores"),
        other_than=(LOGS,),
    )
    found = await run(request, summaries.summarize, command, writes=False)
    page = _pages(request, found.project, "experiments", found.run)
    shown: dict[str, Any] = {
        "project_name": found.project.name,
        "experiment_name": found.run.name,
        "project_url": page[0],
        "experiment_url": page[1],
        "comparison_experiment_name": None,
        "scores": None,
        "metrics": None,
    }
    if command.scores:
        shown |= {
            "comparison_experiment_name": None if found.base is None else found.base.name,
            "scores": tr.scores_out(found.scores),
            "metrics": tr.metrics_out(found.metrics),
        }
    return answer(shown)


def flag(request: Request, name: str) -> bool:
    """A flag in the query."""
    return request.query_params.get(name, "").lower() in ("true", "1")


def _pages(request: Request, project: Project, section: str, item: Item) -> tuple[str, str]:
    """Where people find the project and the object, as the client makes these links itself."""
    home = f"{base_url(request)}/app/-/p/{quote(project.name, safe='')}"
    return home, f"{home}/{section}/{quote(item.name, safe='')}"


async def base_experiment(request: Request) -> Response:
    """POST /api/base_experiment/get_id: what an experiment is compared with; 400 says nothing."""
    body = await read_json(request)
    id = body.get("id") if isinstance(body, dict) else None
    command = summaries.FindBase(id=check_id(id if isinstance(id, str) else "", "id"))
    found: Run | None = await run(request, summaries.base, command, writes=False)
    if found is None:
        raise Invalid("this experiment has no base experiment", path="id")
    return answer({"id": command.id, "base_exp_id": found.id, "base_exp_name": found.name})


# --- datasets ---------------------------------------------------------------------------------------------------------


async def create_dataset(request: Request) -> Response:
    """POST /v1/dataset: the existing one, unchanged, when the name is taken."""
    command = tr.create_dataset(await read_json(request))
    ensured = await run(request, resources.ensure_document, command, writes=True)
    return answer(tr.dataset_out(ensured.item), headers=FOUND if ensured.found else None)


async def list_datasets(request: Request) -> Response:
    """GET /v1/dataset."""
    fields = page_of(request, "dataset") | {"project": project_of(request), "type": tr.DATASET}
    return await objects(request, documents.list_, ListDocuments, fields, tr.dataset_out)


async def get_dataset(request: Request) -> Response:
    """GET /v1/dataset/{id}."""
    found: Document = await run(request, documents.get, Get(id=path_id(request)), writes=False)
    return answer(tr.dataset_out(_typed(found, "dataset", found.type == tr.DATASET)))


async def update_dataset(request: Request) -> Response:
    """PATCH /v1/dataset/{id}."""
    asked = tr.update_dataset(path_id(request), await read_json(request))
    command = resources.Edit(edit=asked, types=(tr.DATASET,))
    edited: Any = await run(request, resources.edit, command, writes=True)
    return answer(tr.dataset_out(edited))


async def delete_dataset(request: Request) -> Response:
    """DELETE /v1/dataset/{id}: to the trash."""
    return await _removed(request, Kind.document, tr.dataset_out, types=(tr.DATASET,))


async def summarize_dataset(request: Request) -> Response:
    """GET /v1/dataset/{id}/summarize: how many records it has."""
    command = summaries.Count(id=path_id(request), type=tr.DATASET)
    found = await run(request, summaries.count, command, writes=False)
    page = _pages(request, found.project, "datasets", found.document)
    return answer(
        {
            "project_name": found.project.name,
            "dataset_name": found.document.name,
            "project_url": page[0],
            "dataset_url": page[1],
            "data_summary": {"total_records": found.rows} if flag(request, "summarize_data") else None,
        }
    )
