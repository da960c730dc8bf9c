"""Pools: the address space that delegations are cut from."""

from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.errors import InvalidPoolError
from ipam.exclusions import merged, read_networks, read_slots, slot_ranges, within
from ipam.modes import AllocationMode, DatabaseMode, DelegatedMode, NetBoxMode, PoolMode, read_mode
from ipam.prefix import Prefix, is_within, prefixes_between
from lastmile.contract.addressing import DEFAULT_VRF, LABEL, Purpose, vrf_words
from lastmile.db.statements import read_sql
from lastmile.fields.scalars import WholeNumber
from lastmile.fields.stored import STORED
from lastmile.fields.text import PRINTABLE, Text

__all__ = ["Pool", "PoolUse", "add_pool", "list_pools"]

# Slot numbers are bigints. No network needs more than 2^62 prefixes of a pool.
MAX_CAPACITY = 2**62

# A block has 4 096 prefixes by default. Each prefix of an open block has a row.
BLOCK_BITS = 12
MAX_BLOCK_BITS = 16

Label = Annotated[str, Field(pattern=LABEL)]


def _network(written: Any) -> Any:
    # Python's message says what is wrong; pydantic's says only, and twice, that the text is no network.
    return ip_network(written) if isinstance(written, str) else written


class Pool(BaseModel):
    """A pool as its operator describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Label
    prefix: Annotated[Prefix, BeforeValidator(_network)]
    purpose: Purpose
    delegated_length: WholeNumber
    """Length of each prefix handed out, in bits."""
    tenant: Text | None = None
    """None: a pool that serves every tenant."""
    vrf: Annotated[str, Field(strict=True, max_length=100), PRINTABLE] = DEFAULT_VRF
    region: Label | None = None
    country: str | None = Field(default=None, pattern="^[A-Z]{2}$")
    """ISO 3166-1 alpha-2."""
    netbox: PoolMode = DatabaseMode()
    """What NetBox has of the pool."""
    excluded: Annotated[tuple[Prefix, ...], BeforeValidator(read_networks)] = ()
    """Parts that are never handed out, such as the addresses of gateways. Whole slots, in order, without overlaps."""

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
        if isinstance(self.netbox, NetBoxMode):
            self._fits_netbox(self.netbox)
        return self

    @model_validator(mode="after")
    def _excludes(self) -> Self:
        if not self.excluded:
            return self
        if isinstance(self.netbox, NetBoxMode):
            raise ValueError(
                "a pool in NetBox has no exclusions of its own: reserve the prefix in NetBox, which Lastmile respects"
            )
        for one in self.excluded:
            if not is_within(one, self.prefix):
                raise ValueError(f"{one} is not in {self.prefix}, and cannot be excluded from it")
        slots = self.excluded_slots
        if sum(map(len, within(slots, self.slots))) == self.slots.stop - self.slots.start:
            raise ValueError("the exclusions leave nothing of the pool: remove the pool, or close it")
        object.__setattr__(self, "excluded", tuple(one for slot in slots for one in self.networks_of(slot)))
        return self

    @property
    def excluded_slots(self) -> list[range]:
        """Return the slots that the exclusions touch, in order, without overlaps."""
        shift = self.prefix.max_prefixlen - self.delegated_length
        start = int(self.prefix.network_address)
        return merged(
            range(int(one.network_address) - start >> shift, (int(one.broadcast_address) - start >> shift) + 1)
            for one in self.excluded
        )

    def networks_of(self, slots: range) -> Iterable[Prefix]:
        """Return the prefixes of these slots."""
        size = 1 << (self.prefix.max_prefixlen - self.delegated_length)
        start = self.prefix.network_address
        return prefixes_between(start + slots.start * size, start + slots.stop * size - 1)

    @field_validator("netbox", mode="before")
    @classmethod
    def _with_block_length(cls, netbox: Any, info: ValidationInfo) -> Any:
        """Choose the block length that the description of a delegated pool leaves open."""
        delegated = isinstance(netbox, dict) and netbox.get("mode") == AllocationMode.DELEGATED
        if not delegated or netbox.get("block_length") is not None:
            return netbox
        prefix, length = info.data.get("prefix"), info.data.get("delegated_length")
        if prefix is None or length is None:  # which is a mistake, and is reported
            return DatabaseMode()
        return netbox | {"block_length": max(_shortest_block(prefix, length), length - BLOCK_BITS)}

    def _fits_netbox(self, place: NetBoxMode) -> None:
        if self.purpose not in (Purpose.IPV6_PD, Purpose.IPV6_FRAMED):
            raise ValueError(
                f"a pool for {self.purpose} cannot be kept in NetBox, which chooses prefixes and not host addresses: "
                "leave out --netbox"
            )
        if self.prefix.prefixlen == self.delegated_length:
            # NetBox would choose the pool's own prefix, each time.
            raise ValueError(f"{self.prefix} is all one /{self.delegated_length}: NetBox needs a larger prefix")
        if not isinstance(place, DelegatedMode):
            return
        # NetBox gives away no whole prefix, and has no prefix twice.
        first = _shortest_block(self.prefix, self.delegated_length)
        last = self.delegated_length - place.reports_prefixes
        if first > last:
            raise ValueError(
                f"{self.prefix} is too small to tell NetBox of each /{self.delegated_length} in a block: "
                "it needs a larger prefix, or --record block"
            )
        if not first <= place.block_length <= last:
            raise ValueError(f"a block of this pool can be a /{first} to a /{last}, not a /{place.block_length}")

    @property
    def slots(self) -> range:
        """Return the slots that can be allocated.

        Not the Subnet-Router anycast address of IPv6 (RFC 4291, 2.6.1), nor IPv4's network and broadcast addresses.
        """
        size = min(MAX_CAPACITY, 2 ** (self.delegated_length - self.prefix.prefixlen))
        if self.purpose is Purpose.IPV6_ADDRESS and size > 1:
            return range(1, size)
        if self.purpose is Purpose.IPV4 and size > 2:
            return range(1, size - 1)
        return range(size)


def _shortest_block(prefix: Prefix, delegated_length: int) -> int:
    """Return the length of the largest block: smaller than the pool, and not too many rows at once."""
    return max(prefix.prefixlen + 1, delegated_length - MAX_BLOCK_BITS)


class PoolUse(BaseModel):
    """A pool and how full it is, in slots."""

    pool: Pool
    taken: int
    quarantined: int
    taken_excluded: int = 0
    """The number of `taken` slots that were excluded later: they stay until they are released."""
    closed_at: datetime | None = None
    """When the pool was closed to new allocations; None where it is open."""
    netbox_full_since: datetime | None = None
    """When NetBox first had no further block, or prefix, for the pool; None where it had one, or was not asked."""

    @property
    def capacity(self) -> int:
        slots = self.pool.slots
        excluded = sum(one.stop - one.start for one in within(self.pool.excluded_slots, slots))
        return slots.stop - slots.start - excluded + self.taken_excluded  # len() stops at 2^63 - 1

    @property
    def free(self) -> int:
        return self.capacity - self.taken - self.quarantined


_ADD = text(
    """
    INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, vrf, region, country,
                       first_slot, end_slot, frontier, excluded,
                       mode, netbox_prefix_id, netbox_vrf_id, netbox_release, netbox_record, netbox_block_length)
    VALUES (:tenant, :name, :purpose, CAST(:prefix AS cidr), :delegated_length, :vrf, :region, :country,
            :first_slot, :end_slot, :frontier, CAST(CAST(:excluded AS text) AS int8multirange),
            :mode, :prefix_id, :vrf_id, :on_release, :record, :block_length)
    """
)

_BIND = text(
    """
    UPDATE pools SET netbox_prefix_id = :prefix_id, netbox_vrf_id = :vrf_id
    WHERE name = :name AND tenant_id IS NOT DISTINCT FROM :tenant
    """
)

_LIST = text(read_sql("ipam", "list_pools"))


async def add_pool(connection: AsyncConnection, pool: Pool) -> None:
    """Add a pool. The same pool again changes nothing but its NetBox ids.

    Raises `InvalidPoolError` where another pool has its name or overlaps it in its VRF, or the tenant is unknown.
    """
    described = pool.model_dump(mode="json", exclude={"netbox"}) | {"excluded": slot_ranges(pool.excluded_slots)}
    # A delegated pool allocates from the slots of its blocks only (`ipam.netbox.delegated.blocks`).
    frontier = pool.slots.stop if isinstance(pool.netbox, DelegatedMode) else pool.slots.start
    slots = {"first_slot": pool.slots.start, "end_slot": pool.slots.stop, "frontier": frontier}
    values = described | pool.netbox.columns | slots
    try:
        async with connection.begin_nested():
            await connection.execute(_ADD, values)
    except IntegrityError as failure:
        if not any(_elsewhere(use.pool, pool.netbox) == pool for use in await list_pools(connection)):
            raise InvalidPoolError(_complaint(pool, str(failure.orig))) from failure
        if isinstance(pool.netbox, NetBoxMode):
            await connection.execute(_BIND, values)


def _elsewhere(pool: Pool, place: PoolMode) -> Pool:
    """Return the pool with the NetBox ids of `place`: a prefix that was deleted and created again has another id."""
    if not isinstance(pool.netbox, NetBoxMode) or not isinstance(place, NetBoxMode):
        return pool
    return pool.model_copy(update={"netbox": pool.netbox.at(place.prefix_id, place.vrf_id)})


async def list_pools(connection: AsyncConnection) -> list[PoolUse]:
    """Return every pool that the connection may see, with its use."""
    return [
        PoolUse(pool=_pool(row), **{field: row[field] for field in PoolUse.model_fields if field != "pool"})
        for row in (await connection.execute(_LIST)).mappings()
    ]


def _pool(row: RowMapping) -> Pool:
    described = {name: row[name] for name in Pool.model_fields if name not in ("netbox", "excluded")}
    pool = Pool.model_validate(described | {"netbox": read_mode(row)}, context=STORED)
    excluded = tuple(one for slots in read_slots(row["excluded"]) for one in pool.networks_of(slots))
    return pool.model_copy(update={"excluded": excluded})


def _complaint(pool: Pool, database_words: str) -> str:
    if "pools_name" in database_words:
        return f"a pool named {pool.name!r} exists already, with other properties: choose another name"
    if "pools_no_overlap" in database_words:
        return f"{pool.prefix} overlaps a pool that exists in {vrf_words(pool.vrf)}: no address may be in two pools"
    return f"tenant {pool.tenant!r} does not exist: add it with `lastmile tenant add` first"
