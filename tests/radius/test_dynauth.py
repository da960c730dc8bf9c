"""Tests of every result of a Disconnect-Request or CoA-Request, with a NAS on a socket."""

import asyncio
import socket
from typing import Any

import pytest
from pyrad.packet import CoAACK, CoARequest, DisconnectRequest

from lastmile.devstack.nas import ACK, Answer, Request, ScriptedNas, nak
from lastmile.radius.dynauth import (
    DynamicAuthorization,
    InvalidAttributeError,
    InvalidNasError,
    Nas,
    RadiusReply,
    Session,
)
from tests.support.metrics import Counted


def sign_with_another_secret(reply: Any) -> None:
    reply.secret = b"somebody else's"


def break_message_authenticator(reply: Any) -> None:
    reply.message_authenticator = False
    reply[80] = [bytes(16)]


def answer_another_kind_of_request(reply: Any) -> None:
    reply.code = CoAACK


def drop_error_cause(reply: Any) -> None:
    del reply["Error-Cause"]


async def test_disconnect_of_an_open_session_is_acknowledged(
    patient: DynamicAuthorization, nas: ScriptedNas, session: Session
) -> None:
    reply = await patient.disconnect(nas.nas, session)

    assert (reply.outcome, reply.error_cause, reply.tries) == (RadiusReply.ACK, None, 1)
    assert reply.session_ended
    assert nas.sessions == {}
    request = await nas.next_request()
    assert request.code == DisconnectRequest
    # The NAS accepted the request, so its authenticators and Event-Timestamp were right.
    assert request.attributes.keys() == {
        *("User-Name", "Acct-Session-Id", "NAS-IP-Address"),
        *("Event-Timestamp", "Message-Authenticator"),
    }
    assert request.attributes["User-Name"] == ["line-7@isp.example"]
    assert request.attributes["Acct-Session-Id"] == ["4F0C-01"]
    assert request.attributes["NAS-IP-Address"] == ["192.0.2.1"]


async def test_disconnect_on_an_ipv6_nas_is_acknowledged(patient: DynamicAuthorization, nas: ScriptedNas) -> None:
    nas.sessions = {"4F0C-01": {"User-Name": "line-7", "Calling-Station-Id": "00-11-22-33-44-55"}}
    over_ipv6 = Nas("v6", "::ffff:127.0.0.1", nas.nas.port, nas.nas.secret)
    session = Session("line-7", "4F0C-01", "2001:db8::1", calling_station_id="00-11-22-33-44-55")

    assert (await patient.disconnect(over_ipv6, session)).outcome is RadiusReply.ACK
    request = await nas.next_request()
    assert request.attributes["NAS-IPv6-Address"] == ["2001:db8::1"]
    assert request.attributes["Calling-Station-Id"] == ["00-11-22-33-44-55"]
    assert "NAS-IP-Address" not in request.attributes
    assert "Framed-IP-Address" not in request.attributes


async def test_disconnect_of_a_missing_session_counts_as_ended(
    patient: DynamicAuthorization, nas: ScriptedNas, session: Session
) -> None:
    nas.sessions.clear()
    reply = await patient.disconnect(nas.nas, session)
    assert (reply.outcome, reply.error_cause, reply.session_ended) == (RadiusReply.SESSION_GONE, 503, True)
    assert "Session-Context-Not-Found" in reply.text


# Identification attributes


async def asked(nas: ScriptedNas, times: int) -> list[set[str]]:
    """Return the identification attributes of each request."""
    rest = {"Event-Timestamp", "Message-Authenticator"}
    return [(await nas.next_request()).attributes.keys() - rest for _ in range(times)]


LEAST = {"User-Name", "Acct-Session-Id", "NAS-IP-Address"}
CERTAIN = LEAST | {"Calling-Station-Id"}
CALLING = {"User-Name": "line-7", "Calling-Station-Id": "#bng1#ge-1/0/0#100"}
CALLED = Session("line-7", "4F0C-01", "192.0.2.1", "198.51.100.7", "#bng1#ge-1/0/0#100", address_in_doubt=True)


async def test_disconnect_of_a_changed_address_is_acknowledged(patient: DynamicAuthorization, nas: ScriptedNas) -> None:
    nas.sessions = {"4F0C-01": CALLING | {"Framed-IP-Address": "198.51.100.8"}}
    assert (await patient.disconnect(nas.nas, CALLED)).outcome is RadiusReply.ACK
    assert await asked(nas, 1) == [CERTAIN]


