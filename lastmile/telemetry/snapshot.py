"""The metrics snapshot, and how each scrape of a worker shows the newest one."""

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

from lastmile.telemetry.metrics import FIGURES, start_at_zero

__all__ = ["AGE", "Newest", "Sample", "Snapshot", "SnapshotCollector"]

AGE = "lastmile_snapshot_age_seconds"

# Prometheus gives a scrape ten seconds. Scrapes that come together get the same answer.
PATIENCE_SECONDS = 3
FRESH_SECONDS = 1

OF_EVERY_TENANT = "ipv6_prefix_leak_total"

log = structlog.get_logger("lastmile.figures")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a figure."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All figures of one moment."""

    taken_at: datetime
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest snapshot, and its age when it was read, by the database's clock."""

    snapshot: Snapshot
    age: timedelta


class SnapshotCollector(Collector):
    """The newest snapshot, read at each scrape; while the database is away, the last one, whose age grows.

    The snapshot also names the tenants whose orders this process counts from 0 on.
    """

    def __init__(
        self, read: Callable[[], Coroutine[None, None, Newest | None]], loop: asyncio.AbstractEventLoop
    ) -> None:
        """`read` runs on `loop`; scrapes come in threads of their own. Before the first snapshot it gives None."""
        self._read = read
        self._loop = loop
        self._lock = threading.Lock()
        self._last: Newest | None = None
        self._looked = self._read_at = -math.inf

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The names, without a look at the database: registration needs them."""
        return _families(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._looked > FRESH_SECONDS:
                self._look()
            last, read_at = self._last, self._read_at
        yield from _families(last.snapshot.samples if last else ())
        age = last.age.total_seconds() + time.monotonic() - read_at if last else math.inf
        yield GaugeMetricFamily(AGE, "Age of the figures; +Inf before the first snapshot.", age)

    def _look(self) -> None:
        reading = self._read()
        try:
            asked = asyncio.run_coroutine_threadsafe(reading, self._loop)
        except RuntimeError:  # the loop is closed: a last scrape, while the process ends
            reading.close()
            return
        try:
            self._last = asked.result(PATIENCE_SECONDS)
        except Exception as failure:  # whatever failed, the last snapshot is shown, with its age
            asked.cancel()
            log.warning("figures.unreadable", reason=type(failure).__name__)
        else:
            self._read_at = time.monotonic()
        self._looked = time.monotonic()
        for sample in self._last.snapshot.samples if self._last else ():
            if sample.name == OF_EVERY_TENANT:
                start_at_zero(sample.labels["tenant"])


def _families(samples: Iterable[Sample]) -> Iterator[GaugeMetricFamily]:
    """Every figure with its samples. A sample of another release that this code does not know is left out."""
    for figure in FIGURES:
        family = GaugeMetricFamily(figure.name, figure.meaning, labels=figure.labels)
        for sample in samples:
            if sample.name == figure.name and sample.labels.keys() == set(figure.labels):
                family.add_metric([sample.labels[label] for label in figure.labels], sample.value)
        yield family
