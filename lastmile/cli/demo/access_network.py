"""The demo's access network: the stack's stand-ins as the controllers of the demo's tenant, and their devices."""

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, suppress
from time import monotonic

from lastmile.contract import ProvisionSubscriber
from lastmile.db import Database
from lastmile.db.access import open_database
from lastmile.devstack.genieacs.cpe_models import tr_181_cpe
from lastmile.devstack.stack import Stack
from lastmile.services.controllers import NewController, UnknownControllerError, add_controller, remove_controller
from lastmile.services.devices import DeviceState, list_devices, retry_devices
from lastmile.services.tenants import NewTenant, add_tenant

__all__ = ["TENANT", "TENANT_NAME", "DemoAccessNetwork", "add_controllers", "remove_controllers"]

TENANT, TENANT_NAME = "acme", "Acme Broadband"
OLT, ACS = "demo-olt", "demo-acs"
PATIENCE_SECONDS = 30
"""How long the workers may take to bring a connected device into service."""


async def add_controllers(stack: Stack) -> None:
    """Add the stand-ins as controllers of the demo's tenant, before the worker looks for controllers."""
    controllers = [
        # The stand-in shows a change at once: an order need not wait for three seconds, as with VOLTHA itself.
        NewController(name=OLT, driver="voltha", tenant=TENANT, url=stack.olt.url, options={"settle_seconds": 0.2}),
        NewController(name=ACS, driver="genieacs", tenant=TENANT, url=stack.acs.url),
    ]
    async with _database(stack) as database:
        await add_tenant(database, NewTenant(id=TENANT, name=TENANT_NAME), actor="demo")
        for controller in controllers:
            await add_controller(database, controller, None, replace=True, actor="demo")


async def remove_controllers(stack: Stack) -> None:
    """Remove the controllers: `lastmile up` runs stand-ins to which the devices of the demo are not connected."""
    async with _database(stack) as database:
        for name in (OLT, ACS):
            with suppress(UnknownControllerError):
                await remove_controller(database, name, actor="demo")


class DemoAccessNetwork:
    """The devices of the demo, and what the controllers say of them."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self._stack = stack
        self._database = database

    def connect(self, orders: Iterable[ProvisionSubscriber]) -> None:
        """Connect the ONU and the CPE of each order: the OLT discovers the ONU, and the CPE contacts the ACS."""
        for order in orders:
            if order.line.onu_serial:
                self._stack.olt.model.plug_in(order.line.onu_serial)
            if order.line.cpe_mac:
                self.connect_cpe(order.line.cpe_mac)

    def connect_cpe(self, mac: str) -> None:
        """Let a CPE contact the ACS."""
        self._stack.acs.acs.add(tr_181_cpe(mac.replace(":", "").upper(), mac=mac))

    async def devices(self, subscriber_ref: str) -> list[DeviceState]:
        """Return what `lastmile devices SUBSCRIBER` shows."""
        return await list_devices(self._database, TENANT, subscriber_ref)

    async def retry(self, subscriber_ref: str) -> list[DeviceState]:
        """Have the controllers asked now, and wait until no device waits. Return what is so then, or after 30 s."""
        await retry_devices(self._database, TENANT, subscriber_ref)
        end = monotonic() + PATIENCE_SECONDS
        while await self._waits(subscriber_ref):
            if monotonic() > end:
                break
            await asyncio.sleep(0.1)
        return await self.devices(subscriber_ref)

    async def _waits(self, subscriber_ref: str) -> bool:
        devices = await self.devices(subscriber_ref)
        return any(device.since for device in devices)


def _database(stack: Stack) -> AbstractAsyncContextManager[Database]:
    return open_database(stack.environment["DATABASE_URL"], pool_size=1)
