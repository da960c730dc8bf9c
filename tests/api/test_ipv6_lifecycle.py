"""The lifecycle of a delegated prefix over the API: each change is an order, and none races another order."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import httpx
import pytest
from pyrad.packet import CoARequest
from temporalio.client import Client

from lastmile.api.app import create_app
from lastmile.api.auth.permissions import Permission
from lastmile.api.context import ApiContext
from lastmile.audit.audit import check
from lastmile.client.operator_client import OperatorClient
from lastmile.client.order_acceptance import OrderAcceptance
from lastmile.client.orders import AlreadyRunningError, Lastmile, OrderRefusedError
from lastmile.contract.addressing import Addressing
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas
from lastmile.services.api_keys import NewApiKey, PrincipalKind, create_api_key
from lastmile.settings import Settings
from tests.support.api_server import api_context
from tests.support.faults import Faults, Gate, alone
from tests.support.orders import Orders, log_in
from tests.workflows.conftest import authorization, client, faults, lastmile, nas, orders, settings, worker

__all__ = ["authorization", "client", "faults", "lastmile", "nas", "orders", "settings", "worker"]

IPV4_ONLY = Addressing(enable_ipv6=False, ipv4_mode="static")
ROUNDS = 500 if "LASTMILE_EVERY_CASE" in os.environ else 4


@pytest.fixture
async def context(database: Database, client: Client, settings: Settings) -> AsyncIterator[ApiContext]:
    """Return the context of an API whose orders the test's worker runs."""
    async with api_context(settings, database, client) as context:
        yield context


