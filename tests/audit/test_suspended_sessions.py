"""Tests of the sessions of suspended lines, as far as accounting and the results of orders tell."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from lastmile.contract.suspension import SuspensionMode
from lastmile.db import Database
from lastmile.devstack.nas import ScriptedNas
from lastmile.radius.dynauth import DynamicAuthorization
from tests.support.audited_env import AuditedEnv

USER = "S-1@acme.lastmile"
START = (
    "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime, recorded_at)"
    f" VALUES ($1, $1, '{USER}', '127.0.0.1', now(), now() - CAST($2 AS interval))"
)


@pytest.fixture
async def nas() -> AsyncIterator[ScriptedNas]:
    async with ScriptedNas(b"between-us", sessions={"1": {"User-Name": USER}}) as nas:
        yield nas


@pytest.fixture
async def online(database: Database, owner: asyncpg.Connection, nas: ScriptedNas) -> AsyncIterator[AuditedEnv]:
    """The line S-1 with its session 1, whose NAS is not in the table `nas` yet."""
    async with DynamicAuthorization(timeout=30, tries=1, in_flight=1) as authorization:
        env = AuditedEnv(database, owner, authorization)
        await env.provision()
        await owner.execute(START, "1", timedelta(hours=3))
        yield env


async def know(owner: asyncpg.Connection, nas: ScriptedNas) -> None:
    """Add the NAS, so that Lastmile can tell its sessions."""
    await owner.execute(
        "INSERT INTO nas (nasname, shortname, secret, type, coa_port)"
        " VALUES ('127.0.0.1', 'bng-1', 'between-us', 'wispr', $1)",
        nas.nas.port,
    )


async def two_hours_later(owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE suspensions SET created_at = created_at - interval '2 hours'")


async def found(env: AuditedEnv) -> list[str]:
    """Return the findings about sessions, and check that there are no others."""
    violations = await env.audit()
    assert {violation.invariant.name for violation in violations} <= {"unrestricted_session"}
    return [violation.words for violation in violations]


@pytest.mark.parametrize("mode", SuspensionMode)
async def test_session_that_the_nas_was_told_of_is_no_finding(
    online: AuditedEnv, owner: asyncpg.Connection, nas: ScriptedNas, mode: SuspensionMode
) -> None:
    await know(owner, nas)
    await online.suspend(1, mode)
    await two_hours_later(owner)
    assert await found(online) == []


@pytest.mark.parametrize("mode", SuspensionMode)
async def test_session_that_no_nas_was_told_of_is_a_finding_until_its_nas_ends_it(
    online: AuditedEnv, owner: asyncpg.Connection, mode: SuspensionMode
) -> None:
    await online.suspend(1, mode)
    assert await found(online) == []
    await two_hours_later(owner)
    assert await found(online) == [
        f"is suspended ({mode.replace('_', ' ')}) by order X-1-new, but session 1 on NAS 127.0.0.1 is open, and no NAS "
        "has confirmed that it was told"
    ]

    await owner.execute("UPDATE radacct SET acctstoptime = now()")  # the Accounting-Stop of the NAS
    assert await found(online) == []


async def test_next_suspension_ends_a_session_that_the_nas_was_not_told_of(
    online: AuditedEnv, owner: asyncpg.Connection, nas: ScriptedNas
) -> None:
    await online.suspend(1, SuspensionMode.BLOCK)
    await two_hours_later(owner)
    assert await found(online)

    await know(owner, nas)
    await online.resume(1)
    await online.suspend(1, SuspensionMode.BLOCK, order="X-2")

    assert nas.sessions == {}
    await two_hours_later(owner)
    assert await found(online) == []


@pytest.mark.parametrize("mode", SuspensionMode)
async def test_session_after_the_suspension_is_a_finding_on_a_blocked_line(
    online: AuditedEnv, owner: asyncpg.Connection, nas: ScriptedNas, mode: SuspensionMode
) -> None:
    await know(owner, nas)
    await online.suspend(1, mode)
    await two_hours_later(owner)
    await owner.execute(START, "2", timedelta(0))
    assert await found(online) == (
        [
            "is suspended (block) by order X-1-new, but session 2 on NAS 127.0.0.1 is open, and began after the "
            "suspension"
        ]
        if mode is SuspensionMode.BLOCK
        else []
    )
