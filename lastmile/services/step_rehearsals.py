"""The dry run of each step: what the step would do, found out by the domain functions that the step itself calls.

The transaction of the dry run is rolled back, so a rehearsal may write.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ipam import replacement
from ipam.allocation import allocate
from ipam.delegations import Delegation, held_by, transition
from ipam.lifecycle import State
from ipam.matching import must_match
from lastmile.contract import (
    ChangeAddressing,
    ChangePlan,
    Operation,
    Order,
    ProvisionSubscriber,
    RelocateLine,
    Renumber,
    ReplaceDevice,
    ResumeSubscriber,
    RotateCredentials,
    SuspendSubscriber,
    SuspensionMode,
    TransferLine,
    UpdateCustomer,
)
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.contract.suspension import Refusal
from lastmile.db import TenantConnection
from lastmile.devices import records as devices
from lastmile.devices.records import DeviceKind
from lastmile.fields.phrases import format_time, in_vrf
from lastmile.radius import accounts
from lastmile.radius.catalogue import read_catalogue
from lastmile.radius.escaping import unescaped
from lastmile.radius.membership import move_account, read_group
from lastmile.radius.sessions import find_open_sessions
from lastmile.services.remains import find_line
from lastmile.subscribers import billing, records, suspensions
from lastmile.subscribers.billing import Charge
from lastmile.subscribers.line_changes import change_line, changed_fields, read_line_before
from lastmile.subscribers.line_states import verify_line
from lastmile.subscribers.transfers import transfer_line

__all__ = ["REHEARSALS", "Rehearsal", "StepPlan"]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What a step would do: `create`, `change`, `reuse`, `remove`, `skip`, or `refuse`, which rolls the order back."""

    step: str
    action: str
    detail: str = ""


class Rehearsal:
    """The dry run of one order: the plan so far, and the connection on which the steps are rehearsed."""

    def __init__(self, connection: TenantConnection, order: Order) -> None:
        self.connection = connection
        self.order = order
        self.step = "open_order"
        self.plan: list[StepPlan] = []

    def note(self, action: str, detail: str) -> None:
        """Add a line about the current step to the plan."""
        self.plan.append(StepPlan(self.step, action, detail))

    def note_record(self, creator: str, what: str, *notes: str) -> None:
        """Add a record to the plan: the order would create it, or reuse it if another order created it."""
        if creator == self.order.order_id:
            self.note("create", what)
        else:
            self.note("reuse", "; ".join([f"{what}, since order {creator}", *notes]))


async def _create_customer(rehearsal: Rehearsal, order: ProvisionSubscriber | TransferLine) -> None:
    customer = await records.create_customer(rehearsal.connection, order.tenant, order.order_id, order.customer)
    notes = records.customer_notes(customer, order.customer)
    rehearsal.note_record(customer.created_by_order, f"customer {order.customer.ref}", *notes)


