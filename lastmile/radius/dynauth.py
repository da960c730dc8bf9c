"""Disconnect-Request and CoA-Request to a NAS (RFC 5176): end a subscriber's session, or change it."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from pyrad.packet import CoAACK, CoAPacket, CoARequest, DisconnectACK, DisconnectRequest

from lastmile.errors import NonRetryableError
from lastmile.radius.attributes import DICTIONARY, InvalidAttributeError, add
from lastmile.radius.channel import Channel, Exchange
from lastmile.radius.escaping import printable
from lastmile.telemetry.metrics import RADIUS_REQUESTS

__all__ = ["DynamicAuthorization", "InvalidAttributeError", "InvalidNasError", "Nas", "RadiusReply", "Reply", "Session"]

_REQUEST_NAMES = {DisconnectRequest: "Disconnect-Request", CoARequest: "CoA-Request"}
_KINDS = {DisconnectRequest: "disconnect", CoARequest: "coa"}
_ERROR_CAUSE = 101
_ERROR_CAUSES = {int.from_bytes(value, "big"): name for name, value in DICTIONARY["Error-Cause"].values.forward.items()}
_NAS_IDENTIFICATION_MISMATCH = 403
_SESSION_CONTEXT_NOT_FOUND = 503
# Unsupported-Attribute, Missing-Attribute, NAS-Identification-Mismatch, Invalid-Attribute-Value and
# Session-Context-Not-Found: other identification attributes can get another answer.
_ABOUT_THE_QUESTION = frozenset({401, 402, _NAS_IDENTIFICATION_MISMATCH, 407, _SESSION_CONTEXT_NOT_FOUND})

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


class InvalidNasError(NonRetryableError):
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
            raise InvalidNasError(f"NAS {self.name}: {error}. Give it the IP address of the NAS.") from None
        if not 1 <= self.port <= 65535:
            raise InvalidNasError(f"NAS {self.name}: port {self.port} is not between 1 and 65535. Most use 3799.")
        if not self.secret:
            raise InvalidNasError(f"NAS {self.name} has no secret. Give it the one that is configured on the NAS.")

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"NAS {self.name} ({host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Session:
    """What tells a NAS which session is meant (RFC 5176 section 3), as its accounting reported it.

    `nas_address` is the NAS's own NAS-IP-Address or NAS-IPv6-Address, which need not be where requests go.
    """

    username: str
    acct_session_id: str
    nas_address: str
    framed_ip: str | None = None
    """The last Framed-IP-Address that accounting reported; the session may have got another one since."""
    calling_station_id: str | None = None
    address_in_doubt: bool = field(default=False, compare=False)
    """Whether the NAS may know the session by a Framed-IP-Address that accounting has not reported."""

    @property
    def least(self) -> dict[str, str]:
        """Return the identification attributes without which a session has no name."""
        return {"User-Name": self.username, "Acct-Session-Id": self.acct_session_id}

    @property
    def questions(self) -> list[dict[str, str]]:
        """Return the sets of identification attributes to ask with, one after the other.

        All attributes of a request must match (RFC 5176 section 3). So the first set has what never changes during a
        session. The second adds the address, for a NAS that wants it. The last is the least, with the NAS's address.
        """
        nas = {"NAS-IPv6-Address" if ":" in self.nas_address else "NAS-IP-Address": self.nas_address}
        least = self.least | nas
        certain = least if self.calling_station_id is None else least | {"Calling-Station-Id": self.calling_station_id}
        addressed = certain if self.framed_ip is None else certain | {"Framed-IP-Address": self.framed_ip}
        asked = [certain, addressed, least]
        return [question for n, question in enumerate(asked) if question not in asked[:n]]


class RadiusReply(StrEnum):
    """How a request ended, as far as the wire can tell."""

    ACK = "ack"
    """The NAS did it."""
    SESSION_GONE = "session_gone"
    """The NAS has no such session (NAK with Error-Cause 503), and the question was right. A CoA has failed then. A
    disconnect has succeeded: 503 is also the answer to a request that is sent again because the ACK was lost."""
    NOT_FOUND = "not_found"
    """The NAS found no session (503), and may not have recognised the one that is meant: no proof that it has ended."""
    NAK = "nak"
    """The NAS refused."""
    FORGED = "forged"
    """Only replies came that do not verify: usually a wrong secret, else somebody who answers for the NAS."""
    UNREACHABLE = "unreachable"
    """No reply, but an error from the network: no route, or nobody listens on the port."""
    SILENT = "silent"
    """Nothing came back. A dead NAS, lost packets and a NAS with another secret look alike from here."""


_COUNTS_AS = {
    RadiusReply.ACK: "ack",
    RadiusReply.NAK: "nak",
    RadiusReply.NOT_FOUND: "nak",
    RadiusReply.SILENT: "timeout",
    RadiusReply.FORGED: "error",
    RadiusReply.UNREACHABLE: "error",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request; `text` is for people: which NAS, what happened, what to do."""

    outcome: RadiusReply
    error_cause: int | None
    """Error-Cause of the NAS's reply (RFC 5176 section 3.5), where it gave one."""
    tries: int
    """How often this request was sent, of those that were sent for the session."""
    text: str

    @property
    def session_ended(self) -> bool:
        """Of a disconnect: whether the NAS confirmed that the session is no more."""
        return self.outcome in (RadiusReply.ACK, RadiusReply.SESSION_GONE)


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
        return await self._ask(DisconnectRequest, nas, session, {})

    async def coa(self, nas: Nas, session: Session, attributes: Mapping[str, str]) -> Reply:
        """Ask `nas` to change `session`: `attributes` by their name in radius/dictionary, written as in radreply.

        Raises:
            InvalidAttribute: one of them is unknown or malformed, or identifies a session instead of
                changing it (RFC 5176 section 3.6).
            ConnectionAbortedError: `aclose` was called.
        """
        for name in attributes:
            _refuse_reserved(name)
        return await self._ask(CoARequest, nas, session, attributes)

    async def aclose(self) -> None:
        """Close the sockets; requests that still wait fail with `ConnectionAbortedError`."""
        self._closed = True
        for channel in self._channels.values():
            channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask(self, code: int, nas: Nas, session: Session, changes: Mapping[str, str]) -> Reply:
        if self._closed:
            raise ConnectionAbortedError("this RADIUS client is closed")
        requests = [_request(code, nas, question | dict(changes)) for question in session.questions]
        what = f"{_REQUEST_NAMES[code]} for session {printable(session.acct_session_id)}"
        replies: list[Reply] = []
        for request in requests:
            replies.append(await self._exchange(nas, what, request))
            if replies[-1].error_cause not in _ABOUT_THE_QUESTION:
                break
        if replies[-1].error_cause == _NAS_IDENTIFICATION_MISMATCH:
            # Where a NAS sends no address of its own, FreeRADIUS stores the packet's source instead.
            replies.append(await self._exchange(nas, what, _request(code, nas, session.least | dict(changes))))
        reply = _judged(replies, session)
        RADIUS_REQUESTS.labels(nas.name, _KINDS[code], _counts_as(code, reply)).inc()
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


