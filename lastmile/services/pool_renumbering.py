"""The renumbering of a pool: whether the pools fit, the lines, and the orders that renumber them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text

from ipam.errors import UnknownPoolError
from ipam.netbox.mode_change.plan import pool_id
from ipam.pools import Pool, PoolUse
from lastmile.contract.addressing import vrf_words
from lastmile.contract.orders import Renumber, Urgency
from lastmile.contract.pool_renumbering import (
    STANDING_WORDS,
    EndedRenumbering,
    LineStanding,
    PoolLines,
    PoolRenumbering,
    StartedRenumbering,
)
from lastmile.db import Database, PlatformConnection
from lastmile.db.statements import read_sql
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import count_of
from lastmile.services.pools import list_pools

__all__ = ["PlannedRenumbering", "count_lines", "find_ended", "find_next", "find_pool_id", "plan_renumbering"]

SHOWN = 20
"""How many lines a count names."""

_COUNT = text(
    read_sql(
        "lastmile.services",
        "pool_lines",
        ending="SELECT standing, count(*) AS lines, max(replaced_until) AS until FROM lines GROUP BY standing",
    )
)
_EXAMPLES = text(
    read_sql(
        "lastmile.services",
        "pool_lines",
        ending="SELECT tenant_id, subscriber_ref, standing, failure FROM lines"
        " WHERE standing NOT IN ('to_renumber', 'in_overlap') ORDER BY id LIMIT :most",
    )
)
_NEXT = text(
    read_sql(
        "lastmile.services",
        "pool_lines",
        ending="SELECT id, tenant_id, subscriber_ref, attempts, open_digest FROM lines"
        " WHERE standing = 'to_renumber' ORDER BY id LIMIT :most",
    )
)
_ENDED = text(
    """
    SELECT asked.delegation_id,
           coalesce(d.replaced_at IS NOT NULL OR lastmile_order_completed(o.status), false) AS renumbered,
           d.id IS NULL OR d.released_at IS NOT NULL OR d.state IN ('revoking', 'revoked') AS gone,
           coalesce(NOT lastmile_order_unfinished(o.status), false) AS ended,
           coalesce(o.result ->> 'reason', o.status) AS reason
    FROM unnest(CAST(:delegations AS bigint[]), CAST(:tenants AS text[]), CAST(:order_ids AS text[]))
         AS asked (delegation_id, tenant_id, order_id)
    LEFT JOIN delegations d ON d.id = asked.delegation_id
    LEFT JOIN orders o ON o.tenant_id = asked.tenant_id AND o.order_id = asked.order_id
    """
)


@dataclass(frozen=True, slots=True)
class PlannedRenumbering:
    """A renumbering that can start."""

    pool_id: int
    source: PoolUse
    target: PoolUse
    lines: PoolLines


async def find_pool_id(database: Database, pool: Pool) -> int:
    """Return the id of the pool. Raises `PoolBusyError` where it was removed."""
    async with database.platform() as connection:
        return await pool_id(connection, pool)


async def plan_renumbering(database: Database, source: PoolUse, target: str) -> PlannedRenumbering:
    """Return the renumbering of the pool to another one, and the lines that it is for.

    Raises `UnknownPoolError`, and `InvalidInputError` where the pools do not fit.
    """
    uses = await list_pools(database)
    async with database.platform() as connection:
        id_ = await pool_id(connection, source.pool)
        lines = await count_lines(connection, id_, None)
    found = [use for use in uses if use.pool.name == target and use.pool.tenant in (source.pool.tenant, None)]
    if not found:
        whose = f" that serves tenant {source.pool.tenant}" if source.pool.tenant else " that serves every tenant"
        raise UnknownPoolError(f"There is no pool {target}{whose}: `lastmile pool list` lists all pools.")
    problems = list(_misfits(source, found[0], lines))
    if sum(use.pool.name == target and _shares_tenant(use.pool, source.pool) for use in uses) > 1:
        problems.append(f"several pools of its tenants are named {target}, and an order names a pool by its name alone")
    if problems:
        raise InvalidInputError(f"Pool {source.pool.name} cannot be renumbered to pool {target}:", problems)
    return PlannedRenumbering(id_, source, found[0], lines)


def _shares_tenant(one: Pool, other: Pool) -> bool:
    return one.tenant is None or other.tenant in (one.tenant, None)


def _misfits(source: PoolUse, target: PoolUse, lines: PoolLines) -> Iterator[str]:
    """Yield each reason why the lines of one pool cannot get prefixes of the other."""
    old, new = source.pool, target.pool
    if old == new:
        yield "it is the same pool"
        return
    if source.closed_at is None:
        yield f"pool {old.name} still assigns prefixes: close it with `lastmile pool close {old.name}` first"
    if target.closed_at is not None:
        yield f"pool {new.name} is closed: open it with `lastmile pool open {new.name}`"
    if old.purpose is not new.purpose:
        yield f"pool {old.name} is for {old.purpose}, and pool {new.name} for {new.purpose}"
    elif old.delegated_length != new.delegated_length:
        yield f"pool {old.name} assigns /{old.delegated_length}s, and pool {new.name} /{new.delegated_length}s"
    if old.vrf != new.vrf:
        yield f"pool {old.name} is in {vrf_words(old.vrf)}, and pool {new.name} in {vrf_words(new.vrf)}"
    if target.free < lines.unfinished:
        yield (
            f"pool {new.name} has {count_of(target.free, 'free prefix', 'free prefixes')}, and "
            f"{lines.unfinished:,} lines are to be renumbered: extend it"
        )


async def count_lines(connection: PlatformConnection, pool_id: int, since: datetime | None) -> PoolLines:
    """Count the lines that hold a prefix of the pool. A renumbering that failed before `since` does not count."""
    given: dict[str, Any] = {"pool_id": pool_id, "since": since, "after": 0}
    now = await connection.scalar(text("SELECT clock_timestamp()"))
    rows = (await connection.execute(_COUNT, given)).all()
    examples = await connection.execute(_EXAMPLES, given | {"most": SHOWN})
    return PoolLines(
        at=now,
        counts={LineStanding(row.standing): row.lines for row in rows},
        overlaps_until=max((row.until for row in rows if row.standing == LineStanding.IN_OVERLAP), default=None),
        examples=[_describe(row) for row in examples],
    )


def _describe(row: Row[Any]) -> str:
    standing = LineStanding(row.standing)
    why = f": {row.failure}" if standing is LineStanding.FAILED and row.failure else ""
    return f"{row.tenant_id}, subscriber {row.subscriber_ref}: {STANDING_WORDS[standing]}{why}"


async def find_next(
    connection: PlatformConnection, request: PoolRenumbering, *, since: datetime, after: int, most: int
) -> list[StartedRenumbering]:
    """Return orders for the next lines of the pool, by the id of their delegation.

    A line whose renumbering failed since `since` is left out. The order id depends only on the delegation and on the
    number of earlier attempts: a second run sends the order that a lost run has begun, and no other one.
    """
    given = {"pool_id": request.pool_id, "since": since, "after": after, "most": most}
    return [_order(request, row) for row in await connection.execute(_NEXT, given)]


def _order(request: PoolRenumbering, row: Row[Any]) -> StartedRenumbering:
    def attempt(number: int) -> Renumber:
        return Renumber(
            tenant=row.tenant_id,
            order_id=f"renumber-pool-{row.id}-{number}",
            subscriber_ref=row.subscriber_ref,
            purpose=request.purpose,
            pool=request.target,
            overlap_hours=request.overlap_hours,
            urgency=Urgency.BULK,
            requested_by=request.requested_by or f"renumber-pool {request.pool}",
        )

    order = attempt(row.attempts + 1)
    if row.open_digest not in (None, order.digest):  # begun by a run with another target or overlap
        order = attempt(row.attempts + 2)
    return StartedRenumbering(delegation_id=row.id, order=order, begun=row.open_digest == order.digest)


async def find_ended(connection: PlatformConnection, in_flight: Sequence[StartedRenumbering]) -> list[EndedRenumbering]:
    """Return the renumberings that are decided: the line has its new prefix, is gone, or the order was rolled back."""
    given = {
        "delegations": [one.delegation_id for one in in_flight],
        "tenants": [one.order.tenant for one in in_flight],
        "order_ids": [one.order.order_id for one in in_flight],
    }
    return [
        EndedRenumbering(
            delegation_id=row.delegation_id,
            renumbered=row.renumbered,
            failure="" if row.renumbered or row.gone else row.reason,
        )
        for row in await connection.execute(_ENDED, given)
        if row.renumbered or row.gone or row.ended
    ]
