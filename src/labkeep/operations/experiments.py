"""Experiments: documents that are started, stopped and completed, and whose results come from their runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, and_, case, func, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import (
    CommitVersion,
    CreateDocument,
    CreateExperiment,
    CreateRun,
    Experiment,
    ExperimentVerb,
    FinishRun,
    Get,
    ListExperiments,
    ListItems,
    Page,
    StopRun,
    UpdateDocument,
    UpdateExperiment,
)
from labkeep.core.entities import Document, Json, Run
from labkeep.core.errors import Illegal, NotFound
from labkeep.core.lifecycle import BUSY, LIVE, State, Status
from labkeep.operations import documents, runs
from labkeep.operations.projects import resolve, states_for
from labkeep.storage import records, search
from labkeep.storage import rows as stored
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx

TYPE = "experiment"
"""The type of document that an experiment is."""

RUN_TYPE = "experiment_run"
"""The type of the run that each start makes."""

DRAFT = "draft"

SHOWN_RUNS = 1000
"""Runs that results list one by one, newest first."""


class Step(NamedTuple):
    """One row of the table of what moves an experiment."""

    legal: tuple[str, ...]
    after: str
    event: str
    hint: str


STEPS: dict[str, Step] = {
    "start": Step((DRAFT, "stopped", "completed"), "running", "document.started", "stop or complete it first"),
    "stop": Step(("running",), "stopped", "document.stopped", "only a running experiment can be stopped"),
    "complete": Step(("running",), "completed", "document.completed", "only a running experiment can be completed"),
}
"""Verb -> the statuses in which it is legal, and what it does."""


# --- definitions ------------------------------------------------------------------------------------------------------


def create(tx: Tx, actor: Actor, command: CreateExperiment) -> Experiment:
    """A new experiment, in status draft. Names need not be unique. The project is made when it is missing."""
    require(actor, "document.write")
    project = resolve(tx, actor, command.project, create=True)
    made = CreateDocument(
        project=project.id,
        type=TYPE,
        name=command.name,
        handle=None,
        description=command.description,
        tags=command.tags,
        metadata=command.metadata,
        status=DRAFT,
        body={"description": command.description, "variants": command.variants},
    )
    return _view(tx, actor, documents.create(tx, actor, made))


def get(tx: Tx, actor: Actor, command: Get) -> Experiment:
    """An experiment by id."""
    require(actor, "document.read")
    found = records.get(tx, Document, actor, command.id, states=states_for(command.include))
    return _view(tx, actor, _checked(found))


def list_(tx: Tx, actor: Actor, command: ListExperiments) -> Page[Experiment]:
    """Experiments, newest first."""
    require(actor, "document.read")
    equal: dict[str, Any] = {"type": TYPE}
    if command.project:
        equal["project_id"] = resolve(tx, actor, command.project).id
    if command.name:
        equal["name"] = command.name
    if command.status:
        # Without a status it was never started, whichever way it was made.
        equal["status"] = [command.status, *([""] if command.status == DRAFT else [])]
    wanted = ListItems(limit=command.limit, cursor=command.cursor, state=command.state)
    found = search.page(tx, actor, Document, wanted, equal=equal)
    return Page(_views(tx, actor, found.items), found.next)


def update(tx: Tx, actor: Actor, command: UpdateExperiment) -> Experiment:
    """Edit an experiment. A new description or new variants make a new version."""
    require(actor, "document.write")
    before = _writable(tx, actor, command.id)
    edit = UpdateDocument(
        id=before.id,
        name=command.name,
        description=command.description,
        metadata=command.metadata,
        tags=command.tags,
    )
    after = documents.update(tx, actor, edit)
    defined = {"description": command.description, "variants": command.variants}
    body = _bodies(tx, [before]).get(before.id, {})
    body = body | {name: value for name, value in defined.items() if value is not UNSET}
    if defined["description"] is not UNSET or defined["variants"] is not UNSET:
        documents.commit(tx, actor, CommitVersion(id=before.id, body=body))
        after = records.get(tx, Document, actor, before.id)
    return _view(tx, actor, after)


def _checked(document: Document) -> Document:
    if document.type != TYPE:
        raise NotFound(f"experiment {document.id} not found")
    return document


def _writable(tx: Tx, actor: Actor, id: str) -> Document:
    return _checked(records.get_writable(tx, Document, actor, id))


# --- starting and stopping --------------------------------------------------------------------------------------------


def start(tx: Tx, actor: Actor, command: ExperimentVerb) -> Experiment:
    """Begin a new run of the experiment. Illegal while it is running."""
    require(actor, "document.write")
    after = _step(tx, actor, command.id, "start")
    made = CreateRun(project=after.parent_id, name=after.name, type=RUN_TYPE, document_id=after.id)
    runs.create(tx, actor, made)
    return _view(tx, actor, after)


def stop(tx: Tx, actor: Actor, command: ExperimentVerb) -> Experiment:
    """End a running experiment early, and with it the runs that are still open."""
    require(actor, "document.write")
    after = _step(tx, actor, command.id, "stop")
    for id in _open_runs(tx, actor, after):
        runs.stop(tx, actor, StopRun(id=id))
    return _view(tx, actor, after)


def complete(tx: Tx, actor: Actor, command: ExperimentVerb) -> Experiment:
    """End a running experiment as planned; the runs that are still open are finished."""
    require(actor, "document.write")
    after = _step(tx, actor, command.id, "complete")
    for id in _open_runs(tx, actor, after):
        runs.finish(tx, actor, FinishRun(id=id))
    return _view(tx, actor, after)


def _step(tx: Tx, actor: Actor, id: str, verb: str) -> Document:
    before = _writable(tx, actor, id)
    status, step = before.status or DRAFT, STEPS[verb]
    if status not in step.legal:
        legal = [verb for verb, step in STEPS.items() if status in step.legal]
        raise Illegal(
            f"experiment {before.name} is {status}: cannot {verb}; {step.hint}", status=status, verb=verb, legal=legal
        )
    after = records.save(tx, before, msgspec.structs.replace(before, status=step.after))
    tx.audit(actor, step.event, after.id)
    return after


def _open_runs(tx: Tx, actor: Actor, document: Document) -> list[str]:
    of_document = (t.runs.c.document_id == document.id, t.runs.c.status.in_(BUSY), t.items.c.state == State.active)
    return [run.id for run in records.fetch(tx, Run, records.statement(Run, actor).where(*of_document))]


# --- results ----------------------------------------------------------------------------------------------------------

Sums = dict[str, tuple[float, int]]
"""Name of a score -> its total and how many rows have it; under `stored.ALL_ROWS`, how many rows there are."""


class Runs(NamedTuple):
    """What is known of an experiment's live runs without their rows."""

    number: int
    finished: int
    last: Run