async def test_disconnect_on_a_nas_that_wants_the_address_is_acknowledged(
    patient: DynamicAuthorization, nas: ScriptedNas
) -> None:
    nas.requires = frozenset({"Framed-IP-Address"})
    nas.sessions = {"4F0C-01": CALLING | {"Framed-IP-Address": "198.51.100.7"}}
    assert (await patient.disconnect(nas.nas, CALLED)).outcome is RadiusReply.ACK
    assert await asked(nas, 2) == [CERTAIN, CERTAIN | {"Framed-IP-Address"}]


async def test_disconnect_on_a_nas_with_another_calling_station_is_acknowledged(
    patient: DynamicAuthorization, nas: ScriptedNas
) -> None:
    nas.sessions = {"4F0C-01": {"User-Name": "line-7", "Calling-Station-Id": "00-11-22-33-44-55"}}
    assert (await patient.disconnect(nas.nas, CALLED)).outcome is RadiusReply.ACK
    assert await asked(nas, 3) == [CERTAIN, CERTAIN | {"Framed-IP-Address"}, LEAST]


async def test_disconnect_with_another_nas_address_is_acknowledged_without_it(
    patient: DynamicAuthorization, nas: ScriptedNas
) -> None:
    """Without a NAS-IP-Address, FreeRADIUS has stored the source address of the packet."""
    nas.script = lambda request: nak(403) if "NAS-IP-Address" in request.attributes else ACK
    assert (await patient.disconnect(nas.nas, Session("line-7", "4F0C-01", "192.0.2.1"))).outcome is RadiusReply.ACK


@pytest.mark.parametrize("kind", ["disconnect", "coa"])
async def test_session_not_found_by_an_uncertain_address_is_unconfirmed(
    patient: DynamicAuthorization, nas: ScriptedNas, kind: str
) -> None:
    nas.requires = frozenset({"Framed-IP-Address"})
    nas.sessions = {"4F0C-01": CALLING | {"Framed-IP-Address": "198.51.100.8"}}
    change = [("Delegated-IPv6-Prefix", "2001:db8::/56")]
    ask = patient.disconnect(nas.nas, CALLED) if kind == "disconnect" else patient.coa(nas.nas, CALLED, change)
    reply = await ask
    assert (reply.outcome, reply.error_cause, reply.session_ended) == (RadiusReply.NOT_FOUND, 503, False)
    assert "does not prove the end of the session" in reply.text
    assert nas.sessions.keys() == {"4F0C-01"}


async def test_not_found_after_a_retransmission_counts_as_ended(nas: ScriptedNas) -> None:
    """The NAS has ended the session, but its ACK was lost: the retransmission finds no session."""
    nas.script = lambda request: nak(503) if request.tries > 1 or nas.sessions.pop("4F0C-01", None) is None else None
    async with DynamicAuthorization(timeout=0.1, tries=100, in_flight=1) as client:
        reply = await client.disconnect(nas.nas, CALLED)
    assert (reply.outcome, reply.session_ended) == (RadiusReply.SESSION_GONE, True)


async def test_disconnect_refused_for_a_found_session_is_not_repeated(
    patient: DynamicAuthorization, nas: ScriptedNas, session: Session
) -> None:
    requests = []

    def refuse(request: Request) -> Answer:
        requests.append(request)
        return nak(504)

    nas.script = refuse
    assert (await patient.disconnect(nas.nas, session)).outcome is RadiusReply.NAK
    assert len(requests) == 1


@pytest.mark.parametrize("name", ["a|b+c=d#1", "Zürich", "line\n1\t2", "caf\udce9"])
async def test_disconnect_with_any_username_sends_its_exact_bytes(
    patient: DynamicAuthorization, nas: ScriptedNas, name: str
) -> None:
    nas.script = lambda _: nak(504)
    reply = await patient.disconnect(nas.nas, Session("line-7", name, "192.0.2.1"))
    assert reply.text.isprintable()
    sent = (await nas.next_request()).session
    assert (sent if isinstance(sent, bytes) else sent.encode()) == name.encode(errors="surrogateescape")


@pytest.mark.parametrize(
    ("answer", "cause", "said"),
    [
        (nak(501), 501, "501 Administratively-Prohibited"),
        (nak(599), 599, "599"),
        (Answer(error_cause=503, spoil=drop_error_cause), None, "without an Error-Cause"),
    ],
)
async def test_disconnect_refused_by_the_nas_returns_the_error_cause(
    patient: DynamicAuthorization,
    nas: ScriptedNas,
    session: Session,
    answer: Answer,
    cause: int | None,
    said: str,
) -> None:
    nas.script = lambda _: answer
    reply = await patient.disconnect(nas.nas, session)
    assert (reply.outcome, reply.error_cause, reply.session_ended) == (RadiusReply.NAK, cause, False)
    assert said in reply.text


