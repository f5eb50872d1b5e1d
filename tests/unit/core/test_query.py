"""The query language as text: what each form becomes, and where errors point."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from labkeep.core.errors import Invalid
from labkeep.core.filters import (
    MAX_DEPTH,
    MAX_IN,
    MAX_NODES,
    MAX_ORDER,
    And,
    Compare,
    Contains,
    Exists,
    Filter,
    In,
    Matches,
    Not,
    Or,
    Order,
    Query,
)
from labkeep.core.query import MAX_TEXT, parse, print_query
from labkeep.core.times import parse_time

NOW = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)


def filter_of(text: str) -> Filter | None:
    return parse(text, NOW).filter


def refusal(text: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse(text, NOW)
    return caught.value


def pointed_at(text: str) -> str:
    """What the error of ``text`` has its carets under, by its details."""
    details = refusal(text).details
    return text[details["column"] - 1 : details["column"] - 1 + details["length"]]


# Whole queries


def test_a_query_has_a_filter_and_an_order() -> None:
    query = parse(
        'config.lr < 0.1 and summary.acc >= 0.9 and tag = "prod" order by summary.acc desc, created_at asc', NOW
    )
    assert query == Query(
        And((Compare("config.lr", "<", 0.1), Compare("summary.acc", ">=", 0.9), Compare("tag", "=", "prod"))),
        (Order("summary.acc", descending=True), Order("created_at")),
    )


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_text_asks_for_everything(text: str) -> None:
    assert parse(text, NOW) == Query()


def test_an_order_can_stand_alone_and_rises_when_nothing_is_said() -> None:
    assert parse("order by name", NOW) == Query(None, (Order("name"),))
    assert parse("ORDER BY name DESC, config.order", NOW).order == (
        Order("name", descending=True),
        Order("config.order"),
    )


# Comparisons


@pytest.mark.parametrize(
    ("sign", "op"),
    [
        ("=", "="),
        ("==", "="),
        (":", "="),
        ("!=", "!="),
        ("<>", "!="),
        ("<", "<"),
        ("<=", "<="),
        (">", ">"),
        (">=", ">="),
    ],
)
def test_every_sign_stands_for_its_comparison_with_and_without_spaces(sign: str, op: str) -> None:
    for text in (f"config.a {sign} 1", f"config.a{sign}1", f"config.a\n{sign}\n1"):
        assert filter_of(text) == Compare("config.a", op, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("+1", 1),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e5", 1e5),
        ("1E-5", 1e-5),
        ("-2.5e+3", -2500.0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", 2.0**63),
        ("1" * 50, float("1" * 50)),
        ("NaN", math.nan),
        ("nan", math.nan),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        ("true", True),
        ("FALSE", False),
        ('"a b"', "a b"),
        ("'a b'", "a b"),
        ("''", ""),
        (r'"\"\\\n\t\r\'é"', "\"\\\n\t\r'é"),
        ("'it\\'s'", "it's"),
        ('"and"', "and"),
        ('"2026-11-01"', "2026-11-01"),
    ],
)
def test_values_are_read_as_they_are_written(text: str, value: object) -> None:
    found = filter_of(f"config.a = {text}")
    assert isinstance(found, Compare)
    assert repr(found.value) == repr(value)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ('"2026-11-01"', datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T09:30:00Z", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ('"2026-11-01T09:30"', datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ('"2026-11-01 09:30:15.25"', datetime(2026, 11, 1, 9, 30, 15, 250_000, tzinfo=UTC)),
        ('"2026-11-01T09:30:00.123456789z"', datetime(2026, 11, 1, 9, 30, 0, 123456, tzinfo=UTC)),
        ('"2026-11-01T09:30:00+02:00"', datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        ("2026-11-01T09:30:00-0130", datetime(2026, 11, 1, 11, 0, tzinfo=UTC)),
        ("-30d", NOW - timedelta(days=30)),
        ("-12h", NOW - timedelta(hours=12)),
        ("-15m", NOW - timedelta(minutes=15)),
        ("-2w", NOW - timedelta(weeks=2)),
        ("-90s", NOW - timedelta(seconds=90)),
        ('"-30d"', NOW - timedelta(days=30)),
    ],
)
def test_times_are_iso_8601_in_utc_or_ages_before_now(text: str, moment: datetime) -> None:
    found = filter_of(f"created_at >= {text}")
    assert found == Compare("created_at", ">=", moment)
    assert isinstance(found, Compare)
    assert isinstance(found.value, datetime)
    assert found.value.tzinfo is UTC


def test_an_age_counts_from_now_in_whichever_zone_now_is_given() -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    assert parse("created_at < -1d", tokyo) == parse("created_at < -1d", NOW)


@pytest.mark.parametrize(
    "text",
    [
        "2026-13-01",
        "2026-02-30",
        "20261101",
        "2026",
        "2026-W01-1",
        "0001-01-01T00:00+23:59",
        "-999999999w",
        "-1y",
        "now",
        "-d",
        "2026-11-01T25:00",
    ],
)
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text, NOW)


# Words without quotes


@pytest.mark.parametrize(
    ("text", "leaf"),
    [
        ("status = finished", Compare("status", "=", "finished")),
        ("state != trashed", Compare("state", "!=", "trashed")),
        ("tag in (prod, v2)", In("tag", ("prod", "v2"))),
        ("job_type = train-eval", Compare("job_type", "=", "train-eval")),
        ("group ~ sweep", Contains("group", "sweep")),
        ("status ~ fin", Contains("status", "fin")),
        ("tag = größe", Compare("tag", "=", "größe")),
    ],
)
def test_labels_need_no_quotes(text: str, leaf: Filter) -> None:
    assert filter_of(text) == leaf


def test_a_bare_word_is_checked_against_the_known_words_and_quotes_skip_the_check() -> None:
    assert "did you mean finished?" in refusal("status = finshed").message
    assert "active, archived, trashed, purged" in refusal("state = zzz").message
    assert filter_of('status = "odd"') == Compare("status", "=", "odd")


def test_a_bare_word_for_a_logged_value_asks_for_quotes() -> None:
    assert 'text is written "adam"' in refusal("config.optimizer = adam").message


@pytest.mark.parametrize(
    "text", ["state:trashed", "state = trashed", "is:trashed", "state : trashed", "IS:trashed", 'state = "trashed"']
)
def test_a_state_may_be_spelled_with_a_colon(text: str) -> None:
    assert filter_of(text) == Compare("state", "=", "trashed")


def test_any_stands_for_all_states() -> None:
    for text in ("state = any", "state:any", "is:any", "state in (active, any)"):
        assert filter_of(text) == Exists("state")
    assert filter_of("state != any") == Not(Exists("state"))


# Other conditions


def test_text_is_searched_by_substring_and_by_pattern() -> None:
    assert filter_of('name ~ "base"') == Contains("name", "base")
    assert filter_of('name !~ "base"') == Not(Contains("name", "base"))
    assert filter_of(r'name =~ "^v\\d+$"') == Matches("name", r"^v\d+$")


def test_membership_lists_values() -> None:
    assert filter_of('config.a in (1, "x", true)') == In("config.a", (1, "x", True))
    assert filter_of("config.a not in (1)") == Not(In("config.a", (1,)))
    assert filter_of("config.a IN ()") == In("config.a", ())
    assert filter_of("config.a in (1, null)") == Or((Not(Exists("config.a")), In("config.a", (1,))))


@pytest.mark.parametrize(
    "text",
    ["config.lr is null", "config.lr = null", "not exists config.lr", "config.lr in (null)", "config.lr IS NULL"],
)
def test_null_means_absent(text: str) -> None:
    assert filter_of(text) == Not(Exists("config.lr"))


@pytest.mark.parametrize(
    "text",
    ["config.lr is not null", "config.lr != null", "exists config.lr", "not config.lr is null and exists config.lr"],
)
def test_not_null_means_present(text: str) -> None:
    found = filter_of(text)
    assert found in (Exists("config.lr"), And((Not(Not(Exists("config.lr"))), Exists("config.lr"))))


def test_empty_text_in_an_attribute_is_its_absence() -> None:
    assert filter_of('group = ""') == Not(Exists("group"))
    assert filter_of("tag != ''") == Exists("tag")
    assert filter_of('config.a = ""') == Compare("config.a", "=", "")


# Fields


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ("config.lr", "config.lr"),
        ("config.model.depth", "config.model.depth"),
        ("config.layers.0.size", "config.layers.0.size"),
        ("summary.val/loss", "summary.val/loss"),
        ("summary.top-5", "summary.top-5"),
        ("config.`learning rate`", "config.learning rate"),
        ("config.`a.b`", "config.a.b"),
        ("config.opt.`weird key!`.x", "config.opt.weird key!.x"),
        ("config.`tick``tock`", "config.tick`tock"),
        ("config.and", "config.and"),
        ("metadata.größe", "metadata.größe"),
    ],
)
def test_a_path_is_written_with_dots_and_backticks(written: str, field: str) -> None:
    assert filter_of(f"exists {written}") == Exists(field)


def test_field_names_mind_the_case_and_keywords_do_not() -> None:
    assert filter_of('NOT (name = "a" AND name = "b") Or EXISTS tag') == Or(
        (Not(And((Compare("name", "=", "a"), Compare("name", "=", "b")))), Exists("tag"))
    )
    assert "did you mean status?" in refusal("Status = finished").message


# Joining


def test_and_binds_tighter_than_or_and_not_tighter_than_both() -> None:
    a, b, c = (Exists(f"config.{name}") for name in "abc")
    assert filter_of("exists config.a or exists config.b and exists config.c") == Or((a, And((b, c))))
    assert filter_of("(exists config.a or exists config.b) and exists config.c") == And((Or((a, b)), c))
    assert filter_of("not exists config.a and exists config.b") == And((Not(a), b))
    assert filter_of("not not exists config.a") == Not(Not(a))


def test_a_chain_is_one_join_and_parentheses_keep_their_own() -> None:
    a, b, c = (Exists(f"config.{name}") for name in "abc")
    assert filter_of("exists config.a and exists config.b and exists config.c") == And((a, b, c))
    assert filter_of("(exists config.a and exists config.b) and exists config.c") == And((And((a, b)), c))
    assert filter_of("((exists config.a))") == a


# Errors


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("config.lr <", ""),
        ("config.lr", ""),
        ("config.lr < and", "and"),
        ("config.lr < )", ")"),
        ("(config.lr < 1", ""),
        ("config.lr < 1)", ")"),
        ("config.lr 1", "1"),
        ("config.lr < 1 config.a = 2", "config.a"),
        ("config.lr not 1", "1"),
        ("config.lr is 1", "1"),
        ("config.lr is not", ""),
        ("config.lr in 1", "1"),
        ("config.lr in (1 2)", "2"),
        ("config.lr in (1,", ""),
        ("config.lr in (1,)", ")"),
        ("0.1 < config.lr", "0.1"),
        ("and", "and"),
        ("not", ""),
        ("exists", ""),
        ("exists 1", "1"),
        ("exists nope", "nope"),
        ("order by", ""),
        ("order name", "name"),
        ("order by name down", "down"),
        ("order by tag", "tag"),
        ("order by name, nope", "nope"),
        ("staus = finished", "staus"),
        ("config = 1", "config"),
        ('created_at > "abc"', '"abc"'),
        ("created_at > 3", "3"),
        ("created_at > 2026-13-01", "2026-13-01"),
        ("created_at > -999999999w", "-999999999w"),
        ("status < 3", "3"),
        ("bytes > '3'", "'3'"),
        ("bytes in (1, 2, 'x')", "'x'"),
        ("state = 'gone'", "'gone'"),
        ("state < active", "<"),
        ("tag > 'a'", ">"),
        ("bytes ~ '1'", "~"),
        ("name ~ 1", "1"),
        ("name =~ '(a+)+'", "'(a+)+'"),
        ("name =~ '('", "'('"),
        ("config.x < null", "<"),
        ("config.x < NaN", "NaN"),
        ("config.x > true", "true"),
        ("config.x = 1e999", "1e999"),
        ("config.x = -30d", "-30d"),
        ("config.x = 2026-11-01", "2026-11-01"),
        ("config.x = 5abc", "5a"),
        ("config.x = 1.2.3", "1.2."),
        ("config.x = -30days", "-30d"),
        ("config.x = 'a", "'a"),
        (r"config.x = 'a\q'", r"\q"),
        (r"config.x = '\ud800'", r"'\ud800'"),
        (r"config.x = '\u0000'", r"'\u0000'"),
        ("config.`x = 1", "`x = 1"),
        ("config. = 1", "."),
        ("config.x && 1", "&"),
        ("config.x | 1", "|"),
        ("!config.x", "!"),
        ("config.x = - 1", "-"),
        ("config.x = $1", "$"),
        ("config.x = \x00", "\x00"),
        ("is trashed", "is"),
        ("state is trashed", "trashed"),
    ],
)
def test_an_error_points_at_what_is_wrong(text: str, marked: str) -> None:
    assert pointed_at(text).strip() == marked
    assert refusal(text).details["expected"]


def test_an_error_shows_the_text_with_a_caret_line() -> None:
    assert refusal("config.lr < 1 and status < 3").message.splitlines()[1:] == [
        "  config.lr < 1 and status < 3",
        "                             ^",
    ]


def test_an_error_in_a_long_text_shows_the_part_around_it() -> None:
    text = "config.lr < 1 and " * 20 + "staus = finished and " + " and ".join(["tag = a"] * 30)
    error = refusal(text)
    shown, carets = error.message.splitlines()[1:]
    assert len(shown) < 120
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "staus"
    assert error.details["column"] == text.index("staus") + 1


def test_an_error_in_a_text_of_many_lines_stays_on_one_line() -> None:
    shown, carets = refusal("config.lr < 1\n\tand staus = 'x'\n").message.splitlines()[1:]
    assert shown[carets.index("^") : carets.rindex("^") + 1] == "staus"


def test_a_time_in_an_open_namespace_is_told_to_be_quoted() -> None:
    assert refusal("config.day = 2026-11-01").details["expected"] == ['"2026-11-01"']


# Limits


def test_a_text_over_the_limit_is_refused_before_it_is_read() -> None:
    assert parse("tag = a" + " " * (MAX_TEXT - 7), NOW).filter == Compare("tag", "=", "a")
    assert str(MAX_TEXT) in refusal("(" * (MAX_TEXT + 1)).message


def test_the_number_of_conditions_is_limited() -> None:
    one = "tag=a"
    assert filter_of(" or ".join([one] * (MAX_NODES - 1))) is not None
    assert "column" in refusal(" or ".join([one] * (MAX_NODES + 1))).details
    refusal(" or ".join([one] * MAX_NODES))


@pytest.mark.parametrize(("before", "after"), [("(", ")"), ("not ", ""), ("not (", ")")])
def test_nesting_is_limited_and_never_exhausts_the_stack(before: str, after: str) -> None:
    levels = (MAX_DEPTH - 1) // len(before.split())
    if before == "not (":
        levels = (MAX_DEPTH - 1) // 2
    assert filter_of(before * levels + "tag=a" + after * levels) is not None
    count = (MAX_TEXT - 5) // len(before + after)
    assert "deeper" in refusal(before * count + "tag=a" + after * count).message


def test_the_values_of_one_membership_are_limited() -> None:
    values = ",".join("1" for _ in range(MAX_IN))
    assert filter_of(f"config.a in ({values})") is not None
    assert pointed_at(f"config.a in ({values},1)") == "in"


def test_the_fields_of_one_order_are_limited() -> None:
    assert len(parse("order by " + ",".join(["name"] * MAX_ORDER), NOW).order) == MAX_ORDER
    refusal("order by " + ",".join(["name"] * (MAX_ORDER + 1)))


# Printing


@pytest.mark.parametrize(
    "text",
    [
        "",
        'config.lr < 0.1 and tag = "prod" order by summary.acc desc, created_at asc',
        "config.a is null or exists config.`b c`",
        'tag not in ("a", "b") and name !~ "x" and not name =~ "^y"',
        '(config.a = 1 or config.b = true) and not (config.c = -1.5 or config.d = "\\u0007\\"")',
        'created_at >= "2026-11-01T09:30:00Z" and summary.x != NaN and summary.y = -Infinity',
        "order by name asc",
        "id in ()",
        "exists state",
    ],
)
def test_a_query_prints_as_the_text_that_reads_best(text: str) -> None:
    assert print_query(parse(text, NOW)) == text
