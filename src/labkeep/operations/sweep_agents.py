"""What an agent of a sweep is told when it reports: run this, stop that, or leave.

An agent works on one run at a time. It is told the same again when it did not hear it: a run that waits and that its
agent does not know is handed out once more, and so is one whose agent is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

from msgspec import Meta
from msgspec.structs import replace
from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import Command, CreateRun, Key, ReadHistory, Ref
from labkeep.core.entities import Document, Json, Run
from labkeep.core.errors import Stale
from labkeep.core.lifecycle import BUSY, ENDED, State, Status
from labkeep.core.merge import merge
from labkeep.core.sweeps import (
    OPEN,
    Curve,
    Hyperband,
    Metric,
    Plan,
    SweepState,
    curve_of,
    free_point,
    grid_index,
    grid_point,
    is_hopeless,
    random_point,
)
from labkeep.operations import Store, history, runs, sweeps
from labkeep.operations.sweep_search import MOST_TRIALS, Trial, bayes_point
from labkeep.operations.sweeps import MINE, GetSweep, Member, Sweep, kept_of, loss_of, members, plan_of, save_member
from labkeep.storage import metrics, records
from labkeep.storage import tables as t
from labkeep.storage.metrics import Place
from labkeep.storage.transaction import Tx

SILENT = timedelta(minutes=2)
"""How long an agent may say nothing of a run that waits, before another one gets it."""

NOTED = timedelta(seconds=30)
"""How often it is noted that a run still waits with its agent."""

HANDOUTS = 3
"""Times that a run is handed out which never starts."""

TRIES = 5
"""Times that the next run is sought anew because another agent was faster."""


class Beat(Command, frozen=True, kw_only=True):
    """What an agent reports: the handles of the runs that it works on."""

    id: Ref
    agent: Key
    running: Annotated[list[Ref], Meta(max_length=1000)] = []


class Order(NamedTuple):
    """What an agent is to do: ``run``, ``stop`` or ``exit``."""

    type: str
    handle: str = ""
    config: Json = {}


EXIT = Order("exit")


class Outlook(NamedTuple):
    """What is needed to answer one report."""

    sweep: Sweep
    members: list[Member]
    trials: list[Trial]
    now: datetime


def beat(store: Store, actor: Actor, command: Beat) -> list[Order]:
    """What the agent is to do now. NotFound or Gone when the sweep is no more. Blocks: for threads."""
    for _ in range(TRIES):
        outlook = store.database.read(look, actor, command)
        if command.running:
            return _watch(store, actor, command, outlook)
        if outlook.sweep.state == SweepState.paused:
            return []
        if outlook.sweep.state not in OPEN:
            return [EXIT]
        try:
            return store.database.write(hand_out, actor, _next(command, outlook))
        except Stale:
            continue
    return []  # it asks again soon


def look(tx: Tx, actor: Actor, command: Beat) -> Outlook:
    """The sweep, and of its runs those that matter: the ones that are reported, or all to compare or learn from."""
    sweep = sweeps.get(tx, actor, GetSweep(id=command.id))
    plan = plan_of(sweep)
    learns = plan.method == "bayes" and not command.running and sweep.state in OPEN
    if command.running:
        found = members(tx, sweep.document, None if plan.hyperband else command.running)
    else:
        found = []
    return Outlook(sweep, found, _trials(tx, actor, sweep, plan) if learns else [], tx.now)


def _trials(tx: Tx, actor: Actor, sweep: Sweep, plan: Plan) -> list[Trial]:
    query = (
        records.statement(Run, actor)
        .where(t.runs.c.document_id == sweep.document.id, t.items.c.state == State.active)
        .order_by(t.items.c.id.desc())
        .limit(MOST_TRIALS)
    )
    found = reversed(records.fetch(tx, Run, query))
    return [
        Trial(_config(kept_of(run.extra), run.config), loss_of(run.summary, plan), run.status in BUSY) for run in found
    ]


def _config(kept: Json, config: Json) -> Mapping[str, Any]:
    """The point that a run was given; what it was configured with when it came from elsewhere."""
    given = kept.get("config")
    return given if isinstance(given, dict) else config


# --- handing out ------------------------------------------------------------------------------------------------------


class Next(NamedTuple):
    """An agent without work, and for a sweep that learns the point for it and the number that it is for."""

    id: str
    agent: str
    point: Json | None = None
    number: int = 0


def _next(command: Beat, outlook: Outlook) -> Next:
    document = outlook.sweep.document
    plan = plan_of(outlook.sweep)
    if plan.method != "bayes":
        return Next(document.id, command.agent)
    number = _given(document)
    return Next(document.id, command.agent, bayes_point(plan, document.id, number, outlook.trials), number)


def _given(document: Document) -> int:
    """How many runs a sweep has handed out so far."""
    return int(kept_of(document.extra).get("given", 0))


def hand_out(tx: Tx, actor: Actor, command: Next) -> list[Order]:
    """A run for an agent without work; none, and the end of the sweep with its last run, when nothing is left.

    Stale when the point was made for a number that is taken by now.
    """
    document = sweeps.writable(tx, actor, command.id)
    sweep = sweeps.of(tx, actor, document)
    if sweep.state not in OPEN:
        return [] if sweep.state == SweepState.paused else [EXIT]
    found = members(tx, document)
    waiting = _waiting(tx, actor, command, found)
    if waiting is not None:
        return [waiting]
    if command.point is not None and command.number != _given(document):
        raise Stale(f"another agent of sweep {document.name} was faster: ask again")
    plan = plan_of(sweep)
    point = _point(tx, document, plan, found, command)
    if point is None:
        _end(tx, document, found)
        return [EXIT]
    return [_start(tx, actor, sweep, command.agent, point)]


def _waiting(tx: Tx, actor: Actor, command: Next, found: list[Member]) -> Order | None:
    """A run that was handed out and never started, once more."""
    for member in found:
        if member.status != Status.queued:
            continue
        silent = member.heartbeat_at is None or member.heartbeat_at < tx.now - SILENT
        if member.kept.get("agent") != command.agent and not silent:
            continue
        times = int(member.kept.get("times", 1))
        if times >= HANDOUTS:
            save_member(tx, actor, member.id, {}, Status.crashed)
            continue
        run = save_member(tx, actor, member.id, {"agent": command.agent, "times": times + 1})
        records.touch_heartbeat(tx, run)
        return Order("run", member.handle, dict(_config(member.kept, run.config)))
    return None


def _point(tx: Tx, document: Document, plan: Plan, found: list[Member], command: Next) -> Json | None:
    """The next point; None when there is none."""
    if plan.run_cap is not None and len(found) >= plan.run_cap:
        return None
    if plan.method == "grid":
        index = free_point(plan, _taken(tx, document, plan, found), document.id)
        return None if index is None else grid_point(plan, index)
    return command.point or random_point(plan, document.id, _given(document))


def _taken(tx: Tx, document: Document, plan: Plan, found: list[Member]) -> set[int]:
    """The points of a grid that have a run. A run from elsewhere counts for the point that its config is."""
    strange = [member.id for member in found if "config" not in member.kept]
    configs = {member.id: member.kept["config"] for member in found if "config" in member.kept}
    r = t.runs.c
    for start in range(0, len(strange), 500):
        part = (r.organization_id == document.organization_id, r.id.in_(strange[start : start + 500]))
        configs.update({row[0]: row[1] for row in tx.execute(select(r.id, r.config).where(*part))})
    indexes = {grid_index(plan, config) for config in configs.values()}
    return {index for index in indexes if index is not None}


def _start(tx: Tx, actor: Actor, sweep: Sweep, agent: str, point: Json) -> Order:
    document = sweep.document
    given = _given(document) + 1
    asked = CreateRun(
        project=sweep.project.id,
        handle=sweeps.new_handle(),
        name=f"{document.name}-{given}"[-512:],
        status=Status.queued,
        config=point,
        document_id=document.id,
        dialect=document.dialect,
        extra=merge(sweeps.named(document), {MINE: {"agent": agent, "config": point}}),
    )
    run = runs.create(tx, actor, asked)
    extra = merge(document.extra, {MINE: {"given": given}})
    records.save(tx, document, replace(document, extra=extra, status=SweepState.running))
    return Order("run", run.handle or run.id, point)


def _end(tx: Tx, document: Document, found: list[Member]) -> None:
    if not any(member.status in BUSY for member in found):
        records.save(tx, document, replace(document, status=SweepState.finished))


# --- watching ---------------------------------------------------------------------------------------------------------


class Noted(NamedTuple):
    """What a report made known: runs that still wait, the curves of runs, and which of them have no hope."""

    waiting: list[str]
    curves: dict[str, Json]
    hopeless: list[str]


def _watch(store: Store, actor: Actor, command: Beat, outlook: Outlook) -> list[Order]:
    """Stop what was marked, or has no hope any more."""
    if outlook.sweep.state == SweepState.stopped:
        return [Order("stop", handle) for handle in command.running]
    mine = [member for member in outlook.members if member.handle in command.running]
    waiting = [member.id for member in mine if member.status == Status.queued and _is_silent(member, outlook.now)]
    plan = plan_of(outlook.sweep)
    fresh: dict[str, Json] = {}
    hopeless: list[str] = []
    if plan.hyperband is not None and plan.metric is not None:
        fresh = _measure(store, actor, plan.metric, plan.hyperband, mine, outlook.members)
        curves = {member.id: fresh.get(member.id) or member.kept.get("curve") for member in outlook.members}
        hopeless = _hopeless(plan.hyperband, mine, {id: _curve(kept) for id, kept in curves.items() if kept})
    if waiting or fresh or hopeless:
        store.database.write(note, actor, Noted(waiting, fresh, hopeless))
    stopping = {member.handle for member in mine if member.kept.get("stop") or member.id in hopeless}
    return [Order("stop", handle) for handle in command.running if handle in stopping]


def _is_silent(member: Member, now: datetime) -> bool:
    return member.heartbeat_at is None or member.heartbeat_at < now - NOTED


def _curve(kept: Json) -> Curve:
    return Curve({int(band): loss for band, loss in kept["at"].items()}, kept["best"])


def _measure(
    store: Store, actor: Actor, metric: Metric, hyperband: Hyperband, mine: list[Member], known: list[Member]
) -> dict[str, Json]:
    """The curves that have changed: of the agent's runs, and of runs that ended since somebody looked."""
    ended = [member for member in known if member.status in ENDED and not member.kept.get("curve", {}).get("final")]
    asked = [member for member in mine if member.status == Status.running] + ended
    counts = store.database.read(_counts, actor, ([member.id for member in asked], metric.name))
    found: dict[str, Json] = {}
    for member in asked:
        before = member.kept.get("curve", {})
        reached = sum(band <= counts.get(member.id, 0) for band in hyperband.bands)
        final = member.status in ENDED
        if final or reached > len(before.get("at", {})):
            found[member.id] = _kept_curve(curve_of(_losses(store, actor, member.id, metric), hyperband), final=final)
    return {id: curve for id, curve in found.items() if curve}


