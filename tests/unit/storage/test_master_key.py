"""The master key: read from text or file, and what it wraps opens for one purpose only."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from labkeep.core.errors import Corrupt, Invalid
from labkeep.storage.master_key import MasterKey, load, parse

SECRET = bytes(range(0xE0, 0x100))


@pytest.mark.parametrize(
    "text",
    [
        SECRET.hex(),
        SECRET.hex().upper(),
        base64.b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
        f"  {SECRET.hex()}\n",
    ],
)
def test_a_key_is_hex_or_base64_of_32_bytes(text: str) -> None:
    assert parse(text).id == MasterKey(SECRET).id


@pytest.mark.parametrize(
    "text", ["", "secret", "00" * 31, "00" * 33, base64.b64encode(bytes(31)).decode(), "ü" * 43, "=" * 44, "!" * 43]
)
def test_any_other_text_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(text)
    assert "openssl rand -base64 32" in refused.value.message
    assert not text or text not in refused.value.message


def test_what_is_wrapped_opens_for_its_context_and_key_only() -> None:
    key = MasterKey(SECRET)
    wrapped = key.wrap(b"secret", "signing key 1")
    assert b"secret" not in wrapped
    assert key.unwrap(wrapped, "signing key 1") == b"secret"
    for opener, context in (key, "signing key 2"), (MasterKey(bytes(32)), "signing key 1"):
        with pytest.raises(Corrupt, match="cannot be unwrapped"):
            opener.unwrap(wrapped, context)


def test_any_change_of_a_wrapped_value_is_seen() -> None:
    key = MasterKey(SECRET)
    wrapped = key.wrap(b"secret", "x")
    for place in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[place] ^= 1
        with pytest.raises(Corrupt):
            key.unwrap(bytes(changed), "x")
    for end in range(len(wrapped)):
        with pytest.raises(Corrupt):
            key.unwrap(wrapped[:end], "x")


def test_the_same_value_never_wraps_to_the_same_bytes() -> None:
    key = MasterKey(SECRET)
    assert len({key.wrap(b"secret", "x") for _ in range(20)}) == 20


def test_a_key_shows_its_id_and_not_itself() -> None:
    key = MasterKey(SECRET)
    assert repr(key) == f"MasterKey({key.id})"
    assert SECRET.hex() not in repr(key) + str(vars(key))


def test_the_settings_give_a_key_by_text_or_by_file_or_none(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    file.write_text(base64.b64encode(SECRET).decode() + "\n")
    assert load("", "") is None
    for text, path in (SECRET.hex(), ""), ("", str(file)), (SECRET.hex(), str(file)):
        found = load(text, path)
        assert found is not None
        assert found.id == MasterKey(SECRET).id


def test_two_different_keys_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    with pytest.raises(Invalid, match=r"cannot be read"):
        load("", str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match=r"cannot be read"):
        load("", str(file))
    file.write_text("00" * 32)
    with pytest.raises(Invalid, match="different keys"):
        load(SECRET.hex(), str(file))
