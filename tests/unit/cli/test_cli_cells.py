from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.cli.cells import Seconds, Size, age, clean, count_of, duration, human, plain, size
from labkeep.core.lifecycle import Status

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (43_254_890, "41.3 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**5, "5000.0 PiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_a_size_is_in_the_largest_unit_of_1024_that_fits(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0ms"), (0.1234, "123ms"), (59.0, "59.0s"), (59.97, "1m"), (3725.0, "1h 2m"), (200_000.0, "2d 7h")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(0), "now"),
        (timedelta(seconds=12), "12s ago"),
        (timedelta(minutes=3, seconds=50), "3m ago"),
        (timedelta(hours=5), "5h ago"),
        (timedelta(days=3), "3d ago"),
        (-timedelta(days=2, hours=23), "in 3d"),
        (-timedelta(seconds=90), "in 2m"),
    ],
)
def test_a_time_near_by_is_an_age(distance: timedelta, text: str) -> None:
    assert age(NOW - distance, NOW) == text


def test_a_time_far_away_is_a_date() -> None:
    assert age(NOW - timedelta(days=100), NOW) == "2026-08-13"
    assert age(NOW + timedelta(days=100), NOW) == "2027-03-01"


@pytest.mark.parametrize(
    ("value", "for_people", "for_programs"),
    [
        (None, "", ""),
        (True, "yes", "true"),
        (Status.running, "running", "running"),
        (7, "7", "7"),
        (0.1 + 0.2, "0.3", "0.30000000000000004"),
        (float("nan"), "nan", "nan"),
        (Size(2048), "2.0 KiB", "2048"),
        (Seconds(61.5), "1m 2s", "61.500"),
        (("a", "b"), "a, b", "a, b"),
        ({"lr": 0.1, "layers": [1, 2]}, '{"lr": 0.1, "layers": [1, 2]}', '{"lr": 0.1, "layers": [1, 2]}'),
        (NOW - timedelta(hours=1), "1h ago", "2026-11-21T11:00:00Z"),
        (NOW.astimezone(timezone(timedelta(hours=2))), "now", "2026-11-21T12:00:00Z"),
    ],
)
def test_a_value_is_short_for_people_and_exact_for_programs(value: Any, for_people: str, for_programs: str) -> None:
    assert human(value, NOW) == for_people
    assert plain(value) == for_programs


def test_nothing_that_was_logged_can_steer_a_terminal() -> None:
    assert clean("\x1b[2Jwiped\x07") == "\\x1b[2Jwiped\\x07"
    assert clean("two\nlines\tand a tab\r") == "two\\nlines\\tand a tab\\r"
    assert clean("invoice\u202egnp.exe") == "invoice\\u202egnp.exe"
    assert clean("half a pair \ud83d") == "half a pair \\ud83d"
    assert clean("naïve 数字 🧪 \\n") == "naïve 数字 🧪 \\n"


@given(st.text())
def test_a_plain_value_is_one_field_of_one_line(text: str) -> None:
    shown = plain({"key": text, "list": [text]}) + plain(text)
    assert shown.isprintable() or not set(shown) & set("\t\n\r\x0b\x0c\x1b\x85\u2028")
    assert len(shown.splitlines()) <= 1


def test_counts_are_spelled_largest_first() -> None:
    assert count_of({"artifact_version": 1, "run": 3}) == "3 runs, 1 artifact version"
    assert count_of({}) == "nothing"