def _kept_curve(curve: Curve | None, *, final: bool) -> Json:
    if curve is None:
        return {"at": {}, "best": 0.0, "final": True} if final else {}
    return {"at": {str(band): loss for band, loss in curve.at.items()}, "best": curve.best, "final": final}


def _counts(tx: Tx, actor: Actor, asked: tuple[list[str], str]) -> dict[str, int]:
    """Values of a metric that each run has logged."""
    ids, name = asked
    found = {id: metrics.load(tx, Place(actor.organization_id, id, "history"), [name]) for id in ids}
    return {id: known[name].total.count for id, known in found.items() if name in known}


def _losses(store: Store, actor: Actor, id: str, metric: Metric) -> list[float]:
    table = history.read(store, actor, ReadHistory(id=id, keys=[metric.name])).table
    losses = (metric.loss(value) for value in table.column(metric.name)[1].tolist())
    return [loss for loss in losses if loss is not None]


def _hopeless(hyperband: Hyperband, mine: list[Member], curves: Mapping[str, Curve]) -> list[str]:
    """The runs of an agent that are to be stopped, but those that are being stopped already."""
    going = [member.id for member in mine if member.status == Status.running and not member.kept.get("stop")]
    return [id for id in going if id in curves and is_hopeless(curves[id], curves.values(), hyperband)]


def note(tx: Tx, actor: Actor, command: Noted) -> None:
    """Keep what a report made known. A run that went to the trash since is left alone."""
    ids = sorted({*command.waiting, *command.curves, *command.hopeless})
    found = records.find_ids(tx, Run, actor, ids)
    for id in ids:
        if id not in found or found[id].state != State.active:
            continue
        if id in command.waiting:
            records.touch_heartbeat(tx, found[id])
        kept: Json = {"curve": command.curves[id]} if id in command.curves else {}
        if id in command.hopeless:
            kept["stop"] = True
        if kept:
            save_member(tx, actor, id, kept)
