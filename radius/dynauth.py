"""Disconnect-Request and CoA-Request to a NAS (RFC 5176): end a subscriber's session, or change it."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from pyrad.packet import CoAACK, CoAPacket, CoARequest, DisconnectACK, DisconnectRequest

from errors import Refused
from radius.attributes import DICTIONARY, InvalidAttribute, add
from radius.channel import Channel, Exchange
from telemetry.metrics import RADIUS_REQUESTS

__all__ = ["DynamicAuthorization", "InvalidAttribute", "InvalidNas", "Nas", "Outcome", "Reply", "Session"]

_REQUEST_NAMES = {DisconnectRequest: "Disconnect-Request", CoARequest: "CoA-Request"}
_KINDS = {DisconnectRequest: "disconnect", CoARequest: "coa"}
_ERROR_CAUSE = 101
_ERROR_CAUSES = {int.from_bytes(value, "big"): name for name, value in DICTIONARY["Error-Cause"].values.forward.items()}
_SESSION_CONTEXT_NOT_FOUND = 503

# RFC 5176 section 3.6, note 1: these say which session is meant, and must not be used to ask for a change.
_IDENTIFICATION = frozenset(
    {
        *("User-Name", "Chargeable-User-Identity", "Calling-Station-Id", "Called-Station-Id"),
        *("NAS-IP-Address", "NAS-IPv6-Address", "NAS-Identifier", "NAS-Port", "NAS-Port-Id"),
        *("Acct-Session-Id", "Acct-Multi-Session-Id"),
        *("Framed-IP-Address", "Framed-IPv6-Prefix", "Framed-Interface-Id"),
    }
)
_IN_EVERY_REQUEST = frozenset({"Event-Timestamp", "Message-Authenticator"})


class InvalidNas(Refused):
    """A NAS that no request can be sent to: not an IP address, not a port, or no secret."""


@dataclass(frozen=True, slots=True)
class Nas:
    """A NAS as a dynamic authorization server. `address` is an IPv4 or IPv6 address, `port` usually 3799.

    Raises:
        InvalidNas: a request could not be sent there.
    """

    name: str
    address: str
    port: int
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.address)
        except ValueError as error:
            raise InvalidNas(f"NAS {self.name}: {error}. Give it the IP address of the NAS.") from None
        if not 1 <= self.port <= 65535:
            raise InvalidNas(f"NAS {self.name}: port {self.port} is not between 1 and 65535. Most use 3799.")
        if not self.secret:
            raise InvalidNas(f"NAS {self.name} has no secret. Give it the one that is configured on the NAS.")

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"NAS {self.name} ({host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Session:
    """What tells a NAS which session is meant (RFC 5176 section 3), as its accounting reported it.

    A NAS looks for a session that matches all of it, so what may have changed since is better left out.
    `nas_address` is the NAS's own NAS-IP-Address or NAS-IPv6-Address, which need not be where requests go.
    """

    username: str
    acct_session_id: str
    nas_address: str
    framed_ip: str | None = None
    calling_station_id: str | None = None


class Outcome(StrEnum):
    """How a request ended, as far as the wire can tell."""

    ACK = "ack"
    """The NAS did it."""
    SESSION_GONE = "session_gone"
    """The NAS has no such session (NAK with Error-Cause 503). For a disconnect that is success: it is also
    the answer to a request that is sent again because the ACK was lost. For a CoA it is a failure."""
    NAK = "nak"
    """The NAS refused."""
    FORGED = "forged"
    """Only replies came that do not verify: usually a wrong secret, else somebody who answers for the NAS."""
    UNREACHABLE = "unreachable"
    """No reply, but an error from the network: no route, or nobody listens on the port."""
    SILENT = "silent"
    """Nothing came back. A dead NAS, lost packets and a NAS with another secret look alike from here."""


_COUNTS_AS = {
    Outcome.ACK: "ack",
    Outcome.NAK: "nak",
    Outcome.SILENT: "timeout",
    Outcome.FORGED: "error",
    Outcome.UNREACHABLE: "error",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request; `text` is for people: which NAS, what happened, what to do."""

    outcome: Outcome
    error_cause: int | None
    """Error-Cause of the NAS's reply (RFC 5176 section 3.5), where it gave one."""
    tries: int
    """How often the request was sent."""
    text: str

    @property
    def session_ended(self) -> bool:
        """Of a disconnect: whether the NAS confirmed that the session is no more."""
        return self.outcome in (Outcome.ACK, Outcome.SESSION_GONE)