async def test_disconnect_without_a_reply_retransmits_the_same_bytes(
    hasty: DynamicAuthorization, nas: ScriptedNas, session: Session
) -> None:
    nas.script = lambda _: None
    reply = await hasty.disconnect(nas.nas, session)

    assert (reply.outcome, reply.error_cause, reply.tries) == (RadiusReply.SILENT, None, 2)
    assert not reply.session_ended
    first, second = await nas.next_request(), await nas.next_request()
    assert (first.raw, first.source) == (second.raw, second.source)


async def test_disconnect_with_a_reply_to_a_later_try_is_acknowledged(nas: ScriptedNas, session: Session) -> None:
    nas.script = lambda request: ACK if request.tries > 2 else None
    async with DynamicAuthorization(timeout=0.1, tries=100, in_flight=1) as client:
        reply = await client.disconnect(nas.nas, session)
    assert reply.outcome is RadiusReply.ACK
    assert reply.tries > 2


async def test_disconnect_on_a_nas_with_another_secret_is_silent(
    hasty: DynamicAuthorization, nas: ScriptedNas, session: Session
) -> None:
    mistaken = Nas("mistaken", nas.nas.address, nas.nas.port, b"not the secret")
    reply = await hasty.disconnect(mistaken, session)
    assert (reply.outcome, nas.discarded) == (RadiusReply.SILENT, 2)
    assert "secret" in reply.text


@pytest.mark.parametrize(
    "spoil", [sign_with_another_secret, break_message_authenticator, answer_another_kind_of_request]
)
async def test_disconnect_with_an_unverified_reply_is_forged(
    hasty: DynamicAuthorization, nas: ScriptedNas, session: Session, spoil: Any
) -> None:
    nas.script = lambda _: Answer(spoil=spoil)
    reply = await hasty.disconnect(nas.nas, session)
    assert (reply.outcome, reply.session_ended) == (RadiusReply.FORGED, False)


async def test_disconnect_with_a_forged_and_a_real_reply_is_acknowledged(nas: ScriptedNas, session: Session) -> None:
    nas.script = lambda request: ACK if request.tries > 1 else Answer(spoil=sign_with_another_secret)
    async with DynamicAuthorization(timeout=0.1, tries=100, in_flight=1) as client:
        assert (await client.disconnect(nas.nas, session)).outcome is RadiusReply.ACK


async def test_disconnect_to_a_closed_port_is_unreachable(hasty: DynamicAuthorization, session: Session) -> None:
    # The port belongs to a socket that is connected elsewhere, so the kernel refuses other datagrams.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        held.connect(("127.0.0.1", 9))
        reply = await hasty.disconnect(Nas("closed", "127.0.0.1", held.getsockname()[1], b"secret"), session)
    assert (reply.outcome, reply.tries) == (RadiusReply.UNREACHABLE, 2)
    assert "refused" in reply.text


async def test_disconnect_to_an_unroutable_address_is_unreachable(
    hasty: DynamicAuthorization, session: Session
) -> None:
    reply = await hasty.disconnect(Nas("nowhere", "255.255.255.255", 3799, b"secret"), session)
    assert (reply.outcome, reply.tries) == (RadiusReply.UNREACHABLE, 0)


async def test_disconnect_with_a_nas_that_restarts_is_acknowledged(session: Session, unused_udp_port: int) -> None:
    port = unused_udp_port
    async with DynamicAuthorization(timeout=0.1, tries=100, in_flight=1) as client:
        asked = asyncio.create_task(client.disconnect(Nas("back", "127.0.0.1", port, b"secret"), session))
        await asyncio.sleep(0)  # the task has run up to its wait for a reply: the first try went nowhere
        sessions = {session.acct_session_id: {"User-Name": session.username}}
        async with ScriptedNas(b"secret", port=port, sessions=sessions):
            reply = await asked
    assert reply.outcome is RadiusReply.ACK
    assert reply.tries > 1


async def test_coa_with_valid_attributes_is_acknowledged(
    patient: DynamicAuthorization, nas: ScriptedNas, session: Session
) -> None:
    change = [("Delegated-IPv6-Prefix", "2001:db8:0:100::/56"), ("WISPr-Bandwidth-Max-Down", "100000000")]
    assert (await patient.coa(nas.nas, session, change)).outcome is RadiusReply.ACK
    request = await nas.next_request()
    assert request.code == CoARequest
    assert request.attributes["Delegated-IPv6-Prefix"] == ["2001:db8:0:100::/56"]
    assert request.attributes["WISPr-Bandwidth-Max-Down"] == [100_000_000]
    assert nas.sessions.keys() == {session.acct_session_id}


