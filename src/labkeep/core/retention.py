"""Retention: which objects a policy keeps and which go, each with its reasons. Pure.

An object is decided in this order:

1. what is protected stays: held, locked, running, or bound to something live;
2. what the conditions do not select is not concerned;
3. what a keep rule keeps stays, this policy's or that of any other policy in force;
4. the rest goes. A policy without conditions and rules says nothing, and keeps everything.

So another keep rule, another condition and another policy that only keeps never remove more. Ranks are found in one
pass and used in a second one. Between them each group holds at most ``keep_last + keep_best.count`` places and all
groups together `MAX_PLACES`, whatever the size of the inventory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from heapq import heappush, heappushpop
from typing import NamedTuple

import msgspec

from labkeep.core.errors import TooLarge
from labkeep.core.filters import And, Compare, Filter, In, conjunction
from labkeep.core.quantities import spell_duration, spell_size, spell_timedelta
from labkeep.core.query import parse as parse_query
from labkeep.core.sentence import any_of, describe, in_its_group
from labkeep.core.terms import Action, Terms

MAX_PLACES = 500_000
"""Places in the ranks of one policy, over all groups: some 100 MB."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What retention must know of one object."""

    id: str
    kind: str
    type: str = ""
    name: str = ""
    family: str = ""
    """The name that it shares with others: of an artifact version, that of its artifact."""
    state: str = "active"
    status: str = ""
    group: str = ""
    project_id: str | None = None
    tags: tuple[str, ...] = ()
    bytes: int = 0
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    metric: float | None = None
    """The value of ``keep_best.metric``."""
    trashed_at: datetime | None = None
    restorable_until: datetime | None = None
    locked: bool = False
    running: bool = False
    held: tuple[str, ...] = ()
    """Why holds keep it, one text each."""
    bound: tuple[str, ...] = ()
    """What live things need it: ``environment production``."""
    matches: bool = True
    """Whether the policy's query selects it: whoever makes the inventory asks that."""


class Reason(msgspec.Struct, frozen=True):
    """Why an object stays or goes: the field of the policy that says so (or ``held``, ``locked``, …), in words."""

    rule: str
    text: str


class Decision(msgspec.Struct, frozen=True):
    """What becomes of one object, and why."""

    id: str
    kind: str
    action: Action
    reasons: tuple[Reason, ...]
    shields: bool = False
    """Whether it is kept by a rule, which then holds for every other policy too."""


# --- conditions -------------------------------------------------------------------------------------------------------


class _Conditions:
    """Why the conditions of some terms select an object, or which of them does not."""

    def __init__(self, terms: Terms, now: datetime) -> None:
        self.terms, self.now = terms, now
        self.older_than = terms.duration("older_than")
        self.trashed_for = terms.duration("trashed_for")
        self.larger_than = terms.larger_than_bytes

    def judge(self, subject: Subject) -> tuple[bool, tuple[Reason, ...]]:
        """Whether it is selected, with the reasons: all of them when it is, the first that speaks against it if not."""
        met: list[Reason] = []
        for holds, reason in self._each(subject):
            if not holds:
                return False, (reason,)
            met.append(reason)
        return True, tuple(met)

    def _each(self, subject: Subject) -> Iterator[tuple[bool, Reason]]:
        terms = self.terms
        if subject.kind not in terms.kinds:
            yield False, Reason("kinds", f"it is a {subject.kind}, and the policy is about {any_of(terms.kinds)}")
        if subject.state not in terms.looks_at:
            yield (
                False,
                Reason("states", f"it is {subject.state}, and the policy is about what is {any_of(terms.looks_at)}"),
            )
        if terms.states:
            yield True, Reason("states", f"it is {subject.state}")
        yield from self._times(subject)
        if terms.types:
            yield subject.type in terms.types, Reason("types", f"its type is {subject.type or 'not set'}")
        if terms.status:
            yield subject.status in terms.status, Reason("status", f"it is {subject.status or 'without status'}")
        if terms.tags:
            tagged = [tag for tag in subject.tags if tag in terms.tags]
            yield bool(tagged), Reason("tags", f"it is tagged {any_of(tagged)}" if tagged else "it lacks the tags")
        if self.larger_than is not None:
            yield subject.bytes > self.larger_than, Reason("larger_than", f"it holds {spell_size(subject.bytes)}")
        if terms.q:
            yield (
                subject.matches,
                Reason("q", "it matches the query" if subject.matches else "it does not match the query"),
            )

    def _times(self, subject: Subject) -> Iterator[tuple[bool, Reason]]:
        if self.older_than is not None:
            yield self._older(subject)
        if self.trashed_for is not None:
            yield self._trashed(subject)

    def _older(self, subject: Subject) -> tuple[bool, Reason]:
        assert self.older_than is not None
        since = {"created": subject.created_at, "updated": subject.updated_at, "finished": subject.finished_at}[
            self.terms.age_of
        ]
        if since is None:
            return False, Reason("older_than", "it has not finished")
        age = self.now - since
        return age > self.older_than, Reason("older_than", f"it was {self.terms.age_of} {spell_timedelta(age)} ago")

    def _trashed(self, subject: Subject) -> tuple[bool, Reason]:
        assert self.trashed_for is not None
        if subject.trashed_at is None:
            return False, Reason("trashed_for", "it is not in the trash")
        if subject.restorable_until is not None and subject.restorable_until > self.now:
            return False, Reason("trashed_for", f"it can be restored until {subject.restorable_until:%Y-%m-%d}")
        inside = self.now - subject.trashed_at
        return inside > self.trashed_for, Reason(
            "trashed_for", f"it has been in the trash for {spell_timedelta(inside)}"
        )


