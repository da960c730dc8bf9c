"""Drivers of tests: each call is a line of JSON to a server of `tests.support.line_controller`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, field_validator

from lastmile.devices.controllers import LineDevice, Outcome
from lastmile.devices.drivers import Endpoint
from lastmile.devices.errors import (
    AmbiguousDeviceError,
    ControllerRefusedError,
    ControllerUnavailableError,
    DeviceNotSeenError,
)
from lastmile.devices.records import DeviceKind

ERRORS = {
    "refused": ControllerRefusedError,
    "away": ControllerUnavailableError,
    "unseen": DeviceNotSeenError,
    "ambiguous": AmbiguousDeviceError,
}


class Options(BaseModel):
    """The zone is sent with each call."""

    model_config = ConfigDict(extra="forbid")

    zone: str = ""
    fails: bool = False
    """Each call raises an error that no driver may raise, with the secret in its text."""

    watches: bool = False
    """The client has a task that asks the controller once, and fails when it has the answer."""

    @field_validator("zone")
    @classmethod
    def _look_up(cls, zone: str) -> str:
        """Raise an error that no validator may raise, for one zone."""
        if zone == "nowhere":
            raise KeyError(zone)
        return zone


class Client:
    """A controller whose calls go to the server, each on a connection of its own."""

    forgets = False

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        self._endpoint = endpoint
        self._options = options

    async def watch(self) -> None:
        await self.call("watch")
        raise ConnectionResetError("the controller has hung up")

    async def check(self) -> str:
        return str((await self.call("check"))["product"])

    async def switch_on(self, device: LineDevice) -> Outcome:
        return await self._outcome("on", device)

    async def switch_off(self, device: LineDevice) -> Outcome:
        return await self._outcome("off", device)

    async def set_speed(self, device: LineDevice) -> Outcome:
        return await self._outcome("speed", device)

    async def _outcome(self, what: str, device: LineDevice) -> Outcome:
        return Outcome((await self.call(what, device)).get("waits_for", ""))

    async def call(self, what: str, device: LineDevice | None = None) -> dict[str, Any]:
        if self._options.fails:
            raise KeyError(self._endpoint.secret)
        url = urlsplit(self._endpoint.url)
        try:
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
        except OSError:
            raise ControllerUnavailableError(f"The line controller at {self._endpoint.url} does not answer.") from None
        request = {
            "call": what,
            "username": self._endpoint.username,
            "secret": self._endpoint.secret,
            "zone": self._options.zone,
            "device": device and asdict(device),
        }
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(await reader.readline())
        finally:
            writer.close()
            await writer.wait_closed()
        for name, error in ERRORS.items():
            if name in answer:
                raise error(answer[name])
        return answer


@dataclass
class LineDriver:
    kind: DeviceKind
    options: type[Options] = Options

    @asynccontextmanager
    async def open(self, endpoint: Endpoint, options: Options) -> AsyncIterator[Client]:
        async with asyncio.TaskGroup() as tasks:  # it must be left by the task that entered it
            client = Client(endpoint, options)
            if options.watches:
                tasks.create_task(client.watch())
            yield client
            await client.call("close")


ONU, CPE = LineDriver(DeviceKind.ONU), LineDriver(DeviceKind.CPE)
