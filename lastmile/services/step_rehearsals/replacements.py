"""The rehearsals of the steps that replace addresses."""

from collections.abc import Mapping

from ipam import replacement
from ipam.allocation import allocate
from ipam.delegations import held_by
from lastmile.contract import ChangeAddressing, Renumber
from lastmile.contract.results import ADDRESS_FIELDS
from lastmile.services.step_rehearsals.rehearsal import Rehearsal, Rehearse, address, not_shown

__all__ = ["REHEARSALS"]


async def _begin_replacement(rehearsal: Rehearsal, order: Renumber | ChangeAddressing) -> None:
    target = order.purpose if isinstance(order, Renumber) else order.addressing
    replaced = await replacement.begin(rehearsal.connection, order.subscriber_ref, order.order_id, target)
    for one in replaced:
        rehearsal.note("change", f"{address(one)} is to be replaced")
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
        allocation.delegation.created_by_order, f"{ADDRESS_FIELDS[need.purpose]} {address(allocation.delegation)}"
    )


async def _switch_addresses(rehearsal: Rehearsal, order: Renumber | ChangeAddressing) -> None:
    held = await held_by(rehearsal.connection, order.subscriber_ref)
    new = [one for one in held if one.created_by_order == order.order_id]
    old = [one for one in held if one.replaced_by_order is not None]
    if new or old:
        rehearsal.note("change", f"RADIUS reply items: {', '.join(map(address, new)) or 'fewer'}")
    else:
        rehearsal.note("skip", "the line has these addresses already")


async def _release_replaced_addresses(rehearsal: Rehearsal, order: Renumber | ChangeAddressing) -> None:
    for one in await held_by(rehearsal.connection, order.subscriber_ref):
        if one.replaced_by_order is not None:
            overlap = f", {order.overlap_hours} hours after the switch" if isinstance(order, Renumber) else ""
            rehearsal.note("remove", f"{address(one)}{overlap}")


REHEARSALS: Mapping[str, Rehearse] = {
    "begin_replacement": _begin_replacement,
    "allocate_replacement": _allocate_replacement,
    "switch_addresses": _switch_addresses,
    "revoke_replaced_addresses": not_shown,
    "release_replaced_addresses": _release_replaced_addresses,
}
