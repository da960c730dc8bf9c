"""The stages of a change of a pool's NetBox mode.

A pool becomes direct by way of delegated with a record of each prefix: NetBox has every record before it begins to
choose. Between two stages the pool is in one valid mode, and the same request continues from there.
"""

from enum import StrEnum
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, text

from ipam.errors import InvalidPoolError, PoolBusyError
from ipam.modes import AllocationMode, DatabaseMode, DelegatedMode, DirectMode, PoolMode, ReportingScope, read_mode
from ipam.netbox.binding import BoundPool
from ipam.pools import Pool, list_pools
from lastmile.db import PlatformConnection

__all__ = ["Conversion", "bound_as", "describe_mode", "outdated_message", "plan", "pool_id", "present_mode"]


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
    connection: PlatformConnection, pool_id: int, before: PoolMode, requested: PoolMode
) -> list[tuple[Conversion, PoolMode]]:
    """Return the conversions that bring the pool to the requested mode; none where it has that mode.

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
    match requested, before:
        case DelegatedMode(), _:
            return [(_to_delegated(before), requested)]
        case DirectMode(), DirectMode():
            return [(Conversion.DIRECT_OPTIONS, requested)]
        case DirectMode() as direct, _:
            way = _way_to_direct(pool, direct)
            last = (Conversion.DELEGATED_TO_DIRECT, requested)
            return [last] if before == way else [(_to_delegated(before), way), last]
    raise InvalidPoolError(f"pool {pool.name} is in NetBox, and cannot leave it")


async def pool_id(connection: PlatformConnection, pool: Pool) -> int:
    """Return the id of a pool. Raises `PoolBusyError` where it was removed."""
    found = await connection.scalar(_ID, {"name": pool.name, "tenant": pool.tenant})
    if found is None:
        raise PoolBusyError(f"pool {pool.name} was removed meanwhile: see `lastmile pool list`")
    return int(found)


async def bound_as(connection: PlatformConnection, pool_id: int, mode: PoolMode) -> tuple[BoundPool, PoolMode]:
    """Return the pool in this mode, and its present mode. Raises `PoolBusyError` where it was removed."""
    row = await _row(connection, pool_id)
    return BoundPool.of(row, mode), read_mode(row._mapping)


async def present_mode(connection: PlatformConnection, pool_id: int) -> PoolMode:
    """Return the pool's mode. Raises `PoolBusyError`."""
    return read_mode((await _row(connection, pool_id))._mapping)


async def _row(connection: PlatformConnection, pool_id: int) -> Row[Any]:
    row = (await connection.execute(_POOL, {"pool_id": pool_id})).one_or_none()
    if row is None:
        raise PoolBusyError(f"pool {pool_id} was removed meanwhile: see `lastmile pool list`")
    return row


def describe_mode(mode: PoolMode) -> str:
    """Return the mode in words."""
    match mode:
        case DatabaseMode():
            return "in the database alone"
        case DirectMode():
            return "direct"
        case DelegatedMode():
            return f"delegated, with a record of each {mode.record}"


def outdated_message(pool: str) -> str:
    """Return the message for the later of two changes."""
    return f"pool {pool} was changed by another operator meanwhile: see `lastmile pool list`, and try again"


def _to_delegated(before: PoolMode) -> Conversion:
    match before:
        case DatabaseMode():
            return Conversion.DATABASE_TO_DELEGATED
        case DirectMode():
            return Conversion.DIRECT_TO_DELEGATED
        case DelegatedMode():
            return Conversion.DELEGATED_OPTIONS


def _way_to_direct(pool: Pool, requested: DirectMode) -> PoolMode:
    """Return the delegated mode that comes before the direct one. Raises `InvalidPoolError`."""
    way: dict[str, Any] = {"mode": AllocationMode.DELEGATED, "record": ReportingScope.PREFIX}
    if isinstance(pool.netbox, DelegatedMode):
        way["block_length"] = pool.netbox.block_length
    try:
        return Pool.model_validate(pool.model_dump() | {"netbox": requested.model_dump() | way}).netbox
    except ValidationError as failure:
        why = failure.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidPoolError(
            f"pool {pool.name} cannot be delegated with a record of each prefix, on its way to direct: {why}"
        ) from None
