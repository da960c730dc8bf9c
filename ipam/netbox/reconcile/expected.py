"""The records that NetBox should have of a pool: its blocks, and each prefix that is held or in quarantine.

They are read by NetBox's ids and by keys, a page at a time, so that `ipam.netbox.reconcile.run` can compare the two. A
record that an order or the outbox is about to change is `in_flight`: its expected state is not known at the moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.allocation_key import AllocationKey
from ipam.delegations import Delegation
from ipam.lifecycle import State
from ipam.modes import DelegatedMode
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated.blocks import Block, BlockState, stamp
from ipam.netbox.records import BlockStamp
from ipam.prefix import Prefix
from lastmile.db.statements import read_sql

__all__ = ["ExpectedRecord", "changed", "count", "holders", "in_place", "known_keys", "linked", "look_up", "shows"]
__all__ += ["unlinked"]


@dataclass(frozen=True, slots=True)
class ExpectedRecord:
    """A delegation, or a block, and the record that NetBox should have of it."""

    pool: BoundPool
    about: Delegation | Block
    netbox_id: int | None
    """The id that its record should have."""
    required: bool
    """Whether NetBox should have a record of it."""
    in_flight: bool

    @property
    def key(self) -> str:
        return self.about.key

    @property
    def tenant(self) -> str | None:
        return self.about.tenant

    @property
    def prefix(self) -> Prefix | None:
        """None: NetBox has not chosen one, yet or at all."""
        return self.about.prefix

    @property
    def stamp(self) -> Stamp | BlockStamp:
        """Return what its record should say."""
        if isinstance(self.about, Block):
            return stamp(self.about, used=self.about.used or 0)
        return Stamp.of(self.about)

    def __str__(self) -> str:
        if isinstance(self.about, Block):
            return f"a block of pool {self.pool.name}"
        ended = "in quarantine" if self.required else "released"
        return f"{self.about.subscriber_ref}'s, {ended if self.about.state is State.REVOKED else self.about.state}"


_LOOK_UP = text(read_sql("ipam.netbox.reconcile", "look_up_expected"))

_BLOCKS = text(
    """
    SELECT * FROM pool_blocks
    WHERE mode <> 'database' AND (block_key = ANY(:keys) OR (pool_id = :pool_id AND block_netbox_id = ANY(:ids)))
    """
)

_LINKED = text(
    """
    SELECT netbox_id FROM (
        SELECT netbox_id FROM delegations
        WHERE pool_id = :pool_id AND slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL
        UNION ALL SELECT netbox_id FROM netbox_removals WHERE pool_id = :pool_id AND prefix IS NOT NULL
        UNION ALL SELECT netbox_id FROM netbox_records WHERE pool_id = :pool_id AND netbox_id IS NOT NULL
        UNION ALL SELECT netbox_id FROM netbox_blocks WHERE pool_id = :pool_id) linked
    WHERE netbox_id > :after AND netbox_id <= :upto ORDER BY netbox_id LIMIT :most
    """
)

_UNLINKED_DIRECT = text(
    """
    SELECT allocation_key FROM delegations
    WHERE pool_id = :pool_id AND slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL AND netbox_id IS NULL
    ORDER BY id LIMIT :most
    """
)

# A page of slots in order: a search for the next unlinked slots would read the whole pool where there are none.
_UNLINKED = text(
    """
    SELECT max(slot) AS last, array_agg(allocation_key) FILTER (WHERE unreported) AS keys FROM (
        SELECT d.slot, d.allocation_key, r.slot IS NULL OR (r.netbox_id IS NULL AND r.due_at IS NULL) AS unreported
        FROM delegations d LEFT JOIN netbox_records r ON r.pool_id = d.pool_id AND r.slot = d.slot
        WHERE d.pool_id = :pool_id AND d.released_at IS NULL AND d.slot > :after ORDER BY d.slot LIMIT :most) page
    """
)

_CHANGED = text(
    """
    SELECT netbox_id FROM delegations
    WHERE pool_id = :pool_id AND slot IS NULL AND netbox_id > :after AND greatest(state_since, released_at) >= :since
    ORDER BY netbox_id LIMIT :most
    """
)

_KNOWN = text(
    """
    SELECT key, o.order_id IS NOT NULL AS ordered
    FROM unnest(CAST(:keys AS text[]), CAST(:tenants AS text[]), CAST(:subscribers AS text[]), CAST(:orders AS text[]))
         carried (key, tenant, subscriber_ref, order_id)
    JOIN tenants t ON t.id = carried.tenant
    LEFT JOIN orders o ON o.tenant_id = t.id AND o.order_id = carried.order_id
                      AND o.subscriber_ref = carried.subscriber_ref
    """
)

_HOLDERS = text(
    """
    SELECT there.prefix::text, string_agg(d.subscriber_ref || ' holds ' || d.prefix, ', ' ORDER BY d.id) AS words,
           min(d.tenant_id) AS tenant
    FROM unnest(CAST(:prefixes AS cidr[])) there (prefix)
    JOIN delegations d ON d.prefix && there.prefix AND d.pool_id = :pool_id AND d.released_at IS NULL
    GROUP BY there.prefix
    """
)

_BLOCKS_UNDER = text(
    """
    SELECT there.prefix::text, 'covers ' || string_agg('block ' || b.prefix, ', ' ORDER BY b.id) AS words,
           min(b.tenant_id) AS tenant
    FROM unnest(CAST(:prefixes AS cidr[])) there (prefix)
    JOIN netbox_blocks b ON b.prefix <<= there.prefix AND b.pool_id = :pool_id AND b.state = 'open'
    GROUP BY there.prefix
    """
)

# `perhaps` counts the records that may or may not be in NetBox now: being reported, or about to be deleted.
_COUNT = text(
    """
    SELECT least, least + perhaps AS most FROM (SELECT
        (SELECT count(*) FROM delegations
         WHERE pool_id = :pool_id AND slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL)
        + (SELECT count(*) FROM netbox_removals WHERE pool_id = :pool_id AND prefix IS NOT NULL AND due_at > now())
        + (SELECT count(*) FROM netbox_blocks WHERE pool_id = :pool_id AND state = 'open')
        + (SELECT count(*) FROM netbox_records
           WHERE pool_id = :pool_id AND netbox_id IS NOT NULL AND (due_at IS NULL OR due_at > now())) AS least,
        (SELECT count(*) FROM delegations
         WHERE pool_id = :pool_id AND slot IS NULL AND prefix IS NULL AND released_at IS NULL)
        + (SELECT count(*) FROM netbox_removals WHERE pool_id = :pool_id AND (prefix IS NULL OR due_at <= now()))
        + (SELECT count(*) FROM netbox_blocks WHERE pool_id = :pool_id AND state <> 'open')
        + (SELECT count(*) FROM netbox_records
           WHERE pool_id = :pool_id AND due_at IS NOT NULL AND (netbox_id IS NULL OR due_at <= now())) AS perhaps) c
    """
)


async def look_up(
    connection: AsyncConnection, pool: BoundPool, *, ids: Sequence[int] = (), keys: Sequence[str] = ()
) -> list[ExpectedRecord]:
    """Return what should be at these NetBox ids, of this pool, and what has these keys, of any pool."""
    tenants = [AllocationKey.parse(key).tenant for key in keys]
    place = {"pool_id": pool.id, "ids": list(ids), "keys": list(keys), "tenants": tenants}
    delegations = [_delegation(row) for row in await connection.execute(_LOOK_UP, place)]
    return delegations + [_block(Block.of(row)) for row in await connection.execute(_BLOCKS, place)]


async def linked(connection: AsyncConnection, pool: BoundPool, after: int, upto: int, most: int) -> list[int]:
    """Return the NetBox ids of the pool's expected records after one id and up to another, in order."""
    place = {"pool_id": pool.id, "after": after, "upto": upto, "most": most}
    return list(await connection.scalars(_LINKED, place))


