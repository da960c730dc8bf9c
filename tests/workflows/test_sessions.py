"""Live sessions: told of new addresses (CoA), ended before an address is given back (Disconnect)."""

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
from tests.support.orders import Orders, log_in, outcomes, rest_seconds

UNCONFIRMED_REST = 7200


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """How long a NAS is waited for, where that is not what the test is about."""
    return settings.model_copy(update=getattr(request, "param", {}))


answered_in_the_end = pytest.mark.parametrize(
    "settings", [{"radius_timeout_seconds": 30, "radius_tries": 1}], ids=["patient"], indirect=True
)
"""The NAS has each request once, however long whoever looks on takes meanwhile."""


async def assert_unconfirmed(owner: asyncpg.Connection, result: OrderResult, words: str) -> None:
    """The line is down all the same; that a session may live on is said, and the prefix rests for longer."""
    assert result.status is ResultStatus.DEGRADED
    assert outcomes(result)["revoke_ipv6_lifecycle"] == "warned"
    assert words in result.warnings[0]
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is False
    assert UNCONFIRMED_REST - 100 < await rest_seconds(owner) <= UNCONFIRMED_REST
    assert await owner.fetchval("SELECT count(*) FROM radcheck") == 0


@answered_in_the_end
async def test_a_live_session_is_told_of_its_prefix(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await log_in(owner, orders, "4F0C-01", nas)

    result = await lastmile.execute(orders.provision())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    request = await nas.next_request()
    assert (request.code, request.session) == (CoARequest, "4F0C-01")
    assert request.attributes["Delegated-IPv6-Prefix"] == [result.created.ipv6_prefix]


async def test_a_session_that_cannot_be_told_degrades_the_order(
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
async def test_a_live_session_keeps_its_wan_address(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """RFC 5176, 3.6: what identifies a session cannot be changed in it."""
    await log_in(owner, orders, "4F0C-01", nas)
    addressing = Addressing(ipv6_mode="dual_stack", ipv4_mode="static")

    result = await lastmile.execute(orders.provision(addressing=addressing))

    assert "a live session keeps its WAN addresses" in result.warnings[0]
    assert "Framed-IP-Address" not in (await nas.next_request()).attributes


async def test_no_session_needs_no_nas(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    nas.script = lambda _: pytest.fail("nobody is online")
    await lastmile.execute(orders.provision())

    result = await lastmile.execute(orders.deprovision())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations") is True
    assert await rest_seconds(owner) <= 3600


@answered_in_the_end
async def test_the_session_is_ended_and_the_account_was_blocked_before(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """A CPE logs in again the moment it is thrown out: it must be refused by then."""
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
    assert await rest_seconds(owner) <= 3600


async def test_a_session_that_the_nas_does_not_know_is_over(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """Error-Cause 503: also the answer to a request that is sent again because the ACK was lost."""
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.sessions.clear()

    result = await lastmile.execute(orders.deprovision())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])


@answered_in_the_end
async def test_every_session_of_the_user_is_ended(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    for session in ("A", "B", "C"):
        await log_in(owner, orders, session, nas)

    result = await lastmile.execute(orders.deprovision())

    assert result.status is ResultStatus.COMPLETED
    assert {(await nas.next_request()).session for _ in range(3)} == {"A", "B", "C"}
    assert nas.sessions == {}


async def test_one_session_in_doubt_is_enough(
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


async def test_a_silent_nas_does_not_hold_up_the_deprovision(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda _: None

    result = await lastmile.execute(orders.deprovision())

    await assert_unconfirmed(owner, result, "did not answer the Disconnect-Request for session 4F0C-01, sent 2 times")


async def test_a_nas_that_nobody_knows(lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection) -> None:
    await lastmile.execute(orders.provision())
    await log_in(owner, orders, "4F0C-01", "192.0.2.7")

    result = await lastmile.execute(orders.deprovision())

    await assert_unconfirmed(owner, result, "is on 192.0.2.7, which is no NAS we know: add it with `lastmile nas add`")


async def test_doubt_survives_a_lost_reply(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    """The second attempt finds no session any more, and must not take that for a confirmation."""
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
async def test_an_undone_activation_ends_the_session_that_was_told(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    """The prefix was announced: whoever uses it is disconnected before it goes back to the pool."""
    await log_in(owner, orders, "4F0C-01", nas)
    faults.before["activate_onu"] = refused

    result = await lastmile.execute(orders.provision())

    assert (result.status, result.warnings) == (ResultStatus.ROLLED_BACK, [])
    assert [(await nas.next_request()).code for _ in range(2)] == [CoARequest, DisconnectRequest]
    assert await owner.fetchval("SELECT state FROM delegations") == "revoked"


async def test_an_undone_activation_in_doubt_says_so(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, faults: Faults
) -> None:
    await log_in(owner, orders, "4F0C-01", nas)
    nas.script = lambda request: ACK if request.code == CoARequest else None
    faults.before["activate_onu"] = refused

    result = await lastmile.execute(orders.provision())

    assert result.status is ResultStatus.ROLLED_BACK
    assert "undo of activate_ipv6_lifecycle: " in result.warnings[0]
    assert UNCONFIRMED_REST - 100 < await rest_seconds(owner) <= UNCONFIRMED_REST
