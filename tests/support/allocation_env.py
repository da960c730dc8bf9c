"""An environment for allocation: the operations of the address steps, each in its own transaction."""

from datetime import timedelta

import asyncpg

from ipam import replacement
from ipam.allocation import Allocation, Quarantine, allocate, release
from ipam.delegations import Delegation, held_by, transition
from ipam.lifecycle import State
from ipam.pools import Pool, add_pool
from lastmile.contract.addressing import Need, Purpose
from lastmile.db import Database

__all__ = ["PD", "QUARANTINE", "AllocationEnv"]

PD = Need(Purpose.IPV6_PD, 56)
QUARANTINE = Quarantine(confirmed=timedelta(hours=24), unconfirmed=timedelta(days=7))


class AllocationEnv:
    """Allocates for tenant `acme` from the pools that a test adds. `owner` bypasses row-level security."""

    def __init__(self, database: Database, owner: asyncpg.Connection) -> None:
        self.database = database
        self.owner = owner

    async def pool(self, prefix: str, name: str = "home", *, tenant: str | None = "acme", **more: object) -> None:
        description = {"purpose": Purpose.IPV6_PD, "delegated_length": 56, "tenant": tenant} | more
        async with self.database.platform() as platform:
            await add_pool(platform, Pool.model_validate({"name": name, "prefix": prefix, **description}))

    async def allocate(self, ref: str, order: str = "o1", need: Need = PD, *, tenant: str = "acme") -> Allocation:
        async with self.database.tenant(tenant) as connection:
            return await allocate(connection, tenant=tenant, subscriber_ref=ref, order_id=order, need=need)

    async def move(self, delegation: Delegation, *states: State, order: str = "o1", tenant: str = "acme") -> Delegation:
        async with self.database.tenant(tenant) as connection:
            for state in states:
                delegation = await transition(connection, delegation, state, order_id=order, reason="ordered")
        return delegation

    async def revoke(self, delegation: Delegation, *, confirmed: bool = True) -> Delegation:
        revoking = await self.move(delegation, State.REVOKING)
        async with self.database.tenant("acme") as connection:
            return await transition(
                connection,
                revoking,
                State.REVOKED,
                order_id="o1",
                reason="ordered",
                disconnect_confirmed=confirmed,
            )

    async def release(self, delegation: Delegation, *, tenant: str = "acme") -> None:
        async with self.database.tenant(tenant) as connection:
            await release(connection, delegation, QUARANTINE)

    async def revoke_and_release(self, delegation: Delegation) -> None:
        """Revoke the delegation, and release it into quarantine."""
        await self.release(await self.revoke(delegation))

    async def begin_replacement(self, ref: str, order: str, purpose: Purpose, *, tenant: str) -> list[Delegation]:
        async with self.database.tenant(tenant) as connection:
            return await replacement.begin(connection, ref, order, purpose)

    async def switch(self, ref: str, order: str, *, tenant: str) -> list[Delegation]:
        async with self.database.tenant(tenant) as connection:
            return await replacement.switch(connection, ref, order, timedelta(hours=1))

    async def cancel_replacement(self, ref: str, order: str, *, tenant: str) -> bool:
        async with self.database.tenant(tenant) as connection:
            return await replacement.cancel(connection, ref, order)

    async def held_by(self, ref: str) -> list[Delegation]:
        async with self.database.tenant("acme") as connection:
            return await held_by(connection, ref)

    async def end_quarantines(self) -> None:
        """End every quarantine."""
        await self.owner.execute(
            "UPDATE slots SET free_at = free_at - interval '30 days' WHERE delegation_id IS NULL AND free_at > now()"
        )
