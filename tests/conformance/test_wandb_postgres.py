"""The W&B client against a server that keeps everything in PostgreSQL: the scenarios whose SQL has most to say."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.run import DIALECTS, run_scenario, scenarios
from tests.conformance.server import live_server

SCRIPTS = scenarios("wandb", ("s02", "s03", "s04", "s07", "s50"))
"""Filters and orders, deletion, resuming, logs that are sent again, forks and rewinds."""


def test_the_client_finds_the_same_over_postgresql(postgres_url: str, tmp_path: Path) -> None:
    with live_server(tmp_path, {"LABKEEP_DATABASE_URL": postgres_url}) as server:
        environment = DIALECTS["wandb"].environment(server)
        outcomes = [run_scenario("wandb", script, environment) for script in SCRIPTS]
        assert len(outcomes) == len(SCRIPTS) == 5
        assert all(outcome.ok for outcome in outcomes), "\n".join(one.output for one in outcomes if not one.ok)
        assert "Traceback" not in server.log.read_text()
