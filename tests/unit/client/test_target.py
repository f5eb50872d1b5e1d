"""Where requests go, and with which key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import labkeep
from labkeep import errors
from labkeep.client.target import config_file, resolve


def test_arguments_win_over_the_environment_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    labkeep.login("lk-file", "http://file:1")
    assert resolve() == resolve("http://file:1", "lk-file")
    monkeypatch.setenv("LABKEEP_URL", "http://env:1")
    monkeypatch.setenv("LABKEEP_API_KEY", "lk-env")
    monkeypatch.setenv("LABKEEP_WORKSPACE", "team")
    assert (resolve().url, resolve().key, resolve().workspace) == ("http://env:1", "lk-env", "team")
    assert resolve("http://arg:1", "lk-arg", "mine") == resolve("http://arg:1/", "lk-arg", "mine")
    assert (resolve("http://arg:1", "lk-arg").url, resolve("http://arg:1", "lk-arg").key) == ("http://arg:1", "lk-arg")


def test_a_saved_key_goes_to_its_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    labkeep.login("lk-file", "http://file:1")
    monkeypatch.setenv("LABKEEP_URL", "http://elsewhere:1")
    with pytest.raises(errors.Unauthenticated, match=r"no API key for http://elsewhere:1.*labkeep login"):
        resolve()


def test_without_anything_it_is_the_local_server(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(key="lk-1").url == "http://127.0.0.1:8080"
    with pytest.raises(errors.Unauthenticated, match="LABKEEP_API_KEY"):
        resolve()


def test_the_file_is_for_its_owner_only(home: Path) -> None:
    file = labkeep.login('lk-"quoted"\\', "http://file:1")
    assert file == home / ".config" / "labkeep" / "config.toml" == config_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert resolve().key == 'lk-"quoted"\\'
    labkeep.login("lk-2")
    assert (resolve().url, resolve().key) == ("http://127.0.0.1:8080", "lk-2")
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_is_no_toml_says_what_to_do(home: Path) -> None:
    labkeep.login("lk-1").write_text("url = ")
    with pytest.raises(errors.Invalid, match="labkeep login"):
        resolve()


@pytest.mark.parametrize(
    "url",
    ["lab", "ftp://lab", "http://", "http://lab:port", "http://u:p@lab", "http://lab?x=1", "http://la b", "http://[x"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(errors.Invalid, match="is not the address of a server"):
        resolve(url, "lk-1")


@pytest.mark.parametrize("url", ["http://lab/", " http://lab ", "http://lab/api/v1", "http://lab/api/v1/"])
def test_what_does_not_belong_to_an_address_is_cut_off(url: str) -> None:
    assert resolve(url, "lk-1").url == "http://lab"


@pytest.mark.parametrize("key", ["lk-1\n", "lk 1", "lk-ü"])
def test_a_key_that_was_copied_badly_is_refused(key: str) -> None:
    with pytest.raises(errors.Invalid, match="copied whole"):
        resolve("http://lab", key)
