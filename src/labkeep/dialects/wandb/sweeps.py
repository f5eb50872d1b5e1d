"""Sweeps and their agents. A configuration is YAML on the wire and JSON in the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import yaml

from labkeep.core.entities import Json, Project
from labkeep.core.errors import Gone, Invalid, NotFound, Unsupported
from labkeep.core.sweeps import SweepState
from labkeep.dialects.wandb.context import Context, global_id, own_id, parts_of
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.dialects.wandb.projects import connection, page_size
from labkeep.dialects.wandb.runs import MADE
from labkeep.dialects.wandb.translate import DIALECT, moment, parse_json
from labkeep.operations import run_searches, run_selections, sweep_agents, sweeps
from labkeep.operations.run_searches import SearchRuns, Seen
from labkeep.operations.run_selections import TrashSweeps
from labkeep.operations.sweep_agents import Beat, Order
from labkeep.operations.sweeps import (
    AddAgent,
    Agent,
    BestRun,
    ChangeSweep,
    CreateSweep,
    FindSweep,
    GetSweep,
    ListSweeps,
    Sweep,
)

STATES: dict[str, SweepState] = {
    "PENDING": SweepState.pending,
    "RUNNING": SweepState.running,
    "PAUSED": SweepState.paused,
    "FINISHED": SweepState.finished,
    "CANCELED": SweepState.stopped,
}
"""Their state of a sweep -> ours."""

_WORDS = {ours: theirs for theirs, ours in STATES.items()}

MAX_YAML = 1_000_000
"""Characters of a configuration."""

MAX_DEPTH = 100
"""How deep a configuration may be nested: what the parser takes for one bracket grows with the brackets around it."""

MOST_RUNS = 1_000
"""Runs in the answer to a question that knows no pages."""


class Working(NamedTuple):
    """An agent, and the sweep that it works for."""

    agent: Agent
    sweep: Sweep


# --- configurations ---------------------------------------------------------------------------------------------------


def config_in(text: str) -> Json:
    """The configuration in a text of YAML. Invalid when it is none; aliases are refused, they can grow without end."""
    if len(text) > MAX_YAML:
        raise Invalid(f"config: at most {MAX_YAML} characters of YAML are taken", path="config")
    try:
        _check_events(yaml.parse(text, yaml.SafeLoader))
        found = msgspec.to_builtins(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise Invalid(f"config is not YAML: {error}", path="config") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise Invalid("config is not an object of YAML", path="config")
    return found


def _check_events(events: Iterator[yaml.Event]) -> None:
    """Stop at what makes a small text large or slow."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise Invalid("config: aliases of YAML are not taken; write the values out", path="config")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Invalid(f"config is nested deeper than {MAX_DEPTH} levels", path="config")


def config_out(config: Json) -> str:
    """The configuration as YAML."""
    return str(yaml.safe_dump(config, sort_keys=False))


# --- finding ----------------------------------------------------------------------------------------------------------


def sweep(home: Project, context: Context, **named: Any) -> Sweep | None:
    """A live sweep by its short name; None when there is none."""
    try:
        return context.read(sweeps.find, FindSweep(project=home.id, handle=named["sweepName"]))
    except (NotFound, Gone):
        return None


def list_sweeps(
    home: Project, context: Context, after: str | None = None, first: int | None = None, filters: str | None = None
) -> Json:
    """The sweeps of a project, newest first."""
    if filters and parse_json(filters, "filters"):
        raise Unsupported("sweeps cannot be filtered by this server; list them and choose")
    found = context.read(sweeps.list_, ListSweeps(project=home.id, limit=page_size(first), cursor=after or None))
    return connection(found.items, found.next)


def runs_of(found: Sweep, context: Context, first: int | None = None, after: str | None = None, **_more: Any) -> Json:
    """The runs of a sweep, oldest first."""
    asked = SearchRuns(
        project=found.project.id,
        document_id=found.document.id,
        order="+created_at",
        limit=min(MOST_RUNS, MOST_RUNS if first is None else max(1, first)),
        cursor=after or None,
    )
    page = context.read(run_searches.search_runs, asked)
    return connection(page.items, page.next)


