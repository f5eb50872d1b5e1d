# Generated from labkeep/client/_async/runs.py by scripts/unasync.py: change that file instead.
"""Runs: creating, finding, editing and ending executions, and what they logged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import UNSET, UnsetType

from labkeep.client import history, requests
from labkeep.client._sync.connection import Pages
from labkeep.client._sync.items import Items
from labkeep.client.history import Part, Points
from labkeep.core.columns import MEDIA_TYPE, encode_columns, encode_rows
from labkeep.core.commands import Alive, Appended, Difference, Page
from labkeep.core.entities import Json, Run, Series

# A method named `list` hides the type of that name in the annotations of its class.
RunList: TypeAlias = list[Run]
JsonRows: TypeAlias = list[Json]
Lines: TypeAlias = list[str]

BATCH_ROWS = 25_000
"""Rows of one request when whole columns are logged."""

CREATE_MANY = 1_000
"""Runs of one request: the server makes all of them or none."""


class Runs(Items):
    """``client.runs``: executions and their history."""

    def create(
        self,
        project: str,
        *,
        name: str | None = None,
        id: str | None = None,
        handle: str | None = None,
        type: str | None = None,
        status: str | None = None,
        config: Mapping[str, Any] | None = None,
        summary: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        notes: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        base_run_id: str | None = None,
        document_id: str | None = None,
        exit_code: int | None = None,
        started_at: datetime | None = None,
        finished_at: datetime | None = None,
        suffix: bool | None = None,
        exist_ok: bool | None = None,
    ) -> Run:
        """A new run in ``project`` (id or name), which is made when it is missing.

        With an ``id`` of your own (a UUID) sending it twice makes one run. ``handle`` is unique among the live runs of
        the project: ``suffix`` adds a short suffix when it is taken, ``exist_ok`` answers the run that has it;
        AlreadyExists otherwise. ``status`` is ``running`` unless said otherwise.
        """
        body = requests.given(locals())
        return self._connection.write(Run, "POST", requests.path("/runs"), body)

    def create_many(self, runs: Iterable[Mapping[str, Any]], *, project: str | None = None) -> RunList:
        """New runs, in the order given; each mapping holds what `create` takes. ``project`` is for those that name none.

        1,000 at a time: of each thousand all are made, or none.
        """
        wanted = [{"project": project, **run} if project else dict(run) for run in runs]
        made: list[Run] = []
        for start in range(0, len(wanted), CREATE_MANY):
            body = {"runs": wanted[start : start + CREATE_MANY]}
            page: Page[Run] = self._connection.write(Page[Run], "POST", requests.path("/runs/batch"), body)
            made.extend(page.items)
        return made

    def list(
        self,
        project: str | None = None,
        *,
        q: str | None = None,
        order: str | None = None,
        state: str | None = None,
        name: str | None = None,
        handle: str | None = None,
        type: str | None = None,
        ids: Sequence[str] | None = None,
        before: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pages[Run]:
        """Runs of a project, or of the workspace, newest first.

        ``q`` and ``order`` are in the query language: ``q='config.lr < 0.1 and tag = "prod"'``,
        ``order="summary.acc desc"``. ``state`` is ``active`` unless said otherwise (``archived``, ``trashed``, ``any``).
        Raises Invalid, pointing at the column, for a query that cannot be read.
        """
        return self._connection.pages(Run, requests.path("/runs"), **requests.given(locals()))

    def get(self, id: str, *, include: str | None = None) -> Run:
        """A run by id. ``include="trashed"`` also finds it in the trash; Gone otherwise, with who trashed it."""
        return self._connection.read(Run, requests.path("/runs/{id}", id=id), include=include)

    def update(
        self,
        id: str,
        *,
        name: str | UnsetType = UNSET,
        handle: str | UnsetType | None = UNSET,
        status: str | UnsetType = UNSET,
        config: Mapping[str, Any] | UnsetType = UNSET,
        summary: Mapping[str, Any] | UnsetType = UNSET,
        tags: Sequence[str] | UnsetType = UNSET,
        add_tags: Sequence[str] | UnsetType = UNSET,
        remove_tags: Sequence[str] | UnsetType = UNSET,
        description: str | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        extra: Mapping[str, Any] | UnsetType = UNSET,
        notes: str | UnsetType = UNSET,
        group: str | UnsetType = UNSET,
        job_type: str | UnsetType = UNSET,
        base_run_id: str | UnsetType | None = UNSET,
        document_id: str | UnsetType | None = UNSET,
        if_version: int | UnsetType = UNSET,
    ) -> Run:
        """Edit a run. ``config``, ``summary`` and ``metadata`` merge deeply; None inside them removes a key.

        With ``if_version`` only if the run still has that version (Stale otherwise).
        """
        body = requests.changed(locals(), "id")
        return self._connection.write(Run, "PATCH", requests.path("/runs/{id}", id=id), body)

    def finish(
        self,
        id: str,
        *,
        status: str = "finished",
        exit_code: int | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> Run:
        """End a run as ``finished``, ``failed``, ``crashed`` or ``stopped``; again is allowed and changes the status."""
        body = requests.given({"status": status, "exit_code": exit_code, "summary": summary})
        return self._connection.write(Run, "POST", requests.path("/runs/{id}/finish", id=id), body)

    def stop(self, id: str) -> Run:
        """Ask a running run to stop: its client learns of it with its next heartbeat or log."""
        return self._connection.write(Run, "POST", requests.path("/runs/{id}/stop", id=id), {})

    def fork(
        self,
        id: str,
        *,
        step: int | None = None,
        project: str | None = None,
        name: str | None = None,
        handle: str | None = None,
        status: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
    ) -> Run:
        """A new run that begins with this one's history up to and including ``step``; with all of it without one.

        It has the base's config (``config`` merges over it), tags, group and job type, and stands beside it unless
        ``project`` says otherwise. The base stays as it is, and cannot be trashed without ``force`` while the fork
        lives. Invalid for a step that the base has not reached.
        """
        body = requests.given({name: value for name, value in locals().items() if name != "id"})
        return self._connection.write(Run, "POST", requests.path("/runs/{id}/fork", id=id), body)

    def rewind(self, id: str, *, step: int, reason: str | None = None) -> Run:
        """Take a run back to ``step``: it goes on from there. All that it had logged is kept as a run in the archive,
        which is the base of this one from now on.
        """
        body = requests.given({"step": step, "reason": reason})
        return self._connection.write(Run, "POST", requests.path("/runs/{id}/rewind", id=id), body)

    def heartbeat(self, id: str) -> Alive:
        """Say that the process is alive; ``stop`` of the answer asks it to end."""
        return self._connection.write(Alive, "POST", requests.path("/runs/{id}/heartbeat", id=id), {})

    def diff(self, a: str, b: str) -> Pages[Difference]:
        """Every path in which two runs differ: attributes, config and summary."""
        return self._connection.pages(Difference, requests.path("/runs/diff"), a=a, b=b)

    # --- history

    def append_history(
        self, id: str, rows: Sequence[Mapping[str, Any]], *, stream: str = "history", offset: int | None = None
    ) -> Appended:
        """Rows of a stream, ``[{"_step": 0, "loss": 0.5}, …]``; ``_timestamp`` (seconds) where it is known.

        ``offset`` is the number of the first row: the same offset again replaces those rows, so that sending twice is
        safe. Without it they go to the end, once. Gone when the run is in the trash.
        """
        return self.append_batch(id, encode_rows(history.rows(rows)), stream=stream, offset=offset)

    def log_columns(
        self,
        id: str,
        steps: Sequence[int],
        columns: Mapping[str, Sequence[Any]],
        *,
        timestamps: Sequence[float] | None = None,
        stream: str = "history",
        offset: int | None = None,
    ) -> Appended:
        """Whole columns, each as long as ``steps``: lists, arrays, or anything with a buffer of doubles or integers.

        The fast way for many points. Sent in batches; ``offset`` as for `append_history`.
        """
        done = Appended(rows=offset or 0)
        for start in range(0, len(steps), BATCH_ROWS):
            part = slice(start, start + BATCH_ROWS)
            times = None if timestamps is None else timestamps[part]
            batch = encode_columns(steps[part], {key: values[part] for key, values in columns.items()}, times)
            done = self.append_batch(id, batch, stream=stream, offset=offset)
            offset = done.rows if offset is None else offset + len(steps[part])
        return done

    def append_batch(self, id: str, batch: bytes, *, stream: str = "history", offset: int | None = None) -> Appended:
        """An encoded batch of `labkeep.core.columns`. What the two methods above send."""
        path = requests.path("/runs/{id}/history", id=id) + requests.query({"stream": stream, "offset": offset})
        headers = {"Content-Type": MEDIA_TYPE}
        if offset is None:
            headers["Idempotency-Key"] = requests.idempotency_key()
        call = self._connection.call("POST", path, headers=headers, body=batch)
        answer = self._connection.send(call)
        return requests.parse(Appended, answer.body, "the append")

    def history(
        self,
        id: str,
        *,
        keys: Sequence[str] | None = None,
        first_step: int | None = None,
        last_step: int | None = None,
        offset: int | None = None,
        limit: int | None = None,
        buckets: int | None = None,
        stream: str = "history",
        include: str | None = None,
    ) -> JsonRows:
        """Rows of a stream as dicts with ``_step`` and, where known, ``_timestamp``. NaN and infinities are floats.

        ``buckets`` asks for a sample: for each bucket of steps and each key, the rows with the least and the greatest
        value. ``include="trashed"`` also reads a run in the trash.
        """
        return [*(self.read_part(id, **requests.given(locals(), "id"))).batch.rows()]

    def series(
        self,
        id: str,
        key: str,
        *,
        first_step: int | None = None,
        last_step: int | None = None,
        buckets: int | None = None,
        stream: str = "history",
        include: str | None = None,
    ) -> Points:
        """One key as (steps, values): ``array('q')`` and ``array('d')``, without a dict for each point.

        Values are an ``array('q')`` when all are integers, and a list when some are not numbers.
        """
        fields = requests.given(locals(), "id", "key")
        return history.points((self.read_part(id, keys=[key], **fields)).batch, key)

    def read_part(self, id: str, **query: Any) -> Part:
        """Part of a stream as one columnar batch, and where the next begins; takes what `history` takes."""
        path = requests.path("/runs/{id}/history", id=id) + requests.query(query)
        answer = self._connection.send(self._connection.call("GET", path, headers={"Accept": MEDIA_TYPE}))
        return history.part(answer)

    def count_rows(self, id: str, *, stream: str = "history", include: str | None = None) -> int:
        """How many rows a stream has: the offset of the next one."""
        return (self.read_part(id, **requests.given({"stream": stream, "limit": 1, "include": include}))).total

    def metrics(
        self,
        id: str,
        *,
        stream: str | None = None,
        include: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pages[Series]:
        """What is known of each key without reading it: count, first, last, min, max."""
        path = requests.path("/runs/{id}/series", id=id)
        return self._connection.pages(Series, path, stream=stream, limit=limit, include=include, cursor=cursor)

    def console(
        self, id: str, *, first: int | None = None, last: int | None = None, include: str | None = None
    ) -> Lines:
        """Lines that the run printed, in order; ``first`` and ``last`` are line numbers from 0."""
        rows = self.history(id, stream="console", first_step=first, last_step=last, include=include)
        return [str(row.get("line", "")) for row in rows]
