"""Changes of the records of direct pools in NetBox after the delegations have changed in the database."""

from collections.abc import Iterable
from contextlib import suppress

from ipam.delegations import Delegation
from ipam.lifecycle import State
from ipam.modes import DirectMode, OnRelease
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import (
    BoundPool,
    bound_pools,
    find_record,
    require_netbox,
)
from ipam.netbox.direct import pending_delegations
from ipam.netbox.direct.pending_removals import remove_due
from ipam.netbox.errors import NetBoxError, NetBoxNotFoundError
from lastmile.db import Database

__all__ = ["release_records", "show_states"]

# The daily cleanup removes what is left; a release should not take for ever.
REMOVALS_PER_RELEASE = 3


async def show_states(
    database: Database, netbox: NetBox | None, tenant: str, delegations: Iterable[Delegation]
) -> list[str]:
    """Show the delegations' states in NetBox; return what is wrong there. Raises `NetBoxError`, `NoNetBoxError`."""
    problems = []
    for delegation in delegations:
        pool = await _pool(database, tenant, delegation)
        if not isinstance(pool.netbox, DirectMode):
            continue  # the pool has become delegated meanwhile: the outbox reports
        client = require_netbox(netbox, pool)
        if record := await find_record(client, pool, delegation.key, delegation.netbox_id):
            await _show(database, client, tenant, delegation, record)
        else:
            problems.append(
                f"NetBox shows no record of {delegation} with this allocation's key: "
                "`lastmile netbox reconcile --repair` makes it again"
            )
    return problems


async def release_records(
    database: Database, netbox: NetBox | None, tenant: str, delegations: Iterable[Delegation]
) -> list[str]:
    """Deprecate or delete the records of released delegations; return which were left as they are, and why.

    Raises `NetBoxError` and `NoNetBoxError`.
    """
    problems = []
    client = None
    for delegation in delegations:
        pool = await _pool(database, tenant, delegation)
        client = require_netbox(netbox, pool)
        record = await find_record(client, pool, delegation.key, delegation.netbox_id)
        if record is None:
            problems += await _left_alone(client, delegation)
        elif delegation.prefix is None or pool.netbox.on_release is OnRelease.DELETE:
            await client.delete(record.id)
        else:
            with suppress(NetBoxNotFoundError):  # another user of NetBox has deleted the record
                await client.update(record.id, Stamp.of(delegation, State.REVOKED))
    if client is not None:
        with suppress(NetBoxError):  # these are other subscribers' records: a later release, or the cleanup, goes on
            await remove_due(database, client, most=REMOVALS_PER_RELEASE)
    return problems


async def _show(database: Database, netbox: NetBox, tenant: str, delegation: Delegation, record: NetBoxRecord) -> None:
    """Write the delegation's state, and again where that has changed meanwhile: this may be a late attempt."""
    now: Delegation | None = delegation
    shown = None
    while now is not None and now.state is not shown:
        await netbox.update(record.id, Stamp.of(now))
        shown = now.state
        async with database.tenant(tenant) as connection:
            now = await pending_delegations.by_key(connection, delegation.key)


async def _left_alone(netbox: NetBox, delegation: Delegation) -> list[str]:
    if delegation.netbox_id is None or await netbox.get(delegation.netbox_id) is None:
        return []
    return [f"the record of {delegation} in NetBox does not carry our key any more, and was left as it is"]


async def _pool(database: Database, tenant: str, delegation: Delegation) -> BoundPool:
    async with database.tenant(tenant) as connection:
        return (await bound_pools(connection, [delegation]))[delegation.pool_id]
