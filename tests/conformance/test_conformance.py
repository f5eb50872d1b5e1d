"""Every scenario of every dialect, and the store they leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.run import DIALECTS, run_scenario, scenarios
from tests.conformance.server import LiveServer, live_server

SCRIPTS = [(dialect, script) for dialect in sorted(DIALECTS) for script in scenarios(dialect)]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("conformance")) as running:
        yield running


@pytest.fixture(scope="session")
def environments(server: LiveServer) -> dict[str, dict[str, str]]:
    return {name: dialect.environment(server) for name, dialect in DIALECTS.items()}


@pytest.mark.parametrize(("dialect", "script"), SCRIPTS, ids=[f"{name}-{script.stem}" for name, script in SCRIPTS])
def test_the_sdk_sees_what_its_user_expects(
    dialect: str, script: Path, environments: dict[str, dict[str, str]]
) -> None:
    outcome = run_scenario(dialect, script, environments[dialect])
    assert outcome.ok, f"\n{outcome.output}"
