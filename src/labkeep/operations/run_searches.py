"""Runs as other systems' clients look for them: by filters that are no text, counted, with what was logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType
from sqlalchemy import func, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, Limit, Page, Ref
from labkeep.core.entities import Project, Run
from labkeep.core.filters import Filter, Order, conjunction, state_filter
from labkeep.core.lifecycle import State
from labkeep.core.mongo import WANDB, Spelling, parse_mongo, parse_order
from labkeep.operations import sessions
from labkeep.operations.projects import resolve
from labkeep.storage import records, search
from labkeep.storage import tables as t
from labkeep.storage.histories import Standing
from labkeep.storage.search import Plan
from labkeep.storage.transaction import Tx

IDS = 500
"""Runs looked up in one statement."""


class Seen(NamedTuple):
    """A run, its project, and where its streams stand."""

    run: Run
    project: Project
    streams: Mapping[str, Standing]

    def rows(self, stream: str) -> int:
        """Rows of a stream, gaps included."""
        return self.streams[stream].rows if stream in self.streams else 0


class FindRun(Command, frozen=True, kw_only=True):
    """A live run by the name of its project and its handle; its id will do for a run without one."""

    project: Ref
    handle: Ref


def find(tx: Tx, actor: Actor, command: FindRun) -> Seen:
    """The run. Gone when it is in the trash, NotFound when there is none."""
    require(actor, "run.read")
    run = sessions.find(tx, actor, command.project, command.handle)
    return Seen(run, records.get(tx, Project, actor, run.parent_id), sessions.standings(tx, run))


class GetRun(Command, frozen=True, kw_only=True):
    """A live run by id."""

    id: Ref


def get(tx: Tx, actor: Actor, command: GetRun) -> Seen:
    """The run with its project. NotFound, Gone."""
    require(actor, "run.read")
    run = records.get(tx, Run, actor, command.id)
    return Seen(run, records.get(tx, Project, actor, run.parent_id), sessions.standings(tx, run))


class Selected(Command, frozen=True, kw_only=True):
    """Runs of a project, by a filter of nested JSON objects (`labkeep.core.mongo`), in the words of ``spelling``.

    ``state`` is where they stand; left out, the default that hides archive and trash.
    """

    project: Ref
    filters: dict[str, Any] = {}
    spelling: Spelling = WANDB
    document_id: str | None = None
    state: State | UnsetType = UNSET


class SearchRuns(Selected, frozen=True, kw_only=True):
    """One page of them; ``order`` is ``+created_at``, ``-summary_metrics.loss`` and so on."""

    order: str = ""
    limit: Limit = 100
    cursor: str | None = None


class Matches(NamedTuple):
    """One page of runs; ``next`` is the cursor of the following one."""

    items: list[Seen]
    next: str | None


def search_runs(tx: Tx, actor: Actor, command: SearchRuns) -> Matches:
    """Runs with the lengths of their histories. Invalid names the path of what is wrong in the filter."""
    require(actor, "run.read")
    project = resolve(tx, actor, command.project)
    plan = _plan(tx, project, command, parse_order(command.order, command.spelling))
    found: Page[Run] = search.page_of(tx, actor, Run, plan, command.limit, command.cursor)
    streams = _standings(tx, actor, [run.id for run in found.items])
    return Matches([Seen(run, project, streams.get(run.id, {})) for run in found.items], found.next)


def count(tx: Tx, actor: Actor, command: Selected) -> int:
    """How many runs there are of them."""
    require(actor, "run.read")
    plan = _plan(tx, resolve(tx, actor, command.project), command, ())
    return int(tx.execute(select(func.count()).select_from(_ids(tx, actor, plan))).scalar_one())


def _ids(tx: Tx, actor: Actor, plan: Plan) -> Any:
    return search.matching(tx, actor, plan).order_by(None).subquery()


def ids(tx: Tx, actor: Actor, command: Selected) -> list[str]:
    """Ids of all of them, oldest first: for the verbs of the lifecycle."""
    require(actor, "run.read")
    plan = _plan(tx, resolve(tx, actor, command.project), command, ())
    return [row[0] for row in tx.execute(search.matching(tx, actor, plan))]


def _plan(tx: Tx, project: Project, command: Selected, order: tuple[Order, ...]) -> Plan:
    tree: Filter | None = conjunction(parse_mongo(command.filters, tx.now, command.spelling))
    mentioned = state_filter(tree)
    if command.state is not UNSET:
        states: tuple[State, ...] = (command.state,)
    else:
        states = (State.active,) if mentioned is None else tuple(sorted(mentioned))
    equal: dict[str, Any] = {"project_id": project.id}
    if command.document_id is not None:
        equal["document_id"] = command.document_id
    return Plan(Run, project.id, states, tree, order, equal)


def _standings(tx: Tx, actor: Actor, run_ids: Sequence[str]) -> dict[str, dict[str, Standing]]:
    c = t.streams.c
    found: dict[str, dict[str, Standing]] = {}
    for start in range(0, len(run_ids), IDS):
        query = select(c.run_id, c.stream, c.rows, c.unsealed, c.last_step).where(
            c.organization_id == actor.organization_id, c.run_id.in_(run_ids[start : start + IDS])
        )
        for run_id, stream, *row in tx.execute(query):
            found.setdefault(run_id, {})[stream] = Standing(*row)
    return found
