"""What a retention policy says: whom it concerns, what it keeps, and what becomes of the rest. Pure.

The same fields in TOML, JSON and on the wire; durations and sizes stay as they were written, so that a file compares
equal to what was stored from it. `parse` is strict: what cannot mean anything is refused with a reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from labkeep.core.entities import Json
from labkeep.core.errors import Invalid
from labkeep.core.fields import NAMESPACES, field_info
from labkeep.core.filters import Order as SortKey
from labkeep.core.filters import find_fault, state_filter
from labkeep.core.lifecycle import Kind, State, Status
from labkeep.core.quantities import parse_duration, parse_size
from labkeep.core.query import parse as parse_query

MOST_RANKED = 10_000
"""Objects that one rule may rank in one group."""

ROW = "row"
"""What `kinds` says for rows of runs and documents, which are no objects of their own."""

KINDS = (str(Kind.run), str(Kind.document), str(Kind.artifact_version), ROW)
GROUPS = ("project", "group", "type", "name")

Words = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=512, pattern=r"^[^\x00]+$")], ...], Meta(max_length=100)
]
Rank = Annotated[int, Meta(ge=1, le=MOST_RANKED)]


class Action(StrEnum):
    """What becomes of what a policy does not keep."""

    keep = "keep"
    archive = "archive"
    trash = "trash"
    purge = "purge"


STATES: dict[Action, tuple[State, ...]] = {
    Action.keep: (State.active, State.archived, State.trashed),
    Action.archive: (State.active,),
    Action.trash: (State.active, State.archived),
    Action.purge: (State.trashed,),
}
"""The states in which each action finds what it is about."""


class Best(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the ``count`` objects of a group with the largest (``max``) or smallest (``min``) value of ``metric``."""

    count: Rank
    metric: Annotated[str, Meta(min_length=1, max_length=500)]
    goal: Literal["max", "min"] = "max"


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a policy says. First the conditions select; of what they select, whatever no rule keeps goes.

    All conditions must be met. Lists mean any of their words. Durations are like ``30d``, sizes like ``10GB``.
    """

    action: Action = Action.trash
    """archive, trash, purge; or keep: the policy removes nothing and only keeps things from other policies."""
    kinds: Annotated[tuple[str, ...], Meta(min_length=1, max_length=4)] = ("run",)
    """run, document, artifact_version; or row alone: rows of runs and documents."""

    # Conditions
    older_than: str | None = None
    age_of: Literal["created", "updated", "finished"] = "created"
    """What ages count from."""
    states: tuple[State, ...] = ()
    status: tuple[Status, ...] = ()
    """Of runs."""
    types: Words = ()
    tags: Words = ()
    larger_than: str | None = None
    q: Annotated[str, Meta(max_length=10_000)] = ""
    """A condition in the language of queries."""
    trashed_for: str | None = None
    """Of purge, and needed there: how long it has been in the trash."""
    rows_of: Annotated[tuple[Literal["run", "document"], ...], Meta(max_length=2)] = ()
    """Of rows: what they belong to; both when empty. The other conditions but age are about the owner."""

    # What is kept
    keep_last: Rank | None = None
    keep_within: str | None = None
    keep_best: Best | None = None
    keep_tagged: Words = ()
    keep_bound: bool = True
    """Whether what something live needs is kept: bound to an environment, aliased, base of a run, linked to."""
    minimum_keep: str | None = None
    """A floor for every policy: nothing of these kinds goes before it is this old, whether the conditions select it or not."""
    group_by: Annotated[tuple[Literal["project", "group", "type", "name"], ...], Meta(max_length=4)] = ("project",)
    """In what keep_last and keep_best rank: each project by itself unless it says otherwise."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions that are set."""
        names = ("older_than", "states", "status", "types", "tags", "larger_than", "q", "trashed_for")
        return tuple(name for name in names if getattr(self, name) not in (None, (), ""))

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the keep rules that are set; keep_bound, which always holds unless it is switched off, is none."""
        names = ("keep_last", "keep_within", "keep_best", "keep_tagged", "minimum_keep")
        return tuple(name for name in names if getattr(self, name) not in (None, ()))

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing about what should go: then it keeps everything. A floor alone says nothing."""
        return not self.conditions and self.rules in ((), ("minimum_keep",))

    @property
    def ranks(self) -> bool:
        """Whether what is kept depends on what else there is."""
        return self.keep_last is not None or self.keep_best is not None

    @property
    def looks_at(self) -> tuple[State, ...]:
        """The states that it looks at."""
        return self.states or STATES[self.action]

    @property
    def about_rows(self) -> bool:
        """Whether it is about rows, and not about objects."""
        return self.kinds == (ROW,)

    def duration(self, name: str) -> timedelta | None:
        """One of the durations, by its field."""
        text: str | None = getattr(self, name)
        return None if text is None else parse_duration(text, name)

    @property
    def larger_than_bytes(self) -> int | None:
        """``larger_than`` in bytes."""
        return None if self.larger_than is None else parse_size(self.larger_than, "larger_than")


def parse(body: Json, now: datetime) -> Terms:
    """The terms that ``body`` spells. Invalid, naming the field, for whatever is misspelt or cannot be meant."""
    for name in body:
        if name not in Terms.__struct_fields__:
            near = difflib.get_close_matches(str(name)[:60], Terms.__struct_fields__, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(Terms.__struct_fields__)}"
            raise Invalid(f"a policy has no field {str(name)[:60]!r}: {hint}", path=str(name)[:60])
    try:
        terms = msgspec.convert(body, Terms)
    except msgspec.ValidationError as error:
        raise Invalid(f"the policy makes no sense: {error}", path="body") from None
    for name, message in _faults(terms, now):
        raise Invalid(f"{name}: {message}", path=name)
    return terms


