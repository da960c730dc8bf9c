"""The delegated IPv6 prefix of a subscriber with its events, and the state of all delegated prefixes."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, text

from ipam.lifecycle import State
from ipam.pools import PoolUse
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.services.pools import list_pools
from lastmile.services.records.delegations import (
    DelegationEvent,
    DelegationRecord,
    find_delegation,
    list_delegation_events,
)
from lastmile.services.records.pages import PageRequest, reading

__all__ = ["DelegatedPrefix", "NamedPool", "PrefixStatistics", "find_delegated_prefix", "find_netbox_pool"]
__all__ += ["read_statistics"]

_MOST_EVENTS = 1000

# A prefix that an order replaces is followed by another one.
_NEWEST = text(
    """
    SELECT id FROM delegations WHERE subscriber_ref = :ref AND purpose = 'ipv6_pd'
    ORDER BY state <> 'revoked' AND replaced_by_order IS NULL DESC, id DESC LIMIT 1
    """
)
_STATES = text(
    """
    SELECT c.state, sum(c.number)::bigint AS number FROM delegation_counts c JOIN pools p ON p.id = c.pool_id
    WHERE p.purpose = :purpose GROUP BY c.state
    """
).bindparams(bindparam("purpose", Purpose.IPV6_PD.value))


@dataclass(frozen=True, slots=True)
class DelegatedPrefix:
    """A subscriber's delegated prefix: the live one, or the last one that was revoked."""

    delegation: DelegationRecord
    events: list[DelegationEvent]
    """Oldest first."""


@dataclass(frozen=True, slots=True)
class PrefixStatistics:
    """The delegated prefixes of a tenant, or of all tenants."""

    states: Mapping[State, int]
    """The number of delegations in each state. Revoked ones count until the clean-up deletes them."""
    pools: list[PoolUse]
    """The pools of delegated prefixes."""


async def find_delegated_prefix(database: Database, tenant: str, subscriber_ref: str) -> DelegatedPrefix | None:
    """Return the delegated prefix of the subscriber; None if it never had one, or the clean-up has deleted it."""
    async with reading(database, tenant) as connection:
        found = await connection.scalar(_NEWEST, {"ref": subscriber_ref})
    if found is None or (delegation := await find_delegation(database, tenant, found)) is None:
        return None
    events = await list_delegation_events(database, tenant, found, PageRequest(_MOST_EVENTS))
    return DelegatedPrefix(delegation, events.results if events else [])


@dataclass(frozen=True, slots=True)
class NamedPool:
    """A pool by its name, which is unique in its VRF."""

    name: str
    vrf: str


async def find_netbox_pool(database: Database, tenant: str, netbox_prefix_id: int) -> NamedPool | None:
    """Return the tenant's pool of delegated prefixes with this container prefix in NetBox; None if there is none."""
    async with database.tenant(tenant) as connection:
        query = text("SELECT name, vrf FROM pools WHERE netbox_prefix_id = :id AND purpose = 'ipv6_pd'")
        row = (await connection.execute(query, {"id": netbox_prefix_id})).one_or_none()
    return None if row is None else NamedPool(row.name, row.vrf)


async def read_statistics(database: Database, tenant: str | None) -> PrefixStatistics:
    """Return the numbers of delegated prefixes, and the pools that serve the tenant."""
    async with reading(database, tenant) as connection:
        counted = {row.state: row.number for row in await connection.execute(_STATES)}
    pools = [use for use in await list_pools(database, tenant) if use.pool.purpose is Purpose.IPV6_PD]
    return PrefixStatistics({state: counted.get(state, 0) for state in State}, pools)
