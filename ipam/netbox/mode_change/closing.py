"""The closing of a pool while its NetBox mode changes: no allocation begins; releases continue.

This closing is not the operator's (`closed_at`), which stays as it is. It ends by itself after a while, so a change
that was terminated holds up no order for longer.
"""

from datetime import timedelta

from sqlalchemy import text

from ipam.netbox.binding import BoundPool
from lastmile.db import Database

__all__ = ["close", "in_flight", "reopen"]

CLOSED = timedelta(minutes=5)

_CLOSE = text(
    """
    UPDATE pools SET netbox_closed_until = now() + CAST(:closed AS interval)
    WHERE id = (SELECT id FROM pools WHERE id = :pool_id FOR UPDATE)
    """
)

_REOPEN = text("UPDATE pools SET netbox_closed_until = NULL WHERE id = :pool_id")

_IN_FLIGHT = text(
    """
    SELECT subscriber_ref FROM delegations
    WHERE pool_id = :pool_id AND prefix IS NULL AND released_at IS NULL ORDER BY id LIMIT 3
    """
)


async def close(database: Database, pool: BoundPool) -> None:
    """Close the pool to new allocations, or keep it closed. Waits for allocations that have begun to write."""
    async with database.platform() as connection:
        await connection.execute(_CLOSE, {"pool_id": pool.id, "closed": CLOSED})


async def reopen(database: Database, pool_id: int) -> None:
    """Open the pool again, unless an operator has closed it."""
    async with database.platform() as connection:
        await connection.execute(_REOPEN, {"pool_id": pool_id})


async def in_flight(database: Database, pool: BoundPool) -> list[str]:
    """Return the first subscribers whose prefix NetBox is being asked for."""
    async with database.platform() as connection:
        return list(await connection.scalars(_IN_FLIGHT, {"pool_id": pool.id}))