def selecting(terms: Terms, now: datetime) -> Filter | None:
    """The conditions as a filter, for whoever can look things up. States, kinds and times in the trash are not in it."""
    parts: list[Filter] = []
    older_than = terms.duration("older_than")
    if older_than is not None:
        parts.append(Compare(f"{terms.age_of}_at", "<", now - older_than))
    if terms.types:
        parts.append(In("type", terms.types))
    if terms.status:
        parts.append(In("status", tuple(str(word) for word in terms.status)))
    if terms.tags:
        parts.append(In("tag", terms.tags))
    if terms.larger_than_bytes is not None:
        parts.append(Compare("bytes", ">", terms.larger_than_bytes))
    if terms.q:
        asked = parse_query(terms.q, now).filter
        parts.extend(asked.items if isinstance(asked, And) else [asked] if asked is not None else [])
    return conjunction(*parts)


# --- ranks ------------------------------------------------------------------------------------------------------------

_Key = tuple[float, datetime, str]
_Group = tuple[str, ...]


class Place(NamedTuple):
    """Where something stands among what is kept of its group, 1 for the first."""

    number: int
    of: int


class Ranks:
    """The newest and the best of each group. `add` everything that the conditions select, then ask for places."""

    def __init__(self, terms: Terms, *, most: int = MAX_PLACES) -> None:
        self._terms, self._most = terms, most
        sizes = {"keep_last": terms.keep_last or 0, "keep_best": terms.keep_best.count if terms.keep_best else 0}
        self._sizes = {rule: size for rule, size in sizes.items() if size}
        self._heaps: dict[tuple[str, _Group], list[_Key]] = defaultdict(list)
        self._places = 0
        self._sorted = False

    def add(self, subject: Subject) -> None:
        """Rank one more object. TooLarge when there are more groups than can be kept in mind."""
        group = group_of(self._terms, subject)
        for rule, size in self._sizes.items():
            key = self._key(rule, subject)
            if key is not None:
                self._push(self._heaps[rule, group], size, key)

    def _push(self, heap: list[_Key], size: int, key: _Key) -> None:
        if len(heap) == size:
            heappushpop(heap, key)
            return
        heappush(heap, key)
        self._places += 1
        if self._places > self._most:
            raise TooLarge(
                f"the policy ranks in more than {self._most:,} places: lower keep_last and keep_best, or group by less",
                limit=self._most,
            )

    def _key(self, rule: str, subject: Subject) -> _Key | None:
        if rule == "keep_last":
            return (0.0, subject.created_at, subject.id)
        best, value = self._terms.keep_best, subject.metric
        if best is None or value is None or value != value:
            return None
        return (value if best.goal == "max" else -value, subject.created_at, subject.id)

    def place(self, rule: str, subject: Subject) -> Place | None:
        """Where ``subject`` stands by ``keep_last`` or ``keep_best``; None when it is not among those kept."""
        if rule not in self._sizes:
            return None
        if not self._sorted:
            for heap in self._heaps.values():
                heap.sort()
            self._sorted = True
        key = self._key(rule, subject)
        kept = self._heaps.get((rule, group_of(self._terms, subject)), ())
        if key is None or not kept or key < kept[0]:
            return None
        return Place(len(kept) - bisect_left(kept, key), len(kept))

    def keeps(self, subject: Subject) -> bool:
        """Whether it has a place."""
        if not self._sizes:
            return False
        group = group_of(self._terms, subject)
        for rule in self._sizes:
            key, kept = self._key(rule, subject), self._heaps.get((rule, group))
            if key is not None and kept and key >= kept[0]:  # the least comes first, in a heap and once sorted
                return True
        return False

    def last_kept(self, rule: str, subject: Subject) -> float | None:
        """The value that is just kept in the group of ``subject``."""
        kept = self._heaps.get((rule, group_of(self._terms, subject)))
        best = self._terms.keep_best
        return None if not kept or best is None else (kept[0][0] if best.goal == "max" else -kept[0][0])

    def members(self, subjects: Iterable[Subject]) -> set[str]:
        """Ids of all that is kept by its rank in the groups of ``subjects``."""
        return {key[2] for _, _, kept in self._kept(subjects) for key in kept}

    def still_hold(self, subjects: Iterable[Subject], now_there: Iterable[Subject]) -> bool:
        """Whether what ranks before ``subjects`` is still there, and still as good: then nothing has moved up."""
        found = {subject.id: subject for subject in now_there}
        return all(
            key[2] in found and self._is_at_least(found[key[2]], rule, group, kept[0])
            for rule, group, kept in self._kept(subjects)
            for key in kept
        )

    def _kept(self, subjects: Iterable[Subject]) -> Iterator[tuple[str, _Group, list[_Key]]]:
        for group in {group_of(self._terms, subject) for subject in subjects}:
            for rule in self._sizes:
                if kept := self._heaps.get((rule, group)):
                    yield rule, group, kept

    def _is_at_least(self, subject: Subject, rule: str, group: _Group, least: _Key) -> bool:
        key = self._key(rule, subject)
        return key is not None and key >= least and group_of(self._terms, subject) == group


