"""Planning what a verb does, before anything is done. Pure: candidates and rules in, a plan with reasons out.

Candidates come one by one and only counts, a running hash and the first entries of each list are kept, so a plan over
a million objects costs no more memory than one over a hundred.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from labkeep.core.commands import Blocker, Plan
from labkeep.core.entities import Json
from labkeep.core.errors import Invalid
from labkeep.core.lifecycle import BUSY, LIVE, PAST, Kind, State, Verb

SHOWN = 100
"""Entries of each list that a plan shows; counts are always complete."""


class Dependent(msgspec.Struct, frozen=True):
    """Something live outside the selection that needs a candidate."""

    type: str
    """environment, link, base or alias."""
    id: str
    name: str
    restricts: bool = True
    """Whether it blocks; what does not is unbound."""


RUNNING_RUN = "running run"
"""Type of a dependent: a run that executes an experiment, and stays when that goes, stopped."""


class Keep(msgspec.Struct, frozen=True):
    """A word from outside that keeps a candidate: a hold, or a minimum keep that is not over."""

    id: str
    reason: str
    """Completes "run baseline …"."""
    until: datetime | None = None
    """When it ends by itself."""


class Candidate(msgspec.Struct, frozen=True):
    """What planning must know of one selected object."""

    id: str
    kind: Kind
    type: str
    name: str
    handle: str | None
    state: State
    version: int
    bytes: int
    locked: bool = False
    status: str = ""
    deletion_id: str | None = None
    project_id: str | None = None
    parent_id: str = ""
    dependents: tuple[Dependent, ...] = ()
    holds: tuple[Keep, ...] = ()
    """Legal holds that cover it."""
    young: Keep | None = None
    """The minimum keep, while it lasts; only purging asks."""


class Origin(StrEnum):
    """Whose word it is, the strongest first: what a weaker one asks for, a stronger one may refuse."""

    hold = "hold"
    minimum_keep = "minimum_keep"
    erasure = "erasure"
    retention = "retention"
    user = "user"


class Options(msgspec.Struct, frozen=True):
    """What the caller allows: stopping what runs, and unbinding what depends; and on whose word it acts."""

    stop_running: bool = False
    force: bool = False
    asker: Origin = Origin.user


def parse_options(on_running: str, force: bool, asker: Origin = Origin.user) -> Options:
    """Options from their wire form; who asks is never said on the wire."""
    if on_running not in ("refuse", "stop"):
        raise Invalid(f"on_running is refuse or stop, not {on_running[:40]!r}", path="on_running")
    return Options(on_running == "stop", force, asker)


FROM: dict[Verb, tuple[State, ...]] = {
    Verb.archive: (State.active,),
    Verb.unarchive: (State.archived,),
    Verb.trash: LIVE,
    Verb.restore: (State.trashed,),
    Verb.purge: (State.trashed,),
}
"""The states from which each verb starts."""

WANTED: dict[Verb, tuple[State, ...]] = {
    Verb.archive: (State.archived,),
    Verb.unarchive: (State.active,),
    Verb.trash: (State.trashed, State.purged),
    Verb.restore: LIVE,
    Verb.purge: (State.purged,),
}
"""The states in which what a verb wants is so already. In any other the verb is not legal."""


def is_running(candidate: Candidate) -> bool:
    """Whether a run is executing, or an experiment is running."""
    if candidate.kind == Kind.run:
        return candidate.status in BUSY
    return candidate.kind == Kind.document and candidate.status == "running"


ASKERS = (Origin.erasure, Origin.retention, Origin.user)
"""On whose word something is removed."""


class Guard(msgspec.Struct, frozen=True):
    """One reason why something stays: for which verbs, against whom, and what overrides it."""

    name: str
    origin: Origin
    verbs: Collection[Verb]
    stops: Collection[Origin]
    override: str
    """What the caller can pass; empty when nothing overrides it."""
    meaning: str
    why: Callable[[Candidate], str]
    """The reason, which completes "run baseline …"; empty when it does not apply."""


def _held(candidate: Candidate) -> str:
    return f"{candidate.holds[0].reason}: only lifting the hold frees it" if candidate.holds else ""


def _young(candidate: Candidate) -> str:
    return "" if candidate.young is None else candidate.young.reason


def _locked(candidate: Candidate) -> str:
    return "is locked: unlock it first" if candidate.locked else ""


def _running(candidate: Candidate) -> str:
    if not candidate.dependents and not is_running(candidate):  # nearly all of them
        return ""
    started = [dependent.name for dependent in candidate.dependents if dependent.type == RUNNING_RUN]
    if started and not is_running(candidate):
        named = ", ".join(started[:5]) + (f" and {len(started) - 5} more" if len(started) > 5 else "")
        return f"is being executed by run {named}: stop it first, or pass on_running=stop"
    what = "is running: cannot be trashed; stop it first, or pass on_running=stop"
    return what if is_running(candidate) else ""


def _needed(candidate: Candidate) -> str:
    if not candidate.dependents:
        return ""
    restricting = [dependent for dependent in candidate.dependents if dependent.restricts]
    if not restricting:
        return ""
    named = ", ".join(f"{d.type} {d.name}" for d in restricting[:5])
    more = f" and {len(restricting) - 5} more" if len(restricting) > 5 else ""
    return f"has active dependencies: {named}{more}; resolve them first, or pass force"


GUARDS: tuple[Guard, ...] = (
    Guard("hold", Origin.hold, (Verb.trash, Verb.purge), ASKERS, "", "a legal hold covers it", _held),
    Guard("minimum keep", Origin.minimum_keep, (Verb.purge,), ASKERS, "", "younger than the minimum keep", _young),
    Guard("lock", Origin.user, (Verb.trash,), (Origin.retention, Origin.user), "", "locked", _locked),
    Guard("running", Origin.user, (Verb.trash,), ASKERS, "on_running=stop", "a run or experiment that runs", _running),
    Guard(
        "dependents",
        Origin.user,
        (Verb.trash,),
        ASKERS,
        "force",
        "bound to an environment, required by a link, base of a live run, or an artifact version with an alias",
        _needed,
    ),
)
"""Everything that keeps an object where it is, in the order of precedence."""


def guards_of(verb: Verb, options: Options) -> tuple[Guard, ...]:
    """The guards that matter for ``verb``, with what the caller allows."""
    overridden = {"on_running=stop": options.stop_running, "force": options.force}
    return tuple(
        guard
        for guard in GUARDS
        if verb in guard.verbs and options.asker in guard.stops and not overridden.get(guard.override)
    )


def blocker(verb: Verb, candidate: Candidate, options: Options) -> Blocker | None:
    """Why ``candidate`` must stay as it is, by the first guard that says so; None when it may go."""
    return _first(guards_of(verb, options), candidate)


def _first(guards: Sequence[Guard], candidate: Candidate) -> Blocker | None:
    for guard in guards:
        reason = guard.why(candidate)
        if reason:
            what = f"{candidate.type or candidate.kind} {candidate.name} {reason}"
            return Blocker(candidate.id, str(candidate.kind), candidate.name, what, guard.override, str(guard.origin))
    return None


def seen(candidate: Candidate) -> str:
    """What was looked at of a candidate: states and versions are part of it, so any edit in between is noticed."""
    plain = f"{candidate.id} {candidate.version} {candidate.state} {candidate.status}"
    if not candidate.dependents and not candidate.holds and candidate.young is None:  # nearly all of them
        return plain
    needed = "".join(f" {dependent.id}" for dependent in candidate.dependents)
    kept = "".join(f" {keep.id}" for keep in candidate.holds) + ("" if candidate.young is None else " young")
    return f"{plain}{needed}{kept}"


class Planner:
    """Folds candidates into a plan, batch by batch. `take` says which of them go."""

    def __init__(self, verb: Verb, options: Options) -> None:
        self.verb = verb
        self.options = options
        self.counts: Counter[str] = Counter()
        self.already = 0
        self.illegal: Candidate | None = None
        """The first candidate for which the verb is not legal."""
        self.held: set[str] = set()
        """Deletions that hold what was in the trash already, the first `SHOWN`."""
        self.bytes = 0
        self.stops = 0
        self.blocked = 0
        self.bytes_by_kind: Counter[str] = Counter()
        self.cascades: dict[str, Counter[str]] = {}
        self.names: list[str] = []
        self.homes: set[str] = set()
        """Projects that something goes from, or that go themselves."""
        self.unbinds: list[Json] = []
        self.blockers: list[Blocker] = []
        self._guards = guards_of(verb, options)
        self._from = FROM[verb]
        self._hash = hashlib.sha256(msgspec.json.encode([str(verb), options.stop_running, options.force]))

    def take(self, batch: Sequence[Candidate]) -> list[Candidate]:
        """Take candidates into the plan; those that the verb will change."""
        self._hash.update("".join([f"{seen(candidate)}\n" for candidate in batch]).encode())
        going = [candidate for candidate in batch if self._goes(candidate)]
        self.count(going)
        return going

    def _goes(self, candidate: Candidate) -> bool:
        if candidate.state not in self._from:
            if candidate.state not in WANTED[self.verb]:
                self.illegal = self.illegal or candidate
                return False
            self.already += 1
            if candidate.deletion_id is not None and len(self.held) < SHOWN:
                self.held.add(candidate.deletion_id)
            return False
        reason = self.why(candidate)
        if reason is None:
            return True
        self.blocked += 1
        if len(self.blockers) < SHOWN:
            self.blockers.append(reason)
        return False

    def why(self, candidate: Candidate) -> Blocker | None:
        """Why ``candidate`` must stay as it is; None when it may go."""
        return _first(self._guards, candidate)

    def count(self, going: Sequence[Candidate]) -> None:
        """Count candidates that go."""
        for kind in dict.fromkeys([candidate.kind for candidate in going]):
            sizes = [candidate.bytes for candidate in going if candidate.kind == kind]
            self.counts[str(kind)] += len(sizes)
            self.bytes_by_kind[str(kind)] += sum(sizes)
            self.bytes += sum(sizes)
        self.homes.update([candidate.project_id or candidate.id for candidate in going])
        if self.verb != Verb.trash:
            return
        named = [candidate.name for candidate in going if candidate.handle is not None]
        self.names += named[: SHOWN - len(self.names)]
        self.stops += sum([is_running(candidate) for candidate in going])
        for candidate in going:
            if candidate.dependents:
                self._count_dependents(candidate)

    def _count_dependents(self, candidate: Candidate) -> None:
        self.stops += sum(one.type == RUNNING_RUN for one in candidate.dependents)
        for dependent in candidate.dependents:
            if dependent.type in ("environment", "link") and len(self.unbinds) < SHOWN:
                unbound = {"type": dependent.type, "id": dependent.id, "name": dependent.name, "item_id": candidate.id}
                self.unbinds.append(unbound)

    @property
    def removes(self) -> bool:
        """Whether somebody removes something on a user's word, for which there may have to be a reason."""
        return self.verb in (Verb.trash, Verb.purge) and self.options.asker == Origin.user

    @property
    def hash(self) -> str:
        """What applying must name: the same world and the same wishes give the same hash."""
        return self._hash.hexdigest()

    def came(self, via: str, going: Sequence[Candidate]) -> None:
        """Note what came only with something else: ``contained`` in it, or ``linked`` to it."""
        self.cascades.setdefault(via, Counter()).update(str(candidate.kind) for candidate in going)

    def plan(self, id: str, now: datetime, *, freed: Mapping[str, int], restorable_until: datetime | None) -> Plan:
        """The plan so far, as it is shown and stored."""
        return Plan(
            id=id,
            verb=str(self.verb),
            hash=self.hash,
            counts=dict(self.counts),
            bytes=self.bytes,
            freed_bytes=sum(freed.values()),
            names_freed=self.names,
            unbinds=self.unbinds,
            stops=self.stops,
            blockers=self.blockers,
            blocked=self.blocked,
            restorable_until=restorable_until,
            created_at=now,
            bytes_by_kind={kind: size for kind, size in self.bytes_by_kind.items() if size},
            freed_by_kind={kind: size for kind, size in freed.items() if size},
            cascades={via: dict(counts) for via, counts in self.cascades.items() if counts},
            already=self.already,
        )


def event_of(kind: str, verb: Verb) -> str:
    """The name of the audit event: ``run.trashed``."""
    return f"{kind}.{PAST[verb]}"
