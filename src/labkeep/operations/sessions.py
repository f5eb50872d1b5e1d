"""Runs as their processes report them: announced by a handle, fed in pieces, ended with an exit code.

A process may say the same thing twice, late, or after its run went to the trash. Saying it twice changes nothing. A run
in the trash is Gone and keeps its handle until it is purged: what a process sends names its run by the handle alone, so
the rest of a log would end up in whatever had taken it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import and_, bindparam, select, text, update

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, CreateRun, Heartbeat, Key, Name, Ref, Tags, Text
from labkeep.core.entities import Item, Json, Project, Run
from labkeep.core.errors import AlreadyExists, Gone, Invalid, LabkeepError, NotFound
from labkeep.core.ids import Id, is_id
from labkeep.core.lifecycle import ENDED, Kind, State, Status
from labkeep.core.merge import merge
from labkeep.operations import history, resends, runs
from labkeep.operations.history import HEARTBEAT_EVERY
from labkeep.operations.projects import resolve
from labkeep.operations.resends import Resent
from labkeep.storage import histories, holds, index, records
from labkeep.storage import tables as t
from labkeep.storage.histories import Prepared, Standing
from labkeep.storage.metrics import Place
from labkeep.storage.prepared import Ready
from labkeep.storage.transaction import Tx

STREAMS = ("history", "system", "console")
"""Streams whose lengths a process is told when it announces itself."""


BRANCH = "branch"
"""Key in a run's ``extra`` of where its history begins: ``{"run_id", "step", "summary"}``, the summary as it was there."""


class Changes(Command, frozen=True, kw_only=True):
    """What a process says of its run. ``config`` and ``summary`` replace; ``metadata`` and ``extra`` merge deeply."""

    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    notes: Text | UnsetType = UNSET
    group: Key | UnsetType = UNSET
    job_type: Key | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    config: Json | UnsetType = UNSET
    summary: Json | UnsetType = UNSET
    metadata: Json | UnsetType = UNSET
    extra: Json | UnsetType = UNSET
    document_id: Id | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class Announce(Command, frozen=True, kw_only=True):
    """Make or change the run ``handle`` of ``project``, or the one with ``id``.

    ``starts``: a process starts, so the run is made when it is missing and runs from now on. ``only_new`` refuses
    a run that is there already.
    """

    project: Ref = "uncategorized"
    handle: Name | None = None
    id: Ref | None = None
    starts: bool = False
    only_new: bool = False
    dialect: Key = "native"
    changes: Changes = Changes()


class Announced(NamedTuple):
    """A run, where it is, whether it was made just now, and where each of its streams stands."""

    run: Run
    project: Project
    inserted: bool
    streams: dict[str, Standing]


def announce(tx: Tx, actor: Actor, command: Announce) -> Announced:
    """The run that a process speaks of. Gone while one of that handle is in the trash, whether it starts or is late."""
    require(actor, "run.write")
    if command.id is not None:
        before = records.get_writable(tx, Run, actor, command.id)
        return _announced(tx, actor, _change(tx, before, command))
    if command.handle is None:
        raise Invalid("neither an id nor a name says which run is meant", path="name")
    project = resolve(tx, actor, command.project, create=command.starts)
    known = records.find(tx, Run, actor, parent_id=project.id, handle=command.handle)
    if known is None:
        trashed = _newest_trashed(tx, actor, command.handle, t.items.c.project_id == project.id)
        if trashed is not None:
            raise _kept_for(command.handle, trashed)
        if not command.starts:
            raise _never_was(command.handle)
        return Announced(_create(tx, actor, project, command), project, True, dict.fromkeys(STREAMS, Standing()))
    if command.only_new:
        raise AlreadyExists(f"run {command.handle!r} exists already in project {project.name}", id=known.id)
    before = records.get_writable(tx, Run, actor, known.id)
    return _announced(tx, actor, _change(tx, before, command), project)


