"""A retention policy as an English sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from labkeep.core.lifecycle import Kind
from labkeep.core.quantities import spell_duration, spell_size
from labkeep.core.terms import ROW, STATES, Action, Terms

_PLURALS = {
    str(Kind.run): "runs",
    str(Kind.document): "documents",
    str(Kind.artifact_version): "artifact versions",
    ROW: "rows",
}


def describe(terms: Terms) -> str:
    """The terms as one English sentence, or two."""
    what = Phrases(terms)
    if terms.action == Action.keep:
        kept = f", of {what.subjects}, {what.rules}" if terms.rules else f" {what.subjects}"
        return f"Keep{kept}, whatever other policies say."
    if terms.is_empty:
        floor = f" Other policies keep {what.rules}." if terms.rules else ""
        return f"Keep all {what.kinds}: there is no condition and no rule.{floor}"
    sentence = f"{str(terms.action).capitalize()} {what.subjects}"
    rules = what.rules
    return f"{sentence}, but keep {rules}." if rules else f"{sentence}."


class Phrases:
    """The parts of the sentence."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    @cached_property
    def kinds(self) -> str:
        """``runs and documents``."""
        if self.terms.about_rows:
            return f"rows of {all_of([_PLURALS[of] for of in self.terms.rows_of or ('run', 'document')])}"
        return all_of([_PLURALS[kind] for kind in self.terms.kinds])

    @cached_property
    def subjects(self) -> str:
        """What the conditions select."""
        terms = self.terms
        states = terms.states or (STATES[terms.action] if terms.action != Action.keep else ())
        first = f"{any_of([*states])} " if terms.states and terms.action != Action.purge else ""
        return f"{first}{self.kinds}" + "".join(f" {part}" for part in (*self._ages(), *self._words()))

    @cached_property
    def subjects_without_age(self) -> str:
        """What the conditions select, whatever its age."""
        return self.kinds + "".join(f" {part}" for part in self._words())

    def _ages(self) -> Iterator[str]:
        terms = self.terms
        if terms.trashed_for:
            yield f"that have been in the trash for more than {spell_duration(terms.trashed_for)}"
        if terms.older_than:
            yield f"{terms.age_of} more than {spell_duration(terms.older_than)} ago"

    def _words(self) -> Iterator[str]:
        terms = self.terms
        if terms.types:
            yield f"of type {any_of(terms.types)}"
        if terms.status:
            yield f"that are {any_of(terms.status)}"
        if terms.tags:
            yield f"tagged {any_of(terms.tags)}"
        if terms.larger_than is not None:
            yield f"larger than {spell_size(terms.larger_than_bytes or 0)}"
        if terms.q:
            yield f"that match `{terms.q.strip()}`"

    @cached_property
    def rules(self) -> str:
        """What is kept of them."""
        return all_of([*self._rules()])

    def _rules(self) -> Iterator[str]:
        terms = self.terms
        if terms.keep_last is not None:
            yield f"the {'newest' if terms.keep_last == 1 else f'{terms.keep_last} newest'} {in_group(terms)}"
        if terms.keep_best is not None:
            best = terms.keep_best
            order = "largest" if best.goal == "max" else "smallest"
            number = "one" if best.count == 1 else str(best.count)
            yield f"the {number} with the {order} {best.metric} {in_group(terms)}"
        if terms.keep_within:
            yield f"what was created within the last {spell_duration(terms.keep_within)}"
        if terms.keep_tagged:
            yield f"what is tagged {any_of(terms.keep_tagged)}"
        if terms.minimum_keep:
            yield f"everything that is not yet {spell_duration(terms.minimum_keep)} old"
        if terms.keep_bound and terms.action != Action.keep and not terms.is_empty and terms.rules:
            yield "what something live needs"


def in_group(terms: Terms) -> str:
    """In what its rules rank: ``of each project``."""
    if terms.about_rows:
        return "of each owner"
    return f"of each {' and '.join(terms.group_by)}" if terms.group_by else "of all"


def in_its_group(terms: Terms) -> str:
    """The same of one object: ``in its project``."""
    if terms.about_rows:
        return "of its owner"
    return f"in its {' and '.join(terms.group_by)}" if terms.group_by else "of all"


def any_of(words: Iterable[object]) -> str:
    """``a, b or c``."""
    return _joined(words, "or")


def all_of(words: Iterable[object]) -> str:
    """``a, b and c``."""
    return _joined(words, "and")


def _joined(words: Iterable[object], last: str) -> str:
    texts = [str(word) for word in words]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {last} {texts[-1]}" if texts else ""
