"""Runs: creating, finding, editing and ending executions."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from msgspec import UNSET

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    Alive,
    CreateRun,
    CreateRuns,
    Difference,
    DiffRuns,
    FinishRun,
    Get,
    Heartbeat,
    ListRuns,
    Page,
    StopRun,
    UpdateRun,
)
from labkeep.core.entities import Item, Project, Run
from labkeep.core.errors import AlreadyExists, Illegal
from labkeep.core.lifecycle import BUSY, ENDED, LIVE, Kind, Status
from labkeep.core.merge import merge
from labkeep.core.paths import leaves_of
from labkeep.operations.projects import edits, resolve, states_for
from labkeep.storage import histories, holds, index, records, search
from labkeep.storage.transaction import Tx

TRIES = 8
"""Random suffixes tried before a handle counts as taken."""


def create(tx: Tx, actor: Actor, command: CreateRun) -> Run:
    """A new run, or the one that has this id or handle already when that was asked for."""
    require(actor, "run.write")
    project = resolve(tx, actor, command.project, create=True)
    known = _known(tx, actor, project, command)
    if known is not None:
        return known
    run = new_run(tx, actor, command, project)
    _store(tx, [run])
    tx.audit(actor, "run.created", run.id)
    return run


def create_many(tx: Tx, actor: Actor, command: CreateRuns) -> Page[Run]:
    """Up to 1,000 runs in one transaction, in the order given."""
    require(actor, "run.write")
    projects: dict[str, Project] = {}
    runs: list[Run] = []
    fresh: list[Run] = []
    taken = records.find_ids(tx, Item, actor, [asked.id for asked in command.runs if asked.id]).keys()
    made: dict[str, Run] = {}
    for asked in command.runs:
        project = projects.get(asked.project) or resolve(tx, actor, asked.project, create=True)
        projects[asked.project] = project
        known = made.get(asked.id or "")
        if known is None and (asked.id in taken or asked.handle):
            known = _known(tx, actor, project, asked)
        run = known or new_run(tx, actor, asked, project)
        runs.append(run)
        if known is None:
            made[run.id] = run
            fresh.append(run)
            if run.handle is not None:  # the next one in this batch may ask for the same handle
                _store(tx, fresh)
                fresh = []
    _store(tx, fresh)
    if made:
        ids = [*made]
        tx.audit(actor, "run.created", count=len(ids), first=ids[0], last=ids[-1])
    return Page(runs)


def _store(tx: Tx, runs: list[Run]) -> None:
    records.insert_items(tx, runs)
    index.add(tx, runs)


def _known(tx: Tx, actor: Actor, project: Project, command: CreateRun) -> Run | None:
    """The run that the command means, when there is one already. AlreadyExists when it must not be there."""
    if command.id is not None:
        found = records.find_ids(tx, Item, actor, [command.id]).get(command.id)
        if found is not None:
            return _same(tx, actor, found, project)
    if command.handle is None:
        return None
    holder = records.find(tx, Run, actor, parent_id=project.id, handle=command.handle, type=command.type)
    if holder is None or command.suffix:
        return None
    if command.exist_ok:
        return holder
    raise AlreadyExists(
        f"run {command.handle!r} exists already in project {project.name} ({holder.state}): choose another, "
        "or trash it to free the name",
        id=holder.id,
        state=str(holder.state),
    )


def _same(tx: Tx, actor: Actor, found: Item, project: Project) -> Run:
    """The run that has the id which the command chose: the same request, sent twice."""
    if found.state not in LIVE:
        raise records.gone(tx, found)
    if found.kind != Kind.run or found.parent_id != project.id:
        raise AlreadyExists(f"the id {found.id} belongs to another object: choose another", id=found.id)
    return records.get(tx, Run, actor, found.id)


def new_run(tx: Tx, actor: Actor, command: CreateRun, project: Project) -> Run:
    """The run that ``command`` describes, not stored yet."""
    records.check_writable(project)
    run_id = command.id or tx.new_id()
    handle = command.handle
    if handle is not None and command.suffix:
        handle = _free_handle(tx, actor, project, handle, command.type)
    # A name that was only the handle follows the suffix that the handle got.
    name = handle if handle is not None and command.name in (None, command.handle) else command.name
    ended = command.status in ENDED
    return Run(
        id=run_id,
        organization_id=actor.organization_id,
        kind=Kind.run,
        workspace_id=actor.workspace_id,
        parent_id=project.id,
        project_id=project.id,
        type=command.type,
        name=name or f"run-{run_id[-6:]}",
        handle=handle,
        description=command.description,
        tags=tuple(dict.fromkeys(command.tags)),
        metadata=command.metadata,
        extra=command.extra,
        dialect=command.dialect,
        created_by=actor.name,
        created_at=tx.now,
        updated_at=tx.now,
        status=command.status,
        config=command.config,
        summary=command.summary,
        notes=command.notes,
        group=command.group,
        job_type=command.job_type,
        base_run_id=command.base_run_id,
        document_id=command.document_id,
        exit_code=command.exit_code,
        started_at=command.started_at or (None if command.status in (Status.draft, Status.queued) else tx.now),
        finished_at=command.finished_at or (tx.now if ended else None),
        heartbeat_at=None if ended else tx.now,
    )


def _free_handle(tx: Tx, actor: Actor, project: Project, handle: str, type: str) -> str:
    wanted = handle
    for _ in range(TRIES):
        if records.find(tx, Run, actor, parent_id=project.id, handle=wanted, type=type) is None:
            return wanted
        wanted = f"{handle}-{secrets.token_hex(4)}"
    raise AlreadyExists(f"run {handle!r} exists already in project {project.name}")


def get(tx: Tx, actor: Actor, command: Get) -> Run:
    """A run by id."""
    require(actor, "run.read")
    return records.get(tx, Run, actor, command.id, states=states_for(command.include))


def list_(tx: Tx, actor: Actor, command: ListRuns) -> Page[Run]:
    """Runs by the query language of docs/query.md, newest first unless ordered otherwise."""
    require(actor, "run.read")
    equal: dict[str, Any] = {}
    if command.project:
        equal["project_id"] = resolve(tx, actor, command.project).id
    for name in ("name", "handle"):
        if getattr(command, name):
            equal[name] = getattr(command, name)
    if command.type is not None:
        equal["type"] = command.type
    if command.ids:
        equal["id"] = command.ids
    return search.page(tx, actor, Run, command, equal=equal, before=command.before, after=command.after)


def update(tx: Tx, actor: Actor, command: UpdateRun) -> Run:
    """Edit a run. A new handle must be free; the name may be anything."""
    require(actor, "run.write")
    before = records.get_writable(tx, Run, actor, command.id)
    changes = edits(before, command)
    for name in ("status", "notes", "group", "job_type", "base_run_id", "document_id", "handle"):
        if (value := getattr(command, name)) is not UNSET:
            changes[name] = value
    for name in ("config", "summary"):
        if (patch := getattr(command, name)) is not UNSET:
            changes[name] = merge(getattr(before, name), patch)
    tags = changes.get("tags", before.tags)
    assert isinstance(tags, tuple)
    changes["tags"] = tuple(tag for tag in dict.fromkeys((*tags, *command.add_tags)) if tag not in command.remove_tags)
    handle = changes.get("handle", before.handle)
    if isinstance(handle, str) and handle != before.handle:
        records.check_handle(tx, Run, actor, parent_id=before.parent_id, handle=handle, type=before.type)
    if "status" in changes:
        changes.update(_times(tx, before, Status(str(changes["status"]))))
    return _save(tx, before, msgspec.structs.replace(before, **changes))


def _times(tx: Tx, before: Run, status: Status) -> dict[str, Any]:
    """Started and finished times that go with a new status."""
    if status in ENDED:
        return {"finished_at": before.finished_at if before.status in ENDED else tx.now, "heartbeat_at": None}
    if status == Status.running:
        return {"started_at": before.started_at or tx.now, "finished_at": None, "heartbeat_at": tx.now}
    return {}


def _save(tx: Tx, before: Run, after: Run) -> Run:
    with holds.lasting(tx, before):
        saved = records.save(tx, before, after)
        index.change(tx, before, saved)
    return saved


def finish(tx: Tx, actor: Actor, command: FinishRun) -> Run:
    """End a run, and have its history sealed when it is long."""
    require(actor, "run.write")
    before = records.get_writable(tx, Run, actor, command.id)
    if command.status not in ENDED:
        raise Illegal(f"a run cannot finish as {command.status}; use one of {', '.join(ENDED)}", legal=list(ENDED))
    summary = before.summary if command.summary is UNSET else merge(before.summary, command.summary)
    code = before.exit_code if command.exit_code is None else command.exit_code
    times = _times(tx, before, command.status)
    after = msgspec.structs.replace(before, status=command.status, exit_code=code, summary=summary, **times)
    histories.request_seal(tx, before)
    return _save(tx, before, after)


def stop(tx: Tx, actor: Actor, command: StopRun) -> Run:
    """Ask a run to stop: it counts as stopped from now, and its client is told with its next request."""
    require(actor, "run.write")
    before = records.get_writable(tx, Run, actor, command.id)
    if before.status not in BUSY and before.status != Status.stopped:
        raise Illegal(f"run {before.name} is {before.status}: only a running or queued run can be stopped")
    times = _times(tx, before, Status.stopped)
    return _save(tx, before, msgspec.structs.replace(before, status=Status.stopped, **times))


def heartbeat(tx: Tx, actor: Actor, command: Heartbeat) -> Alive:
    """Note that the process is alive. A run that counted as crashed is running again."""
    require(actor, "run.write")
    run = records.get_writable(tx, Run, actor, command.id)
    if run.status == Status.crashed:
        run = _save(tx, run, msgspec.structs.replace(run, status=Status.running, finished_at=None))
    if run.status == Status.running:
        records.touch_heartbeat(tx, run)
    return Alive(run.status, run.status == Status.stopped)


def diff(tx: Tx, actor: Actor, command: DiffRuns) -> Page[Difference]:
    """What differs between two runs: attributes, config and summary, by path."""
    require(actor, "run.read")
    a, b = (_facts(records.get(tx, Run, actor, id)) for id in (command.a, command.b))
    found = []
    for path in sorted(a.keys() | b.keys()):
        if path not in b:
            found.append(Difference(path, a=a[path], only="a"))
        elif path not in a:
            found.append(Difference(path, b=b[path], only="b"))
        elif a[path] != b[path]:
            found.append(Difference(path, a[path], b[path]))
    return Page(found)


def _facts(run: Run) -> dict[str, Any]:
    facts: dict[str, Any] = {
        name: getattr(run, name)
        for name in ("name", "status", "notes", "group", "job_type", "exit_code")
        if getattr(run, name)
    }
    facts.update({f"tag.{tag}": True for tag in run.tags})
    for name in ("config", "summary", "metadata"):
        facts.update({f"{name}.{path}": value for path, value in leaves_of(getattr(run, name))})
    return facts
