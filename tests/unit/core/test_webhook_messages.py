"""Webhooks as values: patterns, signatures, and when to try again."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkeep.core.errors import Invalid, Unauthenticated
from labkeep.core.webhooks import (
    DELAYS_S,
    TOLERANCE_S,
    check_patterns,
    next_try,
    read_secret,
    show_secret,
    sign,
    verify,
    wants,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECRET = show_secret(b"s" * 32)
BODY = b'{"type":"run.trashed"}'


def headers(body: bytes = BODY, at: datetime = NOW, id: str = "m-1") -> dict[str, str]:
    sent_at = int(at.timestamp())
    signature = sign(read_secret(SECRET), id, sent_at, body)
    return {"Webhook-Id": id, "Webhook-Timestamp": str(sent_at), "Webhook-Signature": signature}


@pytest.mark.parametrize(
    ("patterns", "event", "wanted"),
    [
        ((), "run.trashed", True),
        (("run.trashed",), "run.trashed", True),
        (("run.trashed",), "run.restored", False),
        (("run.*",), "run.restored", True),
        (("run.*",), "artifact.trashed", False),
        (("*.purged",), "artifact_version.purged", True),
        (("*.purged",), "run.purge_requested", False),
        (("hold.set", "policy.*"), "policy.ran", True),
        (("*.*",), "anything.at_all", True),
    ],
)
def test_a_pattern_names_events_by_kind_and_verb(patterns: tuple[str, ...], event: str, wanted: bool) -> None:
    check_patterns(patterns)
    assert wants(patterns, event) is wanted


@pytest.mark.parametrize(
    "pattern", ["", "run", "run.", ".trashed", "run.tr*", "**", "run.trashed.x", "Run.trashed", "a b.c"]
)
def test_a_pattern_that_names_no_event_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid, match="is not an event"):
        check_patterns([pattern])


def test_the_signature_is_an_hmac_over_id_time_and_body() -> None:
    code = hmac.new(b"s" * 32, b"m-1.1777593600." + BODY, hashlib.sha256).digest()
    assert sign(b"s" * 32, "m-1", 1777593600, BODY) == "v1," + base64.b64encode(code).decode()


def test_a_genuine_message_is_believed_whatever_the_case_of_its_headers() -> None:
    verify(SECRET, headers(), BODY, NOW)
    verify(SECRET, {name.upper(): value for name, value in headers().items()}, BODY, NOW)
    both = headers()
    both["Webhook-Signature"] = "v1,bm9uZQ== " + both["Webhook-Signature"]
    verify(SECRET, both, BODY, NOW)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_message_that_was_changed_is_not_believed(place: int, change: int) -> None:
    changed = bytearray(BODY)
    changed[place] ^= change
    with pytest.raises(Unauthenticated):
        verify(SECRET, headers(), bytes(changed), NOW)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Webhook-Id", "m-2"),
        ("Webhook-Id", ""),
        ("Webhook-Timestamp", "1777593601"),
        ("Webhook-Timestamp", "now"),
        ("Webhook-Timestamp", "9" * 400),
        ("Webhook-Signature", ""),
        ("Webhook-Signature", "v1,"),
        ("Webhook-Signature", "v1,\u00e9"),
    ],
)
def test_headers_that_do_not_belong_to_it_are_not_believed(name: str, value: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(SECRET, {**headers(), name: value}, BODY, NOW)


@pytest.mark.parametrize("seconds", [-TOLERANCE_S - 1, TOLERANCE_S + 1])
def test_an_old_message_may_be_a_repetition(seconds: int) -> None:
    with pytest.raises(Unauthenticated, match="repetition"):
        verify(SECRET, headers(at=NOW + timedelta(seconds=seconds)), BODY, NOW)


@given(st.binary(min_size=1, max_size=64))
def test_a_secret_is_read_as_it_was_shown(secret: bytes) -> None:
    assert read_secret(show_secret(secret)) == secret


def test_what_is_no_secret_is_said_to_be_none() -> None:
    with pytest.raises(Invalid, match="whsec_"):
        read_secret("whsec_!!")


def test_each_try_waits_longer_and_one_day_it_is_enough() -> None:
    tries = [next_try(attempts, NOW) for attempts in range(1, len(DELAYS_S) + 2)]
    assert tries[-1] is None
    moments = [moment for moment in tries if moment is not None]
    assert moments == sorted(moments)
    assert len(moments) == len(DELAYS_S)
