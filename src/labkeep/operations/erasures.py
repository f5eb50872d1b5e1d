"""Requests to erase one person: asking, listing, looking, running. What is done to objects is in
`labkeep.operations.erasure_objects`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Select, case, func, select, update

from labkeep.core.access import Actor, require
from labkeep.core.commands import Get, Page
from labkeep.core.entities import Json
from labkeep.core.erasures import (
    ACTIONS,
    DUE_DAYS,
    FILES,
    WHOLE,
    AskedErasure,
    CancelErasure,
    CreateErasure,
    Erasure,
    ListErasures,
    PreviewErasure,
    RunErasure,
    digest_of,
)
from labkeep.core.errors import Illegal, Invalid, NotFound
from labkeep.core.ids import is_id
from labkeep.storage import jobs, subjects
from labkeep.storage import tables as t
from labkeep.storage.pages import decode_cursor, encode_cursor
from labkeep.storage.transaction import Tx

_e = t.erasures.c
_COLUMNS = [_e[name] for name in Erasure.__struct_fields__]

WAITING = ("open", "partly_held")
"""States in which a request can be looked at and run."""


def create(tx: Tx, actor: Actor, command: CreateErasure) -> Erasure:
    """Note a request. Nothing is looked for and nothing happens yet."""
    require(actor, "erasure.write")
    for name, allowed in (("action", ACTIONS), ("text_files", FILES)):
        if getattr(command, name) not in allowed:
            raise Invalid(f"{name} is {' or '.join(allowed)}", path=name)
    if unknown := set(command.whole).difference(WHOLE):
        raise Invalid(f"whole is some of {', '.join(WHOLE)}, not {min(unknown)[:40]}", path="whole")
    if command.field and command.field not in subjects.declared_in(tx, actor):
        raise Invalid(
            f"{command.field[:80]} is not declared: add it to the rule subject_fields, or search everywhere without a field",
            path="field",
        )
    if not command.subject.strip():
        raise Invalid("say who is to be erased", path="subject")
    erasure = Erasure(
        id=tx.new_id(),
        organization_id=actor.organization_id,
        workspace_id=actor.workspace_id,
        created_at=tx.now,
        field=command.field,
        subject=command.subject,
        subject_digest=digest_of(command.field, command.subject),
        action=command.action,
        reason=command.reason,
        ticket=command.ticket,
        created_by=actor.name,
        due_at=command.due_at or tx.now + timedelta(days=DUE_DAYS),
        report={"files": command.text_files, **({"whole": sorted(set(command.whole))} if command.whole else {})},
    )
    tx.insert(t.erasures, [{name: getattr(erasure, name) for name in Erasure.__struct_fields__}])
    tx.audit(actor, "erasure.created", erasure.id, ticket=command.ticket, action=command.action)
    return erasure


def find(tx: Tx, actor: Actor, id: str, *, lock: bool = False) -> Erasure:
    """One request of the workspace. NotFound otherwise."""
    query = _mine(actor).where(_e.id == id)
    found = tx.one(query.with_for_update() if lock else query) if is_id(id) else None
    if found is None:
        raise NotFound(f"erasure request {id[:80]} not found")
    return Erasure(**found)


def _mine(actor: Actor) -> Select[Any]:
    return select(*_COLUMNS).where(_e.organization_id == actor.organization_id, _e.workspace_id == actor.workspace_id)


def change(tx: Tx, erasure: Erasure, **values: Any) -> None:
    """Change columns of a request."""
    same = (_e.organization_id == erasure.organization_id, _e.id == erasure.id)
    tx.execute(update(t.erasures).where(*same).values(**values))


def get(tx: Tx, actor: Actor, command: Get) -> Erasure:
    """One request."""
    require(actor, "erasure.read")
    return find(tx, actor, command.id)


def list_(tx: Tx, actor: Actor, command: ListErasures) -> Page[Erasure]:
    """Requests: overdue ones that wait first, then the newest."""
    require(actor, "erasure.read")
    late = case(((_e.state.in_(WAITING)) & (_e.due_at < tx.now), 0), else_=1)
    query = _mine(actor)
    if command.state:
        query = query.where(_e.state == command.state)
    skip = 0 if command.cursor is None else max(0, decode_cursor(command.cursor, tuple[int])[0])
    # By number: the order depends on the clock, and such a list is short.
    found = tx.all(query.order_by(late, _e.id.desc()).offset(skip).limit(command.limit + 1))
    items = [Erasure(**row) for row in found[: command.limit]]
    return Page(items, encode_cursor(skip + command.limit) if len(found) > command.limit else None)


def count_overdue(tx: Tx, _actor: Actor, _command: None) -> int:
    """Requests of the whole server that should have been answered by now."""
    late = (_e.state.in_((*WAITING, "running")), _e.due_at < tx.now)
    return int(tx.execute(select(func.count()).select_from(t.erasures).where(*late)).scalar_one())


def preview(tx: Tx, actor: Actor, command: PreviewErasure) -> AskedErasure:
    """Look for what a request would change; a job, whose findings are in the report of the request."""
    require(actor, "erasure.read")
    erasure = find(tx, actor, command.id, lock=True)
    _check_waiting(erasure)
    return AskedErasure(erasure=erasure, job_id=_enqueue(tx, actor, erasure, "look"))


def run(tx: Tx, actor: Actor, command: RunErasure) -> AskedErasure:
    """Do what a request asks for. A job; asking again while it runs is the same job."""
    require(actor, "erasure.run")
    erasure = find(tx, actor, command.id, lock=True)
    if erasure.state == "done":
        return AskedErasure(erasure=erasure)
    if erasure.state != "running":
        _check_waiting(erasure)
        report: Json = {name: value for name, value in erasure.report.items() if name in ("files", "whole", "preview")}
        change(tx, erasure, state="running", report=report)
        tx.audit(actor, "erasure.started", erasure.id, reason=command.reason, ticket=erasure.ticket)
    return AskedErasure(erasure=find(tx, actor, erasure.id), job_id=_enqueue(tx, actor, erasure, "erase"))


def _check_waiting(erasure: Erasure) -> None:
    if erasure.state not in WAITING:
        raise Illegal(f"erasure request {erasure.id} is {erasure.state}", state=erasure.state)


def _enqueue(tx: Tx, actor: Actor, erasure: Erasure, task: str) -> str:
    payload = {"erasure_id": erasure.id, "workspace_id": erasure.workspace_id}
    return jobs.enqueue(tx, actor, f"erasure.{task}", payload, dedupe=f"erasure.{task} {erasure.id}")


def cancel(tx: Tx, actor: Actor, command: CancelErasure) -> Erasure:
    """Withdraw a request that is not running. What was erased stays erased."""
    require(actor, "erasure.write")
    erasure = find(tx, actor, command.id, lock=True)
    if erasure.state == "cancelled":
        return erasure
    _check_waiting(erasure)
    change(tx, erasure, state="cancelled", subject="", finished_at=tx.now)
    tx.audit(actor, "erasure.cancelled", erasure.id, reason=command.reason)
    return find(tx, actor, erasure.id)
