"""How a run begins: new or resumed, with a server, without one, or with one that is away at the moment."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from labkeep.client import requests, spool
from labkeep.client.lanes import Lanes
from labkeep.client.outbox import SENDING, SPOOLING
from labkeep.client.rows import Stream
from labkeep.client.run import Start
from labkeep.client.spool import Begin
from labkeep.core.entities import Json, Run
from labkeep.core.errors import AlreadyExists, NotFound, Unavailable
from labkeep.core.ids import IdSource, is_id

if TYPE_CHECKING:
    from labkeep.client._sync.client import Labkeep

log = logging.getLogger("labkeep")

DEFAULT_PROJECT = "uncategorized"
TIMEOUT_S = 30.0

_ids = IdSource()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of ``labkeep.init``, in order."""

    project: str | None
    name: str | None
    config: Json
    job_type: str | None
    tags: Sequence[str]
    notes: str | None
    group: str | None
    id: str | None
    resume: str
    dir: str | os.PathLike[str] | None
    mode: str
    url: str | None
    api_key: str | None
    workspace: str | None
    quiet: bool


def begin(wanted: Wanted) -> Start:
    """Make or resume the run. Raises what the server says, but for Unavailable: then the run begins in the spool.

    A run that is resumed needs its server, which alone knows how far it got: then Unavailable is raised.
    """
    if wanted.mode == "disabled":
        return _start(wanted, _fields(wanted), "", None)
    if wanted.mode == "offline":
        return _offline(wanted)
    client = connect(wanted)
    try:
        existing = _existing(client, wanted)
        return _resumed(client, wanted, existing) if existing is not None else _created(client, wanted)
    except BaseException:
        client.close()
        raise


def connect(wanted: Wanted) -> Labkeep:
    """A client for the server or the folder that is wanted."""
    from labkeep.client._sync.client import Labkeep

    if wanted.dir is not None:
        return Labkeep.local(wanted.dir, workspace=wanted.workspace)
    return Labkeep(wanted.api_key, wanted.url, workspace=wanted.workspace, timeout=TIMEOUT_S, max_retries=1)


def _fields(wanted: Wanted) -> Json:
    """What the run is created with."""
    own_id = wanted.id if wanted.id is not None and is_id(wanted.id) else None
    return requests.given(
        {
            "project": wanted.project or DEFAULT_PROJECT,
            "id": own_id or _ids.new(int(time.time() * 1000)),
            "handle": wanted.id if wanted.id != own_id else None,
            "name": wanted.name,
            "config": wanted.config or None,
            "job_type": wanted.job_type,
            "tags": list(wanted.tags) or None,
            "notes": wanted.notes,
            "group": wanted.group,
            "started_at": datetime.now(UTC).isoformat(),
        }
    )


def _start(wanted: Wanted, fields: Json, url: str, lanes: Lanes | None) -> Start:
    start = Start(id=fields["id"], project=fields["project"], url=url, lanes=lanes, quiet=wanted.quiet)
    start.name = fields.get("name") or fields.get("handle") or start.name
    start.handle = fields.get("handle")
    for name in ("notes", "group", "job_type", "config"):
        setattr(start, name, fields.get(name) or getattr(start, name))
    start.tags = tuple(fields.get("tags", ()))
    return start


def _offline(wanted: Wanted) -> Start:
    fields, folder = _fields(wanted), spool.folder()
    return _start(wanted, fields, folder.absolute().as_uri(), Lanes(None, Begin(run=fields), folder))


def _created(client: Labkeep, wanted: Wanted) -> Start:
    fields, folder, mode = _fields(wanted), spool.folder(), SENDING
    try:
        made = client.runs.create(**fields)
    except Unavailable as error:
        log.warning("labkeep: %s The run is kept in %s until the server answers.", error.message, folder)
        mode = SPOOLING
    else:
        fields["name"] = made.name
    lanes = Lanes(client, Begin(run=fields, url=client.base_url), folder, mode=mode)
    return _start(wanted, fields, _address(client, fields["id"]), lanes)


# --- resuming


def _existing(client: Labkeep, wanted: Wanted) -> Run | None:
    """The run that is to be resumed. AlreadyExists and NotFound when that is not as ``resume`` says."""
    if wanted.id is None:
        return None
    found = _find(client, wanted.project or DEFAULT_PROJECT, wanted.id)
    if found is None and wanted.resume == "must":
        raise NotFound(f"run {wanted.id} not found, and resume='must' asks for one that exists", id=wanted.id)
    if found is not None and wanted.resume == "never":
        raise AlreadyExists(f"run {wanted.id} exists already; pass resume='allow' to go on with it", id=found.id)
    return found


def _find(client: Labkeep, project: str, id: str) -> Run | None:
    try:
        if is_id(id):
            return client.runs.get(id)
        return next(iter(client.runs.list(project, handle=id, state="any", limit=1)), None)
    except NotFound:
        return None


def _resumed(client: Labkeep, wanted: Wanted, found: Run) -> Start:
    fields = {
        name: value for name, value in _fields(wanted).items() if name in ("config", "job_type", "notes", "group")
    }
    if wanted.name:
        fields["name"] = wanted.name
    run = client.runs.update(found.id, status="running", add_tags=list(wanted.tags), **fields)
    known = {**_fields(wanted), "id": run.id, "project": run.project_id}
    lanes = Lanes(client, Begin(run=known, url=client.base_url), spool.folder())
    start = Start(id=run.id, project=wanted.project or DEFAULT_PROJECT, url=_address(client, run.id), lanes=lanes)
    start.quiet = wanted.quiet
    start.name, start.handle, start.tags = run.name, run.handle, run.tags
    start.notes, start.group, start.job_type = run.notes, run.group, run.job_type
    start.config, start.summary = run.config, run.summary
    start.streams = {name: _resumed_stream(client, run.id, name) for name in ("history", "console")}
    return start


def _resumed_stream(client: Labkeep, run_id: str, name: str) -> Stream:
    """Where the stream goes on: behind its last row, after its greatest step."""
    rows = client.runs.count_rows(run_id, stream=name)
    steps = [series.last_step for series in client.runs.metrics(run_id, stream=name) if series.last_step is not None]
    return Stream(name, step=max(steps, default=-1) + 1, offset=rows)


def _address(client: Labkeep, run_id: str) -> str:
    base = client.base_url
    return f"{base}#{run_id}" if base.startswith("file:") else f"{base}/runs/{run_id}"