def agent(found: Sweep, context: Context, **named: Any) -> Working | None:
    """An agent by its name or id."""
    name = named["agentName"]
    agents = context.read(sweeps.agents, GetSweep(id=found.document.id))
    known = (each for each in agents if name in (each.name, _agent_id(found.document.id, each.name)))
    return next((Working(each, found) for each in known), None)


def agents_of(found: Sweep, context: Context) -> Json:
    """The agents of a sweep."""
    agents = context.read(sweeps.agents, GetSweep(id=found.document.id))
    return {"edges": [{"node": Working(each, found)} for each in agents]}


def agent_runs(working: Working, context: Context, **_page: Any) -> Json:
    """The runs of an agent, oldest first, on one page."""
    found: list[Seen] = context.read(sweeps.runs_of_agent, working.agent.runs)
    return connection(found, None)


def _agent_id(sweep: str, name: str) -> str:
    return global_id("Agent", sweep, name)


# --- mutations --------------------------------------------------------------------------------------------------------


def upsert_sweep(_root: None, context: Context, input: Json) -> Json:
    """Make a sweep, or change its state, configuration or name."""
    for name in ("launchScheduler", "scheduler", "controller"):
        if input.get(name) and parse_json(input[name], name):
            raise Unsupported(f"sweeps with a {name} of their own are not supported by this server")
    found = _change(context, input) if input.get("id") else _create(context, input)
    return {"sweep": found, "configValidationWarnings": []}


def _create(context: Context, input: Json) -> Sweep:
    if not input.get("config"):
        raise Invalid("a sweep needs a config", path="config")
    config = config_in(input["config"])
    asked = CreateSweep(
        project=input.get("projectName") or MADE,
        config=config,
        name=input.get("displayName") or _text(config.get("name")),
        description=input.get("description") or "",
        dialect=DIALECT,
        runs=_prior(input.get("priorRunsFilters")),
    )
    return context.write(sweeps.create, asked)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _prior(filters: str | None) -> list[str]:
    """The handles in ``{"$or": [{"name": …}]}``, which is all that the client sends."""
    found = parse_json(filters, "priorRunsFilters") if filters else {}
    try:
        return [str(each["name"]) for each in found.get("$or", [])]
    except (TypeError, KeyError, AttributeError):
        raise Invalid('priorRunsFilters needs the form {"$or": [{"name": "…"}]}', path="priorRunsFilters") from None


def _change(context: Context, input: Json) -> Sweep:
    fields: Json = {}
    if input.get("config"):
        fields["config"] = config_in(input["config"])
    if input.get("state"):
        fields["state"] = _state(input["state"])
    if input.get("displayName"):
        fields["name"] = input["displayName"]
    if input.get("description"):
        fields["description"] = input["description"]
    return context.write(sweeps.change, ChangeSweep(id=own_id("Sweep", input["id"]), **fields))


def _state(word: str) -> SweepState:
    found = STATES.get(word.upper())
    if found is None:
        raise Invalid(f"{word[:40]!r} is not a state of sweeps; use one of {', '.join(STATES)}", path="state")
    return found


def delete_sweep(_root: None, context: Context, input: Json) -> Json:
    """Trash sweeps, and their runs if asked, as one deletion."""
    ids = [own_id("Sweep", id) for id in input.get("ids") or [input["id"]]]
    asked = TrashSweeps(ids=ids, runs=bool(input.get("deleteRuns")))
    counts = context.write(run_selections.trash_sweeps, asked).counts
    return {"success": True, "affectedRuns": counts.get("run", 0), "affectedAgents": 0}


