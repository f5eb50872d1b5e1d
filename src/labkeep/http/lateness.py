"""Metrics of retention policies: how long ago each ran, and whether it should have run again by now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from labkeep.core.access import Actor
from labkeep.core.errors import LabkeepError
from labkeep.operations import Store
from labkeep.operations.erasures import count_overdue
from labkeep.operations.policy_runs import Lateness, lateness

MEASURED_S = 5.0
"""How long the database may take; after that the metrics come without these."""


class _Policies(Collector):
    """Enabled policies, by id: names are nobody's business who may only see metrics."""

    def __init__(self, found: Sequence[Lateness]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """The two families."""
        overdue = GaugeMetricFamily(
            "labkeep_policy_overdue", "1 when an enabled retention policy should have run by now", labels=["policy"]
        )
        age = GaugeMetricFamily(
            "labkeep_policy_last_run_age_seconds",
            "Seconds since an enabled retention policy last ran, or was made",
            labels=["policy"],
        )
        for each in self._found:
            overdue.add_metric([each.policy_id], float(each.overdue))
            age.add_metric([each.policy_id], each.age_s)
        return overdue, age


class _Erasures(Collector):
    """Requests to erase a person that should have been answered."""

    def __init__(self, count: int) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        """One number."""
        text = "Requests to erase a person that are not answered by their due date"
        return (GaugeMetricFamily("labkeep_erasures_overdue", text, value=float(self._count)),)


async def policy_metrics(store: Store, nobody: Actor) -> bytes:
    """The metrics as Prometheus reads them; nothing when the database does not answer."""
    try:
        query = asyncio.wrap_future(store.database.query(lateness, nobody, None))
        found = await asyncio.wait_for(query, MEASURED_S)
        waiting = asyncio.wrap_future(store.database.query(count_overdue, nobody, None))
        overdue = await asyncio.wait_for(waiting, MEASURED_S)
    except (LabkeepError, TimeoutError):  # that is for readyz to say; the other metrics are needed all the more
        return b""
    registry = CollectorRegistry()
    registry.register(_Policies(found))
    registry.register(_Erasures(overdue))
    return generate_latest(registry)