class DynamicAuthorization:
    """Sends requests to any number of NASes, over one UDP socket each, within one event loop.

    A request is sent at most `tries` times, `timeout` seconds apart. More than `in_flight` requests to the
    same NAS wait for their turn. `tries` times `timeout` should stay below the 300 seconds for which a NAS
    takes a request to be current (RFC 5176 section 6.3).

    Raises:
        ValueError: `timeout` is not positive, `tries` is below 1, or `in_flight` not between 1 and 256.
    """

    def __init__(self, *, timeout: float, tries: int, in_flight: int) -> None:
        if timeout <= 0 or tries < 1 or not 1 <= in_flight <= 256:
            raise ValueError(f"{timeout=} must be positive, {tries=} at least 1, {in_flight=} between 1 and 256")
        self._timeout = timeout
        self._tries = tries
        self._in_flight = in_flight
        self._channels: dict[tuple[str, int], Channel] = {}
        self._closed = False

    async def disconnect(self, nas: Nas, session: Session) -> Reply:
        """Ask `nas` to end `session`.

        Raises:
            InvalidAttribute: `session` cannot be written as RADIUS attributes.
            ConnectionAbortedError: `aclose` was called.
        """
        return await self._ask(nas, session, _request(DisconnectRequest, nas, session))

    async def coa(self, nas: Nas, session: Session, attributes: Mapping[str, str]) -> Reply:
        """Ask `nas` to change `session`: `attributes` by their name in radius/dictionary, written as in radreply.

        Raises:
            InvalidAttribute: one of them is unknown or malformed, or identifies a session instead of
                changing it (RFC 5176 section 3.6).
            ConnectionAbortedError: `aclose` was called.
        """
        request = _request(CoARequest, nas, session)
        for name, value in attributes.items():
            _refuse_reserved(name)
            add(request, name, value)
        return await self._ask(nas, session, request)

    async def aclose(self) -> None:
        """Close the sockets; requests that still wait fail with `ConnectionAbortedError`."""
        self._closed = True
        for channel in self._channels.values():
            channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask(self, nas: Nas, session: Session, request: Any) -> Reply:
        if self._closed:
            raise ConnectionAbortedError("this RADIUS client is closed")
        reply = await self._exchange(nas, session, request)
        RADIUS_REQUESTS.labels(nas.name, _KINDS[request.code], _counts_as(request.code, reply)).inc()
        return reply

    async def _exchange(self, nas: Nas, session: Session, request: Any) -> Reply:
        what = f"{_REQUEST_NAMES[request.code]} for session {session.acct_session_id}"
        try:
            channel = self._channel(nas)
        except OSError as error:
            return _unreachable(nas, what, 0, error)
        exchange = await channel.exchange(request, timeout=self._timeout, tries=self._tries)
        return _answer(nas, what, exchange) if exchange.reply.done() else _no_answer(nas, what, exchange)

    def _channel(self, nas: Nas) -> Channel:
        key = (nas.address, nas.port)
        if key not in self._channels:
            self._channels[key] = Channel(*key, in_flight=self._in_flight)
        return self._channels[key]


def _counts_as(code: int, reply: Reply) -> str:
    """In the metric: a disconnect that finds nothing to end has done what it is for."""
    if reply.outcome is Outcome.SESSION_GONE:
        return "ack" if code == DisconnectRequest else "nak"
    return _COUNTS_AS[reply.outcome]


def _request(code: int, nas: Nas, session: Session) -> Any:
    # The identifier is given out where the request is sent. Until then 0 keeps pyrad from drawing one.
    request = CoAPacket(code=code, id=0, secret=nas.secret, dict=DICTIONARY, message_authenticator=True)
    add(request, "User-Name", session.username)
    add(request, "Acct-Session-Id", session.acct_session_id)
    nas_address = "NAS-IPv6-Address" if ":" in session.nas_address else "NAS-IP-Address"
    add(request, nas_address, session.nas_address)
    if session.framed_ip is not None:
        add(request, "Framed-IP-Address", session.framed_ip)
    if session.calling_station_id is not None:
        add(request, "Calling-Station-Id", session.calling_station_id)
    return request


def _refuse_reserved(name: str) -> None:
    if name in _IDENTIFICATION:
        raise InvalidAttribute(
            f"{name} tells a NAS which session is meant, so a CoA-Request cannot change it (RFC 5176 section "
            "3.6). Leave it out, and disconnect the session where it has to change."
        )
    if name in _IN_EVERY_REQUEST:
        raise InvalidAttribute(f"{name} is added to every request. Leave it out.")


def _answer(nas: Nas, what: str, exchange: Exchange) -> Reply:
    reply = exchange.reply.result()
    causes = reply.get(_ERROR_CAUSE, [])
    cause = int.from_bytes(causes[0], "big") if causes else None
    if reply.code in (DisconnectACK, CoAACK):
        return Reply(Outcome.ACK, cause, exchange.tries, f"{nas} acknowledged the {what}.")
    if cause == _SESSION_CONTEXT_NOT_FOUND:
        text = f"{nas} has no such session: Error-Cause {_named(cause)} to the {what}."
        return Reply(Outcome.SESSION_GONE, cause, exchange.tries, text)
    why = f"Error-Cause {_named(cause)}" if cause is not None else "without an Error-Cause"
    text = f"{nas} refused the {what}: {why}. Its log says more."
    return Reply(Outcome.NAK, cause, exchange.tries, text)


def _named(cause: int) -> str:
    return f"{cause} {_ERROR_CAUSES[cause]}" if cause in _ERROR_CAUSES else str(cause)


def _no_answer(nas: Nas, what: str, exchange: Exchange) -> Reply:
    if exchange.forged:
        text = (
            f"{nas} answered the {what}, but with a wrong authenticator. Its secret is probably not the one "
            "stored here; if it is, somebody else answers in its name."
        )
        return Reply(Outcome.FORGED, None, exchange.tries, text)
    if exchange.network_error is not None:
        return _unreachable(nas, what, exchange.tries, exchange.network_error)
    text = (
        f"{nas} did not answer the {what}, sent {exchange.tries} times. Check that it is up and reachable over "
        "UDP, that it takes such requests from here, that its secret is the one stored here, and its clock right."
    )
    return Reply(Outcome.SILENT, None, exchange.tries, text)


def _unreachable(nas: Nas, what: str, tries: int, error: OSError) -> Reply:
    reason = error.strerror or str(error)
    text = f"{nas} cannot be reached with the {what}: {reason}. Check its address and port, and the route to it."
    return Reply(Outcome.UNREACHABLE, None, tries, text)
