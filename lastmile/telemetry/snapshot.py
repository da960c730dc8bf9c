"""The metrics snapshot, and the collector that shows the newest snapshot at each scrape."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lastmile.telemetry.metrics import SNAPSHOT_METRICS, start_at_zero

__all__ = ["AGE", "Sample", "Snapshot", "SnapshotCollector", "StoredSnapshot"]

AGE = "lastmile_snapshot_age_seconds"

READ_TIMEOUT_SECONDS = 3
"""Less than the ten seconds after which Prometheus ends a scrape."""
CACHE_SECONDS = 1
"""Scrapes within this time show the same snapshot."""

TENANT_METRIC = "ipv6_prefix_leak_total"
"""A metric that has a sample for every tenant."""

log = structlog.get_logger("lastmile.metrics")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a snapshot metric."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The values of all snapshot metrics at one time."""

    taken_at: datetime
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot from the database, with its age by the database's clock when it was read."""

    snapshot: Snapshot
    age: timedelta


class SnapshotCollector(Collector):
    """A collector that reads the newest snapshot at each scrape.

    While the database is unavailable, the collector shows the last snapshot with its growing age. The snapshot also
    names the tenants, whose counters the collector exports with the value 0.
    """

    def __init__(
        self, read: Callable[[], Coroutine[None, None, StoredSnapshot | None]], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Create a collector.

        Args:
            read: returns the newest snapshot, or None before the first one. It runs on `loop`.
            loop: the event loop, in another thread than the scrapes.
        """
        self._read = read
        self._loop = loop
        self._lock = threading.Lock()
        self._last: StoredSnapshot | None = None
        self._tried_at = self._read_at = -math.inf

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics without values: the registration needs their names before the database is available."""
        return _families(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every metric of the newest snapshot, and its age."""
        with self._lock:
            if time.monotonic() - self._tried_at > CACHE_SECONDS:
                self._update()
            last, read_at = self._last, self._read_at
        yield from _families(last.snapshot.samples if last else ())
        age = last.age.total_seconds() + time.monotonic() - read_at if last else math.inf
        yield GaugeMetricFamily(AGE, "The age of the metrics snapshot; +Inf before the first snapshot.", age)

    def _update(self) -> None:
        reading = self._read()
        try:
            future = asyncio.run_coroutine_threadsafe(reading, self._loop)
        except RuntimeError:  # the event loop is closed: the last scrape, while the process ends
            reading.close()
            return
        try:
            self._last = future.result(READ_TIMEOUT_SECONDS)
        except Exception as failure:  # the collector then shows the last snapshot with its age
            future.cancel()
            log.warning("metrics_snapshot.unreadable", reason=type(failure).__name__)
        else:
            self._read_at = time.monotonic()
        self._tried_at = time.monotonic()
        for sample in self._last.snapshot.samples if self._last else ():
            if sample.name == TENANT_METRIC:
                start_at_zero(sample.labels["tenant"])


def _families(samples: Iterable[Sample]) -> Iterator[GaugeMetricFamily]:
    """Yield every snapshot metric with its samples. Samples that only another release knows are omitted."""
    for metric in SNAPSHOT_METRICS:
        family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        for sample in samples:
            if sample.name == metric.name and sample.labels.keys() == set(metric.labels):
                family.add_metric([sample.labels[label] for label in metric.labels], sample.value)
        yield family
