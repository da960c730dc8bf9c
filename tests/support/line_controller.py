"""A controller on a socket for the drivers in `tests/support/drivers`, which are behind real entry points."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from lastmile.devstack.ports import HOST

__all__ = ["DRIVERS", "Answer", "LineController", "Request"]

Request = dict[str, Any]
Answer = dict[str, Any]

DRIVERS = Path(__file__).with_name("drivers")
"""The directory of the drivers' package, to be put on the path of Python modules."""


class LineController:
    """A server that records what it is told, within `async with`."""

    def __init__(self, secret: str = "", port: int = 0) -> None:
        self.secret = secret
        self.told: list[dict[str, Any]] = []
        self.reached = asyncio.Event()
        """A call has come."""
        self.closed = asyncio.Event()
        """A client has been closed."""
        self.answers = asyncio.Event()
        """No call is answered while this is not set."""
        self.answers.set()
        self.at_once = self.most_at_once = 0
        self.on: dict[tuple[str, str], dict[str, Any]] = {}
        """The devices that are on, by tenant and identity."""
        self.scripts: dict[str, Callable[[Request], Answer | None]] = {}
        """What the controller answers to a tenant's call, instead of following it; None: it follows."""
        self._port = port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"line://{HOST}:{self._port}"

    @property
    def words(self) -> list[str]:
        """What the controller was told of devices, in order."""
        return [f"{told['call']} {told['device']['identity']}" for told in self.told if told["device"]]

    @property
    def tenants(self) -> list[str]:
        """The tenants of these devices."""
        return [told["device"]["tenant"] for told in self.told if told["device"]]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readline())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.reached.set()
        await self.answers.wait()
        self.at_once -= 1
        if request.pop("secret") != self.secret:
            answer = {"refused": "The line controller refuses the password."}
        else:
            self.told.append(request)
            answer = {"product": "line controller 1.0"} | self._answer(request)
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()
        if request["call"] == "close":
            self.closed.set()

    def follow(self, request: Request) -> None:
        """Do what the call says."""
        device = request["device"]
        if request["call"] == "off":
            self.on.pop((device["tenant"], device["identity"]), None)
        else:
            self.on[device["tenant"], device["identity"]] = device

    def _answer(self, request: Request) -> Answer:
        if request["device"] is None:
            return {}
        script = self.scripts.get(request["device"]["tenant"])
        if script is not None and (answer := script(request)) is not None:
            return answer
        self.follow(request)
        return {}
