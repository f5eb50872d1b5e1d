"""The verbs of the lifecycle as commands. What they do is in `labkeep.cli.verbs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from labkeep.cli import options
from labkeep.cli.command import Command, Decorator, pass_session
from labkeep.cli.deletions import KINDS
from labkeep.cli.options import NewName
from labkeep.cli.references import target_id
from labkeep.cli.session import Session

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"
"""An id in examples."""

DESTROYING = ("trash", "purge")
FROM_TRASH = ("restore", "purge")

WORDS = {
    "archive": "Take objects out of the default lists, and refuse changes to them.",
    "unarchive": "Bring objects back from the archive.",
    "trash": "Move objects to the trash, from where they can be restored. `labkeep trashed` lists it.",
    "restore": "Bring objects back from the trash: states, names and bindings, exactly as they were.",
    "purge": "Remove what is in the trash for good, and verify that nothing is left. Cannot be taken back.",
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
    "archive": (
        f"labkeep archive {ID}",
        "labkeep archive project:digits --reason 'paper is out'",
        "labkeep archive --project digits -q 'finished_at < -90d' --dry-run",
    ),
    "unarchive": (f"labkeep unarchive {ID}", "labkeep unarchive project:digits"),
    "trash": (
        f"labkeep trash {ID} --reason 'wrong data'",
        "labkeep trash --project digits -q 'status = crashed and created_at < -30d' --dry-run",
        "labkeep trash project:scratch --on-running stop --yes --ticket OPS-17",
    ),
    "restore": (
        f"labkeep restore --deletion {ID}",
        f"labkeep restore {ID}",
        f"labkeep restore {ID} --name {ID}=baseline-2",
        "labkeep restore project:scratch",
    ),
    "purge": (
        f"labkeep purge --deletion {ID}",
        f"labkeep purge {ID} --yes --reason 'erasure request'",
        "labkeep purge --project digits -q 'created_at < -365d' --dry-run",
    ),
}

COMMON: tuple[Decorator, ...] = (
    click.option("--background", is_flag=True, help="Leave it to a background job, and do not wait for that."),
    click.option(
        "--rate",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="At most N objects a second, when it is large.",
    ),
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
EXPORT: Decorator = click.option(
    "--export",
    type=click.Path(dir_okay=False),
    metavar="PATH",
    help="First write everything to this archive, and verify it; its digest is kept with the deletion.",
)
ONLY: dict[str, tuple[Decorator, ...]] = {
    "trash": (
        EXPORT,
        FORCE,
        click.option(
            "--on-running",
            type=click.Choice(("refuse", "stop")),
            help="What to do with what is running.  [default: refuse]",
        ),
    ),
    "restore": (
        click.option("--name", "names", multiple=True, type=NewName(), help="A new name where the old is taken."),
    ),
    "purge": (EXPORT, FORCE, click.option("--no-wait", is_flag=True, help="Leave it to the background.")),
}
"""Options that only one verb has."""


def verb_command(verb: str, *, of_projects: bool = False) -> click.Command:
    """The command for one verb; ``of_projects`` makes the one of ``labkeep projects``, whose targets are names."""

    def body(session: Session, targets: tuple[str, ...], **fields: Any) -> None:
        from labkeep.cli.verbs import Request, run
        from labkeep.core.lifecycle import Verb

        run(session, Request(verb=Verb(verb), targets=targets, of_projects=of_projects, **fields))

    decorated: Callable[..., Any] = pass_session(body)
    for option in _options(verb, of_projects):
        decorated = option(decorated)
    decorated = click.argument("targets", nargs=-1, required=of_projects, metavar="TARGET...")(decorated)
    return click.command(verb, cls=Command, help=_help(verb, of_projects), examples=_examples(verb, of_projects))(
        decorated
    )


def _options(verb: str, of_projects: bool) -> Sequence[Decorator]:
    """In the reverse order of the help."""
    selecting = () if of_projects else QUERY
    whole = (DELETION,) if verb in FROM_TRASH and not of_projects else ()
    return (*COMMON, *ONLY.get(verb, ()), *whole, *selecting)


def _help(verb: str, of_projects: bool) -> str:
    alone = ALONE if verb in ("archive", "unarchive") else PROJECT_TARGETS
    targets = alone if of_projects else TARGETS
    asking = "Shows the plan." if of_projects and verb not in DESTROYING else ASKING[verb in DESTROYING]
    return "\n\n".join((WORDS[verb], f"{targets} {asking}"))


def _examples(verb: str, of_projects: bool) -> Sequence[str]:
    if not of_projects:
        return EXAMPLES[verb]
    return (f"labkeep projects {verb} digits", f"labkeep projects {verb} digits --dry-run --json")


archive, unarchive, trash, restore, purge = map(verb_command, WORDS)


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
