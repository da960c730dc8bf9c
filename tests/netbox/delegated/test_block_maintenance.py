"""Block maintenance continues with its other work when a part of it fails."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.modes import ReportingScope
from ipam.netbox import NetBox
from ipam.netbox.delegated.block_maintenance import BlockMaintenance
from ipam.netbox.records import KEY, USED
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import LOST, READ_ONLY, proxy
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES
from tests.support.held_requests import HeldRequest
from tests.support.steps import QUARANTINE

BLOCK = 16


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        yield env


async def test_pool_without_a_further_block_is_still_reported(env: DelegatedEnv) -> None:
    await env.pool("2001:db8:4000::/51", record=ReportingScope.PREFIX)
    given = await env.lines(2 * BLOCK - 2)
    assert not await env.maintain(), "there is something to repair"
    assert sorted(one["prefix"] for one in env.records()) == sorted(given)
    assert [one["custom_fields"][USED] for one in env.containers()] == [BLOCK, BLOCK - 2]


async def test_pool_with_a_deleted_prefix_is_still_reported(env: DelegatedEnv) -> None:
    home = await env.pool(record=ReportingScope.PREFIX)
    await env.maintain()
    await env.delete_in_netbox(home)
    given = await env.lines(BLOCK - 2)
    assert not await env.maintain(), "there is something to repair"
    assert sorted(one["prefix"] for one in env.records()) == sorted(given)


async def test_block_that_cannot_be_repaired_delays_nothing_else(env: DelegatedEnv) -> None:
    await env.pool(record=ReportingScope.PREFIX)
    await env.provision()
    await env.maintain()
    [block] = env.containers()
    foreign = {"custom_fields": {KEY: "x"}, "description": "mine"}
    assert (await asyncio.to_thread(env.peer.send, "PATCH", f"{PREFIXES}{block['id']}/", foreign)).status_code == 200
    given = await env.lines(2, start=2)
    assert not await env.maintain()
    assert {one["prefix"] for one in env.records()} >= set(given)


async def test_pool_that_cannot_be_maintained_delays_no_other(env: DelegatedEnv) -> None:
    first = await env.pool("2001:db8:4000::/40", "first", record=ReportingScope.PREFIX)
    await env.pool("2001:db8:8000::/40", "second", record=ReportingScope.PREFIX)
    await env.delete_in_netbox(first)
    assert not await env.maintain()
    await env.begin()
    prefix = await env.allocate(ipv6_pool="second")
    await env.finish()
    await env.maintain()
    assert [one["prefix"] for one in env.records()] == [prefix]


async def test_list_that_netbox_fails_to_return_holds_no_report_back(env: DelegatedEnv) -> None:
    await env.pool(record=ReportingScope.PREFIX)
    given = await env.lines(2)
    env.server.faults.chance(proxy(502), 1, method="GET", path=PREFIXES)
    assert not await env.maintain()
    assert sorted(one["prefix"] for one in env.records()) == sorted(given)


async def test_refused_reports_delay_no_look_at_foreign_prefixes(env: DelegatedEnv) -> None:
    await env.pool(record=ReportingScope.PREFIX)
    await env.provision()
    await env.create_foreign_prefix("2001:db8:4000:400::/54")
    env.server.faults.chance(READ_ONLY, 1, method="POST", path=PREFIXES)
    assert not await env.maintain()
    assert await env.owner.fetchval("SELECT count(*) FROM netbox_foreign_prefixes") == 1


async def test_use_with_a_lost_reply_is_reported_again(env: DelegatedEnv) -> None:
    await env.pool()
    await env.agree()
    await env.provision()
    env.server.faults.next(LOST, method="PATCH", times=3)  # the client tries three times
    assert not await env.maintain()
    assert [one["custom_fields"][USED] for one in env.containers()] == [1]
    await env.deprovision()
    await env.owner.execute("UPDATE slots SET free_at = now() WHERE free_at > now()")
    assert await env.agree() == []
    assert [one["custom_fields"][USED] for one in env.containers()] == [0]


async def test_unavailable_block_is_not_requested_at_each_run(env: DelegatedEnv) -> None:
    await env.pool("2001:db8:4000::/51")
    await env.lines(2 * BLOCK - 2)
    maintenance = BlockMaintenance(env.database, env.netbox, QUARANTINE.unconfirmed)
    assert not await maintenance.run_once()
    env.server.faults.chance(LOST, 1)
    for _ in range(3):
        assert await maintenance.run_once()
    assert not env.server.faults.met


async def test_unexpected_failure_does_not_stop_block_maintenance(env: DelegatedEnv) -> None:
    await env.pool()
    await env.owner.execute("ALTER TABLE pools DROP CONSTRAINT pools_netbox_release_check")
    await env.owner.execute("UPDATE pools SET netbox_release = 'as a later version does'")
    assert not await env.maintain()


LOSE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'lastmile'
"""


async def test_block_maintenance_stops_while_the_database_is_lost(env: DelegatedEnv) -> None:
    """A failure during the cancellation must not restart the loop: the worker would never stop."""
    await env.pool(record=ReportingScope.PREFIX)
    await env.lines(2)
    creation = HeldRequest(env.server, path=PREFIXES)
    async with NetBox(env.server.url, env.server.token) as netbox, asyncio.timeout(30):
        async with BlockMaintenance(env.database, netbox, QUARANTINE.unconfirmed):
            await creation.reached()
            assert await env.owner.fetchval(LOSE) > 0
        creation.resume()
