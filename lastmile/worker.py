"""The worker process: settings, clients, Temporal worker, `/healthz`, `/readyz` and `/metrics`.

`python worker.py` runs from the environment alone. SIGTERM and SIGINT end it gracefully: no new work is taken,
running activities get their time to finish, and what does not finish is handed back to be tried elsewhere.
"""

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import REGISTRY
from pydantic import ValidationError
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorAutoscaling, PollerBehaviorSimpleMaximum, Worker, WorkerDeploymentConfig

from activities.accounts import AccountActivities
from activities.addresses import AddressActivities
from activities.device_changes import DeviceChangeActivities
from activities.devices import DeviceActivities
from activities.interceptor import ActivityInterceptor
from activities.maintenance.audit import AuditActivities
from activities.maintenance.cleanup import CleanupActivities
from activities.maintenance.metrics import SnapshotActivities
from activities.maintenance.pool_mode import PoolModeActivities
from activities.maintenance.pool_renumbering import PoolRenumberingActivities
from activities.maintenance.resumption import ResumptionActivities
from activities.orders import OrderActivities
from activities.plans import PlanActivities
from activities.records import RecordActivities
from activities.replacements import ReplacementActivities
from activities.step_groups import StepGroups, StepInterceptor
from activities.suspensions import SuspensionActivities
from ipam.allocation import Quarantine
from ipam.netbox import NetBox
from ipam.netbox.delegated.block_maintenance import BlockMaintenance
from lastmile.client.accepted_order_sweeper import AcceptedOrderSweeper
from lastmile.client.hook_intake import HookIntake
from lastmile.client.hook_sweeper import HookSweeper
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.orders import Lastmile
from lastmile.client.schedules.bootstrap import ScheduleBootstrap
from lastmile.client.schedules.manager import ScheduleManager
from lastmile.client.temporal.metrics import read_temporal_metrics
from lastmile.client.temporal.settings import temporal_setting_mistakes
from lastmile.client.temporal.worker_versions import current_build, make_current
from lastmile.code_id import code_id
from lastmile.db import Database
from lastmile.devices.controllers import Controller, OnuController
from lastmile.devices.routing import Controllers
from lastmile.metrics.snapshot import read_newest_snapshot
from lastmile.processes import run_together
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.services.device_reconciler import DeviceReconciler
from lastmile.services.device_rounds import DeviceRounds
from lastmile.services.open_controllers import ControllerPool
from lastmile.settings import Settings
from lastmile.startup_checks import ConfigurationError, clients
from lastmile.telemetry.http import Application, serve, worker_pages
from lastmile.telemetry.logs import set_up_logging
from lastmile.telemetry.readiness import CHECK_TIMEOUT_SECONDS, Check, Readiness
from lastmile.telemetry.snapshot import SnapshotCollector
from lastmile.telemetry.temporal import observe_temporal
from lastmile.validation_messages import setting_mistakes
from workflows.registry import FAILURE_TYPES, RUNNER, WORKFLOWS

__all__ = ["WORKFLOW_TASK_POLLERS", "build_worker", "main"]

# One poll for runs that begin, and one for those that this process has in its cache. A poll that waits holds a workflow
# task slot, and most orders need one workflow task: with more polls for the cached runs, these would hold most slots.
WORKFLOW_TASK_POLLERS = PollerBehaviorSimpleMaximum(2)

EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2

log = structlog.get_logger("lastmile.worker")


