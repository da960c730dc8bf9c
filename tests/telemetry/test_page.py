"""One scrape of a worker has everything, in the format that the scraper asks for."""

import asyncio
from collections.abc import Iterable
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from devstack.ports import HOST
from tests.processes import Environment, healthy, port_of, started
from tests.workflows.world import Orders
from workflows.client import Lastmile

OURS = {"lastmile_orders": "counter", "lastmile_step_duration_seconds": "histogram", "python_info": "gauge"}
TEMPORAL = {
    "temporal_workflow_completed": "counter",
    "temporal_workflow_task_execution_latency_seconds": "histogram",
    "temporal_worker_task_slots_available": "gauge",
}


def page(port: int, accept: str) -> str:
    asked = Request(f"http://{HOST}:{port}/metrics", headers={"Accept": accept})
    with build_opener(ProxyHandler({})).open(asked, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith(accept.partition(";")[0])
        return str(answer.read().decode())


@pytest.mark.parametrize(
    ("accept", "read"),
    [("text/plain", plain), ("application/openmetrics-text; version=1.0.0", openmetrics)],
    ids=["text", "OpenMetrics"],
)
async def test_one_scrape_has_all(
    environment: Environment, lastmile: Lastmile, orders: Orders, accept: str, read: object
) -> None:
    async with started(environment):
        await healthy(port_of(environment))
        await lastmile.execute(orders.provision())
        text = await asyncio.to_thread(page, port_of(environment), accept)

    families: Iterable[Metric] = list(read(text))  # type: ignore[operator]
    types = {family.name: family.type for family in families}
    assert types.items() >= (OURS | TEMPORAL).items()
    samples = {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("workflow_type") == "Provision" or sample.labels.get("operation") == "provision"
    }
    assert samples["lastmile_orders_total"] == samples["temporal_workflow_completed_total"] == 1
