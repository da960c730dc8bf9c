"""Repair one difference between NetBox and the database, while orders run.

The difference is inspected again before and after the repair. How a record is written depends on the pool:
    - Direct: write the record, and read the delegation again, until the two agree. Orders do the same, so that the last
      writer writes the present state.
    - Delegated, with a record of each prefix: have the outbox report the prefix again, under its claims.
    - A block: write the record under the lock of block maintenance.
"""

from dataclasses import replace

from sqlalchemy import text

from ipam.delegations import Delegation
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import BoundPool, find_record
from ipam.netbox.delegated.block_sync import show
from ipam.netbox.delegated.blocks import MAINTENANCE_LOCK, MAINTENANCE_SECONDS, Block, slot_range
from ipam.netbox.delegated.outbox import report_again
from ipam.netbox.delegated.outbox_sync import PrefixOccupiedError
from ipam.netbox.direct import pending_delegations
from ipam.netbox.errors import KeyTakenError, NetBoxAuthorizationError, NetBoxError, NetBoxNotReadyError
from ipam.netbox.reconcile import expected
from ipam.netbox.reconcile.differences import Difference, DifferenceKind
from ipam.netbox.reconcile.expected import ExpectedRecord
from ipam.netbox.reconcile.failed_repairs import remember
from ipam.netbox.reconcile.inspection import examine, pool_moved
from lastmile.db import Database
from lastmile.db.advisory_lock import exclusive
from lastmile.errors import NonRetryableError

__all__ = ["repair"]

IN_HAND = "an order or a worker is changing it"

_LINK = text(
    """
    WITH held AS (
        UPDATE delegations SET netbox_id = :netbox_id
        WHERE tenant_id = :tenant AND allocation_key = :key AND slot IS NULL AND released_at IS NULL
    )
    UPDATE netbox_removals SET netbox_id = :netbox_id
    WHERE tenant_id = :tenant AND allocation_key = :key AND pool_id = :pool_id
    """
)


async def repair(database: Database, netbox: NetBox, difference: Difference) -> str:
    """Repair the difference if it still exists; return why it could not be repaired, or an empty text.

    Can be repeated, and interrupted at any moment. Raises `NetBoxError` where NetBox does not answer or refuses every
    request.
    """
    if not difference.repairable:
        return difference.action
    async with exclusive(database, "repair") as acquired:
        if not acquired:
            return "another repair is running: try again in a moment"
        problem = await _repair(database, netbox, difference)
        if problem != IN_HAND:
            async with database.platform() as connection:
                await remember(connection, difference, problem)
        return problem


async def _repair(database: Database, netbox: NetBox, difference: Difference) -> str:
    async def look(netbox_id: int | None) -> Difference | str:
        if difference.kind is DifferenceKind.POOL_MOVED:
            return await pool_moved(netbox, difference.pool) or ""
        found = await examine(database, netbox, difference.pool, netbox_id, difference.key)
        return found if isinstance(found, Difference) else "" if found is None else IN_HAND

    now = await look(difference.netbox_id)
    if isinstance(now, str):
        return now
    if not now.repairable:
        return now.action
    try:
        problem = await _write(database, netbox, now)
    except NetBoxError as failure:
        if not isinstance(failure, NonRetryableError | KeyTakenError | NetBoxAuthorizationError | NetBoxNotReadyError):
            raise
        return str(failure)
    # A record that was created again has another id.
    left = await look(difference.netbox_id if now.target is None or now.kind is DifferenceKind.DUPLICATE else None)
    return problem or (left if isinstance(left, str) else left.words)


async def _write(database: Database, netbox: NetBox, difference: Difference) -> str:
    """Write the repair; return why it is not possible, if that is known. Raises `NetBoxError`."""
    target, pool = difference.target, difference.pool
    if difference.kind is DifferenceKind.POOL_MOVED:
        return await _move_back(netbox, pool)
    record = None if difference.netbox_id is None else await netbox.get(difference.netbox_id)
    if record is not None and record.key != difference.key:
        record = None
    if target is not None and isinstance(target.about, Block):
        return await _block(database, netbox, target, difference.kind, record)
    slot = _slot(pool, target, record)
    if slot is not None:
        found = record if difference.kind is DifferenceKind.DRIFT else None
        problem = await report_again(database, netbox, pool, slot, record=found)
        if problem or difference.kind not in (DifferenceKind.ORPHAN, DifferenceKind.DUPLICATE):
            return problem
        # The outbox has not made the record the slot's own, so it is surplus.
        record = None if record is None else await netbox.get(record.id)
    if difference.kind in (DifferenceKind.ORPHAN, DifferenceKind.DUPLICATE):
        if record is not None and record.key == difference.key:
            await netbox.delete(record.id)
    elif target is not None and slot is None:
        await _show(database, netbox, target, record)
    return ""


