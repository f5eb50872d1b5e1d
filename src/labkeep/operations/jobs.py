"""Background jobs, as their owners see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Select, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Get, ListJobs, Page
from labkeep.core.commands_jobs import ControlJob, JobItem, ListJobItems, ResumeJob, SetRate
from labkeep.core.entities import Job, Json
from labkeep.core.errors import Illegal, NotFound
from labkeep.core.ids import is_id
from labkeep.storage import executions, jobs
from labkeep.storage import tables as t
from labkeep.storage.pages import page
from labkeep.storage.transaction import Tx


def _select(actor: Actor) -> Select[Any]:
    c = t.jobs.c
    mine = (c.organization_id == actor.organization_id, c.workspace_id == actor.workspace_id)
    return select(*(c[name] for name in Job.__struct_fields__)).where(*mine)


def list_(tx: Tx, actor: Actor, command: ListJobs) -> Page[Job]:
    """Jobs of the workspace, newest first."""
    require(actor, "job.read")
    query = _select(actor)
    if command.state:
        query = query.where(t.jobs.c.state == command.state)
    found = page(tx, query, t.jobs.c.id, command, Job)
    return Page([_shown(job) for job in found.items], found.next)


def _shown(job: Job) -> Job:
    """A job as people see it. What it was asked for may be a hundred thousand ids, and holds who asked with which key."""
    if "moments" in job.result:
        job = msgspec.structs.replace(job, result={k: v for k, v in job.result.items() if k != "moments"})
    asked = job.payload.get("command")
    if asked is None:
        return job
    return msgspec.structs.replace(job, payload={"verb": asked["verb"], "rate": job.payload.get("rate")})


def get(tx: Tx, actor: Actor, command: Get) -> Job:
    """One job: state, progress and result."""
    require(actor, "job.read")
    return _shown(find(tx, actor, command.id))


# --- control ----------------------------------------------------------------------------------------------------------

CONTROLS: dict[str, tuple[str, ...]] = {
    "apply": ("pause", "cancel"),
    "purge": ("pause", "cancel"),
    "policy": ("pause", "cancel"),
}
"""What can be asked of the jobs of each task."""


def pause(tx: Tx, actor: Actor, command: ControlJob) -> Job:
    """Have a job wait until it is resumed. What it has done stays done."""
    job = _controlled(tx, actor, command.id, "pause")
    if job.state == "queued":
        jobs.control(tx, job, wanted="run", state="paused")
    elif job.state == "running":
        jobs.control(tx, job, wanted="pause")
    elif job.state != "paused":
        raise _over(job, "paused")
    return _noted(tx, actor, job, "paused")


def resume(tx: Tx, actor: Actor, command: ResumeJob) -> Job:
    """Let a job go on that is paused, or that failed."""
    job = _controlled(tx, actor, command.id, "pause")
    values: dict[str, Any] = {"wanted": "run"}
    if command.rate is not None:
        values["payload"] = {**job.payload, "rate": command.rate}
    if job.state == "paused" or (job.state == "failed" and job.payload):
        values |= {"state": "queued", "run_at": tx.now, "attempts": 0, "finished_at": None}
    elif job.state == "queued":
        values["run_at"] = tx.now
    elif job.state != "running":
        raise _over(job, "resumed")
    jobs.control(tx, job, **values)
    return _noted(tx, actor, job, "resumed")


def cancel(tx: Tx, actor: Actor, command: ControlJob) -> Job:
    """End a job before it is done. What it has done stays done, and can be taken back as any deletion; what a purge has
    removed cannot, and gets its receipt."""
    job = _controlled(tx, actor, command.id, "cancel")
    if job.state == "cancelled":
        return _shown(job)
    values: dict[str, Any] = {"wanted": "cancel"}
    if job.state == "paused" or (job.state == "failed" and job.payload):
        values |= {"state": "queued", "run_at": tx.now, "attempts": 0}  # a worker closes what is open
    elif job.state == "queued":
        values["run_at"] = tx.now  # not when its rate would have it go on
    elif job.state != "running":
        raise _over(job, "cancelled")
    jobs.control(tx, job, **values)
    return _noted(tx, actor, job, "cancelled")


def set_rate(tx: Tx, actor: Actor, command: SetRate) -> Job:
    """Limit how fast a job goes, or lift the limit."""
    job = _controlled(tx, actor, command.id, "pause")
    if job.state not in jobs.OPEN:
        raise _over(job, "limited")
    jobs.control(tx, job, payload={**job.payload, "rate": command.rate})
    return _shown(find(tx, actor, job.id))


def items(tx: Tx, actor: Actor, command: ListJobItems) -> Page[JobItem]:
    """What a job left as it was, and why; what went well is counted in its result."""
    require(actor, "job.read")
    return executions.list_items(tx, find(tx, actor, command.id), command)


def find(tx: Tx, actor: Actor, id: str, *, lock: bool = False) -> Job:
    query = _select(actor).where(t.jobs.c.id == id)
    found = tx.one(query.with_for_update() if lock else query) if is_id(id) else None
    if found is None:
        raise NotFound(f"job {id[:80]} not found")
    return Job(**found)


def _controlled(tx: Tx, actor: Actor, id: str, wish: str) -> Job:
    """The job, when the actor may control it: who started it, and maintainers. Illegal when its task cannot."""
    require(actor, "job.read")
    job = find(tx, actor, id, lock=True)
    if job.actor != actor.name:
        require(actor, "job.control")
    if wish not in CONTROLS.get(job.task, ()):
        raise Illegal(f"job {id} ({job.task}) cannot be {'cancelled' if wish == 'cancel' else 'paused'}")
    return job


def _over(job: Job, past: str) -> Illegal:
    return Illegal(f"job {job.id} is {job.state}: it cannot be {past} any more", state=job.state)


def _noted(tx: Tx, actor: Actor, job: Job, event: str) -> Job:
    tx.audit(actor, f"job.{event}", job.id)
    return _shown(find(tx, actor, job.id))


# --- for workers ------------------------------------------------------------------------------------------------------


class Claim(NamedTuple):
    """Who wants a job, and for how long at first."""

    worker: str
    lease: timedelta


class Renewal(NamedTuple):
    """A job that goes on, for how long, and what there is to note."""

    job: Job
    lease: timedelta
    values: dict[str, Any]


class Ended(NamedTuple):
    """A job that ended: with a result, or with an error."""

    job: Job
    result: Json = {}
    error: str = ""


class Turn(NamedTuple):
    """How a task left its job when it is not done: ``queued`` (again, ``after_s`` from now), ``paused``, ``cancelled``
    or ``failed`` (and trying again would not help)."""

    state: str
    after_s: float = 0
    result: Json = {}
    error: str = ""


class Turned(NamedTuple):
    """A job, and how it was left."""

    job: Job
    turn: Turn


def leave(tx: Tx, _actor: Actor, turned: Turned) -> bool:
    """Note that a task left its job; False when another worker has it."""
    job, turn = turned
    if turn.state not in ("queued", "paused"):
        return jobs.end(tx, job, turn.state, turn.error, turn.result)
    now = jobs.at_work(tx, job)
    # Whoever asked for a pause has it now; who has asked for something else in between gets that.
    granted = turn.state == "paused" and now is not None and now.wanted == "pause"
    state, wanted = ("paused", {"wanted": "run"}) if granted else ("queued", {})
    return jobs.put_back(tx, job, state, timedelta(seconds=turn.after_s), wanted)


def look_at(tx: Tx, _actor: Actor, job: Job) -> Job:
    """A job as it is now."""
    c = t.jobs.c
    same = (c.organization_id == job.organization_id, c.id == job.id)
    found = tx.one(select(*(c[name] for name in Job.__struct_fields__)).where(*same))
    return job if found is None else Job(**found)


def claim_next(tx: Tx, _actor: Actor, claim: Claim) -> Job | None:
    """Take the next due job under a lease, of whatever organization."""
    return jobs.claim(tx, claim.worker, claim.lease)


def renew(tx: Tx, _actor: Actor, renewal: Renewal) -> bool:
    """Extend a lease and note progress; False when another worker has the job."""
    return jobs.renew(tx, renewal.job, renewal.lease, **renewal.values)


def finish(tx: Tx, _actor: Actor, ended: Ended) -> bool:
    """Note that a job is done, and what it came to; False when another worker has it."""
    return jobs.finish(tx, ended.job, ended.result)


def fail(tx: Tx, _actor: Actor, ended: Ended) -> bool:
    """Note why a job failed, and try again later; False when another worker has it."""
    return jobs.fail(tx, ended.job, ended.error)


def release_all(tx: Tx, _actor: Actor, _command: None) -> int:
    """Make all running jobs due at once: where the only process that could work on them has just started."""
    return jobs.release_all(tx)
