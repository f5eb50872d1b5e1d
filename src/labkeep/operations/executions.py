"""The steps of a large verb, each one transaction. The worker runs them in order; any of them may be run again.

First the whole is looked at, by the rules and the hash of its plan, and noted down. Then it is done in batches. Each
batch looks at its own objects again: what has changed in between is left as it is, and the job says so.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from labkeep.core.access import Actor
from labkeep.core.commands_jobs import JobItem
from labkeep.core.deletion import FROM, WANTED, Candidate, Planner, event_of, parse_options, seen
from labkeep.core.entities import Deletion, Job, Json
from labkeep.core.lifecycle import PAST, State, Verb
from labkeep.core.undo_token import BACK, moment_us
from labkeep.operations import agents, protection
from labkeep.operations.deletions import purge_members
from labkeep.operations.handovers import Asked
from labkeep.operations.plans import Applied, fold, restorable_until
from labkeep.storage import deletions as store
from labkeep.storage import executions as rows
from labkeep.storage import inventory, jobs
from labkeep.storage import tables as t
from labkeep.storage.executions import Batch, Waiting
from labkeep.storage.inventory import Scope
from labkeep.storage.transaction import Tx

UNSTAGED = 10_000
"""Notes that are dropped in one transaction."""

# --- looking at the whole ---------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """What to look at, and who notes down what will go, batch by batch."""

    asked: Asked
    sink: Callable[[list[Waiting]], None]


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What looking at the whole found."""

    hash: str
    total: int
    freed_bytes: int
    already: int
    held: list[str]
    """Deletions that hold what was in the trash before."""
    project_id: str | None
    restorable_until: datetime | None


def check(tx: Tx, _actor: Actor, command: Check) -> Checked:
    """Fold all that was asked for, in one reading transaction. The errors of applying it at once, when it must not be."""
    asked = command.asked
    verb, actor = asked.verb, asked.actor
    applied = Applied.begin(asked.command, verb, asked.asker)
    planner = applied.planner

    def take(going: list[Candidate]) -> None:
        if verb in (Verb.trash, Verb.purge):
            applied.freed.add(tx, actor, going)
        command.sink([Waiting(one.id, rows.turn_of(verb, one.kind), _digest(one)) for one in going])

    fold(tx, actor, asked.command.selection, planner, take, applying=False, words=applied.words)
    until = restorable_until(tx, actor, planner) if verb == Verb.trash else None
    applied.check(tx, actor, until)
    if verb == Verb.restore and asked.deletion_id is not None and not asked.names:
        store.check_names(tx, store.Held.of(tx, actor, asked.deletion_id, ()))
    return Checked(
        hash=planner.hash,
        total=sum(planner.counts.values()),
        freed_bytes=applied.freed.bytes,
        already=planner.already,
        held=sorted(planner.held),
        project_id=min(planner.homes) if len(planner.homes) == 1 else None,
        restorable_until=until,
    )


def _digest(candidate: Candidate) -> str:
    return hashlib.sha256(seen(candidate).encode()).hexdigest()[:16]


class Staged(NamedTuple):
    """What a job has before it, to be noted down."""

    job: Job
    waiting: list[Waiting]


def stage(tx: Tx, _actor: Actor, staged: Staged) -> str | None:
    """Note down what will go; answers what the job's owner wants by now, None when another worker has it."""
    job = jobs.at_work(tx, staged.job)
    if job is not None:
        rows.stage(tx, job, staged.waiting)
    return None if job is None else job.wanted


def unstage(tx: Tx, _actor: Actor, job: Job) -> int:
    """Drop notes of an attempt that did not get to its end; answers how many, 0 when there are no more."""
    return rows.unstage(tx, job, UNSTAGED)


class Accepted(NamedTuple):
    """A job, and what looking at the whole found."""

    job: Job
    checked: Checked


