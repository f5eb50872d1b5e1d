"""Rows of runs, documents and projects' logs, by trace: several owners in one transaction, pages by position.

The log of a project is a run of type ``logs``: made with its first row, one for each project.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, CreateRun, RowIn, WriteRows, WriteRowSets, Written
from labkeep.core.entities import Item, Project, Row, Run
from labkeep.core.ids import Id
from labkeep.core.lifecycle import Kind, Status
from labkeep.operations import attachments, rows, runs
from labkeep.operations.resources import get_live
from labkeep.storage import records
from labkeep.storage import rows as stored
from labkeep.storage.transaction import Tx

LOGS = "logs"
"""Type and handle of the run that is a project's log."""


class Home(StrEnum):
    """What a target's id is the id of."""

    run = "run"
    document = "document"
    log = "log"


class Target(Command, frozen=True):
    """Whose rows: those of a run, of a document of ``type``, or of the log of a project."""

    home: Home
    id: Id
    type: str = ""


class TraceSet(Command, frozen=True, kw_only=True):
    """Rows of one target. ``attachments`` are the keys of the attachments that they refer to."""

    target: Target
    rows: list[RowIn]
    attachments: tuple[str, ...] = ()


class WriteTraces(Command, frozen=True, kw_only=True):
    """Rows of several targets: one transaction. A log is made when it is missing and marked with ``dialect``."""

    sets: list[TraceSet]
    dialect: str = "native"


def write(tx: Tx, actor: Actor, command: WriteTraces) -> list[Written]:
    """Write all of it or nothing. Answers in the order given."""
    owners = {target: _owner(tx, actor, target) for target in dict.fromkeys(part.target for part in command.sets)}
    found = {
        target: _new_log(tx, actor, target.id, command.dialect) if owner is None else owner
        for target, owner in owners.items()
    }
    sets = [WriteRows(id=found[part.target].id, rows=part.rows) for part in command.sets]
    written = rows.write_sets(tx, actor, WriteRowSets(sets=sets))
    for part in command.sets:
        attachments.refer(tx, actor, found[part.target], part.attachments)
    return written


def _owner(tx: Tx, actor: Actor, target: Target) -> Item | None:
    """The object that holds the rows; None for a log that has none yet."""
    if target.home == Home.run:
        return get_live(tx, actor, target.id, Kind.run, other_than=(LOGS,))
    if target.home == Home.document:
        return get_live(tx, actor, target.id, Kind.document, types=(target.type,))
    project = records.get(tx, Project, actor, target.id)
    return records.find(tx, Run, actor, parent_id=project.id, handle=LOGS, type=LOGS)


def _new_log(tx: Tx, actor: Actor, project_id: str, dialect: str) -> Run:
    # It has no end, and must never stand in the way of trashing its project.
    log = CreateRun(project=project_id, name=LOGS, handle=LOGS, type=LOGS, status=Status.finished, dialect=dialect)
    return runs.create(tx, actor, log)


class ReadTraces(Command, frozen=True, kw_only=True):
    """Rows of up to ``limit`` traces, newest first: those below position ``below``, or older than trace ``below_root``.

    ``as_of`` reads the state at a transaction; ``root`` reads one trace.
    """

    target: Target
    limit: int
    below: int | None = None
    below_root: str | None = None
    root: str | None = None
    as_of: int | None = None


class TracePage(msgspec.Struct, frozen=True):
    """Rows, their project, and whether there are more below the last one."""

    project_id: str
    items: list[Row]
    more: bool


def read(tx: Tx, actor: Actor, command: ReadTraces) -> TracePage:
    """One page, never a part of a trace. A log without rows is an empty page."""
    require(actor, "document.read" if command.target.home == Home.document else "run.read")
    owner = _owner(tx, actor, command.target)
    if owner is None:
        return TracePage(command.target.id, [], False)
    assert owner.project_id is not None
    below, limit = command.below, command.limit
    if command.root is not None:
        place = stored.positions(tx, owner, {command.root}).get(command.root)
        if place is None or (below is not None and place >= below):
            return TracePage(owner.project_id, [], False)
        below, limit = place + 1, 1
    elif command.below_root is not None:
        below = stored.positions(tx, owner, {command.below_root}).get(command.below_root, below)
    found, more = stored.page(tx, owner, limit=limit, before=below, as_of=command.as_of)
    if command.root is not None:  # where the trace has no rows now, the page begins with an older one
        return TracePage(owner.project_id, [row for row in found if row.root_id == command.root], False)
    return TracePage(owner.project_id, found, more)
