"""The activities of a change of a pool's NetBox mode. Each can be repeated, and interrupted at any moment."""

from datetime import timedelta

from activities.base import Activities, maintenance_activity
from ipam.modes import PoolMode, read_mode
from ipam.netbox import NetBox
from ipam.netbox.binding import BoundPool, require_netbox
from ipam.netbox.delegated.block_return import return_withdrawn_blocks
from ipam.netbox.mode_change import closing, preparation
from ipam.netbox.mode_change.conversion import ConversionNotReadyError, convert
from ipam.netbox.mode_change.plan import Conversion, bound_as, describe_mode, plan, present_mode
from lastmile.contract.pool_modes import PoolInFlight, PoolModeChange, PoolModeStage, PoolStage, Prepared
from lastmile.db import Database

__all__ = ["PoolModeActivities"]


class PoolModeActivities(Activities):
    def __init__(self, database: Database, netbox: NetBox | None, quarantine: timedelta) -> None:
        """`quarantine` is that of a prefix without a confirmed end of its last session."""
        super().__init__(database)
        self._netbox = netbox
        self._quarantine = quarantine

    @maintenance_activity
    async def plan_pool_mode(self, change: PoolModeChange) -> list[PoolModeStage]:
        """Return the conversions that lead to the requested mode; none where the pool has it."""
        before, requested = read_mode(change.before), read_mode(change.requested)
        async with self._database.platform() as connection:
            stages = await plan(connection, change.pool_id, before, requested)
        return [PoolModeStage(conversion=conversion, mode=mode.model_dump(mode="json")) for conversion, mode in stages]

    @maintenance_activity
    async def prepare_pool(self, work: PoolStage) -> Prepared:
        """Do some of what NetBox has to write before the conversion."""
        pool, present, conversion = await self._read(work)
        netbox = require_netbox(self._netbox, pool)
        match conversion:
            case Conversion.DATABASE_TO_DELEGATED | Conversion.DIRECT_TO_DELEGATED:
                left = await preparation.acquire_blocks(
                    self._database, netbox, pool, self._quarantine, first=work.first
                )
                return Prepared(left=left, words=f"blocks to acquire: {left:,}")
            case Conversion.DELEGATED_TO_DIRECT:
                left = await preparation.report_prefixes(self._database, netbox, pool)
                await preparation.settle_block(self._database, netbox, pool)
                return Prepared(left=left, words=f"prefixes to report to NetBox: {left:,}")
            case Conversion.DELEGATED_OPTIONS:
                await preparation.check_options(self._database, pool, present)
                await preparation.settle_block(self._database, netbox, pool)
        return Prepared(left=0)

    @maintenance_activity
    async def close_pool(self, work: PoolStage) -> PoolInFlight:
        """Close the pool to new allocations, or keep it closed; return the orders that are in flight."""
        pool, _, _ = await self._read(work)
        await closing.close(self._database, pool)
        return PoolInFlight(subscribers=await closing.in_flight(self._database, pool))

    @maintenance_activity
    async def convert_pool(self, work: PoolStage) -> bool:
        """Convert the closed pool and open it; False where its preparation is not complete."""
        mode = read_mode(work.stage.mode)
        try:
            async with (
                preparation.maintenance_stopped(self._database),
                self._database.long_transaction(actor=work.requested_by) as connection,
            ):
                await convert(connection, Conversion(work.stage.conversion), work.pool_id, mode)
        except ConversionNotReadyError:
            return False
        return True

    @maintenance_activity
    async def return_blocks(self, work: PoolStage) -> None:
        """Return the blocks that the pool no longer needs to NetBox."""
        pool, _, _ = await self._read(work)
        await return_withdrawn_blocks(self._database, require_netbox(self._netbox, pool), pool)

    @maintenance_activity
    async def open_pool(self, pool_id: int) -> str:
        """Open the pool after a change that has stopped; return its mode in words."""
        await closing.reopen(self._database, pool_id)
        async with self._database.platform() as connection:
            return describe_mode(await present_mode(connection, pool_id))

    async def _read(self, work: PoolStage) -> tuple[BoundPool, PoolMode, Conversion]:
        async with self._database.platform() as connection:
            pool, present = await bound_as(connection, work.pool_id, read_mode(work.stage.mode))
        return pool, present, Conversion(work.stage.conversion)