def accept(tx: Tx, _actor: Actor, accepted: Accepted) -> bool:
    """From here on it is done batch by batch; False when another worker has the job."""
    job, found = jobs.at_work(tx, accepted.job), accepted.checked
    if job is None:
        return False
    asked = Asked.of(job)
    if asked.verb == Verb.trash:
        made = {"plan_hash": found.hash, "project_id": found.project_id, "restorable_until": found.restorable_until}
        store.change(tx, _deletion(tx, asked), **made)
    # What the query said is somebody's word: it is not kept longer than needed.
    command = msgspec.structs.replace(asked.command, selection=type(asked.command.selection)())
    payload = msgspec.structs.replace(asked, command=command, checked=True).payload()
    outcomes = {"already": found.already} if found.already else {}
    result = {**job.result, "outcomes": outcomes, "counts": {}, "bytes": 0, "will_free_bytes": found.freed_bytes}
    if asked.verb == Verb.trash and not found.total and len(found.held) == 1:
        result["deletion_id"] = found.held[0]  # all of it was gone: success, with the record of that
    jobs.note(tx, job, payload={**payload, "rate": job.payload.get("rate")}, total=found.total, result=result)
    return True


def _deletion(tx: Tx, asked: Asked) -> Deletion:
    assert asked.deletion_id is not None
    return store.get(tx, asked.actor, asked.deletion_id, lock=True)


# --- batch by batch ---------------------------------------------------------------------------------------------------


class Move(NamedTuple):
    """How many objects to deal with now, and how fast it went so far (objects a second)."""

    job: Job
    limit: int
    speed: float = 0


class Moved(NamedTuple):
    """What the job's owner wants, how many objects were dealt with (0 when none is left), and how fast it may go."""

    wanted: str
    done: int = 0
    rate: float | None = None


def move(tx: Tx, _actor: Actor, command: Move) -> Moved | None:
    """Deal with the next objects. None when another worker has the job."""
    job = jobs.at_work(tx, command.job)
    if job is None:
        return None
    batch = rows.next_batch(tx, job, command.limit) if job.wanted == "run" else None
    if batch is None:
        return Moved(job.wanted)
    asked = Asked.of(job)
    if asked.verb == Verb.trash and agents.is_suspended(tx, asked.actor):
        return Moved("cancel")
    work = _Work(tx, asked, batch, _judge(tx, asked, batch), job.total)
    more = _PERFORM[asked.verb](work)
    rows.settle(tx, batch)
    result = _add_up(job.result, asked.verb, work, more)
    result["speed"] = round(command.speed, 1)
    if asked.verb in BACK and work.judged.going:  # what it takes to find them again: see `labkeep.operations.undoing`
        result["moments"] = [*result.get("moments", ()), (moment_us(tx.now), len(work.judged.going))]
    jobs.note(tx, job, done=job.done + len(batch.seen), result=result)
    return Moved(job.wanted, len(batch.seen), asked.rate)


class _Judged(NamedTuple):
    """Objects of a batch that go, and those that stay as they are."""

    going: list[Candidate]
    left: list[JobItem]
    planner: Planner


class _Work(NamedTuple):
    """One batch under way."""

    tx: Tx
    asked: Asked
    batch: Batch
    judged: _Judged
    total: int

    @property
    def actor(self) -> Actor:
        return self.asked.actor

    def set_aside(self, left: Sequence[JobItem]) -> None:
        """Leave some as they are: before anything is done by `Batch.query`."""
        rows.set_aside(self.tx, self.batch, left)

    def audit(self, counts: dict[str, int], deletion: Deletion | None) -> None:
        command = self.asked.command
        for kind, count in sorted(counts.items()):
            self.tx.audit(
                self.actor,
                event_of(kind, self.asked.verb),
                count=count,
                deletion_id="" if deletion is None else deletion.id,
                reason=command.reason or ("" if deletion is None else deletion.reason),
                ticket=command.ticket,
            )


