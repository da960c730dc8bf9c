"""An environment for the audit: subscribers that the real steps provision without Temporal, to be damaged by tests."""

from datetime import timedelta

import asyncpg
from temporalio.testing import ActivityEnvironment

from activities.accounts import AccountActivities
from activities.addresses import AddressActivities
from activities.device_changes import DeviceChangeActivities
from activities.devices import DeviceActivities
from activities.group_messages import OrderOpening
from activities.messages import StepContext, StepReport
from activities.orders import OrderActivities
from activities.plans import PlanActivities
from activities.records import RecordActivities
from activities.step_groups import StepGroups
from activities.suspensions import SuspensionActivities
from ipam.allocation import Quarantine
from lastmile.audit.audit import Violation, check, repair
from lastmile.contract.addressing import Addressing
from lastmile.contract.lines import Customer, Line, ServicePlan
from lastmile.contract.orders import LineRequest, Operation
from lastmile.contract.suspension import Refusal, SuspensionMode
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.vrf import VrfAttribute
from tests.support.steps import closing

__all__ = ["FREE_SLOT", "OF_S1", "QUARANTINE", "AuditedEnv"]

QUARANTINE = Quarantine(confirmed=timedelta(hours=1), unconfirmed=timedelta(hours=2))
FREE_SLOT = "pool_id = (SELECT id FROM pools WHERE name = 'home') AND slot = 100"
VRF_ATTRIBUTE = VrfAttribute("Cisco-AVPair", "ip:vrf-id={vrf}")
OF_S1 = "subscriber_ref = 'S-1' AND released_at IS NULL"

PLAN = ServicePlan(name="fiber", download_kbps=500_000, upload_kbps=250_000)


