"""Running a verb of the lifecycle: plan it, show it, ask where it destroys, apply just that plan, and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from labkeep.cli.following import Followed, follow
from labkeep.cli.plans import conflict, describe, report, verified
from labkeep.cli.references import project_id, target_id
from labkeep.cli.session import Session
from labkeep.cli.transfers import export_first, ids_of
from labkeep.core.commands import Outcome
from labkeep.core.errors import AlreadyExists, Invalid, Refused, Stale
from labkeep.core.lifecycle import Verb

if TYPE_CHECKING:
    from labkeep.client.proposal import Proposal
    from labkeep.core.entities import Item

ASKS = (Verb.trash, Verb.purge)
"""Verbs that destroy: they always ask. The others ask only where a query says what they are for."""

TRIES = 3
"""How often ``--yes`` takes a new plan when the world moved."""


class Request(msgspec.Struct, frozen=True):
    """What a command line asks for: which objects, and under which conditions."""

    verb: Verb
    targets: tuple[str, ...]
    query: str | None = None
    project: str | None = None
    kind: str | None = None
    deletion: str | None = None
    names: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    ticket: str | None = None
    on_running: str | None = None
    force: bool = False
    yes: bool = False
    dry_run: bool = False
    no_wait: bool = False
    background: bool = False
    rate: float | None = None
    of_projects: bool = False
    export: str | None = None

    @property
    def asks(self) -> bool:
        """Whether a person is asked first."""
        return not self.yes and (self.verb in ASKS or not (self.targets or self.deletion))


def run(session: Session, request: Request) -> None:
    """Plan, show, ask, apply, report."""
    _check(request)
    selection = _selection(session, request)
    if request.dry_run:
        plan = _plan(session, request, selection)
        session.output.answer(plan_fields(plan), "\n".join(describe(plan, session.now())))
        return
    if request.names:
        outcome = _restore_renamed(session, request, selection)
    else:
        outcome = _apply(session, request, selection)
    _finish(session, request, selection, outcome)


def _check(request: Request) -> None:
    ways = [bool(request.targets), bool(request.deletion), bool(request.query or request.kind or request.project)]
    if sum(ways) != 1:
        also = ", --deletion ID" if request.verb in (Verb.restore, Verb.purge) else ""
        listing = "; `labkeep trashed` lists what is in the trash" if request.verb in ASKS else ""
        raise Invalid(
            f"say what to {request.verb}: TARGETs, or --query with --project{also}; just one of them{listing}",
            path="target",
        )


def _selection(session: Session, request: Request) -> dict[str, Any]:
    """What the client's ``plan`` takes."""
    if request.deletion:
        return {"deletion_id": request.deletion}
    if not request.targets:
        return {"q": request.query or "", "project": request.project, "kind": request.kind or "run"}
    trashed = request.verb in (Verb.restore, Verb.purge)
    find = project_id if request.of_projects else target_id
    return {"ids": list(dict.fromkeys(find(session.client, target, trashed=trashed) for target in request.targets))}


def _plan(session: Session, request: Request, selection: dict[str, Any]) -> Proposal:
    return session.client.plan(request.verb, on_running=request.on_running, force=request.force or None, **selection)


def plan_fields(plan: Proposal) -> dict[str, Any]:
    """The plan as the API answers it."""
    fields: dict[str, Any] = msgspec.to_builtins(plan)
    del fields["request"]
    return fields


def _apply(session: Session, request: Request, selection: dict[str, Any]) -> Outcome:
    archive = None
    for attempt in range(1, TRIES + 1):
        plan = _plan(session, request, selection)
        _show_and_ask(session, request, plan)
        if request.export and plan.counts and archive is None:
            archive = export_first(session, Path(request.export), ids_of(session, selection))
        if request.deletion and not plan.counts:
            return _again(session, request, request.deletion)
        try:
            return session.client.apply(
                plan,
                reason=request.reason,
                ticket=request.ticket,
                background=request.background or None,
                rate=request.rate,
                archive=archive,
            )
        except AlreadyExists as error:
            raise _with_deletion(session, error) from error
        except Stale:
            if attempt == TRIES:
                raise
            session.output.note("Something changed in between; this is how it would be now:")
    raise AssertionError("unreachable")


def _again(session: Session, request: Request, deletion: str) -> Outcome:
    """A deletion that holds nothing any more knows why: that is done already, or cannot be done any more."""
    deletions = session.client.deletions
    do = deletions.restore if request.verb == Verb.restore else deletions.purge
    return do(deletion, reason=request.reason)


def _with_deletion(session: Session, error: AlreadyExists) -> AlreadyExists:
    """The error with the deletion to restore under another name."""
    taken = error.details.get("taken") or [{}]
    if id := taken[0].get("id"):
        error.details = {**error.details, "deletion_id": session.client.items.get(id, include="trashed").deletion_id}
    return error


def _show_and_ask(session: Session, request: Request, plan: Proposal) -> None:
    """The plan on standard error, and a question where the verb destroys. Ends the command when the answer is no."""
    asks = request.asks and bool(plan.counts) and not plan.blocked
    if plan.counts or plan.blocked > 1:  # one blocker by itself is the error
        for line in describe(plan, session.now()) if not session.json or (asks and session.interactive) else ():
            click.echo(line, err=True)
    if plan.blocked:
        raise conflict(plan)
    if asks and not session.interactive:
        raise Refused(
            f"nobody is there to ask before this {request.verb}: look with --dry-run, then pass --yes",
            plan=plan_fields(plan),
        )
    if asks and not click.confirm(f"{str(request.verb).capitalize()} it?", err=True):
        session.output.note("Nothing was done.")
        raise click.exceptions.Exit(1)


def _restore_renamed(session: Session, request: Request, selection: dict[str, Any]) -> Outcome:
    """Restore under new names, which only whole deletions and single objects can."""
    names = dict(request.names)
    if request.deletion:
        return session.client.deletions.restore(request.deletion, names=names, reason=request.reason)
    found = [session.client.items.get(id, include="trashed") for id in selection.get("ids", ())]
    deletions = {item.deletion_id for item in found}
    if len(deletions) != 1 or None in deletions or any(map(_contains, found)):
        raise Invalid("--name needs --deletion ID here; labkeep trashed shows which deletion holds what", path="name")
    id = next(iter(deletions)) or ""
    return session.client.deletions.restore(id, ids=selection["ids"], names=names, reason=request.reason)


def _contains(item: Item) -> bool:
    return item.kind in ("project", "artifact")


def _finish(session: Session, request: Request, selection: dict[str, Any], outcome: Outcome) -> None:
    waits = bool(outcome.job_ids) and not (request.no_wait or request.background)
    outcome, purges, remarks = follow(session, outcome) if waits else Followed(outcome, [], [])
    purged = [session.client.deletions.get(str(job.result["deletion_id"])) for job in purges]
    if session.json:
        fields = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
        session.output.json({**fields, "deletions": purged} if purged else fields)
    elif purged:
        session.output.line(verified(purged))
    elif not outcome.job_ids or request.verb == Verb.purge:
        for line in report(outcome, selection.get("ids", ()), session.now()):
            session.output.line(line)
    if not session.json:
        going_on = [] if waits else [f"goes on in the background: labkeep jobs wait {id}" for id in outcome.job_ids]
        for line in (*remarks, *going_on):
            session.output.line(line)
