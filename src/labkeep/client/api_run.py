"""A run that was found: reading it, editing it, putting it away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from labkeep.client._sync.client import Labkeep
from labkeep.client.artifact import Artifact
from labkeep.client.mappings import Config, Tracked
from labkeep.core import json_values
from labkeep.core.commands import Outcome
from labkeep.core.entities import File, Json, Run


class ApiRun:
    """One run. ``config`` and ``summary`` are mappings; what is set in them, in ``name``, ``tags`` and ``notes`` is sent by `update`."""

    def __init__(self, client: Labkeep, run: Run) -> None:
        self._client = client
        self._take(run)

    def _take(self, run: Run) -> None:
        self._run = run
        self.name = run.name
        self.tags = list(run.tags)
        self.notes = run.notes
        self.group = run.group
        self.config = Config(json_values.from_json(run.config, 100))
        self.summary = Tracked(json_values.from_json(run.summary, 100))

    def load(self) -> ApiRun:
        """Read it again, wherever it is now."""
        self._take(self._client.runs.get(self.id, include="trashed"))
        return self

    @property
    def id(self) -> str:
        """The immutable id."""
        return self._run.id

    @property
    def handle(self) -> str | None:
        """Its short name in the project, if it has one."""
        return self._run.handle

    @property
    def entity(self) -> Run:
        """All of it, as the server sees it."""
        return self._run

    @property
    def state(self) -> str:
        """How it went or goes: queued, running, finished, failed, crashed or stopped."""
        return str(self._run.status)

    @property
    def lifecycle_state(self) -> str:
        """active, archived or trashed."""
        return str(self._run.state)

    @property
    def job_type(self) -> str:
        """Its part in its group: train, eval, …"""
        return self._run.job_type

    @property
    def metadata(self) -> Json:
        """What else was attached."""
        return self._run.metadata

    @property
    def created_at(self) -> datetime:
        """When it was created, aware UTC."""
        return self._run.created_at

    @property
    def user(self) -> str:
        """Who created it."""
        return self._run.created_by

    @property
    def url(self) -> str:
        """Where to look at it."""
        return f"{self._client.base_url}/runs/{self.id}"

    # --- what it logged

    def history(self, keys: Sequence[str] | None = None, samples: int = 500, *, stream: str = "history") -> list[Json]:
        """About ``samples`` rows: all when there are no more, else those with the extremes of each stretch of steps."""
        total = self._client.runs.count_rows(self.id, stream=stream, include="trashed")
        buckets = max(1, samples // 2) if total > samples else None
        return self._client.runs.history(self.id, keys=keys, buckets=buckets, stream=stream, include="trashed")

    def scan_history(
        self,
        keys: Sequence[str] | None = None,
        page_size: int = 10_000,
        min_step: int | None = None,
        max_step: int | None = None,
        *,
        stream: str = "history",
    ) -> Iterator[Json]:
        """Every row, exactly, in order, a page at a time. With ``keys`` only the rows that have all of them."""
        wanted = set(keys or ())
        query: Json = {"keys": list(wanted), "first_step": min_step, "last_step": max_step, "limit": page_size}
        start: int | None = 0
        while start is not None:
            part = self._client.runs.read_part(self.id, **query, stream=stream, include="trashed", offset=start)
            yield from (row for row in part.batch.rows() if wanted <= row.keys())
            start = part.next_offset

    def files(self) -> list[File]:
        """Files that were saved with it, by path."""
        return list(self._client.files.list(self.id, include="trashed"))

    def download(self, path: str, to: str) -> str:
        """Write one of its files to the local path ``to``; returns that."""
        return str(self._client.files.download(self.id, path, to, include="trashed"))

    def logged_artifacts(self) -> list[Artifact]:
        """Artifact versions that it made."""
        found = list(self._client.artifacts.versions(run_id=self.id))
        names = {id: self._client.artifacts.get(id).name for id in {version.parent_id for version in found}}
        return [Artifact.found(self._client, names[version.parent_id], version) for version in found]

    # --- editing

    def update(self, **fields: Any) -> ApiRun:
        """Send what was set in this object, and ``fields`` as `Labkeep.runs.update` takes them."""
        edits: dict[str, Any] = {
            name: value
            for name, value in (("name", self.name), ("notes", self.notes), ("group", self.group))
            if value != getattr(self._run, name)
        }
        if tuple(self.tags) != self._run.tags:
            edits["tags"] = list(self.tags)
        for space, changes in (("config", self.config.changes()), ("summary", self.summary.changes())):
            if changes:
                edits[space] = changes
        self._take(self._client.runs.update(self.id, **{**edits, **fields}))
        return self

    # --- the lifecycle

    def archive(self, reason: str = "") -> Outcome:
        """Take it out of the default lists and refuse changes, until `unarchive`."""
        return self._moved(self._client.runs.archive(self.id, reason=reason))

    def unarchive(self, reason: str = "") -> Outcome:
        """Back from the archive."""
        return self._moved(self._client.runs.unarchive(self.id, reason=reason))

    def trash(self, reason: str = "", *, on_running: str = "refuse", force: bool = False) -> Outcome:
        """Move it to the trash, from where `restore` brings it back; ``restorable_until`` of the answer says how long."""
        return self._moved(self._client.runs.trash(self.id, reason=reason, on_running=on_running, force=force))

    def delete(self, reason: str = "", *, on_running: str = "refuse", force: bool = False) -> Outcome:
        """The same as `trash`: in Labkeep nothing goes for good at once."""
        return self.trash(reason, on_running=on_running, force=force)

    def restore(self, reason: str = "") -> Outcome:
        """Out of the trash, to the state that it had before."""
        return self._moved(self._client.runs.restore(self.id, reason=reason))

    def purge(self, reason: str = "") -> Outcome:
        """Remove for good what is in the trash. ``job_id`` of the answer is the job that does it."""
        return self._client.runs.purge(self.id, reason=reason)

    def _moved(self, outcome: Outcome) -> Outcome:
        self.load()
        return outcome

    def __repr__(self) -> str:
        return f"<Run {self.name} ({self.id}), {self.state}>"