def build_worker(
    client: Client,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
    *,
    netbox: NetBox | None = None,
    onu: OnuController | None = None,
    cpe: Controller | None = None,
    controllers: Controllers | None = None,
) -> Worker:
    """A Temporal worker for all workflows and activities, on the given clients.

    `onu` and `cpe` control every device of their kind; `controllers` are chosen by the device.
    """
    controllers = controllers or Controllers.everywhere(onu, cpe)
    quarantine = Quarantine(settings.quarantine, settings.quarantine_unconfirmed)
    vrf = settings.vrf_attribute
    observer = ActivityInterceptor()
    steps = _activities(
        RecordActivities(database),
        AccountActivities(database, authorization, quarantine.unconfirmed, settings.key_ring),
        AddressActivities(database, authorization, quarantine, netbox, vrf_attribute=vrf),
        ReplacementActivities(database, authorization, quarantine, netbox, vrf_attribute=vrf),
        DeviceActivities(database, controllers),
        DeviceChangeActivities(database, controllers),
        PlanActivities(database, authorization, quarantine.unconfirmed, controllers),
        SuspensionActivities(database, authorization, quarantine.unconfirmed),
    )
    # As for activities, the client's interceptors are the outer ones.
    of_client = [one for one in client.config()["interceptors"] if isinstance(one, StepInterceptor)]
    groups = StepGroups({step.__name__: step for step in steps}, [*of_client, observer])
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=WORKFLOWS,
        activities=steps
        + _activities(
            OrderActivities(database, groups),
            CleanupActivities(database, authorization, quarantine, settings.audit_period, netbox, vrf_attribute=vrf),
            AuditActivities(database, authorization, quarantine, netbox, vrf_attribute=vrf),
            ResumptionActivities(database),
            SnapshotActivities(database, partial(read_temporal_metrics, client, settings.task_queue)),
            PoolModeActivities(database, netbox, settings.quarantine_unconfirmed),
            PoolRenumberingActivities(database),
        ),
        interceptors=[observer],
        workflow_runner=RUNNER,
        deployment_config=_deployment(settings),
        build_id=code_id() if settings.build_id is None else None,
        workflow_failure_exception_types=FAILURE_TYPES,
        max_concurrent_activities=settings.max_concurrent_activities,
        max_concurrent_local_activities=settings.max_concurrent_activities,
        max_concurrent_workflow_tasks=settings.max_concurrent_workflow_tasks,
        max_cached_workflows=settings.max_cached_workflows,
        workflow_task_poller_behavior=WORKFLOW_TASK_POLLERS,
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        graceful_shutdown_timeout=timedelta(seconds=settings.shutdown_grace_seconds),
    )


