"""An ISP whose day is known to the last order: what its dashboards and alerts must say is known as well."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import httpx
from temporalio.client import ScheduleHandle, ScheduleInfo, ScheduleOverlapPolicy
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from ipam.netbox import NetBox
from ipam.pools import Pool, add_pool
from lastmile.cli.demo.netbox import DemoNetBox
from lastmile.client.operator_client import OperatorClient
from lastmile.client.orders import Lastmile
from lastmile.client.pool_renumbering import start_renumbering
from lastmile.client.schedules.manager import ScheduleManager
from lastmile.client.temporal.connection import connect
from lastmile.contract import Operation, ResultStatus
from lastmile.contract.addressing import Addressing, Purpose
from lastmile.contract.pool_renumbering import PoolRenumbering
from lastmile.db import Database
from lastmile.devstack.prometheus import Prometheus
from lastmile.devstack.stack import Stack
from lastmile.fields.daily_window import DailyWindow
from lastmile.radius.nas import NasRecord, add_nas
from lastmile.subscribers.tenants import add_tenant
from lastmile.telemetry.metrics import OUTCOMES
from tests.support.orders import Orders
from tests.support.processes import until
from workflows.search_attributes import ATTENTION, TENANT

__all__ = ["Isp"]

TENANTS = {"acme": "Acme Broadband", "other": "Other Networks"}
HOME = Pool(name="home", prefix="2001:db8::/48", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme")
TINY = Pool(name="tiny", prefix="2001:db8:200::/55", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="other")
NAS = "bng-1"
TASK_QUEUE = "lastmile"


class Isp:
    """Tenants `acme` and `other`, on a stack; `owner` is past row-level security.

    `prometheus` sees its worker as two, to which a figure must not be twice what it is.
    """

    def __init__(self, stack: Stack, prometheus: Prometheus, owner: asyncpg.Connection) -> None:
        self.prometheus = prometheus
        self._stack = stack
        self._owner = owner
        self._numbers = count(1)
        self._ended = 0
        self.at = 0.0
        """When the day was over, and is to be looked at."""

    async def live(self) -> None:
        """The day. Things happen twice: a counter that has just been born has not risen yet."""
        client = await connect(self._stack.environment)
        self._lastmile = Lastmile(client)
        await self._set_up()
        await client.execute_workflow("Metrics", id="first-figures", task_queue=TASK_QUEUE)
        await self._seen(f"count(lastmile_orders_total == 0) == {2 * len(TENANTS) * len(Operation) * len(OUTCOMES)}")
        for _ in range(2):
            staying, leaving, silent, *_ = await asyncio.gather(
                *(self._provision() for _ in range(3)), self._provision(pool="metro"), self._provision("other")
            )
            await self._take_down(leaving, "acked", "completed")
            await self._take_down(silent, "silent", "degraded")
            await self._settled()
        for _ in range(2):  # there is no prefix left for them
            await asyncio.gather(*(self._provision("other", status="rolled_back") for _ in range(4)))
            await self._settled()
        await self._try_again()
        await self._settled()
        await self._plan_a_renumbering()
        await self._break_a_promise(staying)
        await self._run_schedules("cleanup", "audit")
        await self._refuse_a_caller()
        await self._go_wrong(staying)
        await self._lose_netbox()
        await until(self._snapshot_after_another)
        over = time.time()
        self.at = await until(lambda: self._evening(over))

    async def _evening(self, over: float) -> float | None:
        """Return a time after the day at which both workers were scraped, and all that the day brings was seen.

        It is a little ago: no scrape that is under way can still change what was seen then. Workers and Prometheus have
        had time for the last snapshot.
        """
        at = time.time() - 5
        if at < over + 5:
            return None
        all_seen = (
            'count(up == 1) == 3 and on () ALERTS{alertname="IPv6PrefixLeak"} and on () '
            'absent(ALERTS{alertname=~"LastmileSnapshotStale|LastmileScheduleOverdue"})'
        )
        return at if await self.prometheus.query(all_seen, at=at) else None

    async def _set_up(self) -> None:
        stack = self._stack
        assert stack.netbox is not None
        database = Database(stack.environment["DATABASE_URL"])
        async with NetBox(stack.netbox.url, stack.environment["NETBOX_TOKEN"]) as netbox:
            metro = await DemoNetBox(netbox, database).pool("acme", TENANTS["acme"])
        async with database.platform() as platform:
            for tenant, name in TENANTS.items():
                await add_tenant(platform, tenant, name)
            for pool in (HOME, TINY, metro):
                await add_pool(platform, pool)
            secret = stack.nas.secret.decode()
            await add_nas(
                platform, NasRecord(address=stack.nas.address, name=NAS, secret=secret, coa_port=stack.nas.port)
            )
        await database.close()

    async def _provision(self, tenant: str = "acme", pool: str | None = None, status: str = "completed") -> str:
        """A new line, with devices of its own; its subscriber."""
        changes = {"addressing": Addressing(ipv6_pool=pool)} if pool else {}
        number = next(self._numbers)
        order = Orders("line", tenant).provision(f"O-{number}", number, **changes)
        await self._send(order, status)
        return order.subscriber_ref

    async def _take_down(self, ref: str, session: str, status: str) -> None:
        """A line of acme's, with a session that the NAS ends, or is silent about."""
        await self._owner.execute(
            "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime)"
            " VALUES ($1, $1, $2, $3, now())",
            f"{session}-{ref}",
            f"{ref}@acme.lastmile",
            self._stack.nas.address,
        )
        await self._send(Orders(ref).deprovision(f"O-{next(self._numbers)}"), status)

    async def _try_again(self) -> None:
        """A step that fails twice: the database says no for a while."""
        await self._owner.execute("REVOKE INSERT ON billing_services FROM lastmile_app")
        line = asyncio.create_task(self._provision())
        await self._risen("lastmile_step_retries_total")
        await self._owner.execute("GRANT INSERT ON billing_services TO lastmile_app")
        await line

    async def _plan_a_renumbering(self) -> None:
        """A renumbering of acme's lines that waits for its window: none of them gets an order today."""
        now = datetime.now(UTC)
        later = DailyWindow(
            start=(now + timedelta(hours=11)).time(), end=(now + timedelta(hours=12)).time(), zone="UTC"
        )
        pool = await self._owner.fetchval("SELECT id FROM pools WHERE name = $1 AND tenant_id = 'acme'", HOME.name)
        request = PoolRenumbering(
            pool_id=pool,
            pool=HOME.name,
            tenant="acme",
            purpose=HOME.purpose,
            target="metro",
            lines_per_hour=200,
            window=later,
            overlap_hours=2,
            failed_percent=5,
        )
        await start_renumbering(OperatorClient(self._lastmile.client, TASK_QUEUE), request)

    async def _refuse_a_caller(self) -> None:
        """A caller without a token asks the API twice."""
        async with httpx.AsyncClient(base_url=self._stack.api_url) as api:
            for _ in range(2):
                assert (await api.get("/v1/orders")).status_code == 401
                assert (await api.post("/v1/orders")).status_code == 401
                await self._seen('lastmile_api_refusals_total{reason="token"} >= 2')

    async def _lose_netbox(self) -> None:
        """Stop NetBox, so that a prefix is not reported."""
        assert self._stack.netbox is not None
        await self._stack.netbox.process.stop()
        await self._provision(pool="metro")
        await self._seen('ALERTS{alertname="LastmileNetBoxErrors"}')
        # The alert counts any method. The report of the prefix, a POST, is repeated.
        await self._risen('lastmile_netbox_errors_total{method="POST", kind="NetBoxUnreachableError"}')

    async def _break_a_promise(self, line: str) -> None:
        """Create a violation that the audit cannot repair: a line that is not billed."""
        await self._owner.execute(
            "DELETE FROM billing_services USING subscribers s WHERE s.id = subscriber_id AND s.ref = $1", line
        )

    async def _go_wrong(self, line: str) -> None:
        """What takes too long here: a day that passes, a run that waits for a person, code that does not fit a run."""
        await self._owner.execute(
            "UPDATE delegations SET state = 'allocated', state_since = now() - interval '25 hours'"
            " WHERE subscriber_ref = $1",
            line,
        )
        waits = TypedSearchAttributes([SearchAttributePair(ATTENTION, True), SearchAttributePair(TENANT, "acme")])
        client = self._lastmile.client
        await client.start_workflow("Provision", id="waits", task_queue="nobody", search_attributes=waits)
        await client.start_workflow("Unheard-of", id="cannot", task_queue=TASK_QUEUE)
        await self._risen("temporal_workflow_task_execution_failed_total")

    async def _run_schedules(self, *schedules: str) -> None:
        """Have each schedule's workflow run now, one after the other."""
        client = self._lastmile.client
        for name in schedules:
            schedule = client.get_schedule_handle(ScheduleManager(client, TASK_QUEUE).id_of(name))
            before = _last((await schedule.describe()).info)
            await schedule.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)  # it may run by itself at this moment
            await until(lambda schedule=schedule, before=before: _ended(schedule, before))

    async def _send(self, order: Any, status: str) -> None:
        result = await self._lastmile.execute(order)
        assert result.status is ResultStatus(status), result
        self._ended += 1

    async def _snapshot_after_another(self) -> bool:
        """Whether both workers show one that knows of a run of `metrics` that has succeeded: never the first."""
        await self._run_schedules("metrics")
        success = 'lastmile_schedule_last_success_timestamp_seconds{schedule="metrics"}'
        return bool(await self.prometheus.query(f"count({success}) == 2"))

    async def _settled(self) -> None:
        await self._seen(f"sum(lastmile_orders_total) == {2 * self._ended}")

    async def _risen(self, counter: str) -> None:
        await self._seen(f"increase({counter}[1h]) > 0")

    async def _seen(self, expr: str) -> None:
        """Until Prometheus has scraped that this is so."""
        await until(lambda: self.prometheus.query(expr))


async def _ended(schedule: ScheduleHandle, before: datetime) -> bool:
    """Whether the run that the schedule was made to start has come to its end."""
    info = (await schedule.describe()).info
    return _last(info) > before and not info.running_actions


def _last(info: ScheduleInfo) -> datetime:
    """When its last run was started."""
    return max((action.started_at for action in info.recent_actions), default=datetime.min.replace(tzinfo=UTC))
