"""Rules of the lifecycle from settings, and what holds where several levels ask for something."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.core.errors import Invalid
from labkeep.core.rules import Rules, check, combine, read

LEVELS = st.builds(
    Rules,
    grace_days=st.none() | st.integers(0, 3650),
    minimum_keep_days=st.integers(0, 36_500),
    require_reason=st.booleans(),
    require_ticket=st.booleans(),
    two_person_purge=st.booleans(),
    encrypt=st.booleans(),
    subject_fields=st.lists(st.sampled_from(["metadata.user_id", "input.email"]), unique=True).map(tuple),
)


@given(st.lists(LEVELS, max_size=3), LEVELS)
def test_what_is_inside_can_only_be_stricter(outer: list[Rules], inner: Rules) -> None:
    around, inside = combine(outer), combine([*outer, inner])
    assert inside.minimum_keep_days >= around.minimum_keep_days
    for name in ("require_reason", "require_ticket", "two_person_purge", "encrypt"):
        assert getattr(inside, name) >= getattr(around, name)
    assert set(inside.subject_fields) >= set(around.subject_fields)


@given(st.lists(LEVELS, max_size=3))
def test_of_the_days_in_the_trash_the_innermost_that_are_said_count(levels: list[Rules]) -> None:
    said = [level.grace_days for level in levels if level.grace_days is not None]
    assert combine(levels).grace_days == (said[-1] if said else None)


WRONG = [("grace_days", -1), ("grace_days", "7"), ("require_reason", 1), ("subject_fields", "a"), ("encrypt", "yes")]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_makes_no_sense_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(Invalid, match=name):
        check({name: value})


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_was_stored_and_makes_no_sense_says_nothing(name: str, value: Any) -> None:
    assert read({name: value, "minimum_keep_days": 5, "colour": "red"}) == Rules(minimum_keep_days=5)
