"""What is kept in memory for a while: bounded, short-lived, and dropped on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable

from labkeep.storage.recent import Recent


def counted() -> tuple[Callable[[], bytes], list[int]]:
    made: list[int] = []

    def make() -> bytes:
        made.append(len(made))
        return b"x" * 10

    return make, made


def test_a_value_is_made_once() -> None:
    recent, (make, made) = Recent(), counted()
    assert recent.get("o", "k", make, len) is recent.get("o", "k", make, len)
    assert made == [0]


def test_organizations_never_see_each_others_values() -> None:
    recent, (make, made) = Recent(), counted()
    recent.get("a", "k", make, len)
    recent.get("b", "k", make, len)
    assert (made, recent.keys("a"), recent.keys("b")) == ([0, 1], ["k"], ["k"])


def test_the_longest_unused_goes_when_there_are_too_many_bytes() -> None:
    recent, (make, _) = Recent(most_bytes=30), counted()
    for key in ("a", "b", "c", "a", "d"):
        recent.get("o", key, make, len)
    assert recent.keys("o") == ["c", "a", "d"]


def test_what_is_larger_than_half_of_the_room_is_not_kept() -> None:
    recent, (make, made) = Recent(most_bytes=15), counted()
    recent.get("o", "k", make, len)
    recent.get("o", "k", make, len)
    assert (made, recent.keys("o")) == ([0, 1], [])


def test_what_was_purged_from_is_forgotten() -> None:
    recent, (make, _) = Recent(), counted()
    recent.get("o", "k", make, len)
    recent.get("other", "k", make, len)
    recent.forget("o")
    assert (recent.keys("o"), recent.keys("other")) == ([], ["k"])


def test_a_value_is_gone_after_its_time() -> None:
    others, recent, (make, _) = {*threading.enumerate()}, Recent(kept_s=0.01), counted()
    recent.get("o", "first", make, len)
    recent.get("o", "second", make, len)
    while timers := {one for one in threading.enumerate() if isinstance(one, threading.Timer)} - others:
        assert len(timers) == 1, "one for all"
        timers.pop().join(10)
    assert recent.keys("o") == []
