"""Projects, experiments and datasets between Braintrust's wire and ours. Pure.

What only Braintrust knows of an object (``repo_info``, ``dataset_id``, ``public``, fields that are new to us) is kept
under the dialect's name in ``extra`` and returned as it came.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from labkeep.core.commands import (
    CreateDocument,
    CreateProject,
    CreateRun,
    UpdateDocument,
    UpdateProject,
    UpdateRun,
)
from labkeep.core.entities import Document, Item, Json, Project, Run
from labkeep.core.errors import Invalid
from labkeep.core.ids import check_id
from labkeep.core.lifecycle import Status
from labkeep.core.summary import TOKENS, Stat
from labkeep.http.wire import invalid
from labkeep.operations.resources import EnsureDocument, EnsureRun

T = TypeVar("T")

DIALECT = "braintrust"
DATASET = "dataset"

# --- what comes in ----------------------------------------------------------------------------------------------------


class ProjectIn(msgspec.Struct, frozen=True):
    """Body of POST and PATCH project, as far as we understand it."""

    name: str | None = None
    description: str | None = None
    settings: Json | None = None
    org_name: Any = None


class ExperimentIn(msgspec.Struct, frozen=True):
    """Body of POST and PATCH experiment, as far as we understand it."""

    project_id: str | None = None
    name: str | None = None
    description: str | None = None
    base_exp_id: str | None = None
    metadata: Json | None = None
    tags: list[str] | None = None
    ensure_new: bool | None = None
    ancestor_commits: Any = None
    repo_info: Json | None = None
    public: bool | None = None
    dataset_id: str | None = None
    dataset_version: str | int | None = None
    parameters_id: str | None = None
    parameters_version: str | int | None = None
    internal_metadata: Json | None = None


class DatasetIn(msgspec.Struct, frozen=True):
    """Body of POST and PATCH dataset, as far as we understand it."""

    project_id: str | None = None
    name: str | None = None
    description: str | None = None
    metadata: Json | None = None
    tags: list[str] | None = None


ANSWERED = frozenset({"id", "org_id", "user_id", "created", "deleted_at", "commit", "url_slug"})
"""What we say ourselves: never kept from a body, so that a client may send back what it read."""

_EXTRA = frozenset(
    {
        "settings",
        "repo_info",
        "public",
        "dataset_id",
        "dataset_version",
        "parameters_id",
        "parameters_version",
        "internal_metadata",
    }
)


def parse(body: Any, kind: type[T]) -> T:
    """``body`` as the Struct ``kind``; Invalid when a field has the wrong type."""
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object", path="$")
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from error


def command(kind: type[T], **values: Any) -> T:
    """A command from values of a request, checked; what is None is left out."""
    try:
        return msgspec.convert({name: value for name, value in values.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from error


def extra_of(body: Json, kind: type[Any]) -> Json:
    """What of ``body`` is kept verbatim, under the dialect's name; empty when there is nothing."""
    known = set(kind.__struct_fields__) - _EXTRA
    rest = {key: value for key, value in body.items() if key not in known and key not in ANSWERED and value is not None}
    return {DIALECT: rest} if rest else {}