async def _move_back(netbox: NetBox, pool: BoundPool) -> str:
    """Move the pool's own prefix back into its VRF; return why that is not possible. Raises `NetBoxError`."""
    async for one in netbox.records(vrf_id=pool.netbox.vrf_id, prefix=pool.prefix):
        if one.prefix == pool.prefix and one.id != pool.netbox.prefix_id:
            return (
                f"the VRF of pool {pool.name} has {pool.prefix} already (#{one.id}): delete one of the two in NetBox. "
                f"To keep #{one.id}, run `lastmile pool add` again, just as before"
            )
    await netbox.move(pool.netbox.prefix_id, pool.prefix, vrf_id=pool.netbox.vrf_id)
    return ""


def _slot(pool: BoundPool, target: ExpectedRecord | None, record: NetBoxRecord | None) -> int | None:
    """Return the slot whose prefix the outbox reports; None where the pool has no outbox."""
    if not pool.netbox.reports_prefixes:
        return None
    if target is not None:
        return target.about.slot if isinstance(target.about, Delegation) else None
    return slot_range(pool, record.prefix)[0] if record is not None and pool.has(record) else None


async def _show(database: Database, netbox: NetBox, target: ExpectedRecord, record: NetBoxRecord | None) -> None:
    """Write the record of a prefix of a direct pool until it agrees with the delegation. Raises `NetBoxError`.

    `record` is the delegation's own, where that is known.
    """
    tenant, pool, shown = str(target.tenant), target.pool, None
    if record is not None and record.id != target.netbox_id:
        await _link(database, target, record)
    while True:
        async with database.tenant(tenant) as connection:
            delegation = await pending_delegations.by_key(connection, target.key)
        async with database.platform() as connection:
            found = await expected.look_up(connection, pool, keys=[target.key])
        now = next((one for one in found if one.required), None)
        at = target.netbox_id if now is None else now.netbox_id
        record = await find_record(netbox, pool, target.key, at, to_stamp=None if now is None else now.prefix)
        if now is None or now.prefix is None or delegation is None:
            if record is not None and shown is not None:  # released while we wrote
                await netbox.delete(record.id)
            return
        if shown == (delegation.state, now.netbox_id):
            return
        says = Stamp.of(delegation)
        if record is None or not expected.in_place(record, now):
            await _nobody_at(netbox, now)
        elif record.key is None:
            says = replace(says, description=None)  # another user of NetBox may have written there
        if record is None:
            record = await netbox.create(now.prefix, vrf_id=pool.netbox.vrf_id, stamp=says)
        else:
            record = await netbox.place(record, now.prefix, vrf_id=pool.netbox.vrf_id, stamp=says)
        if record.id != now.netbox_id:
            await _link(database, now, record)
        shown = (delegation.state, record.id)


async def _nobody_at(netbox: NetBox, target: ExpectedRecord) -> None:
    """Raise `PrefixOccupiedError` for a duplicate: NetBox permits duplicates in some VRFs, and in a race."""
    async for one in netbox.records(vrf_id=target.pool.netbox.vrf_id, prefix=target.prefix):
        if one.prefix == target.prefix and one.key != target.key:
            whose = one.description or one.key or "no description"
            raise PrefixOccupiedError(f"NetBox has a foreign record of {target.prefix}: {whose} (#{one.id})")


async def _link(database: Database, target: ExpectedRecord, record: NetBoxRecord) -> None:
    place = {"tenant": target.tenant, "key": target.key, "pool_id": target.pool.id, "netbox_id": record.id}
    async with database.platform() as connection:
        await connection.execute(_LINK, place)


async def _block(
    database: Database, netbox: NetBox, target: ExpectedRecord, kind: DifferenceKind, record: NetBoxRecord | None
) -> str:
    async with exclusive(database, MAINTENANCE_LOCK, patience=MAINTENANCE_SECONDS) as acquired:
        if not acquired:
            return IN_HAND
        async with database.platform() as connection:
            found = await expected.look_up(connection, target.pool, keys=[target.key])
        if kind is DifferenceKind.DUPLICATE and record is not None:
            await netbox.delete(record.id)
        elif found and found[0].required and isinstance(found[0].about, Block):  # not returned meanwhile
            await show(database, netbox, found[0].about)
    return ""