async def _create_subscriber(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    subscriber = await records.create_subscriber(
        rehearsal.connection, order.tenant, order.order_id, order.subscriber_ref, order.customer.ref
    )
    rehearsal.note_record(subscriber.created_by_order, f"subscriber {order.subscriber_ref}")


async def _create_network_profile(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    subscriber = await records.read_subscriber(rehearsal.connection, order.subscriber_ref)
    profile = await records.create_network_profile(
        rehearsal.connection, order.tenant, order.order_id, subscriber, order.line
    )
    rehearsal.note_record(profile.created_by_order, f"{order.line.connection_type} line")


async def _create_radius_account(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    account = await accounts.create_account(
        rehearsal.connection,
        order.tenant,
        order.order_id,
        order.subscriber_ref,
        order.line,
        plan=order.plan.name,
        download_kbps=order.plan.download_kbps,
        upload_kbps=order.plan.upload_kbps,
    )
    rehearsal.note_record(account.created_by_order, unescaped(account.username))


async def _allocate_ip_address(rehearsal: Rehearsal, order: ProvisionSubscriber | ChangeAddressing) -> None:
    await must_match(rehearsal.connection, order.subscriber_ref, order.addressing)
    needs = order.addressing.needs()
    for need in needs:
        allocation = await allocate(
            rehearsal.connection,
            tenant=order.tenant,
            subscriber_ref=order.subscriber_ref,
            order_id=order.order_id,
            need=need,
        )
        delegation = allocation.delegation
        rehearsal.note_record(delegation.created_by_order, f"{ADDRESS_FIELDS[need.purpose]} {_address(delegation)}")
    if not needs:
        rehearsal.note("skip", "the order asks for no address")


async def _activate_ipv6_lifecycle(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    held = await held_by(rehearsal.connection, order.subscriber_ref)
    if held:
        rehearsal.note("create", f"RADIUS reply items for {', '.join(map(_address, held))}")
    else:
        rehearsal.note("skip", "the subscriber holds no address")


async def _activate_onu(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    await _device(rehearsal, DeviceKind.ONU, order.line.onu_serial)


async def _configure_cpe(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    await _device(rehearsal, DeviceKind.CPE, order.line.cpe_mac)


async def _device(rehearsal: Rehearsal, kind: DeviceKind, identity: str | None) -> None:
    if identity is None:
        rehearsal.note("skip", f"the line has no {kind.upper()}")
        return
    found = await devices.find_device(rehearsal.connection, rehearsal.order.subscriber_ref, kind)
    same = found is not None and found.in_service and found.identity == identity
    creator = found.created_by_order if same and found else rehearsal.order.order_id
    rehearsal.note_record(creator, f"{identity} in service")


async def _create_billing_service(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    subscriber = await records.read_subscriber(rehearsal.connection, order.subscriber_ref)
    service = await billing.create_service(
        rehearsal.connection, order.tenant, order.order_id, subscriber, order.subscriber_ref, order.plan
    )
    rehearsal.note_record(service.created_by_order, f"service on plan {order.plan.name}")


async def _verify_line(rehearsal: Rehearsal, order: Order) -> None:
    line = await verify_line(rehearsal.connection, order.subscriber_ref, order.order_id, order.operation)
    rehearsal.note("reuse", f"subscriber {order.subscriber_ref}, since order {line.created_by_order}")


async def _update_customer(rehearsal: Rehearsal, order: UpdateCustomer) -> None:
    _, before = await records.update_customer(rehearsal.connection, order.subscriber_ref, order.corrections)
    changed = [field for field, value in before.items() if value != order.corrections[field]]
    if changed:
        rehearsal.note("change", f"{', '.join(changed)} of the customer")
    else:
        rehearsal.note("reuse", "the customer has these values already")


async def _replace_password(rehearsal: Rehearsal, order: RotateCredentials) -> None:
    user, _ = await accounts.replace_password(rehearsal.connection, order.tenant, order.subscriber_ref, None)
    rehearsal.note("change", f"the password of {unescaped(user)}")


async def _change_line(rehearsal: Rehearsal, order: ReplaceDevice | RelocateLine) -> None:
    _, before, after = await change_line(
        rehearsal.connection, order.tenant, order.order_id, order.subscriber_ref, order.changes
    )
    changed = [
        f"{field} from {getattr(before, field) or 'none'} to {getattr(after, field)}"
        for field in changed_fields(before, after)
    ]
    if changed:
        rehearsal.note("change", ", ".join(changed))
    else:
        rehearsal.note("reuse", "the line has these values already")


async def _change_onu(rehearsal: Rehearsal, order: Order) -> None:
    await _change_device(rehearsal, DeviceKind.ONU, "onu_serial")


async def _change_cpe(rehearsal: Rehearsal, order: Order) -> None:
    await _change_device(rehearsal, DeviceKind.CPE, "cpe_mac")


async def _change_device(rehearsal: Rehearsal, kind: DeviceKind, field: str) -> None:
    before = await read_line_before(rehearsal.connection, rehearsal.order.order_id)
    after = await records.read_line(rehearsal.connection, rehearsal.order.subscriber_ref)
    assert before is not None
    assert after is not None
    old, new = getattr(before, field), getattr(after, field)
    if new is None:
        rehearsal.note("skip", f"the line has no {kind.upper()}")
    elif old != new:
        rehearsal.note("change", f"{new} in service" + (f", and {old} out of service" if old else ""))
    elif any(place in changed_fields(before, after) for place in ("olt", "pon_port", "s_vlan", "c_vlan")):
        rehearsal.note("change", f"{new} in service at the new place")
    else:
        rehearsal.note("reuse", f"the line keeps its {kind.upper()} {new}")


async def _update_account(rehearsal: Rehearsal, order: Order) -> None:
    line = await records.read_line(rehearsal.connection, order.subscriber_ref)
    assert line is not None
    before, after = await accounts.follow_line(rehearsal.connection, order.tenant, order.subscriber_ref, line)
    if before == after:
        rehearsal.note("reuse", f"account {unescaped(after)}")
    else:
        rehearsal.note("change", f"user name from {unescaped(before)} to {unescaped(after)}")


async def _change_radius_plan(rehearsal: Rehearsal, order: ChangePlan) -> None:
    user = await accounts.find_username(rehearsal.connection, order.tenant, order.subscriber_ref)
    before = await read_group(rehearsal.connection, user)
    if before is None:
        rehearsal.note("refuse", "the line has no RADIUS account in the group of a plan")
        return
    plan = order.plan
    after = replace(before, plan=plan.name, download_kbps=plan.download_kbps, upload_kbps=plan.upload_kbps)
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


async def _change_billing_plan(rehearsal: Rehearsal, order: ChangePlan) -> None:
    new = Charge(order.plan.name, order.plan.price_ref)
    _, before = await billing.change_plan(rehearsal.connection, order.subscriber_ref, order.order_id, new)
    if before != new:
        rehearsal.note("change", f"charged for plan {new.plan} instead of {before.plan}")


async def _transfer_line(rehearsal: Rehearsal, order: TransferLine) -> None:
    customer = order.customer.ref
    before = await transfer_line(rehearsal.connection, order.tenant, order.order_id, order.subscriber_ref, customer)
    if before == customer:
        rehearsal.note("reuse", f"the line belongs to customer {customer} already")
    else:
        rehearsal.note("change", f"the line from customer {before} to customer {customer}")


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
        rehearsal.note("change", f"{_address(delegation)} {after}")
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


async def _verify_subscriber(rehearsal: Rehearsal, order: Order) -> None:
    subscriber = await find_line(rehearsal.connection, order.tenant, order.subscriber_ref, order.order_id)
    if subscriber is None:
        rehearsal.note("remove", f"what earlier orders left of subscriber {order.subscriber_ref}")
    else:
        rehearsal.note("reuse", f"subscriber {order.subscriber_ref}, since order {subscriber.created_by_order}")


async def _release_ip_address(rehearsal: Rehearsal, order: Order) -> None:
    for delegation in await held_by(rehearsal.connection, order.subscriber_ref):
        rehearsal.note("remove", _address(delegation))


async def _archive_subscriber(rehearsal: Rehearsal, order: Order) -> None:
    rehearsal.note("remove", f"the line of subscriber {order.subscriber_ref}")


async def _begin_replacement(rehearsal: Rehearsal, order: Renumber | ChangeAddressing) -> None:
    target = order.purpose if isinstance(order, Renumber) else order.addressing
    replaced = await replacement.begin(rehearsal.connection, order.subscriber_ref, order.order_id, target)
    for one in replaced:
        rehearsal.note("change", f"{_address(one)} is to be replaced")
    if not replaced:
        rehearsal.note("skip", "no address is to be replaced")


async def _allocate_replacement(rehearsal: Rehearsal, order: Renumber) -> None:
    need = await replacement.need_of(rehearsal.connection, order.subscriber_ref, order.purpose, order.pool)
    allocation = await allocate(
        rehearsal.connection,
        tenant=order.tenant,
        subscriber_ref=order.subscriber_ref,
        order_id=order.order_id,
        need=need,
    )
    rehearsal.note_record(
        allocation.delegation.created_by_order, f"{ADDRESS_FIELDS[need.purpose]} {_address(allocation.delegation)}"
    )


async def _switch_addresses(rehearsal: Rehearsal, order: Renumber | ChangeAddressing) -> None:
    held = await held_by(rehearsal.connection, order.subscriber_ref)
    new = [one for one in held if one.created_by_order == order.order_id]
    old = [one for one in held if one.replaced_by_order is not None]
    if new or old:
        rehearsal.note("change", f"RADIUS reply items: {', '.join(map(_address, new)) or 'fewer'}")
    else:
        rehearsal.note("skip", "the line has these addresses already")


async def _release_replaced_addresses(rehearsal: Rehearsal, order: Renumber | ChangeAddressing) -> None:
    for one in await held_by(rehearsal.connection, order.subscriber_ref):
        if one.replaced_by_order is not None:
            overlap = f", {order.overlap_hours} hours after the switch" if isinstance(order, Renumber) else ""
            rehearsal.note("remove", f"{_address(one)}{overlap}")


async def _not_shown(rehearsal: Rehearsal, order: Order) -> None:
    """The plan does not show the step: it ends a part of the line that `archive_subscriber` names as a whole."""


REHEARSALS: Mapping[str, Callable[[Rehearsal, Any], Awaitable[None]]] = {
    "create_customer": _create_customer,
    "create_subscriber": _create_subscriber,
    "create_network_profile": _create_network_profile,
    "create_radius_account": _create_radius_account,
    "allocate_ip_address": _allocate_ip_address,
    "activate_ipv6_lifecycle": _activate_ipv6_lifecycle,
    "activate_onu": _activate_onu,
    "configure_cpe": _configure_cpe,
    "create_billing_service": _create_billing_service,
    "begin_replacement": _begin_replacement,
    "allocate_replacement": _allocate_replacement,
    "switch_addresses": _switch_addresses,
    "revoke_replaced_addresses": _not_shown,
    "release_replaced_addresses": _release_replaced_addresses,
    "verify_line": _verify_line,
    "update_customer": _update_customer,
    "replace_password": _replace_password,
    "change_line": _change_line,
    "change_onu": _change_onu,
    "change_cpe": _change_cpe,
    "update_account": _update_account,
    "change_radius_plan": _change_radius_plan,
    "change_onu_speed": _not_shown,
    "change_billing_plan": _change_billing_plan,
    "transfer_line": _transfer_line,
    "verify_subscriber": _verify_subscriber,
    "record_suspension": _record_suspension,
    "suspend_addresses": _suspend_addresses,
    "suspend_radius_account": _suspend_radius_account,
    "suspend_billing_service": _suspend_billing_service,
    "end_suspension": _end_suspension,
    "resume_addresses": _resume_addresses,
    "resume_radius_account": _resume_radius_account,
    "resume_billing_service": _resume_billing_service,
    "deactivate_onu": _not_shown,
    "unconfigure_cpe": _not_shown,
    "revoke_ipv6_lifecycle": _not_shown,
    "release_ip_address": _release_ip_address,
    "delete_radius_account": _not_shown,
    "delete_network_profile": _not_shown,
    "archive_subscriber": _archive_subscriber,
}


def _address(delegation: Delegation) -> str:
    """Return the prefix as people write it: a single address has no length."""
    prefix = delegation.prefix
    vrf = in_vrf(delegation.vrf)
    if prefix is None:
        return f"{delegation}{vrf}"
    return f"{prefix.network_address if prefix.num_addresses == 1 else prefix}{vrf}"
