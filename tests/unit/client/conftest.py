"""A fake server and a home folder of its own for every test of the client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkeep.client import repairs
from labkeep.client.run import live
from tests.unit.client.fake_server import FakeServer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration and no spool of the developer's."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("LABKEEP_QUIET", "1")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(autouse=True)
def every_warning_again() -> None:
    """What is said once in a process is said once in a test."""
    repairs.told.clear()


@pytest.fixture(autouse=True)
def no_run_left_behind() -> Iterator[None]:
    yield
    left = list(live)
    for run in left:
        run.finish(timeout_s=1.0)
    assert left == [], "a test left a run open"


@pytest.fixture
def spool_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spool"
    monkeypatch.setenv("LABKEEP_SPOOL", str(folder))
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A fake server that runs, and that the environment names."""
    fake = FakeServer()
    monkeypatch.setenv("LABKEEP_URL", fake.url)
    monkeypatch.setenv("LABKEEP_API_KEY", fake.key)
    fake.start()
    yield fake
    fake.stop()
