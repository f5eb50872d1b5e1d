"""Mutations for many runs at once, and what becomes of a run besides its own fields: trash, restore, alerts."""

from __future__ import annotations

from typing import Any

from labkeep.core.columns import from_rows
from labkeep.core.commands import Get
from labkeep.core.entities import Json
from labkeep.core.errors import Invalid, Unsupported
from labkeep.dialects.wandb.context import Context, global_id, own_id
from labkeep.dialects.wandb.graphql import Resolvers
from labkeep.dialects.wandb.projects import selected
from labkeep.operations import projects, run_searches, run_selections, sessions
from labkeep.operations.history import prepare_batch
from labkeep.operations.run_searches import GetRun, Selected
from labkeep.operations.run_selections import Chosen, MoveRuns, RestoreRuns, TagRuns, TrashRuns
from labkeep.operations.sessions import Delivery

ALERTS = "alerts"
"""Stream of the alerts that a run sent."""


def _selected(context: Context, project: str, filters: str) -> Selected:
    return selected(context.read(projects.get, Get(id=project)), context, filters)


def delete(_root: None, context: Context, input: Json) -> Json:
    """Trash a run, and the artifacts that it made if asked. What runs is stopped: it is told with its next request."""
    chosen = Chosen(ids=[own_id("Run", input["id"])])
    context.write(run_selections.trash, TrashRuns(chosen=chosen, artifacts=bool(input.get("deleteArtifacts"))))
    return {"clientMutationId": input.get("clientMutationId")}


def delete_many(_root: None, context: Context, input: Json) -> Json:
    """Trash the runs that a filter selects, as one deletion."""
    chosen = Chosen(by=_selected(context, input["projectName"], input["filters"]))
    context.write(run_selections.trash, TrashRuns(chosen=chosen, artifacts=bool(input.get("deleteArtifacts"))))
    return {"clientMutationId": input.get("clientMutationId"), "errors": None}


def undelete(_root: None, context: Context, input: Json) -> Json:
    """Take the runs that a filter selects out of the trash."""
    context.write(run_selections.restore, RestoreRuns(by=_selected(context, input["projectName"], input["filters"])))
    return {"clientMutationId": input.get("clientMutationId")}


def modify(_root: None, context: Context, input: Json) -> Json:
    """Add and remove tags of runs, by ids or a filter."""
    if input.get("ids"):
        chosen = Chosen(ids=[own_id("Run", id) for id in input["ids"] if id])
    elif input.get("projectName") and input.get("filters"):
        chosen = Chosen(by=_selected(context, input["projectName"], input["filters"]))
    else:
        raise Invalid("name the runs by ids, or by a project and filters", path="filters")
    asked = TagRuns(chosen=chosen, add=_words(input.get("addTags")), remove=_words(input.get("removeTags")))
    changed = context.write(run_selections.tag, asked)
    seen = [context.read(run_searches.get, GetRun(id=run.id)) for run in changed[:MOST_SHOWN]]
    return {"runs": seen, "runsSQL": seen}


MOST_SHOWN = 100
"""Runs in the answer to a change of many."""


def _words(given: list[str | None] | None) -> tuple[str, ...]:
    return tuple(word for word in given or () if word)


def move(_root: None, context: Context, input: Json) -> Json:
    """Move runs to another project of the same entity."""
    if input["sourceEntityName"] != input["destinationEntityName"]:
        raise Unsupported("runs cannot be moved to another entity on this server; export and import them instead")
    by = _selected(context, input["sourceProjectName"], input["filters"])
    moved = context.write(run_selections.move, MoveRuns(by=by, destination=input["destinationProjectName"]))
    task = {"id": global_id("Task", context.actor.request_id), "state": "finished", "progress": 100, "runs": moved}
    return {"task": task, "clientMutationId": input.get("clientMutationId")}


def alert(_root: None, context: Context, input: Json) -> Json:
    """Keep an alert with its run."""
    row: dict[str, Any] = {"title": input["title"], "text": input["text"], "severity": input.get("severity") or "INFO"}
    batch = prepare_batch("", ALERTS, None, from_rows([(0, None, row)]))
    context.write(sessions.deliver, Delivery(input["projectName"], input["runName"], [batch]))
    return {"success": True}


RESOLVERS: Resolvers = {
    "Mutation": {
        "deleteRun": delete,
        "deleteRuns": delete_many,
        "undeleteRuns": undelete,
        "modifyRuns": modify,
        "moveRuns": move,
        "notifyScriptableRunAlert": alert,
    },
}
