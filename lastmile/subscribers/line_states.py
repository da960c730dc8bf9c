"""The state of a line as an order finds it, and the refusal of orders that do not fit the state."""

from sqlalchemy import or_, select

from lastmile.contract.line_states import LineState
from lastmile.contract.operations import OPERATIONS
from lastmile.contract.orders import Operation
from lastmile.db import TenantConnection
from lastmile.subscribers.errors import LineStateError
from lastmile.subscribers.records import CreatedRecord, read_subscriber
from lastmile.subscribers.tables import suspensions

__all__ = ["check_line_state", "read_line_state", "verify_line"]


async def read_line_state(connection: TenantConnection, subscriber_ref: str, order_id: str) -> LineState:
    """Return the state of the line before the order `order_id`, which may have changed the state already."""
    before = (
        suspensions.c.subscriber_ref == subscriber_ref,
        suspensions.c.created_by_order != order_id,
        or_(suspensions.c.ended_at.is_(None), suspensions.c.ended_by_order == order_id),
    )
    suspended = await connection.scalar(select(suspensions.c.id).where(*before).limit(1))
    return LineState.IN_SERVICE if suspended is None else LineState.SUSPENDED


async def check_line_state(
    connection: TenantConnection, subscriber_ref: str, order_id: str, operation: Operation
) -> None:
    """Raise `LineStateError` where the operation is refused in the state of the line."""
    if not (refused_in := OPERATIONS[operation].refused_in):
        return
    state = await read_line_state(connection, subscriber_ref, order_id)
    if advice := refused_in.get(state):
        raise LineStateError(f"The line of subscriber {subscriber_ref} is {state}. {advice}")


async def verify_line(
    connection: TenantConnection, subscriber_ref: str, order_id: str, operation: Operation
) -> CreatedRecord:
    """Return the subscriber whose line the order changes.

    Raises:
        UnknownSubscriberError: the subscriber has no line.
        LineStateError: the operation is refused in the state of the line.
    """
    record = await read_subscriber(connection, subscriber_ref)
    await check_line_state(connection, subscriber_ref, order_id, operation)
    return record
