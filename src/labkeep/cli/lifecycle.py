"""The verbs of the lifecycle: each makes a plan, shows it, asks where it destroys, and applies just that plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import click
import msgspec

from labkeep.cli import options
from labkeep.cli.command import Command, Decorator, pass_session
from labkeep.cli.deletions import KINDS
from labkeep.cli.plans import conflict, describe, report, verified
from labkeep.cli.progress import wait_for
from labkeep.cli.references import project_id, target_id
from labkeep.cli.session import Session
from labkeep.core.commands import Outcome
from labkeep.core.errors import Invalid, Refused, Stale
from labkeep.core.lifecycle import Verb

if TYPE_CHECKING:
    from labkeep.client.proposal import Proposal
    from labkeep.core.entities import Deletion, Item

ASKS = (Verb.trash, Verb.purge)
"""Verbs that destroy: they always ask. The others ask only where a query says what they are for."""

TRIES = 3
"""How often ``--yes`` takes a new plan when the world moved."""

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"
"""An id in examples."""


class Request(msgspec.Struct, frozen=True):
    """What a command line asks for: which objects, and under which conditions."""

    verb: Verb
    targets: tuple[str, ...]
    query: str | None = None
    project: str | None = None
    kind: str | None = None
    deletion: str | None = None
    names: tuple[str, ...] = ()
    reason: str | None = None
    ticket: str | None = None
    on_running: str | None = None
    force: bool = False
    yes: bool = False
    dry_run: bool = False
    no_wait: bool = False
    of_projects: bool = False

    @property
    def asks(self) -> bool:
        """Whether a person is asked first."""
        return not self.yes and (self.verb in ASKS or not (self.targets or self.deletion))


# --- running a verb ---------------------------------------------------------------------------------------------------


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
        raise Invalid(
            f"say what to {request.verb}: TARGETs, or --query with --project{also}; one of them", path="target"
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
    return {name: getattr(plan, name) for name in plan.__struct_fields__ if name != "request"}


def _apply(session: Session, request: Request, selection: dict[str, Any]) -> Outcome:
    for attempt in range(1, TRIES + 1):
        plan = _plan(session, request, selection)
        _show_and_ask(session, request, plan)
        try:
            return session.client.apply(plan, reason=request.reason, ticket=request.ticket)
        except Stale:
            if attempt == TRIES:
                raise
            session.output.note("Something changed in between; this is how it would be now:")
    raise AssertionError("unreachable")


def _show_and_ask(session: Session, request: Request, plan: Proposal) -> None:
    """The plan on standard error, and a question where the verb destroys. Ends the command when the answer is no."""
    if plan.counts or plan.blocked:
        for line in describe(plan, session.now()) if not session.json or request.asks else ():
            session.output.note(line)
    if plan.blocked:
        raise conflict(plan)
    if not plan.counts or not request.asks:
        return
    if not session.interactive:
        raise Refused(f"nobody is there to ask before this {request.verb}: look with --dry-run, then pass --yes")
    if not click.confirm(f"{str(request.verb).capitalize()} it?", err=True):
        session.output.note("Nothing was done.")
        raise click.exceptions.Exit(1)


def _restore_renamed(session: Session, request: Request, selection: dict[str, Any]) -> Outcome:
    """Restore under new names, which only whole deletions and single objects can."""
    names = dict(_renaming(text) for text in request.names)
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


def _renaming(text: str) -> tuple[str, str]:
    id, equals, name = text.partition("=")
    if not equals or not name:
        raise Invalid(f"--name is ID=NEWNAME, not {text[:80]!r}", path="name")
    return id.lower(), name


def _finish(session: Session, request: Request, selection: dict[str, Any], outcome: Outcome) -> None:
    purged = _wait(session, outcome) if outcome.job_id and not request.no_wait else None
    if session.json:
        fields = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
        session.output.json(fields if purged is None else {**fields, "deletions": purged})
    elif purged is not None:
        session.output.line(verified(purged))
    else:
        for line in report(outcome, selection.get("ids", ()), session.now()):
            session.output.line(line)
        if outcome.job_id:
            session.output.line(f"goes on in the background: labkeep jobs wait {outcome.job_id}")


def _wait(session: Session, outcome: Outcome) -> list[Deletion]:
    """The deletions that were purged, once all of their jobs are done."""
    last = session.client.jobs.get(outcome.job_id or "")
    # One request may purge several deletions: their jobs were all made at the same moment.
    newer = takewhile(lambda job: job.created_at >= last.created_at, session.client.jobs.list(limit=100))
    together = {job.id: job for job in newer if job.created_at == last.created_at and job.task == last.task}
    done = [wait_for(session, id) for id in {**together, last.id: last}]
    return [session.client.deletions.get(str(job.payload["deletion_id"])) for job in done]


# --- the commands -----------------------------------------------------------------------------------------------------

WORDS = {
    Verb.archive: "Take objects out of the default lists, and refuse changes to them.",
    Verb.unarchive: "Bring objects back from the archive.",
    Verb.trash: "Move objects to the trash, from where they can be restored. `labkeep trashed` lists it.",
    Verb.restore: "Bring objects back from the trash: states, names and bindings, exactly as they were.",
    Verb.purge: "Remove what is in the trash for good, and verify that nothing is left. Cannot be taken back.",
}

TARGETS = (
    """TARGET is the id of anything, project:NAME, or PROJECT/NAME of a run; --query selects by what matches instead."""
)

PROJECT_TARGETS = "TARGET is the name or id of a project; what is in it goes with it."

ALONE = "TARGET is the name or id of a project; what is in it stays as it is, and comes back with it."

ASKING = {
    True: "Shows the plan and asks; without a terminal it needs --yes. What must stay is named, with what overrides it.",
    False: "Shows the plan, and asks only when --query selects; without a terminal that needs --yes.",
}

EXAMPLES = {
    Verb.archive: (
        f"labkeep archive {ID}",
        "labkeep archive project:digits --reason 'paper is out'",
        "labkeep archive --project digits -q 'finished_at < -90d' --dry-run",
    ),
    Verb.unarchive: (f"labkeep unarchive {ID}", "labkeep unarchive project:digits"),
    Verb.trash: (
        f"labkeep trash {ID} --reason 'wrong data'",
        "labkeep trash --project digits -q 'status = crashed and created_at < -30d' --dry-run",
        "labkeep trash project:scratch --on-running stop --yes --ticket OPS-17",
    ),
    Verb.restore: (
        f"labkeep restore --deletion {ID}",
        f"labkeep restore {ID}",
        f"labkeep restore {ID} --name {ID}=baseline-2",
        "labkeep restore project:scratch",
    ),
    Verb.purge: (
        f"labkeep purge --deletion {ID}",
        f"labkeep purge {ID} --yes --reason 'erasure request'",
        "labkeep purge --project digits -q 'created_at < -365d' --dry-run",
    ),
}

COMMON: tuple[Decorator, ...] = (
    click.option("--dry-run", is_flag=True, help="Show the plan, and do nothing."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
    click.option("--ticket", metavar="ID", help="A reference for the record."),
    click.option("--reason", metavar="TEXT", help="Why, for the record and the audit trail."),
)
QUERY: tuple[Decorator, ...] = (
    click.option("--kind", type=click.Choice(KINDS), help="What --query looks for.  [default: run]"),
    options.project,
    options.query,
)
FORCE: Decorator = click.option("--force", is_flag=True, help="Unbind and unlink what depends on it.")
DELETION: Decorator = click.option("--deletion", metavar="ID", help="Everything that this deletion holds.")
ONLY: dict[Verb, tuple[Decorator, ...]] = {
    Verb.trash: (
        FORCE,
        click.option(
            "--on-running",
            type=click.Choice(("refuse", "stop")),
            help="What to do with what is running.  [default: refuse]",
        ),
    ),
    Verb.restore: (
        click.option("--name", "names", multiple=True, metavar="ID=NAME", help="A new name where the old is taken."),
    ),
    Verb.purge: (FORCE, click.option("--no-wait", is_flag=True, help="Leave it to the background.")),
}
"""Options that only one verb has."""


def verb_command(name: str, *, of_projects: bool = False) -> click.Command:
    """The command for one verb; ``of_projects`` makes the one of ``labkeep projects``, whose targets are names."""
    verb = Verb(name)

    def body(session: Session, targets: tuple[str, ...], **fields: Any) -> None:
        run(session, Request(verb=verb, targets=targets, of_projects=of_projects, **fields))

    decorated: Callable[..., Any] = pass_session(body)
    for option in _options(verb, of_projects):
        decorated = option(decorated)
    decorated = click.argument("targets", nargs=-1, required=of_projects, metavar="TARGET...")(decorated)
    return click.command(name, cls=Command, help=_help(verb, of_projects), examples=_examples(verb, of_projects))(
        decorated
    )


def _options(verb: Verb, of_projects: bool) -> Sequence[Decorator]:
    """In the reverse order of the help."""
    selecting = () if of_projects else QUERY
    whole = (DELETION,) if verb in (Verb.restore, Verb.purge) and not of_projects else ()
    return (*COMMON, *ONLY.get(verb, ()), *whole, *selecting)


def _help(verb: Verb, of_projects: bool) -> str:
    alone = ALONE if verb in (Verb.archive, Verb.unarchive) else PROJECT_TARGETS
    targets = alone if of_projects else TARGETS
    asking = "Shows the plan." if of_projects and verb not in ASKS else ASKING[verb in ASKS]
    return "\n\n".join((WORDS[verb], f"{targets} {asking}"))


def _examples(verb: Verb, of_projects: bool) -> Sequence[str]:
    if not of_projects:
        return EXAMPLES[verb]
    return (f"labkeep projects {verb} digits", f"labkeep projects {verb} digits --dry-run --json")


archive, unarchive, trash, restore, purge = (verb_command(str(verb)) for verb in Verb)


def _lock(session: Session, target: str, reason: str, *, locked: bool) -> None:
    id = target_id(session.client, target, trashed=False)
    move = session.client.items.lock if locked else session.client.items.unlock
    item = move(id, reason=reason)
    session.output.answer(item, f"{item.kind} {item.name} is {'locked' if locked else 'unlocked'} now")


@click.command(cls=Command, examples=(f"labkeep lock {ID}", "labkeep lock project:digits --reason 'in the paper'"))
@click.argument("target")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit trail.")
@pass_session
def lock(session: Session, target: str, reason: str) -> None:
    """Refuse to trash TARGET until the lock is lifted.

    TARGET is the id of anything, project:NAME, or PROJECT/NAME of a run.
    """
    _lock(session, target, reason, locked=True)


@click.command(cls=Command, examples=(f"labkeep unlock {ID}", "labkeep unlock project:digits"))
@click.argument("target")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit trail.")
@pass_session
def unlock(session: Session, target: str, reason: str) -> None:
    """Lift the lock of TARGET.

    TARGET is the id of anything, project:NAME, or PROJECT/NAME of a run.
    """
    _lock(session, target, reason, locked=False)
