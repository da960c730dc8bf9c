"""The rehearsals of the steps that change the records, devices and account of a line."""

from collections.abc import Mapping

from lastmile.contract import Order, RelocateLine, ReplaceDevice, RotateCredentials, TransferLine, UpdateCustomer
from lastmile.devices.records import DeviceKind
from lastmile.radius import accounts
from lastmile.radius.escaping import unescaped
from lastmile.radius.passwords import replace_password
from lastmile.services.step_rehearsals.rehearsal import Rehearsal, Rehearse
from lastmile.subscribers import records
from lastmile.subscribers.line_changes import change_line, changed_fields, read_line_before
from lastmile.subscribers.line_states import verify_line
from lastmile.subscribers.transfers import transfer_line

__all__ = ["REHEARSALS"]


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
    user, _ = await replace_password(rehearsal.connection, order.tenant, order.subscriber_ref, None)
    rehearsal.note("change", f"the password of {unescaped(user)}")


async def _change_line(rehearsal: Rehearsal, order: ReplaceDevice | RelocateLine) -> None:
    _, before, after = await change_line(
        rehearsal.connection, order.tenant, order.order_id, order.subscriber_ref, order.changes
    )
    changed = [
        f"{field} from {getattr(before, field) or 'none'} to {getattr(after, field) or 'none'}"
        for field in changed_fields(before, after)
    ]
    if changed:
        rehearsal.note("change", ", ".join(changed))
    else:
        rehearsal.note("reuse", "the line has these values already")


async def _change_onu(rehearsal: Rehearsal, order: Order) -> None:
    await _change_device(rehearsal, DeviceKind.ONU, "onu_serial", ("onu_type", "speed_profile"))


async def _change_cpe(rehearsal: Rehearsal, order: Order) -> None:
    await _change_device(rehearsal, DeviceKind.CPE, "cpe_identity", ("cpe_oui", "cpe_product_class", "cpe_serial"))


async def _change_device(rehearsal: Rehearsal, kind: DeviceKind, identity: str, facts: tuple[str, ...]) -> None:
    before = await read_line_before(rehearsal.connection, rehearsal.order.order_id)
    after = await records.read_line(rehearsal.connection, rehearsal.order.subscriber_ref)
    assert before is not None
    assert after is not None
    old, new = getattr(before, identity), getattr(after, identity)
    changed = changed_fields(before, after)
    if new is None:
        rehearsal.note("skip", f"the line has no {kind.upper()}")
    elif old != new:
        rehearsal.note("change", f"{new} in service" + (f", and {old} out of service" if old else ""))
    elif any(place in changed for place in ("olt", "pon_port", "s_vlan", "c_vlan")):
        rehearsal.note("change", f"{new} in service at the new place")
    elif known := [fact for fact in facts if fact in changed]:
        rehearsal.note("change", f"{new} in service with the new {', '.join(known)}")
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


async def _transfer_line(rehearsal: Rehearsal, order: TransferLine) -> None:
    customer = order.customer.ref
    before = await transfer_line(rehearsal.connection, order.tenant, order.order_id, order.subscriber_ref, customer)
    if before == customer:
        rehearsal.note("reuse", f"the line belongs to customer {customer} already")
    else:
        rehearsal.note("change", f"the line from customer {before} to customer {customer}")


REHEARSALS: Mapping[str, Rehearse] = {
    "verify_line": _verify_line,
    "update_customer": _update_customer,
    "replace_password": _replace_password,
    "change_line": _change_line,
    "change_onu": _change_onu,
    "change_cpe": _change_cpe,
    "update_account": _update_account,
    "transfer_line": _transfer_line,
}
