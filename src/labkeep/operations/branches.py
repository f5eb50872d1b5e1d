"""Runs that begin with the history of another, and runs taken back to an earlier step.

What has to be read is read and packed before the transaction (`prepare_fork`, `prepare_rewind`, `prepare_begin`), from
one consistent look at the base; the transaction itself only refers to segments and stores what was packed. The base
stays as it is, and is protected from the trash while a run that began with it lives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from labkeep.core.access import Actor, require
from labkeep.core.columns import STEP, TIMESTAMP
from labkeep.core.commands import Command, CreateRun, Get, ReadHistory, Ref
from labkeep.core.commands_branches import ForkRun, RewindRun
from labkeep.core.entities import Json, Run
from labkeep.core.errors import Gone, Invalid, NotFound, Stale
from labkeep.core.lifecycle import ENDED, State, Status
from labkeep.core.merge import merge
from labkeep.core.paths import leaves_of
from labkeep.operations import Store, history, holds, runs, sessions
from labkeep.operations.history import ReadSegment, segment_reader
from labkeep.operations.run_searches import FindRun, find
from labkeep.operations.sessions import Announce, Announced
from labkeep.storage import branches, index, masks, metrics, records
from labkeep.storage.branches import Branch
from labkeep.storage.chunks import unpack
from labkeep.storage.histories import Located, Owner, Segment, pack, standing, summarise_parts
from labkeep.storage.metrics import Place
from labkeep.storage.sealing import REWRITTEN
from labkeep.storage.series import Part, Table, concat, resolve, rows_between
from labkeep.storage.transaction import Tx

STREAM = "history"
"""The stream that is inherited: what the system measured and what was printed belong to the process that did it."""

TRIES = 3
"""How often the base is read anew when one of its segments was replaced meanwhile."""


class BeginRun(Command, frozen=True, kw_only=True):
    """A process starts a run that begins with the history of ``base``, a handle in the same project, up to ``step``."""

    asked: Announce
    base: Ref
    step: int


class Prepared(NamedTuple):
    """A command with what its run begins with; no branch when there is nothing to do."""

    command: ForkRun | RewindRun | BeginRun
    base: Run
    step: int
    branch: Branch | None


# --- before the transaction -------------------------------------------------------------------------------------------


def prepare_fork(store: Store, actor: Actor, command: ForkRun) -> Prepared:
    """Read what the new run begins with. Blocks: for threads. NotFound, Gone, Invalid for a step past the end."""
    base = store.database.read(runs.get, actor, Get(id=command.id))
    return _prepared(store, actor, command, base, command.step)


def prepare_rewind(store: Store, actor: Actor, command: RewindRun) -> Prepared:
    """Read what the run keeps; nothing when it has logged no later step. Blocks: for threads."""
    base = store.database.read(runs.get, actor, Get(id=command.id))
    return _prepared(store, actor, command, base, command.step)


def prepare_begin(store: Store, actor: Actor, command: BeginRun) -> Prepared:
    """Read what the run of a process begins with; nothing when there is such a run already. Blocks: for threads."""
    handle = command.asked.handle
    if handle is None:
        raise Invalid("a run that begins with the history of another needs a name", path="name")
    base = store.database.read(find, actor, FindRun(project=command.asked.project, handle=command.base)).run
    try:
        store.database.read(find, actor, FindRun(project=command.asked.project, handle=handle))
    except (NotFound, Gone):  # one in the trash is refused where the run is announced
        return _prepared(store, actor, command, base, command.step)
    return Prepared(command, base, command.step, None)


def _prepared(
    store: Store, actor: Actor, command: ForkRun | RewindRun | BeginRun, base: Run, step: int | None
) -> Prepared:
    require(actor, "run.write")
    reader = segment_reader(store.blobs, actor.organization_id)
    for _ in range(TRIES):
        located, last = store.database.read(_look, actor, base)
        until = _checked(base, step, last)
        if isinstance(command, RewindRun) and (last is None or last <= until):
            return Prepared(command, base, until, None)
        try:
            return Prepared(command, base, until, cut(located, reader, until))
        except NotFound:  # a segment was replaced and swept between the two steps
            continue
    raise Stale(f"the history of run {base.name} changes faster than it can be read; try again")


def _look(tx: Tx, actor: Actor, base: Run) -> tuple[Located, int | None]:
    located = history.locate(tx, actor, ReadHistory(id=base.id, stream=STREAM))
    return located, standing(tx, Place(base.organization_id, base.id, STREAM)).last_step


def _checked(base: Run, step: int | None, last: int | None) -> int:
    if step is None:
        return -1 if last is None else last
    if last is None or step > last:
        there = "has logged nothing" if last is None else f"has logged steps up to {last}"
        raise Invalid(f"run {base.name} {there}: it has no step {step}", path="step")
    return step


def cut(located: Located, read_segment: ReadSegment, step: int) -> Branch:
    """The rows with a step up to ``step``. Pure but for ``read_segment``.

    Leading segments without a later step are shared as they are. The rows after them that belong to the beginning are
    packed one behind the other: where steps go back, some lie behind rows that do not.
    """
    shared = _shared(located, read_segment, step)
    kept, rest = shared, located.segments[len(shared) :]
    start = kept[-1].end if kept else 0
    table = concat([piece for piece in _rest(located, rest, read_segment, start, step) if len(piece)])
    sealed = summarise_parts(part for segment in kept for _, part in read_segment(segment, None, None, None))
    total = dict(sealed)
    for key, summary in summarise_parts([table] if len(table) else []).items():
        total[key] = metrics.followed(total[key], summary) if key in total else summary
    end = table if len(table) else _last_part(kept, read_segment)
    highest = None if end is None else _highest(kept, read_segment, table)
    return Branch(kept, start, list(pack(table)) if len(table) else [], highest, total, sealed, _lasts(total, end))


def _shared(located: Located, read_segment: ReadSegment, step: int) -> list[Segment]:
    shared: list[Segment] = []
    for segment in located.segments:
        overlaid = any(chunk.first_row < segment.end for chunk in located.chunks)
        hidden = masks.touch(segment.first_row, segment.end, located.masks)  # what was removed is not handed on
        if overlaid or hidden or read_segment(segment, (), step + 1, None):
            break
        shared.append(segment)
    return shared


def _rest(
    located: Located, segments: Sequence[Segment], read_segment: ReadSegment, start: int, step: int
) -> list[Table]:
    overlaid = bool(segments) and any(chunk.first_row < segments[-1].end for chunk in located.chunks)
    # Where rows were written over, the step to look at is the new one, which is not in the segment.
    last = None if overlaid else step
    below: list[Part] = [part for segment in segments for part in read_segment(segment, None, None, last)]
    above = [(chunk.first_row, unpack(chunk.data)) for chunk in located.chunks if chunk.end > start]
    tables = []
    for _, table in masks.hide(resolve([*below, *above]), located.masks):
        rows = rows_between(table.steps, None, step)
        tables.append(table if len(rows) == len(table) else table.take(rows))
    return tables


def _last_part(segments: Sequence[Segment], read_segment: ReadSegment) -> Table | None:
    return read_segment(segments[-1], (TIMESTAMP,), None, None)[-1][1] if segments else None


def _highest(segments: Sequence[Segment], read_segment: ReadSegment, table: Table) -> int:
    steps = [part.steps.max() for segment in segments for _, part in read_segment(segment, (), None, None)]
    return int(max([*steps, *([table.steps.max()] if len(table) else [])]))


def _lasts(total: Mapping[str, Any], end: Table | None) -> dict[str, Any]:
    found = {key: metrics.short(summary.last) for key, summary in total.items()}
    if end is not None:
        rows, times = end.column(TIMESTAMP)
        found |= {STEP: int(end.steps[-1])} | ({TIMESTAMP: float(times[-1])} if len(rows) else {})
    return found


def summary_of(base: Json, lasts: Mapping[str, Any]) -> Json:
    """The summary of a run that stands where these were the last values, in the form in which its base has them."""
    left = dict(lasts)
    found: Json = {}
    for path, _ in leaves_of(base):
        if path in left:
            found = merge(found, _nested(base, path, left.pop(path)))
    plain: Json = {**{key: value for key, value in left.items() if key not in (STEP, TIMESTAMP)}, **found}
    return {key: value for key, value in plain.items() if value is not None}


def _nested(base: Json, path: str, value: Any) -> Json:
    """The object that has only ``value``, under the keys that lead to ``path`` in ``base``."""
    for key, inner in base.items():
        if key == path:
            return {key: value}
        if path.startswith(f"{key}.") and isinstance(inner, dict):
            return {key: _nested(inner, path[len(key) + 1 :], value)}
    return {path: value}


# --- the transaction --------------------------------------------------------------------------------------------------


def fork(tx: Tx, actor: Actor, prepared: Prepared) -> Run:
    """The new run. AlreadyExists when its handle is taken."""
    require(actor, "run.write")
    command, base = prepared.command, prepared.base
    assert isinstance(command, ForkRun)
    records.get(tx, Run, actor, base.id)
    asked = CreateRun(
        project=command.project or base.parent_id,
        name=command.name or f"{base.name} from step {prepared.step}",
        handle=command.handle,
        type=base.type,
        status=command.status,
        config=merge(base.config, command.config),
        tags=base.tags if command.tags is None else command.tags,
        notes=command.notes,
        group=base.group,
        job_type=base.job_type,
        dialect=base.dialect,
    )
    return _grafted(tx, actor, runs.create(tx, actor, asked), prepared)


def begin(tx: Tx, actor: Actor, prepared: Prepared) -> Announced:
    """Announce the run; when that makes it, it begins with its base's history."""
    command = prepared.command
    assert isinstance(command, BeginRun)
    announced = sessions.announce(tx, actor, command.asked)
    if not announced.inserted or prepared.branch is None:
        return announced
    records.get(tx, Run, actor, prepared.base.id)
    run = _grafted(tx, actor, announced.run, prepared)
    return announced._replace(run=run, streams=sessions.standings(tx, run))


