"""The rehearsals of the steps that change the plan of a line."""

from collections.abc import Mapping

from lastmile.contract import ChangePlan
from lastmile.contract.suspension import Refusal
from lastmile.radius import accounts
from lastmile.radius.catalogue import read_catalogue
from lastmile.radius.membership import move_account, read_group
from lastmile.radius.sessions import find_open_sessions
from lastmile.services.step_rehearsals.rehearsal import Rehearsal, Rehearse
from lastmile.subscribers import billing
from lastmile.subscribers.billing import Charge
from lastmile.subscribers.line_changes import change_speed_profile

__all__ = ["REHEARSALS"]


async def _change_radius_plan(rehearsal: Rehearsal, order: ChangePlan) -> None:
    user = await accounts.find_username(rehearsal.connection, order.tenant, order.subscriber_ref)
    before = await read_group(rehearsal.connection, user)
    if before is None:
        rehearsal.note("refuse", "the line has no RADIUS account in the group of a plan")
        return
    after = before.with_plan(order.plan)
    await move_account(rehearsal.connection, user, after)
    if before == after:
        rehearsal.note("reuse", f"the line has plan {after.plan_name} already")
        return
    rehearsal.note("change", f"plan {before.plan_name} to {after.plan_name}")
    if before.suspended:
        rehearsal.note("skip", "the line is suspended: its rates change with the resume")
        return
    catalogue = await read_catalogue(rehearsal.connection)
    for session, nas in await find_open_sessions(rehearsal.connection, user):
        told = nas is not None and catalogue.coa_attributes(nas.type, before, after) is not None
        otherwise = "disconnect" if order.on_refusal is Refusal.DISCONNECT else "new rates at the next login"
        name = nas.name if nas else session.nas_address
        rehearsal.note("change", f"session on NAS {name}: {'new rates by CoA' if told else otherwise}")


async def _change_onu_speed(rehearsal: Rehearsal, order: ChangePlan) -> None:
    before, after = await change_speed_profile(
        rehearsal.connection, order.tenant, order.order_id, order.subscriber_ref, order.speed_profile
    )
    if before != after:
        rehearsal.note("change", f"speed_profile from {before or 'none'} to {after or 'none'}")


async def _change_billing_plan(rehearsal: Rehearsal, order: ChangePlan) -> None:
    new = Charge(order.plan.name, order.plan.price_ref)
    _, before = await billing.change_plan(rehearsal.connection, order.subscriber_ref, order.order_id, new)
    if before != new:
        rehearsal.note("change", f"charged for plan {new.plan} instead of {before.plan}")


REHEARSALS: Mapping[str, Rehearse] = {
    "change_radius_plan": _change_radius_plan,
    "change_onu_speed": _change_onu_speed,
    "change_billing_plan": _change_billing_plan,
}
