"""Orders per second and the duration of an order, next to a workflow with nine no-op activities.

Provisions, provisions that fail at their last step and are rolled back, and deprovisions.
"""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import temporalio.client
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    PollerBehaviorAutoscaling,
    Worker,
)

from activities.current_step import activity_type
from activities.messages import StepContext
from activities.step_groups import StepInterceptor
from bench.cpu import cpu_seconds
from bench.measurements import Measurement, Target, at_least, at_most
from bench.noop import Noop, nothing
from bench.rounds import Measured, Turn, Work, each, medians, rate
from ipam.pools import Pool, add_pool
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import connect
from lastmile.contract import AnyOrder, DeprovisionSubscriber, ProvisionSubscriber, ResultStatus
from lastmile.contract.addressing import Purpose
from lastmile.contract.operations import PROVISION
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.subscribers.tenants import add_tenant
from lastmile.worker import WORKFLOW_TASK_POLLERS, build_worker
from workflows.registry import RUNNER

__all__ = ["measure", "provision_order"]

ROUNDS = 3
BATCH = 64
IN_FLIGHT = 32
LONE = 10
"""The number of sequential runs, for the latency."""
NOOP = "nine no-op activities"
NOOP_QUEUE = "bench-noop"
LAST = PROVISION.steps[-1].name
REFUSED = "R-"
"""The beginning of the order ids of provisions that fail at their last step."""


async def measure(database_url: str, temporal_address: str) -> list[Measurement]:
    """Measure provision and deprovision orders in a migrated database. The peer has the same worker settings."""
    settings = Settings()
    database = Database(database_url, pool_size=settings.database_pool_size)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await _prepare(database)
        client = await connect({"TEMPORAL_ADDRESS": temporal_address})
        authorization = await stack.enter_async_context(DynamicAuthorization(timeout=1, tries=2, in_flight=64))
        config = client.config()
        config["interceptors"] = [*config["interceptors"], _Refusals()]
        of_worker = Client(**config)
        await stack.enter_async_context(build_worker(of_worker, settings, database, authorization))
        await stack.enter_async_context(_noop_worker(client, settings))
        turns = _turns(client)
        await medians(1, turns)  # caches, connections, prepared statements
        found = await medians(ROUNDS, turns)
    return [measurement for operation in TARGETS for measurement in _measurements(operation, found)]


def _turns(client: Client) -> dict[str, Turn]:
    lastmile = Lastmile(client)
    provisions, rollbacks, deprovisions, noops = count(), count(), count(), count()

    def executing(
        order: Callable[[int], AnyOrder], numbers: Iterator[int], status: ResultStatus = ResultStatus.COMPLETED
    ) -> Work:
        async def execute() -> None:
            result = await lastmile.execute(order(next(numbers)))
            if result.status is not status:
                raise RuntimeError(f"order {result.order_id} ended {result.status}: {result.reason}")

        return execute

    async def noop() -> None:
        await client.execute_workflow(Noop.run, "nothing", id=f"noop-{next(noops)}", task_queue=NOOP_QUEUE)

    # Each round deprovisions exactly the lines that it has provisioned.
    return {
        "provision": _turn(executing(provision_order, provisions)),
        "noop": _turn(noop),
        "rollback": _turn(executing(_refused, rollbacks, ResultStatus.ROLLED_BACK)),
        "deprovision": _turn(executing(_deprovision, deprovisions)),
    }


def _turn(work: Work) -> Turn:
    async def turn() -> Measured:
        latency = await each(work, LONE)
        before = cpu_seconds()
        per_second = await rate(work, BATCH, IN_FLIGHT)
        used = {name: (after - before[name]) / BATCH * 1000 for name, after in cpu_seconds().items()}
        return {"rate": per_second, "latency": latency * 1000, **used}

    return turn


@dataclass(frozen=True, slots=True)
class _Targets:
    """Of one operation: its rate, its duration alone, the processor time of worker and client."""

    rate: Target
    alone: Target | None = None
    worker: Target | None = None


