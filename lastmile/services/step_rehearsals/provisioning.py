"""The rehearsals of the steps that put a line into service."""

from collections.abc import Mapping

from ipam.allocation import allocate
from ipam.delegations import held_by
from ipam.matching import must_match
from lastmile.contract import ChangeAddressing, ProvisionSubscriber, TransferLine
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.devices import records as devices
from lastmile.devices.records import DeviceKind
from lastmile.radius import accounts
from lastmile.radius.escaping import unescaped
from lastmile.services.step_rehearsals.rehearsal import Rehearsal, Rehearse, address
from lastmile.subscribers import billing, records

__all__ = ["REHEARSALS"]


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
        rehearsal.note_record(delegation.created_by_order, f"{ADDRESS_FIELDS[need.purpose]} {address(delegation)}")
    if not needs:
        rehearsal.note("skip", "the order asks for no address")


async def _activate_ipv6_lifecycle(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    held = await held_by(rehearsal.connection, order.subscriber_ref)
    if held:
        rehearsal.note("create", f"RADIUS reply items for {', '.join(map(address, held))}")
    else:
        rehearsal.note("skip", "the subscriber holds no address")


async def _activate_onu(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    await _device(rehearsal, DeviceKind.ONU, order.line.onu_serial)


async def _configure_cpe(rehearsal: Rehearsal, order: ProvisionSubscriber) -> None:
    await _device(rehearsal, DeviceKind.CPE, order.line.cpe_identity)


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


REHEARSALS: Mapping[str, Rehearse] = {
    "create_customer": _create_customer,
    "create_subscriber": _create_subscriber,
    "create_network_profile": _create_network_profile,
    "create_radius_account": _create_radius_account,
    "allocate_ip_address": _allocate_ip_address,
    "activate_ipv6_lifecycle": _activate_ipv6_lifecycle,
    "activate_onu": _activate_onu,
    "configure_cpe": _configure_cpe,
    "create_billing_service": _create_billing_service,
}
