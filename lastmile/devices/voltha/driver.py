"""The driver behind the entry point `voltha`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lastmile.devices.drivers import Endpoint
from lastmile.devices.records import DeviceKind
from lastmile.devices.voltha.controller import VolthaController
from lastmile.devices.voltha.core import VolthaCore
from lastmile.devices.voltha.options import VolthaOptions

__all__ = ["kind", "open", "options"]

kind = DeviceKind.ONU
options = VolthaOptions


@asynccontextmanager
async def open(endpoint: Endpoint, options: VolthaOptions) -> AsyncIterator[VolthaController]:
    """Return a client of the core at `grpc://host:port`, or `grpcs://host:port` with TLS.

    VOLTHA's core knows no user names and passwords: those of the endpoint are not sent.

    Raises:
        InvalidInputError: the URL of the endpoint is another.
    """
    core = VolthaCore(endpoint)
    try:
        yield VolthaController(core, options)
    finally:
        await core.close()