TARGETS = {
    "provision": _Targets(at_least(2.0), at_most(0.6), Target("value", "≤", 22)),
    "rollback": _Targets(at_least(1.0)),
    "deprovision": _Targets(at_least(1.3)),
}


def _measurements(operation: str, found: dict[str, Measured]) -> list[Measurement]:
    ours, peer, targets = found[operation], found["noop"], TARGETS[operation]
    servers = (("worker", "worker and client"), ("temporal", "Temporal"), ("postgres", "PostgreSQL"))
    return [
        Measurement(f"{operation}s, {IN_FLIGHT} in flight", ours["rate"], "/s", NOOP, peer["rate"], targets.rate),
        Measurement(f"{operation} alone, median", ours["latency"], "ms", NOOP, peer["latency"], targets.alone),
        *(
            Measurement(
                f"CPU of a {operation}: {server}",
                ours[key],
                "ms",
                NOOP,
                peer[key],
                targets.worker if key == "worker" else None,
            )
            for key, server in servers
        ),
    ]


class _Refusals(temporalio.client.Interceptor, StepInterceptor):
    """Fails the last step of the orders that are to be rolled back."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Refusing(next)


class _Refusing(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        ref = input.args[0] if input.args else None
        if activity_type() == LAST and isinstance(ref, StepContext) and ref.order_id.startswith(REFUSED):
            raise ApplicationError(
                "refused by the benchmark",
                1,
                type="Refused",
                non_retryable=True,
                category=ApplicationErrorCategory.BENIGN,  # otherwise the SDK logs a traceback for each
            )
        return await super().execute_activity(input)


def _noop_worker(client: Client, settings: Settings) -> Worker:
    """Return a worker with the settings of `worker.build_worker`."""
    return Worker(
        client,
        task_queue=NOOP_QUEUE,
        workflows=[Noop],
        activities=[nothing],
        workflow_runner=RUNNER,
        max_concurrent_activities=settings.max_concurrent_activities,
        max_concurrent_workflow_tasks=settings.max_concurrent_workflow_tasks,
        max_cached_workflows=settings.max_cached_workflows,
        workflow_task_poller_behavior=WORKFLOW_TASK_POLLERS,
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
    )


async def _prepare(database: Database) -> None:
    pool = Pool(name="home", prefix="3fff::/32", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme")
    async with database.platform() as platform:
        await add_tenant(platform, "acme", "Acme Broadband")
        await add_pool(platform, pool)


def provision_order(number: int) -> ProvisionSubscriber:
    """Return a typical order: fibre to the home, a delegated prefix, an ONU and a CPE."""
    line: dict[str, Any] = {
        "connection_type": "ftth",
        "onu_serial": f"HWTC{number:08X}",
        "olt": "olt-1",
        "pon_port": "0/1/1",
        "cpe_mac": f"00:1a:2b:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
        "s_vlan": 100,
        "c_vlan": 1 + number % 4094,
        "circuit_id": f"olt-1 0/1/1:{number}",
    }
    return ProvisionSubscriber.model_validate(
        {
            "tenant": "acme",
            "order_id": f"P-{number}",
            "subscriber_ref": f"S-{number}",
            "customer": {"ref": f"C-{number}", "name": "Ada Lovelace", "email": "ada@example.net"},
            "plan": {"name": "fiber-100", "download_kbps": 100_000, "upload_kbps": 50_000},
            "line": line,
            "requested_by": "bench",
        }
    )


def _refused(number: int) -> ProvisionSubscriber:
    """Return a provision that fails at its last step. Every one has a line of its own."""
    order = provision_order(number + 1_000_000)
    return order.model_copy(update={"order_id": f"{REFUSED}{number}"})


def _deprovision(number: int) -> DeprovisionSubscriber:
    return DeprovisionSubscriber(
        tenant="acme", order_id=f"D-{number}", subscriber_ref=f"S-{number}", reason="bench", requested_by="bench"
    )
