"""Background jobs, as their owners see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Select, select

from labkeep.core.access import Actor, require
from labkeep.core.commands import Get, ListJobs, Page
from labkeep.core.entities import Job, Json
from labkeep.core.errors import NotFound
from labkeep.core.ids import is_id
from labkeep.storage import jobs
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
    return page(tx, query, t.jobs.c.id, command, Job)


def get(tx: Tx, actor: Actor, command: Get) -> Job:
    """One job: state, progress and result."""
    require(actor, "job.read")
    found = tx.one(_select(actor).where(t.jobs.c.id == command.id)) if is_id(command.id) else None
    if found is None:
        raise NotFound(f"job {command.id[:80]} not found")
    return Job(**found)


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
