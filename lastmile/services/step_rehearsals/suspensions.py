"""The rehearsals of the steps that suspend and resume a line."""

from collections.abc import Mapping
from dataclasses import replace

from ipam.delegations import held_by, transition
from ipam.lifecycle import State
from lastmile.contract import Operation, Order, ResumeSubscriber, SuspendSubscriber, SuspensionMode
from lastmile.fields.phrases import format_time
from lastmile.radius import accounts
from lastmile.radius.membership import move_account, read_group
from lastmile.services.step_rehearsals.rehearsal import Rehearsal, Rehearse, address
from lastmile.subscribers import billing, suspensions

__all__ = ["REHEARSALS"]


async def _record_suspension(rehearsal: Rehearsal, order: SuspendSubscriber) -> None:
    await suspensions.record_suspension(
        rehearsal.connection,
        order.tenant,
        order.order_id,
        order.subscriber_ref,
        reason=order.reason,
        mode=order.mode,
        resume_at=order.until,
    )
    until = "" if order.until is None else f", until {format_time(order.until)}"
    rehearsal.note("create", f"suspension ({order.mode}{until})")


async def _suspend_addresses(rehearsal: Rehearsal, order: Order) -> None:
    await _change_states(rehearsal, State.ACTIVE, State.SUSPENDED)


async def _suspend_radius_account(rehearsal: Rehearsal, order: SuspendSubscriber) -> None:
    await _move_account(rehearsal, order.mode)


async def _suspend_billing_service(rehearsal: Rehearsal, order: Order) -> None:
    if order.operation is not Operation.SUSPEND:
        return  # `archive_subscriber` names the line as a whole
    changed = await billing.suspend_service(rehearsal.connection, order.subscriber_ref, order.order_id)
    rehearsal.note(*(("change", "the service is not charged") if changed else ("skip", "no service is charged")))


async def _end_suspension(rehearsal: Rehearsal, order: ResumeSubscriber) -> None:
    found = await suspensions.read_suspension(rehearsal.connection, order.subscriber_ref, order.order_id)
    await suspensions.end_suspension(rehearsal.connection, order.subscriber_ref, order.order_id, order.suspended_by)
    assert found is not None  # `verify_line` refuses a line in service
    since = format_time(found.created_at)
    rehearsal.note("remove", f"suspension ({found.mode}) since {since}, by order {found.created_by_order}")


async def _resume_addresses(rehearsal: Rehearsal, order: Order) -> None:
    await _change_states(rehearsal, State.SUSPENDED, State.ACTIVE)


async def _resume_radius_account(rehearsal: Rehearsal, order: Order) -> None:
    await _move_account(rehearsal, None)


async def _resume_billing_service(rehearsal: Rehearsal, order: Order) -> None:
    resumed = await billing.resume_suspended_service(rehearsal.connection, order.subscriber_ref, order.order_id)
    rehearsal.note(*(("change", "the service is charged") if resumed else ("skip", "no service is suspended")))


async def _change_states(rehearsal: Rehearsal, before: State, after: State) -> None:
    """Rehearse the move of the addresses, and show which these are."""
    order = rehearsal.order
    held = [one for one in await held_by(rehearsal.connection, order.subscriber_ref) if one.state is before]
    for delegation in held:
        await transition(rehearsal.connection, delegation, after, order_id=order.order_id, reason="ordered")
        rehearsal.note("change", f"{address(delegation)} {after}")
    if not held:
        rehearsal.note("skip", "the subscriber holds no such address")


async def _move_account(rehearsal: Rehearsal, mode: SuspensionMode | None) -> None:
    order = rehearsal.order
    user = await accounts.find_username(rehearsal.connection, order.tenant, order.subscriber_ref)
    group = await read_group(rehearsal.connection, user)
    if group is None:
        rehearsal.note("skip", "the subscriber has no RADIUS account")
        return
    after = replace(group, suspended=mode)
    await move_account(rehearsal.connection, user, after)
    rehearsal.note("change", f"{user} in group {after.name.partition('@')[0]}")


REHEARSALS: Mapping[str, Rehearse] = {
    "record_suspension": _record_suspension,
    "suspend_addresses": _suspend_addresses,
    "suspend_radius_account": _suspend_radius_account,
    "suspend_billing_service": _suspend_billing_service,
    "end_suspension": _end_suspension,
    "resume_addresses": _resume_addresses,
    "resume_radius_account": _resume_radius_account,
    "resume_billing_service": _resume_billing_service,
}
