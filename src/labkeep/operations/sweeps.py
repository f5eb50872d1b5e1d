"""Sweeps: documents whose body says what to search, and agents that ask for the next run.

What was handed out is a queued run of the sweep, made in the transaction that decided on it. So nothing is kept in
memory: a server that starts again, or another one, goes on from the runs that are there.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import and_, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    Command,
    CommitVersion,
    CreateDocument,
    GetVersion,
    Key,
    ListDocuments,
    Name,
    Page,
    Paged,
    ReadRows,
    Ref,
    RowIn,
    Text,
    UpdateDocument,
    WriteRows,
)
from labkeep.core.entities import Document, Json, Project, Run
from labkeep.core.errors import Corrupt, Invalid, NotFound
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import BUSY, ENDED, LIVE, State, Status
from labkeep.core.merge import merge
from labkeep.core.sweeps import Plan, SweepState, check_change, parse_plan
from labkeep.operations import documents, rows, run_searches, sessions
from labkeep.operations.projects import resolve
from labkeep.operations.run_searches import SearchRuns, Seen, Selected
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

TYPE = "sweep"
"""Type of the documents."""

MINE = "sweep"
"""Key of what sweeps keep in the ``extra`` of their runs and documents."""

LETTERS = string.ascii_lowercase + string.digits


def new_handle() -> str:
    """A short name for a sweep, a run or an agent."""
    return "".join(secrets.choice(LETTERS) for _ in range(8))


class Sweep(NamedTuple):
    """A sweep, where it is, and its newest configuration."""

    document: Document
    project: Project
    config: Json

    @property
    def state(self) -> SweepState:
        """How it stands."""
        known = self.document.status in tuple(SweepState)
        return SweepState(self.document.status) if known else SweepState.finished


# --- making and finding -----------------------------------------------------------------------------------------------


class CreateSweep(Command, frozen=True, kw_only=True):
    """A new sweep. ``runs`` are handles of runs that are there already, which become its first ones."""

    project: Ref
    config: Json
    name: Name | None = None
    description: Text = ""
    dialect: Key = "native"
    runs: Annotated[list[Ref], Meta(max_length=1000)] = []


def create(tx: Tx, actor: Actor, command: CreateSweep) -> Sweep:
    """The sweep. Invalid or Unsupported when its configuration is not one that can be searched."""
    parse_plan(command.config)
    require(actor, "run.write")
    project = resolve(tx, actor, command.project, create=True)
    handle = new_handle()
    asked = CreateDocument(
        project=project.id,
        type=TYPE,
        name=command.name or handle,
        handle=handle,
        description=command.description,
        status=SweepState.pending,
        body=command.config,
        dialect=command.dialect,
    )
    document = documents.create(tx, actor, asked)
    for found in (sessions.find(tx, actor, project.name, handle) for handle in command.runs):
        before = records.get_writable(tx, Run, actor, found.id)
        sessions.store(
            tx,
            before,
            msgspec.structs.replace(before, document_id=document.id, extra=merge(before.extra, named(document))),
        )
    return Sweep(document, project, command.config)


class ChangeSweep(Command, frozen=True, kw_only=True):
    """Another state, configuration or name for a sweep."""

    id: Ref
    state: SweepState | UnsetType = UNSET
    config: Json | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET


def change(tx: Tx, actor: Actor, command: ChangeSweep) -> Sweep:
    """The sweep as it is then. Illegal for a change of state that cannot be; the runs of a stopped sweep are stopped."""
    before = writable(tx, actor, command.id)
    fields: dict[str, Any] = {"name": command.name, "description": command.description}
    if command.config is not UNSET:
        parse_plan(command.config)
        documents.commit(tx, actor, CommitVersion(id=before.id, body=command.config))
    if command.state is not UNSET:
        check_change(of(tx, actor, before).state, command.state)
        fields["status"] = command.state
        if command.state == SweepState.stopped:
            _stop_runs(tx, actor, before)
    return of(tx, actor, documents.update(tx, actor, UpdateDocument(id=before.id, **fields)))


def writable(tx: Tx, actor: Actor, id: str) -> Document:
    """The document of a sweep, locked: what is decided about one sweep is decided one after the other."""
    require(actor, "document.write")
    document = records.get_writable(tx, Document, actor, id)
    if document.type != TYPE:
        raise NotFound(f"sweep {id} not found")
    return document


def of(tx: Tx, actor: Actor, document: Document) -> Sweep:
    """The sweep of a document."""
    project = records.get(tx, Project, actor, document.parent_id)
    return Sweep(document, project, documents.get_version(tx, actor, GetVersion(id=document.id)).body)


def _stop_runs(tx: Tx, actor: Actor, document: Document) -> None:
    """End what waits, and mark what runs: its agent is told to stop it."""
    for member in members(tx, document):
        if member.status == Status.queued:
            save_member(tx, actor, member.id, {}, Status.stopped)
        elif member.status == Status.running:
            save_member(tx, actor, member.id, {"stop": True})


class FindSweep(Command, frozen=True, kw_only=True):
    """A live sweep by the name or id of its project and its own short name or id."""

    project: Ref
    handle: Ref


def find(tx: Tx, actor: Actor, command: FindSweep) -> Sweep:
    """The sweep. NotFound when there is none."""
    require(actor, "document.read")
    project = resolve(tx, actor, command.project)
    found = records.find(tx, Document, actor, parent_id=project.id, handle=command.handle, type=TYPE)
    if found is None and is_id(command.handle):
        found = records.get(tx, Document, actor, command.handle)
    if found is None or (found.type, found.parent_id) != (TYPE, project.id):
        raise NotFound(f"sweep {command.handle[:80]!r} not found in project {project.name}")
    return of(tx, actor, found)


class GetSweep(Command, frozen=True, kw_only=True):
    """A live sweep by id."""

    id: Ref


def get(tx: Tx, actor: Actor, command: GetSweep) -> Sweep:
    """The sweep. NotFound, Gone."""
    require(actor, "document.read")
    found = records.get(tx, Document, actor, command.id)
    if found.type != TYPE:
        raise NotFound(f"sweep {command.id} not found")
    return of(tx, actor, found)


class ListSweeps(Paged, frozen=True, kw_only=True):
    """The sweeps of a project."""

    project: Ref


def list_(tx: Tx, actor: Actor, command: ListSweeps) -> Page[Sweep]:
    """One page of them, newest first."""
    require(actor, "document.read")
    project = resolve(tx, actor, command.project)
    asked = ListDocuments(project=project.id, type=TYPE, limit=command.limit, cursor=command.cursor)
    found = documents.list_(tx, actor, asked)
    return Page([of(tx, actor, document) for document in found.items], found.next)


def count(tx: Tx, actor: Actor, command: ListSweeps) -> int:
    """How many sweeps a project has."""
    require(actor, "document.read")
    c = t.items.c
    mine = records.statement(Document, actor).where(
        c.parent_id == resolve(tx, actor, command.project).id, c.type == TYPE, c.state == State.active
    )
    return len(tx.execute(mine.with_only_columns(c.id)).all())


# --- runs of a sweep --------------------------------------------------------------------------------------------------


class Member(NamedTuple):
    """One live run of a sweep, without what is not needed to decide. ``kept`` is what sweeps keep of it."""

    id: str
    handle: str
    status: Status
    heartbeat_at: datetime | None
    kept: Json


def members(tx: Tx, document: Document, handles: Sequence[str] | None = None) -> list[Member]:
    """The live runs of a sweep, oldest first: all, or those with these handles."""
    c, r = t.items.c, t.runs.c
    joined = t.runs.join(t.items, and_(c.organization_id == r.organization_id, c.id == r.id))
    query = (
        select(c.id, c.handle, r.status, r.heartbeat_at, c.extra)
        .select_from(joined)
        .where(r.organization_id == document.organization_id, r.document_id == document.id, c.state.in_(LIVE))
        .order_by(c.id)
    )
    if handles is not None:
        query = query.where(c.handle.in_(handles))
    return [
        Member(id, handle or id, Status(status), heartbeat, kept_of(extra))
        for id, handle, status, heartbeat, extra in tx.execute(query)
    ]


def kept_of(extra: Mapping[str, Any]) -> Json:
    """What sweeps keep in the extra of a run."""
    found = extra.get(MINE)
    return found if isinstance(found, dict) else {}


def named(document: Document) -> Json:
    """What the ``extra`` of each run of a sweep has: the sweep's short name, to show without looking it up."""
    return {MINE: {"name": document.handle}}


