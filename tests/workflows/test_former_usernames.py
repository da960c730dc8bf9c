"""Sessions under the former user name of a line, whose end no NAS confirmed when the user name changed."""

import asyncpg
import pytest
from pyrad.packet import CoARequest, DisconnectRequest

from lastmile.audit.audit import check
from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.devstack.nas import Answer, Request, ScriptedNas, nak
from tests.support.orders import Orders, log_in

OLD, NEW, THIRD = "00:1a:2b:00:00:00", "00:1a:2b:00:ff:ff", "00:1a:2b:00:ee:ee"
LINE = Line(connection_type="ftth", cpe_mac=OLD, access="ipoe", identified_by="mac")


async def rename(lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas) -> list[Request]:
    """Provision a line that goes online, and change its user name twice while its NAS ends no session.

    Return a list that gets the later requests.
    """
    await lastmile.execute(orders.provision(line=LINE))
    await log_in(owner, orders, "4F0C-01", nas, OLD)
    answer, nas.script = nas.script, lambda _: nak(405)
    result = await lastmile.execute(orders.replace_device("R-1", cpe_mac=NEW))
    assert result.status is ResultStatus.DEGRADED
    assert result.warnings[0].endswith("later orders of the line look for such a session, too")
    await lastmile.execute(orders.replace_device("R-2", cpe_mac=THIRD))
    asked: list[Request] = []

    def record(request: Request) -> Answer | None:
        asked.append(request)
        return answer(request)

    nas.script = record
    return asked


@pytest.mark.parametrize("operation", ["suspend", "deprovision", "change_addressing"])
async def test_session_under_a_former_name_is_ended_by_a_later_order(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, operation: str
) -> None:
    asked = await rename(lastmile, orders, owner, nas)

    order = orders.suspend(mode="block") if operation == "suspend" else orders.of(operation, "O-3")
    result = await lastmile.execute(order)

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert [(request.code, request.attributes["User-Name"]) for request in asked] == [(DisconnectRequest, [OLD])]
    assert not nas.sessions


async def test_session_under_a_former_name_gets_the_new_prefix(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    asked = await rename(lastmile, orders, owner, nas)
    result = await lastmile.execute(orders.renumber("O-3"))
    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    assert [(request.code, request.attributes["User-Name"]) for request in asked] == [(CoARequest, [OLD])]


@pytest.mark.parametrize("operation", ["deprovision", "renumber"])
async def test_revocation_is_not_confirmed_while_a_session_under_a_former_name_may_live(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas, operation: str
) -> None:
    await rename(lastmile, orders, owner, nas)
    nas.script = lambda _: nak(405)
    result = await lastmile.execute(orders.of(operation, "O-3"))
    assert result.status is ResultStatus.DEGRADED
    assert await owner.fetchval("SELECT disconnect_confirmed FROM delegations ORDER BY id LIMIT 1") is False


@pytest.mark.parametrize(
    ("after", "found"),
    [("4 minutes", ["confirmed_too_early"]), ("6 minutes", [])],
    ids=["of the line", "of the next line with the name"],
)
async def test_login_under_a_former_name_after_the_release_is_a_finding(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, database: Database, after: str, found: list[str]
) -> None:
    """A RADIUS server had read the account before its name was changed."""
    await lastmile.execute(orders.provision(line=LINE))
    await lastmile.execute(orders.replace_device(cpe_mac=NEW))
    await lastmile.execute(orders.deprovision())
    await log_in(owner, orders, "4F0C-01", "192.0.2.1", OLD)
    assert await owner.fetchval("SELECT tenant_id FROM radacct") == "acme"
    await owner.execute("UPDATE radacct SET recorded_at = now() + $1::text::interval", after)
    assert [one.invariant.name async for one in check(database, "acme")] == found


async def test_user_name_that_a_line_has_again_is_no_former_one(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision(line=LINE))
    for number, mac in enumerate((NEW, THIRD, OLD)):
        await lastmile.execute(orders.replace_device(f"R-{number}", cpe_mac=mac))
    names = await owner.fetch("SELECT username, former FROM former_usernames ORDER BY former DESC")
    assert [tuple(row) for row in names] == [(OLD, NEW), (OLD, THIRD)]


async def test_session_of_the_next_line_with_a_former_name_is_left_alone(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    """The next line has got the user name at once, and must not get the prefix of the line before."""
    await lastmile.execute(orders.provision(line=LINE))
    await lastmile.execute(orders.replace_device(cpe_mac=NEW))
    await lastmile.execute(orders.provision("O-1b", nth=1, line=LINE))
    await log_in(owner, orders, "4F0C-01", nas, OLD)
    nas.script = lambda request: pytest.fail(f"the NAS got {request}")

    result = await lastmile.execute(orders.renumber("O-3"))

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
