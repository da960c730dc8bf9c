"""Tests of the UDP socket to a NAS."""

import asyncio
import hashlib
import hmac
import socket
import time

import pytest

from lastmile.devstack.nas import ACK, Answer, ScriptedNas, nak
from lastmile.radius.dynauth import DynamicAuthorization, Nas, RadiusReply, Session

SECRET = b"a shared secret"
EVENT_TIMESTAMP, MESSAGE_AUTHENTICATOR, ERROR_CAUSE = 55, 80, 101
DISCONNECT_ACK, DISCONNECT_NAK = 41, 42


def numbered(n: int) -> Session:
    return Session("line-7", f"S-{n}", "192.0.2.1")


def signed(code: int, attributes: bytes, request: bytes) -> bytes:
    """Return a reply with both authenticators (RFC 5176 sections 2.3 and 3.4)."""
    blank = bytes([MESSAGE_AUTHENTICATOR, 18]) + bytes(16)
    header = bytes([code, request[1], 0, 20 + len(blank + attributes)])
    digest = hmac.digest(SECRET, header + request[4:20] + blank + attributes, "md5")
    attributes = blank[:2] + digest + attributes
    return header + hashlib.md5(header + request[4:20] + attributes + SECRET).digest() + attributes


def value_of(code: int, packet: bytes) -> slice:
    at = 20
    while packet[at] != code:
        at += packet[at + 1]
    return slice(at + 2, at + packet[at + 1])


