"""The refusal of an order before it is accepted, by the rules that its workflow would refuse it by."""

from lastmile.contract import AnyOrder
from lastmile.contract.operations import order_type
from lastmile.db import TenantConnection
from lastmile.services.line_matching import check_line
from lastmile.services.step_rehearsals import REHEARSALS, Rehearsal

__all__ = ["check_admission"]


async def check_admission(connection: TenantConnection, order: AnyOrder) -> None:
    """Check the order against the subscriber's line as it is now. Writes nothing.

    Raises:
        UnknownSubscriberError: the subscriber has no line that the order could change or end.
        LineDiffersError: the subscriber has another line in service than the order asks for.
        LineStateError: the operation is refused in the state of the line.
    """
    if order.requested_line is not None:
        await check_line(connection, order.tenant, order.subscriber_ref, order.order_id, order.requested_line)
    rehearsal = Rehearsal(connection, order)
    for step in order_type(order).steps:
        if not step.gate:
            break
        rehearsal.step = step.name
        await REHEARSALS[step.name](rehearsal, order)