def _create(tx: Tx, actor: Actor, project: Project, command: Announce) -> Run:
    given = {
        name: value for name in Changes.__struct_fields__ if (value := getattr(command.changes, name)) is not UNSET
    }
    for name in {"metadata", "extra"} & given.keys():
        given[name] = merge({}, given[name])
    asked = CreateRun(project=project.id, handle=command.handle, dialect=command.dialect, **given)
    return runs.create(tx, actor, asked)


def _change(tx: Tx, before: Run, command: Announce) -> Run:
    fields: dict[str, Any] = {}
    for name in Changes.__struct_fields__:
        value = getattr(command.changes, name)
        if value is not UNSET:
            fields[name] = merge(getattr(before, name), value) if name in ("metadata", "extra") else value
    if "tags" in fields:
        fields["tags"] = tuple(dict.fromkeys(fields["tags"]))
    if command.starts and "status" not in fields:
        fields["status"] = Status.running
    if fields.get("status") == Status.running:
        # The run goes on: what the end before said of it is no longer true.
        fields |= {"exit_code": None, "finished_at": None, "heartbeat_at": tx.now}
        fields["started_at"] = before.started_at or tx.now
    elif fields.get("status") in ENDED:
        fields |= {"finished_at": before.finished_at or tx.now, "heartbeat_at": None}
    return store(tx, before, msgspec.structs.replace(before, **fields))


def store(tx: Tx, before: Run, after: Run) -> Run:
    """Store what differs, and keep what the run is found by."""
    with holds.lasting(tx, before):
        saved = records.save(tx, before, after)
        index.change(tx, before, saved)
    return saved


def _announced(tx: Tx, actor: Actor, run: Run, project: Project | None = None) -> Announced:
    home = project or records.get(tx, Project, actor, run.parent_id)
    return Announced(run, home, False, standings(tx, run))


def standings(tx: Tx, run: Run) -> dict[str, Standing]:
    """Where each stream stands: the next offset and the highest step."""
    return {name: histories.standing(tx, Place(run.organization_id, run.id, name)) for name in STREAMS}


# --- which run is meant -----------------------------------------------------------------------------------------------


def find(tx: Tx, actor: Actor, project: str, handle: str) -> Run:
    """The live run ``handle`` of the project of that name. Gone when it is in the trash, NotFound otherwise."""
    home = records.find(tx, Project, actor, parent_id=actor.workspace_id, handle=project)
    if home is None:
        raise _missing_with_project(tx, actor, project, handle)
    found = records.find(tx, Run, actor, parent_id=home.id, handle=handle)
    if found is not None:
        return found
    if is_id(handle):
        found = records.get(tx, Run, actor, handle)
        if found.parent_id == home.id:
            return found
    raise missing(tx, actor, home.id, handle)


def missing(tx: Tx, actor: Actor, project_id: str, handle: str) -> LabkeepError:
    """Why there is no live run ``handle``: Gone when the newest one of that handle is in the trash, else NotFound."""
    return _newest_trashed(tx, actor, handle, t.items.c.project_id == project_id) or _never_was(handle)


def _missing_with_project(tx: Tx, actor: Actor, project: str, handle: str) -> LabkeepError:
    homes = t.items.alias("homes")
    inside = select(homes.c.id).where(
        homes.c.organization_id == actor.organization_id,
        homes.c.workspace_id == actor.workspace_id,
        homes.c.kind == Kind.project,
        homes.c.handle == project,
    )
    return _newest_trashed(tx, actor, handle, t.items.c.project_id.in_(inside)) or _never_was(handle)


def _kept_for(handle: str, trashed: LabkeepError) -> Gone:
    """Why nothing is done under the handle of a run that can still be restored."""
    free = f"a new run can have the id {handle[:80]!r} once that run is purged; until then choose another"
    return Gone(f"{trashed.message}; {free}", **trashed.details)


def _never_was(handle: str) -> NotFound:
    return NotFound(f"run {handle[:80]!r} not found")


