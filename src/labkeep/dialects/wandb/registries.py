"""Registries: projects whose names begin with ``wandb-registry-``, and what is linked into them.

They belong to the workspace, which the vendor's client takes for the entity of its organization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from labkeep.core.entities import ArtifactVersion, Item, Json, Project
from labkeep.core.errors import Invalid
from labkeep.core.json_values import to_json
from labkeep.core.mongo_match import matches
from labkeep.dialects.wandb.context import Context, number_of
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.dialects.wandb.projects import connection, filters_in, page_size
from labkeep.dialects.wandb.translate import moment
from labkeep.operations import artifact_links
from labkeep.operations.artifact_links import FindLinked, FindPortfolios, Portfolio
from labkeep.operations.artifact_searches import Held, Home

PREFIX = "wandb-registry-"
"""How the name of a project begins that is a registry."""

T = TypeVar("T")


def found_by(
    items: Sequence[T], filters: str | None, value: Callable[[T, str], Sequence[Any]], order: str | None = None
) -> list[T]:
    """The items that a filter selects, in order if one is given. ``value`` has the values of an item's field."""
    wanted = filters_in(filters)
    kept = [item for item in items if matches(wanted, lambda key, item=item: value(item, key))]  # type: ignore[misc]
    if order:
        key = order.lstrip("+-")
        kept.sort(key=lambda item: _rank(next(iter(value(item, key)), "")), reverse=order.startswith("-"))
    return kept


def _rank(value: Any) -> tuple[float, str]:
    """Numbers in their order, before texts."""
    return (value, "") if isinstance(value, int | float) else (math.inf, str(value))


def paged(items: Sequence[Any], after: str | None, first: int | None) -> Json:
    """A page of a list that is read as a whole; the cursor counts."""
    if after and not after.isdecimal():
        raise Invalid(f"{after[:40]!r} is not a cursor of this list", path="after")
    start = int(after) if after else 0
    end = start + page_size(first)
    page = connection(list(items[start:end]), str(end) if end < len(items) else None)
    return {**page, "totalCount": len(items)}


def _common(item: Item, key: str) -> Sequence[Any] | None:
    known: dict[str, Sequence[Any]] = {
        "name": [item.name],
        "tag": item.tags,
        "description": [item.description] if item.description else [],
        "created_at": [moment(item.created_at)],
        "updated_at": [moment(item.updated_at)],
    }
    return known.get(_SNAKE.get(key, key))


_SNAKE = {"createdAt": "created_at", "updatedAt": "updated_at"}


def _of_project(project: Project, key: str) -> Sequence[Any]:
    if key in ("id", "project_id"):
        return [int(number_of(project.id))]
    return _known(_common(project, key), key)


def of_collection(home: Home | Portfolio, key: str) -> Sequence[Any]:
    """The values of a collection's field."""
    if key == "artifact_collection_id":
        return [int(number_of(home.collection.id))]
    return _known(_common(home.collection, key), key)


def of_version(version: ArtifactVersion, key: str) -> Sequence[Any]:
    """The values of a version's field. Only those that are committed are in lists."""
    if key == "state":
        return ["COMMITTED"]
    if key == "alias":
        return version.aliases
    if key == "version":
        return [version.name, version.number]
    if key == "versionIndex":
        return [version.number]
    if key == "id":
        return [int(number_of(version.id))]
    if key.startswith("metadata."):
        return _within(version.metadata, key.split(".")[1:])
    return _known(_common(version, key), key)


def _within(value: Any, path: list[str]) -> Sequence[Any]:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return [] if value is None else [to_json(value)]


def _known(found: Sequence[Any] | None, key: str) -> Sequence[Any]:
    if found is None:
        raise Invalid(f"{key[:80]!r} is not a field of this list", path=key[:80])
    return found


# --- resolvers --------------------------------------------------------------------------------------------------------

_ALL = FindPortfolios(prefix=PREFIX)


def registries(
    _entity: str,
    context: Context,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Json:
    """The registries of the workspace."""
    found = context.read(artifact_links.registries, _ALL)
    return paged(found_by(found, filters, _of_project, order), after, first)


def _portfolios(context: Context, projects: str | None, collections: str | None) -> list[Portfolio]:
    found = context.read(artifact_links.portfolios, _ALL)
    inside = found_by(found, projects, lambda portfolio, key: _of_project(portfolio.project, key))
    return found_by(inside, collections, of_collection)


def collections(
    _entity: str,
    context: Context,
    projectFilters: str | None = None,  # noqa: N803 - the wire's names
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
    **_kinds: Any,
) -> Json:
    """Collections of registries."""
    found = found_by(_portfolios(context, projectFilters, filters), None, of_collection, order)
    return paged([Home(each.collection, each.project) for each in found], after, first)


def versions(
    _entity: str,
    context: Context,
    projectFilters: str | None = None,  # noqa: N803 - the wire's names
    collectionFilters: str | None = None,  # noqa: N803
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    **_order: Any,
) -> Json:
    """What is linked into registries."""
    inside = _portfolios(context, projectFilters, collectionFilters)
    found: list[Held] = context.read(artifact_links.linked, FindLinked(inside))
    return paged(found_by(found, filters, lambda held, key: of_version(held.version, key)), after, first)


RESOLVERS: Resolvers = {
    "Entity": {"projects": registries, "artifactCollections": collections, "artifactMemberships": versions},
}
