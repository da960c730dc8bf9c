"""What people have in NetBox where Lastmile is about to take blocks: what cannot be respected there."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from sqlalchemy import text

from ipam.errors import ForeignPrefixesError
from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.bound_pool import BoundPool
from lastmile.db import Database

__all__ = ["in_the_way"]

PAGE = 500
# So many are named.
MOST = 5

# A container over a prefix only groups. Ours, whichever delegation or block they are for, carry its key.
_HELD = text(
    """
    SELECT r.prefix::text, d.subscriber_ref, d.prefix::text AS held
    FROM unnest(CAST(:prefixes AS cidr[]), CAST(:keys AS text[]), CAST(:grouping AS boolean[]))
         r (prefix, key, grouping_)
    JOIN delegations d ON d.prefix && r.prefix
    WHERE d.pool_id = :pool_id AND d.released_at IS NULL AND NOT (r.grouping_ AND r.prefix >> d.prefix)
      AND NOT EXISTS (SELECT FROM delegations o WHERE o.pool_id = :pool_id AND o.prefix = r.prefix
                                                  AND o.allocation_key = r.key)
    """
)

_BLOCK_KEYS = text("SELECT key FROM netbox_blocks WHERE pool_id = :pool_id")


async def in_the_way(
    database: Database, netbox: NetBox, pool: BoundPool, blocks: Sequence[IPv4Network | IPv6Network]
) -> None:
    """Raise `ForeignPrefixesError` where people have what a subscriber holds, or all of a block that is to be taken."""
    problems: list[str] = []
    page: list[NetBoxRecord] = []
    async with database.platform() as connection:
        ours = set(await connection.scalars(_BLOCK_KEYS, {"pool_id": pool.id}))
    async for one in netbox.records(vrf_id=pool.netbox.vrf_id, within=pool.prefix, page=PAGE):
        if one.key not in ours:
            page.append(one)
        if len(page) == PAGE:
            problems += await _problems(database, pool, page, blocks)
            page = []
    problems += await _problems(database, pool, page, blocks)
    if problems:
        more = "" if len(problems) <= MOST else f"; and {len(problems) - MOST:,} more"
        raise ForeignPrefixesError(
            f"people have space of pool {pool} in NetBox that Lastmile needs: {'; '.join(problems[:MOST])}{more}. "
            "Remove them there, or move the subscribers, and try again"
        )


async def _problems(
    database: Database, pool: BoundPool, page: Sequence[NetBoxRecord], blocks: Sequence[Any]
) -> list[str]:
    place = {
        "pool_id": pool.id,
        "prefixes": [str(one.prefix) for one in page],
        "keys": [one.key for one in page],
        "grouping": [one.status == "container" for one in page],
    }
    async with database.platform() as connection:
        rows = (await connection.execute(_HELD, place)).all()
    problems = [f"{row.prefix}, where {row.subscriber_ref} holds {row.held}" for row in rows]
    for one in page:
        for block in blocks:
            if block == one.prefix or (one.status != "container" and block.subnet_of(one.prefix)):
                problems.append(f"{one.prefix}, where block {block} would be")
                break
    return problems
