"""How many SQL statements each operation takes, against a committed baseline: a slow query is a failing test.

Counted is what an operation sends itself. Not counted is what frames each transaction: one message with BEGIN, the
tenant and, for a step, its order's fence; and COMMIT (`tests/db/test_transaction_start.py`).
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from temporalio.testing import ActivityEnvironment

from activities.accounts import AccountActivities
from activities.addresses import AddressActivities
from activities.devices import DeviceActivities
from activities.messages import StepContext, StepReport
from activities.records import RecordActivities
from ipam.allocation import Allocation, Quarantine, allocate, release
from ipam.delegations import transition
from ipam.errors import PoolExhaustedError
from ipam.lifecycle import State
from lastmile.contract.addressing import Addressing, Need, Purpose
from lastmile.contract.lines import Customer, Line, ServicePlan
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.subscribers.orders import OrderStatus, close_order, open_order

BASELINE = Path(__file__).with_name("statements.json")

PD = Need(Purpose.IPV6_PD, 56, pool="home")
QUARANTINE = Quarantine(timedelta(hours=24), timedelta(days=7))
PLAN = ServicePlan(name="fiber-500", download_kbps=500_000, upload_kbps=100_000)
LINE = Line(connection_type="ftth", onu_serial="ABCD00000001", cpe_mac="00:1a:2b:3c:4d:5e")

# A pool with its frontier at its end or beyond the held slots, and this number of held slots within reach.
TAKEN = """
WITH pool AS (UPDATE pools SET frontier = $1 WHERE name = 'home' RETURNING id, tenant_id)
INSERT INTO slots (pool_id, slot, tenant_id, delegation_id, free_at, last_holder)
SELECT id, slot, tenant_id, CASE WHEN slot < $2 THEN 1000000 + slot END,
       CASE WHEN slot >= $1 - $3 THEN now() + interval '1 day' ELSE '-infinity' END,
       CASE WHEN slot >= $2 THEN 'acme/gone-' || slot || '/ipv6_pd' END
FROM pool, generate_series(0, $1::bigint - 1) AS slot
"""


class Counter:
    """Statements per operation, as they go over the wire."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.counts: dict[str, int] = {}

    @contextmanager
    def counting(self, operation: str) -> Iterator[None]:
        self.counts[operation] = 0

        def count(*_: Any) -> None:
            self.counts[operation] += 1

        event.listen(self.database.engine.sync_engine, "before_cursor_execute", count)
        try:
            yield
        finally:
            event.remove(self.database.engine.sync_engine, "before_cursor_execute", count)

    def check(self, part: str) -> None:
        if self.counts != json.loads(BASELINE.read_text())[part]:
            now = json.dumps({part: self.counts}, indent=2)
            pytest.fail(f"statements differ from {BASELINE.name}; if that is meant, put this there:\n{now}")


@pytest.fixture
def counter(database: Database) -> Counter:
    return Counter(database)


async def allocated(database: Database, ref: str, order: str = "o1", need: Need = PD) -> Allocation:
    async with database.tenant("acme") as connection:
        return await allocate(connection, tenant="acme", subscriber_ref=ref, order_id=order, need=need)


async def test_addresses(database: Database, counter: Counter, owner: asyncpg.Connection) -> None:
    with counter.counting("allocate from an empty pool"):
        await allocated(database, "S-1")
    with counter.counting("allocate by a known key"):
        await allocated(database, "S-1")
    with counter.counting("allocate where the subscriber holds one"):
        await allocated(database, "S-1", "o2")
    with counter.counting("allocate from slots within reach"):
        held = (await allocated(database, "S-2")).delegation
    async with database.tenant("acme") as connection:
        with counter.counting("move to another state"):
            held = await transition(connection, held, State.REVOKING, order_id="o1", reason="ordered")
        held = await transition(connection, held, State.REVOKED, order_id="o1", reason="ordered")
        with counter.counting("release"):
            await release(connection, held, QUARANTINE)
    with counter.counting("allocate what the subscriber had"):
        await allocated(database, "S-2", "o2")

    static = Need(Purpose.IPV4, 32, address=IPv4Address("198.51.100.2"))
    with counter.counting("allocate a static address"):
        await allocated(database, "S-1", need=static)

    await owner.execute("DELETE FROM delegations; DELETE FROM slots")
    await owner.execute(TAKEN, 5_001, 5_000, 0)
    with counter.counting("allocate with 5000 taken"):
        await allocated(database, "S-5000")
    with counter.counting("allocate with 5001 taken, beyond the frontier"):
        await allocated(database, "S-5001")
    await owner.execute("UPDATE slots SET delegation_id = -slot - 1; UPDATE pools SET frontier = end_slot")
    with counter.counting("refuse an exhausted pool"), pytest.raises(PoolExhaustedError):
        await allocated(database, "S-5002")

    counter.check("addresses")
    allocations = {name: count for name, count in counter.counts.items() if name.startswith("allocate")}
    assert max(allocations.values()) <= 3, allocations


