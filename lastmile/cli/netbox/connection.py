"""The client of NetBox, as the commands open it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ipam.netbox import NetBox
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings

__all__ = ["open_netbox"]


@asynccontextmanager
async def open_netbox(settings: Settings) -> AsyncIterator[NetBox]:
    """Open the client of NetBox. Raises `InvalidInputError` if NetBox is not configured."""
    if settings.netbox is None:
        raise InvalidInputError("NetBox is not configured: set NETBOX_URL and NETBOX_TOKEN.")
    async with NetBox(**settings.netbox) as netbox:
        yield netbox
