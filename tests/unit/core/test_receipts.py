"""Receipts as files: what is signed has one form only, and no byte of a file can change unseen."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labkeep.client.signatures import verifier
from labkeep.core.errors import Invalid
from labkeep.core.receipts import TYPE, KeySet, PublicKey, Receipt, canonical, examine, parse_keys, to_file

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECRET = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ID = "00000000-0000-7000-8000-00000000000{}".format


def key_of(secret: Ed25519PrivateKey = SECRET, kid: str = ID(1), **fields: Any) -> PublicKey:
    x = base64.urlsafe_b64encode(secret.public_key().public_bytes_raw()).decode().rstrip("=")
    return PublicKey(kid=kid, x=x, **{"created_at": NOW - timedelta(days=1), **fields})


def body(**fields: Any) -> dict[str, Any]:
    known = {"type": TYPE, "key_id": ID(1), "issued_at": NOW.isoformat(), "reason": 'déjà "vu"\n', "counts": {"run": 2}}
    return known | fields


def file_of(content: dict[str, Any], secret: Ed25519PrivateKey = SECRET, kid: str = ID(1)) -> bytes:
    receipt = Receipt(
        id=ID(2),
        organization_id=ID(3),
        workspace_id=ID(4),
        kind="purge",
        subject_id=ID(5),
        body=content,
        signing_key_id=kid,
        signature=base64.b64encode(secret.sign(canonical(content))).decode(),
        created_at=NOW,
    )
    return to_file(receipt)


def judged(data: bytes, *keys: PublicKey) -> Any:
    return examine(data, keys or (key_of(),), verifier())


def test_an_untouched_file_is_valid_and_says_what_was_signed() -> None:
    verdict = judged(file_of(body()))
    assert (verdict.valid, verdict.problems, verdict.key_id, verdict.key_state) == (True, [], ID(1), "current")
    assert verdict.body == body()
    assert judged(file_of(body()).rstrip(b"\n")).valid


@pytest.mark.parametrize("mask", [1, 0x20, 0x80])
def test_any_flipped_byte_is_seen(mask: int) -> None:
    data = file_of(body())
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= mask
        assert not judged(bytes(changed)).valid, place


def test_any_cut_or_added_byte_is_seen() -> None:
    data = file_of(body()).rstrip(b"\n")
    assert not any(judged(data[:end]).valid for end in range(len(data)))
    for changed in (data + b" ", b" " + data, data + b"\n\n", data + data, b"\xef\xbb\xbf" + data):
        assert not judged(changed).valid


def test_a_file_that_was_only_laid_out_anew_says_how_to_undo_that() -> None:
    pretty = json.dumps(msgspec.json.decode(file_of(body())), indent=2, ensure_ascii=False).encode()
    verdict = judged(pretty)
    assert not verdict.valid
    assert "jq -cS" in verdict.problems[0]


def test_another_spelling_of_the_same_signature_is_refused() -> None:
    found = msgspec.json.decode(file_of(body()))
    text = found["signature"]
    spelled = text[:85] + chr(ord(text[85]) + 1) + "=="  # the last four bits of that digit mean nothing
    assert base64.b64decode(spelled)[:63] == base64.b64decode(text)[:63]
    for signature in (spelled, text.rstrip("="), text + "\n", text[:-4]):
        assert not judged(canonical(found | {"signature": signature})).valid


def test_a_retired_key_goes_on_verifying_what_it_signed_and_nothing_later() -> None:
    retired = key_of(retired_at=NOW + timedelta(hours=1))
    verdict = judged(file_of(body()), retired)
    assert (verdict.valid, verdict.key_state) == (True, "retired")
    late = body(issued_at=(NOW + timedelta(hours=2)).isoformat())
    assert "after key" in judged(file_of(late), retired).problems[0]
    early = body(issued_at=(NOW - timedelta(days=2)).isoformat())
    assert "before key" in judged(file_of(early), retired).problems[0]


def test_an_unknown_key_and_a_key_of_somebody_else_are_told_apart() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    unknown = judged(file_of(body()), key_of(other, ID(9)))
    assert (unknown.valid, unknown.key_state) == (False, "unknown")
    assert ID(1) in unknown.problems[0]
    forged = judged(file_of(body(), other))
    assert (forged.valid, forged.key_state) == (False, "current")
    assert "not that of key" in forged.problems[0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (body(type="labkeep.checkpoint/1"), "no receipt"),
        (body(type=None), "no receipt"),
        (body(key_id=ID(7)), "another key"),
        (body(issued_at="yesterday"), "when it was signed"),
        (body(issued_at="2026-11-21T12:00:00"), "no time zone"),
    ],
)
def test_what_is_signed_but_is_no_receipt_is_refused(content: dict[str, Any], problem: str) -> None:
    verdict = judged(file_of(content))
    assert not verdict.valid
    assert problem in verdict.problems[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b"\xff",
        b"[" * 100000,
        b'{"body":1.5,"key_id":"","signature":""}',
        b"1" * 400,
        canonical({"body": [], "key_id": ID(1), "signature": ""}),
        canonical({"body": {}, "key_id": 1, "signature": ""}),
    ],
)
def test_what_is_no_receipt_is_refused_with_a_reason(data: bytes) -> None:
    verdict = judged(data)
    assert (verdict.valid, verdict.body) == (False, {})
    assert verdict.problems[0]


def test_a_key_of_another_kind_verifies_nothing() -> None:
    for key in (key_of(crv="P-256"), msgspec.structs.replace(key_of(), x="AAAA"), key_of(kty="EC")):
        assert "not an Ed25519 key" in judged(file_of(body()), key).problems[0]


@pytest.mark.parametrize("value", [1.5, 2**53 + 1, {"ü": 1}, {1: 2}, b"x", "\ud800", NOW, {"a": [float("nan")]}])
def test_what_has_more_than_one_form_cannot_be_signed(value: Any) -> None:
    with pytest.raises(Invalid):
        canonical(value)


def test_the_canonical_form_is_that_of_rfc_8785() -> None:
    value = {"b": [True, None, -3], "a": '\b\t\n\f\r"\\/\x01\x1f\x7f é€😀', "B": {}, "_": ""}
    assert canonical(value).decode() == (
        '{"B":{},"_":"","a":"\\b\\t\\n\\f\\r\\"\\\\/\\u0001\\u001f\x7f é€😀","b":[true,null,-3]}'
    )


def test_a_key_file_is_read_back_and_anything_else_is_refused() -> None:
    keys = [key_of(), key_of(kid=ID(2), retired_at=NOW)]
    assert parse_keys(msgspec.json.encode(KeySet(keys))) == keys
    for data in (b"", b"[]", b'{"keys":[{}]}', b"\xff", b"[" * 100_000):
        with pytest.raises(Invalid, match="not a key file"):
            parse_keys(data)