def save_member(tx: Tx, actor: Actor, id: str, kept: Json, status: Status | None = None) -> Run:
    """Merge ``kept`` into what sweeps keep of a run, and set its status."""
    before = records.get_writable(tx, Run, actor, id)
    fields: dict[str, Any] = {"extra": merge(before.extra, {MINE: kept})}
    if status is not None:
        fields["status"] = status
        if status in ENDED:
            fields |= {"finished_at": tx.now, "heartbeat_at": None}
    return sessions.store(tx, before, msgspec.structs.replace(before, **fields))


class BestRun(Command, frozen=True, kw_only=True):
    """The run of a sweep whose final value of the metric is best."""

    id: Ref


def best(tx: Tx, actor: Actor, command: BestRun) -> float | None:
    """Its value; None when no run has one."""
    sweep = get(tx, actor, GetSweep(id=command.id))
    plan = plan_of(sweep)
    if plan.metric is None:
        return None
    order = f"{'-' if plan.metric.maximize else '+'}summary_metrics.{plan.metric.name}"
    asked = SearchRuns(project=sweep.project.id, document_id=sweep.document.id, order=order, limit=1)
    found = run_searches.search_runs(tx, actor, asked).items
    loss = loss_of(found[0].run.summary, plan) if found else None
    return -loss if loss is not None and plan.metric.maximize else loss


