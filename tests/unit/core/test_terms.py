"""What a policy may say, what is refused and why, and how it reads as a sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labkeep.core import policy_files
from labkeep.core.errors import Invalid, TooLarge
from labkeep.core.quantities import parse_duration, parse_size, spell_duration, spell_size, spell_timedelta
from labkeep.core.retention import Ranks, Subject, describe
from labkeep.core.terms import Terms, parse, printed

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(days=14)),
        ("1y", timedelta(days=365)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "30", "d", "1.5d", "-1d", "1 d", "30days", "1mo", "0d", "999999y", "1d\n", "1d1h", "٣d", "1D"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="older_than"):
        parse_duration(text, "older_than")


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("1kB", 1000), ("1KB", 1000), ("10GB", 10**10), ("1.5TiB", 3 * 2**39), ("500 MB", 5 * 10**8)],
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10", "GB", "-1GB", "10gb", "1e3B", "999999999999TB", "1.2345GB", "10GB\n"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="larger_than"):
        parse_size(text, "larger_than")


def test_quantities_are_spelled_for_people() -> None:
    assert [spell_duration(text) for text in ("1d", "30d", "1y")] == ["1 day", "30 days", "1 year"]
    assert [spell_size(size) for size in (0, 999, 1000, 10**10, 5 * 10**15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "10.0 GB",
        "5000.0 TB",
    ]
    spelled = [spell_timedelta(timedelta(seconds=seconds)) for seconds in (-5, 0.4, 59, 61, 7200, 86_400 * 3)]
    assert spelled == ["0 seconds", "0 seconds", "59 seconds", "1 minute", "2 hours", "3 days"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "Keep all runs: there is no condition and no rule."),
        ({"keep_last": 1}, "Trash runs, but keep the newest of each project and what something live needs."),
        (
            {"keep_best": {"count": 5, "metric": "scores.exact", "goal": "min"}, "group_by": ["project", "group"]},
            "Trash runs, but keep the 5 with the smallest scores.exact of each project and group and "
            "what something live needs.",
        ),
        (
            {"kinds": ["run", "document"], "older_than": "1y", "types": ["eval"], "larger_than": "10GB", "states": ["archived"]},
            "Trash archived runs and documents created more than 1 year ago of type eval larger than 10.0 GB.",
        ),
        (
            {"action": "purge", "trashed_for": "2w", "tags": ["a", "b", "c"]},
            "Purge runs that have been in the trash for more than 2 weeks tagged a, b or c.",
        ),
        ({"action": "archive", "q": "config.lr < 0.1"}, "Archive runs that match `config.lr < 0.1`."),
        ({"action": "keep", "tags": ["paper"]}, "Keep runs tagged paper, whatever other policies say."),
        (
            {"action": "keep", "keep_last": 2},
            "Keep, of runs, the 2 newest of each project, whatever other policies say.",
        ),
        ({"minimum_keep": "1y"}, "Keep all runs: there is no condition and no rule. "
         "Other policies keep everything that is not yet 1 year old."),
        ({"kinds": ["row"], "older_than": "90d", "keep_last": 9},
         "Trash rows of runs and documents created more than 90 days ago, but keep the 9 newest of each owner and "
         "what something live needs."),
    ],
)  # fmt: skip
def test_a_policy_reads_as_a_sentence(body: dict[str, Any], sentence: str) -> None:
    assert describe(parse(body, NOW)) == sentence


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"older": "30d"}, "did you mean older_than"),
        ({"zzz": 1}, "a policy has no field 'zzz'"),
        ({"older_than": "30 days"}, "older_than: '30 days' is not a duration"),
        ({"older_than": 30}, "makes no sense"),
        ({"keep_last": 0}, "makes no sense"),
        ({"keep_last": 10_001}, "makes no sense"),
        ({"kinds": []}, "makes no sense"),
        ({"kinds": ["artifact"]}, "write artifact_version"),
        ({"kinds": ["project"]}, "projects are never removed"),
        ({"kinds": ["thing"]}, "'thing' is not one of"),
        ({"kinds": ["run", "run"]}, "named once"),
        ({"kinds": ["run", "row"], "older_than": "1d"}, "a policy of their own"),
        ({"action": "delete"}, "makes no sense"),
        ({"action": "purge"}, "say how long"),
        ({"action": "purge", "trashed_for": "1d", "states": ["trashed"]}, "leave it out"),
        ({"trashed_for": "1d"}, "only purge looks into the trash"),
        ({"action": "archive", "states": ["archived"]}, "cannot be meant by archive"),
        ({"kinds": ["document"], "status": ["failed"]}, "only runs have a status"),
        ({"kinds": ["document"], "age_of": "finished", "older_than": "1d"}, "only runs finish"),
        ({"q": "config.lr <"}, "expected"),
        ({"q": "  "}, "blank"),
        ({"q": "name = \"a\" order by name"}, "no order"),
        ({"q": "state:archived"}, "a field of its own"),
        ({"keep_best": {"count": 5}}, "makes no sense"),
        ({"keep_best": {"count": 5, "metric": "acc"}}, "no metric"),
        ({"keep_best": {"count": 5, "metric": "name"}}, "no metric"),
        ({"keep_best": {"count": 5, "metric": "summary."}}, "no metric"),
        ({"kinds": ["artifact_version"], "keep_best": {"count": 5, "metric": "summary.acc"}}, "have metrics"),
        ({"group_by": ["type"], "older_than": "1d"}, "nothing is ranked"),
        ({"keep_last": 1, "group_by": ["type", "type"]}, "named once"),
        ({"kinds": ["document"], "keep_last": 1, "group_by": ["group"]}, "only runs belong to a group"),
        ({"older_than": "30d", "keep_within": "7d"}, "keeps nothing"),
        ({"rows_of": ["run"]}, "means something with kinds = row"),
        ({"kinds": ["row"]}, "say how old"),
        ({"kinds": ["row"], "older_than": "1d", "action": "archive"}, "rows can be trashed"),
        ({"kinds": ["row"], "older_than": "1d", "keep_best": {"count": 1, "metric": "summary.a"}}, "metrics"),
        ({"kinds": ["row"], "older_than": "1d", "states": ["archived"]}, "only what is active"),
        ({"kinds": ["row"], "older_than": "1d", "status": ["failed"]}, "make rows_of just run"),
        ({"kinds": ["row"], "older_than": "1d", "larger_than": "1kB"}, "not by size"),
        ({"kinds": ["row"], "older_than": "1d", "age_of": "updated"}, "first appeared"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_a_reason(body: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse(body, NOW)


def test_what_is_printed_reads_the_same_and_says_only_what_was_said() -> None:
    body = {
        "action": "trash",
        "kinds": ["run"],
        "older_than": "30d",
        "keep_best": {"count": 5, "metric": "summary.acc"},
    }
    assert printed(parse(body, NOW)) == body | {"keep_best": {"count": 5, "metric": "summary.acc", "goal": "max"}}


def test_ranks_take_a_bounded_amount_of_memory() -> None:
    ranks = Ranks(Terms(keep_last=2, group_by=("name",)), most=10)
    for number in range(1_000):
        ranks.add(_named(f"{number % 5}", number))
    with pytest.raises(TooLarge, match="group by less"):
        ranks.add(_named("another", 1_001))


def _named(name: str, number: int) -> Subject:
    return Subject(id=f"{number:05d}", kind="run", name=name, created_at=NOW, updated_at=NOW)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_holds_one_policy_or_several() -> None:
    (one,) = policy_files.read('name = "a"\nevery = "6h"\nkeep_last = 3\n', "a.toml")
    assert (one.name, one.every_s, one.enabled, one.body) == ("a", 21_600, True, {"keep_last": 3})
    text = '{"policy": [{"name": "a", "project": "p"}, {"name": "a", "scope": "organization", "enabled": false}]}'
    first, second = policy_files.read(text, "a.json")
    assert (first.project, second.scope, second.enabled, second.every_s) == ("p", "organization", False, 86_400)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "a.toml"),
        ("", "no name"),
        ("policy = []", "no policy in it"),
        ('policy = "x"', "no policy in it"),
        ("policy = [1]", "no table"),
        ('keep_last = 1\n[[policy]]\nname = "a"', "keep_last stand beside"),
        ('[[policy]]\nname = "a"\n[[policy]]\nname = "a"', "twice"),
        ('name = "a"\nevery = 5', "every must be text"),
        ('name = "a"\nenabled = "yes"', "true or false"),
        ('name = "a"\nevery = "soon"', "not a duration"),
        ("name = 1", "no name"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        policy_files.read(text, "a.toml")


def test_the_example_in_the_docs_can_be_applied() -> None:
    text = (DOCS / "retention.md").read_text().partition("```toml\n")[2].partition("```")[0]
    assert [each.name for each in policy_files.read(text, "retention.toml")] == ["failed drafts", "six months"]
    for each in policy_files.read(text, "retention.toml"):
        parse(each.body, NOW)


def test_every_field_is_in_the_docs() -> None:
    text = (DOCS / "retention.md").read_text()
    assert [field for field in Terms.__struct_fields__ if f"| `{field}` |" not in text] == []
