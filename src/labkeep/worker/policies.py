"""Running retention policies: in batches, each decided again in the transaction that does it.

Killed at any point, the job goes on after a restart: what was done is not selected any more, and is noted besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from labkeep.core.access import Actor
from labkeep.core.entities import Job, Json
from labkeep.core.errors import Conflict, Gone, LabkeepError, NotFound, Refused, Stale
from labkeep.core.faults import reach
from labkeep.operations import Store, policy_runs, retention, row_retention
from labkeep.operations import jobs as job_operations
from labkeep.operations.jobs import Turn
from labkeep.operations.policy_runs import Blocked, Ended, Found, Run, Search, Some, SomeRows, Step, actor_of
from labkeep.operations.retention import Survey
from labkeep.operations.row_retention import RowSearch
from labkeep.worker import jobs
from labkeep.worker.jobs import NOBODY, Progress

RANKED_AGAIN = 5
"""How often a run starts over because something moved that ranks depend on, before it is tried again later."""

DUE = 1_000
"""Policies that are started at a time."""


class Changed(Exception):
    """The policy was edited or removed while it ran: the rest is not what it says any more."""


class Interrupted(Exception):
    """The job's owner wants it to pause, or to end."""

    def __init__(self, wanted: str) -> None:
        super().__init__(wanted)
        self.wanted = wanted


class Pass(NamedTuple):
    """What one walk over everything came to."""

    considered: int = 0
    kept: int = 0
    done: int = 0
    freed_later: bool = False


def policy(store: Store, job: Job, progress: Progress) -> Json | Turn:
    """Run one policy to its end."""
    actor = jobs.actor_of(job)
    run = store.database.write(policy_runs.begin, actor, Step(job.payload["policy_id"], job.id))
    reach("policy.begun")
    if run is None:
        return {"note": "the policy or its project is not there any more"}
    considered, kept, note = 0, 0, ""
    try:
        settle = _settle_rows if run.look.terms.about_rows else _settle
        for workspace_id in run.workspaces:
            last = settle(store, actor_of(run.policy, workspace_id), run, progress)
            considered, kept = considered + last.considered, kept + last.kept
    except Changed:
        note = "the policy was changed while it ran: the rest is left to its next run"
    except Interrupted as interrupted:
        if interrupted.wanted == "pause":
            return Turn("paused")
        report = store.database.write(policy_runs.finish, actor, Ended(run, considered, kept, "cancelled"))
        return Turn("cancelled", result={"policy_id": run.policy.id, "report_id": report.id})
    report = store.database.write(policy_runs.finish, actor, Ended(run, considered, kept, note))
    reach("policy.finished")
    return {
        "policy_id": run.policy.id,
        "report_id": report.id,
        "counts": report.counts,
        "blocked": report.body["blocked"],
    }


def _settle(store: Store, actor: Actor, run: Run, progress: Progress) -> Pass:
    """Walk until nothing is left that goes: what only something that went has needed goes in the next walk."""
    tries = 0
    first: Pass | None = None
    while True:
        known = store.database.read(retention.survey, actor, run.look)
        try:
            now = _walk(store, actor, run, known, progress)
        except Stale:
            tries += 1
            if tries > RANKED_AGAIN:
                raise
            continue
        first = first or now
        if not (now.done and now.freed_later):
            return Pass(first.considered, now.kept)


def _walk(store: Store, actor: Actor, run: Run, known: Survey, progress: Progress) -> Pass:
    total = Pass()
    start = None
    while True:
        _heed(store, actor, progress)
        found: Found = store.database.read(policy_runs.next_victims, actor, Search(known, start))
        done = sum(
            _apply(store, actor, Some(run, known, found.ids[at : at + policy_runs.VICTIMS]), progress)
            for at in range(0, len(found.ids), policy_runs.VICTIMS)
        )
        total = Pass(
            total.considered + found.considered,
            total.kept + found.kept,
            total.done + done,
            total.freed_later or found.freed_later,
        )
        if found.next is None:
            return total
        start = found.next


def _heed(store: Store, actor: Actor, progress: Progress) -> None:
    """Stop before the next batch when the job's owner wants that."""
    progress.keep()
    wanted = store.database.read(job_operations.look_at, actor, progress.job).wanted
    if wanted != "run":
        raise Interrupted(wanted)


def _settle_rows(store: Store, actor: Actor, run: Run, progress: Progress) -> Pass:
    considered = kept = 0
    start = None
    while True:
        _heed(store, actor, progress)
        found = store.database.read(row_retention.next_rows, actor, RowSearch(run.look, start))
        considered, kept = considered + found.considered, kept + found.kept
        if found.ids:
            _remove_rows(store, actor, SomeRows(run, found.owner_id, found.ids), progress)
        if found.next is None:
            return Pass(considered, kept)
        start = found.next


def _remove_rows(store: Store, actor: Actor, some: SomeRows, progress: Progress) -> None:
    try:
        removed = store.database.write(policy_runs.remove_rows, actor, some)
    except (Conflict, Refused) as error:
        if not isinstance(error, Gone | NotFound):
            store.database.write(policy_runs.note_blocked, actor, Blocked(some.run, [some.owner_id], error.code))
            reach("policy.noted")
        return
    if removed is None:
        raise Changed
    reach("policy.applied")
    progress.advance(removed)


def _apply(store: Store, actor: Actor, some: Some, progress: Progress) -> int:
    """Do it to all of them, or find those that have to stay and do it to the others; answers how many went."""
    if not some.ids:
        return 0
    try:
        outcome = store.database.write(policy_runs.apply_some, actor, some)
    except Stale:
        raise
    except (Conflict, Refused) as error:
        return _around(store, actor, some, error, progress)
    if outcome is None:
        raise Changed
    reach("policy.applied")
    count = sum(outcome.counts.values())
    progress.advance(count)
    return count


def _around(store: Store, actor: Actor, some: Some, error: LabkeepError, progress: Progress) -> int:
    """Note what blocks, by the error or by halving, and do the rest."""
    if isinstance(error, Gone | NotFound) and len(some.ids) == 1:
        return 0
    blocking = _named(error, some.ids)
    if not blocking and len(some.ids) > 1:
        half = len(some.ids) // 2
        return sum(
            _apply(store, actor, some._replace(ids=part), progress) for part in (some.ids[:half], some.ids[half:])
        )
    stays = blocking or set(some.ids)
    store.database.write(policy_runs.note_blocked, actor, Blocked(some.run, sorted(stays), error.code))
    reach("policy.noted")
    return _apply(store, actor, some._replace(ids=[id for id in some.ids if id not in stays]), progress)


def _named(error: LabkeepError, ids: Sequence[str]) -> set[str]:
    """Those of ``ids`` that the error names."""
    blockers = error.details.get("blockers") or []
    named = {str(one.get("id")) for one in blockers if isinstance(one, dict)} | set(error.details.get("ids") or [])
    return named.intersection(ids)


def run_due(store: Store) -> None:
    """Start the policies whose time has come."""
    store.database.write(policy_runs.schedule_due, NOBODY, DUE)
