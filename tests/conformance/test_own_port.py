"""The real client at the root of a port of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.run import run_scenario, scenarios
from tests.conformance.server import LiveServer, free_port, live_server

CHOSEN = ("s01", "s05")
"""Metrics, files and artifacts: whatever has an absolute address."""


@pytest.mark.parametrize("script", scenarios("wandb", CHOSEN), ids=lambda script: script.stem)
def test_the_client_needs_no_prefix_at_a_port_of_the_dialect(script: Path, tmp_path: Path) -> None:
    port = free_port()
    with live_server(tmp_path, {"LABKEEP_LISTEN": json.dumps({"wandb": port})}) as server:
        outcome = run_scenario("wandb", script, _environment(server, port))
        log = server.log.read_text()
    assert outcome.ok, f"\n{outcome.output}"
    assert "Traceback" not in log, log


def _environment(server: LiveServer, port: int) -> dict[str, str]:
    return {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": server.new_key(user="wandb-user")}