def group_of(terms: Terms, subject: Subject) -> tuple[str, ...]:
    """The group in which ``subject`` is ranked. Kinds are never ranked against each other."""
    return (subject.kind, *(_GROUP_FIELDS[name](subject) for name in terms.group_by))


_GROUP_FIELDS: dict[str, Callable[[Subject], str]] = {
    "project": lambda subject: subject.project_id or "",
    "group": lambda subject: subject.group,
    "type": lambda subject: subject.type,
    "name": lambda subject: subject.family or subject.name,
}


# --- deciding ---------------------------------------------------------------------------------------------------------


class Judge:
    """Decides objects one by one, by some terms at one moment. ``ranks`` have seen all that the conditions select."""

    def __init__(self, terms: Terms, now: datetime, ranks: Ranks | None = None) -> None:
        self.terms, self.now = terms, now
        self.ranks = Ranks(terms) if ranks is None else ranks
        self._conditions = _Conditions(terms, now)
        self._within = terms.duration("keep_within")
        self._floor = terms.duration("minimum_keep")
        self._removes = terms.action != Action.keep and not terms.is_empty
        self._tagged = frozenset(terms.keep_tagged)

    def selects(self, subject: Subject) -> bool:
        """Whether the conditions select it: then it takes part in ranks."""
        return self._conditions.judge(subject)[0]

    def decide(self, subject: Subject) -> Decision:
        """What becomes of ``subject``, with one reason or more."""
        selected, why = self._conditions.judge(subject)
        floor = self.floor(subject)
        kept = (*floor, *(self._rules(subject) if selected else ()))
        if self.terms.action == Action.keep and selected and not kept and not self.terms.rules:
            kept = why or (Reason("keep", "the policy keeps everything that it is about"),)
        shields = bool(kept)
        kept = (*protection(subject, bound=self.terms.keep_bound and selected), *kept)
        if not selected:
            kept = (*kept, *why)
        elif self.terms.is_empty:
            kept = (*kept, Reason("empty", "the policy has no condition and no rule: it keeps everything"))
        elif self.terms.action == Action.keep and not kept:
            kept = (Reason("keep", "none of its rules keeps it, and the policy removes nothing"),)
        if kept:
            return Decision(subject.id, subject.kind, Action.keep, kept, shields)
        return Decision(subject.id, subject.kind, self.terms.action, (*why, *self._outranked(subject)))

    def decide_selected(self, subject: Subject) -> Decision:
        """The same, in few words, of what is known to be selected: for those who count, and show nothing."""
        if self._removes and self._is_free(subject):
            return Decision(subject.id, subject.kind, self.terms.action, _GOES)
        return self.decide(subject)

    def _is_free(self, subject: Subject) -> bool:
        if subject.held or subject.locked or subject.running or (subject.bound and self.terms.keep_bound):
            return False
        age = self.now - subject.created_at
        if (self._floor is not None and age < self._floor) or (self._within is not None and age <= self._within):
            return False
        return self._tagged.isdisjoint(subject.tags) and not self.ranks.keeps(subject)

    def floor(self, subject: Subject) -> tuple[Reason, ...]:
        """Why ``minimum_keep`` keeps it, which asks for no condition but the kind."""
        if self._floor is None or subject.kind not in self.terms.kinds:
            return ()
        age = self.now - subject.created_at
        if age >= self._floor:
            return ()
        text = f"nothing goes before it is {spell_duration(self.terms.minimum_keep or '')} old"
        return (Reason("minimum_keep", f"{text}; it was created {spell_timedelta(age)} ago"),)

    def _rules(self, subject: Subject) -> Iterator[Reason]:
        terms = self.terms
        if self._within is not None and self.now - subject.created_at <= self._within:
            yield Reason("keep_within", f"it was created within the last {spell_duration(terms.keep_within or '')}")
        place = self.ranks.place("keep_last", subject)
        if place is not None:
            yield Reason("keep_last", f"it is number {place.number} of the {place.of} newest {in_its_group(terms)}")
        place = self.ranks.place("keep_best", subject)
        if place is not None and terms.keep_best is not None:
            yield Reason(
                "keep_best",
                f"it is number {place.number} of the {place.of} best by {terms.keep_best.metric} {in_its_group(terms)} "
                f"({subject.metric:g})",
            )
        tagged = [tag for tag in subject.tags if tag in terms.keep_tagged]
        if tagged:
            yield Reason("keep_tagged", f"it is tagged {any_of(tagged)}")

    def _outranked(self, subject: Subject) -> Iterator[Reason]:
        """What the rules say that rank and did not keep it: for people who ask why."""
        terms = self.terms
        if terms.keep_within is not None:
            yield Reason("keep_within", f"it was created {spell_timedelta(self.now - subject.created_at)} ago")
        if terms.keep_last is not None:
            yield Reason("keep_last", f"{terms.keep_last} newer ones are kept {in_its_group(terms)}")
        if terms.keep_best is not None and subject.metric is None:
            yield Reason("keep_best", f"it has no {terms.keep_best.metric}")
        elif terms.keep_best is not None and (last := self.ranks.last_kept("keep_best", subject)) is not None:
            text = f"its {terms.keep_best.metric} is {subject.metric:g}; the last of the {terms.keep_best.count} kept"
            yield Reason("keep_best", f"{text} {in_its_group(terms)} has {last:g}")
        if terms.keep_tagged:
            yield Reason("keep_tagged", f"it is not tagged {any_of(terms.keep_tagged)}")


