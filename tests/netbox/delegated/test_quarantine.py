"""The record of a released prefix of a delegated pool: NetBox shows it exactly until the quarantine ends."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from ipam.modes import ReportingScope
from ipam.netbox.records import STATE
from ipam.quarantine import confirm, unconfirmed
from lastmile.devstack.netbox import NetBoxServer
from tests.support.delegated_env import DelegatedEnv
from tests.support.reconciliation import kinds
from tests.support.steps import QUARANTINE

FIRST = "2001:db8:4000::/56"


@pytest.fixture
async def env(owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer) -> AsyncIterator[DelegatedEnv]:
    async with DelegatedEnv.serving(owner_url, owner, netbox_server) as env:
        await env.pool(record=ReportingScope.PREFIX)
        yield env


async def released(env: DelegatedEnv, *, confirmed: bool) -> None:
    """Release the first prefix of a subscriber, and report it to NetBox."""
    await env.provision()
    await env.begin("S-1", "D-1", "deprovision")
    await env.revoke()
    await env.owner.execute("UPDATE delegations SET disconnect_confirmed = $1", confirmed)
    await env.release()
    await env.close("S-1", "D-1")
    assert await env.agree() == []
    assert [one["custom_fields"][STATE] for one in env.records()] == ["revoked"]


async def advance_time(env: DelegatedEnv, time: str) -> None:
    for when in (
        "UPDATE slots SET free_at = free_at - $1::text::interval WHERE free_at > now() AND free_at < 'infinity'",
        "UPDATE netbox_records SET due_at = due_at - $1::text::interval",
    ):
        await env.owner.execute(when, time)


async def test_record_of_a_released_prefix_is_deleted_after_quarantine(env: DelegatedEnv) -> None:
    await released(env, confirmed=True)
    await advance_time(env, "24 hours")
    assert await env.agree() == []
    assert env.records() == []


async def test_record_follows_a_quarantine_that_gets_shorter(env: DelegatedEnv) -> None:
    """The quarantine becomes a day instead of a week, so the record is deleted six days earlier."""
    await released(env, confirmed=False)
    async with env.database.platform() as platform:
        [one] = await unconfirmed(platform, QUARANTINE, most=10)
        assert await confirm(platform, one, QUARANTINE)
    assert await env.agree() == []
    await advance_time(env, "24 hours")
    assert await env.maintain()
    assert env.records() == []
    assert await kinds(env, everything=True) == []


async def test_record_is_deleted_when_a_foreign_prefix_takes_the_space(env: DelegatedEnv) -> None:
    await released(env, confirmed=True)
    await env.create_foreign_prefix("2001:db8:4000::/60")
    assert await env.maintain()
    assert await env.maintain()
    assert [one["prefix"] for one in env.records()] == ["2001:db8:4000::/60"]
    assert await kinds(env, everything=True) == []
