"""Disconnect-Request and CoA-Request to a NAS (RFC 5176), which end or change a subscriber's session."""

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from pyrad.packet import CoAACK, CoAPacket, CoARequest, DisconnectACK, DisconnectRequest

from lastmile.errors import NonRetryableError
from lastmile.radius.attributes import DICTIONARY, InvalidAttributeError, add
from lastmile.radius.channel import Channel, Exchange
from lastmile.radius.escaping import printable
from lastmile.telemetry.metrics import RADIUS_REQUESTS

__all__ = [
    "DynamicAuthorization",
    "InvalidAttributeError",
    "InvalidNasError",
    "Nas",
    "RadiusReply",
    "Reply",
    "Session",
    "refuse_reserved",
]

_REQUEST_NAMES = {DisconnectRequest: "Disconnect-Request", CoARequest: "CoA-Request"}
_KINDS = {DisconnectRequest: "disconnect", CoARequest: "coa"}
_ERROR_CAUSE = 101
_ERROR_CAUSES = {int.from_bytes(value, "big"): name for name, value in DICTIONARY["Error-Cause"].values.forward.items()}
_NAS_IDENTIFICATION_MISMATCH = 403
_SESSION_CONTEXT_NOT_FOUND = 503
# Unsupported-Attribute, Missing-Attribute, NAS-Identification-Mismatch, Invalid-Attribute-Value and
# Session-Context-Not-Found: a request with other identification attributes can get another reply.
_RETRY_CAUSES = frozenset({401, 402, _NAS_IDENTIFICATION_MISMATCH, 407, _SESSION_CONTEXT_NOT_FOUND})

# Attributes that identify a session. A CoA-Request must not use them to change it (RFC 5176 section 3.6, note 1).
_IDENTIFICATION = frozenset(
    {
        *("User-Name", "Chargeable-User-Identity", "Calling-Station-Id", "Called-Station-Id"),
        *("NAS-IP-Address", "NAS-IPv6-Address", "NAS-Identifier", "NAS-Port", "NAS-Port-Id"),
        *("Acct-Session-Id", "Acct-Multi-Session-Id"),
        *("Framed-IP-Address", "Framed-IPv6-Prefix", "Framed-Interface-Id"),
    }
)
_IN_EVERY_REQUEST = frozenset({"Event-Timestamp", "Message-Authenticator"})


class InvalidNasError(NonRetryableError):
    """A NAS without a valid IP address, port or secret: Lastmile cannot send a request to it."""


@dataclass(frozen=True, slots=True)
class Nas:
    """A NAS as a dynamic authorization server. `address` is an IPv4 or IPv6 address, `port` usually 3799.

    Raises:
        InvalidNasError: the address or port is invalid, or the secret is empty.
    """

    name: str
    address: str
    port: int
    secret: bytes = field(repr=False)
    type: str = "other"
    """The type in the table `nas`: the name of the attribute template for CoA-Requests."""

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.address)
        except ValueError as error:
            raise InvalidNasError(f"NAS {self.name}: {error}. Set the IP address of the NAS.") from None
        if not 1 <= self.port <= 65535:
            raise InvalidNasError(f"NAS {self.name}: port {self.port} is not between 1 and 65535. Most use 3799.")
        if not self.secret:
            raise InvalidNasError(f"NAS {self.name} has no secret. Set the secret that is configured on the NAS.")

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"NAS {self.name} ({host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Session:
    """The identification of a session (RFC 5176 section 3), as the NAS's accounting reported it.

    `nas_address` is the NAS-IP-Address or NAS-IPv6-Address. Requests may go to another address of the NAS.
    """

    username: str
    acct_session_id: str
    nas_address: str
    framed_ip: str | None = None
    """The last Framed-IP-Address that accounting reported; the session may have another address by now."""
    calling_station_id: str | None = None
    address_in_doubt: bool = field(default=False, compare=False)
    """Whether the NAS may identify the session by a Framed-IP-Address that accounting has not reported."""

    @property
    def required_attributes(self) -> dict[str, str]:
        """Return the identification attributes that every request needs."""
        return {"User-Name": self.username, "Acct-Session-Id": self.acct_session_id}

    @property
    def identifications(self) -> list[dict[str, str]]:
        """Return the sets of identification attributes to try, in order.

        All attributes of a request must match (RFC 5176 section 3). So the first set has only attributes that never
        change during a session. The second adds the session's address, which some NASes require. The last has the
        required attributes and the NAS's address.
        """
        nas = {"NAS-IPv6-Address" if ":" in self.nas_address else "NAS-IP-Address": self.nas_address}
        least = self.required_attributes | nas
        fixed = least if self.calling_station_id is None else least | {"Calling-Station-Id": self.calling_station_id}
        addressed = fixed if self.framed_ip is None else fixed | {"Framed-IP-Address": self.framed_ip}
        candidates = [fixed, addressed, least]
        return [candidate for n, candidate in enumerate(candidates) if candidate not in candidates[:n]]