async def unlinked(
    connection: AsyncConnection, pool: BoundPool, after: int | None, most: int
) -> tuple[int | None, list[str]]:
    """Return the last slot of the page after slot `after`, and the keys in it that have no known record.

    None stands for the page before the first, and for the end.
    """
    if after is None:
        keys = list(await connection.scalars(_UNLINKED_DIRECT, {"pool_id": pool.id, "most": most}))
        return (-1 if pool.netbox.reports_prefixes else None), keys
    row = (await connection.execute(_UNLINKED, {"pool_id": pool.id, "after": after, "most": most})).one()
    return row.last, row.keys or []


async def changed(connection: AsyncConnection, pool: BoundPool, since: datetime, after: int, most: int) -> list[int]:
    """Return the NetBox ids of direct delegations that have changed here since then, in order."""
    place = {"pool_id": pool.id, "since": since, "after": after, "most": most}
    return list(await connection.scalars(_CHANGED, place))


async def known_keys(connection: AsyncConnection, keys: Sequence[str]) -> dict[str, bool]:
    """Return those keys, which have no delegation, that name a tenant of this database; True where the database has the
    order, which has ended."""
    parsed = [AllocationKey.parse(key) for key in keys]
    carried = {
        "keys": list(keys),
        "tenants": [key.tenant for key in parsed],
        "subscribers": [key.subscriber_ref for key in parsed],
        "orders": [key.order_id for key in parsed],
    }
    return {row.key: row.ordered for row in await connection.execute(_KNOWN, carried)}