def create_agent(_root: None, context: Context, input: Json) -> Json:
    """Make an agent known."""
    project = input.get("projectName") or MADE
    found = context.read(sweeps.find, FindSweep(project=project, handle=input["sweep"]))
    name = context.write(sweeps.add_agent, AddAgent(id=found.document.id, host=input["host"]))
    return {"agent": {"id": _agent_id(found.document.id, name)}}


def agent_heartbeat(_root: None, context: Context, input: Json) -> Json:
    """What an agent is to do. NotFound, which ends the agent, when its sweep is no more."""
    sweep, name = _agent_parts(input["id"])
    states = parse_json(input.get("runState") or "{}", "runState")
    running = [str(handle) for handle, runs in states.items() if runs] if isinstance(states, dict) else []
    try:
        orders = sweep_agents.beat(context.store, context.actor, Beat(id=sweep, agent=name, running=running))
        found = context.read(sweeps.get, GetSweep(id=sweep)) if orders else None
    except Gone as error:
        raise NotFound(error.message) from None
    commands = [_command(order, found.config) for order in orders] if found else []
    return {"agent": {"id": input["id"]}, "commands": msgspec.json.encode(commands).decode()}


def _agent_parts(id: str) -> tuple[str, str]:
    parts = parts_of("Agent", id, 2)
    if len(parts) != 2:
        raise NotFound(f"agent {id[:80]!r} not found")
    return parts[0], parts[1]


def _command(order: Order, config: Json) -> Json:
    command: Json = {"type": order.type}
    if order.handle:
        command["run_id"] = order.handle
    if order.type == "run":
        command["args"] = {key: {"value": value} for key, value in order.config.items()}
        command["program"] = config.get("program")
    return command


RESOLVERS: Resolvers = {
    "Mutation": {
        "upsertSweep": upsert_sweep,
        "deleteSweep": delete_sweep,
        "deleteSweeps": delete_sweep,
        "createAgent": create_agent,
        "agentHeartbeat": agent_heartbeat,
    },
    "Project": {
        "sweep": sweep,
        "sweeps": list_sweeps,
        "totalSweeps": lambda home, context: context.read(sweeps.count, ListSweeps(project=home.id)),
    },
    "Sweep": {
        "id": lambda found, _context: global_id("Sweep", found.document.id),
        "name": lambda found, _context: found.document.handle,
        "displayName": lambda found, _context: (
            None if found.document.name == found.document.handle else found.document.name
        ),
        "project": lambda found, _context: found.project,
        "method": lambda found, _context: str(found.config.get("method")),
        "state": lambda found, _context: _WORDS[found.state],
        "description": lambda found, _context: found.document.description or None,
        "config": lambda found, _context: config_out(found.config),
        "createdAt": lambda found, _context: moment(found.document.created_at),
        "updatedAt": lambda found, _context: moment(found.document.updated_at),
        "heartbeatAt": lambda found, _context: moment(found.document.updated_at),
        "earlyStopJobRunning": lambda _found, _context: False,
        "controller": lambda _found, _context: None,
        "scheduler": lambda _found, _context: None,
        "controllerRunName": lambda _found, _context: "",
        "bestLoss": lambda found, context: context.read(sweeps.best, BestRun(id=found.document.id)),
        "runCount": lambda found, context: context.read(sweeps.run_count, GetSweep(id=found.document.id)),
        "runCountExpected": lambda found, _context: sweeps.expected_runs(found),
        "runs": runs_of,
        "agent": agent,
        "agents": agents_of,
    },
    "Agent": {
        "id": lambda working, _context: _agent_id(working.sweep.document.id, working.agent.name),
        "name": lambda working, _context: working.agent.name,
        "host": lambda working, _context: working.agent.host,
        "state": lambda working, _context: "RUNNING" if working.agent.busy else "FINISHED",
        "totalRuns": lambda working, _context: len(working.agent.runs),
        "createdAt": lambda working, _context: moment(working.agent.created_at),
        "heartbeatAt": lambda working, _context: moment(working.agent.heartbeat_at),
        "runs": agent_runs,
    },
}