class RadiusReply(StrEnum):
    """The result of a request."""

    ACK = "ack"
    """The NAS carried out the request."""
    SESSION_GONE = "session_gone"
    """The NAS has no such session (NAK with Error-Cause 503), and the identification was right. A CoA has failed. A
    disconnect has succeeded: a NAS also replies 503 to a retransmission after its ACK was lost."""
    NOT_FOUND = "not_found"
    """The NAS found no session (503), but may not have recognised the session: no proof that the session has ended."""
    NAK = "nak"
    """The NAS refused."""
    FORGED = "forged"
    """Every reply failed verification. The secret is usually wrong; otherwise another host replies for the NAS."""
    UNREACHABLE = "unreachable"
    """No reply, but an error from the network: no route, or a closed port."""
    SILENT = "silent"
    """No reply. The NAS is down, packets are lost, or the NAS has another secret: the client cannot tell which."""


_METRIC_OUTCOMES = {
    RadiusReply.ACK: "ack",
    RadiusReply.NAK: "nak",
    RadiusReply.NOT_FOUND: "nak",
    RadiusReply.SILENT: "timeout",
    RadiusReply.FORGED: "error",
    RadiusReply.UNREACHABLE: "error",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a request; `text` names the NAS, the result and the remedy for an operator."""

    outcome: RadiusReply
    error_cause: int | None
    """The Error-Cause of the NAS's reply (RFC 5176 section 3.5), if the reply has one."""
    tries: int
    """The number of transmissions of the request that got this reply."""
    text: str

    @property
    def session_ended(self) -> bool:
        """Return whether the NAS confirmed the end of the session, for a disconnect."""
        return self.outcome in (RadiusReply.ACK, RadiusReply.SESSION_GONE)


class DynamicAuthorization:
    """A client for any number of NASes, with one UDP socket for each, in one event loop.

    Args:
        timeout: seconds between two transmissions of a request.
        tries: the maximum number of transmissions. `tries * timeout` should be below 300 seconds, since a NAS rejects
            an older request (RFC 5176 section 6.3).
        in_flight: the maximum number of open requests to one NAS; further requests wait.

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
            InvalidAttributeError: `session` cannot be written as RADIUS attributes.
            ConnectionAbortedError: `aclose` was called.
        """
        return await self._ask(DisconnectRequest, nas, session, ())

    async def coa(self, nas: Nas, session: Session, attributes: Collection[tuple[str, str]]) -> Reply:
        """Ask `nas` to change `session`.

        Args:
            attributes: attributes of radius/dictionary, each with its value as in `radreply`. One can occur again.

        Raises:
            InvalidAttributeError: an attribute is unknown or malformed, or identifies a session and so cannot change
                one (RFC 5176 section 3.6).
            ConnectionAbortedError: `aclose` was called.
        """
        for name, _ in attributes:
            refuse_reserved(name)
        return await self._ask(CoARequest, nas, session, attributes)

    async def aclose(self) -> None:
        """Close the sockets. Waiting requests fail with `ConnectionAbortedError`."""
        self._closed = True
        for channel in self._channels.values():
            channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask(self, code: int, nas: Nas, session: Session, changes: Collection[tuple[str, str]]) -> Reply:
        if self._closed:
            raise ConnectionAbortedError("this RADIUS client is closed")
        requests = [_request(code, nas, [*attributes.items(), *changes]) for attributes in session.identifications]
        what = f"{_REQUEST_NAMES[code]} for session {printable(session.acct_session_id)}"
        replies: list[Reply] = []
        for request in requests:
            replies.append(await self._exchange(nas, what, request))
            if replies[-1].error_cause not in _RETRY_CAUSES:
                break
        if replies[-1].error_cause == _NAS_IDENTIFICATION_MISMATCH:
            # FreeRADIUS stores the packet's source address for a NAS that sends no address of its own.
            request = _request(code, nas, [*session.required_attributes.items(), *changes])
            replies.append(await self._exchange(nas, what, request))
        reply = _conclude(replies, session)
        RADIUS_REQUESTS.labels(nas.name, _KINDS[code], _metric_outcome(code, reply)).inc()
        return reply

    async def _exchange(self, nas: Nas, what: str, request: Any) -> Reply:
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


def _metric_outcome(code: int, reply: Reply) -> str:
    """Return the label of the metric. A disconnect of a session that is gone counts as acknowledged."""
    if reply.outcome is RadiusReply.SESSION_GONE:
        return "ack" if code == DisconnectRequest else "nak"
    return _METRIC_OUTCOMES[reply.outcome]


def _request(code: int, nas: Nas, attributes: Iterable[tuple[str, str]]) -> Any:
    # The channel sets the identifier when it sends the request. The 0 keeps pyrad from choosing one.
    request = CoAPacket(code=code, id=0, secret=nas.secret, dict=DICTIONARY, message_authenticator=True)
    for name, value in attributes:
        add(request, name, value)
    return request


def _conclude(replies: Sequence[Reply], session: Session) -> Reply:
    """Return the result that follows from the replies to all requests for one session.

    A 503 (session not found) counts as the end of the session in two cases:

    - the request was retransmitted, so that the ACK of an earlier transmission may have been lost;
    - every identification was tried, and the NAS does not identify the session by an address unknown to accounting.
    """
    not_found = [reply for reply in replies if reply.outcome is RadiusReply.NOT_FOUND]
    if not not_found or replies[-1].error_cause not in _RETRY_CAUSES:
        return replies[-1]
    ack_lost = any(reply.tries > 1 for reply in not_found)
    if ack_lost or not session.address_in_doubt:
        return replace(not_found[-1], outcome=RadiusReply.SESSION_GONE)
    doubt = "This does not prove the end of the session: its address may differ from the one in accounting."
    return replace(not_found[-1], text=f"{not_found[-1].text} {doubt}")


def refuse_reserved(name: str) -> None:
    """Raise `InvalidAttributeError` if a CoA-Request cannot change the attribute."""
    if name in _IDENTIFICATION:
        raise InvalidAttributeError(
            f"{name} identifies a session, so a CoA-Request cannot change it (RFC 5176 section 3.6). Omit it. If it "
            "has to change, disconnect the session."
        )
    if name in _IN_EVERY_REQUEST:
        raise InvalidAttributeError(f"{name}: the client adds this attribute to every request. Omit it.")


def _answer(nas: Nas, what: str, exchange: Exchange) -> Reply:
    reply = exchange.reply.result()
    causes = reply.get(_ERROR_CAUSE, [])
    cause = int.from_bytes(causes[0], "big") if causes else None
    if reply.code in (DisconnectACK, CoAACK):
        return Reply(RadiusReply.ACK, cause, exchange.tries, f"{nas} acknowledged the {what}.")
    if cause == _SESSION_CONTEXT_NOT_FOUND:
        text = f"{nas} has no such session: Error-Cause {_named(cause)} to the {what}."
        return Reply(RadiusReply.NOT_FOUND, cause, exchange.tries, text)
    why = f"Error-Cause {_named(cause)}" if cause is not None else "without an Error-Cause"
    text = f"{nas} refused the {what}: {why}. See the log of the NAS."
    return Reply(RadiusReply.NAK, cause, exchange.tries, text)


def _named(cause: int) -> str:
    return f"{cause} {_ERROR_CAUSES[cause]}" if cause in _ERROR_CAUSES else str(cause)


def _no_answer(nas: Nas, what: str, exchange: Exchange) -> Reply:
    if exchange.forged:
        text = (
            f"{nas} answered the {what} with a wrong authenticator. Check that the secret in Lastmile is the secret on "
            "the NAS. If it is, another host answers for the NAS."
        )
        return Reply(RadiusReply.FORGED, None, exchange.tries, text)
    if exchange.network_error is not None:
        return _unreachable(nas, what, exchange.tries, exchange.network_error)
    text = (
        f"{nas} did not answer the {what}, sent {exchange.tries} times. Check that the NAS is up, reachable over UDP, "
        "accepts such requests from this host, has the secret stored in Lastmile, and has the right time."
    )
    return Reply(RadiusReply.SILENT, None, exchange.tries, text)


def _unreachable(nas: Nas, what: str, tries: int, error: OSError) -> Reply:
    reason = error.strerror or str(error)
    text = f"Cannot reach {nas} with the {what}: {reason}. Check its address and port, and the route to it."
    return Reply(RadiusReply.UNREACHABLE, None, tries, text)
