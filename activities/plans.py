"""The steps of a change of plan."""

from dataclasses import replace
from datetime import timedelta

from activities.account_moves import AccountMoveActivities
from activities.base import beyond_database, done, heartbeating, skipped, step, undone, warned
from activities.messages import StepContext, StepReport
from lastmile.contract.lines import ServicePlan
from lastmile.contract.suspension import Refusal
from lastmile.db import Database, TenantConnection
from lastmile.devices import records as devices
from lastmile.devices.controllers import LineDevice
from lastmile.devices.errors import DeviceNotSeenError
from lastmile.devices.pending_calls import begin_call, correct_device, record_answer
from lastmile.devices.records import DeviceKind
from lastmile.devices.routing import Controllers, no_controller
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.errors import AccountConflictError
from lastmile.radius.escaping import unescaped
from lastmile.radius.groups import Group
from lastmile.radius.sessions import find_open_sessions, has_unaccounted_login
from lastmile.services.line_devices import line_device
from lastmile.subscribers import billing, previous_values
from lastmile.subscribers.billing import Charge
from lastmile.subscribers.line_changes import change_speed_profile, restore_speed_profile
from lastmile.subscribers.records import read_line

__all__ = ["PlanActivities"]

_RADIUS, _BILLING = "change_radius_plan", "change_billing_plan"


class PlanActivities(AccountMoveActivities):
    """The steps and undos of a change of plan."""

    def __init__(
        self,
        database: Database,
        authorization: DynamicAuthorization,
        longest: timedelta,
        controllers: Controllers | None = None,
    ) -> None:
        super().__init__(database, authorization, longest)
        self._onu = (controllers or Controllers.everywhere()).onu

    @step
    async def change_radius_plan(self, ref: StepContext, plan: ServicePlan, on_refusal: Refusal) -> StepReport:
        """Put the account into the group of the plan, and tell the live sessions the new rates."""
        move = await self._move(ref, _RADIUS, lambda group: group.with_plan(plan), on_refusal)
        if move is None:
            raise AccountConflictError(
                f"Subscriber {ref.subscriber_ref} has no RADIUS account in the group of a plan. Provision the line "
                "again."
            )
        report = done(radius_username=unescaped(move.username))
        if move.before == move.after:
            return report.model_copy(update={"reason": f"the line has plan {move.after.plan_name} already"})
        if move.after.suspended:
            return report.model_copy(update={"reason": "the line is suspended: its rates change with the resume"})
        return warned("; ".join(move.problems), **report.facts) if move.problems else report

    @step
    async def restore_radius_plan(self, ref: StepContext) -> StepReport:
        """Put the account back into its group, and tell the live sessions the rates that they had."""
        return await self._move_back(ref, _RADIUS)

    @step
    async def change_onu_speed(
        self, ref: StepContext, plan: ServicePlan, speed_profile: str | None = None
    ) -> StepReport:
        """Give the line the speed profile of the plan, and the rates of the plan on its ONU."""
        async with self._order(ref) as connection:
            await change_speed_profile(connection, ref.tenant, ref.order_id, ref.subscriber_ref, speed_profile)
            device, controlled = await self._find_onu(connection, ref, (plan.download_kbps, plan.upload_kbps))
        if device is None:
            return skipped("the line has no ONU in service")
        if not controlled:
            return skipped(no_controller(DeviceKind.ONU, device))
        waits_for = await self._set_speed(ref, device)
        return warned(waits_for) if waits_for else done()

    @step
    async def restore_onu_speed(self, ref: StepContext) -> StepReport:
        """Give the line the speed profile and the rates of its plan before this order on its ONU."""
        async with self._order(ref) as connection:
            await restore_speed_profile(connection, ref.order_id, ref.subscriber_ref)
            kept = await previous_values.find(connection, ref.order_id, _RADIUS)
            before = Group.parse(kept["before"]) if kept else None
            if before is None:
                return undone(False)
            device, controlled = await self._find_onu(connection, ref, (before.download_kbps, before.upload_kbps))
        if device is None or not controlled:
            return undone(True)
        waits_for = await self._set_speed(ref, device)
        return undone(True).model_copy(update={"reason": waits_for})

    @step
    async def change_billing_plan(self, ref: StepContext, plan: ServicePlan) -> StepReport:
        """Charge the line for the plan."""
        new = Charge(plan.name, plan.price_ref)
        async with self._order(ref) as connection:
            service, before = await billing.change_plan(connection, ref.subscriber_ref, ref.order_id, new)
            await self._keep(connection, ref, _BILLING, before._asdict())
        return done(billing_service_id=service)

    @step
    async def restore_billing_plan(self, ref: StepContext) -> StepReport:
        """Charge the line for the plan that it had. The events of the change and of its undo cancel out."""
        async with self._order(ref) as connection:
            kept = await previous_values.take(connection, ref.order_id, _BILLING)
            if kept is not None:
                await billing.change_plan(connection, ref.subscriber_ref, ref.order_id, Charge(**kept))
        return undone(kept is not None)

    async def _prepare(self, connection: TenantConnection, user: str, before: Group, after: Group) -> bool:
        if before == after or after.suspended:
            return False
        sessions = await find_open_sessions(connection, user, longest=self._longest)
        if not sessions and not await has_unaccounted_login(connection, user, self._longest):
            return False
        beyond_database("tell the live sessions")
        return True

    async def _set_speed(self, ref: StepContext, device: LineDevice) -> str:
        """Return what the ONU waits for; empty: it has the rates.

        An ONU that waits may have lost its flows: the call that puts it into service is repeated.
        """
        async with heartbeating():
            try:
                waits_for = (await self._onu.set_speed(device)).waits_for
            except DeviceNotSeenError as unseen:
                waits_for = str(unseen)
        if waits_for:
            async with self._order(ref) as connection:
                version = await begin_call(connection, ref.tenant, ref.order_id, DeviceKind.ONU, device, True)
                await record_answer(connection, DeviceKind.ONU, device, True, version, waits_for)
        return waits_for

    async def _find_onu(
        self, connection: TenantConnection, ref: StepContext, rates: tuple[int, int]
    ) -> tuple[LineDevice | None, bool]:
        """Return the ONU of the line in service, and whether a controller must be asked: then leave the group.

        `rates`: the download and upload rate that the line is given. A pending call gets them too.
        """
        found = await devices.find_device(connection, ref.subscriber_ref, DeviceKind.ONU)
        line = await read_line(connection, ref.subscriber_ref)
        if found is None or not found.in_service or line is None:
            return None, False
        device = line_device(ref.tenant, ref.subscriber_ref, DeviceKind.ONU, found.identity, line)
        device = replace(device, download_kbps=rates[0], upload_kbps=rates[1])
        if not self._onu.controls(device):
            return device, False
        beyond_database("ask the OLT controller")
        shared = await devices.is_shared(connection, ref.subscriber_ref, DeviceKind.ONU, found.identity)
        await correct_device(connection, DeviceKind.ONU, device.identity, device)
        return replace(device, shared=shared), True
