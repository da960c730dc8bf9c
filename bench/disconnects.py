"""Disconnects per second, next to pyrad's own client with the same attributes and the same NAS."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from pyrad.client_async import ClientAsync
from pyrad.packet import DisconnectACK, DisconnectRequest

from bench.measurements import Measurement, at_least
from bench.nas import SECRET
from bench.rounds import Turn, Work, medians, rate
from lastmile.devstack.ports import HOST
from lastmile.radius.attributes import DICTIONARY
from lastmile.radius.dynauth import DynamicAuthorization, Nas, RadiusReply, Session

__all__ = ["measure"]

ROUNDS = 5
REQUESTS = 3000
IN_FLIGHT = 64
USER = "S-1001@acme.lastmile"


async def measure() -> list[Measurement]:
    async with (
        _nas() as nas,
        DynamicAuthorization(timeout=3, tries=3, in_flight=IN_FLIGHT) as authorization,
        _pyrad(nas) as client,
    ):
        turns = {"ours": _turn(_disconnecting(authorization, nas)), "pyrad": _turn(_bare(client))}
        await medians(1, turns)
        found = await medians(ROUNDS, turns)
    ours, peer = found["ours"]["rate"], found["pyrad"]["rate"]
    return [Measurement(f"disconnects, {IN_FLIGHT} in flight", ours, "/s", "pyrad's own client", peer, at_least(0.8))]


def _turn(work: Work) -> Turn:
    async def turn() -> dict[str, float]:
        return {"rate": await rate(work, REQUESTS, IN_FLIGHT)}

    return turn


def _disconnecting(authorization: DynamicAuthorization, nas: Nas) -> Work:
    numbers = count()

    async def work() -> None:
        reply = await authorization.disconnect(nas, Session(USER, f"session-{next(numbers)}", HOST))
        if reply.outcome is not RadiusReply.ACK:
            raise RuntimeError(reply.text)

    return work


def _bare(client: ClientAsync) -> Work:
    numbers = count()

    async def work() -> None:
        request = client.CreateCoAPacket(code=DisconnectRequest, message_authenticator=True)
        request["User-Name"] = USER
        request["Acct-Session-Id"] = f"session-{next(numbers)}"
        request["NAS-IP-Address"] = HOST
        request["Event-Timestamp"] = int(time.time())
        reply = await client.SendPacket(request)
        if reply.code != DisconnectACK:
            raise RuntimeError(f"the NAS answered pyrad with code {reply.code}")

    return work


@asynccontextmanager
async def _pyrad(nas: Nas) -> AsyncIterator[ClientAsync]:
    client = ClientAsync(nas.address, coa_port=nas.port, secret=nas.secret, dict=DICTIONARY, retries=2, timeout=3)
    await client.initialize_transports(enable_coa=True)
    try:
        yield client
    finally:
        await client.deinitialize_transports()


@asynccontextmanager
async def _nas() -> AsyncIterator[Nas]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.nas"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = await process.stdout.readline()
        if not port:
            raise RuntimeError("the NAS did not start: its error is above")
        yield Nas("bench", HOST, int(port), SECRET)
    finally:
        process.stdin.close()
        await process.wait()