async def holders(
    connection: AsyncConnection, pool: BoundPool, records: Sequence[NetBoxRecord]
) -> dict[str, tuple[str | None, str]]:
    """Return, by prefix, which of the records occupy what a subscriber holds: the tenant, and the holders in words.

    A larger container only groups. Foreign prefixes in blocks are found by `ipam.netbox.delegated.foreign_prefixes`.
    """
    delegated = isinstance(pool.netbox, DelegatedMode)
    taking = [
        str(one.prefix)
        for one in records
        if one.id != pool.netbox.prefix_id
        and one.vrf_id == pool.netbox.vrf_id
        and (one.status != "container" or (not delegated and one.prefix.prefixlen >= pool.length))
    ]
    holding = _BLOCKS_UNDER if delegated else _HOLDERS
    rows = await connection.execute(holding, {"pool_id": pool.id, "prefixes": taking})
    return {row.prefix: (row.tenant, row.words) for row in rows}


async def count(connection: AsyncConnection, pool: BoundPool) -> tuple[int, int]:
    """Return how many records NetBox should have in the pool: at least and, with those in flight, at most."""
    row = (await connection.execute(_COUNT, {"pool_id": pool.id})).one()
    return row.least, row.most


def shows(netbox: NetBox, record: NetBoxRecord, target: ExpectedRecord, pool: BoundPool) -> bool:
    """Return whether the record is as expected in this pool."""
    known = target.required and target.pool.id == pool.id and target.netbox_id == record.id
    return known and in_place(record, target) and not netbox.faults(record, target.stamp)


def in_place(record: NetBoxRecord, target: ExpectedRecord) -> bool:
    """Return whether the record has the expected prefix and VRF."""
    return (record.prefix, record.vrf_id) == (target.prefix, target.pool.netbox.vrf_id)


def _delegation(row: Row[Any]) -> ExpectedRecord:
    return ExpectedRecord(BoundPool.of(row), Delegation.of(row), row.expected_id, row.required, row.in_flight)


def _block(block: Block) -> ExpectedRecord:
    taken = block.state is BlockState.OPEN
    return ExpectedRecord(block.pool, block, block.netbox_id, required=taken, in_flight=not taken)
