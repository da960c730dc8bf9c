"""The link from a NetBox record to the subscriber: a client with a link maintains it, one without leaves it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from ipam.modes import ReportingScope
from ipam.netbox import NetBox
from ipam.netbox.reconcile.differences import DifferenceKind
from ipam.netbox.records import LINK
from lastmile.devstack.netbox import NetBoxServer
from tests.support.delegated_env import DelegatedEnv
from tests.support.direct_env import PREFIXES, DirectEnv
from tests.support.reconciliation import found, kinds, repaired

WHERE = "https://ui.example.net/{tenant}/{subscriber}"
FIRST = "https://ui.example.net/acme/S-1"


@pytest.fixture(params=[DirectEnv, DelegatedEnv])
async def env(
    request: pytest.FixtureRequest, owner_url: str, owner: asyncpg.Connection, netbox_server: NetBoxServer
) -> AsyncIterator[DirectEnv]:
    """Return an environment without a link, with one prefix that has a record."""
    async with request.param.serving(owner_url, owner, netbox_server) as env:
        await env.pool(**({"record": ReportingScope.PREFIX} if isinstance(env, DelegatedEnv) else {}))
        await env.provision()
        await env.agree()
        yield env


@asynccontextmanager
async def linking(env: DirectEnv) -> AsyncIterator[None]:
    """Use a client with a link for steps, block maintenance and reconciliation within the block."""
    async with NetBox(env.server.url, env.server.token, link=WHERE) as netbox:
        without, env.netbox = env.netbox, netbox
        env.use(netbox)
        yield
    env.netbox = without
    env.use(without)


def record(env: DirectEnv) -> dict[str, Any]:
    [one] = env.records()
    return dict(one)


def link(env: DirectEnv) -> str | None:
    shown: str | None = record(env)["custom_fields"].get(LINK)
    return shown


async def test_link_configured_later_is_added_by_the_repair(env: DirectEnv) -> None:
    assert link(env) is None
    assert await kinds(env, everything=True) == []
    async with linking(env):
        [one] = await found(env, everything=True)
        assert (one.kind, one.words) == (DifferenceKind.DRIFT, f"S-1's, active: link none => {FIRST}")
        assert await repaired(env, everything=True) == [""]
    assert link(env) == FIRST
    await env.agree()


async def test_outdated_link_is_replaced_by_the_repair(env: DirectEnv) -> None:
    env.peer.send("PATCH", f"{PREFIXES}{record(env)['id']}/", {"custom_fields": {LINK: "https://old.example.net"}})
    async with linking(env):
        assert [one.words for one in await found(env)] == [f"S-1's, active: link https://old.example.net => {FIRST}"]
        assert await repaired(env) == [""]
    assert link(env) == FIRST


async def test_client_without_a_link_keeps_the_present_link(env: DirectEnv) -> None:
    """This holds for repairs and for orders."""
    async with linking(env):
        assert await repaired(env, everything=True) == [""]
    env.peer.send("PATCH", f"{PREFIXES}{record(env)['id']}/", {"status": "reserved"})
    assert [one.words for one in await found(env)] == ["S-1's, active: status reserved => active"]
    assert await repaired(env) == [""]
    assert link(env) == FIRST
    await env.deprovision()
    await env.agree()
    assert (record(env)["status"], link(env)) == ("deprecated", FIRST)