async def test_channel_with_any_changed_byte_rejects_the_reply(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        nas = Nas("by-the-book", "127.0.0.1", server.getsockname()[1], SECRET)
        async with DynamicAuthorization(timeout=30, tries=1, in_flight=1) as client:
            asked = asyncio.create_task(client.disconnect(nas, numbered(1)))
            request, address = await loop.sock_recvfrom(server, 4096)

            assert request[4:20] == hashlib.md5(request[:4] + bytes(16) + request[20:] + SECRET).digest()
            digest = value_of(MESSAGE_AUTHENTICATOR, request)
            blank = request[:4] + bytes(16) + request[20 : digest.start] + bytes(16) + request[digest.stop :]
            assert request[digest] == hmac.digest(SECRET, blank, "md5")
            sent = int.from_bytes(request[value_of(EVENT_TIMESTAMP, request)], "big")
            assert abs(sent - time.time()) < 300

            ack = signed(DISCONNECT_ACK, b"", request)
            spoilt = [ack[:at] + bytes([ack[at] ^ 1]) + ack[at + 1 :] for at in range(len(ack))]
            cut = [ack[:length] for length in range(len(ack))]
            for datagram in [*spoilt, *cut, ack[:20] + b"\xff" * 18, bytes(4096)]:
                await loop.sock_sendto(server, datagram, address)
            # If an earlier reply had passed as the ACK, this reply would be late.
            gone = bytes([ERROR_CAUSE, 6]) + (503).to_bytes(4, "big")
            await loop.sock_sendto(server, signed(DISCONNECT_NAK, gone, request), address)
            assert (await asked).outcome is RadiusReply.SESSION_GONE
    assert not caplog.records  # the event loop logs what a reader raises


async def test_channel_with_a_late_reply_to_an_old_identifier_waits_on(
    nas: ScriptedNas,
) -> None:
    late, held = asyncio.Event(), asyncio.Event()
    special = {"S-0": Answer(after=late), "S-256": Answer(error_cause=504, after=held)}
    nas.script = lambda request: special.get(request.session, ACK)

    async with DynamicAuthorization(timeout=30, tries=1, in_flight=256) as client:
        given_up = asyncio.create_task(client.disconnect(nas.nas, numbered(0)))
        first = await nas.next_request()
        given_up.cancel()
        for n in range(1, 256):
            await client.disconnect(nas.nas, numbered(n))
            await nas.next_request()
        last = asyncio.create_task(client.disconnect(nas.nas, numbered(256)))
        async with asyncio.timeout(30):
            assert (await nas.next_request()).raw[1] == first.raw[1]
        late.set()
        await client.disconnect(nas.nas, numbered(1))  # by its answer the late one, sent before, is in too
        held.set()
        assert (await last).error_cause == 504


async def test_channel_limits_open_requests_for_each_nas_separately(
    nas: ScriptedNas, patient: DynamicAuthorization
) -> None:
    answered = asyncio.Event()
    nas.script = lambda request: ACK if request.session == "S-99" else Answer(after=answered)
    async with (
        DynamicAuthorization(timeout=30, tries=1, in_flight=3) as client,
        ScriptedNas(SECRET, name="other", script=lambda _: nak(503)) as other,
    ):
        asked = [asyncio.create_task(client.disconnect(nas.nas, numbered(n))) for n in range(10)]
        assert [(await nas.next_request()).session for _ in range(3)] == ["S-0", "S-1", "S-2"]
        assert (await client.disconnect(other.nas, numbered(0))).outcome is RadiusReply.SESSION_GONE
        # The request to another NAS overtakes the seven waiting requests.
        await patient.disconnect(nas.nas, numbered(99))
        assert (await nas.next_request()).session == "S-99"
        answered.set()
        assert {(await task).outcome for task in asked} == {RadiusReply.ACK}


async def test_channel_gives_open_requests_distinct_identifiers(nas: ScriptedNas) -> None:
    answered = asyncio.Event()
    nas.script = lambda _: Answer(after=answered)
    async with DynamicAuthorization(timeout=30, tries=1, in_flight=256) as client:
        asked = [asyncio.create_task(client.disconnect(nas.nas, numbered(n))) for n in range(256)]
        requests = [await nas.next_request() for _ in asked]
        assert sorted(request.raw[1] for request in requests) == list(range(256))
        assert len({request.source for request in requests}) == 1
        answered.set()
        assert {(await task).outcome for task in asked} == {RadiusReply.ACK}


async def test_channel_after_a_cancelled_request_admits_the_next(nas: ScriptedNas) -> None:
    nas.script = lambda request: ACK if request.session == "S-300" else None
    async with DynamicAuthorization(timeout=30, tries=1, in_flight=1) as client:
        for n in range(300):  # more than there are identifiers
            asked = asyncio.create_task(client.disconnect(nas.nas, numbered(n)))
            async with asyncio.timeout(30):
                await nas.next_request()
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        assert (await client.disconnect(nas.nas, numbered(300))).outcome is RadiusReply.ACK


async def test_close_fails_waiting_and_later_requests(nas: ScriptedNas) -> None:
    nas.script = lambda _: None
    other = Nas("other", "127.0.0.2", nas.nas.port, SECRET)
    client = DynamicAuthorization(timeout=30, tries=3, in_flight=1)
    sent, queued = (asyncio.create_task(client.disconnect(nas.nas, numbered(n))) for n in range(2))
    await nas.next_request()
    await client.aclose()
    again, elsewhere = client.disconnect(nas.nas, numbered(2)), client.disconnect(other, numbered(3))
    for refused in (sent, queued, again, elsewhere):
        with pytest.raises(ConnectionAbortedError):
            await refused


async def test_channel_with_a_changed_secret_uses_it_for_the_next_request(nas: ScriptedNas) -> None:
    nas.script = lambda _: ACK
    stale = Nas("stale", nas.nas.address, nas.nas.port, b"the old secret")
    async with DynamicAuthorization(timeout=0.5, tries=20, in_flight=1) as client:
        asked = asyncio.create_task(client.disconnect(stale, numbered(0)))
        await asyncio.sleep(0)  # sent
        asked.cancel()
        assert (await client.disconnect(nas.nas, numbered(1))).outcome is RadiusReply.ACK
    assert nas.discarded == 1