def rewind(tx: Tx, actor: Actor, prepared: Prepared) -> Run:
    """The run as it was at that step. All that it had logged is kept as a run in the archive, which it is based on."""
    require(actor, "run.write")
    command = prepared.command
    assert isinstance(command, RewindRun)
    before = records.get_writable(tx, Run, actor, command.id)
    if prepared.branch is None:
        return before
    holds.refuse(tx, actor, [before.id], "taken back")  # what it had logged becomes another run's
    kept = _archived(tx, actor, before)
    branches.move_streams(tx, before, kept)
    after = _branched(before, kept.id, prepared)
    after = msgspec.structs.replace(after, extra={**after.extra, REWRITTEN: True})
    saved = sessions.store(tx, before, after)
    branches.graft(tx, actor, _owner(saved), STREAM, prepared.branch)
    tx.audit(actor, "run.rewound", saved.id, reason=command.reason, step=prepared.step, kept_as=kept.id)
    return records.get(tx, Run, actor, saved.id)


def _archived(tx: Tx, actor: Actor, run: Run) -> Run:
    handle = None if run.handle is None else _free_handle(tx, actor, run)
    kept = msgspec.structs.replace(
        run,
        id=tx.new_id(),
        name=f"{run.name} before rewind",
        handle=handle,
        state=State.archived,
        status=run.status if run.status in ENDED else Status.stopped,
        version=1,
        bytes=0,
        locked=False,
        heartbeat_at=None,
        finished_at=run.finished_at or tx.now,
        created_at=tx.now,
        updated_at=tx.now,
    )
    records.insert_items(tx, [kept])
    index.add(tx, [kept])
    return kept


