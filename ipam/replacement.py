"""The replacement of prefixes: the old one stays the subscriber's beside the new one, until an order releases it.

An order marks the prefixes that it replaces. A marked delegation is out of the index `delegations_live`, so the order
can allocate another one of the same purpose. The switch ends the assignment in RADIUS and begins the overlap.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text

from ipam.delegations import COLUMNS, Delegation, held_by
from ipam.errors import DelegationBusyError, NothingToReplaceError
from ipam.lifecycle import IN_SERVICE, State
from ipam.matching import find_mismatched
from ipam.order_scope import NEVER_ANNOUNCED
from lastmile.contract.addressing import Addressing, Need, Purpose
from lastmile.db import TenantConnection

__all__ = ["begin", "cancel", "confirm", "need_of", "switch"]

_MARK = text(
    "UPDATE delegations SET replaced_by_order = :order_id WHERE id = ANY(:ids) AND state = ANY(:states)"
    " AND replaced_by_order IS NULL"
)

_SAME_PURPOSE = """
    SELECT FROM delegations new
    WHERE new.tenant_id = d.tenant_id AND new.subscriber_ref = d.subscriber_ref AND new.purpose = d.purpose
      AND new.replaced_by_order IS NULL
"""

# Two live prefixes of one purpose cannot both be unmarked: where an operator skipped the release of the new prefix, the
# mark stays; of two marked ones, the newer one loses its mark. The audit reports a mark that stays.
_CANCEL = text(
    f"""
    UPDATE delegations d SET replaced_by_order = NULL
    WHERE subscriber_ref = :subscriber_ref AND replaced_by_order = :order_id AND replaced_at IS NULL
      AND state <> 'revoked' AND NOT EXISTS ({_SAME_PURPOSE} AND new.state <> 'revoked')
      AND NOT EXISTS (SELECT FROM delegations newer
                      WHERE newer.tenant_id = d.tenant_id AND newer.subscriber_ref = d.subscriber_ref
                        AND newer.purpose = d.purpose AND newer.replaced_by_order = d.replaced_by_order
                        AND newer.replaced_at IS NULL AND newer.state <> 'revoked' AND newer.id > d.id)
    RETURNING id
    """
)

# A mark of this order without a new prefix takes the address away, as ordered. A mark of an order that ended halfway
# counts only where the new prefix is there.
_SWITCH = text(
    f"""
    UPDATE delegations d
    SET replaced_at = coalesce(replaced_at, clock_timestamp()),
        replaced_until = coalesce(replaced_until, clock_timestamp() + CAST(:overlap AS interval))
    WHERE subscriber_ref = :subscriber_ref AND replaced_by_order IS NOT NULL AND released_at IS NULL
      AND NOT EXISTS ({_SAME_PURPOSE} AND new.released_at IS NULL AND new.state NOT IN ('active', 'suspended'))
      AND (replaced_by_order = :order_id OR EXISTS ({_SAME_PURPOSE} AND new.state IN ('active', 'suspended')))
    RETURNING {COLUMNS}
    """
)

_CONFIRM = text("UPDATE delegations SET disconnect_confirmed = true WHERE id = ANY(:ids) AND released_at IS NULL")

_NEED = text(
    """
    SELECT masklen(d.prefix) AS length, p.region, p.vrf FROM delegations d JOIN pools p ON p.id = d.pool_id
    WHERE d.subscriber_ref = :subscriber_ref AND d.purpose = :purpose AND d.released_at IS NULL
      AND d.prefix IS NOT NULL
    ORDER BY d.id LIMIT 1
    """
)


async def begin(
    connection: TenantConnection, subscriber_ref: str, order_id: str, target: Purpose | Addressing
) -> list[Delegation]:
    """Mark what the order replaces, and return it.

    Args:
        connection: In the tenant of the subscriber.
        subscriber_ref: The subscriber.
        order_id: The order.
        target: The purpose whose prefix gets a successor; or the whole addressing that the line is to have, which
            replaces each prefix that does not fit, also one that an order which ended halfway has allocated.

    Raises:
        NothingToReplaceError: the subscriber has no prefix of the purpose.
        DelegationBusyError: a prefix is not in service, so that no other one can follow it.
    """
    # An order that was taken over may have marked other purposes and not come further.
    await cancel(connection, subscriber_ref, order_id)
    held = [one for one in await held_by(connection, subscriber_ref) if one.state is not State.REVOKED]
    marked = [one for one in held if one.replaced_by_order is not None]
    unmarked = [one for one in held if one.replaced_by_order is None]
    if isinstance(target, Purpose):
        if not any(one.purpose is target for one in held):
            raise _nothing(subscriber_ref, target)
        # What this order, or one that ended halfway, has allocated is the new one: this order goes on with it.
        switched = {one.purpose for one in marked if one.replaced_at is not None}
        replaced = [
            one
            for one in unmarked
            if one.purpose is target
            and one.purpose not in switched
            and one.created_by_order != order_id
            and not _is_begun(one, order_id, marked)
        ]
    else:
        unfit = await find_mismatched(connection, subscriber_ref, target)
        replaced = [one for one in unmarked if one.id in unfit]
    for one in replaced:
        if one.state not in IN_SERVICE and not _is_begun(one, order_id, marked):
            raise DelegationBusyError(
                f"Subscriber {subscriber_ref} holds {one} ({one.purpose}), which is {one.state}: only an active or "
                "suspended prefix can be replaced. `lastmile audit` names what to do"
            )
    states = [*IN_SERVICE, *NEVER_ANNOUNCED]
    await connection.execute(_MARK, {"order_id": order_id, "ids": [one.id for one in replaced], "states": states})
    return [*(one for one in marked if one.replaced_by_order == order_id), *replaced]


def _is_begun(one: Delegation, order_id: str, marked: Sequence[Delegation]) -> bool:
    """Return whether an order that ended halfway has allocated the prefix, and announced it to no session."""
    of_a_change = one.created_by_order == order_id or any(other.purpose is one.purpose for other in marked)
    return of_a_change and one.state in NEVER_ANNOUNCED


async def cancel(connection: TenantConnection, subscriber_ref: str, order_id: str) -> bool:
    """Remove the marks of the order where no new prefix is left; return whether there was one."""
    rows = await connection.execute(_CANCEL, {"subscriber_ref": subscriber_ref, "order_id": order_id})
    return bool(rows.all())


async def need_of(connection: TenantConnection, subscriber_ref: str, purpose: Purpose, pool: str | None) -> Need:
    """Return what follows the prefix: the same length and VRF, from the pool, or from a pool of the same region."""
    row = (await connection.execute(_NEED, {"subscriber_ref": subscriber_ref, "purpose": purpose})).one_or_none()
    if row is None:
        raise _nothing(subscriber_ref, purpose)
    return Need(purpose, row.length, pool, region=row.region if pool is None else None, vrf=row.vrf)


async def switch(
    connection: TenantConnection, subscriber_ref: str, order_id: str, overlap: timedelta
) -> list[Delegation]:
    """Begin the overlap of the marked prefixes whose successor is active or suspended, and return them.

    The caller removes their RADIUS reply items in the same transaction. A repeated call keeps the times of the first.
    """
    values = {"subscriber_ref": subscriber_ref, "order_id": order_id, "overlap": overlap}
    rows = await connection.execute(_SWITCH, values)
    return [Delegation.of(row) for row in rows]


async def confirm(connection: TenantConnection, replaced: Sequence[Delegation]) -> None:
    """Record that every session from before the switch has ended, or has taken the new prefixes."""
    await connection.execute(_CONFIRM, {"ids": [one.id for one in replaced]})


def _nothing(subscriber_ref: str, purpose: Purpose) -> NothingToReplaceError:
    return NothingToReplaceError(
        f"Subscriber {subscriber_ref} has no {purpose} prefix to renumber. Order change_addressing to add one."
    )