def _judge(tx: Tx, asked: Asked, batch: Batch) -> _Judged:
    planner = Planner(asked.verb, parse_options(asked.command.on_running, asked.command.force, asked.asker))
    scope = Scope(asked.verb, FROM[asked.verb], applying=True)
    waiting = inventory.waiting(tx, asked.actor, batch, scope)
    found = {one.id: one for one in protection.guarded(tx, asked.actor, waiting, asked.verb, looking=False)}
    living = rows.living_in(tx, asked.actor, list(found.values())) if asked.verb == Verb.trash else {}
    going: list[Candidate] = []
    left: list[JobItem] = []
    for id, was in batch.seen.items():
        stays = _stays(planner, found.get(id), was, living.get(id, 0))
        if stays is None:
            going.append(found[id])
        else:
            left.append(JobItem(item_id=id, outcome=stays[0], reason=stays[1]))
    planner.count(going)
    rows.set_aside(tx, batch, left)
    return _Judged(going, left, planner)


def _stays(planner: Planner, candidate: Candidate | None, was: str, living: int) -> tuple[str, str] | None:
    """Outcome and reason of what stays as it is; None for what goes. Reasons hold ids and no names."""
    if candidate is None:
        return "stale", "is gone"
    if candidate.state in WANTED[planner.verb]:
        return "already", f"is {candidate.state}"
    if candidate.state not in FROM[planner.verb]:
        return "stale", f"is {candidate.state} now"
    reason = planner.why(candidate)
    if reason is not None:
        needed = ", ".join(f"{one.type} {one.id}" for one in candidate.dependents[:5])
        what = f"{candidate.type or candidate.kind} {candidate.name} "
        return "blocked", f"is needed by {needed}" if reason.override == "force" else reason.reason.removeprefix(what)
    if living:
        return "blocked", f"holds {living} objects that stay, or came in after this began"
    if _digest(candidate) != was:
        return "stale", "has changed since it was chosen"
    return None


def _add_up(before: Json, verb: Verb, work: _Work, more: Json) -> Json:
    judged = work.judged
    outcomes: Counter[str] = Counter(before.get("outcomes", {}))
    outcomes.update(one.outcome for one in judged.left)
    outcomes[PAST[verb]] += len(judged.going)
    counts: Counter[str] = Counter(before.get("counts", {}))
    counts.update(judged.planner.counts)
    after = {"outcomes": dict(outcomes), "counts": dict(counts), "bytes": before.get("bytes", 0) + judged.planner.bytes}
    lists = {
        name: [*before.get(name, ()), *(e for e in entries if e not in before.get(name, ()))][:1_000]
        for name, entries in more.items()
    }
    return {**before, **after, **lists}


# --- what each verb does with a batch ---------------------------------------------------------------------------------


def _trash(work: _Work) -> Json:
    tx, actor, (going, _, planner) = work.tx, work.actor, work.judged
    deletion = _deletion(tx, work.asked)
    if not going:
        return {}
    store.add_members(tx, actor, deletion.id, going)
    if planner.stops:
        store.stop_runs(tx, actor, work.batch.query())
    store.unbind(tx, actor, deletion.id, [one for one in going if one.dependents])
    rows.move_to_trash(tx, actor, deletion, work.batch)
    counts = dict(Counter(deletion.counts) + Counter(planner.counts))
    more = {"bytes": deletion.bytes + planner.bytes, "items": t.deletions.c["items"] + len(going)}
    store.change(tx, deletion, counts=counts, **more)
    work.audit(dict(planner.counts), deletion)
    agents.break_circuit(tx, actor)
    return {}


def _archive(work: _Work) -> Json:
    state = State.archived if work.asked.verb == Verb.archive else State.active
    rows.set_state(work.tx, work.actor, state, work.batch)
    work.audit(dict(work.judged.planner.counts), None)
    return {}


def _restore(work: _Work) -> Json:
    not_rebound: list[Json] = []
    for deletion_id, ids in _by_deletion(work.judged.going):
        deletion = store.get(work.tx, work.actor, deletion_id, lock=True)
        if deletion.state != "trashed":
            _keep(work, dict.fromkeys(ids, f"its deletion is {deletion.state}"), "stale")
            continue
        not_rebound += _restore_some(work, deletion, ids)
    return {"not_rebound": not_rebound}


