"""Synchronize the record of one slot's prefix in NetBox, whatever other users have done to it."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import text

from ipam.lifecycle import State
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import BoundPool
from ipam.netbox.errors import NetBoxError
from ipam.netbox.reconcile.key_recovery import lost_its_key
from ipam.prefix import Prefix
from lastmile.db import Database
from lastmile.errors import NonRetryableError

__all__ = ["Entry", "PrefixOccupiedError", "sync_record"]


class PrefixOccupiedError(NetBoxError, NonRetryableError):
    """NetBox has the prefix already, as a foreign prefix."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the outbox knows of the record of a slot's prefix, and what the record should be."""

    slot: int
    claimed_until: datetime
    """The expiry of the claim, which identifies it. Another worker may have changed the row after that."""
    version: int
    news: bool
    """A change is to be reported; else this is another look after an unknown outcome."""
    unsure: bool
    netbox_id: int | None
    key: str | None
    """The key on the record of that id, as last noted."""
    prefix: Prefix
    expected: Stamp | None
    """None: NetBox should have no record of the prefix."""
    until: datetime | None
    """When that changes by itself: the end of the quarantine."""


_KEYS = text(
    """
    SELECT d.allocation_key FROM delegations d
    WHERE d.pool_id = :pool_id AND d.prefix = CAST(:prefix AS cidr)
    """
)


async def sync_record(database: Database, netbox: NetBox, pool: BoundPool, entry: Entry) -> NetBoxRecord | None:
    """Create, change, move or delete the record, until it is as expected; return it. Raises `NetBoxError`."""
    known = None if entry.netbox_id is None else await netbox.get(entry.netbox_id)
    without_key = None
    if known is not None and (known.key is None or known.key != entry.key):
        noted = entry.key or (entry.expected and entry.expected.key)
        if noted and lost_its_key(known, noted, entry.prefix, pool.netbox.vrf_id):
            without_key = known
        known = None  # a foreign record by now, or one to look up by its prefix
    moved = known is not None and (known.prefix, known.vrf_id) != (entry.prefix, pool.netbox.vrf_id)
    record = None if moved else known
    if entry.unsure or (record is None and entry.netbox_id is not None):
        record = await _look(database, netbox, pool, entry, without_key) or record
    if known is not None and moved:
        if record is None and entry.expected is not None:
            record = known
        else:
            await netbox.delete(known.id)
    if entry.expected is None:
        if record is not None:
            await netbox.delete(record.id)
        return None
    if record is None:
        return await netbox.create(entry.prefix, vrf_id=pool.netbox.vrf_id, stamp=entry.expected)
    expected = entry.expected
    if (record.key or entry.key) == expected.key and expected.state is not State.REVOKED:
        # Users of NetBox write there, and the description of an imported line is theirs.
        expected = replace(expected, description=None)
    if not _shows(netbox, record, pool, entry.prefix, expected):
        record = await netbox.place(record, entry.prefix, vrf_id=pool.netbox.vrf_id, stamp=expected)
    return record


async def _look(
    database: Database, netbox: NetBox, pool: BoundPool, entry: Entry, without_key: NetBoxRecord | None
) -> NetBoxRecord | None:
    """Return our record of the prefix, whichever delegation it was created for, else the `without_key` one.

    Deletes each further record with a key of ours. Raises `PrefixOccupiedError`.
    """
    async with database.platform() as connection:
        keys = set(await connection.scalars(_KEYS, {"pool_id": pool.id, "prefix": str(entry.prefix)}))
    there = [
        one
        async for one in netbox.records(vrf_id=pool.netbox.vrf_id, prefix=entry.prefix)
        if one.prefix == entry.prefix and one.status != "container"
    ]
    ours = [one for one in there if one.key in keys]
    if not ours and without_key is not None:
        if entry.expected is None:
            raise PrefixOccupiedError(
                f"{entry.prefix} (#{without_key.id}) has lost its key, so it is not deleted: delete it in NetBox"
            )
        return without_key
    if len(ours) < len(there) and not ours and entry.expected is not None:
        raise PrefixOccupiedError(
            f"NetBox has a foreign record of {entry.prefix}: {there[0].description or there[0].key}"
        )
    # Keep the record that carries the key: NetBox would not let another record have it.
    ours.sort(key=lambda one: entry.expected is None or one.key != entry.expected.key)
    for surplus in ours[1:]:
        await netbox.delete(surplus.id)
    return ours[0] if ours else None


def _shows(netbox: NetBox, record: NetBoxRecord, pool: BoundPool, prefix: Prefix, expected: Stamp) -> bool:
    in_place = (record.prefix, record.vrf_id) == (prefix, pool.netbox.vrf_id)
    described = expected.description is None or expected.description == record.description
    return in_place and described and record.key == expected.key and not netbox.faults(record, expected)
