"""Fields of a run, and the mutations that make and change runs."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from labkeep.core.columns import STEP
from labkeep.core.commands import StopRun
from labkeep.core.commands_branches import RewindRun
from labkeep.core.entities import Document, Json
from labkeep.core.errors import AlreadyExists, Gone, Invalid, NotFound, Unsupported
from labkeep.core.lifecycle import Status
from labkeep.dialects.wandb.accounts import user
from labkeep.dialects.wandb.context import Context, global_id, number_of, own_id
from labkeep.dialects.wandb.graphql import Resolver, Resolvers
from labkeep.dialects.wandb.translate import (
    DIALECT,
    INTERNAL,
    config_in,
    config_out,
    internal_out,
    moment,
    parse_object,
    state_of,
    status_of,
    summary_out,
)
from labkeep.operations import branches, run_searches, runs, sessions, sweeps
from labkeep.operations.branches import BeginRun
from labkeep.operations.run_searches import FindRun, GetRun, Seen
from labkeep.operations.sessions import Announce, Announced, Changes
from labkeep.operations.sweeps import FindSweep

STARTING = ("host", "jobProgram", "commit", "jobRepo")
"""What a process says when it starts and in no later change."""

BRANCHED = "branch_point"
"""What the client's own facts have when a run is to begin with the history of another, or was taken back."""

MADE = "uncategorized"
"""Where runs go that name no project."""


def handle_of(seen: Seen) -> str:
    """The short id: our handle, or the id of a run that has none."""
    return seen.run.handle or seen.run.id


def upsert_bucket(_root: None, context: Context, input: Json) -> Json:
    """Make, announce or change a run."""
    asked = announcement(input, _sweep_of(context, input))
    base = _branch_point(asked)
    try:
        found = _announced(context, asked, base)
    except AlreadyExists:  # two processes of one run started at the same moment, and the other came first
        found = _announced(context, asked, base)
    return {"bucket": seen_of(found), "inserted": found.inserted}


def _announced(context: Context, asked: Announce, base: tuple[str, int] | None) -> Announced:
    if base is None:
        return context.write(sessions.announce, asked)
    begun = BeginRun(asked=asked, base=base[0], step=base[1])
    return context.write(branches.begin, branches.prepare_begin(context.store, context.actor, begun))


def _branch_point(asked: Announce) -> tuple[str, int] | None:
    """The run and the step that a run is to begin with; None for one that begins with nothing, or was taken back."""
    extra = asked.changes.extra
    internal = {} if extra is UNSET else extra.get(DIALECT, {}).get(INTERNAL, {})
    point = internal.get(BRANCHED) if asked.starts else None
    if not isinstance(point, dict) or point.get("run_id") in (None, asked.handle):
        return None
    return str(point["run_id"]), _step(point.get("step"))


def _step(value: Any) -> int:
    if type(value) not in (int, float) or not 0 <= value < 2**53 or value != int(value):
        raise Invalid(f"{value!r} is not a step: use a whole number from 0", path="step")
    return int(value)


def rewind(_root: None, context: Context, input: Json) -> Json:
    """Take a run back to a step."""
    if input["metricName"] != STEP:
        raise Unsupported(f"runs can only be taken back to a {STEP}, not to a value of {input['metricName'][:80]!r}")
    seen = context.read(run_searches.find, FindRun(project=input.get("projectName") or MADE, handle=input["runName"]))
    asked = RewindRun(id=seen.run.id, step=_step(input["metricValue"]))
    context.write(branches.rewind, branches.prepare_rewind(context.store, context.actor, asked))
    return {"rewoundRun": context.read(run_searches.get, GetRun(id=seen.run.id))}


def _sweep_of(context: Context, input: Json) -> Document | None:
    """The sweep that a run says it belongs to; one that is no more is no reason to lose the run."""
    if not input.get("sweep"):
        return None
    try:
        return context.read(
            sweeps.find, FindSweep(project=input.get("modelName") or MADE, handle=input["sweep"])
        ).document
    except (NotFound, Gone):
        return None


def seen_of(found: Announced) -> Seen:
    """A run that was announced, as the source of its fields."""
    return Seen(found.run, found.project, found.streams)


def announcement(input: Json, sweep: Document | None = None) -> Announce:
    """The command of an upsert. Null is "as it is"."""
    starts = any(input.get(name) is not None for name in STARTING)
    edits = not input.get("name") and bool(input.get("id"))
    if not input.get("name") and not edits:
        raise Invalid("a run needs a name", path="name")
    return Announce(
        project=input.get("modelName") or MADE,
        handle=None if edits else input["name"],
        id=own_id("Run", input["id"]) if edits else None,
        starts=starts or (not edits and input.get("state") is not None),
        dialect=DIALECT,
        changes=_changes(input, sweep, starts=starts),
    )


