"""The ONUs that OLTs have discovered and that are not authorized, in lists that all lines of an OLT share."""

import asyncio
from collections.abc import Mapping

from lastmile.devices.smartolt.api import Record, SmartOltApi

__all__ = ["SHARED_SECONDS", "Discovery"]

SHARED_SECONDS = 60.0
"""How long a list is shared. An ONU that appears in this time is found by the first repetition of its call."""


class Discovery:
    """The lists of one account."""

    def __init__(self, api: SmartOltApi) -> None:
        self._api = api
        self._locks: dict[int, asyncio.Lock] = {}
        self._lists: dict[int, tuple[float, Mapping[str, Record]]] = {}

    async def find(self, olt_id: int, serial: str) -> Record | None:
        """Return what SmartOLT says of the ONU; None: it was not in the list of the OLT."""
        async with self._locks.setdefault(olt_id, asyncio.Lock()):
            now = asyncio.get_running_loop().time()
            read_at, listed = self._lists.get(olt_id, (-SHARED_SECONDS, {}))
            if now - read_at >= SHARED_SECONDS:
                listed = {str(onu.get("sn")).upper(): onu for onu in await self._api.unconfigured(olt_id)}
                self._lists[olt_id] = now, listed
        return listed.get(serial)
