"""Ids: version 7 UUIDs that rise within a process and are read strictly."""

from __future__ import annotations

import threading
import uuid

import msgspec
import pytest

from labkeep.core.errors import Invalid
from labkeep.core.ids import Id, IdSource, check_id, is_id

MS = 1_772_366_400_123


def test_an_id_is_a_uuid_of_version_7_with_its_time_in_front() -> None:
    made = uuid.UUID(IdSource().new(MS))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == MS


def test_ids_rise_however_the_clock_goes() -> None:
    source = IdSource()
    moments = [MS, MS, MS - 5_000, MS + 1, MS, 0, MS + 2]
    made = [source.new(ms) for ms in moments for _ in range(10)]
    assert made == sorted(set(made))


def test_a_millisecond_that_is_full_flows_into_the_next() -> None:
    source = IdSource()
    made = [source.new(MS) for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {uuid.UUID(id).version for id in made} == {7}
    assert uuid.UUID(made[-1]).int >> 80 == MS + 2
    assert source.new(MS + 1_000) > made[-1]


def test_ids_of_many_threads_are_all_different() -> None:
    source = IdSource()
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend([source.new(MS) for _ in range(500)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4_000


def test_two_sources_at_one_moment_do_not_meet() -> None:
    assert len({IdSource().new(MS) for _ in range(1_000)}) == 1_000


GOOD = "0195f3a1-7b2c-7def-8123-456789abcdef"
BAD = [
    *("", "x", GOOD.upper(), GOOD[:-1], GOOD + "0", GOOD.replace("-", ""), f" {GOOD}", f"{GOOD}\n", "{" + GOOD + "}"),
    *(
        "urn:uuid:" + GOOD,
        GOOD.replace("a", "g"),
        GOOD.replace("-", "_"),
        "-" * 36,
        "0" * 36,
        GOOD.replace("1", "\u0661"),
    ),
]


@pytest.mark.parametrize("text", BAD)
def test_what_only_looks_like_an_id_is_none(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Id)


def test_an_id_in_upper_case_is_lowered_where_people_type_it() -> None:
    assert is_id(GOOD)
    assert msgspec.convert(GOOD, Id) == GOOD
    assert check_id(GOOD.upper()) == GOOD
    with pytest.raises(Invalid, match="run 'x' is not a UUID"):
        check_id("x", "run")
