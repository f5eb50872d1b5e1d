"""What a process remembers of keys: a bounded number, for a bounded time, and only with its master keys."""

from __future__ import annotations

import pytest

from labkeep.core.errors import Corrupt, Unavailable
from labkeep.storage.master_key import MasterKey
from labkeep.storage.vault import Recent, Vault

ONE, OTHER = MasterKey(b"1" * 32), MasterKey(b"2" * 32)


def test_what_was_put_is_found_until_it_is_forgotten() -> None:
    recent: Recent[str, int] = Recent(10)
    recent.put("a", 1)
    assert recent.get("a") == 1
    recent.forget(["a", "never there"])
    assert recent.get("a") is None


def test_what_was_put_first_goes_when_there_is_too_much() -> None:
    recent: Recent[int, int] = Recent(3)
    for number in range(5):
        recent.put(number, number)
    recent.put(2, 2)
    recent.put(5, 5)
    assert [recent.get(number) for number in range(6)] == [None, None, 2, None, 4, 5]
    assert len(recent) == 3


def test_nothing_is_remembered_for_longer_than_it_counts() -> None:
    recent: Recent[str, bool] = Recent(10, fresh_s=-1.0)
    recent.put("a", False)
    assert recent.get("a") is None
    recent = Recent(10, fresh_s=60.0)
    recent.put("a", False)
    assert recent.get("a") is False


def test_a_master_key_that_is_not_here_is_named() -> None:
    vault = Vault()
    vault.admit(ONE, None)
    assert vault.master(ONE.id) is ONE
    with pytest.raises(Unavailable, match=f"needs master key {OTHER.id}, and the server has {ONE.id}"):
        vault.master(OTHER.id)


def test_any_of_the_master_keys_unwraps() -> None:
    vault = Vault()
    with pytest.raises(Unavailable, match="has none"):
        vault.unwrap(ONE.wrap(b"x", "here"), "here", None)
    vault.admit(OTHER)
    assert vault.unwrap(OTHER.wrap(b"x", "here"), "here", ONE) == b"x"
    assert vault.unwrap(ONE.wrap(b"x", "here"), "here", ONE) == b"x"
    with pytest.raises(Corrupt):
        vault.unwrap(MasterKey(b"3" * 32).wrap(b"x", "here"), "here", ONE)