async def test_coa_for_a_missing_session_is_not_acknowledged(
    patient: DynamicAuthorization, nas: ScriptedNas, session: Session
) -> None:
    nas.sessions.clear()
    reply = await patient.coa(nas.nas, session, [("Filter-Id", "slow")])
    assert (reply.outcome, reply.error_cause) == (RadiusReply.SESSION_GONE, 503)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("Delegated-IPv6-Prefix", "2001:db8::1/56", "host bits"),
        ("Delegated-IPv6-Prefix", "2001:db8::", "no prefix length"),
        ("Delegated-IPv6-Prefix", "192.0.2.0/24", "192.0.2.0"),
        ("Session-Timeout", "soon", "non-integer"),
        ("Session-Timeout", "-1", "out of range"),
        ("Filter-Id", "", "empty"),
        ("Filter-Id", "x" * 254, "253"),
        ("Filter-Name", "slow", "no such attribute"),
        ("Framed-IPv6-Prefix", "2001:db8::/64", "identifies a session"),
        ("User-Name", "line-8", "identifies a session"),
        ("Event-Timestamp", "1", "every request"),
    ],
)
async def test_coa_with_an_invalid_attribute_is_refused_with_its_name(
    patient: DynamicAuthorization, nas: ScriptedNas, session: Session, name: str, value: str, reason: str
) -> None:
    with pytest.raises(InvalidAttributeError) as refusal:
        await patient.coa(nas.nas, session, [(name, value)])
    assert name in str(refusal.value)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("session", "name"),
    [
        (Session("line-7", "", "192.0.2.1"), "Acct-Session-Id"),
        (Session("line-7", "4F0C-01", "bng-1"), "NAS-IP-Address"),
        (Session("line-7", "4F0C-01", "192.0.2.1", framed_ip="2001:db8::1"), "Framed-IP-Address"),
    ],
)
async def test_disconnect_of_an_invalid_session_is_refused(
    patient: DynamicAuthorization, nas: ScriptedNas, session: Session, name: str
) -> None:
    with pytest.raises(InvalidAttributeError, match=name):
        await patient.disconnect(nas.nas, session)


@pytest.mark.parametrize(
    ("address", "port", "secret", "reason"),
    [
        ("bng-1.isp.example", 3799, b"secret", "IP address"),
        ("192.0.2.1", 0, b"secret", "port 0"),
        ("192.0.2.1", 65_536, b"secret", "port 65536"),
        ("192.0.2.1", 3799, b"", "no secret"),
    ],
)
def test_nas_with_invalid_fields_is_refused(address: str, port: int, secret: bytes, reason: str) -> None:
    with pytest.raises(InvalidNasError, match=f"bng-1.*{reason}"):
        Nas("bng-1", address, port, secret)


def test_nas_as_text_omits_the_secret() -> None:
    assert "hush" not in repr(Nas("bng-1", "192.0.2.1", 3799, b"hush"))


@pytest.mark.parametrize("limits", [{"timeout": 0}, {"tries": 0}, {"in_flight": 0}, {"in_flight": 257}], ids=str)
def test_dynamic_authorization_with_invalid_limits_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="in_flight="):
        DynamicAuthorization(**{"timeout": 1, "tries": 1, "in_flight": 1} | limits)


@pytest.mark.parametrize(
    ("kind", "answer", "outcome"),
    [
        ("disconnect", ACK, "ack"),
        ("coa", ACK, "ack"),
        ("disconnect", nak(503), "ack"),  # there is no such session any more
        ("coa", nak(503), "nak"),
        ("disconnect", nak(501), "nak"),
        ("disconnect", None, "timeout"),
        ("coa", Answer(spoil=sign_with_another_secret), "error"),
    ],
)
async def test_requests_are_counted_by_nas_and_outcome(
    hasty: DynamicAuthorization, nas: ScriptedNas, session: Session, kind: str, answer: Answer | None, outcome: str
) -> None:
    counted = Counted()
    nas.script = lambda _: answer
    if kind == "coa":
        await hasty.coa(nas.nas, session, [("Delegated-IPv6-Prefix", "2001:db8::/56")])
    else:
        await hasty.disconnect(nas.nas, session)
    assert counted.since("lastmile_radius_requests_total") == {(kind, "scripted", outcome): 1}


async def test_requests_to_an_unreachable_nas_are_counted(hasty: DynamicAuthorization, session: Session) -> None:
    counted = Counted()
    await hasty.disconnect(Nas("nowhere", "255.255.255.255", 3799, b"secret"), session)
    assert counted.since("lastmile_radius_requests_total") == {("disconnect", "nowhere", "error"): 1}