def _newest_trashed(tx: Tx, actor: Actor, handle: str, where: Any) -> LabkeepError | None:
    c = t.items.c
    query = (
        records.statement(Run, actor)
        .where(and_(c.kind == Kind.run, c.handle == handle, c.state == State.trashed), where)
        .order_by(c.id.desc())
        .limit(1)
    )
    found = records.fetch(tx, Run, query)
    return records.gone(tx, found[0]) if found else None


# --- what a process sends ---------------------------------------------------------------------------------------------


Batches: TypeAlias = Sequence[Prepared]
"""Rows of streams, packed."""


class Delivery(NamedTuple):
    """What came from a process in one piece. ``batches`` were prepared without an id: the handle says whose they are."""

    project: str
    handle: str
    batches: Batches = ()
    summary: Json | None = None
    extra: Json | None = None
    exit_code: int | None = None
    """Set with the last piece: the process has ended."""
    seen: Standing | None = None
    """Where the history stood when what it has already was left out of ``batches`` (`labkeep.operations.resends`)."""


class Delivered(NamedTuple):
    """The run, and whether its process should stop."""

    run_id: str
    stop: bool


def deliver(tx: Tx, actor: Actor, command: Delivery) -> Delivered:
    """Store a piece; the same piece again changes nothing. Gone for a run in the trash.

    Resent when rows of it may be there already under other offsets, and nothing is stored.
    """
    require(actor, "run.write")
    run = _note_alive(tx, actor, _find_writable(tx, actor, command.project, command.handle))
    watch = resends.watch if command.seen is None else None
    if watch is None and standings(tx, run)[resends.STREAM] != command.seen:
        raise Resent(run.id)
    for batch in command.batches:
        history.append(tx, actor, batch._replace(id=run.id), watch)
    after = _reported(run, command)
    if command.exit_code is not None and not _is_known_end(run, command.exit_code):
        histories.request_seal(tx, run)
        after = msgspec.structs.replace(after, **_ended(tx, run, command.exit_code))
    if after is not run:
        _store_report(tx, run, after)
    return Delivered(run.id, run.status == Status.stopped)


WRITERS = "writers"
"""Key in a run's ``extra`` of the last piece that each of its writers has sent."""


class Part(NamedTuple):
    """A piece from one of several processes that write one run at once, each of which counts its lines for itself."""

    writer: str
    digest: str
    delivery: Delivery
    batches: Callable[[Mapping[str, int]], Batches]
    """The batches, from the number of the next line of each stream."""


def deliver_part(tx: Tx, actor: Actor, command: Part) -> Delivered:
    """Store a piece behind what others have sent. The last piece of a writer, sent again, changes nothing."""
    require(actor, "run.write")
    run = _find_writable(tx, actor, command.delivery.project, command.delivery.handle)
    if run.extra.get(WRITERS, {}).get(command.writer) == command.digest:
        return deliver(tx, actor, Delivery(command.delivery.project, command.delivery.handle))
    stand = standings(tx, run)
    given = command.delivery
    piece = given._replace(
        batches=command.batches({name: each.rows for name, each in stand.items()}),
        summary=None if given.summary is None else {**run.summary, **given.summary},
        extra=merge(given.extra or {}, {WRITERS: {command.writer: command.digest}}),
        seen=stand[resends.STREAM],
    )
    return deliver(tx, actor, piece)


_SAME_ITEM = (t.items.c.organization_id == bindparam("organization"), t.items.c.id == bindparam("run"))
_SAME_RUN = (t.runs.c.organization_id == bindparam("organization"), t.runs.c.id == bindparam("run"))
_EDITED = Ready(update(t.items).where(*_SAME_ITEM).values(version=t.items.c.version + 1, updated_at=bindparam("now")))
_SUMMARY = Ready(update(t.runs).where(*_SAME_RUN).values(summary=bindparam("after")))


def _store_report(tx: Tx, before: Run, after: Run) -> None:
    """`store`, by prepared statements where only the summary is new: so it is with nearly every piece."""
    if msgspec.structs.replace(before, summary=after.summary) != after:
        store(tx, before, after)
        return
    keys = {"organization": before.organization_id, "run": before.id}
    _SUMMARY.do(tx, keys | {"after": after.summary})
    _EDITED.do(tx, keys | {"now": tx.now})
    index.change(tx, before, after)


