"""Killed at any moment under load from several clients at once, again and again over the same folder."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from tests.fault.processes import Server, Site, find, wait_for_jobs
from tests.fault.workload import Workload, assert_one_of, snapshot

KILLS = 4
CLIENTS = 3


def load(server: Server, kill: int) -> list[Workload]:
    """Start clients that write until the server is gone; kill it after a while."""
    work = [Workload(server.client(), f"kill-{kill}-client-{number}", rounds=40) for number in range(CLIENTS)]
    threads = [threading.Thread(target=one.run) for one in work]
    for thread in threads:
        thread.start()
    # Not by the clock alone: a slow machine shall have as much in flight when it happens.
    least = random.Random(kill).randrange(20, 150)
    until = time.monotonic() + 30
    while sum(one.acknowledged for one in work) < least and time.monotonic() < until:
        time.sleep(0.001)
    server.kill()
    for thread in threads:
        thread.join()
    return work


def test_killed_again_and_again_under_load_the_store_keeps_all_that_it_acknowledged(tmp_path: Path) -> None:
    site = Site(tmp_path, LABKEEP_SEAL_MIN_ROWS="5")
    everything: list[Workload] = []
    for kill in range(KILLS):
        everything += load(site.start().await_answer(), kill)
        site.assert_sound()
    with site.running() as server, server.client() as client:
        wait_for_jobs(client)
        for workload in everything:
            assert_one_of(snapshot(client, workload.project), workload)
        assert find(site.data, [word for workload in everything for word in workload.purged]) == {}
        for workload in everything:
            workload.finish(client)
        assert client.audit.verify().intact
        assert sum(workload.acknowledged for workload in everything) >= KILLS * 20
    assert find(site.data, [word for workload in everything for word in workload.doomed]) == {}
    site.assert_sound()
