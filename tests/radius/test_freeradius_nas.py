"""Tests with other implementations: FreeRADIUS as the NAS, and radclient as the client of the scripted NAS."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lastmile.devstack.freeradius_nas import FreeRadiusNas
from lastmile.devstack.nas import ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization, Nas, RadiusReply, Session

pytestmark = pytest.mark.freeradius_required


@pytest.fixture(scope="module")
async def freeradius(unused_udp_port_factory: Callable[[], int]) -> AsyncIterator[Nas]:
    with tempfile.TemporaryDirectory() as directory:
        async with FreeRadiusNas(Path(directory), secret=b"testing123", port=unused_udp_port_factory()) as nas:
            yield nas.nas


def session(acct_session_id: str) -> Session:
    return Session("line-7@isp.example", acct_session_id, "192.0.2.1", "198.51.100.7", "00-11-22-33-44-55")


async def test_freeradius_nas_acknowledges_a_disconnect(patient: DynamicAuthorization, freeradius: Nas) -> None:
    reply = await patient.disconnect(freeradius, session("4F0C-01"))
    assert (reply.outcome, reply.session_ended) == (RadiusReply.ACK, True)


async def test_freeradius_nas_acknowledges_a_coa(patient: DynamicAuthorization, freeradius: Nas) -> None:
    change = [("Delegated-IPv6-Prefix", "2001:db8:0:100::/56"), ("WISPr-Bandwidth-Max-Down", "100000000")]
    assert (await patient.coa(freeradius, session("4F0C-01"), change)).outcome is RadiusReply.ACK


async def test_freeradius_nas_without_the_session_replies_not_found(
    patient: DynamicAuthorization, freeradius: Nas
) -> None:
    reply = await patient.disconnect(freeradius, session("gone-1"))
    assert (reply.outcome, reply.error_cause, reply.session_ended) == (RadiusReply.SESSION_GONE, 503, True)


async def test_freeradius_nas_with_a_fixed_session_refuses(patient: DynamicAuthorization, freeradius: Nas) -> None:
    reply = await patient.coa(freeradius, session("fixed-1"), [("Filter-Id", "slow")])
    assert (reply.outcome, reply.error_cause) == (RadiusReply.NAK, 504)


async def test_freeradius_nas_with_a_silent_session_does_not_reply(
    hasty: DynamicAuthorization, freeradius: Nas
) -> None:
    reply = await hasty.disconnect(freeradius, session("silent-1"))
    assert (reply.outcome, reply.tries) == (RadiusReply.SILENT, 2)


async def test_freeradius_nas_with_another_secret_does_not_reply(hasty: DynamicAuthorization, freeradius: Nas) -> None:
    mistaken = Nas("mistaken", freeradius.address, freeradius.port, b"not the secret")
    assert (await hasty.disconnect(mistaken, session("4F0C-01"))).outcome is RadiusReply.SILENT


async def test_freeradius_nas_with_concurrent_requests_acknowledges_all(freeradius: Nas) -> None:
    async with DynamicAuthorization(timeout=5, tries=3, in_flight=64) as client:
        replies = await asyncio.gather(*(client.disconnect(freeradius, session(f"S-{n}")) for n in range(500)))
    assert {reply.outcome for reply in replies} == {RadiusReply.ACK}


async def test_radclient_accepts_the_reply_of_the_scripted_nas(nas: ScriptedNas) -> None:
    asked = f'Acct-Session-Id = "4F0C-01", Event-Timestamp = {int(time.time())}, Message-Authenticator = 0x00'
    assert "Received Disconnect-ACK" in await radclient(nas.nas, asked)
    said = await radclient(nas.nas, asked)
    assert "Received Disconnect-NAK" in said
    assert "Error-Cause = Session-Context-Not-Found" in said


async def radclient(nas: Nas, attributes: str) -> str:
    """Return the output of `radclient` for a Disconnect-Request. It shows only verified replies."""
    process = await asyncio.create_subprocess_exec(
        *("radclient", "-x", "-r", "1", "-t", "30", f"{nas.address}:{nas.port}", "disconnect", nas.secret),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(attributes.encode())
    return said.decode()
