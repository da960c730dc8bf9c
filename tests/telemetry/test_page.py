"""Tests of the page `/metrics` of a worker."""

import asyncio
from collections.abc import Callable, Iterable
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from lastmile.client.orders import Lastmile
from lastmile.devstack.ports import HOST
from tests.support.orders import Orders
from tests.support.processes import Environment, healthy, port_of, started, until

Read = Callable[[str], Iterable[Metric]]

OURS = {"lastmile_orders": "counter", "lastmile_step_duration_seconds": "histogram", "python_info": "gauge"}
TEMPORAL = {
    "temporal_workflow_completed": "counter",
    "temporal_workflow_task_execution_latency_seconds": "histogram",
    "temporal_worker_task_slots_available": "gauge",
}


def page(port: int, accept: str) -> str:
    asked = Request(f"http://{HOST}:{port}/metrics", headers={"Accept": accept})
    with build_opener(ProxyHandler({})).open(asked, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith(accept.partition(";")[0])
        return str(answer.read().decode())


def samples(families: Iterable[Metric]) -> dict[str, float]:
    """Return the samples about provision orders."""
    return {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("workflow_type") == "Provision" or sample.labels.get("operation") == "provision"
    }


@pytest.mark.parametrize(
    ("accept", "read"),
    [("text/plain", plain), ("application/openmetrics-text; version=1.0.0", openmetrics)],
    ids=["text", "OpenMetrics"],
)
async def test_metrics_page_has_the_metrics_of_lastmile_and_the_sdk(
    environment: Environment, lastmile: Lastmile, orders: Orders, accept: str, read: Read
) -> None:
    async def ended() -> list[Metric]:
        """Scrape after the end of the run. The worker learns of the end later than the client."""
        families = list(read(await asyncio.to_thread(page, port_of(environment), accept)))
        return families if "temporal_workflow_completed_total" in samples(families) else []

    async with started(environment):
        await healthy(port_of(environment))
        await lastmile.execute(orders.provision())
        families = await until(ended)

    types = {family.name: family.type for family in families}
    assert types.items() >= (OURS | TEMPORAL).items()
    counted = samples(families)
    assert counted["lastmile_orders_total"] == counted["temporal_workflow_completed_total"] == 1