def _restore_some(work: _Work, deletion: Deletion, ids: list[str]) -> list[Json]:
    tx, actor = work.tx, work.actor
    held = store.Held.among_those(tx, actor, deletion.id, work.batch.query())
    names = {id: work.asked.names[id] for id in ids if id in work.asked.names} if work.asked.names else {}
    store.rename_members(tx, actor, names, held)
    stuck = {id: f"its {kind} {home} is not there" for id, kind, home in store.homeless(tx, held)}
    stuck |= {id: f"its name is taken by {by}: restore it under another" for id, by in store.taken_names(tx, held)}
    if stuck:
        _keep(work, stuck, "blocked")
        held = store.Held.among_those(tx, actor, deletion.id, work.batch.query())
    store.move_back(tx, actor, deletion, held)
    work.audit(held.counts, deletion)
    return store.rebind(tx, actor, deletion.id, held.ids) if held.ids else []


def _purge(work: _Work) -> Json:
    job_ids: list[str] = []
    for deletion_id, ids in _by_deletion(work.judged.going):
        deletion = store.get(work.tx, work.actor, deletion_id, lock=True)
        if deletion.state not in ("trashed", "purging", "purged"):
            _keep(work, dict.fromkeys(ids, f"its deletion is {deletion.state}"), "stale")
            continue
        some, asked = None if _is_whole(work, deletion) else ids, work.asked.command
        outcome = purge_members(work.tx, work.actor, deletion, some, asked.reason, asked.ticket)
        store.note_archive(work.tx, work.actor, outcome.deletion_id, asked.archive)
        job_ids += outcome.job_ids
        if outcome.waits_for:
            _keep(work, dict.fromkeys(ids, f"waits for {outcome.waits_for}"), "blocked")
    return {"job_ids": job_ids}


def _is_whole(work: _Work, deletion: Deletion) -> bool:
    """Whether all that ``deletion`` holds is to be purged by this job: then that is one purge, with one record."""
    if deletion.state != "trashed" or sum(deletion.counts.values()) > work.total:
        return False
    return rows.waiting_of(work.tx, work.batch, deletion.id) == store.count_held(work.tx, work.actor, deletion.id)


def _by_deletion(going: Iterable[Candidate]) -> list[tuple[str, list[str]]]:
    """Ids by the deletion that holds them, the newest first: what was trashed before its container comes back after it."""
    found: dict[str, list[str]] = {}
    for one in going:
        found.setdefault(one.deletion_id or "", []).append(one.id)
    return sorted(found.items(), reverse=True)


def _keep(work: _Work, reasons: dict[str, str], outcome: str) -> None:
    """Leave some that were going as they are, after all."""
    left = [JobItem(item_id=id, outcome=outcome, reason=reason) for id, reason in reasons.items()]
    work.set_aside(left)
    work.judged.left.extend(left)
    for one in [one for one in work.judged.going if one.id in reasons]:
        work.judged.going.remove(one)
        work.judged.planner.counts[str(one.kind)] -= 1
        work.judged.planner.bytes -= one.bytes


_PERFORM: dict[Verb, Callable[[_Work], Json]] = {
    Verb.trash: _trash,
    Verb.archive: _archive,
    Verb.unarchive: _archive,
    Verb.restore: _restore,
    Verb.purge: _purge,
}


# --- the end ----------------------------------------------------------------------------------------------------------


class Closed(NamedTuple):
    """A job that is over, how (done, cancelled or failed), and why."""

    job: Job
    state: str
    error: str = ""


def close(tx: Tx, _actor: Actor, closed: Closed) -> bool:
    """End the job, and its deletion as it is: what has gone so far can be restored. False when another worker has it."""
    job = jobs.at_work(tx, closed.job)
    if job is None:
        return False
    asked = Asked.of(job)
    if asked.verb == Verb.trash:
        deletion = _deletion(tx, asked)
        store.change(tx, deletion, state="trashed" if deletion.counts else "cancelled")
    if closed.state == "done":
        return jobs.finish(tx, job, job.result)
    return jobs.end(tx, job, closed.state, closed.error, job.result)