def _deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    """Return the version that keeps its runs; None without a build id: Temporal then refuses a behaviour."""
    if settings.build_id is None:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(settings.deployment, settings.build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


def _activities(*classes: object) -> list[Callable[..., Any]]:
    """Every method that is an activity."""
    methods = (getattr(instance, name) for instance in classes for name in dir(instance))
    return [method for method in methods if hasattr(method, "__temporal_activity_definition")]


async def run(settings: Settings, pollers: Callable[[], int]) -> None:
    """Run until SIGTERM or SIGINT. Raises `ConfigurationError` before any work is taken.

    `pollers` counts the polls that this process keeps open at Temporal.
    """
    async with AsyncExitStack() as stack:
        netbox = await stack.enter_async_context(NetBox(**settings.netbox)) if settings.netbox else None
        client, database = await clients(settings, netbox, stack)
        authorization = await stack.enter_async_context(
            DynamicAuthorization(
                timeout=settings.radius_timeout_seconds,
                tries=settings.radius_tries,
                in_flight=settings.radius_in_flight,
            )
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        collector = SnapshotCollector(partial(read_newest_snapshot, database), loop)
        REGISTRY.register(collector)
        stack.callback(REGISTRY.unregister, collector)

        async def polling() -> str:
            if stop.is_set():
                return "stopping"
            return "" if await asyncio.to_thread(pollers) else "does not poll for tasks"

        checks: dict[str, Check] = {
            "database": partial(_look_at_database, database),
            "temporal": partial(_look_at_temporal, client),
            "worker": polling,
        }
        pages = worker_pages(lambda: not stop.is_set(), Readiness(loop, checks).report)
        http = _serve(settings, pages)
        stack.callback(http.shutdown)
        pool = await stack.enter_async_context(ControllerPool(database, settings.key_ring))
        worker = build_worker(client, settings, database, authorization, netbox=netbox, controllers=pool.controllers)
        await stack.enter_async_context(DeviceReconciler(database, pool.controllers.by_kind))
        await stack.enter_async_context(DeviceRounds(database, pool.controllers))
        if netbox is not None:
            await stack.enter_async_context(BlockMaintenance(database, netbox, settings.quarantine_unconfirmed))
        orders = Lastmile(client, task_queue=settings.task_queue)
        await stack.enter_async_context(AcceptedOrderSweeper(database, orders, settings.key_ring))
        acceptance = await stack.enter_async_context(OrderAcceptance(database, orders, settings.key_ring))
        intake = HookIntake(database, acceptance, settings.key_ring)
        await stack.enter_async_context(HookSweeper(database, intake))
        async with worker, ScheduleBootstrap(ScheduleManager(client, settings.task_queue)):
            log.info("worker.started", task_queue=settings.task_queue, http_port=http.server_port)
            if settings.build_id is not None and settings.build_id != await current_build(client, settings.task_queue):
                log.warning("worker.gets_no_new_orders", remedy=make_current(settings.deployment, settings.build_id))
            await stop.wait()
            log.info("worker.stopping", grace_seconds=settings.shutdown_grace_seconds)
    log.info("worker.stopped")


async def _look_at_database(database: Database) -> str:
    await database.ping()
    return ""


async def _look_at_temporal(client: Client) -> str:
    """A request that reads Temporal's own database, which its gRPC health check does not."""
    try:
        request = DescribeNamespaceRequest(namespace=client.namespace)
        await client.workflow_service.describe_namespace(request, timeout=timedelta(seconds=CHECK_TIMEOUT_SECONDS))
    except RPCError as failure:
        return f"no answer ({failure.status.name})"
    return ""


def _serve(settings: Settings, pages: Application) -> WSGIServer:
    """Serve the worker's pages. Raises `ConfigurationError`."""
    try:
        return serve(settings.http_host, settings.http_port, pages)
    except OSError as failure:
        raise ConfigurationError(
            [f"LASTMILE_HTTP_PORT: {settings.http_host}:{settings.http_port} cannot be used: {failure.strerror}"]
        ) from failure


def _run_many(settings: Settings, processes: int) -> int:
    """This many workers, each a process of its own with the next HTTP port; they live and end together."""
    ports = [settings.http_port + index if settings.http_port else 0 for index in range(processes)]
    return run_together(
        [sys.executable, "-m", "lastmile.worker"], [{"LASTMILE_HTTP_PORT": str(port)} for port in ports]
    )


def _refuse(problems: Sequence[str]) -> NoReturn:
    print("The worker cannot start:", *(f"  - {problem}" for problem in problems), sep="\n", file=sys.stderr)
    _exit(EXIT_MISCONFIGURED)


def _exit(status: int) -> NoReturn:
    """End without taking the interpreter down first: a thread of the Temporal SDK that wakes up meanwhile would
    abort the process, in place of its status."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _count(typed: str) -> int:
    """Parse `--processes`. Raises `ArgumentTypeError`."""
    if not re.fullmatch("[1-9][0-9]{0,2}", typed):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 999, and is {typed!r}")
    return int(typed)


def main() -> None:
    """The command line of `python worker.py`."""
    parser = argparse.ArgumentParser(description="Run Lastmile's Temporal worker, configured by the environment.")
    parser.add_argument("--processes", type=_count, default=1, metavar="N", help="worker processes (default: 1)")
    arguments = parser.parse_args()
    try:
        settings = Settings.load()
    except ValidationError as failure:
        _refuse(setting_mistakes(failure, Settings) + temporal_setting_mistakes(os.environ))
    set_up_logging(settings.log_format, settings.log_level)
    if arguments.processes > 1:
        sys.exit(_run_many(settings, arguments.processes))
    try:
        metrics = observe_temporal()
        asyncio.run(run(settings, metrics.count_pollers))
    except ConfigurationError as failure:
        _refuse(failure.problems)
    except Exception:
        log.critical("worker.failed", exc_info=True)
        _exit(EXIT_FAILED)
    _exit(0)


if __name__ == "__main__":
    main()
