"""What Prometheus hears of retention policies."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.testclient import TestClient

from labkeep.core.commands_policies import CreatePolicy
from labkeep.http.lateness import policy_metrics
from labkeep.operations import policies
from labkeep.server import build_app
from labkeep.testing.factories import FixedClock, make_actor, make_store
from labkeep.worker.jobs import NOBODY


def test_an_overdue_policy_raises_a_metric(tmp_path: Path) -> None:
    clock = FixedClock()
    with make_store(tmp_path, clock) as store:
        actor = make_actor(store.database)
        command = CreatePolicy(name="secret words", body={"older_than": "30d"}, every_s=3600)
        policy = store.database.write(policies.create, actor, command)
        with TestClient(build_app(store)) as client:
            text = client.get("/metrics").text
            assert f'labkeep_policy_overdue{{policy="{policy.id}"}} 0.0' in text
            clock.advance(hours=3)
            text = client.get("/metrics").text
        assert f'labkeep_policy_overdue{{policy="{policy.id}"}} 1.0' in text
        assert f'labkeep_policy_last_run_age_seconds{{policy="{policy.id}"}} 10800.0' in text
        assert "secret words" not in text


def test_a_database_that_is_gone_leaves_the_other_metrics(tmp_path: Path) -> None:
    with make_store(tmp_path) as store:
        store.database.close()
        assert asyncio.run(policy_metrics(store, NOBODY)) == b""
