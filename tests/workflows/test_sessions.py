"""Live sessions: CoA requests for new addresses, and Disconnect requests before an address is released."""

import asyncio

import asyncpg
import pytest
from pyrad.packet import CoARequest, DisconnectRequest

from lastmile.client.orders import Lastmile
from lastmile.contract import OrderResult, ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.devstack.nas import ACK, Answer, Request, ScriptedNas, nak
from lastmile.settings import Settings
from tests.support.faults import Faults, broken, once, refused
from tests.support.orders import Orders, log_in, outcomes, quarantine_seconds

UNCONFIRMED_REST = 7200


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Let a test set the time-out of RADIUS requests."""
    return settings.model_copy(update=getattr(request, "param", {}))


answered_in_the_end = pytest.mark.parametrize(
    "settings", [{"radius_timeout_seconds": 30, "radius_tries": 1}], ids=["patient"], indirect=True
)
"""A long time-out: the NAS gets each request once, however slow the test is."""


async def assert_unconfirmed(owner: asyncpg.Connection, result: OrderResult, words: str) -> None:
    """Check that the service is terminated, with a warning and the longer quarantine."""
    assert result.status is ResultStatus.DEGRADED
    assert outcomes(result)["revoke_ipv6_lifecycle"] == "warned"
    assert words in result.warnings[0]
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is False
    assert UNCONFIRMED_REST - 100 < await quarantine_seconds(owner) <= UNCONFIRMED_REST
    assert await owner.fetchval("SELECT count(*) FROM radcheck") == 0


@answered_in_the_end
async def test_provision_sends_coa_to_a_live_session(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await log_in(owner, orders, "4F0C-01", nas)

    result = await lastmile.execute(orders.provision())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    request = await nas.next_request()
    assert (request.code, request.session) == (CoARequest, "4F0C-01")
    assert request.attributes["Delegated-IPv6-Prefix"] == [result.created.ipv6_prefix]


async def test_provision_with_a_refused_coa_is_degraded(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: nak(401)

    result = await lastmile.execute(orders.provision())

    assert result.status is ResultStatus.DEGRADED
    assert "Error-Cause 401" in result.warnings[0]
    assert "take effect at the next login" in result.warnings[0]
    assert await owner.fetchval("SELECT state FROM delegations") == "active"


@answered_in_the_end
async def test_coa_omits_the_wan_address(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """RFC 5176, 3.6: attributes that identify a session cannot be changed."""
    await log_in(owner, orders, "4F0C-01", nas)
    addressing = Addressing(ipv6_mode="dual_stack", ipv4_mode="static")

    result = await lastmile.execute(orders.provision(addressing=addressing))

    assert "a live session keeps its WAN addresses" in result.warnings[0]
    assert "Framed-IP-Address" not in (await nas.next_request()).attributes


async def test_deprovision_without_a_session_sends_no_request(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    nas.script = lambda _: pytest.fail("nobody is online")
    await lastmile.execute(orders.provision())

    result = await lastmile.execute(orders.deprovision())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is True
    assert await quarantine_seconds(owner) <= 3600


@answered_in_the_end
async def test_deprovision_blocks_the_account_before_the_disconnect(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """A CPE logs in again at once after a disconnect, so the account must be blocked by then."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    answered = asyncio.Event()
    nas.script = lambda _: Answer(after=answered)
    run = await lastmile.start(orders.deprovision())

    request = await nas.next_request()
    assert (request.code, request.session) == (DisconnectRequest, "4F0C-01")
    assert request.attributes["User-Name"] == [f"{orders.ref}@acme.lastmile"]
    assert await owner.fetchval("SELECT value FROM radcheck WHERE attribute = 'Auth-Type'") == "Reject"
    assert await owner.fetchval("SELECT count(*) FROM radreply") == 0
    assert await owner.fetchval("SELECT state FROM delegations") == "revoking"

    answered.set()
    result = await run.result()
    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is True
    assert await quarantine_seconds(owner) <= 3600


async def test_session_unknown_to_the_nas_counts_as_ended(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """Error-Cause 503 is also the reply to a repeated request whose ACK was lost."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.sessions.clear()

    result = await lastmile.execute(orders.deprovision())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])


@answered_in_the_end
async def test_deprovision_disconnects_every_session(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    for session in ("A", "B", "C"):
        await log_in(owner, orders, session, nas)

    result = await lastmile.execute(orders.deprovision())

    assert result.status is ResultStatus.COMPLETED
    assert {(await nas.next_request()).session for _ in range(3)} == {"A", "B", "C"}
    assert nas.sessions == {}


async def test_one_unconfirmed_session_makes_the_order_degraded(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    for session in ("A", "B"):
        await log_in(owner, orders, session, nas)

    def refuse_b(request: Request) -> Answer:
        return ACK if request.session == "A" else nak(506)

    nas.script = refuse_b

    result = await lastmile.execute(orders.deprovision())

    await assert_unconfirmed(owner, result, "Error-Cause 506")


async def test_deprovision_with_a_silent_nas_is_degraded(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None

    result = await lastmile.execute(orders.deprovision())

    await assert_unconfirmed(owner, result, "did not answer the Disconnect-Request for session 4F0C-01, sent 2 times")


async def test_deprovision_with_an_unknown_nas_is_degraded(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", "192.0.2.7")

    result = await lastmile.execute(orders.deprovision())

    await assert_unconfirmed(owner, result, "is on 192.0.2.7, which is no NAS we know: add it with `lastmile nas add`")


async def test_unconfirmed_disconnect_stays_so_after_a_lost_reply(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    """The second attempt finds no session, which is no confirmation."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None

    async def log_out_and_lose() -> None:
        await owner.execute("UPDATE radacct SET acctstoptime = now()")
        await broken()

    faults.after["revoke_ipv6_lifecycle"] = once(log_out_and_lose)

    result = await lastmile.execute(orders.deprovision())

    await assert_unconfirmed(owner, result, "stays in quarantine for 2 h")


@answered_in_the_end
async def test_undo_of_an_activation_disconnects_the_session(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    """The session uses the announced prefix, so it is disconnected before the prefix is released."""
    await log_in(owner, orders, "4F0C-01", nas)
    faults.before["activate_onu"] = refused

    result = await lastmile.execute(orders.provision())

    assert (result.status, result.warnings) == (ResultStatus.ROLLED_BACK, [])
    assert [(await nas.next_request()).code for _ in range(2)] == [CoARequest, DisconnectRequest]
    assert await owner.fetchval("SELECT state FROM delegations") == "revoked"


async def test_undo_of_an_activation_without_confirmation_warns(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda request: ACK if request.code == CoARequest else None
    faults.before["activate_onu"] = refused

    result = await lastmile.execute(orders.provision())

    assert result.status is ResultStatus.ROLLED_BACK
    assert "undo of activate_ipv6_lifecycle: " in result.warnings[0]
    assert UNCONFIRMED_REST - 100 < await quarantine_seconds(owner) <= UNCONFIRMED_REST