def results(tx: Tx, actor: Actor, command: Get) -> Json:
    """What the experiment came to: totals as in ``current_results``, means per variant, and each of its runs.

    ``variants`` is from rows that carry ``variant``, a text; ``by_run`` holds the newest 1,000 runs.
    """
    require(actor, "document.read")
    document = _checked(records.get(tx, Document, actor, command.id, states=states_for(command.include)))
    found = _runs(tx, actor, document, SHOWN_RUNS)
    totals = _sums(tx, [document], t.runs.c.document_id).get(document.id, {})
    each = _sums(tx, [document], t.runs.c.id)
    return {
        "id": document.id,
        "name": document.name,
        "status": document.status or DRAFT,
        **_totals(found[0].summary if found else {}, _counts(tx, [document]).get(document.id, (0, 0))[0], totals),
        "variants": _variants(tx, _runs(tx, actor, document, None)),
        "by_run": [_run_results(run, each.get(run.id, {})) for run in found],
    }


def _run_results(run: Run, sums: Sums) -> Json:
    return {
        "id": run.id,
        "name": run.name,
        "status": str(run.status),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "rows": _rows(sums),
        "scores": _means(sums),
        "summary": run.summary,
    }


def _totals(summary: Json, runs: int, sums: Sums) -> Json:
    return {"total_requests": _rows(sums), "runs": runs, "scores": _means(sums), "summary": summary}


def _rows(sums: Sums) -> int:
    return sums.get(stored.ALL_ROWS, (0.0, 0))[1]


def _means(sums: Sums) -> dict[str, float]:
    return {name: total / count for name, (total, count) in sorted(sums.items()) if name != stored.ALL_ROWS}


def _variants(tx: Tx, found: Sequence[Run]) -> dict[str, Json]:
    """Count and means of the rows of each variant."""
    sums: dict[str, Sums] = {}
    for run in found:
        for row in stored.iter_current(tx, run):
            variant = row.data.get("variant")
            if isinstance(variant, str):
                mine = sums.setdefault(variant, {})
                for name, value in ((stored.ALL_ROWS, 1.0), *stored.scores_of(row.data.get("scores")).items()):
                    total, count = mine.get(name, (0.0, 0))
                    mine[name] = (total + value, count + 1)
    return {variant: {"total_requests": _rows(mine), "scores": _means(mine)} for variant, mine in sorted(sums.items())}


