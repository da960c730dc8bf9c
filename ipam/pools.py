"""Pools: the address space that delegations are cut from."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.errors import InvalidPool
from ipam.models import LABEL, Purpose

__all__ = ["Pool", "PoolUse", "add_pool", "list_pools"]

# Slot numbers are bigints; nobody runs out of a pool of 2^62 prefixes.
MAX_CAPACITY = 2**62

Label = Annotated[str, Field(pattern=LABEL)]


def _network(written: Any) -> Any:
    # Python's own words say what is wrong; pydantic's say twice that it is no network.
    return ip_network(written) if isinstance(written, str) else written


class Pool(BaseModel):
    """A pool as its operator describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Label
    prefix: Annotated[IPv6Network | IPv4Network, BeforeValidator(_network)]
    purpose: Purpose
    delegated_length: int
    """Length of each prefix handed out, in bits."""
    tenant: str | None = None
    """None: a pool that serves every tenant."""
    vrf: str = ""
    region: Label | None = None
    country: str | None = Field(default=None, pattern="^[A-Z]{2}$")
    """ISO 3166-1 alpha-2."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        lengths = self.purpose.lengths
        if self.prefix.version != self.purpose.family:
            raise ValueError(f"a pool for {self.purpose} needs an IPv{self.purpose.family} prefix, not {self.prefix}")
        if self.delegated_length not in lengths:
            allowed = f"/{lengths[0]}" if len(lengths) == 1 else f"/{lengths[0]} to /{lengths[-1]}"
            raise ValueError(f"{self.purpose} hands out {allowed}, not /{self.delegated_length}")
        if self.prefix.prefixlen > self.delegated_length:
            raise ValueError(f"{self.prefix} is smaller than the /{self.delegated_length} it should hand out")
        return self

    @property
    def slots(self) -> range:
        """The slots that can be handed out.

        Not the Subnet-Router anycast address of IPv6 (RFC 4291, 2.6.1), nor IPv4's network and broadcast addresses.
        """
        size = min(MAX_CAPACITY, 2 ** (self.delegated_length - self.prefix.prefixlen))
        if self.purpose is Purpose.IPV6_ADDRESS and size > 1:
            return range(1, size)
        if self.purpose is Purpose.IPV4 and size > 2:
            return range(1, size - 1)
        return range(size)


class PoolUse(BaseModel):
    """A pool and how full it is, in slots."""

    pool: Pool
    taken: int
    quarantined: int

    @property
    def capacity(self) -> int:
        slots = self.pool.slots
        return slots.stop - slots.start  # len() stops at 2^63 - 1

    @property
    def free(self) -> int:
        return self.capacity - self.taken - self.quarantined


_ADD = text(
    """
    INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, vrf, region, country,
                       first_slot, end_slot, frontier)
    VALUES (:tenant, :name, :purpose, CAST(:prefix AS cidr), :delegated_length, :vrf, :region, :country,
            :first_slot, :end_slot, :first_slot)
    """
)

_LIST = text(
    """
    SELECT p.tenant_id AS tenant, p.name, p.purpose, p.prefix::text, p.delegated_length, p.vrf, p.region, p.country,
           coalesce(s.taken, 0) AS taken, coalesce(s.quarantined, 0) AS quarantined
    FROM pools p LEFT JOIN LATERAL (
        SELECT count(delegation_id) AS taken,
               count(*) FILTER (WHERE delegation_id IS NULL AND free_at > now()) AS quarantined
        FROM slots WHERE pool_id = p.id
    ) s ON true
    ORDER BY p.tenant_id NULLS FIRST, p.name
    """
)


async def add_pool(connection: AsyncConnection, pool: Pool) -> None:
    """Add a pool; the very same pool again changes nothing.

    Raises `InvalidPool` where another pool has its name or overlaps it in its VRF, or the tenant is unknown.
    """
    values = pool.model_dump(mode="json") | {"first_slot": pool.slots.start, "end_slot": pool.slots.stop}
    try:
        async with connection.begin_nested():
            await connection.execute(_ADD, values)
    except IntegrityError as failure:
        if any(use.pool == pool for use in await list_pools(connection)):
            return
        raise InvalidPool(_complaint(pool, str(failure.orig))) from failure


async def list_pools(connection: AsyncConnection) -> list[PoolUse]:
    """Every pool that the connection may see, with its use."""
    fields = Pool.model_fields.keys()
    return [
        PoolUse(
            pool=Pool.model_validate({name: row[name] for name in fields}),
            taken=row["taken"],
            quarantined=row["quarantined"],
        )
        for row in (await connection.execute(_LIST)).mappings()
    ]


def _complaint(pool: Pool, database_words: str) -> str:
    if "pools_name" in database_words:
        return f"a pool named {pool.name!r} exists already, with other properties: choose another name"
    if "pools_no_overlap" in database_words:
        vrf = f"VRF {pool.vrf!r}" if pool.vrf else "the global table"
        return f"{pool.prefix} overlaps a pool that exists in {vrf}: no address may be in two pools"
    return f"tenant {pool.tenant!r} does not exist: add it with `lastmile tenant add` first"
