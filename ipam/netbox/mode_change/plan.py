"""The stages of a change of a pool's NetBox mode.

A pool becomes direct by way of delegated with a record of each prefix: NetBox has every record before it begins to
choose. Between two stages the pool is in one valid mode, and the same request continues from there.
"""

from enum import StrEnum
from ipaddress import ip_network
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, text

from ipam.errors import InvalidPoolError, PoolBusyError
from ipam.netbox.binding import AllocationMode, Binding, BoundPool, ReportingScope
from ipam.pools import Pool, list_pools
from lastmile.db import PlatformConnection

__all__ = ["Conversion", "bound_as", "describe_binding", "outdated_message", "plan", "pool_id", "present_binding"]


class Conversion(StrEnum):
    """How the pool's rows are rewritten, in one transaction."""

    DATABASE_TO_DELEGATED = "database to delegated"
    DIRECT_TO_DELEGATED = "direct to delegated"
    DELEGATED_TO_DIRECT = "delegated to direct"
    DELEGATED_OPTIONS = "options of a delegated pool"
    DIRECT_OPTIONS = "options of a direct pool"


_ID = text("SELECT id FROM pools WHERE name = :name AND tenant_id IS NOT DISTINCT FROM :tenant")

_POOL = text("SELECT * FROM pool_bindings WHERE pool_id = :pool_id")


async def plan(
    connection: PlatformConnection, pool_id: int, before: Binding | None, requested: Binding
) -> list[tuple[Conversion, Binding]]:
    """Return the conversions that bring the pool to the requested binding; none where it has that binding.

    Raises `PoolBusyError` where the pool is not as the requester has read it, and `InvalidPoolError`.
    """
    row = await _row(connection, pool_id)
    [pool] = [
        use.pool
        for use in await list_pools(connection)
        if (use.pool.name, use.pool.tenant) == (row.name, row.tenant_id)
    ]
    if pool.netbox != before:
        raise PoolBusyError(outdated_message(pool.name))
    if before == requested:
        return []
    if requested.mode is AllocationMode.DELEGATED:
        return [(_to_delegated(before), requested)]
    if before is not None and before.mode is AllocationMode.DIRECT:
        return [(Conversion.DIRECT_OPTIONS, requested)]
    way = _way_to_direct(pool, requested)
    last = (Conversion.DELEGATED_TO_DIRECT, requested)
    return [last] if before == way else [(_to_delegated(before), way), last]


async def pool_id(connection: PlatformConnection, pool: Pool) -> int:
    """Return the id of a pool. Raises `PoolBusyError` where it was removed."""
    found = await connection.scalar(_ID, {"name": pool.name, "tenant": pool.tenant})
    if found is None:
        raise PoolBusyError(f"pool {pool.name} was removed meanwhile: see `lastmile pool list`")
    return int(found)


async def bound_as(connection: PlatformConnection, pool_id: int, binding: Binding) -> tuple[BoundPool, Binding | None]:
    """Return the pool with this binding, and its present binding. Raises `PoolBusyError` where it was removed."""
    row = await _row(connection, pool_id)
    pool = BoundPool(row.pool_id, row.name, ip_network(row.space), row.delegated_length, binding)
    return pool, BoundPool.of(row).netbox if row.mode else None


async def present_binding(connection: PlatformConnection, pool_id: int) -> Binding | None:
    """Return how the pool is describe_binding in NetBox; None: in the database alone. Raises `PoolBusyError`."""
    row = await _row(connection, pool_id)
    return BoundPool.of(row).netbox if row.mode else None


async def _row(connection: PlatformConnection, pool_id: int) -> Row[Any]:
    row = (await connection.execute(_POOL, {"pool_id": pool_id})).one_or_none()
    if row is None:
        raise PoolBusyError(f"pool {pool_id} was removed meanwhile: see `lastmile pool list`")
    return row


def describe_binding(binding: Binding | None) -> str:
    """Return how a pool with this binding is describe_binding, for people."""
    if binding is None:
        return "in the database alone"
    return binding.mode if binding.record is None else f"{binding.mode}, with a record of each {binding.record}"


def outdated_message(pool: str) -> str:
    """Return the message for the later of two changes."""
    return f"pool {pool} was changed by another operator meanwhile: see `lastmile pool list`, and try again"


def _to_delegated(before: Binding | None) -> Conversion:
    if before is None:
        return Conversion.DATABASE_TO_DELEGATED
    if before.mode is AllocationMode.DIRECT:
        return Conversion.DIRECT_TO_DELEGATED
    return Conversion.DELEGATED_OPTIONS


def _way_to_direct(pool: Pool, requested: Binding) -> Binding:
    """Return the delegated binding that comes before the direct one. Raises `InvalidPoolError`."""
    length = pool.netbox.block_length if pool.netbox else None
    way = {"mode": AllocationMode.DELEGATED, "record": ReportingScope.PREFIX, "block_length": length}
    try:
        described = Pool.model_validate(pool.model_dump() | {"netbox": requested.model_copy(update=way)})
    except ValidationError as failure:
        why = failure.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidPoolError(
            f"pool {pool.name} cannot be delegated with a record of each prefix, on its way to direct: {why}"
        ) from None
    assert described.netbox is not None
    return described.netbox