def loss_of(summary: Mapping[str, Any], plan: Plan) -> float | None:
    """What a run's summary says of the metric, as something to be made small."""
    if plan.metric is None:
        return None
    found: Any = summary.get(plan.metric.name)
    if found is None:
        found = summary
        for key in plan.metric.name.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping):  # a summary that was defined to be several values
        found = found.get("max" if plan.metric.maximize else "min", found.get("last"))
    return plan.metric.loss(found)


def run_count(tx: Tx, actor: Actor, command: GetSweep) -> int:
    """How many live runs a sweep has."""
    sweep = get(tx, actor, command)
    return run_searches.count(tx, actor, Selected(project=sweep.project.id, document_id=sweep.document.id))


def expected_runs(sweep: Sweep) -> int | None:
    """How many runs a sweep will have; None when it has no end."""
    return plan_of(sweep).expected


def plan_of(sweep: Sweep) -> Plan:
    """What its configuration asks for."""
    try:
        return parse_plan(sweep.config)
    except Invalid as error:  # it was read when it was stored
        raise Corrupt(f"sweep {sweep.document.name} has a configuration that cannot be read: {error}") from error


# --- agents -----------------------------------------------------------------------------------------------------------


class Agent(NamedTuple):
    """A process that asks for runs, and what it made of them."""

    name: str
    host: str
    created_at: datetime
    heartbeat_at: datetime | None
    runs: list[str]
    busy: bool


class AddAgent(Command, frozen=True, kw_only=True):
    """A new agent of a sweep."""

    id: Ref
    host: Key = ""


def add_agent(tx: Tx, actor: Actor, command: AddAgent) -> str:
    """Its name. Agents are rows of the sweep."""
    document = writable(tx, actor, command.id)
    name = new_handle()
    rows.write(tx, actor, WriteRows(id=document.id, rows=[RowIn(id=name, data={"host": command.host})]))
    return name


def agents(tx: Tx, actor: Actor, command: GetSweep) -> list[Agent]:
    """The agents of a sweep, newest first."""
    sweep = get(tx, actor, command)
    found = rows.read(tx, actor, ReadRows(id=sweep.document.id, limit=MOST_AGENTS)).items
    theirs: dict[str, list[Member]] = {}
    for member in members(tx, sweep.document):
        theirs.setdefault(str(member.kept.get("agent")), []).append(member)
    return [_agent(row.id, row.data, row.created_at, theirs.get(row.id, [])) for row in found]


MOST_AGENTS = 1_000


def _agent(name: str, data: Json, created_at: datetime, mine: list[Member]) -> Agent:
    beats = [member.heartbeat_at for member in mine if member.heartbeat_at is not None]
    busy = any(member.status in BUSY for member in mine)
    ids = [member.id for member in mine]
    return Agent(name, str(data.get("host", "")), created_at, max(beats, default=None), ids, busy)


def runs_of_agent(tx: Tx, actor: Actor, ids: list[str]) -> list[Seen]:
    """Runs by id, those that are there."""
    require(actor, "run.read")
    found = [run for run in records.find_ids(tx, Run, actor, ids).values() if run.state in LIVE]
    homes = {id: records.get(tx, Project, actor, id) for id in {run.parent_id for run in found}}
    return [Seen(run, homes[run.parent_id], sessions.standings(tx, run)) for run in found]
