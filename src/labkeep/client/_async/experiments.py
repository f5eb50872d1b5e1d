"""Experiments as plain dicts: what code written for a hosted experiments API subscripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labkeep.client import requests
from labkeep.client._async.connection import AsyncConnection, AsyncPages
from labkeep.client.experiment import as_dict, deletion_dict, existing
from labkeep.core.commands import Experiment, Outcome, Page
from labkeep.core.entities import Deletion, Json


class AsyncExperiments:
    """``client.experiments``: variants, a status (draft → running → completed | stopped), metadata and results.

    Everything here is a plain dict, made for subscripting and ``json.dump``. ALL TIMES IN THESE DICTS ARE LOCAL:
    ISO 8601 in this machine's time zone and without an offset, so that they compare with ``datetime.now()``:

        datetime.fromisoformat(experiment["created_at"]) < datetime.now() - timedelta(days=30)

    Everywhere else in this client times are aware UTC. An id that is none is NotFound, like one that is unknown.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def create(
        self,
        name: str,
        description: str | None = None,
        variants: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        project: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Json:
        """A new experiment in status ``draft``, in the project ``default`` unless one is named."""
        path = requests.path("/experiments")
        return as_dict(await self._connection.write(Experiment, "POST", path, requests.given(locals(), "path")))

    async def get(self, experiment_id: str, *, include: str | None = None) -> Json:
        """One experiment. ``current_results`` is there only when there are results."""
        path = requests.path("/experiments/{id}", id=existing(experiment_id))
        return as_dict(await self._connection.read(Experiment, path, include=include))

    async def list(
        self,
        status: str | None = None,
        limit: int | None = None,
        *,
        project: str | None = None,
        name: str | None = None,
        state: str | None = None,
        cursor: str | None = None,
    ) -> Json:
        """``{"experiments": […], "next": cursor or None}``: one page, newest first; ``limit`` is its size (100).

        `iterate` turns the pages.
        """
        page: Page[Experiment] = await self.iterate(**requests.given(locals())).first_page()
        return {"experiments": [as_dict(found) for found in page.items], "next": page.next}

    def iterate(
        self,
        *,
        status: str | None = None,
        limit: int | None = None,
        project: str | None = None,
        name: str | None = None,
        state: str | None = None,
        cursor: str | None = None,
    ) -> AsyncPages[Experiment]:
        """All experiments as `labkeep.core.commands.Experiment` values (with aware times), page after page."""
        return self._connection.pages(Experiment, requests.path("/experiments"), **requests.given(locals()))

    async def update(
        self,
        experiment_id: str,
        name: str | None = None,
        description: str | None = None,
        variants: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
    ) -> Json:
        """Edit an experiment. ``metadata`` merges deeply; None inside it removes a key."""
        fields = requests.given(locals(), "experiment_id")
        path = requests.path("/experiments/{id}", id=existing(experiment_id))
        return as_dict(await self._connection.write(Experiment, "PATCH", path, fields))

    async def start(self, experiment_id: str) -> Json:
        """draft or stopped → running."""
        return await self._verb(experiment_id, "start")

    async def stop(self, experiment_id: str) -> Json:
        """running → stopped."""
        return await self._verb(experiment_id, "stop")

    async def complete(self, experiment_id: str) -> Json:
        """running → completed."""
        return await self._verb(experiment_id, "complete")

    async def get_results(self, experiment_id: str, *, include: str | None = None) -> Json:
        """What the experiment's runs came to, by variant."""
        path = requests.path("/experiments/{id}/results", id=existing(experiment_id))
        return await self._connection.read(Json, path, include=include)

    async def delete(self, experiment_id: str, reason: str = "") -> Json:
        """Move an experiment to the trash. `restore` takes it back until ``restorable_until``.

        Returns ``experiment_id``, ``deleted_at``, ``deletion_id``, ``restorable_until`` and ``message``; the same again
        for one that is in the trash already. Errors say "not found", "running" (stop it first), "permission", or
        "has active" for what still depends on it.
        """
        found = await self.get(experiment_id, include="trashed")
        path = requests.path("/items/{id}/trash", id=found["id"])
        outcome = await self._connection.write(Outcome, "POST", path, {"reason": reason})
        record = None
        if outcome.deletion_id is not None:
            path = requests.path("/deletions/{id}", id=outcome.deletion_id)
            record = await self._connection.read(Deletion, path)
        return deletion_dict(found, outcome, record)

    async def restore(self, experiment_id: str) -> Json:
        """Take an experiment out of the trash."""
        found = await self.get(experiment_id, include="trashed")
        path = requests.path("/items/{id}/restore", id=found["id"])
        await self._connection.write(Outcome, "POST", path, {})
        return await self.get(experiment_id)

    async def _verb(self, experiment_id: str, verb: str) -> Json:
        path = requests.path("/experiments/{id}/" + verb, id=existing(experiment_id))
        return as_dict(await self._connection.write(Experiment, "POST", path, {}))
