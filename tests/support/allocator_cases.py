"""The three allocators, each with a pool of four prefixes of its mode, on a real PostgreSQL and the NetBox stand-in."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ipam.allocation import Allocation, Released
from ipam.allocator import PrefixAllocator
from ipam.database_allocator import DatabaseAllocator
from ipam.delegations import Delegation, held_by
from ipam.lifecycle import State
from ipam.netbox.delegated.allocator import DelegatedAllocator
from ipam.netbox.direct.allocator import DirectAllocator
from ipam.order_scope import OrderScope
from ipam.pools import Pool, add_pool
from lastmile.audit.audit import check
from lastmile.audit.invariants import INVARIANTS
from lastmile.contract.addressing import Addressing
from lastmile.db import TenantConnection
from lastmile.errors import NonRetryableError
from lastmile.radius.logins import username
from lastmile.services.reply_items import ReplyItems
from lastmile.subscribers.orders import COMPENSATION_FENCE, STEP_FENCE
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import DirectEnv
from tests.support.steps import QUARANTINE, VRF

__all__ = ["CASES", "POOL", "AllocatorCase", "DatabaseCase", "DelegatedCase", "DirectCase"]

POOL = "2001:db8:4000::/54"
"""Four prefixes of /56; of a delegated pool two blocks of two."""

ATTEMPTS = 60


class AllocatorCase:
    """An allocator, and orders of tenant `acme` that use it as the steps of a workflow do."""

    environment: type[DirectEnv] = DirectEnv

    def __init__(self, env: DirectEnv) -> None:
        self.env = env
        self.allocator = self.build()

    def build(self) -> PrefixAllocator:
        """Return the allocator under test."""
        raise NotImplementedError

    async def add_pool(self) -> None:
        """Add the pool `POOL` of the mode."""
        await self.env.pool(POOL)

    async def agree(self) -> list[str]:
        """Return the prefixes that are held. Raise unless the database and NetBox agree."""
        return await self.env.agree()

    async def end_quarantine(self) -> None:
        """Let the quarantine of every released prefix end."""
        await self.env.end_quarantines()

    # The steps

    def scope(self, ref: str = "S-1", order: str = "O-1", *, undo: bool = False) -> OrderScope:
        """Return the order's scope: its transactions are behind the same fence as those of a step."""

        @asynccontextmanager
        async def transaction() -> AsyncIterator[TenantConnection]:
            fence = COMPENSATION_FENCE if undo else STEP_FENCE
            async with self.env.database.tenant("acme", order_id=order, subscriber_ref=ref, fence=fence) as connection:
                yield connection

        opening: Callable[[], AbstractAsyncContextManager[TenantConnection]] = transaction
        return OrderScope(tenant="acme", subscriber_ref=ref, order_id=order, undo=undo, transaction=opening)

    async def allocate(self, ref: str = "S-1", order: str = "O-1", **addressing: Any) -> Allocation:
        """Make one attempt to allocate the prefix."""
        [allocation] = await self.allocator.allocate(self.scope(ref, order), Addressing(**({"vrf": VRF} | addressing)))
        return allocation

    async def allocate_with_retries(self, ref: str = "S-1", order: str = "O-1") -> Allocation:
        """Attempt the allocation until it succeeds, or fails with an error that no retry fixes."""
        for attempt in range(ATTEMPTS):
            try:
                return await self.allocate(ref, order)
            except NonRetryableError:
                raise
            except Exception:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    async def provision(self, ref: str, order: str) -> str:
        """Open an order and allocate its prefix."""
        await self.env.begin(ref, order)
        return str((await self.allocate_with_retries(ref, order)).delegation.prefix)

    async def activate(self, ref: str = "S-1", order: str = "O-1") -> list[str]:
        """Activate what the subscriber holds; return the problems."""
        scope = self.scope(ref, order)
        async with scope.transaction() as connection:
            active = [await scope.move(connection, one, State.ACTIVE) for one in await scope.held(connection)]
            await ReplyItems().write(connection, username("acme", ref), active)
        return await self.allocator.report(scope, active)

    async def revoke(self, ref: str, order: str) -> None:
        """Revoke what the subscriber holds, as after a confirmed disconnect."""
        scope = self.scope(ref, order)
        async with scope.transaction() as connection:
            held = await scope.held(connection)
            await ReplyItems().remove(connection, username("acme", ref), held)
            for one in held:
                revoking = await scope.begin_revoking(connection, one)
                await scope.move(connection, revoking, State.REVOKED, disconnect_confirmed=True)

    async def deprovision(self, ref: str = "S-1", order: str = "D-1") -> Released:
        """Open an order that revokes and releases what the subscriber holds."""
        await self.env.begin(ref, order, "deprovision")
        await self.revoke(ref, order)
        return await self.allocator.release(self.scope(ref, order))

    async def held(self, ref: str = "S-1") -> list[Delegation]:
        """Return what the subscriber holds."""
        async with self.env.database.tenant("acme") as connection:
            return await held_by(connection, ref)

    async def close(self, ref: str = "S-1", order: str = "O-1", status: str = "completed") -> None:
        """End the order."""
        await self.env.close(ref, order, status)


class DatabaseCase(AllocatorCase):
    """The allocator of pools that live in the database alone."""

    def build(self) -> PrefixAllocator:
        return DatabaseAllocator(QUARANTINE)

    async def add_pool(self) -> None:
        described = {"name": "home", "prefix": POOL, "tenant": "acme", "vrf": VRF, "delegated_length": 56}
        async with self.env.database.platform() as connection:
            await add_pool(connection, Pool.model_validate({"purpose": "ipv6_pd", **described}))

    async def agree(self) -> list[str]:
        invariants = [invariant for invariant in INVARIANTS if invariant.name != "incomplete"]
        assert [violation async for violation in check(self.env.database, invariants=invariants)] == []
        rows = await self.env.owner.fetch("SELECT prefix::text FROM delegations WHERE released_at IS NULL ORDER BY id")
        return [row[0] for row in rows]

    async def end_quarantine(self) -> None:
        await self.env.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now()")


class DelegatedCase(AllocatorCase):
    """The allocator of pools that acquire blocks from NetBox."""

    environment = DelegatedEnv

    def build(self) -> PrefixAllocator:
        return DelegatedAllocator(DatabaseAllocator(QUARANTINE), self.env.database, self.env.netbox)

    async def add_pool(self) -> None:
        await self.env.pool(POOL, block_length=55)


class DirectCase(AllocatorCase):
    """The allocator of pools from which NetBox chooses each prefix."""

    def build(self) -> PrefixAllocator:
        return DirectAllocator(DatabaseAllocator(QUARANTINE), self.env.database, self.env.netbox)


CASES = (DatabaseCase, DelegatedCase, DirectCase)
