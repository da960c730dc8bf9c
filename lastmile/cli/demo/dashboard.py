"""The demo's dashboard: the query of every panel, answered by the Prometheus that watches the worker."""

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from temporalio.client import Client

from grafana.queries import DIRECTORY, PanelQuery, panel_queries
from lastmile.devstack.prometheus import Prometheus, Sample

__all__ = ["NAME", "DemoDashboard", "PanelValues"]

NAME = "ipv6-lifecycle"

# A rate needs two scrapes of the worker's counters after the first snapshot.
_UP_TO_DATE = (
    "lastmile_snapshot_timestamp_seconds >= {now} "
    "and on (instance) count_over_time(ipv6_allocation_duration_seconds_count[1m]) > 1 "
    "and on (instance) count_over_time(ipv6_revocation_duration_seconds_count[1m]) > 1"
)
_PATIENCE_SECONDS = 30
_LOOK_SECONDS = 0.05
_UNITS = {"percent": " %", "s": " s", "cpm": " a minute"}


@dataclass(frozen=True, slots=True)
class PanelValues:
    """A panel and its values; an empty panel has no words."""

    panel: str
    words: str


class DemoDashboard:
    """The dashboard of prefixes, with the values that Grafana would show."""

    def __init__(self, prometheus: Prometheus, temporal: Client, task_queue: str) -> None:
        self._prometheus = prometheus
        self._temporal = temporal
        self._task_queue = task_queue

    async def panels(self) -> list[PanelValues]:
        """Return every panel, when Prometheus has scraped the current metrics.

        Raises `TimeoutError` after half a minute.
        """
        now = time.time()
        # The schedule `metrics` runs this every five minutes.
        await self._temporal.execute_workflow("Metrics", id=f"metrics-{uuid.uuid4()}", task_queue=self._task_queue)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                if await self._prometheus.query(_UP_TO_DATE.format(now=now)):
                    break
                await asyncio.sleep(_LOOK_SECONDS)  # Prometheus sends no event to wait for
        words: dict[str, list[str]] = {}
        for query in panel_queries(DIRECTORY / f"{NAME}.json"):
            shown = words.setdefault(query.panel, [])
            shown += [one for one in [await self._shown(query, named=bool(shown))] if one]
        return [PanelValues(panel, ", ".join(shown)) for panel, shown in words.items()]

    async def _shown(self, query: PanelQuery, *, named: bool) -> str:
        samples = await self._prometheus.query(query.expression(span="24h"))
        return ", ".join(_words(query, samples, named=named)) or query.nothing


def _words(query: PanelQuery, samples: Sequence[Sample], *, named: bool) -> Iterator[str]:
    """Yield the values; with `named`, a value without labels gets its legend, too."""
    for sample in samples:
        if sample.value or len(samples) == 1:
            name = f"{query.name(sample.labels)} " if sample.labels or named else ""
            yield f"{name}{sample.value:.3g}{_UNITS.get(query.unit, '')}"
