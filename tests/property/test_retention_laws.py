"""The laws of retention, for any policy and any inventory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from labkeep.core.filters import evaluate
from labkeep.core.retention import (
    Decision,
    Judge,
    Subject,
    describe,
    group_of,
    plan,
    plan_together,
    protection,
    selecting,
)
from labkeep.core.terms import Action, Best, Terms, parse, printed

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TAGS = ("keep", "paper", "draft")
AGES = ("1h", "3d", "2w", "1y")


def _moments(most_days: int) -> st.SearchStrategy[datetime]:
    return st.integers(0, most_days * 24).map(lambda hours: NOW - timedelta(hours=hours))


@st.composite
def subjects(draw: st.DrawFn, number: int) -> Subject:
    kind = draw(st.sampled_from(("run", "document", "artifact_version")))
    created = draw(_moments(500))
    return Subject(
        id=f"{number:08d}",
        kind=kind,
        type=draw(st.sampled_from(("", "eval", "dataset"))),
        name=draw(st.sampled_from(("a", "b"))),
        state=draw(st.sampled_from(("active", "active", "archived", "trashed"))),
        status=draw(st.sampled_from(("finished", "failed", "running"))) if kind == "run" else "",
        group=draw(st.sampled_from(("", "g"))),
        project_id=draw(st.sampled_from(("p", "q"))),
        tags=tuple(draw(st.sets(st.sampled_from(TAGS)))),
        bytes=draw(st.sampled_from((0, 10, 10**6, 10**10))),
        created_at=created,
        updated_at=created + timedelta(hours=draw(st.integers(0, 48))),
        finished_at=draw(st.none() | _moments(400)),
        metric=draw(st.none() | st.sampled_from((0.1, 0.5, 0.9, float("nan"), float("inf")))),
        trashed_at=draw(_moments(100)),
        restorable_until=draw(_moments(60)),
        locked=draw(st.integers(0, 9)) == 0,
        running=draw(st.integers(0, 9)) == 0,
        held=("a case",) if draw(st.integers(0, 9)) == 0 else (),
        bound=("environment production",) if draw(st.integers(0, 9)) == 0 else (),
        matches=draw(st.booleans()),
    )


@st.composite
def inventories(draw: st.DrawFn) -> list[Subject]:
    return [draw(subjects(number)) for number in range(draw(st.integers(0, 25)))]


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


RULES: dict[str, st.SearchStrategy[Any]] = {
    "keep_last": st.integers(1, 4),
    "keep_within": st.sampled_from(AGES),
    "keep_tagged": st.sets(st.sampled_from(TAGS), min_size=1).map(tuple),
    "minimum_keep": st.sampled_from(AGES),
    "keep_best": st.builds(
        Best, count=st.integers(1, 3), metric=st.just("summary.acc"), goal=st.sampled_from(("max", "min"))
    ),
}

CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "older_than": st.sampled_from(AGES),
    "types": st.just(("eval",)),
    "tags": st.sets(st.sampled_from(TAGS), min_size=1).map(tuple),
    "larger_than": st.sampled_from(("5B", "1MB")),
    "q": st.just("config.lr < 0.1"),
}


@st.composite
def policies(draw: st.DrawFn, action: Action | None = None) -> Terms:
    fields: dict[str, Any] = {"action": action or draw(st.sampled_from(tuple(Action)))}
    for name, values in (RULES | CONDITIONS).items():
        if draw(st.booleans()):
            fields[name] = draw(values)
    fields["kinds"] = draw(st.sampled_from((("run",), ("run", "document"), ("run", "document", "artifact_version"))))
    fields["age_of"] = draw(st.sampled_from(("created", "updated", "finished")))
    fields["keep_bound"] = draw(st.booleans())
    fields["group_by"] = draw(st.sampled_from(((), ("project",), ("project", "group"), ("type", "name"))))
    if fields["action"] == Action.purge:
        fields["trashed_for"] = draw(st.sampled_from(AGES))
    return Terms(**fields)


def decided(terms: Terms, inventory: Sequence[Subject]) -> dict[str, Decision]:
    return {decision.id: decision for decision in plan(terms, inventory, NOW)}


def removed(terms: Terms, inventory: Sequence[Subject]) -> set[str]:
    return {id for id, decision in decided(terms, inventory).items() if decision.action != Action.keep}


@given(policies(), inventories())
def test_every_object_is_decided_once_with_a_reason(terms: Terms, inventory: list[Subject]) -> None:
    decisions = list(plan(terms, inventory, NOW))
    assert [decision.id for decision in decisions] == [subject.id for subject in inventory]
    for decision in decisions:
        assert decision.action in (Action.keep, terms.action)
        assert decision.reasons
        assert all(reason.rule and reason.text for reason in decision.reasons)


@given(policies(), inventories(), st.sampled_from(sorted(RULES)), st.data())
def test_another_keep_rule_never_removes_more(
    terms: Terms, inventory: list[Subject], rule: str, data: st.DataObject
) -> None:
    without = msgspec.structs.replace(terms, **{rule: () if rule == "keep_tagged" else None})
    assume(not without.is_empty)  # which keeps everything: a rule then says what the policy is about
    assert removed(msgspec.structs.replace(without, **{rule: data.draw(RULES[rule])}), inventory) <= removed(
        without, inventory
    )


@given(policies(), inventories(), st.sampled_from(sorted(CONDITIONS)), st.data())
def test_another_condition_never_removes_more(
    terms: Terms, inventory: list[Subject], name: str, data: st.DataObject
) -> None:
    without = msgspec.structs.replace(terms, **{name: {"types": (), "tags": (), "q": ""}.get(name)})
    assume(not without.is_empty)
    assert removed(msgspec.structs.replace(without, **{name: data.draw(CONDITIONS[name])}), inventory) <= removed(
        without, inventory
    )


@given(policies(), policies(), inventories())
def test_another_policy_never_makes_a_policy_remove_more(terms: Terms, other: Terms, inventory: list[Subject]) -> None:
    together = {
        decision.id
        for decision in plan_together(terms, [("other", other)], inventory, NOW)
        if decision.action != Action.keep
    }
    assert together <= removed(terms, inventory)
    shielded = {id for id, decision in decided(other, inventory).items() if decision.shields}
    assert together == removed(terms, inventory) - shielded


@given(policies(), inventories())
def test_a_second_time_changes_nothing(terms: Terms, inventory: list[Subject]) -> None:
    after = {Action.archive: "archived", Action.trash: "trashed", Action.purge: "purged", Action.keep: "?"}
    gone = removed(terms, inventory)
    left = [
        msgspec.structs.replace(subject, state=after[terms.action]) if subject.id in gone else subject
        for subject in inventory
    ]
    assert removed(terms, left) == set()


@given(policies(), inventories())
def test_what_is_protected_never_goes(terms: Terms, inventory: list[Subject]) -> None:
    gone = removed(terms, inventory)
    for subject in inventory:
        if protection(subject, bound=terms.keep_bound):
            assert subject.id not in gone
        if subject.held or subject.locked or subject.running:
            assert subject.id not in gone


@given(policies(), inventories(), st.randoms(use_true_random=False))
def test_the_order_of_the_inventory_does_not_matter(terms: Terms, inventory: list[Subject], random: Any) -> None:
    mixed = list(inventory)
    random.shuffle(mixed)
    assert decided(terms, mixed) == decided(terms, inventory)


@given(policies(), inventories())
def test_streaming_gives_what_sorting_everything_gives(terms: Terms, inventory: list[Subject]) -> None:
    assert removed(terms, Streamed(inventory)) == removed_by_sorting(terms, inventory)  # type: ignore[arg-type]


class Streamed:
    """Can only be walked from its beginning."""

    def __init__(self, subjects: list[Subject]) -> None:
        self._subjects = subjects

    def __iter__(self) -> Iterator[Subject]:
        yield from self._subjects


def removed_by_sorting(terms: Terms, inventory: list[Subject]) -> set[str]:
    """The same from the definitions, with everything in memory."""
    if terms.action == Action.keep or terms.is_empty:
        return set()
    selected = [subject for subject in inventory if _is_selected(terms, subject)]
    kept: set[str] = set()
    for group in {group_of(terms, subject) for subject in selected}:
        members = [subject for subject in selected if group_of(terms, subject) == group]
        newest = sorted(members, key=lambda one: (one.created_at, one.id), reverse=True)
        kept |= {one.id for one in newest[: terms.keep_last or 0]}
        if terms.keep_best is not None:
            sign = 1 if terms.keep_best.goal == "max" else -1
            valued = [one for one in newest if one.metric is not None and one.metric == one.metric]
            valued.sort(key=lambda one: sign * (one.metric or 0), reverse=True)
            kept |= {one.id for one in valued[: terms.keep_best.count]}
    for one in selected:
        age = NOW - one.created_at
        within, least = terms.duration("keep_within"), terms.duration("minimum_keep")
        if within is not None and age <= within:
            kept.add(one.id)
        if least is not None and age < least:
            kept.add(one.id)
        if set(one.tags) & set(terms.keep_tagged) or one.held or one.locked or one.running:
            kept.add(one.id)
        if one.bound and terms.keep_bound:
            kept.add(one.id)
    return {one.id for one in selected} - kept


def _is_selected(terms: Terms, subject: Subject) -> bool:
    """By the filter that storage compiles, and what it does not hold."""
    if subject.kind not in terms.kinds or subject.state not in terms.looks_at:
        return False
    inside = terms.duration("trashed_for")
    if inside is not None:
        assert subject.trashed_at is not None
        assert subject.restorable_until is not None
        if not (NOW - subject.trashed_at > inside and subject.restorable_until <= NOW):
            return False
    if terms.q and not subject.matches:
        return False
    values = {"tag": subject.tags} | {
        name: getattr(subject, name) for name in ("created_at", "updated_at", "finished_at", "type", "status", "bytes")
    }
    return evaluate(selecting(msgspec.structs.replace(terms, q=""), NOW), values.get)


@given(policies(), inventories())
def test_deciding_in_few_words_decides_the_same(terms: Terms, inventory: list[Subject]) -> None:
    judge = Judge(terms, NOW)
    selected = [subject for subject in inventory if judge.selects(subject)]
    for subject in selected:
        judge.ranks.add(subject)
    for subject in selected:
        full, short = judge.decide(subject), judge.decide_selected(subject)
        assert (short.action, short.shields) == (full.action, full.shields)
        assert short.reasons
        assert full.action != Action.keep or short == full


@given(policies())
def test_a_policy_says_itself_in_a_sentence_and_reads_itself_back(terms: Terms) -> None:
    sentence = describe(terms)
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "  " not in sentence
    read = msgspec.convert(printed(terms), Terms)
    assert read == terms


@given(inventories())
def test_a_policy_that_says_nothing_keeps_everything(inventory: list[Subject]) -> None:
    terms = parse({}, NOW)
    assert terms.is_empty
    assert removed(terms, inventory) == set()