def printed(terms: Terms) -> Json:
    """The fields that say something: `parse` gives the same terms back."""
    found: Json = msgspec.json.decode(msgspec.json.encode(terms))  # as it comes back from storage
    return {"action": str(terms.action), "kinds": list(terms.kinds), **found}


# --- what cannot be meant ---------------------------------------------------------------------------------------------


def _faults(terms: Terms, now: datetime) -> Iterator[tuple[str, str]]:
    yield from _faults_of_kinds(terms)
    for name in ("older_than", "trashed_for", "keep_within", "minimum_keep"):
        terms.duration(name)
    _ = terms.larger_than_bytes
    yield from _faults_of_action(terms)
    yield from _faults_of_query(terms, now)
    yield from _faults_of_rules(terms)
    yield from _faults_of_rows(terms)


def _faults_of_kinds(terms: Terms) -> Iterator[tuple[str, str]]:
    for kind in terms.kinds:
        if kind in ("artifact", "artifacts"):
            yield "kinds", "an artifact is kept as long as one of its versions is: write artifact_version"
        if kind == "project":
            yield "kinds", "projects are never removed by a policy: say what in them goes"
        if kind not in KINDS:
            yield "kinds", f"{kind[:40]!r} is not one of {', '.join(KINDS)}"
    if len(set(terms.kinds)) < len(terms.kinds):
        yield "kinds", "each kind is named once"
    if ROW in terms.kinds and len(terms.kinds) > 1:
        yield "kinds", "rows are parts of objects: they need a policy of their own"


def _faults_of_action(terms: Terms) -> Iterator[tuple[str, str]]:
    legal = STATES[terms.action]
    if terms.action == Action.purge:
        if terms.trashed_for is None:
            yield "trashed_for", "purge takes only what has been in the trash for a while: say how long, like 30d"
        if terms.states:
            yield "states", "purge is always about what is in the trash: leave it out"
    elif terms.trashed_for is not None:
        yield "trashed_for", f"only purge looks into the trash, and this policy is to {terms.action}"
    for state in terms.states:
        if state not in legal:
            yield "states", f"what is {state} cannot be meant by {terms.action}: it finds {' or '.join(legal)}"
    if terms.status and set(terms.kinds) - {"run", ROW}:
        yield "status", "only runs have a status: make kinds just run"
    if terms.age_of == "finished" and terms.kinds != ("run",):
        yield "age_of", "only runs finish: make kinds just run"


def _faults_of_query(terms: Terms, now: datetime) -> Iterator[tuple[str, str]]:
    if not terms.q.strip():
        if terms.q:
            yield "q", "is blank: leave it out"
        return
    query = parse_query(terms.q, now)
    if query.order:
        yield "q", "a condition has no order: leave `order by` out"
    if state_filter(query.filter) is not None:
        yield "q", "the state has a field of its own, states: leave it out of the query"


def _faults_of_rules(terms: Terms) -> Iterator[tuple[str, str]]:
    if terms.keep_best is not None:
        if set(terms.kinds) - {"run", "document"}:
            yield "keep_best", "only runs and documents have metrics"
        space = terms.keep_best.metric.partition(".")[0]
        fault = find_fault(SortKey(terms.keep_best.metric))
        if fault is not None or space not in NAMESPACES or field_info(terms.keep_best.metric) is None:
            yield (
                "keep_best.metric",
                f"{terms.keep_best.metric[:80]!r} is no metric: write summary.acc, metrics.loss, scores.exact, …",
            )
    if len(set(terms.group_by)) < len(terms.group_by):
        yield "group_by", "each of them is named once"
    if "group" in terms.group_by and terms.kinds != ("run",):
        yield "group_by", "only runs belong to a group: make kinds just run"
    if terms.group_by != ("project",) and not terms.ranks:
        yield "group_by", "nothing is ranked: it means something with keep_last or keep_best"
    within, older = terms.duration("keep_within"), terms.duration("older_than")
    if within is not None and older is not None and within <= older and terms.age_of == "created":
        yield (
            "keep_within",
            f"keeps nothing: whatever older_than = {terms.older_than} selects is older than {terms.keep_within}",
        )


def _faults_of_rows(terms: Terms) -> Iterator[tuple[str, str]]:
    if not terms.about_rows:
        if terms.rows_of:
            yield "rows_of", "means something with kinds = row"
        return
    if terms.action != Action.trash:
        yield "action", f"rows can be trashed (removed), not {terms.action}: their owner can"
    if terms.older_than is None:
        yield "older_than", "rows go by age: say how old, like 90d"
    if terms.age_of != "created":
        yield "age_of", "the age of a row counts from when it first appeared"
    if terms.larger_than is not None:
        yield "larger_than", "rows go by age, not by size"
    if terms.status and terms.rows_of != ("run",):
        yield "status", "only runs have a status: make rows_of just run"
    if terms.states and set(terms.states) != {State.active}:
        yield "states", "only what is active can lose rows: leave it out"
    if terms.keep_best is not None or terms.group_by != ("project",):
        yield "keep_best" if terms.keep_best else "group_by", "rows are kept by age and by keep_last, of each owner"
