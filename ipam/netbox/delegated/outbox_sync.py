"""The record of one slot's prefix in NetBox: found whatever became of it there, and brought to what is true."""

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

__all__ = ["Entry", "PrefixOccupiedError", "bring"]


class PrefixOccupiedError(NetBoxError, NonRetryableError):
    """NetBox has the prefix already, as somebody else's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the outbox knows of a slot's prefix, and what is true of it."""

    slot: int
    claimed_until: datetime
    """Whose it is by then, the rest of this may be wrong."""
    version: int
    news: bool
    """NetBox has yet to be told; else it is time for another look."""
    unsure: bool
    netbox_id: int | None
    key: str | None
    """What NetBox's record of that id carries, as far as we know."""
    prefix: Prefix
    wanted: Stamp | None
    """None: it should not be in NetBox."""
    until: datetime | None
    """When that changes by itself."""


_KEYS = text(
    """
    SELECT d.allocation_key FROM delegations d
    WHERE d.pool_id = :pool_id AND d.prefix = CAST(:prefix AS cidr)
    """
)


async def bring(database: Database, netbox: NetBox, pool: BoundPool, entry: Entry) -> NetBoxRecord | None:
    """NetBox's record, as it should be. Raises `NetBoxError`."""
    known = None if entry.netbox_id is None else await netbox.get(entry.netbox_id)
    keyless = None
    if known is not None and (known.key is None or known.key != entry.key):
        noted = entry.key or (entry.wanted and entry.wanted.key)
        if noted and lost_its_key(known, noted, entry.prefix, pool.netbox.vrf_id):
            keyless = known
        known = None  # a person's by now, or to be looked at more closely
    moved = known is not None and (known.prefix, known.vrf_id) != (entry.prefix, pool.netbox.vrf_id)
    record = None if moved else known
    if entry.unsure or (record is None and entry.netbox_id is not None):
        record = await _look(database, netbox, pool, entry, keyless) or record
    if known is not None and moved:
        if record is None and entry.wanted is not None:
            record = known
        else:
            await netbox.delete(known.id)
    if entry.wanted is None:
        if record is not None:
            await netbox.delete(record.id)
        return None
    if record is None:
        return await netbox.create(entry.prefix, vrf_id=pool.netbox.vrf_id, stamp=entry.wanted)
    wanted = entry.wanted
    if (record.key or entry.key) == wanted.key and wanted.state is not State.REVOKED:
        wanted = replace(wanted, description=None)  # people write there, and of an imported line it is all theirs
    if not _shows(netbox, record, pool, entry.prefix, wanted):
        record = await netbox.place(record, entry.prefix, vrf_id=pool.netbox.vrf_id, stamp=wanted)
    return record


async def _look(
    database: Database, netbox: NetBox, pool: BoundPool, entry: Entry, keyless: NetBoxRecord | None
) -> NetBoxRecord | None:
    """Our record of the prefix, whichever delegation it was made for, or the `keyless` one; one more than one of those
    with a key is deleted. Raises `PrefixOccupiedError`."""
    async with database.platform() as connection:
        keys = set(await connection.scalars(_KEYS, {"pool_id": pool.id, "prefix": str(entry.prefix)}))
    there = [
        one
        async for one in netbox.records(vrf_id=pool.netbox.vrf_id, prefix=entry.prefix)
        if one.prefix == entry.prefix and one.status != "container"
    ]
    ours = [one for one in there if one.key in keys]
    if not ours and keyless is not None:
        if entry.wanted is None:
            raise PrefixOccupiedError(
                f"{entry.prefix} (#{keyless.id}) has lost its key, so it is not deleted: delete it in NetBox"
            )
        return keyless
    if len(ours) < len(there) and not ours and entry.wanted is not None:
        raise PrefixOccupiedError(
            f"NetBox has {entry.prefix} already, and not as ours: {there[0].description or there[0].key}"
        )
    # Of two, the one that carries the key: NetBox would not let another one have it.
    ours.sort(key=lambda one: entry.wanted is None or one.key != entry.wanted.key)
    for surplus in ours[1:]:
        await netbox.delete(surplus.id)
    return ours[0] if ours else None


def _shows(netbox: NetBox, record: NetBoxRecord, pool: BoundPool, prefix: Prefix, wanted: Stamp) -> bool:
    in_place = (record.prefix, record.vrf_id) == (prefix, pool.netbox.vrf_id)
    described = wanted.description is None or wanted.description == record.description
    return in_place and described and record.key == wanted.key and not netbox.faults(record, wanted)
