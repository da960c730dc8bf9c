"""The rehearsals of the steps that end a line. The plan names the line as a whole, and its addresses."""

from collections.abc import Mapping

from ipam.delegations import held_by
from lastmile.contract import Order
from lastmile.services.remains import find_line
from lastmile.services.step_rehearsals.rehearsal import Rehearsal, Rehearse, address, not_shown

__all__ = ["REHEARSALS"]


async def _verify_subscriber(rehearsal: Rehearsal, order: Order) -> None:
    subscriber = await find_line(rehearsal.connection, order.tenant, order.subscriber_ref, order.order_id)
    if subscriber is None:
        rehearsal.note("remove", f"what earlier orders left of subscriber {order.subscriber_ref}")
    else:
        rehearsal.note("reuse", f"subscriber {order.subscriber_ref}, since order {subscriber.created_by_order}")


async def _release_ip_address(rehearsal: Rehearsal, order: Order) -> None:
    for delegation in await held_by(rehearsal.connection, order.subscriber_ref):
        rehearsal.note("remove", address(delegation))


async def _archive_subscriber(rehearsal: Rehearsal, order: Order) -> None:
    rehearsal.note("remove", f"the line of subscriber {order.subscriber_ref}")


REHEARSALS: Mapping[str, Rehearse] = {
    "verify_subscriber": _verify_subscriber,
    "deactivate_onu": not_shown,
    "unconfigure_cpe": not_shown,
    "revoke_ipv6_lifecycle": not_shown,
    "release_ip_address": _release_ip_address,
    "delete_radius_account": not_shown,
    "delete_network_profile": not_shown,
    "archive_subscriber": _archive_subscriber,
}
