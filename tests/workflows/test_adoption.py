"""Lines that are in service elsewhere: adopted as they are, or refused, and told to nobody."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.maintenance.audit import AuditActivities
from lastmile.client import CredentialStore, Lastmile, ProvisionSubscriber
from lastmile.contract import ResultStatus
from lastmile.contract.addressing import Addressing
from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas, nak
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.services.subscriber_export import export_subscribers
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.conftest import copy_of
from tests.support.audited_env import QUARANTINE
from tests.support.controllers import RecordingController
from tests.support.faults import Faults, refused
from tests.support.orders import Orders, log_in, outcomes, quarantine_seconds

KEY = base64.b64encode(bytes(range(32))).decode()
IN_RADIUS = {
    "radcheck": "username, attribute, op, value, tenant_id, subscriber_ref",
    "radreply": "username, attribute, op, value, tenant_id",
    "radusergroup": "username, groupname, priority, tenant_id",
    "radgroupreply": "groupname, attribute, op, value, tenant_id",
    "radgroupcheck": "groupname, attribute, op, value, tenant_id",
}


@dataclass
class Installation:
    """A database with a worker of its own."""

    database: Database
    owner: asyncpg.Connection
    lastmile: Lastmile
    olt: RecordingController

    async def accounts(self) -> dict[str, list[tuple[Any, ...]]]:
        """Without the groups of plans: a group stays."""
        return {name: rows for name, rows in (await self.in_radius()).items() if not name.startswith("radgroup")}

    async def in_radius(self) -> dict[str, list[tuple[Any, ...]]]:
        return {
            table: sorted(tuple(row) for row in await self.owner.fetch(f"SELECT {columns} FROM {table}"))
            for table, columns in IN_RADIUS.items()
        }


@asynccontextmanager
async def installation(
    url: str, client: Client, settings: Settings, authorization: DynamicAuthorization
) -> AsyncIterator[Installation]:
    database, owner, olt = Database(url), await asyncpg.connect(url), RecordingController()
    async with build_worker(client, settings, database, authorization, onu=olt):
        store = CredentialStore(url, settings.key_ring)
        yield Installation(database, owner, Lastmile(client, task_queue=settings.task_queue, credentials=store), olt)
    await owner.close()
    await database.close()


@pytest.fixture
async def installations(
    stocked: str, client: Client, settings: Settings, authorization: DynamicAuthorization
) -> AsyncIterator[tuple[Installation, Installation]]:
    keyed = settings.model_copy(update={"encryption_keys": SecretStr(f"k1:{KEY}")})
    one, other = (keyed.model_copy(update={"task_queue": settings.task_queue + end}) for end in ("-one", "-other"))
    async with (
        copy_of(stocked) as first,
        copy_of(stocked) as second,
        installation(first, client, one, authorization) as here,
        installation(second, client, other, authorization) as there,
    ):
        yield here, there


@pytest.fixture
def crm(installations: tuple[Installation, Installation]) -> Installation:
    return installations[0]


def lines(orders: Orders) -> list[ProvisionSubscriber]:
    """Orders for lines of every way to log in, and of every kind of address."""
    business = Addressing.model_validate({"ipv6_mode": "dual_stack", "ipv6_pd_size": 48, "ipv4_mode": "static"})
    kinds: list[dict[str, Any]] = [
        {},
        {
            "line": Line(
                connection_type="ftth",
                onu_serial="ACME0000000A",
                onu_type="F660",
                speed_profile="500M",
                cpe_oui="00D09E",
                cpe_product_class="HGW-1",
                cpe_serial="CPE000001",
                duid="00:03:00:01:00:1a:2b:3c:4d:5e",
            )
        },
        {"line": Line(connection_type="ftth", username="ada@isp.example", circuit_id="a|1"), "addressing": business},
        {"line": Line(connection_type="ftth", access="ipoe", identified_by="circuit_id", circuit_id="eth 1/1#2")},
        {
            "line": Line(connection_type="ftth", circuit_id="b", remote_id="c", option82_policy="enforce"),
            "addressing": Addressing.model_validate({"enable_ipv6": False, "ipv4_mode": "static"}),
            "password": SecretStr('a "word"'),
        },
    ]
    return [orders.provision(f"O-{nth}", nth, **kind) for nth, kind in enumerate(kinds, 1)]


async def test_exported_lines_are_adopted_byte_for_byte_in_radius(
    installations: tuple[Installation, Installation], orders: Orders
) -> None:
    here, there = installations
    for order in lines(orders):
        assert (await here.lastmile.execute(order)).status is ResultStatus.COMPLETED
    exporting = export_subscribers(here.database, "acme", adopt=True, asked_by="ops")
    exported = [(one.order, one.problem) async for one in exporting]
    # In the other order, so that the first free prefix would be another one.
    for order, problem in reversed(exported):
        assert order is not None, problem
        assert (await there.lastmile.execute(order)).status is ResultStatus.COMPLETED
    assert await there.in_radius() == await here.in_radius()
    held = "SELECT subscriber_ref, purpose, prefix::text, state, login_name FROM delegations ORDER BY 1, 2"
    assert await there.owner.fetch(held) == await here.owner.fetch(held)
    attached = "SELECT to_jsonb(n) - '{id,subscriber_id,created_at}'::text[] FROM network_profiles n ORDER BY 1"
    assert await there.owner.fetch(attached) == await here.owner.fetch(attached)
    recorded = "SELECT subscriber_ref, kind, identity, in_service FROM devices ORDER BY 1, 2"
    assert await there.owner.fetch(recorded) == await here.owner.fetch(recorded)
    read = await here.owner.fetch("SELECT DISTINCT actor FROM audit_log WHERE action = 'read'")
    assert [row["actor"] for row in read] == ["ops"]


def adopted(orders: Orders, order_id: str = "O-1", nth: int = 0, **changes: Any) -> ProvisionSubscriber:
    addressing = Addressing.model_validate({"ipv6_prefix": "2001:db8:12:3400::/56"})
    values = {"adopt": True, "password": SecretStr("x"), "addressing": addressing}
    return orders.provision(order_id, nth, **(values | changes))


async def test_adopted_line_is_told_to_no_session(crm: Installation, orders: Orders) -> None:
    async with ScriptedNas(b"a shared secret") as nas:
        await crm.owner.execute(
            "INSERT INTO nas (nasname, shortname, secret, coa_port) VALUES ('127.0.0.1', 'bng-1', $1, $2)",
            "a shared secret",
            nas.nas.port,
        )
        asked = []
        nas.script = lambda request: asked.append(request) or nak(503)  # type: ignore[func-returns-value]
        await log_in(crm.owner, orders, "s-1", nas)
        result = await crm.lastmile.execute(adopted(orders))
        assert (result.status, result.created.ipv6_prefix) == (ResultStatus.COMPLETED, "2001:db8:12:3400::/56")
        assert asked == []
        assert await crm.owner.fetchval("SELECT count(*) FROM devices WHERE in_service") == 2
        assert outcomes(result)["activate_onu"] == "skipped"


@pytest.mark.parametrize("step", ["activate_ipv6_lifecycle", "activate_onu", "configure_cpe", "create_billing_service"])
async def test_adoption_that_is_rolled_back_leaves_account_prefix_and_session(
    crm: Installation, orders: Orders, faults: Faults, authorization: DynamicAuthorization, step: str
) -> None:
    """The line stays in service elsewhere: the undo ends nothing, and neither does the hourly audit."""
    async with ScriptedNas(b"a shared secret") as nas:
        await crm.owner.execute(
            "INSERT INTO nas (nasname, shortname, secret, coa_port) VALUES ('127.0.0.1', 'bng-1', $1, $2)",
            "a shared secret",
            nas.nas.port,
        )
        await crm.owner.execute(
            "INSERT INTO radcheck (username, attribute, op, value)"
            " VALUES ('eve@isp.example', 'Cleartext-Password', ':=', 'x')"
        )
        await log_in(crm.owner, orders, "s-1", nas)
        before = await crm.accounts(), await crm.owner.fetch("SELECT * FROM radacct")
        faults.after["O-1", step] = refused
        if step == "activate_ipv6_lifecycle":  # a warning does not end the order
            faults.before["O-1", "activate_onu"] = refused

        result = await crm.lastmile.execute(adopted(orders))

        assert result.status is ResultStatus.ROLLED_BACK
        assert (await crm.accounts(), await crm.owner.fetch("SELECT * FROM radacct")) == before
        audit = AuditActivities(crm.database, authorization, QUARANTINE)
        assert (await ActivityEnvironment().run(audit.retry_disconnects)).counts["disconnects_retried"] == 0
        assert list(nas.sessions) == ["s-1"]
        assert await quarantine_seconds(crm.owner) > 3600
        again = await crm.lastmile.execute(adopted(orders, "O-2"))
        assert (again.status, again.created.ipv6_prefix) == (ResultStatus.COMPLETED, "2001:db8:12:3400::/56")
        assert (list(nas.sessions), crm.olt.told) == (["s-1"], [])


async def test_adoption_of_an_account_of_the_operator_is_refused_and_leaves_it(
    crm: Installation, orders: Orders
) -> None:
    """The foreign account is in the tables of this installation."""
    await crm.owner.execute(
        """
        INSERT INTO radcheck (username, attribute, op, value) VALUES ('ada@isp.example', 'User-Password', '==', 'y');
        INSERT INTO radreply (username, attribute, op, value)
            VALUES ('ada@isp.example', 'Delegated-IPv6-Prefix', '+=', '2001:db8:12:3400::/56');
        INSERT INTO radusergroup (username, groupname, priority) VALUES ('ada@isp.example', 'Home 100M', 5)
        """
    )
    before = await crm.accounts()
    line = Line(connection_type="ftth", username="ada@isp.example")
    result = await crm.lastmile.execute(adopted(orders, line=line))
    assert result.status is ResultStatus.ROLLED_BACK
    assert (
        "user name ada@isp.example already belongs to an account that is none of this tenant's lines" in result.reason
    )
    assert await crm.accounts() == before


async def test_adopted_prefix_of_another_line_is_refused(crm: Installation, orders: Orders) -> None:
    await crm.lastmile.execute(adopted(orders))
    result = await crm.lastmile.execute(adopted(orders, "O-2", 1))
    assert result.status is ResultStatus.ROLLED_BACK
    assert "2001:db8:12:3400:: of pool home (2001:db8::/40) is held by another subscriber" in result.reason
    outside = Addressing.model_validate({"ipv6_prefix": "2001:db9::/56"})
    result = await crm.lastmile.execute(adopted(orders, "O-3", 1, addressing=outside))
    assert "no ipv6_pd pool of /56s containing 2001:db9::" in result.reason
    # The next line gets the first free prefix, as if nothing had been taken ahead of it.
    result = await crm.lastmile.execute(orders.provision("O-4", 2))
    assert result.created.ipv6_prefix == "2001:db8::/56"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": None}, "adopt needs what the line has already: password"),
        ({"addressing": Addressing()}, "addressing.ipv6_prefix"),
        (
            {"addressing": Addressing.model_validate({"enable_ipv6": False, "ipv4_mode": "static"})},
            "addressing.ipv4_address",
        ),
    ],
)
def test_adoption_without_what_the_line_has_is_refused(orders: Orders, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        adopted(orders, **changes)


@pytest.mark.parametrize(
    ("addressing", "words"),
    [
        ({"ipv6_prefix": "2001:db8::/48"}, "ipv6_prefix is a /48, but ipv6_mode 'pd' asks for a /56"),
        ({"ipv6_prefix": "2001:db8::/56", "ipv6_mode": "none"}, "ipv6_prefix needs enable_ipv6"),
        ({"ipv6_prefix": "2001:db8::1/56"}, "ipv6_prefix"),
    ],
)
def test_prefix_that_does_not_fit_the_addressing_is_refused(addressing: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Addressing.model_validate(addressing)