def _counts_as(code: int, reply: Reply) -> str:
    """In the metric: a disconnect that finds nothing to end has done what it is for."""
    if reply.outcome is RadiusReply.SESSION_GONE:
        return "ack" if code == DisconnectRequest else "nak"
    return _COUNTS_AS[reply.outcome]


def _request(code: int, nas: Nas, attributes: Mapping[str, str]) -> Any:
    # The identifier is given out where the request is sent. Until then 0 keeps pyrad from drawing one.
    request = CoAPacket(code=code, id=0, secret=nas.secret, dict=DICTIONARY, message_authenticator=True)
    for name, value in attributes.items():
        add(request, name, value)
    return request


def _judged(replies: Sequence[Reply], session: Session) -> Reply:
    """Return what the replies to one session's questions come to.

    A 503 is believed where it can be the answer to a repeated request whose ACK was lost. It is also believed after all
    questions, unless this NAS may look for the session by an address that we do not know.
    """
    not_found = [reply for reply in replies if reply.outcome is RadiusReply.NOT_FOUND]
    if not not_found or replies[-1].error_cause not in _ABOUT_THE_QUESTION:
        return replies[-1]
    ack_lost = any(reply.tries > 1 for reply in not_found)
    if ack_lost or not session.address_in_doubt:
        return replace(not_found[-1], outcome=RadiusReply.SESSION_GONE)
    doubt = "The session may have another address than accounting has reported, so this does not prove its end."
    return replace(not_found[-1], text=f"{not_found[-1].text} {doubt}")


def _refuse_reserved(name: str) -> None:
    if name in _IDENTIFICATION:
        raise InvalidAttributeError(
            f"{name} tells a NAS which session is meant, so a CoA-Request cannot change it (RFC 5176 section "
            "3.6). Leave it out, and disconnect the session where it has to change."
        )
    if name in _IN_EVERY_REQUEST:
        raise InvalidAttributeError(f"{name} is added to every request. Leave it out.")


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
    text = f"{nas} refused the {what}: {why}. Its log says more."
    return Reply(RadiusReply.NAK, cause, exchange.tries, text)


def _named(cause: int) -> str:
    return f"{cause} {_ERROR_CAUSES[cause]}" if cause in _ERROR_CAUSES else str(cause)


def _no_answer(nas: Nas, what: str, exchange: Exchange) -> Reply:
    if exchange.forged:
        text = (
            f"{nas} answered the {what}, but with a wrong authenticator. Its secret is probably not the one "
            "stored here; if it is, somebody else answers in its name."
        )
        return Reply(RadiusReply.FORGED, None, exchange.tries, text)
    if exchange.network_error is not None:
        return _unreachable(nas, what, exchange.tries, exchange.network_error)
    text = (
        f"{nas} did not answer the {what}, sent {exchange.tries} times. Check that it is up and reachable over "
        "UDP, that it takes such requests from here, that its secret is the one stored here, and its clock right."
    )
    return Reply(RadiusReply.SILENT, None, exchange.tries, text)


def _unreachable(nas: Nas, what: str, tries: int, error: OSError) -> Reply:
    reason = error.strerror or str(error)
    text = f"{nas} cannot be reached with the {what}: {reason}. Check its address and port, and the route to it."
    return Reply(RadiusReply.UNREACHABLE, None, tries, text)
