"""What the demo shows of its dashboard: every panel's query, asked of the Prometheus that watches the worker."""

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from temporalio.client import Client

from grafana.queries import DIRECTORY, PanelQuery, panel_queries
from lastmile.devstack.prometheus import Prometheus, Sample

__all__ = ["NAME", "DemoDashboard", "Shown"]

NAME = "ipv6-lifecycle"

# A rate needs two scrapes of what the worker counts from the first snapshot on.
_SEEN = (
    "lastmile_snapshot_timestamp_seconds >= {now} "
    "and on (instance) count_over_time(ipv6_allocation_duration_seconds_count[1m]) > 1 "
    "and on (instance) count_over_time(ipv6_revocation_duration_seconds_count[1m]) > 1"
)
_PATIENCE_SECONDS = 30
_LOOK_SECONDS = 0.05
_UNITS = {"percent": " %", "s": " s", "cpm": " a minute"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel, and what it shows; nothing where it is empty."""

    panel: str
    words: str


class DemoDashboard:
    """The dashboard of prefixes as Grafana would fill it."""

    def __init__(self, prometheus: Prometheus, temporal: Client, task_queue: str) -> None:
        self._prometheus = prometheus
        self._temporal = temporal
        self._task_queue = task_queue

    async def panels(self) -> list[Shown]:
        """Every panel, once Prometheus has seen the figures as they are now.

        Raises `TimeoutError` where it does not within half a minute.
        """
        now = time.time()
        # What the schedule `metrics` does every five minutes.
        await self._temporal.execute_workflow("Metrics", id=f"metrics-{uuid.uuid4()}", task_queue=self._task_queue)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                if await self._prometheus.query(_SEEN.format(now=now)):
                    break
                await asyncio.sleep(_LOOK_SECONDS)  # Prometheus cannot be waited for
        words: dict[str, list[str]] = {}
        for query in panel_queries(DIRECTORY / f"{NAME}.json"):
            shown = words.setdefault(query.panel, [])
            shown += [one for one in [await self._shown(query, named=bool(shown))] if one]
        return [Shown(panel, ", ".join(shown)) for panel, shown in words.items()]

    async def _shown(self, query: PanelQuery, *, named: bool) -> str:
        samples = await self._prometheus.query(query.expression(span="24h"))
        return ", ".join(_words(query, samples, named=named)) or query.nothing


def _words(query: PanelQuery, samples: Sequence[Sample], *, named: bool) -> Iterator[str]:
    """Yield the values; with `named`, also a value without labels has its legend."""
    for sample in samples:
        if sample.value or len(samples) == 1:
            name = f"{query.name(sample.labels)} " if sample.labels or named else ""
            yield f"{name}{sample.value:.3g}{_UNITS.get(query.unit, '')}"