_GOES = (Reason("selected", "the conditions select it, and no rule keeps it"),)


def protection(subject: Subject, *, bound: bool = True) -> tuple[Reason, ...]:
    """Why ``subject`` is out of the reach of every policy."""
    found = [Reason("held", text) for text in subject.held]
    if subject.locked:
        found.append(Reason("locked", "it is locked"))
    if subject.running:
        found.append(Reason("running", "it is running"))
    if bound and subject.bound:
        found.append(Reason("keep_bound", f"something live needs it: {', '.join(subject.bound[:5])}"))
    return tuple(found)


def shielded(decision: Decision, by: str, other: Decision) -> Decision:
    """``decision`` where another policy, called ``by``, has decided ``other``: its keep rules hold here too."""
    if decision.action == Action.keep or not other.shields:
        return decision
    rules = tuple(Reason(reason.rule, f"policy {by}: {reason.text}") for reason in other.reasons)
    return Decision(decision.id, decision.kind, Action.keep, rules, True)


def plan(terms: Terms, inventory: Iterable[Subject], now: datetime) -> Iterator[Decision]:
    """Every object of ``inventory`` with what becomes of it and why, in the order given.

    ``inventory`` is iterated twice when something is ranked, and must give the same objects both times.
    """
    judge = Judge(terms, now)
    if terms.ranks:
        for subject in inventory:
            if judge.selects(subject):
                judge.ranks.add(subject)
    for subject in inventory:
        yield judge.decide(subject)


def plan_together(
    terms: Terms, others: Iterable[tuple[str, Terms]], inventory: Sequence[Subject], now: datetime
) -> Iterator[Decision]:
    """The same where other policies are in force, each with its name: what one of them keeps, stays."""
    around = [(name, list(plan(each, inventory, now))) for name, each in others]
    for number, decision in enumerate(plan(terms, inventory, now)):
        for name, theirs in around:
            decision = shielded(decision, name, theirs[number])
        yield decision


__all__ = [
    "MAX_PLACES",
    "Decision",
    "Judge",
    "Place",
    "Ranks",
    "Reason",
    "Subject",
    "describe",
    "group_of",
    "plan",
    "plan_together",
    "protection",
    "selecting",
    "shielded",
]
