"""A suspended line at a stock FreeRADIUS: its logins before, during and after, with another FreeRADIUS as the NAS."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from lastmile.contract.lines import Line
from lastmile.devstack.freeradius_nas import FreeRadiusNas
from tests.support.orders import Orders
from tests.support.radius_server import Radius, running_radius

pytestmark = pytest.mark.freeradius_required

NAS_SECRET = b"testing123"


@pytest.fixture
async def radius(owner_url: str, owner: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[Radius]:
    async with running_radius(owner_url, owner, tmp_path) as running:
        yield running


@pytest.fixture
async def nas(
    owner: asyncpg.Connection, database: object, tmp_path: Path, unused_udp_port_factory: Callable[[], int]
) -> AsyncIterator[FreeRadiusNas]:
    async with FreeRadiusNas(tmp_path, secret=NAS_SECRET, port=unused_udp_port_factory()) as running:
        await owner.execute(
            "INSERT INTO nas (nasname, shortname, secret, coa_port) VALUES ('127.0.0.1', 'bng-1', $1, $2)",
            NAS_SECRET.decode(),
            running.nas.port,
        )
        yield running


class Cpe:
    """The CPE of the line: it logs in, and its NAS reports the session."""

    def __init__(self, radius: Radius, orders: Orders) -> None:
        self._radius = radius
        self.user = f"{orders.ref}@acme.lastmile"

    async def log_in(self) -> str:
        password = await self._radius.database.fetchval(
            "SELECT value FROM radcheck WHERE username = $1 AND attribute = 'Cleartext-Password'", self.user
        )
        return await self._radius.send("auth", User_Name=self.user, User_Password=password)

    async def report(self, session: str, status: str) -> None:
        await self._radius.send(
            "acct",
            User_Name=self.user,
            Acct_Session_Id=session,
            Acct_Status_Type=status,
            NAS_IP_Address="127.0.0.1",
        )


@pytest.mark.parametrize("mode", ["block", "walled_garden", "slow"])
async def test_suspended_line_logs_in_as_its_mode_says_and_as_before_afterwards(
    lastmile: Lastmile, orders: Orders, radius: Radius, nas: FreeRadiusNas, mode: str
) -> None:
    cpe = Cpe(radius, orders)
    created = (await lastmile.execute(orders.provision())).created
    before = await cpe.log_in()
    assert before.startswith("Access-Accept")
    await cpe.report("4F0C-01", "Start")

    result = await lastmile.execute(orders.suspend(mode=mode))

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    await cpe.report("4F0C-01", "Stop")
    during = await cpe.log_in()
    if mode == "block":
        assert during.startswith("Access-Reject")
    else:
        assert during.startswith("Access-Accept")
        assert _items(during) != _items(before)
        assert f"Delegated-IPv6-Prefix = {created.ipv6_prefix}" in during
        await cpe.report("4F0C-02", "Start")

    result = await lastmile.execute(orders.resume())

    assert (result.status, result.warnings) == (ResultStatus.COMPLETED, [])
    await cpe.report("4F0C-02", "Stop")
    assert _items(await cpe.log_in()) == _items(before)


async def test_blocked_line_without_a_password_is_rejected(lastmile: Lastmile, orders: Orders, radius: Radius) -> None:
    """An IPoE account is accepted by a check item of its own, which the group must overrule."""
    mac = "00:1a:2b:00:00:07"
    line = Line(connection_type="ftth", cpe_mac=mac, access="ipoe", identified_by="mac")
    await lastmile.execute(orders.provision(line=line))
    user = await radius.database.fetchval("SELECT username FROM radcheck WHERE value = 'Accept'")
    await lastmile.execute(orders.suspend(mode="block"))
    assert (await radius.send("auth", User_Name=user, User_Password=user)).startswith("Access-Reject")
    await lastmile.execute(orders.resume())
    assert (await radius.send("auth", User_Name=user, User_Password=user)).startswith("Access-Accept")


def _items(reply: str) -> set[str]:
    return {line.strip() for line in reply.splitlines()[1:] if line.strip()}