def _free_handle(tx: Tx, actor: Actor, run: Run) -> str:
    number = 1
    while True:
        handle = f"{run.handle}-before-rewind-{number}"
        if records.find(tx, Run, actor, parent_id=run.parent_id, handle=handle, type=run.type) is None:
            return handle
        number += 1


def _grafted(tx: Tx, actor: Actor, run: Run, prepared: Prepared) -> Run:
    assert prepared.branch is not None
    after = sessions.store(tx, run, _branched(run, prepared.base.id, prepared))
    branches.graft(tx, actor, _owner(after), STREAM, prepared.branch)
    tx.audit(actor, "run.forked", after.id, base=prepared.base.id, step=prepared.step)
    return records.get(tx, Run, actor, after.id)


def _branched(run: Run, base_id: str, prepared: Prepared) -> Run:
    assert prepared.branch is not None
    summary = summary_of(prepared.base.summary, prepared.branch.lasts)
    origin = {sessions.BRANCH: {"run_id": base_id, "step": prepared.step, "summary": summary}}
    extra = {**run.extra, **origin}
    return msgspec.structs.replace(run, base_run_id=base_id, summary=summary, extra=extra)


def _owner(run: Run) -> Owner:
    return Owner(run.organization_id, run.workspace_id, run.id, run.project_id, run.status)
