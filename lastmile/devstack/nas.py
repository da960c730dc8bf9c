"""A scripted NAS: a UDP server that answers Disconnect-Requests and CoA-Requests by a script.

The default script is a NAS with open sessions (RFC 5176 section 3). It acknowledges a request whose identification
attributes all match a session, and ends the session after a Disconnect-Request. Every other request gets NAK 503
(Session-Context-Not-Found).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pyrad.packet import CoAACK, CoANAK, CoAPacket, CoARequest, DisconnectNAK, DisconnectRequest, PacketError

from lastmile.radius.attributes import DICTIONARY
from lastmile.radius.dynauth import Nas

__all__ = ["ACK", "Answer", "Request", "Script", "ScriptedNas", "nak"]

# No reader may take the received requests of a long-running stack: older ones are dropped to bound the memory.
_KEPT_REQUESTS = 1000
_TIME_WINDOW_SECONDS = 300  # RFC 5176 section 6.3

# The identification attributes of a session (RFC 5176 section 3), without those of the NAS.
_SESSION_IDENTIFICATION = frozenset(
    {
        *("User-Name", "NAS-Port", "Framed-IP-Address", "Called-Station-Id", "Calling-Station-Id", "Acct-Session-Id"),
        *("Acct-Multi-Session-Id", "NAS-Port-Id", "Chargeable-User-Identity", "Framed-Interface-Id"),
        "Framed-IPv6-Prefix",
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """A verified request; `code` is `pyrad.packet.DisconnectRequest` or `CoARequest`."""

    code: int
    attributes: dict[str, list[Any]]
    """Values as pyrad decodes them, by attribute name."""
    tries: int
    """The number of times that these bytes arrived from this source."""
    raw: bytes
    source: Any
    """The socket address of the sender."""

    @property
    def session(self) -> Any:
        """Return the Acct-Session-Id; None if the request has none."""
        return self.attributes.get("Acct-Session-Id", [None])[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """An ACK, or a NAK if it has an `error_cause`."""

    error_cause: int | None = None
    after: asyncio.Event | None = None
    """The event that the NAS awaits before it answers."""
    spoil: Callable[[Any], None] | None = None
    """A function that changes the reply, a pyrad packet, before it is signed, to test a faulty NAS."""


ACK = Answer()


def nak(error_cause: int) -> Answer:
    """Return a NAK with an Error-Cause of RFC 5176 section 3.5."""
    return Answer(error_cause=error_cause)


Script = Callable[[Request], Answer | None]
"""A function that returns the answer to a request; None means no answer."""


class ScriptedNas(asyncio.DatagramProtocol):
    """A scripted NAS, run by `async with`. Port 0 selects a free port, which `nas` has.

    As a NAS must, it discards a request whose authenticators or Event-Timestamp are wrong or missing.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        name: str = "scripted",
        address: str = "127.0.0.1",
        port: int = 0,
        sessions: Mapping[str, Mapping[str, str]] | None = None,
        requires: frozenset[str] = frozenset(),
        script: Script | None = None,
    ) -> None:
        """Create the NAS. Without the identification attributes in `requires`, the NAS finds no session."""
        self.sessions = dict(sessions or {})
        """The other identification attributes of each open session, by Acct-Session-Id."""
        self.requires = requires
        self.script = script or self._with_sessions
        self.discarded = 0
        """The number of datagrams that failed verification."""
        self._secret = secret
        self._name = name
        self._address = address
        self._port = port
        self._received: asyncio.Queue[Request] = asyncio.Queue(_KEPT_REQUESTS)
        self._tries: dict[tuple[object, int], tuple[bytes, int]] = {}
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def nas(self) -> Nas:
        """Return this NAS as a client addresses it."""
        return Nas(self._name, self._address, self._port, self._secret)

    async def __aenter__(self) -> Self:
        """Open the UDP port.

        Raises:
            OSError: the address or port cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._address, self._port))
        self._port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._pending:
            task.cancel()
        self._transport.close()

    async def next_request(self) -> Request:
        """Return the next request in the order of arrival; wait for it if necessary."""
        return await self._received.get()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        packet = self._verify(data)
        if packet is None:
            self.discarded += 1
            return
        request = self._record(packet, data, addr)
        answer = self.script(request)
        if answer is not None:
            self._answer(packet, answer, addr)

    def _verify(self, data: bytes) -> Any | None:
        try:
            packet = CoAPacket(packet=data, secret=self._secret, dict=DICTIONARY)
        except PacketError:
            return None
        authentic = (
            packet.code in (DisconnectRequest, CoARequest)
            and packet.VerifyCoARequest()
            and packet.message_authenticator
            and packet.verify_message_authenticator()
        )
        return packet if authentic and _is_current(packet) else None

    def _record(self, packet: Any, data: bytes, addr: Any) -> Request:
        last, tries = self._tries.get((addr, packet.id), (b"", 0))
        tries = tries + 1 if last == data else 1
        self._tries[addr, packet.id] = (data, tries)
        # `keys()` of a pyrad packet returns names; iteration returns codes.
        request = Request(packet.code, {str(name): packet[name] for name in packet.keys()}, tries, data, addr)  # noqa: SIM118
        if self._received.full():
            self._received.get_nowait()
        self._received.put_nowait(request)
        return request

    def _answer(self, packet: Any, answer: Answer, addr: Any) -> None:
        reply = packet.CreateReply(message_authenticator=True)
        if answer.error_cause is not None:
            reply.code = CoANAK if reply.code == CoAACK else DisconnectNAK
            reply["Error-Cause"] = answer.error_cause
        if answer.spoil is not None:
            answer.spoil(reply)
        raw = reply.ReplyPacket()
        if answer.after is None:
            self._transport.sendto(raw, addr)
            return
        task = asyncio.create_task(self._answer_after(answer.after, raw, addr))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _answer_after(self, event: asyncio.Event, raw: bytes, addr: Any) -> None:
        await event.wait()
        self._transport.sendto(raw, addr)

    def _with_sessions(self, request: Request) -> Answer:
        found = [acct_session_id for acct_session_id in self.sessions if self._matches(acct_session_id, request)]
        if request.code == DisconnectRequest:
            for acct_session_id in found:
                del self.sessions[acct_session_id]
        return ACK if found else nak(503)

    def _matches(self, acct_session_id: str, request: Request) -> bool:
        session = {"Acct-Session-Id": acct_session_id, **self.sessions[acct_session_id]}
        asked = {name: values[0] for name, values in request.attributes.items() if name in _SESSION_IDENTIFICATION}
        named = asked.keys() >= self.requires and bool(asked)
        return named and all(session.get(name) == value for name, value in asked.items())


def _is_current(packet: Any) -> bool:
    sent: int = packet.get("Event-Timestamp", [0])[0]
    return abs(time.time() - sent) <= _TIME_WINDOW_SECONDS
