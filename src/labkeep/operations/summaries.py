"""What the rows of a run come to, compared with the run that it is to be compared with."""

from __future__ import annotations

from typing import Any

import msgspec

from labkeep.core.access import Actor, require
from labkeep.core.commands import Command, ListRuns
from labkeep.core.entities import Document, Project, Run
from labkeep.core.ids import Id
from labkeep.core.lifecycle import LIVE, Kind
from labkeep.core.paths import leaves_of
from labkeep.core.summary import Stat, Totals, numbers, sample
from labkeep.operations import runs
from labkeep.operations.resources import get_live
from labkeep.storage import records
from labkeep.storage import rows as stored
from labkeep.storage.transaction import Tx


class Summarize(Command, frozen=True, kw_only=True):
    """Summarize a run. Without ``base_id`` it is compared with its own base, else with the run before it.

    ``scores=False`` reads no rows. Runs of ``other_than`` types are not found.
    """

    id: Id
    base_id: Id | None = None
    scores: bool = True
    other_than: tuple[str, ...] = ()


class Summary(msgspec.Struct, frozen=True):
    """The run, what it was compared with, and the statistics by name."""

    run: Run
    project: Project
    base: Run | None
    scores: dict[str, Stat]
    metrics: dict[str, Stat]


def summarize(tx: Tx, actor: Actor, command: Summarize) -> Summary:
    """Means of scores and metrics over the traces of a run, and how they moved against the base."""
    require(actor, "run.read")
    run, project = _run(tx, actor, command)
    if not command.scores:
        return Summary(run, project, None, {}, {})
    base = _base(tx, actor, run) if command.base_id is None else records.get(tx, Run, actor, command.base_id)
    here, there = _totals(tx, run), None if base is None else _totals(tx, base)
    return Summary(
        run,
        project,
        base,
        here.scores.stats(None if there is None else there.scores),
        _final_values(run, base) | here.metrics.stats(None if there is None else there.metrics),
    )


def _run(tx: Tx, actor: Actor, command: Summarize) -> tuple[Run, Project]:
    run = get_live(tx, actor, command.id, Kind.run, other_than=command.other_than)
    assert isinstance(run, Run)
    return run, records.get(tx, Project, actor, run.parent_id)


def _totals(tx: Tx, run: Run) -> Totals:
    return Totals(sample(trace.rows) for trace in stored.traces(tx, run))


def _final_values(run: Run, base: Run | None) -> dict[str, Stat]:
    """What a run without rows came to is in its summary; nobody knows there which direction is better."""
    before = {} if base is None else _leaves(base)
    return {name: Stat(value, value - before[name] if name in before else None) for name, value in _leaves(run).items()}


def _leaves(run: Run) -> dict[str, float]:
    values: dict[str, Any] = dict(leaves_of(run.summary))
    return numbers(values)


class FindBase(Command, frozen=True, kw_only=True):
    """Ask what a run is compared with."""

    id: Id


def base(tx: Tx, actor: Actor, command: FindBase) -> Run | None:
    """The run that a run is compared with by default: its own base if that is live, else the one made before it."""
    require(actor, "run.read")
    return _base(tx, actor, _run(tx, actor, Summarize(id=command.id))[0])


def _base(tx: Tx, actor: Actor, run: Run) -> Run | None:
    if run.base_run_id is not None:
        found = records.find_ids(tx, Run, actor, [run.base_run_id]).get(run.base_run_id)
        if found is not None and found.state in LIVE:
            return found
    before = ListRuns(
        project=run.parent_id,
        type=run.type,
        q=f"dialect = {msgspec.json.encode(run.dialect).decode()}",
        after=run.id,
        limit=1,
    )
    items = runs.list_(tx, actor, before).items
    return items[0] if items else None


class Count(Command, frozen=True, kw_only=True):
    """Count the rows of a document of a type."""

    id: Id
    type: str


class Counted(msgspec.Struct, frozen=True):
    """A document, its project, and how many rows it has now."""

    document: Document
    project: Project
    rows: int


def count(tx: Tx, actor: Actor, command: Count) -> Counted:
    """How many rows a document has."""
    require(actor, "document.read")
    document = get_live(tx, actor, command.id, Kind.document, types=(command.type,))
    assert isinstance(document, Document)
    project = records.get(tx, Project, actor, document.parent_id)
    return Counted(document, project, stored.summary(tx, document.organization_id, [document.id])[0])
