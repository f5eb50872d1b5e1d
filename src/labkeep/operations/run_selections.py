"""Verbs for many runs at once, as other systems' clients select them: trash, restore, tag, move."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import select, update

from labkeep.core.access import Actor, require
from labkeep.core.commands import Apply, Command, Outcome, Ref, Selection, Tags, Text, UpdateRun
from labkeep.core.entities import Document, Project, Run
from labkeep.core.errors import Invalid
from labkeep.core.lifecycle import State, Verb
from labkeep.operations import deletions, holds, run_searches, runs
from labkeep.operations.projects import READABLE, resolve
from labkeep.operations.run_searches import Selected
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

PART = 500
"""Objects in one statement."""


class Chosen(Command, frozen=True, kw_only=True):
    """Runs by id, or by a filter over a project."""

    ids: list[Ref] = []
    by: Selected | None = None


class TrashRuns(Command, frozen=True, kw_only=True):
    """Trash runs, whatever they do and whatever depends on them; with ``artifacts`` also the versions they made."""

    chosen: Chosen
    artifacts: bool = False
    reason: Text = ""


def trash(tx: Tx, actor: Actor, command: TrashRuns) -> Outcome:
    """One deletion that holds all of it. Locks and holds still refuse. What is in the trash already is success."""
    ids = _ids(tx, actor, command.chosen)
    if command.artifacts:
        ids += _versions_of(tx, actor, ids, State.active)
    if not ids:
        return Outcome(verb=Verb.trash, counts={})
    asked = Apply(selection=Selection(ids=ids), on_running="stop", force=True, reason=command.reason)
    return deletions.apply(tx, actor, asked)


class TrashSweeps(Command, frozen=True, kw_only=True):
    """Trash sweeps; with ``runs`` also the runs that belong to them."""

    ids: list[Ref]
    runs: bool = False


def trash_sweeps(tx: Tx, actor: Actor, command: TrashSweeps) -> Outcome:
    """One deletion that holds all of it. Runs that go along are stopped first."""
    found = [records.get(tx, Document, actor, id, states=READABLE) for id in command.ids]
    ids = [sweep.id for sweep in found]
    for sweep in found if command.runs else ():
        ids += run_searches.ids(tx, actor, Selected(project=sweep.parent_id, filters={"document": sweep.id}))
    return deletions.apply(tx, actor, Apply(selection=Selection(ids=ids), on_running="stop", force=True))


class RestoreRuns(Command, frozen=True, kw_only=True):
    """Take runs of a project out of the trash."""

    by: Selected


def restore(tx: Tx, actor: Actor, command: RestoreRuns) -> Outcome:
    """Put them back, with the artifact versions that went with them. AlreadyExists when a handle is taken by now."""
    ids = run_searches.ids(tx, actor, msgspec.structs.replace(command.by, state=State.trashed))
    if not ids:
        return Outcome(verb=Verb.restore, counts={})
    ids += _versions_of(tx, actor, ids, State.trashed)
    return deletions.apply(tx, actor, Apply(verb=Verb.restore, selection=Selection(ids=ids)))


class TagRuns(Command, frozen=True, kw_only=True):
    """Add and remove tags of runs."""

    chosen: Chosen
    add: Tags = ()
    remove: Tags = ()


def tag(tx: Tx, actor: Actor, command: TagRuns) -> list[Run]:
    """The runs as they are now."""
    return [
        runs.update(tx, actor, UpdateRun(id=id, add_tags=command.add, remove_tags=command.remove))
        for id in _ids(tx, actor, command.chosen)
    ]


class MoveRuns(Command, frozen=True, kw_only=True):
    """Move runs to another project of the workspace, which is made when missing."""

    by: Selected
    destination: Ref


def move(tx: Tx, actor: Actor, command: MoveRuns) -> int:
    """How many were moved. AlreadyExists when the destination has a run of the same handle: then none is moved."""
    require(actor, "run.write")
    source = resolve(tx, actor, command.by.project)
    home = resolve(tx, actor, command.destination, create=True)
    if source.id == home.id:
        raise Invalid("the runs are in that project already", path="destinationProjectName")
    records.check_writable(home)
    ids = run_searches.ids(tx, actor, command.by)
    holds.refuse(tx, actor, ids, "moved")
    for id in ids:
        _move(tx, actor, records.get_writable(tx, Run, actor, id), home)
    return len(ids)


def _move(tx: Tx, actor: Actor, run: Run, home: Project) -> None:
    if run.handle is not None:
        records.check_handle(tx, Run, actor, parent_id=home.id, handle=run.handle, type=run.type)
    records.save(tx, run, msgspec.structs.replace(run, parent_id=home.id, project_id=home.id))
    # Both repeat the project, so that what is filtered and ordered by can be indexed within it.
    for table, column in ((t.runs, t.runs.c.id), (t.fields, t.fields.c.item_id)):
        mine = (table.c.organization_id == run.organization_id, column == run.id)
        tx.execute(update(table).where(*mine).values(project_id=home.id))
    tx.audit(actor, "run.moved", run.id, source=run.parent_id, destination=home.id)


def _ids(tx: Tx, actor: Actor, chosen: Chosen) -> list[str]:
    if chosen.by is not None:
        return run_searches.ids(tx, actor, chosen.by)
    return list(dict.fromkeys(chosen.ids))


def _versions_of(tx: Tx, actor: Actor, run_ids: Sequence[str], state: State) -> list[str]:
    """Versions that the runs made: the live ones, or those that went into the trash together with their run."""
    c, v, run = t.items.c, t.artifact_versions.c, t.items.alias("run")
    joined = t.items.join(t.artifact_versions, (c.organization_id == v.organization_id) & (c.id == v.id))
    joined = joined.join(run, (run.c.organization_id == v.organization_id) & (run.c.id == v.run_id))
    query = select(c.id).select_from(joined).where(*records.scope(actor), c.state == state)
    if state == State.trashed:
        query = query.where(c.deletion_id == run.c.deletion_id)
    found: list[str] = []
    for start in range(0, len(run_ids), PART):
        found += [row[0] for row in tx.execute(query.where(v.run_id.in_(run_ids[start : start + PART])))]
    return found