_PLAIN = {
    "displayName": "name",
    "description": "description",
    "notes": "notes",
    "groupName": "group",
    "jobType": "job_type",
}


def _changes(input: Json, sweep: Document | None, *, starts: bool) -> Changes:
    found: dict[str, Any] = {ours: input[theirs] for theirs, ours in _PLAIN.items() if input.get(theirs) is not None}
    if found.get("name") == "":
        del found["name"]
    if input.get("tags") is not None:
        found["tags"] = tuple(tag for tag in input["tags"] if tag)
    mine: Json = {"preempting": None} if starts else {}
    if input.get("config"):
        found["config"], internal = config_in(input["config"])
        mine |= internal
    if mine or sweep is not None:
        found["extra"] = {DIALECT: mine}
    if sweep is not None:
        found["document_id"] = sweep.id
        found["extra"] |= sweeps.named(sweep)
    if input.get("summaryMetrics"):
        found["summary"] = parse_object(input["summaryMetrics"], "summaryMetrics")
    if input.get("state"):
        found["status"] = status_of(input["state"])
    facts = {ours: input[theirs] for theirs, ours in _FACTS.items() if input.get(theirs)}
    if facts:
        found["metadata"] = facts
    return Changes(**found)


_FACTS = {"host": "host", "jobProgram": "program", "jobRepo": "repository", "commit": "commit"}
"""What a process says of where it runs -> key of the run's metadata."""


def update_state(_root: None, context: Context, input: Json) -> Json:
    """Set the state of a run."""
    changes = Changes(status=status_of(input["state"]))
    context.write(sessions.announce, Announce(id=own_id("Run", input["id"]), changes=changes))
    return {"success": True}


def stop(_root: None, context: Context, input: Json) -> Json:
    """Ask a run to stop."""
    context.write(runs.stop, StopRun(id=own_id("Run", input["id"])))
    return {"success": True}


def _fact(key: str) -> Resolver:
    def resolve(seen: Seen, _context: Context) -> Any:
        value = seen.run.metadata.get(key)
        return value if isinstance(value, str) else None

    return resolve


RESOLVERS: Resolvers = {
    "Mutation": {
        "upsertBucket": upsert_bucket,
        "updateRunState": update_state,
        "stopRun": stop,
        "rewindRun": rewind,
    },
    "Run": {
        "id": lambda seen, _context: global_id("Run", seen.run.id),
        "name": lambda seen, _context: handle_of(seen),
        "projectId": lambda seen, _context: number_of(seen.project.id),
        "project": lambda seen, _context: seen.project,
        "user": lambda seen, _context: user(seen.run.created_by),
        "displayName": lambda seen, _context: seen.run.name,
        "description": lambda seen, _context: seen.run.description or None,
        "notes": lambda seen, _context: seen.run.notes or None,
        "sweepName": lambda seen, _context: sweeps.kept_of(seen.run.extra).get("name"),
        "state": lambda seen, _context: state_of(seen.run),
        "group": lambda seen, _context: seen.run.group or None,
        "jobType": lambda seen, _context: seen.run.job_type or None,
        "commit": _fact("commit"),
        "host": _fact("host"),
        "readOnly": lambda _seen, _context: False,
        "exitcode": lambda seen, _context: seen.run.exit_code,
        "running": lambda seen, _context: seen.run.status == Status.running,
        "failed": lambda seen, _context: seen.run.status in (Status.failed, Status.crashed),
        "shouldStop": lambda seen, _context: bool(sweeps.kept_of(seen.run.extra).get("stop")),
        "stopped": lambda seen, _context: seen.run.status == Status.stopped,
        "tags": lambda seen, _context: seen.run.tags,
        "createdAt": lambda seen, _context: moment(seen.run.created_at),
        "updatedAt": lambda seen, _context: moment(seen.run.updated_at),
        "heartbeatAt": lambda seen, _context: moment(seen.run.heartbeat_at or seen.run.finished_at),
        "deletedAt": lambda _seen, _context: None,
        "config": lambda seen, _context, keys=None: config_out(seen.run, keys),
        "wandbConfig": lambda seen, _context, keys=None: internal_out(seen.run, keys),
        "summaryMetrics": lambda seen, _context, keys=None: summary_out(seen.run, keys),
        "historyLineCount": lambda seen, _context: seen.rows("history"),
        "eventsLineCount": lambda seen, _context: seen.rows("system"),
        "logLineCount": lambda seen, _context: seen.rows("console"),
    },
}
