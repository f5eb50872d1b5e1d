"""States and verbs as tables. Whatever decides, prints or tests the lifecycle reads them here.

| state    | seen by default   | readable               | writable | verbs           |
|----------|-------------------|------------------------|----------|-----------------|
| active   | yes               | yes                    | yes      | archive, trash  |
| archived | only when asked   | yes                    | no (409) | unarchive, trash|
| trashed  | only in the trash | with include=trashed   | no (410) | restore, purge  |
| purged   | as a tombstone    | no (410)               | no (410) |                 |
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from labkeep.core.errors import Illegal, Invalid


class Kind(StrEnum):
    """What has a lifecycle. The value is the word in ids, permissions, events and paths."""

    project = "project"
    run = "run"
    document = "document"
    artifact = "artifact"
    artifact_version = "artifact_version"


class State(StrEnum):
    """Where an object stands in its lifecycle."""

    active = "active"
    archived = "archived"
    trashed = "trashed"
    purged = "purged"


LIVE = (State.active, State.archived)
"""States in which an object holds its name."""


class Verb(StrEnum):
    """What moves an object between states."""

    archive = "archive"
    unarchive = "unarchive"
    trash = "trash"
    restore = "restore"
    purge = "purge"


TRANSITIONS: dict[tuple[State, Verb], State] = {
    (State.active, Verb.archive): State.archived,
    (State.archived, Verb.unarchive): State.active,
    (State.active, Verb.trash): State.trashed,
    (State.archived, Verb.trash): State.trashed,
    # Restoring brings back the state before the trash; `active` stands for it here.
    (State.trashed, Verb.restore): State.active,
    (State.trashed, Verb.purge): State.purged,
}

PAST: dict[Verb, str] = {
    Verb.archive: "archived",
    Verb.unarchive: "unarchived",
    Verb.trash: "trashed",
    Verb.restore: "restored",
    Verb.purge: "purged",
}
"""Verb -> the participle in event names: ``run.trashed``."""


class StateRule(msgspec.Struct, frozen=True):
    """What one state means for those who look and write."""

    seen: str
    readable: str
    writable: str


STATES: dict[State, StateRule] = {
    State.active: StateRule("yes", "yes", "yes"),
    State.archived: StateRule("only when asked", "yes", "no (409 says unarchive)"),
    State.trashed: StateRule("only in the trash", "with include=trashed", "no (410)"),
    State.purged: StateRule("as a tombstone", "no (410)", "no (410)"),
}


def legal_verbs(state: State) -> tuple[Verb, ...]:
    """The verbs that are legal in ``state``, in the order of the table."""
    return tuple(verb for verb in Verb if (state, verb) in TRANSITIONS)


def transition(kind: Kind, name: str, state: State, verb: Verb) -> State:
    """The state after ``verb``. Illegal, with the legal verbs, when the table has no such row."""
    after = TRANSITIONS.get((state, verb))
    if after is None:
        legal = legal_verbs(state)
        hint = f"it is {state}; legal now: {', '.join(legal)}" if legal else f"it is {state} and nothing can be done"
        raise Illegal(
            f"{kind} {name} cannot be {PAST[verb]}: {hint}", state=str(state), verb=str(verb), legal=list(legal)
        )
    return after


class Status(StrEnum):
    """How the execution of a run stands; independent of its state."""

    draft = "draft"
    queued = "queued"
    running = "running"
    finished = "finished"
    failed = "failed"
    crashed = "crashed"
    stopped = "stopped"


ENDED = (Status.finished, Status.failed, Status.crashed, Status.stopped)
"""Statuses after which nothing more is expected of a run."""

BUSY = (Status.queued, Status.running)
"""Statuses in which a run must be stopped before it can be trashed."""


class Role(StrEnum):
    """What a member may do in a workspace, weakest first."""

    viewer = "viewer"
    editor = "editor"
    maintainer = "maintainer"
    owner = "owner"


class OnDelete(StrEnum):
    """What happens at the source of a link when its target is trashed."""

    restrict = "restrict"
    unbind = "unbind"
    cascade = "cascade"
    keep = "keep"


def parse_state(text: str) -> State:
    """A State from text; Invalid with the list of states otherwise."""
    try:
        return State(text)
    except ValueError:
        raise Invalid(f"{text!r} is not a state; use one of {', '.join(State)}", path="state") from None