class Line:
    """A subscriber as its prefix appears over the API."""

    def __init__(self, api: httpx.AsyncClient, ref: str) -> None:
        self._api = api
        self._path = f"/network/subscribers/{ref}/ipv6"

    async def status(self) -> dict[str, Any]:
        answer = await self._api.get(f"{self._path}/status")
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    async def send(self, change: str, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._api.post(f"{self._path}/{change}", json=body or {}, headers=named)

    async def do(self, change: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        """Send a change that must be done."""
        answer = await self.send(change, body, **headers)
        assert answer.status_code == 200, answer.text
        done: dict[str, Any] = answer.json()
        return done

    async def refused(self, change: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        """Send a change that must be refused; return the status and the type of the problem."""
        answer = await self.send(change, body)
        return answer.status_code, answer.json()["type"].removeprefix("/problems/")


@pytest.fixture
async def line(api: httpx.AsyncClient, database: Database, orders: Orders) -> Line:
    """Return the test's subscriber, to be provisioned."""
    await use_new_key(api, database)
    return Line(api, orders.ref)


async def use_new_key(api: httpx.AsyncClient, database: Database) -> None:
    """Give the client a key with every permission, and a rate limit of its own."""
    new = NewApiKey(name="test", tenant="acme", permissions=frozenset(Permission), kind=PrincipalKind.SYSTEM)
    api.headers["Authorization"] = f"Bearer {(await create_api_key(database, new, actor='')).text}"


async def test_prefix_goes_through_its_life_and_ipv4_stays(
    line: Line, lastmile: Lastmile, orders: Orders, nas: ScriptedNas, owner: asyncpg.Connection, database: Database
) -> None:
    line_order = await lastmile.execute(orders.provision(addressing=IPV4_ONLY))
    await log_in(owner, orders, "s1", nas)
    assert await line.refused("activate") == (409, "wrong-state")

    plan = await line.do("allocate", Prefer="dry-run")
    assert plan["would"] == "be_carried_out"
    allocated = await line.do("allocate", {"prefixSize": 56}, Idempotency_Key="A-1")
    assert (allocated["state"], allocated["prefix"], allocated["orderId"]) == ("ACTIVE", "2001:db8::/56", "A-1")
    assert allocated["coaResult"] == "ok"
    assert (await nas.next_request()).code == CoARequest
    assert (await line.do("activate"))["state"] == "ACTIVE"
    for change in ("allocate", "resume"):
        assert await line.refused(change) == (409, "wrong-state")

    assert (await line.do("suspend", {"mode": "walled_garden", "reason": "unpaid"}))["state"] == "SUSPENDED"
    for change in ("suspend", "activate"):
        assert await line.refused(change) == (409, "wrong-state")
    assert (await line.do("resume"))["state"] == "ACTIVE"

    revoked = await line.do("revoke", {"sendDisconnect": True, "releaseToNetbox": True})
    assert (revoked["state"], revoked["prefix"]) == ("REVOKED", None)
    assert await line.refused("revoke") == (409, "wrong-state")
    status = await line.status()
    assert [event["toState"] for event in status["events"]] == [
        *("ALLOCATED", "ACTIVE", "SUSPENDED", "ACTIVE", "REVOKING", "REVOKED")
    ]
    assert status["releasedAt"]
    held = await owner.fetch("SELECT host(prefix) FROM delegations WHERE released_at IS NULL")
    assert [row["host"] for row in held] == [line_order.created.ipv4_address]
    assert [found.invariant.name async for found in check(database)] == []


async def test_same_request_again_is_answered_with_its_order(
    line: Line, lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await lastmile.execute(orders.provision(addressing=IPV4_ONLY))
    first = await line.do("allocate", Idempotency_Key="A-1")
    assert await line.do("allocate", Idempotency_Key="A-1") == first
    assert await owner.fetchval("SELECT count(*) FROM orders") == 2
    other = await line.send("allocate", {"prefixSize": 48}, Idempotency_Key="A-1")
    assert other.status_code == 409


async def test_change_of_a_busy_subscriber_is_refused_and_a_long_one_goes_on(
    line: Line, lastmile: Lastmile, orders: Orders, faults: Faults
) -> None:
    await lastmile.execute(orders.provision(addressing=IPV4_ONLY))
    gate = Gate()
    faults.before["A-1", "switch_addresses"] = alone(gate)
    accepted = await line.send("allocate", Idempotency_Key="A-1", Prefer="respond-async, wait=0")
    assert accepted.status_code == 202
    assert (accepted.headers["location"], accepted.headers["preference-applied"]) == ("/v1/orders/A-1", "wait=0")
    await gate.reached.wait()
    running = await line.send("allocate", Idempotency_Key="A-1", Prefer="wait=0")
    assert (running.status_code, running.json()["orderStatus"]) == (202, "running")
    for change in ("activate", "suspend", "allocate"):
        assert await line.refused(change) == (409, "subscriber-busy")
    gate.open()
    assert (await line.do("allocate", Idempotency_Key="A-1"))["state"] == "ACTIVE"


async def test_change_is_accepted_while_temporal_is_away(
    context: ApiContext, line: Line, lastmile: Lastmile, orders: Orders, api: httpx.AsyncClient
) -> None:
    await lastmile.execute(orders.provision(addressing=IPV4_ONLY))
    away = OperatorClient(await Client.connect("127.0.0.1:1", lazy=True), "nobody-works-here")
    async with OrderAcceptance(context.database, away.orders) as acceptance:
        app = create_app(replace(context, temporal=away, acceptance=acceptance))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=api.headers) as client:
            cut_off = Line(client, orders.ref)
            accepted = await cut_off.send("allocate", Idempotency_Key="A-1", Prefer="wait=0")
            assert (accepted.status_code, accepted.json()["orderStatus"]) == (202, "waiting")
            assert await cut_off.refused("activate") == (409, "subscriber-busy")
    assert (await line.send("allocate", Idempotency_Key="A-1", Prefer="wait=0")).status_code == 202


async def test_allocation_names_the_vrf_of_its_pool(
    line: Line, lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    await owner.execute("UPDATE pools SET vrf = 'blue' WHERE name = 'home'")
    await lastmile.execute(orders.provision(addressing=Addressing(enable_ipv6=False)))
    refused = await line.send("allocate")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
    assert "home is in VRF 'blue'" in refused.json()["detail"]
    assert (await line.do("allocate", {"vrf": "blue"}))["prefix"] == "2001:db8::/56"


async def test_wrong_changes_are_refused_with_their_reason(line: Line, lastmile: Lastmile, orders: Orders) -> None:
    assert await line.refused("allocate") == (404, "unknown-subscriber")
    await lastmile.execute(orders.provision(addressing=IPV4_ONLY))
    status = await line._api.get(f"/network/subscribers/{orders.ref}/ipv6/status")
    assert status.status_code == 404
    assert await line.refused("allocate", {"prefixSize": 65}) == (422, "invalid")
    assert await line.refused("allocate", {"netboxPoolId": 77}) == (422, "invalid")
    untold = (await line.send("activate", {"sendCoa": False})).json()
    assert (untold["type"], untold["errors"][0]["detail"]) == ("/problems/invalid", "must be true, and is false")
    assert await line.refused("allocate", {"prefixSize": 60}) == (409, "conflict")  # no pool has this length


async def test_statistics_count_states_and_pools(line: Line, lastmile: Lastmile, orders: Orders) -> None:
    await lastmile.execute(orders.provision())
    answer = await line._api.get("/network/ipv6/stats")
    statistics = answer.json()
    assert statistics["stateDistribution"]["ACTIVE"] == 1
    assert statistics["netboxIntegration"] == {"enabled": False, "pools": 0}
    assert {pool["name"]: pool["taken"] for pool in statistics["poolUtilization"]} == {"home": "1", "business": "0"}
    assert statistics["utilizationStats"]["taken"] == "1"


async def test_changes_race_provision_and_deprovision_and_the_audit_stays_clean(
    line: Line,
    api: httpx.AsyncClient,
    lastmile: Lastmile,
    orders: Orders,
    owner: asyncpg.Connection,
    database: Database,
) -> None:
    chance = random.Random(0)
    answers: Counter[int] = Counter()

    async def order(number: int) -> None:
        send = orders.provision if number % 2 == 0 else orders.deprovision
        while True:
            try:
                await lastmile.execute(send(f"O-{number}"))
                return
            except (AlreadyRunningError, OrderRefusedError) as refusal:
                if isinstance(refusal, OrderRefusedError):
                    return

    async def change(name: str) -> None:
        answer = await line.send(name, Prefer="wait=30")
        answers[answer.status_code] += 1
        assert answer.status_code in (200, 404, 409), answer.text

    for number in range(ROUNDS):
        if number % 50 == 49:  # a key may send 600 requests a minute
            await use_new_key(api, database)
        changes = chance.choices(("allocate", "activate", "suspend", "resume", "revoke"), k=10)
        await asyncio.gather(order(number), *map(change, changes[:5]))
        await asyncio.gather(*map(change, changes[5:]))
    assert [found.invariant.name async for found in check(database)] == []
    assert answers[200]
    assert answers[409]
    taken = await owner.fetchval("SELECT count(*) FROM slots WHERE delegation_id IS NOT NULL")
    live = await owner.fetchval("SELECT count(*) FROM delegations WHERE released_at IS NULL AND prefix IS NOT NULL")
    assert taken == live <= 1
