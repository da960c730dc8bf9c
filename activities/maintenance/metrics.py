"""The activity that computes and stores the metrics snapshot."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from temporalio import activity

from activities.base import failing_by_type
from activities.maintenance.messages import SnapshotReport
from lastmile.db import Database
from lastmile.metrics.snapshot import compute_snapshot, read_newest_snapshot, store_snapshot
from lastmile.telemetry.snapshot import Sample, Snapshot

__all__ = ["AskTemporal", "SnapshotActivities"]

AskTemporal = Callable[[Snapshot | None], Awaitable[tuple[Mapping[str, str], Sequence[Sample]]]]
"""A function that reads Temporal: it returns the tenants of the parked runs by run id, and samples.

Its argument is the previous snapshot, since Temporal deletes old runs.
"""

FEW = 10
"""The maximum number of tenants or pools in the result of a run."""


class SnapshotActivities:
    """The activity of the metrics snapshot."""

    def __init__(self, database: Database, ask_temporal: AskTemporal) -> None:
        self._database = database
        self._ask_temporal = ask_temporal

    @activity.defn
    @failing_by_type
    async def take_snapshot(self) -> SnapshotReport:
        """Compute the metrics snapshot, and store it for all workers. Concurrent or repeated calls are safe."""
        began = time.monotonic()
        before = await read_newest_snapshot(self._database)
        waiting, asked = await self._ask_temporal(before.snapshot if before else None)
        known = await compute_snapshot(self._database, waiting)
        snapshot = replace(known, samples=(*known.samples, *asked))
        await store_snapshot(self._database, snapshot)
        return _summary(snapshot, time.monotonic() - began)


def _summary(snapshot: Snapshot, seconds: float) -> SnapshotReport:
    return SnapshotReport(
        taken_at=snapshot.taken_at,
        seconds=round(seconds, 3),
        delegations=_some(_by(snapshot, "ipv6_lifecycle_state_total", "state")),
        prefix_leaks=_some(_by(snapshot, "ipv6_prefix_leak_total", "tenant")),
        attention_runs=_some(_by(snapshot, "lastmile_attention_runs", "tenant")),
        oldest_stuck_seconds=_some(_by(snapshot, "ipv6_oldest_stuck_seconds", "state", max)),
        fullest_pools_percent=_extreme(_by(snapshot, "ipv6_pool_utilization_percent", "pool", max), most=True),
        quarantined=int(sum(_by(snapshot, "ipv6_quarantined_prefixes", "pool").values())),
        least_active_percent=_extreme(_by(snapshot, "ipv6_active_percent", "tenant"), most=False),
        least_in_netbox_percent=_extreme(_by(snapshot, "ipv6_netbox_integration_percent", "tenant"), most=False),
    )


def _by(
    snapshot: Snapshot, name: str, label: str, combine: Callable[[Iterable[float]], float] = sum
) -> dict[str, float]:
    """Return the values of a metric by one label."""
    values: dict[str, list[float]] = defaultdict(list)
    for sample in snapshot.samples:
        if sample.name == name:
            values[sample.labels[label]].append(sample.value)
    return {key: combine(values[key]) for key in values}


def _extreme(values: Mapping[str, float], *, most: bool) -> dict[str, float]:
    """The few that are most, or least."""
    ranked = sorted(values, key=lambda key: values[key], reverse=most)
    return {key: round(values[key], 2) for key in ranked[:FEW]}


def _some(values: Mapping[str, float]) -> dict[str, int]:
    """Those that are not zero, the few largest of them."""
    return {key: int(value) for key, value in _extreme(values, most=True).items() if value}