_HOME = t.items.alias("home")
_LIVE = "state IN ('active', 'archived') AND {0}.handle IS NOT NULL"
# The condition of the index of handles, word for word: without it, and without a type, the index would not serve.
_BY_HANDLE = Ready(
    select(*((t.items if name in Item.__struct_fields__ else t.runs).c[name] for name in Run.__struct_fields__))
    .select_from(
        _HOME.join(
            t.items, (t.items.c.organization_id == _HOME.c.organization_id) & (t.items.c.parent_id == _HOME.c.id)
        ).join(t.runs, (t.runs.c.organization_id == t.items.c.organization_id) & (t.runs.c.id == t.items.c.id))
    )
    .where(
        _HOME.c.organization_id == bindparam("organization"),
        _HOME.c.parent_id == bindparam("workspace"),
        _HOME.c.kind == Kind.project,
        _HOME.c.type == "",
        _HOME.c.handle == bindparam("project"),
        text(f"home.{_LIVE.format('home')}"),
        t.items.c.workspace_id == bindparam("workspace"),
        t.items.c.kind == Kind.run,
        t.items.c.type == "",
        t.items.c.handle == bindparam("handle"),
        text(f"items.{_LIVE.format('items')}"),
    )
    .with_for_update(of=t.items)
)


def _find_writable(tx: Tx, actor: Actor, project: str, handle: str) -> Run:
    """The run of that handle, locked: where its streams end is where they end until the transaction does."""
    run = _find_fast(tx, actor, project, handle)
    if run is not None and run.state == State.active:
        return run
    return records.get_writable(tx, Run, actor, find(tx, actor, project, handle).id)


def _find_fast(tx: Tx, actor: Actor, project: str, handle: str) -> Run | None:
    """The live run of that handle, locked, by one prepared statement: processes report often. None for any other."""
    keys = {"organization": actor.organization_id, "workspace": actor.workspace_id}
    row = _BY_HANDLE.first(tx, {**keys, "project": project, "handle": handle})
    return None if row is None else Run(**dict(zip(Run.__struct_fields__, row, strict=True)))


def _note_alive(tx: Tx, actor: Actor, run: Run) -> Run:
    """The run, which counts as alive; what counted as crashed runs again. Written down every few seconds."""
    if run.status == Status.crashed:
        runs.heartbeat(tx, actor, Heartbeat(id=run.id))
        return records.get_writable(tx, Run, actor, run.id)
    if run.status == Status.running and (run.heartbeat_at is None or tx.now - run.heartbeat_at > HEARTBEAT_EVERY):
        records.touch_heartbeat(tx, run)
    return run


def _reported(run: Run, command: Delivery) -> Run:
    if command.summary is not None:
        # The process knows nothing of what the run began with.
        summary = {**_begun_with(run), **command.summary}
        if summary != run.summary:
            run = msgspec.structs.replace(run, summary=summary)
    if command.extra is not None:
        run = msgspec.structs.replace(run, extra=merge(run.extra, command.extra))
    return run


def _begun_with(run: Run) -> Json:
    origin = run.extra.get(BRANCH)
    summary = origin.get("summary") if isinstance(origin, dict) else None
    return summary if isinstance(summary, dict) else {}


def _is_known_end(run: Run, exit_code: int) -> bool:
    return run.status in ENDED and run.exit_code == exit_code


def _ended(tx: Tx, run: Run, exit_code: int) -> dict[str, Any]:
    status = Status.finished if exit_code == 0 else Status.failed
    if run.status == Status.stopped or run.extra.get("sweep", {}).get("stop"):
        status = Status.stopped  # it was asked to stop, by somebody or by its sweep, and did
    finished_at = run.finished_at if run.status in ENDED else tx.now
    return {"status": status, "exit_code": exit_code, "finished_at": finished_at, "heartbeat_at": None}
