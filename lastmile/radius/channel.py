"""One UDP socket to one NAS: requests go out, are sent again, and are matched with the replies that verify.

pyrad builds, reads and verifies the packets. The exchange around them is our own, because pyrad's asyncio
client throws away what an operator needs to know: it logs a reply with a wrong authenticator and an error from
the network, and then reports both as the same timeout as silence. It also ties a socket to one secret, does
not limit what is in flight, and takes an authentic reply of any code for an answer.
"""

import asyncio
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from pyrad.packet import CoAACK, CoANAK, CoARequest, DisconnectACK, DisconnectNAK, DisconnectRequest, PacketError

__all__ = ["Channel", "Exchange"]

_ANSWERS = {DisconnectRequest: (DisconnectACK, DisconnectNAK), CoARequest: (CoAACK, CoANAK)}
_LARGEST_PACKET = 4096  # RFC 2865 section 3


@dataclass(slots=True)
class Exchange:
    """A request and what came of it."""

    request: Any
    reply: "asyncio.Future[Any]"
    """The first reply that verifies, a pyrad packet."""
    tries: int = 0
    forged: bool = False
    """Whether a reply came that does not verify, be it late for an earlier request with the same identifier.
    RFC 5176 section 2.3 has it discarded: the wait goes on."""
    network_error: OSError | None = None
    """What the network said last, such as an ICMP port unreachable. It may be forged, and a NAS that restarts
    is unreachable for a moment: the wait goes on."""


class Channel:
    """A connected UDP socket, on which at most `in_flight` requests (up to 256) wait for their replies.

    Raises:
        OSError: there is no route to `address`.
    """

    def __init__(self, address: str, port: int, *, in_flight: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(in_flight)
        # The identifier that rested longest is next, so that a late reply has little chance to meet a new
        # request. Where it does, the authenticator tells them apart.
        self._ids = deque(range(256))
        self._waiting: dict[int, Exchange] = {}
        # A plain socket, since connecting one is immediate: no two callers can race to open the same channel.
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect((address, port))
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._receive)

    async def exchange(self, request: Any, *, timeout: float, tries: int) -> Exchange:
        """Send `request` up to `tries` times, `timeout` seconds apart, until a reply verifies.

        Raises:
            ConnectionAbortedError: the channel was closed.
        """
        async with self._slots:
            if self._socket.fileno() < 0:
                raise _closed()
            request.id = self._ids.popleft()
            exchange = self._waiting[request.id] = Exchange(request, self._loop.create_future())
            try:
                await self._send_until_answered(exchange, timeout, tries)
            finally:
                del self._waiting[request.id]
                self._ids.append(request.id)
        return exchange

    async def _send_until_answered(self, exchange: Exchange, timeout: float, tries: int) -> None:
        exchange.request["Event-Timestamp"] = int(time.time())
        # Every try is the same bytes, so that the NAS can tell it from a new request (RFC 5176 section 2.3).
        raw = exchange.request.RequestPacket()
        while exchange.tries < tries and not exchange.reply.done():
            exchange.tries += 1
            self._send(raw)
            await asyncio.wait((exchange.reply,), timeout=timeout)

    def _send(self, raw: bytes) -> None:
        try:
            self._socket.send(raw)
        except BlockingIOError:
            pass  # the socket's buffer is full: lost like any datagram, and sent again at the next try
        except OSError as error:
            self._note(error)

    def _receive(self) -> None:
        try:
            raw = self._socket.recv(_LARGEST_PACKET)
        except BlockingIOError:
            return
        except OSError as error:
            self._note(error)
            return
        exchange = self._waiting.get(raw[1]) if len(raw) > 1 else None
        if exchange is None or exchange.reply.done():
            return
        reply = _verified(exchange.request, raw)
        if reply is None:
            exchange.forged = True
        else:
            exchange.reply.set_result(reply)

    def _note(self, error: OSError) -> None:
        # The error does not say which datagram it answers. It is about the NAS, so about all that wait for it.
        for exchange in self._waiting.values():
            exchange.network_error = error

    def close(self) -> None:
        """Close the socket; requests that still wait fail with `ConnectionAbortedError`."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for exchange in self._waiting.values():
            if not exchange.reply.done():
                exchange.reply.set_exception(_closed())


def _closed() -> ConnectionAbortedError:
    return ConnectionAbortedError("the RADIUS client was closed while a request waited for its reply")


def _verified(request: Any, raw: bytes) -> Any | None:
    """The reply in `raw`, if it answers `request` and its authenticators are right, or else None.

    pyrad checks the Response Authenticator (RFC 5176 section 2.3) and, where the reply has one, the
    Message-Authenticator (RFC 5176 section 3.4).
    """
    try:
        reply = request.CreateReply(packet=raw)
    except PacketError:
        return None
    return reply if reply.code in _ANSWERS[request.code] and request.VerifyReply(reply, raw) else None
