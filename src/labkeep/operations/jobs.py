"""Background jobs, as their owners see them."""

from __future__ import annotations

from typing import Any

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


def claim_next(tx: Tx, _actor: Actor, worker: str) -> Job | None:
    """Take the next due job under a lease, of whatever organization."""
    return jobs.claim(tx, worker)


def renew_job(tx: Tx, _actor: Actor, held: tuple[Job, dict[str, Any]]) -> bool:
    """Extend a lease and note progress; False when another worker has the job."""
    job, values = held
    return jobs.renew(tx, job, **values)


def finish_job(tx: Tx, _actor: Actor, ended: tuple[Job, Json]) -> bool:
    """Note that a job is done, and what it came to; False when another worker has it."""
    return jobs.finish(tx, *ended)


def fail_job(tx: Tx, _actor: Actor, ended: tuple[Job, str]) -> bool:
    """Note why a job failed; it is tried again later. False when another worker has it."""
    return jobs.fail(tx, *ended)
