"""Projects, and the lists of runs in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkeep.core.commands import CreateProject, Get, ItemVerb, ListProjects, UpdateProject
from labkeep.core.entities import Json, Project
from labkeep.core.errors import Gone, Invalid, NotFound
from labkeep.dialects.wandb.accounts import user
from labkeep.dialects.wandb.context import Context, global_id, number_of, own_id
from labkeep.dialects.wandb.graphql import Resolvers, given
from labkeep.dialects.wandb.translate import DIALECT, moment, parse_json
from labkeep.operations import deletions, projects, resources, run_searches, sweeps
from labkeep.operations.run_searches import FindRun, SearchRuns, Seen, Selected
from labkeep.operations.sweeps import FindSweep

PAGE = 50
MOST = 1000


def page_size(first: int | None) -> int:
    """Objects in a page."""
    return min(max(1, PAGE if first is None else first), MOST)


def project(_root: Any, context: Context, name: str | None = None, **_entity: Any) -> Project | None:
    """A live project by name; None when there is none."""
    if not name or not context.found:
        return None
    try:
        return context.read(projects.get, Get(id=name))
    except NotFound:
        return None


def list_projects(
    _root: None, context: Context, after: str | None = None, first: int | None = None, **_more: Any
) -> Json:
    """Projects of the workspace, newest first."""
    if not context.found:
        return connection([], None)
    found = context.read(projects.list_, ListProjects(limit=page_size(first), cursor=after or None))
    return connection(found.items, found.next)


def connection(items: list[Any], following: str | None) -> Json:
    """A page as the client reads it. It goes on from the last edge's cursor or from the page's, which are the same."""
    cursor = following or ""
    return {
        "edges": [{"node": item, "cursor": cursor} for item in items],
        "pageInfo": {"endCursor": cursor or None, "hasNextPage": following is not None},
    }


# --- runs of a project ------------------------------------------------------------------------------------------------


def filters_in(text: str | None) -> Json:
    """The filter of a list; an empty text is none."""
    found = parse_json(text, "filters") if text else {}
    if found is not None and not isinstance(found, dict):
        raise Invalid("filters must be a JSON object", path="filters")
    return found or {}


NONE = "00000000-0000-0000-0000-000000000000"
"""An id that no object has."""

MOST_SWEEPS = 100
"""Sweeps that one filter may name."""


def selected(home: Project, context: Context, filters: str | None) -> Selected:
    """The runs that a filter selects. It names sweeps by their short names, and we know them by their ids."""
    found = filters_in(filters)
    known: dict[str, str] = {}
    try:
        named = _with_ids(found, lambda name: _sweep_id(home, context, name, known))
    except RecursionError:
        raise Invalid("filters are nested too deeply", path="filters") from None
    return Selected(project=home.id, filters=named)


def _sweep_id(home: Project, context: Context, name: str, known: dict[str, str]) -> str:
    if name not in known:
        if len(known) >= MOST_SWEEPS:
            raise Invalid(f"a filter names at most {MOST_SWEEPS} sweeps", path="filters")
        try:
            known[name] = context.read(sweeps.find, FindSweep(project=home.id, handle=name)).document.id
        except (NotFound, Gone):
            known[name] = NONE
    return known[name]


def _with_ids(filters: Any, id_of: Callable[[str], str]) -> Any:
    """The filter with ids of sweeps in the place of their names, wherever it speaks of ``sweep``."""
    if isinstance(filters, list):
        return [_with_ids(each, id_of) for each in filters]
    if not isinstance(filters, dict):
        return filters
    return {
        "document" if key == "sweep" else key: _ids(value, id_of) if key == "sweep" else _with_ids(value, id_of)
        for key, value in filters.items()
    }


def _ids(condition: Any, id_of: Callable[[str], str]) -> Any:
    if isinstance(condition, str):
        return id_of(condition)
    if isinstance(condition, list):
        return [_ids(each, id_of) for each in condition]
    if isinstance(condition, dict):
        return {operator: _ids(value, id_of) for operator, value in condition.items()}
    return condition


def run(home: Project, context: Context, name: str, **_more: Any) -> Seen | None:
    """A run by its short id. None when there is none, Gone when it is in the trash."""
    try:
        return context.read(run_searches.find, FindRun(project=home.name, handle=name))
    except NotFound:
        return None


def bucket(home: Project, context: Context, name: str, **_more: Any) -> Seen | None:
    """A run that a process asks for before it starts: one in the trash is none, so that the id can be used again."""
    try:
        return run(home, context, name)
    except Gone:
        return None


def runs(
    home: Project,
    context: Context,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Json:
    """One page of runs."""
    of = selected(home, context, filters)
    asked = SearchRuns(
        project=home.id,
        filters=of.filters,
        order=order or "",
        limit=page_size(first),
        cursor=after or None,
    )
    found = context.read(run_searches.search_runs, asked)
    return {**connection(found.items, found.next), "of": of}


def run_count(home: Project, context: Context, filters: str | None = None) -> int:
    """How many runs there are."""
    return context.read(run_searches.count, selected(home, context, filters))


# --- mutations --------------------------------------------------------------------------------------------------------


def upsert_model(_root: None, context: Context, input: Json) -> Json:
    """Make a project, or change its description and, of a registry, the types that it takes."""
    if not input.get("id") and not input.get("name"):
        raise Invalid("a project needs a name", path="name")
    changes = given(input, "description")
    known = own_id("Project", input["id"]) if input.get("id") else input["name"]
    before = project(None, context, known)
    registry = _registry(input, before)
    if registry:
        changes["extra"] = {DIALECT: {"registry": registry}}
    if before is not None or input.get("id"):
        found = context.write(projects.update, UpdateProject(id=known, **changes)) if changes else before
        return {"project": found, "model": found, "inserted": False}
    asked = CreateProject(name=input["name"], dialect=DIALECT, **changes)
    ensured = context.write(resources.ensure_project, asked)
    return {"project": ensured.item, "model": ensured.item, "inserted": not ensured.found}


def _registry(input: Json, before: Project | None) -> Json:
    """What the input says of a registry. Types are only ever added."""
    found: Json = {}
    if input.get("allowAllArtifactTypesInRegistry") is not None:
        found["all_types"] = input["allowAllArtifactTypesInRegistry"]
        found["access"] = input.get("access") or "PRIVATE"
    if input.get("artifactTypes"):
        had = _registry_of(before).get("types", []) if before is not None else []
        found["types"] = list(dict.fromkeys([*had, *(each["name"] for each in input["artifactTypes"])]))
    return found


def _registry_of(home: Project) -> Json:
    mine = home.extra.get(DIALECT)
    found = mine.get("registry") if isinstance(mine, dict) else None
    return found if isinstance(found, dict) else {}


def takes_all(home: Project) -> bool:
    """Whether a registry takes artifacts of every type."""
    return bool(_registry_of(home).get("all_types", True))


def accepted(home: Project) -> list[str] | None:
    """The types of artifacts that a registry takes; None for all."""
    return None if takes_all(home) else list(_registry_of(home).get("types", []))


def rename_project(_root: None, context: Context, input: Json) -> Json:
    """Give a project another name."""
    found = context.write(projects.update, UpdateProject(id=input["oldProjectName"], name=input["newProjectName"]))
    return {"project": found, "model": found, "inserted": False}


def delete_model(_root: None, context: Context, input: Json) -> Json:
    """Trash a project with all that is in it."""
    verb = ItemVerb(id=own_id("Project", input["id"]), on_running="stop", force=True)
    context.write(deletions.trash_item, verb)
    return {"success": True}


RESOLVERS: Resolvers = {
    "Query": {"project": project, "model": project, "projects": list_projects, "models": list_projects},
    "Mutation": {"upsertModel": upsert_model, "renameProject": rename_project, "deleteModel": delete_model},
    "Entity": {"project": project},
    "Project": {
        "id": lambda home, _context: global_id("Project", home.id),
        "internalId": lambda home, _context: number_of(home.id),
        "name": lambda home, _context: home.name,
        "entityName": lambda _home, context: context.entity,
        "entity": lambda _home, context: context.entity,
        "description": lambda home, _context: home.description or None,
        "access": lambda home, _context: _registry_of(home).get("access", "PRIVATE"),
        "allowAllArtifactTypesInRegistry": lambda home, _context: takes_all(home),
        "views": lambda _home, _context: "{}",
        "createdAt": lambda home, _context: moment(home.created_at),
        "updatedAt": lambda home, _context: moment(home.updated_at),
        "isBenchmark": lambda _home, _context: False,
        "readOnly": lambda _home, _context: False,
        "user": lambda home, _context: user(home.created_by),
        "run": run,
        "bucket": bucket,
        "runs": runs,
        "runCount": run_count,
    },
    "RunConnection": {"totalCount": lambda page, context: context.read(run_searches.count, page["of"])},
}