class AuditedEnv:
    """The subscribers of tenant `acme`. `owner` bypasses row-level security, to damage records."""

    def __init__(self, database: Database, owner: asyncpg.Connection, authorization: DynamicAuthorization) -> None:
        self.database = database
        self.owner = owner
        self._orders = OrderActivities(database, StepGroups({}))
        self._records = RecordActivities(database)
        self._accounts = AccountActivities(database, authorization, QUARANTINE.unconfirmed)
        self._addresses = AddressActivities(database, authorization, QUARANTINE, vrf_attribute=VRF_ATTRIBUTE)
        self._devices = DeviceActivities(database)
        self._device_changes = DeviceChangeActivities(database)
        self._plans = PlanActivities(database, authorization, QUARANTINE.unconfirmed)
        self._suspensions = SuspensionActivities(database, authorization, QUARANTINE.unconfirmed)

    async def provision(
        self,
        nth: int = 1,
        *,
        order: str | None = None,
        ends: str | None = "completed",
        pool: str | None = None,
        **more: str,
    ) -> StepContext:
        """Provision subscriber S-`nth` by order O-`nth`, with `more` fields of the line.

        With `ends=None` the order stays running.
        """
        ref = self._ref(nth, order or f"O-{nth}")
        fields = {"connection_type": "ftth", "onu_serial": f"ACME{nth:08X}", "cpe_mac": f"00:1a:2b:00:00:{nth:02x}"}
        line = Line.model_validate(fields | more)
        customer, addressing = Customer(ref="C-1", name="Ada Example"), Addressing(ipv6_pool=pool)
        wanted = LineRequest(customer=customer, plan=PLAN, line=line, addressing=addressing)
        run = ActivityEnvironment().run
        await run(self._orders.open_order, ref, OrderOpening(operation="provision", digest=ref.order_id, line=wanted))
        await run(self._records.create_customer, ref, customer)
        await run(self._records.create_subscriber, ref, "C-1")
        await run(self._records.create_network_profile, ref, line)
        await run(self._accounts.create_radius_account, ref, PLAN, line, None)
        allocated = await run(self._addresses.allocate_ip_address, ref, addressing)
        await run(self._addresses.activate_ipv6_lifecycle, ref)
        await run(self._devices.activate_onu, ref)
        await run(self._devices.configure_cpe, ref)
        await run(self._records.create_billing_service, ref, PLAN)
        await self._end(ref, ends, allocate_ip_address=allocated)
        return ref

    async def deprovision(
        self, nth: int = 1, *, order: str | None = None, ends: str | None = "completed"
    ) -> StepContext:
        """Deprovision subscriber S-`nth` by order D-`nth`."""
        ref = self._ref(nth, order or f"D-{nth}")
        run = ActivityEnvironment().run
        await run(self._orders.open_order, ref, OrderOpening(operation="deprovision", digest=ref.order_id))
        await run(self._records.verify_subscriber, ref)
        await run(self._records.suspend_billing_service, ref)
        await run(self._devices.deactivate_onu, ref)
        await run(self._devices.unconfigure_cpe, ref)
        await run(self._addresses.revoke_ipv6_lifecycle, ref)
        await run(self._addresses.release_ip_address, ref)
        await run(self._accounts.delete_radius_account, ref)
        await run(self._records.delete_network_profile, ref)
        await run(self._records.archive_subscriber, ref, "moved away")
        await self._end(ref, ends)
        return ref

    async def replace_device(self, nth: int = 1, *, order: str | None = None, **changes: str) -> StepContext:
        """Replace devices of subscriber S-`nth` by order R-`nth`."""
        ref = self._ref(nth, order or f"R-{nth}")
        run = ActivityEnvironment().run
        await run(self._orders.open_order, ref, OrderOpening(operation="replace_device", digest=ref.order_id))
        await run(self._records.change_line, ref, changes)
        await run(self._device_changes.change_onu, ref)
        await run(self._device_changes.change_cpe, ref)
        await run(self._accounts.update_account, ref)
        await self._end(ref, "completed")
        return ref

    async def update_customer(
        self, nth: int = 1, *, order: str | None = None, ends: str | None = "completed", **corrections: str
    ) -> StepContext:
        """Correct the customer of subscriber S-`nth` by order U-`nth`."""
        ref = self._ref(nth, order or f"U-{nth}")
        run = ActivityEnvironment().run
        await run(self._orders.open_order, ref, OrderOpening(operation="update_customer", digest=ref.order_id))
        await run(self._records.update_customer, ref, corrections)
        await self._end(ref, ends)
        return ref

    async def change_plan(self, nth: int = 1, plan: ServicePlan = PLAN) -> StepContext:
        """Give subscriber S-`nth` the plan by order P-`nth`."""
        ref = self._ref(nth, f"P-{nth}")
        run = ActivityEnvironment().run
        await run(self._orders.open_order, ref, OrderOpening(operation="change_plan", digest=ref.order_id))
        await run(self._plans.change_radius_plan, ref, plan, Refusal.NEXT_LOGIN)
        await run(self._plans.change_billing_plan, ref, plan)
        await self._end(ref, "completed")
        return ref

    async def suspend(
        self, nth: int = 1, mode: SuspensionMode = SuspensionMode.WALLED_GARDEN, *, order: str | None = None
    ) -> StepContext:
        """Suspend subscriber S-`nth` by order X-`nth`-new."""
        ref = self._ref(nth, order or f"X-{nth}-new")
        run = ActivityEnvironment().run
        await run(self._orders.open_order, ref, OrderOpening(operation="suspend", digest=ref.order_id))
        await run(self._records.verify_line, ref, Operation.SUSPEND)
        await run(self._suspensions.record_suspension, ref, "non-payment", mode, None)
        await run(self._addresses.suspend_addresses, ref)
        told = await run(self._suspensions.suspend_radius_account, ref)
        await run(self._records.suspend_billing_service, ref)
        await self._end(ref, "completed", suspend_radius_account=told)
        return ref

    async def resume(self, nth: int = 1) -> StepContext:
        """Resume subscriber S-`nth` by order R-`nth`-new."""
        ref = self._ref(nth, f"R-{nth}-new")
        run = ActivityEnvironment().run
        await run(self._orders.open_order, ref, OrderOpening(operation="resume", digest=ref.order_id))
        await run(self._records.verify_line, ref, Operation.RESUME)
        await run(self._suspensions.end_suspension, ref, None)
        await run(self._addresses.resume_addresses, ref)
        await run(self._suspensions.resume_radius_account, ref)
        await run(self._records.resume_billing_service, ref)
        await self._end(ref, "completed")
        return ref

    async def relocate(self, nth: int = 1, *, ends: str | None = "completed", **changes: str) -> StepContext:
        """Move the line of subscriber S-`nth` by order M-`nth`, as far as records and the account go."""
        ref = self._ref(nth, f"M-{nth}")
        run = ActivityEnvironment().run
        await run(self._orders.open_order, ref, OrderOpening(operation="relocate", digest=ref.order_id))
        await run(self._records.change_line, ref, changes)
        await run(self._accounts.update_account, ref)
        await self._end(ref, ends)
        return ref

    async def undo_update_customer(self, ref: StepContext) -> None:
        """Roll back an order of `update_customer` that has not ended."""
        await ActivityEnvironment().run(self._records.restore_customer, ref.model_copy(update={"undo": True}))
        await self._end(ref, "rolled_back")

    async def undo_relocate(self, ref: StepContext) -> None:
        """Undo an order of `relocate` that has not ended."""
        run, undo = ActivityEnvironment().run, ref.model_copy(update={"undo": True})
        await run(self._accounts.restore_account, undo)
        await run(self._records.restore_line, undo)

    def _ref(self, nth: int, order: str) -> StepContext:
        return StepContext(tenant="acme", order_id=order, subscriber_ref=f"S-{nth}", requested_by="crm")

    async def _end(self, ref: StepContext, status: str | None, **reports: StepReport) -> None:
        if status:
            await ActivityEnvironment().run(self._orders.close_order, ref, closing(ref, status, **reports))

    async def audit(self, tenant: str | None = None) -> list[Violation]:
        return [violation async for violation in check(self.database, tenant, vrf_attribute=VRF_ATTRIBUTE)]

    async def repair(self, violations: list[Violation]) -> list[Violation]:
        repairs = repair(
            self.database, violations, QUARANTINE.unconfirmed, actor="the auditor", vrf_attribute=VRF_ATTRIBUTE
        )
        return [repaired async for repaired in repairs]

    async def prefix(self, nth: int = 1) -> str:
        """Return the prefix that S-`nth` holds."""
        return str(
            await self.owner.fetchval(
                "SELECT prefix::text FROM delegations WHERE subscriber_ref = $1 AND released_at IS NULL", f"S-{nth}"
            )
        )
