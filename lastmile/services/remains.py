"""What an earlier order left of a subscriber that has no line any more, for the deprovision that removes it.

An operator can skip or abandon a step, and a run can be terminated. Then a prefix, an account or another record stays
although the subscriber was archived or never came into service. The audit reports each, and advises a deprovision.
"""

from sqlalchemy import text

from lastmile.db import TenantConnection
from lastmile.subscribers.errors import UnknownSubscriberError
from lastmile.subscribers.records import CreatedRecord, read_subscriber

__all__ = ["find_line"]

# The last condition: an order that creates lines ended halfway, and no later order completed its work.
_REMAINS = text(
    """
    SELECT EXISTS (SELECT FROM delegations WHERE subscriber_ref = :ref AND released_at IS NULL)
        OR EXISTS (SELECT FROM radcheck WHERE tenant_id = :tenant AND tenant_id <> '' AND subscriber_ref = :ref
                                          AND lastmile_is_account(attribute, value))
        OR EXISTS (SELECT FROM devices WHERE subscriber_ref = :ref AND in_service)
        OR EXISTS (SELECT FROM subscribers s JOIN network_profiles n ON n.subscriber_id = s.id WHERE s.ref = :ref)
        OR EXISTS (SELECT FROM subscribers s JOIN billing_services b ON b.subscriber_id = s.id
                   WHERE s.ref = :ref AND b.status <> 'ended')
        OR EXISTS (SELECT FROM orders o
                   WHERE o.subscriber_ref = :ref AND o.order_id <> :order_id AND o.effect = 'creates'
                     AND o.status IN ('partly_rolled_back', 'abandoned', 'superseded')
                     AND NOT EXISTS (SELECT FROM orders later
                                     WHERE later.subscriber_ref = o.subscriber_ref AND later.created_at > o.created_at
                                       AND lastmile_order_completed(later.status)))
    """
)


async def find_line(connection: TenantConnection, tenant: str, ref: str, order_id: str) -> CreatedRecord | None:
    """Return the record of the subscriber that the order `order_id` terminates.

    None: no line is in service, and something of an earlier order is left to remove.

    Raises:
        UnknownSubscriberError: no line is in service, and nothing is left.
    """
    try:
        return await read_subscriber(connection, ref, archiving=order_id)
    except UnknownSubscriberError:
        values = {"ref": ref, "tenant": tenant, "order_id": order_id}
        if not await connection.scalar(_REMAINS, values):
            raise
        return None
