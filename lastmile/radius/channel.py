"""A UDP socket to one NAS: sends and retransmits requests, and matches them with verified replies.

pyrad builds, reads and verifies the packets. Lastmile does not use pyrad's asyncio client, for these reasons:

- It reports a wrong authenticator, a network error and silence as the same time-out. An operator needs the cause.
- It ties a socket to one secret.
- It does not limit the number of open requests.
- It accepts an authentic reply of any code as the answer.
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
    """A request with its replies and errors so far."""

    request: Any
    reply: "asyncio.Future[Any]"
    """The first reply that verifies, a pyrad packet."""
    tries: int = 0
    forged: bool = False
    """Whether a reply failed verification. It may be a late reply to an earlier request with the same identifier.
    The channel discards it and waits on (RFC 5176 section 2.3)."""
    network_error: OSError | None = None
    """The last error from the network, such as an ICMP port unreachable. The channel waits on: the error may be
    forged, and a restarting NAS is unreachable for a moment."""


class Channel:
    """A connected UDP socket with at most `in_flight` open requests (1 to 256).

    Raises:
        OSError: there is no route to `address`.
    """

    def __init__(self, address: str, port: int, *, in_flight: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(in_flight)
        # The least recently used identifier is next: a late reply then seldom matches a new request. If it does, the
        # authenticator distinguishes them.
        self._ids = deque(range(256))
        self._waiting: dict[int, Exchange] = {}
        # A plain socket connects without an await, so that two callers cannot open the same channel twice.
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
        # Every try sends the same bytes: the NAS recognises a retransmission by them (RFC 5176 section 2.3).
        raw = exchange.request.RequestPacket()
        while exchange.tries < tries and not exchange.reply.done():
            exchange.tries += 1
            self._send(raw)
            await asyncio.wait((exchange.reply,), timeout=timeout)

    def _send(self, raw: bytes) -> None:
        try:
            self._socket.send(raw)
        except BlockingIOError:
            pass  # The socket buffer is full. The next try sends the datagram again.
        except OSError as error:
            self._record_error(error)

    def _receive(self) -> None:
        try:
            raw = self._socket.recv(_LARGEST_PACKET)
        except BlockingIOError:
            return
        except OSError as error:
            self._record_error(error)
            return
        exchange = self._waiting.get(raw[1]) if len(raw) > 1 else None
        if exchange is None or exchange.reply.done():
            return
        reply = _verify(exchange.request, raw)
        if reply is None:
            exchange.forged = True
        else:
            exchange.reply.set_result(reply)

    def _record_error(self, error: OSError) -> None:
        # The error does not name the datagram. It concerns the NAS, and so every waiting request.
        for exchange in self._waiting.values():
            exchange.network_error = error

    def close(self) -> None:
        """Close the socket. Waiting requests fail with `ConnectionAbortedError`."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for exchange in self._waiting.values():
            if not exchange.reply.done():
                exchange.reply.set_exception(_closed())


def _closed() -> ConnectionAbortedError:
    return ConnectionAbortedError("the RADIUS client was closed while a request waited for its reply")


def _verify(request: Any, raw: bytes) -> Any | None:
    """Return the reply in `raw` if it answers `request` and its authenticators are right, otherwise None.

    pyrad checks the Response Authenticator (RFC 5176 section 2.3) and, where the reply has one, the
    Message-Authenticator (RFC 5176 section 3.4).
    """
    try:
        reply = request.CreateReply(packet=raw)
    except PacketError:
        return None
    return reply if reply.code in _ANSWERS[request.code] and request.VerifyReply(reply, raw) else None
