"""Inspect one record of NetBox, or one prefix that should have a record, and return what is wrong at this moment."""

from enum import Enum

from ipam.allocation_key import AllocationKey
from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.binding import BoundPool
from ipam.netbox.reconcile import expected
from ipam.netbox.reconcile.differences import Difference, DifferenceKind
from ipam.netbox.reconcile.expected import ExpectedRecord, in_place
from ipam.netbox.reconcile.key_recovery import BLOCK_KEYS, lost_its_key
from ipam.netbox.records import TAG
from ipam.netbox.requirements import NOT_VISIBLE
from lastmile.db import Database

__all__ = ["Examined", "examine", "pool_moved"]

# The key of a record that an order or another user changes can differ between two looks.
TRIES = 3


class Examined(Enum):
    IN_FLIGHT = "in flight"
    """An order or the outbox is changing it: inspect it again later."""


async def examine(
    database: Database, netbox: NetBox, pool: BoundPool, netbox_id: int | None, key: str | None
) -> Difference | Examined | None:
    """Return what is wrong at this id of NetBox, or with the record of this key. Raises `NetBoxError`."""

    async def look() -> list[ExpectedRecord]:
        async with database.platform() as connection:
            ids, keys = [id for id in (netbox_id,) if id is not None], [one for one in (key,) if one is not None]
            return await expected.look_up(connection, pool, ids=ids, keys=keys)

    for _ in range(TRIES):
        before = await look()
        if netbox_id is None:
            record = await netbox.find(key or "")
        else:
            record = await netbox.get(netbox_id)
        if record is not None and record.key is not None and record.key != key:
            key = record.key
            continue
        after = await look()
        if before != after or any(one.in_flight for one in after):
            return Examined.IN_FLIGHT
        return await _Judge(database, netbox, pool).judge(netbox_id, record, after)
    return Examined.IN_FLIGHT


async def pool_moved(netbox: NetBox, pool: BoundPool) -> Difference | None:
    """Return what is wrong with the pool's own prefix. Raises `NetBoxError`."""
    there = await netbox.get(pool.netbox.prefix_id)
    same_prefix = there is not None and there.prefix == pool.prefix
    same_vrf = there is not None and there.vrf_id == pool.netbox.vrf_id
    if same_prefix and same_vrf:
        return None
    words = f"is {NOT_VISIBLE}" if there is None else f"has {there.prefix} there"
    if there is not None and not same_vrf:
        words += ", in another VRF"
    words = f"pool {pool.name} is prefix #{pool.netbox.prefix_id} of NetBox, which {words}"
    return Difference(DifferenceKind.POOL_MOVED, pool, str(pool.prefix), words, None, repairable=same_prefix)


class _Judge:
    def __init__(self, database: Database, netbox: NetBox, pool: BoundPool) -> None:
        self._database = database
        self._netbox = netbox
        self._pool = pool

    async def judge(
        self, netbox_id: int | None, record: NetBoxRecord | None, found: list[ExpectedRecord]
    ) -> Difference | None:
        here = [one for one in found if one.required and one.pool.id == self._pool.id]
        linked = next((one for one in here if netbox_id is None or one.netbox_id == netbox_id), None)
        if record is None:
            return None if linked is None else await self._missing(linked, "NetBox shows no record of it")
        owner = next((one for one in found if one.key == record.key), None)
        if linked is not None and linked is not owner:
            return await self._missing(linked, f"another user has taken over its record #{record.id}", record)
        if owner is None:
            return await self._unowned(record)
        if not owner.required:
            return self._orphan(record, owner.tenant, f"carries the key of {owner}, which should not be there")
        if owner.netbox_id == record.id:
            return self._of(owner, record) if owner.pool.id == self._pool.id else None
        return await self._second(owner, record)

    def _of(self, owner: ExpectedRecord, record: NetBoxRecord) -> Difference | None:
        if not in_place(record, owner):
            vrf = "" if record.vrf_id == owner.pool.netbox.vrf_id else ", in another VRF"
            words = f"{owner}: its record #{record.id} is {record.prefix}{vrf}"
            return self._difference(DifferenceKind.MOVED, owner, words, record)
        if wrong := self._netbox.faults(record, owner.stamp):
            return self._difference(DifferenceKind.DRIFT, owner, f"{owner}: {', '.join(wrong)}", record)
        return None

    async def _missing(self, target: ExpectedRecord, why: str, there: NetBoxRecord | None = None) -> Difference | None:
        """Return the difference of a record that is not at its id; the record `there` may have lost its key."""
        elsewhere = await self._netbox.find(target.key)
        if elsewhere is not None:
            return await self._second(target, elsewhere)
        if there is not None and lost_its_key(there, target.key, target.prefix, target.pool.netbox.vrf_id):
            wrong = ["key none => its own", *self._netbox.faults(there, target.stamp)]
            return self._difference(DifferenceKind.DRIFT, target, f"{target}: {', '.join(wrong)}", there)
        return self._difference(DifferenceKind.MISSING, target, f"{target}: {why}", None)

    async def _second(self, owner: ExpectedRecord, record: NetBoxRecord) -> Difference:
        """Return the difference of a key at another id than the noted one: a second record, or the only one left."""
        known = None if owner.netbox_id is None else await self._netbox.get(owner.netbox_id)
        if known is not None and known.key == owner.key:
            words = f"{owner}: record #{record.id} ({record.prefix}) carries its key too, beside #{known.id}"
            return self._difference(DifferenceKind.DUPLICATE, owner, words, record)
        words = f"{owner}: its record is #{record.id} ({record.prefix}), not #{owner.netbox_id or '?'}"
        return self._difference(DifferenceKind.DRIFT, owner, words, record)

    async def _unowned(self, record: NetBoxRecord) -> Difference | None:
        if record.key is None:
            return await self._foreign(record)
        async with self._database.platform() as connection:
            known = await expected.known_keys(connection, [record.key])
        if known.get(record.key):
            tenant = AllocationKey.parse(record.key).tenant
            return self._orphan(record, tenant, "carries the key of an order that has ended")
        if record.key in known or record.key.startswith(BLOCK_KEYS):
            words = f"carries the key {record.key}, which this database does not know"
            return self._orphan(record, record.tenant, words, repairable=False)
        return None  # another Lastmile's

    async def _foreign(self, record: NetBoxRecord) -> Difference | None:
        if TAG in record.tags:
            words = f"has the tag {TAG}, and no key: it is not Lastmile's"
            return self._orphan(record, None, words, repairable=False)
        async with self._database.platform() as connection:
            taken = await expected.holders(connection, self._pool, [record])
        if str(record.prefix) not in taken:
            return None
        tenant, words = taken[str(record.prefix)]
        words = f"{record.description or 'no description'} (#{record.id}), a foreign prefix: {words}"
        return Difference(
            DifferenceKind.OCCUPIED,
            self._pool,
            str(record.prefix),
            words,
            tenant,
            record.id,
            record.key,
            repairable=False,
        )

    def _difference(
        self, kind: DifferenceKind, target: ExpectedRecord, words: str, record: NetBoxRecord | None
    ) -> Difference:
        id = target.netbox_id if record is None else record.id
        return Difference(kind, target.pool, str(target.prefix), words, target.tenant, id, target.key, target)

    def _orphan(self, record: NetBoxRecord, tenant: str | None, words: str, *, repairable: bool = True) -> Difference:
        subject = str(record.prefix)
        return Difference(
            DifferenceKind.ORPHAN,
            self._pool,
            subject,
            f"#{record.id} {words}",
            tenant,
            record.id,
            record.key,
            repairable=repairable,
        )
