"""Compare NetBox with the database, in both directions, and yield each difference.

The comparison is by NetBox's ids, page by page. It only finds suspicions, since the pages are read at different
moments. Each suspicion is inspected alone, between two reads of the database that must agree. A record that an order or
the outbox is changing is no difference.

A comparison reads what has changed since the last one, in the database and in NetBox, and what that one left open. It
reads everything where changes alone cannot show a difference:
    - The number of records is not as expected: one was deleted in NetBox, or moved out of the pool.
    - There is a surplus record, which can hide a missing one in that number.
    - One of Lastmile's custom fields was created again: the records have lost its values.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import text

from ipam.modes import DirectMode
from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.binding import BoundPool, pools_in_netbox
from ipam.netbox.delegated.foreign_prefixes import MARGIN
from ipam.netbox.reconcile import expected
from ipam.netbox.reconcile.differences import Difference, DifferenceKind
from ipam.netbox.reconcile.failed_repairs import failed_repairs, keep_only
from ipam.netbox.reconcile.inspection import examine, pool_moved
from ipam.netbox.records import TAG
from ipam.netbox.requirements import fields_made
from lastmile.db import Database

__all__ = ["differences"]

PAGE = 500
IDS_AT_ONCE = 100
"""The ids are in the URL, and web servers refuse long URLs."""
LAST = 2**63 - 1

SURPLUS = frozenset({DifferenceKind.ORPHAN, DifferenceKind.DUPLICATE})
"""Surplus records: they can hide a missing record in the number of records."""

Suspicion = tuple[int | None, str | None]
"""An id of NetBox and a key to inspect. One of them may be unknown."""

_BEGAN = text("SELECT now() AS now, (SELECT since FROM netbox_comparisons WHERE pool_id = :pool_id) AS since")

_PENDING_INSPECTIONS = text(
    """
    SELECT netbox_id FROM netbox_pending_inspections
    WHERE pool_id = :pool_id AND netbox_id > :after AND seen_at < :began ORDER BY netbox_id LIMIT :most
    """
)

_REMEMBER = text(
    """
    INSERT INTO netbox_pending_inspections AS s (pool_id, netbox_id, seen_at) VALUES (:pool_id, :netbox_id, :began)
    ON CONFLICT (pool_id, netbox_id) DO UPDATE SET seen_at = greatest(s.seen_at, excluded.seen_at)
    """
)

_DISCARD = text("DELETE FROM netbox_pending_inspections WHERE pool_id = :pool_id AND seen_at < :began")

_ENDED = text(
    """
    INSERT INTO netbox_comparisons AS p (pool_id, since) VALUES (:pool_id, :began)
    ON CONFLICT (pool_id) DO UPDATE SET since = greatest(p.since, excluded.since)
    """
)


async def differences(
    database: Database,
    netbox: NetBox,
    *,
    pools: Sequence[BoundPool] | None = None,
    everything: bool = False,
    page: int = PAGE,
) -> AsyncIterator[Difference]:
    """Yield what differs now in these pools (default: all pools in NetBox).

    Reads what has changed since the last comparison, or `everything`, then also records moved out of all pools. An
    interrupted comparison does not count. Changes only the records of comparisons. Raises `NetBoxError`.
    """
    async with database.platform() as connection:
        known = await pools_in_netbox(connection)
    if not known:
        return
    await netbox.require()
    made = await fields_made(netbox.wire)
    comparisons = [_Comparison(database, netbox, pool, page, made) for pool in (known if pools is None else pools)]
    for one in comparisons:
        async for difference in one.run(everything=everything):
            yield difference
    if everything:
        async for difference in _astray(database, netbox, known, comparisons, page):
            yield difference


class _Comparison:
    """The comparison of one pool."""

    def __init__(self, database: Database, netbox: NetBox, pool: BoundPool, page: int, fields_made: datetime) -> None:
        self.pool = pool
        self._database = database
        self._netbox = netbox
        self._page = page
        self._began: datetime | None = None
        self._fields_made = fields_made
        self._returned: set[int | str] = set()
        self._failed: dict[str, str] = {}
        self._about: set[str] = set()
        """The subjects of the differences that were found (`Difference.about`)."""

    async def run(self, *, everything: bool) -> AsyncIterator[Difference]:
        async with self._database.platform() as connection:
            row = (await connection.execute(_BEGAN, {"pool_id": self.pool.id})).one()
            self._failed = await failed_repairs(connection, self.pool)
        self._began = row.now
        if moved := await pool_moved(self._netbox, self.pool):
            yield self._with_failure(moved)
        everything |= row.since is None or self._fields_made >= row.since - MARGIN
        everything = everything or not await self._as_many_as_should_be()
        surplus = False
        async for difference in self._look_at_all(self._side_by_side() if everything else self._changed(row.since)):
            surplus |= difference.kind in SURPLUS
            yield difference
        if surplus and not everything:
            async for difference in self._look_at_all(self._side_by_side()):
                yield difference
        async with self._database.platform() as connection:
            if everything:
                await keep_only(connection, self.pool, self._about)
            await connection.execute(_DISCARD, self._place)
            await connection.execute(_ENDED, self._place)

    async def _look_at_all(self, suspicions: AsyncIterator[Suspicion]) -> AsyncIterator[Difference]:
        async for netbox_id, key in suspicions:
            if difference := await self.look_at(netbox_id, key):
                yield difference

    async def look_at(self, netbox_id: int | None, key: str | None) -> Difference | None:
        """Return the difference there, unless this comparison has returned it before."""
        found = await examine(self._database, self._netbox, self.pool, netbox_id, key)
        if found is None:
            return None
        place = found.netbox_id if isinstance(found, Difference) else netbox_id
        if place is not None:
            async with self._database.platform() as connection:
                await connection.execute(_REMEMBER, self._place | {"netbox_id": place})
        if not isinstance(found, Difference):
            return None  # in flight: the next comparison inspects it again
        known_as = place if place is not None else found.subject
        if known_as in self._returned:
            return None
        self._returned.add(known_as)
        return self._with_failure(found)

    def _with_failure(self, difference: Difference) -> Difference:
        self._about.add(difference.about)
        return replace(difference, failed=self._failed.get(difference.about, ""))

    @property
    def _place(self) -> dict[str, Any]:
        return {"pool_id": self.pool.id, "began": self._began}

    async def _as_many_as_should_be(self) -> bool:
        counts = []
        for look in (True, False):
            async with self._database.platform() as connection:
                counts.append(await expected.count(connection, self.pool))
            if look:
                there = await self._netbox.count_ours(self.pool.prefix, vrf_id=self.pool.netbox.vrf_id)
        return min(least for least, _ in counts) <= there <= max(most for _, most in counts)

    async def _side_by_side(self) -> AsyncIterator[Suspicion]:
        """Yield suspicions from everything, on both sides."""
        last = 0
        within = self._netbox.records(vrf_id=self.pool.netbox.vrf_id, within=self.pool.prefix, page=self._page)
        async for records in _batches(within, self._page):
            async for suspicion in self._suspicious(records):
                yield suspicion
            async for suspicion in self._absent(records, last, records[-1].id):
                yield suspicion
            last = records[-1].id
        async for suspicion in self._absent([], last, LAST):
            yield suspicion
        after: int | None = None
        while True:
            async with self._database.platform() as connection:
                after, keys = await expected.unlinked(connection, self.pool, after, self._page)
            for key in keys:
                yield None, key
            if after is None:
                return

    async def _absent(self, records: list[NetBoxRecord], after: int, upto: int) -> AsyncIterator[Suspicion]:
        """Yield the ids of expected records that a page of records does not have."""
        there = {one.id for one in records}
        while True:
            async with self._database.platform() as connection:
                ids = await expected.linked(connection, self.pool, after, upto, self._page)
            for id in ids:
                if id not in there:
                    yield id, None
            if not ids:
                return
            after = ids[-1]

    async def _changed(self, since: datetime) -> AsyncIterator[Suspicion]:
        """Yield suspicions from what was left open, and from what has changed here or in NetBox."""
        since -= MARGIN
        async for ids in self._left_open_or_changed(since):
            records = await self._netbox.by_ids(ids)
            async for suspicion in self._suspicious(records):
                yield suspicion
            for id in set(ids) - {one.id for one in records}:
                yield id, None
        there = self._netbox.records(
            vrf_id=self.pool.netbox.vrf_id, within=self.pool.prefix, updated_since=since, page=self._page
        )
        async for records in _batches(there, self._page):
            async for suspicion in self._suspicious(records):
                yield suspicion

    async def _left_open_or_changed(self, since: datetime) -> AsyncIterator[list[int]]:
        after = 0
        while True:
            async with self._database.platform() as connection:
                page = {"after": after, "most": IDS_AT_ONCE}
                ids = list(await connection.scalars(_PENDING_INSPECTIONS, self._place | page))
            if not ids:
                break
            yield ids
            after = ids[-1]
        after = 0
        while isinstance(self.pool.netbox, DirectMode):
            async with self._database.platform() as connection:
                ids = await expected.changed(connection, self.pool, since, after, IDS_AT_ONCE)
            if not ids:
                break
            yield ids
            after = ids[-1]

    async def _suspicious(self, records: list[NetBoxRecord]) -> AsyncIterator[Suspicion]:
        """Yield those of a page of records that seem not to be as expected."""
        keys = [one.key for one in records if one.key is not None]
        async with self._database.platform() as connection:
            found = await expected.look_up(connection, self.pool, ids=[one.id for one in records], keys=keys)
            without_key = [one for one in records if one.key is None]
            taken = await expected.holders(connection, self.pool, without_key) if without_key else {}
        target = {one.key: one for one in found}
        linked = {one.netbox_id for one in found}
        for one in records:
            if one.key is None:
                fine = one.id not in linked and TAG not in one.tags and str(one.prefix) not in taken
            else:
                fine = one.key in target and expected.shows(self._netbox, one, target[one.key], self.pool)
            if not fine:
                yield one.id, one.key


async def _astray(
    database: Database, netbox: NetBox, pools: Sequence[BoundPool], comparisons: Sequence[_Comparison], page: int
) -> AsyncIterator[Difference]:
    """Yield the records of Lastmile that are in no pool, because another user of NetBox has moved them."""
    within = [await netbox.count_ours(pool.prefix, vrf_id=pool.netbox.vrf_id) for pool in pools]
    if await netbox.count_ours() == sum(within):
        return
    by_pool = {one.pool.id: one for one in comparisons}
    async for records in _batches(netbox.ours_anywhere(page=page), page):
        outside = {one.key: one for one in records if one.key and not any(pool.contains(one) for pool in pools)}
        async with database.platform() as connection:
            found = await expected.look_up(connection, pools[0], keys=list(outside))
        for target in found:
            if target.key in outside and target.pool.id in by_pool:
                difference = await by_pool[target.pool.id].look_at(outside[target.key].id, target.key)
                if difference is not None:
                    yield difference


async def _batches(records: AsyncIterator[NetBoxRecord], size: int) -> AsyncIterator[list[NetBoxRecord]]:
    batch: list[NetBoxRecord] = []
    async for one in records:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
