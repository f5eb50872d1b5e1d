"""Every scenario of every dialect, what it looks like from our own side, and the store they leave behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from labkeep import Labkeep
from tests.conformance.native import NATIVE
from tests.conformance.run import DIALECTS, run_scenario, scenarios
from tests.conformance.server import LABKEEP, LiveServer, live_server

SCRIPTS = {f"{dialect}-{script.stem}": (dialect, script) for dialect in DIALECTS for script in scenarios(dialect)}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for all scenarios; when they are done, its store has to fit together."""
    with live_server(tmp_path_factory.mktemp("conformance")) as running:
        yield running
    check = [LABKEEP, "check", "--deep", "--data", str(running.data)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    log = running.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def environments(server: LiveServer) -> dict[str, dict[str, str]]:
    return {name: dialect.environment(server) for name, dialect in DIALECTS.items()}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_the_sdk_and_our_own_api_see_the_same(
    name: str, server: LiveServer, environments: dict[str, dict[str, str]]
) -> None:
    dialect, script = SCRIPTS[name]
    outcome = run_scenario(dialect, script, environments[dialect])
    assert outcome.ok, f"\n{outcome.output}"
    if name in NATIVE:
        with Labkeep(server.admin_key, server.url) as client:
            NATIVE[name](client, server)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_scenario_is_known_by_its_number(dialect: str) -> None:
    numbers = [script.stem.partition("_")[0] for script in scenarios(dialect)]
    assert sorted(set(numbers)) == sorted(numbers)


def test_every_native_check_belongs_to_a_scenario() -> None:
    assert NATIVE.keys() <= SCRIPTS.keys()