def without_nulls(value: Any) -> Any:
    """Objects without their null fields at any depth: in a PATCH null means "as it is"."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


def create_project(body: Any) -> CreateProject:
    """POST project."""
    asked = parse(body, ProjectIn)
    return command(
        CreateProject,
        name=required(asked.name, "name"),
        description=asked.description,
        extra=extra_of(body, ProjectIn),
        dialect=DIALECT,
    )


def update_project(id: str, body: Any) -> UpdateProject:
    """PATCH project."""
    asked = parse(without_nulls(body), ProjectIn)
    extra = extra_of(without_nulls(body), ProjectIn)
    return command(UpdateProject, id=id, name=asked.name, description=asked.description, extra=extra or None)


def create_experiment(body: Any) -> EnsureRun:
    """POST experiment. An experiment has no end on this wire, so it is finished from the start."""
    asked = parse(body, ExperimentIn)
    run = command(
        CreateRun,
        project=check_id(required(asked.project_id, "project_id"), "project_id"),
        name=asked.name,
        handle=asked.name,
        status=Status.finished,
        description=asked.description,
        metadata=asked.metadata,
        tags=None if asked.tags is None else tuple(asked.tags),
        base_run_id=None if asked.base_exp_id is None else check_id(asked.base_exp_id, "base_exp_id"),
        extra=extra_of(body, ExperimentIn),
        dialect=DIALECT,
        suffix=bool(asked.ensure_new),
    )
    return EnsureRun(run=run, stem=stem(asked.repo_info))


def stem(repo_info: Json | None) -> str:
    """An experiment without a name is called after its branch."""
    branch = (repo_info or {}).get("branch")
    readable = re.sub(r"[\x00-\x1f\x7f]", "", branch) if isinstance(branch, str) else ""
    return readable[:400] or "experiment"


def update_experiment(id: str, body: Any) -> UpdateRun:
    """PATCH experiment: objects merge, null changes nothing."""
    clean = without_nulls(body)
    asked = parse(clean, ExperimentIn)
    return command(
        UpdateRun,
        id=id,
        name=asked.name,
        handle=asked.name,
        description=asked.description,
        metadata=asked.metadata,
        tags=None if asked.tags is None else tuple(asked.tags),
        base_run_id=None if asked.base_exp_id is None else check_id(asked.base_exp_id, "base_exp_id"),
        extra=extra_of(clean, ExperimentIn) or None,
    )


def create_dataset(body: Any) -> EnsureDocument:
    """POST dataset."""
    asked = parse(body, DatasetIn)
    document = command(
        CreateDocument,
        project=check_id(required(asked.project_id, "project_id"), "project_id"),
        type=DATASET,
        name=required(asked.name, "name"),
        description=asked.description,
        metadata=asked.metadata,
        tags=None if asked.tags is None else tuple(asked.tags),
        extra=extra_of(body, DatasetIn),
        dialect=DIALECT,
    )
    return EnsureDocument(document=document)


def update_dataset(id: str, body: Any) -> UpdateDocument:
    """PATCH dataset."""
    clean = without_nulls(body)
    asked = parse(clean, DatasetIn)
    return command(
        UpdateDocument,
        id=id,
        name=asked.name,
        description=asked.description,
        metadata=asked.metadata,
        tags=None if asked.tags is None else tuple(asked.tags),
        extra=extra_of(clean, DatasetIn) or None,
    )


def required(value: T | None, name: str) -> T:
    """``value``; Invalid when there is none."""
    if value is None:
        raise Invalid(f"{name} is required", path=name)
    return value


# --- what goes out ----------------------------------------------------------------------------------------------------


def project_out(project: Project, deleted_at: datetime | None = None) -> Json:
    """A project on the wire."""
    return {
        "settings": None,
        **_kept(project),
        "id": project.id,
        "org_id": project.organization_id,
        "name": project.name,
        "description": project.description or None,
        "created": project.created_at,
        "deleted_at": deleted_at,
        "user_id": user_id(project.organization_id, project.created_by),
    }


_NO_EXPERIMENT_EXTRA: Json = {
    "repo_info": None,
    "dataset_id": None,
    "dataset_version": None,
    "parameters_id": None,
    "parameters_version": None,
    "internal_metadata": None,
    "public": False,
}


def experiment_out(run: Run, deleted_at: datetime | None = None) -> Json:
    """A run on the wire, whichever API it was made through: what it was given is its metadata."""
    kept = _kept(run)
    repo_info = kept.get("repo_info")
    return {
        **_NO_EXPERIMENT_EXTRA,
        **kept,
        "id": run.id,
        "project_id": run.project_id,
        "name": run.name,
        "description": run.description or None,
        "created": run.created_at,
        "commit": repo_info.get("commit") if isinstance(repo_info, dict) else None,
        "base_exp_id": run.base_run_id,
        "deleted_at": deleted_at,
        "user_id": user_id(run.organization_id, run.created_by),
        "metadata": {**run.config, **run.metadata} or None,
        "tags": list(run.tags) or None,
    }


def dataset_out(document: Document, deleted_at: datetime | None = None) -> Json:
    """A document of type dataset on the wire."""
    return {
        **_kept(document),
        "id": document.id,
        "project_id": document.project_id,
        "name": document.name,
        "url_slug": slug(document.name),
        "description": document.description or None,
        "created": document.created_at,
        "deleted_at": deleted_at,
        "user_id": user_id(document.organization_id, document.created_by),
        "metadata": document.metadata or None,
        "tags": list(document.tags) or None,
    }


def _kept(item: Item) -> Json:
    found = item.extra.get(DIALECT)
    return found if isinstance(found, dict) else {}


def user_id(organization_id: str, user: str) -> str | None:
    """Users have names here and UUIDs there: always the same one for the same user."""
    return str(uuid.uuid5(uuid.UUID(organization_id), user)) if user else None


def slug(name: str) -> str:
    """``name`` as it may stand in a URL: lower case, dashes for what is neither letter nor digit."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"


# --- summaries --------------------------------------------------------------------------------------------------------


def scores_out(scores: Mapping[str, Stat]) -> Json:
    """Scores of a summary. The client refuses a key more or less than these."""
    return {
        name: _compared({"name": name, "score": stat.mean}, stat, better=stat.up, worse=stat.down)
        for name, stat in scores.items()
    }


def metrics_out(metrics: Mapping[str, Stat]) -> Json:
    """Metrics of a summary: less is better."""
    return {
        name: _compared(
            {"name": name, "metric": stat.mean, "unit": unit_of(name)}, stat, better=stat.down, worse=stat.up
        )
        for name, stat in metrics.items()
    }


def _compared(shown: Json, stat: Stat, *, better: int, worse: int) -> Json:
    shown |= {"improvements": better, "regressions": worse}
    return shown if stat.diff is None else shown | {"diff": stat.diff}


def unit_of(metric: str) -> str:
    """The unit that the client prints behind a metric."""
    if metric in TOKENS.values():
        return "tok"
    return "s" if metric == "duration" else ""