async def test_allocation_from_a_large_pool_uses_the_index(database: Database, owner: asyncpg.Connection) -> None:
    """Of 200 000 slots, half are held and most others are in quarantine: an allocation reads a handful of rows."""
    await owner.execute("UPDATE pools SET prefix = '2001:db8:8000::/36', end_slot = 1 << 20 WHERE name = 'home'")
    await owner.execute(TAKEN, 200_000, 100_000, 99_900)
    reads = text(
        """
        SELECT pg_stat_get_xact_numscans('slots_free'::regclass) AS by_index,
               pg_stat_get_xact_tuples_returned('slots'::regclass) AS read_in_sequence,
               pg_stat_get_xact_tuples_returned('slots_free'::regclass) AS read_by_index
        """
    )
    for statistics in ("none yet", "fresh"):
        if statistics == "fresh":
            await owner.execute("ANALYZE slots")
        # More often than it takes PostgreSQL to try a generic plan.
        for n in range(8):
            async with database.tenant("acme") as connection:
                await allocate(
                    connection, tenant="acme", subscriber_ref=f"{statistics[:4]}-{n}", order_id="o1", need=PD
                )
                seen = (await connection.execute(reads)).one()
            assert seen.by_index > 0, statistics
            assert seen.read_in_sequence == 0, statistics
            assert seen.read_by_index < 50, statistics


@pytest.fixture
async def authorization() -> AsyncIterator[DynamicAuthorization]:
    async with DynamicAuthorization(timeout=1, tries=1, in_flight=4) as client:
        yield client


async def test_steps(
    database: Database, counter: Counter, owner: asyncpg.Connection, authorization: DynamicAuthorization
) -> None:
    """A whole line up and down, a second attempt of each step, and each undo of an order that made nothing."""
    records = RecordActivities(database)
    accounts = AccountActivities(database, authorization, QUARANTINE.unconfirmed)
    addresses, devices = AddressActivities(database, authorization, QUARANTINE), DeviceActivities(database)
    environment = ActivityEnvironment()

    async def order(order_id: str, operation: str) -> None:
        async with database.tenant("acme") as connection:
            await open_order(connection, "acme", order_id, operation, "S-1", "d", "r1")

    async def close(order_id: str) -> None:
        async with database.tenant("acme") as connection:
            await close_order(connection, order_id, OrderStatus.COMPLETED, {})

    async def run(step: Callable[..., Awaitable[StepReport]], name: str, ref: StepContext, *arguments: Any) -> None:
        with counter.counting(f"{name}{step.__name__}"):
            await environment.run(step, ref, *arguments)

    up = StepContext(tenant="acme", order_id="o1", subscriber_ref="S-1")
    provision: list[tuple[Callable[..., Awaitable[StepReport]], tuple[Any, ...]]] = [
        (records.create_customer, (Customer(ref="C-1", name="Ada"),)),
        (records.create_subscriber, ("C-1",)),
        (records.create_network_profile, (LINE,)),
        (accounts.create_radius_account, (PLAN, LINE, None)),
        (addresses.allocate_ip_address, (Addressing(ipv6_pool="home"),)),
        (addresses.activate_ipv6_lifecycle, ()),
        (devices.activate_onu, ()),
        (devices.configure_cpe, ()),
        (records.create_billing_service, (PLAN,)),
    ]
    with counter.counting("open_order"):
        await order("o1", "provision")
    for attempt in ("", "again: "):
        for step, arguments in provision:
            await run(step, attempt, up, *arguments)
    with counter.counting("close_order"):
        await close("o1")

    await order("o2", "provision")
    undo = StepContext(tenant="acme", order_id="o2", subscriber_ref="S-1", undo=True)
    for step in (
        *(records.delete_billing_service, devices.unconfigure_cpe, devices.deactivate_onu),
        *(addresses.revoke_ipv6_lifecycle, addresses.release_ip_address, accounts.delete_radius_account),
        *(records.delete_network_profile, records.delete_subscriber, records.delete_customer),
    ):
        await run(step, "undo of nothing: ", undo)
    await close("o2")

    await order("o3", "deprovision")
    down = StepContext(tenant="acme", order_id="o3", subscriber_ref="S-1")
    for step in (
        *(records.verify_subscriber, records.suspend_billing_service, devices.deactivate_onu),
        *(devices.unconfigure_cpe, addresses.revoke_ipv6_lifecycle, addresses.release_ip_address),
        *(accounts.delete_radius_account, records.delete_network_profile),
    ):
        await run(step, "", down)
    await run(records.archive_subscriber, "", down, "moved away")
    counter.check("steps")