# --- what the runs of an experiment say -------------------------------------------------------------------------------

_LIVE_RUNS = t.runs.join(
    t.items,
    and_(
        t.items.c.organization_id == t.runs.c.organization_id,
        t.items.c.id == t.runs.c.id,
        t.items.c.state.in_(LIVE),
    ),
)


def _of(found: Sequence[Document]) -> tuple[ColumnElement[bool], ...]:
    organizations = {document.organization_id for document in found}
    ids = [document.id for document in found]
    return t.runs.c.organization_id.in_(organizations), t.runs.c.document_id.in_(ids)


def _sums(tx: Tx, found: Sequence[Document], by: ColumnElement[Any]) -> dict[str, Sums]:
    """The sums over the rows of live runs, ``by`` the experiment or the run."""
    s = t.row_scores.c
    same = and_(s.organization_id == t.runs.c.organization_id, s.owner_id == t.runs.c.id)
    query = select(by, s.name, func.sum(s.total), func.sum(s.count)).select_from(_LIVE_RUNS.join(t.row_scores, same))
    sums: dict[str, Sums] = {}
    for id, name, total, count in tx.execute(query.where(*_of(found)).group_by(by, s.name)):
        sums.setdefault(id, {})[name] = (float(total), int(count))
    return sums


def _counts(tx: Tx, found: Sequence[Document]) -> dict[str, tuple[int, int]]:
    """How many live runs each experiment has, and how many of them are finished."""
    finished = func.sum(case((t.runs.c.status == Status.finished, 1), else_=0))
    query = select(t.runs.c.document_id, func.count(), finished).select_from(_LIVE_RUNS).where(*_of(found))
    return {id: (int(n), int(ended)) for id, n, ended in tx.execute(query.group_by(t.runs.c.document_id))}


def _runs(tx: Tx, actor: Actor, document: Document, limit: int | None) -> list[Run]:
    """The live runs of an experiment, newest first."""
    query = records.statement(Run, actor).where(t.runs.c.document_id == document.id, t.items.c.state.in_(LIVE))
    return records.fetch(tx, Run, query.order_by(t.items.c.created_at.desc(), t.items.c.id.desc()).limit(limit))


def _bodies(tx: Tx, found: Sequence[Document]) -> dict[str, Json]:
    """The newest body of each experiment that has a version."""
    v, d = t.versions.c, t.documents.c
    newest = and_(d.organization_id == v.organization_id, d.id == v.document_id, d.latest == v.number)
    of_found = (
        d.organization_id.in_({document.organization_id for document in found}),
        d.id.in_([document.id for document in found]),
    )
    columns = (v.organization_id, v.document_id, v.number, v.body)
    query = select(*columns).select_from(t.documents.join(t.versions, newest)).where(*of_found)
    return {row[1]: documents.open_body(tx, *row) for row in tx.execute(query)}


# --- views ------------------------------------------------------------------------------------------------------------


def _view(tx: Tx, actor: Actor, document: Document) -> Experiment:
    return _views(tx, actor, [document])[0]


def _views(tx: Tx, actor: Actor, found: Sequence[Document]) -> list[Experiment]:
    if not found:
        return []
    bodies, counts = _bodies(tx, found), _counts(tx, found)
    sums = _sums(tx, found, t.runs.c.document_id) if counts else {}
    return [
        _experiment(
            document,
            bodies.get(document.id, {}),
            Runs(*counts[document.id], _runs(tx, actor, document, 1)[0]) if document.id in counts else None,
            sums.get(document.id, {}),
        )
        for document in found
    ]


def _experiment(document: Document, body: Json, runs: Runs | None, sums: Sums) -> Experiment:
    status = document.status or DRAFT
    variants = body.get("variants")
    has_results = runs is not None and (sums or runs.finished or runs.last.summary)
    return Experiment(
        id=document.id,
        name=document.name,
        description=document.description,
        status=status,
        variants=[one for one in variants if isinstance(one, dict)] if isinstance(variants, list) else [],
        metadata=document.metadata,
        tags=document.tags,
        project_id=document.parent_id,
        state=str(document.state),
        created_at=document.created_at,
        updated_at=document.updated_at,
        created_by=document.created_by,
        started_at=runs.last.started_at if runs else None,
        stopped_at=runs.last.finished_at if runs and status != STEPS["start"].after else None,
        current_results=_totals(runs.last.summary, runs.number, sums) if runs and has_results else UNSET,
    )
