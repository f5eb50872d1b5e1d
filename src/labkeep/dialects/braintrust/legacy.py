"""The protocol of the SDK up to 0.7: registering by name, summaries under other paths."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from labkeep.core.commands import CreateDocument, CreateProject, CreateRun, Get, ListRuns
from labkeep.core.entities import Json, Project
from labkeep.core.errors import Invalid, NotFound
from labkeep.core.ids import check_id
from labkeep.core.lifecycle import Status
from labkeep.dialects.braintrust import translate as tr
from labkeep.http.wire import answer, read_json, run
from labkeep.operations import projects, resources, runs, summaries
from labkeep.operations.resources import EnsureDocument, EnsureRun
from labkeep.operations.traces import LOGS

_RENAMED = frozenset(
    {"project_name", "org_id", "org_name", "experiment_name", "update", "base_experiment", "dataset_name"}
)
"""Fields of a registration that are not fields of the object."""


async def _body(request: Request) -> Json:
    body = await read_json(request)
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object", path="$")
    return body


def _project(body: Json) -> str:
    """The project by id, else by its name."""
    id, name = body.get("project_id"), body.get("project_name")
    if isinstance(id, str):
        return check_id(id, "project_id")
    if not isinstance(name, str):
        raise Invalid("project_name is required", path="project_name")
    return name


async def register_project(request: Request) -> Response:
    """POST /api/project/register."""
    command = tr.command(CreateProject, name=_project(await _body(request)), dialect=tr.DIALECT)
    ensured = await run(request, resources.ensure_project, command, writes=True)
    return answer({"project": tr.project_out(ensured.item)})


async def get_project(request: Request) -> Response:
    """GET /api/project?id=…"""
    id = check_id(request.query_params.get("id", ""), "id")
    found: Project = await run(request, projects.get, Get(id=id), writes=False)
    return answer(tr.project_out(found))


async def register_experiment(request: Request) -> Response:
    """POST /api/experiment/register: a new one unless ``update`` asks for the one that is there."""
    ensured = await run(request, resources.ensure_run, register_run(await _body(request)), writes=True)
    return answer({"project": tr.project_out(ensured.project), "experiment": tr.experiment_out(ensured.item)})


def register_run(body: Json) -> EnsureRun:
    """A registration as the command that today's request gives."""
    asked = tr.parse({key: value for key, value in body.items() if key not in _RENAMED}, tr.ExperimentIn)
    name = body.get("experiment_name")
    base = asked.base_exp_id
    run_ = tr.command(
        CreateRun,
        project=_project(body),
        name=name,
        handle=name,
        status=Status.finished,
        description=asked.description,
        metadata=asked.metadata,
        tags=None if asked.tags is None else tuple(asked.tags),
        base_run_id=None if base is None else check_id(base, "base_exp_id"),
        extra=tr.extra_of({key: value for key, value in body.items() if key not in _RENAMED}, tr.ExperimentIn),
        dialect=tr.DIALECT,
        suffix=not body.get("update"),
    )
    base_name = body.get("base_experiment")
    return EnsureRun(run=run_, stem=tr.stem(asked.repo_info), base_name=base_name if isinstance(base_name, str) else "")


async def find_experiment(request: Request) -> Response:
    """POST /api/experiment/get: a list with the one of this name; 400 when there is none."""
    body = await _body(request)
    name = body.get("experiment_name")
    asked = tr.command(ListRuns, project=_project(body), name=name, limit=1, q=f'not type = "{LOGS}"')
    found = await run(request, runs.list_, asked, writes=False)
    if not found.items:
        raise NotFound(f"experiment {name} not found")
    return answer([tr.experiment_out(item) for item in found.items])


async def register_dataset(request: Request) -> Response:
    """POST /api/dataset/register: the existing one, unchanged, when the name is taken."""
    body = await _body(request)
    document = tr.command(
        CreateDocument,
        project=_project(body),
        type=tr.DATASET,
        name=body.get("dataset_name") or LOGS,
        description=body.get("description"),
        metadata=body.get("metadata"),
        dialect=tr.DIALECT,
    )
    command = EnsureDocument(document=document, make_project=True)
    ensured = await run(request, resources.ensure_document, command, writes=True)
    return answer({"project": tr.project_out(ensured.project), "dataset": tr.dataset_out(ensured.item)})


async def compare_experiments(request: Request) -> Response:
    """GET /experiment-comparison2: what an experiment comes to, against another."""
    query = request.query_params
    base = query.get("base_experiment_id")
    command = summaries.Summarize(
        id=check_id(query.get("experiment_id", ""), "experiment_id"),
        base_id=check_id(base, "base_experiment_id") if base else None,
        other_than=(LOGS,),
    )
    found = await run(request, summaries.summarize, command, writes=False)
    shown: dict[str, Any] = {"scores": tr.scores_out(found.scores), "metrics": tr.metrics_out(found.metrics)}
    if found.base is not None:
        shown |= {"baseExperimentId": found.base.id, "baseExperimentName": found.base.name}
    return answer(shown)


async def summarize_dataset(request: Request) -> Response:
    """GET /dataset-summary: how many records a dataset has."""
    command = summaries.Count(id=check_id(request.query_params.get("dataset_id", ""), "dataset_id"), type=tr.DATASET)
    found = await run(request, summaries.count, command, writes=False)
    return answer({"total_records": found.rows})
