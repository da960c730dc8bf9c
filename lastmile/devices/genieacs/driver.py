"""The driver behind the entry point `genieacs`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lastmile.devices.drivers import Endpoint
from lastmile.devices.genieacs.controller import GenieAcs
from lastmile.devices.genieacs.nbi import Nbi
from lastmile.devices.genieacs.options import GenieAcsOptions
from lastmile.devices.genieacs.setup import install
from lastmile.devices.records import DeviceKind

__all__ = ["kind", "open", "options", "set_up"]

kind = DeviceKind.CPE
options = GenieAcsOptions


@asynccontextmanager
async def open(endpoint: Endpoint, options: GenieAcsOptions) -> AsyncIterator[GenieAcs]:
    """Return a client of the GenieACS whose NBI is at the endpoint, or a proxy before it.

    The login goes to the proxy: a user name with a password, or the secret alone as a bearer token.

    Raises:
        ControllerUnavailableError: the file with the certificates cannot be used.
    """
    nbi = Nbi(endpoint)
    try:
        yield GenieAcs(nbi, options)
    finally:
        await nbi.close()


async def set_up(endpoint: Endpoint, options: GenieAcsOptions) -> dict[str, bool]:
    """Install the presets and provisions of Lastmile; return each part with whether it was created or changed.

    Raises:
        ControllerUnavailableError: GenieACS does not answer, or refuses a part. The parts before it are installed.
    """
    nbi = Nbi(endpoint)
    try:
        return await install(nbi, options)
    finally:
        await nbi.close()
